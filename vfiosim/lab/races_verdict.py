"""What the race lab says once every schedule was tried: the prediction beside it, what misled, and what the race is about."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ..explore import Result
from ..explore.result import counted
from ..puzzles import Puzzle
from .question import Distractor, Misconception
from .verdict import misled

SAFE, BROKEN = "safe", "broken"
CHOICES = [("no: whatever the order, all is well", SAFE), ("yes: in some order something goes wrong", BROKEN)]


def scene(puzzle: Puzzle) -> tuple[str, str]:
    """The story of a puzzle in two parts: who does what, and the rest, which tells what can go wrong."""
    first, _, rest = puzzle.story.partition(". ")
    return f"{first.rstrip('.')}.", rest


def judged(result: Result, predicted: str | None, puzzle: Puzzle, beliefs: Mapping[str, Misconception]) -> str:
    """The verdict as HTML. `beliefs`: what somebody believes who predicts "safe" or "broken" and is wrong, where it has a name."""
    said = {
        SAFE: "<b>Safe</b>: nothing goes wrong in any schedule.",
        BROKEN: f"<b>Broken</b>: {counted(len(result.violations), 'thing goes', 'things go')} wrong.",
    }.get(result.verdict, "<b>Not finished</b>: nothing went wrong in what was tried, but that proves nothing.")
    if not result.complete and result.verdict == BROKEN:
        said += f" The exploration was not finished: {escape(result.limit)}. There may be more."
    said += f" ({result.schedules:,} schedules, {result.transitions:,} effects, {result.seconds:.2f} s)"
    if result.not_looked_at:
        said += f" Not looked at: {escape(result.not_looked_at.partition(' (')[0])}."
    lines = f'<p class="{"good" if result.verdict == SAFE else "refused"}">{said}</p>'
    if predicted and result.verdict in (SAFE, BROKEN):
        named = {value: label for label, value in CHOICES}[predicted]
        right = predicted == result.verdict
        sign, sort = ("✓", "good") if right else ("✕", "refused")
        lines = f'<p class="{sort}">{sign} You predicted <b>{escape(named)}</b>.</p>' + lines
        lines += "" if right else misled(Distractor(_mistaken(result), beliefs.get(predicted)))
    if result.verdict == BROKEN:
        lines += (
            f"<p>{escape(scene(puzzle)[1], quote=False)}</p>"
            f'<p class="vfiosim-where">Where the kernel prevents it: {escape(puzzle.source, quote=False)}</p>'
        )
    return f'<div role="status">{lines}</div>'


def _mistaken(result: Result) -> str:
    """Why a wrong prediction is wrong, and which picture refutes it."""
    if result.verdict == BROKEN:
        return "You expected every order to end well. The steps below are one that does not; the picture stands where harm is done."
    ways = counted(len(result.outcomes), "way", "ways")
    return (
        f"You expected that two calls at once must do harm in some order. Every order was tried: there are {ways} to end, and "
        "none of them breaks a rule. The steps below are the order with the most switches. The picture stands where a call "
        "first has to wait, or is refused: so it does no harm."
    )
