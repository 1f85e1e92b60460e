"""What an exploration answers: the verdict, the shortest way to everything that goes wrong, and every way it can end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from itertools import groupby
from typing import Any

from ..invariants import cells_of
from ..machine import Machine, program_of
from ..trace import Trace

Outcome = tuple[tuple[str, tuple[str, ...]], ...]
ALWAYS = "use after free, oopses, warnings, references, deadlocks, the order of locks, what is left behind"
SAFE, BROKEN, UNFINISHED = "safe", "broken", "unfinished"


def words(outcome: Outcome) -> str:
    """An outcome for people: "A: 0; B: EINVAL"."""
    return "; ".join(f"{thread}: {', '.join(results) or 'nothing'}" for thread, results in outcome)


def counted(number: int, one: str, many: str) -> str:
    """A number with what there are so many of: "1 way", "3 ways"."""
    return f"{number:,} {one if number == 1 else many}"


def runs(schedule: Sequence[str]) -> list[tuple[str, int]]:
    """A schedule as (thread, how many effects) in turn."""
    return [(thread, len(list(group))) for thread, group in groupby(schedule)]


def in_turn(schedule: Sequence[str]) -> str:
    """A schedule for people: "20 effects of A, then 18 of B, then 1 of A"."""
    if not schedule:
        return "no effect"
    (thread, effects), *rest = runs(schedule)
    return ", then ".join(
        [f"{counted(effects, 'effect', 'effects')} of {thread}", *(f"{n} of {who}" for who, n in rest)]
    )


@dataclass(frozen=True)
class Witness:
    """A schedule to look at: `what` it leads to, and the thread of each effect; `in_short`: the same, for the last step;
    `cells`: the paths of those that it is about, where no invariant tells them.

    Shown in a notebook, printed, or given to `vfiosim.views.show` by its `trace`.
    """

    what: str
    schedule: tuple[str, ...]
    _machine: Callable[[tuple[str, ...]], Machine] = field(repr=False)
    _steps_before: Callable[[], int] = field(repr=False)
    _name: str = field(default="", repr=False)
    in_short: str = field(default="", repr=False)
    cells: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.schedule)

    @property
    def switches(self) -> int:
        """How often another thread goes on."""
        return max(len(runs(self.schedule)) - 1, 0)

    @cached_property
    def machine(self) -> Machine:
        """A machine on which just this has happened; its calls that have not ended wait to go on."""
        return self._machine(self.schedule)

    @property
    def before(self) -> int:
        """How many effects there were before the first of the threads; after their last a process may have died of it."""
        whole, steps = self.machine.trace, self._steps_before()
        return whole[steps].first if steps < len(whole) else len(self.machine.engine.micro)

    @property
    def trace(self) -> Trace:
        """What happened, from the first effect of the threads on; the last step tells what is broken then."""
        whole = self.machine.trace
        return whole[self._steps_before() :].ending_in(self.in_short or self.what, cells=self._cells)

    def _cells(self, what: str) -> tuple[str, ...]:
        return self.cells or cells_of(self.machine.engine, what, self.machine.expected)

    @property
    def replay(self) -> str:
        """A short text for `vfiosim.replay`; "" where nothing happens in it, or where it cannot be shared."""
        turns = runs(self.schedule)
        if not self._name or any(re.search(r"[\s:@]|[0-9]$", thread) for thread, _ in turns):
            return self.machine.trace.replay if turns else ""
        return f"{self._name}: {' '.join(f'{thread}{n}' for thread, n in turns)}" if turns else ""

    @property
    def code(self) -> str:
        """A Python program that makes the machine and the calls, lets them go in this order, and prints what is wrong then."""
        told = f"# {self.what}\n" if self.what else ""
        return f'{told}{program_of(self.machine)}\nprint(*m.check(), sep="\\n")\n'

    def __str__(self) -> str:
        return f"{self.what}\n  after {in_turn(self.schedule)}" + (
            f"\n  replay({self.replay!r})" if self.replay else ""
        )

    __repr__ = __str__


@dataclass
class Result:
    """What an exploration found. `complete` is False where nothing is proved, and `limit` says why.

    A limit was hit, somebody stopped it, a call is not modelled, or a function of somebody's own does not repeat.

    * `verdict`: "safe", "broken", or "unfinished" where it is neither proved nor refuted;
    * `transitions`: effects done; `schedules`: how many were run to their end; `seconds`; `states`: None, for none are kept;
    * `looked_at`, `left_out`: the invariants that were looked at after every effect, and those only at the end of every schedule;
      `tried`: what was done instead where it was no search through schedules; `not_looked_at`: what the verdict says nothing about;
    * `violations`: everything that goes wrong, shortest first; `outcomes`: every way in which the calls can end.
    """

    verdict: str
    complete: bool
    transitions: int
    schedules: int
    seconds: float
    violations: list[Witness]
    outcomes: dict[Outcome, Witness]
    limit: str = ""
    looked_at: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    tried: str = ""
    not_looked_at: str = ""
    states: None = None

    @property
    def counterexample(self) -> Witness | None:
        """The shortest way to something that goes wrong; None if nothing was found."""
        return self.violations[0] if self.violations else None

    def outcome(self, **results: str) -> Witness | None:
        """A schedule in which the calls of these threads end so, e.g. `outcome(A="0", B="EBUSY")`; None if there is none."""
        for outcome, witness in self.outcomes.items():
            ended = dict(outcome)
            if all(", ".join(ended.get(thread, ())) == wanted for thread, wanted in results.items()):
                return witness
        return None

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The verdict, the shortest way and the ends, in sentences; the whole text, with the line to replay it, at a click."""
        head, *_ = self._lines()
        verdict, _, found = head.partition(" (")[0].rstrip(".").partition(":")
        ends = "".join(
            f"<tr><td>{escape(words(outcome))}</td><td>&emsp;for example: {in_turn(witness.schedule)}</td></tr>"
            for outcome, witness in self.outcomes.items()
        )
        shortest = self.counterexample
        way = (
            f"<p>The shortest way to one of them is {in_turn(shortest.schedule)}. Then {escape(shortest.what)}.</p>"
            if shortest
            else ""
        )
        wrong = "".join(f"<li>{escape(each.what)}</li>" for each in self.violations)
        all_of_it = "All that was found, and how to replay it" if wrong else "What was looked at"
        more = f"<details><summary>{all_of_it}</summary><ul>{wrong}</ul><pre>{escape(str(self))}</pre></details>"
        many = counted(len(self.outcomes), "way", "ways")
        return f"<p><b>{verdict}:</b>{escape(found)}.</p>{way}<p>The calls can end in {many}:</p><table>{ends}</table>{more}"

    def _lines(self) -> Iterator[str]:
        done = f"{counted(self.schedules, 'schedule', 'schedules')}, {self.transitions:,} effects, {self.seconds:.2f} s"
        if self.verdict == BROKEN:
            yield f"Broken: {counted(len(self.violations), 'thing goes', 'things go')} wrong ({done})."
        elif self.complete:
            yield f"Safe: nothing goes wrong in any schedule ({done})."
        if not self.complete:
            yield f"NOT FINISHED, so nothing more is proved: {self.limit} ({done})."
        yield f"Looked at: {self._looked()}."
        if self.not_looked_at:
            yield f"Not looked at: {self.not_looked_at}."
        if self.counterexample is not None:
            yield f"The shortest: {self.counterexample}"
        yield f"{counted(len(self.outcomes), 'way', 'ways')} to end:"
        for outcome, witness in self.outcomes.items():
            yield f"  {words(outcome)}   (e.g. {in_turn(witness.schedule)})"

    def _looked(self) -> str:
        """What was looked at, short: names where they are few."""
        if self.tried:
            return self.tried
        known = counted(len(self.looked_at), "invariant", "invariants")
        if not self.left_out:
            told = f"all {known} after every effect"
        elif not self.looked_at:
            told = "all invariants when a schedule ends"
        else:
            few = self.left_out if len(self.left_out) < len(self.looked_at) else self.looked_at
            names = ("all but " if few is self.left_out else "") + (", ".join(few) or "none")
            told = f"{known} after every effect ({names}), all when a schedule ends"
        return f"{told}; and {ALWAYS}"

    def to_json(self) -> dict[str, Any]:
        """The answer as dicts, lists, texts and numbers."""
        shortest = self.counterexample
        return {
            "verdict": self.verdict,
            "complete": self.complete,
            "not_looked_at": self.not_looked_at,
            "states": self.states,
            "transitions": self.transitions,
            "schedules": self.schedules,
            "seconds": round(self.seconds, 4),
            "counterexample": None
            if shortest is None
            else {
                "what": shortest.what,
                "effects": len(shortest),
                "schedule": [list(run) for run in runs(shortest.schedule)],
                "replay": shortest.replay,
            },
        }


def together(results: Sequence[Result]) -> Result:
    """Several explorations as one answer: broken where one of them is, complete where all are."""
    verdicts = {result.verdict for result in results}
    return Result(
        verdict=next(verdict for verdict in (BROKEN, UNFINISHED, SAFE) if verdict in verdicts),
        complete=all(result.complete for result in results),
        transitions=sum(result.transitions for result in results),
        schedules=sum(result.schedules for result in results),
        seconds=sum(result.seconds for result in results),
        violations=sorted((one for result in results for one in result.violations), key=_by_length),
        outcomes={outcome: way for result in results for outcome, way in result.outcomes.items()},
        limit="; ".join(dict.fromkeys(result.limit for result in results if result.limit)),
        not_looked_at="; ".join(dict.fromkeys(result.not_looked_at for result in results if result.not_looked_at)),
    )


def _by_length(witness: Witness) -> tuple[bool, int]:
    return not witness.schedule, len(witness)
