"""A few short questions in a row: each is answered at once, and a wrong answer is answered with what misled."""

from __future__ import annotations

from collections.abc import Sequence

from .predict import Prediction
from .question import Question
from .static_fallback import StaticFallback, note
from .style import button, row, style, text, words


class Quiz(StaticFallback):
    """Some questions, each with its own answer button, and how many were right. Raises ValueError without questions."""

    looks = "lab ask"

    def __init__(self, questions: Sequence[Question]) -> None:
        if not questions:
            raise ValueError("a quiz needs at least one question")
        many = len(questions)
        self.questions = [
            Prediction(question, quick=True, title=f"Question {number} of {many}.")
            for number, question in enumerate(questions, 1)
        ]
        self.score = text("score")
        self.again = button("Reset all", "forget all my answers")
        self.again.on_click(lambda _: self._reset())
        for one in self.questions:
            one.verdict.observe(lambda _: self._count(), "value")
        super().__init__([style(), *self.questions, row("", self.again, self.score)])
        self._count()

    @property
    def message(self) -> str:
        """How many were right, in words."""
        return words(self.score.value)

    def static_html(self) -> str:
        """The questions, and what was answered."""
        return "".join(one.static_html() for one in self.questions) + note(self.score.value)

    def in_words(self) -> str:
        """The questions, and what was answered, as text."""
        return "\n\n".join([*(one.in_words() for one in self.questions), self.message])

    def _count(self) -> None:
        answered = [one.right for one in self.questions if one.right is not None]
        right = f"{sum(answered)} of {len(self.questions)} right"
        left = len(self.questions) - len(answered)
        self.score.value = f'<span role="status">{right}{f", {left} to go" if left else ""}.</span>'

    def _reset(self) -> None:
        for one in self.questions:
            one.again.click()
        self._count()
