"""Two runs that began alike, side by side."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from ..trace import Trace
from .player import Player

WIDTH = 76  # columns of text for each of the two runs
NARROW = 560  # pixels; where two halves of this width do not fit, they stand one below the other


class Comparison:
    """Two players next to each other, for a machine and its branch. Both begin at the last step that they share.

    A half has too little room for three columns, so each has its facts below the picture.
    """

    def __init__(self, left: Trace, right: Trace, **options: Any) -> None:
        self.shared = common_steps(left, right)
        self.left = Player(left, step=self.shared, **options)
        self.right = Player(right, step=self.shared, **options)

    @property
    def equal(self) -> bool:
        """Are the two runs the same from beginning to end?"""
        return self.shared == len(self.left.trace) == len(self.right.trace)

    @property
    def summary(self) -> str:
        """What they share, in one line."""
        if self.equal:
            return f"The two runs are the same in all {self.shared} steps."
        return f"The same up to step {self.shared}; then they differ." if self.shared else "They differ from step 1 on."

    def html(self) -> str:
        """Both players as one piece of HTML."""
        halves = "".join(
            f'<div style="flex:1 1 {NARROW}px;min-width:0;max-width:100%">{player.html()}</div>'
            for player in (self.left, self.right)
        )
        said = f'<p class="vfiosim-compare" style="font:18px/1.4 system-ui,sans-serif;margin:6px 0">{self.summary}</p>'
        return f'{said}<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">{halves}</div>'

    def __str__(self) -> str:
        rows = [self.summary]
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
