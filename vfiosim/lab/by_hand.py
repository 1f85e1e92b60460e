"""Be the scheduler: the calls of a puzzle stand before their first effect, and the reader moves them until something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

from ..engine import Micro
from ..explore import Witness
from ..explore.missing import Way
from ..explore.model import place
from ..explore.result import runs
from ..machine import Machine
from ..machine.events import Called, Moved
from ..naming import must_be_one_of
from ..puzzles import PUZZLES, Puzzle
from ..trace.words import describe
from .asking import Asking
from .record import progress
from .sandbox import Sandbox
from .sandbox.board import points_html
from .sandbox.schedule import done_by_hand, thread_of
from .style import button, row, style, text
from .verdict import Misled, misled, misled_by

MORE = "<p>After a <b>Hint</b>, Check also tells what is still missing on one way there.</p>"


def scheduler(
    puzzle: Puzzle,
    without: Sequence[str] = (),
    patches: Mapping[str, Callable[..., Any]] | None = None,
    **options: Any,
) -> Sandbox:
    """A sandbox in which the calls of a puzzle are moved by hand.

    `without` are protections to take out, `patches` kernel functions to replace; options are those of the player.
    """
    programs = puzzle.programs()
    placed = place(puzzle.setup(), programs)

    def start() -> Machine:
        machine = puzzle.setup()
        if without:
            machine.take_out(*without)
        if patches:
            machine.patch(**patches)
        for thread, calls in place(machine, programs).items():
            for call in calls[:1]:
                call.start(machine, thread)
        return machine

    later = {
        thread: [Called(call.process, call.name, call.arguments, thread=thread, by_hand=True) for call in calls[1:]]
        for thread, calls in placed.items()
    }
    return Sandbox(start=start, later=later, **{"views": ("graph",), **options})  # whose turn it is, its schedule tells


def missing_html(way: Way, sandbox: Sandbox) -> str:
    """What is still missing on a way into harm, after what was moved by hand."""
    run = sandbox.run
    going = {thread_of(run.machine.calls[number]) for number in run.running()} | {*run.to_come()}
    done = done_by_hand(run)
    if not way.orders:
        return "<p>No order of shared accesses tells it here; the machine says when it is reached.</p>"
    return points_html(way.points(done, {touch.thread for touch in way.touches} - going), way.between())


@dataclass(frozen=True)
class HandTask:
    """A state to reach by moving the calls of a puzzle: one in which the machine itself says that something is wrong.

    * `puzzle`: its name, see `vfiosim.puzzles.PUZZLES`; `without`: the protections that are taken out;
    * `stands`: how far each call is on the way to it, a sentence each, while nothing is wrong;
    * `asked`: the question that asks how many switches it takes at least: that is told once it was answered;
    * `hint`, `explained`, `distractors`, `view`, `name`: as in a `Task`; a distractor is asked about the machine.
    """

    text: str
    puzzle: str
    without: tuple[str, ...]
    stands: Callable[[Machine], Sequence[str]]
    hint: str | Sequence[str]
    explained: str
    distractors: Misled[Machine] = field(default_factory=dict)
    view: Collection[str] = ()
    name: str = ""
    asked: str = ""


class ByHand(Asking):
    """The scheduler's rows of a sandbox, and buttons to check, to get hints, and to see the solution.

    Raises ValueError for a puzzle that there is not, and for one in which nothing goes wrong without these protections.
    """

    looks = "lab ask sandbox"
    is_task = True

    def __init__(self, task: HandTask) -> None:
        super().__init__("Your task.", task.text, task.hint, self._solution, name=task.name)
        self.task = task
        must_be_one_of(PUZZLES, task.puzzle, "puzzle")
        puzzle = PUZZLES[task.puzzle]
        self._shortest = _shortest(puzzle, task.without)
        self._way = Way(self._shortest)
        options: dict[str, Any] = {"only": task.view} if task.view else {}
        self.sandbox = scheduler(puzzle, task.without, **options)
        self.check = button("Check", "does the machine say that something is wrong?", primary=True)
        self.moves = text("moves")
        self.check.on_click(lambda _: self._check())
        self.sandbox.listeners.append(lambda _: self._moved_on())
        made = self.sandbox
        self.again = made.reset
        self.again.on_click(lambda _: self.help.clear())
        buttons = row("", made.undo, made.redo, self.check, *self.help.buttons, self.again, self.moves)
        shown = [made.schedule, made.next_calls, made.result, self.verdict, made.trace_pane, self.because]
        self.children = [style(), self.asked, buttons, self.help.slot, *shown]
        self._moved_on()

    @property
    def wrong(self) -> list[str]:
        """What the machine says that is wrong, in words."""
        return self.sandbox.run.machine.check()

    @property
    def solved(self) -> bool:
        """Does it stand where the task wants it?"""
        return any(PUZZLES[self.task.puzzle].happens in line for line in self.wrong)

    @property
    def switches(self) -> int:
        """How often the reader went over to another thread."""
        moved = [done.event.call for done in self.sandbox.run.done if isinstance(done.event, Moved)]
        threads = [self._thread(number) for number in moved]
        return sum(one != other for one, other in pairwise(threads))

    def _below(self) -> str:
        pane = self.sandbox.trace_pane
        return f"{pane.static_html() if len(pane.trace) else ''}{self.because.value}"

    def _thread(self, number: int) -> str:
        return thread_of(self.sandbox.run.machine.calls[number])

    def _check(self) -> None:
        if not any(isinstance(done.event, Moved) for done in self.sandbox.run.done):
            self.verdict.value = '<p role="alert"><b>No call has begun. Let one of them go on first.</b></p>'
            return
        self.sandbox.trace_pane.to_end()
        self.sandbox.trace_pane.reveal()
        if self._under_way():
            self.verdict.value = self._so_far("<p><b>Not there yet.</b> Nothing is wrong so far: let a call go on.</p>")
            return
        self.help.tried()
        progress.record(self.task.name, self.solved)
        if not self.solved:
            said = "Nothing is wrong so far." if not self.wrong else "It is wrong in another way."
            self.verdict.value = self._so_far(f'<p class="refused"><b>✕ Not yet.</b> {said}</p>')
            return
        made, fewest = self.switches, self._shortest.switches
        enough = "fewer is not enough" if made <= fewest else f"{fewest} are enough"
        told = not self.task.asked or self.task.asked in progress.answers
        golf = f"You switched {made} times{f'; {enough}' if told else ''}."
        said = "".join(f"<li>{escape(line, quote=False)}</li>" for line in self.wrong)
        head = f'<p class="good"><b>✓ You have broken it.</b> {golf} The machine says:</p>'
        self.because.value = f"<p><b>Why it works.</b> {self.task.explained}</p>"
        self.verdict.value = f'<div role="status">{head}<ul>{said}</ul>{self.help.solved()}</div>'

    def _under_way(self) -> bool:
        """Is a call still to go on, and nothing done that misses it? Who looks then has not failed."""
        machine = self.sandbox.run.machine
        missed = self.wrong or any(fits(machine) for fits in self.task.distractors)
        return bool(self.sandbox.run.running()) and not missed

    def _so_far(self, head: str) -> str:
        machine = self.sandbox.run.machine
        ended = [call for call in machine.calls if call.thread.manual and call.thread.ended]
        lines = [*self.task.stands(machine), *(f"{thread_of(call)} {_ended(call)}." for call in ended)]
        items = "".join(f"<li>{escape(line, quote=False)}</li>" for line in lines)
        why = misled(misled_by(self.task.distractors, machine))
        missing = missing_html(self._way, self.sandbox) if self.help.asked else MORE
        return f'<div role="status">{head}<ul>{items}</ul>{why}{missing}</div>'

    def _moved_on(self) -> None:
        self.verdict.value = self.because.value = ""
        made = self.switches
        self.moves.value = f"You have switched {'once' if made == 1 else f'{made} times'}."

    def _solution(self) -> str:
        found = self._shortest
        micros = [Micro(*entry) for entry in found.machine.engine.micro]
        micros = micros[len(micros) - len(found) :]
        items, at = "", 0
        for thread, effects in runs(found.schedule):
            at += effects
            last = micros[at - 1]
            items += f"<li><b>{escape(thread)}</b> goes on, until: <code>{escape(describe(last.request, last.answer))}</code></li>"
        return f"<p><b>Solution.</b></p><ol>{items}</ol><p>{self.task.explained}</p>"


def _shortest(puzzle: Puzzle, without: Sequence[str]) -> Witness:
    found = puzzle.explore(without).counterexample
    if found is None:
        raise ValueError(f"in {puzzle.name} nothing goes wrong without {', '.join(without) or 'anything taken out'}")
    return found


def _ended(call: Any) -> str:
    if call.error:
        return f"is refused: {call.error.name}" if hasattr(call.error, "name") else "ends in an oops"
    return f"gets {'descriptor ' if call.name == 'open' else ''}{call.result}"
