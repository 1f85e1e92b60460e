"""Who keeps this alive? Every way from a root of the machine to one object, along counts and owning pointers."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from .engine import Engine
from .naming import UnknownNameError
from .trace import Reference, State, Trace, snapshot

_ENOUGH = 100  # paths; more than anybody reads
_PATIENCE = 20_000  # references to look at, where rings within rings have more ways than can be walked


@dataclass(frozen=True)
class Path:
    """A chain of references: `links[0]` starts at the outermost holder, the last one ends at the object in question."""

    links: tuple[Reference, ...]

    def __str__(self) -> str:
        text = self.links[0].holder
        for link in self.links:
            times = f" ×{link.n}" if link.n != 1 else ""
            text += f" --{'owns' if link.sort == 'owns' else link.reason}{times}--> {link.target}"
        return text

    @property
    def words(self) -> str:
        """The same as a part of a sentence: "descriptor 3 of vmm holds file vfio0#1, which holds vfio_device vfio0 (opened)"."""
        told = []
        for number, link in enumerate(self.links):
            root = in_words(link.holder, link.reason) if number == 0 else ""
            why = f" ({link.reason})" if link.sort != "owns" and not root else ""
            times = f", {link.n} times" if link.n != 1 else ""
            told.append(f"{root} {'owns' if link.sort == 'owns' else 'holds'} {link.target}{why}{times}".lstrip())
        return ", which ".join(told)


def in_words(holder: str, reason: str) -> str:
    """A holder as a reader knows it: a descriptor by its number, a thread by its call, all others by name and reason."""
    kind, _, label = holder.partition(" ")
    words = {"fds": f"descriptor {reason.removeprefix('fd ')} of {label}", "thread": f"the running call of {label}"}
    return words.get(kind, f"{holder} ({reason})")


@dataclass(frozen=True)
class Why:
    """What keeps an object alive. Prints as lines of text.

    * `root`: why it needs no holder, "" if it needs one;
    * `paths`: the ways from a root to it, shortest first; with none, nothing that can be reached keeps it;
    * `lost`: references on the way to it whose holder is gone: nobody will ever give them back;
    * `cycles`: rings of references on the way to it;
    * `members`: of an iommu_group its devices, each with the driver that has it;
    * `gone`: it was freed, as the trace that was asked knows.
    """

    name: str
    root: str
    paths: tuple[Path, ...]
    lost: tuple[Reference, ...]
    cycles: tuple[Path, ...]
    members: tuple[str, ...] = ()
    gone: bool = False

    @property
    def kept(self) -> bool:
        """Does anything that can be reached keep it alive?"""
        return bool(self.root or self.paths)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The same for a notebook: a long line goes on, indented, without a break within a word.

        All paths but the shortest are folded in.
        """
        style = "font-family: monospace; padding-left: 4ch; text-indent: -4ch; word-break: normal; overflow-wrap: break-word"
        lines = [
            f'<div style="{style}">{escape(line).replace("  ", "&emsp;&ensp;", 1)}</div>' for line in self._lines()
        ]
        first, rest = 2, len(self.paths[:_ENOUGH]) - 1  # behind the head and the shortest way
        if not self.root and rest > 0:
            last = first + rest + (len(self.paths) > _ENOUGH)
            head = f"<summary>{rest} more {'path' if rest == 1 else 'paths'}</summary>"
            lines[first:last] = ["<details>", head, *lines[first:last], "</details>"]
        return "".join(lines)

    def _lines(self) -> Iterator[str]:
        if self.root:
            yield f"{self.name} needs no holder: it is {self.root}."
        elif self.paths:
            yield f"{self.name} is kept alive by:"
        elif self.lost or self.cycles:
            yield f"Nothing that can be reached keeps {self.name} alive, yet it is counted: it has leaked."
        else:
            yield f"Nothing keeps {self.name} alive{': it is gone' if self.gone else ''}."
        yield from (f"  {path}" for path in self.paths[:_ENOUGH])
        if len(self.paths) > _ENOUGH:
            yield f"  … and more than {_ENOUGH} ways in all"
        for link in self.lost:
            counted = f"{link.target}.{link.via} still counts it ({link.reason})"
            yield f"  lost reference: {link.holder} is gone, but {counted}"
        for cycle in self.cycles:
            yield f"  cycle: {cycle}"
        if self.members:
            yield f"In it: {'; '.join(self.members)}."


