"""Help that is asked for: hints, each deeper than the one before, and a solution that says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeAlias

from . import controls as widgets
from .presenter import presenter
from .style import button, text

Hints: TypeAlias = str | Sequence[str] | Callable[[], Sequence[str]]


class Help:
    """A place for hints and for the solution. `hint` goes one deeper with each press, down to the last.

    Hints that are a function are asked for anew when something has been done: `moved_on`. So is `standing`, which stands below
    the hints that were asked for: how things are on the bench, as HTML.

    The solution is locked until an answer was tried (`tried`), or presenter mode is on.
    """

    def __init__(
        self, hints: Hints, solution: Callable[[], str] | None = None, standing: Callable[[], str] | None = None
    ) -> None:
        self._given = hints
        self._solution = solution
        self._standing = standing
        self.depth = 0
        self.asked = self.opened = False  # was a hint asked for, was the solution looked at, since it was cleared
        self._tried = self._unfolded = False
        self.slot = text("help")
        if solution:
            presenter.observe(lambda _: self._lock(), "on")
            self._lock()

    @property
    def _hints(self) -> list[str]:
        """Those that fit how things stand now."""
        given = self._given() if callable(self._given) else self._given
        return [given] if isinstance(given, str) else list(given)

    @cached_property
    def hint(self) -> widgets.Button:
        """Made when it is wanted: a widget that no output shows would never be closed."""
        made = button("Hint", "a direction; press again for more")
        made.on_click(lambda _: self._deeper())
        return made

    @cached_property
    def solution(self) -> widgets.Button:
        """The same for the way and its reason."""
        made = button("Solution", "the way, and why it works; after your first try")
        made.on_click(lambda _: self._solve())
        return made

    @property
    def buttons(self) -> list[widgets.Button]:
        """Those that have something to say."""
        hint = [self.hint] if any(self._hints) else []
        return [*hint, self.solution] if self._solution else hint

    def tried(self) -> None:
        """An answer was given: the solution may be seen."""
        self._tried = True
        if self._solution:
            self._lock()

    def _lock(self) -> None:
        self.solution.disabled = not (self._tried or presenter.on)

    def static_html(self) -> str:
        """The hints to unfold, where there are no buttons."""
        return "".join(f"<details><summary>Hint</summary>{hint}</details>" for hint in self._hints)

    @property
    def told(self) -> bool:
        """Does the solution stand there, with its reason?"""
        return self._unfolded

    def solved(self) -> str:
        """Hints have no more to say. What is to be said to who had the solution before his eyes, as HTML; "" to all others."""
        if self.depth:
            self._fold()
        return (
            "<p>You had opened the solution, so this does not count yet. Press <b>Reset</b> and do it once more without.</p>"
            if self.opened
            else ""
        )

    def moved_on(self) -> None:
        """Something was done: other hints may fit now, as many as were asked for."""
        if self.depth and (callable(self._given) or self._standing):
            self._show()

    def clear(self) -> None:
        """No hint was asked for."""
        self.asked = self.opened = False
        self._fold()

    def _fold(self) -> None:
        self.depth = 0
        self._unfolded = False
        self.slot.value = ""
        if any(self._hints):
            self.hint.description, self.hint.disabled = "Hint", False

    def _told(self, *more: str) -> str:
        """The hints that were asked for, and what comes after them."""
        many = len(self._hints) > 1
        lines = [
            f"<p><b>Hint{f' {n} of {len(self._hints)}' if many else ''}.</b> {hint}</p>"
            for n, hint in enumerate(self._hints[: self.depth], 1)
        ]
        if self._standing and lines:
            lines.append(self._standing())
        return f'<div role="status">{"".join([*lines, *more])}</div>' if lines or more else ""

    def _deeper(self) -> None:
        self.asked = True
        self.depth = min(self.depth + 1, len(self._hints))
        self.hint.disabled = self.depth == len(self._hints)
        self.hint.description = "No more hints" if self.hint.disabled else "Deeper hint"
        self._show()

    def _solve(self) -> None:
        self.opened = True
        self._unfolded = not self._unfolded
        self._show()

    def _show(self) -> None:
        solution = [self._solution()] if self._solution and self._unfolded else []
        self.slot.value = self._told(*solution)
