"""Which checks refused the recorded calls, how often, and the smallest program that meets each."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeAlias

from ..explore.beginning import Beginning
from ..kernel import Unsupported
from ..kernel.config import Config
from ..machine import Machine
from ..topology import Topology
from ..uapi import KernelError, request_names
from .check import booted, booted_as
from .recordings import Recording
from .replay import Playback
from .scope import Scope, Step

_PASSED = re.compile(r"refuse_if \[(\w+)\] passed")


@dataclass(frozen=True)
class RefusedProgram:
    """Calls on a recorded machine, of which the last one is refused. `devices` and `config` are those of the recording."""

    profile: str
    devices: Mapping[str, Mapping[str, Any]]
    steps: Sequence[Step]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def topology(self) -> Topology:
        """The devices of the machine on which it runs."""
        return Topology.from_recording(self.devices, self.profile)

    @property
    def booted(self) -> Beginning:
        """Machines on which it can run."""
        return booted(self.topology, Config.of(self.config))

    def boot(self) -> Machine:
        """A machine of one's own on which it can run."""
        return Machine(self.topology, config=self.config)

    def run(self, machine: Machine) -> KernelError | None:
        """Make the calls on a machine that has just booted. The answer is why the last one was refused; None if it was not."""
        done = Playback(machine, self.devices, {"timeout": 5})
        for step in self.steps:
            done.refused.clear()
            done.step(step)
        return done.refused[-1][1] if done.refused else None

    def lines(self) -> Iterator[str]:
        """The calls as text, one a line, with the names of the machine's nodes; first how its kernel was built, if not as usual."""
        scope = Scope(self.devices)
        if self.config:
            yield f'Machine(config="{Config.of(self.config)}")'
        for step in self.steps:
            yield _line(step, scope)


@dataclass(frozen=True)
class KnownRefusal:
    """One way in which a request (or a system call) is refused.

    * `check`, `errno`, `sentence`, `kernel`: what refused, with what, why, in which function of the kernel
    * `passed`: the checks that `program` passes before, in their order
    * `recorded`: how many recorded calls were refused so
    """

    request: str
    errno: str
    check: str
    sentence: str
    kernel: str
    recorded: int
    passed: tuple[str, ...]
    program: RefusedProgram


def refusals(recordings: Iterable[Recording]) -> list[KnownRefusal]:
    """All refusals that recorded calls met, by request, in the order of the checks. Takes half a minute for all recordings."""
    met: dict[tuple[str, str, str], list[tuple[bool, bool, int, RefusedProgram]]] = defaultdict(list)
    for recording in recordings:
        for scenario in recording.scenarios:
            for at, step, error in _refused(recording, scenario):
                steps = scenario["steps"][: at + 1]
                program = RefusedProgram(recording.profile, recording.topology, steps, recording.config)
                odd = (
                    bool(recording.config) or recording.profile != "default",
                    recording.name.startswith("random"),
                    at,
                )
                met[name_of(step), error.name, error.check].append((*odd, program))
    found = [_refusal(key, [each[-1] for each in sorted(ways, key=lambda way: way[:3])]) for key, ways in met.items()]
    return sorted(found, key=lambda each: (each.request, len(each.passed), each.check, each.errno))


def name_of(step: Step) -> str:
    """The request of an ioctl, else the call; "ioctl" for a number that is no request."""
    if step["call"] != "ioctl":
        return str(step["call"])
    request = step.get("request", "ioctl")
    return str(request) if isinstance(request, str) else " or ".join(request_names(request)) or "ioctl"


def _refused(recording: Recording, scenario: Mapping[str, Any]) -> Iterator[tuple[int, Step, KernelError]]:
    """Which calls of a scenario were refused, up to the first one that is not modelled: where, the call, why."""
    with booted_as(recording).lent() as begin, suppress(Unsupported):
        replay = Playback(begin(), recording.topology, scenario)
        for at, step in enumerate(scenario["steps"]):
            replay.refused.clear()
            replay.step(step)
            yield from (
                (at, *each) for each in replay.refused if each[1].kernel
            )  # by a call, and not where memory was looked at


