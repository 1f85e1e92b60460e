"""What the player needs to answer "why is it alive?" after each step, by the rules of `vfiosim.why`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from ..trace import Reference, State, Trace
from ..why import members


def reasons_data(trace: Trace, states: Sequence[State], shown: Collection[str]) -> dict[str, Any]:
    """Who counts on whom, on all ways that lead to one of the `shown` objects; `states` are those of the trace.

    `names`: all names. `links`: sort, holder, target, via, reason and how many, the first three as numbers of names. `steps`:
    for the start and each step which links (by number) came and went, which names came alive and died. `roots`: why a name
    needs no holder. `members`: of a group its devices, as told from a step on: the step, the group, the words.
    """
    moments = [*_moments(trace, states)]
    wanted = _ancestors({link for links, _ in moments for link in links}, shown)
    book = _Book()
    steps = []
    known: dict[Reference, None] = {}
    alive: dict[str, str] = {}
    for links, there in moments:
        links = {link: None for link in links if link.target in wanted}
        there = {oid: root for oid, root in there.items() if oid in wanted}
        came = [book.link(link) for link in links if link not in known]
        went = [book.link(link) for link in known if link not in links]
        born = [book.name(oid) for oid in there if oid not in alive]
        died = [book.name(oid) for oid in alive if oid not in there]
        book.roots.update({str(book.name(oid)): root for oid, root in there.items() if root})
        steps.append([came, went, born, died])
        known, alive = links, there
    told = {"names": list(book.names), "links": book.links, "steps": steps, "roots": book.roots}
    return {**told, "members": list(_groups(states, shown))}


def _groups(states: Iterable[State], shown: Collection[str]) -> Iterator[tuple[int, str, str]]:
    """What is said of the devices of the groups among `shown`, each time that it is something else."""
    if not any(oid.startswith("iommu_group ") for oid in shown):
        return
    said: dict[str, str] = {}
    for step, state in enumerate(states):
        for group in (oid for oid in shown if oid in state.objects and state.objects[oid].kind == "iommu_group"):
            now = "; ".join(members(state, group))
            if now != said.get(group, ""):
                yield step, group, now
            said[group] = now


def _moments(trace: Trace, states: Iterable[State]) -> Iterator[tuple[dict[Reference, None], dict[str, str]]]:
    """At the start and after each step the references that keep things alive, and what is alive, with why if it needs no holder.

    Only what a step has touched is asked anew; where something was born or died, which changes what owns what, all that points.
    """
    by_thing: dict[str, dict[Reference, None]] = {}
    for step, state in enumerate(states, -1):
        edits = [edit for micro in trace.micro_of(step) for edit in micro.edits] if step >= 0 else []
        touched, anew = {edit.oid for edit in edits}, any(edit.sort in ("born", "died") for edit in edits)
        by_thing = {
            oid: dict.fromkeys(state.references_of(thing, "counted", "owns"))
            if oid not in by_thing or oid in touched or (anew and thing.links)
            else by_thing[oid]
            for oid, thing in state.objects.items()
        }
        alive = {oid: thing.root for oid, thing in state.objects.items()}
        links = {link: None for some in by_thing.values() for link in some}
        yield links, {**alive, **{f"thread {name}": "" for name in state.threads}}


def _ancestors(links: Collection[Reference], shown: Collection[str]) -> set[str]:
    holders: dict[str, set[str]] = {}
    for link in links:
        holders.setdefault(link.target, set()).add(link.holder)
    found, left = set(shown), list(shown)
    while left:
        fresh = holders.get(left.pop(), set()) - found
        found |= fresh
        left += fresh
    return found


class _Book:
    """Numbers for names and references, each told once."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.links: list[list[Any]] = []
        self.roots: dict[str, str] = {}
        self._known: dict[Reference, int] = {}

    def name(self, oid: str) -> int:
        return self.names.setdefault(oid, len(self.names))

    def link(self, link: Reference) -> int:
        if link not in self._known:
            self._known[link] = len(self.links)
            ends = [self.name(link.holder), self.name(link.target)]
            self.links.append([int(link.sort == "owns"), *ends, link.via, link.reason, link.n])
        return self._known[link]
