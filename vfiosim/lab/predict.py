"""A question that has to be answered before the simulator answers it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import ipywidgets as widgets

from ..trace import Trace
from ..uapi import Errno
from .stage import Stage
from .still import ONLY_LIVE, Still, note
from .style import button, row, style, text, words


@dataclass(frozen=True)
class Finding:
    """What an experiment showed: the answer, the steps that prove it and the one that decides, and what was counted."""

    answer: str
    trace: Trace
    step: int = -1
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question with an experiment that answers it.

    * `choices`: answer → what the reader reads; without choices the reader types a number or the name of an errno;
    * `wrong`: a wrong answer → the belief behind it, and what is the case instead; `otherwise` for all others;
    * `because`: why it is as it is; `view`: which objects the picture shows, all that matter if empty.
    """

    text: str
    experiment: Callable[[], Finding]
    because: str
    choices: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = ""
    view: Collection[str] = ()


class Prediction(Still):
    """First commit, then reveal. What was predicted stays beside what is the case."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.predicted: str | None = None
        self.choice: Any = self._choices() if question.choices else self._field()
        self.problem = text("vfiosim-problem")
        self.commit = button("Commit", "this is my prediction", primary=True)
        self.reveal = button("Reveal", "let the simulator answer")
        self.again = button("Reset", "forget my prediction")
        self.verdict = text("vfiosim-verdict")
        self.commit.on_click(lambda _: self._commit())
        self.reveal.on_click(lambda _: self._reveal())
        self.again.on_click(lambda _: self._reset())
        self.choice.observe(lambda _: self._complain(""), "value")
        self._frame = [
            style(),
            text("vfiosim-question", f"<p><b>Predict.</b> {question.text}</p>"),
            self.choice,
            self.problem,
            row("", self.commit, self.reveal, self.again),
            self.verdict,
        ]
        super().__init__(self._frame)
        self.add_class("vfiosim-lab")
        self.add_class("vfiosim-prediction")
        self._reset()

    def _choices(self) -> widgets.RadioButtons:
        options = [(said, answer) for answer, said in self.question.choices.items()]
        return widgets.RadioButtons(options=options, value=None, layout={"width": "auto"}, tooltip="Your prediction")

    def _field(self) -> widgets.Text:
        return widgets.Text(description="your prediction", placeholder="a number or an errno", layout={"width": "24em"})

    @property
    def message(self) -> str:
        """The verdict, or what is wrong with the input, in words."""
        return words(self.verdict.value or self.problem.value)

    def still(self) -> str:
        """The question with its choices, and what has been revealed."""
        choices = "".join(f"<li>{escape(said, quote=False)}</li>" for said in self.question.choices.values())
        asked = note(f"<b>Predict.</b> {self.question.text}") + (f"<ul>{choices}</ul>" if choices else "")
        shown = [child.still() for child in self.children if isinstance(child, Stage)]
        return asked + (self.verdict.value or note(f"<i>{ONLY_LIVE}</i>")) + "".join(shown)

    def in_words(self) -> str:
        """The question with its choices, and what has been revealed, as text."""
        choices = [f"  ( ) {said}" for said in self.question.choices.values()]
        return "\n".join([words(f"Predict. {self.question.text}"), *choices, words(self.verdict.value)]).rstrip()

    # ---- the three buttons

    def _commit(self) -> None:
        answer = self._read()
        if answer is None:
            return
        self.predicted = answer
        self.choice.disabled = self.commit.disabled = True
        self.reveal.disabled = False
        self.verdict.value = f'<p role="status">You predict <b>{self._named(answer)}</b>. Now reveal.</p>'

    def _reveal(self) -> None:
        if self.predicted is None:
            self._complain("Commit to a prediction first.")
            return
        finding = self.question.experiment()
        self.reveal.disabled = True
        self.verdict.value = self._judged(self.predicted, finding)
        view = {"only": self.question.view} if self.question.view else {}
        self.children = [*self._frame, Stage(finding.trace, step=finding.step, **view)]

    def _reset(self) -> None:
        self.predicted = None
        self.choice.value = None if self.question.choices else ""
        self.choice.disabled = self.commit.disabled = False
        self.reveal.disabled = True
        self.verdict.value = ""
        self._complain("")
        self.children = self._frame

    # ---- words

    def _read(self) -> str | None:
        """The answer that was chosen or typed; None, and a message, if it is none."""
        if self.question.choices:
            if self.choice.value is None:
                self._complain("Choose one of the answers first.")
            return None if self.choice.value is None else str(self.choice.value)
        typed = str(self.choice.value).strip().upper()
        if typed.isascii() and typed.isdecimal():
            return str(int(typed))
        if typed in Errno.__members__:
            return typed
        self._complain(
            "Type a number like 2, or the name of an errno like EINVAL." if typed else "Type a prediction first."
        )
        return None

    def _complain(self, message: str) -> None:
        self.problem.value = f'<span role="alert">{escape(message)}</span>' if message else ""

    def _named(self, answer: str) -> str:
        return escape(self.question.choices.get(answer, answer), quote=False)

    def _judged(self, predicted: str, finding: Finding) -> str:
        right = predicted == finding.answer
        sign, sort = ("✓", "good") if right else ("✕", "refused")
        lines = [
            f'<p><span class="{sort}">{sign} You predicted <b>{self._named(predicted)}</b>.</span> '
            f'<span class="good">The simulator says <b>{self._named(finding.answer)}</b>.</span></p>'
        ]
        if not right and (belief := self.question.wrong.get(predicted, self.question.otherwise)):
            lines.append(f"<p><b>What misled you?</b> {belief}</p>")
        lines.append(f"<p><b>Because</b> {self.question.because}</p>")
        if finding.evidence:
            lines.append("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in finding.evidence) + "</ul>")
        lines.append("<p>The steps that decide it:</p>")
        return f'<div role="status">{"".join(lines)}</div>'
