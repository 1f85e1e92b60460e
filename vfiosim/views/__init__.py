"""Pictures and text of traces: `show(machine.trace)` in a notebook, `live(machine.trace)` in a lab, `compare` for two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..trace import Trace
from .at_once import running_cell
from .compare import Comparison
from .graph import Graph, graph
from .player import Player
from .text import state_text, steps_text

if TYPE_CHECKING:
    from .live_player import LivePlayer

__all__ = ["Comparison", "Graph", "Player", "compare", "graph", "live", "show", "state_text", "steps_text", "svg_at"]


def show(trace: Trace, **options: Any) -> Player:
    """A player for a trace or a part of one: `show(m.trace)`, `show(m.trace[5:9])`, `show(m.trace[call.steps])`.

    In a notebook it shows itself at once, wherever in a cell it stands.

    Options:

    * `step` to begin with; `hide`, `only`, `idle`, `reserve` as in `graph`; `without`: names of rows that are not drawn;
    * `views`: those open at first, some of "graph", "lanes" (the locks of each thread), "counters", "source", "details";
    * `presenter=True`, for a room: large letters, keys only, no code, at most 20 nodes where kinds can be put together;
    * `collapse`: kinds or names (or tuples of them) that are drawn as one box each where there are more than 20 nodes;
    * `log`: lines above it, each a text and the step to which it leads, 0 for none.

    Steps count from 1, and 0 is before the first; below zero they count from the end: -1 is the last one, -2 the one before.
    Raises IndexError for a step that is not there, ValueError for a view that is none.
    """
    player = Player(trace, **options)
    if cell := running_cell():
        from IPython.display import display

        display(player)  # type: ignore[no-untyped-call]
        player.shown_in = cell
    return player


def live(trace: Trace, **options: Any) -> LivePlayer:
    """The same as a widget, which `update(trace)` gives a longer trace. Options are those of `show`."""
    from .live_player import LivePlayer

    return LivePlayer(trace, **options)


def compare(left: Trace, right: Trace, **options: Any) -> Comparison:
    """Two players side by side, for two runs that began alike: `compare(m.trace, other.trace)`. Options are those of `show`."""
    return Comparison(left, right, **options)


def svg_at(trace: Trace, step: int = -1, **options: Any) -> str:
    """The picture after a step (counted from 1, 0 is before the first, -1 the last), as SVG text.

    Raises IndexError for a step that is not there, RuntimeError where there is nothing to draw.
    """
    return Player(trace, **options).svg(step)
