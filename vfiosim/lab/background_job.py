"""A long piece of work in slices, so that buttons stay alive while it goes on."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
SLICE = 0.05  # seconds; a click waits no longer than one slice


class BackgroundJob(Generic[T]):
    """`work(pause)` calls `pause()` wherever it can be interrupted; its answer is True once the work is to stop.

    The work has a thread of its own, but never runs at the same time as anybody else: `go` lets it run for a slice and waits.
    (The simulator has one interpreter thread; a coroutine would have to be handed through the whole search.)
    """

    def __init__(self, work: Callable[[Callable[[], bool]], T]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._worker, self._owner = threading.Semaphore(0), threading.Semaphore(0)
        self._until = 0.0
        self._stopping = False
        self._error: BaseException | None = None
        self._result: T | None = None
        self.done = False

    def go(self) -> bool:
        """Run for a slice. True when the work is done."""
        if not self.done:
            self._until = time.monotonic() + SLICE
            if self._thread.is_alive():
                self._worker.release()
            else:
                self._start()
            self._owner.acquire()
        return self.done

    def _start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:  # Python in a browser has one thread: there all of it is one slice
            self._until = math.inf
            self._run()

    def begin(self, then: Callable[[], None]) -> None:
        """Run to the end beside the page's other work, or at once where there is no page; `then` is called after that."""
        try:
            self._task = asyncio.get_running_loop().create_task(self._resume(then))
        except RuntimeError:  # no notebook: nobody could press anything
            while not self.go():
                pass
            then()

    async def _resume(self, then: Callable[[], None]) -> None:
        while not self.go():
            await asyncio.sleep(0.01)
        then()

    def stop(self) -> None:
        """Let the work know that it is to stop at the next pause, and wait until it has."""
        self._stopping = True
        while not self.go():
            pass

    def result(self) -> T:
        """What the work gave; raises what it raised."""
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _pause(self) -> bool:
        if not self._stopping and time.monotonic() > self._until:
            self._owner.release()
            self._worker.acquire()
        return self._stopping

    def _run(self) -> None:
        try:
            self._result = self._work(self._pause)
        except BaseException as error:
            self._error = error
        self.done = True
        self._owner.release()
