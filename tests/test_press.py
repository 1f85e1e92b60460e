"""How close two clicks are one gesture: half a second, unless who has a slow hand, or a program that presses, says otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vfiosim.lab import Bench
from vfiosim.lab.press import ClickFilter

pytestmark = pytest.mark.one_python


def counted(clicks: ClickFilter, apart: float) -> int:
    """How many of two clicks on one button count that are so many seconds apart."""
    button, done, now = Bench().undo, [], datetime.now(UTC)
    for late in (0.0, apart):
        clicks.press(button, now + timedelta(seconds=late), lambda: done.append(1))
    return len(done)


@pytest.mark.parametrize(
    ("said", "apart", "count"), [("", 0.4, 1), ("", 0.6, 2), ("0", 0.001, 2), ("1.5", 1.4, 1), ("1.5", 1.6, 2)]
)
def test_the_environment_says_how_close_two_clicks_are_one(monkeypatch, said, apart, count):
    monkeypatch.setenv("VFIOSIM_DOUBLE_CLICK", said)
    assert counted(ClickFilter(), apart) == count


def test_a_guard_may_have_a_time_of_its_own(monkeypatch):
    monkeypatch.setenv("VFIOSIM_DOUBLE_CLICK", "0")
    assert counted(ClickFilter(double=2), 1.9) == 1


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "inf"])
def test_a_time_that_is_no_number_of_seconds_is_named(monkeypatch, said):
    monkeypatch.setenv("VFIOSIM_DOUBLE_CLICK", said)
    with pytest.raises(
        ValueError, match=rf"\$VFIOSIM_DOUBLE_CLICK is a number of seconds, such as 0.5; it says '{said}'"
    ):
        Bench()
