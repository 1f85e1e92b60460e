"""All wrong answers with what is said and shown about each, to read through: `python -m tests.feedback 01 "drill errno"`.

Without names it has them all: the questions of the lessons, and some seeds of each drill.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from itertools import combinations, permutations
from typing import NamedTuple

import pytest

from vfiosim.lab import Distractor, Question
from vfiosim.lab.question import CHOICE, ORDER, SET, Answer, ExperimentResult, first_difference
from vfiosim.lab.style import words
from vfiosim.lab.verdict import named
from vfiosim.lessons import (
    closing_questions,
    one_bind_questions,
    order_of_checks_questions,
    races_check,
    races_questions,
    start,
    who_holds_whom_questions,
)
from vfiosim.lessons.drills import KINDS

SEEDS = range(12)
TOGETHER = pytest.mark.xdist_group("all wrong answers")  # in one process, so that each is told once
OTHERWISE = "17"  # a number that no question thinks of


class Row(NamedTuple):
    """A wrong answer, what is said about it, and the steps that are shown."""

    question: Question
    wrong: Answer
    right: Answer
    distractor: Distractor
    shown: ExperimentResult

    @property
    def key(self) -> str:
        """The answer by that in which it differs first from the right one."""
        return first_difference(self.wrong, self.right, self.question.kind)

    @property
    def sentence(self) -> str:
        """What the step says at which the player stands."""
        trace, step = self.shown.trace, self.shown.step
        return trace[step if step < 0 else step - 1].sentence if step else ""

    def __str__(self) -> str:
        wrong, right = (words(named(self.question, answer)) for answer in (self.wrong, self.right))
        said = f"{words(self.distractor.text)} {self.distractor.misconception or ''}".rstrip()
        at = f"{self.shown.step} of {len(self.shown.trace)}"
        return (
            f"{self.question.name}: {words(self.question.text)}\n  wrong: {wrong}\n  right: {right}\n"
            f"  said:  {said}\n  shown: step {at}: {self.sentence}\n"
        )


@cache
def of_lessons() -> tuple[Row, ...]:
    """The rows of the questions of the lessons, in the order in which they are taught."""
    return tuple(row for question in questions() for row in rows(question))


@cache
def problem(kind: str, seed: int) -> Question:
    """A problem of a drill."""
    return KINDS[kind](seed)


@cache
def of_drill(kind: str) -> tuple[Row, ...]:
    """The rows of some problems of a drill."""
    return tuple(row for seed in SEEDS for row in rows(problem(kind, seed)))


def questions() -> list[Question]:
    """The questions of the lessons in the order in which they are taught."""
    return [
        *start.QUESTIONS.values(),
        *one_bind_questions.QUESTIONS.values(),
        *one_bind_questions.CHECK,
        *who_holds_whom_questions.QUESTIONS.values(),
        *who_holds_whom_questions.CHECK,
        *order_of_checks_questions.QUESTIONS.values(),
        *order_of_checks_questions.CHECK,
        *closing_questions.QUESTIONS.values(),
        *closing_questions.CHECK,
        *races_questions.QUESTIONS.values(),
        *races_check.CHECK,
    ]


def rows(question: Question) -> Iterator[Row]:
    """A row for each wrong answer; of an order or a set for each that is answered in a way of its own."""
    finding = question.experiment()
    right = question.tidy(finding.answer)
    seen = set()
    for answer in answers(question):
        key = first_difference(answer, right, question.kind)
        if answer != right and key not in seen:
            seen.add(key)
            distractor = question.distractor(answer, right)
            yield Row(question, answer, right, distractor, distractor.shown(finding))


def answers(question: Question) -> Iterator[Answer]:
    """Every answer to a question; of what can be typed the answers that it thinks of, and another one."""
    keys = list(question.choices)
    if question.kind == CHOICE:
        yield from keys
    elif question.kind == ORDER:
        yield from permutations(keys)
    elif question.kind == SET:
        yield from (some for many in range(len(keys) + 1) for some in combinations(keys, many))
    else:
        yield from (*question.wrong, OTHERWISE)


if __name__ == "__main__":
    wanted = tuple(sys.argv[1:]) or ("",)
    for row in (*of_lessons(), *(row for kind in KINDS for row in of_drill(kind))):
        if row.question.name.startswith(wanted):
            print(row)
