"""The lesson about groups: the node of a device replaces the group's file, not the group. Viability, and who owns the DMA."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..lab import Bench, Distractor, Exercise, Goal, Ordering, Outcome, Parsons, Session, Task
from ..lab import goal as facts
from ..lab.parsons import InOrder, by_running
from ..machine.events import Began, Killed
from ..views.alone import Close
from . import misconceptions as M
from .closing_calls import other
from .groups_calls import (
    DRIVERS,
    OLD,
    disk_back,
    disk_to_vfio,
    free_disk,
    get_device,
    owner,
    pair,
    set_container,
    set_iommu,
    sound,
)
from .groups_calls import computer as computer
from .groups_calls import usb as usb
from .groups_cases import shared
from .groups_questions import CHECK, GROUP_2, GROUP_3, QUESTIONS
from .groups_shown import GPU, USB
from .groups_shown import answer as answer
from .groups_shown import groups as groups
from .groups_shown import matrix as matrix
from .groups_shown import ways as ways
from .lesson import Lesson
from .one_bind import rehearse

Buttons = dict[str, tuple[Callable[[Session], Outcome], str]]


def _bench(session: Session, view: tuple[str, ...], more: Buttons, *rows: str, **options: Any) -> Bench:
    chosen: dict[str, Any] = {"keep": ("fds",), "atlas": Close()} | options
    return Bench(session, show=("bind", *rows), more=more, only=view, **chosen)


def owners() -> Bench:
    """Two devices of a group and two iommufds, all open: bind them, close them, and watch who owns the DMA."""

    def rehearsal(session: Session) -> None:
        pair(session)
        session.bind(4, iommufd=6)

    tip = "open /dev/vfio/2: the old door to both devices"
    return _bench(
        Session(start=pair),
        GROUP_2,
        {"open group 2": (lambda session: session.open("/dev/vfio/2"), tip)},
        "descriptor",
        reserve=rehearse(rehearsal),
        watch=("owner_cnt",),
    )


# ---- the first task: who is in the way?


def blocked(session: Session) -> None:
    """A USB controller (3), an iommufd (4), a disk with its driver in the same group, and a tool that has the group's file open."""
    usb(session)
    session.do(Began("tool"))
    other(session, "tool", "open", "/dev/vfio/3")


def _tool_closes(session: Session) -> Outcome:
    return other(session, "tool", "close", 3)


def _unbind_usb(session: Session) -> Outcome:
    return other(session, "admin", "write_file", f"{DRIVERS}/vfio-pci/unbind", USB)


def _open(session: Session) -> bool:
    return session.machine.trace.end.objects["vfio_group 3"].fields["opened_file"] is not None


def _gave_away_too_early(session: Session) -> bool:
    """Was the last call a bind of the disk that was refused?"""
    last = session.done[-1].outcome
    return last.refused and "/bind" in last.call


def cleared(session: Session) -> None:
    """The solution: the tool lets go, the disk loses its driver, and usb is bound."""
    _tool_closes(session)
    free_disk(session)
    session.bind(3, iommufd=4)


def asked_first(session: Session) -> None:
    """The same for who knows nothing beforehand: before each of the two, BIND tells what is in the way."""
    session.bind(3, iommufd=4)
    _tool_closes(session)
    session.bind(3, iommufd=4)
    free_disk(session)
    session.bind(3, iommufd=4)


def in_the_way_now(session: Session) -> tuple[str, ...]:
    """The hints, by what is in the way of usb still and what BIND has told of it."""
    said = [done.outcome.result for done in session.done[session.given :]]
    if any(done.outcome.waits for done in session.done):
        return ("The unbind of usb waits for usb's open file, and frees nothing. Take it back: <b>Undo</b>.",)
    if _open(session):
        first, last = (
            "EBUSY: the group's file is open. Which program has it?",
            "<b>tool: close(3)</b>, then <b>bind</b> again.",
        )
    elif owner(session, 3) == ("", 0):
        return ("Nothing is in the way any more. <b>bind</b> tells.",)
    else:
        first = "EPERM: somebody else owns the DMA of the group. The sentence of BIND names the device."
        last = "A device without a driver does no DMA for the kernel: <b>admin: unbind sata</b>, then <b>bind</b>."
    if ("EBUSY" if _open(session) else "EPERM") not in said:
        first = f"Press <b>bind</b>{' again' if said else ''}, and read the sentence: it tells what is in the way."
    return (first, last)


