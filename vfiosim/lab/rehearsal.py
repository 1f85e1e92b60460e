"""How a race can go before anybody moves it: what comes up in it, and where its threads meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..engine.operations import Place
from ..explore.touches import Touch, contested, touches
from ..machine.events import Called, Moved
from ..trace import MicroStep, Trace

if TYPE_CHECKING:
    from .run import Run

WAYS = [(how, order) for how in ("end", "effect") for order in (1, -1)]  # one after the other, in turns; and backwards


@dataclass(frozen=True)
class Rehearsal:
    """A race that was tried in a few orders.

    * `traces`: what happened; `places`: where several threads meet, and one of them changes something;
    * `alone`: by thread, what it touches where it goes first; `lines`: by place in the code (file and line), the places of
      the machine that it touches; `begins`: by thread, where its call begins.
    """

    traces: tuple[Trace, ...] = ()
    places: tuple[Place, ...] = ()
    alone: Mapping[str, Sequence[Touch]] = field(default_factory=dict)
    lines: Mapping[tuple[str, int], tuple[Place, ...]] = field(default_factory=dict)
    begins: Mapping[str, MicroStep] = field(default_factory=dict)

    @property
    def view(self) -> tuple[str, ...]:
        """What its picture has to show: where the threads meet, and who has it open; () for everything, where they do not meet."""
        return ("fds", *dict.fromkeys(oid for oid, _ in self.places)) if self.places else ()


NO_REHEARSAL = Rehearsal()


def rehearsed(begin: Callable[[], Run], later: Mapping[str, Sequence[Called]]) -> Rehearsal:
    """Try a race, which each `begin` makes anew; `later` are the calls of its threads that are still to come."""
    runs = [begin() for _ in WAYS]
    if not runs[0].running():
        return NO_REHEARSAL
    steps, effects = len(runs[0].machine.trace), len(runs[0].machine.engine.micro)
    for run, way in zip(runs, WAYS, strict=True):
        _play(run, *way, later)
    made = [touches(run.machine.engine, effects) for run in runs]
    places = contested(*made)
    lines: dict[tuple[str, int], dict[Place, None]] = {}
    begins: dict[str, MicroStep] = {}
    for run, some in zip(runs, made, strict=True):
        micros = run.machine.trace.micro
        for touch in (touch for touch in some if touch.place in places and touch.place[1]):
            lines.setdefault((micros[touch.at].file, micros[touch.at].line), {})[touch.place] = None
        for micro in (micro for micro in micros[effects:] if micro.operation != "begin"):
            begins.setdefault(micro.thread, micro)
    return Rehearsal(
        tuple(run.machine.trace[steps:] for run in runs),
        tuple(places),
        {
            thread: [touch for touch in some if touch.thread == thread]
            for some in made[1::-1]
            for thread in _first(some)
        },
        {line: tuple(some) for line, some in lines.items()},
        begins,
    )


def _first(some: Sequence[Touch]) -> list[str]:
    """The thread that goes first; it has met nobody."""
    return [touch.thread for touch in some[:1]]


def _play(run: Run, how: str, order: int, later: Mapping[str, Sequence[Called]]) -> None:
    """Move all running calls in turns, as far as they go, and begin what comes after them."""
    left, effects = {thread: [*calls] for thread, calls in later.items()}, -1
    while len(run.machine.engine.micro) > effects:
        effects = len(run.machine.engine.micro)
        run.again(Moved(number, how) for number in run.running()[::order])
        inside = {run.machine.calls[number].thread.prefix for number in run.running()}
        ready = [thread for thread, calls in left.items() if calls and thread not in inside]
        run.again(left[thread].pop(0) for thread in ready)
        effects = -1 if ready else effects
