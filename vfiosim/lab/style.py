"""Small things that all widgets of the lab are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape, unescape

from ..assets import asset
from ..views.shared import shared
from . import controls as widgets
from .press import ClickFilter, FilteredButton

SHEETS = ("palette.css", "tokens.css", "lab.css", "questions.css", "sandbox.css", "schedule.css")


def style() -> widgets.HTML:
    """The styles of the lab; to be put into each widget, so that each looks right on its own. It is one for all of them."""
    sheets = "".join(asset(name).read_text("utf-8") for name in SHEETS)
    made: widgets.HTML = shared(widgets.HTML, value=f"<style>{sheets}</style>", _dom_classes=("vfiosim-style",))
    return made


def text(kind: str, value: str = "") -> widgets.HTML:
    """A piece of text of some kind."""
    return widgets.HTML(value, kind=kind)


def button(
    name: str, tip: str, primary: bool = False, clicks: ClickFilter | None = None, reveals: bool = False
) -> widgets.Button:
    """A button that is as wide as its name needs; with `clicks` a double click counts once.

    `reveals`: the key R presses it while a notebook is presented.
    """
    sort, more = (widgets.Button, {}) if clicks is None else (FilteredButton, {"clicks": clicks})
    kind = " ".join(["primary"] * primary + ["reveal"] * reveals)
    return sort(description=name, tooltip=tip, layout={"width": "auto"}, kind=kind, **more)


def row(title: str, *controls: widgets.Widget) -> widgets.Box:
    """Controls side by side; they wrap where there is too little room."""
    name = [text("title", title)] if title else []
    return widgets.Box([*name, *controls], kind="row")


def above(controls: Sequence[widgets.Widget], shown: Sequence[widgets.Widget]) -> widgets.Box:
    """Controls in slim rows, and below them what they bring about, so that a picture has the whole width."""
    return widgets.Box([widgets.VBox(controls, kind="controls"), widgets.VBox(shown, kind="shown")], kind="above")


def legend(*buttons: widgets.Button) -> widgets.HTML:
    """What each of these buttons does, to unfold: a tooltip is seen by nobody who has only keys or a finger."""
    rows = "".join(f"<li><b>{escape(one.description)}</b>: {escape(one.tooltip)}</li>" for one in buttons)
    return text("told", f"<details><summary>What do the buttons do?</summary><ul>{rows}</ul></details>")


def alert(message: str) -> str:
    """What is wrong, for a place beside the control: a screen reader announces it; "" where nothing is."""
    return f'<span role="alert">{escape(message, quote=False)}</span>' if message else ""


def status(message: str) -> str:
    """What came of a press, for a place beside the control; a screen reader tells it when it has time."""
    return f'<span role="status">{escape(message, quote=False)}</span>'


def anchor(name: str) -> str:
    """The id on a page of the words with which the question or the task of this name begins."""
    return f"vfiosim-{re.sub(r'[^0-9A-Za-z]+', '-', name)}"


def words(html: str) -> str:
    """A piece of HTML as the reader reads it."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())
