"""One schedule of an exploration, done again on a machine that keeps a trace."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..engine import Thread
from ..machine import Machine
from .model import MachineModel, Programs
from .monitor import Monitor


def rerun(machine: Machine, programs: Programs, schedule: Iterable[str]) -> int:
    """Make the calls of the threads, one effect of a thread at a time. The answer is how many steps the trace had before.

    Where a thread goes on that waits with a time limit, its time has passed. Raises ValueError where a thread cannot go on.
    """

    def until_it_gives_up(thread: Thread) -> None:
        machine.pass_time(max(0, (thread.deadline or 0) - machine.engine.clock))

    model = MachineModel(machine, programs, Monitor([]), timeouts=sys.maxsize, pass_time=until_it_gives_up)
    threads = {user.label: user for user in model.threads}
    before = len(machine.trace) if machine.engine.journal is not None else 0
    for label in schedule:
        if threads[label].upcoming is None or not threads[label].step():
            raise ValueError(f"this schedule does not repeat: {label} cannot go on where it did then")
    machine.engine.calls_to_come = False
    machine.engine.notice_waiting()
    machine.engine.calls_to_come = False
    machine.finish_calls()
    return before
