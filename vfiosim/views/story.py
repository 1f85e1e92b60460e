"""How the facts that are drawn change in the course of a trace."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from copy import copy
from itertools import count

from ..trace import MicroStep, ObjectState, State, Trace
from ..trace.steps import take
from ..uapi import REQUESTS
from .facts import Arrow, CellFact, Fact, Facts, LifeFact, cell, facts_about, life, pointed_by, touched, waits
from .running import Running

CALLS = "calls"  # what running calls tell, among what is known about each object


class Story:
    """All facts of a trace: `changes[0]` are those at its start, and there is one more entry for each micro-step.

    `texts` are all texts that a fact ever has, `lasting` those that it has at the start or after one of the steps.
    `pointing` are the fields by which an object ever points to another: "iommufd", "objects[1]", "3" for a descriptor.
    """

    def __init__(self, trace: Trace) -> None:
        self.things: dict[str, ObjectState] = {}
        self.changes: list[Facts] = []
        self.texts: dict[Fact, list[str]] = {}
        self.pointing: dict[tuple[str, str], dict[str, None]] = {}
        base = trace.micro[0].index if trace.micro else 0
        self.at_step = [step.last - base + 1 for step in trace]
        self._about: dict[str, Facts] = {}
        self.lanes = lanes(trace)
        self._lanes = {f"thread {thread}": f"thread {lane}" for thread, lane in self.lanes.items()}
        self._running: dict[str, Running] = {}  # by lane
        self.called: dict[str, set[str]] = {}  # by lane, the names of its calls
        self.during: dict[Fact, set[str]] = {}  # by what a running call has, the names of the calls that have it
        self._harm: dict[Arrow, int] = {}  # by what a call touches, the call
        self._follow(trace)
        self.lasting = self._lasting()

    def with_room(self, reserve: Collection[Trace]) -> Story:
        """The same with what occurs only in other traces: it gets a place in the picture, and nothing more."""
        made = copy(self)
        made.during = {**self.during}
        for other in reversed([*reserve]):
            made._reserve(known_story(other))
        return made

    def _reserve(self, other: Story) -> None:
        """Keep a place for all that occurs in another story, in its order."""
        self.things = {**other.things, **self.things}
        # There is no room for all that several requests are given, and a call is told nothing of another one.
        asked = {lane: called & REQUESTS.keys() for lane, called in other.called.items()}
        several = {lane for lane, requests in asked.items() if len(requests) > 1}
        strange = {
            lane
            for lane in asked
            if (called := self.called.get(lane)) and not asked[lane] <= called <= other.called[lane]
        }
        unwanted = several | strange
        kept = other.texts
        if unwanted:
            kept = {
                fact: texts
                for fact, texts in kept.items()
                if not (
                    fact.holder in strange
                    if isinstance(fact, Arrow)
                    else isinstance(fact, CellFact) and fact.oid in unwanted
                )
            }
        # Most is the same in both: only what differs is made anew.
        also = {fact: [*kept[fact], *texts] for fact, texts in self.texts.items() if kept.get(fact, texts) != texts}
        self.texts = {**kept, **self.texts, **also}
        last = {
            fact: other.lasting[fact] | texts
            for fact, texts in self.lasting.items()
            if not texts <= other.lasting.get(fact, texts)
        }
        self.lasting = {**self.lasting, **other.lasting, **last}
        for fact, calls in other.during.items():
            self.during[fact] = calls | self.during.get(fact, set())
        mine = self.pointing
        point = {
            ends: names | other.pointing[ends]  # its own first: an arrow leaves from there
            for ends, names in mine.items()
            if names != other.pointing.get(ends, names)
        }
        self.pointing = {**mine, **other.pointing, **point}

    def _follow(self, trace: Trace) -> None:
        state = trace.start.copy()
        self._look(state, state.objects)
        begins = {step.first for step in trace}
        for micro in trace.micro:
            take(state, micro)
            told = self._run(micro, micro.index in begins)
            self._look(state, dict.fromkeys(edit.oid for edit in micro.edits), told)

    def _run(self, micro: MicroStep, begins: bool) -> bool:
        """A call that has ended is there until anybody does anything else. Is anything else to be told now of the calls?"""
        before, lane = self._running, self._lane(f"thread {micro.thread}")
        self._running = {lane: run for lane, run in before.items() if run.call == micro.call or not run.result}
        if lane not in self._running or self._running[lane].call != micro.call:
            self._running[lane] = Running(micro.call)
        run = self._running[lane]
        changed = run.follow(micro, begins)
        if run.name:
            self.called.setdefault(lane, set()).add(run.name)
        if path := touched(micro):
            self._harm[Arrow("harm", lane, path.rpartition(".")[0], path.rpartition(".")[2], "touches")] = micro.call
        return changed or bool(path) or before != self._running

    def _look(self, state: State, touched: Iterable[str], calls: bool = False) -> None:
        """Compare the facts about these objects with what was known of them, and of the `calls` too."""
        change: Facts = {}
        fresh: dict[str, Facts] = {}
        for oid in touched:
            thing = state.objects.get(oid)
            fresh[oid] = {} if thing is None else facts_about(thing, state, self._lanes)
            if thing is not None:
                self._meet(thing)
        fresh["who waits"] = waits(state, self._lanes)
        if calls:
            fresh[CALLS] = self._calls()
        for oid, new in fresh.items():
            old = self._about.get(oid)
            if old:
                change.update({fact: "" for fact in old if fact not in new})
                change.update({fact: text for fact, text in new.items() if fact not in old or old[fact] != text})
            elif new:
                change.update(new)
            if new or old:
                self._about[oid] = new
        for fact, text in change.items():
            self._note(fact, text)
        self.changes.append(change)

    def _note(self, fact: Fact, text: str) -> None:
        """A fact has another text now."""
        if fact in self.texts:
            self.texts[fact].append(text)
        else:
            self.texts[fact] = [text]
        owner = fact.holder if isinstance(fact, Arrow) else fact.oid
        if text and owner in self._running:
            self.during.setdefault(fact, set()).add(self._running[owner].name)

    def _calls(self) -> Facts:
        facts: Facts = {}
        for lane, run in self._running.items():
            facts.update({arrow: "1" for arrow, call in self._harm.items() if call == run.call})
            facts[life(lane)] = "alive"
            facts.update({cell(lane, run.row(name), "value"): text for name, text in run.rows().items()})
        return facts

    def _meet(self, thing: ObjectState) -> None:
        if thing.oid not in self.things:
            self.things[thing.oid] = thing
        for target, name in pointed_by(thing):
            self.pointing.setdefault((thing.oid, target), {})[name] = None

    def _lane(self, oid: str) -> str:
        return self._lanes.get(oid, oid)

    def _lasting(self) -> dict[Fact, set[str]]:
        found, fresh = {fact: {text} for fact, text in self.changes[0].items()}, dict[Fact, str]()
        ends = {*self.at_step}
        for number, change in enumerate(self.changes[1:], 1):
            fresh.update(change)
            if number in ends:
                for fact, text in fresh.items():
                    found.setdefault(fact, set()).add(text)
                fresh = {}
        return found

    def mappings(self) -> set[str]:
        """The address spaces that are at some time, after a step, all by which a program has a file."""
        there, found, ends = set[Arrow](), set[str](), {0, *self.at_step}
        for number, change in enumerate(self.changes):
            for fact, text in change.items():
                if (
                    isinstance(fact, Arrow)
                    and fact.target.startswith("file ")
                    and fact.holder.startswith(("mm_struct ", "fds "))
                ):
                    (there.add if text else there.discard)(fact)
            if number in ends:
                opened = {arrow.target for arrow in there if arrow.holder.startswith("fds ")}
                found |= {arrow.holder for arrow in there if arrow.target not in opened}
        return found

    def released(self) -> set[str]:
        """The files that are there at first, and go."""
        first = {fact for fact in self.changes[0] if isinstance(fact, LifeFact) and fact.oid.startswith("file ")}
        return {fact.oid for fact in first if "" in self.lasting[fact]}

    def moves(self, fact: Fact) -> bool:
        """Is it different after one step from what it is after another? How many processes a user has is about no call."""
        if isinstance(fact, Arrow) and fact.holder.startswith("process ") and fact.target.startswith("user_struct "):
            return False
        if isinstance(fact, CellFact) and fact.cell == "refs" and fact.oid.startswith("user_struct "):
            return False
        return len(self.lasting.get(fact, {""}) | ({""} if fact not in self.changes[0] else set())) > 1

    def arrows(self) -> list[Arrow]:
        """The arrows that are worth drawing: not those that are there only in the middle of a step."""
        lasting = self.lasting
        return [
            fact
            for fact in self.texts
            if isinstance(fact, Arrow) and fact.holder != fact.target and fact in lasting and lasting[fact] != {""}
        ]


# What is reserved is asked about at every press, and a brief picture is of the same trace.
_KNOWN: deque[tuple[Trace, Story]] = deque(maxlen=24)


def known_story(of: Trace) -> Story:
    """The story of a trace, made once."""
    at = next((number for number, (trace, _) in enumerate(_KNOWN) if trace is of or _retold(trace, of)), None)
    found = (of, Story(of)) if at is None else _KNOWN[at]
    if at is not None:
        del _KNOWN[at]  # what was asked about last goes last
    _KNOWN.append(found)
    return found[1]


def _retold(one: Trace, other: Trace) -> bool:
    """Do they tell the same? After an Undo they share what they consist of, see `Machine.remember`."""
    if not one.micro or len(one.micro) != len(other.micro) or one.micro[0] is not other.micro[0]:
        return False
    return (one.micro, one.steps, one.start) == (other.micro, other.steps, other.start)


def lanes(trace: Trace) -> dict[str, str]:
    """How each thread is called: by the name of its process.

    So a process has one node for its start and its calls, and a second one where two run at the same time. A thread that somebody
    has given a name keeps it, also for its later calls ("B#2").
    """
    lane: dict[str, str] = {}
    taken: set[str] = set()
    started = [(thread.name, thread.process, "") for thread in trace.start.threads.values()]
    for thread, process, ended in [*started, *((one.thread, one.process, one.ended) for one in trace.micro)]:
        if thread not in lane:
            own = process.partition(" ")[2]
            base = own if own and thread.startswith(f"{own}:") else thread.partition("#")[0].removeprefix("start ")
            names = (base if number == 1 else f"{base} ({number})" for number in count(1))
            lane[thread] = next(name for name in names if name not in taken)
            taken.add(lane[thread])
        if ended:
            taken.discard(lane[thread])
    return lane
