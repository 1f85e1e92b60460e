"""Where everything goes: Graphviz places boxes and arrows, once for all moments of a trace; the labels come after."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from itertools import pairwise
from math import dist
from typing import Any

from .curves import trim
from .dot import HEADER, KINSHIP, Family, box_size, dot, families, family_size, label_size
from .graph import Graph
from .labels import along, place

WIDE, HIGH, LARGEST = 1400.0, 780.0, 1.6  # what a projector offers, and the most that letters are blown up
TRIES = (("TB", 0.4, 0.38), ("TB", 0.6, 0.48), ("TB", 0.8, 0.65), ("LR", 0.35, 1.6))  # direction, and gaps in inches

NOWHERE = (0.0, 0.0)  # the place of a label that has none yet

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
    """An arrow: points of a Bézier curve from the holder, the tip at the target, and the middle of its labels."""

    points: tuple[tuple[float, float], ...]
    tip: tuple[float, float]
    label: tuple[float, float] = NOWHERE


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
        return self.scale / (1 + self.trouble / 20_000 + way / 20_000) * (0.97 if self.backwards else 1.0)


def lay_out(graph: Graph) -> Layout | None:
    """The layout that can be read best on a projector; None if there is no Graphviz, or nothing to lay out."""
    if not graph.nodes:
        return None
    tries = [(gaps, backwards) for gaps in TRIES for backwards in (False, True)]
    try:
        answers = [(_ask_graphviz(dot(graph, *gaps, backwards=back)), back) for gaps, back in tries]
    except ImportError:
        return None
    layouts = [replace(_read(answer, graph), backwards=back) for answer, back in answers if answer is not None]
    layouts.sort(key=lambda layout: -layout.merit)
    return max((_put_labels(layout, graph) for layout in layouts[:4]), key=lambda layout: layout.merit, default=None)


def _ask_graphviz(source: str) -> Any:
    """The layout as Graphviz tells it; None without a Graphviz."""
    try:
        import pygraphviz
    except ImportError:
        if shutil.which("dot") is None:
            return None
        import graphviz

        return json.loads(graphviz.Source(source).pipe(format="json0"))
    return json.loads(pygraphviz.AGraph(string=source).draw(format="json0", prog="dot"))


def _read(answer: Any, graph: Graph) -> Layout:
    _, _, width, height = (float(number) for number in answer["bb"].split(","))
    middles = {thing["name"]: _point(thing["pos"], height) for thing in answer.get("objects", ())}
    nodes: dict[str, Spot] = {}
    for family in families(graph):
        nodes.update(_spread(family, *middles[family[0].key]))
    lines = {edge["id"]: _line(edge["pos"], height) for edge in answer.get("edges", ())}
    edges = {}
    for edge in graph.edges:
        holder, target = nodes[edge.holder], nodes[edge.target]
        if edge.key in lines:
            edges[edge.key] = Curve(*trim(*lines[edge.key], holder.box, target.box))
        else:
            edges[edge.key] = _kinship(holder, target)
    return Layout(0.0, 0.0, width, height, nodes, edges)


def _spread(family: Family, x: float, y: float) -> dict[str, Spot]:
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
    return Curve(points, (end, y), ((start + end) / 2, y + 17))


def _put_labels(layout: Layout, graph: Graph) -> Layout:
    sizes = {edge.key: label_size(edge) for edge in graph.edges}
    fixed = {key: Spot(*curve.label, *sizes[key]) for key, curve in layout.edges.items() if curve.label != NOWHERE}
    lines = {key: along(curve.points) for key, curve in layout.edges.items() if key not in fixed}
    tips = [Spot(*curve.tip, 26, 26) for curve in layout.edges.values()]
    obstacles = [spot.box for spot in [*layout.nodes.values(), *fixed.values(), *tips]]
    labels, trouble = place(lines, sizes, obstacles)
    edges = {key: replace(curve, label=labels.get(key, curve.label)) for key, curve in layout.edges.items()}
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


def _point(text: str, height: float) -> tuple[float, float]:
    x, y = text.split(",")[-2:]
    return round(float(x), 1), round(height - float(y), 1)


def _line(text: str, height: float) -> tuple[tuple[tuple[float, float], ...], tuple[float, float]]:
    """The points of a curve, and its tip."""
    words = text.split()
    tips = [_point(word, height) for word in words if word.startswith("e,")]
    points = tuple(_point(word, height) for word in words if not word.startswith(("e,", "s,")))
    return points, tips[0] if tips else points[-1]
