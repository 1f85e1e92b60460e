"""Looks that many widgets have in common: each is told to the page once instead of once for each widget.

A widget of ipywidgets brings a layout and a style of its own, so that two of three things that the page is told are about looks.
On a slow machine it is busy with them for seconds: when it is opened, and whenever cells run.
"""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

_made: dict[Any, Any] = {}


class Shared:
    """What many widgets have in common: it is not closed with one of them, and nobody can change it for all of them."""

    _done = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._done and name in _looks(self):
            raise AttributeError(f"many widgets have this look; give yours one of its own, with this {name}")
        super().__setattr__(name, value)


def _looks(layout: Any) -> list[str]:
    return [name for name in layout.keys if not name.startswith("_")]


def shared(kind: type[widgets.Widget], **looks: Any) -> Any:
    """The layout or style of this kind that looks like this: the same one for the same looks."""
    key = kind, *sorted(looks.items())
    made = _made.get(key)
    if made is None or made.comm is None:  # somebody has closed all widgets
        made = _made[key] = type(kind.__name__, (Shared, kind), {})(**looks)
        made._done = True
    return made


def look(widget: Any, **changes: Any) -> None:
    """Change how a widget looks, and no other: `display="none"` folds it away."""
    kept = {name: value for name in _looks(widget.layout) if (value := getattr(widget.layout, name)) is not None}
    widget.layout = shared(widgets.Layout, **{**kept, **changes})
