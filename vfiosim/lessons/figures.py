"""Plots of the lessons, as pictures whose letters stay letters, with what they tell in words."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shown(figure: Figure, told: str) -> Any:
    """A figure as the result of a cell; `told` is for those who do not see it."""
    from html import escape

    from IPython.display import HTML
    from matplotlib import rc_context

    drawn = StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg")
    svg = drawn.getvalue().partition("<svg")[2]
    return HTML(f'<figure role="img" aria-label="{escape(told)}"><svg{svg}</figure>')  # type: ignore[no-untyped-call]
