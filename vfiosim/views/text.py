"""Traces and states as plain text: for terminals, for screen readers, and where there is no Graphviz."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from html import escape

from ..trace import ObjectState, Reference, State, Trace
from .graph import HIDDEN, fits


def steps_text(trace: Trace) -> str:
    """The steps of a trace, one a line: number, phase, thread, sentence, and below it what changed."""
    wide = max((len(step.thread) for step in trace), default=0)
    lines = []
    for step in trace:
        sign = "✕" if step.refused else "…" if step.waits else " "
        lines.append(f"{step.index + 1:3} {sign} {step.phase:8} {step.thread:{wide}} {step.sentence}")
        lines += [f"{'':{wide + 16}}{change}" for change in step.changes]
    return "\n".join(lines)


def state_text(state: State, *, hide: Collection[str] = HIDDEN) -> str:
    """A state as a tree: below each object what it refers to. What several hold is told once, then only named."""
    return "\n".join(_Tree(state, hide).lines())


class _Tree:
    """Walks from the roots along the references."""

    def __init__(self, state: State, hide: Collection[str]) -> None:
        self._state = state
        self._things = {oid: thing for oid, thing in state.objects.items() if not fits(oid, hide)}
        self._refers: dict[str, list[Reference]] = {}
        held = set()
        for link in state.references():
            if link.target in self._things:
                self._refers.setdefault(link.holder, []).append(link)
                if link.sort != "weak" and (link.holder in self._things or link.holder.startswith("thread ")):
                    held.add(link.target)
        roots = [oid for oid, thing in self._things.items() if thing.root or oid not in held]
        self._roots = [*(f"thread {name}" for name in state.threads if self._refers.get(f"thread {name}")), *roots]
        self._told: set[str] = set()

    def lines(self) -> Iterator[str]:
        """The lines of the tree, who waits, and what no root leads to."""
        for root in self._roots:
            if self._refers.get(root) or not self._things[root].root:
                yield from self._branch(root, "", "")
        for oid in self._things:
            if oid not in self._told and not self._things[oid].root:
                yield from self._branch(oid, "", "")
        yield from (f"{waiting}" for waiting in self._state.waiting())

    def _branch(self, oid: str, label: str, indent: str) -> Iterator[str]:
        if oid in self._told:
            yield f"{indent}{label}{oid} (see above)"
            return
        self._told.add(oid)
        yield f"{indent}{label}{oid}{_cells(self._things[oid]) if oid in self._things else ''}"
        for link in self._refers.get(oid, ()):
            if link.sort == "weak":
                yield f"{indent}    ··{link.reason}··> {link.target}"
            else:
                name = "owns" if link.sort == "owns" else link.reason
                yield from self._branch(link.target, f"──{name}──> ", indent + "    ")


def _cells(thing: ObjectState) -> str:
    """The counters, and the locks that are held."""
    shown = [f"{counter} {thing.total(counter)}" for counter in thing.counts]
    shown += [f"{lock} held by {holder}" for lock, holder in thing.locks.items() if holder]
    return f"  [{', '.join(shown)}]" if shown else ""


def log_html(log: Sequence[tuple[str, int]]) -> str:
    """Lines, each with the step (from 1) that it leads to, 0 for none; where scripts run those become links."""
    lines = [f'<span data-step="{step}">{escape(line)}</span>' if step else escape(line) for line, step in log]
    return f'<pre class="vfiosim-log">{"&#10;".join(lines)}</pre>' if lines else ""
