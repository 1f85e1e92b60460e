"""The engine: threads made of coroutines, one effect at a time, and the journal of every change."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from inspect import iscoroutinefunction, unwrap
from itertools import repeat
from types import CoroutineType
from typing import Any, NamedTuple

from ..uapi import Errno, KernelError
from .checks import OutsideError, UserMemory
from .effects import WAIT, KernelOops, Request, touched
from .functions import FUNCTIONS, Phase, running
from .objects import Cell, KObject
from .source import Cursor, Line
from .sync import Lock

Code = Coroutine[Any, Any, Any]


def _begin(engine: Engine, thread: Thread, request: Request) -> None:
    """The effect before the first one: the thread enters the kernel."""


class Thread(KObject):
    """A thread of execution in the kernel.

    * born by `Engine.spawn` with a coroutine, for a system call or as a worker of the kernel;
    * its `pending` effect is what it asks for next; it is blocked while that effect must wait;
    * ends with a result, with an errno, or with an oops.

    Its own state is only the list of answers it got. `memory` is the address space that copies go to.
    """

    kind = "thread"
    root = "a running call"

    def __init__(
        self, engine: Engine, code: Code, label: str, memory: UserMemory | None, process: KObject | None
    ) -> None:
        super().__init__(engine, label)
        self.engine = engine
        self.code = code
        self.process = process
        self._memory = memory
        self.pending: Request | None = (_begin, None)
        self.state = "ready"  # ready, blocked, done, oops
        self.result: Any = None
        self.error: KernelError | KernelOops | None = None
        self.outside_error: OutsideError | None = None  # of what was given to the machine from outside
        self.locks: list[Lock] = []
        self.task_work: list[Callable[[], Code]] = []  # to do before the return to user space, newest last
        self.deadline: int | None = None  # when a wait with a time limit gives up, on the machine's clock
        self.manual = False  # moved by hand only, never by `settle`
        self.saying: tuple[Phase, str, tuple[object, ...]] | None = None
        self.cursor = Cursor(code)

    @property
    def memory(self) -> UserMemory:
        """The address space of the caller; a kernel worker has none."""
        if self._memory is None:
            raise RuntimeError(f"{self.label} is a kernel thread, it has no user memory")
        return self._memory

    @property
    def ended(self) -> bool:
        """Will it never ask for anything again?"""
        return self.pending is None

    @property
    def waits_for(self) -> Cell | KObject | None:
        """What a blocked thread waits for: a lock or a completion."""
        return touched(self.pending) if self.pending is not None and self.state == "blocked" else None

    def why_blocked(self) -> str:
        """In words, with the holder where there is one."""
        cell = self.waits_for
        if cell is None:
            return f"{self.label} does not wait"
        if isinstance(cell, Lock):
            who = "itself" if cell.holder is self else cell.holder.label if cell.holder else "nobody any more"
            return f"{self.label} waits for {cell.path}, held by {who}"
        return f"{self.label} waits for {cell.path if isinstance(cell, Cell) else cell.oid}"


class Change(NamedTuple):
    """One entry of the journal: `target` is a cell, an object, or a thread whose user memory was written.

    `key` is a slot, a holder with its reason, or an address; None for the whole target.
    """

    target: Cell | KObject
    key: Any
    old: Any
    new: Any


class Micro(NamedTuple):
    """One effect as it happened; the objects in it are only looked at for their constant names and values."""

    thread: Thread
    request: Request
    answer: Any
    code: Any
    offset: int
    start: int  # its first entry in the journal
    end: int  # and the one after its last
    saying: tuple[Phase, str, tuple[object, ...]] | None

    @property
    def line(self) -> Line:
        """The line of kernel code that asked for it."""
        return Line(self.code, self.offset)


class Engine:
    """All state of one machine, and the only thing that changes it."""

    def __init__(self, trace: bool = True) -> None:
        self.journal: list[tuple[Any, ...]] | None = [] if trace else None
        self.micro: list[tuple[Any, ...]] = []
        self.objects: dict[str, KObject] = {}
        self.threads: list[Thread] = []
        self.without: set[str] = set()  # names of checks that have been taken out
        self.patches: dict[str, Callable[..., Code]] = {}
        self.violations: list[str] = []
        self.clock = 0  # milliseconds; moves only by `sleep`
        self._numbers: dict[str, int] = {}

    def number(self, kind: str) -> int:
        """The next number for an object of this kind, from 1, never used again."""
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return self._numbers[kind]

    def unique(self, kind: str, label: str) -> str:
        """A label that no other object of this kind ever had: the one that is wished for, or "vfio0#2" for the second of them."""
        if not label:
            return str(self.number(kind))
        again = self.number(f"{kind} {label}")
        return label if again == 1 else f"{label}#{again}"

    def use_after_free(self, thread: Thread, target: Cell | KObject) -> None:
        """Note that freed memory was touched; the run goes on, as the kernel's would."""
        what = target.path if isinstance(target, Cell) else target.oid
        self.violations.append(f"use after free: {thread.label} touches {what}")

    # ---- threads

    def changes(self, start: int = 0, end: int | None = None) -> list[Change]:
        """Entries of the journal, in the order in which they happened."""
        return [Change(*entry) for entry in (self.journal or [])[start:end]]

    def spawn(
        self, code: Code, label: str = "", memory: UserMemory | None = None, process: KObject | None = None
    ) -> Thread:
        """A new thread that runs `code`; it stands before its first effect. Raises TypeError unless that is a coroutine."""
        if not isinstance(code, CoroutineType):
            raise TypeError(f"a thread runs a coroutine (call an `async def`), not {code!r}")
        thread = Thread(self, code, label, memory, process)
        self.threads.append(thread)
        return thread

    def step(self, thread: Thread) -> bool:
        """Perform the pending effect of a thread. False if it has ended or must wait."""
        return self._perform(thread, repeat(None, 1))

    def run(self, thread: Thread) -> None:
        """Perform effects of this thread until it ends or must wait."""
        self._perform(thread, repeat(None))

    def _perform(self, thread: Thread, turns: Iterable[None]) -> bool:  # noqa: C901  (one loop, and the fastest one)
        """The loop under everything: as many effects as there are turns. True if the thread could go on."""
        request = thread.pending
        if request is None:
            return False
        before, running.thread = running.thread, thread
        code, journal, micro, cursor = thread.code, self.journal, self.micro, thread.cursor
        send = code.send
        thread.state = "ready"
        start = 0
        try:
            for _ in turns:
                go_on: Callable[[Any], Any] = send
                if journal is not None:
                    start = len(journal)
                try:
                    answer = request[0](self, thread, request)
                except KernelError as error:
                    if error.where is None:
                        error.where, error.kernel = str(cursor.line()), cursor.kernel()
                    answer, go_on = error, code.throw
                if answer is WAIT:
                    thread.pending, thread.state = request, "blocked"
                    return False
                if journal is not None:
                    frame = cursor.place()
                    saying, thread.saying = thread.saying, None
                    micro.append((thread, request, answer, frame.f_code, frame.f_lasti, start, len(journal), saying))
                request = go_on(answer)
                if type(request) is not tuple:
                    raise TypeError(f"kernel code may only await effects, not {request!r}")
            thread.pending = request
            return True
        except StopIteration as stop:
            self._end(thread, stop.value, None)
        except KernelError as error:
            self._end(thread, None, error)
        except KernelOops as oops:
            self._oops(thread, oops)
        except BaseException:
            self._end(thread, None, None)
            raise
        finally:
            running.thread = before
        return False

    def settle(self) -> None:
        """Let every thread run that can, oldest first, until all have ended or must wait."""
        moved = True
        while moved:
            moved = False
            for thread in [t for t in self.threads if not t.manual]:
                was = thread.pending
                self.run(thread)
                moved = moved or thread.pending is not was

    def sleep(self, milliseconds: int) -> None:
        """Let simulated time pass, and those run whose time has come."""
        if milliseconds < 0:
            raise ValueError(f"time only moves forwards; {milliseconds} ms is negative")
        self.clock += milliseconds
        self.settle()

    @contextmanager
    def patched(self, **own: Callable[..., Code]) -> Iterator[None]:
        """Within the block, call these functions instead of the kernel functions of the same name, in this machine only."""
        for name, function in own.items():
            if name not in FUNCTIONS:
                raise ValueError(f"there is no kernel function named {name!r} to replace")
            if not iscoroutinefunction(unwrap(function)):
                raise TypeError(f"your {name} must be an `async def`, as every kernel function is")
        before = dict(self.patches)
        self.patches.update(own)
        try:
            yield
        finally:
            self.patches = before

    def _end(self, thread: Thread, result: Any, error: KernelError | None) -> None:
        thread.pending, thread.state = None, "done"
        thread.result, thread.error = result, error
        self.threads.remove(thread)

    def _oops(self, thread: Thread, oops: KernelOops) -> None:
        """The thread stops where it is: nothing is unwound, its locks stay locked."""
        self._end(thread, None, None)
        thread.state, thread.error = "oops", oops
        self.violations.append(f"oops: {oops}")


def failed(thread: Thread) -> Errno | None:
    """The errno that a thread ended with, or None."""
    return Errno(thread.error.errno) if isinstance(thread.error, KernelError) else None
