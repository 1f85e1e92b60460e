"""Two runs that began alike, side by side."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from ..trace import Trace
from .player import Player

WIDTH = 76  # columns of text for each of the two runs


class Beside:
    """Two players next to each other, for a machine and its branch. Both begin at the last step that they share."""

    def __init__(self, left: Trace, right: Trace, **options: Any) -> None:
        self.shared = common_steps(left, right)
        self.left = Player(left, step=self.shared, **options)
        self.right = Player(right, step=self.shared, **options)

    def html(self) -> str:
        """Both players as one piece of HTML."""
        halves = "".join(
            f'<div style="flex:1 1 0;min-width:0">{player.html()}</div>' for player in (self.left, self.right)
        )
        return f'<div style="display:flex;gap:1em;align-items:flex-start">{halves}</div>'

    def __str__(self) -> str:
        rows = [f"The first {self.shared} steps are the same. Then:"]
        for a, b in zip_longest(self.left.trace.steps[self.shared :], self.right.trace.steps[self.shared :]):
            left, right = (str(step)[:WIDTH] if step is not None else "" for step in (a, b))
            rows.append(f"{left:{WIDTH}} | {right}".rstrip())
        return "\n".join(rows)

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self.html()}


def common_steps(left: Trace, right: Trace) -> int:
    """How many steps two traces have in common before the first one that differs."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if (a.sentence, a.thread, a.changes) != (b.sentence, b.thread, b.changes):
            break
        count += 1
    return count
