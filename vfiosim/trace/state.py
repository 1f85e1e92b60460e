"""The state of a machine as plain data: which objects live, what is in their cells, who counts on whom, who waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .plain import Plain, Ref, record, shown

Ledger = dict[tuple[str, str], int]  # (holder, reason) -> how many


@dataclass(slots=True)
class ObjectState:
    """One living object and the content of its cells; it never changes. `links` tells what a pointer field is: "weak" or "owns".

    `attributes` are the pointers that it was born with and that never change; `order` are the names of its cells, as declared.
    """

    oid: str
    kind: str
    label: str
    root: str = ""
    home: str = ""
    fields: dict[str, Plain] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Ledger] = field(default_factory=dict)
    tables: dict[str, dict[int, Plain]] = field(default_factory=dict)
    locks: dict[str, str | None] = field(default_factory=dict)
    signals: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, Ref] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    def total(self, counter: str) -> int:
        """How many references the counter has."""
        return sum(self.counts[counter].values())

    def value(self, cell: str) -> Plain:
        """What a reader sees in a cell: the total of a count, the holder of a lock, the value of a field.

        Raises KeyError if the object has no such cell.
        """
        if cell in self.counts:
            return self.total(cell)
        for cells in (self.fields, self.locks, self.signals):
            if cell in cells:
                return cells[cell]
        return tuple((slot, value) for slot, value in sorted(self.tables[cell].items()))

    def after(self, edit: Edit) -> ObjectState:
        """The object after a change of one of its cells; what does not change is shared."""
        fields, counts, tables, locks, signals = self.fields, self.counts, self.tables, self.locks, self.signals
        cell, new = edit.cell, edit.new
        if edit.sort == "field":
            fields = {**fields, cell: new}
        elif edit.sort == "lock":
            locks = {**locks, cell: new}
        elif edit.sort == "reference":
            counts = {**counts, cell: _with(counts[cell], edit.key, new or None)}
        elif edit.sort == "slot":
            tables = {**tables, cell: _with(tables[cell], edit.key, new)}
        else:
            signals = {**signals, cell: new}
        return ObjectState(
            self.oid,
            self.kind,
            self.label,
            self.root,
            self.home,
            fields,
            self.links,
            counts,
            tables,
            locks,
            signals,
            self.attributes,
            self.order,
        )


def _with(table: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    """The table with this entry, or without it."""
    made = {**table, key: value}
    if value is None:
        del made[key]
    return made


@record()
class Edit:
    """One cell got another value, or an object was born or died. `key` is a slot, or a holder with its reason."""

    sort: str  # born, died, field, slot, reference, lock, signal, memory
    oid: str
    cell: str = ""
    key: Any = None
    old: Any = None
    new: Any = None

    @property
    def what(self) -> str:
        """The cell, slot or object, as people write it: `vfio_group 1.opened_file`, `process vmm.fds[3]`."""
        slot = f"[{self.key}]" if self.sort == "slot" else ""
        return f"{self.oid}.{self.cell}{slot}" if self.cell else self.oid

    def __str__(self) -> str:
        if self.sort in ("born", "died"):
            return f"{self.oid} {'is born' if self.sort == 'born' else 'is freed'}"
        entry = " of " + ", ".join(self.key) if self.sort == "reference" else ""
        return f"{self.what}{entry}: {shown(self.old)} → {shown(self.new)}"


@record(kw_only=True)
class Place:
    """A line of Python, and the kernel's function that it mirrors ("" where it mirrors none)."""

    file: str = ""
    line: int = 0
    source: str = ""
    function: str = ""
    kernel_function: str = ""
    kernel_file: str = ""
    kernel_tag: str = ""

    @property
    def where(self) -> str:
        """The line as file:line."""
        return f"{self.file}:{self.line}" if self.line else self.file


@record(kw_only=True)
class Want(Place):
    """What a thread asks for next, and where, if it may have to wait for it."""

    operation: str
    oid: str
    cell: str
    sentence: str = ""
    phase: str = ""


