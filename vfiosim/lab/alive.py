"""“Why is it alive?”: choose an object, read who keeps it after the step that is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from html import escape
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from ..trace import Reference, State, Trace
from ..why import Path, Why, why
from . import controls as widgets
from .style import button, row, text

if TYPE_CHECKING:
    from .run_view import RunView

KINDS = (
    "file",
    "vfio_device_file",
    "vfio_device",
    "iommufd_ctx",
    "iommufd_device",
    "iommufd_access",
    "iommufd_ioas",
    "iommufd_hwpt_paging",
    "iommufd_group",
    "kvm",
)


class Alive(widgets.VBox):
    """Asks who keeps an object alive after the step that a bench shows; choice and answer follow the bench."""

    def __init__(self, bench: RunView) -> None:
        self._bench, self._room = bench, list[str]()
        self.choice = widgets.Dropdown(description="object", tooltip="Which object to ask about", kind="object")
        self.ask = button("Why is it alive?", "every way from a root of the machine to this object")
        self.answer = text("answer")
        self.ask.on_click(lambda _: self._answer(asked=True))
        super().__init__([row("Why", self.choice, self.ask), self.answer])
        bench.listeners.append(lambda _: self._follow())
        bench.trace_pane.on_step(self._walked)
        self._follow()

    def _follow(self) -> None:
        """The machine has moved on: other objects, and what was answered may be wrong now."""
        chosen = self.choice.value
        trace = self._bench.trace_pane.trace
        drawn = self._bench.trace_pane.drawn
        names = sorted(
            dict.fromkeys([*candidates(trace.end), *candidates(trace.start)]), key=lambda name: name not in drawn
        )
        self.choice.options = [(name if name in drawn else f"{name} (not in the picture)", name) for name in names]
        self.choice.value = chosen if chosen in names else next(iter(names), None)
        self.answer.value, self._room = "", []
        self._bench.trace_pane.highlight(())

    def _walked(self) -> None:
        """The reader has gone to another step: an answer that is shown is given anew."""
        if self.answer.value:
            self._answer()

    def _answer(self, asked: bool = False) -> None:
        pane, name = self._bench.trace_pane, self.choice.value
        if name is None:
            self.answer.value = '<div role="status">There is no object to ask about.</div>'
            return
        state = after(pane.trace, pane.step)
        dead = [ToldPath(f"{name} is not alive.")], list[str]()
        lines, names = describe(why(state, name), pane.counters) if name in state.objects else dead
        ways: dict[ToldPath, list[str]] = {}  # two counters of one object may count the same holder
        for line in lines[1:]:
            ways.setdefault(line._replace(via=""), []).append(line.via)
        more = [
            f" · {len(vias)} references: in {' and '.join(vias)}" if len(vias) > 1 else "" for vias in ways.values()
        ]
        items = "".join(f"<li>{line.html(also)}</li>" for line, also in zip(ways, more, strict=True))
        when = f"<b>{moment(pane.trace, pane.step)}:</b> "
        if asked:
            room = [f"{moment(pane.trace, pane.step)}: {lines[0]}", *map(str, lines[1:])]
            self._room = max(self._room, room, key=len)  # so the picture stays where it is
        said = f'<div role="status" tabindex="0">{when}{lines[0].html()}<ul>{items}</ul></div>'
        self.answer.value = f'<div class="vfiosim-why" data-room="{escape(chr(10).join(self._room))}">{said}</div>'
        pane.highlight(names)


def after(trace: Trace, step: int) -> State:
    """The state after a step, counted from 1; 0 is before the first."""
    return next(state for number, state in enumerate(trace.states()) if number == step)


def moment(trace: Trace, step: int) -> str:
    """When that is, in words."""
    if not len(trace):
        return "Now"
    return f"After step {step} of {len(trace)}" if step else "Before step 1"


def candidates(state: State) -> list[str]:
    """The objects worth asking about: those of the program first."""
    objects = [thing for thing in state.objects.values() if thing.kind in KINDS]
    ordered = sorted(objects, key=lambda thing: KINDS.index(thing.kind))
    return [thing.oid for thing in ordered if not thing.label.startswith("terminal")]


class ToldPath(NamedTuple):
    """A line of an answer, the longer paths behind the one that it tells, and the counter in which it counts."""

    said: str
    longer: tuple[str, ...] = ()
    via: str = ""

    def __str__(self) -> str:
        return f"{self.said}   (and {self._counted()})" if self.longer else self.said

    def html(self, more: str = "") -> str:
        """The line as HTML, with `more` behind it; the longer paths open with a click."""
        rest = "".join(f"<p>{escape(path)}</p>" for path in self.longer)
        opens = f"<details><summary>and {self._counted()}</summary>{rest}</details>" if rest else ""
        return f"{escape(self.said)}{more}{opens}"

    def _counted(self) -> str:
        return f"{len(self.longer)} longer {'path' if len(self.longer) == 1 else 'paths'}"


def describe(why: Why, drawn: Mapping[str, Collection[str]] | None = None) -> tuple[list[ToldPath], list[str]]:
    """The answer in lines: for each direct holder the shortest way from a root. And the names of all objects on them.

    `drawn`: by each object that is in the picture, which of its counters have a row there. Those come first.
    """
    if not why.paths:
        return [*map(ToldPath, str(why).splitlines())], [why.name]
    owners = _owners(why.paths)
    ways: dict[Reference, list[Path]] = {}
    aside = _aside(why.paths[0].links[-1 - len(owners)].target, drawn or {})
    for path in sorted(why.paths, key=lambda path: aside(path.links[-1 - len(owners)].via)):
        ways.setdefault(path.links[-1 - len(owners)], []).append(path)
    held = f"{why.name} lives as long as {owners[0].holder}, which" if owners else why.name
    lines = [ToldPath(f"{held} is kept alive by {_counted(ways, why.lost, aside)}:")]
    lines += [
        ToldPath(one.words, tuple(path.words for path in longer), link.via) for link, (one, *longer) in ways.items()
    ]
    lines += [
        ToldPath(f"lost reference: {link.holder} is gone, but {link.target} still counts it") for link in why.lost
    ]
    names = {name for paths in ways.values() for link in paths[0].links for name in (link.holder, link.target)}
    return lines, sorted(names)


def _aside(oid: str, drawn: Mapping[str, Collection[str]]) -> Callable[[str], bool]:
    """Has a counter of this object no row, though the object has a box?"""
    return lambda via: oid in drawn and via not in drawn[oid]


def _counted(ways: Iterable[Reference], lost: Iterable[Reference], aside: Callable[[str], bool]) -> str:
    """How many references these are, by the counters that count them; those that are lost are counted, and keep nothing."""
    ways, counters = [*ways], Counter[str]()
    for link in ways:
        counters[link.via] += link.n
    number, target = counters.total(), ways[0].target
    lost_there = Counter({link.via: link.n for link in lost if link.target == target})
    told: dict[bool, list[str]] = {}
    for via, n in counters.items():
        some = f"{n} of {n + lost_there[via]}" if lost_there[via] else str(n)
        named = f"{some} in {via}" if lost_there[via] or len(counters) > 1 else via
        told.setdefault(aside(via), []).append(named)
    where = "; ".join(f"{'not drawn here: ' if hidden else ''}{', '.join(some)}" for hidden, some in told.items())
    return f"{number} reference{'s' if number != 1 else ''} ({where})"


def _owners(paths: Sequence[Path]) -> tuple[Reference, ...]:
    """The last links that all paths have in common, if these are no holders that are counted but owners: holders hold the first."""
    shortest = paths[0].links[1:]
    owners = [*takewhile(lambda link: link.sort == "owns", reversed(shortest))][::-1]
    shared = owners and all(path.links[-len(owners) :] == (*owners,) for path in paths)
    return (*owners,) if shared else ()
