"""Where the steps of a call are shown: the player, or text where there can be none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from html import escape
from typing import Any
from weakref import WeakSet

from ..trace import Trace
from ..views.atlas import BIND, Atlas
from .presenter import presenter
from .static_fallback import StaticFallback
from .style import text

NOTEBOOK = Atlas(BIND)  # a notebook has a kernel of its own: in all its cells an object stands in the same place
PANES: WeakSet[TracePane] = WeakSet()  # all that there are
NO_PLAYER = "There is no picture here, because the package anywidget is missing: pip install anywidget"


class TracePane(StaticFallback):
    """Shows a trace; `show` gives it another one. Options are those of `vfiosim.views.live`."""

    looks = "stage"

    def __init__(self, trace: Trace, *, step: int = 0, **options: Any) -> None:
        self.trace = trace
        self._text = text("text")
        self.player = _player(trace, step, options)
        super().__init__([self._text if self.player is None else self.player])
        PANES.add(self)
        if self.player is None:
            self._write()
        elif presenter.on:
            self.player.present(True)

    @property
    def step(self) -> int:
        """Where the reader is: after this step, counted from 1; 0 is before the first."""
        return int(self.player.step) if self.player is not None else 0

    def show(self, trace: Trace, step: int | None = 0, reserve: Collection[Trace] = ()) -> None:
        """Show this trace, after step `step`. `step` and `reserve` as in `LivePlayer.update`."""
        self.trace = trace
        if self.player is None:
            self._write()
        else:
            self.player.update(trace, step, reserve)

    def keep(self, names: Collection[str]) -> None:
        """These are in the next picture whatever changes."""
        if self.player is not None:
            self.player.keep(names)

    def forget(self, kept: Sequence[str] | None = None) -> None:
        """What is shown next need not be like what was shown before; these objects have a place from the start."""
        if self.player is not None:
            self.player.forget(kept)

    def to_end(self) -> None:
        """Go to the last step: what is said next is about how things stand."""
        self.go_to(len(self.trace))

    def reveal(self) -> None:
        """What is said above it has changed: both are brought on the screen together."""
        if self.player is not None:
            self.player.send({"reveal": True})

    def go_to(self, step: int) -> None:
        """Go to a step, counted from 1; 0 is before the first."""
        if self.player is not None:
            self.player.step = step

    def on_step(self, moved: Callable[[], None]) -> None:
        """Call this whenever the reader has gone to another step."""
        if self.player is not None:
            self.player.observe(lambda _: moved(), "step")

    def static_html(self) -> str:
        """The player as a piece of HTML that needs no kernel; without it the text."""
        return str(self._text.value) if self.player is None else str(self.player.player.html())

    def in_words(self) -> str:
        """The steps as text."""
        return NO_PLAYER if self.player is None else str(self.player.player)

    def highlight(self, names: Collection[str]) -> None:
        """Bring these objects out, or with an empty collection none; without effect where there is no player."""
        if self.player is not None:
            self.player.highlight = list(names)

    def bring_out(self, names: Collection[str]) -> None:
        """Bring these objects out and the arrows between them, if all are in the picture; else none."""
        self.highlight(names if self.drawn.issuperset(names) else ())

    @property
    def drawn(self) -> set[str]:
        """The names of all that is in the picture; empty where there is no player."""
        nodes = self.player.player.graph.nodes if self.player is not None else ()
        return {part for node in nodes for part in node.parts}

    @property
    def counters(self) -> dict[str, set[str]]:
        """By the name of all that is in the picture, the counters that have a row there."""
        found: dict[str, set[str]] = {name: set() for name in self.drawn}
        for node in self.player.player.graph.nodes if found else ():
            for row in node.rows:
                if row.sort == "count":
                    found[row.oid].add(row.cell)
        return found

    def _write(self) -> None:
        from ..views.text import steps_text

        self._text.value = f"<p>{NO_PLAYER}</p><pre>{escape(steps_text(self.trace))}</pre>"


def _present(change: Any) -> None:
    for pane in PANES:
        if pane.player is not None and pane.player.comm is not None:
            pane.player.present(change["new"])


presenter.observe(_present, "on")


def refused_at(trace: Trace) -> int:
    """The step (counted from 1) of what refused a call that was just made, or holds it up; 0 if it succeeded."""
    if not len(trace) or (call := trace.calls[-1]).ended.startswith("returns"):
        return 0
    return next((step.index + 1 for step in trace if step.call == call.index and step.refused), len(trace))


def _player(trace: Trace, step: int, options: dict[str, Any]) -> Any:
    try:
        from ..views.live_player import LivePlayer

        return LivePlayer(trace, step=step, **{"atlas": NOTEBOOK, **options})
    except ImportError:
        return None
