"""The argument of an ioctl, to edit field by field and byte by byte; both show the same buffer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from types import MappingProxyType
from typing import Any

from ...uapi import Member, Struct
from .. import controls as widgets
from ..fields import BadInput, NumberField
from ..style import row, text
from .inputs import AddressField, BytesField, NumbersField, bytes_of

RARE = re.compile("argsz$|size$|out_|__|reserved")  # what the simulator fills in, or the kernel


class BufferForm(widgets.VBox):
    """Fields of a struct, what follows it, and its raw bytes.

    `values` is what to begin with: the fields that it names are shown at once, where it has none those that a caller fills in;
    the others, and the bytes, once `more` is pressed, or something is wrong with them. `fds` are descriptors to choose from, each
    with what it leads to: that is told beside the field.
    `memory()` tells what is to be put into memory, and where in the buffer its address belongs. `by_hand`: the reader has
    written the raw bytes, and nobody else changes them.
    """

    def __init__(
        self,
        struct: type[Struct],
        values: Mapping[str, int | str | None],
        fds: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.struct = struct
        self.data = bytearray(bytes(struct()))
        self._size = len(self.data)
        self._quiet = self.by_hand = False
        self.fields: dict[str, NumberField | NumbersField | BytesField] = {}
        self._places: dict[str, Member] = {}
        self._leads: dict[str, widgets.HTML] = {}  # by field, the file behind the descriptor in it
        self._files = {str(fd): file for fd, file in fds.items()}
        for field in struct.fields():
            if field.kind != "struct":
                self._places[field.name] = field
                self.fields[field.name] = self._field(field, values.get(field.name), fds)
        self.raw = BytesField("raw bytes", tip="the whole buffer, two hexadecimal digits for each byte")
        self.raw.add_class("vfiosim-raw")
        self.more = widgets.ToggleButton(
            value=False, description="More fields", tooltip="every field, and the buffer byte by byte"
        )
        asked = {*values} or {name for name in self.fields if not RARE.match(name)}
        common = [part for name in self.fields if name in asked for part in self._with_file(name)]
        self._rare = [*(field for name, field in self.fields.items() if name not in asked), self.raw]
        self.rare = widgets.Box(self._rare, kind="rare", layout={"display": "none"})  # over the picture, which stays
        self.more.observe(lambda change: widgets.unfold(self.rare, change["new"]), "value")
        for name, field in self.fields.items():
            field.text.observe(lambda _, name=name: self._edited(name), "value")
        self.raw.text.observe(lambda _: self._raw_edited(), "value")
        for name, value in values.items():
            if name == "iommufd" and value is None:  # elsewhere 0 means something, too
                self._wait_for(name)
            elif name in self.fields:
                with suppress(BadInput):
                    self._write(name)
        self._refresh()
        super().__init__([row("", *common, self.more), self.rare], kind="parts")

    def _with_file(self, name: str) -> list[widgets.Widget]:
        """The field; beside one for a descriptor, to which file that leads."""
        place, field = self._places[name], self.fields[name]
        if place.role != "fd_in" and name != "fd":
            return [field]
        said = self._leads[name] = text("leads")
        return [field, said]

    def _field(self, field: Member, value: int | str | None, fds: Mapping[int, str]) -> Any:
        now = self.struct.from_buffer_copy(bytes(self.data)).get(field.name) if value is None else value
        tip = f"{self.struct.kernel_name}.{field.name}, {8 * field.size} bits"
        if field.kind == "array":
            if field.elem_size in (2, 4, 8) and not field.struct:
                tip = f"{self.struct.kernel_name}.{field.name}: numbers, e.g. 3, 4"
                return NumbersField(field.name, size=field.elem_size, tip=tip)
            return BytesField(field.name, "", tip=f"{self.struct.kernel_name}.{field.name}: bytes, e.g. 03 00 00 00")
        if field.role == "ptr":
            return AddressField(field.name, now)
        high = (1 << 8 * field.size) - 1
        choices = [str(fd) for fd in fds] if field.role == "fd_in" or field.name == "fd" else None
        low = -(1 << 8 * field.size - 1)
        return NumberField(field.name, now, low=low, high=high, tip=tip, choices=choices)

    def _wait_for(self, name: str) -> None:
        """There is nothing as yet that the field could be about: 0 would look like a choice."""
        place, field = self._places[name], self.fields[name]
        self.data[place.offset : place.offset + place.size] = bytes(place.size)
        field.nothing = f"there is no {field.label} as yet: make one, or write a number"
        field.text.placeholder = "none"
        field.set("")

    def follow(self, values: Mapping[str, int | str | None], fds: Mapping[int, str]) -> None:
        """Descriptors have come or gone: what has waited for one gets it, and what has gone is no choice any more."""
        self._files = {str(fd): file for fd, file in fds.items()}
        there = tuple(str(fd) for fd in fds)
        for name, field in self.fields.items():
            typed, offered = str(field.text.value), getattr(field.text, "options", ())
            value, gone = values.get(name), typed in {*offered} - {*there}
            if not self.by_hand and value is not None and (gone or typed in ("0", "")):
                field.set(value)
            elif not self.by_hand and gone:
                self._wait_for(name)
            if offered:
                field.text.options = there
        self._tell_files()

    # ---- both ways

    def _edited(self, name: str) -> None:
        """A field was changed: its bytes follow, and so do other fields that share them, and the raw bytes."""
        if self._quiet or self.fields[name].waits:
            return
        try:
            self._write(name)
        except BadInput:
            return
        self._refresh(but=name)

    def _write(self, name: str) -> None:
        place, field = self._places[name], self.fields[name]
        if isinstance(field, NumberField):
            number = field.read() & (1 << 8 * place.size) - 1
            self.data[place.offset : place.offset + place.size] = number.to_bytes(place.size, "little")
            return
        if isinstance(field, NumbersField):
            made = b"".join(number.to_bytes(place.elem_size, "little") for number in field.read())
        else:
            made = field.read()
        if place.size == 0:  # what follows the struct
            self.data[place.offset :] = made
        elif len(made) > place.size:
            field.complain(f"there is room for {place.size} bytes")
            raise BadInput(name)
        else:
            self.data[place.offset : place.offset + place.size] = made.ljust(place.size, b"\0")

    def _raw_edited(self) -> None:
        if self._quiet or self.raw.waits:
            return
        try:
            made = bytes_of(str(self.raw.text.value))
        except ValueError as problem:
            self.raw.complain(str(problem))
            return
        self.by_hand = True
        self.data[:] = made
        self._refresh(but="raw")

    def _refresh(self, but: str = "") -> None:
        self._quiet = True
        padded = bytes(self.data).ljust(self._size, b"\0")
        value = self.struct.from_buffer_copy(padded)
        for name, field in self.fields.items():
            if name != but:
                self._show_field(field, self._places[name], value, padded)
        if but != "raw":
            self.raw.set(bytes(self.data).hex(" "))
        self._tell_files()
        self._quiet = False

    def _tell_files(self) -> None:
        for name, said in self._leads.items():
            file = self._files.get(str(self.fields[name].text.value).strip(), "")
            said.value = f"→ {escape(file)}" if file else ""

    def _show_field(self, field: Any, place: Member, value: Struct, padded: bytes) -> None:
        if isinstance(field, NumberField):
            if not str(field.text.value).strip() and not value.get(place.name):
                return  # it waits
            try:
                same = field.read() & (1 << 8 * place.size) - 1 == value.get(place.name) & (1 << 8 * place.size) - 1
            except BadInput:
                return  # what cannot be read stays, with what is said about it
            if not same:
                number = value.get(place.name)
                field.set(hex(number) if place.size == 8 or "flags" in place.name else number)
            return
        end = place.offset + place.size if place.size else None
        now = padded[place.offset : end]
        if isinstance(field, NumbersField):
            parts = [now[at : at + place.elem_size] for at in range(0, len(now), place.elem_size)]
            field.set(", ".join(str(int.from_bytes(part, "little")) for part in parts))
        else:
            field.set(now.hex(" "))

    # ---- for the call

    def read(self) -> bytes:
        """The buffer. Raises BadInput where a field holds something that cannot be used."""
        wrong = []
        for field in self.fields.values():
            try:
                if isinstance(field, NumberField):
                    field.read()
                elif field.message:
                    raise BadInput(field.label)
            except BadInput as problem:
                wrong.append(problem)
        if self.raw.message:
            wrong.append(BadInput("raw bytes"))
        if wrong:
            self.more.value |= any(part.message for part in self._rare)
            raise wrong[0]
        return bytes(self.data)

    def memory(self) -> list[tuple[int, bytes]]:
        """(offset in the buffer, content) for each address that stands for memory to be made."""
        found = []
        for name, field in self.fields.items():
            if isinstance(field, AddressField) and field.memory is not None:
                found.append((self._places[name].offset, field.memory))
        return found
