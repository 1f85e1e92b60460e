"""What is looked at after each effect: the invariants that it may have broken, and the order in which locks are taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..engine import Cell, Count, Engine, Field, KObject, Request, Thread
from ..engine.lifetime import alloc, entry_of, free, hand_over
from ..engine.operations import GAVE_REFERENCE, LOOK, Access, Accesses, declared, looks
from ..engine.sync import wait_until_zero
from ..invariants import Invariant

Order = tuple[str, str]  # a lock, and one that was taken while it was held
_Reader = tuple[Invariant, str, Any]  # who reads a place, which part of it, and of which objects


class Monitor:
    """Invariants, each looked at after every effect that may break it, whenever its lock is free.

    The effects that change what an invariant reads, or take or give back its lock, count as touching one and the same place:
    so the search tries them in every order, and no state that the invariant could see is left out.
    What need not hold while a call runs is left to the end.
    """

    def __init__(self, invariants: Sequence[Invariant]) -> None:
        self.timed = False  # has a call come by a wait with a time limit?
        self.unmodelled: dict[str, None] = {}  # what a call came by that the model does not know, and which call
        self._by_place: dict[tuple[str, str], list[_Reader]] = {}
        self._readers: dict[tuple[type, str], list[_Reader]] = {}  # the same, by class and cell, as they are asked for
        self._doubtful: dict[str, Invariant] = {}
        for one in invariants:
            if not one.only_at_rest:
                for read in (*one.reads, one.about.kind, *filter(None, [one.guard])):
                    words, only = read if isinstance(read, tuple) else (read, None)
                    path, _, part = words.partition(" ")
                    kind, _, name = path.partition(".")
                    self._by_place.setdefault((kind, name), []).append((one, part, only))

    def places(self, request: Request, sure: bool) -> Accesses:
        """The invariants that an effect concerns, as places that it writes. `sure`: the state is the one it is done in.

        Then they are what `broken` looks at; of an effect that was not done after all nothing stays.
        """
        if sure:
            self._doubtful.clear()
        if not self._by_place or declared(request).touches is looks or len(request) < 2:
            return ()
        target = request[1]
        looked: list[Access] = []
        if isinstance(target, Cell):
            about = self._about(target, request, sure, looked)
        elif request[0] is alloc:  # a class, or what makes an object of a class that is not known
            about = [one for one, _, _ in self._read(target if isinstance(target, type) else KObject, "")]
        elif request[0] is free:
            about = [one for one, _, _ in self._read(type(target), "")]
        else:
            return ()
        if sure:
            self._doubtful.update((one.name, one) for one in about)
        concerned = ((("invariant", name), True) for name in dict.fromkeys(one.name for one in about))
        return (*concerned, *looked)

    def _about(self, cell: Cell, request: Request, sure: bool, looked: list[Access]) -> list[Invariant]:
        """The invariants that an effect on a cell concerns; `looked` gets the entries that show why it does not concern others."""
        owner, about = cell.owner, []
        for one, part, only in self._read(type(owner), cell.name):
            if only is not None and not only(owner):
                continue
            if part.startswith("< ") and isinstance(cell, Count):
                entries = _enough(cell, request, int(part[2:]))
                looked += [(entry_of(cell, *key), LOOK) for key in entries or ()]
                if entries is None:
                    about.append(one)
            elif not part or _changes(cell, request, part, sure):
                about.append(one)
        return about

    def _read(self, owner: type[KObject], name: str) -> list[_Reader]:
        """Who reads this cell of objects of this class, or, without a name, which of them there are."""
        found = self._readers.get((owner, name))
        if found is None:
            kinds = dict.fromkeys(base.kind for base in owner.__mro__ if issubclass(base, KObject))
            found = [reader for kind in kinds for reader in self._by_place.get((kind, name), ())]
            if owner is KObject:
                found = [reader for (_, cell), readers in self._by_place.items() if cell == name for reader in readers]
            self._readers[owner, name] = found
        return found

    def broken(self, engine: Engine, thread: Thread | None) -> list[tuple[str, bool]]:
        """The sentences of those that the last effect concerned, and whether its thread may be half-way through a change.

        Where a lock is held, giving it back will concern them; where it was taken out, there is nobody to wait for.
        """
        found: list[tuple[str, bool]] = []
        for one in self._doubtful.values():
            for thing in engine.objects.of(one.about):
                lock = one.lock(thing)
                if lock is None or lock.holder is None:
                    mine = thread.inside if thread else []
                    inside = any(its is lock or f"{its.owner.kind}.{its.name}" in one.reads for its in mine)
                    found += ((what, inside) for what in one.broken(engine, thing))
        self._doubtful.clear()
        return found


def _changes(cell: Cell, request: Request, part: str, sure: bool) -> bool:
    """Does an effect change the part of a cell that an invariant reads?

    Of a count: the entries of one reason. Of a pointer: whether it leads to an object of one kind.
    """
    if isinstance(cell, Field):
        kind = part.removeprefix("is ")
        return not sure or any(isinstance(to, KObject) and to.kind == kind for to in (cell.value, *request[2:]))
    assert isinstance(cell, Count)
    reasons = [side[1] if isinstance(side, tuple) else side for side in request[2:]]
    return part.strip("()") in reasons


def _enough(count: Count, request: Request, least: int) -> list[tuple[KObject, str]] | None:
    """The entries that show that a count is not below `least` before and after an effect, whatever is done to the other entries.

    None if there are not so many: then it matters who comes first. What does not change the number needs none.
    """
    if request[0] in (hand_over, wait_until_zero):
        return None if count.value < least else []
    own, found, shown = request[2:4], 0, []
    if declared(request).does == GAVE_REFERENCE and count.held.get(own, 0) < 1:
        return None
    for key, number in count.held.items():
        if number < 0:
            return None
        if found < least and key != own and not isinstance(key[0], Thread):
            shown.append(key)
            found += number
    return shown if found >= least else None


def orders(thread: Thread) -> Iterator[Order]:
    """A thread has just taken a lock: while which others?"""
    taken = thread.locks[-1].path
    return ((held.path, taken) for held in thread.locks[:-1])


def inversions(taken: dict[Order, list[int]], threads: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Locks that were taken in opposite orders, so that threads may lock up: in words, and the longest of their schedules.

    `taken` has the shortest schedule to each order; the thread that goes last in it takes the second lock.
    """
    after: dict[str, list[str]] = {}
    for held, then in sorted(taken):
        after.setdefault(held, []).append(then)
    told = set()
    for held, then in sorted(taken):
        way = _way(after, then, held)
        if way and frozenset(way) not in told:
            told.add(frozenset(way))
            ring = list(zip(way, [*way[1:], way[0]], strict=True))
            words = [f"{threads[taken[pair][-1]]} takes {pair[1]} while it has {pair[0]}" for pair in sorted(ring)]
            yield f"lock order: {', but '.join(words)}", max((taken[pair] for pair in sorted(ring)), key=len)


def _way(after: dict[str, list[str]], start: str, goal: str) -> list[str]:
    """From lock to lock, as they were taken: the shortest way, or nothing."""
    ways = [[start]]
    seen = {start}
    for way in ways:
        following: Iterable[str] = after.get(way[-1], ())
        for lock in following:
            if lock == goal:
                return [*way, goal]
            if lock not in seen:
                seen.add(lock)
                ways.append([*way, lock])
    return []