def _refusal(key: tuple[str, str, str], ways: Sequence[RefusedProgram]) -> KnownRefusal:
    program = _smallest(ways[0], key)
    machine = program.boot()
    error = program.run(machine)
    assert error is not None
    last = next((micro.call for micro in reversed(machine.trace.micro) if micro.refused), None)
    texts = (micro.text for micro in machine.trace.micro if micro.call == last)
    passed = tuple(dict.fromkeys(found[1] for text in texts if (found := _PASSED.match(text))))
    return KnownRefusal(*key, error.sentence, error.kernel, len(ways), passed, program)


def _smallest(program: RefusedProgram, key: tuple[str, str, str]) -> RefusedProgram:
    """The program without every call that is not needed for its last one to be refused so; nothing that is used is missing."""
    with program.booted.lent() as begin:
        size = 0
        while size != len(program.steps):
            size = len(program.steps)
            for at in reversed(range(size - 1)):
                before, step, later = program.steps[:at], program.steps[at], program.steps[at + 1 :]
                shorter = replace(program, steps=[*before, *later])
                if not _uses(step, later) and _meets(shorter, begin(), key):
                    program = shorter
    return program


def _uses(step: Step, later: Sequence[Step]) -> bool:
    """Does a later call use what this one saves, or end what it began?"""
    saved = step.get("save", ())
    names = [saved] if isinstance(saved, str) else list(saved.values() if isinstance(saved, dict) else saved)
    text = json.dumps(later)
    return any(f'"${name}' in text for name in names)


def _meets(program: RefusedProgram, machine: Machine, key: tuple[str, str, str]) -> bool:
    try:
        error = program.run(machine)
    except Exception:  # the scenario does not go on without that call
        return False
    return error is not None and (name_of(program.steps[-1]), error.name, error.check) == key


# ---- kept in a file

RecordedMachine: TypeAlias = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # profile, devices, configuration


def write(found: Sequence[KnownRefusal], path: Path) -> None:
    """Write refusals to a file that `read` reads. The recorded machines come first, each once."""
    machines: list[RecordedMachine] = []
    lines = []
    for each in found:
        machine = each.program.profile, each.program.devices, each.program.config
        if machine not in machines:
            machines.append(machine)
        lines.append(vars(each) | {"program": [machines.index(machine), each.program.steps]})
    text = "".join(f"{json.dumps(line)}\n" for line in (machines, *lines))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read(path: Path | Traversable) -> list[KnownRefusal]:
    """The refusals that `write` has written."""
    machines, *lines = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
    return [_read(machines, line) for line in lines]


def _read(machines: Sequence[RecordedMachine], line: dict[str, Any]) -> KnownRefusal:
    where, steps = line["program"]
    profile, devices, config = machines[where]
    line.update(passed=tuple(line["passed"]), program=RefusedProgram(profile, devices, steps, config))
    return KnownRefusal(**line)


# ---- a call as text


def _line(step: Step, scope: Scope) -> str:
    saved = step.get("save")
    before = f"{saved} = " if isinstance(saved, str) else ""
    who = f"[{step['proc']}] " if "proc" in step else ""
    rest = {
        key: value for key, value in step.items() if key not in ("call", "proc", "save", "notes", "timeout", "settle")
    }
    fields = rest.pop("arg", {}) if isinstance(rest.get("arg", {}), dict) else {}
    if step["call"] == "ioctl" and name_of(step) != "ioctl":
        rest["request"] = name_of(step)
    plain = [_shown(rest.pop(key), scope) for key in ("fd", "request", "path") if key in rest]
    named = [f"{key}={_shown(value, scope)}" for key, value in (*fields.items(), *rest.items())]
    return f"{who}{before}{step['call']}({', '.join((*plain, *named))})"


def _shown(value: Any, scope: Scope) -> str:
    if isinstance(value, str):
        return value[1:] if value.startswith("$") else scope.text(value)
    if isinstance(value, list):
        return "|".join(_shown(each, scope) for each in value) or "0"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(each, scope)}" for key, each in value.items()) + "}"
    return f"{value:#x}" if isinstance(value, int) and value > 4095 else str(value)
