"""A program, as a student holds it: open, ioctl, close, with numbers and buffers as with a real kernel."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Array, Structure
from functools import partial
from typing import TYPE_CHECKING, Any

from ..engine import Phase, alloc, say, xa_store
from ..kernel.fs.file import O_RDWR, FilesStruct
from ..kernel.fs.host import HostFile
from ..kernel.mm import MmStruct
from ..kernel.mmap import MAP_ANONYMOUS, MAP_SHARED, can_be_unmapped
from ..kernel.outside import OutsideMemory, OutsideMm
from ..kernel.task import TaskStruct, UserStruct, begin_task, copy_process, open_standard_files, system_call
from ..kernel.variants import Variant
from ..uapi import KernelError
from .call import Call
from .events import Called, Killed, Outside
from .memory import Memory, frozen
from .system_calls import SYSTEM_CALLS, check_arguments, must_be

if TYPE_CHECKING:
    from .machine import Machine

NOFILE = 1024  # descriptors a process may have
Buffer = bytearray | memoryview | Structure | Array[Any]


class Process:
    """A program. File descriptors are small numbers; the first one is 3, for 0, 1 and 2 are taken.

    Every call raises KernelError (an OSError with the errno, the check that refused and one sentence why) where the kernel
    refuses, Blocked where it would wait for ever, and Unsupported where the model does not know the kernel's answer.
    """

    def __init__(self, machine: Machine, name: str, task: TaskStruct) -> None:
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

    def plain(self, name: str) -> int:
        """A descriptor of a file that VFIO knows nothing of: "eventfd", "memfd", "pipe", "socket", "file"."""
        return int(self._call("plain", name))

    def eventfd(self) -> int:
        """A descriptor of an eventfd."""
        return int(self._call("eventfd"))

    def read(self, fd: int, size: int) -> bytes:
        """Read up to `size` bytes."""
        return bytes(self._call("read", fd, size))

    def pread(self, fd: int, size: int, offset: int | None, *address: int) -> bytes:
        """As read, from `offset` on, of a device from `region << 40`; an address: the bytes go there in `memory`, too."""
        return bytes(self._call("read", fd, size, offset, *address))

    def write(self, fd: int, data: bytes) -> int:
        """Write bytes; the answer is how many."""
        return int(self._call("write", fd, data))

    def pwrite(self, fd: int, data: bytes, offset: int | None, *address: int) -> int:
        """Write bytes at `offset`; an address: they are taken from there in `memory`, as many as `data` has."""
        return int(self._call("write", fd, data, offset, *address))

    def lseek(self, fd: int, offset: int, whence: int = 0) -> int:
        """Where the next read or write begins: counted from the start (0), from where the file stands (1), from its end (2)."""
        return int(self._call("lseek", fd, offset, whence))

    def poll(self, fd: int, events: int = 1, timeout: int = 0) -> int:
        """Which of these events are there: 1 it can be read, 4 it can be written; waits for one, `timeout` milliseconds at most."""
        call = self.start("poll", fd, events, timeout)
        self.machine.sleep(max(timeout, 0) if call.state == "blocked" else 0)
        return int(call.value())

    def memfd(self, size: int = 0) -> int:
        """A descriptor of a memory file of `size` bytes."""
        return int(self._call("memfd", size))

    def tmpfile(self) -> int:
        """A descriptor of an ordinary file."""
        return self.plain("file")

    def pipe(self) -> tuple[int, int]:
        """The two ends of a pipe."""
        first = self.plain("pipe")
        try:
            return first, self.plain("pipe")
        except KernelError:
            self.close(first)
            raise

    def socketpair(self) -> tuple[int, int]:
        """Two connected sockets, over which open files can be passed on."""
        first, second = self._call("socketpair")
        return int(first), int(second)

    def sendmsg_fds(self, sock: int, fds: Sequence[int]) -> int:
        """Send open files over a socket (SCM_RIGHTS); until they are received the message holds them."""
        return int(self._call("sendmsg_fds", sock, tuple(fds)))

    def recvmsg_fds(self, sock: int) -> tuple[int, ...] | None:
        """Receive open files from a socket, under the lowest free numbers; waits for a message. None where none can come."""
        received = self._call("recvmsg_fds", sock)
        return None if received is None else tuple(received)

    def mmap(
        self,
        length: int,
        prot: int = 3,
        fd: int | None = None,
        offset: int = 0,
        address: int | None = None,
        flags: int = MAP_SHARED,
    ) -> int:
        """Map `length` bytes of fresh memory, or of a file (1 readable, 2 writable); the answer is their address.

        Fresh memory is private, unless MAP_ANONYMOUS (0x20) is among the flags, and MAP_SHARED.
        """
        if fd is None and not flags & MAP_ANONYMOUS:
            return self.memory.map(length, prot=prot, address=address)
        return int(self._call("mmap", length, prot, flags, -1 if fd is None else fd, offset, address))

    def munmap(self, address: int, length: int) -> int:
        """Unmap every page between `address` and `address + length`; a mapped file is held no longer."""
        if self.task.mm.value.files.slots or not can_be_unmapped(address, length):
            return int(self._call("munmap", address, length))
        self.memory.unmap(address, length)
        return 0

    def mprotect(self, address: int, length: int, prot: int) -> int:
        """Change what may be done with the memory between `address` and `address + length` (1 read, 2 write)."""
        self.memory.protect(address, length, prot)
        return 0

    def status(self) -> dict[str, int]:
        """What /proc/self/status tells of locked and pinned memory, in kB."""
        mm = self.task.mm.value
        return {"VmLck": mm.locked_vm.value * 4, "VmPin": mm.pinned_vm.value * 4 % 2**64}

    def setuid(self, uid: int) -> int:
        """Become another user; only user 0 can."""
        return int(self._call("setuid", uid))

    def capdrop(self, *names: str) -> int:
        """Give capabilities away."""
        return int(self._call("capset", names))

    def setrlimit(self, resource: int, soft: int, hard: int) -> int:
        """Set a limit: 7 RLIMIT_NOFILE, 8 RLIMIT_MEMLOCK."""
        return int(self._call("setrlimit", resource, soft, hard))

    def prlimit(self, process: str, resource: int, *limits: int) -> tuple[int, int]:
        """The soft and the hard limit of the process of this name ("": this one); two numbers set them."""
        soft, hard = self._call("prlimit", process, resource, *limits)
        return int(soft), int(hard)

    def exec(self) -> int:
        """Run another program: the memory is gone, and every file that was opened with O_CLOEXEC is closed."""
        return int(self._call("exec"))

    def write_file(self, path: str, data: bytes | str) -> int:
        """Write into a file of /sys, e.g. an address into a driver's `unbind`; the answer is how many bytes."""
        return int(self._call("write_file", path, data))

    def read_file(self, path: str) -> bytes:
        """What a file of /sys tells."""
        return bytes(self._call("read_file", path))

    def rmmod(self, name: str) -> int:
        """Unload a module (`delete_module`), "vfio-pci" or "vfio_pci"; waits until its driver has let go of every device."""
        return int(self._call("rmmod", name))

    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a directory."""
        return tuple(self._call("listdir", path))

    def readlink(self, path: str) -> str:
        """Where a link leads."""
        return str(self._call("readlink", path))

    def stat(self, path: str) -> int:
        """Kind and permissions of a file (`st_mode`)."""
        return int(self._call("stat", path))

    def fdinfo(self, fd: int) -> str:
        """What /proc/self/fdinfo tells about a descriptor."""
        return str(self._call("fdinfo", fd))

    def import_fd(self, fd: int) -> int:
        """Take over a file of the computer that this runs on: a descriptor of the process that stands for it. Cannot be branched.

        A real eventfd is signalled, a real memfd asked for its size; any other file is none that VFIO knows. It is held under a
        number of its own (`os.dup`), so `fd` may be closed. Raises OSError(EBADF), ValueError where the computer runs no Linux.
        """
        self.refuse_if_ended()
        host = HostFile(fd)
        self.machine.note(Outside, f"a file of the host was given to {self.name!r}")
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
        if any(call.thread.killed for call in self.machine.pending):
            self.machine.engine.settle()
            self.machine.finish_calls()
        self.end_if_it_can()

    def told_to_end(self) -> None:
        """It ends as soon as it can; until then everything goes on."""
        self.dying = True
        for call in self.machine.pending:
            call.thread.killed = call.thread.killed or call.process is self
        self.machine.note(Killed, self.name)

    def kill(self) -> None:
        """End the process from outside (SIGKILL), as `exit`: a call that waits in the kernel is not torn away."""
        self.exit()

    def end_if_it_can(self) -> None:
        """The last thread of a process that was told to end takes its files with it."""
        busy = any(call.process is self for call in self.machine.pending)
        if self.dying and self.task.alive.value and not busy:
            self.start("exit").value()

    def start(self, name: str, *arguments: Any, run: bool = True, thread: str = "") -> Call:
        """Start a call ("open", "close", "dup", "ioctl", "write_file", …) that may have to wait, and go on with other things.

        With `run=False` nothing happens yet: `step` and `run` of the answer move it. `thread` names the thread of the process
        that makes the call; so are then named the objects that it makes.
        """
        with self.machine.turn:
            return self._started(name, arguments, run, thread)

    def _started(self, name: str, arguments: tuple[Any, ...], run: bool, thread: str) -> Call:
        self.refuse_if_ended()
        check_arguments(name, arguments)
        must_be("name", "a thread", thread)
        if name == "exec" and self.task.mm.value.outside is not None:
            raise ValueError(
                f"the memory of {self.name!r} is kept outside of the machine, so it cannot run another program"
            )
        where, passed, noted = None, arguments, tuple(map(frozen, arguments))
        if name == "ioctl" and len(arguments) == 3 and not isinstance(arguments[2], int):
            where = self.task.mm.value.map_buffer(arguments[2])
            passed = (*arguments[:2], where)
            noted = (*arguments[:2], bytes(arguments[2]))
        code = SYSTEM_CALLS[name].code(self.machine.built, self.task, *passed)
        if name != "fork":
            self.machine.note(Called, self.name, name, noted, thread)
        variant = self.machine.variant
        shown = f"{name}({', '.join(_shown(variant, name, n, argument) for n, argument in enumerate(arguments))})"
        label = thread or f"{self.name}:{self.machine.engine.number(f'call of {self.name}')}"
        if run:
            made = self.machine.engine.spawn(system_call(code), label, self.task.mm.value, self.task)
        else:  # it may never begin, and Python warns of a coroutine that never did
            code.close()
            again = partial(SYSTEM_CALLS[name].code, self.machine.built, self.task, *passed)
            made = self.machine.engine.spawn(lambda: system_call(again()), label, self.task.mm.value, self.task)
        made.manual, made.prefix = not run, thread
        call = Call(self, name, shown, made, where)
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


def _shown(variant: Variant, call: str, index: int, argument: object) -> str:
    """An argument as a reader wants to see it."""
    if isinstance(argument, int) and (call, index) == ("ioctl", 1):
        return variant.request_name(argument)
    if isinstance(argument, (bytearray, memoryview)):
        return f"{len(argument)} bytes"
    return hex(argument) if isinstance(argument, int) and argument > 4096 else repr(argument)


async def new_task(
    name: str, parent: TaskStruct | None, caps: tuple[str, ...], root: UserStruct, memory: OutsideMemory | None
) -> TaskStruct:
    """The kernel's side of a new process."""
    say(Phase.ACQUIRE, f"A new process, {name}, with a descriptor table and memory of its own.")
    if parent is None:
        files = await alloc(FilesStruct, name, NOFILE)
        await open_standard_files(files)
        mm = await (alloc(MmStruct, name) if memory is None else alloc(OutsideMm, name, memory))
        task = await alloc(TaskStruct, name, files, mm, caps)
    else:
        task = await copy_process(parent, name)
    await begin_task(task, root, parent)
    await xa_store(root.tasks, name, task)
    return task
