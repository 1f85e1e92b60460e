"""A machine and what was done to it, to press on: its descriptors, how the last press ended, its steps, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from ..invariants import cells_of
from ..trace import Trace
from . import controls as widgets
from .describe import outcome_html, say
from .fields import BadInput, LabelledField
from .nodes import always_shown
from .outcome import Outcome
from .press import ClickFilter
from .run import Run
from .static_fallback import StaticFallback
from .style import button, row, text, words
from .table import DescriptorTable
from .trace_pane import TracePane, refused_at

NOTICED = 0.3  # seconds; after a press that took longer, buttons are seen to wait: a quick one would end later if that were drawn
Press = Callable[[], Outcome | None]  # what a button stands for; the answer is how it ended, if it was a call


class RunView(StaticFallback):
    """What a lesson's bench and the sandbox have in common.

    `run` is the machine and what was done to it; `listeners` are called after every press, with the widget; `options` are those
    of the player. Who extends it shows its parts and calls `_ready`.
    """

    brief = False  # is little to be said about a call?
    begins = False  # does the picture of a call begin at its first step, for the reader to walk on from there?
    _watch: Collection[str] = ()  # names of cells that the reader is told to look at

    def __init__(self, run: Run, options: dict[str, Any]) -> None:
        self.run = run
        self.listeners: list[Callable[[Any], None]] = []
        self.clicks = ClickFilter(lambda: self._say("A click came while a run was under way; it was ignored.", "wrong"))
        self.buttons: dict[str, widgets.Button] = {}
        self.table = DescriptorTable(self._choose, lambda: self.trace_pane.bring_out(()))
        self.result = text("result")
        self._wrong_field: LabelledField | None = None  # for which the last press had to be refused
        self._always_shown = "keep" not in options
        seen = {"keep": always_shown(run.machine)}
        self.trace_pane = TracePane(run.steps, **{**seen, **options})
        self.opened_at = 0  # the step at which the picture stood after the last press
        self._told: Outcome | None = None  # what the line about the last press tells, if it was a call
        self._broken = run.machine.check()
        super().__init__([])

    def _ready(self) -> None:
        self._refresh({})
        self._say("Ready. The picture shows how things stand now.")

    def button(self, name: str, press: Press, tip: str, primary: bool = False) -> widgets.Button:
        """A button of this name; `press` is done at a press, and its outcome shown."""
        made = button(name, tip, primary, self.clicks)
        made.on_click(lambda _: self._press(press))
        self.buttons[name] = made
        return made

    def row(self, title: str, *parts: widgets.Widget | tuple[str, Press, str]) -> widgets.Box:
        """Controls side by side; a button is told as its name, what it does, and its tip."""
        return row(title, *(self.button(*part) if isinstance(part, tuple) else part for part in parts))

    def _choose(self, process: str, fd: int) -> None:
        """A descriptor is chosen for the next call."""
        self.trace_pane.bring_out(
            [self.run.machine.processes[process].task.files.oid, self.run.choose(process, fd).oid]
        )

    def _files(self) -> dict[int, Any]:
        """The files that the program has open which makes the calls."""
        return self.run.descriptors()

    def _press(self, what: Press) -> None:
        """Do what a button stands for, and show what came of it. Whatever goes wrong is said in words."""
        if self.clicks.took > NOTICED:
            self.add_class("vfiosim-busy")
        before = self._files()
        if self._wrong_field is not None and self._wrong_field.waits:  # what was missing is not asked for any more
            self._wrong_field.complain("")
        try:
            with self.result.hold_sync():  # what Undo says, too, comes after the picture
                outcome = what()
                self._after(before, outcome)
            if outcome is not None:  # last: who can read how the call ended can walk through it
                self._tell(outcome)
        except BadInput as problem:
            self._say(f"Nothing was called; {problem.told()}.", "wrong")
            self._wrong_field = problem.field
            if problem.field is not None:
                problem.field.mended = partial(self._ready_again, self.result.value)
        except ValueError as problem:
            self._say(f"Nothing was called: {problem}.", "wrong")
        finally:
            self.remove_class("vfiosim-busy")
            self.run.behind.follow()

    def _ready_again(self, said: str) -> None:
        """What stood in a field was changed: what was said about it, if it still stands there, is over."""
        if self.result.value == said:
            self._say("Nothing was called as yet.")

    def _after(self, before: dict[int, Any] | None, outcome: Outcome | None = None) -> None:
        """Something was done; `before` are the files that were open before it, None where everything is another one."""
        known, self._broken = () if self.run.moved else self._broken, self.run.machine.check()
        if self._always_shown:
            self.trace_pane.keep(always_shown(self.run.machine))
        trace = self._with_harm(self.run.steps, known)
        step = -1 if not self.run.calls_made or self.run.moved else self._where_it_matters(trace)
        self.trace_pane.bring_out(())
        self.trace_pane.show(trace, step, self.run.reserve())  # first of all: it is what the reader waits for
        self.opened_at = self.trace_pane.step
        self._refresh(before)
        for listener in self.listeners:
            listener(self)

    def _undo(self) -> None:
        """Take back what the last press did, were it a refused call."""
        last = self.run.done[-1].outcome if self.run.calls_made else None
        if not self.run.undo():
            self._say("There is nothing to take back.")
        elif last is None:
            self._say("Taken back: the machine is the one before.")
        else:
            self._say(f"Taken back: {last.call}{', which had been refused' if last.refused else ''}")

    def _where_it_matters(self, trace: Trace) -> int | None:
        """A refused call is shown where it was refused, any other where it changes something last, if not where it `begins`."""
        return refused_at(trace) or (min(1, len(trace)) if self.begins else None)

    def _with_harm(self, trace: Trace, known: Collection[str]) -> Trace:
        """These steps, and at their end one for each thing that is broken now and was not `known` before them: it is drawn."""
        machine = self.run.machine
        fresh = [what for what in self._broken if what not in known]
        return trace.ending_in(*fresh, cells=lambda what: cells_of(machine.engine, what, machine.expected))

    def _refresh(self, before: dict[int, Any] | None) -> None:
        """Bring everything in line with the machine."""
        raise NotImplementedError

    def show_result(self) -> None:
        """Show how things stand now, if the reader has not gone elsewhere since the last press, and it was not refused."""
        pane = self.trace_pane
        if pane.step == self.opened_at and not refused_at(pane.trace):
            pane.to_end()
            self.opened_at = pane.step
            if self._told is not None:
                self._tell(self._told)

    def _tell(self, outcome: Outcome) -> None:
        pane, self._told = self.trace_pane, outcome
        self.result.value = outcome_html(outcome, pane.trace, self.brief, pane.step, self._watch, self.begins)

    def _say(self, sentence: str, sort: str = "") -> None:
        self._told = None
        self.result.value = say(sentence, sort)

    @property
    def message(self) -> str:
        """The line about the last press, in words."""
        return words(self.result.value)

    def in_words(self) -> str:
        """The descriptor tables, the line about the last press, and its steps."""
        steps = self.trace_pane.in_words() if self.run.calls_made else ""
        return "\n".join([words(self.table.value), self.message, steps]).rstrip()
