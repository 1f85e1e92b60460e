"""The lesson of levels: twelve to solve with few calls, and one to design."""

from __future__ import annotations

from .designing import NAME, Design, design
from .lesson import Lesson
from .levels import Levels, known
from .levels_data import LEVELS
from .moves import DEVICES, FILES, VERBS

__all__ = ["Design", "design", "finish", "levels", "words"]

MAIN = 6  # levels of the main way: those of files, bindings and groups
LESSON = Lesson(
    "13",
    {},
    (),
    {level.kept: level.name for level in LEVELS} | {NAME: "a level of your own"},
    further=[level.kept for level in LEVELS[MAIN:]],
)
finish = LESSON.finish


def levels(first: int = 1, last: int = len(LEVELS)) -> Levels:
    """The index of the levels with these numbers, each to press."""
    return Levels(LEVELS[first - 1 : last], {name: one["way"] for name, one in known().items()}, first)


def words() -> str:
    """The moves that there are, and what each does; what many of them take is said once, for the lines are short."""
    device, file = "|".join(DEVICES), "|".join(FILES)
    takes = {
        verb: "|".join(allowed).replace(file, "FILE").replace(device, "DEVICE")
        for verb, (_, allowed, _) in VERBS.items()
    }
    lines = [f"{verb} {takes[verb]}".ljust(28) + told.format("…") for verb, (_, _, told) in VERBS.items()]
    return "\n".join([*lines, "", f"DEVICE: {device}", f"FILE:   {file}"])
