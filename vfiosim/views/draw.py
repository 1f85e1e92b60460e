"""One moment of a graph as SVG, with what is different from another moment marked, by more than colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from math import hypot

from ..assets import asset
from .dot import HEADER, LABEL_HEIGHT, LETTER, PADDING, ROW
from .graph import FREED, Edge, Frame, Graph, Node, Row, change_text
from .layout import LARGEST, Curve, Layout, Spot

BADGES = {"new": "+", "gone": "−"}
MARGIN = 12.0


@dataclass(frozen=True)
class Look:
    """How one thing is shown: its mark ("off", "new", "gone", "changed" or ""), its text, and the one it had before."""

    mark: str
    text: str
    was: str


def look(now: str, was: str) -> Look:
    """The look of a thing with the text `now` that had the text `was` before. The player's script has the same rule."""
    if now == was:
        return Look("" if now else "off", now, was)
    if not now or now == FREED:
        return Look("gone", was, was)
    return Look("changed" if was else "new", now, was)


def svg(
    graph: Graph,
    layout: Layout,
    now: Frame,
    was: Frame | None = None,
    *,
    name: str = "g",
    about: str = "",
    whole: bool = True,
) -> str:
    """The graph at the moment `now`; differences from `was` are marked. Ids begin with `name`; `about` says it in words.

    `whole`: also what is not to be seen at this moment, for a script that will show it at another one.
    """
    looks = {key: look(now.get(key, ""), (now if was is None else was).get(key, "")) for key in _keys(graph)}
    if not whole:
        looks = {key: one for key, one in looks.items() if one.mark != "off"}
    edges = "".join(
        _edge(edge, layout.edges[edge.key], looks[edge.key], name) for edge in graph.edges if edge.key in looks
    )
    labels = "".join(_labels(edge, layout.edges[edge.key], looks) for edge in graph.edges if edge.key in looks)
    nodes = "".join(_node(node, layout.nodes[node.key], looks, name, now) for node in graph.nodes if node.key in looks)
    left, top = round(layout.left - MARGIN), round(layout.top - MARGIN)
    width, height = round(layout.width + 2 * MARGIN), round(layout.height + 2 * MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vfiosim-graph" role="img" style="max-width: {width * LARGEST:.0f}px" '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-desc" width="{width}" height="{height}" '
        f'viewBox="{left} {top} {width} {height}">'
        f'<title id="{name}-title">Who holds a reference to whom</title>'
        f'<desc id="{name}-desc">{escape(about)}</desc>'
        f"<style>{asset('graph.css').read_text('utf-8')}</style>"
        f'<rect class="paper" x="{left}" y="{top}" width="{width}" height="{height}"/>'
        f"{edges}{nodes}{labels}</svg>"
    )


