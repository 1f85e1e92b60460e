"""What a failing BIND holds, as a pyramid: a bar from taking to giving back; what is never given back runs off the page in red."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .figures import shown
from .unwinding_failures import AS_IT_IS, FAULTS, ON_PURPOSE, TAKEN, Failed, Functions, failed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELD, LEFT = "#9ecae1", "#d95f02"
WHOLE = 2 * len(TAKEN)  # moments of taking and giving back in the longest way


def pyramid(number: int, patches: Functions = AS_IT_IS) -> Any:
    """The pyramid of the BIND in which this one of FAULTS fails. Raises ValueError for another number."""
    from matplotlib.figure import Figure

    one = failed(number, patches)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    _draw(axes, one, names=True)
    axes.set_xlabel("time: one thing is taken, or given back, at each mark")
    return shown(figure, str(one))


def pyramids(patches: Functions = AS_IT_IS) -> Any:
    """The pyramids of all nine, small, with what is left below each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    all_nine = [failed(number, patches) for number in ON_PURPOSE]
    for axes, one in zip(figure.subplots(3, 3).flat, all_nine, strict=True):
        _draw(axes, one)
        left = sum(bar.back is None for bar in one.bars) or len(one.others)
        axes.set_xlabel(f"left: {left}", color=LEFT if left else "black", fontweight="bold" if left else "normal")
    return shown(figure, "; ".join(map(str, all_nine)))


def _draw(axes: Axes, one: Failed, names: bool = False) -> None:
    """A pyramid with its fault as a line; the first thing taken lies at the bottom."""
    for height, bar in enumerate(one.bars):
        end, colour = (WHOLE, LEFT) if bar.back is None else (bar.back, HELD)
        axes.barh(height, end - bar.taken, left=bar.taken, height=0.86, color=colour)
        if names:
            axes.text((bar.taken + end) / 2, height, bar.what, ha="center", va="center")
        if bar.back is None:
            axes.text(WHOLE, height, "still held " if names else "▶", ha="right", va="center")
    top = len(one.bars)
    axes.plot([top - 0.5] * 2, [-0.7, top - 0.2], color="black", lw=1.5, ls=":")
    axes.set_title(f"{one.number}  {FAULTS[one.number]}: {one.outcome.result}", fontsize=11 if names else 8.5)
    axes.set(xlim=(-1, WHOLE), ylim=(-0.8, len(TAKEN)), xticks=[], yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
