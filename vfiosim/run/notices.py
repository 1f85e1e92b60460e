"""System calls that a program waits for: how the kernel tells of them, and how they are answered (seccomp_unotify(2))."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from contextlib import suppress
from typing import Final, NamedTuple

_RECV, _SEND, _VALID, _ADD_FD, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103, 0x40082104
_GO_ON: Final = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_AND_ANSWER: Final = 2  # SECCOMP_ADDFD_FLAG_SEND
_NOTICE: Final = struct.Struct("<QIIiIQ6Q")
_ANSWER: Final = struct.Struct("<QqiI")


class Notice(NamedTuple):
    """A call that waits: of which thread, which one, with which arguments."""

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]


class Notices:
    """The end at which the calls of a program and of all its children arrive."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        with suppress(OSError):  # Linux 6.6: who answers goes on on the same processor, which is quicker
            fcntl.ioctl(fd, _SET_FLAGS, 1)

    def next(self) -> Notice | None:
        """The call that waits longest; None if its thread has gone meanwhile."""
        buffer = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(self.fd, _RECV, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        name, thread, _, number, _, _, *arguments = _NOTICE.unpack(buffer)
        return Notice(name, thread, number, tuple(arguments))

    def answer(self, notice: Notice, value: int = 0, error: int = 0) -> None:
        """The call returns this value, or fails with this errno."""
        self._send(notice, value, -error, 0)

    def resume(self, notice: Notice) -> None:
        """The call is none of ours: the kernel may do it."""
        self._send(notice, 0, 0, _GO_ON)

    def _send(self, notice: Notice, value: int, error: int, flags: int) -> None:
        with suppress(FileNotFoundError):  # its thread was killed
            fcntl.ioctl(self.fd, _SEND, _ANSWER.pack(notice.id, value, error, flags))

    def waits(self, notice: Notice) -> bool:
        """Is its thread still there, and so its memory and its files those that were meant?"""
        try:
            fcntl.ioctl(self.fd, _VALID, struct.pack("<Q", notice.id))
        except OSError:
            return False
        return True

    def give(self, notice: Notice, fd: int, close_on_exec: bool) -> int:
        """Let a new descriptor of the program lead to the file that is open here under `fd`; the answer is it. Raises OSError.

        Which one it gets only the kernel may say: other threads open files meanwhile.
        """
        flags = os.O_CLOEXEC if close_on_exec else 0
        number: int = fcntl.ioctl(self.fd, _ADD_FD, bytearray(struct.pack("<QIIII", notice.id, 0, fd, 0, flags)))
        return number

    def answer_with(self, notice: Notice, fd: int, close_on_exec: bool) -> None:
        """The call returns a new descriptor for the file that is open here under `fd`. Raises OSError."""
        flags = os.O_CLOEXEC if close_on_exec else 0
        fcntl.ioctl(self.fd, _ADD_FD, struct.pack("<QIIII", notice.id, _AND_ANSWER, fd, 0, flags))

    def nobody_left(self, patience: float) -> bool:
        """Have all threads ended that make calls? Ended ones may be there for a moment: this waits up to `patience` seconds."""
        over = select.poll()
        over.register(self.fd, 0)
        return bool(over.poll(patience * 1000))

    def close(self) -> None:
        """Whoever still waits, or calls later, is told ENOSYS by the kernel."""
        os.close(self.fd)
