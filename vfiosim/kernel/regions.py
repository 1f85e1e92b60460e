"""Bytes of user memory and of files: what is mapped where, and who shares it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

PAGE_SIZE: Final = 4096
KMALLOC_MAX: Final = 4 << 20  # bytes that one allocation of the kernel can have
TASK_SIZE: Final = 0x7FFFFFFFF000  # the first address that no user memory can have, x86-64 with four levels


def ends_beyond(start: int, length: int) -> str:
    """Why a range cannot be, in words."""
    return f"{length:#x} bytes from {start:#x} end beyond the last address"


def whole_pages(length: int) -> int:
    """Memory is mapped in pages."""
    return (length + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE


class Sparse:
    """Much memory, of which only what was written is kept, in pieces; all else is as in what is `under` it, or zero.

    Behind `end` nothing is there; None: there is no end.
    """

    __slots__ = ("end", "pieces", "size", "under")

    def __init__(
        self, pieces: dict[int, bytearray] | None = None, under: Sparse | None = None, end: int | None = None
    ) -> None:
        self.pieces = pieces if pieces is not None else {}
        self.under = under
        self.end = end
        self.size = PIECE if under is None else PAGE_SIZE  # of a piece: what is written goes its own way page by page

    def view(self, first: int, last: int, write: bool) -> memoryview:
        """From one byte up to, without, another, or as far as one piece goes; nothing behind the end."""
        number, offset = divmod(first, self.size)
        size = min(last - first, self.size - offset, self.room(first))
        if size <= 0:
            return _ZEROS[:0]
        piece = self.pieces.get(number)
        if piece is None:
            if not write:
                return _ZEROS[:size] if self.under is None else self.under.view(first, first + size, False)
            begin = number * self.size
            below = b"" if self.under is None else self.under.view(begin, begin + self.size, False)
            piece = self.pieces[number] = bytearray(below or self.size)
        return memoryview(piece)[offset : offset + size]

    def room(self, place: int) -> int:
        """How many bytes there are from a place on."""
        if self.under is not None:
            return self.under.room(place)
        return (TASK_SIZE if self.end is None else self.end) - place

    def copy(self) -> Sparse:
        """The same bytes, on their own."""
        return Sparse({number: bytearray(piece) for number, piece in self.pieces.items()}, self.under, self.end)


PIECE: Final = 1 << 16
_ZEROS: Final = memoryview(bytes(PIECE))


@dataclass
class Region:
    """Bytes at consecutive addresses with one protection: `length` of them, in `data` from `offset` on."""

    start: int
    length: int
    data: memoryview | Sparse
    prot: int
    device: bool = False  # registers of a device, not memory: there are no pages that could be pinned
    offset: int = 0
    shared: bool = False  # with a file, and so with everybody who maps it
    file: Any = None  # of the device whose registers these are; there are no bytes then

    def part(self, first: int, last: int) -> Region:
        """What lies from address `first` up to, without, `last`."""
        return replace(self, start=first, length=last - first, offset=self.offset + first - self.start)

    def view(self, address: int, size: int, write: bool) -> memoryview:
        """The bytes from an address on: so many, or fewer, and none behind the end."""
        first = self.offset + address - self.start
        last = min(first + size, self.offset + self.length)
        if isinstance(self.data, Sparse) and first < last:
            return self.data.view(first, last, write)
        return self.data[first:last] if isinstance(self.data, memoryview) else _ZEROS[:0]

    def copy(self) -> Region:
        """The same bytes, on their own unless they are shared."""
        if isinstance(self.data, Sparse):
            return replace(self, data=self.data if self.shared else self.data.copy())
        return replace(self, data=memoryview(bytearray(self.view(self.start, self.length, False))), offset=0)

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.length
