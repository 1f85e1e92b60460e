"""An invariant in words, with the fields it reads and the lock under which it may be broken; and how they are checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..engine import Count, Engine, KObject, Lock, Thread

Broken = Iterator[str]
Read = str | tuple[str, Callable[[Any], bool]]


@dataclass(frozen=True)
class Invariant:
    """One rule about objects of one kind.

    * `reads`: what it looks at, as "kind.field"; a change of one of them may break it. Of a count it may read one reason only,
      "file.f_ref (bound to it)", or only whether it is below a number, "file.f_ref < 1"; of a pointer only whether it leads to
      an object of a kind, "iommu_group.owner is vfio_group". "file" alone: which files there are.
      In a pair with a question about an object, whose answer never changes: only of the objects for which it says yes;
    * `lock`: the lock of an object under which it may be broken for a while, None if it has to hold at every effect;
      `guard`: the same one as "kind.field"; `only_at_rest`: it need not hold while a call runs;
    * `broken`: given the engine and the object, the sentences that say how it is broken.
    """

    name: str
    about: type[KObject]
    reads: tuple[Read, ...]
    lock: Callable[[Any], Lock | None]
    guard: str
    only_at_rest: bool
    broken: Callable[[Engine, Any], Broken]


INVARIANTS: list[Invariant] = []


def rule(
    about: type[KObject],
    *reads: Read,
    lock: Callable[[Any], Lock | None] = lambda _: None,
    guard: str = "",
    only_at_rest: bool = False,
) -> Callable[[Callable[[Engine, Any], Broken]], Invariant]:
    """Make an invariant about objects of one kind of a function that yields broken sentences. See `Invariant`."""
    return lambda function: Invariant(function.__name__, about, reads, lock, guard, only_at_rest, function)


def invariant(
    about: type[KObject], *reads: Read, **options: Any
) -> Callable[[Callable[[Engine, Any], Broken]], Callable[[Engine, Any], Broken]]:
    """Make one that holds on every machine."""

    def add(function: Callable[[Engine, Any], Broken]) -> Callable[[Engine, Any], Broken]:
        INVARIANTS.append(rule(about, *reads, **options)(function))
        return function

    return add


def check(engine: Engine, more: Iterable[Invariant] = ()) -> list[str]:
    """Every broken invariant, in words, of all and of those in `more`; an empty list if all is well. It only looks."""
    return [*engine.violations, *(sentence for sentence, _ in _all_broken(engine, more))]


def cells_of(engine: Engine, sentence: str, more: Iterable[Invariant] = ()) -> tuple[str, ...]:
    """The paths of the cells between which `sentence`, one of those of `check`, says that there is a contradiction.

    They are what the broken invariant reads of its object, and of the others that the sentence names; for another sentence the
    cells that it names, or else the objects ("file vfio0#1.").
    """
    named = [thing for thing in engine.objects.values() if re.search(rf"{re.escape(thing.oid)}(?![\w#])", sentence)]
    read = next((read for said, read in _all_broken(engine, more) if said == sentence), [])
    cells = [f"{thing.oid}.{cell}" for kind, cell in read for thing in named if thing.kind == kind]
    paths = (cell.path for thing in named for cell in thing.cells())
    cells = cells or [path for path in paths if re.search(rf"{re.escape(path)}(?!\w)", sentence)]
    return tuple(dict.fromkeys(cells or (f"{thing.oid}." for thing in named)))


def _all_broken(engine: Engine, more: Iterable[Invariant]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each broken invariant in words, and what it reads, as kinds and fields."""
    rules, rests = [*INVARIANTS, *more], idle(engine)
    about: dict[type[KObject], list[Invariant]] = {}
    for thing in list(engine.objects.values()):
        for cell, sentence in _broken_references(thing):
            yield sentence, [(thing.kind, cell)]
        kind = type(thing)
        if kind not in about:
            about[kind] = [
                invariant
                for invariant in rules
                if issubclass(kind, invariant.about) and (rests or not invariant.only_at_rest)
            ]
        for invariant in about[kind]:
            lock = invariant.lock(thing)
            if lock is None or lock.holder is None:
                for sentence in invariant.broken(engine, thing):
                    yield sentence, [_field(read) for read in invariant.reads]


def _field(read: Read) -> tuple[str, str]:
    """The kind and the field that an invariant reads, see `Invariant.reads`."""
    path = read if isinstance(read, str) else read[0]
    kind, _, cell = path.partition(" ")[0].partition(".")
    return kind, cell


def _broken_references(thing: KObject) -> Iterator[tuple[str, str]]:
    """Every reference has a holder that lives, and is given back once: the count, and what is wrong with it."""
    for cell in thing.cells():
        if not isinstance(cell, Count):
            continue
        for (holder, reason), n in cell.held.items():
            if n < 0:
                yield cell.name, f"{holder.oid} gave back {-n} more of {cell.path} than it had taken ({reason})"
            elif holder.freed or (isinstance(holder, Thread) and holder.ended):
                yield cell.name, f"{holder.oid} is gone, but {cell.path} still counts it ({reason}): a lost reference"


def idle(engine: Engine) -> bool:
    """Is no call running, and is none to come?"""
    return not engine.threads and not engine.calls_to_come


def every(engine: Engine, kind: type[Any]) -> Iterator[Any]:
    """Every object of one kind that lives."""
    return iter(engine.objects.of(kind))
