"""Where threads meet: what each of them touched that another one changes, and what it has seen there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..engine import Engine, KObject, Lock, Micro, Table
from ..engine.operations import (
    ADD,
    FREED,
    GAVE,
    GAVE_REFERENCE,
    LOOK,
    READ,
    TOOK,
    TOOK_REFERENCE,
    TOUCHED,
    WRITE,
    Accesses,
    Operation,
    Place,
    Verb,
    declared,
)
from ..invariants import cells_of
from ..trace.plain import plain, shown
from ..trace.recorder import object_state
from .accesses import clash


class Touch(NamedTuple):
    """A thread touched a place, as one effect: `at` is its number among all effects, `way` as in `accesses`.

    `verb` says what the thread does, did and has done ("writes", "wrote", "written"); `value` is what it read or wrote there, ""
    if nothing.
    """

    thread: str
    place: Place
    way: int
    verb: Verb
    value: str
    at: int

    @property
    def name(self) -> str:
        """The place, as people write it."""
        return name_of(self.place)

    @property
    def of_lock(self) -> bool:
        """Is it a lock that is touched?"""
        return self.verb in (TOOK, GAVE)


def name_of(place: Place) -> str:
    """A place as people write it: "vfio_group 1.opened_file", and an object alone for whether it lives."""
    return ".".join(filter(None, place))


def short_names(places: Iterable[Place]) -> dict[Place, str]:
    """The places by the names of their cells, where no other one of them has the same."""
    known = {*places}
    cells = Counter(cell for _, cell in known)
    return {place: place[1] if place[1] and cells[place[1]] == 1 else name_of(place) for place in known}


def touches(engine: Engine, since: int = 0) -> list[Touch]:
    """What the threads that have a name touched, from the effect of this number on."""
    found = []
    for at, micro in enumerate((Micro(*entry) for entry in engine.micro[since:]), since):
        if micro.thread.prefix:
            known = declared(micro.request)
            for place, way in _accesses(micro, known):
                verb = known.does if place[1] or known.does == FREED else TOUCHED
                found.append(Touch(micro.thread.prefix, place, way, verb, _value(micro, known, place), at))
    return found


def _accesses(micro: Micro, known: Operation) -> Accesses:
    """As it is declared, but of an effect that is over; a reference counts as touching the whole count, the last one changes it."""
    if known.does in (TOOK_REFERENCE, GAVE_REFERENCE):
        count = micro.request[1]
        way = WRITE if known.does == GAVE_REFERENCE and (known.tries or micro.answer) else ADD
        return (((count.owner.oid, count.name), way), ((count.owner.oid, ""), LOOK))
    return known.touches(micro.thread, micro.request)


def _value(micro: Micro, known: Operation, place: Place) -> str:
    if not place[1] or known.value is None or isinstance(micro.answer, BaseException):
        return ""
    if isinstance(micro.request[1], Table) and not place[1].endswith("]"):
        return ""
    return shown(plain(micro.request[known.value] if known.value else micro.answer))


def contested(*runs: Iterable[Touch]) -> list[Place]:
    """The places that several threads touch in these runs, and one of them in a way that the others notice, in their order.

    A place is contested where it is so in one of the runs, or where the threads touch it in different runs.
    """
    ways: dict[Place, set[tuple[str, int]]] = {}
    for touch in (touch for run in runs for touch in run):
        ways.setdefault(touch.place, set()).add((touch.thread, touch.way))
    return [
        place
        for place, some in ways.items()
        if any(one != other and clash(way, their) for one, way in some for other, their in some)
    ]


# ---- what each has seen


@dataclass(frozen=True)
class Seen:
    """What a thread did last at a place, and what it read or wrote there; `stale`: what it read is not true any more."""

    verb: Verb
    value: str
    stale: bool


@dataclass(frozen=True)
class Variable:
    """A place with what is in it now, what each thread saw there in its running call, and what it will do there.

    `ahead` are verbs by thread; `harmed`: the machine says that it contradicts another place; `rank`: 0 for data, 1 for a count, 2
    for whether an object lives, 3 for a lock.
    """

    place: Place
    now: str
    seen: Mapping[str, Seen]
    ahead: Mapping[str, tuple[str, ...]]
    harmed: bool = False
    rank: int = 0

    @property
    def name(self) -> str:
        """As people write it."""
        return name_of(self.place)


def variables(
    engine: Engine,
    places: Iterable[Place],
    done: Collection[Touch],
    expected: Mapping[str, Iterable[Touch]],
    harmed: Collection[str] = (),
) -> list[Variable]:
    """The places as they are after what is `done`, data first; `expected` is what a thread touches if nobody comes in between.

    Whose call has ended holds nothing that could be out of date.
    """
    inside = {thread.prefix for thread in engine.threads if not thread.ended}
    whole = (place for place in places if " of " not in place[1])  # an entry of a count is seen in the count
    found = [_variable(engine, place, done, expected, inside, harmed) for place in whole]
    return sorted(found, key=lambda one: one.rank)


def _variable(
    engine: Engine,
    place: Place,
    done: Collection[Touch],
    expected: Mapping[str, Iterable[Touch]],
    inside: Collection[str],
    harmed: Collection[str],
) -> Variable:
    now = value_at(engine, place)
    seen = {}
    for touch in (touch for touch in done if touch.place == place and (place[1] or touch.verb[0] == "frees")):
        acts = touch.thread in inside or name_of(place) in harmed  # a call that has ended does not, but for its harm
        stale = touch.verb == READ and touch.value not in ("", now) and acts
        seen[touch.thread] = Seen(touch.verb, touch.value, stale)
    ahead = {}
    for thread, some in ((thread, some) for thread, some in expected.items() if thread in inside):
        made = [touch.verb for touch in done if (touch.thread, touch.place) == (thread, place)]
        left = [touch.verb for touch in some if touch.place == place and (place[1] or touch.verb[0] == "frees")]
        ahead[thread] = tuple(dict.fromkeys(verb[0] for verb in left[len(made) :]))
    verbs = {touch.verb[0] for some in (done, *expected.values()) for touch in some if touch.place == place}
    return Variable(place, now, seen, ahead, name_of(place) in harmed, _rank(place, verbs))


def _rank(place: Place, verbs: set[str]) -> int:
    if not place[1]:
        return 2
    if not verbs.isdisjoint((TOOK[0], GAVE[0])):
        return 3
    return int(any(verb.endswith(" a reference at") for verb in verbs))


def contradicting(engine: Engine, places: Iterable[Place], wrong: Iterable[str]) -> set[str]:
    """The names of cells of which one of these sentences says that they are wrong: they contradict each other, or are gone."""
    said = [*wrong]
    found = {cell for sentence in said for cell in cells_of(engine, sentence)}
    return found | {name for name in map(name_of, places) if any(one.endswith(f"touches {name}") for one in said)}


def value_at(engine: Engine, place: Place) -> str:
    """What is in a place now, in words: a value, who has a lock, how many references; "freed" where the object is gone."""
    oid, cell = place
    thing = engine.objects.get(oid)
    if thing is None:
        return "freed"
    if not cell:
        return "alive"
    found = next((one for one in thing.cells() if one.name == cell), None)
    if isinstance(found, Lock):
        return f"held by {_name(found.holder)}" if found.holder else "free"
    if found is not None:
        return _with_fate(engine, getattr(found, "value", None), object_state(thing).value(cell))
    name, _, slot = cell.rstrip("]").partition("[")
    table = dict(object_state(thing).tables.get(name, {}))
    return shown(next((value for key, value in table.items() if str(key) == slot), None))


def _name(thread: Any) -> str:
    return str(thread.prefix or thread.label)


def _with_fate(engine: Engine, value: Any, told: Any) -> str:
    """A value in words; a pointer to what is freed says so."""
    gone = isinstance(value, KObject) and value.oid not in engine.objects
    return shown(told) + (", freed" if gone else "")
