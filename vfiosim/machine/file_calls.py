"""The calls of a program that need nothing but the kernel: files, memory, rights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..kernel.mmap import MAP_SHARED
from ..kernel.task import Task

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
