"""The race lab: take a protection out, predict, let every schedule be tried, look at what goes wrong, schedule it yourself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import starmap
from typing import Any

from ..explore import Result, Witness
from ..explore.missing import Way
from ..explore.result import counted, in_turn, runs
from ..explore.statistics import Statistics
from ..naming import must_be_one_of
from ..puzzles import PUZZLES, Puzzle
from ..puzzles.words import outcome_words, thread_words
from . import controls as widgets
from .background_job import BackgroundJob
from .by_hand import missing_html, scheduler
from .counterexample import Counterexample
from .presenter import presenter
from .press import ClickFilter
from .question import Misconception
from .races_verdict import BROKEN, CHOICES, SAFE, judged, scene
from .sandbox import Sandbox
from .static_fallback import ONLY_LIVE, StaticFallback, note
from .style import button, row, style, text
from .style import words as plain
from .trace_pane import TracePane

MOST = 12  # outcomes and violations that get a row


class Races(StaticFallback):
    """Puzzles about races. `name` chooses one of `vfiosim.puzzles.PUZZLES`; options are those of the player.

    `beliefs`: the misconception of who predicts "safe" or "broken" and is wrong.

    The verdict is locked until the reader has predicted it. Raises ValueError for a puzzle that there is not.
    """

    looks = "lab races"

    def __init__(
        self, name: str | None = None, *, beliefs: Mapping[str, Misconception] | None = None, **options: Any
    ) -> None:
        if name is not None:
            must_be_one_of(PUZZLES, name, "puzzle")
        self.clicks = ClickFilter()
        self.result: Result | None = None
        self.predicted: str | None = None
        self._sliced: BackgroundJob[Result] | None = None
        self._options, self._about, self._beliefs = options, name, beliefs or {}
        self.way_in: Counterexample | None = None
        self.sandbox: Sandbox | None = None
        self.missing = text("verdict")
        self._controls(name or next(iter(PUZZLES)))
        super().__init__([])
        self._on_selection()

    # ---- the controls

    def _controls(self, name: str) -> None:
        options = [(f"{puzzle.name}: {puzzle.title}", puzzle.name) for puzzle in PUZZLES.values()]
        self.choice = widgets.Dropdown(options=options, value=name, description="puzzle", tooltip="Which race")
        self.story, self.progress, self.verdict = text("question"), text("answer"), text("verdict")
        self.protections: dict[str, widgets.Checkbox] = {}
        self.ticks = row("")
        self.prediction = widgets.RadioButtons(
            options=CHOICES, value=None, layout={"width": "auto"}, tooltip="Your prediction"
        )
        self.commit = button("Answer", "this is my prediction", primary=True, clicks=self.clicks)
        self.explore = button(
            "Explore",
            "try every schedule that can make a difference",
            primary=True,
            clicks=self.clicks,
            reveals=True,
        )
        self.stop = button("Stop", "end the exploration here", clicks=self.clicks)
        self.reset = button("Reset", "everything as at first", clicks=self.clicks)
        self.yourself = button(
            "Schedule it yourself", "a sandbox with these calls, to be moved by hand", clicks=self.clicks
        )
        self.fold = widgets.ToggleButton(
            description="Story and prediction",
            tooltip="what the race is about, and what you predicted",
            layout={"width": "auto"},
        )
        self.asked = row("Predict: can anything go wrong?", self.prediction)
        self.found = widgets.VBox([])
        self._above = [
            style(),
            row("Race", self.choice, self.ticks),
            self.story,
            self.asked,
            row("", self.commit, self.explore, self.stop, self.reset, self.yourself, self.fold),
            self.verdict,
            self.progress,
        ]
        self.choice.observe(lambda _: self._on_selection(), "value")
        self.prediction.observe(lambda _: self._say(""), "value")
        self.commit.on_click(lambda _: self._commit())
        self.explore.on_click(lambda _: self._explore())
        self.stop.on_click(lambda _: self._stop())
        self.reset.on_click(lambda _: self._on_selection())
        self.yourself.on_click(lambda _: self._by_hand())
        self.fold.observe(lambda _: self._fold(), "value")
        presenter.observe(lambda _: self._changed(), "on")

    @property
    def puzzle(self) -> Puzzle:
        """The puzzle that is chosen."""
        return PUZZLES[str(self.choice.value)]

    def _on_selection(self) -> None:
        """Another puzzle, or the same one from the beginning."""
        self._end()
        puzzle = self.puzzle
        threads = "".join(
            f"<li><b>{escape(who)}</b>: {escape('; '.join(calls))}</li>"
            for who, calls in starmap(thread_words, puzzle.programs().items())
        )
        begins = escape(scene(puzzle)[0], quote=False)
        self.story.value = f"<p><b>{puzzle.name}: {escape(puzzle.title)}.</b> {begins}</p><ul>{threads}</ul>"
        self.protections = {name: self._tick(name, f"take out {name}") for name in puzzle.protections}
        if puzzle.faulty:
            self.protections["faulty"] = self._tick(
                "faulty", f"with {', '.join(puzzle.faulty)} as it would be without the protection"
            )
        if puzzle.fixes:
            self.protections["fixed"] = self._tick("fixed", f"with a repair of {', '.join(puzzle.fixes)}")
        self.ticks.children = [text("title", "The kernel as it is, or:"), *self.protections.values()]
        self._first = True
        self.way_in = self.sandbox = None
        self._lock()

    def _tick(self, name: str, said: str) -> widgets.Checkbox:
        made = widgets.Checkbox(value=False, description=said, indent=False, tooltip=said, layout={"width": "auto"})
        made.observe(lambda _: self._changed(), "value")
        return made

    def _changed(self) -> None:
        """Another kernel: what was predicted and found is about the one before."""
        self._end()
        self.way_in = self.sandbox = None
        self._lock()

    def _lock(self) -> None:
        self.result, self.predicted = None, None
        self.prediction.value = None
        self.prediction.disabled = self.commit.disabled = False
        self.explore.disabled, self.stop.disabled = not presenter.on, True
        self.verdict.value, self.found.children = "", []
        self._say("" if presenter.on else "Predict first; then Explore is unlocked.")
        self.fold.value = False
        self._fold()
        self._arrange()

    def _fold(self) -> None:
        """Once explored, what was told and predicted makes room for what was found, until somebody wants to see it again."""
        explored = self.result is not None
        shown = self.fold.value or not explored
        widgets.unfold(self.fold, explored)
        widgets.unfold(self.ticks, presenter.on or not self._first)  # first one predicts for the kernel as it is
        widgets.unfold(self.story, shown)
        for part in (self.asked, self.commit):
            widgets.unfold(part, shown and not presenter.on)

    def _arrange(self) -> None:
        parts = [
            *self._above,
            self.way_in,
            self.found,
            *([self.missing, self.sandbox] if self.sandbox else []),
        ]
        self.children = [part for part in parts if part is not None]

    # ---- to predict and to explore

    def _commit(self) -> None:
        if self.prediction.value is None:
            self._say("Choose one of the two answers first.", "alert")
            return
        self.predicted = str(self.prediction.value)
        self._first = False
        self.prediction.disabled = self.commit.disabled = True
        self.explore.disabled = False
        self._fold()
        self._say("Now explore.")

    def _kernel(self) -> tuple[tuple[str, ...], dict[str, Callable[..., Any]]]:
        """What is taken out, and which functions are replaced."""
        ticked = {name for name, box in self.protections.items() if box.value}
        own = self.puzzle.fixes if "fixed" in ticked else self.puzzle.faulty if "faulty" in ticked else {}
        return tuple(name for name in self.puzzle.protections if name in ticked), own

    def _explore(self) -> None:
        if (self.predicted is None and not presenter.on) or self._sliced is not None:
            return
        puzzle, (without, patches) = self.puzzle, self._kernel()
        self.explore.disabled, self.stop.disabled = True, False
        self._say("Exploring…")
        sliced = self._sliced = BackgroundJob(
            lambda pause: puzzle.explore(without, patches or None, stop=pause, progress=self._tell_progress)
        )
        sliced.begin(lambda: self._finish() if self._sliced is sliced else None)

    def _tell_progress(self, known: Statistics) -> None:
        found = len(known.violations)
        wrong = f", {counted(found, 'thing goes', 'things go')} wrong" if found else ""
        self._say(
            f"Exploring: {known.schedules:,} schedules, {known.transitions:,} effects, {len(known.outcomes)} ways to end{wrong}"
        )

    def _stop(self) -> None:
        if self._sliced is not None:
            self._sliced.stop()
            self._finish()

    def _end(self) -> None:
        """Leave an exploration that is under way."""
        if self._sliced is not None:
            self._sliced.stop()
            self._sliced = None

    def _finish(self) -> None:
        sliced, self._sliced = self._sliced, None
        self.stop.disabled, self.explore.disabled = True, False
        assert sliced is not None
        try:
            self.result = sliced.result()
        except ValueError as problem:
            self._say(f"That cannot be explored: {problem}.", "alert")
            return
        result = self.result
        self.verdict.value = judged(result, self.predicted, self.puzzle, self._beliefs)
        self._fold()
        self.found.children = [*self._rows("What goes wrong", [(one.what, one) for one in result.violations])]
        programs = self.puzzle.programs()
        ends = [(outcome_words(programs, outcome), witness) for outcome, witness in result.outcomes.items()]
        self.found.children = [*self.found.children, *self._rows("How the calls can end, each with an example", ends)]
        if result.counterexample is not None and result.counterexample.schedule:
            self._show(result.counterexample)
        elif result.verdict == SAFE and self.predicted == BROKEN:
            most = max(result.outcomes.values(), key=lambda one: one.switches)
            self._show(most, next((step.index + 1 for step in most.trace if step.waits or step.refused), -1))
        self._say(self._what_next(result))

    # ---- what it tells

    def _what_next(self, result: Result) -> str:
        """What a newcomer may do after that; where a picture is shown, it is told what that is."""
        if result.verdict == SAFE and not any(box.value for box in self.protections.values()):
            return "Now without what keeps it safe: change the kernel above, and predict again."
        return ""

    def _rows(self, title: str, found: Sequence[tuple[str, Witness]]) -> list[widgets.Widget]:
        if not found:
            return []
        rows: list[widgets.Widget] = [text("title", f"{title} ({len(found)})")]
        for number, (said, witness) in enumerate(found[:MOST], start=1):
            line = text("way", f"{escape(said[:300], quote=False)} {_order(witness)}")
            if witness.schedule:
                show = button(f"Show {number}", f"the steps that lead to: {said[:200]}", clicks=self.clicks)
                show.on_click(lambda _, witness=witness: self._show(witness))
                rows.append(row("", show, line))
            else:
                rows.append(row("", line))
        if len(found) > MOST:
            rows.append(text("way", f"and {len(found) - MOST} more"))
        return rows

    @property
    def trace_pane(self) -> TracePane | None:
        """Where the steps of a schedule are shown; None while none is."""
        return self.way_in.trace_pane if self.way_in is not None else None

    def _show(self, witness: Witness, step: int = -1) -> None:
        """The steps of a schedule in the player, at its end or at `step`."""
        if self.way_in is None:
            self.way_in = Counterexample(witness, step, **self._pictured())
            self._arrange()
        else:
            self.way_in.show(witness, step)
        self._say(f"Shown: {witness.what or 'one way to end'}.")

    def _pictured(self) -> dict[str, Any]:
        """The options of a picture: what is to be seen of one puzzle is not what another one is about."""
        return {name: what for name, what in self._options.items() if name != "only" or self.puzzle.name == self._about}

    def _by_hand(self) -> None:
        """The scheduler's bench, where the calls of the puzzle stand before their first effect."""
        without, patches = self._kernel()
        self.sandbox = scheduler(self.puzzle, without, patches, **self._pictured())
        found = self.result.counterexample if self.result is not None else None
        way = Way(found) if found is not None and found.schedule else None
        self.sandbox.listeners.append(lambda _: self._tell_missing(way))
        self.way_in = None  # one picture at a time
        self._tell_missing(way)
        self._arrange()
        self._say("Below stand the calls before their first effect. You are the scheduler.")

    def _tell_missing(self, way: Way | None) -> None:
        """What has still to happen for something to go wrong, as far as it is known."""
        assert self.sandbox is not None
        said = (
            missing_html(way, self.sandbox)
            if way
            else "<p>Once Explore has found a way into harm, it is told here.</p>"
        )
        self.missing.value = f"<p><b>What is still missing?</b></p>{said}"

    def _say(self, sentence: str, role: str = "status") -> None:
        sort = ' class="wrong"' if role == "alert" else ""
        self.progress.value = f'<div role="{role}"{sort}>{escape(sentence, quote=False)}</div>' if sentence else ""

    @property
    def message(self) -> str:
        """Verdict and progress, in words."""
        return plain(f"{self.verdict.value} {self.progress.value}")

    def static_html(self) -> str:
        """The puzzle, and what was found if it was explored."""
        shown = self.way_in.static_html() if self.way_in is not None else ""
        asked = note("<b>Predict: can anything go wrong?</b>")
        return str(self.story.value) + asked + (self.verdict.value or note(f"<i>{ONLY_LIVE}</i>")) + shown

    def in_words(self) -> str:
        """The puzzle, and what was found, as text."""
        return "\n".join(filter(None, [plain(self.story.value), plain(self.verdict.value)]))


def _order(witness: Witness) -> str:
    """Who goes on after whom, and how often that changes; how many effects only for who asks."""
    turns = runs(witness.schedule)
    switches = counted(witness.switches, "switch", "switches")
    threads = " → ".join(thread for thread, _ in turns[:12]) or "from the beginning on"
    return f'<span class="vfiosim-where" title="{escape(in_turn(witness.schedule))}">({escape(threads)}; {switches})</span>'
