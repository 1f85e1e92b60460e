"""To design a level: whether its goal can be reached, and with how many calls at least, says a search."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from ..lab.goal import fact
from ..lab.record import progress
from ..lab.static_fallback import StaticFallback, note
from ..lab.style import style, text, words
from .fewest import Found
from .levels import Level
from .moves import move, split

NAME, ENOUGH = "13 design", 4  # as what it is kept, and with how many calls it counts
LIMITS = {"most": 10, "situations": 400}  # some ten seconds


class Design(StaticFallback):
    """What a search says of a level, and the level to play where there is a way; or what is wrong with its words."""

    looks = "lab ask"

    def __init__(self, level: Level) -> None:
        told, way = _judged(level)
        self.verdict = text("verdict", told)
        self.exercise = level.exercise(way) if way else None
        super().__init__([style(), self.verdict, *([self.exercise] if self.exercise else [])])
        if len(way) >= ENOUGH:  # a shorter one is no wrong answer: it is on its way
            progress.record(NAME, True)

    @property
    def message(self) -> str:
        """What was found, in words."""
        return words(self.verdict.value)

    def static_html(self) -> str:
        """The same, and the level as it is played without a kernel."""
        return note(self.verdict.value) + (self.exercise.static_html() if self.exercise else "")

    def in_words(self) -> str:
        """The same as text."""
        return "\n".join([self.message, *([self.exercise.in_words()] if self.exercise else [])])


def _judged(level: Level) -> tuple[str, tuple[str, ...]]:
    """What is to be said of a level, and the shortest way."""
    wrong, met = [*_mistakes(level)], set[str]()
    try:
        found = None if wrong else level.search(met, **LIMITS)
    except ValueError as problem:  # such a start cannot be, or a thing has no such field
        found, wrong = None, [str(problem)]
    if found is None:
        return f"{_none('It cannot be searched:')}{_listed(wrong)}", ()
    return _verdict(found, [one.said for one in level.facts.facts if one.said not in met]), found.way or ()


def _mistakes(level: Level) -> Iterator[str]:
    """Each of its words that is no move or no fact, and each part that is missing."""
    parts = {"start": (level.start, move), "goal": (level.goal, fact), "moves": (level.moves, move)}
    for name, (given, read) in parts.items():
        if name != "start" and not split(given):
            yield f"{name} is empty: words with commas between them"
        for one in split(given):
            try:
                read(one)
            except ValueError as problem:
                yield f"{name}: {problem}"


def _listed(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line, quote=False)}</li>' for line in lines)}</ul>"


def _verdict(found: Found, never: list[str]) -> str:
    many = f"{found.situations} situations"
    if found.way:
        few = len(found.way)
        enough = "✓ A level." if few >= ENOUGH else f"✓ A level, and a short one: can you make it {ENOUGH} calls long?"
        told = f"It takes {few} call{'s' * (few > 1)}, and no fewer: a search through {many} found no shorter way."
        return (
            f'<p class="good"><b>{enough}</b> {told}</p>'
            f"<details><summary>Show the way</summary>{escape(', '.join(found.way))}</details>"
        )
    if found.way is not None:
        return _none("The goal is true at the start: there is nothing to do.")
    if found.all_visited:
        told = f"It cannot be reached: these moves lead to {many}, and it is true in none of them."
    else:
        told = (
            f"A search through {many} found no way. There may be a longer one: give it a nearer start, or fewer moves. "
            "With an open, a dup or a create, which always make something new, it never comes to an end."
        )
    missing = (
        f"In none of them this was true:{_listed(never)}"
        if never
        else "Each fact was true somewhere; never all at once."
    )
    return f"{_none(told)}<div>{missing}</div>"


def _none(why: str) -> str:
    return f'<p class="refused"><b>✕ No level.</b> {why}</p>'


def design(start: str = "", goal: str = "", moves: str = "", text: str = "Your own level.", **more: Any) -> Design:
    """Whether a goal can be reached from a start with these moves, in how many calls at least, and the level to play.

    All in words with commas between them, as in `Level`. What is no move or no fact is told, all of it: nothing is raised.
    """
    return Design(Level("your own", text, start, goal, moves, **more))
