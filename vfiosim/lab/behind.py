"""A second machine, one press behind that of a run: Undo goes on with it, and need not make all calls again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .outcome import Done

if TYPE_CHECKING:
    from .run import Run

IDLE = 0.2  # seconds after a press; who looks at what came of it does not notice
SLICE = 0.01  # seconds; a click waits no longer than that and the call under way
_planned: list[asyncio.Handle] = []
_following: list[Behind] = []  # the one that has a machine: of the run on which somebody pressed last


class Behind:
    """Where a run stood before its last press, made while nobody presses; where there is no loop, as in a script, never."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._twin: Run | None = None
        self._done: list[Done] = []  # what the twin has lived through

    def follow(self) -> None:
        """Somebody has pressed: catch up once nothing else is to be done. Another run that was followed is no longer."""
        for other in _following:
            if other is not self:
                other.let_go()
        _following[:] = [self]
        self._plan(IDLE)

    def let_go(self) -> None:
        """Have no machine."""
        self._twin, self._done = None, []

    def take(self, number: int) -> Run | None:
        """A run that stands where this one stood after so many things; None if that would have to be made from the beginning."""
        twin, there = self._twin, len(self._done)
        if twin is None or not self._is_behind(twin, number):
            return None
        for each in self._run.done[there:number]:
            twin.perform(each.event)
        self.let_go()
        return twin

    def _plan(self, delay: float) -> None:
        while _planned:
            _planned.pop().cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        _planned.append(loop.call_later(delay, self._resume))

    def _is_behind(self, twin: Run, number: int) -> bool:
        run, there = self._run, len(self._done)
        same = twin.setup is run.setup and twin.start is run.start and there <= number
        return same and all(mine is theirs for mine, theirs in zip(self._done, run.done[:number], strict=False))

    def _resume(self) -> None:
        """Do what was done on the run up to its last press, a slice of it at a time."""
        run, number = self._run, self._run.before_last()
        if run.calls_made <= 0:
            return
        if self._twin is None or not self._is_behind(self._twin, number):
            self._twin, self._done = run.twin(), []
        until = time.monotonic() + SLICE
        for each in run.done[len(self._done) : number]:
            self._twin.perform(each.event)
            self._done.append(each)
            if time.monotonic() > until:
                self._plan(0)
                return
        self._twin.machine.remember(run.machine)
