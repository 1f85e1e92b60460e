"""Drills about two calls at once: in which ways can they end?"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import product

from ... import uapi
from ...explore import explore
from ...lab import Distractor, ExperimentResult, Question
from ...machine import Machine
from ...puzzles.programs import GROUP, NODE, Call, bind, make, ready_to_bind
from ...trace import Trace
from .. import misconceptions as M
from .describe import code


def _info(process: str) -> Call:
    return (process, "ioctl", 3, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo(argsz=24))


CALLS: dict[str, Callable[[str], Call]] = {
    "binds its device": bind,
    "asks its device for VFIO_DEVICE_GET_INFO": _info,
    "closes its device": lambda process: (process, "close", 3),
    "closes its iommufd": lambda process: (process, "close", 4),
    f"opens {GROUP}": lambda process: (process, "open", GROUP),
    f"opens {NODE} again": lambda process: (process, "open", NODE),
}
SAME = "two threads of one program"
TWO = "two programs, each with its own file of the same device and its own iommufd"


def _machine(two: bool, bound: bool, trace: bool = True) -> Machine:
    machine = ready_to_bind(*("one", "two")[: 1 + two], trace=trace)
    return make(machine, bind("one")) if bound else machine


def what_can_happen(seed: int) -> Question:
    """Two calls run at once: which of these outcomes are possible?"""
    dice = random.Random(f"schedule {seed}")
    while True:
        two, bound = dice.random() < 0.5, dice.random() < 0.25
        first, second = dice.choice(list(CALLS)), dice.choice(list(CALLS))
        factory = partial(_machine, two, bound)
        programs = {"A": [CALLS[first]("one")], "B": [CALLS[second]("two" if two else "one")]}
        result = explore(factory, programs, [])
        found = [(dict(outcome)["A"][0], dict(outcome)["B"][0]) for outcome in result.outcomes]
        if result.complete and len(found) > 1:
            break
    results = [list(dict.fromkeys(pair[thread] for pair in found)) for thread in (0, 1)]
    pairs = list(product(*results))
    if len(pairs) == len(found):  # nothing to exclude: offer what cannot happen, too
        other = next(name for name in ("EBUSY", "EINVAL", "EBADF") if name not in results[0] + results[1])
        pairs += [(other, found[0][1]), (found[0][0], other)]
    keys = {f"{a} {b}": f"A returns {a}, B returns {b}" for a, b in pairs}
    possible = tuple(f"{a} {b}" for a, b in found)
    traces = {key: witness.trace for key, witness in zip(possible, result.outcomes.values(), strict=True)}
    whole = {_one_after_the_other(factory, programs, order) for order in ("AB", "BA")}
    wrong = {f"-{key}": _missed(keys[key], key in whole, traces[key]) for key in possible}
    wrong |= {f"+{key}": _impossible(key, found, traces) for key in keys if key not in possible}
    who = TWO if two else SAME
    state = " The device of the first program is bound already." if bound else ""
    return Question(
        f"There are {who}; descriptor 3 is the device, 4 the iommufd.{state} At the same moment "
        f"<b>A</b> {first}, and <b>B</b> {second}. In which ways can the two calls end?",
        lambda: ExperimentResult(possible, next(iter(traces.values())), -1),
        f"all {result.schedules} schedules that can make a difference were run, and they end in {len(found)} ways.",
        keys,
        wrong,
        kind="set",
        name="drill schedule",
        hints=("Let A run whole before B, then B before A: that gives two ways.", "Then look for ways in between."),
    )


def _one_after_the_other(factory: Callable[[], Machine], programs: dict[str, list[Call]], order: str) -> str:
    """How the two calls end where each runs whole, in this order, as the key of an answer."""
    machine, ends = factory(), {}
    for thread in order:
        ((process, name, *arguments),) = programs[thread]
        call = machine.processes[process].start(name, *arguments, thread=thread)
        ends[thread] = str(getattr(call.error, "name", call.result))
    return f"{ends['A']} {ends['B']}"


def _missed(said: str, whole: bool, trace: Trace) -> Distractor:
    """About an outcome that the reader takes to be impossible."""
    how = "if one call runs whole before the other" if whole else "if one call steps in between the steps of the other"
    return Distractor(
        f"It can happen, {how}: {code(said)}. The steps below are one way to it.",
        None if whole else M.ONE_CALL_AFTER_THE_OTHER,
        lambda: ExperimentResult("", trace, -1),
    )


def _impossible(key: str, found: list[tuple[str, str]], traces: dict[str, Trace]) -> Distractor:
    """About an outcome that the reader takes to be possible: with what one of the calls returns there, how does the other end?"""
    mine, other = key.split()
    others = [b for a, b in found if a == mine]
    if not others:
        return Distractor(f"A returns {mine} in no schedule.")
    return Distractor(
        f"Where A returns {mine}, B returns {' or '.join(others)}, never {other}.",
        refute=lambda: ExperimentResult("", traces[f"{mine} {others[0]}"], -1),
    )
