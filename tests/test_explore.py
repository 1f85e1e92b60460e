"""The explorer against every schedule without reduction; what it finds, what it says, and when it stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from random import Random
from typing import Any

import pytest

from tests.schedules import (
    ALIKE,
    HELD,
    TWICE,
    Everything,
    LittleWorld,
    Programs,
    searched,
    some_counting,
    some_programs,
    some_references,
    some_waits,
)
from tests.searches import beside
from tests.turns import turns
from vfiosim.engine import KObject, acquire, load, put
from vfiosim.explore import Result, explore
from vfiosim.explore.accesses import can_go
from vfiosim.explore.model import MachineModel
from vfiosim.explore.monitor import Monitor, inversions
from vfiosim.explore.search import Search
from vfiosim.explore.statistics import Limit, Statistics
from vfiosim.invariants import INVARIANTS, check
from vfiosim.kernel.fs.file import File, __fput
from vfiosim.machine import Machine
from vfiosim.puzzles.programs import GROUP, bind, ready_to_bind

WITHOUT: list[tuple[str, ...]] = [(), (), ("lock",), ("refs",), ("order of a",), ("sem",), ("a_is_zero",)]
INVARIANTS_OF_BOXES = [(), (ALIKE,), (HELD,), (ALIKE, HELD)]
MOST = 2000  # schedules without reduction
SEEDS = [
    17,
    35,
    40,
    52,
    64,
    65,
    67,
    93,
    112,
    118,
    145,
    147,
    150,
    151,
    156,
    177,
    179,
    191,
    233,
]  # small enough, and they race
SEEDS += [264, 266, 268, 271, 286, 289, 291, 318, 333, 346, 361, 363, 386, 398, 399, 402, 406, 415, 441, 449, 459]


def random_world(seed: int) -> LittleWorld:
    """Programs, what is taken out and what must hold, all by chance and always the same for a seed."""
    random = Random(seed * 7 + 1)
    without, invariants = random.choice(WITHOUT), random.choice(INVARIANTS_OF_BOXES)
    return LittleWorld(some_programs(seed), invariants, without)


def assert_alike(everything: Everything, found: Statistics) -> None:
    """The reduction has lost nothing, and its counterexamples are the shortest there are."""
    assert set(found.outcomes) == set(everything.outcomes)
    assert {what: len(schedule) for what, schedule in found.violations.items()} == everything.violations
    assert set(found.orders) == everything.orders
    assert found.schedules <= everything.schedules


@cache
def everything_of(seed: int) -> Everything:
    """All that can happen with the programs of a seed."""
    return Everything(partial(random_world, seed), MOST)


each_seed = pytest.mark.parametrize(
    "seed", turns([pytest.param(seed, marks=beside(f"seed {seed}")) for seed in SEEDS], days=2)
)


@each_seed
def test_random_programs_end_and_fail_alike_with_and_without_reduction(seed: int) -> None:
    assert_alike(everything_of(seed), searched(partial(random_world, seed)))


def shortest(begin: Callable[[], Any]) -> Statistics:
    """What the explorer finds that looks only for the shortest way to anything wrong as soon as it knows one."""
    search = Search(begin, enough=1)
    with suppress(Limit):
        search.run()
    return search.statistics


def assert_no_way_is_shorter(everything: Everything, found: Statistics) -> None:
    """The shortest of all is found, and what else is found is true; where nothing is wrong nothing is left out."""
    assert min(map(len, found.violations.values()), default=0) == min(everything.violations.values(), default=0)
    assert all(len(way) >= everything.violations[what] for what, way in found.violations.items())
    assert set(found.outcomes) <= set(everything.outcomes)
    if not everything.violations:
        assert_alike(everything, found)


@each_seed
def test_the_shortest_way_of_random_programs_is_found_without_seeing_everything(seed: int) -> None:
    assert_no_way_is_shorter(everything_of(seed), shortest(partial(random_world, seed)))


def test_looking_for_the_shortest_way_only_is_less_work() -> None:
    tallies = [(searched(begin), shortest(begin)) for begin in (partial(random_world, seed) for seed in SEEDS)]
    assert sum(few.transitions for _, few in tallies) < sum(all_.transitions for all_, _ in tallies) * 0.8


class Held(LittleWorld):
    """Threads that have to do with the references of one box, one or two of which are held from the beginning."""

    def __init__(self, seed: int) -> None:
        random = Random(seed * 3 + 1)
        without = random.choice([(), (), ("refs",), ("first",)])
        invariants = random.choice([*INVARIANTS_OF_BOXES, (TWICE,), (TWICE,)])
        super().__init__(some_references(seed), invariants, without)
        if TWICE in invariants or random.random() < 0.6:
            self.boxes[0].refs.change((self.boxes[0], "second"), 1)


COUNTING = [
    0,
    2,
    3,
    7,
    8,
    12,
    13,
    14,
    15,
    18,
    21,
    22,
    23,
    25,
    28,
    31,
    36,
    39,
    40,
    43,
    45,
    46,
    47,
    50,
    51,
    52,
    55,
    59,
    60,
    61,
]


@pytest.mark.parametrize("seed", COUNTING)
def test_references_of_all_kinds_end_and_fail_alike_with_and_without_reduction(seed: int) -> None:
    everything = Everything(partial(Held, seed), MOST)
    assert_alike(everything, searched(partial(Held, seed)))
    assert_no_way_is_shorter(everything, shortest(partial(Held, seed)))


class Counted(LittleWorld):
    """Threads that have to do with a count of three that must not fall below two."""

    def __init__(self, seed: int) -> None:
        super().__init__(some_counting(seed), (TWICE,))
        for reason in ("second", "third"):
            self.boxes[0].refs.change((self.boxes[0], reason), 1)


@pytest.mark.parametrize("seed", [4, 21, 32, 74, 79, 89, 94, 95])
def test_a_number_that_must_stay_large_enough_is_watched_alike_with_and_without_reduction(seed: int) -> None:
    everything = Everything(partial(Counted, seed), MOST)
    assert_alike(everything, searched(partial(Counted, seed)))
    assert_no_way_is_shorter(everything, shortest(partial(Counted, seed)))


class Waits(LittleWorld):
    """Threads that wait with a time limit, which may run out never, once or twice in each call."""

    def __init__(self, seed: int) -> None:
        super().__init__(some_waits(seed), (ALIKE,), (), seed % 3)
        self.boxes[0].spare.change((self.boxes[0], "first"), 1)


@pytest.mark.parametrize("seed", [1, 2, 3, 22, 28, 40, 49, 79, 85, 90, 99, 121, 123])
def test_waits_whose_time_may_run_out_end_alike_with_and_without_reduction(seed: int) -> None:
    everything = Everything(partial(Waits, seed), MOST)
    assert_alike(everything, searched(partial(Waits, seed)))
    assert_no_way_is_shorter(everything, shortest(partial(Waits, seed)))


def test_the_time_of_a_wait_may_run_out_before_the_signal_or_not_and_in_each_call_so_often_only() -> None:
    programs: Programs = {"A": [[("wait a while", 0), ("wait a while", 0)]], "B": [[("signal", 0)]]}
    ends = [
        sorted(dict(outcome)["A"] for outcome in searched(partial(LittleWorld, programs, (), (), timeouts)).outcomes)
        for timeouts in (0, 1, 2)
    ]
    assert ends == [[()], [("False True",), ("True False",)], [("False False",), ("False True",), ("True False",)]]


NESTED: dict[str, Programs] = {
    "two locks in opposite orders": {
        "A": [[("lock", 0, [("lock", 1, [])])]],
        "B": [[("lock", 1, [("lock", 0, [])])]],
    },
    "a writer between two readers": {
        "A": [[("read", 0, [("read", 0, [])])]],
        "B": [[("write", 0, [("store", 0, "a", 1)])]],
    },
    "a ring of three": {
        "A": [[("keep", 0), ("keep", 1)]],
        "B": [[("keep", 1), ("write", 0, [])]],
        "C": [[("write", 0, [("keep", 0)])]],
    },
    "one signal for two": {
        "A": [[("wait", 0), ("add", 0, "a")]],
        "B": [[("wait", 0), ("add", 0, "a")]],
        "C": [[("signal", 0)]],
    },
    "a lock that is kept": {"A": [[("keep", 0)]], "B": [[("lock", 0, [])], [("load", 1, "a")]]},
    "a signal and a lock": {
        "A": [[("lock", 0, [("wait", 0)])]],
        "B": [[("lock", 0, [("store", 0, "a", 1)]), ("signal", 0)]],
    },
    "slots that are claimed and emptied": {
        "A": [[("xa_alloc", 0), ("xa_store", 0, None), ("xa_load 1", 0)]],
        "B": [[("xa_alloc", 0), ("next", 0), ("xa_store 1", 0, None)]],
    },
    "slots of one table": {
        "A": [[("xa_store", 0, 1), ("xa_load 1", 0)]],
        "B": [[("xa_store 1", 0, 1), ("xa_alloc", 0)]],
    },
    "freed while it is looked up": {
        "A": [[("try", 0, [("load", 0, "a")])]],
        "B": [[("drop", 0)]],
    },
    "two that add and one that looks": {"A": [[("add", 0, "a")]], "B": [[("add", 0, "a")]], "C": [[("load", 0, "a")]]},
}


# What can be taken out, and which programs come by it; without the others everything is as it was.
MET_BY = {"sem": ("'read'", "'write'"), "refs": ("'try'",)}
NESTED_WAYS = [(name, ()) for name in NESTED] + [
    (name, (out,)) for out, ops in MET_BY.items() for name in NESTED if any(op in repr(NESTED[name]) for op in ops)
]


@pytest.mark.parametrize(("name", "without"), turns(NESTED_WAYS, days=3))
def test_programs_that_wait_for_each_other_fail_alike_with_and_without_reduction(
    name: str, without: tuple[str, ...]
) -> None:
    begin = partial(LittleWorld, NESTED[name], (ALIKE, HELD), without)
    everything = Everything(begin, 20_000)
    assert_alike(everything, searched(begin))
    assert_no_way_is_shorter(everything, shortest(begin))


class OpenMachine(MachineModel):
    """A machine that can also be looked at in the plainest way."""

    def broken(self, *_: Any) -> list[str]:
        """Every invariant that does not wait for rest."""
        return [
            what
            for one in INVARIANTS
            if not one.only_at_rest
            for thing in self.engine.objects.values()
            if isinstance(thing, one.about) and ((lock := one.lock(thing)) is None or lock.holder is None)
            for what in one.broken(self.engine, thing)
        ]

    def stuck(self) -> list[list[int]]:
        """Threads that wait for a lock; the programs here never do for ever."""
        stuck = [thread.upcoming for thread in self.threads]
        assert any(request is None or can_go(request) for request in stuck)
        return []


SMALL: dict[str, Any] = {
    "a limit and a close": {"A": [("p", "setrlimit", 7, 4, 4)], "B": [("p", "close", 77)]},
    "rights that go twice": {"A": [("p", "capset", ("CAP_SYS_ADMIN",))], "B": [("p", "capset", ("CAP_IPC_LOCK",))]},
    "another user and fewer rights": {"A": [("p", "setuid", 0)], "B": [("p", "capset", ("CAP_IPC_LOCK",))]},
    "two closes of nothing": {"A": [("p", "close", 66)], "B": [("p", "close", 77)]},
    "a close and one of nothing": {"A": [("p", "close", 0)], "B": [("p", "close", 77)]},
}


@pytest.mark.parametrize("programs", turns([pytest.param(each, id=name) for name, each in SMALL.items()], days=2))
def test_small_real_programs_end_and_fail_alike_with_and_without_reduction(programs: Any) -> None:
    begin = partial(lambda: OpenMachine(ready_to_bind("p", trace=False), programs, Monitor(INVARIANTS)))
    everything, found = Everything(begin, 5000), searched(begin)
    assert set(found.outcomes) == set(everything.outcomes)
    assert {w: len(s) for w, s in found.violations.items() if ":" not in w.split()[0]} == everything.violations


# ---- what is found


def found(programs: Programs, without: tuple[str, ...] = ()) -> dict[str, int]:
    """What goes wrong, and after how many effects."""
    return {what: len(way) for what, way in searched(partial(LittleWorld, programs, (), without)).violations.items()}


def test_use_after_free_is_found() -> None:
    assert found({"A": [[("free", 1)]], "B": [[("load", 1, "a")]]}) == {"use after free: B touches box y.a": 4}


def test_unlocking_what_is_freed_meanwhile_is_found() -> None:
    wrong = found({"A": [[("free", 1)]], "B": [[("lock", 1, [])]]})
    assert wrong == {"use after free: B touches box y.lock": 4}


def test_a_double_release_is_found_when_it_happens() -> None:
    wrong = found({"A": [[("drop", 0)]], "B": [[("drop", 0)]]})
    assert "given back twice: box x gives back box x.refs, which it has not (first)" in wrong


def test_a_file_that_is_put_too_often_is_found_although_its_memory_may_still_be_looked_at() -> None:
    async def put_twice(file: File, holder: KObject, reason: str) -> None:
        if await put(file.f_ref, holder, reason):
            await __fput(file)
        await put(file.f_ref, holder, reason)

    programs = {"A": [("p", "close", 3)]}
    result = explore(partial(ready_to_bind, "p"), programs, patches={"fput_close_sync": put_twice})
    assert result.counterexample is not None
    assert result.counterexample.what.startswith("given back twice: fds p gives back file vfio0#1.f_ref")


def test_a_deadlock_is_found_with_the_fewest_effects() -> None:
    assert found(NESTED["two locks in opposite orders"]) == {"stuck: A, B": 4}


def test_opposite_orders_of_two_locks_are_found_even_where_they_do_not_meet() -> None:
    programs: Programs = {"A": [[("lock", 0, [("lock", 1, [])]), ("signal", 0)]], "B": [[("wait", 0), *NESTED_BACK]]}
    statistics = searched(partial(LittleWorld, programs))
    assert statistics.violations == {}
    ((what, way),) = inversions(statistics.orders, list(programs))
    assert what == (
        "lock order: A takes box y.lock while it has box x.lock, but B takes box x.lock while it has box y.lock"
    )
    assert len(way) > 6


NESTED_BACK: list[Any] = [("lock", 1, [("lock", 0, [])])]


def two_binds(trace: bool = True) -> Machine:
    """Two programs that may bind the same device, and one that may open its group."""
    machine = ready_to_bind("one", "two", trace=trace)
    machine.process("opener")
    return machine


BINDS: dict[str, Any] = {"A": [bind("one")], "B": [bind("two")]}


async def never_given_back(ictx: Any, holder: Any, reason: str) -> None:
    """A slip: the iommufd is not given back."""
    await load(ictx.no_iommu_mode)


def test_a_reference_that_is_never_given_back_is_found_at_the_end() -> None:
    result = explore(two_binds, BINDS, [], patches={"iommufd_ctx_put": never_given_back})
    assert result.verdict == "broken"
    assert any(witness.what.startswith("left behind: ") for witness in result.violations)


async def takes_it_twice(device: Any) -> None:
    """A slip: a mutex is taken by who has it."""
    await acquire(device.group.group_lock)
    await acquire(device.group.group_lock)


def test_a_thread_that_waits_for_itself_is_a_deadlock() -> None:
    result = explore(two_binds, {"A": [bind("one")]}, [], patches={"vfio_device_block_group": takes_it_twice})
    assert any("deadlock: A waits for vfio_group 1.group_lock, held by itself" in w.what for w in result.violations)


async def forgets_to_unlock(device: Any) -> None:
    """A slip: the way out without an unlock."""
    await acquire(device.group.group_lock)


def test_a_lock_that_is_kept_by_a_call_that_has_returned_is_a_deadlock_for_the_next() -> None:
    programs: dict[str, Any] = {"A": [bind("one")], "B": [("opener", "open", GROUP)]}
    result = explore(two_binds, programs, [], patches={"vfio_device_block_group": forgets_to_unlock})
    (witness,) = (w for w in result.violations if w.what.startswith("deadlock: "))
    assert witness.what == "deadlock: B waits for vfio_group 1.group_lock, held by A"
    assert set(witness.schedule) == {"A", "B"}


def test_a_call_that_returns_with_a_lock_is_found_although_nobody_else_wants_the_lock() -> None:
    result = explore(two_binds, {"A": [bind("one")]}, [], patches={"vfio_device_block_group": forgets_to_unlock})
    kept = "lock kept: A returns to user space and has vfio_group 1.group_lock, which forgets_to_unlock took"
    (witness,) = (w for w in result.violations if w.what == kept)
    assert kept in witness.machine.check()


def test_what_can_be_reached_is_a_property_too() -> None:
    def both_are_bound(ends: dict[str, tuple[str, ...]]) -> bool:
        """both programs are bound"""
        return ends["A"] == ends["B"] == ("0",)

    def second_is_refused(ends: dict[str, tuple[str, ...]]) -> bool:
        """the second is refused"""
        return ends["B"] == ("EINVAL",)

    assert explore(two_binds, BINDS, [second_is_refused]).verdict == "safe"
    result = explore(two_binds, BINDS, [both_are_bound])
    assert [witness.what for witness in result.violations] == ["never happens: both programs are bound"]


# ---- what it says, and when it stops


def test_with_all_properties_three_programs_are_explored_to_the_end() -> None:
    result = explore(two_binds, {**BINDS, "C": [("opener", "open", GROUP)]})
    assert (result.verdict, result.complete) == ("safe", True)
    assert len(result.outcomes) == 3


def test_a_limit_is_said_loudly_and_is_never_called_safe() -> None:
    result = explore(two_binds, BINDS, [], schedules=1)
    assert (result.verdict, result.complete) == ("unfinished", False)
    assert str(result).startswith("NOT FINISHED, so nothing more is proved: 1 schedules are done, and there are more")


def test_when_only_a_shorter_way_was_looked_for_it_says_so_and_with_none_it_is_complete() -> None:
    wrong = explore(two_binds, BINDS, [], enough=1, patches={"iommufd_ctx_put": never_given_back})
    assert (wrong.verdict, wrong.complete) == ("broken", False)
    assert "only a shorter way to anything wrong was looked for, and there is none" in str(wrong)
    assert explore(two_binds, BINDS, [], enough=1).complete


def test_who_could_go_on_is_not_dead_where_only_a_shorter_way_is_looked_for() -> None:
    programs: dict[str, Any] = {**BINDS, "C": [("opener", "open", GROUP)]}
    names = ["group_and_node_exclude_each_other"]
    all_, few = (explore(two_binds, programs, names, ["group_lock"], enough=enough) for enough in (None, 1))
    assert (all_.complete, few.complete) == (True, False)
    assert {one.what for one in few.violations} <= {one.what for one in all_.violations}


def test_what_was_found_before_a_limit_is_kept() -> None:
    result = explore(two_binds, BINDS, [], schedules=1, patches={"iommufd_ctx_put": never_given_back})
    assert (result.verdict, result.complete) == ("broken", False)


def test_time_can_be_limited() -> None:
    assert "seconds are over" in explore(two_binds, BINDS, [], seconds=0).limit


def test_an_exploration_can_be_stopped_and_keeps_what_was_found() -> None:
    answers = iter([False, True])
    result = explore(two_binds, BINDS, [], stop=lambda: next(answers))
    assert (result.verdict, result.schedules, result.limit) == ("unfinished", 2, "it was stopped")
    assert result.outcomes


def test_ctrl_c_stops_an_exploration_and_keeps_what_was_found() -> None:
    answers = iter([False, True])

    def interrupt() -> bool:
        if next(answers):
            raise KeyboardInterrupt
        return False

    result = explore(two_binds, BINDS, [], stop=interrupt)
    assert (result.verdict, result.limit) == ("unfinished", "it was stopped")
    assert result.outcomes


def test_a_long_exploration_tells_how_far_it_is() -> None:
    told: list[int] = []
    explore(
        two_binds,
        {**BINDS, "C": [bind("one")], "D": [bind("two")]},
        progress=lambda t: told.append(t.transitions),
        seconds=1,
    )
    assert told
    assert told == sorted(told)


def test_one_thread_alone_breaks_nothing_under_a_lock_that_was_taken_out_and_two_do() -> None:
    change: Any = ("lock", 0, [("add", 0, "a"), ("add", 0, "b")])
    alone, two = ({thread: [[change]] for thread in threads} for threads in ("A", "AB"))
    assert not searched(partial(LittleWorld, alone, (ALIKE,), ("lock",))).violations
    assert not searched(partial(LittleWorld, two, (ALIKE,))).violations
    found = searched(partial(LittleWorld, two, (ALIKE,), ("lock",))).violations
    assert found
    assert all(len(set(schedule)) == 2 for schedule in found.values())


def test_a_counterexample_replays_to_what_it_says() -> None:
    programs: dict[str, Any] = {"A": [("opener", "open", GROUP)], "B": [bind("one")]}
    result = explore(two_binds, programs, ["group_and_node_exclude_each_other"], ["group_lock"])
    assert result.counterexample is not None
    assert result.counterexample.what in check(result.counterexample.machine.engine)


def test_without_what_the_programs_never_come_by_is_refused() -> None:
    with pytest.raises(ValueError, match="never use 'ioas_creation_lock'"):
        explore(two_binds, BINDS, [], ["ioas_creation_lock"])


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({"A": [("nobody", "close", 3)]}, "with a process of"),
        ({"A": [("one", "exit")], "B": [("one", "close", 3)]}, "exits in thread A, so it can make no call in thread B"),
        ({"": [("one", "close", 3)]}, "a thread needs a name"),
        ({}, "a dict of at least one thread and its calls"),
        ([("one", "close", 3)], "a dict of at least one thread and its calls"),
        ({"A": ("one", "close", 3)}, "the calls of thread A are a list of"),
        ({"A": None}, "the calls of thread A are a list of"),
        ({1: [("one", "close", 3)]}, "a thread needs a name, and 1 is none"),
        ({"A": [("one", "fork", "child")]}, "fork is no call of an exploration"),
        ({"A": [("one", "import_fd", 3)]}, "import_fd is no call of an exploration"),
        ({"A": [("one",)]}, "with a process of"),
    ],
)
def test_programs_that_cannot_be_run_are_refused_in_one_sentence(programs: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explore(two_binds, programs, [])


_TELL = """
import json
from tests.test_explore import BINDS, GROUP, summary, two_binds
from vfiosim.explore import explore
print(json.dumps(summary(explore(two_binds, {**BINDS, "C": [("opener", "open", GROUP)]}, without=["group_lock"]))))
"""


def summary(result: Result) -> list[Any]:
    """All of an answer but the time it took."""
    return [
        result.schedules,
        result.transitions,
        [[witness.what, list(witness.schedule)] for witness in result.violations],
        [[str(outcome), list(witness.schedule)] for outcome, witness in result.outcomes.items()],
    ]


def test_the_same_question_has_the_same_answer_in_every_process() -> None:
    said = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _TELL],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(json.loads(done.stdout))
    here = summary(explore(two_binds, {**BINDS, "C": [("opener", "open", GROUP)]}, without=["group_lock"]))
    assert said == [here, here]
    assert here[2]


def test_a_file_that_a_thread_of_a_race_opens_is_named_after_that_thread() -> None:
    machine = Machine()
    call = machine.process("vmm").start("open", "/dev/vfio/1", thread="A")
    assert call.error is None
    assert [name for name in machine.trace.end.objects if name.startswith("file group1")] == ["file group1#A1"]
