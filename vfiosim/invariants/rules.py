"""An invariant in words, with the fields it reads and the lock under which it may be broken; and how they are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..engine import Count, Engine, KObject, Lock, Thread

Broken = Iterator[str]


@dataclass(frozen=True)
class Invariant:
    """One rule about objects of one kind.

    * `reads`: the fields it looks at, as "kind.field"; a change of one of them may break it;
    * `lock`: the lock of an object under which it may be broken for a while, None if it has to hold at every effect;
    * `broken`: given the engine and the object, the sentences that say how it is broken.
    """

    name: str
    about: type[KObject]
    reads: tuple[str, ...]
    lock: Callable[[Any], Lock | None]
    broken: Callable[[Engine, Any], Broken]


INVARIANTS: list[Invariant] = []


def invariant(
    about: type[KObject], *reads: str, lock: Callable[[Any], Lock | None] = lambda _: None
) -> Callable[[Callable[[Engine, Any], Broken]], Callable[[Engine, Any], Broken]]:
    """Make a function that yields broken sentences an invariant about objects of one kind."""

    def add(function: Callable[[Engine, Any], Broken]) -> Callable[[Engine, Any], Broken]:
        INVARIANTS.append(Invariant(function.__name__, about, reads, lock, function))
        return function

    return add


def check(engine: Engine) -> list[str]:
    """Every broken invariant, in words; an empty list if all is well. Looks only, so that it can be called at any time."""
    found = list(engine.violations)
    about: dict[type[KObject], list[Invariant]] = {}
    for thing in list(engine.objects.values()):
        found += _broken_references(thing)
        kind = type(thing)
        if kind not in about:
            about[kind] = [invariant for invariant in INVARIANTS if issubclass(kind, invariant.about)]
        for invariant in about[kind]:
            lock = invariant.lock(thing)
            if lock is None or lock.holder is None:
                found += invariant.broken(engine, thing)
    return found


def _broken_references(thing: KObject) -> Broken:
    """Every reference has a holder that lives, and is given back once."""
    for cell in thing.cells():
        if not isinstance(cell, Count):
            continue
        for (holder, reason), n in cell.held.items():
            if n < 0:
                yield f"{holder.oid} gave back {-n} more of {cell.path} than it had taken ({reason})"
            elif holder.freed or (isinstance(holder, Thread) and holder.ended):
                yield f"{holder.oid} is gone, but {cell.path} still counts it ({reason}): a lost reference"


def idle(engine: Engine) -> bool:
    """Is no call running?"""
    return not engine.threads


def every(engine: Engine, kind: type[Any]) -> Iterator[Any]:
    """Every object of one kind that lives."""
    return (thing for thing in engine.objects.values() if isinstance(thing, kind))
