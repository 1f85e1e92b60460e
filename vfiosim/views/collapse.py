"""Several nodes drawn as one box, where there are more than a room can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TypeAlias

from .graph import ALIVE, Edge, Frame, Graph, Label, Node, Row, fits

MOST = 20  # nodes that are readable at once from the back of a room

Group: TypeAlias = "str | tuple[str, ...]"  # a kind or pattern, or several that go into one box


def collapse(
    graph: Graph, groups: Iterable[Group], *, by_kind: bool = False, most: int = MOST, alone: Collection[str] = ()
) -> Graph:
    """The graph with a box for each group, if it has more than `most` nodes; a box tells how many of its objects live.

    `by_kind` makes groups of the commonest kinds until there are few enough; objects in `alone` go into no group.
    """
    if len(graph.nodes) <= most:
        return graph
    inside: dict[str, str] = {}  # by node, the key of its box
    named: dict[str, list[Node]] = {}
    free = [node for node in graph.nodes if node.oid not in alone]
    for group in groups:
        patterns = (group,) if isinstance(group, str) else group
        _gather(inside, named, [node for node in free if node.key not in inside and fits(node.oid, patterns)])
    while by_kind and len(graph.nodes) - len(inside) + len(named) > most:
        kinds = Counter(node.kind for node in free if node.key not in inside and node.kind != "thread")
        common = kinds.most_common(1)
        if not common or common[0][1] < 2:
            break
        _gather(inside, named, [node for node in free if node.key not in inside and node.kind == common[0][0]])
    return _Merged(graph, inside, named).graph() if named else graph


def _gather(inside: dict[str, str], named: dict[str, list[Node]], members: Collection[Node]) -> None:
    if len(members) > 1:
        key = f"g{len(named)}"
        named[key] = list(members)
        inside.update({node.key: key for node in members})


class _Merged:
    """Follows the frames of a graph, and tells those of the one with boxes for groups."""

    def __init__(self, graph: Graph, inside: dict[str, str], named: dict[str, list[Node]]) -> None:
        self._old = graph
        self._inside = inside
        self._named = named
        self._bundles: dict[tuple[str, str, str], list[Edge]] = {}
        for edge in graph.edges:
            ends = inside.get(edge.holder, edge.holder), inside.get(edge.target, edge.target)
            if ends[0] != ends[1] and (edge.holder in inside or edge.target in inside):
                self._bundles.setdefault((edge.sort, *ends), []).append(edge)

    def graph(self) -> Graph:
        """The new graph."""
        nodes = [node for node in self._old.nodes if node.key not in self._inside]
        nodes += [_box(key, members) for key, members in self._named.items()]
        edges = [edge for edge in self._old.edges if not {edge.holder, edge.target} & self._inside.keys()]
        widest = "99 references"
        for number, (sort, holder, target) in enumerate(self._bundles):
            edges.append(Edge(f"m{number}", sort, holder, target, (Label(f"m{number}t", widest),)))
        now: Frame = {}
        shown: Frame = {}
        changes = []
        for change in self._old.changes:
            now.update(change)
            fresh = self._merged(now)
            gone = {key: "" for key in shown if key not in fresh}
            changes.append(
                gone | {key: text for key, text in fresh.items() if shown.get(key) != text} | self._kept(change)
            )
            shown = fresh
        return Graph(tuple(nodes), tuple(edges), tuple(changes), self._old.at_step)

    def _kept(self, change: Frame) -> Frame:
        """What is drawn as it was."""
        hidden = set(self._inside) | {edge.key for edges in self._bundles.values() for edge in edges}
        inner = {row.key for members in self._named.values() for node in members for row in node.rows}
        touched = [edge for edge in self._old.edges if {edge.holder, edge.target} & self._inside.keys()]
        inner |= {label.key for edge in touched for label in edge.labels} | {edge.key for edge in touched}
        return {key: text for key, text in change.items() if key not in hidden | inner}

    def _merged(self, now: Frame) -> Frame:
        """What is shown of the boxes and their arrows."""
        fresh: Frame = {}
        for key, members in self._named.items():
            living = sum(now.get(node.key) == ALIVE for node in members)
            if living:
                fresh |= {key: ALIVE, f"{key}r0": str(living)}
        for number, edges in enumerate(self._bundles.values()):
            texts = [now[label.key] for edge in edges for label in edge.labels if now.get(label.key)]
            if texts:
                fresh[f"m{number}"] = str(len(texts))
                fresh[f"m{number}t"] = texts[0] if len(texts) == 1 else f"{len(texts)} references"
        return fresh


def _box(key: str, members: list[Node]) -> Node:
    kinds = list(dict.fromkeys(node.kind for node in members))
    label = kinds[0] if len(kinds) == 1 else "objects"
    rows = (Row(f"{key}r0", "alive", "value", 2 * len(str(len(members))) + 1),)
    return Node(key, f"+{len(members)} {label}", f"+{len(members)}", label, members[0].home, rows)
