"""All wrong answers with what is said and shown about each: `python -m tests.feedback` writes the table to read through.

`python -m tests.feedback 01 drill` writes the rows of which the name begins with one of these.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, combinations, permutations
from typing import NamedTuple

from vfiosim.lab import Ordering, Parsons, Question, Slip
from vfiosim.lab.question import CHOICE, ORDER, SET, Answer, Finding, first_difference
from vfiosim.lab.style import words
from vfiosim.lab.verdict import named
from vfiosim.lessons import one_bind, one_bind_questions, races, races_questions, races_check, start
from vfiosim.lessons import who_holds_whom, who_holds_whom_questions
from vfiosim.lessons.drills import KINDS

SEEDS = range(24)
OTHERWISE = "17"  # a number that no question thinks of


class Row(NamedTuple):
    """A wrong answer, what is said about it, and the step that is shown."""

    name: str
    asked: str
    wrong: str
    right: str
    slip: Slip
    shown: Finding

    @property
    def sentence(self) -> str:
        """What the step says at which the player stands."""
        trace, step = self.shown.trace, self.shown.step
        return "" if step == 0 else trace[step if step < 0 else step - 1].sentence

    def __str__(self) -> str:
        belief = f"\n  belief: {self.slip.misconception}" if self.slip.misconception else ""
        steps = len(self.shown.trace)
        step = steps if self.shown.step < 0 else self.shown.step
        return (
            f"{self.name}: {self.asked}\n  wrong: {self.wrong}\n  right: {self.right}\n  said: {words(self.slip.text)}{belief}"
            f"\n  shown: step {step} of {steps}: {self.sentence}"
        )


def rows() -> list[Row]:
    """Every wrong answer of the lessons in the order in which they are taught, then those of the drills."""
    return [*of_lessons(), *of_drills()]


@cache
def of_lessons() -> tuple[Row, ...]:
    """The rows of the questions of the lessons."""
    return tuple(chain.from_iterable(map(of_question, questions())))


@cache
def of_drills() -> tuple[Row, ...]:
    """The rows of the drills, some seeds of each."""
    return tuple(
        row._replace(name=f"{row.name} {seed}")
        for pose in KINDS.values()
        for seed in SEEDS
        for row in of_question(pose(seed))
    )


def questions() -> list[Question]:
    """The questions of the lessons in the order in which they are taught."""
    return [
        *start.QUESTIONS.values(),
        *one_bind_questions.QUESTIONS.values(),
        *one_bind_questions.CHECK,
        *who_holds_whom_questions.QUESTIONS.values(),
        *who_holds_whom_questions.CHECK,
        *races_questions.QUESTIONS.values(),
        *races_check.CHECK,
    ]


def of_question(question: Question) -> Iterator[Row]:
    """A row for each wrong answer that is answered in a way of its own."""
    finding = question.experiment()
    right = question.tidy(finding.answer)
    seen = set()
    for answer in answers(question):
        key = first_difference(answer, right, question.kind)
        if answer != right and key not in seen:
            seen.add(key)
            slip = question.slip(answer, right)
            said = (words(named(question, one)) for one in (answer, right))
            yield Row(question.name, words(question.text), *said, slip, slip.shown(finding))


def answers(question: Question) -> Iterator[Answer]:
    """Every answer to a question; of those that can be typed the ones that it thinks of, and another one."""
    keys = list(question.choices)
    if question.kind == CHOICE:
        yield from keys
    elif question.kind == ORDER:
        yield from permutations(keys)
    elif question.kind == SET:
        for many in range(len(keys) + 1):
            yield from combinations(keys, many)
    else:
        yield from (*question.wrong, OTHERWISE)


if __name__ == "__main__":
    for row in rows():
        if row.name.startswith(tuple(sys.argv[1:]) or ""):
            print(row, end="\n\n")
