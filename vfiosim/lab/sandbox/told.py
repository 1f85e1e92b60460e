"""How something that was done in the sandbox ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ... import uapi
from ..session import Outcome
from .actions import Action, Called, Killed, Mapped, Moved, Slept, struct_named


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
    """Something that was done, how it ended, and how many effects and steps there were before it."""

    action: Action
    told: Told
    effects_before: int
    steps_before: int
    call: int = -1  # its number among the calls of the machine


def result(value: Any) -> str:
    """What a call returned, for people."""
    return str(value) if not isinstance(value, int) or abs(value) < 4096 else hex(value)


def changes(action: Called, after: bytes | bytearray) -> list[str]:
    """What the kernel wrote into the buffer of a call: fields that are different now, or bytes where there are no fields."""
    before = next((value for value in action.arguments[2:] if isinstance(value, bytes)), b"")
    if not before or bytes(after) == before:
        return []
    layout = struct_named(action.struct)
    if layout is None or len(before) < len(bytes(layout())):
        return [f"bytes = {after.hex(' ')}"]
    old, new = layout.from_buffer_copy(before), layout.from_buffer_copy(bytes(after))
    fields = [field for field in layout.fields() if field.kind == "int" and old.get(field.name) != new.get(field.name)]
    found = [f"{field.name} = {_value(field, new.get(field.name))}" for field in fields]
    size = len(bytes(layout()))
    if bytes(after[size:]) != before[size:]:
        found.append(f"bytes behind the struct = {after[size:].hex(' ')}")
    return found


def _value(field: uapi.Field, value: int) -> str:
    return hex(value) if field.size == 8 or "flags" in field.name else str(value)


def by_hand(action: Action) -> bool:
    """Is this a part of a race that the reader schedules?"""
    return (
        isinstance(action, Moved)
        or (isinstance(action, Called) and action.by_hand)
        or (isinstance(action, Mapped) and action.quiet)
    )


def title(action: Action) -> str:
    """What was done, in a few words."""
    if isinstance(action, Called):
        return f"{action.process}: {action.name}"
    if isinstance(action, Moved):
        return f"call {action.call} moved: {action.how}"
    if isinstance(action, Mapped):
        return f"{action.process}: {action.length} bytes of memory"
    if isinstance(action, Slept):
        return f"{action.milliseconds} ms pass"
    if isinstance(action, Killed):
        return f"{action.process} is killed"
    return f"{action.parent} forks {action.process}" if action.parent else f"process {action.process} begins"
