"""The graph in the DOT language: boxes of fixed size, with room for every text that they will ever show.

An object that is owned stands beside its owner, the two are one node of the layout: a *family*.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .graph import Edge, Graph, Node

FONT = 16.0  # height of the letters, in the units of the layout
LETTER = 0.605 * FONT  # width of a letter of a fixed-width font
HEADER, ROW, PADDING = 26.0, 21.0, 9.0
LABEL_HEIGHT, LABEL_LETTER = 19.0, 8.2  # of the label of an arrow, in a proportional font
KINSHIP = 58.0  # the gap between an owner and what it owns

Family = tuple[Node, ...]


def box_size(node: Node) -> tuple[float, float]:
    """Width and height of a box."""
    letters = [len(node.kind) + 1 + len(node.label) + 2]
    letters += [len(row.cell) + 2 + row.widest for row in node.rows]
    return max(letters) * LETTER + 2 * PADDING, HEADER + len(node.rows) * ROW + (4 if node.rows else 0)


def label_size(edge: Edge) -> tuple[float, float]:
    """Width and height of the labels of an arrow."""
    letters = max(len(label.widest) for label in edge.labels) + 2
    return letters * LABEL_LETTER, len(edge.labels) * LABEL_HEIGHT


def families(graph: Graph) -> list[Family]:
    """All nodes, each owner with what it owns, what that owns, and so on. Only what has no count of its own is owned."""
    nodes = {node.key: node for node in graph.nodes}
    countless = {node.key for node in graph.nodes if not any(row.sort == "count" for row in node.rows)}
    owned_by: dict[str, str] = {}
    for edge in graph.edges:
        if edge.sort == "owns" and edge.target in countless and edge.holder not in owned_by.values():
            owned_by.setdefault(edge.target, edge.holder)
    below = {owner: owned for owned, owner in owned_by.items()}
    found = []
    for node in graph.nodes:
        if node.key not in owned_by:
            family = [node]
            while family[-1].key in below:
                family.append(nodes[below[family[-1].key]])
            found.append(tuple(family))
    return found


def family_size(family: Family) -> tuple[float, float]:
    """Width and height of a family."""
    sizes = [box_size(node) for node in family]
    return sum(width for width, _ in sizes) + KINSHIP * (len(family) - 1), max(height for _, height in sizes)


def dot(
    graph: Graph, direction: str = "TB", beside: float = 0.4, between: float = 0.38, *, backwards: bool = False
) -> str:
    """The graph in the DOT language, with these gaps between nodes and between their ranks, in inches.

    `backwards` names the nodes in the opposite order, which makes another layout. Raises ImportError without the
    `graphviz` package.
    """
    import graphviz

    attributes = {"rankdir": direction, "nodesep": f"{beside}", "ranksep": f"{between}"}
    drawing = graphviz.Digraph("references", graph_attr=attributes, node_attr={"shape": "plain"})
    kin = families(graph)
    for family in kin[::-1] if backwards else kin:
        drawing.node(family[0].key, _table(family), comment=", ".join(node.oid for node in family))
    at = {node.key: f"{family[0].key}:{node.key}" for family in kin for node in family}
    inside = {pair for family in kin for pair in pairwise(family)}
    for edge in graph.edges:
        if (edge.holder, edge.target) not in {(owner.key, owned.key) for owner, owned in inside}:
            told = "; ".join(label.widest for label in edge.labels)
            drawing.edge(at[edge.holder], at[edge.target], id=edge.key, comment=told, **_freedom(edge))
    return str(drawing.source)


def pinned(graph: Graph, places: Mapping[str, Any]) -> str:
    """The graph in the DOT language, with a place for each node: only the arrows are left to be laid."""
    import graphviz

    drawing = graphviz.Digraph(
        "references",
        graph_attr={"layout": "nop2", "splines": "true", "notranslate": "true", "esep": "+4"},
        node_attr={"shape": "box", "label": "", "fixedsize": "true"},
    )
    for node in graph.nodes:
        spot = places[node.key]
        size = {"width": f"{spot.width / 72:.3f}", "height": f"{spot.height / 72:.3f}"}
        drawing.node(node.key, pos=f"{spot.x:.1f},{-spot.y:.1f}", **size)
    for edge in graph.edges:
        drawing.edge(edge.holder, edge.target, id=edge.key)
    return str(drawing.source)


def _table(family: Family) -> str:
    """A label that is nothing but room: no text, so Graphviz need not look for fonts."""
    plain = 'BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"'
    cells = []
    for node in family:
        width, height = (round(points) for points in box_size(node))
        cell = f'<TD PORT="{node.key}" FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}"></TD>'
        cells.append(f'<TD VALIGN="TOP"><TABLE {plain}><TR>{cell}</TR></TABLE></TD>')
    gap = f'<TD FIXEDSIZE="TRUE" WIDTH="{KINSHIP:.0f}" HEIGHT="9"></TD>'
    return f"<<TABLE {plain}><TR>{gap.join(cells)}</TR></TABLE>>"


def _freedom(edge: Edge) -> dict[str, str]:
    """Who waits, or only points at something, does not decide what stands above what."""
    return {"constraint": "false"} if edge.sort in ("waits", "weak") else {}