IN_THE_WAY = Task(
    "BIND of <code>usb</code> (3) to the iommufd (4) fails. Find out why, clear the way, and bind it. The errno of "
    "BIND tells you what is in the way: each try costs a call, and is worth that.",
    blocked,
    Goal(facts.value("vfio_device vfio3", "open_count", 1), facts.value("iommu_group 3", "owner", "iommufd_ctx 1")),
    in_the_way_now,
    cleared,
    "As long as the group's file is open BIND is refused with EBUSY, and as long as the kernel owns the DMA for the disk, with "
    "EPERM. Both checks are about the group. <code>usb</code> and its driver were in order all the time.",
    distractors={
        (lambda session: any(done.outcome.waits for done in session.done)): Distractor(
            "You took the driver away from usb. Its file is open, so the unbind waits. usb is not the problem: "
            "what is beside it in the group is. <b>Undo</b> leads back.",
            M.OWN_DRIVER_IS_ENOUGH,
        ),
        _gave_away_too_early: "The disk still has ahci, and a driver gets only a device that has none: EBUSY. "
        "<b>admin: unbind sata</b> comes first. Then look: is anything in the way still?",
        (
            lambda session: bool(session.calls_made) and _open(session)
        ): "The tool still has the group's file open. As long as that lasts, no node of the group can be bound.",
    },
    drawn=False,
    name="06 task: in the way",
    asking=asked_first,
)


def exercise() -> Exercise:
    """The first task of the lesson."""
    more: Buttons = {
        "tool: close(3)": (_tool_closes, "the tool closes the file of the group"),
        "admin: unbind usb": (_unbind_usb, "the administrator takes vfio-pci away from usb"),
        "admin: unbind sata": (free_disk, "the administrator takes ahci away from the disk"),
        "admin: sata to vfio-pci": (
            disk_to_vfio,
            "the administrator gives the disk to vfio-pci; it must have no driver",
        ),
        "admin: sata to ahci": (disk_back, "the administrator gives the disk back to ahci; it must have no driver"),
    }
    return Exercise(
        IN_THE_WAY, lambda session: _bench(session, GROUP_3, more, fields=False, keep=("fds", "iommu_group 3"))
    )


# ---- the second task: two programs, one group


SENDING = (*GROUP_2, "file socket*", "socket", "message")
SHARED = Task(
    "The sound daemon has bound <code>vfio2</code>. The VMM wants <code>vfio1</code>, and BIND to its own iommufd ends with "
    "EPERM. In the end <b>both</b> programs shall have their device. A socket leads from one to the other.",
    sound,
    Goal(
        facts.value("vfio_device vfio1", "open_count", 1),
        facts.value("vfio_device vfio2", "open_count", 1),
        facts.value("iommu_group 2", "owner_cnt", 2),
        facts.Fact("the sound daemon lives", lambda state: "" if "fds sound" in state.objects else "it was killed"),
    ),
    (
        "Who is the owner of the DMA: a program, or something that a program holds?",
        "The owner is the sound daemon's iommufd. A file can be sent over a socket.",
        "sound: send 5, vmm: receive, bind 4 with iommufd 6.",
    ),
    shared,
    "The owner is an iommufd, not a program. Each program with a descriptor of that iommufd can bind to it, and the group counts "
    "one device more. It has a price: the two programs now share one iommufd, so each can change the other's memory map.",
    distractors={
        (
            lambda session: "sound" not in session.alive()
        ): "The sound daemon is gone, and was to keep vfio2. <b>Undo</b> leads back.",
        (
            lambda session: "vfio2#1" in [file.label for file in session.descriptors().values()]
        ): "That is the file of vfio2. What the VMM needs is not the daemon's device, but the owner of the DMA.",
    },
    drawn=False,
    name="06 task: two programs, one group",
)


