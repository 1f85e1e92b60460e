"""The door to the drills: a problem as a question, the next one, and the same without widgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...lab import Prediction, Question
from ...lab.question import CHOICE, SET
from ...lab.static_fallback import StaticFallback
from ...lab.style import button, row, style, text
from ...lab.verdict import judged
from ...naming import must_be_one_of
from . import calls, holders, schedules
from .describe import as_text

KINDS: dict[str, Callable[[int], Question]] = {
    "errno": calls.which_errno,
    "order": calls.which_wins,
    "refs": holders.how_many,
    "alive": holders.who_is_alive,
    "schedule": schedules.what_can_happen,
}


def drill(kind: str, seed: int = 1) -> Drill:
    """A problem of a kind: "errno" (which check refuses), "order" (which of two errors wins), "refs" (how many references),
    "alive" (who is alive), "schedule" (how two calls can end). The same seed gives the same problem.

    Raises ValueError for an unknown kind or a seed that is no number from 0 on.
    """
    return Drill(kind, seed)


class Drill(StaticFallback):
    """A problem, and a button for the next one. Without widgets: `ask` is the problem as text, `answer` the verdict as text."""

    looks = "lab ask"

    def __init__(self, kind: str, seed: int = 1) -> None:
        must_be_one_of(KINDS, kind, "drill")
        if type(seed) is not int or seed < 0:
            raise ValueError(f"a seed is a whole number from 0 on, not {seed!r}")
        self.kind, self.seed = kind, seed
        self.onward = button("Next problem", "the problem of the next seed")
        self.onward.on_click(lambda _: self.next())
        self.said = text("said")
        self._below = row("", self.onward, self.said)
        super().__init__([])
        self._pose()

    @property
    def question(self) -> Question:
        """The problem as data."""
        return self.problem.question

    def ask(self) -> str:
        """The problem as text. A choice is answered by its letter, a set by a list of letters, a number by itself."""
        question = self.question
        keys = question.given()
        choices = [f"  {_letter(n)}) {question.choices[key]}" for n, key in enumerate(keys)]
        return "\n".join([f"{self.kind}, seed {self.seed}.", as_text(question.text), *choices])

    def answer(self, *answers: str | int) -> str:
        """The verdict about an answer, as text: letters of `ask`, or a number, or the name of an errno if only one choice has it.

        Raises ValueError if that is no answer to this problem.
        """
        question = self.question
        given: Any
        if question.kind == SET:
            given = question.tidy(tuple(self._key(str(one)) for one in answers))
        elif len(answers) != 1:
            raise ValueError(f"this problem has one answer, not {len(answers)}")
        else:
            given = self._key(str(answers[0])) if question.kind == CHOICE else question.read(str(answers[0]))
        return as_text("".join(judged(question, given, question.experiment(), steps=False)))

    def next(self) -> Drill:
        """The problem of the next seed."""
        self.seed += 1
        self._pose()
        return self

    def static_html(self) -> str:
        """The problem."""
        return self.problem.static_html()

    def in_words(self) -> str:
        """The problem as text."""
        return self.ask()

    def _pose(self) -> None:
        self.problem = Prediction(KINDS[self.kind](self.seed), title=f"Problem {self.seed}.", quick=True)
        self.said.value = f'<span role="status">The problem of seed {self.seed}.</span>'
        self.children = [style(), self.problem, self._below]

    def _key(self, typed: str) -> str:
        keys = self.question.given()
        letters = {_letter(number): key for number, key in enumerate(keys)}
        wanted = typed.strip()
        fits = [letters[wanted.lower()]] if wanted.lower() in letters else _that_begin(keys, wanted)
        if len(fits) != 1:
            raise ValueError(f"{typed!r} is no answer here; answer with a letter from a to {_letter(len(keys) - 1)}")
        return fits[0]


def _letter(number: int) -> str:
    return chr(ord("a") + number)


def _that_begin(keys: Sequence[str], wanted: str) -> list[str]:
    exact = [key for key in keys if key.lower() == wanted.lower()]
    return exact or [key for key in keys if key.split(" ")[0].lower() == wanted.lower()]
