"""Several nodes drawn as one box, where there are more than a room can read; and boxes folded to their title and counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TypeAlias

from .graph import ALIVE, Frame, Graph, Node, Row, fits

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


def fold(graph: Graph, keys: Collection[str]) -> Graph:
    """The graph with those of these boxes folded in which nothing ever changes or is looked at: arrows leave from the title."""
    moved = {key for change in graph.changes[1:] for key in change}
    moved |= {key for some in (*graph.looks, *graph.harmed) for key in some}
    idle = [
        node
        for node in graph.nodes
        if node.key in keys and moved.isdisjoint({node.key, *(row.key for row in node.rows)})
    ]
    gone = {row.key for node in idle for row in node.rows if row.sort != "count"}
    folded = {
        node.key: replace(node, rows=tuple(row for row in node.rows if row.key not in gone), folded=True)
        for node in idle
    }
    first = {key: text for key, text in graph.changes[0].items() if key not in gone}
    edges = tuple(replace(edge, row="" if edge.row in gone else edge.row) for edge in graph.edges)
    nodes = tuple(folded.get(node.key, node) for node in graph.nodes)
    return replace(graph, nodes=nodes, edges=edges, changes=(first, *graph.changes[1:]))


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

    def graph(self) -> Graph:
        """The new graph: an arrow ends at the title of a box in place of a row of something that is in it."""
        inside = self._inside
        nodes = [node for node in self._old.nodes if node.key not in inside]
        nodes += [_box(key, members) for key, members in self._named.items()]
        edges = []
        for edge in self._old.edges:
            holder, target = inside.get(edge.holder, edge.holder), inside.get(edge.target, edge.target)
            if holder != target:
                row, into = edge.row if holder == edge.holder else "", edge.into if target == edge.target else ""
                edges.append(replace(edge, holder=holder, row=row, target=target, into=into))
        now: Frame = {}
        shown: Frame = {}
        changes = []
        rows = {row.key for members in self._named.values() for node in members for row in node.rows}
        gone = {*inside, *rows, *(f"{key[:-2]}s" for key in rows)} | {edge.key for edge in self._old.edges} - {
            edge.key for edge in edges
        }
        for change in self._old.changes:
            now.update(change)
            fresh = self._living(now)
            changes.append(
                {key: "" for key in shown if key not in fresh}
                | {key: text for key, text in fresh.items() if shown.get(key) != text}
                | {key: text for key, text in change.items() if key not in gone}
            )
            shown = fresh
        looks = tuple(tuple(key for key in keys if key not in gone) for keys in self._old.looks)
        return replace(self._old, nodes=tuple(nodes), edges=tuple(edges), changes=tuple(changes), looks=looks)

    def _living(self, now: Frame) -> Frame:
        """What is shown of the boxes of groups."""
        living = {key: sum(now.get(node.key) == ALIVE for node in members) for key, members in self._named.items()}
        return {
            text_key: text
            for key, number in living.items()
            if number
            for text_key, text in ((key, ALIVE), (f"{key}r0", str(number)))
        }


def _box(key: str, members: list[Node]) -> Node:
    kinds = list(dict.fromkeys(node.kind for node in members))
    label = kinds[0] if len(kinds) == 1 else "objects"
    oid = f"+{len(members)} {label}"
    rows = (Row(f"{key}r0", oid, "alive", "value", 2 * len(str(len(members))) + 1),)
    return Node(key, oid, f"+{len(members)}", label, members[0].home, (oid,), rows)
