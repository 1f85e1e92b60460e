"""The player: a trace to step through, as a piece of HTML that needs neither a kernel nor a network."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Collection
from typing import Any

from ..assets import asset
from ..trace import MicroStep, Step, Trace
from .draw import svg
from .graph import HIDDEN, graph
from .layout import HOW_TO_GET_PICTURES, lay_out
from .text import state_text, steps_text

Data = dict[str, Any]

NOTHING = "Nothing has happened here."


class Player:
    """A trace as a notebook shows it. Put it last in a cell, or give it to `display`.

    Everything is in the HTML: it works in an exported page, offline. Beside it stand a picture and the steps as text.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        step: int = 0,
        only: Collection[str] = (),
        hide: Collection[str] = HIDDEN,
        idle: bool = False,
        room: Trace | None = None,
    ) -> None:
        self.trace = trace
        self.step = _within(trace, step)
        self._hide = hide
        self._graph = graph(trace, only=only, hide=hide, idle=idle, room=room)
        self._layout = lay_out(self._graph)

    def svg(self, step: int | None = None) -> str:
        """The picture after a step, counted from 1; 0 is before the first. Raises RuntimeError without Graphviz.

        Where nothing has happened there is nothing to draw, and it raises the same.
        """
        if self._layout is None:
            raise RuntimeError(self._hint)
        number = self.step if step is None else _within(self.trace, step)
        now, was = (self._graph.frame(self._frame_after(one)) for one in (number, max(number - 1, 0)))
        about = self.trace[number - 1].sentence if number else "Before the first step."
        return svg(self._graph, self._layout, now, was, name=f"v{secrets.token_hex(4)}", about=about)

    @property
    def _hint(self) -> str:
        return HOW_TO_GET_PICTURES if self._graph.nodes else NOTHING

    def _frame_after(self, step: int) -> int:
        return self._graph.at_step[step - 1] if step else 0

    def data(self) -> Data:
        """What the script needs: the picture, what each effect changes in it, and the words."""
        places = _Places()
        base = self.trace.micro[0].index if self.trace.micro else 0
        steps = [_step(step, step.last - base + 1, places) for step in self.trace]
        effects = [_effect(micro, places) for micro in self.trace.micro]
        data = {
            "step": self.step,
            "svg": self.svg() if self._layout else "",
            "hint": self._hint,
            "changes": self._graph.changes if self._layout else [{} for _ in self._graph.changes],
            "steps": steps,
            "effects": effects,
            "places": places.all,
        }
        if self._layout is None:
            states = zip([0, *self._graph.at_step], self.trace.states(), strict=True)
            data["trees"] = {frame: state_text(state, hide=self._hide) for frame, state in states}
        return data

    def html(self) -> str:
        """The player as a piece of HTML."""
        name = f"v{secrets.token_hex(4)}"
        script = asset("player.js").read_text("utf-8").replace("export default", "const widget =")
        data = json.dumps(self.data(), ensure_ascii=False).replace("<", "\\u003c")
        return (
            f'<div id="{name}"><style>{styles()}</style>{self._still()}</div>'
            f"<script>(() => {{\n{script}\n"
            f'const place = document.getElementById("{name}");\n'
            f'place.querySelector(".vfiosim-still").remove();\n'
            f'const root = place.appendChild(document.createElement("div"));\n'
            f"new Player(root, {data});\n}})();</script>"
        )

    def _still(self) -> str:
        """What is to be seen where scripts may not run."""
        if self._layout is None:
            return f'<pre class="vfiosim-still">{_escaped(str(self))}</pre>'
        picture = base64.b64encode(self.svg().encode()).decode()
        alt = _escaped(f"Run the cell to step through. {self}")
        return f'<img class="vfiosim-still" alt="{alt}" src="data:image/svg+xml;base64,{picture}">'

    def __str__(self) -> str:
        text = steps_text(self.trace) or NOTHING
        return text if self._layout or not self._graph.nodes else f"{text}\n{self._hint}"

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        bundle = {"text/plain": str(self), "text/html": self.html()}
        if self._layout is not None:
            bundle["image/svg+xml"] = self.svg(len(self.trace))
        return bundle


def styles() -> str:
    """The styles of the player and of the drawing in it."""
    return asset("player.css").read_text("utf-8")


class _Places:
    """Lines of code by number, each told once."""

    def __init__(self) -> None:
        self.all: list[dict[str, str]] = []
        self._known: dict[tuple[str, ...], int] = {}

    def number(self, thing: Step | MicroStep) -> int:
        """The number of the place that a step or micro-step begins at."""
        origin = f"{thing.kernel_file}, {thing.kernel_tag}" if thing.kernel_file else ""
        key = (thing.where, thing.source, thing.kernel_function, origin)
        if key not in self._known:
            self._known[key] = len(self.all)
            self.all.append(dict(zip(("where", "source", "kernel", "origin"), key, strict=True)))
        return self._known[key]


def _step(step: Step, frame: int, places: _Places) -> Data:
    return {
        "frame": frame,
        "phase": step.phase,
        "sentence": step.sentence,
        "thread": step.thread,
        "refused": step.refused,
        "waits": step.waits,
        "place": places.number(step),
        "changes": [str(change) for change in step.changes],
    }


def _effect(micro: MicroStep, places: _Places) -> Data:
    return {"text": micro.text, "place": places.number(micro), "changes": [str(edit) for edit in micro.edits]}


def _within(trace: Trace, step: int) -> int:
    """A number of a step, counted from 1; below zero it counts from the end. Raises IndexError."""
    number = step + len(trace) + 1 if step < 0 else step
    if not 0 <= number <= len(trace):
        raise IndexError(f"there is no step {step}; this trace has {len(trace)}, and 0 is before the first")
    return number


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
