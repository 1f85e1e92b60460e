"""What a search has found up to now, and why it has come to an end too early."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STOPPED = "it was stopped"
FIRST = "it was to stop at the first thing that goes wrong"
SHORTEST = "after {} schedules only a shorter way to anything wrong was looked for, and there is none"


@dataclass
class Statistics:
    """What a search has done up to now.

    What is wrong, and how the calls can end, each with the fewest effects that lead there: the thread of each of them.
    """

    transitions: int = 0
    schedules: int = 0
    cut: int = 0  # schedules that were given up, because others like them have been seen
    deepest: int = 0
    violations: dict[str, list[int]] = field(default_factory=dict)
    outcomes: dict[Any, list[int]] = field(default_factory=dict)
    orders: dict[tuple[str, str], list[int]] = field(
        default_factory=dict
    )  # of two locks, one taken while the other is held


def check_limits(seconds: object, **numbers: object) -> None:
    """Raises ValueError for a limit that limits nothing, or in which nothing could be done."""
    if seconds is not None and not (isinstance(seconds, int | float) and seconds >= 0):
        raise ValueError(f"seconds are a number of 0 or more, not {seconds!r}")
    for name, number in numbers.items():
        if number is not None and not (isinstance(number, int) and number >= 1):
            raise ValueError(f"{name} are a whole number of 1 or more, not {number!r}")


class Limit(Exception):
    """The search is at its limit; `str()` says which."""