def _keys(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        yield node.key
        yield from (row.key for row in node.rows)
    for edge in graph.edges:
        yield edge.key
        yield from (label.key for label in edge.labels)


def _node(node: Node, spot: Spot, looks: dict[str, Look], name: str, now: Frame) -> str:
    left, top = spot.x - spot.width / 2, spot.y - spot.height / 2
    mark = looks[node.key].mark
    freed = " freed" if now.get(node.key) == FREED else ""
    bare = "" if node.rows else " bare"
    corner = 16 if node.kind == "thread" else 7
    rows = "".join(
        _row(row, looks[row.key], left, top + HEADER + 2 + number * ROW, spot.width)
        for number, row in enumerate(node.rows)
        if row.key in looks
    )
    return (
        f'<g id="{name}-{node.key}" data-key="{node.key}" data-oid="{escape(node.oid)}" '
        f'class="node home-{escape(node.home or node.kind)} {mark}{freed}{bare}">'
        f"<title>{escape(node.oid)}</title>"
        f'<rect class="box" x="{left:.1f}" y="{top:.1f}" width="{spot.width:.1f}" height="{spot.height:.1f}" rx="{corner}"/>'
        f'<path class="head" d="{_rounded_top(left, top, spot.width, corner)}"/>'
        f'<text x="{left + PADDING:.1f}" y="{top + 18.5:.1f}"><tspan class="kind">{escape(node.kind)}</tspan> '
        f"{escape(node.label)}</text>{rows}"
        f'<circle class="badge" cx="{left + spot.width - 4:.1f}" cy="{top + 4:.1f}" r="11"/>'
        f'<text class="badge" x="{left + spot.width - 4:.1f}" y="{top + 10:.1f}">{BADGES.get(mark, "")}</text></g>'
    )


def _rounded_top(left: float, top: float, width: float, corner: float) -> str:
    right, bottom = left + width, top + HEADER
    return (
        f"M{left:.1f} {bottom:.1f}V{top + corner:.1f}Q{left:.1f} {top:.1f} {left + corner:.1f} {top:.1f}"
        f"H{right - corner:.1f}Q{right:.1f} {top:.1f} {right:.1f} {top + corner:.1f}V{bottom:.1f}Z"
    )


def _row(row: Row, shown: Look, left: float, top: float, width: float) -> str:
    cell = row.widest * LETTER + 10
    start = left + width - PADDING / 2 - cell
    return (
        f'<g data-key="{row.key}" class="row row-{row.sort} {shown.mark}">'
        f'<text class="name" x="{left + PADDING:.1f}" y="{top + 15.5:.1f}">{escape(row.cell)}</text>'
        f'<rect class="cell" x="{start:.1f}" y="{top + 1:.1f}" width="{cell:.1f}" height="{ROW - 3:.1f}" rx="4"/>'
        f'<text class="value" x="{start + cell / 2:.1f}" y="{top + 16:.1f}">{escape(_row_text(shown))}</text></g>'
    )


def _row_text(shown: Look) -> str:
    return change_text(shown.was, shown.text) if shown.mark == "changed" else shown.text


def _edge(edge: Edge, curve: Curve, shown: Look, name: str) -> str:
    (x, y), *rest = curve.points
    path = f"M{x} {y}C" + " ".join(f"{px} {py}" for px, py in rest)
    return (
        f'<g id="{name}-{edge.key}" data-key="{edge.key}" data-from="{edge.holder}" data-to="{edge.target}" '
        f'class="edge {edge.sort} {shown.mark}">'
        f"<title>{escape(edge.sort)}: {escape('; '.join(label.widest for label in edge.labels))}</title>"
        f'<path class="line" d="{path}"/>{_tail(edge, curve)}<path class="tip" d="{_tip(curve)}"/></g>'
    )


def _labels(edge: Edge, curve: Curve, looks: dict[str, Look]) -> str:
    """The labels of an arrow, one below the other, on top of everything that they might cross."""
    top = curve.label[1] - len(edge.labels) * LABEL_HEIGHT / 2
    return "".join(
        f'<text data-key="{label.key}" data-edge="{edge.key}" class="label {edge.sort} {looks[label.key].mark}" '
        f'x="{curve.label[0]:.1f}" y="{top + number * LABEL_HEIGHT + 15:.1f}">{escape(_label_text(looks[label.key]))}</text>'
        for number, label in enumerate(edge.labels)
        if label.key in looks
    )


def _label_text(shown: Look) -> str:
    return f"{BADGES.get(shown.mark, '')} {shown.text}".strip()


def _tip(curve: Curve) -> str:
    """The head of an arrow: a triangle from the end of the line to the tip."""
    (x, y), (tx, ty) = curve.points[-1], curve.tip
    length = hypot(tx - x, ty - y) or 1.0
    dx, dy = (tx - x) / length * 11, (ty - y) / length * 11
    bx, by = tx - dx, ty - dy
    return f"M{tx:.1f} {ty:.1f}L{bx - dy / 2:.1f} {by + dx / 2:.1f}L{bx + dy / 2:.1f} {by - dx / 2:.1f}Z"


def _tail(edge: Edge, curve: Curve) -> str:
    """The owner's end of an owning pointer: a diamond."""
    if edge.sort != "owns":
        return ""
    (x, y), (nx, ny) = curve.points[0], curve.points[1]
    length = hypot(nx - x, ny - y) or 1.0
    dx, dy = (nx - x) / length * 9, (ny - y) / length * 9
    sides = f"L{x + dx - dy / 1.6:.1f} {y + dy + dx / 1.6:.1f}L{x + 2 * dx:.1f} {y + 2 * dy:.1f}"
    return f'<path class="tip" d="M{x} {y}{sides}L{x + dx + dy / 1.6:.1f} {y + dy - dx / 1.6:.1f}Z"/>'
