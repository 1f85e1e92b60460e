"""A picture for a first walk: few boxes, and of each few rows. Whoever takes finer steps sees all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from .atlas import Atlas
from .collapse import without_rows
from .graph import Graph, Node, fits


@dataclass(frozen=True)
class Brief:
    """By kinds or names of objects ("file vfio0#*") the rows of their boxes; counters and what arrows leave from come anyway.

    It has a map of its own, as its boxes are smaller.
    """

    boxes: Mapping[str, Collection[str]]
    atlas: Atlas = field(default_factory=Atlas)

    def said(self, graph: Graph, sentence: str) -> str:
        """A sentence about this brief graph: what is inside a box goes by the name of the box, as only that is drawn."""
        boxes = {part: node.oid for node in graph.nodes for part in node.parts[1:]}
        names = "|".join(map(re.escape, boxes))
        return re.sub(rf"\b({names})\b", lambda found: boxes[found[0]], sentence) if boxes else sentence

    def of(self, graph: Graph) -> Graph:
        """The graph with the rows that are wanted; every box has the name of one object only."""
        ends = {edge.row for edge in graph.edges}
        wanted = {
            row.key
            for node in graph.nodes
            for row in node.rows
            if row.sort == "count" or row.key in ends or row.cell in self._rows(node) or node.kind == "fds"
        }
        dropped = {row.key for node in graph.nodes for row in node.rows} - wanted
        looks = tuple(tuple(key for key in keys if key not in dropped) for keys in graph.looks)
        small = without_rows(replace(graph, looks=looks), dropped)
        return replace(small, nodes=tuple(replace(node, folded=True) for node in small.nodes))

    def _rows(self, node: Node) -> set[str]:
        """The names of the rows that are wanted of a box."""
        fit = (names for pattern, names in self.boxes.items() if any(fits(part, [pattern]) for part in node.parts))
        return {name for names in fit for name in names}
