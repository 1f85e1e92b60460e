"""Small things that all widgets of the lab are made of."""

from __future__ import annotations

import re
from html import unescape

import ipywidgets as widgets

from ..assets import asset


def style() -> widgets.HTML:
    """The styles of the lab; one in each widget, so that each looks right on its own."""
    made = widgets.HTML(f"<style>{asset('lab.css').read_text('utf-8')}</style>")
    made.add_class("vfiosim-style")
    return made


def text(kind: str, value: str = "") -> widgets.HTML:
    """A piece of text of some kind."""
    made = widgets.HTML(value)
    made.add_class(kind)
    return made


def button(name: str, tip: str, primary: bool = False) -> widgets.Button:
    """A button that is as wide as its name needs."""
    made = widgets.Button(description=name, tooltip=tip, layout={"width": "auto"})
    if primary:
        made.add_class("vfiosim-primary")
    return made


def row(title: str, *controls: widgets.Widget) -> widgets.Box:
    """Controls side by side; they wrap where there is too little room."""
    name = [text("vfiosim-title", title)] if title else []
    made = widgets.Box([*name, *controls])
    made.add_class("vfiosim-row")
    return made


def words(html: str) -> str:
    """A piece of HTML as the reader reads it."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())
