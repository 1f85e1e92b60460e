"""A question that has to be answered before the simulator answers it."""

from __future__ import annotations

from typing import Any

from ..views.alone import Anew
from .answers import clear, control_for, read
from .asking import Asking
from .presenter import Votes, presenter
from .question import CHOICE, ORDER, SET, Answer, Distractor, ExperimentResult, Misconception, Question
from .record import progress
from .style import alert, button, row, style, text, words
from .trace_pane import TracePane
from .verdict import judged, revealed

__all__ = ["Answer", "Distractor", "ExperimentResult", "Misconception", "Prediction", "Question"]


class Prediction(Asking):
    """The reader answers, then the simulator does. What was predicted stays beside what is the case.

    * `quick`: a right answer brings no steps, as in a quiz; `title`: what stands before the question.

    While presenter mode is on nobody answers: the presenter counts hands, or does not, and reveals.
    """

    looks = "lab ask prediction"

    def __init__(self, question: Question, *, quick: bool = False, title: str = "Predict.") -> None:
        super().__init__(title, question.text, question.hints, name=question.name)
        self.question = question
        self.mark = {ORDER: "-", SET: "[ ]"}.get(question.kind, "( )")
        self.predicted: Answer | None = None
        self.right: bool | None = None  # was the last answer right; None while nothing is revealed
        self.stage: Any = None  # the pane with the steps that decide it, where they are shown
        self._quick = quick
        self._revealed = False
        self.choice: Any = control_for(question)
        self.problem = text("problem")
        self.commit = button("Answer", "this is my answer; the simulator answers, too", primary=True)
        self.reveal = button("Reveal", "let the simulator answer", reveals=True)
        self.again = button("Reset", "forget my answer")
        self.votes = Votes(dict(question.choices) if question.kind == CHOICE else {})
        self.now: TracePane | None = self._pane(question.before()) if question.before else None
        if self.now:
            self.now.add_class("vfiosim-now")
        self._head = [style(), self.asked, *([self.now] if self.now else [])]
        self._row = row("", self.commit, *self.help.buttons, self.again)
        self._room_row = row("", self.reveal, *self.help.buttons, self.again)
        self.commit.on_click(lambda _: self._commit())
        self.reveal.on_click(lambda _: self._reveal())
        self.again.on_click(lambda _: self._reset())
        self.choice.observe(lambda _: self._answered(), "value")
        self._let_the_reader_click()
        presenter.observe(lambda _: self._reset(), "on")
        self._reset()

    def _frame(self) -> list[Any]:
        if presenter.on:
            self.votes.make()
        answers = self.votes if presenter.on and self.votes.fields else self.choice
        buttons = self._room_row if presenter.on else self._row
        return [*self._head, answers, self.problem, buttons, self.help.slot, self.verdict]

    @property
    def message(self) -> str:
        """The verdict, or what is wrong with the input, in words."""
        return words(self.verdict.value + self.because.value or self.problem.value)

    def _choices(self) -> list[str]:
        return [self.question.choices[key] for key in self.question.given()]

    # ---- the picture in which the reader may click

    def _let_the_reader_click(self) -> None:
        """A node that is clicked is ticked, and the other way round; the list alone is enough."""
        player = self.now.player if self.now else None
        if player is None or self.question.kind != SET:
            return
        player.selecting = True
        player.observe(lambda change: self._clicked(change["new"]), "picked")
        self.choice.observe(lambda change: setattr(player, "picked", list(change["new"])), "value")

    def _clicked(self, names: list[str]) -> None:
        """A box is clicked: all in it that are choices are ticked, or none any more. What comes too late is not taken."""
        ticked = {*self.choice.value}
        if not self.choice.disabled:
            for name in ticked.symmetric_difference(names):
                meant = self._meant(name)
                ticked = ticked - meant if meant <= ticked else ticked | meant
            self.choice.value = tuple(key for key in self.question.choices if key in ticked)
        taken = list(self.choice.value)
        if self.now is not None and list(names) != taken:
            self.now.player.picked = taken

    def _meant(self, name: str) -> set[str]:
        """The choices that a click stands for: on the name of a part that part, on anything else of a box all in it."""
        boxes = self.now.player.player.graph.nodes if self.now is not None else ()
        parts = next((box.parts for box in boxes if box.oid == name), (name,))
        return {part for part in parts if part in self.question.choices}

    # ---- the buttons

    def _answered(self) -> None:
        self._complain("")

    def _commit(self) -> None:
        if self.predicted is not None:
            return  # a second press that was on its way
        try:
            self.predicted = read(self.choice, self.question)
        except ValueError as problem:
            self._complain(str(problem))
            return
        self._complain("")
        self.choice.disabled = self.commit.disabled = True
        self._reveal()

    def _reveal(self) -> None:
        if self._revealed or (self.predicted is None and not presenter.on):
            return
        finding = self.question.experiment()
        self._revealed = self.reveal.disabled = True
        shown = self._shown(finding)
        self.stage = self._pane(shown) if shown else None
        if presenter.on:
            self.verdict.value = revealed(self.question, finding, self.votes.describe(finding.answer))
        else:
            assert self.predicted is not None
            said, after = judged(self.question, self.predicted, finding, shown, steps=self.stage is not None)
            if self.question.withheld and not self.stage:
                after += "<p>The way into it is yours to find, in a task below.</p>"
            self.because.value, self.verdict.value = after, said
            progress.record(self.question.name, bool(self.right))
        self.children = [*self._frame(), *([self.stage] if self.stage else []), self.because]

    def _shown(self, finding: ExperimentResult) -> ExperimentResult | None:
        """The steps that decide; in a quiz only where the answer was wrong, and another run where that refutes it better."""
        right = self.question.tidy(finding.answer)
        self.right = None if self.predicted is None else self.predicted == right
        if self.predicted is not None and not self.right:
            finding = self.question.distractor(self.predicted, right).shown(finding)
        later = self.question.withheld and not presenter.on and self.question.withheld not in progress.answers
        return None if later or (self._quick and self.right) else finding

    def _pane(self, finding: ExperimentResult) -> TracePane:
        options = {**self.question.options, **({"only": self.question.view} if self.question.view else {})}
        if presenter.on:
            options["presenter"] = True
        if len({step.thread for step in finding.trace}) > 1:
            options.setdefault("atlas", Anew())  # lanes stand below it: it keeps no place for what is not in it
        pane = TracePane(finding.trace, step=finding.step, **options)
        pane.bring_out(finding.brought)
        return pane

    def _reset(self) -> None:
        self.predicted = self.right = None
        self._revealed, self.stage = False, None
        clear(self.choice)
        self.choice.disabled = self.commit.disabled = presenter.on
        self.reveal.disabled = not presenter.on
        self.verdict.value = self.because.value = ""
        self.help.clear()
        self.votes.clear()
        self._complain("")
        self.children = self._frame()
        (self.add_class if presenter.on else self.remove_class)("vfiosim-room")

    def _complain(self, message: str) -> None:
        self.problem.value = alert(message)
