"""Runs of the lesson about groups that may end with a refusal, with what is told to whoever was wrong about their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from ..lab import Distractor, ExperimentResult, Misconception, Outcome, Session
from . import misconceptions as M
from .beginnings import NODES
from .closing_calls import other
from .experiments import ran
from .groups_calls import (
    CARD,
    NEW,
    OLD,
    disk_to_vfio,
    enter,
    free_disk,
    get_device,
    one_after_the_other,
    pair,
    set_iommu,
    sound,
    usb,
)


def last(session: Session, answer: object = "") -> ExperimentResult:
    """The last call of a run, at the step that refuses, or claims DMA, or gives a descriptor; `answer` or its result."""
    outcome, steps = session.done[-1].outcome, session.steps
    decides = [step for step in steps if step.refused or any(one.what.endswith("owner_cnt") for one in step.changes)]
    step = decides[0].index + 1 if decides else len(steps) - 1
    said = f"{outcome.call} → {outcome.result}: {outcome.evidence}".rstrip(": ")
    return ExperimentResult(answer or outcome.result, steps, step, (said,))


def bind(fd: int, iommufd: int) -> Callable[[Session], Outcome]:
    """A BIND of the program, to be made later."""
    return lambda session: session.bind(fd, iommufd=iommufd)


class Case(NamedTuple):
    """A run that may end with a refusal: how a reader reads it, the run, and what is told to whoever was wrong about its end."""

    says: str
    run: Callable[[], Session]
    because: str
    misconception: Misconception | None = None


def refused(cases: Mapping[str, Case]) -> tuple[str, ...]:
    """Those whose last call is refused."""
    return tuple(name for name, case in cases.items() if _is_refused(case))


@cache
def _is_refused(case: Case) -> bool:
    return case.run().done[-1].outcome.refused


def accepted(cases: Mapping[str, Case]) -> tuple[str, ...]:
    """Those whose last call succeeds."""
    return tuple(name for name in cases if name not in refused(cases))


def says(cases: Mapping[str, Case]) -> dict[str, str]:
    """How the reader reads them."""
    return {name: case.says for name, case in cases.items()}


def wrong(cases: Mapping[str, Case]) -> dict[str, Distractor]:
    """Each is shown its own run, whether it was ticked and should not have been or the other way round."""
    wrong = {
        name: Distractor(case.because, case.misconception, lambda run=case.run: last(run()))  # type: ignore[misc]
        for name, case in cases.items()
    }
    return {f"{sign}{name}": one for name, one in wrong.items() for sign in "+-"}


def _order(first: str, second: str) -> Callable[[], Session]:
    return lambda: one_after_the_other(first, second)


ORDERS = {
    "group, bind": Case(
        "The group's file is opened, then vfio1 is bound",
        _order("open group 2", "bind vfio1"),
        "While the group's file is open, no node of the group can be bound.",
        M.BOTH_WAYS_AT_ONCE,
    ),
    "bind, group": Case(
        "vfio1 is bound, then the group's file is opened",
        _order("bind vfio1", "open group 2"),
        "While a device is bound, the group's file cannot be opened.",
        M.BOTH_WAYS_AT_ONCE,
    ),
    "sibling, group": Case(
        "Only vfio2 is bound, then the group's file is opened",
        _order("bind vfio2", "open group 2"),
        "You expected only the bound device to be shut. The file leads to the whole group, and a device of the group is bound.",
    ),
    "node, group": Case(
        "The node of vfio1 is opened, then the group's file",
        _order("open vfio1", "open group 2"),
        "You took an open node for a bound device. The open of a group asks for bound devices only: it returns a descriptor.",
    ),
    "group, node": Case(
        "The group's file is opened, then the node of vfio1",
        _order("open group 2", "open vfio1"),
        "You expected the open to be refused. Only BIND would be: the call returns a descriptor.",
    ),
    "both": Case(
        "vfio1 is bound, then vfio2 to the same iommufd",
        _order("bind vfio1", "bind vfio2"),
        "You expected one device for each group. A group may have many bound devices, all with one iommufd. The call returns 0.",
    ),
}

BIND_USB = bind(3, 4)
REMEDIES = {
    "none": Case(
        "The disk loses its driver ahci, and gets no other",
        lambda: ran(usb, free_disk, BIND_USB),
        "A device without a driver does no DMA for the kernel, so it is not in the way. The call returns 0.",
    ),
    "vfio": Case(
        "The disk gets vfio-pci in place of ahci",
        lambda: ran(usb, free_disk, disk_to_vfio, BIND_USB),
        "vfio-pci does no DMA for the kernel. The disk is out of the way, and the call returns 0.",
    ),
    "new": Case(
        "The VMM binds to a new iommufd",
        lambda: ran(usb, lambda session: session.open(NEW), bind(3, 5)),
        "You expected another iommufd to help. But the owner of the DMA is the kernel, for the disk's driver, "
        "and no iommufd changes that.",
    ),
    "old": Case(
        "The VMM takes the group's file and a container",
        lambda: ran(usb, lambda session: session.close(3), lambda session: enter(session, 3, OLD)),
        "You expected the old way to ask for less. It needs the DMA of the same group, and the kernel owns "
        "that. It is refused earlier, that is all.",
    ),
    "again": Case(
        "The VMM opens the node of usb a second time, and binds that file",
        lambda: ran(usb, lambda session: session.open(NODES["vfio3"]), bind(5, 4)),
        "You expected a second file to help. It leads to usb in the same group, and the disk beside usb is what is in the way.",
        M.OWN_DRIVER_IS_ENOUGH,
    ),
}


def shared(session: Session) -> None:
    """The sound daemon sends its iommufd, and the VMM binds to that."""
    other(session, "sound", "sendmsg_fds", 4, (5,))
    other(session, "vmm", "recvmsg_fds", 3)
    session.bind(4, iommufd=6)


OTHER_KERNEL = "VFIO_DEVICE_CDEV=n"


def _by_group(into: str, *more: Callable[[Session], object]) -> Callable[[], Session]:
    """The card through its group's file, in another kernel; then `more`."""
    calls = (lambda session: set_iommu(session, into), lambda session: get_device(session, CARD), *more)
    return lambda: ran(lambda session: enter(session, 1, into), *calls, config=OTHER_KERNEL)


