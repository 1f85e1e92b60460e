"""A BIND in which something fails on purpose: what it had taken by then, in which order that goes back, and what stays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..explore.differences import ALLOWED, Difference, differences
from ..lab import Outcome, Session
from ..lab.session import LessonCall
from ..machine import Call, Machine
from ..machine.events import Called, Patched
from ..naming import UnknownNameError
from ..trace import Trace
from ..trace.state import Edit
from ..uapi import REQUESTS, VfioDeviceBindIommufd
from .beginnings import CTX, DEV, opened

Functions = Mapping[str, Callable[..., Any]]
AS_IT_IS: Functions = {}
BAD = 0
FAULTS = {  # what fails, by its number in the call; 0 is no fault, but a mistake of the program
    BAD: "the iommufd is 777, which is not open",
    1: "the size of the struct cannot be read",
    2: "the struct cannot be read",
    3: "the driver refuses the iommufd",
    4: "there is no memory for the iommufd_group",
    5: "there is no memory to own the DMA",
    6: "there is no memory for the device's object",
    7: "no ID is free for the device",
    8: "the card is not ready",
    9: "the ID cannot be told to the program",
}
ON_PURPOSE = tuple(number for number in FAULTS if number != BAD)
GONE = " is gone"
TAKEN = {  # what a BIND takes, in this order: the cell, slot or object that tells it, and who counts as a holder of it
    "group blocked": ("vfio_group 1.cdev_device_open_cnt", ""),
    "lock of the set": ("vfio_device_set vfio0.lock", ""),
    "iommufd": ("file iommu#1.f_ref", "vfio_device_file 1"),
    "VM": ("kvm 1.users_count", "vfio_device vfio0"),
    "open count": ("vfio_device vfio0.open_count", ""),
    "driver's module": ("driver vfio-pci.module", "vfio_device vfio0"),
    "iommufd_group": ("iommufd_group 1", ""),
    "DMA": ("iommu_group 1.owner_cnt", ""),
    "ID": ("iommufd_ctx 1.objects[1]", ""),
    "hardware": ("vfio_pci_core_device vfio0.vconfig", ""),
}


def ready(session: Session, patches: Functions = AS_IT_IS) -> None:
    """A device (3) and an iommufd (4), open; a VM that has the device's file on its list; these functions in the kernel."""
    opened(session)
    session.file_add(int(session.create_kvm_vfio(int(session.create_vm().result)).result), DEV)
    if patches:
        session.do(Patched(patches))


def bind_failing(session: Session, number: int) -> Outcome:
    """A BIND in which this one of FAULTS fails."""
    return session.do(LessonCall(f"BIND, and {FAULTS[number]}", partial(_bind, number)))


def _bind(number: int, machine: Machine) -> Call:
    machine.fail_next(number)
    argument = VfioDeviceBindIommufd(argsz=24, iommufd=CTX if number else 777)
    request = REQUESTS["VFIO_DEVICE_BIND_IOMMUFD"].number
    return Called("vmm", "ioctl", (DEV, request, bytes(argument))).do(machine)


@dataclass(frozen=True)
class Bar:
    """Something that a BIND has taken: held from one of its moments of taking and giving until another, or to this day (None)."""

    what: str
    taken: int
    back: int | None = None


@dataclass(frozen=True)
class Failed:
    """A BIND that failed: how it ended, its steps, what it had taken in that order, and what else is not as before.

    `paths` are those of the latter's cells.
    """

    number: int
    outcome: Outcome
    trace: Trace
    bars: tuple[Bar, ...]
    others: tuple[str, ...]
    paths: tuple[str, ...] = ()

    @property
    def back(self) -> tuple[str, ...]:
        """What was given back, in that order."""
        given = sorted((bar.back, bar.what) for bar in self.bars if bar.back is not None)
        return tuple(what for _, what in given)

    @property
    def left(self) -> tuple[str, ...]:
        """What is still held; where that is nothing, what else is not as before."""
        return tuple(bar.what for bar in self.bars if bar.back is None) or self.others

    @property
    def wrong(self) -> str:
        """What is wrong with its way out, in a sentence without its end; "" if nothing is."""
        given = [bar.what for bar in self.bars if bar.back is not None]
        if self.outcome.result == "oops":
            return f"the kernel crashes: it {self.outcome.sentence.partition(' ')[2]}"
        if self.left and self.left != self.others:
            return f"this is left behind: {', '.join(self.left[:3])}"
        if self.others:
            gone = [what.removesuffix(GONE) for what in self.others if what.endswith(GONE)]
            told = "this was there before the call, and is freed" if gone else "this is not as it was"
            return f"{told}: {', '.join((gone or self.others)[:3])}"
        return "" if list(self.back) == given[::-1] else f"this is not the reverse order: {', '.join(self.back)}"

    @property
    def shown(self) -> tuple[Trace, int]:
        """Its steps, and the one at which what is wrong is to be seen: the crash, what is freed, or at the end what is left."""
        at = next((step.index + 1 for step in self.trace if step.refused == "oops"), 0)
        if at or not self.wrong:
            return self.trace, at or len(self.trace)
        gone = [what for what in self.others if what.endswith(GONE)]
        if gone and self.left == self.others:
            freed = (
                step.index + 1 for step in self.trace for one in step.changes if one.what in gone[0] and not one.new
            )
            steps, paths = self.trace[: next(freed)], [gone[0].replace(GONE, ".")]
        else:
            steps, paths = self.trace, [*(TAKEN[what][0] for what in self.left if what in TAKEN), *self.paths]
        steps = steps.ending_in(self.wrong[0].upper() + self.wrong[1:], cells=lambda _: (*paths,))
        return steps, len(steps)

    def __str__(self) -> str:
        return f"When {FAULTS[self.number]}: {self.outcome.result}, and {self.wrong or 'nothing is left behind'}"


def failed(number: int, patches: Functions = AS_IT_IS) -> Failed:
    """Let this one of FAULTS fail, on a fresh machine. Raises ValueError for another number."""
    if number not in FAULTS:
        raise UnknownNameError(f"{number} is not one of the things that can fail; they are 1 to {max(FAULTS)}")
    session = Session(start=partial(ready, patches=patches))
    outcome, trace = bind_failing(session, number), session.steps
    bars = tuple(_bars(trace))
    others = [*_others(trace, {bar.what for bar in bars if bar.back is None})]
    return Failed(number, outcome, trace, bars, tuple(one.what for one in others), tuple(one.path for one in others))


def _told(edit: Edit) -> str:
    """Which of TAKEN an edit is about; "" for all others."""
    holder = edit.key[0] if edit.sort == "reference" else ""
    return next((what for what, told in TAKEN.items() if told == (edit.what, holder)), "")


def _bars(trace: Trace) -> list[Bar]:
    held: dict[str, Bar] = {}
    ended: list[Bar] = []
    for edit in (edit for micro in trace.micro for edit in micro.edits):
        what, moment = _told(edit), len(held) + 2 * len(ended)
        takes = edit.sort != "died" and edit.new not in (None, 0, -1)
        if what and takes and what not in held:
            held[what] = Bar(what, moment)
        elif what in held and not takes:
            ended.append(replace(held.pop(what), back=moment))
    return sorted([*ended, *held.values()], key=lambda bar: bar.taken)


def _others(trace: Trace, kept: Collection[str]) -> Iterator[Difference]:
    """What is not as before, but for what the bars tell."""
    about = [TAKEN[what][0].partition(".")[0] for what in kept]
    for found in differences(trace.start, trace.end):
        if f"{found.oid.partition(' ')[0]}.{found.cell}" not in ALLOWED and found.oid not in about:
            yield found
