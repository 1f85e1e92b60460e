"""Compares the simulator with recordings, scenario by scenario."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from ..engine import PatchError
from ..explore.beginning import Beginning
from ..kernel import Unsupported
from ..kernel.config import Config
from ..machine import Machine
from ..topology import TOPOLOGIES, Topology
from .compare import ending_of, same, same_ending
from .ending import ending
from .recordings import Recording
from .replay import Playback
from .report import FileReport, Mismatch, ScenarioReport, Tally

Patches = Mapping[str, Callable[..., Any]]


def check(recording: Recording, only: tuple[str, ...] = ("",), patches: Patches | None = None) -> FileReport:
    """Replay the scenarios whose names begin with one of `only`, each on a machine that has just booted.

    `patches` are kernel functions to replace in each of them, by name.
    """
    report = FileReport(recording.name)
    for scenario in recording.scenarios:
        if scenario["name"].startswith(only):
            report.scenarios.append(check_scenario(recording, scenario, patches))
    return report


def check_scenario(
    recording: Recording, scenario: Mapping[str, Any], patches: Patches | None = None, called: set[str] | None = None
) -> ScenarioReport:
    """Replay one scenario and compare every step, then what is left afterwards; `called` gets the kernel functions it calls.

    From the first call on that the simulator cannot answer, all steps and the ending count as unsupported. An error of
    the simulator itself counts as a difference, and so does everything after it, for it has not been compared. Raises
    PatchError where a function among the `patches` does not come to an end.
    """
    steps, results = scenario["steps"], scenario["result"]["steps"]
    report = ScenarioReport(scenario["name"], Tally(scenarios=1, steps=len(steps)))
    done = -1
    try:
        with booted_as(recording).lent() as begin:
            machine = begin()
            machine.engine.patch(**(patches or {}))
            if called is not None:
                machine.engine.patches = _Noting(called, machine.engine.patches)
            replay = Playback(machine, recording.topology, scenario)
            for done, (step, recorded) in enumerate(zip(steps, results, strict=True)):
                got = replay.step(step)
                if not same(recorded, got):
                    report.differences.append(Mismatch(report.name, done, shown(step), recorded, got))
            done = len(steps)
            found = ending(replay, recording.topology, recording.probe0)
        if not same_ending(scenario["result"], found):
            report.differences.append(
                Mismatch(report.name, None, "what is left", ending_of(scenario["result"]), ending_of(found))
            )
    except Unsupported as reason:
        report.unsupported = reason.sentence
        report.tally.unsupported = len(steps) - max(done, 0) + 1
    except PatchError as error:
        if error.endless:  # it would be so in every scenario that comes by
            raise
        report.differences.extend(_lost(report.name, scenario, max(done, 0), error))
    except Exception as error:  # whatever it is, the other scenarios are to be compared
        report.differences.extend(_lost(report.name, scenario, max(done, 0), error))
    report.tally.differ = len(report.differences)
    return report


@lru_cache(maxsize=8)
def booted(topology: Topology, config: Config) -> Beginning:
    """Machines of this topology and configuration that have just booted."""
    return Beginning(partial(Machine, topology, config=config))


def booted_as(recording: Recording) -> Beginning:
    """Machines like the recorded one. Raises Unsupported for one that is not modelled."""
    return booted(topology_of(recording), Config.of(recording.config))


class _Noting(dict[str, Callable[..., Any]]):
    """The patches of a machine, which note each function that asks whether it has one."""

    def __init__(self, called: set[str], patches: Patches) -> None:
        super().__init__(patches)
        self._called = called

    def __bool__(self) -> bool:
        return True

    def get(self, name: str, default: Any = None) -> Any:
        self._called.add(name)
        return super().get(name, default)


def shown(step: Mapping[str, Any]) -> str:
    """A step in one line."""
    rest = {key: value for key, value in step.items() if key not in ("call", "proc", "fd", "request", "save", "notes")}
    parts = [str(step[key]) for key in ("fd", "request") if key in step]
    parts += [f"{key}={json.dumps(value)}" for key, value in rest.items()]
    who = f"[{step['proc']}] " if "proc" in step else ""
    return f"{who}{step['call']}({', '.join(parts)})"


def topology_of(recording: Recording) -> Topology:
    if recording.profile in TOPOLOGIES:
        return TOPOLOGIES[recording.profile]  # a run on one of our own machines
    try:
        return Topology.from_recording(recording.topology, recording.profile)
    except ValueError:
        raise Unsupported(f"the profile {recording.profile}") from None


def _lost(name: str, scenario: Mapping[str, Any], first: int, error: Exception) -> list[Mismatch]:
    """What could not be compared because the simulator broke."""
    broken = f"{type(error).__name__}: {error}"
    steps, results = scenario["steps"], scenario["result"]["steps"]
    result = [Mismatch(name, at, shown(steps[at]), results[at], broken) for at in range(first, len(steps))]
    return [*result, Mismatch(name, None, "what is left", ending_of(scenario["result"]), broken)]