WAYS = {
    "node": Case(
        "Open /dev/vfio/devices/vfio0, then BIND",
        lambda: ran(lambda session: None, lambda session: session.open(NODES["vfio0"]), config=OTHER_KERNEL),
        "You took the folder in /sys for the node. This kernel was built without nodes, so the open finds no node.",
        M.SHOWN_IS_THERE,
    ),
    "container": Case(
        "The group's file and a container, then GET_DEVICE_FD",
        _by_group(OLD),
        "You looked for a node. The group's file needs none, and GET_DEVICE_FD returns a descriptor.",
    ),
    "iommufd": Case(
        "The group's file and an iommufd in the place of the container, then GET_DEVICE_FD",
        _by_group(NEW),
        "You took the iommufd for a part of the nodes. It is a file of its own, and GET_DEVICE_FD returns a descriptor.",
    ),
    "bind": Case(
        "The group's file, GET_DEVICE_FD, then BIND on the descriptor that it returns",
        _by_group(OLD, lambda session: session.open(NEW), bind(5, 6)),
        "You took BIND for a part of the iommufd. It is built together with the nodes: here no file knows this request, ENOTTY.",
    ),
}

NOTE = {
    "nodes": Case(
        "A program can use both devices of a group and never open the group's file.",
        _order("bind vfio1", "bind vfio2"),
        "Each node was opened and bound, the group's file never. The call returns 0.",
    ),
    "own": Case(
        "Two devices of a group can go to two iommufds.",
        lambda: ran(pair, bind(3, 5), bind(4, 6)),
        "You expected an owner for each device. One iommufd owns the DMA of the whole group, and the other one is refused.",
        M.NO_GROUPS_ANY_MORE,
    ),
    "shared": Case(
        "Two programs can have a device each of one group.",
        lambda: ran(sound, shared),
        "The owner is the iommufd, not the program. Two programs with one iommufd are one owner, and the call returns 0.",
    ),
    "beside": Case(
        "A device beside ours may stay with its driver of the kernel.",
        lambda: ran(usb, BIND_USB),
        "The driver of the device beside ours does DMA for the kernel. So no program can own the DMA of the "
        "group: it is not viable.",
        M.OWN_DRIVER_IS_ENOUGH,
    ),
    "driverless": Case(
        "A device beside ours needs no driver at all.",
        REMEDIES["none"].run,
        "A device without a driver does no DMA for anybody. The call returns 0.",
    ),
}
