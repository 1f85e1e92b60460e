"""The effects: the only ways in which kernel code touches shared state.

`await load(group.opened_file)` hands a request to the engine, which performs it now or after other threads have run, and
answers. Each effect is one indivisible step of a thread: it happens whole, or the thread waits (`WAIT`), or it fails with an errno.

A function below is what performs an effect; kernel code awaits it without the engine and the thread (`operations.py`).
Here are the effects on fields and tables; `lifetime.py`, `sync.py` and `checks.py` have the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..uapi import Errno
from .objects import Cell, Count, Field, Intervals, KObject, Table
from .operations import (
    ADD,
    LOOK,
    PERFORM,
    READ,
    SLOT,
    STORED,
    WRITE,
    WROTE,
    Access,
    Accesses,
    Request,
    Say,
    arrow,
    effect,
    looks,
    read_words,
    stored_words,
    writes,
)

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

T = TypeVar("T")


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


def touched(request: Request) -> Cell | KObject | None:
    """What a request is about, if it is about a cell or an object."""
    return request[1] if isinstance(request[1], Cell | KObject) else None


# ---- fields


@effect(Cell, touches=looks, value=0, words=read_words)
def load(engine: Engine, thread: Thread, target: Field[T]) -> T:
    """Read a field."""
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return target.value


@effect(Cell, touches=looks, value=0, words=read_words)
def load_acquire(engine: Engine, thread: Thread, target: Field[T]) -> T:
    """Read a field before everything that this thread reads after it (`smp_load_acquire`)."""
    engine.touch(thread, target)
    return target.value


@effect(Cell, touches=looks, value=0, words=read_words)
def load_count(engine: Engine, thread: Thread, target: Count) -> int:
    """Read how many references a count has."""
    engine.touch(thread, target)
    return target.value


@effect(Cell, STORED, touches=writes, does=WROTE, value=2, words=stored_words)
def store(engine: Engine, thread: Thread, target: Field[T], value: T) -> None:
    """Write a field."""
    if target.owner.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        check_storable(value)
        engine.journal.append((target, None, target.value, value))
    target.value = value
    if target.notes is not None:
        noted, source = target.notes(target.owner)
        PERFORM[store](engine, thread, noted, source.value)


@effect(Cell, STORED, touches=writes, does=WROTE, value=2, orders=True, words=stored_words)
def store_release(engine: Engine, thread: Thread, target: Field[T], value: T) -> None:
    """Write a field after everything that this thread wrote before it (`smp_store_release`)."""
    PERFORM[store](engine, thread, target, value)


def _exchanged_words(say: Say, answer: Any, target: Any, value: Any) -> str:
    return f"{stored_words(say, answer, target, value)}, was {say(answer)}"


@effect(Cell, STORED, touches=writes, does=WROTE, value=2, orders=True, words=_exchanged_words)
def exchange(engine: Engine, thread: Thread, target: Field[T], value: T) -> T:
    """Read a field and write it, in one step; the answer is the old value."""
    old = target.value
    PERFORM[store](engine, thread, target, value)
    return old


def _compared_words(say: Say, answer: Any, target: Any, _old: Any, new: Any) -> str:
    return stored_words(say, answer, target, new) + ("" if answer else " → no, it has changed meanwhile")


@effect(touches=writes, does=WROTE, orders=True, words=_compared_words)
def try_cmpxchg(engine: Engine, thread: Thread, target: Field[T], old: T, new: T) -> bool:
    """Write a field if it is as it was read before, in one step (`atomic_try_cmpxchg`); the answer tells."""
    if target.value != old:
        engine.touch(thread, target)
        return False
    PERFORM[store](engine, thread, target, new)
    return True


# ---- tables


def _slot(way: int) -> Callable[[Thread, Request], Accesses]:
    """One slot of a table; a change of it may change which slots are taken."""

    def accesses(thread: Thread, request: Request) -> Accesses:
        cell, oid = request[1], request[1].owner.oid
        own: Access = ((oid, f"{cell.name}[{request[2]}]"), way)
        return (own, ((oid, ""), LOOK)) if way == LOOK else (own, ((oid, cell.name), ADD), ((oid, ""), LOOK))

    return accesses


def _slot_words(say: Say, answer: Any, target: Any, slot: int | str) -> str:
    return f"{say(target)}[{slot}]{arrow(say, answer)}"


@effect(Table, SLOT, touches=_slot(LOOK), does=READ, value=0, words=_slot_words)
def xa_load(engine: Engine, thread: Thread, target: Table[T], slot: int | str) -> T | None:
    """Read a slot of a table; None if it is empty (`xa_load`, a look into a table of descriptors or names)."""
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return target.slots.get(slot)


def _slot_stored_words(say: Say, answer: Any, target: Any, slot: int | str, value: Any) -> str:
    return f"{say(target)}[{slot}] = {say(value)}"


@effect(Table, SLOT, STORED, touches=_slot(WRITE), does=WROTE, value=3, orders=True, words=_slot_stored_words)
def xa_store(engine: Engine, thread: Thread, target: Table[T], slot: int | str, value: T | None) -> T | None:
    """Write a slot of a table, None empties it; the answer is what was in it."""
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


@effect(Table, STORED, touches=_allocates, does=WROTE, orders=True, fails=(Errno.ENOMEM,), words=_allocated_words)
def xa_alloc(engine: Engine, thread: Thread, target: Table[T], value: T, limit: int | None = None) -> int | None:
    """Put a value into the lowest free slot; the answer is its number, or None if that would not be below `limit`."""
    slot: int = target.lowest_free()
    if limit is not None and slot >= limit:
        engine.touch(thread, target)
        return None
    PERFORM[xa_store](engine, thread, target, slot, value)
    return slot


@effect(Table, touches=looks)
def next_slot(engine: Engine, thread: Thread, target: Table[T], start: int) -> int | None:
    """The lowest number from `start` on whose slot is not empty (`xa_find`); None if there is none."""
    engine.touch(thread, target)
    return min((slot for slot in target.slots if slot >= start), default=None)


@effect(Table, touches=looks)
def slots_of(engine: Engine, thread: Thread, target: Table[T]) -> tuple[str, ...]:
    """The name of every slot that is not empty, oldest first; of a table whose slots have names."""
    return tuple(target.slots)


@effect(Intervals, touches=looks)
def first_between(engine: Engine, thread: Thread, target: Intervals[T], first: int, last: int) -> T | None:
    """The lowest range that has a number from `first` to `last` (`interval_tree_iter_first`); None if there is none."""
    engine.touch(thread, target)
    return target.overlapping(first, last)


@effect(Intervals, touches=looks)
def in_order(engine: Engine, thread: Thread, target: Intervals[T]) -> tuple[T, ...]:
    """All ranges of a table of ranges, upwards."""
    engine.touch(thread, target)
    return target.in_order()
