"""The list of what was done to a machine, and how another machine lives through it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine import Micro
from ..engine.effects import touched
from ..engine.operations import name_of
from .events import Event

if TYPE_CHECKING:
    from .machine import Machine


class Noted(NamedTuple):
    """An event, and how many effects the machine had done before."""

    after: int
    event: Event


class Turns(NamedTuple):
    """An event, the number of the call that it begins, and whose turn it was after it: thread, how many effects, and so on.

    `turns` is None where the call went on to its end, and nothing else happened.
    """

    event: Event
    call: int | None
    turns: list[Any] | None

    @property
    def pairs(self) -> Iterator[tuple[int | str, int]]:
        """Each thread with its effects."""
        return zip((self.turns or [])[::2], (self.turns or [])[1::2], strict=True)


def turns_after(machine: Machine, events: int | None = None, effects: int | None = None) -> Iterator[Turns]:
    """The history of a machine, up to so many events and effects, with what followed each event."""
    history, micro = machine.history[:events], machine.engine.micro[:effects]
    names = _names(machine, micro)
    last = {name: index for index, name in enumerate(names)}
    ends = [noted.after for noted in history[1:]] + [len(micro)]
    calls = 0
    for (after, event), end in zip(history, ends, strict=False):  # there is one end too many where nothing was done
        begun = names[after] if "process" in event.makes else None  # the thread that makes the process
        who = [name for name in names[after:end] if name != begun]
        turns = [item for thread, run in groupby(who) for item in (thread, len(list(run)))]
        if "call" not in event.makes:
            yield Turns(event, None, turns)
            continue
        ended = machine.calls[calls].thread.ended and last.get(calls, -1) < end
        yield Turns(event, calls, None if turns[:1] == [calls] and len(turns) == 2 and ended else turns)
        calls += 1


def _names(machine: Machine, micro: list[Any]) -> list[int | str]:
    """The thread of each effect, as `Machine.number_of` names it."""
    numbers = {call.thread: number for number, call in enumerate(machine.calls)}
    return [numbers.get(entry[0], entry[0].label) for entry in micro]


def repeat(twin: Machine, original: Machine, until: int) -> None:
    """Let a fresh machine live through the first effects of another one, and all that was asked of it before the last of them.

    Raises ValueError where something came from outside, RuntimeError where an effect is another one than it was.
    """
    names = _names(original, original.engine.micro)
    for after, event in original.history:
        if after >= until:
            break
        _repeat_effects(twin, original, names, after)
        event.begin(twin)
    _repeat_effects(twin, original, names, until)
    twin.engine.notice_waiting()


def _repeat_effects(twin: Machine, original: Machine, names: list[int | str], until: int) -> None:
    """Perform effects in the recorded order; each must be the one that was asked for then."""
    done, recorded = twin.engine.micro, original.engine.micro
    while len(done) < until:
        index = len(done)
        with suppress(LookupError):
            twin.engine.step(twin.thread(names[index]))
        for at in range(index, max(len(done), index + 1)):
            if at >= len(done) or at >= len(recorded) or signature(done[at]) != signature(recorded[at]):
                raise RuntimeError(
                    f"this run does not repeat: effect {at} was {signature(recorded[index])} the first time"
                )
    twin.forget_ended()


def same_effects(one: Machine, other: Machine) -> bool:
    """Did the same happen on both?"""
    return list(map(signature, one.engine.micro)) == list(map(signature, other.engine.micro))


def signature(entry: Sequence[Any]) -> tuple[str, str, str, str]:
    """What has to be the same for two effects to be the same: thread, operation, what it is about, and how it was refused."""
    micro = Micro(*entry)
    target = touched(micro.request) if len(micro.request) > 1 else None
    place = getattr(target, "path", getattr(target, "oid", ""))
    return micro.thread.label, name_of(micro.request), place, getattr(micro.answer, "name", "")
