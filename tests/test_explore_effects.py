"""The explorer knows every effect: what it touches is said, and its order with what it conflicts with is tried both ways."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

import vfiosim.engine
from tests.schedules import Box, LittleWorld, searched
from vfiosim.engine import (
    Engine,
    Thread,
    acquire,
    alloc,
    call_outside,
    change_mappings,
    complete,
    copy_from_user,
    copy_some_from_user,
    copy_to_user,
    current,
    exchange,
    first_between,
    free,
    get,
    get_unless_zero,
    hand_over,
    in_order,
    load,
    load_acquire,
    load_count,
    next_slot,
    pin_pages,
    put,
    put_if_last,
    read_memory,
    refuse_if,
    release,
    return_to_user,
    slots_of,
    store,
    store_release,
    try_acquire,
    try_cmpxchg,
    wait_for,
    wait_for_killable,
    wait_for_killable_timeout,
    wait_for_timeout,
    wait_until_zero,
    warn_on,
    write_memory,
    xa_alloc,
    xa_load,
    xa_store,
)
from vfiosim.engine.operations import PERFORM
from vfiosim.engine.sync import acquire_shared, release_shared
from vfiosim.kernel.mm import MmStruct
from vfiosim.uapi import Errno

Code = Callable[["Toy"], list[Awaitable[Any]]]


class Toy(LittleWorld):
    """Two threads that do a few effects, and the order in which they did those that are looked at."""

    def __init__(self, threads: dict[str, Code], without: tuple[str, ...], looked_at: set[str]) -> None:
        super().__init__({name: [[]] for name in threads}, (), without)
        self.engine.journal = []
        self.codes, self.looked_at = threads, looked_at
        self.x, self.y = self.boxes
        self.x.done.value = 2
        self.memory = MmStruct(self.engine, "shared")
        self.page = self.memory.map(8)

    def _begin(self, thread: str, call: Any) -> Thread:
        made = self.engine.spawn(self._do(thread), thread, self.memory)
        made.prefix, made.manual = thread, True
        return made

    async def _do(self, thread: str) -> None:
        for effect in self.codes[thread](self):
            await effect

    def outcome(self) -> Any:
        """Who did what, in this order."""
        done = ((thread.label, request[0].__name__) for thread, request, *_ in self.engine.micro)
        return tuple(each for each in done if each[1] in self.looked_at)


def both(t: Toy) -> list[Awaitable[Any]]:
    """Take a lock and give it back."""
    return [acquire(t.x.lock), release(t.x.lock)]


def writer(t: Toy) -> list[Awaitable[Any]]:
    """As a writer."""
    return [acquire(t.x.sem), release(t.x.sem)]


def reader(t: Toy) -> list[Awaitable[Any]]:
    """As a reader."""
    return [acquire_shared(t.x.sem), release_shared(t.x.sem)]


def counts(t: Toy) -> list[Awaitable[Any]]:
    """How many references?"""
    return [load_count(t.x.refs)]


ORDER = ("order of a",)
# Of each operation: what thread A does, what thread B does, which operation of B conflicts with it, and what is taken out.
PAIRS: dict[str, tuple[Code, Code, str, tuple[str, ...]]] = {
    "load": (lambda t: [load(t.x.a)], lambda t: [store(t.x.a, 1)], "store", ()),
    "load_acquire": (lambda t: [load_acquire(t.x.a)], lambda t: [store(t.x.a, 1)], "store", ()),
    "load_count": (counts, lambda t: [get(t.x.refs, t.x, "more")], "get", ()),
    "store": (lambda t: [store(t.x.a, 1)], lambda t: [store(t.x.a, 2)], "store", ()),
    "store_release": (lambda t: [store_release(t.x.a, 1)], lambda t: [load(t.x.a)], "load", ()),
    "exchange": (lambda t: [exchange(t.x.a, 1)], lambda t: [load(t.x.a)], "load", ()),
    "try_cmpxchg": (lambda t: [try_cmpxchg(t.x.a, 0, 1)], lambda t: [load(t.x.a)], "load", ()),
    "xa_load": (lambda t: [xa_load(t.x.slots, 0)], lambda t: [xa_store(t.x.slots, 0, 1)], "xa_store", ()),
    "next_slot": (lambda t: [next_slot(t.x.slots, 0)], lambda t: [xa_store(t.x.slots, 0, 1)], "xa_store", ()),
    "slots_of": (lambda t: [slots_of(t.x.slots)], lambda t: [xa_store(t.x.slots, 0, 1)], "xa_store", ()),
    "first_between": (
        lambda t: [first_between(t.x.ranges, 0, 1)],
        lambda t: [xa_store(t.x.ranges, 0, None)],
        "xa_store",
        (),
    ),
    "in_order": (lambda t: [in_order(t.x.ranges)], lambda t: [xa_store(t.x.ranges, 0, 1)], "xa_store", ()),
    "xa_store": (lambda t: [xa_store(t.x.slots, 0, 2)], lambda t: [xa_store(t.x.slots, 0, 1)], "xa_store", ()),
    "xa_alloc": (lambda t: [xa_alloc(t.x.slots, 1)], lambda t: [xa_alloc(t.x.slots, 2)], "xa_alloc", ()),
    "get": (lambda t: [get(t.x.refs, t.x, "more")], counts, "load_count", ()),
    "get_unless_zero": (
        lambda t: [get_unless_zero(t.x.refs, t.x, "more")],
        lambda t: [put(t.x.refs, t.x, "first")],
        "put",
        (),
    ),
    "put": (lambda t: [put(t.x.refs, t.x, "first")], counts, "load_count", ()),
    "put_if_last": (
        lambda t: [put_if_last(t.x.refs, t.x, "first")],
        lambda t: [get(t.x.refs, t.x, "more")],
        "get",
        (),
    ),
    "hand_over": (
        lambda t: [hand_over(t.x.refs, (t.x, "first"), (t.x, "taker"))],
        lambda t: [put(t.x.refs, t.x, "first")],
        "put",
        (),
    ),
    "_get_anyway": (lambda t: [get_unless_zero(t.x.refs, t.x, "more")], counts, "load_count", ("refs",)),
    "_dropped": (
        lambda t: [hand_over(t.x.refs, (t.x, "first"), (t.x, "taker"))],
        counts,
        "load_count",
        ("taker",),
    ),
    "acquire": (both, both, "acquire", ()),
    "release": (both, both, "release", ()),
    "acquire_shared": (reader, writer, "acquire", ()),
    "release_shared": (reader, writer, "acquire", ()),
    "try_acquire": (lambda t: [try_acquire(t.x.lock)], lambda t: [try_acquire(t.x.lock)], "try_acquire", ()),
    "wait_for_killable": (
        lambda t: [wait_for_killable(t.x.done)],
        lambda t: [complete(t.x.done)],
        "complete",
        (),
    ),
    "complete": (lambda t: [complete(t.x.done)], lambda t: [wait_for(t.x.done)], "wait_for", ()),
    "wait_for": (lambda t: [wait_for(t.x.done)], lambda t: [wait_for(t.x.done)], "wait_for", ()),
    "wait_for_timeout": (
        lambda t: [wait_for_timeout(t.x.done, 5)],
        lambda t: [complete(t.x.done)],
        "complete",
        (),
    ),
    "wait_for_killable_timeout": (
        lambda t: [wait_for_killable_timeout(t.x.done, 5)],
        lambda t: [complete(t.x.done)],
        "complete",
        (),
    ),
    "wait_until_zero": (
        lambda t: [wait_until_zero(t.y.spare, 5)],
        lambda t: [get(t.y.spare, t.y, "more"), put(t.y.spare, t.y, "more")],
        "get",
        (),
    ),
    "free": (lambda t: [free(t.y)], lambda t: [load(t.y.a)], "load", ()),
    "copy_from_user": (
        lambda t: [copy_from_user(t.page, 4)],
        lambda t: [copy_to_user(t.page, b"1234")],
        "copy_to_user",
        (),
    ),
    "copy_some_from_user": (
        lambda t: [copy_some_from_user(t.page, 4)],
        lambda t: [copy_to_user(t.page, b"1234")],
        "copy_to_user",
        (),
    ),
    "copy_to_user": (
        lambda t: [copy_to_user(t.page, b"5678")],
        lambda t: [copy_to_user(t.page, b"1234")],
        "copy_to_user",
        (),
    ),
    "read_memory": (
        lambda t: [read_memory(t.memory, t.page, 4)],
        lambda t: [copy_to_user(t.page, b"1234")],
        "copy_to_user",
        (),
    ),
    "write_memory": (
        lambda t: [write_memory(t.memory, t.page, b"5678")],
        lambda t: [copy_from_user(t.page, 4)],
        "copy_from_user",
        (),
    ),
    "pin_pages": (
        lambda t: [pin_pages(t.memory, t.page, 8, False)],
        lambda t: [change_mappings(t.memory, partial(t.memory.protect, t.page, 8, 1))],
        "change_mappings",
        (),
    ),
    "change_mappings": (
        lambda t: [change_mappings(t.memory, partial(t.memory.protect, t.page, 8, 1))],
        lambda t: [copy_from_user(t.page, 4)],
        "copy_from_user",
        (),
    ),
    "call_outside": (lambda t: [call_outside(int)], lambda t: [call_outside(int)], "call_outside", ()),
    "_store_early": (
        lambda t: [store(t.x.b, 1), store_release(t.x.a, 1)],
        lambda t: [load(t.x.a)],
        "load",
        ORDER,
    ),
    "_store_late": (
        lambda t: [store(t.x.b, 1), store_release(t.x.a, 1), return_to_user(0)],
        lambda t: [load(t.x.b)],
        "load",
        ORDER,
    ),
    "_load_own": (
        lambda t: [store(t.x.b, 1), load(t.x.b), store_release(t.x.a, 1)],
        lambda t: [exchange(t.x.b, 2)],
        "exchange",
        ORDER,
    ),
}
# What touches nothing that another thread could see.
ALONE: dict[str, tuple[Code, tuple[str, ...]]] = {
    "_begin": (lambda t: [], ()),
    "alloc": (lambda t: [alloc(Box, "")], ()),
    "refuse_if": (lambda t: [refuse_if(False, Errno.EBUSY, "never", "never")], ()),
    "warn_on": (lambda t: [warn_on(False, "never")], ()),
    "return_to_user": (lambda t: [return_to_user(0)], ()),
    "_skipped": (lambda t: [refuse_if(True, Errno.EBUSY, "named", "named")], ("named",)),
    "_passed": (both, ("lock",)),
    "_hold_back": (lambda t: [store(t.x.a, 1)], ("order of b",)),
}


def test_every_effect_is_tried_here() -> None:
    assert set(PAIRS) | set(ALONE) == {
        one.__name__ for one in PERFORM if one.__module__.startswith(vfiosim.engine.__name__)
    }
    assert not set(PAIRS) & set(ALONE)


@pytest.mark.parametrize("operation", PAIRS)
def test_the_order_of_an_effect_and_one_that_it_conflicts_with_is_tried_both_ways(operation: str) -> None:
    mine, others, partner, taken_out = PAIRS[operation]
    begin = partial(Toy, {"A": mine, "B": others}, taken_out, {operation, partner})
    orders = searched(begin).outcomes
    first, second = ("A", operation), ("B", partner)
    assert any(order.index(first) < order.index(second) for order in orders)
    assert any(order.index(first) > order.index(second) for order in orders)


@pytest.mark.parametrize("operation", ALONE)
def test_what_nobody_else_can_see_is_tried_in_one_order_only(operation: str) -> None:
    code, taken_out = ALONE[operation]
    statistics = searched(partial(Toy, {"A": code, "B": code}, taken_out, {operation}))
    assert statistics.schedules == 1
    assert {name for order in statistics.outcomes for _, name in order} == {operation}


# What two threads do to one count while a third reference shows that it cannot become zero.
NOT_THE_LAST: dict[str, Code] = {
    "get": lambda t: [get(t.x.refs, t.x, "more")],
    "get_unless_zero": lambda t: [get_unless_zero(t.x.refs, t.x, "more")],
    "put": lambda t: [get(t.x.refs, current(), "mine"), put(t.x.refs, current(), "mine")],
    "hand_over": lambda t: [
        get(t.x.refs, current(), "one"),
        hand_over(t.x.refs, (current(), "one"), (current(), "two")),
    ],
}


@pytest.mark.parametrize("other", NOT_THE_LAST)
@pytest.mark.parametrize("operation", NOT_THE_LAST)
def test_where_another_reference_stays_it_makes_no_difference_who_comes_first(operation: str, other: str) -> None:
    threads = {"A": NOT_THE_LAST[operation], "B": NOT_THE_LAST[other]}
    assert searched(partial(Toy, threads, (), {operation, other})).schedules == 1


def test_where_no_other_reference_stays_both_orders_are_tried() -> None:
    threads: dict[str, Code] = {
        "A": lambda t: [put(t.y.spare, t.y, "first")],
        "B": lambda t: [put(t.y.spare, t.y, "second")],
    }

    def begin() -> Toy:
        toy = Toy(threads, (), {"put"})
        for reason in ("first", "second"):
            toy.y.spare.change((toy.y, reason), 1)
        return toy

    assert len(searched(begin).outcomes) == 2


def test_a_name_that_an_object_gets_depends_on_its_own_thread_only() -> None:
    engine = Engine(trace=False)
    made: list[str] = []

    async def make() -> None:
        made.append((await alloc(Box, "")).oid)

    for prefix in ("A1", "A", "A1", "A"):
        thread = engine.spawn(make(), prefix)
        thread.prefix = prefix
        engine.run(thread)
    assert made == ["box A1.1", "box A1", "box A1.2", "box A2"]
