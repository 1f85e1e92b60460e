"""Where a picture is opened after a call."""

from __future__ import annotations

from .graph import Graph


def last_change(graph: Graph) -> int:
    """The last step, counted from 1, that changes more of the picture than what the running call has; 0 if none does."""
    own = {node.key for node in graph.nodes if node.kind == "thread"}
    rows = {row.key: (node.key, row) for node in graph.nodes for row in node.rows}
    aside = {*own, *(key for key, (node, row) in rows.items() if node in own or row.sort == "lock")}
    stubs = {key: row.stub for key, (_, row) in rows.items() if row.stub}
    aside |= {*stubs.values()}
    ends = {edge.key: edge.into for edge in graph.edges}
    passing = {edge.key for edge in graph.edges if edge.holder in own}
    now, last, done = {**graph.changes[0]}, 0, 0
    for step, end in enumerate(graph.at_step, 1):
        some, done = graph.changes[done + 1 : end + 1], end
        was = {key: now.get(key, "") for change in some for key in change}
        for change in some:
            now |= change
        changed = {key for key, text in was.items() if now[key] != text} - aside
        told = {key: stub for key, stub in stubs.items() if key in changed and stub in was}
        lent = {key for key, stub in told.items() if _lasting(was[stub]) == _lasting(now[stub])}
        borrowed = {ends[key] for key in changed & passing} | lent
        borrowed -= {ends[key] for key in (changed & {*ends}) - passing}
        if changed - passing - borrowed or (graph.harmed and graph.harmed[step - 1]):
            last = step
    return last


def _lasting(stub: str) -> set[str]:
    """The holders that are not drawn, without the calls that run."""
    return {who for who in stub.partition(": ")[2].split("; ") if who and not who.startswith("thread ")}
