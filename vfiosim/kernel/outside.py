"""Memory that another program keeps: an address space whose bytes are not in the machine.

Not a part of the kernel: it stands where the page tables of a process would be.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..engine import *
from ..uapi import Errno, KernelError
from .mm import MmStruct
from .regions import PAGE_SIZE, TASK_SIZE


class OutsideMemory(Protocol):
    """What an object must offer to be the memory of a process; addresses and sizes are in bytes.

    `read` and `write` raise OSError(EFAULT) where an address does not allow it.
    """

    def read(self, address: int, size: int) -> bytes:
        """The `size` bytes at `address`."""

    def write(self, address: int, data: bytes) -> None:
        """Change bytes; what can be written may be written before an error is raised."""

    def covered(self, address: int, size: int, write: bool) -> bool:
        """Is every page of this range there, and may it be read, or also written? Asked when pages are pinned."""

    def ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """What is mapped between two addresses, upwards, as pairs of first address and end.

        A method `devices` with the same arguments may tell which of it are registers of a device, which cannot be pinned.
        A method `page`, with one address, may tell which page of which file is there that others may have mapped too, or None.
        """


NEEDED = ("read", "write", "covered", "ranges")


class OutsideMm(MmStruct):
    """The address space of a process whose memory is kept outside.

    * as every other, but for where the bytes are; the buffers of running calls and mappings of device files lie here;
    * whatever is wrong with the object outside is a bad address (EFAULT) for the kernel, which unwinds; the call then ends
      with an OutsideError that tells what happened.
    """

    def __init__(self, engine: Engine, label: str, outside: OutsideMemory) -> None:
        super().__init__(engine, label)
        self.outside = outside

    def read(self, address: int, size: int) -> bytes:
        """The bytes at `address`, from the object outside unless they are of a running call's buffer."""
        if not size or super()._overlaps(address, size):
            return super().read(address, size) if size else b""
        answer = self._ask("read", address, size)
        if not isinstance(answer, (bytes, bytearray, memoryview)) or len(answer) != size:
            raise self._wrong("read", (address, size), f"gave {_told(answer)} where {size} bytes were asked for")
        return bytes(answer)

    def write(self, address: int, data: bytes) -> None:
        """Change bytes at `address`."""
        if not data:
            return
        if super()._overlaps(address, len(data)):
            super().write(address, data)
        else:
            self._ask("write", address, bytes(data))

    def pinnable(self, address: int, size: int, write: bool) -> bool:
        """Can all pages of a range be pinned? That is for the object outside to say."""
        if super()._overlaps(address, size):
            return super().pinnable(address, size, write)
        return address + size <= TASK_SIZE and bool(self._ask("covered", address, size, write))

    def map(self, length: int, data: Any = b"", prot: int = 3, address: int | None = None, device: bool = False) -> int:
        """Map registers of a device. Raises ValueError for memory: that is mapped where it is kept."""
        if not device:
            raise ValueError(f"the memory of {self.label!r} is kept outside of the machine; map it there")
        return super().map(length, data, prot, address, device)

    def map_file(self, content: Any, offset: int, length: int, prot: int, shared: bool, address: int | None) -> int:
        """Raises ValueError: files are mapped where the memory is kept."""
        raise ValueError(f"the memory of {self.label!r} is kept outside of the machine; map it there")

    def protect(self, address: int, length: int, prot: int) -> None:
        """Raises ValueError: memory is protected where it is kept."""
        raise ValueError(f"the memory of {self.label!r} is kept outside of the machine; protect it there")

    def copy(self, engine: Engine, label: str) -> MmStruct:
        """Raises ValueError: the machine cannot make a second copy of what is outside."""
        raise ValueError(f"the memory of {self.label!r} is kept outside of the machine, so the process cannot fork")

    def _free_place(self, length: int) -> int:
        """Somewhere where nothing is mapped, here or outside, and nothing right behind it."""
        place, room = self._place, length + PAGE_SIZE
        while taken := self._ranges(place, place + room):
            place = -(-max(end for _, end in taken) // PAGE_SIZE) * PAGE_SIZE
        self._place = place
        return place

    def page_at(self, address: int) -> tuple[object, int]:
        """Which page is at an address: of this memory, or of a file that others may have mapped too."""
        found = self._ask("page", address) if hasattr(self.outside, "page") else None
        return found or super().page_at(address)

    def allows(self, address: int, write: bool) -> bool:
        """May what is mapped at an address be read, or also written?"""
        return super().allows(address, write) or bool(self._ranges(address, address + 1, "devices"))

    def _overlaps(self, address: int, length: int) -> bool:
        return super()._overlaps(address, length) or bool(self._ranges(address, address + length))

    def _devices(self, first: int, end: int) -> list[tuple[int, int]]:
        there = self._ranges(first, end, "devices")
        return sorted(super()._devices(first, end) + [(max(low, first), min(high, end)) for low, high in there])

    def _ranges(self, first: int, end: int, name: str = "ranges") -> list[tuple[int, int]]:
        answer = self._ask(name, first, end) if hasattr(self.outside, name) else ()
        try:
            pairs = [(int(low), int(high)) for low, high in answer]
        except (TypeError, ValueError):
            raise self._wrong(name, (first, end), f"gave {_told(answer)}, no pairs of addresses") from None
        return [(low, high) for low, high in pairs if low < end and high > first]

    def _ask(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.outside, name)(*arguments)
        except OSError as error:
            raise KernelError(Errno.EFAULT, f"the memory outside refuses {name}: {error}", check="fault") from None
        except Exception as error:
            raise self._wrong(name, arguments, f"raised {type(error).__name__}: {error}", error) from None

    def _wrong(self, name: str, arguments: tuple[Any, ...], what: str, cause: Exception | None = None) -> Exception:
        shown = ", ".join(f"{len(a)} bytes" if isinstance(a, bytes) else _number(a) for a in arguments)
        error = OutsideError(f"the memory of {self.label!r}, kept outside, is at fault: {name}({shown}) {what}")
        error.__cause__ = cause
        return failed_outside(error)


def check_outside_memory(memory: object) -> None:
    """Raises TypeError unless an object has all four methods."""
    missing = [name for name in NEEDED if not callable(getattr(memory, name, None))]
    if missing:
        raise TypeError(
            f"memory from outside needs {', '.join(NEEDED)}; {type(memory).__name__} has no {', '.join(missing)}"
        )


def _number(value: object) -> str:
    """Addresses and large sizes are easier to read in hexadecimal."""
    return hex(value) if type(value) is int and value >= PAGE_SIZE else repr(value)


def _told(answer: object) -> str:
    sized = isinstance(answer, (bytes, bytearray, memoryview))
    return f"{len(answer)} bytes" if sized else type(answer).__name__  # type: ignore[arg-type]
