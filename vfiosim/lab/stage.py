"""Where the steps of a call are shown: the player, or text where there can be none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from html import escape
from typing import Any

from ..trace import Trace
from .still import Still
from .style import text

NO_PLAYER = "There is no picture here, because the package anywidget is missing: pip install anywidget"


class Stage(Still):
    """Shows a trace; `show` gives it another one. Options are those of `vfiosim.views.live`."""

    def __init__(self, trace: Trace, *, step: int = 0, **options: Any) -> None:
        self.trace = trace
        super().__init__([])
        self.add_class("vfiosim-stage")
        self.player = _player(trace, step, options)
        self._text = text("vfiosim-text")
        self.children = [self._text if self.player is None else self.player]
        if self.player is None:
            self._write()

    @property
    def step(self) -> int:
        """Where the reader is: after this step, counted from 1; 0 is before the first."""
        return int(self.player.step) if self.player is not None else 0

    def show(self, trace: Trace, step: int = 0) -> None:
        """Show this trace, after step `step` (counted from 1; -1 is the last)."""
        self.trace = trace
        if self.player is None:
            self._write()
        else:
            self.player.update(trace, step)

    def on_step(self, moved: Callable[[], None]) -> None:
        """Call this whenever the reader has gone to another step."""
        if self.player is not None:
            self.player.observe(lambda _: moved(), "step")

    def still(self) -> str:
        """The player as a piece of HTML that needs no kernel; without it the text."""
        return str(self._text.value) if self.player is None else str(self.player.player.html())

    def in_words(self) -> str:
        """The steps as text."""
        return NO_PLAYER if self.player is None else str(self.player.player)

    def highlight(self, names: Collection[str]) -> None:
        """Bring these objects out, or with an empty collection none; without effect where the player cannot."""
        if self.player is not None and self.player.has_trait("highlight"):
            self.player.highlight = list(names)

    def _write(self) -> None:
        from ..views.text import steps_text

        self._text.value = f"<p>{NO_PLAYER}</p><pre>{escape(steps_text(self.trace))}</pre>"


def _player(trace: Trace, step: int, options: dict[str, Any]) -> Any:
    try:
        from ..views.live_player import LivePlayer

        return LivePlayer(trace, step=step, **options)
    except ImportError:
        return None
