"""A program, as a student holds it: open, ioctl, close, with numbers and buffers as with a real kernel."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from ctypes import Array, Structure
from typing import TYPE_CHECKING, Any

from .engine import Thread
from .kernel import Unsupported
from .kernel.fs.file import O_RDWR
from .kernel.fs.shmem import memfd_create
from .kernel.fs.syscalls import do_sys_openat2, open_plain, sys_close, sys_dup, sys_ioctl
from .kernel.mm import MmStruct
from .kernel.task import Task, copy_files, do_exit, system_call
from .uapi import request_name

if TYPE_CHECKING:
    from .machine import Machine

Buffer = bytearray | memoryview | Structure | Array[Any]


class Blocked(Exception):
    """A call cannot go on until somebody else does something. It is not lost: `call` goes on when it can."""

    def __init__(self, call: Call) -> None:
        super().__init__(f"{call} cannot go on: {call.thread.why_blocked()}")
        self.call = call


class Call:
    """A system call that has been started.

    `state` is "ready" (can go on), "blocked", "done" or "oops"; `result` what it returned, `error` why it failed.
    """

    def __init__(self, process: Process, name: str, shown: str, thread: Thread, argument: int | None) -> None:
        self.process = process
        self.name = name
        self.shown = shown
        self.thread = thread
        self._argument = argument  # where the buffer lies while the call runs

    @property
    def state(self) -> str:
        """Where it stands."""
        return self.thread.state

    @property
    def result(self) -> Any:
        """What the call returned; None while it runs or if it failed."""
        return self.thread.result

    @property
    def error(self) -> BaseException | None:
        """Why it failed: a KernelError with the errno, a KernelOops, or None."""
        return self.thread.error

    @property
    def waits_for(self) -> str:
        """What a blocked call waits for, and who holds it; "" if it does not wait."""
        return self.thread.why_blocked() if self.state == "blocked" else ""

    def step(self) -> bool:
        """Do one effect. False if the call has ended or must wait."""
        moved = self.process.machine.engine.step(self.thread)
        self.process.machine.finish_calls()
        return moved

    def run(self) -> Call:
        """Go on until the call ends or must wait, then let those run that it woke."""
        engine = self.process.machine.engine
        engine.run(self.thread)
        engine.settle()
        self.process.machine.finish_calls()
        return self

    def value(self) -> Any:
        """The result; raises what the call failed with, or Blocked."""
        if self.thread.error is not None:
            raise self.thread.error
        if not self.thread.ended:
            raise Blocked(self)
        return self.thread.result

    def finish(self) -> None:
        """Once the call has ended, its buffer is no longer part of the process's memory."""
        if self.thread.ended and self._argument is not None:
            self.process.task.mm.forget(self._argument)
            self._argument = None

    def __str__(self) -> str:
        return f"{self.process.name}: {self.shown}"

    __repr__ = __str__


class Memory:
    """The memory of a program. Addresses and lengths are in bytes; OSError(EFAULT) where an address does not allow it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._mm: MmStruct = process.task.mm

    def map(self, length: int, data: bytes = b"", prot: int = 3, address: int | None = None) -> int:
        """Make `length` bytes accessible (1 read, 2 write), beginning with `data`; the answer is their address."""
        self._note("map", length, data, prot, address)
        return self._mm.map(length, data, prot, address)

    def unmap(self, address: int, length: int) -> None:
        """Take every mapping in this range away."""
        self._note("unmap", address, length)
        self._mm.unmap(address, length)

    def protect(self, address: int, length: int, prot: int) -> None:
        """Change what may be done in this range (1 read, 2 write); ENOMEM where a part of it is not mapped."""
        self._note("protect", address, length, prot)
        self._mm.protect(address, length, prot)

    def read(self, address: int, size: int) -> bytes:
        """The bytes at an address."""
        return self._mm.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Change bytes at an address."""
        self._note("write", address, data)
        self._mm.write(address, data)

    def _note(self, what: str, *details: object) -> None:
        self._process.machine.note("memory", self._process.name, what, details)


