"""A shared run, to look at again: `replay("vfiosim4:…")`, or `replay("R1 without group_lock: A20 B18 A1")` for a puzzle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .invariants import Invariant
from .kernel import Unsupported
from .kernel.config import Config
from .machine import OLDER, PREFIX, Machine, Patches, decode
from .machine.events import ENDLESS
from .trace import Trace
from .uapi import Errno

if TYPE_CHECKING:
    from .machine import Call
    from .puzzles import Puzzle

_SHORT = re.compile(
    r"(?P<name>\S+?)(?: +(?P<how>faulty|fixed)(?: +(?P<slip>(?!(?:without|at)\b)[a-z]+))?)?(?: +without +(?P<without>.+?))?"
    r"(?: +at +(?P<fault>[0-9]{1,4} +E[A-Z0-9]+))? *:"
    r"(?P<schedule>[^:@]*)(?:@(?P<step>[0-9]{1,9}))?"
)


@dataclass(frozen=True, eq=False)
class Replay:
    """A run that was done again. Printed, it tells in words what happened; in a notebook with a player below.

    * `machine` stands at the end of the run; calls that have not ended wait to go on (`machine.pending`). Of a puzzle it
      knows the puzzle's own invariants, so `machine.check()` says what is wrong;
    * `trace`: the run, of a puzzle from the first effect of its threads on;
    * `step`: the step of `trace` to look at, from 1; None if the text names none.
    """

    machine: Machine
    trace: Trace
    step: int | None
    what: str = ""
    _calls: list[Call] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _lines(self) -> Iterator[str]:
        effects = len(self.trace.micro)
        yield f"{self.what or self.machine}: {len(self.trace)} steps, {effects} effects"
        if self.machine.differs:
            yield f"This text is of an older edition: {self.machine.differs}."
        yield from (f"  {call} → {_ending(call)}" for call in self._calls)
        yield from (f"  {what}" for what in self.machine.check())
        if missing := self.machine.taken_out.missing():
            yield f"  no call used {', '.join(missing)}"
        if self.step:
            yield f"Step {self.step}: {self.trace[self.step - 1].sentence}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from .views import Player

        told = self.trace.ending_in(*self.machine.check())
        bundle = Player(told, step=self.step or 0)._repr_mimebundle_()
        return {**bundle, "text/plain": str(self), "text/html": f"<pre>{escape(str(self))}</pre>{bundle['text/html']}"}


def replay(text: str, patches: Patches | None = None) -> Replay:
    """Do a shared run again.

    * `text` is what `Trace.replay`, `Witness.replay` or `vfiosim.machine.encode` gave; or a puzzle with a schedule: its name,
      "fixed" or "faulty" where its functions take the place of the kernel's (and which fault, where there are several),
      "without" and the protections taken out, "at 9 EFAULT" where the ninth thing that can fail does, and how many effects each
      thread does in turn. "@7" at the end names the step to look at;
    * `patches`: your own functions that took the place of kernel functions in a run, by name.

    It is also the path of a recording (`.json`, `.json.gz`), as `python -m vfiosim run --save` keeps one: its first run is done.

    Raises ValueError, in one sentence, for a text that is damaged, from elsewhere, or does not repeat, and
    for a recording with a call or a computer that is not modelled. In a text such a call has failed before, and fails again.
    """
    if not isinstance(text, str):
        raise ValueError(f"a replay is made of a text, not of {text!r}")
    if text.strip().startswith((PREFIX, *OLDER)):
        machine, step = decode(text, patches)
        return _within(Replay(machine, machine.trace, step, _calls=machine.calls))
    if text.strip().endswith((".json", ".json.gz")):
        return _of_recording(text.strip())
    found = _SHORT.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"a replay is a text that begins with {PREFIX!r}, or one like 'R1 without group_lock: A20 B18 A1', "
            f"not {text.strip()[:40]!r}"
        )
    return _within(_of_puzzle(found, patches))


def _of_recording(path: str) -> Replay:
    from .conformance.check import topology_of
    from .conformance.recordings import UnreadableError, load
    from .conformance.replay import Playback

    try:
        recording = load(Path(path))
    except UnreadableError as error:
        raise ValueError(str(error)) from None
    try:
        scenario = recording.scenarios[0]
        machine = Machine(topology_of(recording), config=Config.of(recording.config))
        playback = Playback(machine, recording.topology, scenario)
        for step in scenario["steps"]:
            playback.step(step)
    except Unsupported as error:
        raise ValueError(f"{path} cannot be done again: {error.sentence}") from None
    except (LookupError, TypeError, AttributeError, ValueError) as error:  # what a file without its parts leads to
        raise ValueError(f"{path} is damaged, or a part of it is missing: {type(error).__name__}: {error}") from None
    return Replay(machine, machine.trace, None, scenario.get("about", path), machine.calls)


def _of_puzzle(found: re.Match[str], patches: Patches | None) -> Replay:
    from .explore.model import refuse_missing
    from .explore.rerun import rerun
    from .puzzles import PUZZLES

    name, how, slip, without, fault, schedule, step = found.groups()
    puzzle = PUZZLES.get(name.upper())
    if puzzle is None:
        raise ValueError(f"there is no puzzle {name!r}; there are {', '.join(PUZZLES)}")
    programs = puzzle.programs()
    order = _schedule(schedule, list(programs))
    machine = puzzle.setup()
    made = len(machine.calls)
    taken_out = machine.take_out(*(re.split(" *, *", without) if without else ()))
    machine.expect(*(one for one in puzzle.properties if isinstance(one, Invariant)))
    machine.patch(**_functions(puzzle, how, slip), **(patches or {}))
    if fault:
        number, errno = fault.split()
        if errno not in Errno.__members__:
            raise ValueError(f"{errno} is no error number of Linux")
        machine.fail_next(int(number), Errno[errno])
    try:
        before = rerun(machine, programs, order)
    except ValueError:
        refuse_missing(taken_out)
        raise
    what = found.string.rpartition("@")[0] if step else found.string
    return Replay(machine, machine.trace[before:], int(step) if step else None, what, machine.calls[made:])


def _functions(puzzle: Puzzle, how: str | None, slip: str | None) -> Any:
    if how is None:
        return {}
    named = puzzle.faults.get(slip) if slip and how == "faulty" else None
    functions = named if slip else puzzle.faulty if how == "faulty" else puzzle.fixes
    if not functions:
        raise ValueError(f"the puzzle {puzzle.name} has no functions that are {how}{' ' + slip if slip else ''}")
    return functions


def _schedule(text: str, threads: list[str]) -> list[str]:
    """The thread of each effect."""
    order: list[str] = []
    for turn in text.split():
        thread = next(
            (
                one
                for one in sorted(threads, key=len, reverse=True)
                if re.fullmatch(f"{re.escape(one)}[0-9]{{1,5}}", turn)
            ),
            None,
        )
        if thread is None:
            raise ValueError(
                f"{turn!r} is not a thread ({', '.join(threads)}) and how many effects it does, such as {threads[0]}20"
            )
        order += [thread] * int(turn[len(thread) :])
        if len(order) > ENDLESS:
            raise ValueError(f"no run of a puzzle has more than {ENDLESS:,} effects")
    return order


def _within(made: Replay) -> Replay:
    if made.step is not None and made.step > len(made.trace):
        raise ValueError(f"there is no step {made.step} in this run; it has {len(made.trace)}")
    return made


def _ending(call: Call) -> str:
    if call.error is not None:
        return str(call.error)
    return f"returns {call.result}" if call.thread.ended else call.waits_for or "can go on"
