"""What there is to be drawn of a state, as facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from ..trace import MicroStep, ObjectState, Ref, State
from ..trace.plain import Plain
from ..trace.state import pointers


class LifeFact(NamedTuple):
    """The object is alive, or the call has not been followed by another one yet."""

    oid: str


class CellFact(NamedTuple):
    """A cell of an object has a text to show; `sort` is "count", "lock", "value" or "pointer"."""

    oid: str
    cell: str
    sort: str


class Arrow(NamedTuple):
    """Somebody refers to somebody.

    `sort` is "counted" (`via` is the counter), "owns" or "weak" (the pointer), "waits" (the lock or count that is waited for),
    "held" (a lock that is waited for, and who has it), or "harm" (a thread and the freed memory that it touches).
    """

    sort: str
    holder: str
    target: str
    via: str
    reason: str


Fact: TypeAlias = LifeFact | CellFact | Arrow
# Each is made once: a name that is met again, at this press or a later one, is found faster so.
life, cell, arrow = lru_cache(1 << 12)(LifeFact), lru_cache(1 << 12)(CellFact), lru_cache(1 << 12)(Arrow)
# The text of each fact, of a counted arrow how many; "" or missing where it does not hold.
Facts: TypeAlias = dict[Fact, str]


def touched(micro: MicroStep) -> str:
    """The path of the cell of freed memory that an effect touches, "" if it touches none."""
    kind, _, what = micro.wrong.partition(": ")
    return what.partition(" touches ")[2] if kind == "use after free" else ""


def pointed_by(thing: ObjectState) -> Iterator[tuple[str, str]]:
    """Each object that a thing points to, with the name of the field: "kvm", "objects[1]", and "3" in a table of descriptors."""
    for name in thing.order:
        if name in thing.tables:
            for slot, value in thing.tables[name].items():
                for target in pointers(value) if value else ():
                    yield target, str(slot) if thing.kind == "fds" else f"{name}[{slot}]"
        elif thing.fields.get(name):
            for target in pointers(thing.fields[name]):
                yield target, name
    for name, target in thing.attributes.items():
        yield target, name


def facts_about(thing: ObjectState, state: State, lanes: Mapping[str, str]) -> Facts:
    """The box of an object, its rows, and the arrows that its cells stand for; `lanes` are the names of threads in the picture."""
    oid = thing.oid
    facts: Facts = {life(oid): "alive"}
    for counter, ledger in thing.counts.items():
        facts[cell(oid, counter, "count")] = str(thing.total(counter))
        for (holder, reason), n in ledger.items():
            facts[arrow("counted", lanes.get(holder, holder), oid, counter, reason)] = str(n)
    for name, link, target in state.pointed(thing):
        facts[arrow(link, oid, lanes.get(target, target), name, name)] = "1"
    for lock, owner in thing.locks.items():
        who = f"thread {owner}"
        facts[cell(oid, lock, "lock")] = lanes.get(who, who).removeprefix("thread ") if owner else "free"
    for name, value in thing.fields.items():
        if isinstance(value, int | str) and not isinstance(value, Ref):
            facts[cell(oid, name, "value")] = value if isinstance(value, str) else str(int(value))
        elif name not in thing.links or value is None:
            facts[cell(oid, name, "pointer")] = _pointed(value)
    return facts


def _pointed(value: Plain) -> str:
    """What a pointer leads to, or of many things how many there are."""
    if not value:
        return "–"
    return str(value) if isinstance(value, Ref) else f"{len(value) if isinstance(value, tuple) else value}"


def waits(state: State, lanes: Mapping[str, str]) -> Facts:
    """From each thread that has to wait an arrow to what it waits for, and from there one to whoever has it; `lanes` as above."""
    facts: Facts = {}
    for waiting in state.waiting():
        thread = f"thread {waiting.thread}"
        own = lanes.get(thread, thread)
        what = waiting.path.rpartition(".")[2]
        if waiting.oid in state.objects:
            facts[cell(thread, "waits for", "value")] = what
            facts[arrow("waits", own, waiting.oid, what, "waits for")] = "1"
        for holder in waiting.holders:
            if holder != thread and (holder in state.objects or holder.startswith("thread ")):
                facts[arrow("held", waiting.oid, lanes.get(holder, holder), what, what)] = "1"
    return facts
