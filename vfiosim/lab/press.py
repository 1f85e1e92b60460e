"""Clicks that nobody meant: the second one of a double click, and those that waited in a queue while a run was under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from . import controls as widgets

LONG = 1.0  # seconds; who clicks during a shorter run knows what it will do
DOUBLE = 0.5  # seconds; two clicks on one button that are closer were one gesture


class Guard:
    """Watches the buttons of one widget. `ignored` is called when a click came while a long run was under way.

    The page notes when a click was made. Between two clicks of one page these times can be compared, whatever the clock
    there says: one that was made less than the length of a run after the click that began it was made during the run.
    """

    def __init__(self, ignored: Callable[[], None] = lambda: None) -> None:
        self.ignored = ignored
        self._last: widgets.Widget | None = None
        self._sent: datetime | None = None
        self._took = 0.0

    def press(
        self, button: widgets.Widget, sent: datetime | None, act: Callable[[], None], double: float = DOUBLE
    ) -> None:
        """Do what a click asks for, unless nobody meant it; `sent` is when it was made, None if that is not known."""
        if sent is not None and self._sent is not None:
            passed = (sent - self._sent).total_seconds()
            if self._last is button and 0 <= passed < double:
                return
            if self._took > LONG and 0 <= passed < self._took:
                self.ignored()
                return
        began = time.monotonic()
        try:
            act()
        finally:
            self._last, self._sent, self._took = button, sent, time.monotonic() - began


class Guarded(widgets.Button):
    """A button whose clicks a guard looks at. `quick`: clicks in quick succession are meant, as on “1 effect”."""

    def __init__(self, guard: Guard, **options: Any) -> None:
        super().__init__(**options)
        self.guard = guard
        self.quick = False

    def _handle_button_msg(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("event", "") == "click":
            self.guard.press(self, sent(), self.click, 0 if self.quick else DOUBLE)


def sent() -> datetime | None:
    """When the page sent the message that is being handled; None outside of a notebook."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return None
    when = kernel.get_parent("shell").get("header", {}).get("date")
    return when if isinstance(when, datetime) else None
