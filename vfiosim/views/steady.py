"""From one picture to the next: what stays stands still, what is new gets a free place, and the arrows go round the boxes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import dist, hypot
from typing import TypeAlias

from ..trace import Trace
from .curves import Box, Point
from .dot import KINSHIP, Family, box_size, families, family_size, label_size
from .graph import Edge, Graph, Node
from .layout import Layout, Spot, lay_out, route, sketch, spread

SHEET = (920.0, 570.0)  # what a picture gets at least; its letters are then of 20 pixels on a projector
BESIDE, BELOW, EDGE = 36.0, 34.0, 25.0  # what a new box keeps clear of others, and of the edge of the sheet
LEAST = 10.0  # what is clear between two boxes in any case; arrows get through
ROOMY = (1.0, 2.0)  # how much room labels get: more where they are in the way of something
STEP, FAR = 16, 76  # where a new box is looked for: so far apart, and so many of them to each side
PICTURES, PLACES, NEW = 64, 40, 20  # how many are remembered; and so many new things are too many to fit in
CLEAR, FAIR = (1500.0, 150.0), 1.24  # so little trouble, in all or by arrow, is none; and letters that are large
BETTER, LARGER = 1.35, 1.05  # how much better a new layout must be, or how much larger its letters

Mark: TypeAlias = tuple[int, tuple[str, ...]]  # where a trace begins, and what it tells
Obstacle: TypeAlias = tuple[Box, float, float]  # and what is to be clear beside it and below it


@dataclass(frozen=True)
class Picture:
    """What stood there: which trace, its graph and layout; and the box of each object where it was seen last, by its name."""

    mark: Mark
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    layout: Layout
    boxes: dict[str, Box]

    @property
    def names(self) -> set[str]:
        """Of the objects in it."""
        return {node.oid for node in self.nodes}

    def shows(self, graph: Graph) -> bool:
        """Is this the picture of such a graph?"""
        return (self.nodes, self.edges) == (graph.nodes, graph.edges)


class Past:
    """The pictures that were shown one after the other, each made from the one before it.

    One that comes again, because what was done since was taken back, stands as it stood. `tight`: there is no free room for
    what comes later until it comes.
    """

    def __init__(self, tight: bool = False) -> None:
        self._tight = tight
        self._pictures: list[Picture] = []
        self._now = -1

    def forget(self) -> None:
        """What comes next need not be like what was shown before."""
        self._pictures, self._now = [], -1

    def rest(self, trace: Trace) -> Collection[str]:
        """What is to be shown of a trace that changes nothing: what was shown before it."""
        known = self._known(trace)
        picture = known if known is not None else self._pictures[self._now] if self._pictures else None
        return picture.names if picture is not None and len(trace) else ()

    def lay_out(self, graph: Graph, trace: Trace) -> Layout | None:
        """The layout of the picture that comes next."""
        now = self._pictures[self._now] if self._pictures else None
        for picture in (self._known(trace), now):
            if picture is not None and picture.shows(graph):
                return picture.layout
        for picture in reversed(self._pictures[: self._now + 1]):  # the arrows, too, are where they were
            if now is not None and picture.shows(graph) and _agree(picture.boxes, now.boxes):
                left, top, right, bottom = _corners(now.layout)
                return replace(picture.layout, left=left, top=top, right=right, bottom=bottom)
        kept = _kept(now, graph) if now is not None else None
        if kept is not None and kept.trouble < max(CLEAR[0], CLEAR[1] * len(graph.edges)) and kept.scale >= FAIR:
            return kept
        fresh = lay_out(graph)
        whole = fresh if self._tight or fresh is None else _on_a_sheet(fresh)
        if kept is None or whole is None or _clearly_better(whole, kept):
            return whole
        return kept

    def keep(self, graph: Graph, trace: Trace, layout: Layout) -> None:
        """This is what is shown now."""
        known = self._known(trace)
        if known is not None and known.layout is layout:
            self._now = self._pictures.index(known)
            return
        now = {node.oid: layout.nodes[node.key].box for node in graph.nodes}
        before = self._pictures[self._now].boxes if self._pictures else {}
        stayed = any(dist(box[:2], before[oid][:2]) < 1 for oid, box in now.items() if oid in before)
        boxes = {oid: box for oid, box in before.items() if oid not in now and stayed} | now
        made = Picture(_mark(trace), graph.nodes, graph.edges, layout, dict([*boxes.items()][-PLACES:]))
        self._pictures = [*self._pictures[: self._now + 1], made][-PICTURES:]
        self._now = len(self._pictures) - 1

    def _known(self, trace: Trace) -> Picture | None:
        mark = _mark(trace)
        return next((picture for picture in self._pictures if picture.mark == mark), None)


def _mark(trace: Trace) -> Mark:
    """Another trace of the same mark can only come after the first was taken back."""
    return trace.micro[0].index if trace.micro else -1, tuple(step.sentence for step in trace)


def _clearly_better(fresh: Layout, kept: Layout) -> bool:
    return fresh.scale > LARGER * kept.scale or fresh.merit > BETTER * kept.merit


def _agree(one: dict[str, Box], other: dict[str, Box]) -> bool:
    return all(box == other[oid] for oid, box in one.items() if oid in other)


def _corners(layout: Layout) -> Box:
    return layout.left, layout.top, layout.right, layout.bottom


def _on_a_sheet(layout: Layout) -> Layout:
    aside, above = (max(least - size, 0) / 2 for least, size in zip(SHEET, (layout.width, layout.height), strict=True))
    return replace(
        layout,
        left=layout.left - aside,
        top=layout.top - above,
        right=layout.right + aside,
        bottom=layout.bottom + above,
    )


def _kept(before: Picture, graph: Graph) -> Layout | None:
    """The layout in which what was seen before is where it was; None if there is little of that."""
    known = [node for node in graph.nodes if node.oid in before.boxes]
    if not known or len(graph.nodes) - len(known) > NEW:
        return None
    left, top, right, bottom = sheet = _corners(before.layout)
    if len(known) < len(graph.nodes):
        sheet = left, top, max(right, left + SHEET[0]), max(bottom, top + SHEET[1])
    draft, made = sketch(graph), list[Layout]()
    for roomy in ROOMY:
        made.append(route(graph, _Places(graph, before, sheet, roomy).find(draft), sheet))
        if not made[-1].trouble:
            break
    return max(made, key=lambda layout: (layout.scale >= FAIR, layout.merit))


class _Places:
    """Finds a place for each node."""

    def __init__(self, graph: Graph, before: Picture, sheet: Box, roomy: float) -> None:
        self._graph = graph
        self._roomy = roomy
        self._before = before
        left, top, right, bottom = sheet
        self._sheet = left + EDGE, top + EDGE, right - EDGE, bottom - EDGE
        gone = before.boxes.keys() - {node.oid for node in graph.nodes}
        self._reserved = [before.boxes[oid] for oid in sorted(gone) if not oid.startswith("thread ")]
        self._found: dict[str, Spot] = {}

    def find(self, draft: Layout) -> dict[str, Spot]:
        """Those that stay, then those that come back, then the new ones: about where the draft has them, seen from these."""
        stay = self._before.names
        for node in sorted(self._graph.nodes, key=lambda node: node.oid not in stay):
            if node.oid in self._before.boxes:
                left, top, _, _ = self._before.boxes[node.oid]
                self._put(node.key, _spot(left, top, box_size(node)))
        shifts = [(draft.nodes[key], spot) for key, spot in self._found.items()]
        for family in families(self._graph):
            for part in self._parts(family):
                left, top, _, _ = draft.nodes[part[0].key].box
                wanted = _shifted(_spot(left, top, family_size(part)), shifts)
                spot = self._free(_into(wanted, self._sheet), self._gaps(part))
                self._found.update(spread(part, spot.x, spot.y))
        return {node.key: self._found[node.key] for node in self._graph.nodes}

    def _parts(self, family: Family) -> list[Family]:
        """What of a family has no place yet; each of them beside its owner if the owner has one and there is room."""
        for owner, owned in pairwise(family):
            if owner.key in self._found and owned.key not in self._found:
                _, top, right, _ = self._found[owner.key].box
                spot = _spot(right + KINSHIP, top, box_size(owned))
                if _within(spot.box, self._sheet):
                    self._put(owned.key, spot)
        left_over = tuple(node for node in family if node.key not in self._found)
        return [left_over] if left_over == family else [(node,) for node in left_over]

    def _put(self, key: str, spot: Spot) -> None:
        """A place for a node, if nothing else is there."""
        if not any(_touch(spot.box, other.box, LEAST, LEAST) for other in self._found.values()):
            self._found[key] = spot

    def _gaps(self, part: Family) -> list[Obstacle]:
        """What has its place, and how far from it these have to stay: there has to be room for the label of an arrow."""
        keys = {node.key for node in part}
        gaps = dict.fromkeys(self._found, (BESIDE, BELOW))
        for edge in self._graph.edges:
            for one, other in ((edge.holder, edge.target), (edge.target, edge.holder)):
                if one in keys and other in gaps:
                    width, height = label_size(edge)
                    gaps[other] = (
                        max(gaps[other][0], width + 30 * self._roomy),
                        max(gaps[other][1], height + 24 * self._roomy),
                    )
        return [(self._found[key].box, *gap) for key, gap in gaps.items()]

    def _free(self, wanted: Spot, taken: list[Obstacle]) -> Spot:
        """The free place nearest to the one that is wanted: where nothing was, or at least on the sheet, or else beyond it."""
        left, top, right, bottom = wanted.box
        reserved = [(box, LEAST, LEAST) for box in self._reserved]
        for obstacles, bound in ((taken + reserved, True), (taken, True), (taken, False)):
            for x, y in _offsets():
                box = left + x, top + y, right + x, bottom + y
                if (not bound or _within(box, self._sheet)) and not any(_touch(box, *other) for other in obstacles):
                    return replace(wanted, x=wanted.x + x, y=wanted.y + y)
        below = max(box[3] for box, _, _ in taken)
        return replace(wanted, y=below + BELOW + wanted.height / 2)


def _spot(left: float, top: float, size: Point) -> Spot:
    return Spot(left + size[0] / 2, top + size[1] / 2, *size)


def _shifted(spot: Spot, shifts: list[tuple[Spot, Spot]]) -> Spot:
    """Where something would stand if it moved as its neighbours do: each from one place to another."""
    total, aside, down = 0.0, 0.0, 0.0
    for was, now in shifts:
        weight = 1 / (1 + ((was.x - spot.x) ** 2 + (was.y - spot.y) ** 2) / 10_000)
        total, aside, down = total + weight, aside + weight * (now.x - was.x), down + weight * (now.y - was.y)
    return replace(spot, x=spot.x + aside / total, y=spot.y + down / total)


def _into(spot: Spot, sheet: Box) -> Spot:
    left, top, right, bottom = sheet
    x = max(min(spot.x, right - spot.width / 2), left + spot.width / 2)
    y = max(min(spot.y, bottom - spot.height / 2), top + spot.height / 2)
    return replace(spot, x=round(x), y=round(y))


@lru_cache(maxsize=1)
def _offsets() -> tuple[Point, ...]:
    steps = range(-FAR, FAR + 1)
    return tuple(sorted(((x * STEP, y * STEP) for x in steps for y in steps), key=lambda one: (hypot(*one), one)))


def _touch(one: Box, other: Box, beside: float, below: float) -> bool:
    aside = one[0] < other[2] + beside and other[0] < one[2] + beside
    return aside and one[1] < other[3] + below and other[1] < one[3] + below


def _within(box: Box, sheet: Box) -> bool:
    return sheet[0] <= box[0] and sheet[1] <= box[1] and box[2] <= sheet[2] and box[3] <= sheet[3]
