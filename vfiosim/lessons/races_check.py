"""The questions at the end of the lesson about races: a held lock, a lock for each access, and what a test finds."""

from __future__ import annotations

from typing import Any

from .. import uapi
from ..engine import Phase, load, refuse_if, say, store
from ..explore.result import in_turn
from ..kernel.vfio.vfio import VfioDevice
from ..lab import Distractor, ExperimentResult, Question
from ..uapi import Errno
from . import misconceptions as M
from .races_questions import GROUP_VIEW, R1, moved, worst


def _at_a_held_lock() -> ExperimentResult:
    machine = R1.setup()
    before = len(machine.trace)
    calls = moved(machine)
    group: Any = machine.engine.objects["vfio_group 1"]
    while group.group_lock.holder is None and calls["A"].step():
        pass
    other = calls["B"].run()
    answer = (
        "waits" if other.state == "blocked" else other.error.name if isinstance(other.error, uapi.KernelError) else "on"
    )
    return ExperimentResult(answer, machine.trace[before:], -1, (other.waits_for,))


async def look_then_count(device: VfioDevice) -> None:
    """`vfio_device_block_group`, with the lock held for each of the two accesses, and free in between."""
    group = device.group
    async with group.group_lock:
        opened = await load(group.opened_file)
    await refuse_if(opened is not None, Errno.EBUSY, "group_is_closed", "the group's file is open")
    say(Phase.BLOCK, "{} counts one binding more, under its lock: taken anew since the group was looked at.", group)
    async with group.group_lock:
        await store(group.cdev_device_open_cnt, await load(group.cdev_device_open_cnt) + 1)


def _a_lock_for_each() -> ExperimentResult:
    result = R1.explore(patches={"vfio_device_block_group": look_then_count})
    shown = result.counterexample or next(iter(result.outcomes.values()))
    return ExperimentResult(result.verdict, shown.trace, -1, (f"{shown.what}: {in_turn(shown.schedule)}",))


def interrupted() -> tuple[int, int]:
    """R1 without its lock, one call interrupted once by the other one whole: how many of these runs go wrong, of how many."""
    wrong = runs_made = 0
    for first, second in (("A", "B"), ("B", "A")):
        effects = 0
        while True:
            machine = R1.setup(trace=False)
            calls = moved(machine, without=R1.without)
            if not all(calls[first].step() for _ in range(effects)):
                break
            calls[second].run()
            calls[first].run()
            wrong, runs_made, effects = wrong + bool(machine.check()), runs_made + 1, effects + 1
    return wrong, runs_made


def stop_a(after: int) -> str:
    """A schedule of R1 without its lock: A goes on for `after` effects, B to its end, then A to its end.

    Raises ValueError for a number of effects that A has not.
    """
    calls = moved(R1.setup(trace=False), without=R1.without)
    if after < 0 or not all(calls["A"].step() for _ in range(after - 1)):
        raise ValueError(f"A has no {after} effects")
    turns = [f"A{after}"] if after else []
    ended = bool(after) and not calls["A"].step()
    for thread in ("B",) if ended else ("B", "A"):
        effects = 1  # the last one says that there is no more
        while calls[thread].step():
            effects += 1
        turns.append(f"{thread}{effects}")
    return f"R1 without group_lock: {' '.join(turns)}"


def _how_often() -> ExperimentResult:
    wrong, made = interrupted()
    share = wrong / made
    answer = "never" if not wrong else "rarely" if share < 0.2 else "often"
    found = worst(R1.explore(R1.without))
    return ExperimentResult(answer, found.trace, -1, (f"{wrong} of {made} runs go wrong",))


CHECK = (
    Question(
        "A holds <code>group_lock</code>, between looking and telling. B comes to the lock. What happens to its BIND?",
        _at_a_held_lock,
        "a lock makes others wait; it refuses nobody. EBUSY comes from a check, and the check is made when the lock is free.",
        {
            "waits": "it waits until A gives the lock back",
            "EBUSY": "it gets EBUSY",
            "on": "it goes on without the lock",
        },
        {
            "EBUSY": Distractor(
                "You expected a held lock to refuse. A lock lets others wait: B waits, and goes on when A gives the "
                "lock back. EBUSY comes from a check.",
                M.LOCKED_IS_BUSY,
            ),
            "on": "A lock that lets others pass would guard nothing. A thread that wants a held lock waits until it is free.",
        },
        view=GROUP_VIEW,
        name="10 check: a held lock",
    ),
    Question(
        "Somebody rewrites BIND: it takes <code>group_lock</code> to look at <code>opened_file</code>, gives it back, and takes "
        "it again to count. So every access is made under the lock. Is it safe?",
        _a_lock_for_each,
        "looking and counting have to be one step. Between the two the group is opened, and what was seen is not true any more.",
        {
            "safe": "safe: every access is under the lock",
            "broken": "broken: there is a schedule in which both get the group",
        },
        {
            "safe": Distractor(
                "You looked at each access alone. Between the two the lock is free: there A opens the group, and then "
                "B binds. So the group is open and a device is bound.",
                M.EACH_ACCESS_LOCKED,
            )
        },
        view=GROUP_VIEW,
        name="10 check: a lock for each",
    ),
    Question(
        "The lock is taken out, and somebody tests: one of the two calls is interrupted once, anywhere, by the other one whole. "
        "In how many of all these runs does it go wrong?",
        _how_often,
        "only a few effects lie between looking and telling. A test hits them rarely, and a test that misses "
        "them proves nothing. So every schedule has to be tried.",
        {"never": "in none", "often": "in every second one, or more", "rarely": "in less than a fifth"},
        {
            "never": "You expected one interruption to be too few. It is two switches, there and back. After these two the "
            "group is open and a device is bound.",
            "often": "You expected most places to do harm. The interruption must hit the few effects between looking and "
            "telling. Only then the group is open and a device is bound.",
        },
        view=GROUP_VIEW,
        name="10 check: how often",
    ),
)
