"""Where everything goes: Graphviz places boxes and arrows, once for all moments of a trace; the labels come after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import pairwise
from math import dist
from typing import Any, TypeAlias

from .curves import Box, Point, trim
from .dot import HEADER, KINSHIP, Family, box_size, dot, families, family_size, label_size, pinned
from .graph import Edge, Graph, Node
from .labels import Labels, along, traced

WIDE, HIGH, LARGEST = 1400.0, 780.0, 1.6  # what a projector offers, and the most that letters are blown up
LEGIBLE = 1.34  # what makes the smallest letters 20 pixels high
TRIES = (("TB", 0.4, 0.38), ("TB", 0.6, 0.48), ("TB", 0.8, 0.65), ("LR", 0.35, 1.6))  # direction, and gaps in inches
OTHERS = (
    ("TB", 0.8, 1.0),
    ("TB", 1.3, 1.3),
    ("LR", 0.6, 2.0),
    ("LR", 1.0, 2.4),
    ("LR", 0.3, 1.0),
    ("TB", 0.3, 0.5),
)  # where labels cover something in all of these

ASIDE = 22.0  # between two arrows from box to box
HIDDEN = 5_000.0  # the trouble with an arrow that is not to be seen
NOWHERE = (0.0, 0.0)  # the place of a label that has none yet

Line: TypeAlias = tuple[tuple[Point, ...], Point]  # the points of a curve, and its tip

HOW_TO_GET_PICTURES = "To see pictures, install Graphviz: `pip install pygraphviz` (it brings all it needs)."


@dataclass(frozen=True)
class Spot:
    """A place: the middle of a thing, and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        left, top = self.x - self.width / 2, self.y - self.height / 2
        return left, top, left + self.width, top + self.height


@dataclass(frozen=True)
class Curve:
    """An arrow: points of a Bézier curve from the holder, the tip at the target, and the middle of its labels.

    `raw`: as Graphviz has it, not yet cut so that it goes from the edge of a box to that of the other.
    """

    points: tuple[tuple[float, float], ...]
    tip: tuple[float, float]
    label: tuple[float, float] = NOWHERE
    raw: bool = False


@dataclass(frozen=True)
class Layout:
    """Places by key, in a coordinate system whose y goes down, and the corners of it all."""

    left: float
    top: float
    right: float
    bottom: float
    nodes: dict[str, Spot]
    edges: dict[str, Curve]
    trouble: float = 0.0  # how much the labels cover
    backwards: bool = False  # made from the nodes in the opposite order

    @property
    def width(self) -> float:
        """From the left to the right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From the top to the bottom."""
        return self.bottom - self.top

    @property
    def scale(self) -> float:
        """How far it can be blown up on a projector."""
        return min(WIDE / self.width, HIGH / self.height, LARGEST)

    @property
    def merit(self) -> float:
        """Large letters, clear labels, short arrows; and what came first stands first, unless that costs much."""
        way = sum(dist(a, b) for curve in self.edges.values() for a, b in pairwise(curve.points[::3]))
        small = min(self.scale / LEGIBLE, 1.0) ** 2
        return small * self.scale / (1 + self.trouble / 2_000 + way / 20_000) * (0.97 if self.backwards else 1.0)


def lay_out(graph: Graph) -> Layout | None:
    """The layout that can be read best on a projector; None if there is no Graphviz, or nothing to lay out."""
    try:
        return _lay_out(graph.nodes, graph.edges, _graphviz()) if graph.nodes else None
    except ImportError:
        return None


