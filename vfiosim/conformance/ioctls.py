"""One ioctl of a recording: its argument laid out in memory, and what the kernel changed in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .abi import argument_kind, is_request, is_struct
from .arguments import Arguments, Buffer, buffer_bytes
from .layouts import StructLayout, layout
from .scope import Scope, Step

_COMPARED: Final = (None, "readonly")  # places whose contents are looked at after the call


class Ioctl:
    """The argument of one call, ready to be passed.

    The step's `arg`, `raw`, `tail`, `argtype`, `ptr` and `valid` say what lies where; `changes` is for after the call.
    """

    def __init__(self, scope: Scope, arguments: Arguments, step: Step) -> None:
        self._scope = scope
        self._arguments = arguments
        self._place: str | None = step.get("ptr")
        self._struct: StructLayout | None = None
        self._tail_struct: StructLayout | None = None
        self._buffers: list[Buffer] = []
        request = step["request"]
        self.request = scope.value(request)
        kind = argument_kind(request) if is_request(request) else None
        data = self._own_bytes(step, step.get("argtype") or kind)
        self._before = b"" if data is None else data + self._tail(step.get("tail"))
        self._base = self._begin_of_tail(data)
        self.argument = self._lay_out(step, data is not None)

    def changes(self) -> dict[str, Any]:
        """What the kernel wrote: fields of the struct, "tail", "raw", and "*field" for the buffers."""
        result: dict[str, Any] = {}
        if self._before and self._place in _COMPARED:
            after = self._arguments.read(self.argument, len(self._before))
            if after != self._before:
                result = self._changes(after)
        for buffer in self._buffers:
            now = self._arguments.read(buffer.address, len(buffer.data))
            if now != buffer.data:
                result[f"*{buffer.name}"] = buffer.change(now)
        return result

    def _changes(self, after: bytes) -> dict[str, Any]:
        if self._struct is None:
            return {"raw": after.hex()}
        before, size = self._before, self._struct.size
        result = self._struct.changes(before[:size].ljust(size, b"\0"), after[:size].ljust(size, b"\0"))
        if after[self._base :] != before[self._base :]:
            tail, shape = after[self._base :], self._tail_struct
            if shape is None:
                result["tail"] = tail.hex()
            else:
                whole = range(0, len(tail) - shape.size + 1, shape.size)
                result["tail"] = [shape.unpack(tail[at : at + shape.size]) for at in whole]
        return result

    def _own_bytes(self, step: Step, kind: str | None) -> bytes | None:
        """The argument without its tail; None if it is no pointer."""
        if "raw" in step:
            self._struct = layout(kind) if is_struct(kind) else None
            return bytes.fromhex(step["raw"])
        written = step.get("arg", {})
        if kind is not None and is_struct(kind) and isinstance(written, dict):
            return self._packed(kind, written)
        if kind == "s32" and "arg" in step:
            return (self._scope.value(written) & 0xFFFFFFFF).to_bytes(4, "little")
        if kind == "cstr" and "arg" in step:
            return self._scope.text(written).encode() + b"\0"
        return None

    def _packed(self, name: str, written: Mapping[str, Any]) -> bytes:
        shape = self._struct = layout(name)
        values = self._scope.fields(written)
        if shape.size_field is not None:
            values.setdefault(shape.size_field, shape.size)
        return self._pack(shape, values)

    def _pack(self, shape: StructLayout, values: dict[str, Any]) -> bytes:
        """The bytes of a struct; buffers are put into memory, their addresses into the fields."""
        plain = {name: self._buffer(name, v) if isinstance(v, dict) else v for name, v in values.items()}
        return shape.pack(plain)

    def _buffer(self, name: str, what: Mapping[str, Any]) -> int:
        struct = what.get("struct")
        data = buffer_bytes(what)
        if data is None and struct is not None:
            data = self._structs(layout(struct), what)
        if data is None:
            raise ValueError(f"not a buffer: {what}")
        place = what.get("ptr")
        address = self._arguments.place(data, place, what.get("valid", 0))
        if place in _COMPARED:
            self._buffers.append(Buffer(name, address, data, struct))
        return address

    def _structs(self, shape: StructLayout, what: Mapping[str, Any]) -> bytes:
        if "items" in what:
            return b"".join(self._pack(shape, item) for item in what["items"])
        return bytes(shape.size * int(what["count"]))

    def _tail(self, written: Any) -> bytes:
        """The bytes that follow the struct."""
        if written is None:
            return b""
        if isinstance(written, str):
            return bytes.fromhex(written)
        what = self._scope.buffer(written)
        if "s32s" in what:
            return b"".join((item & 0xFFFFFFFF).to_bytes(4, "little") for item in what["s32s"])
        if "zero" in what or "hex" in what:
            return buffer_bytes(what) or b""
        self._tail_struct = layout(what["struct"])
        return self._structs(self._tail_struct, what)

    def _begin_of_tail(self, data: bytes | None) -> int:
        length = len(data or b"")
        return min(length, self._struct.size) if self._struct is not None else length

    def _lay_out(self, step: Step, pointer: bool) -> int:
        """Put the argument into memory; the answer is what the program passes."""
        if pointer:
            return self._arguments.place(self._before, self._place, self._scope.number(step, "valid", 0))
        if self._place is not None:
            return self._arguments.place(b"", self._place)
        written = step.get("arg", 0)
        return 0 if isinstance(written, dict) else self._scope.value(written)
