"""Where each box stands in a picture that stands alone: on no map, so that few arrows cross."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import fmean

from .atlas import BAND, CHANNEL, GAP, LEAST, TALL, WIDTHS, WORTH, Atlas, Spot, band, column, rank, size
from .graph import Edge, Graph, Node

Spots = dict[str, Spot]


SCREEN = 2.0  # how much wider than high the place for a picture is
ROOMIEST = 90.0  # between two columns: more tells no two arrows apart


def tight(graph: Graph, *, roomy: bool = True, snug: bool = False) -> Spots:
    """The places of the boxes: in each column from above VFIO, iommufd, KVM, each box near what its arrows lead to.

    The order is that of the fewest crossings that were met while each column was sorted by the next ones. `roomy`: where a
    screen has room beside a high picture, its columns stand farther apart, for the arrows between them. `snug`: no column is wider
    than its boxes need.
    """
    alone = _Alone(graph, roomy, snug)
    order = [sorted(nodes, key=lambda node: (band(node), rank(node))) for nodes in alone.columns]
    best = alone.stacked(order)
    fewest = alone.crossings(best)
    for number in [*range(len(WIDTHS)), *reversed(range(len(WIDTHS)))]:
        if not fewest:
            break
        near = alone.nearby(alone.stacked(order))
        order[number] = sorted(order[number], key=lambda node: (band(node), near(node)))
        spots = alone.stacked(order)
        if (crossings := alone.crossings(spots)) < fewest:
            best, fewest = spots, crossings
    lower = alone.lowered(best)
    return lower if alone.crossings(lower) <= fewest else best


class Anew(Atlas):
    """For pictures that are looked at each for itself, such as a way into harm: what was shown before has no place in them."""

    def place(self, graph: Graph) -> Spots:
        """The places of the boxes, by key."""
        self.shown = tuple(node.oid for node in graph.nodes)
        return tight(graph)


class Still(Atlas):
    """For the picture of one moment that is never stepped through."""

    def place(self, graph: Graph) -> Spots:
        """The places of the boxes, by key."""
        return tight(graph, snug=True)


class Close(Atlas):
    """For a race: its boxes have a place from the start, as close as in a picture that stands alone, and there they stay."""

    def place(self, graph: Graph) -> Spots:
        """The places of the boxes, by key; if one has none yet, or what was folded again has left a hole, all are put anew."""
        known = all(node.oid in self._places for node in graph.nodes)
        spots = super().place(graph) if known else {}
        lowest = max((spot.bottom for spot in spots.values()), default=0.0)
        if known and lowest <= TALL:
            return spots
        closer = tight(graph)
        if known and max(spot.bottom for spot in closer.values()) > lowest * WORTH:
            return spots
        self.adopt(graph, closer)
        return super().place(graph)


class _Alone:
    """The boxes of a graph by column, and how good they stand."""

    def __init__(self, graph: Graph, roomy: bool, snug: bool) -> None:
        self.columns: list[list[Node]] = [[] for _ in WIDTHS]
        self._named = {node.key: node for node in graph.nodes}
        self._edges = graph.edges
        self._touching: dict[str, list[Edge]] = {key: [] for key in self._named}
        for node in graph.nodes:
            self.columns[column(node)].append(node)
        for edge in graph.edges:
            self._touching[edge.holder].append(edge)
            self._touching[edge.target].append(edge)
        widths = [
            max([0.0 if snug else wide, *(round(size(node)[0]) for node in nodes)]) if nodes or not roomy else 0.0
            for wide, nodes in zip(WIDTHS, self.columns, strict=True)
        ]  # a column without boxes takes no room where each picture is looked at for itself
        channel = self._channel(widths) if roomy and not snug else CHANNEL
        before = [sum(map(bool, widths[:at])) for at in range(len(widths))]
        self._places = [(sum(widths[:at]) + channel * before[at], width) for at, width in enumerate(widths)]

    def _channel(self, widths: Sequence[float]) -> float:
        """How far apart the columns stand."""
        high = max(sum(size(node)[1] + LEAST for node in nodes) for nodes in self.columns)
        gaps = sum(map(bool, widths)) - 1
        return max(CHANNEL, min(ROOMIEST, (high * SCREEN - sum(widths)) / max(gaps, 1)))

    def stacked(self, order: Sequence[Sequence[Node]]) -> Spots:
        """Each column from above, without gaps."""
        spots = {}
        for (left, width), nodes in zip(self._places, order, strict=True):
            top, above = 0.0, None
            for node in nodes:
                top += _gap(above, node) if above else 0.0
                spots[node.key] = Spot(left, top, width, size(node)[1])
                top, above = spots[node.key].bottom, node
        return spots

    def lowered(self, spots: Spots) -> Spots:
        """What has room below goes down to the height of what its arrows lead to."""
        spots = {**spots}
        floor = max(spot.bottom for spot in spots.values())
        near = self.nearby(spots)
        for nodes in self.columns:
            end, below = floor, None
            for node in sorted(nodes, key=lambda node: -spots[node.key].top):
                spot = spots[node.key]
                lowest = end - (_gap(node, below) if below else 0.0) - spot.height
                wanted = spot.top + near(node) - self._own(node, spots)
                spots[node.key] = Spot(spot.left, max(spot.top, min(lowest, wanted)), spot.width, spot.height)
                end, below = spots[node.key].top, node
        return spots

    def nearby(self, spots: Spots) -> Callable[[Node], float]:
        """Tells of a box how low the other ends of its arrows are."""

        def near(node: Node) -> float:
            ends = [
                self._end(edge.target, edge.into, spots)[1]
                if edge.holder == node.key
                else self._end(edge.holder, edge.row, spots)[1]
                for edge in self._touching[node.key]
                if column(self._named[edge.holder]) != column(self._named[edge.target])
            ]
            return fmean(ends) if ends else spots[node.key].top

        return near

    def _own(self, node: Node, spots: Spots) -> float:
        ends = [
            self._end(node.key, edge.row if edge.holder == node.key else edge.into, spots)[1]
            for edge in self._touching[node.key]
            if column(self._named[edge.holder]) != column(self._named[edge.target])
        ]
        return fmean(ends) if ends else spots[node.key].top

    def _end(self, key: str, row: str, spots: Spots) -> tuple[float, float]:
        return spots[key].left, spots[key].row(self._named[key], row)

    def crossings(self, spots: Spots) -> int:
        """Pairs of arrows between two columns that cross, as if all went straight."""
        lines = []
        for edge in self._edges:
            one, other = sorted((self._end(edge.holder, edge.row, spots), self._end(edge.target, edge.into, spots)))
            if one[0] < other[0]:
                lines.append((*one, *other))
        return sum(_cross(a, b) for a, b in combinations(lines, 2))


def _gap(above: Node, below: Node) -> float:
    return BAND if band(above) != band(below) else LEAST if above.folded and below.folded else GAP


def _cross(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Do two lines cross, each from a point on the left to one on the right?"""
    start, end = max(one[0], other[0]), min(one[2], other[2])
    if start >= end:
        return False

    def apart(x: float) -> float:
        first, second = (y + (ty - y) * (x - left) / (right - left) for left, y, right, ty in (one, other))
        return first - second

    return apart(start) * apart(end) < 0
