"""One moment of a graph as SVG, with what is different from another moment marked, by more than colour."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from html import escape
from math import hypot

from ..assets import style_sheet
from .atlas import ALONE, BELOW, HEAD, LETTER, PADDING, ROW, TITLE, Spot, alone, bare, in_title, row_name, titles
from .graph import FREED, NULL, Edge, Frame, Graph, Node, Row, change_text
from .layout import LARGEST, MARGIN, Curve, Layout

BADGE = 12  # how far it reaches around its middle
BADGES = {"new": "+", "gone": "−"}
CORNER, CALL_CORNER = 7, 12


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
    read: Collection[str] = (),
    harmed: Collection[str] = (),
    name: str = "g",
    about: str = "",
    whole: bool = True,
    styled: bool = True,
) -> str:
    """The graph at the moment `now`; differences from `was` are marked. Ids begin with `name`; `about` says it in words.

    `read` are the keys of rows that were looked at in between, `harmed` those of rows that contradict each other now.
    `whole`: also what is not to be seen at this moment, for a script that will show it at another one. `styled`: with its style
    sheets; a page that has them need not read them with each picture.
    """
    looks = {key: look(now.get(key, ""), (now if was is None else was).get(key, "")) for key in _keys(graph)}
    if not whole:
        looks = {key: one for key, one in looks.items() if one.mark != "off"}
    pointing = {edge.row for edge in graph.edges if edge.row}
    nodes = "".join(
        _Box(node, layout.nodes[node.key], looks, pointing, read, harmed).svg(name, now)
        for node in graph.nodes
        if node.key in looks
    )
    edges = "".join(
        _edge(edge, layout.edges[edge.key], looks[edge.key], name) for edge in graph.edges if edge.key in looks
    )
    sheets = f"<style>{style_sheet('palette.css')}{style_sheet('graph.css')}</style>" if styled else ""
    high = [layout.nodes[node.key].top - BADGE - 3 for node in graph.nodes if in_title(node)]  # their badges stick out
    top = min([layout.top - MARGIN, *high])
    width, height = round(layout.width + MARGIN), round(layout.height - top)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vfiosim-graph" role="img" style="max-width: {width * LARGEST:.0f}px" '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-desc" width="{width}" height="{height}" '
        f'viewBox="{-MARGIN:.0f} {top:.0f} {width} {height}">'
        f'<title id="{name}-title">Who holds a reference to whom</title>'
        f'<desc id="{name}-desc">{escape(about)}</desc>'
        f"{sheets}"
        f'<rect class="paper" x="{-MARGIN:.0f}" y="{top:.0f}" width="{width}" height="{height}"/>'
        f"{nodes}{edges}</svg>"
    )


def _keys(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        yield node.key
        for row in node.rows:
            yield from (key for key in (row.key, row.stub) if key)
    yield from (edge.key for edge in graph.edges)


@dataclass(frozen=True)
class _Box:
    """A box with its titles and rows."""

    node: Node
    spot: Spot
    looks: dict[str, Look]
    pointing: Collection[str]  # the keys of rows from which arrows begin
    read: Collection[str]
    harmed: Collection[str]

    def svg(self, name: str, now: Frame) -> str:
        """The box; what is about one row is in the group of that row."""
        node, spot = self.node, self.spot
        mark = self.looks[node.key].mark
        folded = " folded" if node.folded and not bare(node) else ""
        freed = " freed" if now.get(node.key) == FREED else ""
        read = (" read" if node.key in self.read else "") + (" harmed" if node.key in self.harmed else "")
        corner = CALL_CORNER if node.kind == "thread" else CORNER
        head = len(titles(node)) * TITLE + HEAD
        high = self._height(head)
        only = " alone" if alone(node) or high < head + BELOW else ""
        badge = (spot.right, spot.top - 3) if in_title(node) else (spot.right - 6, spot.top + 6)  # it hides no number
        titled = "".join(self._title(*line, number) for number, line in enumerate(titles(node)))
        first = spot.top + HEAD if in_title(node) else spot.top + head
        rows = "".join(
            self._row(row, first + line * ROW)
            for row, line in zip(node.rows, node.lines, strict=True)
            if row.key in self.looks
        )
        return (
            f'<g id="{name}-{node.key}" data-key="{node.key}" data-oid="{escape(node.oid)}" '
            f"{_owned(node)}"
            f'class="node home-{escape(node.home or node.kind)} kind-{escape(node.kind)} {mark}{freed}{read}{folded}{only}">'
            f"<title>{escape(', '.join(node.parts))}</title>"
            f'<rect class="box" x="{spot.left:.1f}" y="{spot.top:.1f}" '
            f'width="{spot.width:.1f}" height="{high:.1f}" rx="{corner}"/>'
            f'<path class="head" d="{_rounded_top(spot, head, corner)}"/>{titled}{rows}'
            f'<circle class="badge" cx="{badge[0]:.1f}" cy="{badge[1]:.1f}" r="11"/>'
            f'<text class="badge" x="{badge[0]:.1f}" y="{badge[1] + 6:.1f}">{BADGES.get(mark, "")}</text></g>'
        )

    def _height(self, head: float) -> float:
        """A call is as high as what it shows. The player's script has the same rule."""
        node = self.node
        if node.kind != "thread" or in_title(node):
            return self.spot.height
        rows = zip(node.rows, node.lines, strict=True)
        marks = [(row, line, self.looks[row.key].mark) for row, line in rows if row.key in self.looks]
        shown = [line + 1 for row, line, mark in marks if not (_passing(row) and mark in ("off", "gone"))]
        return head + (max(shown) * ROW + BELOW if shown else ALONE - HEAD)

    def _title(self, part: str, kind: str, label: str, number: int) -> str:
        x, y = self.spot.left + PADDING, self.spot.top + number * TITLE + (17 if alone(self.node) else 16)
        first = f'<tspan class="kind">{escape(kind)}</tspan>' if kind else ""
        said = f"{first} {escape(label)}" if kind and label else first or escape(label)
        return f'<text class="title" data-part="{escape(part)}" x="{x:.1f}" y="{y:.1f}">{said}</text>'

    def _row(self, row: Row, top: float) -> str:
        shown, spot = self.looks[row.key], self.spot
        read = (" read" if row.key in self.read else "") + (" harmed" if row.key in self.harmed else "")
        # Of many descriptors it is hard to see where each arrow goes.
        drawn = row.sort == "pointer" and row.key in self.pointing and self.node.kind != "fds"
        passing = (" passing" if _passing(row) else "") + ("" if row_name(row) else " check")
        passing += " refused" if shown.text.startswith("✕") else ""
        end = spot.right - PADDING
        left, name = spot.left + 1.5, row_name(row) or row.cell
        words = f'data-words="{escape(" ".join(row.words))}" ' if row.words else ""
        if in_title(self.node):  # beside the name of the box
            left, name = end - (row.widest + 1) * LETTER, ""
        return (
            f'<g data-key="{row.key}" {words}class="row row-{row.sort}{" drawn" if drawn else ""}{passing} {shown.mark}{read}">'
            f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{spot.right - 1.5 - left:.1f}" height="{ROW:.1f}"/>'
            f'<text class="name" x="{spot.left + PADDING:.1f}" y="{top + 15:.1f}">{escape(name)}</text>'
            f'<text class="value" x="{end:.1f}" y="{top + 15:.1f}">{escape(row_text(shown, drawn, row.words))}</text>'
            f"{self._stub(row, end, top)}</g>"
        )

    def _stub(self, row: Row, end: float, top: float) -> str:
        """How many references have a holder that is not drawn, beside the number."""
        if row.stub not in self.looks:
            return ""
        shown = self.looks[row.stub]
        x = end - (row.widest + 1) * LETTER
        return (
            f'<g data-key="{row.stub}" class="stub {shown.mark}"><title>{escape(shown.text)}</title>'
            f'<text x="{x:.1f}" y="{top + 15:.1f}">{escape(shown.text.partition(":")[0])}</text></g>'
        )