def why(source: Any, name: str) -> Why:
    """Who keeps the object `name` alive in an engine, a machine, a state, or at the end of a trace?

    `name` may be shortened as long as it fits one object. Raises UnknownNameError if it fits none or several, TypeError for
    another kind of source. What a machine or a trace has freed is asked for by its full name.
    """
    state = state_of(source)
    if _was_freed(source, state, name):
        return Why(name, "", (), (), (), gone=True)
    oid = find(state, name)
    search = _Search(state, oid)
    search.walk(oid, ())
    return Why(
        oid,
        state.objects[oid].root,
        tuple(sorted(search.paths, key=lambda path: len(path.links))),
        tuple(search.lost),
        tuple(search.cycles.values()),
        tuple(members(state, oid)),
    )


def _was_freed(source: Any, state: State, name: object) -> bool:
    """Does the trace of what is asked tell of this object's end?"""
    if not isinstance(name, str) or name in state.objects or isinstance(source, State | Engine):
        return False
    trace = source if isinstance(source, Trace) else source.trace if source.engine.journal is not None else ()
    return any(str(change) == f"{name} is freed" for step in trace for change in step.changes)


def members(state: State, group: str) -> Iterator[str]:
    """The devices of an iommu_group, and who has them."""
    for thing in state.objects.values():
        if thing.kind == "device" and thing.fields.get("iommu_group") == group:
            driver = thing.fields["driver"]
            use = ", which keeps user space out of the group" if thing.fields["uses_dma_api"] else ""
            yield f"{thing.oid}, {f'driven by {driver}' if driver else 'driven by nobody'}{use}"


def state_of(source: Any) -> State:
    """The state to look at: of an engine (or what has one as `engine`) now, of a trace at its end. Raises TypeError."""
    if isinstance(source, State):
        return source
    if isinstance(source, Trace):
        return source.end
    engine = getattr(source, "engine", source)
    if isinstance(engine, Engine):
        return snapshot(engine)
    raise TypeError(f"a machine, an engine, a trace or a state is needed, not a {type(source).__name__}")


def find(state: State, name: str) -> str:
    """The full name of the object that `name` means: its name, its label, its kind, or a part of the name.

    The kind may be shortened, and written as in /sys: "vfio-dev vfio0" is the vfio_device. Raises UnknownNameError if it
    fits no object, or more than one, and TypeError for what is no name.
    """
    if not isinstance(name, str):
        raise TypeError(f"an object is asked for by its name, such as 'vfio_device vfio0', not by {name!r}")
    things = state.objects.values()
    ways = (
        [thing.oid for thing in things if thing.oid == name],
        [thing.oid for thing in things if thing.label == name],
        [thing.oid for thing in things if thing.kind == name],
        _by_short_kind(state, name),
        [thing.oid for thing in things if name and name.lower() in thing.oid.lower()],
    )
    for found in ways:
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownNameError(f"{name!r} fits several objects: {_listed(found)}")
    words = {word: thing.oid for thing in things for word in (thing.kind, thing.label, thing.oid)}
    close = list(dict.fromkeys(words[word] for word in difflib.get_close_matches(name, words, 4)))
    hint = f"do you mean {_listed(close)}?" if close else f"there are {_listed(list(state.objects))}"
    raise UnknownNameError(f"there is no living object {name!r}; {hint}")


def _by_short_kind(state: State, name: str) -> list[str]:
    """The objects of this label whose kind begins so; of several kinds the shortest."""
    kind, _, label = name.partition(" ")
    kind = kind.replace("-", "_")
    fit = [thing for thing in state.objects.values() if thing.label == label and thing.kind.startswith(kind)]
    shortest = min((thing.kind for thing in fit), key=len, default="")
    return [thing.oid for thing in fit if kind and thing.kind == shortest]


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


class _Search:
    """Walks from an object to its holders, their holders, and so on."""

    def __init__(self, state: State, goal: str) -> None:
        self.goal = goal
        self.paths: list[Path] = []
        self.lost: list[Reference] = []
        self.cycles: dict[frozenset[str], Path] = {}
        self._left = _PATIENCE
        self._things = state.objects
        self._threads = {f"thread {name}" for name in state.threads}
        self._held_by: dict[str, list[Reference]] = {}
        for link in state.references("counted", "owns"):
            self._held_by.setdefault(link.target, []).append(link)

    def walk(self, oid: str, below: tuple[Reference, ...]) -> None:
        """Follow every reference to `oid`; `below` leads from there to the goal."""
        for link in self._held_by.get(oid, ()):
            self._left -= 1
            chain = (link, *below)
            holder = link.holder
            on_the_way = [later.target for later in chain]
            if holder in on_the_way:
                ring = chain[: on_the_way.index(holder) + 1]
                self.cycles.setdefault(frozenset(part.target for part in ring), Path(ring))
            elif holder in self._threads or (holder in self._things and self._things[holder].root):
                self.paths.append(Path(chain))
            elif holder not in self._things:
                if link not in self.lost:
                    self.lost.append(link)
            elif self._left > 0 and len(self.paths) <= _ENOUGH:
                self.walk(holder, chain)
