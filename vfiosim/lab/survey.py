"""Questions that are asked before a course and once more after it: what is right is not told, only how many were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .answers import control_for, read
from .question import Question
from .record import progress
from .static_fallback import ONLY_LIVE, StaticFallback, note
from .style import button, row, style, text, words


class Survey(StaticFallback):
    """Some questions and one button. `when` ("before") stands before the names under which the answers are kept.

    Raises ValueError without questions.
    """

    looks = "lab ask prediction"

    def __init__(self, when: str, questions: Sequence[Question]) -> None:
        if not questions:
            raise ValueError("a survey needs at least one question")
        self.when, self.questions = when, tuple(questions)
        self.choices: list[Any] = [control_for(question) for question in questions]
        self.hand_in = button("Hand in", "count what is right, and keep it", primary=True)
        self.hand_in.on_click(lambda _: self._hand_in())
        self.problem, self.verdict = text("problem"), text("verdict")
        self._texts = [f"<b>{number}.</b> {question.text}" for number, question in enumerate(questions, 1)]
        asked = [text("question", f"<p>{one}</p>") for one in self._texts]
        pairs = [widget for pair in zip(asked, self.choices, strict=True) for widget in pair]
        super().__init__([style(), *pairs, row("", self.hand_in), self.problem, self.verdict])

    @property
    def message(self) -> str:
        """What is said about the answers, in words."""
        return words(self.problem.value or self.verdict.value)

    def static_html(self) -> str:
        """The questions with their choices, and what was said."""
        return "".join(map(note, self._texts)) + (self.verdict.value or note(f"<i>{ONLY_LIVE}</i>"))

    def in_words(self) -> str:
        """The questions, and what was said, as text."""
        return "\n\n".join([*map(words, self._texts), self.message])

    def _hand_in(self) -> None:
        answers, self.problem.value = [], ""
        for number, (question, control) in enumerate(zip(self.questions, self.choices, strict=True), 1):
            try:
                answers.append(read(control, question))
            except ValueError as problem:
                self.problem.value = f'<p role="alert">Question {number}: {problem}</p>'
                return
        right = [
            answer == question.tidy(question.experiment().answer)
            for question, answer in zip(self.questions, answers, strict=True)
        ]
        for question, good in zip(self.questions, right, strict=True):
            progress.record(f"{self.when} {question.name}", good)
        self.verdict.value = (
            f'<p role="status"><b>{sum(right)} of {len(right)} right.</b> Which ones is not told: the course does that. '
            f"{progress.kept}</p>"
        )
