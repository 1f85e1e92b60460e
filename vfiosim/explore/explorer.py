"""Explore all schedules of a few programs on a machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..engine import Ablation, checked_all, names_of, seldom_collected
from ..engine.gates import is_students
from ..invariants import INVARIANTS, Invariant
from ..machine import Machine
from .apart import apart
from .beginning import beginning
from .model import (
    AT_REST,
    Factory,
    MachineModel,
    Programs,
    end_everybody,
    leftovers,
    refuse_missing,
)
from .monitor import Monitor, inversions
from .rerun import rerun
from .result import BROKEN, SAFE, UNFINISHED, Result, Witness, counted
from .search import Search
from .statistics import Limit, Statistics, check_limits

Found = tuple[Statistics, str, set[str], dict[str, None], bool]
Reached = Callable[[dict[str, tuple[str, ...]]], bool]


@seldom_collected()
def explore(
    factory: Factory,
    programs: Programs,
    properties: Sequence[Invariant | str | Reached] | None = None,
    without: Iterable[str] = (),
    *,
    patches: dict[str, Callable[..., Any]] | None = None,
    schedules: int | None = None,
    enough: int | None = 300,
    first: bool = False,
    timeouts: int = 0,
    seconds: float | None = None,
    progress: Callable[[Statistics], None] | None = None,
    stop: Callable[[], bool] | None = None,
    name: str = "",
) -> Result:
    """Run `programs` on the machine of `factory` in every order that can make a difference, and see what goes wrong.

    * `factory` makes a machine, always the same one, on which no call is under way; everything is open that has to be.
      If it has a parameter `trace`, it is asked for machines without a trace, which is quicker;
    * `programs`: for each thread its calls, each (process, call, arguments...), e.g.
      `{"A": [("vmm", "ioctl", 3, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=4))]}`;
    * `properties`: invariants by name (`vfiosim.invariants.INVARIANTS`), all of them if None, each looked at after every effect
      that may break it; and functions of an outcome `{"A": ("0",), "B": ("EBUSY",)}` that must be true of at least one;
    * `without`: protections to take out, see `vfiosim.engine.ablation`; `patches`: kernel functions to replace, by name;
    * `schedules`, `seconds`: give up after so many;
    * `enough`: after so many schedules, if something has gone wrong, look only for a shorter way to anything that does, which is
      much quicker; the answer is then not complete, but its counterexample is the shortest there is. None: see everything;
    * `first`: stop at the first thing that goes wrong, whether or not it is the shortest; who only asks whether anything does
      needs no more. The answer is complete only where nothing goes wrong;
    * `timeouts`: how often in each call the time of a wait may run out, at any moment; each wait is one with a time limit;
    * `progress` is called every 0.2 s with what was found up to then; `stop` is asked after every schedule, True ends it.
    * `name`: how `vfiosim.replay` finds it again, for puzzles: "R1 without group_lock".

    Whatever the properties, these always count: use after free, an oops, a warning of the kernel, a reference given back twice,
    a deadlock, two locks taken in opposite orders, and whatever is left behind when every process has ended.

    Each schedule is run once: a student's function is written in a language in which nothing but the machine decides what it does
    (`vfiosim.engine.grammar`), so a schedule goes the same way always. Raises PatchError for a function that is not.

    A call that the model knows no answer to is told like a limit: the schedules behind it may be quite different in Linux.

    Ctrl-C stops as `stop` does, and what was found is in the answer, which is then not complete; what `progress` raises comes
    through. With `timeouts` 0 time stands still meanwhile: a wait with a time limit ends as "waits" where nobody ends it.
    Raises ValueError for an unknown name, and for one in `without` that the programs never come by.
    """
    start = beginning(factory)
    check_limits(seconds, schedules=schedules)
    patches = checked_all(patches)
    invariants, reachable = _sorted_out(properties)
    own_rules = [one for one in invariants if one not in INVARIANTS]
    names = names_of(without)
    taken_out = Ablation(names)

    def fresh(machine: Machine, own: Mapping[str, Callable[..., Any]] | None = patches) -> Machine:
        if machine.pending:
            raise ValueError("the machine of an exploration must have no call under way")
        if names:
            machine.take_out(*sorted(machine.taken_out.names), *names).met = taken_out.met
        if own:
            machine.patch(**own)
        machine.expect(*own_rules)
        return machine

    statistics, monitor, limit = Statistics(), Monitor(invariants), ""
    started = time.monotonic()
    with start.lent() as begin:
        idle = fresh(begin(), {})  # what the kernel's own functions leave behind
        end_everybody(idle)
        before = leftovers(idle)
        taken_out.met.clear()
        ending = Ablation(idle.taken_out.names).instead if idle.taken_out.names else None

        def search(progress: Callable[[Statistics], None] | None, stop: Callable[[], bool] | None) -> Found:
            whole = Search(
                lambda: MachineModel(fresh(begin()), programs, monitor, before, ending, timeouts),
                statistics,
                schedules=schedules,
                enough=enough,
                first=first,
                seconds=seconds,
                progress=progress,
                stop=stop,
            )
            return statistics, whole.limit(), taken_out.met, monitor.unmodelled, monitor.timed

        try:
            students = any(map(is_students, patches.values()))
            found = apart(search, progress, stop) if students else search(progress, stop)
            statistics, limit, met, monitor.unmodelled, monitor.timed = found
            taken_out.met |= met
        except Limit as reason:
            limit = str(reason)
    elapsed = time.monotonic() - started
    if not limit:
        refuse_missing(taken_out)
        limit = "; ".join(monitor.unmodelled)
    witness = _witnesses(lambda: fresh(start.machine()), programs, name)
    result = _result(statistics, reachable, limit, elapsed, list(programs), witness)
    result.looked_at = tuple(one.name for one in invariants)
    result.left_out = tuple(one.name for one in INVARIANTS if one not in invariants)
    if monitor.timed:
        result.not_looked_at = _time_that_runs_out(timeouts)
    return result


def _time_that_runs_out(timeouts: int) -> str:
    """What is said where a call waits with a time limit."""
    if timeouts:
        times = counted(timeouts, "time", "times")
        return f"what happens when the time of a wait runs out more than {times} in a call"
    return "what happens when the time of a wait runs out (`timeouts=1` lets it, once in each call)"


def _sorted_out(properties: Sequence[Any] | None) -> tuple[list[Invariant], list[Reached]]:
    known = {one.name: one for one in INVARIANTS}
    if properties is None:
        return list(INVARIANTS), []
    invariants, reachable = [], []
    for one in properties:
        if isinstance(one, str):
            if one not in known:
                raise ValueError(f"there is no invariant {one!r}; there are {', '.join(sorted(known))}")
            invariants.append(known[one])
        elif isinstance(one, Invariant):
            invariants.append(one)
        else:
            reachable.append(one)
    return invariants, reachable


def _witnesses(factory: Factory, programs: Programs, name: str) -> Callable[[str, Sequence[str]], Witness]:
    """Makes witnesses; the machine of each is only run when somebody wants to see it."""
    steps: list[int] = []

    def run(schedule: tuple[str, ...]) -> Machine:
        machine = factory()
        steps.append(rerun(machine, programs, schedule))
        return machine

    def before() -> int:
        return steps[-1]

    return lambda what, schedule: Witness(what, tuple(schedule), run, before, name)


def _result(
    statistics: Statistics,
    reachable: list[Reached],
    limit: str,
    seconds: float,
    threads: list[str],
    witness: Callable[[str, Sequence[str]], Witness],
) -> Result:
    violations = [*statistics.violations.items(), *inversions(statistics.orders, threads)]
    known = dict(
        violations
    )  # what a way shows that is broken while calls run is not told again where it is so at the end
    wrong = [
        witness(what, [threads[n] for n in schedule])
        for what, schedule in violations
        if what.removeprefix(AT_REST) == what or what.removeprefix(AT_REST) not in known
    ]
    if not limit:
        for reached in reachable:
            if not any(reached(dict(outcome)) for outcome in statistics.outcomes):
                wrong.append(witness(f"never happens: {reached.__doc__ or reached.__name__}", ()))
    wrong.sort(key=lambda one: (not one.schedule, len(one), one.what))  # what has no schedule comes last
    return Result(
        verdict=BROKEN if wrong else UNFINISHED if limit else SAFE,
        complete=not limit,
        transitions=statistics.transitions,
        schedules=statistics.schedules,
        seconds=seconds,
        violations=wrong,
        outcomes={
            outcome: witness("", [threads[n] for n in schedule])
            for outcome, schedule in sorted(statistics.outcomes.items())
        },
        limit=limit,
    )
