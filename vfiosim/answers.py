"""For teachers: every question of a lesson with its right answer, and what each wrong answer takes for granted."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

from .lab import Distractor, Question
from .lab.question import CHOICE, ORDER, SET, Answer, ExperimentResult
from .lab.style import words
from .lab.verdict import named
from .lessons.lesson import Lesson, lessons

OTHERWISE = "17"  # a number that no question thinks of


class WrongAnswer(NamedTuple):
    """A wrong answer, what is said about it, and the steps that are shown."""

    question: Question
    wrong: Answer
    right: Answer
    distractor: Distractor
    shown: ExperimentResult

    @property
    def key(self) -> str:
        """The answer by what is wrong with it."""
        return self.question.keys(self.wrong, self.right)[0]

    @property
    def said(self) -> str:
        """What is said about it, in words, with the misconception that it shows."""
        return f"{words(self.distractor.text)} {self.distractor.misconception or ''}".rstrip()


def rows(question: Question) -> Iterator[WrongAnswer]:
    """A row for each wrong answer; of an order for each that is answered in a way of its own, of a set for each mistake."""
    finding = question.experiment()
    right = question.tidy(finding.answer)
    seen = set()
    for answer in answers(question):
        keys = tuple(question.keys(answer, right))
        if answer != right and len(keys) == 1 and keys not in seen:
            seen.add(keys)
            distractor = question.distractor(answer, right)
            yield WrongAnswer(question, answer, right, distractor, distractor.shown(finding))


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


MARKS = {"code": "`", "b": "**", "i": "*", "em": "*"}


def markdown(html: str) -> str:
    """A piece of HTML in Markdown."""
    return words(re.sub(r"</?(\w+)>", lambda tag: MARKS.get(tag[1], tag[0]), html))


def of_lesson(lesson: Lesson) -> Iterator[str]:
    """The answers of a lesson in Markdown, line by line."""
    yield f"# Lesson {lesson.number}: answers\n"
    if not lesson.asked:
        yield "It asks no questions. The solution of each task is behind its button, after the first try."
    for question in lesson.asked:
        told = list(rows(question))
        yield f"## {question.name.partition(' ')[2]}\n\n{markdown(question.text)}\n"
        yield f"**{words(named(question, told[0].right))}**: {markdown(question.because)}\n"
        for row in told:
            wrong = "anything else" if row.wrong == OTHERWISE else markdown(named(question, row.wrong))
            yield f"* {wrong}: {markdown(row.distractor.text)} {row.distractor.misconception or ''}".rstrip()
        yield ""


def main(arguments: Sequence[str]) -> int:
    """The command `answers`: 0, or 2 if there is no such lesson."""
    parser = argparse.ArgumentParser(prog="python -m vfiosim answers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lesson", nargs="*", help="numbers of lessons, e.g. 03; all without one")
    wanted = parser.parse_args(arguments).lesson
    course = {lesson.number: lesson for lesson in lessons()}
    if unknown := [number for number in wanted if number not in course]:
        print(
            f"python -m vfiosim answers: there is no lesson {unknown[0]}; there are {', '.join(course)}.",
            file=sys.stderr,
        )
        return 2
    for number in wanted or course:
        print("\n".join(of_lesson(course[number])))
    return 0
