"""What a search moves: the threads of user space, and what is asked of the model that they are in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Protocol

from ..engine import Engine, Request, Thread
from ..engine.operations import Accesses, declared
from ..engine.thread import _begin

BEGIN: Request = (_begin, None)


def time_is_over(thread: Thread) -> None:
    """The time of a wait has passed; nobody else has noticed."""
    thread.deadline = thread.engine.clock


class UserThread:
    """A thread of user space, which makes one call after the other; each of `calls` begins one and gives its thread.

    A wait with a time limit is over at any moment, as often as `timeouts` in each call: as if it asked, and did not wait. That is
    all there is to time here, for a thread may be as slow as it likes. `pass_time` lets the time pass.
    """

    def __init__(
        self,
        label: str,
        calls: Sequence[Callable[[], Thread]],
        timeouts: int = 0,
        pass_time: Callable[[Thread], None] = time_is_over,
    ) -> None:
        self.label = label
        self._calls = list(calls)
        self._timeouts, self._pass_time = timeouts, pass_time
        self._left = 0  # how often the time may still run out in the call that is under way
        self.running: Thread | None = None  # of the call that is under way

    @property
    def ended(self) -> bool:
        """Has it made all its calls?"""
        return self.running is None and not self._calls

    @property
    def upcoming(self) -> Request | None:
        """What it does next; None if it has ended."""
        if self.running is None:
            return BEGIN if self._calls else None
        request = self.running.engine.upcoming(self.running)
        return (*request[:2], 0) if self._left and request is not None and declared(request).timed else request

    def step(self) -> bool:
        """Do that. False if it has to wait."""
        thread = self._under_way()
        moved = thread.engine.step(thread) or thread.ended or self._gives_up(thread)
        if thread.pending is None:
            self.running = None
        return moved

    def steps(self, number: int) -> None:
        """Do so many effects, which can all be done and have been done before: what is read on the way is no news."""
        if self.running is not None:
            self.running.reads.clear()
        while number:
            thread = self._under_way()
            number = thread.engine.steps(thread, number)
            if thread.state == "blocked":  # that was one of them
                self._gives_up(thread)
            if thread.pending is None:
                self.running = None

    def _under_way(self) -> Thread:
        if self.running is None:
            self.running, self._left = self._calls.pop(0)(), self._timeouts
        return self.running

    def _gives_up(self, thread: Thread) -> bool:
        """A thread waits: its time passes, if it has a limit and that may be over. Only then True."""
        if not self._left or thread.deadline is None:
            return False
        self._left -= 1
        self._pass_time(thread)
        return thread.engine.step(thread) or thread.ended


class Model(Protocol):
    """A machine at the beginning of a schedule, and what is looked at on the way."""

    engine: Engine
    threads: list[UserThread]

    def also(self, request: Request, sure: bool) -> Accesses:
        """What else an effect has to count as touching. `sure`: in the state as it is now; otherwise it may be done in any."""

    def wrong(self, thread: Thread | None, request: Request) -> list[tuple[str, bool]]:
        """What is wrong after an effect that was not wrong before it, and whether it is so only as long as its thread is inside."""

    def took(self, thread: Thread, request: Request) -> Iterable[tuple[str, str]]:
        """If the effect that was just done has taken a lock: that lock, as the second one of a pair with each that is held."""

    def at_the_end(self) -> Iterable[tuple[str, list[int]]]:
        """What is wrong when no thread goes on, each with the threads that it takes; no threads stand for all.

        Of threads that could go on, but in no way that is of interest, nothing is known: then only who waits for ever is wrong.
        """

    def outcome(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """How the calls of each thread ended."""


def go_again(model: Model, way: Sequence[int]) -> None:
    """Do effects of the threads that were done before."""
    engine = model.engine
    notices = engine.notices
    for number, run in groupby(way):
        engine.notices = False
        model.threads[number].steps(len(list(run)) - 1)
        engine.notices = notices  # what it has read when it stands before its next effect
        model.threads[number].steps(1)
