"""Threads: coroutines of the kernel that run, wait or have ended."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..uapi import KernelError
from .checks import OutsideError, UserMemory
from .effects import KernelOops, touched
from .faults import FaultPlan
from .functions import PatchError, Phase
from .objects import Cell, KObject
from .operations import Request, nothing, operation
from .source import Cursor
from .sync import Lock

if TYPE_CHECKING:
    from .engine import Engine

Code = Coroutine[Any, Any, Any]
Start = Code | Callable[[], Code]


@operation(touches=nothing, words=lambda *_: "in the kernel")
def _begin(engine: Engine, thread: Thread, _: None) -> None:
    """The effect before the first one: the thread enters the kernel."""


class Budget:
    """What functions of a student's own have used up in one call, see `gates.py`."""

    __slots__ = ("all", "effects", "since")

    def __init__(self) -> None:
        self.since = self.all = self.effects = 0


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
        self, engine: Engine, code: Start, label: str, memory: UserMemory | None, process: KObject | None
    ) -> None:
        super().__init__(engine, label)
        self.engine = engine
        self._make = code if callable(code) else None
        self.code: Code | None = None if callable(code) else code
        self.process = process
        self._memory = memory
        self.pending: Request | None = (_begin, None)
        self.state = "ready"  # ready, blocked, done, oops
        self.result: Any = None
        self.error: KernelError | KernelOops | PatchError | None = None
        self.outside_error: OutsideError | None = None  # of what was given to the machine from outside
        self.budget = Budget()
        self.locks: list[Lock] = []
        self.takers: dict[Lock, str] = {}  # the function that took a lock, where functions were put into the kernel
        self.inside: list[Lock] = []  # those that it would have if they had not been taken out of the kernel
        self.reads: dict[KObject, str] = {}  # whose attributes it has read since its last effect, if the engine notices
        self._task_work: list[Callable[[], Code]] = []  # to do before the return to user space, newest last
        self.deadline: int | None = None  # when a wait with a time limit gives up, on the machine's clock
        self.killed = False  # its process was told to end: a wait that can be killed ends
        self.manual = False  # moved by hand only, never by `settle`
        self.prefix = ""  # what the names of objects that it makes begin with
        self.late: list[tuple[Any, Any]] = []  # stores that nobody else can see as yet, where an order was taken out
        self.overtaken = False  # has a later store become visible before them?
        self.faults: FaultPlan | None = None  # what is to fail in it
        self.saying: tuple[Phase, str, tuple[object, ...]] | None = None
        self.phases: set[Phase] = set()  # all that it has come through, where anybody watches
        self.cursor = Cursor(self.code)

    def begin(self) -> Code:
        """Its code, made now if it was not needed up to now."""
        if self.code is None:
            assert self._make is not None
            self.code = self._make()
            self.cursor = Cursor(self.code)
        return self.code

    def add_task_work(self, work: Callable[[], Code]) -> None:
        """Put something off until the return to user space."""
        self._task_work.append(work)

    def take_task_work(self) -> list[Callable[[], Code]]:
        """What was put off, newest first; it has to be done now."""
        queued, self._task_work = self._task_work[::-1], []
        return queued

    def takes(self, lock: Lock) -> None:
        """A lock is its own from now on."""
        self.locks.append(lock)
        if self.engine.patches:
            self.takers[lock] = self.cursor.place().f_code.co_name

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
            if cell.holder is None:
                return f"{cell.path} is free again: {self.label} can go on"
            who = "itself" if cell.holder is self else cell.holder.label
            return f"{self.label} waits for {cell.path}, held by {who}"
        return f"{self.label} waits for {cell.path if isinstance(cell, Cell) else cell.oid}"
