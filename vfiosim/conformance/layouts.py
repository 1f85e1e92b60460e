"""Structs as a recording sees them: a dictionary of fields on one side, bytes on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import sizeof
from functools import cache
from typing import Any

from ..kernel import Unsupported
from ..uapi import STRUCTS, Member

Values = Mapping[str, int | str | Sequence[int]]


class StructLayout:
    """Where the fields of one struct lie."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = sizeof(STRUCTS[name])
        self.fields = {field.name: field for field in STRUCTS[name].fields()}
        self.descriptors = frozenset(name for name, field in self.fields.items() if field.role == "fd_out")
        self._shown = tuple(
            (name, field.offset, field.offset + field.size, field.kind == "int", field.signed)
            for name, field in self.fields.items()
            if field.kind != "struct" and field.size
        )
        first = next(iter(self.fields))
        self.size_field = first if first in ("argsz", "size") else None

    def pack(self, values: Values) -> bytes:
        """The bytes of a struct with these fields, the rest zero; what is too wide for a field is cut to its width."""
        data = bytearray(self.size)
        for name, value in values.items():
            field = self.fields.get(name)
            if field is None:
                raise ValueError(f"{self.name} has no field {name!r}")
            chunk = _field_bytes(field, value)
            data[field.offset : field.offset + len(chunk)] = chunk
        return bytes(data)

    def unpack(self, data: bytes) -> dict[str, Any]:
        """All fields; arrays are written in hex."""
        return {name: _shown(data[start:end], number, signed) for name, start, end, number, signed in self._shown}

    def changes(self, before: bytes, after: bytes) -> dict[str, Any]:
        """The fields whose bytes are not the same, as they are afterwards."""
        return {
            name: _shown(after[start:end], number, signed)
            for name, start, end, number, signed in self._shown
            if before[start:end] != after[start:end]
        }


@cache
def layout(name: str) -> StructLayout:
    """The layout of a struct by its kernel name. Raises Unsupported if the ABI tables lack it."""
    if name not in STRUCTS:
        raise Unsupported(f"struct {name}")
    return StructLayout(name)


def _field_bytes(field: Member, value: int | str | Sequence[int]) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value)[: field.size]
    if isinstance(value, int):
        return _cut(value, field.size)
    return b"".join(_cut(item, field.elem_size) for item in value)[: field.size]


def _cut(value: int, size: int) -> bytes:
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _shown(data: bytes, number: bool, signed: bool) -> int | str:
    return int.from_bytes(data, "little", signed=signed) if number else data.hex()
