"""A task on a bench: the state of the simulator decides whether it is solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from .bench import Bench
from .session import Session
from .still import Still, note
from .style import button, row, style, text, words


@dataclass(frozen=True)
class Task:
    """Something to reach.

    * `start` prepares the machine; `missing` tells in words what is still to be done, nothing when it is solved;
    * `solve` does it on a machine that `start` has prepared, and `explained` says why that works (HTML);
    * `hint` gives the direction, not the way.
    """

    text: str
    start: Callable[[Session], object]
    missing: Callable[[Session], list[str]]
    hint: str
    solve: Callable[[Session], object]
    explained: str


class Exercise(Still):
    """A bench, and buttons to check, to get a hint, and to see the solution. `bench` makes the bench for a session."""

    def __init__(self, task: Task, bench: Callable[[Session], Bench]) -> None:
        self.task = task
        self.bench = bench(Session(start=task.start))
        self.check = button("Check", "is the task solved?", primary=True)
        self.hint = button("Hint", "a direction")
        self.solution = button("Solution", "the way, and why it works")
        self.verdict = text("vfiosim-verdict")
        self.help = text("vfiosim-verdict")
        self.check.on_click(lambda _: self._check())
        self.hint.on_click(lambda _: self._help(f"<p><b>Hint.</b> {task.hint}</p>"))
        self.solution.on_click(lambda _: self._help(self._solution()))
        self.bench.listeners.append(lambda _: self._moved_on())
        super().__init__(
            [
                style(),
                text("vfiosim-question", f"<p><b>Your task.</b> {task.text}</p>"),
                row("", self.check, self.hint, self.solution),
                self.verdict,
                self.help,
                self.bench,
            ]
        )
        self.add_class("vfiosim-lab")

    @property
    def solved(self) -> bool:
        """Does the machine stand where the task wants it?"""
        return not self.task.missing(self.bench.session)

    @property
    def message(self) -> str:
        """The verdict and the help, in words."""
        return words(self.verdict.value + self.help.value)

    def still(self) -> str:
        """The task, a hint to unfold, and how things stand."""
        hint = f"<details><summary>Hint</summary>{self.task.hint}</details>"
        return f"{note(f'<b>Your task.</b> {self.task.text}')}{note(hint)}{self.verdict.value}{self.bench.still()}"

    def in_words(self) -> str:
        """The task, and how things stand."""
        return words(f"Your task. {self.task.text}") + "\n" + self.bench.in_words()

    def _check(self) -> None:
        missing = self.task.missing(self.bench.session)
        if missing:
            items = "".join(f"<li>{escape(line)}</li>" for line in missing)
            self.verdict.value = f'<div role="status"><p class="refused"><b>✕ Not yet.</b></p><ul>{items}</ul></div>'
            return
        done = self.bench.session.calls_made
        few = len(self._solved().actions) - self._given()
        golf = f"You needed {done} calls." if done > few else f"You needed {done} calls; it takes no fewer."
        more = f" It can be done with {few}." if done > few else ""
        self.verdict.value = f'<p role="status" class="good"><b>✓ Solved.</b> {golf}{more}</p>'

    def _moved_on(self) -> None:
        self.verdict.value = ""

    def _help(self, words: str) -> None:
        self.help.value = "" if self.help.value == words else words

    def _solved(self) -> Session:
        session = Session(start=self.task.start)
        self.task.solve(session)
        return session

    def _given(self) -> int:
        return len(Session(start=self.task.start).actions)

    def _solution(self) -> str:
        calls = [action.outcome for action in self._solved().actions[self._given() :]]
        items = "".join(f"<li><code>{escape(outcome.call)}</code> → {outcome.result}</li>" for outcome in calls)
        return f"<p><b>Solution.</b></p><ol>{items}</ol><p>{self.task.explained}</p>"
