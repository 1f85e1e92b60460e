"""Lines to be put in order, with some that do not belong there; running them, or a run of the kernel, tells where it goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import zip_longest
from typing import Any, NamedTuple

from ..trace import Trace
from . import controls as widgets
from .answers import MOVE_FIRST, RULE, Order
from .asking import Asking
from .outcome import Outcome
from .question import Distractor, ExperimentResult, as_distractor, shuffled, step_saying
from .record import progress
from .session import Session
from .style import alert, button, row, style, text, words
from .trace_pane import TracePane, refused_at
from .verdict import misled

BORDER = "border"
NEEDLESS = "needless"  # why a line is wrong without which all is well, too
UNUSED = f"{RULE}  lines below this one are not used  ──"


class Judged(NamedTuple):
    """What became of an order: the first place that is wrong (from 0) or None, why, and the steps that show it.

    `reason` is one word for why, e.g. the errno.
    """

    place: int | None
    why: str
    trace: Trace
    step: int = -1
    reason: str = ""


class InOrder(str):
    """A hint that says in which order some lines come: its text, and their `keys`."""

    keys: tuple[str, ...]

    def __new__(cls, said: str, *keys: str) -> InOrder:
        """The text as a string with the keys of the lines."""
        hint = super().__new__(cls, said)
        hint.keys = keys
        return hint


@dataclass(frozen=True)
class Parsons:
    """Lines to be put in order.

    * `lines`: key → what the reader reads, in one right order; `extra`: lines that do not belong there;
    * `judge` tells the first wrong place of an order: see `by_running` and `by_trace`;
    * `distractors`: what stands at the first wrong place → what misled; where it can be wrong for several reasons, the line and the
      reason ("close EBADF", see `Judged.reason`); `because`: why the order is as it is;
    * `seed`: of the shuffling; `name`, `view`: as in a `Question`; so are `hints`: one that tells of an order is an `InOrder`.
    """

    text: str
    lines: Mapping[str, str]
    judge: Callable[[Sequence[str]], Judged]
    because: str
    extra: Mapping[str, str] = field(default_factory=dict)
    distractors: Mapping[str, str | Distractor] = field(default_factory=dict)
    hints: Sequence[str] = ()
    seed: int = 1
    name: str = ""
    view: Sequence[str] = ()

    def distractor(self, chosen: Sequence[str], judged: Judged) -> Distractor | None:
        """What is to be said about the line at the first wrong place; None where no line is wrong."""
        if judged.place is None or judged.place >= len(chosen):
            return None
        key = chosen[judged.place]
        found = self.distractors.get(f"{key} {judged.reason}") or self.distractors.get(key, "")
        return as_distractor(found)


def by_running(
    start: Callable[[Session], object],
    calls: Mapping[str, Callable[[Session], Outcome]],
    missing: Callable[[Session], list[str]],
) -> Callable[[Sequence[str]], Judged]:
    """Judges an order by making the calls in it: the first one that is refused is wrong; at the end nothing may be missing."""

    def judge(order: Sequence[str]) -> Judged:
        session = Session(start=start)
        for place, key in enumerate(order):
            outcome = calls[key](session)
            if outcome.refused or outcome.unknown or outcome.waits:
                steps = session.steps
                said = "The call does not end" if outcome.waits else f"The kernel says {outcome.result}"
                return Judged(place, f"{said}: {outcome.sentence}.", steps, refused_at(steps), outcome.result)
        left = missing(session)
        if left:
            return Judged(len(order), f"Every call succeeds; {left[0]}.", session.steps)
        return Judged(None, "Every call succeeds, and the end is reached.", session.steps)

    return judge


def without_needless(judge: Callable[[Sequence[str]], Judged]) -> Callable[[Sequence[str]], Judged]:
    """The same judge, for whom a line is wrong that can be left out of a right order."""

    def judged(order: Sequence[str]) -> Judged:
        found = judge(order)
        for place in range(len(order)) if found.place is None else ():
            if judge([*order[:place], *order[place + 1 :]]).place is None:
                return found._replace(place=place, why="The end is reached without it, too.", reason=NEEDLESS)
        return found

    return judged


def by_trace(experiment: Callable[[], ExperimentResult], marks: Mapping[str, str]) -> Callable[[Sequence[str]], Judged]:
    """Judges an order of steps by a run: `marks` maps each line to a part of the sentence of its step.

    What it shows of the run ends before the step that is to come in the wrong place: the rest would tell the order.
    Raises ValueError while judging if a mark fits no step.
    """

    @cache
    def run() -> Trace:
        return experiment().trace

    def judge(order: Sequence[str]) -> Judged:
        trace = run()
        steps = {key: step_saying(trace, mark) for key, mark in marks.items()}
        real = sorted(steps, key=steps.__getitem__)
        place = next((n for n, pair in enumerate(zip_longest(order, real)) if pair[0] != pair[1]), None)
        if place is not None:
            known = trace[: steps[real[place]] - 1] if place < len(real) else trace
            if place == len(order):
                why = "Up to here it is right, but steps are missing."
            elif order[place] not in steps:
                why = "This run has no such step."
            else:
                why = "In the run something else comes before it."
            return Judged(place, f"{why} The picture shows the run up to this place.", known, len(known))
        return Judged(None, "The run has them in this order.", trace, steps[real[-1]])

    return judge


class Ordering(Asking):
    """Lines with buttons to move them, one to check them, hints, a solution, and a reset."""

    def __init__(self, puzzle: Parsons) -> None:
        super().__init__("Put in order.", puzzle.text, puzzle.hints, self._solution, name=puzzle.name)
        self.puzzle = puzzle
        lines = {**puzzle.lines, **puzzle.extra}
        given = shuffled(lines, puzzle.seed)
        if puzzle.extra:
            lines[BORDER] = UNUSED
            given.append(BORDER)
        self.order = Order(lines, given)
        self.check = button("Check", "run the lines in this order", primary=True)
        self.again = button("Reset", "the lines as they were given")
        self.check.on_click(lambda _: self._check())
        self.again.on_click(lambda _: self._reset())
        self.order.observe(lambda _: self._moved(), "value")
        buttons = row("", self.check, *self.help.buttons, self.again)
        self.problem = text("problem")
        # Beside the lines: there it was asked for. The verdict stands at the steps that show it.
        told = widgets.VBox([buttons, self.problem, self.help.slot])
        self._frame: list[Any] = [style(), self.asked, widgets.Box([self.order, told], kind="ordered")]
        self.children = self._frame

    @property
    def chosen(self) -> tuple[str, ...]:
        """The keys of the lines that are used, from top to bottom."""
        value = tuple(self.order.value)
        return value[: value.index(BORDER)] if BORDER in value else value

    @property
    def message(self) -> str:
        """The verdict and the help, or what is wrong with the lines, in words."""
        return words(self.problem.value or self.verdict.value + self.because.value + self.help.slot.value)

    def _choices(self) -> list[str]:
        lines = {**self.puzzle.lines, **self.puzzle.extra}
        return [lines[key] for key in shuffled(lines, self.puzzle.seed)]

    def _check(self) -> None:
        chosen = self.chosen
        if self.order.untouched or not chosen:
            problem = MOVE_FIRST if chosen else "There is no line to run: move some above the border."
            self.problem.value = alert(problem)
            return
        self.help.tried()
        judged = self.puzzle.judge(chosen)
        progress.record(self.puzzle.name, judged.place is None and not self.help.opened)
        view: dict[str, Any] = {"only": self.puzzle.view} if self.puzzle.view else {}
        why = escape(judged.why, quote=False)
        if judged.place is None:
            above = f'<p class="good"><b>✓ Right.</b> {why}</p>{self.help.solved()}'
            self.because.value = "" if self.help.told else f"<p><b>Because</b> {self.puzzle.because}</p>"
        else:
            above, self.because.value = self._wrong(chosen, judged, why), ""
        self.verdict.value = f'<div role="status">{above}</div>'
        self.children = [*self._frame, self.verdict, TracePane(judged.trace, step=judged.step, **view), self.because]

    def _wrong(self, chosen: Sequence[str], judged: Judged, why: str) -> str:
        lines, needless = {**self.puzzle.lines, **self.puzzle.extra}, judged.reason == NEEDLESS
        distractor = self.puzzle.distractor(chosen, judged)
        if judged.place is None or (distractor is None and not needless):
            return f'<p class="refused"><b>✕ The end is not reached.</b> {why}</p>'
        what = "A line that is not needed" if needless else "The first wrong place"
        head = f"✕ {what} is number {judged.place + 1}: “{escape(lines[chosen[judged.place]], quote=False)}”."
        return f'<p class="refused"><b>{head}</b> {why}</p>{misled(distractor) if distractor else ""}'

    def _moved(self) -> None:
        self.problem.value = self.verdict.value = self.because.value = ""
        self.children = self._frame

    def _reset(self) -> None:
        self.order.clear()
        self.help.clear()
        self._moved()

    def _solution(self) -> str:
        items = "".join(f"<li>{escape(line, quote=False)}</li>" for line in self.puzzle.lines.values())
        return f"<p><b>Solution.</b></p><ol>{items}</ol><p><b>Because</b> {self.puzzle.because}</p>"
