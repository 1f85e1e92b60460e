"""The memory of a running program, as the simulated kernel reads and writes it."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator

_libc = ctypes.CDLL(None, use_errno=True)


class ProgramMemory:
    """What `Machine.process(memory=…)` wants, for the process with this number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.registers_served = (
            False  # may some be mapped that this process serves? A look at them would wait for itself
        )
        self._small = ctypes.create_string_buffer(4096)

    def read(self, address: int, size: int) -> bytes:
        """The bytes at `address`. Raises OSError(EFAULT)."""
        buffer = self._small if size <= len(self._small) else ctypes.create_string_buffer(size)
        if self._copy(_libc.process_vm_readv, buffer, address, size) != size:
            raise OSError(errno.EFAULT, f"{size} bytes at {address:#x} cannot all be read")
        return ctypes.string_at(buffer, size)

    def text(self, address: int) -> str:
        """A path, up to its zero byte. Raises OSError(EFAULT, ENAMETOOLONG)."""
        found = b""
        while len(found) < 4096:
            size = 256 if address % 4096 < 3840 else 4096 - address % 4096
            part, end, _ = self.read(address, size).partition(b"\0")
            found += part
            if end:
                return os.fsdecode(found)
            address += size
        raise OSError(errno.ENAMETOOLONG, "the path is too long")

    def write(self, address: int, data: bytes) -> None:
        """Change bytes; what comes before a bad address is written. Raises OSError(EFAULT)."""
        buffer = ctypes.create_string_buffer(data, len(data))
        if self._copy(_libc.process_vm_writev, buffer, address, len(data)) != len(data):
            raise OSError(errno.EFAULT, f"{len(data)} bytes at {address:#x} cannot all be written")

    def _copy(self, copy: Callable[..., int], buffer: ctypes.Array[ctypes.c_char], address: int, size: int) -> int:
        if not 0 <= address < 1 << 63 or (self.registers_served and self.devices(address, address + size)):
            return -1
        here, there = struct.pack("@PN", ctypes.addressof(buffer), size), struct.pack("@PN", address, size)
        return copy(self.pid, here, 1, there, 1, 0)

    def covered(self, address: int, size: int, write: bool) -> bool:
        """Is every page of a range memory that may be read, or also written?"""
        end = address + size
        for first, last, way, name in self._maps():
            if first <= address < last and name not in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                if way[1 if write else 0] == "-" or name.startswith(DEVICES):
                    return False
                address = last
                if address >= end:
                    return True
        return False

    def ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """What is mapped between two addresses."""
        return [(low, high) for low, high, _, _ in self._maps() if low < end and high > first]

    def devices(self, first: int, end: int) -> list[tuple[int, int]]:
        """What of it are registers of a device, which are no memory."""
        return [
            (low, high)
            for low, high, _, name in self._maps()
            if low < end and high > first and name.startswith(DEVICES)
        ]

    def page(self, address: int) -> tuple[object, int] | None:
        """Which page of which file is mapped at an address, if others see what is written there."""
        for first, last, way, file in self._lines():
            if first <= address < last and way[3] == "s":
                major, minor = (int(part, 16) for part in file[1].split(":"))
                return (os.makedev(major, minor), int(file[2])), (int(file[0], 16) + address - first) // 4096
        return None

    def _maps(self) -> Iterator[tuple[int, int, str, str]]:
        return ((low, high, way, name[0].strip() if name else "") for low, high, way, (_, _, _, *name) in self._lines())

    def _lines(self) -> Iterator[tuple[int, int, str, list[str]]]:
        with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                places, way, *file = line.split(None, 5)
                low, _, high = places.partition("-")
                yield int(low, 16), int(high, 16), way, file


DEVICES = (
    "/memfd:vfio-device",
    "/dev/vfio/devices/",
    "/vfio device ",
)  # how the files behind the registers of devices are called
