"""One schedule of an exploration, done again on a machine that keeps a trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

from ..engine import PatchError, Thread
from ..machine import Machine
from .lanes import asked, unsteady
from .tally import Limit, Tally
from .watch import Watch
from .world import MachineWorld, Programs


def see_it_again(begin: Callable[[], MachineWorld], tally: Tally, looks: int) -> None:
    """Where functions of somebody's own take part: run every way that was found again, a single one more often than many.

    `looks`: how many runs that are, if there are not more ways. Raises Limit if one goes otherwise.
    """
    ways = [*tally.outcomes.items(), *((None, way) for way in tally.violations.values())]
    gone: dict[int, list[object]] = {}
    for _ in range(max(1, looks // max(1, len(ways)))):
        for nth, (outcome, way) in enumerate(ways):
            world = begin()
            if not (told := unsteady(world.engine)):
                return
            went = list(_go(world, way))
            if gone.setdefault(nth, went) != went or outcome not in (None, world.outcome()):
                raise Limit(told)


def _go(world: MachineWorld, way: Iterable[int]) -> Iterator[object]:
    """Let the lanes go; the answers are what they ask for, as far as they can go."""
    for number in way:
        yield asked(world.lanes[number])
        if world.lanes[number].upcoming is None or not world.lanes[number].step():
            return
    yield from (asked(lane) for lane in world.lanes)


def rerun(machine: Machine, programs: Programs, schedule: Iterable[str]) -> int:
    """Make the calls of the lanes, one effect of a lane at a time. The answer is how many steps the trace had before.

    Where a lane goes on that waits with a time limit, its time has passed. Raises ValueError where a lane cannot go on,
    PatchError where a function of somebody's own is the reason.
    """

    def until_it_gives_up(thread: Thread) -> None:
        machine.pass_time(max(0, (thread.deadline or 0) - machine.engine.clock))

    world = MachineWorld(machine, programs, Watch([]), timeouts=sys.maxsize, pass_time=until_it_gives_up)
    lanes = {lane.label: lane for lane in world.lanes}
    before = len(machine.trace) if machine.engine.journal is not None else 0
    for label in schedule:
        if lanes[label].upcoming is None or not lanes[label].step():
            if told := unsteady(machine.engine):
                raise PatchError(told)
            raise ValueError(f"this schedule does not repeat: {label} cannot go on where it did then")
    machine.engine.calls_to_come = False
    machine.engine.notice_waiting()
    machine.engine.calls_to_come = False
    machine.finish_calls()
    return before
