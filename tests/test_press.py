"""How close two clicks are one gesture: half a second, unless who has a slow hand, or a program that presses, says otherwise."""

from __future__ import annotations

import asyncio
import gc
from cProfile import Profile
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from vfiosim.lab import Bench, garbage
from vfiosim.lab.press import ClickFilter
from vfiosim.lessons import start


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


def test_what_happens_in_a_call_is_followed_once_for_all_pictures_of_it():
    bench, watch = start.first_bind(), Profile()
    watch.runcall(bench.buttons["bind"].click)
    assert [one.callcount for one in watch.getstats() if getattr(one.code, "co_name", "") == "_follow"] == [1]


def test_garbage_is_not_looked_for_thoroughly_in_a_press_but_when_nothing_was_pressed_for_a_while(monkeypatch):
    monkeypatch.setattr(garbage, "IDLE", 0.01)
    usual, seen, pressing = gc.get_threshold(), list[list[str]](), list[str]()

    def look(phase, info):
        if phase == "start" and info["generation"] == 2:
            seen.append([*pressing])

    async def session():
        bench = Bench()
        gc.freeze()  # what other tests have cached is not looked through so often
        gc.set_threshold(100, 2, 2)
        gc.callbacks.append(look)
        for name in ("open device", "open iommufd", "bind"):
            bench.undo.clicks.press(bench.buttons[name], None, partial(press, bench.buttons[name]))
        seen.clear()
        gc.set_threshold(*usual)
        await asyncio.sleep(0.1)

    def press(button):
        pressing.append(button.description)
        button.click()
        assert pressing not in seen
        pressing.clear()

    try:
        asyncio.run(session())
    finally:
        gc.callbacks.remove(look)
        gc.set_threshold(*usual)
    assert seen == [[]]