@lru_cache(maxsize=32)
def _lay_out(nodes: tuple[Node, ...], edges: tuple[Edge, ...], ask: Callable[[str], str]) -> Layout | None:
    """It depends on no moment, so the next press or step of the same calls finds it here."""
    graph = Graph(nodes, edges, (), ())

    def drawn(gaps: tuple[str, float, float], back: bool = False) -> Layout:
        return _read(json.loads(ask(dot(graph, *gaps, backwards=back))), graph, back)

    def better(best: Layout | None, bare: Layout) -> Layout:
        if best is not None and best.merit >= bare.merit:  # labels make it no better
            return best
        made = _put_labels(bare, graph)
        return made if best is None else max(best, made, key=lambda layout: layout.merit)

    first = [drawn(gaps, back) for gaps in TRIES for back in (False, True)]
    best = reduce(better, sorted(first, key=lambda layout: -layout.merit)[:4], None)
    for gaps in OTHERS:
        if best is None or (not best.trouble and best.scale >= LEGIBLE):
            break
        best = better(best, drawn(gaps))
    return best


def sketch(graph: Graph) -> Layout:
    """A layout without labels that need not be the best. Raises ImportError if there is no Graphviz."""
    return _read(json.loads(_graphviz()(dot(graph, *TRIES[0]))), graph)


def route(graph: Graph, spots: dict[str, Spot], sheet: Box) -> Layout:
    """The layout of boxes that have their places: Graphviz leads the arrows round them. It is as large as the sheet at least."""
    answer = json.loads(_graphviz()(pinned(graph, spots)))
    lines = {edge["id"]: _line(edge["pos"], 0.0) for edge in answer.get("edges", ())}
    edges = {edge.key: _led(edge, graph, spots, lines[edge.key]) for edge in graph.edges}
    left, top, right, bottom = zip(sheet, *(spot.box for spot in spots.values()), strict=True)
    corners = min(left), min(top), max(right), max(bottom)
    made = _put_labels(Layout(*corners, spots, edges), graph, _frame(*corners))
    hidden = sum(_hidden(edge, edges[edge.key], spots) for edge in graph.edges)
    return replace(made, trouble=made.trouble + HIDDEN * hidden)


def _led(edge: Edge, graph: Graph, spots: dict[str, Spot], line: Line) -> Curve:
    """An arrow as Graphviz leads it; a little aside where there are others from box to box, if it can be seen there."""
    holder, target = spots[edge.holder], spots[edge.target]
    gap, drop = target.box[0] - holder.box[2], target.box[1] - holder.box[1]
    if edge.sort == "owns" and abs(gap - KINSHIP) < 26 and abs(drop) < 1:
        return _kinship(holder, target)
    aside = Curve(*trim(*_beside(edge, graph, line), holder.box, target.box))
    return Curve(*trim(*line, holder.box, target.box)) if _hidden(edge, aside, spots) else aside


def _frame(left: float, top: float, right: float, bottom: float) -> list[Box]:
    """What lies outside a sheet: no label is to stand there, or all would get smaller."""
    far = 500.0
    return [
        (left - far, top - far, left, bottom + far),
        (right, top - far, right + far, bottom + far),
        (left, top - far, right, top),
        (left, bottom, right, bottom + far),
    ]


def _beside(edge: Edge, graph: Graph, line: Line) -> Line:
    points, tip = line
    ends = {edge.holder, edge.target}
    bundle = [other.key for other in graph.edges if {other.holder, other.target} == ends]
    far = (bundle.index(edge.key) - (len(bundle) - 1) / 2) * ASIDE / (dist(points[0], tip) or 1.0)
    far = far if edge.holder < edge.target else -far  # seen from the other end
    x, y = (points[0][1] - tip[1]) * far, (tip[0] - points[0][0]) * far
    return tuple((a + x, b + y) for a, b in points), (tip[0] + x, tip[1] + y)


def _hidden(edge: Edge, curve: Curve, spots: dict[str, Spot]) -> bool:
    """Does an arrow go through a box that it has nothing to do with?"""
    others = [spot.box for key, spot in spots.items() if key not in (edge.holder, edge.target)]
    points = along(curve.points)
    return any(left < x < right and top < y < bottom for left, top, right, bottom in others for x, y in points)


def _graphviz() -> Callable[[str], str]:
    """What makes a layout, in Graphviz's own JSON, of a text in the DOT language. Raises ImportError without a Graphviz."""
    try:
        import pygraphviz  # noqa: F401
    except ImportError:
        import graphviz  # noqa: F401

        if shutil.which("dot") is None:
            raise ImportError("there is no program `dot`") from None
        return _by_program
    return _in_process


