"""A search sets one machine back instead of booting hundreds: it is then as a new one, and what is found is the same."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
from threading import RLock
from types import FunctionType, MethodType
from typing import Any

import pytest

from tests.searches import beside, broken
from vfiosim import Machine
from vfiosim.engine import PatchError, load
from vfiosim.explore import Result, explore
from vfiosim.explore.beginning import Beginning
from vfiosim.explore.model import Factory, end_everybody
from vfiosim.museum import ROOMS
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.programs import NODE, bind, ready_to_bind

SETUPS = {
    **{name: puzzle.setup for name, puzzle in PUZZLES.items()},
    **{name: room.setup for name, room in ROOMS.items()},
    **{
        f"{name}, {n}": one.setup
        for name, room in ROOMS.items()
        for n, one in enumerate(room.must_still_work)
        if one.setup
    },
}


def inside(thing: Any) -> list[Any]:
    """What a thing is made of, as `copy` and `pickle` see it."""
    if isinstance(thing, FunctionType):
        return [thing.__code__, *(cell.cell_contents for cell in thing.__closure__ or ())]
    if isinstance(thing, MethodType):
        return [thing.__func__, thing.__self__]
    if isinstance(thing, memoryview | bytearray):
        return [bytes(thing)]
    if isinstance(thing, type(RLock())):
        return []
    if type(thing) is dict:
        return [part for entry in thing.items() for part in entry]
    if isinstance(thing, list | tuple):
        return list(thing)
    if isinstance(thing, set | frozenset):
        return sorted(thing)
    state = object.__reduce_ex__(thing, 4)[2:]
    return [list(part) if part is not None and type(part) not in (dict, tuple) else part for part in state]


def assert_alike(one: object, other: object) -> None:
    """Two machines are made of the same things, in the same way and the same order."""
    pairs, known = [(one, other)], dict[int, tuple[Any, Any]]()
    while pairs:
        mine, its = pairs.pop()
        assert type(mine) is type(its)
        if mine is its or id(mine) in known:
            assert mine is its or known[id(mine)][1] is its
        elif isinstance(mine, int | str | bytes):
            assert mine == its
        else:
            known[id(mine)] = (mine, its)
            pairs += zip_longest(inside(mine), inside(its), fillvalue=NotImplemented)


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
def test_a_machine_that_was_used_and_set_back_is_as_a_new_one(setup: Factory) -> None:
    with Beginning(setup).lent() as begin:
        used = begin()
        used.engine.notice_all()
        for process in list(used.processes.values()):
            process.memory.map(4096, b"more")
            process.fork(f"child of {process.name}").open("/dev/iommu")
        end_everybody(used)
        assert used.engine.objects
        assert begin() is used
    new = setup(trace=False)
    new.engine.notice_all()
    used.engine.notice_all()
    assert_alike(used, new)


def told(result: Result) -> list[Any]:
    """All of an answer but the time it took."""
    ways = [*((one.what, one.schedule) for one in result.violations), *result.outcomes.items()]
    return [result.schedules, result.transitions, [(what, getattr(way, "schedule", way)) for what, way in ways]]


def not_to_be_set_back(setup: Factory, made: list[Machine], trace: bool = True) -> Machine:
    """A machine with something in it that nobody knows how to set back."""
    machine: Any = setup(trace=trace)
    machine.unknown = iter(())
    made.append(machine)
    return machine


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=beside(name)) for name in ("R1", "R5", "R8", "R13", "R18", "R23")]
)
def test_what_is_found_is_the_same_where_each_run_has_a_machine_of_its_own(name: str) -> None:
    puzzle, made = PUZZLES[name], list[Machine]()
    without, patches = puzzle.ways[0]
    factory = partial(not_to_be_set_back, puzzle.setup, made)
    alone = explore(factory, puzzle.programs(), puzzle.looked_at, without, patches=patches, enough=None)
    assert len(made) > alone.schedules
    assert told(alone) == told(broken(name, 0))


def test_a_search_makes_few_machines() -> None:
    made = []

    def factory(trace: bool = True) -> Machine:
        made.append(trace)
        return ready_to_bind("one", "two", trace=trace)

    result = explore(factory, {"A": [bind("one")], "B": [bind("two")]}, [])
    assert result.schedules > 1
    assert made == [False]
    assert len(next(iter(result.outcomes.values())).trace) > 0
    assert made == [False, True]


def test_who_comes_while_a_machine_is_lent_gets_another_one() -> None:
    start = Beginning(ready_to_bind)
    with start.lent() as first, start.lent() as second:
        assert first() is not second()
        assert first() is first()
    with start.lent() as third:
        assert third().engine.journal is None
    assert start.machine().engine.journal is not None


def test_a_function_that_a_factory_makes_with_each_machine_keeps_nothing_either() -> None:
    def factory(trace: bool = True) -> Machine:
        calls: list[int] = []

        async def looks_as_often_as_it_was_called(df: Any) -> None:
            for _ in calls:
                await load(df.access_granted)

        machine = ready_to_bind("p", trace=trace)
        machine.patch(vfio_df_open=looks_as_often_as_it_was_called)
        return machine

    with pytest.raises(PatchError, match="uses `calls`, a list that outlives a call"):
        explore(factory, {"A": [bind("p"), ("p", "open", NODE)]}, [])


# ---- the first thing that goes wrong


@beside("R5")
def test_an_exploration_can_stop_at_the_first_thing_that_goes_wrong() -> None:
    puzzle = PUZZLES["R5"]
    one, everything = puzzle.explore(puzzle.without, first=True), broken("R5", 0)
    assert (one.verdict, one.complete) == ("broken", False)
    assert one.limit == "it was to stop at the first thing that goes wrong"
    assert one.schedules < everything.schedules
    assert {found.what for found in one.violations} <= {found.what for found in everything.violations}


def test_where_nothing_goes_wrong_all_is_seen_all_the_same() -> None:
    puzzle = PUZZLES["R1"]
    assert told(puzzle.explore(first=True)) == told(puzzle.explore())
