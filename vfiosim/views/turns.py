"""Boxes that take turns: in a long run what has gone leaves its place to the next one of its kind."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import replace
from heapq import heappush, heapreplace

from .atlas import size
from .graph import Graph, Node

MANY = 32  # boxes that can be looked at side by side


def taking_turns(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The graph with one box of those that can stand in one place, and by the key of each other box that of the one for it.

    Two of a kind take turns where one has gone in an earlier step than the other comes. While there are few boxes, none does.
    """
    if len(graph.nodes) <= MANY:
        return graph, {}
    lives = _lives(graph)
    places: dict[tuple[str, ...], list[tuple[float, int, list[Node]]]] = defaultdict(list)  # first what is free first
    for number, node in enumerate(sorted(graph.nodes, key=lambda node: lives[node.key])):
        born, gone = lives[node.key]
        same = places[(node.kind, node.home, *(part.partition(" ")[0] for part in node.parts))]
        if same and same[0][0] < born:
            same[0][2].append(node)
            heapreplace(same, (gone, number, same[0][2]))
        else:
            heappush(same, (gone, number, [node]))
    stands: dict[str, Node] = {}  # the tallest one
    for taken in places.values():
        for _, _, nodes in taken:
            tallest = max(nodes, key=lambda node: size(node)[1])
            stands |= {node.key: tallest for node in nodes}
    return _few(graph, stands), {key: node.key for key, node in stands.items() if key != node.key}


def _lives(graph: Graph) -> dict[str, tuple[float, float]]:
    """By the key of each box the number of the step in which it comes, and of the one in which it goes."""
    born = dict.fromkeys((node.key for node in graph.nodes), float("inf"))
    gone = {**born}
    for frame, change in enumerate(graph.changes):
        step = bisect_left(graph.at_step, frame) if frame else -1
        for key in born.keys() & change.keys():
            born[key] = min(born[key], step) if change[key] else born[key]
            gone[key] = float("inf") if change[key] else step
    return {key: (step, gone[key]) for key, step in born.items()}


def _few(graph: Graph, stands: dict[str, Node]) -> Graph:
    """The graph of the boxes that stand for all, with the arrows of all."""
    cells = {row.key: row.cell for node in graph.nodes for row in node.rows}
    rows = {(node.key, row.cell): row.key for node in stands.values() for row in node.rows}
    edges = {}
    for edge in graph.edges:
        one, other = stands[edge.holder].key, stands[edge.target].key
        row, into = (rows.get((key, cells.get(end, "")), "") for key, end in ((one, edge.row), (other, edge.into)))
        edges[one, row, other, into] = replace(edge, holder=one, row=row, target=other, into=into)
    nodes = tuple(node for node in graph.nodes if stands[node.key] is node)
    return replace(graph, nodes=nodes, edges=tuple(edges.values()))
