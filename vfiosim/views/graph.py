"""The graph of a trace: every node, row and arrow that occurs at any time, and what each moment shows of them.

Each has a key. A frame tells the text of each key, "" where the thing is not there: frame 0 is the start of the trace, and
there is one more after each micro-step. So one layout serves all moments, and nothing moves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..trace import Trace
from .causes import causes
from .facts import Arrow, Box, Fact, Line, Story

Frame = dict[str, str]

# Plumbing: what every machine has, and no call is about.
_REGISTERS = {"devtmpfs", "iommu_groups", "buses", "driver_private", "vfio", "vfio_iommu_drivers"}
HIDDEN = frozenset(
    {
        "process",
        "mm_struct",
        "cdev",
        "device",
        "driver",
        "kernel",
        "vfio_pci_core_device",
        "file terminal#*",
        *_REGISTERS,
    }
)
ALIVE, FREED = "alive", "freed"
LONGEST = 64  # letters of a text in the picture; the words beside it have the rest


@dataclass(frozen=True)
class Row:
    """A line of a node: a counter, a lock or a value. `widest` is the length of the longest text that it will show."""

    key: str
    cell: str
    sort: str
    widest: int


@dataclass(frozen=True)
class Node:
    """A box of the graph."""

    key: str
    oid: str
    kind: str
    label: str
    home: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Label:
    """One reference, told on its arrow. `widest` is the longest text that it will show."""

    key: str
    widest: str


@dataclass(frozen=True)
class Edge:
    """An arrow with one label for each reference; `sort` is "counted", "owns", "weak" or "waits"."""

    key: str
    sort: str
    holder: str
    target: str
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Graph:
    """Nodes and arrows of all moments. `changes[i]` is what frame i has different from frame i - 1."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    changes: tuple[Frame, ...]
    at_step: tuple[int, ...]  # the number of the frame after each step

    def frame(self, number: int) -> Frame:
        """The texts of all keys at one moment."""
        now: Frame = {}
        for change in self.changes[: number + 1]:
            now.update(change)
        return {key: text for key, text in now.items() if text}


def graph(
    trace: Trace,
    *,
    only: Collection[str] = (),
    hide: Collection[str] = HIDDEN,
    idle: bool = False,
    room: Trace | Collection[Trace] = (),
    rest: Collection[str] = (),
) -> Graph:
    """The graph of a trace. `hide` and `only` are kinds ("cdev") or names of objects ("file vfio0#1", "file *").

    Without `only` it shows what the steps of this trace change, and who holds that; if nothing changes, these objects of
    `rest`, or else what the programs have. `idle=True` adds everything else.
    What a check looked at that refused is in it in any case, with its holders.
    What occurs in `room`, another trace or several, gets a place too, so that pictures of different calls have things in the
    same places.
    """
    story = Story(trace, (room,) if isinstance(room, Trace) else room)
    why = causes(trace)
    return _Keys(story, _choose(story, only, hide, idle, rest, why), why).graph()


def _choose(
    story: Story, only: Collection[str], hide: Collection[str], idle: bool, rest: Collection[str], why: Collection[str]
) -> list[str]:
    """The names of the objects to be drawn, in the order in which they were met; `why` a call was refused is among them."""
    arrows = story.arrows()
    shown = {*why, *(arrow.holder for arrow in arrows if arrow.target in why and arrow.sort in ("counted", "owns"))}

    def wanted(oid: str) -> bool:
        return not fits(oid, hide) and (not only or fits(oid, only) or oid in shown)

    names = dict.fromkeys([*story.things, *(end for arrow in arrows for end in (arrow.holder, arrow.target))])
    nodes = [oid for oid in names if wanted(oid)]
    if only or idle:
        return nodes
    arrows = [arrow for arrow in arrows if {arrow.holder, arrow.target} <= {*nodes}]
    busy = {fact.oid for fact in story.texts if not isinstance(fact, Arrow) and story.moves(fact)}
    busy |= {end for arrow in arrows if story.moves(arrow) for end in (arrow.holder, arrow.target)} | {*why}
    before = -1
    while len(busy) > before:  # and who holds these, and who holds those
        before = len(busy)
        busy |= {arrow.holder for arrow in arrows if arrow.target in busy and arrow.sort in ("counted", "owns")}
    if (
        not busy
    ):  # nothing changes: what was shown before, or what the programs have; a whole machine is too small to read
        busy = {oid for oid in nodes if oid in rest} or _held_by(
            {oid for oid in nodes if oid.startswith("fds ")}, arrows
        )
    return [oid for oid in nodes if oid in busy] or nodes


def _held_by(found: set[str], arrows: Collection[Arrow]) -> set[str]:
    """These objects, all that they hold, and what that holds; none if they hold nothing."""
    first = len(found)
    before = -1
    while len(found) > before:
        before = len(found)
        found |= {arrow.target for arrow in arrows if arrow.holder in found and arrow.sort in ("counted", "owns")}
    return found if len(found) > first else set()


