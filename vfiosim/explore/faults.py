"""Let everything in a call fail in turn: after each failure all has to be as it was before the call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ..engine import Ablation, FaultPlan, checked_all, names_of, seldom_collected
from ..invariants import cells_of
from ..kernel import Unsupported
from ..machine import Call, Machine
from ..trace import MicroStep, Recorder
from ..trace.recorder import snapshot
from ..trace.state import Edit
from ..uapi import Errno, KernelError
from .differences import ALLOWED, differences
from .model import Factory, check_factory, check_machine, end_everybody, place, refuse_missing
from .statistics import STOPPED, Statistics, check_limits

Wanted = tuple[Any, ...] | Callable[[Machine], tuple[Any, ...]]


@dataclass(frozen=True)
class FailurePoint:
    """One thing of a call that can fail: the how manieth, with which errno, what and where it is, what was said before it."""

    number: int
    errno: str
    what: str
    line: str
    function: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.number} {self.errno} {self.what} ({self.function}, {self.line})"

    @property
    def in_words(self) -> str:
        """What failed with which errno, and where."""
        return f"{self.what} with {self.errno} ({self.function}, {self.line})"


@dataclass(frozen=True)
class Leak:
    """Something that a failed call has left behind.

    `what` is not as it was; the line `line` of `function` made it so, `said` is the sentence before it; `missing` is what nobody
    did, and `where` it is done in the life of the call without a failure ("" where it never is); `in_short` is what, shorter;
    `cells` are the paths of what is not as it was.
    """

    what: str
    line: str
    function: str
    said: str
    missing: str
    where: str = ""
    in_short: str = ""
    cells: tuple[str, ...] = ()

    @property
    def in_a_line(self) -> str:
        """What is left, who took it, and what nobody did then."""
        taken = f", taken by {self.function} ({self.line})" if self.line else ""
        return f"{self.what}{taken}. Nobody did this: {self._release}"

    @property
    def _release(self) -> str:
        return self.missing + (f", as {self.where} does" if self.where else "")

    def __str__(self) -> str:
        acquired = f"{self.function}, {self.line}: {self.said}" if self.line else self.said
        return f"{self.what}\n    acquired: {acquired}\n    missing:  {self._release}"


@dataclass(frozen=True)
class Tried:
    """What came of one failure: how the call ended after how many effects of its own, what it left behind, what it may change."""

    point: FailurePoint
    ended: str
    effects: int
    leaks: tuple[Leak, ...]
    allowed: tuple[str, ...] = ()

    @property
    def survived(self) -> bool:
        """Did the call succeed all the same? Then nothing is compared."""
        return self.ended == "succeeds"


@dataclass(frozen=True)
class Sweep:
    """Every failure of one call. `complete` is False where `limit` says why not all is known."""

    call: str
    points: tuple[Tried, ...]
    complete: bool
    seconds: float
    limit: str = ""

    @property
    def leaks(self) -> list[tuple[FailurePoint, Leak]]:
        """Everything that was left behind, with the failure after which it was."""
        return [(tried.point, leak) for tried in self.points for leak in tried.leaks]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _lines(self) -> Iterator[str]:
        if not self.complete:
            yield f"NOT FINISHED, so nothing more is proved: {self.limit}."
        clean = sum(not tried.leaks for tried in self.points)
        yield f"{self.call}: {len(self.points)} failures, {clean} leave nothing behind ({self.seconds:.2f} s)."
        for tried in self.points:
            rest = f"{len(tried.leaks)} left behind" if tried.leaks else "as before"
            yield f"  {tried.point}: {tried.ended}, {'goes on' if tried.survived else rest}"
            for leak in tried.leaks:
                yield f"  - {leak}"

    def to_json(self) -> dict[str, Any]:
        """The answer as dicts, lists, texts and numbers."""
        return {**asdict(self), "seconds": round(self.seconds, 4)}


@dataclass
class _Run:
    """One run of the call with one failure."""

    machine: Machine
    call: Call
    plan: FaultPlan
    recorder: Recorder  # of what was before the call, and of what happens from then on
    first: int  # the number of its first effect, among all of the machine
    wrong: list[str]  # what was broken before it

    @property
    def steps(self) -> list[MicroStep]:
        return self.recorder.micro()

    def said(self, effect: int) -> str:
        """The sentence of the step that a micro-step of the call belongs to."""
        return next((step.sentence for step in self.recorder.steps() if step.first <= effect <= step.last), "")


class _Setting:
    """How to make the machine, and the call."""

    def __init__(
        self,
        factory: Factory,
        call: Wanted,
        patches: dict[str, Callable[..., Any]] | None,
        without: Iterable[str],
        thread: str = "",
    ) -> None:
        self._factory, self._call, self._thread = factory, call, thread
        self._patches, self._without = checked_all(patches), names_of(without)
        self.unmodelled: dict[str, None] = {}  # what the call came by that nobody knows the answer to
        self.taken_out = Ablation(self._without)  # `met` is what the call came by in all runs

    def run(self, number: int, errno: Errno | None = None) -> _Run:
        """A fresh machine, on which the call is made while something fails. Raises ValueError for a machine that will not do."""
        check_factory(self._factory)
        machine = self._factory()
        check_machine(machine)
        if machine.pending or machine.engine.journal is None:
            raise ValueError("what is to fail is tried on a machine with a trace, and with no call under way")
        if self._without:
            machine.take_out(*sorted(machine.taken_out.names), *self._without)
        if self._patches:
            machine.patch(**self._patches)
        wanted = self._call(machine) if callable(self._call) else self._call
        placed = place(machine, {"call": [wanted]})["call"][0]
        recorder, first, wrong = Recorder(machine.engine), len(machine.engine.micro), machine.check()
        plan = machine.fail_next(number, errno)
        machine.engine.unmodelled.clear()
        call = machine.processes[placed.process].start(placed.name, *placed.arguments, thread=self._thread)
        self.taken_out.met |= machine.taken_out.met
        self.unmodelled.update((f"{what} ({call})", None) for _, what in machine.engine.unmodelled)
        return _Run(machine, call, plan, recorder, first, wrong)

    def plain(self) -> _Run:
        """The call without any failure on purpose. Raises ValueError if it does not end, or if it is not modelled."""
        run = self.run(0)
        if not run.call.thread.ended or not isinstance(run.call.error, KernelError | None):
            raise ValueError(f"{run.call} does not end by itself: {run.call.error or run.call.waits_for}")
        if isinstance(run.call.error, Unsupported):
            raise ValueError(str(run.call.error))
        return run


def faultable(
    factory: Factory,
    call: Wanted,
    patches: dict[str, Callable[..., Any]] | None = None,
    without: Iterable[str] = (),
) -> list[FailurePoint]:
    """Everything in a call that can fail, in its order: `Machine.fail_next(point.number, Errno[point.errno])` lets it.

    What can fail with several errnos is there once for each. The arguments are those of `sweep`.
    """
    return _points(_Setting(factory, call, patches, without).plain())


def _points(run: _Run) -> list[FailurePoint]:
    found = []
    for met in run.plan.met:
        place = (str(met.line), met.line.function, run.said(met.effect - run.first))
        found += [FailurePoint(met.number, errno.name, met.what, *place) for errno in met.errnos]
    return found


@seldom_collected()
def sweep(
    factory: Factory,
    call: Wanted,
    patches: dict[str, Callable[..., Any]] | None = None,
    without: Iterable[str] = (),
    *,
    thread: str = "",
    seconds: float | None = None,
    failures: int | None = None,
    progress: Callable[[Statistics], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Sweep:
    """Let everything in a call fail in turn, each on a fresh machine, and compare all that is there with what was before.

    A call that is refused by itself is looked at too, as number 0: what does the refusal leave behind?

    * `factory` makes a machine with a trace, always the same one, on which no call is under way;
    * `call` is (process, call, arguments...), or a function that is given the machine and answers that;
    * `patches`: kernel functions to replace, by name; `without`: protections to take out (`vfiosim.engine.ablation`);
    * `thread`: the name of the thread that makes the call, and of the objects that it makes, as in an exploration;
    * `seconds`, `failures`: give up after so many; `progress` is called every 0.2 s with how many are done, and how many
      effects; `stop` is asked before every failure, True ends it.

    Compared are all objects, counts, fields, tables, locks and completions, and what the invariants say. Ctrl-C stops, and what
    was found is in the answer. Raises ValueError for a call that waits for somebody, or is not modelled, and for a name in
    `without` that it never comes by, whatever fails.
    """
    started = time.monotonic()
    check_limits(seconds, failures=failures)
    over, told = partial(_over, started, seconds, failures, stop), started
    setting = _Setting(factory, call, patches, without, thread)
    plain = setting.plain()
    points, tried, limit = _points(plain), [], ""
    releases = _Releases(plain)
    if isinstance(plain.call.error, KernelError):
        tried.append(_look(plain, _refusal(plain, plain.call.error), releases))
    try:
        for point in points:
            if limit := over(len(tried)):
                break
            tried.append(_look(setting.run(point.number, Errno[point.errno]), point, releases))
            if progress is not None and time.monotonic() - told > 0.2:
                told = time.monotonic()
                progress(Statistics(transitions=sum(one.effects for one in tried), schedules=len(tried)))
        if not limit:
            refuse_missing(setting.taken_out)
    except KeyboardInterrupt:
        limit = STOPPED
    limit = limit or "; ".join(setting.unmodelled)
    return Sweep(str(plain.call), tuple(tried), not limit, time.monotonic() - started, limit)


def _over(
    started: float, seconds: float | None, failures: int | None, stop: Callable[[], bool] | None, tried: int
) -> str:
    """Why no other failure is tried after so many; "" if there is no reason. One is tried in any case."""
    if not tried:
        return ""
    if stop is not None and stop():
        return STOPPED
    if failures is not None and tried >= failures:
        return f"{failures} failures are tried, and there are more"
    if seconds is not None and time.monotonic() - started > seconds:
        return f"{seconds:g} seconds are over, and there are more failures"
    return ""


def _refusal(run: _Run, error: KernelError) -> FailurePoint:
    """The check that refuses a call by itself, as a point of number 0."""
    step = next(step for step in reversed(run.steps) if step.refused)
    return FailurePoint(0, error.name, error.check, step.where, step.function, error.sentence)


def _look(run: _Run, point: FailurePoint, releases: _Releases) -> Tried:
    """What a run has left behind."""
    error = run.call.error
    if error is None and run.call.thread.ended:
        return Tried(point, "succeeds", len(run.steps), ())
    ended = error.name if isinstance(error, KernelError) else str(error or run.call.waits_for)
    if isinstance(error, Unsupported):
        ended = "not modelled"
    leaks = []
    steps, allowed = run.steps, []
    for found in differences(run.recorder.start, snapshot(run.machine.engine)):
        reason = ALLOWED.get(f"{found.oid.partition(' ')[0]}.{found.cell}")
        if reason is not None:
            allowed.append(f"{found.what}: {reason}")
            continue
        step = next((step for step in reversed(steps) if any(found.made_by(edit) for edit in step.edits)), None)
        leaks.append(
            Leak(
                found.what,
                step.where if step else "",
                step.function if step else "",
                run.said(step.index) if step else "",
                found.missing,
                releases.of(found.undone_by),
                found.in_short,
                (found.path,),
            )
        )
    allowed += [f"user memory: {edit.new} bytes" for step in steps for edit in step.edits if edit.sort == "memory"]
    leaks += [
        Leak(
            *(what, "", "", "by the call as a whole", "an invariant that holds before the call holds after it"),
            in_short=what,
            cells=cells_of(run.machine.engine, what, run.machine.expected),
        )
        for what in run.machine.check()
        if what not in run.wrong
    ]
    own = [
        step for step in steps if step.thread == run.call.thread.label
    ]  # after an oops the end of its process is not
    return Tried(point, ended, len(own), tuple(leaks), tuple(allowed))


class _Releases:
    """Where, in the life of a call without a failure on purpose, everything is given back."""

    def __init__(self, plain: _Run) -> None:
        self._plain = plain
        self._steps: list[MicroStep] = []

    def of(self, undone_by: Callable[[Edit], bool]) -> str:
        """The first line that undoes something, from the call to the end of all processes; "" if none does."""
        if not self._steps:
            end_everybody(self._plain.machine)
            self._steps = self._plain.steps
        found = next((step for step in self._steps if any(undone_by(edit) for edit in step.edits)), None)
        return f"{found.where} ({found.function})" if found else ""
