"""A program, as a student holds it: open, ioctl, close, with numbers and buffers as with a real kernel."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Array, Structure
from functools import partial
from typing import TYPE_CHECKING, Any

from ..engine import Lock, Thread
from ..engine.thread import _begin
from ..kernel.fs.file import O_RDWR
from ..kernel.fs.host import HostFile
from ..kernel.mm import MmStruct
from ..kernel.task import Task, system_call
from ..kernel.variants import Variant
from ..uapi import KernelError
from .events import Called, Killed, Mapped, MemoryChanged, Outside
from .file_calls import FileCalls
from .system_calls import SYSTEM_CALLS, check_arguments

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

    `state` is "ready" (can go on), "blocked", "done" or "oops" (also where a function of your own has failed); `result` what it
    returned, `error` why it failed. Where an event of a history makes it, `asked` is that event, and `passed` its arguments,
    with the buffer that the kernel writes into.
    """

    asked: Called | None = None
    passed: Sequence[Any] = ()

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
    def begun(self) -> bool:
        """Has it done anything yet?"""
        return self.thread.pending is None or self.thread.pending[0] is not _begin

    @property
    def result(self) -> Any:
        """What the call returned; None while it runs or if it failed."""
        return self.thread.result

    @property
    def error(self) -> BaseException | None:
        """Why it failed: a KernelError with the errno, a KernelOops, a PatchError, an OutsideError, or None."""
        return (
            self.thread.error
            if self.thread.outside_error is None or not self.thread.ended
            else self.thread.outside_error
        )

    @property
    def waits_for(self) -> str:
        """What a blocked call waits for, and who holds it; "" if it does not wait."""
        return self.thread.why_blocked() if self.state == "blocked" else ""

    @property
    def holder(self) -> str:
        """The thread that has the lock that a blocked call waits for; "" if it does not wait for a lock."""
        cell = self.thread.waits_for
        return cell.holder.label if isinstance(cell, Lock) and cell.holder is not None else ""

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
        if self.error is not None:
            raise self.error
        if not self.thread.ended:
            raise Blocked(self)
        return self.thread.result

    def finish(self) -> None:
        """Once the call has ended, its buffer is no longer part of the process's memory."""
        if self.thread.ended and self._argument is not None:
            self.process.task.mm.value.forget(self._argument)
            self._argument = None

    def __str__(self) -> str:
        return f"{self.process.name}: {self.shown}"

    def __repr__(self) -> str:
        return f"<Call {self}, {self.state}>"


