"""What kind of value a cell holds, as its class declares it (`Field[int]`): asked of code that no type checker has seen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .effects import check_storable
from .objects import Cell, Count, Field, KObject, Table

_WORDS = {int: "a number", bool: "a number", str: "a text", bytes: "bytes", tuple: "a tuple", type(None): "None"}


def check_kind(cell: Cell, value: Any) -> None:
    """Raises TypeError for a value that cannot be stored, or not in this cell. An empty slot of a table is None."""
    check_storable(value)
    owner: Any = type(cell.owner)
    allowed = _kinds(owner, cell.name)
    if allowed and not isinstance(value, allowed) and not (value is None and hasattr(cell, "slots")):
        told = value.oid if isinstance(value, KObject) else repr(value)
        raise TypeError(f"{cell.path} holds {' or '.join(dict.fromkeys(map(_word, allowed)))}, not {told:.60}")


@cache
def _kinds(owner: Any, name: str) -> tuple[type, ...]:
    """Classes of what a cell may hold; none where that is anything."""
    known: dict[str, Any] = {}  # a class may know others only when its types are checked
    for one in classes():
        # The class that tells who reads a freed object has the same name as its own class, and comes after it.
        known.setdefault(one.__name__, one)
    hint = get_type_hints(owner, localns=known).get(name)
    held = get_args(hint)[0] if get_args(hint) else Any
    alternatives = get_args(held) if get_origin(held) in (Union, UnionType) else (held,)
    kinds = [get_origin(one) or one for one in alternatives]
    if Any in kinds or not all(isinstance(kind, type) for kind in kinds):
        return ()
    return tuple(int if kind is bool else kind for kind in kinds)  # 1 is as good as True


def classes(kind: type[KObject] = KObject) -> Iterator[type[KObject]]:
    """Every class of kernel objects that has been declared."""
    for one in kind.__subclasses__():
        yield one
        yield from classes(one)


def _word(kind: type) -> str:
    return _WORDS.get(kind) or f"a {kind.kind if issubclass(kind, KObject) else kind.__name__}"


def instead_of_store(owner: str, name: str, value: str) -> str:
    """What is to be written instead of a store to an attribute."""
    told = f"stores to an attribute, `{owner}.{name}`: "
    cell = next((plan.make(None, name) for kind in classes() if (plan := kind._plans.get(name))), None)  # type: ignore[arg-type]
    if isinstance(cell, Field):
        return told + f"write `await store({owner}.{name}, {value})`"
    if isinstance(cell, Table):
        return told + f"write `await xa_store({owner}.{name}, slot, value)`"
    if isinstance(cell, Count):
        return told + f"write `await get({owner}.{name}, holder, reason)`, or `put`"
    return told + "shared state must be a field that the kernel has; what belongs to one call is a local variable"
