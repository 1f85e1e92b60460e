"""Invariants say what they look at and under which lock they may be broken; the explorer relies on both."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vfiosim.invariants
from tests.conftest import BY_NIGHT
from tests.turns import DAY
from vfiosim.conformance.recordings import load as load_recording
from vfiosim.conformance.replay import Playback
from vfiosim.engine import Cell, Completion, Count, Engine, Field, KObject, Lock, Request, Table, Thread
from vfiosim.engine.objects import Intervals
from vfiosim.invariants import INVARIANTS, Invariant
from vfiosim.kernel import Unsupported
from vfiosim.machine import Machine
from vfiosim.topology import Topology

RECORDS = Path(__file__).parent.parent / "assets" / "records"
SHARED = pytest.mark.xdist_group("invariants that are watched")
# Invariants are asked before every so manieth effect, another one each day; by night, before three times as many.
EVERY = 23 if os.environ.get(BY_NIGHT) else 69

_PARTS: dict[type[Cell], tuple[str, ...]] = {
    Field: ("value",),
    Count: ("value", "held"),
    Table: ("slots",),
    Intervals: ("slots", "_starts"),
    Lock: ("holder", "readers"),
    Completion: ("value",),
}


_KINDS: dict[type[KObject], frozenset[str]] = {}


def kinds(kind: type[KObject]) -> frozenset[str]:
    """The kind of a class, and the more general ones."""
    if kind not in _KINDS:
        _KINDS[kind] = frozenset(base.kind for base in kind.__mro__ if issubclass(base, KObject))
    return _KINDS[kind]


Looked = dict[str, set[tuple[frozenset[str], str]]]  # by invariant: kinds and field; without kinds its lock


class Looking:
    """Notes which cells of which kinds are looked at, and the death of which kinds, while it is on."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}  # every object, those too that are gone
        self.seen: set[tuple[frozenset[str], str]] = set()
        self._classes: dict[type, type] = {}
        self._ones: list[tuple[Any, type, type]] = []  # they and their cells, with their class and the one that tells

    @contextmanager
    def on(self, engine: Engine) -> Iterator[None]:
        """Within the block, all objects tell when they are looked at."""
        for oid, thing in engine.objects.items():
            if self.known.get(oid) is not thing and not isinstance(thing, Thread):
                self.known[oid] = thing
                self._ones += [(one, type(one), self._telling(type(one))) for one in (thing, *thing.cells())]
        for one, _, telling in self._ones:
            one.__class__ = telling
        try:
            yield
        finally:
            for one, kind, _ in self._ones:
                one.__class__ = kind

    def _telling(self, kind: type) -> type:
        if kind not in self._classes:
            names = _PARTS[kind] if issubclass(kind, Cell) else ("freed",)
            body = {name: self._part(kind, name) for name in names}
            self._classes[kind] = type(kind.__name__, (kind,), body | {"__slots__": ()})
        return self._classes[kind]

    def _part(self, kind: type, name: str) -> property:
        if not issubclass(kind, Cell):

            def freed(thing: Any) -> Any:
                self.seen.add((kinds(type(thing)), ""))
                return thing.__dict__["freed"]

            return property(freed)
        slot = getattr(kind, name)

        def value(cell: Cell) -> Any:
            self.seen.add((kinds(type(cell.owner)), cell.name))
            return slot.__get__(cell)

        return property(value)


def places(invariant: Invariant) -> set[tuple[str, str]]:
    """What an invariant says that it reads: kind and field, without a field where it is which objects there are."""
    words = [read if isinstance(read, str) else read[0] for read in invariant.reads]
    paths = [word.split(" ")[0] for word in (*words, invariant.guard or invariant.about.kind, invariant.about.kind)]
    return {(path.partition(".")[0], path.partition(".")[2]) for path in paths}


@pytest.fixture(scope="module")
def looked_at() -> Looked:
    """What each invariant was seen to look at, in the middle of the calls of a recording."""
    seen: Looked = {one.name: set() for one in INVARIANTS}
    for name in ("hand-default", "hand-compat"):
        recording = load_recording(RECORDS / f"{name}.json.gz")
        topology = Topology.from_recording(recording.topology, recording.profile)
        for scenario in recording.scenarios:
            replay = Playback(Machine(topology, trace=False), recording.topology, scenario)
            _look_on(replay.machine.engine, seen)
            try:
                for step in scenario["steps"]:
                    replay.step(step)
            except Unsupported:
                continue
    return seen


def _look_on(engine: Engine, seen: Looked) -> None:
    looking, effects = Looking(), iter(range(1_000_000))

    def look(thread: Thread, request: Request) -> Request:
        if next(effects) % EVERY == DAY % EVERY:
            with looking.on(engine):
                for one in INVARIANTS:
                    looking.seen = seen[one.name]
                    for thing in engine.objects.of(one.about):
                        list(one.broken(engine, thing))
                        lock = one.lock(thing)
                        looking.seen.add((frozenset(), f"{lock.owner.kind}.{lock.name}" if lock is not None else ""))
        return request

    engine.instead = look


@SHARED
@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.name)
def test_an_invariant_declares_all_that_it_looks_at(invariant: Invariant, looked_at: Looked) -> None:
    declared, seen = places(invariant), looked_at[invariant.name]
    assert seen
    missing = [
        (sorted(kinds), field) for kinds, field in seen if kinds and not {(kind, field) for kind in kinds} & declared
    ]
    assert missing == []


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.name)
def test_an_invariant_that_looks_for_objects_of_a_kind_says_so(invariant: Invariant) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(invariant.broken)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    names = [call.args[1].id for call in calls if call.func.id == "every"]  # type: ignore[attr-defined]
    module = inspect.getmodule(invariant.broken)
    asked = {getattr(module, name).kind for name in names}
    assert asked <= {kind for kind, field in places(invariant) if not field}


@SHARED
@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.name)
def test_the_lock_of_an_invariant_is_the_one_that_it_names(invariant: Invariant, looked_at: Looked) -> None:
    assert {field for kinds, field in looked_at[invariant.name] if not kinds} <= {invariant.guard}


def test_each_of_the_ten_has_a_name_in_the_table() -> None:
    rows = [line.split("|") for line in (vfiosim.invariants.__doc__ or "").splitlines() if line.startswith("| ")]
    named = {row[1].strip(): row[3].strip(" `") for row in rows[1:]}
    assert sorted(map(int, named)) == list(range(1, 11))
    assert set(named.values()) <= {one.name for one in INVARIANTS}