class Memory:
    """The memory of a program. Addresses and lengths are in bytes; OSError(EFAULT) where an address does not allow it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._mm: MmStruct = process.task.mm.value

    def map(self, length: int, data: bytes = b"", prot: int = 3, address: int | None = None) -> int:
        """Make `length` bytes accessible (1 read, 2 write), beginning with `data`; the answer is their address."""
        self._process.refuse_if_ended()
        found = None
        try:
            found = self._mm.map(length, data, prot, address)
        finally:
            self._process.machine.note(Mapped(self._process.name, length, _frozen(data), prot, address, found))
        return found

    def unmap(self, address: int, length: int) -> None:
        """Take every mapping in this range away."""
        if self._mm.outside is not None:
            raise ValueError(f"the memory of {self._process.name!r} is kept outside of the machine; unmap it there")
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
        self._process.refuse_if_ended()
        self._process.machine.note(MemoryChanged(self._process.name, what, tuple(map(_frozen, details))))


class Process(FileCalls):
    """A program. File descriptors are small numbers; the first one is 3, for 0, 1 and 2 are taken.

    Every call raises KernelError (an OSError with the errno, the check that refused and one sentence why) where the kernel
    refuses, Blocked where it would wait for ever, and Unsupported where the model does not know the kernel's answer.
    """

    def __init__(self, machine: Machine, name: str, task: Task) -> None:
        self.machine = machine
        self.name = name
        self.task = task
        self.dying = False  # told to end, but some thread of it may be in the kernel still

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

    def import_fd(self, fd: int) -> int:
        """Take over an eventfd or a memfd of the computer that this runs on: a descriptor of the process that stands for it.

        Signals go to the real eventfd, a mapping asks the real memfd for its size. The file is held under a number of its own
        (`os.dup`), so `fd` may be closed. Raises OSError(EBADF), ValueError for another kind of file. Cannot be branched.
        """
        self.refuse_if_ended()
        host = HostFile(fd)
        self.machine.note(Outside(f"a file of the host was given to {self.name!r}"))
        try:
            return int(self._call("import_fd", host))
        except KernelError:
            host.close()
            raise

    def fork(self, name: str) -> Process:
        """A child that shares every open file."""
        call = self.begin_fork(name)
        call.value()
        return self.machine.processes[name]

    def begin_fork(self, name: str, run: bool = True) -> Call:
        """As `fork`, but it may have to wait; with `run=False` the child is there, and has nothing yet."""
        self.refuse_if_ended()
        return self.start("fork", self.machine.new_process(name, self.task).task, run=run)

    def exit(self) -> None:
        """End the process; all its descriptors are closed, as soon as none of its threads is in a call."""
        if not self.task.alive.value:
            return  # another process may have its name by now
        self.told_to_end()
        self.end_if_it_can()

    def told_to_end(self) -> None:
        """It ends as soon as it can; until then everything goes on."""
        self.dying = True
        self.machine.note(Killed(self.name))

    def kill(self) -> None:
        """End the process from outside (SIGKILL), as `exit`: a call that waits in the kernel is not torn away."""
        self.exit()

    def end_if_it_can(self) -> None:
        """The last thread of a process that was told to end takes its files with it."""
        busy = any(call.process is self for call in self.machine.pending)
        if self.dying and self.task.alive.value and not busy:
            self.start("exit").value()

    def start(self, name: str, *arguments: Any, run: bool = True, lane: str = "") -> Call:
        """Start a call ("open", "close", "dup", "ioctl", "write_file", …) that may have to wait, and go on with other things.

        With `run=False` nothing happens yet: `step` and `run` of the answer move it. `lane` names the thread of the process
        that makes the call; so are then named the objects that it makes.
        """
        self.refuse_if_ended()
        check_arguments(name, arguments)
        if name == "exec" and self.task.mm.value.outside is not None:
            raise ValueError(
                f"the memory of {self.name!r} is kept outside of the machine, so it cannot run another program"
            )
        where, passed, noted = None, arguments, tuple(map(_frozen, arguments))
        if name == "ioctl" and len(arguments) == 3 and not isinstance(arguments[2], int):
            where = self.task.mm.value.map_buffer(arguments[2])
            passed = (*arguments[:2], where)
            noted = (*arguments[:2], bytes(arguments[2]))
        code = SYSTEM_CALLS[name].code(self.machine.built, self.task, *passed)
        if name != "fork":
            self.machine.note(Called(self.name, name, noted, lane))
        variant = self.machine.variant
        shown = f"{name}({', '.join(_shown(variant, name, n, argument) for n, argument in enumerate(arguments))})"
        label = lane or f"{self.name}:{self.machine.engine.number(f'call of {self.name}')}"
        if run:
            thread = self.machine.engine.spawn(system_call(code), label, self.task.mm.value, self.task)
        else:  # it may never begin, and Python warns of a coroutine that never did
            code.close()
            again = partial(SYSTEM_CALLS[name].code, self.machine.built, self.task, *passed)
            thread = self.machine.engine.spawn(lambda: system_call(again()), label, self.task.mm.value, self.task)
        thread.manual, thread.prefix = not run, lane
        call = Call(self, name, shown, thread, where)
        self.machine.begin_call(call)
        return call.run() if run else call

    def refuse_if_ended(self) -> None:
        """Raises ValueError if the process has ended; another one may have its name by now."""
        if not self.task.alive.value:
            raise ValueError(f"the process {self.name!r} has ended")

    def _call(self, name: str, *arguments: Any) -> Any:
        return self.start(name, *arguments).value()

    def __repr__(self) -> str:
        fds = ", ".join(map(str, self.task.files.fd.slots))
        return f"<Process {self.name}: descriptors {fds}>" if self.task.alive.value else f"<Process {self.name}: ended>"


def _frozen(value: Any) -> Any:
    """The same, in bytes that nobody can change later."""
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def _shown(variant: Variant, call: str, index: int, argument: object) -> str:
    """An argument as a reader wants to see it."""
    if isinstance(argument, int) and (call, index) == ("ioctl", 1):
        return variant.request_name(argument)
    if isinstance(argument, (bytearray, memoryview)):
        return f"{len(argument)} bytes"
    return hex(argument) if isinstance(argument, int) and argument > 4096 else repr(argument)
