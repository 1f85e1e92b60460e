"""The calls of a program that are about files, memory and rights; and what each call runs in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from .engine import load
from .kernel.af_unix import sys_socketpair, unix_stream_recvmsg, unix_stream_sendmsg
from .kernel.boot import Built
from .kernel.cred import do_prlimit, sys_capset, sys_setuid
from .kernel.fs.eventfd import do_eventfd
from .kernel.fs.file import O_RDWR
from .kernel.fs.read_write import sys_poll, sys_read, sys_write
from .kernel.fs.shmem import memfd_create
from .kernel.fs.syscalls import do_sys_openat2, open_plain, proc_fdinfo, sys_close, sys_dup, sys_ioctl
from .kernel.fs.sysfs import list_directory, mode_of, read_link, write_sysfs_file
from .kernel.mmap import MAP_SHARED, do_munmap, dup_mmap, ksys_mmap_pgoff
from .kernel.module import delete_module, module_name
from .kernel.task import Task, begin_new_exec, copy_files, do_exit

if TYPE_CHECKING:
    from .process import Memory


class FileCalls:
    """Calls of a process that need nothing but `_call`."""

    task: Task

    @property
    def memory(self) -> Memory:
        """Its address space, to look at and to change as the program itself could."""
        raise NotImplementedError

    def _call(self, name: str, *arguments: Any) -> Any:
        raise NotImplementedError

    def plain(self, name: str) -> int:
        """A descriptor of a file that VFIO knows nothing of: "eventfd", "memfd", "pipe", "socket", "file"."""
        return int(self._call("plain", name))

    def eventfd(self) -> int:
        """A descriptor of an eventfd."""
        return int(self._call("eventfd"))

    def read(self, fd: int, size: int) -> bytes:
        """Read up to `size` bytes."""
        return bytes(self._call("read", fd, size))

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes from `offset` on; of a device file, `region << 40` is where a region begins."""
        return bytes(self._call("read", fd, size, offset))

    def write(self, fd: int, data: bytes) -> int:
        """Write bytes; the answer is how many."""
        return int(self._call("write", fd, data))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Write bytes at `offset`."""
        return int(self._call("write", fd, data, offset))

    def poll(self, fd: int, events: int = 1, timeout: int = 0) -> int:
        """Which of these events are there: 1 it can be read, 4 it can be written."""
        return int(self._call("poll", fd, events, timeout))

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
        """Two connected sockets, over which open files can be passed on."""
        first, second = self._call("socketpair")
        return int(first), int(second)

    def sendmsg_fds(self, sock: int, fds: Sequence[int]) -> int:
        """Send open files over a socket (SCM_RIGHTS); until they are received the message holds them."""
        return int(self._call("sendmsg_fds", sock, tuple(fds)))

    def recvmsg_fds(self, sock: int) -> tuple[int, ...]:
        """Receive open files from a socket, under the lowest free numbers; waits for a message."""
        return tuple(self._call("recvmsg_fds", sock))

    def mmap(
        self,
        length: int,
        prot: int = 3,
        fd: int | None = None,
        offset: int = 0,
        address: int | None = None,
        flags: int = MAP_SHARED,
    ) -> int:
        """Map `length` bytes of fresh memory, or of a file (1 readable, 2 writable); the answer is their address."""
        if fd is None:
            return self.memory.map(length, prot=prot, address=address)
        return int(self._call("mmap", length, prot, flags, fd, offset, address))

    def munmap(self, address: int, length: int) -> int:
        """Unmap every page between `address` and `address + length`; a mapped file is held no longer."""
        if self.task.mm.value.files.slots:
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

    def exec(self) -> int:
        """Run another program: the memory is gone, and every file that was opened with O_CLOEXEC is closed."""
        return int(self._call("exec"))

    def write_file(self, path: str, data: bytes | str) -> int:
        """Write into a file of /sys, e.g. an address into a driver's `unbind`; the answer is how many bytes."""
        return int(self._call("write_file", path, data))

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


