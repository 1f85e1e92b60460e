"""A way into harm to look at: the picture of each step, a column for each thread in whole words, and what they share then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from html import escape
from typing import Any

from ..engine.operations import Place
from ..explore import Witness
from ..explore.result import counted
from ..explore.touches import contested, contradicting, short_names, touches, variables
from ..explore.turns import Turn, turns
from ..trace import Trace
from ..uapi import Errno
from ..views.alone import Anew
from . import controls as widgets
from .listeners import listeners
from .sandbox.board import shared_html
from .sandbox.keys import with_key
from .style import button, row, text
from .trace_pane import TracePane

MOST = 5  # touches of one turn that are told


class Counterexample(widgets.VBox):
    """Shows a schedule at its end, where the harm is, or at `step`; options are those of the player."""

    def __init__(self, witness: Witness, step: int = -1, **options: Any) -> None:
        self.witness = witness
        several = {"views": ("graph",)} if len({*witness.schedule}) > 1 else {}
        own = {"atlas": Anew(), **several}
        self.trace_pane = TracePane(witness.trace, step=self._at(step), **{**own, **options})
        self.trace_pane.on_step(self._tell)
        self.start = with_key(button("From the start", "before the first step (key Home)"), "home")
        self.harm = with_key(button("", "the step that does the harm, else the last (key End)"), "end")
        self.start.on_click(lambda _: self.trace_pane.go_to(0))
        self.harm.on_click(lambda _: self.trace_pane.go_to(self._at(-1) % (len(self.trace) + 1)))
        self._shared = lru_cache(_shared_after)
        self.switches = text("does")
        self.turns, self.shared = text("lanes"), text("shared")
        self._beside = widgets.Box([self.turns, self.shared], kind="board")
        super().__init__([], kind="way-in")
        self._tell()
        self.children = [
            row("", self.start, self.harm, self.switches),
            self.trace_pane,
            self._beside,
            *listeners("scheduler.js"),
        ]

    @property
    def trace(self) -> Trace:
        """The steps that are shown."""
        return self.trace_pane.trace

    def show(self, witness: Witness, step: int = -1) -> None:
        """Show this one instead."""
        self.witness = witness
        self._shared.cache_clear()
        self.trace_pane.show(witness.trace, self._at(step))
        self._tell()

    def _at(self, step: int) -> int:
        """Where the picture stands: for the end of a way into harm at the step that does it; a process may die after that."""
        wrong = (one.index + 1 for one in self.witness.trace if one.refused and one.refused not in Errno.__members__)
        return max(wrong, default=step) if step == -1 and self.witness.what else step

    def _tell(self) -> None:
        """The threads, with the turn that the picture is in."""
        made = turns(self.witness)
        threads = list(dict.fromkeys(turn.thread for turn in made))
        several = len(threads) > 1
        widgets.unfold(self._beside, several)
        self.harm.description = "Where it goes wrong" if self.witness.what else "To the end"
        switches = counted(self.witness.switches, "switch", "switches")
        self.switches.value = f"{switches} from one thread to another." if several else ""
        self.turns.value = turns_html(made, threads, self.witness.what, self.trace_pane.step) if several else ""
        self.shared.value = self._shared(self.witness, self._effects(), *threads) if several else ""

    def _effects(self) -> int:
        """How many effects of the threads are over at the step of the picture."""
        step = self.trace_pane.step
        return min(self.trace[step - 1].last + 1 - self.witness.before, len(self.witness)) if step else 0

    def static_html(self) -> str:
        """The picture and the threads, as a page without widgets shows them."""
        return f"{self.trace_pane.static_html()}{self.turns.value}{self.shared.value}"


def _shared_after(witness: Witness, effects: int, *threads: str) -> str:
    """What the threads share after so many effects, and what each has seen there."""
    whole, over = witness.machine.engine, effects == len(witness)
    places = contested(done := touches(whole, before := witness.before))
    engine = whole if over else replace(witness, schedule=witness.schedule[:effects]).machine.engine
    harmed = contradicting(engine, places, [witness.what] if over else [])
    return shared_html(
        variables(engine, places, [one for one in done if one.at < before + effects], {}, harmed), threads
    )


def turns_html(made: list[Turn], threads: list[str], what: str, step: int) -> str:
    """A table with a column for each thread and a row for each turn; the one of this step of the trace is marked."""
    heads = "".join(f'<th scope="col">{escape(thread)}</th>' for thread in threads)
    now = next((turn for turn in made if step <= turn.step), made[-1]) if step else None
    names = short_names(one.place for turn in made for one in turn.touches)
    rows = "".join(_row(turn, threads, names, turn is now) for turn in made)
    harm = f'<tr class="harm"><td colspan="{len(threads)}">✕ {escape(what, quote=False)}</td></tr>' if what else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}{harm}</tbody></table>"


def _row(turn: Turn, threads: list[str], names: Mapping[Place, str], now: bool) -> str:
    cells = "".join(_cell(turn, thread, names) for thread in threads)
    current = ' class="now" aria-current="step"' if now else ""
    return f"<tr{current}>{cells}</tr>"


def _cell(turn: Turn, thread: str, names: Mapping[Place, str]) -> str:
    """What a thread did in this turn; of another one only what it holds and waits for."""
    stands = "".join(f'<li class="stands">{escape(said)}</li>' for said in turn.stands.get(thread, ()))
    if thread != turn.thread:
        return f"<td><ul>{stands}</ul></td>"
    told = [
        f'<span title="{escape(one.name)}">{one.verb[0]} <code>{escape(names[one.place])}</code></span>'
        + (f": <b>{escape(one.value)}</b>" if one.value else "")
        for one in turn.touches
    ]
    more = [f"… {len(told) - MOST} more"] if len(told) > MOST else []
    lines = "".join(f"<li>{line}</li>" for line in [*more, *told[-MOST:]])
    effects = "".join(f"<li>{escape(one)}</li>" for one in turn.texts)
    asked = f"<details><summary>{counted(turn.effects, 'effect', 'effects')}</summary><ol>{effects}</ol></details>"
    return f'<td class="turn">{asked}<ul>{lines}{stands}</ul></td>'
