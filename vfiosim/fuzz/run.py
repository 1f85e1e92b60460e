"""Plays fuzzed programs on machines, and says what no call may do."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from ..conformance.arguments import Arguments
from ..conformance.ending import end_everybody
from ..conformance.replay import Replay
from ..engine import Count
from ..kernel import Unsupported
from ..machine import Machine
from ..process import Process
from ..uapi import REQUESTS, KernelError, request_names
from .corpus import Setting, Step, corpus
from .memory import WatchedArguments
from .programs import Programmer

_PATTERNS: Final = (0, 0, 0xC5)
_CHECKED: Final = 40  # steps from one look at the invariants to the next
_CALLS: Final = 250  # ioctls of one machine, more or less
# What the recorded kernel does although it should not: these words in a broken invariant are no finding.
SURPRISES: Final = {
    "a refused bind loses a VM": ("failed bind through another file gave it away", "nobody will give that back"),
}
_OUTPUTS: Final = {"raw", "tail"}


@dataclass
class Finding:
    """Something that must not happen, and the program that makes it happen, in the format of the recordings."""

    seed: str
    what: str
    profile: str
    steps: list[Step]

    def __str__(self) -> str:
        lines = [f"{self.what}", f"  seed {self.seed}, topology {self.profile}, {len(self.steps)} steps:"]
        return "\n".join([*lines, *(f"    {json.dumps(step)}" for step in self.steps)])


@dataclass
class Tally:
    """What came back."""

    machines: int = 0
    ioctls: int = 0
    from_abi: int = 0
    steps: int = 0
    oopses: int = 0
    blocked: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)  # by request and errno, "ok" for success
    unsupported: Counter[str] = field(default_factory=Counter)
    surprises: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what somebody else counted."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, Counter):
                mine.update(value)
            elif isinstance(value, list):
                mine.extend(value)
            else:
                setattr(self, name, mine + value)

    def never_succeeded(self) -> list[str]:
        """Requests that a recording shows succeeding, and that never did here."""
        return [name for name in sorted(corpus().succeeds) if not self.answers[name, "ok"]]


class FoundError(Exception):
    """Something that must not happen."""


class Watched(Replay):
    """A replay whose argument memory is watched."""

    fill = 0

    def room(self, process: Process) -> Arguments:
        """Memory with a pattern around the arguments."""
        self._places += 1
        return WatchedArguments(process.memory, self._places - 1, self.fill)


def fuzz(seed: str, ioctls: int) -> Tally:
    """Machine after machine, until so many ioctls have been made; the same seed makes the same calls."""
    tally = Tally()
    while tally.ioctls < ioctls and len(tally.findings) < 5:
        one = f"{seed}.{tally.machines}"
        tally.machines += 1
        Run(one, tally, ioctls).play()
    return tally


class Run:
    """One machine and what happens to it."""

    def __init__(self, seed: str, tally: Tally, ioctls: int) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.tally = tally
        self.enough = min(ioctls, tally.ioctls + _CALLS)
        self.setting: Setting = self.random.choice(corpus().settings)
        self.replay = Watched(self.setting.topology, self.setting.devices, {"steps": []})
        self.replay.fill = self.random.choice(_PATTERNS)
        self.before = _counts(self.replay.machine)
        self.log: list[Step] = []

    def play(self) -> None:
        """Programs until it is enough or nobody can go on; then everybody goes, and all must be as it was."""
        try:
            while self.tally.ioctls < self.enough and self._program():
                pass
            self._end()
        except Exception as error:  # whatever it is, it is what we are looking for
            what = str(error) if isinstance(error, FoundError) else f"{type(error).__name__}: {error}"
            self.tally.findings.append(Finding(self.seed, what, self.setting.topology.name, self.log))

    def _program(self) -> bool:
        """One program; False if a process got stuck."""
        actors = self.replay.actors
        for name in [name for name, actor in actors.items() if actor.state != "ok"]:
            del actors[name]
        for step in Programmer(self.random, self.setting, self.replay).steps():
            self._step(step)
            if any(actor.state in ("blocked", "gone") for actor in actors.values()):
                return False
            if self.tally.ioctls >= self.enough:
                break
        return all(actor.gone for _, actor in self.replay.everybody if actor.state == "killed")

    def _step(self, step: Step) -> None:
        self.log.append(step)
        self.tally.steps += 1
        actor = self.replay.actors.get(step.get("proc", "main"))
        if actor is not None and isinstance(actor.arguments, WatchedArguments):
            actor.arguments.lengths_are_wild = step.get("wild", False)
            actor.arguments.says = _says(step)
        try:
            result = self.replay.step(step)
        except Unsupported as reason:
            self.tally.unsupported[re.sub("#[0-9]+", "", reason.sentence)] += 1
            if step["call"] == "ioctl":
                self._count(step, "unsupported")
            actor = self.replay.actors.get(step.get("proc", "main"))
            if actor is not None:
                actor.arguments.clear()
            return
        if step["call"] == "ioctl" and result.get("state") != "not_run":
            self._ioctl(step, result)
        self.tally.oopses += result.get("state") == "proc_gone"
        self.tally.blocked += result.get("state") == "blocked"
        if len(self.log) % _CHECKED == 0:
            self._check()

    def _ioctl(self, step: Step, result: dict[str, Any]) -> None:
        answer = result.get("errno") or ("ok" if "ret" in result else str(result.get("state")))
        self._count(step, answer)
        names = _names(step)
        written = set(result.get("out", ()))
        if not written:
            return
        known = corpus()
        allowed = known.written if answer == "ok" else known.written_by_errors
        fields = set().union(*(allowed.get(name, ()) for name in names))
        buffers = {f"*{name}" for name in step["arg"]} if isinstance(step.get("arg"), dict) else set()
        if not names or not written - buffers <= fields | _OUTPUTS:
            raise FoundError(f"{step['request']} wrote {sorted(written - fields)} and answered {answer}")

    def _count(self, step: Step, answer: str) -> None:
        names = _names(step)
        self.tally.ioctls += 1
        self.tally.from_abi += bool(names)
        self.tally.answers[" or ".join(names) or "unknown number", answer] += 1

    def _check(self) -> None:
        for line in self.replay.machine.check():
            for name, words in SURPRISES.items():
                if any(part in line for part in words):
                    self.tally.surprises[name] += 1
                    break
            else:
                raise FoundError(f"check(): {line}")

    def _end(self) -> None:
        """Everybody goes; what is left over then is a leak."""
        machine = self.replay.machine
        stuck = end_everybody(self.replay)
        for _, actor in self.replay.everybody:
            with suppress(KernelError, ValueError):
                actor.arguments.clear()
        if stuck or machine.pending:
            return
        self._check()
        left = _counts(machine)
        wrong = {path: n for path, n in left.items() if self.before.get(path) != n}
        if wrong:
            raise FoundError(f"left behind: {wrong}")


def _counts(machine: Machine) -> dict[str, int]:
    """Every count that is not zero."""
    cells = (cell for thing in machine.engine.objects.values() for cell in thing.cells())
    return {cell.path: cell.value for cell in cells if isinstance(cell, Count) and cell.value}


def _names(step: Step) -> tuple[str, ...]:
    request = step["request"]
    if isinstance(request, str):
        return (request,)
    return request_names(request)


def _says(step: Step) -> int:
    """How many bytes the caller of a request says its argument has."""
    if step["call"] != "ioctl":
        return 0
    request = step["request"]
    known = REQUESTS.get(request) if isinstance(request, str) else None
    number = known.number if known is not None else request if isinstance(request, int) else 0
    size: Any = number >> 16 & 0x3FFF
    if number >> 8 & 0xFF == ord(";"):
        given = step.get("arg")
        size = int.from_bytes(bytes.fromhex(step.get("raw", ""))[:4], "little")
        size = max(size, given.get("argsz", 0)) if isinstance(given, dict) and isinstance(given.get("argsz"), int) else size
    return int(size)
