"""The widgets that the lab is made of: those of ipywidgets, but with looks that they have in common.

Import it as `widgets`. How one of them looks is changed with `look`.
"""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from ipywidgets import Layout, Widget

from ..views.one_queue import OneQueue
from ..views.shared import look, shared

__all__ = [
    "HTML",
    "BoundedIntText",
    "Box",
    "Button",
    "Checkbox",
    "Combobox",
    "Dropdown",
    "RadioButtons",
    "Text",
    "Textarea",
    "ToggleButton",
    "ToggleButtons",
    "VBox",
    "Widget",
    "classes",
    "look",
    "unfold",
]


class _Plain(OneQueue, widgets.Widget):  # type: ignore[misc]
    """`kind` are its classes, in one word each and without "vfiosim-"; told at birth they need no message of their own."""

    def __init__(self, *args: Any, kind: str = "", **options: Any) -> None:
        options["layout"] = shared(Layout, **options.get("layout", {}))
        if kind:
            options["_dom_classes"] = classes(kind)
        if "style" in type(self).class_trait_names():
            options["style"] = shared(type(self).style.klass)
        super().__init__(*args, **options)


class Box(_Plain, widgets.Box):  # type: ignore[misc]
    """Widgets side by side."""


class VBox(_Plain, widgets.VBox):  # type: ignore[misc]
    """Widgets below each other."""


class HTML(_Plain, widgets.HTML):  # type: ignore[misc]
    """A piece of a page."""


class Button(_Plain, widgets.Button):  # type: ignore[misc]
    """Something to press."""


class ToggleButton(_Plain, widgets.ToggleButton):  # type: ignore[misc]
    """Something that is pressed or not."""


class ToggleButtons(_Plain, widgets.ToggleButtons):  # type: ignore[misc]
    """One of several is pressed."""


class Checkbox(_Plain, widgets.Checkbox):  # type: ignore[misc]
    """Something to tick."""


class RadioButtons(_Plain, widgets.RadioButtons):  # type: ignore[misc]
    """One of several is chosen, and all are to be seen."""


class Dropdown(_Plain, widgets.Dropdown):  # type: ignore[misc]
    """One of several is chosen."""


class Text(_Plain, widgets.Text):  # type: ignore[misc]
    """A line to write."""


class Combobox(_Plain, widgets.Combobox):  # type: ignore[misc]
    """A line to write, with some to choose from."""


class Textarea(_Plain, widgets.Textarea):  # type: ignore[misc]
    """Lines to write."""


class BoundedIntText(_Plain, widgets.BoundedIntText):  # type: ignore[misc]
    """A number to write."""


def classes(kind: str) -> tuple[str, ...]:
    """The names that the style sheets have for these words."""
    return tuple(f"vfiosim-{one}" for one in kind.split())


def unfold(widget: Any, shown: bool = True) -> None:
    """Let a widget be seen, or fold it away."""
    look(widget, display="" if shown else "none")
