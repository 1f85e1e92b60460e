"""What an effect reads and writes, so that the search knows which effects may change places.

An access is a pair: a place, and whether it looks there, writes, or adds to what others add. Places are named by texts, for the
objects of one schedule are not those of the next: (object, cell) for a cell, (object, "cell[slot]") for a slot of a table,
(object, "cell of holder (reason)") for an entry of a count, (object, "") for whether the object lives, and what else an effect
can touch. Two effects conflict if one of them writes where the other does anything, or adds where the other looks; effects that
do not conflict may change places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ..engine import (
    Count,
    KObject,
    Request,
    Thread,
    checks,
    effects,
    lifetime,
    without,
)
from ..engine.operations import OPERATIONS, declared
from ..engine.sync import must_wait

Place: TypeAlias = tuple[str, str]
Access: TypeAlias = tuple[Place, int]
Accesses: TypeAlias = tuple[Access, ...]

LOOK, WRITE, ADD = 0, 1, 2  # ways to touch a place; ADD: others may add before or after, but nobody look or write

_PAGE = 12


def _reads(thread: Thread, request: Request) -> Accesses:
    cell = request[1]
    oid = cell.owner.oid
    return (((oid, cell.name), False), ((oid, ""), False))


def _writes(thread: Thread, request: Request) -> Accesses:
    cell = request[1]
    oid = cell.owner.oid
    return (((oid, cell.name), True), ((oid, ""), False))


def entry_of(count: Count, holder: KObject, reason: str) -> Place:
    """The place that is one entry of a count."""
    return (count.owner.oid, f"{count.name} of {holder.oid} ({reason})")


def _counts(change: int) -> Callable[[Thread, Request], Accesses]:
    """A reference is given back (-1), taken (1), or taken unless there is none (0).

    Whether it was the last one, or whether there is any, is often clear from one other entry, as of a descriptor that leads to
    the file: then only that one is looked at, and whatever the others do to the count may come before or after. This holds
    while no entry is below zero; where one is, or gets there, the whole count is looked at and written.
    """

    def accesses(thread: Thread, request: Request) -> Accesses:
        _, count, holder, reason = request
        oid = count.owner.oid
        whole: Place = (oid, count.name)
        alive: Access = ((oid, ""), LOOK)
        if not change and not count.value:
            return ((whole, LOOK), alive)
        own = (entry_of(count, holder, reason), WRITE if change < 0 else ADD)
        held = count.held
        if (change < 0 and held.get((holder, reason), 0) < 1) or (held and min(held.values()) < 0):
            return ((whole, WRITE), own, alive)
        if change > 0:
            return ((whole, ADD), own, alive)
        for key in held:
            if key != (holder, reason) and not isinstance(key[0], Thread):
                return ((whole, ADD), own, (entry_of(count, *key), LOOK), alive)
        return ((whole, WRITE), own, alive)

    return accesses


def _changes_hands(thread: Thread, request: Request) -> Accesses:
    _, count, giver, taker = request
    return ((entry_of(count, *giver), WRITE), (entry_of(count, *taker), ADD), ((count.owner.oid, ""), LOOK))


def _maybe_last(thread: Thread, request: Request) -> Accesses:
    _, count, holder, reason = request
    return (*_writes(thread, request), (entry_of(count, holder, reason), WRITE))


def _slot(way: int) -> Callable[[Thread, Request], Accesses]:
    """One slot of a table; a change of it may change which slots are taken."""

    def accesses(thread: Thread, request: Request) -> Accesses:
        cell, oid = request[1], request[1].owner.oid
        own: Access = ((oid, f"{cell.name}[{request[2]}]"), way)
        return (own, ((oid, ""), LOOK)) if way == LOOK else (own, ((oid, cell.name), ADD), ((oid, ""), LOOK))

    return accesses


def _claims(thread: Thread, request: Request) -> Accesses:
    cell, oid = request[1], request[1].owner.oid
    return (((oid, cell.name), WRITE), ((oid, f"{cell.name}[{cell.lowest_free()}]"), WRITE), ((oid, ""), LOOK))


def _nothing(thread: Thread, request: Request) -> Accesses:
    return ()


def _frees(thread: Thread, request: Request) -> Accesses:
    return (((request[1].oid, ""), True),)


def _user_memory(writes: bool) -> Callable[[Thread, Request], Accesses]:
    def accesses(thread: Thread, request: Request) -> Accesses:
        size = len(request[2]) if writes else request[2]
        return _pages(thread.memory, request[1], size, writes)

    return accesses


def _pinned(thread: Thread, request: Request) -> Accesses:
    return _pages(request[1], request[2], request[3], False)


def _pages(memory: Any, address: int, size: int, writes: bool) -> Accesses:
    """The pages of a range of user memory, and what says that they are mapped."""
    pages = range(address >> _PAGE, (address + max(size, 1) - 1 >> _PAGE) + 1)
    mapped: Access = ((memory.oid, "mappings"), False)
    return (mapped, *(((memory.oid, f"page {page:#x}"), writes) for page in pages))


def _mappings(thread: Thread, request: Request) -> Accesses:
    return (((request[1].oid, "mappings"), True),)


def _outside(thread: Thread, request: Request) -> Accesses:
    return ((("outside", ""), True),)


# What is more than `Operation.touches` can say.
OF: dict[Callable[..., Any], Callable[[Thread, Request], Accesses]] = {
    **dict.fromkeys((lifetime._get, without._get_anyway), _counts(1)),
    **dict.fromkeys((lifetime._put, without._dropped), _counts(-1)),
    lifetime._get_unless_zero: _counts(0),
    lifetime._put_if_last: _maybe_last,
    lifetime._hand_over: _changes_hands,
    effects._peek: _slot(LOOK),
    effects._poke: _slot(WRITE),
    effects._claim: _claims,
    lifetime._free: _frees,
    checks._copy_from_user: _user_memory(writes=False),
    checks._copy_some_from_user: _user_memory(writes=False),
    checks._copy_to_user: _user_memory(writes=True),
    checks._pin_pages: _pinned,
    checks._change_mappings: _mappings,
    checks._call_outside: _outside,
}


_TOUCHES = {"look": _reads, "write": _writes, "nothing": _nothing}
SAID = {**{effect: _TOUCHES[known.touches] for effect, known in OPERATIONS.items() if known.touches}, **OF}


def accesses(thread: Thread, request: Request) -> Accesses:
    """What the effect that a thread is about to do reads and writes; KeyError for one of which nothing is said."""
    found = SAID[request[0]](thread, request)
    if not thread.reads:
        return found
    places = {place for place, _ in found}
    alive = ((thing.oid, "") for thing in thread.reads)  # when it reads their attributes, at the latest now
    return (*found, *((place, LOOK) for place in alive if place not in places))


def waits_for_a_time(request: Request | None) -> bool:
    """Is it a wait with a time limit, and not one that only asks?"""
    return request is not None and declared(request[0]).timed and request[2] != 0


def can_go(request: Request) -> bool:
    """Would the effect happen at once?"""
    return not must_wait(request)


def conflict(one: Accesses, other: Accesses) -> bool:
    """May the order of two effects make a difference?"""
    return any(mine == theirs and clash(way, their) for mine, way in one for theirs, their in other)


def clash(one: int, other: int) -> bool:
    """Can two ways of touching the same place not change places?"""
    return one != other or one == WRITE
