"""Real files of the computer that the simulator runs on, so that another program can stand behind a simulated process."""

from __future__ import annotations

import os
import sys
from typing import Final

_EVENTFD: Final = "anon_inode:[eventfd]"
_MEMFD: Final = "/memfd:"
POLLIN, POLLOUT = 1, 4


class HostFile:
    """A file of the host, under a descriptor of its own: an eventfd, a memory file, or one that VFIO knows nothing of.

    Raises OSError(EBADF) for a number that is not open, ValueError where the host is no Linux. Closed by the object of the
    kernel that stands for it, at the latest when nothing in Python knows it any more.
    """

    def __init__(self, fd: int) -> None:
        self.fd = -1
        self.kind = host_kind(fd)
        self.shown = f"{self.kind} {fd} of the host"
        self.fd = os.dup(fd)

    def close(self) -> None:
        """Give the descriptor back; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return self.shown

    def size(self) -> int:
        """How many bytes a memory file has now."""
        return os.fstat(self.fd).st_size

    def identity(self) -> tuple[int, int]:
        """Which file it is, whatever descriptor leads to it: its device and its number there."""
        found = os.fstat(self.fd)
        return found.st_dev, found.st_ino

    def read(self, place: int, size: int) -> bytes:
        """What is in a memory file."""
        return os.pread(self.fd, size, place)

    def write(self, place: int, data: bytes) -> None:
        """Change what is in a memory file."""
        os.pwrite(self.fd, data, place)

    def events(self) -> int:
        """Can it be read (1), can it be written (4)?"""
        import select  # not there on every system

        poll = select.poll()
        poll.register(self.fd, select.POLLIN | select.POLLOUT)
        found = dict(poll.poll(0)).get(self.fd, 0)
        return POLLIN * bool(found & select.POLLIN) | POLLOUT * bool(found & select.POLLOUT)

    def add(self, number: int) -> bool:
        """Add to the counter of an eventfd; False, and nothing is done, if that would have to wait."""
        if not self.events() & POLLOUT:
            return False
        os.write(self.fd, number.to_bytes(8, sys.byteorder))
        return True

    def take(self) -> int:
        """What reading the eventfd gives; 0 if that would have to wait."""
        return int.from_bytes(os.read(self.fd, 8), sys.byteorder) if self.events() & POLLIN else 0


def host_kind(fd: int) -> str:
    """Which kind of file a descriptor of the host leads to: "eventfd", "memfd", "pipe", "socket", or "file" for all others."""
    os.fstat(fd)
    try:
        link = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        raise ValueError("descriptors of the host can be taken over on Linux only") from None
    if link == _EVENTFD:
        return "eventfd"
    if link.startswith(_MEMFD):
        return "memfd"
    kind = link.partition(":")[0]
    return kind if kind in ("pipe", "socket") else "file"
