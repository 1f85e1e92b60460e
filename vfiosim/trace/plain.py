"""Values without kernel objects in them: what a trace is made of, and how it becomes JSON."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, dataclass_transform

from ..engine import Cell, KObject

T = TypeVar("T")

Plain: TypeAlias = "bool | int | str | tuple[Plain, ...] | None"


@dataclass_transform(frozen_default=True)
def record(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A frozen dataclass, but that only mypy keeps it so: Python would take three times as long to make one, for each effect."""
    return dataclasses.dataclass(slots=True, unsafe_hash=True, kw_only=kw_only)


class Ref(str):
    """The name of an object, where a pointer to that object is stored."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def plain(value: Any) -> Plain:
    """The same value as data: a kernel object becomes its name, bytes become hexadecimal digits."""
    if value is None or type(value) in (bool, int, str):
        return value  # type: ignore[no-any-return]
    if isinstance(value, KObject):
        return Ref(value.oid)
    if isinstance(value, Cell):
        return value.path
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, bytes):
        return value.hex(" ")
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, int):
        return int(value)
    return str(getattr(value, "__qualname__", None) or type(value).__name__)


def shown(value: Plain) -> str:
    """A plain value as a reader sees it; truth is 1 and 0, as in C."""
    if isinstance(value, tuple):
        return "(" + ", ".join(shown(item) for item in value) + ")"
    return str(int(value) if isinstance(value, bool) else value)


def pack(value: Any) -> Any:
    """The value as JSON knows it: dicts with text keys, lists, texts, numbers."""
    if isinstance(value, Ref):
        return {"ref": str(value)}
    if isinstance(value, tuple | list):
        return [pack(item) for item in value]
    if isinstance(value, dict):
        return {"map": [[pack(key), pack(item)] for key, item in value.items()]}
    if dataclasses.is_dataclass(value):
        named = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"is": type(value).__name__, **{name: pack(item) for name, item in named.items()}}
    return value


def unpack(value: Any, classes: dict[str, Any]) -> Any:
    """Undo `pack`; `classes` are the data classes that may occur, by name. Lists come back as tuples.

    Raises ValueError for a class that is not among them.
    """
    if isinstance(value, list):
        return tuple(unpack(item, classes) for item in value)
    if not isinstance(value, dict):
        return value
    if "ref" in value:
        return Ref(value["ref"])
    if "map" in value:
        return {unpack(key, classes): unpack(item, classes) for key, item in value["map"]}
    made = classes.get(value.get("is", ""))
    if made is None:
        raise ValueError(f"this is not a part of a trace: {value.get('is')!r}")
    return made(**{name: unpack(item, classes) for name, item in value.items() if name != "is"})
