"""What a widget leaves behind where no widgets can be shown: in an exported page, in a saved notebook, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from ..views.static_output import display_with_static
from ..views.widget_lifetime import note_displayed
from .controls import classes
from .style import words

ONLY_LIVE = "Buttons and fields work where this notebook is run."


class StaticFallback(widgets.VBox):  # type: ignore[misc]
    """A widget with a second appearance, which needs no kernel: `static_html` is HTML, `in_words` the same as text."""

    looks = "lab"  # its classes, as those of the controls

    def __init__(self, children: Sequence[widgets.Widget] = ()) -> None:
        super().__init__(children, _dom_classes=classes(self.looks))

    def static_html(self) -> str:
        """The widget as a page without widgets shows it."""
        raise NotImplementedError

    def in_words(self) -> str:
        """The widget as text."""
        return words(self.static_html())

    def _ipython_display_(self) -> None:
        note_displayed(self)
        display_with_static(self._repr_mimebundle_())

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**options) or {}
        return {**bundle, "text/plain": self.in_words(), "text/html": self.static_html()}


class Telling(StaticFallback):
    """A widget of which one text, `shown`, says it all: as it was when the cell ran where there is no kernel, and in words."""

    looks = "lab ask"
    shown: widgets.HTML

    @property
    def message(self) -> str:
        """What is shown, in words."""
        return words(self.shown.value)

    def static_html(self) -> str:
        """What was shown when the cell ran."""
        return note(self.shown.value)

    def in_words(self) -> str:
        """The same as text."""
        return self.message


def note(html: str) -> str:
    """A paragraph of a still."""
    return f'<p style="font: max(16px, 1em)/1.4 system-ui, sans-serif; margin: 6px 0">{html}</p>'
