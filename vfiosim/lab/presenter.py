"""The presenter's switch: while it is on, all is for a room, in big letters and without code, and the presenter reveals."""

from __future__ import annotations

from typing import Any

import traitlets

from ..assets import asset
from ..views.script import script
from . import controls as widgets
from .static_fallback import StaticFallback, note
from .style import button, row, style, text, words


class Presenter(traitlets.HasTraits):
    """Is it on? Everything that cares observes `on`."""

    on = traitlets.Bool(False)


presenter = Presenter()


class Switch(StaticFallback):
    """A button that turns presenter mode on and off, for the whole notebook at once."""

    looks = "lab ask switch"

    def __init__(self) -> None:
        self.press = button("Presenter mode", "big letters, no code, you reveal", primary=True)
        self.said = text("said")
        self._page = _page()
        self.press.on_click(lambda _: self._turn())
        super().__init__([style(), row("", self.press, self.said), *self._page])
        presenter.observe(lambda _: self._follow(), "on")
        self._follow()

    @property
    def message(self) -> str:
        """What the switch says of itself."""
        return words(self.said.value)

    def static_html(self) -> str:
        """Only a live notebook can be presented."""
        return note(f"<b>Presenter mode.</b> {self.message}")

    def _turn(self) -> None:
        presenter.on = not presenter.on

    def _follow(self) -> None:
        on = presenter.on
        self.press.description = "End presenter mode" if on else "Presenter mode"
        what = (
            "On: no code, big letters, players listen to keys (<b>?</b> tells which); <b>Reveal</b> shows an answer. "
            "In JupyterLab the key <b>F8</b> does so without this cell."
            if on
            else "Off: each reader predicts before anything is revealed."
        )
        self.said.value = f'<span role="status">{what}</span>'
        for page in self._page:
            page.on = on


def _page() -> list[Any]:
    """What shows on the page that presenter mode is on; nothing where there is no anywidget."""
    try:
        from anywidget import AnyWidget
    except ImportError:
        return []

    class Page(AnyWidget):  # type: ignore[misc, unused-ignore]
        """It marks the notebook in which it stands, and blows up what is in it."""

        _esm = script("presents.js")
        _css = asset("labextension/static/presenter.css").read_text("utf-8")
        on = traitlets.Bool(False).tag(sync=True)

    return [Page()]


def present(on: bool = True) -> Switch:
    """Turn presenter mode on (or off), and show the switch. It holds for this kernel only."""
    presenter.on = bool(on)
    return Switch()


class Votes(widgets.VBox):
    """The answers of a question, each with a field in which a presenter may count the hands; a 0 says nothing."""

    def __init__(self, choices: dict[str, str]) -> None:
        self.choices = choices
        self.fields: dict[str, widgets.BoundedIntText] = {}
        super().__init__([], kind="votes")

    def make(self) -> None:
        """Make the fields; hardly any reader ever sees them."""
        self.fields = self.fields or {
            key: widgets.BoundedIntText(
                value=0, min=0, max=9999, description=said, tooltip=f"How many hands for: {said}"
            )
            for key, said in self.choices.items()
        }
        self.children = [*self.fields.values()]

    def describe(self, right: Any) -> str:
        """How the room voted, in a sentence; "" if nobody was counted."""
        counts = {key: int(field.value) for key, field in self.fields.items()}
        total = sum(counts.values())
        return f"{counts.get(right, 0)} of {total} in the room had it." if total else ""

    def clear(self) -> None:
        """No hands."""
        for field in self.fields.values():
            field.value = 0
