"""The search for the fewest moves that lead from one situation of a machine to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..engine import Count, Field, Table
from ..lab import Outcome, Session
from ..lab.outcome import Done
from ..machine import Machine
from ..machine.events import Event
from ..trace import State
from ..trace.recorder import snapshot
from ..uapi import KernelError
from .moves import Moves


class Sketch(Session):
    """A session that keeps no trace: for a search, which needs only where a machine stands."""

    def _boot(self) -> Machine:
        machine = Machine(self.setup.topology, trace=False)
        for name in self.setup.processes:
            machine.process(name)
        return machine

    def do(self, action: Event, more: bool = False) -> Outcome:
        """Do something; of how it ended only whether it was refused, and its number."""
        try:
            came = action.do(self.machine)
            error, number = getattr(came, "error", None), getattr(came, "result", came)
        except KernelError as problem:
            error, number = problem, None
        outcome = Outcome(str(action), str(error or number), refused=error is not None, number=number)
        self.done.append(Done(action, outcome, 0, 0))
        return outcome

    @property
    def state(self) -> State:
        """Where the machine stands, as plain data."""
        return snapshot(self.machine.engine)

    def stands(self) -> tuple[tuple[str, str], ...]:
        """Where the machine stands, to compare: the cells of all objects; of a table what is in it, and in which order."""
        return tuple(sorted(self._cells()))

    def _cells(self) -> Iterator[tuple[str, str]]:
        for thing in self.machine.engine.objects.values():
            for cell in thing.cells():
                if isinstance(cell, Count | Field):
                    yield cell.path, str(cell.value)
                elif isinstance(cell, Table):
                    yield cell.path, str([str(held) for _, held in sorted(cell.slots.items())])


@dataclass(frozen=True)
class Found:
    """What a search has found: the shortest way, None where there is none among the `situations` that it has visited.

    `all_visited`: is there no other situation that these moves lead to?
    """

    way: tuple[str, ...] | None
    situations: int
    all_visited: bool = False


def fewest(
    start: Callable[[Session], object],
    moves: Moves,
    reached: Callable[[Session], bool],
    *,
    most: int = 12,
    situations: int = 2000,
) -> Found:
    """The shortest way from `start` to where `reached` is true, by a search through all orders of up to `most` moves.

    A move that is refused is no way on, nor is one to where the machine has stood before. It gives up after so many
    `situations`.
    """
    session = Sketch(start=start)
    if reached(session):
        return Found((), 1)
    seen, ways = {session.stands()}, list[tuple[str, ...]]([()])
    for _ in range(most):
        longer = []
        for way in ways:
            for name, stands, there in _next(start, moves, way):
                if stands in seen:
                    continue
                seen.add(stands)
                longer.append((*way, name))
                if reached(there):
                    return Found(longer[-1], len(seen))
                if len(seen) >= situations:
                    return Found(None, len(seen))
        ways = longer
        if not ways:
            return Found(None, len(seen), all_visited=True)
    return Found(None, len(seen))


def _next(
    start: Callable[[Session], object], moves: Moves, way: tuple[str, ...]
) -> Iterator[tuple[str, tuple[tuple[str, str], ...], Sketch]]:
    """For each move that is possible after `way`: its name, where it leads to, and a session that stands there."""
    session, before = None, None
    for name, (move, _) in moves.items():
        if session is None:
            session = Sketch(start=start)
            for one in way:
                moves[one][0](session)
            before = session.stands()
        try:
            refused = move(session).refused
        except ValueError:  # nothing was called
            continue
        stands = session.stands()
        if refused and stands == before:
            continue
        if not refused:
            yield name, stands, session
        session = None
