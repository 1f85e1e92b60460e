"""The lesson of levels: twelve to solve with few calls, and one to design."""

from __future__ import annotations

from .designing import NAME, Design, design
from .lesson import Lesson
from .levels import Levels, known
from .levels_data import LEVELS
from .moves import VERBS

__all__ = ["Design", "design", "finish", "levels", "words"]

LESSON = Lesson("13", {}, (), (*(level.kept for level in LEVELS), NAME))
finish = LESSON.finish


def levels() -> Levels:
    """The index of the levels, each to press."""
    return Levels(LEVELS, {name: one["way"] for name, one in known().items()})


def words() -> str:
    """The moves that there are, and what each does."""
    lines = [f"{verb} {'|'.join(allowed)}".ljust(52) + told.format("…") for verb, (_, allowed, told) in VERBS.items()]
    return "\n".join(lines)
