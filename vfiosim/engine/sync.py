"""Locks, completions and time: what a thread may have to wait for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, cast

from ..uapi import KernelError
from .effects import WAIT, Asks, KernelOops, Request, Say, effect
from .objects import Cell, Count, KObject, Plan
from .operations import GAVE, TOOK, declared, operation, writes

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


@operation(touches=writes, does=TOOK, needs=lambda lock: lock == 0, waits=True)
def _acquire(engine: Engine, thread: Thread, request: Request) -> Any:
    target = request[1]
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


@operation(touches=writes, does=TOOK, tries=True, orders=True, words=_tried_words)
def _try_acquire(engine: Engine, thread: Thread, request: Request) -> bool:
    return _acquire(engine, thread, request) is not WAIT


@operation(touches=writes, does=GAVE, orders=True)
def _release(engine: Engine, thread: Thread, request: Request) -> None:
    target = request[1]
    if target.holder is not thread or target.readers:
        raise KernelOops(f"{thread.label} unlocks {target.path}, which it does not hold")
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, thread, None))
    target.holder = None
    thread.locks.remove(target)


@operation(touches=writes, does=TOOK, needs=lambda lock: lock < 2, waits=True)
def _acquire_shared(engine: Engine, thread: Thread, request: Request) -> Any:
    target = request[1]
    if target.holder is not None and not target.readers:
        return WAIT
    if target.owner.freed:
        engine.use_after_free(thread, target)
    _readers_change(engine, target, [*target.readers, thread])
    thread.takes(target)
    return None


@operation(touches=writes, does=GAVE, orders=True)
def _release_shared(engine: Engine, thread: Thread, request: Request) -> None:
    target = request[1]
    if thread not in target.readers:
        raise KernelOops(f"{thread.label} unlocks {target.path}, which it does not hold")
    if target.owner.freed:
        engine.use_after_free(thread, target)
    left = list(target.readers)
    left.remove(thread)  # once: it may be a reader twice
    _readers_change(engine, target, left)
    thread.locks.remove(target)


def _readers_change(engine: Engine, target: Lock, readers: list[Thread]) -> None:
    oldest = readers[0] if readers else None
    if engine.journal is not None:
        engine.journal.append((target, None, target.holder, oldest))
    target.readers, target.holder = readers, oldest


@effect(Lock)
def acquire_shared(target: Lock) -> Asks[None]:
    """Take a lock together with other readers, waiting while a writer has it. `async with shared(lock):` does this."""
    yield (_acquire_shared, target)


@effect(Lock)
def release_shared(target: Lock) -> Asks[None]:
    """Give a reader's share of a lock back."""
    yield (_release_shared, target)


@effect(Lock)
def acquire(target: Lock) -> Asks[None]:
    """Take a lock, waiting while a thread has it. `async with lock:` does this and `release`."""
    yield (_acquire, target)


@effect(Lock)
def try_acquire(target: Lock) -> Asks[bool]:
    """Take a lock unless a thread has it (`mutex_trylock`); nobody waits, and the answer tells."""
    answer: bool = yield (_try_acquire, target)
    return answer


@effect(Lock)
def release(target: Lock) -> Asks[None]:
    """Give a lock back."""
    yield (_release, target)


@effect()
def _nothing() -> Asks[None]:
    return
    yield


@effect(Completion)
def complete(target: Completion) -> Asks[None]:
    """Signal a completion: one waiter may go on."""
    yield (_complete, target)


@effect(Completion)
def wait_for(target: Completion) -> Asks[None]:
    """Wait until a completion is signalled, and take the signal."""
    yield (_wait_for, target)


@effect(Completion)
def wait_for_killable(target: Completion) -> Asks[bool]:
    """The same, but the wait ends when the process is killed (`wait_event_killable`); False then."""
    answer: bool = yield (_wait_for_killable, target)
    return answer


@operation(touches=writes, needs=lambda signals: signals > 0, waits=True, orders=True)
def _wait_for_killable(engine: Engine, thread: Thread, request: Request) -> Any:
    if thread.killed and not request[1].value:
        return False
    return WAIT if _wait_for(engine, thread, request) is WAIT else True


@effect(Completion, int)
def wait_for_timeout(target: Completion, timeout: int) -> Asks[bool]:
    """Wait for a completion, at most `timeout` milliseconds of simulated time; False if they are over."""
    answer: bool = yield (_wait_for_timeout, target, timeout)
    return answer


@operation(touches=writes, needs=lambda signals: signals > 0, timed=True, orders=True)
def _wait_for_timeout(engine: Engine, thread: Thread, request: Request) -> Any:
    _, target, timeout = request
    if target.value:
        thread.deadline = None
        _wait_for(engine, thread, request)
        return True
    if thread.deadline is None:
        thread.deadline = engine.clock + timeout
    if engine.clock < thread.deadline:
        return WAIT
    thread.deadline = None
    return False


@operation(touches=writes, orders=True)
def _complete(engine: Engine, thread: Thread, request: Request) -> None:
    target = request[1]
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, target.value, target.value + 1))
    target.value += 1


@operation(touches=writes, needs=lambda signals: signals > 0, waits=True, orders=True)
def _wait_for(engine: Engine, thread: Thread, request: Request) -> Any:
    target = request[1]
    if not target.value:
        return WAIT
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, target.value, target.value - 1))
    target.value -= 1
    return None


@effect(Count, int)
def wait_until_zero(target: Count, timeout: int) -> Asks[bool]:
    """Wait until a count is zero, at most `timeout` milliseconds of simulated time; False if they are over."""
    answer: bool = yield (_wait_until_zero, target, timeout)
    return answer


@operation(touches=writes, needs=lambda value: value == 0, waits=True, timed=True, orders=True)
def _wait_until_zero(engine: Engine, thread: Thread, request: Request) -> Any:
    _, target, timeout = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if thread.deadline is None:
        thread.deadline = engine.clock + timeout
    if target.value and engine.clock < thread.deadline:
        return WAIT
    thread.deadline = None
    return target.value == 0


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
