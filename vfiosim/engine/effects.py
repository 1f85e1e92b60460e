"""The effects: the only ways in which kernel code touches shared state.

`await load(group.opened_file)` hands a request to the engine, which performs it now or after other threads have run, and
answers. Each effect is one indivisible step of a thread: it happens whole, or the thread waits (`WAIT`), or it fails with an errno.

A request is a tuple (operation, its arguments...): cheap, because there are millions of them. An operation is a function below
whose name begins with an underscore; the public coroutine of the same name is what kernel code awaits.
Here are the effects on fields and tables; `lifetime.py`, `sync.py` and `checks.py` have the others.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeAlias, TypeVar

from ..uapi import Errno
from .objects import Cell, Count, Field, Intervals, KObject, Table
from .operations import (
    ADD,
    LOOK,
    READ,
    SLOT,
    STORED,
    TAKES,
    WRITE,
    WROTE,
    Access,
    Accesses,
    arrow,
    looks,
    operation,
    read_words,
    stored_words,
    writes,
)

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

P = ParamSpec("P")
T = TypeVar("T")
Say: TypeAlias = Callable[[Any], str]

Request: TypeAlias = tuple[Any, ...]
Asks: TypeAlias = Generator[Request, Any, T]


def effect(*takes: Any) -> Callable[[Callable[P, Asks[T]]], Callable[P, Awaitable[T]]]:
    """What kernel code awaits. `takes` is what its arguments must be: a student's function may await it then, too."""

    def declare(asks: Callable[P, Asks[T]]) -> Callable[P, Awaitable[T]]:
        made = types.coroutine(asks)
        if takes:
            TAKES[made] = takes
        return made

    return declare


class NotYet:
    """The answer of an operation that has not done what the thread asked for."""


WAIT: Final = NotYet()  # it cannot happen yet
AGAIN: Final = NotYet()  # something else came first; now ask once more


class KernelOops(Exception):
    """The kernel did what it must never do: the process dies on the spot, the locks that it holds stay locked."""


_PLAIN: Final = frozenset({type(None), bool, int, str, bytes})


def check_storable(value: Any) -> None:
    """Only values that nobody can change behind the journal's back may be stored. Raises TypeError."""
    if type(value) in _PLAIN or isinstance(value, (KObject, int)) or callable(value):
        return
    if not isinstance(value, tuple):
        raise TypeError(f"a store takes an immutable value or a kernel object, not a {type(value).__name__}")
    for item in value:
        check_storable(item)


# ---- fields


@effect(Cell)
def load(target: Field[T]) -> Asks[T]:
    """Read a field."""
    answer: T = yield (_load, target)
    return answer


@effect(Cell)
def load_acquire(target: Field[T]) -> Asks[T]:
    """Read a field before everything that this thread reads after it (`smp_load_acquire`)."""
    answer: T = yield (_load_acquire, target)
    return answer


@effect(Cell)
def load_count(target: Count) -> Asks[int]:
    """Read how many references a count has."""
    answer: int = yield (_load_count, target)
    return answer


@operation(touches=looks, value=0, words=read_words)
def _load(engine: Engine, thread: Thread, request: Request) -> Any:
    target = request[1]
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return target.value


@operation(touches=looks, value=0, words=read_words)
def _load_acquire(engine: Engine, thread: Thread, request: Request) -> Any:
    return _load(engine, thread, request)


@operation(touches=looks, value=0, words=read_words)
def _load_count(engine: Engine, thread: Thread, request: Request) -> Any:
    return _load(engine, thread, request)


@effect(Cell, STORED)
def store(target: Field[T], value: T) -> Asks[None]:
    """Write a field."""
    yield (_store, target, value)


@effect(Cell, STORED)
def store_release(target: Field[T], value: T) -> Asks[None]:
    """Write a field after everything that this thread wrote before it (`smp_store_release`)."""
    yield (_store_release, target, value)


@effect(Cell, STORED)
def exchange(target: Field[T], value: T) -> Asks[T]:
    """Read a field and write it, in one step; the answer is the old value."""
    answer: T = yield (_exchange, target, value)
    return answer


@effect()
def try_cmpxchg(target: Field[T], old: T, new: T) -> Asks[bool]:
    """Write a field if it is as it was read before, in one step (`atomic_try_cmpxchg`); the answer tells."""
    answer: bool = yield (_try_cmpxchg, target, new, old)
    return answer


@operation(touches=writes, does=WROTE, value=2, words=stored_words)
def _store(engine: Engine, thread: Thread, request: Request) -> None:
    _, target, value = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        check_storable(value)
        engine.journal.append((target, None, target.value, value))
    target.value = value
    if target.notes is not None:
        noted, source = target.notes(target.owner)
        _store(engine, thread, (_store, noted, source.value))


@operation(touches=writes, does=WROTE, value=2, orders=True, words=stored_words)
def _store_release(engine: Engine, thread: Thread, request: Request) -> None:
    _store(engine, thread, request)


def _compared_words(say: Say, answer: Any, target: Any, value: Any, _old: Any) -> str:
    return stored_words(say, answer, target, value) + ("" if answer else " → no, it has changed meanwhile")


@operation(touches=writes, does=WROTE, orders=True, words=_compared_words)
def _try_cmpxchg(engine: Engine, thread: Thread, request: Request) -> bool:
    if request[1].value != request[3]:
        _load(engine, thread, request)
        return False
    _store(engine, thread, request[:3])
    return True


def _exchanged_words(say: Say, answer: Any, target: Any, value: Any) -> str:
    return f"{stored_words(say, answer, target, value)}, was {say(answer)}"


