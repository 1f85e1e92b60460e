"""Who solved what: the saved progress of a room full of students as a table.

Each student's `progress.json` lies somewhere in one folder: `ann.json`, `bob/progress.json`, or whole home directories.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .lab.record_file import Answers, NewerError, read
from .lessons.lesson import Lesson, lessons
from .lessons.survey import surveys

_PLACES = {".local", "share", "vfiosim", "progress.json"}  # parts of a path that name nobody


class Student(NamedTuple):
    """What one file says. `problem` tells in a sentence what of it could not be read; "" if all could."""

    name: str
    answers: Answers
    problem: str


def students(folder: Path) -> list[Student]:
    """Everybody whose progress lies in the folder, by name. Raises ValueError if that is nobody."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    files = sorted(path for path in folder.rglob("*.json") if path.is_file())
    if not files:
        raise ValueError(f"{folder} holds no file of progress; each student's is a progress.json")
    names = [_name(path.relative_to(folder)) for path in files]
    doubled = {name for name in names if names.count(name) > 1}
    found = [
        _student(str(path.relative_to(folder)) if name in doubled else name, path)
        for name, path in zip(names, files, strict=True)
    ]
    empty = [
        one for one in sorted(folder.glob("[!.]*")) if one.is_dir() and not any(one in path.parents for path in files)
    ]
    return [*found, *(Student(one.name, {}, f"{one} holds no progress.json") for one in empty)]


def _name(path: Path) -> str:
    parts = [part for part in path.parts if part not in _PLACES]
    return parts[0].removesuffix(".json") if parts else path.stem


def _student(name: str, path: Path) -> Student:
    try:
        answers, whole = read(path)
    except NewerError:
        return Student(name, {}, f"{path} was written by another version of vfiosim")
    except OSError as error:
        return Student(name, {}, f"{path} cannot be read ({error.strerror})")
    if not whole:
        return Student(name, answers, f"{path} is damaged; what can be read of it is counted")
    return Student(name, answers, "")


def table(everybody: Sequence[Student], course: Sequence[Lesson]) -> list[str]:
    """For each student how many exercises of each lesson are solved, as lines of text; under them who has a problem.

    The first two lines tell of which lesson, and how many it has; they fit on a terminal.
    The ten questions before and after a course are counted at their first try, and apart.
    """
    asked = surveys()
    total = sum(len(lesson.exercises) for lesson in course)
    counted = [*course, *asked]
    rows = [
        ["student", *(lesson.number for lesson in counted), "course", "first try"],
        ["of", *(str(len(lesson.exercises)) for lesson in counted), str(total), ""],
    ]
    for student in everybody:
        solved = [sum(_solved(student.answers, name) for name in lesson.exercises) for lesson in course]
        first = [sum(_first(student.answers, name) for name in lesson.exercises) for lesson in counted]
        numbers = (*solved, *first[len(course) :], sum(solved), sum(first[: len(course)]))
        rows.append([student.name, *(str(number or "·") for number in numbers)])
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(width[0]), *map(str.rjust, row[1:], width[1:])]) for row in rows]
    return [*lines, *(f"{student.name}: {student.problem}." for student in everybody if student.problem)]


def _first(answers: Answers, name: str) -> bool:
    return name in answers and answers[name].first


def _solved(answers: Answers, name: str) -> bool:
    return name in answers and answers[name].right > 0


def sheet(everybody: Sequence[Student], course: Sequence[Lesson]) -> list[list[str]]:
    """A row for each student and a column for each exercise: "first" (try), "later", "tried", or nothing."""
    names = [name for lesson in (*course, *surveys()) for name in lesson.exercises]
    return [
        ["student", *names],
        *([student.name, *(_how(student.answers, name) for name in names)] for student in everybody),
    ]


def _how(answers: Answers, name: str) -> str:
    if name not in answers:
        return ""
    if answers[name].first:
        return "first"
    return "later" if answers[name].right else "tried"


def main(arguments: Sequence[str]) -> int:
    """The command `grade`: 0 if every file could be read, 1 if not, 2 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m vfiosim grade", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the students' progress.json lie, at any depth")
    parser.add_argument(
        "--csv", action="store_true", help="write a row for each student and a column for each exercise"
    )
    options = parser.parse_args(arguments)
    try:
        everybody = students(options.folder)
    except ValueError as error:
        print(f"python -m vfiosim grade: {error}.", file=sys.stderr)
        return 2
    if options.csv:
        csv.writer(sys.stdout).writerows(sheet(everybody, lessons()))
        for student in everybody:
            if student.problem:
                print(f"{student.name}: {student.problem}.", file=sys.stderr)
    else:
        print("\n".join(table(everybody, lessons())))
    return 1 if any(student.problem for student in everybody) else 0
