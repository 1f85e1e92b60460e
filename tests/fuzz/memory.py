"""Memory for arguments that notices every byte which a call had no right to change."""

from __future__ import annotations

from typing import Final

from vfiosim.conformance.arguments import Arguments
from vfiosim.machine import Memory

_BEYOND: Final = 512  # bytes behind the last argument that are looked at


class OutsideError(Exception):
    """A call changed memory that it was not given."""


class WatchedArguments(Arguments):
    """The memory between arguments holds a pattern; `clear` raises OutsideError if a call has changed it.

    * `fill`: the byte of the pattern; 0 is what larger versions of a struct must be filled up with;
    * `says`: how many bytes the caller said the argument itself has;
    * `lengths_are_wild`: the lengths that belong to buffers have been tampered with, the kernel may believe them.
    """

    def __init__(self, memory: Memory, number: int, fill: int) -> None:
        super().__init__(memory, number)
        self._pattern = bytes([fill])
        self._pieces: list[tuple[int, int]] = []
        self.says = 0
        self.lengths_are_wild = False
        if fill:
            memory.write(self._start, self._pattern * self.size)

    def place(self, data: bytes, mode: str | None = None, valid: int = 0) -> int:
        """As ever, but remember what lies where."""
        address = super().place(data, mode, valid)
        if mode is None and self._start <= address < self._start + self.size:
            self._pieces.append((address, len(data)))
        return address

    def clear(self) -> None:
        """Look at the pattern, then make room for the next call."""
        if not self._used:
            super().clear()
            return
        end = min(self._used + _BEYOND, self.size)
        changed = self._outside(end)
        pieces, self._pieces = self._pieces, []
        used, wild, self.says, self.lengths_are_wild = self._used, self.lengths_are_wild, 0, False
        super().clear()
        if self._pattern != b"\0":
            self._memory.write(self._start, self._pattern * end)
        elif end > used:
            self._memory.write(self._start + used, bytes(end - used))
        if changed is not None:
            raise OutsideError(f"byte {changed} behind {len(pieces)} pieces {pieces} changed (lengths wild: {wild})")

    def _outside(self, end: int) -> int | None:
        """Where the first byte lies that was changed and does not belong to the call; None if all is well."""
        at = 0
        for index, (address, length) in enumerate(self._pieces):
            last = index == len(self._pieces) - 1
            begin = address - self._start
            if self._differs(at, begin):
                return at
            if not last and self.lengths_are_wild:
                length = self._pieces[index + 1][0] - address
            at = begin + (max(length, self.says) if last else length)
        return at if self._differs(at, end) else None

    def _differs(self, start: int, end: int) -> bool:
        return start < end and self.read(self._start + start, end - start) != self._pattern * (end - start)
