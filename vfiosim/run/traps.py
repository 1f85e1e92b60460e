"""What each trapped system call of a program comes to: a call of the simulated kernel, an answer, or none of our business."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from ..kernel import Unsupported
from ..kernel.fs.file import O_ACCMODE, O_PATH, File
from ..kernel.variants import Variant
from ..machine import Call, Machine
from .descriptors import descriptors_in, made_by, makes_descriptors, name_of, renumbered
from .files import HostFiles, key_of, served
from .filter import Abi
from .given import Given, open_flags
from .outcomes import GO_ON, Give, GoOn, Made, Outcome
from .programs import HostProcess, HostProcesses
from .status import stat_bytes, statx_bytes
from .tree import Tree, is_ours

_AT_FDCWD, _AT_EMPTY_PATH, _AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x100
_MAKES: Final = os.O_CREAT | os.O_TRUNC | os.O_EXCL
_OPEN_FILE: Final = re.compile(r"(?:/proc/(self|thread-self|\d+)|/dev)/fd/(\d+)")
_IOVEC: Final = struct.Struct("<QQ")


def signed(number: int, bits: int = 32) -> int:
    """An argument as C's int sees it."""
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number


class Traps:
    """One method for each trapped call, by its name; each is given the program and the arguments.

    Raises OSError where the call fails. `start` begins a call of the machine.
    """

    def __init__(
        self,
        machine: Machine,
        programs: HostProcesses,
        files: HostFiles,
        tree: Tree,
        abi: Abi,
        start: Callable[..., Call],
    ) -> None:
        self.machine, self.programs, self.files, self.tree, self.abi, self.start = (
            machine, programs, files, tree, abi, start,
        )  # fmt: skip
        self.variant: Variant = machine.variant
        self.nodes: dict[File, str] = {}  # the paths of open nodes
        self.fill_served: Callable[[File, int, bytes], None] = lambda file, place, data: (
            None
        )  # as `HostProcess.fill` does

    # ---- requests, reads and writes

    def ioctl(self, program: HostProcess, fd: int, request: int, argument: int, *_: int) -> Outcome:
        fd, request = signed(fd), request & 0xFFFFFFFF
        file = self.programs.bring(program, fd)
        if file is None:
            return GO_ON
        kind = file.f_op.name
        try:
            for number in descriptors_in(self.variant, kind, request, program.memory, argument):
                self.programs.bring(program, number)
        except OSError:
            pass  # the kernel will see it, too
        if makes_descriptors(self.variant, kind, request):
            self._numbers_as_in_the_host(program)
        given = Given(self.variant, kind, request, program.memory, argument)
        call = self.start(program, "ioctl", fd, request, argument)
        shown = f"ioctl({fd}, {name_of(self.variant, kind, request)}, {given})"
        about = self.variant, kind, request, program.memory, argument
        return Made(
            call,
            shown=shown,
            changed=given.changed,
            renumber=partial(renumbered, *about),
            numbers=partial(made_by, *about),
        )

    def pread64(self, program: HostProcess, fd: int, address: int, size: int, offset: int | None, *_: int) -> Outcome:
        if self._ours(program, fd) is None:
            return GO_ON
        return Made(self.start(program, "read", signed(fd), size, _place(offset), address), len)

    def pwrite64(self, program: HostProcess, fd: int, address: int, size: int, offset: int | None, *_: int) -> Outcome:
        if self._ours(program, fd) is None:
            return GO_ON
        data = program.memory.read(address, size) if offset is None else bytes(size)
        return Made(
            self.start(program, "write", signed(fd), data, *([] if offset is None else [_place(offset), address]))
        )

    def preadv(self, program: HostProcess, fd: int, parts: int, count: int, offset: int | None, *_: int) -> Outcome:
        if self._ours(program, fd) is None:
            return GO_ON
        places = list(_parts(program, parts, count))
        call = self.start(program, "read", signed(fd), sum(length for _, length in places), _place(offset))
        return Made(call, partial(_scatter, program, places))

    def pwritev(self, program: HostProcess, fd: int, parts: int, count: int, offset: int | None, *_: int) -> Outcome:
        if self._ours(program, fd) is None:
            return GO_ON
        data = b"".join(program.memory.read(*part) for part in _parts(program, parts, count))
        return Made(self.start(program, "write", signed(fd), data, *([] if offset is None else [_place(offset)])))

    preadv2, pwritev2 = preadv, pwritev

    def read(self, program: HostProcess, fd: int, address: int, size: int, *_: int) -> Outcome:
        return self.pread64(program, fd, address, size, None)

    def write(self, program: HostProcess, fd: int, address: int, size: int, *_: int) -> Outcome:
        return self.pwrite64(program, fd, address, size, None)

    def readv(self, program: HostProcess, fd: int, parts: int, count: int, *_: int) -> Outcome:
        return self.preadv(program, fd, parts, count, None)

    def writev(self, program: HostProcess, fd: int, parts: int, count: int, *_: int) -> Outcome:
        return self.pwritev(program, fd, parts, count, None)

    def lseek(self, program: HostProcess, fd: int, offset: int, whence: int, *_: int) -> Outcome:
        if self._ours(program, fd) is None:
            return GO_ON
        return Made(self.start(program, "lseek", signed(fd), signed(offset, 64), signed(whence)))

    def mmap(self, program: HostProcess, _: int, length: int, prot: int, flags: int, fd: int, offset: int) -> Outcome:
        file = self._ours(program, fd)
        if file is None:
            return GO_ON

        def shown(where: int) -> GoOn:
            """Registers are a file as large as can be; memory of the kernel is copied into the real file, once."""
            real = f"/proc/{program.pid}/fd/{signed(fd)}"
            if key is not None and served(key) and file.f_op.name != "vfio device":
                self.fill_served(file, offset, program.process.memory.read(where, length))
            elif key is not None and not served(key) and os.stat(real).st_size < offset + length:
                program.fill(signed(fd), offset, program.process.memory.read(where, length))
            return GO_ON

        key = program.key(signed(fd))
        if key is not None and served(key):
            self.programs.serve_registers()
        call = self.start(program, "mmap", length, prot & 7, flags & 3, signed(fd), offset, None)
        return Made(call, shown)

    def io_uring_setup(self, *_: object) -> Outcome:
        raise Unsupported("a ring of requests, which are not seen where paths are redirected,")

    def _ours(self, program: HostProcess, fd: int) -> File | None:
        return self.programs.bring(program, signed(fd)) if len(self.files) else None

    def _numbers_as_in_the_host(self, program: HostProcess) -> None:
        """Let a new descriptor have the number that it gets in the host, where others may still have what was closed here."""
        real = program.numbers()
        for number, file in list(program.table.items()):
            closed = number in program.foreign and number not in real
            if closed or (file in self.files and not self.files.arriving(file)):
                self.programs.bring(program, number)
        program.process.task.files.fd.give_out_beside(real)

    # ---- paths

    def _path(self, program: HostProcess, folder: int, address: int) -> str | None:
        """The path that a call names, from the root on, if the machine answers for it."""
        path = program.memory.text(address)
        if not path.startswith("/"):
            link = "cwd" if signed(folder) == _AT_FDCWD else f"fd/{signed(folder)}"
            path = posixpath.join(os.readlink(f"/proc/{program.pid}/{link}"), path) if path else ""
        path = (
            "/" + posixpath.normpath(path).lstrip("/") + "/" * path.endswith("/")
        )  # which leads to where a link leads
        if path.startswith(self.tree.root + "/"):
            path = path[len(self.tree.root) :]
        return path if is_ours(path) else None

    def _open_already(self, program: HostProcess, address: int) -> str | None:
        """The node that is open under the number which a path of /proc names: it is opened once more."""
        found = _OPEN_FILE.fullmatch(program.memory.text(address)) if self.nodes else None
        if found is None:
            return None
        who = found[1] if found[1] and found[1].isdigit() else str(program.pid)
        with suppress(OSError):
            file = self.files.at(key_of(f"/proc/{who}/fdinfo/{found[2]}"))
            return None if file is None else self.nodes.get(file)
        return None

    def openat(self, program: HostProcess, folder: int, address: int, flags: int, *_: int) -> Outcome:
        path = self._path(program, folder, address) or self._open_already(program, address)
        if path is None:
            return GO_ON
        flags, real = flags & 0xFFFFFFFF, self.tree.root + path
        if os.path.isdir(real) or (path.startswith("/sys/") and not flags & (O_ACCMODE | O_PATH)):
            if os.path.isfile(real):
                self.tree.content(path)
            return Give(os.open(real, flags & ~_MAKES | os.O_CLOEXEC), bool(flags & os.O_CLOEXEC))
        place = self.tree.canonical(path)
        if place.startswith("/sys/") and not os.path.exists(real):
            raise OSError(errno.EACCES if flags & os.O_CREAT else errno.ENOENT, "there is no such file")
        return self.made_open(program, place, flags)

    def made_open(
        self, program: HostProcess, place: str, flags: int, then: Callable[[File], bytes] | None = None
    ) -> Made:
        """The call that opens what the machine has at a place; `then` makes an answer of the file."""

        def opened(number: int) -> int | bytes:
            file = program.table[number]
            self.nodes[file] = place
            return number if then is None else then(file)

        self._numbers_as_in_the_host(program)
        call = self.start(program, "open", place, flags, at_once=then is not None)
        return Made(call, opened, f"open({place!r}, {open_flags(flags)})")

    def open(self, program: HostProcess, address: int, flags: int, *_: int) -> Outcome:
        return self.openat(program, _AT_FDCWD, address, flags)

    def creat(self, program: HostProcess, address: int, *_: int) -> Outcome:
        return self.openat(program, _AT_FDCWD, address, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)

    def openat2(self, program: HostProcess, folder: int, address: int, how: int, *_: int) -> Outcome:
        return self.openat(program, folder, address, int.from_bytes(program.memory.read(how, 8), "little"))

    def stat(self, program: HostProcess, address: int, buffer: int, *_: int) -> Outcome:
        return self.newfstatat(program, _AT_FDCWD, address, buffer, 0)

    def lstat(self, program: HostProcess, address: int, buffer: int, *_: int) -> Outcome:
        return self.newfstatat(program, _AT_FDCWD, address, buffer, _AT_SYMLINK_NOFOLLOW)

    def fstat(self, program: HostProcess, fd: int, buffer: int, *_: int) -> Outcome:
        status = self._status_of(program, fd)
        if status is None:
            return GO_ON
        program.memory.write(buffer, stat_bytes(self.abi, status))
        return 0

    def newfstatat(self, program: HostProcess, folder: int, address: int, buffer: int, flags: int, *_: int) -> Outcome:
        status = self._status(program, folder, address, flags)
        if status is None:
            return GO_ON
        program.memory.write(buffer, stat_bytes(self.abi, status))
        return 0

    def statx(
        self, program: HostProcess, folder: int, address: int, flags: int, _mask: int, buffer: int, *_: int
    ) -> Outcome:
        status = self._status(program, folder, address, flags)
        if status is None:
            return GO_ON
        program.memory.write(buffer, statx_bytes(status))
        return 0

    def _status(self, program: HostProcess, folder: int, address: int, flags: int) -> os.stat_result | None:
        if flags & _AT_EMPTY_PATH and (not address or program.memory.read(address, 1) == b"\0"):
            return self._status_of(program, folder)
        path = self._path(program, folder, address)
        return None if path is None else self.tree.status(path, not flags & _AT_SYMLINK_NOFOLLOW)

    def _status_of(self, program: HostProcess, fd: int) -> os.stat_result | None:
        """What a descriptor of an open node tells; None for all other files."""
        key = program.key(signed(fd)) if self.nodes else None
        file = None if key is None else self.files.at(key)
        if file is None or file.cdev is None:
            return None
        return self.tree.status_of_node(self.nodes[file], file.cdev.mode)

    def faccessat(self, program: HostProcess, folder: int, address: int, *_: int) -> Outcome:
        path = self._path(program, folder, address)
        if path is None:
            return GO_ON
        os.stat(self.tree.root + path)
        return 0

    faccessat2 = faccessat

    def access(self, program: HostProcess, address: int, *_: int) -> Outcome:
        return self.faccessat(program, _AT_FDCWD, address)

    def getxattr(self, program: HostProcess, address: int, *_: int) -> Outcome:
        if self._path(program, _AT_FDCWD, address) is None:
            return GO_ON
        raise OSError(errno.ENOTSUP, "files of the machine have no extended attributes")

    lgetxattr = listxattr = llistxattr = getxattr

    def readlinkat(self, program: HostProcess, folder: int, address: int, buffer: int, size: int, *_: int) -> Outcome:
        path = self._path(program, folder, address)
        if path is None:
            return GO_ON
        target = os.fsencode(os.readlink(self.tree.root + path))[: signed(size)]
        program.memory.write(buffer, target)
        return len(target)

    def readlink(self, program: HostProcess, address: int, buffer: int, size: int, *_: int) -> Outcome:
        return self.readlinkat(program, _AT_FDCWD, address, buffer, size)


def _place(offset: int | None) -> int | None:
    return None if offset is None else signed(offset, 64)


def _parts(program: HostProcess, address: int, count: int) -> Iterator[tuple[int, int]]:
    """The places that a call with several buffers names: address and length. Raises OSError(EINVAL)."""
    if count > 1024:
        raise OSError(errno.EINVAL, "more than 1024 parts")
    return iter(_IOVEC.iter_unpack(program.memory.read(address, _IOVEC.size * count)))


def _scatter(program: HostProcess, places: list[tuple[int, int]], data: bytes) -> int:
    """Spread what was read over several buffers."""
    done = 0
    for address, length in places:
        program.memory.write(address, data[done : done + length])
        done += length
    return len(data)
