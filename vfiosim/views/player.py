"""The player: a trace to step through, as a piece of HTML that needs neither a kernel nor a network."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Sequence
from copy import copy
from functools import cached_property, partial
from typing import Any
from urllib.parse import quote

from ..assets import style_sheet
from ..trace import Trace
from .at_once import running_cell
from .atlas import Atlas
from .brief import Brief
from .collapse import MOST, Group, fold, without_rows
from .collapse import collapse as collapsed
from .counters import counts_over
from .draw import svg
from .fields import field_says
from .glossary import come_again, glossary
from .graph import HIDDEN, Frame, graph, names_in
from .lanes import lanes_data
from .last_change import last_change
from .layout import lay_out
from .plain import plain, text
from .reasons import reasons_data
from .script import packed, script, terse
from .sources import Sources
from .story import known_story
from .text import log_html, state_text, steps_text
from .told import effect_data, step_data, with_names

Data = dict[str, Any]

NOTHING = "Nothing has happened here."


LARGE = 1.25  # what a picture must at least be blown up by for letters of 20 pixels in a room

# Runs the program that it carries, once there is something to be seen of the place for it: a copy of an output has the same
# name, and beside a living widget all this is hidden. Where a browser cannot unpack it, the picture that is there stays.
UNPACK = """(() => {
if (!window.DecompressionStream) return;
const run = async () => {
const bytes = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
const program = document.createElement("script");
program.textContent = await new Response(stream).text();
document.head.appendChild(program).remove();
};
for (const place of document.querySelectorAll("#%s"))
new ResizeObserver((_, observer) => { if (place.offsetWidth) { observer.disconnect(); run(); } }).observe(place);
})();"""

READABLE = " !$&'()*+,-./:;<=>?@[]^_`{|}~"  # what may stand in the address of a picture as it is

VIEWS = ("graph", "lanes", "counters", "source", "details")  # what can be shown beside the sentence


class Player:
    """A trace as a notebook shows it. Put it last in a cell, or give it to `display`.

    Everything is in the HTML: it works in an exported page, offline. Beside it stand a picture and the steps as text.
    `atlas` is the map on which other pictures were drawn before this one: what is in both stands where it stood.

    `walk` are beginnings of sentences: Next goes to the next step that begins so, or is refused, or is the last one; the key n
    goes step by step all the same.

    `brief` is what is to be seen before the reader takes finer steps than those of the walk.

    `without` are names of rows that are not drawn, in whichever box they are.

    `log` are lines above the picture, each with the step to which it leads, 0 for none. `read`: as in `graph`.

    `graph` is all that ever occurs in the picture; `layout` is where it stands, None with nothing to draw.
    """

    shown_in = 0  # the number of the cell in which `show` has shown it

    def __init__(
        self,
        trace: Trace,
        *,
        step: int = 0,
        only: Collection[str] = (),
        hide: Collection[str] = HIDDEN,
        without: Collection[str] = (),
        idle: bool = False,
        reserve: Trace | Collection[Trace] = (),
        keep: Collection[str] = (),
        unfold: Collection[str] = (),
        views: Collection[str] | None = None,
        presenter: bool = False,
        collapse: Collection[Group] = (),
        atlas: Atlas | None = None,
        walk: Collection[str] = (),
        brief: Brief | None = None,
        log: Sequence[tuple[str, int]] = (),
        read: Collection[int] | None = None,
        rows: Collection[tuple[str, str]] = (),
    ) -> None:
        views = shown(trace) if views is None else views
        unknown = [name for name in views if name not in VIEWS]
        if isinstance(views, str) or unknown:
            raise ValueError(f"views are some of {', '.join(VIEWS)}, as a tuple or list; not {views!r}")
        self.trace = trace
        self.step = _within(trace, step)
        self.views = tuple(views)
        self.presenter = presenter
        self._walk, self._brief, self._log = tuple(walk), brief, log
        self._small_map = brief.atlas if brief and atlas else None  # what stands alone moves nothing elsewhere
        self._hide, self._reserved = hide, reserve
        rest = atlas.shown if atlas is not None and len(trace) else ()
        whole = graph(
            trace, only=only, hide=hide, idle=idle, reserve=reserve, rest=rest, keep=keep, read=read, rows=rows
        )
        whole = without_rows(whole, {row.key for node in whole.nodes for row in node.rows if row.cell in without})
        why = {node.key for node in whole.nodes if whole.asked.intersection(node.parts)}
        held = {edge.holder for edge in whole.edges if edge.target in why and edge.sort in ("counted", "owns")}
        alone = {node.oid for node in whole.nodes if node.key in why | held}
        reasons = [step.sentence for step in trace if step.refused]
        seen = {key for change in whole.changes for key, text in change.items() if text}
        kept = {node.oid for node in whole.nodes if names_in(reasons, node.parts[1:])}
        kept |= {node.oid for node in whole.nodes if node.oid in unfold and node.key in seen}
        for most in (MOST, 15, 12, 10, 8, 6) if presenter else (MOST,):
            self.graph = fold(collapsed(whole, collapse, by_kind=presenter, most=most, alone=alone), kept)
            self.layout = lay_out(self.graph, atlas)
            if self.layout is None or self.layout.scale >= LARGE:
                break

    def svg(self, step: int | None = None, *, whole: bool = True, styled: bool = True) -> str:
        """The picture after a step, counted from 1; 0 is before the first. `whole` and `styled` as in `draw.svg`.

        Raises RuntimeError where nothing has happened, so there is nothing to draw.
        """
        if self.layout is None:
            raise RuntimeError(NOTHING)
        number = self.step if step is None else _within(self.trace, step)
        before = number - 1
        while before > 0 and self.trace[before].refused == "broken":  # it shows what the step before it has changed
            before -= 1
        now, was = self.frame(number), self.frame(max(before, 0))
        about = self.trace[number - 1].sentence if number else "Before the first step."
        name = f"v{secrets.token_hex(4)}"
        read = self.graph.read(self._frame(max(before, 0)), self._frame(number))
        harmed = self.graph.harmed[number - 1] if number else ()
        return svg(
            self.graph,
            self.layout,
            now,
            was,
            read=read,
            harmed=harmed,
            name=name,
            about=about,
            whole=whole,
            styled=styled,
        )

    def frame(self, step: int) -> Frame:
        """What is there after a step, counted from 1; 0 is before the first."""
        return self.graph.frame(self._frame(step))

    def _frame(self, step: int) -> int:
        return self.graph.at_step[step - 1] if step else 0

    def data(self, *, live: bool = False, sources: Sources | None = None) -> Data:
        """What the script needs: the picture, what each effect changes in it, and the words.

        `live`: without what takes a moment and comes later, the `reasons` and the text to share. With `sources` the code is not
        told: they do.
        """
        found = sources or Sources()
        base = self.trace.micro[0].index if self.trace.micro else 0
        by_name = with_names(self.trace)
        states = [*self.trace.states()]
        again = [*come_again(self.trace)]

        def told(by_name: Callable[[str], str]) -> list[Data]:
            return [
                step_data(step, step.last - base + 1, found, by_name) | ({"again": True} if more else {})
                for step, more in zip(self.trace, again, strict=True)
            ]

        effects = [effect_data(micro, found, by_name) for micro in self.trace.micro]
        data = {
            "step": self.step,
            "tells": self.tells,
            "views": self.views,
            "presenter": self.presenter,
            "share": self.trace.can_be_shared if live else self.trace.replay,
            "skipped": self.trace.skipped,
            "hint": NOTHING,
            "stops": self._stops(),
            **self._picture(),
            "steps": told(by_name),
            "effects": effects,
            "running": {
                found.number(one): one.kernel_function or one.function for one in (*self.trace, *self.trace.micro)
            },
            "lanes": lanes_data(self.trace, states),
            "counters": counts_over(self.trace, states, self._hide),
        }
        if not live:
            data["reasons"] = self.reasons()
        if self._brief is not None:
            small = self.small()
            as_drawn = partial(self._brief.said, small.graph)
            data["brief"] = {**small._picture(), "steps": told(lambda text: as_drawn(by_name(text)))}
        if self.layout is None:
            there = zip([0, *self.graph.at_step], states, strict=True)
            data["trees"] = {frame: state_text(state, hide=self._hide) for frame, state in there}
        return data if sources else data | found.told()

    def reasons(self) -> Data:
        """What the script needs to tell why something is alive."""
        return reasons_data(self.trace, [*self.trace.states()], [node.oid for node in self.graph.nodes])

    @cached_property
    def tells(self) -> int:
        """The step at which a press shows the picture, counted from 1: the last that changes something; 0 where there is none."""
        return last_change(self.graph) or len(self.trace)

    def small(self) -> Player:
        """The same with the boxes and rows of `brief` only. Raises ValueError for a player that has none."""
        if self._brief is None:
            raise ValueError("this player is never brief")
        small = copy(self)
        small._brief, few = None, [*self._brief.boxes]
        small.graph = self._brief.of(
            graph(self.trace, only=few, hide=self._hide, reserve=self._reserved, read=self._stops())
        )
        small.layout = lay_out(small.graph, self._small_map)
        return small

    def _picture(self) -> Data:
        """What is drawn, and what is said of it."""
        return {
            "svg": self.svg(styled=False).replace('"', "'") if self.layout else "",  # with less to escape in JSON
            "parts": self._parts(),
            "changes": self.graph.changes,
            "looks": self.graph.looks,
            "harmed": self.graph.harmed,
            "glossary": glossary(self._words()),
            "fields": self._fields(),
        }

    def _words(self) -> list[str]:
        """The kinds of what is in the picture, and the phases."""
        parts = (part for node in self.graph.nodes for part in node.parts)
        return [*(part.partition(" ")[0] for part in parts), *(step.phase for step in self.trace)]

    def _fields(self) -> dict[str, str]:
        """By kind and name what each row means."""
        rows = [(row.oid.partition(" ")[0], row) for node in self.graph.nodes for row in node.rows]
        return {f"{kind}.{row.cell}": field_says(kind, row.cell, row.sort) for kind, row in rows}

    def _stops(self) -> list[int]:
        """Where Next goes to, if not to each step."""
        last = len(self.trace)
        main = [step.index + 1 for step in self.trace if step.sentence.startswith(self._walk) or step.refused]
        here = [self.step] if self.step else []  # where a lesson begins it is on the walk
        return sorted({*main, *here, last}) if self._walk and main else []

    def _parts(self) -> Data:
        """By its key, what each thing in the picture is: a box, a row of one, the stub of a counter, or an arrow."""
        parts: Data = {node.key: ["node", node.oid, node.parts] for node in self.graph.nodes}
        for node in self.graph.nodes:
            for row in node.rows:
                parts[row.key] = ["row", node.key, row.cell, row.sort, row.oid]
                parts |= {row.stub: ["stub", node.key, row.key]} if row.stub else {}
        for edge in self.graph.edges:
            parts[edge.key] = ["edge", edge.holder, edge.target, edge.sort, edge.reason, edge.row, edge.into]
        return parts

    def html(self) -> str:
        """The player as a piece of HTML. Script, styles and data are compressed in it; the picture is for who cannot run it."""
        name = f"v{secrets.token_hex(4)}"
        data, css = (json.dumps(part, ensure_ascii=False, separators=(",", ":")) for part in (self.data(), styles()))
        program = f'(() => {{{terse(script("inline.js"))}\ninline(document.querySelectorAll("#{name}"), {css}, {data});\n}})();'
        shown = log_html(self._log) + self._still()
        return (
            f'<div id="{name}" class="vfiosim-place">{shown}</div><script>{UNPACK % (packed(program), name)}</script>'
        )

    def _still(self) -> str:
        """What is to be seen where scripts may not run."""
        if self.layout is None:
            return f'<pre class="vfiosim-still">{_escaped(str(self))}</pre>'
        drawn = text(plain(self.svg(whole=False))).replace("&gt;", ">").replace(" />", "/>")  # as XML allows
        picture = quote(drawn.replace('"', "'"), safe=READABLE).replace("&", "&amp;")
        told = " ".join(step.sentence for step in self.trace)
        alt = _escaped(f"Run the cell to step through. {told or NOTHING}")
        return f'<img class="vfiosim-still" alt="{alt}" src="data:image/svg+xml,{picture}">'

    def __str__(self) -> str:
        return steps_text(self.trace) or NOTHING

    __repr__ = __str__

    def _ipython_display_(self) -> None:
        """What `show` has shown in this cell is not shown again as its last value."""
        if not self.shown_in or self.shown_in != running_cell():
            raise NotImplementedError  # as IPython shows it then, from the mime bundle

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        bundle = {"text/plain": "\n".join([*(line for line, _ in self._log), str(self)]), "text/html": self.html()}
        if self.layout is not None:
            bundle["image/svg+xml"] = self.svg(len(self.trace), whole=False)
        return bundle


def shown(trace: Trace) -> tuple[str, ...]:
    """What is shown of a trace unless told otherwise: where several threads run, which locks they hold, too."""
    return ("graph", "lanes") if len(set(known_story(trace).lanes.values())) > 1 else ("graph",)


def styles() -> str:
    """The styles of the player and of the drawing in it."""
    return "".join(style_sheet(name) for name in ("palette.css", "tokens.css", "player.css", "graph.css"))


def _within(trace: Trace, step: int) -> int:
    """A number of a step, counted from 1; below zero it counts from the end. Raises IndexError."""
    number = step + len(trace) + 1 if step < 0 else step
    if not 0 <= number <= len(trace):
        raise IndexError(f"there is no step {step}; this trace has {len(trace)}, and 0 is before the first")
    return number


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