@record()
class ThreadState:
    """A thread that has not ended: its name, the call that it runs, what it wants next."""

    name: str
    call: int
    process: str = ""
    want: Want | None = None


class Reference(NamedTuple):
    """An arrow of the picture. `sort` is "counted", "owns" or "weak"; `via` is the counter or the pointer field."""

    sort: str
    holder: str
    target: str
    via: str
    reason: str
    n: int = 1


class Waiting(NamedTuple):
    """A thread that cannot go on: it waits for the cell `path` of `oid`; the threads or objects `holders` have it."""

    thread: str
    oid: str
    path: str
    holders: tuple[str, ...]

    def __str__(self) -> str:
        own = f"thread {self.thread}"
        names = ", ".join("itself" if who == own else who.removeprefix("thread ") for who in self.holders)
        return f"{self.thread} waits for {self.path}" + (f", held by {names}" if names else "")


@dataclass(slots=True)
class State:
    """Everything at one moment. `running` is the thread that made the last effect."""

    objects: dict[str, ObjectState] = field(default_factory=dict)
    threads: dict[str, ThreadState] = field(default_factory=dict)
    running: str = ""

    def copy(self) -> State:
        """An independent twin."""
        return State(dict(self.objects), dict(self.threads), self.running)

    def references(self, *sorts: str) -> Iterator[Reference]:
        """The arrows between objects, in the order of the objects: counted references, owning and weak pointers.

        A pointer owns only what has no count of its own; elsewhere the count decides, and the pointer is a weak one.
        """
        for thing in self.objects.values():
            yield from self.references_of(thing, *sorts)

    def references_of(self, thing: ObjectState, *sorts: str) -> Iterator[Reference]:
        """Those that the cells of one thing tell of: who counts on it, and to what it points."""
        if not sorts or "counted" in sorts:
            for counter, ledger in thing.counts.items():
                for (holder, reason), n in ledger.items():
                    yield Reference("counted", holder, thing.oid, counter, reason, n)
        for name, link, target in self.pointed(thing):
            if not sorts or link in sorts:
                yield Reference(link, thing.oid, target, name, name)

    def pointed(self, thing: ObjectState) -> Iterator[tuple[str, str, str]]:
        """The pointers of a thing: the field or table, whether it is "weak" or "owns" what it leads to, and that."""
        for name, link in thing.links.items():
            value = thing.fields[name] if name in thing.fields else tuple(thing.tables[name].values())
            for target in pointers(value) if value else ():
                counted = target in self.objects and self.objects[target].counts
                yield name, "weak" if counted else link, target

    def waiting(self) -> list[Waiting]:
        """The threads that cannot go on, and whom they wait for."""
        found = []
        for thread in self.threads.values():
            want = thread.want
            holders = self._holders(want) if want else None
            if want is not None and holders is not None:
                path = f"{want.oid}.{want.cell}" if want.cell else want.oid
                found.append(Waiting(thread.name, want.oid, path, holders))
        return found

    def _holders(self, want: Want) -> tuple[str, ...] | None:
        """Who is in the way of what a thread wants; None if it can have it."""
        owner = self.objects.get(want.oid)
        if owner is None:
            return None
        if want.cell in owner.locks:
            holder = owner.locks[want.cell]
            return (f"thread {holder}",) if holder else None
        if want.cell in owner.counts:
            return tuple(dict.fromkeys(holder for holder, _reason in owner.counts[want.cell])) or None
        return None if owner.signals.get(want.cell, 1) else ()

    def apply(self, edit: Edit) -> None:
        """Make one change."""
        thing = self.objects.get(edit.oid)
        if edit.sort == "born":
            self.objects[edit.oid] = edit.new
        elif edit.sort == "died":
            self.objects.pop(edit.oid, None)
        elif thing is not None and edit.sort != "memory":  # freed memory was written: there is nothing to show it on
            self.objects[edit.oid] = thing.after(edit)


def pointers(value: Plain) -> tuple[str, ...]:
    """The names of objects in a plain value."""
    if isinstance(value, Ref):
        return (value,)
    return tuple(target for item in value for target in pointers(item)) if isinstance(value, tuple) else ()
