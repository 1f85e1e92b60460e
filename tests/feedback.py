"""All wrong answers with what is said and shown about each, to read through: `python -m tests.feedback 01 "drill errno"`.

Without names it has them all: the questions of the lessons, and some seeds of each drill.
"""

from __future__ import annotations

import sys
from functools import cache

import pytest

from vfiosim.answers import OTHERWISE, WrongAnswer, answers, rows
from vfiosim.lab import Question
from vfiosim.lab.style import words
from vfiosim.lab.verdict import named
from vfiosim.lessons.drills import KINDS
from vfiosim.lessons.lesson import lessons

__all__ = [
    "OTHERWISE",
    "SEEDS",
    "TOGETHER",
    "WrongAnswer",
    "answers",
    "of_drill",
    "of_lessons",
    "problem",
    "questions",
    "rows",
    "sentence",
]

SEEDS = range(12)
TOGETHER = pytest.mark.xdist_group("all wrong answers")  # in one process, so that each is told once


@cache
def of_lessons() -> tuple[WrongAnswer, ...]:
    """The rows of the questions of the lessons, in the order in which they are taught."""
    return tuple(row for question in questions() for row in rows(question))


@cache
def problem(kind: str, seed: int) -> Question:
    """A problem of a drill."""
    return KINDS[kind](seed)


@cache
def of_drill(kind: str) -> tuple[WrongAnswer, ...]:
    """The rows of some problems of a drill."""
    return tuple(row for seed in SEEDS for row in rows(problem(kind, seed)))


def questions() -> list[Question]:
    """The questions of the lessons in the order in which they are taught."""
    return [question for lesson in lessons() for question in lesson.asked]


def sentence(row: WrongAnswer) -> str:
    """What the step says at which the player stands."""
    trace, step = row.shown.trace, row.shown.step
    return trace[step if step < 0 else step - 1].sentence if step else ""


def told(row: WrongAnswer) -> str:
    """The row to read."""
    wrong, right = (words(named(row.question, answer)) for answer in (row.wrong, row.right))
    return (
        f"{row.question.name}: {words(row.question.text)}\n  wrong: {wrong}\n  right: {right}\n"
        f"  said:  {row.said}\n  shown: step {row.shown.step} of {len(row.shown.trace)}: {sentence(row)}\n"
    )


if __name__ == "__main__":
    wanted = tuple(sys.argv[1:]) or ("",)
    for row in (*of_lessons(), *(row for kind in KINDS for row in of_drill(kind))):
        if row.question.name.startswith(wanted):
            print(told(row))
