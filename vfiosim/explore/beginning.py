"""Where a search begins, hundreds of times: a machine is set back to how it stood, which is ten times quicker than to boot one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache, lru_cache, partial
from inspect import signature
from threading import RLock
from types import (
    BuiltinFunctionType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
)
from typing import Any, Generic

from ..engine import Cell
from ..machine import Machine
from .model import Factory, check_factory, check_machine

_PLAIN = (object, dict, tuple, Generic)  # what classes of this package are made from, whose state is known here
_Lock = type(RLock())  # of Python, and free after each call
# What cannot change. A frame is that of a coroutine, and one that could go on is refused.
_STAYS = (int, float, str, bytes, type(None), Enum, type, CodeType, BuiltinFunctionType, FrameType, range, _Lock)


class Beginning:
    """A factory of machines that can also lend one, and set it back as often as somebody wants to begin anew.

    Raises TypeError for what is no factory, and when it is asked for a machine, if it makes none.
    """

    def __init__(self, factory: Factory) -> None:
        check_factory(factory)
        self._factory = factory
        self._quick = partial(factory, trace=False) if "trace" in signature(factory).parameters else factory
        self._idle: list[_Standing] = []

    def machine(self) -> Machine:
        """A machine that nobody else has, with a trace."""
        return check_machine(self._factory())

    @contextmanager
    def lent(self) -> Iterator[Callable[[], Machine]]:
        """Within the block, each call of the answer gives a machine without a trace; from then on the one before is no more."""
        standing = self._idle.pop() if self._idle else None  # whoever comes meanwhile gets another one

        def begin() -> Machine:
            nonlocal standing
            if standing is not None and standing.set_back():
                return standing.machine
            machine = check_machine(self._quick())
            machine.engine.journal = None
            standing = standing or _Standing(machine)
            return machine

        try:
            yield begin
        finally:
            if standing is not None:
                self._idle.append(standing)


def beginning(factory: Factory) -> Beginning:
    """That of a factory. Those of this package always make the same machine, so their beginnings are kept."""
    fixed = isinstance(factory, FunctionType) and _is_ours(factory) and not factory.__closure__
    return _kept(factory) if fixed else Beginning(factory)


_kept = lru_cache(maxsize=32)(Beginning)


def _is_ours(thing: type | FunctionType) -> bool:
    return thing.__module__.partition(".")[0] == __name__.partition(".")[0]


class _Standing:
    """A machine, and everything in it that can change, as it is now."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._sets: list[tuple[set[Any], set[Any]]] = []
        self._rows: list[tuple[Any, Any]] = []  # lists and bytes
        self._slots: list[tuple[Callable[[Any, Any], None], Any, Any]] = []
        self._whole = self._keep_all(machine)

    def set_back(self) -> bool:
        """Let everything be as it was, and the same objects. False where that cannot be had."""
        if self._whole:
            for thread in self.machine.engine.threads:
                if thread.code is not None:
                    thread.code.close()
            for mapping, entries in self._dicts:
                dict.clear(mapping)
                dict.update(mapping, entries)
            for members, were in self._sets:
                members.clear()
                members.update(were)
            for row, was in self._rows:
                row[:] = was
            for put, thing, value in self._slots:
                put(thing, value)
        return self._whole

    def _keep_all(self, root: object) -> bool:
        """Keep what can change of all that can be reached; False where something is met that is not known here."""
        met: dict[int, object] = {}
        found = [root]
        while found:
            thing = found.pop()
            if not isinstance(thing, _STAYS) and id(thing) not in met:
                met[id(thing)] = thing  # and so nothing else gets its number
                inside = self._keep(thing)
                if inside is None:
                    return False
                found += inside
        return True

    def _keep(self, thing: Any) -> list[Any] | None:
        """Keep what can change of one thing; the answer is what can be reached from it, None where that is not known."""
        kind: Any = type(thing)
        if kind in _CONTAINERS:
            return _CONTAINERS[kind](self, thing)
        slots = _slots(kind)
        if slots is None:
            return None
        inside = self._keep_dict(thing) if isinstance(thing, dict) else list(thing) if isinstance(thing, tuple) else []
        if hasattr(thing, "__dict__"):
            inside += self._keep_dict(thing.__dict__)
        fixed = thing.born_with if isinstance(thing, Cell) else ()
        for slot in slots:
            if hasattr(thing, slot.__name__):
                value = slot.__get__(thing)
                inside.append(value)
                if slot.__name__ not in fixed:
                    self._slots.append((slot.__set__, thing, value))
        return inside

    def _keep_dict(self, mapping: dict[Any, Any]) -> list[Any]:
        self._dicts.append((mapping, dict(mapping)))
        return [*mapping, *mapping.values()]

    def _keep_list(self, row: list[Any]) -> list[Any]:
        self._rows.append((row, list(row)))
        return list(row)

    def _keep_set(self, members: set[Any]) -> list[Any]:
        self._sets.append((members, set(members)))
        return list(members)

    def _keep_bytes(self, data: bytearray) -> list[Any]:
        self._rows.append((data, bytes(data)))
        return []

    def _keep_view(self, view: memoryview) -> list[Any] | None:
        self._rows.append((view, view.tobytes()))
        return [] if view.format == "B" and not view.readonly else None


def _of_function(function: FunctionType) -> list[Any] | None:
    """The variables of a function; those of one that is not of this package may be anything."""
    known = not function.__closure__ or _is_ours(function)
    return [cell.cell_contents for cell in function.__closure__ or ()] if known else None


_CONTAINERS: dict[type, Callable[[_Standing, Any], list[Any] | None]] = {
    dict: _Standing._keep_dict,
    list: _Standing._keep_list,
    set: _Standing._keep_set,
    bytearray: _Standing._keep_bytes,
    memoryview: _Standing._keep_view,
    tuple: lambda _, row: list(row),
    frozenset: lambda _, members: list(members),
    partial: lambda _, call: [call.func, call.args, call.keywords],
    MethodType: lambda _, method: [method.__self__, method.__func__],
    FunctionType: lambda _, function: _of_function(function),
    CoroutineType: lambda _, code: None if code.cr_frame is not None else [],
}


@cache
def _slots(kind: type) -> list[MemberDescriptorType] | None:
    """Where an object of a class of this package has its state, beside its `__dict__`; None for other classes."""
    if not all(base in _PLAIN or _is_ours(base) for base in kind.__mro__):
        return None
    return [one for base in kind.__mro__ for one in vars(base).values() if isinstance(one, MemberDescriptorType)]
