"""How the kernel asks for files that are served here, and how it is told: the protocol of /dev/fuse (include/uapi/linux/fuse.h).

No library: all of them have a loop of their own, while here it has to be known before each call whether a file is gone already.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NamedTuple

LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 5, 14, 15, 16, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, CREATE = 25, 26, 27, 28, 29, 35
INTERRUPT, IOCTL, POLL, FORGET_MANY = 36, 39, 40, 42
_SILENT: Final = (FORGET, FORGET_MANY, INTERRUPT)  # whoever asks this waits for no answer
_VERSION: Final = (7, 39)
_TRUNCATES: Final = 1 << 3  # FUSE_ATOMIC_O_TRUNC: an open tells that it truncates
_EXTENDED, _DIRECT_MAPS = 1 << 30, 1 << 4  # FUSE_INIT_EXT; FUSE_DIRECT_IO_ALLOW_MMAP in the upper half of the flags
_DIRECT: Final = 1  # FOPEN_DIRECT_IO: each read and write is asked for
OF_PAGES: Final = 1  # FUSE_WRITE_CACHE: pages that are mapped are written back
_STREAM: Final = 1 << 4  # FOPEN_STREAM: it has no offsets
_NOT_FLUSHED: Final = 1 << 5  # FOPEN_NOFLUSH
POLL_NOTIFY: Final = 1  # FUSE_NOTIFY_POLL, and FUSE_POLL_SCHEDULE_NOTIFY
_TICK: Final = 0.01  # seconds between two looks whether a thread of ours has failed instead of asking
_ROOM: Final = 1 << 16  # bytes of one write
_UNANSWERED: Final = 0xFFFF  # closes that may be told before one is answered; by default an open overtakes the 13th
_FOREVER: Final = 1 << 32  # seconds
_IN, _OUT, _ATTR = struct.Struct("<IIQQIIIHxx"), struct.Struct("<IiQ"), struct.Struct("<6Q10I")


class FileRequest(NamedTuple):
    """What a thread asks for: of which node, with which arguments."""

    kind: int
    id: int
    node: int
    thread: int
    body: bytes

    def numbers(self, form: str) -> tuple[int, ...]:
        """The first arguments."""
        return struct.unpack_from("<" + form, self.body)


class FileRequests:
    """The end at which the requests of one mount arrive; `fd` is that of /dev/fuse, `root` of its uppermost folder."""

    def __init__(self, fd: int) -> None:
        self.fd, self.root, self.ended = fd, -1, False
        self.kept: list[FileRequest] = []  # which others have asked while a thread of ours was to be answered first
        self._ours = ThreadPoolExecutor(1)  # whoever opens or closes a file waits until this thread here has answered
        self._thread = self._ours.submit(threading.get_native_id).result()
        self.maps_direct = False  # can a file be mapped of which each read and write is asked for? (Linux 6.6)
        os.set_blocking(fd, False)

    def next(self) -> FileRequest | None:
        """The oldest request; None if there is none. When nothing is served any more, it has `ended`."""
        return self.kept.pop(0) if self.kept else self._arrived()

    def _arrived(self) -> FileRequest | None:
        while True:
            try:
                data = os.read(self.fd, _ROOM + 4096)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.ECONNABORTED):  # the second where the end comes while it is read
                    self.ended = True
                    return None
                if error.errno not in (errno.ENOENT, errno.EINTR):
                    raise
                continue
            _, kind, name, node, _, _, thread, _ = _IN.unpack_from(data)
            request = FileRequest(kind, name, node, thread, data[_IN.size :])
            if kind != INIT:
                return request
            self._begin(request)

    def _begin(self, request: FileRequest) -> None:
        """Agree on what both can."""
        asked = request.body.ljust(64, b"\0")
        _, minor, _, flags, more = struct.unpack_from("<5I", asked)
        self.maps_direct = bool(flags & _EXTENDED and more & _DIRECT_MAPS)
        limits = (_UNANSWERED, _UNANSWERED, _ROOM, 1, 0, 0)
        version = _VERSION[0], min(minor, _VERSION[1])
        wanted = _TRUNCATES | _EXTENDED * self.maps_direct
        self.answer(
            request,
            struct.pack("<4IHHIIHHI", *version, 0, wanted, *limits, _DIRECT_MAPS * self.maps_direct).ljust(64, b"\0"),
        )

    def answer(self, request: FileRequest, data: bytes = b"") -> bool:
        """It is done; this is told. Does anybody wait for it?"""
        return self._send(request, 0, data)

    def fail(self, request: FileRequest, number: int) -> None:
        """It fails with this errno."""
        self._send(request, -number, b"")

    def _send(self, request: FileRequest, error: int, data: bytes) -> bool:
        if request.kind not in _SILENT:
            with suppress(FileNotFoundError):  # nobody waits any more
                os.write(self.fd, _OUT.pack(_OUT.size + len(data), error, request.id) + data)
                return True
        return False

    def notify(self, poller: int) -> None:
        """Whoever polls a file, and has asked to be told under this number, may look again."""
        os.write(self.fd, _OUT.pack(_OUT.size + 8, POLL_NOTIFY, 0) + struct.pack("<Q", poller))

    def open_here(self, name: str, answer: Callable[[FileRequest], bytes]) -> int:
        """A descriptor of a file in the uppermost folder, of which `answer` tells what it is. Raises OSError."""
        fd: int = self._by_us(OPEN, answer, os.open, name, os.O_RDWR | os.O_CLOEXEC, 0, dir_fd=self.root)
        return fd

    def close_here(self, fd: int) -> None:
        """Close it."""
        self._by_us(FLUSH, lambda request: b"", os.close, fd)

    def _by_us(
        self, last: int, answer: Callable[[FileRequest], bytes], call: Callable[..., Any], *words: Any, **more: Any
    ) -> Any:
        """A call of our own, which asks for files, at last for this. What others ask meanwhile is kept: it might wait for us."""
        done = self._ours.submit(call, *words, **more)
        kind = -1
        while kind != last and not done.done():
            if select.select([self.fd], [], [], _TICK)[0] and (request := self._arrived()) is not None:
                if request.thread == self._thread:
                    kind = request.kind
                    self.answer(request, answer(request))
                else:
                    self.kept.append(request)
        return done.result()

    def close(self) -> None:
        """Whoever still uses a file is told that there is no connection."""
        os.close(self.fd)
        if self.root >= 0:
            os.close(self.root)
        self._ours.shutdown()


def attributes(status: os.stat_result, inode: int, lasts: bool) -> bytes:
    """What `stat` tells (struct fuse_attr_out)."""
    return struct.pack("<QII", _FOREVER * lasts, 0, 0) + _attributes(status, inode)


def entry(node: int, status: os.stat_result, inode: int, lasts: bool) -> bytes:
    """What a name leads to (struct fuse_entry_out); `lasts`: it always will."""
    valid = _FOREVER * lasts
    return struct.pack("<4QII", node, 0, valid, valid, 0, 0) + _attributes(status, inode)


def _attributes(status: os.stat_result, inode: int) -> bytes:
    times = (int(status.st_atime), int(status.st_mtime), int(status.st_ctime))
    return _ATTR.pack(
        inode, status.st_size, status.st_blocks or 0, *times, 0, 0, 0, status.st_mode, status.st_nlink, os.geteuid(), os.getegid(),
        status.st_rdev or 0, 4096, 0,
    )  # fmt: skip


def opened(handle: int, kept: bool = False, told: bool = True, stream: bool = False) -> bytes:
    """An open file, by which later requests name it (struct fuse_open_out).

    `kept`: the kernel may keep pages of it; `told`: each close of a descriptor of it is asked for; `stream`: it has no offsets.
    """
    return struct.pack("<QII", handle, (0 if kept else _DIRECT) | (0 if told else _NOT_FLUSHED) | _STREAM * stream, 0)


def folder(names: Iterable[tuple[str, int]], first: int, room: int) -> bytes:
    """The names in a folder and their modes, from a number on (struct fuse_dirent); as many as there is room for."""
    data = b""
    for number, (name, mode) in enumerate(names, 1):
        if number > first:
            kind = mode >> 12 if stat.S_ISDIR(mode) or stat.S_ISLNK(mode) else 0
            raw = os.fsencode(name)
            part = struct.pack("<QQII", 0xFFFFFFFF, number, len(raw), kind) + raw
            part = part.ljust(-(-len(part) // 8) * 8, b"\0")
            if len(data) + len(part) > room:
                break
            data += part
    return data
