"""Where everything goes: boxes by the map, arrows between neighbours straight across, and Graphviz leads those that pass boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import hypot
from typing import TypeAlias

from .alone import ROOMIEST, tight
from .atlas import CHANNEL, WORTH, Atlas, Spot, column, size
from .graph import Edge, Graph, Node
from .graphviz_found import find_graphviz
from .turns import taking_turns

MARGIN = 6.0
WIDE, HIGH, LARGEST = 1750.0, 800.0, 1.6  # what a projector offers, and the most that letters are blown up
READABLE_HIGH = 740.0  # what is higher has letters below 12 pixels on a screen of 1280 × 720
STEEP = 60.0  # an arrow between two columns that goes up or down by more runs beside others
TURN = 40.0  # how far from where an arrow has to turn it has turned
SIDE = 22.0  # how far an arrow between two boxes of a column reaches out of it, at least

Point: TypeAlias = tuple[float, float]
Way: TypeAlias = tuple[Point, Point]  # from where to where an arrow goes
Curve: TypeAlias = tuple[
    Point, ...
]  # of a Bézier curve: a point, then two that bend it and one to go to, again and again


@dataclass(frozen=True)
class Layout:
    """Places by key, in a coordinate system whose y goes down; the paper reaches from 0, `top` to `width`, `height`.

    `top` is below 0 where an arrow is led above all boxes.
    """

    nodes: dict[str, Spot]
    edges: dict[str, Curve]
    width: float
    height: float
    top: float = 0.0

    @property
    def scale(self) -> float:
        """How far it can be blown up on a projector."""
        return min(WIDE / self.width, HIGH / (self.height - self.top), LARGEST)


def lay_out(graph: Graph, atlas: Atlas | None = None) -> Layout | None:
    """The layout of a graph on a map, or of one that stands alone; None if there is nothing to lay out.

    On a map what had a place keeps it, as long as all can be read; then boxes move together. Without a Graphviz an arrow takes the
    shortest way, over boxes that it would be led round.
    """
    ask = find_graphviz()
    if not graph.nodes:
        return None
    few, turns = taking_turns(graph)
    spots = tight(few) if atlas is None else _on_map(few, atlas)
    spots |= {node.key: _instead(node, spots[turns[node.key]]) for node in graph.nodes if node.key in turns}
    led = _led(graph.nodes, graph.edges, tuple(spots.items()), ask)
    return replace(led, height=_lowest(graph, led) + MARGIN)


def _instead(node: Node, spot: Spot) -> Spot:
    """The place of another box that it takes."""
    return replace(spot, height=size(node)[1])


def _on_map(graph: Graph, atlas: Atlas) -> dict[str, Spot]:
    """Where the map has the boxes; if it has not room for them on a screen, all are put closer, and stay there."""
    spots = atlas.place(graph)
    if _readable(spots):
        return spots
    closer = tight(graph, roomy=False)
    if _bottom(closer) > _bottom(spots) * WORTH:
        return spots
    atlas.adopt(graph, closer)
    return closer


def _bottom(spots: dict[str, Spot]) -> float:
    return max(spot.bottom for spot in spots.values())


def _readable(spots: dict[str, Spot]) -> bool:
    """Can all boxes be read at once on the screen of a small laptop?"""
    return _bottom(spots) <= READABLE_HIGH


def _lowest(graph: Graph, layout: Layout) -> float:
    """The lower edge of all that is ever to be seen; what only has a place kept may be below it."""
    seen = {key for change in graph.changes for key, text in change.items() if text}
    boxes = [spot.bottom for key, spot in layout.nodes.items() if key in seen]
    lines = [y for key, curve in layout.edges.items() if key in seen for _, y in curve]
    return max([*boxes, *lines], default=layout.height - MARGIN)


@lru_cache(maxsize=64)
def _led(
    nodes: tuple[Node, ...],
    edges: tuple[Edge, ...],
    places: tuple[tuple[str, Spot], ...],
    ask: Callable[[str], str] | None,
) -> Layout:
    """It depends on no moment, so the next press or step of the same calls finds it here."""
    spots = dict(places)
    named = {node.key: node for node in nodes}
    highest = {(spot.left, spot.top): spot for spot in sorted(spots.values(), key=lambda spot: spot.height)}
    boxes = tuple(highest.values())  # one of those that take turns
    ways = {edge.key: _ports(edge, named, spots) for edge in edges}
    ports = _sides({way: way for way in ways.values()}, {spot.right: spot.left for spot in boxes})
    beside = {ways[edge.key] for edge in edges if abs(column(named[edge.holder]) - column(named[edge.target])) <= 1}
    # Where no column stands between two others they are beside each other, too.
    near = {way: ends for way, ends in ports.items() if way in beside or abs(ends[0][0] - ends[1][0]) <= ROOMIEST}
    bends, outs = _bends(near), _outs(near)
    lefts = {spot.left for spot in boxes}
    curves = {
        way: (
            _out(*ends, -outs[way] if ends[0][0] in lefts else outs[way])
            if way in outs
            else _across(*ends, bends.get(way, 0.5))
        )
        if way in near
        else _round(boxes, *ends, ask)
        if ask
        else _across(*ends, 0.5)
        for way, ends in ports.items()
    }
    right = max([spot.right for spot in boxes] + [x for curve in curves.values() for x, _ in curve])
    bottom = max([spot.bottom for spot in boxes] + [y for curve in curves.values() for _, y in curve])
    top = min([0.0] + [y - MARGIN for curve in curves.values() for _, y in curve if y < 0])
    return Layout(spots, {key: curves[way] for key, way in ways.items()}, right + MARGIN, bottom + MARGIN, top)


def _ports(edge: Edge, nodes: dict[str, Node], spots: dict[str, Spot]) -> Way:
    """Where an arrow begins and ends: on the sides that face each other, in one column on the right of both."""
    one, other = spots[edge.holder], spots[edge.target]
    start, end = one.row(nodes[edge.holder], edge.row), other.row(nodes[edge.target], edge.into)
    begin = one.left if one.left > other.left else one.right
    return (begin, start), (other.left if one.left < other.left else other.right, end)


def _sides(ports: dict[Way, Way], lefts: dict[float, float]) -> dict[Way, Way]:
    """The same, but an arrow within a column goes out on the left where fewer others would cross it there.

    It is crossed by whatever ends between its own ends. `lefts` are the left edges of the columns, by their right ones.
    """
    found = dict(ports)
    for key, ((x, y), (tx, ty)) in ports.items():
        left = lefts.get(x, 0.0)
        if x == tx and left > 0:
            low, high = sorted((y, ty))
            between = [at for name, ends in found.items() if name != key for at, height in ends if low < height < high]
            if between.count(left) < between.count(x):
                found[key] = ((left, y), (left, ty))
    return found


def _outs(arrows: dict[Way, Way]) -> dict[Way, float]:
    """How far each arrow within a column goes out of it: the longer the farther, so that none crosses one inside of it."""
    found: dict[Way, float] = {}
    for side in {x for (x, _), (tx, _) in arrows.values() if x == tx}:
        spans = sorted((abs(ty - y), key) for key, ((x, y), (tx, ty)) in arrows.items() if x == tx == side)
        lanes = sorted({span for span, _ in spans})
        for span, key in spans:
            far = SIDE + lanes.index(span) * (CHANNEL - 8 - SIDE) / max(len(lanes) - 1, 1)
            found[key] = min(far, SIDE + span / 8)
    return found


def _out(start: Point, end: Point, far: float) -> Curve:
    """An arrow out of a column and back."""
    (x, y), (tx, ty) = start, end
    return start, (x + far, y), (tx + far, ty), end


def _bends(arrows: dict[Way, Way]) -> dict[Way, float]:
    """Where in its channel each arrow turns up or down, as a part of the way: no two that run side by side turn at the same place.

    Of those that go down the lowest turns first, of those that go up the highest: so none of them crosses the next one.
    """
    turning: dict[tuple[float, bool], list[tuple[float, Way]]] = {}
    for key, ends in arrows.items():
        (x, y), (tx, ty) = sorted(ends)
        if x != tx and abs(ty - y) > STEEP:
            turning.setdefault((x, ty > y), []).append((y, key))
    bends = {}
    for (_, down), some in turning.items():
        for number, (_, key) in enumerate(sorted(some, reverse=down), 1):
            bends[key] = number / (len(some) + 1)
    return bends


def _across(start: Point, end: Point, bend: float) -> Curve:
    """An arrow through the channel between two columns."""
    (x, y), (tx, ty) = start, end
    turn = x + (tx - x) * (bend if x < tx else 1 - bend)
    return start, (turn, y), (turn, ty), end


@lru_cache(maxsize=512)
def _round(boxes: tuple[Spot, ...], start: Point, end: Point, ask: Callable[[str], str]) -> Curve:
    """Graphviz leads an arrow round the boxes: from the channel beside the first box to that beside the last one."""
    away = CHANNEL / 2 if end[0] > start[0] else -CHANNEL / 2
    first, last = (start[0] + away, start[1]), (end[0] - away, end[1])
    dot = ['digraph { layout=nop2 splines=true notranslate=true esep="+4"', 'node [shape=box label="" fixedsize=true]']
    for spot in boxes:
        x, y = spot.left + spot.width / 2, -(spot.top + spot.height / 2)
        size = f"width={spot.width / 72:.3f} height={spot.height / 72:.3f}"
        dot.append(f'{len(dot)} [pos="{x:.1f},{y:.1f}" {size}]')
    dot += [
        f'{name} [pos="{x:.1f},{-y:.1f}" width=0.01 height=0.01]' for name, (x, y) in (("from", first), ("to", last))
    ]
    [answer] = json.loads(ask("\n".join([*dot, "from -> to [arrowhead=none]", "}"])))["edges"]
    points = [first, *[_point(word) for word in answer["pos"].split() if word[0] not in "es"][1:-1], last]
    return tuple(_turned(end, _turned(start, points)[::-1])[::-1])


def _turned(start: Point, points: list[Point]) -> list[Point]:
    """A curve that begins at `start`, and where this one began turns into it without a corner."""
    first, one, other, end, *rest = points
    part = min(0.5, TURN / (hypot(end[0] - first[0], end[1] - first[1]) or 1.0))
    a, b, c = _between(first, one, part), _between(one, other, part), _between(other, end, part)
    into, out = _between(a, b, part), _between(b, c, part)
    return [start, first, into, _between(into, out, part), out, c, end, *rest]


def _between(one: Point, other: Point, part: float) -> Point:
    return round(one[0] + (other[0] - one[0]) * part, 1), round(one[1] + (other[1] - one[1]) * part, 1)


def _point(text: str) -> Point:
    x, y = text.split(",")
    return round(float(x), 1), round(-float(y), 1)
