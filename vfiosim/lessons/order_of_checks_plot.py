"""A plot for the lesson about the order of checks: how far each refused BIND gets."""

from __future__ import annotations

import re
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from ..assets import palette
from ..views.glossary import PHASES
from .figures import shown
from .order_of_checks_causes import CAUSES, refused

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_HELD = re.compile(r"(?:(the lock)|a reference to|a new object,) (file [a-z]+|\w+)")


def _kind(held: str) -> str:
    """What a call holds, without which one of its kind it is."""
    found = _HELD.match(held)
    if found is None:
        return "the group is blocked"
    return f"the lock of {found[2]}" if found[1] else found[2].replace("file iommu", "the iommufd's file")


class Ladder:
    """A bar for each cause, in the order of the checks: its steps up to the refusal, coloured by their phases.

    With an errno ("EINVAL") its causes stand out.
    """

    def __init__(self, errno: str = "") -> None:
        self.errno = errno

    def __repr__(self) -> str:
        found = [refused(name) for name in CAUSES]
        return "\n".join(f"{one.names[0]}: {one.outcome.result}, {len(one.way)} steps" for one in found)

    def _repr_html_(self) -> str:
        return str(shown(bars(self.errno), f"The steps of each BIND up to its refusal. {self!r}").data)


class Taken:
    """What the calls of all causes had taken when they were refused, as a table: causes that had taken the same have one row."""

    def __init__(self) -> None:
        told = [(name, tuple(dict.fromkeys(map(_kind, refused(name).held)))) for name in CAUSES]
        self.rows = [([name for name, _ in some], kinds) for kinds, some in groupby(told, key=lambda one: one[1])]

    def _cells(self) -> list[tuple[str, str, str]]:
        return [
            (
                ", ".join(names),
                ", ".join(dict.fromkeys(refused(name).outcome.result for name in names)),
                ", ".join(kinds) or "nothing",
            )
            for names, kinds in self.rows
        ]

    def __repr__(self) -> str:
        return "\n".join(": ".join(row) for row in self._cells())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("causes", "errno", "taken by then"))
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self._cells())
        return f"<table><tr>{head}</tr>{rows}</table>"


def bars(errno: str) -> Figure:
    """The plot."""
    from matplotlib.figure import Figure  # only this plot needs it
    from matplotlib.patches import Patch

    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplots()
    for row, (name, cause) in enumerate(CAUSES.items()):
        found = refused(name)
        result = found.outcome.result
        seen = 1 if errno in ("", result) else 0.2
        colours = [palette()[f"phase-{step.phase}"] for step in found.way]
        axes.barh([row] * len(colours), 0.94, left=range(len(colours)), color=colours, ec="black", lw=0.5, alpha=seen)
        axes.text(len(found.way) + 0.2, row, f"{result}  {cause.says}", va="center", fontsize=9, alpha=max(seen, 0.65))
    met = {step.phase for name in CAUSES for step in refused(name).way}
    phases = {phase: palette()[f"phase-{phase}"] for phase in PHASES if phase in met}
    axes.set(xlim=(0, 29), ylim=(len(CAUSES) - 0.4, -0.6), xticks=range(0, 17, 2), xlabel="steps up to the refusal")
    axes.set_yticks(range(len(CAUSES)), list(CAUSES))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=[Patch(fc=colour, ec="black", lw=0.5, label=phase) for phase, colour in phases.items()],
        loc="upper right",
        title="phase",
        frameon=False,
    )
    return figure
