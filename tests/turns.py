"""Many like things take turns: a change looks at a share of them, which tomorrow is another one, and the night at all.

`VFIOSIM_TESTS_DAY=2026-11-30 make test` makes the choice of that day again; each run ends with its own.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from typing import Any

import pytest

VARIABLE = "VFIOSIM_TESTS_DAY"  # set in the environment, so that a run which goes on over midnight has one day in all its processes
DAY = date.fromisoformat(os.environ.setdefault(VARIABLE, date.today().isoformat())).toordinal()


def by_night(rest: object) -> list[pytest.MarkDecorator]:
    """The mark of a test that is for the night unless there is no rest."""
    return [pytest.mark.nightly] if rest else []


def away(number: int, days: int, day: int = DAY) -> int:
    """In how many days it is the turn of the `number`-th of many like things that take turns within `days`."""
    return (number - day) % days


def turn(number: int, days: int) -> pytest.MarkDecorator:
    """The mark of the tests that have their turn together; which of the other days that is, `number` says."""
    return pytest.mark.nightly if away(number, days) else pytest.mark.by_day


def on_one_python(number: int, turns: int) -> list[pytest.MarkDecorator]:
    """The mark of one of many like things that the other Pythons have in turns, unless this one has it today."""
    return [pytest.mark.one_python] if away(number, turns, DAY + sys.version_info.minor) else []


def turns(values: Any, days: int) -> list[Any]:
    """Parameters of a test, each with its marks: those whose turn is on another day are for the night."""
    params = [
        each if hasattr(each, "marks") else pytest.param(*(each if isinstance(each, tuple) else [each]))
        for each in values
    ]
    return [
        pytest.param(*each.values, id=each.id, marks=[*each.marks, *by_night(away(number, days))])
        for number, each in enumerate(params)
    ]
