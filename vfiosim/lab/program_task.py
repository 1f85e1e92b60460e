"""A task for a program of one's own: what came of the last run of its own cell decides whether it is solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from ..run.filter import CannotRun, abi
from . import programs
from .asking import Asking
from .question import Distractor
from .record import progress
from .style import button, row, style
from .verdict import announced, misled

Edits = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ProgramTask:
    """Something that a program is to do.

    * `missing` says what a run lacks, in HTML, or what misled; "" where it lacks nothing;
    * `edits` solve it: lines of the program that is given, and what takes their place; `explained` says why that works (HTML);
    * `hints`: each deeper than the one before; `name`: under which the answer is kept in `progress`;
    * `cell`: the cell of the task says `--task` and this, so that no other run is taken for an answer.
    """

    text: str
    missing: Callable[[programs.Ran], str | Distractor]
    hints: tuple[str, ...]
    edits: Edits
    explained: str
    name: str
    cell: str


class ProgramExercise(Asking):
    """A button to check the last run of its cell, hints, and the solution. The program is in a cell of its own below."""

    is_task = True

    def __init__(self, task: ProgramTask) -> None:
        super().__init__("Your task.", task.text, task.hints, self._solution, name=task.name)
        self.task = task
        self.check = button("Check", "does the last run of the cell below do it?", primary=True)
        self.check.on_click(lambda _: self._check())
        self.children = [style(), self.asked, row("", self.check, *self.help.buttons), self.verdict, self.help.slot]

    def _check(self) -> None:
        ran = programs.ended.get(self.task.cell)
        if ran is None:
            self.verdict.value = announced([f"<p><b>{escape(_why_nothing(self.task.cell))}</b></p>"])
            return
        self.help.tried()
        missing = self.task.missing(ran)
        progress.record(self.task.name, not missing)
        if missing:
            self.verdict.value = announced(['<p class="refused"><b>✕ Not yet.</b></p>', misled(missing)])
        else:
            good = f'<p class="good"><b>✓ Solved.</b></p><p><b>Why it works.</b> {self.task.explained}</p>{self.help.solved()}'
            self.verdict.value = announced([good])

    def _solution(self) -> str:
        lines = "".join(
            f"<li><code>{escape(old.strip())}</code> becomes <pre>{escape(new.strip())}</pre></li>"
            for old, new in self.task.edits
        )
        return f"<p><b>Solution.</b></p><ul>{lines}</ul><p>{self.task.explained}</p>"


def _why_nothing(cell: str) -> str:
    """Why there is no run to look at, in one sentence."""
    try:
        abi()
    except CannotRun as error:
        return str(error)
    return (
        "Run the program in the cell below first, and mend what the compiler complains of: Check looks at the last run of the cell "
        f"whose first line says --task {cell}."
    )
