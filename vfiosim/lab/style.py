"""Small things that all widgets of the lab are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape, unescape

from ..assets import asset
from ..views.shared import shared
from . import controls as widgets
from .press import ClickFilter, FilteredButton

SHEETS = ("tokens.css", "lab.css", "questions.css", "sandbox.css", "schedule.css")


def style() -> widgets.HTML:
    """The styles of the lab; to be put into each widget, so that each looks right on its own. It is one for all of them."""
    sheets = "".join(asset(name).read_text("utf-8") for name in SHEETS)
    made: widgets.HTML = shared(widgets.HTML, value=f"<style>{sheets}</style>", _dom_classes=("vfiosim-style",))
    return made


def text(kind: str, value: str = "") -> widgets.HTML:
    """A piece of text of some kind."""
    made = widgets.HTML(value)
    made.add_class(kind)
    return made


def button(name: str, tip: str, primary: bool = False, clicks: ClickFilter | None = None) -> widgets.Button:
    """A button that is as wide as its name needs; with a clicks a double click counts once."""
    kind, more = (widgets.Button, {}) if clicks is None else (FilteredButton, {"clicks": clicks})
    made = kind(description=name, tooltip=tip, layout={"width": "auto"}, **more)
    if primary:
        made.add_class("vfiosim-primary")
    return made


def row(title: str, *controls: widgets.Widget) -> widgets.Box:
    """Controls side by side; they wrap where there is too little room."""
    name = [text("vfiosim-title", title)] if title else []
    made = widgets.Box([*name, *controls])
    made.add_class("vfiosim-row")
    return made


def above(controls: Sequence[widgets.Widget], shown: Sequence[widgets.Widget]) -> widgets.Box:
    """Controls in slim rows, and below them what they bring about, so that a picture has the whole width."""
    parts = widgets.VBox(controls), widgets.VBox(shown)
    for part, name in zip(parts, ("vfiosim-controls", "vfiosim-shown"), strict=True):
        part.add_class(name)
    made = widgets.Box(parts)
    made.add_class("vfiosim-above")
    return made


def legend(*buttons: widgets.Button) -> widgets.HTML:
    """What each of these buttons does, to unfold: a tooltip is seen by nobody who has only keys or a finger."""
    rows = "".join(f"<li><b>{escape(one.description)}</b>: {escape(one.tooltip)}</li>" for one in buttons)
    return text("vfiosim-told", f"<details><summary>What do the buttons do?</summary><ul>{rows}</ul></details>")


def words(html: str) -> str:
    """A piece of HTML as the reader reads it."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())