def share() -> Exercise:
    """The second task of the lesson."""
    more: Buttons = {
        "sound: send 3": (
            lambda session: other(session, "sound", "sendmsg_fds", 4, (3,)),
            "the daemon sends its device's file",
        ),
        "sound: send 5": (
            lambda session: other(session, "sound", "sendmsg_fds", 4, (5,)),
            "the daemon sends its iommufd",
        ),
        "vmm: receive": (lambda session: other(session, "vmm", "recvmsg_fds", 3), "the VMM takes what was sent to it"),
        "kill sound": (lambda session: session.do(Killed("sound")), "the daemon ends, with all that it holds"),
    }
    return Exercise(
        SHARED,
        lambda session: _bench(session, SENDING, more, suggest=False, keep=("fds", "iommu_group 2", "file socket*")),
    )


# ---- the third task: the old way


def one_bound(session: Session) -> None:
    """The graphics card (3) is bound to an iommufd (4)."""
    session.open("/dev/vfio/devices/vfio1")
    session.open("/dev/iommu")
    session.bind(3, iommufd=4)


FALL_BACK = Parsons(
    "The VMM falls back to the old way: <code>vfio1</code> is bound (3) to an iommufd (4), and in the end the VMM shall have it "
    "through its group and a container. Not every line is needed.",
    {
        "close 3": "close(3), the device",
        "group": 'open("/dev/vfio/2"), the group',
        "container": 'open("/dev/vfio/vfio"), a container',
        "put": "SET_CONTAINER: put the group into the container",
        "type": "SET_IOMMU: the container gets its kind of memory map",
        "device": "GET_DEVICE_FD: the device, from the group",
    },
    by_running(
        one_bound,
        {
            "close 3": lambda session: session.close(3),
            "group": lambda session: session.open("/dev/vfio/2"),
            "container": lambda session: session.open(OLD),
            "put": set_container,
            "type": set_iommu,
            "device": lambda session: get_device(session, GPU),
            "close 4": lambda session: session.close(4),
            "node": lambda session: session.open("/dev/vfio/devices/vfio1"),
        },
        Goal(facts.value("vfio_device vfio1", "open_count", 1), facts.value("iommu_group 2", "owner", "vfio_group 2")),
    ),
    "the binding keeps the group's file closed, so close(3) comes before the group. SET_CONTAINER needs group and container. The "
    "container takes its kind from the groups in it, and gives devices only when it has one.",
    extra={"close 4": "close(4), the iommufd", "node": 'open("/dev/vfio/devices/vfio1"), the node'},
    distractors={
        "group EBUSY": "vfio1 is bound still. Close its file, and the binding ends.",
        "put EBADF": "SET_CONTAINER is asked of the group, and names the container: both have to be open.",
        "type EINVAL": "A container without a group has no kind: SET_CONTAINER comes first.",
        "type EBADF": "There is no container as yet.",
        "device EINVAL": "The group gives no device before its container has a kind: SET_CONTAINER, then SET_IOMMU.",
        "device EBADF": "GET_DEVICE_FD is asked of the group, and that is not open.",
    },
    hints=(
        "What keeps the group's file closed?",
        InOrder(
            "A container gets its kind when a group is in it. The group gives a device only after that.",
            "put",
            "type",
            "device",
        ),
        InOrder(
            "close 3, open the group, open a container, SET_CONTAINER, SET_IOMMU, GET_DEVICE_FD.",
            *("close 3", "group", "container", "put", "type", "device"),
        ),
    ),
    seed=3,
    name="06 order: the old way",
    view=("thread *", "fds", "vfio_container", "iommu_group 2", "vfio_group 2", "vfio_device vfio1"),
)

order = partial(Ordering, FALL_BACK)

FURTHER = ("06 how many?", FALL_BACK.name)
LESSON = Lesson(
    "06",
    QUESTIONS,
    CHECK,
    {IN_THE_WAY.name: "bind usb", SHARED.name: "two programs, one group", FALL_BACK.name: "roll back to the old way"},
    GROUP_2,
    FURTHER,
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
