"""Locks, completions and time: what a thread may have to wait for."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, cast

from ..uapi import KernelError
from .effects import KernelOops
from .objects import Cell, Count, KObject, Plan
from .operations import GAVE, PERFORM, TOOK, WAIT, Request, Say, declared, effect, writes

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

P = ParamSpec("P")


class Lock(Cell):
    """A mutex, a spinlock or a semaphore for readers and writers; `async with lock:` takes it for one thread alone.

    `holder` is the thread that has it. `async with shared(lock):` takes it together with other readers (`readers`); then
    `holder` is the oldest of them.
    """

    __slots__ = ("holder", "readers", "spin")

    def __init__(self, owner: KObject, name: str, guard: str, spin: bool) -> None:
        super().__init__(owner, name, guard)
        self.spin = spin
        self.holder: Thread | None = None
        self.readers: list[Thread] = []

    def __aenter__(self) -> Awaitable[None]:
        return acquire(self)

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> Awaitable[None]:
        # A coroutine that is dropped half-way (GeneratorExit) must not await any more, and after an oops locks stay locked.
        return release(self) if kind is None or issubclass(kind, KernelError) else _nothing()


class ReadLocked:
    """The reader's side of a lock: any number of readers, or one writer."""

    __slots__ = ("lock",)

    def __init__(self, lock: Lock) -> None:
        self.lock = lock

    def __aenter__(self) -> Awaitable[None]:
        return acquire_shared(self.lock)

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> Awaitable[None]:
        return release_shared(self.lock) if kind is None or issubclass(kind, KernelError) else _nothing()


def shared(lock: Lock) -> ReadLocked:
    """`async with shared(lock):` reads under a lock (`down_read`); `async with lock:` is the writer's side."""
    return ReadLocked(lock)


class cleanup:
    """`async with cleanup(function, …):` awaits the function on the way out, also if the block fails: the kernel's `out:` label."""

    __slots__ = ("leave",)
    ends_well = True

    def __init__(self, function: Callable[P, Awaitable[Any]], *args: P.args, **named: P.kwargs) -> None:
        self.leave = partial(function, *args, **named)

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.ends_well if kind is None else issubclass(kind, KernelError):
            await self.leave()


class on_failure(cleanup):
    """The same only if the block fails: the kernel's `err:` label."""

    __slots__ = ()
    ends_well = False


class Completion(Cell):
    """Something to wait for: `value` counts the signals that nobody has taken yet."""

    __slots__ = ("value",)

    def __init__(self, owner: KObject, name: str, guard: str) -> None:
        super().__init__(owner, name, guard)
        self.value = 0


def mutex() -> Lock:
    """Declare a lock whose waiters sleep."""
    return cast(Lock, Plan(lambda owner, name: Lock(owner, name, "", False)))


def rwsem() -> Lock:
    """Declare a lock that one writer takes alone, or any number of readers together (`shared`)."""
    return mutex()


def spinlock() -> Lock:
    """Declare a lock whose waiters spin."""
    return cast(Lock, Plan(lambda owner, name: Lock(owner, name, "", True)))


def completion() -> Completion:
    """Declare a `Completion`."""
    return cast(Completion, Plan(lambda owner, name: Completion(owner, name, "")))


# ---- locks


@types.coroutine
def _nothing() -> Generator[Request, None, None]:
    return
    yield


@effect(Lock, touches=writes, does=TOOK, needs=lambda lock: lock == 0, waits=True)
def acquire(engine: Engine, thread: Thread, target: Lock) -> Any:
    """Take a lock, waiting while a thread has it. `async with lock:` does this and `release`."""
    if target.holder is not None:
        return WAIT
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, None, thread))
    target.holder = thread
    thread.takes(target)
    return None


def _tried_words(say: Say, answer: Any, target: Any) -> str:
    return f"{say(target)} → {'taken' if answer else 'no, somebody has it'}"


@effect(Lock, touches=writes, does=TOOK, tries=True, orders=True, words=_tried_words)
def try_acquire(engine: Engine, thread: Thread, target: Lock) -> bool:
    """Take a lock unless a thread has it (`mutex_trylock`); nobody waits, and the answer tells."""
    return PERFORM[acquire](engine, thread, target) is not WAIT


@effect(Lock, touches=writes, does=GAVE, orders=True)
def release(engine: Engine, thread: Thread, target: Lock) -> None:
    """Give a lock back."""
    if target.holder is not thread or target.readers:
        raise KernelOops(f"{thread.label} unlocks {target.path}, which it does not hold")
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, thread, None))
    target.holder = None
    thread.locks.remove(target)


