"""What a cell has found out, kept back until its question has been answered: Run All must not answer for the reader."""

from __future__ import annotations

from html import escape
from typing import Any

from .record import progress
from .static_fallback import StaticFallback, note
from .style import button, row, style, text, words


class OnceAnswered(StaticFallback):
    """Shows `what` once the question of this name in `progress` was answered, rightly or not, or at a press.

    `what` is shown as a picture if it is one, else as text; `called` is what the reader knows the question by.
    """

    looks = "lab ask"

    def __init__(self, name: str, what: object, called: str = "") -> None:
        self._name = name
        picture = getattr(what, "_repr_html_", None)
        self._what = f"<pre>{escape(str(what))}</pre>" if picture is None else str(picture())
        self._wait = f"This tells what “{called or name}” asks. It is shown here once you have answered that."
        self._shown = text("kept-back")
        self.anyway = button("Show it now", "without an answer")
        self.anyway.on_click(lambda _: self._show())
        self._head: list[Any] = [style(), self._shown]
        super().__init__([*self._head, row("", self.anyway)])
        self._shown.value = f"<p>{escape(self._wait)}</p>"
        progress.watch(self)
        self.look()

    @property
    def message(self) -> str:
        """What is shown, in words."""
        return words(self._shown.value)

    def look(self) -> None:
        """Show it if the question has been answered by now."""
        if self._name in progress.answers:
            self._show()

    def static_html(self) -> str:
        """What was shown when the cell ran."""
        return note(self._shown.value)

    def in_words(self) -> str:
        """The same as text."""
        return self.message

    def _show(self) -> None:
        self._shown.value = self._what
        self.children = self._head
