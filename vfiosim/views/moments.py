"""Tells from moment to moment what each key of a drawing shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from .facts import Arrow, CellFact, Fact, Facts
from .graph import ALIVE, FREED, NULL, Frame, Node, beside, shorten
from .running import plain

if TYPE_CHECKING:
    from .rows import Drawing


class Moments:
    """Follows the facts, and tells what is different for the keys: only what a change bears on is looked at.

    An arrow needs a box at each end: an object has one also after its death, while an arrow touches it. Weak arrows beside a
    counted one go.
    """

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        rows = [(node, row) for node in drawing.nodes for row in node.rows]
        edges = drawing.edges.values()
        self._edges = {edge.key: (number, edge) for number, edge in enumerate(edges)}
        self._beside: dict[tuple[str, str], list[str]] = {}  # by the boxes of both ends, the weak arrows
        for edge in edges:
            if edge.sort == "weak":
                self._beside.setdefault((edge.holder, edge.target), []).append(edge.key)
        self._nodes = {node.key: node for node in drawing.nodes}
        self._node_of = {part: node.key for node in drawing.nodes for part in node.parts}
        self._pointers = {row.key: (node, row) for node, row in rows if row.sort == "pointer"}
        self._pointers_of: dict[str, list[str]] = {}
        for key, (_, row) in self._pointers.items():
            self._pointers_of.setdefault(row.oid, []).append(key)
        self._stubs = {row.key: row.stub for _, row in rows if row.stub}
        drawn = {edge.row for edge in edges}
        self._cut = {row.key: partial(beside, said_of(row.oid, row.cell)) for _, row in rows if row.key not in drawn}
        self._alive: set[str] = set()
        self._met: dict[Arrow, int] = {}  # the counted references in the order in which they came
        self._hidden: dict[str, dict[Arrow, int]] = {}  # by counter, those that no arrow stands for
        self._counted: Counter[tuple[str, str]] = Counter()  # by the boxes of both ends, counted arrows
        self._touching: Counter[str] = Counter()  # by box, how many arrows are shown
        self._leading: dict[str, dict[int, str]] = {}  # by row, to what its arrows lead that are shown
        self._now: Frame = {}  # what the facts tell of each key, cut to what fits
        self._shown: Frame = {}

    def after(self, change: Facts) -> Frame:
        """What the keys show after a change that they did not show before."""
        touched = dict.fromkeys(key for fact, text in change.items() for key in self._take(fact, text))
        told: Frame = {}
        arrows = dict.fromkeys(other for key in touched if key in self._edges for other in self._changed(key))
        for key in arrows:
            touched.update(dict.fromkeys(self._arrow(key, told)))
        for key in touched:
            if key in self._nodes:
                self._show(key, self._box(self._nodes[key]), told)
            elif key not in self._edges:
                self._show(key, self._row(key), told)
                if key in self._stubs:
                    self._show(self._stubs[key], self._stub(key), told)
        return told

    def _show(self, key: str, text: str, told: Frame) -> None:
        if self._shown.get(key, "") != text:
            self._shown[key] = told[key] = text

    def _take(self, fact: Fact, text: str) -> Iterator[str]:
        """Note it, and tell on which keys it bears."""
        keys = self._drawing.keys
        if isinstance(fact, CellFact):
            if (fact.oid, fact.cell) in keys:
                yield self._tell(keys[fact.oid, fact.cell], text)
        elif isinstance(fact, Arrow):
            edge = self._drawing.edges.get(fact)
            if place := self._drawing.aside.get(fact):
                yield self._tell(keys[place], fact.target if text else "")
            if edge is not None:
                yield self._tell(edge.key, text)
            if fact.sort == "counted" and (fact.target, fact.via) in keys:
                yield self._hide(fact, keys[fact.target, fact.via], (int(text) if text else 0) - bool(edge and text))
        else:
            (self._alive.add if text else self._alive.discard)(fact.oid)
            yield from filter(None, (self._node_of.get(fact.oid), *self._pointers_of.get(fact.oid, ())))

    def _hide(self, fact: Arrow, counter: str, n: int) -> str:
        """So many references no arrow stands for."""
        self._met.setdefault(fact, len(self._met))
        hidden = self._hidden.setdefault(counter, {})
        if n:
            hidden[fact] = n
        else:
            hidden.pop(fact, None)
        return counter

    def _tell(self, key: str, text: str) -> str:
        if text:
            self._now[key] = self._cut.get(key, shorten)(text)
        else:
            self._now.pop(key, None)
        return key

    def _changed(self, key: str) -> Iterator[str]:
        """The arrows that come or go with this one, as far as the facts tell of it: itself, and a weak one beside a counted one."""
        _, edge = self._edges[key]
        yield key
        if edge.sort == "counted" and (key in self._now) != bool(self._shown.get(key)):
            ends = edge.holder, edge.target
            self._counted[ends] += 1 if key in self._now else -1
            yield from self._beside.get(ends, ())

    def _arrow(self, key: str, told: Frame) -> Iterator[str]:
        """Show it or not, and tell on which boxes and rows that bears."""
        number, edge = self._edges[key]
        hidden = edge.sort == "weak" and self._counted[edge.holder, edge.target]
        before, text = self._shown.get(key, ""), "" if hidden else self._now.get(key, "")
        self._show(key, text, told)
        if bool(before) != bool(text):
            for end in (edge.holder, edge.target):
                self._touching[end] += 1 if text else -1
            if edge.row in self._pointers:
                leading = self._leading.setdefault(edge.row, {})
                leading.pop(number, None)
                if text:
                    leading[number] = self._nodes[edge.target].oid
            yield from filter(None, (edge.holder, edge.target, edge.row))

    def _box(self, node: Node) -> str:
        if node.oid in self._alive or (node.kind == "thread" and self._touching[node.key]):
            return ALIVE
        return FREED if self._touching[node.key] or self._alive.intersection(node.parts) else ""

    def _row(self, key: str) -> str:
        if (
            self._leading.get(key) and self._now.get(key) != NULL
        ):  # a field that was overwritten points nowhere, whatever is held
            targets = ", ".join(dict.fromkeys(target for _, target in sorted(self._leading[key].items())))
            node, row = self._pointers[key]
            return beside(row.cell, targets) if node.kind == "fds" else targets
        text = self._now.get(key, "")
        if not text and key in self._pointers:
            node, row = self._pointers[key]
            return NULL if row.oid in self._alive and node.kind not in ("thread", "fds") else ""
        return text

    def _stub(self, key: str) -> str:
        """What is said of the references that no arrow stands for."""
        hidden = self._hidden.get(key)
        if not hidden or not self._shown.get(key):
            return ""
        some = sorted(hidden.items(), key=lambda item: self._met[item[0]])
        who = "; ".join(f"{_who(arrow)}{f' ×{n}' if n > 1 else ''}" for arrow, n in some)
        return f"{sum(hidden.values()):+d}: {who}"


def said_of(oid: str, cell: str) -> str:
    """The name that a row shows; the last check of a call speaks for itself."""
    return "" if oid.startswith("thread ") and plain(cell) == "check" else plain(cell)


def _who(arrow: Arrow) -> str:
    """Who has a reference, and as what; of a table it is one of its descriptors."""
    table, _, program = arrow.holder.partition(" ")
    if table == "fds" and arrow.reason.startswith("fd "):
        return f"descriptor {arrow.reason.removeprefix('fd ')} of {program}"
    return f"{arrow.holder} ({arrow.reason})"
