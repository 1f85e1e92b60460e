"""A task on a bench: the state of the simulator decides whether it is solved."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape

from ..views import Player
from ..views.tight import still
from . import controls as widgets
from .asking import Asking
from .bench import Bench
from .goal import Goal
from .known_way import KnownWay
from .outcome import Done
from .record import progress
from .session import LessonCall, Session
from .static_fallback import note
from .style import button, row, style, text, words
from .verdict import Misled, announced, called, misled, misled_by


@dataclass(frozen=True)
class Task:
    """Something to reach.

    * `start` prepares the machine; `missing` tells in words what is still to be done, nothing when it is solved: a function,
      or a `Goal`, of which a picture is shown beside the bench;
    * `solve` does it on a machine that `start` has prepared, and `explained` says why that works (HTML); `asking` does it for who
      knows nothing beforehand and lets the answers of the kernel tell, where the task wants that;
    * `hint` gives the direction, not the way; several hints, each deeper than the one before; a function has those that fit how
      things stand. Below them stands how much is left of the way of `solve`, or which call has left it;
    * `distractors`: for a machine that went wrong in a way that many believe in, what misled;
    * `drawn`: has a goal a picture, of what its facts speak of; `name`: under which the answer is kept in `progress`.
    """

    text: str
    start: Callable[[Session], object]
    missing: Callable[[Session], list[str]]
    hint: str | Sequence[str] | Callable[[Session], Sequence[str]]
    solve: Callable[[Session], object]
    explained: str
    distractors: Misled[Session] = field(default_factory=dict)
    name: str = ""
    drawn: bool = True
    asking: Callable[[Session], object] | None = None

    def begun(self) -> Session:
        """A machine at the start of the task."""
        session = Session(start=self.start)
        session.wanted = self.missing.cells if isinstance(self.missing, Goal) else ()
        return session

    def solved(self, way: Callable[[Session], object] | None = None) -> Session:
        """Another one, on which the solution was done, or another way there."""
        session = self.begun()
        (way or self.solve)(session)
        return session


class Exercise(Asking):
    """A bench, and buttons to check, to get hints, and to see the solution. `bench` makes the bench for a session."""

    is_task = True
    bench: Bench

    def __init__(self, task: Task, bench: Callable[[Session], Bench]) -> None:
        hint = task.hint
        hints = (lambda: hint(self.bench.session)) if callable(hint) else hint
        super().__init__("Your task.", task.text, hints, self._solution, name=task.name, standing=self._stands)
        self.task = task
        self.bench = bench(task.begun())
        self.fewest = task.solved().calls_made  # the shortest way that is known
        self.asking = (
            task.solved(task.asking).calls_made if task.asking else 0
        )  # for who lets the kernel tell; 0: nobody has to
        self.check = button("Check", "is the task solved?", primary=True)
        self.again = self.bench.reset
        self.moves = text("moves")
        self.goal = self._goal()
        self.check.on_click(lambda _: self._check())
        self.again.on_click(lambda _: self.help.clear())
        self.bench.listeners.append(lambda _: self._moved_on())
        buttons = row("", self.check, *self.help.buttons, self.moves)
        beside = widgets.Box([self.bench, *([self.goal] if self.goal else [])], kind="task")
        self.bench.tell_at_picture(self.verdict, self.because)
        self.children = [style(), self.asked, buttons, self.help.slot, beside]
        self._moved_on()

    def _goal(self) -> widgets.VBox | None:
        """What counts when it is solved, as a list and as a picture."""
        if not (isinstance(self.task.missing, Goal) and self.task.drawn):
            return None
        return widgets.VBox([text("title", "The goal"), text("facts", self._picture())], kind="goal")

    def _picture(self) -> str:
        """The list of the facts, and a picture of what they speak of: no more, or it would give the solution away."""
        assert isinstance(self.task.missing, Goal)
        facts = "".join(f"<li>{escape(fact.said, quote=False)}</li>" for fact in self.task.missing.facts)
        told = f"Only this counts:<ul>{facts}</ul>"
        trace = self.task.solved().machine.trace
        drawn = still(Player(trace[len(trace) :], reserve=trace, only=self.task.missing.about), 0)
        return told + re.sub(r"(<title>\+\d+):[^<]*", r"\1", drawn)  # the holders outside of it are not named either

    @property
    def solved(self) -> bool:
        """Does the machine stand where the task wants it?"""
        return not self.task.missing(self.bench.session)

    def _below(self) -> str:
        drawn = self._picture().replace('style="', 'style="width: 100%; height: auto; ', 1) if self.goal else ""
        goal = note(f"<b>The goal.</b> {drawn}") if self.goal else ""
        return f"{goal}{self.bench.static_html()}{self.because.value}"

    def in_words(self) -> str:
        """The task, and how things stand."""
        goal = self.task.missing.facts if isinstance(self.task.missing, Goal) else ()
        facts = [f"  - {fact.said}" for fact in goal]
        return "\n".join([words(self.asked.value), *facts, self.bench.in_words()])

    def _check(self) -> None:
        missing = self.task.missing(self.bench.session)
        self.bench.trace_pane.reveal()
        self.because.value = ""
        if not self.bench.session.calls_made:
            # nothing of what is missing: beside the picture that can be the answer
            self.verdict.value = announced(["<p><b>Make a call first: press one of its buttons.</b></p>"])
            return
        self.help.tried()
        progress.record(self.task.name, not missing and not self.help.opened)
        if missing:
            why = misled_by(self.task.distractors, self.bench.session)
            self.verdict.value = _to_do(missing, self._met(), misled(why, False))
            self.because.value = f"<p>{called(why.misconception)}</p>" if why.misconception else ""
            return
        self.bench.show_result()
        golf = self._golf(self.bench.session.calls_made)
        self.because.value = "" if self.help.told else announced([f"<p><b>Why it works.</b> {self.task.explained}</p>"])
        self.verdict.value = announced([f'<p class="good"><b>✓ Solved.</b> {golf}</p>{self.help.solved()}'])

    def _met(self) -> list[str]:
        """The facts of the goal that are true: what is done next must leave them so."""
        if not isinstance(self.task.missing, Goal):
            return []
        state = self.bench.session.state
        return [fact.said for fact in self.task.missing.facts if not fact.instead(state)]

    def _golf(self, done: int) -> str:
        """How many calls it took, beside the fewest; who had to ask is compared with who had to, too."""
        few = self.fewest
        self.fewest = min(done, few)
        needed = f"You needed {_calls(done)}"
        if done <= few:
            return f"{needed}; it takes no fewer."
        if not self.asking:
            return f"{needed}. It can be done with {few}."
        return f"{needed}. Who lets every errno tell needs {self.asking}, who knows it all beforehand needs {few}."

    def _moved_on(self) -> None:
        self.verdict.value = self.because.value = ""
        self.help.moved_on()
        done = self.bench.session.calls_made
        made = "No call yet" if not done else _calls(done)
        known = (
            f"who first lets the kernel say what is wrong needs {_calls(self.asking)}"
            if self.asking
            else f"the shortest known way has {_calls(self.fewest)}"
        )
        self.moves.value = f"{made}; {known}."

    @cached_property
    def _standing(self) -> KnownWay:
        return KnownWay(self.task.start, self.task.solve, self.task.missing)

    def _stands(self) -> str:
        """What a hint says of the calls that were made."""
        return self._standing.html(self.bench.session)

    def _solution(self) -> str:
        session = self.task.solved()
        items = "".join(
            f"<li><code>{escape(_with_fields(done))}</code> → {done.outcome.result}</li>"
            for done in session.done[session.given :]
        )
        return f"<p><b>Solution.</b></p><ol>{items}</ol><p>{self.task.explained}</p>"


def _with_fields(done: Done) -> str:
    """A call with those fields of its struct that are not zero."""
    event, call = done.event, done.outcome.call
    if not isinstance(event, LessonCall) or event.argument is None:
        return call
    given = "".join(f", {name}={value}" for name, value in event.fields.items() if event.argument.get(name))
    return f"{call[:-1]}{given})"


def _to_do(missing: Sequence[str], met: Sequence[str], why: str) -> str:
    """What is missing, as a list of which the first line stands out, and what is as it is wanted."""
    first, *rest = [escape(line, quote=False) for line in missing]
    so = f'<span class="good">✓ Already right, keep it so: {escape("; ".join(met), quote=False)}.</span>'
    items = "".join(f"<li>{line}</li>" for line in [*rest, *([so] if met else [])])
    head = f'<p><span class="refused"><b>✕ Not yet.</b></span> <b>{first}</b></p>'
    return f'<div role="status">{head}{f"<ul>{items}</ul>" if items else ""}{why}</div>'


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number} calls"
