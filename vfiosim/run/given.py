"""The last argument of a request as people read it: its fields, and those that are other when the call has ended."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from ..kernel.variants import Variant
from ..machine.system_calls import REQUESTS_OF, layouts
from .memory import ProgramMemory


@dataclass
class Given:
    """What a request to a file of this kind is given: a struct at an address, or only a number."""

    variant: Variant
    file: str
    request: int
    memory: ProgramMemory
    at: int

    def __post_init__(self) -> None:
        self.before = self._fields()

    def _fields(self) -> dict[str, str] | None:
        """By name what there is room for, without what is 0 and a size that leaves some room; None where it cannot be read."""
        for layout in layouts(self.variant, self.request, REQUESTS_OF.get(self.file, ())):
            try:
                value = layout.from_buffer_copy(self.memory.read(self.at, ctypes.sizeof(layout)))
            except OSError:
                break
            fields = [field for field in layout.fields() if field.kind == "int"]
            sized = fields[0].name in ("argsz", "size")
            room = value.get(fields[0].name) if sized else ctypes.sizeof(layout)
            wrong = {fields[0].name: str(room)} if room < fields[0].size else {}
            return wrong | {
                field.name: hex(number) if field.size == 8 or "flags" in field.name else str(number)
                for field in fields[sized:]
                if field.offset + field.size <= room and (number := value.get(field.name))
            }
        return None

    def __str__(self) -> str:
        return f"{self.at:#x}" if self.before is None else _shown(self.before)

    def changed(self) -> str:
        """The fields that the kernel has written, in braces; "" if there are none."""
        before, after = self.before or {}, self._fields() or {}
        found = {name: after.get(name, "0") for name in before | after if after.get(name) != before.get(name)}
        return _shown(found) if found else ""


def _shown(fields: dict[str, str]) -> str:
    return f"{{{', '.join(f'{name}={value}' for name, value in fields.items())}}}"
