"""What a cell has found out, kept back until its question has been answered: Run All must not answer for the reader."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from .record import progress
from .static_fallback import StaticFallback, Telling
from .style import anchor, button, row, style, text

SHOW, HIDE = "Show it now", "Hide it again"


class OnceAnswered(Telling):
    """Shows `what` once the questions of these names in `progress` were answered, rightly or not, or at a press.

    `asked` has by name what the reader knows each question by. A widget is shown as it is, what has HTML of its own so,
    anything else as text. Links to what is kept back lead here.
    """

    def __init__(self, asked: Mapping[str, str], what: object) -> None:
        self._asked, self._what = asked, what
        self._open = False
        self.shown = text("kept-back")
        self.anyway = button(SHOW, "without an answer")
        self.anyway.on_click(lambda _: self._turn())
        self._looks, self._row = style(), row("", self.anyway)
        super().__init__()
        progress.watch(self)
        self.look()

    def look(self) -> None:
        """Show it if the questions have been answered by now, else say which have not."""
        still: dict[str, str] = {}  # several may be known as one, as those of a quiz: it leads to the first
        for name, called in self._asked.items():
            if name not in progress.answers:
                still.setdefault(called, name)
        if still and not self._open:
            asked = [f'<a href="#{anchor(name)}">{escape(called)}</a>' for called, name in still.items()]
            places = "".join(f'<a name="{place}"></a>' for place in _places(self._what))
            told = f"This has the answer to a question above: {' and '.join(asked)}."
            self.shown.value = f"{places}<p>{told} It is shown here once you have answered that.</p>"
            shown: Any = self.shown
        elif isinstance(self._what, StaticFallback):
            self.shown.value, shown = "", self._what
        else:
            html = getattr(self._what, "_repr_html_", None)
            self.shown.value = str(html()) if html else f"<pre>{escape(str(self._what))}</pre>"
            shown = self.shown
        turned = [self._row, shown] if self._open else [shown, self._row]
        self.children = [self._looks, *(turned if still else [shown])]

    def _turn(self) -> None:
        """Who has shown it without an answer may hide it, and answer honestly."""
        self._open = not self._open
        self.anyway.description = HIDE if self._open else SHOW
        self.look()

    def static_html(self) -> str:
        """What was shown when the cell ran; a widget that was kept back is folded in: without a kernel nobody can answer."""
        if isinstance(self._what, StaticFallback) and self._what in self.children:
            return self._what.static_html()
        told = super().static_html()
        if self._row not in self.children or not isinstance(self._what, StaticFallback):
            return told
        return f"{told}<details><summary>{SHOW}</summary>{self._what.static_html()}</details>"


def _places(what: Any) -> Iterator[str]:
    """Where links to questions and tasks lead within a widget, see `style.anchor`."""
    yield from re.findall(r'(?:id|name)="(vfiosim-[^"]+)"', str(getattr(what, "value", "")))
    for child in getattr(what, "children", ()):
        yield from _places(child)
