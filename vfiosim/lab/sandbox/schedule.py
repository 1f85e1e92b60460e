"""You are the scheduler: a panel for each running call with its code and buttons that move it, and between them what they share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from html import escape

from ...explore.touches import Touch, Variable, contradicting, name_of, touches, variables
from ...machine import Call, Machine
from ...machine.events import Called, Mapped, Moved
from ...machine.system_calls import fresh
from ...puzzles.words import call_words
from .. import controls as widgets
from ..listeners import listeners
from ..press import ClickFilter
from ..rehearsal import Rehearsal
from ..run import Run
from ..style import button, row, text
from .board import code_html, ended_html, next_html, shared_html
from .keys import key_of, said, with_key
from .standing import standing

HOW = {
    "1 effect": ("effect", "one indivisible step, then the others may go on"),
    "1 step": ("step", "up to the next sentence"),
    "to shared": ("touch", "until it is about to touch something shared, ends, or must wait"),
    "to the end": ("end", "until it ends, or must wait"),
}
KEYS = {"effect": "", "touch": "shift ", "end": "alt "}  # what is held down beside the thread's own key


class ThreadPanel:
    """One running call. Its widgets stay the same while it runs, so that a button keeps the keyboard's focus."""

    def __init__(self, number: int, thread: str, key: str, clicks: ClickFilter, move: Callable[[str], None]) -> None:
        self.number, self.thread = number, thread
        self.name, self.next, self.code = text("lane"), text("next"), text("listing")
        self.buttons = {name: button(name, tip, clicks=clicks) for name, (_, tip) in HOW.items()}
        for name, (how, tip) in HOW.items():
            made = self.buttons[name]
            made.quick = True
            made.on_click(lambda _, how=how: move(how))
            made.tooltip = f"{thread}: {name}, {tip}"
            if how in KEYS and key:
                with_key(made, KEYS[how].strip() + key)
                made.tooltip += f" (key {KEYS[how]}{key})"
        self.box = row("", self.name, *self.buttons.values(), self.next, self.code)
        self.box.add_class("vfiosim-thread")

    def refresh(self, run: Run, rehearsal: Rehearsal) -> None:
        """Show its code, and say what it does next."""
        call = run.machine.calls[self.number]
        where = standing(call, rehearsal)
        self.name.value = (
            f"<b>{escape(self.thread[:60])}</b> <code>{escape(_written(run.machine, self.number)[:120])}</code>"
        )
        self.next.value, self.code.value = next_html(where), code_html(where)


class Schedule(widgets.VBox):
    """All running calls of a machine, and what they share."""

    def __init__(self, clicks: ClickFilter, move: Callable[[Moved], None]) -> None:
        self.rows: dict[int, ThreadPanel] = {}
        self._clicks, self._move = clicks, move
        self._gone: dict[
            str, widgets.HTML
        ] = {}  # by thread, what stands in the place of its panel while it is in no call
        self._cells: tuple[str, ...] = ()
        self.shared = text("shared")
        self.board, self._shown = widgets.Box([], kind="board"), [*listeners("scheduler.js")]
        super().__init__([], kind="schedule")

    @property
    def ended(self) -> str:
        """The threads that are in no call, and how their calls have ended, as HTML."""
        running = {each.thread for each in self.rows.values()}
        return "".join(str(said.value) for thread, said in self._gone.items() if thread not in running)

    def refresh(self, run: Run) -> None:
        """The machine has moved."""
        running = run.running()
        if not running and not _racing(run):
            self.rows, self._gone = {}, {}
            self.children: list[widgets.Widget] = []
            return
        rehearsal = run.rehearsal()
        self._cells = tuple(map(name_of, rehearsal.places))
        self.rows = {number: self.rows.get(number) or self._row(run, number) for number in running}
        for each in self.rows.values():
            each.refresh(run, rehearsal)
        ended = _ended(run)
        here = {*ended, *(each.thread for each in self.rows.values())}
        threads = dict.fromkeys(thread for thread in map(thread_of, run.machine.calls) if thread in here)
        self._gone = {thread: self._gone.get(thread) or text("ended") for thread in threads}
        for thread, gone in self._gone.items():
            gone.value = ended_html(thread, ended.get(thread, ()))
        keys = escape(said(threads)) if self._shown else ""
        self.shared.value = f"{shared_html(_shared(run, rehearsal), [*threads])}<p>{keys}</p>"
        self._arrange({each.thread: each.box for each in self.rows.values()})

    def _row(self, run: Run, number: int) -> ThreadPanel:
        thread = thread_of(run.machine.calls[number])
        taken = [key_of(each.thread) for each in self.rows.values() if each.thread != thread]
        key = key_of(thread) if key_of(thread) not in taken else ""
        return ThreadPanel(number, thread, key, self._clicks, lambda how: self._resume(number, how))

    def _resume(self, number: int, how: str) -> None:
        self._move(Moved(number, how, cells=self._cells if how == "touch" else ()))

    def _arrange(self, panels: dict[str, widgets.Box]) -> None:
        """The first thread, what is shared, the others; who is in no call keeps its place."""
        first, *others = [panels.get(thread, gone) for thread, gone in self._gone.items()]
        board = [first, self.shared, *others]
        if [*self.board.children] != board:
            self.board.children = board
        if not self.children:
            self.children = [self.board, *self._shown]


