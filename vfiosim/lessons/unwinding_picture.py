"""What a failing BIND holds, as a pyramid: a bar from taking to giving back; what is never given back runs off the page in red."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .figures import BLUE, ON_COLOUR, ORANGE, RED, shown
from .unwinding_failures import AS_IT_IS, FAULTS, ON_PURPOSE, TAKEN, Failed, Functions, failed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHOLE = 2 * len(TAKEN)  # moments of taking and giving back in the longest way


def pyramid(number: int, patches: Functions = AS_IT_IS) -> Any:
    """The pyramid of the BIND in which this one of FAULTS fails. Raises ValueError for another number."""
    from matplotlib.figure import Figure

    one = failed(number, patches)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    _draw(axes, one, 12, names=True)
    axes.set_xlabel("time →   a bar begins when the thing is taken, and ends when it is given back", fontsize=11)
    return shown(figure, str(one))


def pyramids(patches: Functions = AS_IT_IS) -> Any:
    """The pyramids of all nine, small, with what is left below each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    all_nine = [failed(number, patches) for number in ON_PURPOSE]
    for axes, one in zip(figure.subplots(3, 3).flat, all_nine, strict=True):
        _draw(axes, one, 9)
        left = sum(bar.back is None for bar in one.bars) or len(one.others)
        axes.set_xlabel(f"left: {left}", color=RED if left else "black", fontweight="bold" if left else "normal")
    return shown(figure, "; ".join(map(str, all_nine)))


def _draw(axes: Axes, one: Failed, size: float, names: bool = False) -> None:
    """A pyramid with its fault on top; the first thing taken lies at the bottom."""
    for height, bar in enumerate(one.bars):
        end = WHOLE if bar.back is None else bar.back
        late = any(below.back is not None and below.back < end for below in one.bars[:height])
        axes.barh(
            height, end - bar.taken, left=bar.taken, height=0.86, color=ORANGE if late or bar.back is None else BLUE
        )
        if names:
            axes.text(bar.taken - 0.2, height, bar.what, ha="right", va="center", fontsize=size)
        if bar.back is None:
            held = "still held ▶" if names else "▶"
            axes.text(WHOLE - 0.2, height, held, ha="right", va="center", fontsize=size, color=ON_COLOUR)
    top = len(one.bars)
    axes.text(max(top - 0.5, 0), top, "✕", ha="center", va="center", color=RED, fontsize=size + 3, fontweight="bold")
    said = f"{one.number}  {FAULTS[one.number].removeprefix('there is ')}: {one.outcome.result}"
    axes.set_title(said, fontsize=size)
    axes.set(xlim=(-4 if names else -1, WHOLE), ylim=(-0.8, len(TAKEN) + 0.6), xticks=[], yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
