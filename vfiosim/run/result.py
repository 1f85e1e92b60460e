"""A run in Python: what a program has called, how it ended, and what it left behind."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from random import Random
from typing import Any, Final

from ..machine import Machine
from ..machine.call import Broken
from ..trace import Trace
from .faults import Faults
from .filter import AUTO, WAYS
from .given import ProgramCall
from .recording import Notes, UnsavedError, document
from .supervisor import Supervisor

_BINDS: Final = re.compile("VFIO_DEVICE_BIND_IOMMUFD|VFIO_GROUP_GET_DEVICE_FD")
Standing = dict[str, tuple[str | None, str | None]]


@dataclass
class ProgramRun:
    """What came of a run.

    * `returncode`: the program's exit status; below 0 the signal that killed it;
    * `calls`: what it called, in order; `left_behind`: sentences about what is other than before;
    * `not_failed`: what was to fail and did not, in sentences; `way`: the one in which it was run;
    * `timed_out`: it was killed because it ran for longer than it was given;
    * `goes_on`: a process that it has started was still there when it had ended, whatever that one has.
    """

    machine: Machine
    returncode: int
    calls: list[ProgramCall] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    not_failed: list[str] = field(default_factory=list)
    way: str = ""
    timed_out: bool = False
    goes_on: bool = False

    @property
    def trace(self) -> Trace:
        """Every step of the kernel. Raises ValueError for a machine without a trace."""
        return self.machine.trace

    @property
    def telling_step(self) -> int:
        """The step of `trace`, from 1, that tells most: a refusal, else the last program's end if it leaves something, else a bind.

        A bind is shown where it makes its work known to others, as all that it has set up is there; of an end, what it lets go.
        """
        trace = self.trace
        refused = [step.index + 1 for step in trace if step.refused]
        if refused:
            return refused[-1 if self.returncode else 0]  # the one that a program ended for, or the first that it bore
        if self.left_behind and trace.calls[-1].ended == "returns":  # no number: it is the end of a program
            return trace.steps[trace.calls[-1].steps][0].index + 1
        bound = (call for call in trace.calls if _BINDS.search(call.name) and call.ended.startswith("returns"))
        if self.left_behind or not (first := next(bound, None)):
            return len(trace)
        steps = trace.steps[first.steps]
        known = (step.index + 1 for step in steps if step.phase == "publish" and step.changes)
        return max(known, default=steps[-1].index + 1)

    def steps_told(self) -> list[int]:
        """By call the step of `trace`, from 1, that tells most of it: its refusal, else its last change; 0 for none."""
        found, before = [], 0
        for call in self.calls:
            own = [step for step in self.trace if before <= step.first < call.effects]
            telling = [step for step in own if step.refused] or [step for step in own if step.changes] or own
            found.append(telling[-1].index + 1 if telling else 0)
            before = call.effects
        return found

    def check(self) -> Broken:
        """Every invariant that is broken, in words; an empty list if all is well."""
        return self.machine.check()


def run(
    command: Sequence[str],
    *,
    machine: Machine | str = "small",
    kernel: str = "v7.2",
    fail: Sequence[str] = (),
    seed: int | None = None,
    save: str | PathLike[str] | None = None,
    trace: bool = True,
    tell: Callable[[ProgramCall], None] | None = None,
    warn: Callable[[str], None] | None = None,
    way: str = AUTO,
    timeout: float | None = None,
    begun: Callable[[Callable[..., None]], None] = lambda end: None,
    **options: Any,
) -> ProgramRun:
    """Run a program to its end, with its VFIO, iommufd and KVM answered by a machine.

    * `machine`: a Machine, or the name of a topology for a new one of version `kernel`;
    * `fail`: what is to fail, as "VFIO_DEVICE_ATTACH_IOMMUFD_PT: ENOMEM", or "open#2: ENOMEM" for the second one alone;
    * `trace`: keep every step of a new machine, so that it can be shown; without it calls are answered several times faster;
    * `seed`: let calls of several threads take turns within the kernel, in an order that this number chooses;
    * `save`: a file in which the run is kept as a recording, which `python -m vfiosim conformance` and `replay` read; what cannot
      be done again from its calls alone is not, and `warn` is told why;
    * `way`: "redirect" or "namespace" (`filter.py`), where this computer lets it be; else `warn` is told and paths are redirected;
      "auto" is a namespace where there can be one and no seed is given, without a word;
    * `timeout`: after so many seconds the program and all that it has started is killed;
    * `begun` is given, as soon as the program runs, a function that sends a signal (SIGKILL) to it and to all that it has started;
    * `tell` is given each call as it ends, `warn` each sentence about what is not modelled; other options are Popen's.

    Raises CannotRun where this computer cannot do it (one sentence says what is missing), OSError where there is no such program,
    ValueError for a text of `fail` that says nothing, and for another way.
    """
    if way not in WAYS:
        raise ValueError(f"a program is run in the way {', '.join(WAYS[:-1])} or {WAYS[-1]}, not {way!r}")
    m = Machine(machine, kernel, trace) if isinstance(machine, str) else machine
    faults, objects, standing = Faults(*fail), _objects(m), _standing(m)
    calls: list[ProgramCall] = []

    def told(call: ProgramCall) -> None:
        calls.append(call := replace(call, effects=len(m.engine.micro)))
        if tell is not None:
            tell(call)

    random = None if seed is None else Random(seed)
    supervisor = Supervisor(m, told, faults=faults, random=random, way=way, begun=begun)
    if warn is not None:
        supervisor.warn = warn
    notes = Notes(m)
    if save is not None:
        supervisor.memory = notes.memory
    supervisor.timeout = timeout
    returncode = supervisor.run(command, **options)
    left = [*supervisor.programs.still_open(), *_left(m, objects, standing)]
    if save is not None:
        try:
            Path(save).write_text(json.dumps(document(notes, " ".join(command)), indent=1), encoding="utf-8")
        except UnsavedError as error:
            supervisor.warn(str(error))
        except OSError as error:  # the program has run, whatever becomes of its recording
            supervisor.warn(f"this run cannot be saved: {error.strerror}")
    not_failed = [sentence for each in faults.all if (sentence := each.told())]
    way, timed_out, goes_on = supervisor.launched.way, supervisor.timed_out, supervisor.goes_on
    return ProgramRun(m, returncode, calls, left, not_failed, way, timed_out, goes_on)


def _objects(machine: Machine) -> Counter[str]:
    return Counter(thing.kind for thing in machine.engine.objects.values())


def _standing(machine: Machine) -> Standing:
    """By the address of each device: its driver, and what it is told to take."""
    slots = machine.built.buses.devices.slots
    return {address: (each.driver_link.value or None, each.driver_override.value) for address, each in slots.items()}


def _left(machine: Machine, objects: Counter[str], standing: Standing) -> Iterator[str]:
    """What is other than before, where no process lives that could still mend it."""
    now = _standing(machine)
    for address in standing.keys() | now.keys():
        before, after = standing.get(address), now.get(address)
        if after is None or before is None:
            yield f"the device {address} is {'gone' if after is None else 'new'}"
        elif before[0] != after[0]:
            yield f"the device {address} is driven by {after[0] or 'nobody'}, before by {before[0] or 'nobody'}"
        elif before[1] != after[1]:
            yield f"driver_override of {address} is {after[1] or 'empty'}, before {before[1] or 'empty'}"
    if standing.keys() == now.keys() and not any(each.task.alive.value for each in machine.processes.values()):
        for kind, number in sorted((_objects(machine) - objects).items()):
            yield f"the kernel keeps {number} {kind} more than before"
