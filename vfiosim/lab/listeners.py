"""Scripts that listen to keys and to the pointer, and draw nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..views.one_queue import OneQueue
from ..views.script import script
from . import controls as widgets


def listeners(entry: str) -> list[widgets.Widget]:
    """What runs this module of `assets/player` on the page; nothing where the package anywidget is missing."""
    try:
        return [_kind(entry)()]
    except ImportError:
        return []


@cache
def _kind(entry: str) -> type[Any]:
    import anywidget

    class Listener(OneQueue, anywidget.AnyWidget):
        """It draws nothing."""

        _esm = script(entry)

    return Listener