FD, NUMBER, PATH, DATA = ("a descriptor", int), ("a number", int), ("a path", str), ("bytes", (bytes, bytearray, str))
# What the arguments of each call are, as far as they have to be given; those behind them are checked by Python.
ARGUMENTS: dict[str, tuple[tuple[str, Any], ...]] = {
    "open": (PATH, NUMBER),
    "close": (FD,),
    "dup": (FD,),
    "ioctl": (FD, NUMBER),
    "mmap": (NUMBER, NUMBER, NUMBER, FD, NUMBER),
    "munmap": (NUMBER, NUMBER),
    "plain": (("a name", str),),
    "eventfd": (),
    "memfd": (NUMBER,),
    "read": (FD, NUMBER),
    "write": (FD, DATA),
    "poll": (FD, NUMBER, NUMBER),
    "socketpair": (),
    "sendmsg_fds": (FD,),
    "recvmsg_fds": (FD,),
    "write_file": (PATH, DATA),
    "listdir": (PATH,),
    "readlink": (PATH,),
    "stat": (PATH,),
    "fdinfo": (FD,),
    "rmmod": (("a name", str),),
    "setuid": (NUMBER,),
    "capset": (),
    "setrlimit": (NUMBER, NUMBER, NUMBER),
    "import_fd": (),
    "fork": (),
    "exec": (),
    "exit": (),
}


def check_arguments(name: str, arguments: tuple[Any, ...]) -> None:
    """Raises ValueError if there is no such call, TypeError for an argument of a wrong kind."""
    if name not in ARGUMENTS:
        raise ValueError(f"there is no call {name!r}; there are {', '.join(ARGUMENTS)}")
    for value, (words, kind) in zip(arguments, ARGUMENTS[name], strict=False):
        if not isinstance(value, kind):
            raise TypeError(f"{name} takes {words} here, not {value!r}")


def body(built: Built, task: Task, name: str, arguments: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
    """The kernel code that a call of this name runs; `check_arguments` comes first."""
    if name == "ioctl":  # most calls are
        fd, request, argument = arguments if len(arguments) == 3 else (*arguments, 0)
        return sys_ioctl(fd, request, argument)
    calls: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
        "open": lambda path, flags=O_RDWR: do_sys_openat2(built.devtmpfs, path, flags),
        "close": sys_close,
        "dup": sys_dup,
        "ioctl": lambda fd, request, argument=0: sys_ioctl(fd, request, argument),
        "mmap": ksys_mmap_pgoff,
        "munmap": do_munmap,
        "plain": open_plain,
        "eventfd": do_eventfd,
        "memfd": memfd_create,
        "import_fd": lambda host: do_eventfd(host) if host.kind == "eventfd" else memfd_create(0, host),
        "read": sys_read,
        "write": lambda fd, data, offset=None: sys_write(fd, _bytes(data), offset),
        "poll": sys_poll,
        "socketpair": sys_socketpair,
        "sendmsg_fds": unix_stream_sendmsg,
        "recvmsg_fds": unix_stream_recvmsg,
        "write_file": lambda path, data: write_sysfs_file(built.buses, path, _bytes(data)),
        "listdir": lambda path: list_directory(built.buses, built.devtmpfs, path),
        "readlink": lambda path: read_link(built.buses, path),
        "stat": lambda path: mode_of(built.buses, built.devtmpfs, path),
        "fdinfo": proc_fdinfo,
        "rmmod": lambda name: delete_module(built.buses, module_name(name)),
        "setuid": sys_setuid,
        "capset": sys_capset,
        "setrlimit": do_prlimit,
        "fork": lambda child: _fork(task, child),
        "exec": lambda: begin_new_exec(task),
        "exit": lambda: do_exit(task),
    }
    return calls[name](*arguments)


async def _fork(parent: Task, child: Task) -> None:
    await dup_mmap(await load(parent.mm), await load(child.mm))
    await copy_files(parent, child)


def _bytes(data: bytes | bytearray | str) -> bytes:
    """What a program writes, a text or bytes."""
    return data.encode() if isinstance(data, str) else bytes(data)
