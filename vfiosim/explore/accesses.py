"""Which effects may change places, by what each of them reads and writes, as it declares it (`engine/operations.py`).

An access is a pair: a place, and whether it looks there, writes, or adds to what others add. Places are named by texts, for the
objects of one schedule are not those of the next: (object, cell) for a cell, (object, "cell[slot]") for a slot of a table,
(object, "cell of holder (reason)") for an entry of a count, (object, "") for whether the object lives, and what else an effect
can touch. Two effects conflict if one of them writes where the other does anything, or adds where the other looks; effects that
do not conflict may change places.
"""

from __future__ import annotations

from ..engine import Request, Thread
from ..engine.operations import LOOK, WRITE, Accesses, declared
from ..engine.sync import must_wait


def accesses(thread: Thread, request: Request) -> Accesses:
    """What the effect that a thread is about to do reads and writes; KeyError for one of which nothing is said."""
    found = declared(request).touches(thread, request)
    if not thread.reads:
        return found
    places = {place for place, _ in found}
    alive = ((thing.oid, "") for thing in thread.reads)  # when it reads their attributes, at the latest now
    return (*found, *((place, LOOK) for place in alive if place not in places))


def waits_for_a_time(request: Request | None) -> bool:
    """Is it a wait with a time limit, and not one that only asks?"""
    return request is not None and declared(request).timed and request[2] != 0


def can_go(request: Request) -> bool:
    """Would the effect happen at once?"""
    return not must_wait(request)


def conflict(one: Accesses, other: Accesses) -> bool:
    """May the order of two effects make a difference?"""
    return any(mine == theirs and clash(way, their) for mine, way in one for theirs, their in other)


def clash(one: int, other: int) -> bool:
    """Can two ways of touching the same place not change places?"""
    return one != other or one == WRITE
