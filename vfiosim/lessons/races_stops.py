"""How a race ends, by the effect after which one call is stopped, as a strip."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from .figures import BLUE, GREEN, ON_COLOUR, RED, shown
from .races_questions import who_gets_it

LOOKS = {"A": ("only A has it", BLUE), "B": ("only B has it", GREEN), "both": ("both have it", RED)}


def stops() -> Any:
    """The picture: a cell for each number of effects after which A is stopped for B whole, and who has the group then."""
    from matplotlib.figure import Figure

    ends = who_gets_it()
    figure = Figure(figsize=(10, 1.9), layout="constrained")
    axes = figure.subplots()
    axes.barh([0] * len(ends), 1, left=[n - 0.5 for n in range(len(ends))], color=[LOOKS[who][1] for who in ends])
    parts = [[n for n, _ in some] for _, some in groupby(enumerate(ends), key=lambda one: one[1])]
    for part in parts:
        middle = (part[0] + part[-1]) / 2
        axes.text(middle, 0, ends[part[0]], ha="center", va="center", color=ON_COLOUR, fontweight="bold")
    axes.set(xlim=(-0.5, len(ends) - 0.5), yticks=[], xticks=range(len(ends)))
    axes.set_xlabel("after so many of its effects A is stopped, and B runs to its end")
    axes.set_title("; ".join(f"{who}: {LOOKS[who][0]}" for who in LOOKS), fontsize=11)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    told = "; ".join(f"{part[0]} to {part[-1]}: {LOOKS[ends[part[0]]][0]}" for part in parts)
    return shown(figure, f"A is stopped after so many effects, and who has the group then. {told}")
