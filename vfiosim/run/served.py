"""What each request for a file of /dev and /sys comes to where a program has them in its mount namespace.

A character device cannot be opened there. So `stat` is told of one; whoever opens it is shown a plain file, another one each time,
for /proc says in which call a thread is; and whoever asks for the status of what is open is held until it is that of the device.
What is opened to write into /sys is a file of its own, too, for each write has an errno.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from ..kernel import Unsupported
from ..kernel.fs.file import O_ACCMODE, O_PATH, File
from ..kernel.fs.read_write import DEFAULT_POLLMASK
from . import fuse
from .files import LARGE, SERVED
from .filter import CLOSES, Abi
from .fuse import FileRequest, FileRequests
from .memory import ProgramMemory
from .outcomes import Made
from .programs import ENDING, HostProcess, image
from .status import STATX_SIZE, of_node
from .stopped import Stopping, call_of
from .traps import Traps
from .tree import is_ours

_FLAGS_AT: Final = {"open": 1, "openat": 2}
_ANSWER_AT: Final = {"stat": 1, "lstat": 1, "fstat": 1, "newfstatat": 2, "statx": 4}
_IO_URING: Final = "426"  # io_uring_enter, on every processor
_ONCE: Final = SERVED + (1 << 33)  # the first number of what is opened once
_DEVICES: Final = "/dev/vfio/devices/"
_MAPPED: Final = (_DEVICES, "/dev/iommu")  # of which parts can be mapped
_DEVICE: Final = "vfio device"  # what the kernel calls such a file, also where a request has made it
_CHANGES: Final = (4, 6, 8, 9, 10, 11, 12, 13, 45)  # modes, links, folders, names: that is the machine's alone
_ERRNOS: Final = dict.fromkeys(_CHANGES, errno.EPERM) | {fuse.CREATE: errno.EACCES, fuse.IOCTL: errno.ENOTTY}


@dataclass
class ServedFile:
    """What has a number with the kernel.

    `flags`: of the call that opens it, and it alone; -1 if it is there for all. `file`: what is open; `pages`: its mapped memory.
    """

    path: str
    flags: int = -1
    file: File | None = None
    pages: int = -1


class Served:
    """Answers requests; `caller` finds the process of a thread, once all that was before this is done."""

    def __init__(self, traps: Traps, abi: Abi, caller: Callable[..., HostProcess]) -> None:
        self.traps, self.tree, self.abi, self.caller = traps, traps.tree, abi, caller
        self.nodes = {1: ServedFile("")}
        traps.fill_served = self._fill
        self.requests: FileRequests  # where they arrive
        self.answered: Callable[[], None] = lambda: None  # what is to be done when the last answer was given
        self._numbers: dict[str, int] = {"": 1}
        self._found: set[str] = set()  # paths, of which the kernel knows where they lead
        self._once = count(_ONCE)
        self._pollers: dict[
            File, int
        ] = {}  # who waits until more can be read, by the number that the kernel has for it
        self._does: dict[int, Callable[[FileRequest], bytes | Made]] = {
            fuse.LOOKUP: self._lookup, fuse.GETATTR: self._attributes, fuse.READLINK: self._link, fuse.OPEN: self._open,
            fuse.READ: self._read, fuse.WRITE: self._write, fuse.FLUSH: self._flush, fuse.RELEASE: self._release,
            fuse.READDIR: self._folder, fuse.POLL: self._poll,
            fuse.OPENDIR: lambda request: fuse.opened(0), fuse.RELEASEDIR: lambda request: b"",
            fuse.STATFS: lambda request: bytes(80), fuse.FORGET: lambda request: self._forget(request.node),
            fuse.FORGET_MANY: self._forget_many, fuse.INTERRUPT: lambda request: b"",
        }  # fmt: skip

    def comes_to(self, request: FileRequest) -> bytes | Made:
        """The answer to a request, or the call that has to end before. Raises OSError."""
        self.answered = lambda: None
        if request.kind not in self._does:
            raise OSError(_ERRNOS.get(request.kind, errno.ENOSYS), "")
        return self._does[request.kind](request)

    def close(self) -> None:
        """Nothing is asked any more."""
        for node in self.nodes.values():
            if node.pages >= 0:
                os.close(node.pages)
        self.nodes.clear()

    # ---- names

    def _lookup(self, request: FileRequest) -> bytes | Made:
        path = f"{self.nodes[request.node].path}/{os.fsdecode(request.body[:-1])}"
        try:
            status = self.tree.status(path, follow=False)
        except FileNotFoundError:
            again = path in self._found  # when a name that was found is gone, the kernel looks once more
            self._found.discard(path)
            if again or not path.startswith("/dev/") or not is_ours(path):
                raise
            flags = self._opened_with(request.thread, path)
            if flags == -1:
                raise
            return self.traps.made_open(self.caller(request.thread), path, flags, lambda file: b"")  # it tells why
        self._found.add(path)
        leads_on = stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)
        flags = -1 if leads_on or not is_ours(path) else self._opened_with(request.thread, path)
        if flags == -1:
            number = self._numbers.setdefault(path, len(self._numbers) + 1)
            self.nodes[number] = ServedFile(path)
            return fuse.entry(number, status, _inode(path), not is_ours(path))
        number = next(self._once)
        self.nodes[number] = ServedFile(path, flags)
        return fuse.entry(number, _plain(status, path), number, False)

    def _opened_with(self, thread: int, path: str) -> int:
        """The flags with which a thread is about to open a file, where that is told to the machine; otherwise -1."""
        name, arguments = call_of(self.abi, thread)
        if name == "openat2":
            flags = int.from_bytes(ProgramMemory(thread).read(arguments[2], 8), "little")
        elif name == "creat":
            flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
        elif name in _FLAGS_AT:
            flags = arguments[_FLAGS_AT[name]] & 0xFFFFFFFF
        else:
            return -1
        told = path.startswith("/dev/") or flags & O_ACCMODE
        return flags if told and not flags & O_PATH else -1

    def _attributes(self, request: FileRequest) -> bytes:
        node = self.nodes[request.node]
        if node.file is not None and not node.path:
            return fuse.attributes(self._made(node), request.node, False)
        if node.file is not None and node.file.cdev is not None:  # it may be gone from /dev, and is open
            status = self.tree.status_of_node(node.path, node.file.cdev.mode)
            with suppress(OSError):
                self._show_device(request.thread, node.path, status)
            return fuse.attributes(_plain(status, node.path), request.node, False)
        status = self.tree.status(node.path, follow=False)
        if node.flags == -1:
            return fuse.attributes(status, _inode(node.path), not is_ours(node.path))
        return fuse.attributes(_plain(status, node.path), request.node, False)

    def _show_device(self, thread: int, path: str, status: os.stat_result) -> None:
        """Let a thread that asks for the status of an open node see that of the device. Raises OSError."""
        name, arguments = call_of(self.abi, thread)
        if name not in _ANSWER_AT:
            return
        stopping, memory, at = Stopping(thread), ProgramMemory(thread), arguments[_ANSWER_AT[name]]
        size = STATX_SIZE if name == "statx" else struct.calcsize(self.abi.stat)

        def show() -> None:
            if stopping.stopped():
                with suppress(OSError):
                    told = memory.read(at, size)
                    memory.write(at, of_node(self.abi, name, told, _inode(path), status.st_mode, status.st_rdev))
                stopping.resume()

        self.answered = show

    def _link(self, request: FileRequest) -> bytes:
        return os.fsencode(os.readlink(self.tree.root + self.nodes[request.node].path))

    def _folder(self, request: FileRequest) -> bytes:
        _, first, room = request.numbers("QQI")
        place = self.tree.root + self.nodes[request.node].path
        names = sorted(os.listdir(place))
        return fuse.folder([(name, os.lstat(f"{place}/{name}").st_mode) for name in names], first, room)

    def _forget(self, *numbers: int) -> bytes:
        for number in numbers:
            if number in self.nodes:
                self._found.discard(self.nodes[number].path)
            if number >= _ONCE:
                self.nodes.pop(number, None)
        return b""

    def _forget_many(self, request: FileRequest) -> bytes:
        return self._forget(*(number for number, _ in struct.iter_unpack("<QQ", request.body[8:])))

    # ---- open files

    def _open(self, request: FileRequest) -> bytes | Made:
        node = self.nodes[request.node]
        if node.flags == -1:
            return fuse.opened(request.node, told=False)
        if node.file is not None:  # through /proc: no name is looked up again by which the two could be told apart
            raise Unsupported(f"opening {node.path} once more by a descriptor of it")
        place = self.tree.canonical(node.path)
        return self.traps.made_open(self.caller(request.thread), place, node.flags, partial(self._opened, request))

    def _opened(self, request: FileRequest, file: File) -> bytes:
        number, node = request.node, self.nodes[request.node]
        node.file = file
        self.traps.files.stand_for(file, number, request.thread)
        return self._begun(number, node, file)

    def _begun(self, number: int, node: ServedFile, file: File) -> bytes:
        if file.f_op.mmap is not None:
            node.pages = os.memfd_create(file.label, os.MFD_CLOEXEC)
            os.truncate(node.pages, LARGE)
        kept = file.f_op.name == _DEVICE and not self.requests.maps_direct
        return fuse.opened(number, kept, stream=file.f_op.stream and file.f_op.llseek is None)

    def make(self, file: File) -> int:
        """A descriptor for a file that a request has made: it is opened here, and has no path. Raises OSError."""
        number = next(self._once)
        node = self.nodes[number] = ServedFile("", file=file)

        def answer(request: FileRequest) -> bytes:
            named = request.kind == fuse.LOOKUP
            return fuse.entry(number, self._made(node), number, False) if named else self._begun(number, node, file)

        fd = self.requests.open_here(f"{file.f_op.name} {number}", answer)
        self.traps.files.stand_for(file, number)
        return fd

    def _made(self, node: ServedFile) -> os.stat_result:
        """The status of a file that a request has made."""
        numbers = list(os.stat(self.tree.root))
        numbers[stat.ST_MODE], numbers[stat.ST_NLINK] = 0o600, 1
        return _plain(os.stat_result(numbers), _DEVICES if node.file and node.file.f_op.mmap else "")

    def _poll(self, request: FileRequest) -> bytes:
        _, poller, flags = request.numbers("QQI")
        file = self.nodes[request.node].file
        if file is not None and flags & fuse.POLL_NOTIFY:
            self._pollers[file] = poller
        return struct.pack("<II", DEFAULT_POLLMASK if file is None else self.traps.programs.ready(file), 0)

    def show(self, ready: Callable[[File], int]) -> None:
        """Let those look again who wait until something can be read."""
        for file in [each for each in self._pollers if ready(each) & select.POLLIN]:
            self.requests.notify(self._pollers.pop(file))

    def _fill(self, file: File, place: int, data: bytes) -> None:
        """What is mapped of a file is this."""
        for node in self.nodes.values():
            if node.file is file and node.pages >= 0:
                os.pwrite(node.pages, data, place)

    def _read(self, request: FileRequest) -> bytes | Made:
        node = self.nodes[request.node]
        _, offset, size = request.numbers("QQI")
        if node.path.startswith("/sys/"):
            return self.tree.content(node.path)[offset : offset + size]
        if node.pages >= 0 and not self._asked_by_call(request):
            return os.pread(node.pages, size, offset)
        program, descriptor = self._descriptor(request)
        where = offset if node.pages >= 0 else None
        return Made(self.traps.start(program, "read", descriptor, size, where), bytes)

    def _write(self, request: FileRequest) -> bytes | Made:
        node = self.nodes[request.node]
        _, offset, size, how = request.numbers("QQII")
        data = request.body[40 : 40 + size]
        if node.pages >= 0 and (how & fuse.OF_PAGES or not self._asked_by_call(request)):
            return _written(os.pwrite(node.pages, data, offset))
        program, descriptor = self._descriptor(request)
        where = [offset] if node.pages >= 0 else []
        return Made(self.traps.start(program, "write", descriptor, data, *where), _written)

    def _asked_by_call(self, request: FileRequest) -> bool:
        """Is it a call that reads or writes registers, and no thread that has touched a page of them which is mapped?"""
        with suppress(OSError):  # it has gone, or is none: the kernel writes pages back by itself
            return self.requests.maps_direct and bool(self._descriptor(request))
        return False

    def _descriptor(self, request: FileRequest) -> tuple[HostProcess, int]:
        """Who reads or writes, and by which descriptor. Raises OSError where a thread does not do so by a call."""
        program = self.caller(request.thread)
        file = self.nodes[request.node].file
        name, arguments = call_of(self.abi, request.thread)
        numbers: Iterable[int] = arguments[:3]  # that of a write comes first, of a splice last
        if name == _IO_URING or Path(f"/proc/{request.thread}/comm").read_bytes().startswith(b"iou-"):
            numbers = program.numbers()  # the kernel has it from a queue
        for number in numbers if file is not None else ():
            if self.traps.programs.bring(program, number) is file:
                return program, number
        raise OSError(errno.EBADF, "")

    def _flush(self, request: FileRequest) -> bytes:
        """A thread has closed a descriptor: if by a call that closes, this is told."""
        file, thread, programs = self.nodes[request.node].file, request.thread, self.traps.programs
        with suppress(OSError):
            ours = os.path.exists(f"/proc/self/task/{thread}")  # a thread of this process, as `programs._fetched` has
            known = file is not None and not ours and image(thread) != ENDING
            call = name, arguments = call_of(self.abi, thread) if known else ("", [])
            if file is not None and name in CLOSES:
                within = any(each.thread == thread and each.call == call for each in programs.closing)
                program = self.caller(thread, not within)
                for number in _closed(program, file, name, arguments):
                    programs.closes(program, number, file, call)
        return b""

    def nobody_waits(self, request: FileRequest) -> None:
        """Whoever has asked was killed, so what he has opened will not be closed."""
        if request.kind == fuse.OPEN:
            self._release(request)

    def _release(self, request: FileRequest) -> bytes:
        node = self.nodes[request.node]
        if node.pages >= 0:
            os.close(node.pages)
        if node.file is not None:
            self.traps.files.let_go(node.file)
            self._pollers.pop(node.file, None)
        node.file, node.pages = None, -1
        return b""


def _closed(program: HostProcess, file: File, name: str, arguments: list[int]) -> list[int]:
    """The numbers that led to this file until a call closed them; it may go on to others."""
    first, last = (number & 0xFFFFFFFF for number in arguments[:2])
    if name != "close_range" or first == last:
        return [first if name.startswith("close") else last]
    held = [number for number, each in program.table.items() if each is file and first <= number <= last]
    return [number for number in held if program.key(number) is None]


def _written(size: int) -> bytes:
    return struct.pack("<II", size, 0)


def _inode(path: str) -> int:
    return SERVED + zlib.crc32(path.encode(errors="surrogateescape"))


def _plain(status: os.stat_result, path: str) -> os.stat_result:
    """The same of a plain file, which is large where regions of a device are mapped."""
    numbers: list[Any] = list(status)
    numbers[stat.ST_MODE] = stat.S_IFREG | stat.S_IMODE(status.st_mode)
    numbers[stat.ST_SIZE] = LARGE if path.startswith(_MAPPED) else status.st_size
    return os.stat_result(numbers)
