"""You are the scheduler: a row for each running call, with what it does next or waits for, and buttons that move it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from ...machine.events import Moved
from .. import controls as widgets
from ..press import Guard
from ..style import button, row, text
from .acquired import about_to, next_line
from .run import Run

HOW = {
    "1 effect": ("effect", "one indivisible step, then the others may go on"),
    "1 step": ("step", "up to the next sentence"),
    "to the end": ("end", "until it ends, or must wait"),
}


class Row:
    """One running call. Its widgets stay the same while it runs, so that a button keeps the keyboard's focus."""

    def __init__(self, number: int, guard: Guard, move: Callable[[Moved], None]) -> None:
        self.number = number
        self.name = text("vfiosim-lane")
        self.next = text("vfiosim-next")
        self.buttons = {name: button(name, tip, guard=guard) for name, (_, tip) in HOW.items()}
        for name, (how, _) in HOW.items():
            made = self.buttons[name]
            made.quick = True
            made.on_click(lambda _, how=how: move(Moved(number, how)))
        self.box = row("", self.name, *self.buttons.values(), self.next)

    def look_again(self, run: Run) -> None:
        """Say what it does next; the buttons of a call that waits can do nothing."""
        call = run.machine.calls[self.number]
        self.name.value = f"<b>{escape(call.thread.label[:60])}</b> <code>{escape(call.shown[:120])}</code>"
        if call.state == "blocked":
            said = f'<span class="wrong">‖ {escape(call.waits_for)}</span>'
        else:
            where, line = next_line(call.thread)
            said = f"next: <b>{escape(about_to(run.machine.engine, call.thread))}</b>"
            said += f' <span class="vfiosim-where">{escape(where)} <code>{escape(line[:90])}</code></span>'
        self.next.value = said
        for name, made in self.buttons.items():
            made.tooltip = f"{call.thread.label}: {name}, {HOW[name][1]}"


class Schedule(widgets.VBox):
    """All running calls of a machine."""

    def __init__(self, guard: Guard, move: Callable[[Moved], None]) -> None:
        self.rows: dict[int, Row] = {}
        self._guard, self._move = guard, move
        self.ended = text("vfiosim-ended")
        self._title = text("vfiosim-title", "You are the scheduler")
        super().__init__([])
        self.add_class("vfiosim-schedule")

    def look_again(self, run: Run) -> None:
        """The machine has moved."""
        running = run.running()
        self.rows = {number: self.rows.get(number) or Row(number, self._guard, self._move) for number in running}
        for each in self.rows.values():
            each.look_again(run)
        self.ended.value = "".join(f"<div>{line}</div>" for line in _ended(run)) if running or _racing(run) else ""
        shown = [self._title, *(each.box for each in self.rows.values()), self.ended]
        children = shown if self.rows or self.ended.value else []
        if [*self.children] != children:  # type: ignore[has-type]
            self.children = children


def _racing(run: Run) -> bool:
    return bool(run.done) and isinstance(run.done[-1].action, Moved)


def _ended(run: Run) -> list[str]:
    """The calls that were moved by hand and have ended, with their results."""
    lines = {}
    for done in run.done:
        if done.call >= 0 and (isinstance(done.action, Moved) or getattr(done.action, "by_hand", False)):
            call = run.machine.calls[done.call]
            if call.thread.ended:
                sign = "✕" if done.told.refused else "✓"
                lines[done.call] = f"{sign} {escape(done.told.call[:160])} → <b>{escape(done.told.result)}</b>"
    return list(lines.values())