@operation(touches=writes, does=WROTE, value=2, orders=True, words=_exchanged_words)
def _exchange(engine: Engine, thread: Thread, request: Request) -> Any:
    old = request[1].value
    _store(engine, thread, request)
    return old


# ---- tables


@effect(Table, SLOT)
def xa_load(target: Table[T], slot: int | str) -> Asks[T | None]:
    """Read a slot of a table; None if it is empty (`xa_load`, a look into a table of descriptors or names)."""
    answer: T | None = yield (_xa_load, target, slot)
    return answer


@effect(Table, SLOT, STORED)
def xa_store(target: Table[T], slot: int | str, value: T | None) -> Asks[T | None]:
    """Write a slot of a table, None empties it; the answer is what was in it."""
    answer: T | None = yield (_xa_store, target, slot, value)
    return answer


@effect(Table, STORED)
def xa_alloc(target: Table[T], value: T, limit: int | None = None) -> Asks[int | None]:
    """Put a value into the lowest free slot; the answer is its number, or None if that would not be below `limit`."""
    answer: int | None = yield (_xa_alloc, target, value, limit)
    return answer


@effect(Table)
def next_slot(target: Table[T], start: int) -> Asks[int | None]:
    """The lowest number from `start` on whose slot is not empty (`xa_find`); None if there is none."""
    answer: int | None = yield (_next_slot, target, start)
    return answer


@effect(Table)
def slots_of(target: Table[T]) -> Asks[tuple[str, ...]]:
    """The name of every slot that is not empty, oldest first; of a table whose slots have names."""
    answer: tuple[str, ...] = yield (_slots_of, target)
    return answer


@operation(touches=looks)
def _slots_of(engine: Engine, thread: Thread, request: Request) -> tuple[Any, ...]:
    return tuple(request[1].slots)


@effect(Intervals)
def first_between(target: Intervals[T], first: int, last: int) -> Asks[T | None]:
    """The lowest range that has a number from `first` to `last` (`interval_tree_iter_first`); None if there is none."""
    answer: T | None = yield (_first_between, target, first, last)
    return answer


@effect(Intervals)
def in_order(target: Intervals[T]) -> Asks[tuple[T, ...]]:
    """All ranges of a table of ranges, upwards."""
    answer: tuple[T, ...] = yield (_in_order, target)
    return answer


@operation(touches=looks)
def _first_between(engine: Engine, thread: Thread, request: Request) -> Any:
    _, target, first, last = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return target.overlapping(first, last)


@operation(touches=looks)
def _in_order(engine: Engine, thread: Thread, request: Request) -> Any:
    target = request[1]
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return target.in_order()


@operation(touches=looks)
def _next_slot(engine: Engine, thread: Thread, request: Request) -> int | None:
    _, target, start = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return min((slot for slot in target.slots if slot >= start), default=None)


def _slot(way: int) -> Callable[[Thread, Request], Accesses]:
    """One slot of a table; a change of it may change which slots are taken."""

    def accesses(thread: Thread, request: Request) -> Accesses:
        cell, oid = request[1], request[1].owner.oid
        own: Access = ((oid, f"{cell.name}[{request[2]}]"), way)
        return (own, ((oid, ""), LOOK)) if way == LOOK else (own, ((oid, cell.name), ADD), ((oid, ""), LOOK))

    return accesses


def _slot_words(say: Say, answer: Any, target: Any, slot: int | str) -> str:
    return f"{say(target)}[{slot}]{arrow(say, answer)}"


@operation(touches=_slot(LOOK), does=READ, value=0, words=_slot_words)
def _xa_load(engine: Engine, thread: Thread, request: Request) -> Any:
    _, target, slot = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return target.slots.get(slot)


def _slot_stored_words(say: Say, answer: Any, target: Any, slot: int | str, value: Any) -> str:
    return f"{say(target)}[{slot}] = {say(value)}"


@operation(touches=_slot(WRITE), does=WROTE, value=3, orders=True, words=_slot_stored_words)
def _xa_store(engine: Engine, thread: Thread, request: Request) -> Any:
    _, target, slot, value = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    old = target.slots.get(slot)
    if engine.journal is not None:
        check_storable(value)
        engine.journal.append((target, slot, old, value))
    target.put(slot, value)
    return old


def _allocates(thread: Thread, request: Request) -> Accesses:
    cell, oid = request[1], request[1].owner.oid
    return (((oid, cell.name), WRITE), ((oid, f"{cell.name}[{cell.lowest_free()}]"), WRITE), ((oid, ""), LOOK))


def _allocated_words(say: Say, answer: Any, target: Any, value: Any, _limit: Any) -> str:
    return f"{say(target)}[{'no slot is free' if answer is None else answer}] = {say(value)}"


@operation(touches=_allocates, does=WROTE, orders=True, fails=(Errno.ENOMEM,), words=_allocated_words)
def _xa_alloc(engine: Engine, thread: Thread, request: Request) -> int | None:
    _, target, value, limit = request
    slot: int = target.lowest_free()
    if limit is not None and slot >= limit:
        if target.owner.freed:
            engine.use_after_free(thread, target)
        return None
    _xa_store(engine, thread, (_xa_store, target, slot, value))
    return slot


def name_of(request: Request) -> str:
    """The name of what is asked for, as kernel code writes it: "load", "refuse_if"."""
    return str(request[0].__name__).lstrip("_")


def touched(request: Request) -> Cell | KObject | None:
    """What a request is about, if it is about a cell or an object."""
    return request[1] if isinstance(request[1], Cell | KObject) else None
