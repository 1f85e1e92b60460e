"""Python's search for garbage, kept out of presses: it goes through everything there is, and whoever presses would wait for it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from ..engine import seldom_collected

IDLE = 1.0  # seconds after the last press; who reads what came of it does not notice
_planned: list[asyncio.TimerHandle] = []


@contextmanager
def garbage_later() -> Iterator[None]:
    """Garbage is looked for seldom meanwhile, and thoroughly once nothing was pressed for a while; without a loop as ever."""
    try:
        with seldom_collected():
            yield
    finally:
        _plan()


def _plan() -> None:
    while _planned:
        _planned.pop().cancel()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # a script, a test: nothing is idle there
        return
    _planned.append(loop.call_later(IDLE, gc.collect))
