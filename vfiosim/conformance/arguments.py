"""The memory that the arguments of a call lie in, hostile places included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..machine import Memory
from .layouts import layout

_PAGE: Final = 4096
_NOWHERE: Final = {
    "null": 0,
    "bad": 0x5F0000000000,  # never mapped
    "kernel": 0xFFFF888000000000,
    "noncanonical": 0x8000000000000000,
}
_PLACES_FROM: Final = 0x560000000000
_PLACES_APART: Final = 0x10000000
_SIZE: Final = 16384  # bytes of the mapping
_BEHIND: Final = 512  # bytes behind every argument that are mapped, and zero


class Arguments:
    """A piece of memory that is used again for the arguments of each call of a process.

    * ordinary arguments lie one behind the other in one mapping, with zeros in between;
    * those that want a place of their own get a mapping of their own until `clear`.
    """

    size: Final = _SIZE

    def __init__(self, memory: Memory, number: int) -> None:
        self._memory = memory
        self._used = 0
        self._own: list[tuple[int, int]] = []
        self._start = memory.map(_SIZE, address=_PLACES_FROM + number * _PLACES_APART)
        self.read = memory.read  # what is now at an address that `place` gave

    def place(self, data: bytes, mode: str | None = None, valid: int = 0) -> int:
        """Put bytes where `mode` says; the answer is the address."""
        if mode is None:
            return self._ordinary(data)
        if mode in _NOWHERE:
            return _NOWHERE[mode]
        length = (len(data) // _PAGE + 2) * _PAGE
        if mode == "readonly":
            return self._apart(data, length, 1)
        if mode == "writeonly":  # x86 has no such pages: no access at all
            return self._apart(data, length, 0)
        if mode != "truncated":
            raise ValueError(f"there is no place called {mode!r} for an argument")
        return self._apart(bytes(length - valid) + data[:valid].ljust(valid, b"\0"), length, 3) + length - valid

    def clear(self) -> None:
        """Make room for the next call."""
        if self._used:
            self._memory.write(self._start, bytes(self._used))
            self._used = 0
        for address, length in self._own:
            self._memory.unmap(address, length)
        self._own.clear()

    def _ordinary(self, data: bytes) -> int:
        address = self._start + self._used
        used = (self._used + len(data) + _BEHIND + 15) & ~15
        if used > _SIZE:
            return self._apart(data, (len(data) // _PAGE + 2) * _PAGE, 3)
        self._memory.write(address, data)
        self._used = used
        return address

    def _apart(self, data: bytes, length: int, prot: int) -> int:
        address = self._memory.map(length, data, prot)
        self._own.append((address, length))
        return address


@dataclass
class Buffer:
    """Bytes that a field of an argument points to, to be looked at again after the call."""

    name: str
    address: int
    data: bytes
    struct: str | None

    def change(self, now: bytes) -> Any:
        """The contents as a recording shows them: a list of structs, or hex without the zeros at the end."""
        if self.struct is None:
            return now.rstrip(b"\0").hex()
        shape = layout(self.struct)
        return [shape.unpack(now[at : at + shape.size]) for at in range(0, len(now), shape.size)]


def buffer_bytes(what: Mapping[str, Any]) -> bytes | None:
    """The contents of a buffer that needs no struct: hex digits, zeros, or one number."""
    if "hex" in what:
        return bytes.fromhex(what["hex"])
    if "zero" in what:
        return bytes(what["zero"])
    if "s32" in what:
        return int(what["s32"] & 0xFFFFFFFF).to_bytes(4, "little")
    if "u64" in what:
        return int(what["u64"] & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
    return None
