"""The player as a widget: other code can give it a longer trace, and move it."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from ..assets import asset
from ..trace import Trace
from .player import Player, styles


class LivePlayer(anywidget.AnyWidget):
    """Shows a trace and stays in touch with the kernel: `step` follows the reader, and moves the picture when it is set.

    `highlight` are names of objects to bring out: one with its arrows, or several with the arrows between them. Options
    are those of `show`. Where no widgets can be shown the output has the player of `show`, a picture and the steps as text.
    """

    _esm = asset("player.js").read_text("utf-8")
    _css = styles()
    data = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    highlight = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, trace: Trace, *, step: int = 0, **options: Any) -> None:
        self._options = options
        self.player = Player(trace, step=step, **options)
        super().__init__(data=self.player.data(), step=self.player.step)

    def update(self, trace: Trace, step: int = -1) -> None:
        """Show this trace instead, at `step` (counted from 1; -1 is the last). Raises IndexError for one not there."""
        self.player = Player(trace, step=step, **self._options)
        with self.hold_sync():
            self.data = self.player.data()
            self.step = self.player.step

    def __repr__(self) -> str:
        return str(self.player)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle: Any = super()._repr_mimebundle_(**options) or {}
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data.update(self.player._repr_mimebundle_())
        return bundle
