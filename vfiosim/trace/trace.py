"""The trace: a state to start from, micro-steps, steps, and the state after each of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple, overload

from ..engine import Engine
from .plain import Plain, pack, unpack
from .recorder import Recorder, snapshot
from .state import Edit, ObjectState, Reference, State, ThreadState, Want
from .steps import Changed, MicroStep, Step, breakage, take

MOST_ALIKE = 64  # kinds of engines of which a state is kept
_ALIKE: dict[tuple[Hashable, ...], State] = {}
_CLASSES = {made.__name__: made for made in (Edit, MicroStep, ObjectState, State, Step, ThreadState, Want)}


def same_snapshot(engine: Engine, *alike: Hashable) -> State:
    """The state of an engine, which is the same for all that are `alike`: so one of them is looked at. Nobody may change it."""
    if alike not in _ALIKE:
        if len(_ALIKE) == MOST_ALIKE:
            _ALIKE.clear()
        _ALIKE[alike] = snapshot(engine)
    return _ALIKE[alike]


@dataclass(frozen=True, slots=True)
class ThreadRun:
    """The run of one thread: a system call, or a piece of work of the kernel.

    `name` is its first sentence; `ended` tells how it ended, "" while it goes on. `trace[call.steps]` is what happened
    from its beginning to its end, with whatever other threads did in between.
    """

    index: int
    thread: str
    name: str
    steps: slice
    ended: str


class Diff(NamedTuple):
    """What is different between two moments."""

    born: tuple[str, ...]
    died: tuple[str, ...]
    gained: tuple[Reference, ...]
    lost: tuple[Reference, ...]
    changed: tuple[Changed, ...]


class Trace:
    """A run as plain data. `len`, iteration and indexing are about steps; a slice is a trace of its own.

    `start` is the state before the first step, `micro` are the micro-steps, `skipped` is how many steps of the whole run a
    part of it leaves out before its first one. Micro-steps keep their number of the whole run in a slice; steps are
    counted from 0 in each trace.
    """

    def __init__(self, start: State, micro: tuple[MicroStep, ...], steps: tuple[Step, ...]) -> None:
        self.start = start
        self.micro = micro
        self.steps = steps
        self.skipped = 0
        self._kept: dict[int, State] = {}  # the state after so many micro-steps of the whole run
        self._share: Callable[[], str] | None = None

    def shared_by(self, share: Callable[[], str] | None) -> None:
        """Say who makes the replay string; it is asked once, and only when somebody wants it."""
        self._share = share and cache(share)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or what `pickle` keeps, has the replay string as it is now: who makes it has a machine, and stays behind."""
        return {**vars(self), "_share": self._share and partial(str, self.replay)}

    @property
    def can_be_shared(self) -> bool:
        """Does somebody make a replay string of it? Whether there is one is known only when it is made."""
        return self._share is not None

    @property
    def replay(self) -> str:
        """The run that this is a part of as a short text, for `vfiosim.replay`; "" where it cannot be shared."""
        try:
            return self._share() if self._share is not None else ""
        except ValueError:
            return ""

    @classmethod
    def of(cls, source: Recorder | Engine) -> Trace:
        """What a recorder has seen up to now; or all that an engine ever did. Raises ValueError without a journal."""
        recorder = source if isinstance(source, Recorder) else Recorder(source, past=True)
        trace = cls(recorder.start, tuple(recorder.micro()), tuple(recorder.steps()))
        trace._kept = recorder.kept()
        return trace

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @overload
    def __getitem__(self, which: int) -> Step: ...
    @overload
    def __getitem__(self, which: slice) -> Trace: ...
    def __getitem__(self, which: int | slice) -> Step | Trace:
        if isinstance(which, int):
            return self.steps[which]
        first, last, stride = which.indices(len(self.steps))
        if stride != 1:
            raise ValueError("a part of a trace has no gaps; leave out the third number of the slice")
        steps = self.steps[first:last]
        if not steps:
            return self._part(Trace(self.state(first - 1), (), ()), first)
        base = self._base
        micro = self.micro[steps[0].first - base : steps[-1].last - base + 1]
        renumbered = tuple(replace(step, index=step.index - first) for step in steps)
        return self._part(Trace(self.at_micro(steps[0].first - 1), micro, renumbered), first)

    def ending_in(self, *broken: str, cells: Callable[[str], tuple[str, ...]] = lambda _: ()) -> Trace:
        """The same, with a step at its end for each of these sentences about what is broken now, unless a step says it already.

        `cells` tells of a sentence which cells contradict each other, by their paths.
        """
        steps = [*self.steps]
        said = {step.sentence.rstrip(".").casefold() for step in steps if step.refused}
        for what in broken if steps else ():
            if what and what.casefold() not in said:
                steps.append(breakage(steps[-1], f"{what}.", cells(what)))
        return self._part(Trace(self.start, self.micro, tuple(steps)), 0)

    def _part(self, part: Trace, first: int) -> Trace:
        part.skipped = self.skipped + first
        part._share, part._kept = self._share, self._kept
        return part

    @property
    def _base(self) -> int:
        return self.micro[0].index if self.micro else 0

    @property
    def end(self) -> State:
        """The state after everything."""
        return self.at_micro(self._base + len(self.micro) - 1)

    def state(self, step: int) -> State:
        """The state after a step; after step -1 is before the first. Raises IndexError if there is no such step."""
        if not -1 <= step < max(len(self.steps), 1):
            raise IndexError(f"there is no step {step}; this trace has {len(self.steps)}, counted from 0")
        return self.at_micro(self.steps[step].last) if step >= 0 and self.steps else self.start.copy()

    def at_micro(self, index: int) -> State:
        """The state after the micro-step of this number; one less than the first is the start. Raises IndexError."""
        done = index - self._base + 1
        if not 0 <= done <= len(self.micro):
            last = self._base + len(self.micro) - 1
            raise IndexError(f"there is no micro-step {index}; this trace has {self._base} to {last}")
        near = max((kept for kept in self._kept if self._base < kept <= index + 1), default=self._base)
        state = (self._kept[near] if near > self._base else self.start).copy()
        for micro in self.micro[near - self._base : done]:
            take(state, micro)
        return state

    def states(self) -> Iterator[State]:
        """The state before the first step and after each one."""
        state, done = self.start.copy(), 0
        yield state.copy()
        for step in self.steps:
            while done < len(self.micro) and self.micro[done].index <= step.last:
                take(state, self.micro[done])
                done += 1
            yield state.copy()

    def micro_of(self, step: int) -> tuple[MicroStep, ...]:
        """The micro-steps that a step covers."""
        chosen = self.steps[step]
        return self.micro[chosen.first - self._base : chosen.last - self._base + 1]

    def diff(self, before: int, after: int) -> Diff:
        """What is different after step `after`, compared with after step `before` (-1: before the first)."""
        return diff(self.state(before), self.state(after))

    @property
    def calls(self) -> list[ThreadRun]:
        """The calls in the order in which they began."""
        ranges: dict[int, tuple[int, int]] = {}
        for step in self.steps:
            ranges[step.call] = (ranges.get(step.call, (step.index, 0))[0], step.index + 1)
        ended = {micro.call: micro.ended for micro in self.micro}
        found = []
        for call, (first, end) in ranges.items():
            step = self.steps[first]
            found.append(ThreadRun(call, step.thread, step.sentence, slice(first, end), ended.get(call, "")))
        return found

    def to_json(self) -> dict[str, Any]:
        """The whole trace as dicts, lists, texts and numbers, for `json.dump`."""
        return {"start": pack(self.start), "micro": pack(self.micro), "steps": pack(self.steps)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trace:
        """Undo `to_json`. Raises ValueError or KeyError if this is not a trace."""
        classes = {**_CLASSES, "Changed": Changed}
        start, micro, steps = (unpack(data[part], classes) for part in ("start", "micro", "steps"))
        steps = tuple(replace(step, changes=tuple(Changed(*change) for change in step.changes)) for step in steps)
        return cls(start, micro, steps)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        return (self.start, self.micro, self.steps) == (other.start, other.micro, other.steps)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Trace of {len(self.steps)} steps, {len(self.micro)} micro-steps>"


def diff(before: State, after: State) -> Diff:
    """What is different between two states."""
    old, new = (dict.fromkeys(state.references()) for state in (before, after))
    return Diff(
        born=tuple(oid for oid in after.objects if oid not in before.objects),
        died=tuple(oid for oid in before.objects if oid not in after.objects),
        gained=tuple(reference for reference in new if reference not in old),
        lost=tuple(reference for reference in old if reference not in new),
        changed=tuple(_changed(before, after)),
    )


def _changed(before: State, after: State) -> Iterator[Changed]:
    for oid, thing in after.objects.items():
        was = before.objects.get(oid)
        for cell in [*thing.fields, *thing.counts, *thing.tables, *thing.locks, *thing.signals]:
            old: Plain = was.value(cell) if was else None
            new = thing.value(cell)
            if was and old != new:
                yield Changed(f"{oid}.{cell}", old, new)
