"""What there is to be drawn of a state, as facts, and how the facts change in the course of a trace."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from itertools import count
from typing import NamedTuple, TypeAlias

from ..trace import ObjectState, Ref, State, Trace
from ..trace.plain import shown
from ..trace.steps import take


class Box(NamedTuple):
    """The object is alive."""

    oid: str


class Line(NamedTuple):
    """A cell of an object has a text to show; `sort` is "count", "lock" or "value"."""

    oid: str
    cell: str
    sort: str


class Arrow(NamedTuple):
    """Somebody refers to somebody; `sort` is "counted", "owns", "weak" or "waits"."""

    sort: str
    holder: str
    target: str
    reason: str


Fact: TypeAlias = Box | Line | Arrow
Facts: TypeAlias = dict[Fact, str]  # the text of each fact; "" or missing where it does not hold


class Story:
    """All facts of a trace: `changes[0]` are those at its start, and there is one more entry for each micro-step.

    `texts` are all texts that a fact ever has, `lasting` those that it has at the start or after one of the steps.
    With `room`, other traces, they also have what occurs only there: it gets a place in the picture, and nothing more.
    """

    def __init__(self, trace: Trace, room: Collection[Trace] = ()) -> None:
        self.things: dict[str, ObjectState] = {}
        self.changes: list[Facts] = []
        self.texts: dict[Fact, list[str]] = {}
        self.holders: dict[tuple[str, str], set[str]] = {}  # who ever had a share of a counter of an object
        base = trace.micro[0].index if trace.micro else 0
        self.at_step = [step.last - base + 1 for step in trace]
        self._about: dict[str, Facts] = {}
        self._lanes = lanes(trace)
        self._follow(trace)
        self.lasting = self._lasting()
        self._alone = self._bare()
        for other in reversed([*room]):
            self._reserve(_known(other))

    def _reserve(self, room: Story) -> None:
        """Keep a place for all that occurs in another story, in its order."""
        self.things = {**room.things, **self.things}
        self._alone |= room._alone
        self.texts = {
            fact: [*room.texts.get(fact, []), *self.texts.get(fact, [])] for fact in {**room.texts, **self.texts}
        }
        for fact, texts in room.lasting.items():
            self.lasting.setdefault(fact, set()).update(texts)
        for counter, holders in room.holders.items():
            self.holders.setdefault(counter, set()).update(holders)

    def _follow(self, trace: Trace) -> None:
        state = trace.start.copy()
        self._look(state, list(state.objects))
        for micro in trace.micro:
            take(state, micro)
            self._look(state, list(dict.fromkeys(edit.oid for edit in micro.edits)))

    def _look(self, state: State, touched: list[str]) -> None:
        """Compare the facts about these objects with what was known of them."""
        change: Facts = {}
        fresh = {oid: facts_about(state.objects[oid], state) if oid in state.objects else {} for oid in touched}
        for oid, new in [*fresh.items(), ("who waits", waits(state))]:
            new = dict(self._named(fact, text) for fact, text in new.items())
            old = self._about.get(oid, {})
            change.update({fact: "" for fact in old if fact not in new})
            change.update({fact: text for fact, text in new.items() if old.get(fact) != text})
            self._about[oid] = new
            if oid in state.objects:
                self._meet(state.objects[oid])
        for fact, text in change.items():
            self.texts.setdefault(fact, []).append(text)
        self.changes.append(change)

    def _meet(self, thing: ObjectState) -> None:
        self.things.setdefault(thing.oid, thing)
        for counter, ledger in thing.counts.items():
            known = self.holders.setdefault((thing.oid, counter), set())
            known.update(self._lane(holder) for holder, _reason in ledger)

    def _named(self, fact: Fact, text: str) -> tuple[Fact, str]:
        """The fact and its text, with lanes instead of threads."""
        if isinstance(fact, Arrow):
            return fact._replace(holder=self._lane(fact.holder), target=self._lane(fact.target)), text
        return fact, self._lanes.get(text, text) if isinstance(fact, Line) and fact.sort == "lock" else text

    def _lane(self, oid: str) -> str:
        kind, _, thread = oid.partition(" ")
        return f"thread {self._lanes.get(thread, thread)}" if kind == "thread" else oid

    def _bare(self) -> set[Arrow]:
        """The weak pointers that are at some time, after a step, the only way from their holder to their target."""
        there, found = set[Arrow](), set[Arrow]()
        for number, change in enumerate(self.changes):
            for fact, text in change.items():
                if isinstance(fact, Arrow):
                    (there.add if text else there.discard)(fact)
            if number == 0 or number in self.at_step:
                counted = {(arrow.holder, arrow.target) for arrow in there if arrow.sort == "counted"}
                found |= {arrow for arrow in there if (arrow.holder, arrow.target) not in counted}
        return found

    def _lasting(self) -> dict[Fact, set[str]]:
        stops, found, fresh = {0, *self.at_step}, dict[Fact, set[str]](), dict[Fact, str]()
        for number, change in enumerate(self.changes):
            fresh.update(change)
            if number in stops:
                for fact, text in fresh.items():
                    found.setdefault(fact, set()).add(text)
                fresh = {}
        return found

    def moves(self, fact: Fact) -> bool:
        """Is it different after one step from what it is after another?"""
        return len(self.lasting.get(fact, {""}) | ({""} if fact not in self.changes[0] else set())) > 1

    def arrows(self) -> list[Arrow]:
        """The arrows that are worth drawing.

        Not those that are there only in the middle of a step, nor a weak pointer that always goes with a counted reference.
        """
        arrows = (fact for fact in self.texts if isinstance(fact, Arrow) and fact.holder != fact.target)
        lasting = [arrow for arrow in arrows if self.lasting.get(arrow, {""}) != {""}]
        return [arrow for arrow in lasting if arrow.sort != "weak" or arrow in self._alone]


_KNOWN: deque[tuple[Trace, Story]] = deque(maxlen=24)  # a room is asked about at every press


def _known(room: Trace) -> Story:
    """The story of a trace that is only a room for others."""
    for trace, story in _KNOWN:
        if trace is room:
            return story
    _KNOWN.append((room, Story(room)))
    return _KNOWN[-1][1]


def lanes(trace: Trace) -> dict[str, str]:
    """How each thread is called: by the name of its process.

    So a process has one node for its calls, and a second one where two run at the same time. A thread that somebody has given
    a name keeps it, also for its later calls ("B#2").
    """
    lane: dict[str, str] = {}
    taken: set[str] = set()
    started = [(thread.name, thread.process, "") for thread in trace.start.threads.values()]
    for thread, process, ended in [*started, *((one.thread, one.process, one.ended) for one in trace.micro)]:
        if thread not in lane:
            own = process.partition(" ")[2]
            base = own if own and thread.startswith(f"{own}:") else thread.partition("#")[0]
            names = (base if number == 1 else f"{base} ({number})" for number in count(1))
            lane[thread] = next(name for name in names if name not in taken)
            taken.add(lane[thread])
        if ended:
            taken.discard(lane[thread])
    return lane


def facts_about(thing: ObjectState, state: State) -> Facts:
    """The box of an object, its rows, and the arrows that its cells stand for."""
    facts: Facts = {Box(thing.oid): "alive"}
    for counter in thing.counts:
        facts[Line(thing.oid, counter, "count")] = str(thing.total(counter))
    facts.update(_references(thing))
    for name in thing.links:
        for link, target in state.pointed(thing, name):
            facts[Arrow(link, thing.oid, target, name)] = "owns" if link == "owns" else f"{link}: {name}"
    for lock, holder in thing.locks.items():
        facts[Line(thing.oid, lock, "lock")] = holder or "free"
    for name, value in thing.fields.items():
        if isinstance(value, bool | int | str) and not isinstance(value, Ref) and name not in thing.links:
            facts[Line(thing.oid, name, "value")] = shown(int(value) if isinstance(value, bool) else value)
    return facts


def _references(thing: ObjectState) -> Facts:
    """One arrow for a holder and its reason, whichever of the counters it has a share of."""
    shares: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for counter, ledger in thing.counts.items():
        for entry, n in ledger.items():
            shares.setdefault(entry, []).append((counter, n))
    facts: Facts = {}
    for (holder, reason), share in shares.items():
        named = len(share) < len(thing.counts)
        counters = f"{', '.join(counter for counter, _ in share)}: " if named else ""
        times = f" ×{share[0][1]}" if share[0][1] != 1 else ""
        facts[Arrow("counted", holder, thing.oid, reason)] = f"{counters}{reason}{times}"
    return facts


def waits(state: State) -> Facts:
    """An arrow from each thread that has to wait to those who have what it wants, or to the object that has it."""
    facts: Facts = {}
    for waiting in state.waiting():
        own = f"thread {waiting.thread}"
        others = [holder for holder in waiting.holders if holder != own] or [waiting.oid]
        for target in others:
            if target in state.objects or target.startswith("thread "):
                facts[Arrow("waits", own, target, waiting.path)] = f"waits for {waiting.path.rpartition('.')[2]}"
    return facts