class Process:
    """A program. File descriptors are small numbers; the first one is 3, for 0, 1 and 2 are taken.

    Every call raises KernelError (an OSError with the errno, the check that refused and one sentence why) where the kernel
    refuses, Blocked where it would wait for ever, and Unsupported where the model does not know the kernel's answer.
    """

    def __init__(self, machine: Machine, name: str, task: Task) -> None:
        self.machine = machine
        self.name = name
        self.task = task

    @property
    def memory(self) -> Memory:
        """Its address space, to look at and to change as the program itself could."""
        return Memory(self)

    def open(self, path: str, flags: int = O_RDWR) -> int:
        """Open a path, most often one in /dev; the answer is the lowest free descriptor."""
        return int(self._call("open", path, flags))

    def close(self, fd: int) -> int:
        """Give a descriptor back; the file lives on while anybody else holds it."""
        return int(self._call("close", fd))

    def dup(self, fd: int) -> int:
        """A second descriptor for the same open file."""
        return int(self._call("dup", fd))

    def ioctl(self, fd: int, request: int, argument: int | Buffer = 0) -> int:
        """Send a request. `argument` is a number, an address in `memory`, or a writable buffer that is changed in place."""
        return int(self._call("ioctl", fd, request, argument))

    def mmap(
        self, length: int, prot: int = 3, fd: int | None = None, offset: int = 0, address: int | None = None
    ) -> int:
        """Map `length` bytes of fresh memory (1 readable, 2 writable); the answer is their address."""
        if fd is not None:
            raise Unsupported("mmap of a file")
        return self.memory.map(length, prot=prot, address=address)

    def munmap(self, address: int, length: int) -> int:
        """Unmap every page between `address` and `address + length`."""
        self.memory.unmap(address, length)
        return 0

    def mprotect(self, address: int, length: int, prot: int) -> int:
        """Change what may be done with the memory between `address` and `address + length` (1 read, 2 write)."""
        self.memory.protect(address, length, prot)
        return 0

    def status(self) -> dict[str, int]:
        """What /proc/self/status tells of locked and pinned memory, in kB."""
        mm = self.task.mm
        return {"VmLck": mm.locked_vm.value * 4, "VmPin": mm.pinned_vm.value * 4 % 2**64}

    def plain(self, name: str) -> int:
        """A descriptor of a file that VFIO knows nothing of: "eventfd", "memfd", "pipe", "socket", "file"."""
        return int(self._call("plain", name))

    def eventfd(self) -> int:
        """A descriptor of an eventfd."""
        return self.plain("eventfd")

    def memfd(self, size: int = 0) -> int:
        """A descriptor of a memory file of `size` bytes."""
        return int(self._call("memfd", size))

    def tmpfile(self) -> int:
        """A descriptor of an ordinary file."""
        return self.plain("file")

    def pipe(self) -> tuple[int, int]:
        """The two ends of a pipe."""
        return self.plain("pipe"), self.plain("pipe")

    def socketpair(self) -> tuple[int, int]:
        """Two connected sockets."""
        return self.plain("socket"), self.plain("socket")

    def fork(self, name: str) -> Process:
        """A child that shares every open file."""
        child = self.machine.new_process(name, self.task)
        self.machine.note("fork", self.name, name)
        self._call("fork", child.task)
        return child

    def exit(self) -> None:
        """End the process; all its descriptors are closed."""
        self._call("exit")

    def kill(self) -> None:
        """End the process from outside (SIGKILL), as `exit`."""
        self._call("exit")

    def start(self, name: str, *arguments: Any, run: bool = True) -> Call:
        """Start a call ("open", "close", "dup", "ioctl", "exit") that may have to wait, and go on with other things.

        With `run=False` nothing happens yet: `step` and `run` of the answer move it.
        """
        where = None
        passed = arguments
        if name == "ioctl" and len(arguments) == 3 and not isinstance(arguments[2], int):
            where = self.task.mm.map_buffer(arguments[2])
            passed = (*arguments[:2], where)
            self.machine.note("call", self.name, name, (*arguments[:2], bytes(arguments[2])))
        elif name != "fork":
            self.machine.note("call", self.name, name, arguments)
        body = self._body(name, passed)
        shown = f"{name}({', '.join(_shown(name, n, argument) for n, argument in enumerate(arguments))})"
        label = f"{self.name}:{self.machine.engine.number(f'call of {self.name}')}"
        thread = self.machine.engine.spawn(system_call(body), label, self.task.mm, self.task)
        thread.manual = not run
        call = Call(self, name, shown, thread, where)
        self.machine.pending.append(call)
        if self.machine.engine.journal is not None:
            self.machine.calls.append(call)
        return call.run() if run else call

    def _call(self, name: str, *arguments: Any) -> Any:
        return self.start(name, *arguments).value()

    def _body(self, name: str, arguments: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        if not self.task.alive.value:
            raise ValueError(f"the process {self.name!r} has ended")
        calls: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "open": lambda path, flags=O_RDWR: do_sys_openat2(self.machine.built.devtmpfs, path, flags),
            "close": sys_close,
            "dup": sys_dup,
            "ioctl": lambda fd, request, argument=0: sys_ioctl(fd, request, argument),
            "plain": open_plain,
            "memfd": memfd_create,
            "fork": lambda child: copy_files(self.task, child),
            "exit": lambda: do_exit(self.task),
        }
        if name not in calls:
            raise ValueError(f"there is no call {name!r}; there are {', '.join(calls)}")
        return calls[name](*arguments)


def _shown(call: str, index: int, argument: object) -> str:
    """An argument as a reader wants to see it."""
    if isinstance(argument, int) and (call, index) == ("ioctl", 1):
        return request_name(argument)
    if isinstance(argument, (bytearray, memoryview)):
        return f"{len(argument)} bytes"
    return hex(argument) if isinstance(argument, int) and argument > 4096 else repr(argument)
