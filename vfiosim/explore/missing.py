"""What is still missing on the way into harm: what has to happen before what, and how much of that has happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from .accesses import clash
from .result import Witness
from .touches import Touch, short_names, touches

KEPT, OPEN, BROKEN = "kept", "open", "broken"
_Key: TypeAlias = tuple[str, str, str, int]  # thread, place, verb, the how manieth of its kind


class TouchOrder(NamedTuple):
    """One thread has to touch a place before another one does."""

    first: Touch
    then: Touch


class Point(NamedTuple):
    """One thing that has to be so: `state` is "kept", "open" or "broken", `sentence` says it in words."""

    state: str
    sentence: str


def orders(way: Sequence[Touch]) -> list[TouchOrder]:
    """The orders that make this way into harm what it is, without those that follow from the others.

    Whoever keeps them all comes to the same end: what else two threads do may change places.
    """
    pairs = [
        TouchOrder(one, other)
        for number, other in enumerate(way)
        for one in way[:number]
        if one.thread != other.thread and one.place == other.place and clash(one.way, other.way)
    ]
    pairs = [pair for pair in pairs if not pair.first.of_lock] or pairs  # a lock is there for what it guards
    needed = [pair for pair in pairs if not any(_implies(other, pair) for other in pairs)]
    return list({(first.at, then.at): TouchOrder(first, then) for first, then in needed}.values())


def _implies(one: TouchOrder, other: TouchOrder) -> bool:
    """Does a thread that keeps the first order keep the second as well, as each goes through its own code in order?"""
    threads = (one.first.thread, one.then.thread) == (other.first.thread, other.then.thread)
    places = (one.first.at, one.then.at) != (other.first.at, other.then.at)
    return threads and places and other.first.at <= one.first.at and one.then.at <= other.then.at


class Way:
    """A way into harm, as what has to happen on it. Others may lead there, too: whether it is reached the machine says."""

    def __init__(self, witness: Witness) -> None:
        engine = witness.machine.engine
        self.touches = touches(engine, witness.before)
        self.orders = orders(self.touches)
        self._names = short_names(touch.place for order in self.orders for touch in order)

    def points(self, done: Sequence[Touch], ended: Collection[str]) -> list[Point]:
        """How things stand with each order after what is `done`; `ended` are the threads that do nothing more."""
        keys, when = _numbered(self.touches), {key: touch.at for touch, key in _numbered(done).items()}
        found = (
            self._point(order, when.get(keys[order.first]), when.get(keys[order.then]), ended) for order in self.orders
        )
        return list(dict.fromkeys(found))

    def _point(self, order: TouchOrder, one: int | None, other: int | None, ended: Collection[str]) -> Point:
        """`one` and `other` are when the two things happened, None where they have not."""
        first, then = order
        if one is not None and other is not None and one < other:
            return Point(KEPT, f"{self._done(first)} before {then.thread} {then.verb[1]} it.")
        if other is not None:
            return Point(BROKEN, f"{self._done(then)} too early: {self._done(first, 'has to have')} before that.")
        for touch, at in ((first, one), (then, other)):
            if at is None and touch.thread in ended:
                return Point(
                    BROKEN, f"{touch.thread} has ended, and {self._done(touch, 'has not')[len(touch.thread) + 1 :]}."
                )
        if one is not None:
            return Point(OPEN, f"{self._done(first)}; {then.thread} has not {then.verb[2]} it yet.")
        return Point(OPEN, f"{self._done(first, 'has not')} yet; it has to, before {then.thread} {then.verb[0]} it.")

    def between(self) -> str:
        """What has to happen between what, in a sentence; "" where nothing has to."""
        if not self.orders:
            return ""
        outer = min((order.first for order in self.orders), key=lambda touch: touch.at).thread
        begins = [order for order in self.orders if order.first.thread == outer]
        ends = [order for order in self.orders if order.then.thread == outer and order.first.at > begins[0].first.at]
        begin = begins[-1].first
        if not ends:
            return f"{self._done(begin, 'has to have')} before {self._does(begins[-1].then)}."
        inner = {*(order.then for order in begins), *(order.first for order in ends)}
        first, *others = sorted((touch for touch in inner if touch.at < ends[-1].then.at), key=lambda touch: touch.at)
        has = " and ".join([self._does(first), *(self._does(touch, first.thread) for touch in others)])
        return f"After {self._does(begin)}, and before it {self._does(ends[0].then, outer)}: {has}."

    def _does(self, touch: Touch, said: str = "") -> str:
        """In the present; the thread is left out where it is `said` already."""
        who = "" if touch.thread == said else f"{touch.thread} "
        return f"{who}{touch.verb[0]} {self._names[touch.place]}"

    def _done(self, touch: Touch, has: str = "has") -> str:
        return f"{touch.thread} {has} {touch.verb[2]} {self._names[touch.place]}"


def _numbered(some: Iterable[Touch]) -> dict[Touch, _Key]:
    count: Counter[tuple[str, str, str]] = Counter()
    found = {}
    for touch in some:
        key = touch.thread, touch.name, touch.verb[0]
        count[key] += 1
        found[touch] = (*key, count[key])
    return found
