"""The memory of a program, as the program itself could look at and change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..kernel.mm import MmStruct
from .events import Mapped, MemoryChanged
from .system_calls import must_be

if TYPE_CHECKING:
    from .process import Process


class Memory:
    """The memory of a program. Addresses and lengths are in bytes; OSError(EFAULT) where an address does not allow it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._mm: MmStruct = process.task.mm.value

    def map(self, length: int, data: bytes = b"", prot: int = 3, address: int | None = None) -> int:
        """Make `length` bytes accessible (1 read, 2 write), beginning with `data`; the answer is their address."""
        self._process.refuse_if_ended()
        must_be("number", "memory", length, prot, *([] if address is None else [address]))
        memoryview(data)  # raises TypeError for what is no bytes
        found = None
        try:
            found = self._mm.map(length, data, prot, address)
        finally:
            self._process.machine.note(Mapped, self._process.name, length, frozen(data), prot, address, found)
        return found

    def unmap(self, address: int, length: int) -> None:
        """Take every mapping in this range away."""
        if self._mm.outside is not None:
            raise ValueError(f"the memory of {self._process.name!r} is kept outside of the machine; unmap it there")
        must_be("number", "memory", address, length)
        self._note("unmap", address, length)
        self._mm.unmap(address, length)

    def protect(self, address: int, length: int, prot: int) -> None:
        """Change what may be done in this range (1 read, 2 write); ENOMEM where a part of it is not mapped."""
        must_be("number", "memory", address, length, prot)
        self._note("protect", address, length, prot)
        self._mm.protect(address, length, prot)

    def read(self, address: int, size: int, width: int = 0) -> bytes:
        """The bytes at an address. Registers of a device are asked: at once, or `width` bytes at a time."""
        must_be("number", "memory", address, size)
        asked = self._mm.registers(address, size) is not None
        return (
            bytes(self._process.start("load", address, size, width).value()) if asked else self._mm.read(address, size)
        )

    def write(self, address: int, data: bytes, width: int = 0) -> None:
        """Change bytes at an address, or tell the registers of a device there, likewise."""
        must_be("number", "memory", address)
        memoryview(data)  # raises TypeError for what is no bytes
        if self._mm.registers(address, len(data)) is not None:
            self._process.start("store", address, data, width).value()
        else:
            self._note("write", address, data)
            self._mm.write(address, data)

    def _note(self, what: str, *details: object) -> None:
        self._process.refuse_if_ended()
        self._process.machine.note(MemoryChanged, self._process.name, what, tuple(map(frozen, details)))


def frozen(value: Any) -> Any:
    """The same, in bytes that nobody can change later."""
    return bytes(value) if isinstance(value, bytearray | memoryview) else value
