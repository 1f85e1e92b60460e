"""Clicks that nobody meant: the second one of a double click, and those that waited in a queue while a run was under way."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from . import controls as widgets
from .garbage import garbage_later

LONG = 1.0  # seconds; who clicks during a shorter run knows what it will do
DOUBLE = 0.5  # seconds; two clicks on one button that are closer were one gesture
VARIABLE = "VFIOSIM_DOUBLE_CLICK"


def double_click() -> float:
    """The seconds within which two clicks on one button count once: $VFIOSIM_DOUBLE_CLICK, or half a second if that is not set.

    A slow hand wants more, a program that presses wants 0: each click counts. Raises ValueError if it is no such number.
    """
    given = os.environ.get(VARIABLE, "") or str(DOUBLE)
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"${VARIABLE} is a number of seconds, such as {DOUBLE}; it says {given!r}")
    return seconds


class ClickFilter:
    """Lets only those clicks on the buttons of one widget through that were meant.

    `ignored` is called when a click came while a long run was under way.

    `took`: the seconds that the last press took.

    `double`: the seconds within which two clicks on one button count once; None as in `double_click`.

    The page notes when a click was made. Between two clicks of one page these times can be compared, whatever the clock
    there says: one that was made less than the length of a run after the click that began it was made during the run.
    """

    def __init__(self, ignored: Callable[[], None] = lambda: None, double: float | None = None) -> None:
        self.ignored = ignored
        self.double = double_click() if double is None else double
        self._last: widgets.Widget | None = None
        self._sent: datetime | None = None
        self.took = 0.0

    def press(
        self, button: widgets.Widget, sent: datetime | None, act: Callable[[], None], quick: bool = False
    ) -> None:
        """Do what a click asks for, unless nobody meant it; `sent` is when it was made, None if that is not known.

        `quick`: clicks in quick succession are meant.
        """
        if sent is not None and self._sent is not None:
            passed = (sent - self._sent).total_seconds()
            if self._last is button and not quick and 0 <= passed < self.double:
                return
            if self.took > LONG and 0 <= passed < self.took:
                self.ignored()
                return
        began = time.monotonic()
        try:
            with garbage_later():
                act()
        finally:
            self._last, self._sent, self.took = button, sent, time.monotonic() - began


class FilteredButton(widgets.Button):
    """A button whose clicks a `ClickFilter` looks at. `quick`: clicks in quick succession are meant, as on “1 effect”."""

    def __init__(self, clicks: ClickFilter, **options: Any) -> None:
        super().__init__(**options)
        self.clicks = clicks
        self.quick = False

    def _handle_button_msg(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("event", "") == "click":
            self.clicks.press(self, sent(), self.click, self.quick)


def sent() -> datetime | None:
    """When the page sent the message that is being handled; None outside of a notebook."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return None
    when = kernel.get_parent().get("header", {}).get("date")
    if isinstance(when, str):  # a kernel in a browser leaves it as it came
        when = datetime.fromisoformat(when)
    return when if isinstance(when, datetime) else None