def _shared(run: Run, rehearsal: Rehearsal) -> list[Variable]:
    machine = run.machine
    harmed = contradicting(machine.engine, rehearsal.places, machine.check())
    found = variables(machine.engine, rehearsal.places, done_by_hand(run), rehearsal.alone, harmed)
    return [replace(one, now="taken out", ahead={}) if _is_out(one, run.setup.without) else one for one in found]


def _is_out(one: Variable, without: Collection[str]) -> bool:
    """Is it a lock that is taken out? Where locks of several kinds have one name, its kind stands before it."""
    oid, cell = one.place
    return one.rank == 3 and not {cell, f"{oid.partition(' ')[0]}.{cell}"}.isdisjoint(without)


def done_by_hand(run: Run) -> list[Touch]:
    """What the threads of a race have touched since it began."""
    return touches(run.machine.engine, run.race_began())


def _racing(run: Run) -> bool:
    return bool(run.done) and isinstance(run.done[-1].event, Moved)


def _ended(run: Run) -> dict[str, list[str]]:
    """By thread, the calls that were moved by hand and have ended, with their results."""
    lines: dict[str, dict[int, str]] = {}
    for done in run.done:
        if done.call >= 0 and done.by_hand:
            call = run.machine.calls[done.call]
            if call.thread.ended:
                sign = "✕" if done.outcome.refused else "✓"
                said = f"{sign} {escape(_written(run.machine, done.call)[:160])} → <b>{escape(done.outcome.result)}</b>"
                lines.setdefault(thread_of(call), {})[done.call] = said
    return {thread: [*some.values()] for thread, some in lines.items()}


def _written(machine: Machine, number: int) -> str:
    """A call, an ioctl with the fields of its struct: two BINDs differ in the iommufd that they name, and in nothing else."""
    call = machine.calls[number]
    if call.name != "ioctl":
        return call.shown
    asked = [noted.event for noted in machine.history if "call" in noted.event.makes][number]
    assert isinstance(asked, Called)
    memory = {
        each.event.found: bytes(each.event.data)
        for each in machine.history
        if isinstance(each.event, Mapped) and each.event.process == asked.process
    }
    fd, request, *rest = asked.arguments
    return call_words(
        "ioctl", [*fresh(machine.variant, "ioctl", (fd, request, *(memory.get(one, one) for one in rest)))]
    )


def thread_of(call: Call) -> str:
    """The name of the thread that makes a call."""
    return call.thread.prefix or call.thread.label


def to_replay(run: Run) -> bool:
    """Do calls stand at their beginning that were moved by hand on the machine before?"""
    before = run.past[-1].done if run.past and run.past[-1].setup.without != run.setup.without else ()
    moved = [any(isinstance(each.event, Moved) for each in done) for done in (before, run.done)]
    return bool(run.running()) and moved == [True, False]


def replay(run: Run) -> list[str]:
    """Everything as on the machine before, with each move by hand; what cannot be is told."""
    run.reset()
    run.undone = []
    return run.again(run.past[-1].done[run.given :])