def fits(oid: str, patterns: Collection[str]) -> bool:
    """Is the object of one of these kinds, or does it have one of these names?"""
    kind = oid.partition(" ")[0]
    return any(kind == pattern or fnmatchcase(oid, pattern) for pattern in patterns)


def shorten(text: str) -> str:
    """The text, cut where it is too long for a picture."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


class _Keys:
    """Gives keys to the facts that are to be drawn."""

    def __init__(self, story: Story, chosen: list[str], read: Mapping[str, Collection[str]]) -> None:
        self._story = story
        self._read = read  # the cells of each object that have to be told
        self._keys: dict[Fact, str] = {}
        self._boxes = {oid: f"n{number}" for number, oid in enumerate(chosen)}
        self._nodes = tuple(self._node(oid) for oid in chosen)
        bundles: dict[tuple[str, str, str], list[Arrow]] = {}
        for arrow in story.arrows():
            if {arrow.holder, arrow.target} <= {*chosen}:
                bundles.setdefault(arrow[:3], []).append(arrow)
        self._edges = tuple(self._edge(number, arrows) for number, arrows in enumerate(bundles.values()))

    def _node(self, oid: str) -> Node:
        key = self._keys[Box(oid)] = self._boxes[oid]
        kind, _, label = shorten(oid).partition(" ")
        thing = self._story.things.get(oid)
        return Node(key, oid, kind, label, thing.home if thing else "", tuple(self._rows(oid)))

    def _rows(self, oid: str) -> Iterator[Row]:
        """Counters that somebody in the picture has a share of, and of all cells those that change."""
        number = 0
        for fact, texts in self._story.texts.items():
            if isinstance(fact, Line) and fact.oid == oid and self._is_told(fact):
                key = self._keys[fact] = f"{self._boxes[oid]}r{number}"
                number += 1
                yield Row(key, fact.cell, fact.sort, _widest([shorten(text) for text in texts]))

    def _is_told(self, line: Line) -> bool:
        changes = len(self._story.lasting.get(line, set()) - {""}) > 1 or line.cell in self._read.get(line.oid, ())
        return changes or not self._story.holders.get((line.oid, line.cell), set()).isdisjoint(self._boxes)

    def _edge(self, number: int, arrows: list[Arrow]) -> Edge:
        labels = []
        for place, arrow in enumerate(arrows):
            key = self._keys[arrow] = f"e{number}t{place}"
            labels.append(Label(key, shorten(max(self._story.texts[arrow], key=len))))
        first = arrows[0]
        ends = (self._boxes[first.holder], self._boxes[first.target])
        return Edge(f"e{number}", first.sort, *ends, tuple(labels))

    def graph(self) -> Graph:
        """The graph with its frames."""
        boxes = _Boxes(self._nodes, self._edges)
        changes = []
        for change in self._story.changes:
            frame = {self._keys[fact]: shorten(text) for fact, text in change.items() if fact in self._keys}
            changes.append(boxes.complete(frame))
        return Graph(self._nodes, self._edges, tuple(changes), tuple(self._story.at_step))


class _Boxes:
    """An arrow is there while one of its references is, and needs a box at each end.

    A running call has a box while an arrow touches it, and so has an object after its death.
    """

    def __init__(self, nodes: tuple[Node, ...], edges: tuple[Edge, ...]) -> None:
        self._edges = edges
        self._nodes = {node.key: node for node in nodes}
        self._now: Frame = {}
        self._shown: Frame = {}

    def complete(self, change: Frame) -> Frame:
        """The change of a frame, with the arrows and boxes that come or go because of it."""
        self._now.update(change)
        shown: Frame = {}
        for edge in self._edges:
            references = sum(bool(self._now.get(label.key)) for label in edge.labels)
            if references:
                shown[edge.key] = str(references)
                for end in (edge.holder, edge.target):
                    shown[end] = ALIVE if self._nodes[end].kind == "thread" else FREED
        shown |= {key: ALIVE for key in self._nodes if self._now.get(key)}
        different = {
            key: shown.get(key, "") for key in {**self._shown, **shown} if self._shown.get(key) != shown.get(key)
        }
        self._shown = shown
        return {**{key: text for key, text in change.items() if key not in self._nodes}, **different}


def change_text(old: str, new: str) -> str:
    """What a row shows where its text has changed: both texts where there is room, else "→" and the new one."""
    return f"{old}→{new}" if len(old) + len(new) <= 7 else f"→ {new}"


def _widest(texts: list[str]) -> int:
    different = [text for text in dict.fromkeys(texts) if text]
    changes = [change_text(old, new) for old in different for new in different if old != new]
    return max(len(text) for text in [*different, *changes])
