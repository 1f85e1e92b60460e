"""How something that was done in the sandbox ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ... import uapi
from ...kernel.fs.file import File
from ...machine import Call
from ...machine.events import Called, Event, Moved
from ...machine.system_calls import REQUESTS_OF, layouts
from ..session import Outcome


@dataclass(frozen=True)
class Told(Outcome):
    """How something ended; for a call that the kernel refused also what it had in its hands.

    `source` is the line of the check, `had` what the call held at that moment, `back` what it gave back on its way out;
    `wrote` what the kernel put into the caller's buffer, field by field; `effects` how many were done.
    """

    source: str = ""
    had: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    wrote: tuple[str, ...] = ()
    effects: int = 0
    number: Any = None
    waits: bool = False


@dataclass(frozen=True)
class Done:
    """Something that was done, how it ended, and how many effects and steps there were before it.

    `more`: it belongs to what was done next, and is taken back with it.
    """

    action: Event
    told: Told
    effects_before: int
    steps_before: int
    call: int = -1  # its number among the calls of the machine
    more: bool = False

    @property
    def by_hand(self) -> bool:
        """Is this a part of a race that the reader schedules?"""
        return isinstance(self.action, Moved) or self.begins

    @property
    def begins(self) -> bool:
        """Is this a call, or something that belongs to one, that the reader moves then?"""
        return self.more or (isinstance(self.action, Called) and self.action.by_hand)


def result(value: Any) -> str:
    """What a call returned, for people."""
    return str(value) if not isinstance(value, int) or abs(value) < 4096 else hex(value)


def changes(call: Call) -> list[str]:
    """What the kernel wrote into the buffer of a call: fields that are different now, or bytes where there are no fields."""
    before = call.asked.arguments[-1] if call.asked is not None and call.name == "ioctl" else None
    if not isinstance(before, bytes) or bytes(after := call.passed[-1]) == before:
        return []
    layout = _layout(call, len(before))
    if layout is None:
        return [f"bytes = {after.hex(' ')}"]
    old, new = layout.from_buffer_copy(before), layout.from_buffer_copy(bytes(after))
    fields = [field for field in layout.fields() if field.kind == "int" and old.get(field.name) != new.get(field.name)]
    found = [f"{field.name} = {_value(field, new.get(field.name))}" for field in fields]
    size = len(bytes(layout()))
    if bytes(after[size:]) != before[size:]:
        found.append(f"bytes behind the struct = {after[size:].hex(' ')}")
    return found


def _layout(call: Call, size: int) -> type[uapi.Struct] | None:
    """The struct that a request takes from such a file, if so many bytes have room for it."""
    variant, (fd, number) = call.process.machine.variant, call.passed[:2]
    file = call.process.task.files.fd.slots.get(fd)
    kinds = REQUESTS_OF.get(file.f_op.name, ()) if isinstance(file, File) else ()
    return next((layout for layout in layouts(variant, number, kinds) if len(bytes(layout())) <= size), None)


def _value(field: uapi.Field, value: int) -> str:
    return hex(value) if field.size == 8 or "flags" in field.name else str(value)
