"""What was done at each place in the current schedule, and what an effect there has to come after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..engine.operations import WRITE, Access, Accesses, Place
from .accesses import clash

Clock = tuple[int, ...]
_Entry = tuple[int, int, int | None, int]  # see `History.of`


class History:
    """By place, the effects that touched it. `thread`, `local` and `clock` are the schedule, which the search keeps."""

    def __init__(self, thread: Sequence[int], local: Sequence[int], clock: Sequence[Clock]) -> None:
        self._thread, self._local, self._clock = thread, local, clock
        self._by_place: dict[Place, list[_Entry]] = {}

    def add(self, index: int, touched: Accesses, now: int | None) -> None:
        """An effect is going to be done; `now` is how things stand at its place."""
        for place, way in touched:
            entries = self._by_place.setdefault(place, [])
            last = len(entries) - 1
            entries.append((index, way, now, entries[last][3] if entries and entries[last][1] == way else last))

    def drop(self, touched: Accesses) -> None:
        """The last effect is taken back."""
        for place, _way in touched:
            self._by_place[place].pop()

    def of(self, place: Place) -> Sequence[_Entry]:
        """Effect, how it touches the place, condition, where in the list the last one is that touches it in another way."""
        return self._by_place.get(place, ())

    def dependent(self, access: Access) -> Iterator[int]:
        """The effects that an access has to come after: the last write, and what was done since that clashes with it."""
        place, way = access
        entries = self.of(place)
        at = len(entries) - 1
        while at >= 0:
            index, other, _now, before = entries[at]
            if not clash(way, other):
                at = before
                continue
            yield index
            if other == WRITE:
                return
            at -= 1

    def in_the_way(self, place: Any, before: Clock, needs: Any) -> list[int]:
        """The effect before which a waiting one could have gone: the one that took the lock, not the one that gave it back."""
        for index, _way, now, _other in reversed(self.of(place)):
            if before[self._thread[index]] >= self._local[index]:
                return []
            if needs(now or 0):
                return [index]
        return []

    def could_go(self, place: Any, index: int, needs: Any, current: int) -> bool:
        """Would a waiting effect find its place as it needs it, if it went before another effect and all that depends on that?"""
        thread, local = self._thread[index], self._local[index]
        for entry, _way, now, _other in self.of(place):
            if entry == index or self._clock[entry][thread] >= local:
                return bool(needs(now or 0))
        return bool(needs(current))
