"""Plays fuzzed programs on machines, and says what no call may do."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from ctypes import sizeof
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from vfiosim.conformance.arguments import Arguments
from vfiosim.conformance.ending import end_everybody
from vfiosim.conformance.replay import Playback
from vfiosim.engine import Count, KObject, seldom_collected
from vfiosim.kernel import Unsupported
from vfiosim.kernel.iommufd.io_pagetable_h import IoptPages
from vfiosim.kernel.vfio.vfio import VfioDeviceFile
from vfiosim.machine import Machine, Process
from vfiosim.uapi import REQUESTS, KernelError, request_names

from .corpus import Setting, Step, corpus
from .memory import WatchedArguments
from .programs import Programmer

_PATTERNS: Final = (0, 0, 0xC5)
_CHECKED: Final = 100  # steps from one look at the invariants to the next
_CALLS: Final = 250  # ioctls of one machine, more or less
_ENOUGH_FAILURES: Final = 50
# What the recorded kernel does although it should not: these words in a broken invariant are no failure.
LOST_VM: Final = "a refused bind loses a VM"
SWITCHED: Final = "a group's backend is switched under an open device"
SURPRISES: Final = {
    LOST_VM: (
        "failed bind through another file gave it away",
        "nobody will give that back",
        "(bound for this VM)",
    ),
    SWITCHED: (
        "gives up a use of its container that was never taken",
        "than it had taken (a device of the group is open)",  # the file of the group: what the other path never took
        "leaves its container with container_users 0 instead of 1",
        "was opened in a container that is gone",
        "is closed, but was never taken out of",
        "a descriptor leads to a group file that was released already",
    ),
}
# Requests that write behind their struct, as far as `argsz` allows.
_WITH_TAIL: Final = {
    *("VFIO_DEVICE_GET_INFO", "VFIO_DEVICE_GET_REGION_INFO", "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"),
    *("VFIO_DEVICE_FEATURE", "VFIO_IOMMU_GET_INFO"),
}
_ROOM: Final = 4096
_OUTPUTS: Final = {"raw", "tail"}


@dataclass
class FuzzFailure:
    """Something that must not happen, and the program that makes it happen, in the format of the recordings."""

    seed: str
    what: str
    profile: str
    steps: list[Step]

    def __str__(self) -> str:
        lines = [f"{self.what}", f"  seed {self.seed}, topology {self.profile}, {len(self.steps)} steps:"]
        return "\n".join([*lines, *(f"    {json.dumps(step)}" for step in self.steps)])


@dataclass
class FuzzTotals:
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
    failures: list[FuzzFailure] = field(default_factory=list)

    def add(self, other: FuzzTotals) -> None:
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


class Watched(Playback):
    """A replay whose argument memory is watched."""

    fill = 0

    def room(self, process: Process) -> Arguments:
        """Memory with a pattern around the arguments."""
        self._places += 1
        return WatchedArguments(process.memory, self._places - 1, self.fill)


@seldom_collected()
def fuzz(seed: str, ioctls: int) -> FuzzTotals:
    """Machine after machine, until so many ioctls have been made; the same seed makes the same calls."""
    totals = FuzzTotals()
    while totals.ioctls < ioctls and len(totals.failures) < _ENOUGH_FAILURES:
        one = f"{seed}.{totals.machines}"
        totals.machines += 1
        Run(one, totals, ioctls).play()
    return totals


class Run:
    """One machine and what happens to it."""

    def __init__(self, seed: str, totals: FuzzTotals, ioctls: int) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.totals = totals
        self.enough = min(ioctls, totals.ioctls + _CALLS)
        self.setting: Setting = self.random.choice(corpus().settings)
        self.replay = Watched(Machine(self.setting.topology, trace=False), self.setting.devices, {"steps": []})
        self.replay.fill = self.random.choice(_PATTERNS)
        self.before = _counts(self.replay.machine)
        self.seen: set[str] = set()  # known surprises that this machine has shown
        self.may_follow: set[str] = set()  # surprises whose cause this machine has seen
        self.oopsed = False
        self.log: list[Step] = []

    def play(self) -> None:
        """Programs until it is enough or nobody can go on; then everybody goes, and all must be as it was."""
        try:
            while self.totals.ioctls < self.enough and self._program():
                pass
            self._end()
            self.totals.surprises.update(self.seen)
        except Exception as error:  # whatever it is, it is what we are looking for
            what = str(error) if isinstance(error, FoundError) else f"{type(error).__name__}: {error}"
            self.totals.failures.append(FuzzFailure(self.seed, what, self.setting.topology.name, self.log))

    def _program(self) -> bool:
        """One program; False if a process got stuck."""
        actors = self.replay.actors
        for name in [name for name, actor in actors.items() if actor.state != "ok"]:
            del actors[name]
        for step in Programmer(self.random, self.setting, self.replay).steps():
            self._step(step)
            if any(actor.state in ("blocked", "gone") for actor in actors.values()):
                return False
            if self.totals.ioctls >= self.enough:
                break
        return all(actor.gone for _, actor in self.replay.everybody if actor.state == "killed")

    def _step(self, step: Step) -> None:
        self.log.append(step)
        self.totals.steps += 1
        actor = self.replay.actors.get(step.get("proc", "main"))
        if actor is not None and isinstance(actor.arguments, WatchedArguments):
            actor.arguments.lengths_are_wild = step.get("wild", False)
            actor.arguments.says = _says(step, self.replay.fill)
        try:
            result = self.replay.step(step)
        except Unsupported as reason:
            self.totals.unsupported[re.sub("#[0-9]+", "", reason.sentence)] += 1
            if step["call"] == "ioctl":
                self._count(step, "unsupported")
            actor = self.replay.actors.get(step.get("proc", "main"))
            if actor is not None:
                actor.arguments.clear()
            return
        if step["call"] == "ioctl" and result.get("state") != "not_run":
            self._ioctl(step, result)
        if result.get("state") == "proc_gone":
            self._oops()
        self.totals.blocked += result.get("state") == "blocked"
        if len(self.log) % _CHECKED == 0:
            self._check()

    def _ioctl(self, step: Step, result: dict[str, Any]) -> None:
        answer = result.get("errno") or ("ok" if "ret" in result else str(result.get("state")))
        self._count(step, answer)
        names = _names(step)
        self._causes(names, answer)
        if len(request_names(REQUESTS[names[0]].number) if names else ()) > 1:
            return  # what was written belongs to whichever of them the file understood
        written = set(result.get("out", ()))
        if not written:
            return
        known = corpus()
        allowed = known.written if answer == "ok" else known.written_by_errors
        fields = set().union(*(allowed.get(name, ()) for name in names))
        buffers = {f"*{name}" for name in step["arg"]} if isinstance(step.get("arg"), dict) else set()
        if not names or not written - buffers <= fields | _OUTPUTS:
            raise FoundError(f"{step['request']} wrote {sorted(written - fields)} and answered {answer}")

    def _oops(self) -> None:
        """A call died in the kernel; only a released group file may do that. What it held stays held for ever."""
        self.totals.oopses += 1
        self.oopsed = True
        if SWITCHED not in self.may_follow:
            raise FoundError(f"an oops: {self.replay.machine.check()}")

    def _causes(self, names: tuple[str, ...], answer: str) -> None:
        """Remember what can bring a known surprise about."""
        if "VFIO_DEVICE_BIND_IOMMUFD" in names and answer != "ok":
            self.may_follow.add(LOST_VM)
        if "VFIO_GROUP_UNSET_CONTAINER" in names and answer == "ok":
            things = self.replay.machine.engine.objects.values()
            if any(isinstance(thing, VfioDeviceFile) and thing.group is not None for thing in things):
                self.may_follow.add(SWITCHED)

    def _count(self, step: Step, answer: str) -> None:
        names = _names(step)
        self.totals.ioctls += 1
        self.totals.from_abi += bool(names)
        self.totals.answers[" or ".join(names) or "unknown number", answer] += 1

    def _check(self) -> None:
        if self.oopsed:
            return
        for line in self.replay.machine.check():
            for name, words in SURPRISES.items():
                if any(part in line for part in words) and name in self.may_follow:
                    self.seen.add(name)
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
        if stuck or machine.pending or self.oopsed:
            return
        self._check()
        wrong = {path: n for path, n in _counts(machine).items() if self.before.get(path) != n}
        if any(step["call"] == "write_file" for step in self.log):  # devices may have come and gone
            lasting = {path.split(maxsplit=1)[0] for path in self.before}
            wrong = {path: n for path, n in wrong.items() if path.split(maxsplit=1)[0] not in lasting}
        if any(file_cycle(pages) for pages in machine.engine.objects.values()):
            self.seen.add("IOMMU_IOAS_MAP_FILE takes any file, and a cycle keeps all of it")
            return
        if wrong and SWITCHED in self.may_follow:  # what the first backend had is never given back
            self.seen.add(SWITCHED)
            return
        if any(path.startswith("file socket") for path in wrong):  # sent over itself: nobody collects such sockets here
            return
        if LOST_VM in self.seen:  # a lost VM stays for ever, with all that it holds
            wrong = {path: n for path, n in wrong.items() if not path.startswith("kvm ")}
        if wrong:
            raise FoundError(f"left behind: {wrong}")


def file_cycle(thing: KObject) -> bool:
    """Is this memory that holds a file which cannot be mapped for a device, such as the iommufd that it is mapped in?"""
    if not isinstance(thing, IoptPages) or thing.file is None:
        return False
    return thing.file.f_op.name in ("iommufd", "iommufd-pgfault", "vfio device", "vfio group", "kvm-device")


def _counts(machine: Machine) -> dict[str, int]:
    """Every count that is not zero."""
    cells = (cell for thing in machine.engine.objects.values() for cell in thing.cells())
    return {cell.path: cell.value for cell in cells if isinstance(cell, Count) and cell.value}


def _names(step: Step) -> tuple[str, ...]:
    request = step["request"]
    if isinstance(request, str):
        return (request,)
    return request_names(request)


def _says(step: Step, fill: int) -> int:
    """How many bytes of its argument the caller of a request allows the kernel to write."""
    if step["call"] != "ioctl":
        return 0
    known = [REQUESTS[name] for name in _names(step)]
    whole = max((sizeof(request.struct) for request in known if request.struct is not None), default=0)
    if not any(request.name in _WITH_TAIL for request in known):
        return whole
    given = step.get("arg")
    if isinstance(given, dict):
        argsz = given.get("argsz", whole)
        return max(whole, argsz) if isinstance(argsz, int) else whole + _ROOM
    raw = bytes.fromhex(step.get("raw", "")) + bytes([fill] * 4)
    return max(whole, int.from_bytes(raw[:4], "little"))