def _passing(row: Row) -> bool:
    """Is nothing of a row to be seen where it has no text?"""
    return bool(row.calls)


def _owned(node: Node) -> str:
    """All objects in a box, for the script, where there are several."""
    return f'data-parts="{escape(json.dumps(node.parts))}" ' if len(node.parts) > 1 else ""


def _rounded_top(spot: Spot, height: float, corner: float) -> str:
    left, top, right, bottom = spot.left, spot.top, spot.right, spot.top + height
    return (
        f"M{left:g} {bottom:g}V{top + corner:g}Q{left:g} {top:g} {left + corner:g} {top:g}"
        f"H{right - corner:g}Q{right:g} {top:g} {right:g} {top + corner:g}V{bottom:g}Z"
    )


def row_text(shown: Look, drawn: bool, words: Collection[str] = ()) -> str:
    """What stands at the right of a row: a pointer from which arrows are `drawn` shows itself by them, where it is no such word."""
    if drawn:
        return shown.text if shown.text in (NULL, *words) else ""
    return change_text(shown.was, shown.text) if shown.mark == "changed" else shown.text


def _edge(edge: Edge, curve: Curve, shown: Look, name: str) -> str:
    (x, y), *rest = (*curve[:-1], _before(curve))
    path = f"M{x:g} {y:g}C" + " ".join(f"{round(px, 1):g} {round(py, 1):g}" for px, py in rest)
    dot = f'<circle class="port" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>' if edge.row else ""
    times = int(shown.text) if shown.text.isdigit() else 1
    return (
        f'<g id="{name}-{edge.key}" data-key="{edge.key}" data-from="{edge.holder}" data-to="{edge.target}" '
        f'data-row="{edge.row}" data-into="{edge.into}" class="edge {edge.sort} {shown.mark}">'
        f"<title>{escape(edge.sort)}: {escape(edge.reason)}{f' ×{times}' if times > 1 else ''}</title>"
        f'<path class="line" d="{path}"/><path class="tip" d="{_tip(curve)}"/>{dot}{_minus(curve)}</g>'
    )


def _minus(curve: Curve) -> str:
    """The sign on an arrow that has just been let go, in its middle."""
    first = (len(curve) - 1) // 6 * 3
    x, y = (
        sum(part * way for part, way in zip(one, (1, 3, 3, 1), strict=True)) / 8
        for one in zip(*curve[first : first + 4], strict=True)
    )
    return f'<g class="minus"><circle cx="{x:.0f}" cy="{y:.0f}" r="9"/><path d="M{x - 5:.0f} {y:.0f}h10"/></g>'


def _before(curve: Curve) -> tuple[float, float]:
    """The line ends a little before the tip, so that this is sharp."""
    (x, y), (tx, ty) = curve[-2], curve[-1]
    length = hypot(tx - x, ty - y) or 1.0
    return tx - (tx - x) / length * 8, ty - (ty - y) / length * 8


def _tip(curve: Curve) -> str:
    """The head of an arrow: a triangle."""
    (x, y), (tx, ty) = curve[-2], curve[-1]
    length = hypot(tx - x, ty - y) or 1.0
    dx, dy = (tx - x) / length * 11, (ty - y) / length * 11
    bx, by = tx - dx, ty - dy
    return f"M{tx:.1f} {ty:.1f}L{bx - dy / 2:.1f} {by + dx / 2:.1f}L{bx + dy / 2:.1f} {by - dx / 2:.1f}Z"
