"""The open files of the simulated kernel: behind each stands a real file of its own, which programs hold.

So dup, fork, exec, sockets, mappings and the end of a program are the host's affair; it tells when its last copy is gone.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from ..kernel.fs.file import O_ACCMODE, O_RDWR, File

_CLOSED: Final = 0x18  # IN_CLOSE_WRITE | IN_CLOSE_NOWRITE
LARGE: Final = 16 << 40  # bytes: room for 16 regions, each at its offset
_EVENT: Final = struct.Struct("iIII")
_SERVED_HERE: Final = -1
Key = tuple[int, int]  # mount and inode
SERVED: Final = 0x766673 << 40  # the first inode of files that are served here, whatever mount leads to them
_libc = ctypes.CDLL(None, use_errno=True)


def key_of(description: str) -> Key:
    """The file that is open, by what /proc tells in `description`: a stat might ask whoever serves it. Raises OSError."""
    fd = os.open(description, os.O_RDONLY)
    try:
        words = os.read(fd, 256).split()  # pos: 0 flags: 02 mnt_id: 3 ino: 4
    finally:
        os.close(fd)
    inode = int(words[7])
    return (_SERVED_HERE if inode >= SERVED else int(words[5])), inode


def served(key: Key) -> bool:
    """Is this a file that is served here? Then nothing may be asked about it here."""
    return key[0] == _SERVED_HERE


class HostFiles:
    """Real files that stand for simulated ones."""

    def __init__(self) -> None:
        self.inotify: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.inotify < 0:
            raise OSError(ctypes.get_errno(), "the computer gives no more inotify instances")
        self._files: dict[Key, File] = {}
        self._keys: dict[File, tuple[Key, int | None]] = {}
        self._watched: dict[int, File] = {}
        self._let_go: list[File] = []
        self._arriving: dict[File, int] = {}
        self._queues: dict[File, int] = {}  # for each a descriptor of the pipe that stands for it
        self._readable: set[File] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, file: File) -> bool:
        return file in self._keys

    def make(self, file: File, content: bytes = b"") -> int:
        """A descriptor, to be given away and closed here, for the real file behind this one."""
        device = file.f_op.name == "vfio device"
        queue = file.f_op.poll is not None
        fd = (
            _pipe() if queue else os.memfd_create(f"vfio-{'device' if device else 'file'} {file.label}", os.MFD_CLOEXEC)
        )
        try:
            if device:
                os.truncate(fd, LARGE)
            elif content:
                os.write(fd, content)
            path = f"/proc/self/fd/{fd}"
            key = key_of(f"/proc/self/fdinfo/{fd}")
            watch = _libc.inotify_add_watch(self.inotify, path.encode(), _CLOSED)
            if watch < 0:
                raise OSError(ctypes.get_errno(), "the computer gives no more inotify watches")
            access = file.f_flags & O_ACCMODE if file.cdev or content else O_RDWR
            given = os.open(path, access | os.O_CLOEXEC | os.O_NONBLOCK * queue)  # what nobody is told of must not wait
            if queue:
                self._queues[file] = os.dup(fd)
        finally:
            os.close(fd)
        self._files[key], self._keys[file], self._watched[watch] = file, (key, watch), file
        return given

    def show(self, ready: Callable[[File], int]) -> None:
        """Let `poll` find a queue readable where it is: its pipe has a byte then, which nobody reads."""
        for file, pipe in self._queues.items():
            if bool(ready(file) & select.POLLIN) != (file in self._readable):
                self._readable ^= {file}
                if file in self._readable:
                    os.write(pipe, b"\0")
                else:
                    with suppress(BlockingIOError):
                        os.read(pipe, 1)

    def stand_for(self, file: File, inode: int, thread: int = 0) -> None:
        """A file that is served here, which a thread may open, stands for this one; `let_go` tells when its last copy has gone."""
        key = _SERVED_HERE, inode
        self._files[key], self._keys[file] = file, (key, None)
        if thread:
            self._arriving[file] = thread

    def arrived(self, thread: int) -> None:
        """A thread does something else: it has the descriptor of what it has opened."""
        for file in [each for each, opener in self._arriving.items() if opener == thread]:
            del self._arriving[file]

    def arriving(self, file: File) -> bool:
        """May its opening have been answered, and no descriptor lead to it yet?"""
        return file in self._arriving

    def let_go(self, file: File) -> None:
        """The last copy of what stands for a file has gone."""
        del self._files[self._keys.pop(file)[0]]
        self._arriving.pop(file, None)
        self._let_go.append(file)

    def at(self, key: Key) -> File | None:
        """The simulated file for which a real one stands, if it does."""
        return self._files.get(key)

    def closed(self) -> Iterator[File]:
        """The files whose last copy has gone since this was asked last."""
        while self._let_go:
            yield self._let_go.pop()
        while True:
            try:
                events = os.read(self.inotify, 4096)
            except BlockingIOError:
                return
            place = 0
            while place < len(events):
                watch, _, _, length = _EVENT.unpack_from(events, place)
                place += _EVENT.size + length
                file = self._watched.pop(watch, None)
                if file is not None:
                    key, _ = self._keys.pop(file)
                    del self._files[key]
                    _libc.inotify_rm_watch(self.inotify, watch)
                    self._forget_queue(file)
                    yield file

    def _forget_queue(self, file: File) -> None:
        self._readable.discard(file)
        if (pipe := self._queues.pop(file, -1)) >= 0:
            os.close(pipe)

    def close(self) -> None:
        """Nothing is told any more."""
        for file in [*self._queues]:
            self._forget_queue(file)
        os.close(self.inotify)


def _pipe() -> int:
    """A pipe with an inode of its own."""
    with tempfile.TemporaryDirectory(prefix="vfiosim-") as folder:
        os.mkfifo(path := os.path.join(folder, "queue"))
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