def _readers_change(engine: Engine, thread: Thread, target: Lock, readers: list[Thread]) -> None:
    engine.touch(thread, target)
    oldest = readers[0] if readers else None
    if engine.journal is not None:
        engine.journal.append((target, None, target.holder, oldest))
    target.readers, target.holder = readers, oldest


@effect(Lock, touches=writes, does=TOOK, needs=lambda lock: lock < 2, waits=True)
def acquire_shared(engine: Engine, thread: Thread, target: Lock) -> Any:
    """Take a lock together with other readers, waiting while a writer has it. `async with shared(lock):` does this."""
    if target.holder is not None and not target.readers:
        return WAIT
    _readers_change(engine, thread, target, [*target.readers, thread])
    thread.takes(target)
    return None


@effect(Lock, touches=writes, does=GAVE, orders=True)
def release_shared(engine: Engine, thread: Thread, target: Lock) -> None:
    """Give a reader's share of a lock back."""
    if thread not in target.readers:
        raise KernelOops(f"{thread.label} unlocks {target.path}, which it does not hold")
    left = list(target.readers)
    left.remove(thread)  # once: it may be a reader twice
    _readers_change(engine, thread, target, left)
    thread.locks.remove(target)


# ---- completions and time


def _signals(engine: Engine, thread: Thread, target: Completion, change: int) -> None:
    engine.touch(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, target.value, target.value + change))
    target.value += change


@effect(Completion, touches=writes, orders=True)
def complete(engine: Engine, thread: Thread, target: Completion) -> None:
    """Signal a completion: one waiter may go on."""
    _signals(engine, thread, target, 1)


def _signalled(signals: int) -> bool:
    return signals > 0


@effect(Completion, touches=writes, needs=_signalled, waits=True, orders=True)
def wait_for(engine: Engine, thread: Thread, target: Completion) -> Any:
    """Wait until a completion is signalled, and take the signal."""
    if not target.value:
        return WAIT
    _signals(engine, thread, target, -1)
    return None


@effect(Completion, touches=writes, needs=_signalled, waits=True, orders=True)
def wait_for_killable(engine: Engine, thread: Thread, target: Completion) -> bool:
    """The same, but the wait ends when the process is killed (`wait_event_killable`); False then."""
    if not target.value:
        return False if thread.killed else WAIT
    _signals(engine, thread, target, -1)
    return True


@effect(Completion, int, touches=writes, needs=_signalled, timed=True, orders=True)
def wait_for_timeout(engine: Engine, thread: Thread, target: Completion, timeout: int) -> bool:
    """Wait for a completion, at most `timeout` milliseconds of simulated time; False if they are over."""
    if target.value:
        thread.deadline = None
        _signals(engine, thread, target, -1)
        return True
    return False if _time_is_over(engine, thread, timeout) else WAIT


@effect(Completion, int, touches=writes, needs=_signalled, timed=True, orders=True)
def wait_for_killable_timeout(engine: Engine, thread: Thread, target: Completion, timeout: int) -> bool:
    """The same, but the wait ends when the process is killed, as if its time were over."""
    if thread.killed:
        thread.deadline = engine.clock
    result: bool = PERFORM[wait_for_timeout](engine, thread, target, timeout)
    return result


@effect(Count, int, touches=writes, needs=lambda value: value == 0, waits=True, timed=True, orders=True)
def wait_until_zero(engine: Engine, thread: Thread, target: Count, timeout: int) -> bool:
    """Wait until a count is zero, at most `timeout` milliseconds of simulated time; False if they are over."""
    engine.touch(thread, target)
    if not target.value:
        thread.deadline = None
        return True
    return False if _time_is_over(engine, thread, timeout) else WAIT


def _time_is_over(engine: Engine, thread: Thread, timeout: int) -> bool:
    if thread.deadline is None:
        thread.deadline = engine.clock + timeout
    if engine.clock < thread.deadline:
        return False
    thread.deadline = None
    return True


def condition(request: Request) -> int | None:
    """How things stand at the place that an effect is about, as far as waiting is concerned; None where nobody can wait.

    Of a lock: 0 free, 1 with readers, 2 with a writer. Of a count and a completion: its value.
    """
    target = request[1] if len(request) > 1 else None
    if isinstance(target, Lock):
        return 0 if target.holder is None else 1 if target.readers else 2
    return target.value if isinstance(target, Count | Completion) else None


def need(request: Request) -> Callable[[int], bool] | None:
    """When an effect can happen, given the condition of its place; None if it never waits. That time passes is another matter."""
    known = declared(request)
    return None if known.timed and request[2] == 0 else known.needs  # with no time it only asks


def must_wait(request: Request) -> bool:
    """Would a thread that asks for this have to wait now?"""
    needs = need(request)
    return needs is not None and not needs(condition(request) or 0)