def _in_process(source: str) -> str:
    import pygraphviz

    return str(pygraphviz.AGraph(string=source).draw(format="json0", prog="dot"), "utf-8")


def _by_program(source: str) -> str:
    import graphviz

    return str(graphviz.Source(source).pipe(format="json0"), "utf-8")


def _read(answer: Any, graph: Graph, backwards: bool = False) -> Layout:
    _, _, width, height = (float(number) for number in answer["bb"].split(","))
    middles = {thing["name"]: _point(thing["pos"], height) for thing in answer.get("objects", ())}
    nodes: dict[str, Spot] = {}
    for family in families(graph):
        nodes.update(spread(family, *middles[family[0].key]))
    lines = {edge["id"]: _line(edge["pos"], height) for edge in answer.get("edges", ())}
    edges = {}
    for edge in graph.edges:
        holder, target = nodes[edge.holder], nodes[edge.target]
        edges[edge.key] = Curve(*lines[edge.key], raw=True) if edge.key in lines else _kinship(holder, target)
    return Layout(0.0, 0.0, width, height, nodes, edges, backwards=backwards)


def spread(family: Family, x: float, y: float) -> dict[str, Spot]:
    """The places of the members of a family whose middle is known, from left to right, their tops on one line."""
    width, height = family_size(family)
    left, top = x - width / 2, y - height / 2
    places = {}
    for node in family:
        wide, high = box_size(node)
        places[node.key] = Spot(left + wide / 2, top + high / 2, wide, high)
        left += wide + KINSHIP
    return places


def _kinship(owner: Spot, owned: Spot) -> Curve:
    """The short arrow from an owner to what stands beside it."""
    start, end, y = owner.box[2], owned.box[0], owner.box[1] + HEADER / 2
    points = ((start, y), (start + 15, y), (end - 20, y), (end - 10, y))
    return Curve(points, (end, y))


def _put_labels(bare: Layout, graph: Graph, around: Collection[Box] = ()) -> Layout:
    layout = _cut(bare, graph)
    sizes = {edge.key: label_size(edge) for edge in graph.edges}
    places = {key: along(curve.points) for key, curve in layout.edges.items()}
    lines = {key: traced(curve.points, curve.tip) for key, curve in layout.edges.items()}
    obstacles = [*around, *(spot.box for spot in layout.nodes.values())]
    labels, trouble = Labels(places, lines, sizes, obstacles).place()
    edges = {key: replace(curve, label=labels[key]) for key, curve in layout.edges.items()}
    boxes = [Spot(*curve.label, *sizes[key]).box for key, curve in edges.items()]
    return replace(
        layout,
        left=min([layout.left, *(box[0] for box in boxes)]),
        top=min([layout.top, *(box[1] for box in boxes)]),
        right=max([layout.right, *(box[2] for box in boxes)]),
        bottom=max([layout.bottom, *(box[3] for box in boxes)]),
        edges=edges,
        trouble=trouble,
    )


def _cut(layout: Layout, graph: Graph) -> Layout:
    edges = dict(layout.edges)
    for edge in graph.edges:
        curve = edges[edge.key]
        if curve.raw:
            edges[edge.key] = Curve(
                *trim(curve.points, curve.tip, layout.nodes[edge.holder].box, layout.nodes[edge.target].box)
            )
    return replace(layout, edges=edges)


def _point(text: str, height: float) -> tuple[float, float]:
    x, y = text.split(",")[-2:]
    return round(float(x), 1), round(height - float(y), 1)


def _line(text: str, height: float) -> Line:
    """The points of a curve, and its tip."""
    words = text.split()
    tips = [_point(word, height) for word in words if word.startswith("e,")]
    points = tuple(_point(word, height) for word in words if not word.startswith(("e,", "s,")))
    return points, tips[0] if tips else points[-1]
