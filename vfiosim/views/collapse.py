"""Several nodes drawn as one box, where there are more than a room can read; and boxes folded to their title and counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from .atlas import Crowd, bare
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


def fold(graph: Graph, keep: Collection[str] = ()) -> Graph:
    """The graph with boxes folded to title and counters, from the end of each column that is too high; arrows leave from the title.

    First those in which nothing is looked at or changes; then those where only counters and arrows do. At last calls tell of no
    argument that is 0. A file that owns nothing has nothing more to tell. Names in `keep` are not folded.
    """
    graph = _folded(graph, {node.key for node in graph.nodes if bare(node)}, {})
    parts = {key: node for node in graph.nodes for key in (node.key, *(row.key for row in node.rows))}
    drawn = {end for edge in graph.edges for end in (edge.row, edge.into)}
    seen = {key for some in (*graph.looks, *graph.harmed) for key in some}
    moved = seen.union(*graph.changes[1:])
    told = drawn.union(*({key for key, text in change.items() if text not in ("", "0")} for change in graph.changes))
    crowd = Crowd(graph)
    small = set[str]()
    for busy in (moved, seen | {key for key in moved if key in parts and key not in drawn and key != parts[key].key}):
        held = {parts[key].key for key in busy if key in parts and _falls(parts[key], key)}
        for key in crowd.all():
            node = parts[key]
            if key not in held and node.kind not in ("thread", "fds") and node.oid not in keep and crowd.is_in(key):
                crowd.fold(_small(node))
                small.add(key)
    calls = {key for key in crowd.all() if parts[key].kind == "thread"}
    return _folded(graph, small, dict.fromkeys(calls, told)) if small or calls else graph


def _small(node: Node) -> Node:
    return replace(node, folded=True, rows=tuple(row for row in node.rows if row.sort == "count"))


def _falls(node: Node, key: str) -> bool:
    """Is this the box, or a row of it that is not to be seen when it is folded?"""
    return key == node.key or any(row.key == key and row.sort != "count" for row in node.rows)


def _folded(graph: Graph, keys: Collection[str], calls: Mapping[str, Collection[str]]) -> Graph:
    """The graph with these boxes folded, and of these calls only those rows."""
    drop = {row.key for node in graph.nodes if node.key in keys for row in node.rows if row.sort != "count"}
    drop |= {
        row.key for node in graph.nodes if node.key in calls for row in node.rows if row.key not in calls[node.key]
    }
    small = without_rows(graph, drop)
    nodes = (replace(node, folded=True) if node.key in keys and not node.folded else node for node in small.nodes)
    return replace(small, nodes=tuple(nodes))


def without_rows(graph: Graph, drop: Collection[str]) -> Graph:
    """The graph without the rows of these keys; a look at one is a look at its box."""
    gone = {row.key: node.key for node in graph.nodes for row in node.rows if row.key in drop}
    if not gone:
        return graph
    less = {*gone.values()}
    nodes = [
        replace(node, rows=tuple([row for row in node.rows if row.key not in gone])) if node.key in less else node
        for node in graph.nodes
    ]
    ends = (
        (edge, "" if edge.row in gone else edge.row, "" if edge.into in gone else edge.into) for edge in graph.edges
    )
    edges = tuple([replace(edge, row=row, into=into) for edge, row, into in ends])
    changes = tuple({key: text for key, text in change.items() if key not in gone} for change in graph.changes)
    looks = tuple(tuple(gone.get(key, key) for key in keys) for keys in graph.looks)
    return replace(graph, nodes=tuple(nodes), edges=edges, changes=changes, looks=looks)


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
