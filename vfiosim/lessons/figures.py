"""Plots of the lessons, as pictures whose letters stay letters, with what they tell in words."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

ON_COLOUR = "#111111"  # the ink of letters on a bar, whatever is around the figure
# What reads on a light page and on a dark one, and can have letters on it. What has another colour has an outline of black.
BLUE, ORANGE, GREEN, RED = "#3a93cc", "#cf7a00", "#009e73", "#e03131"

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shown(figure: Figure, told: str) -> Any:
    """A figure as the result of a cell; `told` is for those who do not see it.

    It has no ground, and what is black in it takes the colour of the text around it, so it reads on light and on dark.
    """
    from html import escape

    from IPython.display import HTML
    from matplotlib import rc_context

    drawn = StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", transparent=True)
    svg = drawn.getvalue().partition("<svg")[2]
    for paint in ("fill", "stroke"):
        svg = svg.replace(f"{paint}: #000000", f"{paint}: currentColor")
    return HTML(  # type: ignore[no-untyped-call]
        f'<figure role="img" aria-label="{escape(told)}" style="margin: 0">'
        f'<svg style="max-width: 100%; height: auto" fill="currentColor"{svg}</figure>'
    )
