"""The lesson about devices without DMA: the two questions of a review, what each answer does, and what became of them."""

from __future__ import annotations

from functools import partial

from ..lab import Bench, Exercise, Goal, Ordering, Outcome, Parsons, Session, Task
from ..lab import goal as facts
from ..lab.parsons import InOrder, by_trace
from .lesson import Lesson
from .no_dma_calls import bind
from .no_dma_questions import CHECK, QUESTIONS, VIEW, shown
from .no_dma_shown import fates, mail, side_by_side

__all__ = ["bind", "exercise", "fates", "finish", "mail", "once_answered", "order", "predict", "quiz", "side_by_side"]


# ---- the first task: the posted function in its order

POSTED = Parsons(
    "This is what the posted BIND does with a network card, in the wrong order. One line does not belong there.",
    {
        "argsz": "argsz and flags are looked at",
        "group": "nobody may open the group any more",
        "bound": "is this file bound already?",
        "iommufd": "the iommufd is looked up, and held",
        "open": "the device is opened",
        "devid": "out_devid is written",
        "gate": "the gate opens",
    },
    by_trace(
        lambda: shown(bind("v5", "nic")),
        {
            "argsz": "argsz is long enough",
            "group": "is blocked",
            "bound": "is not bound yet",
            "iommufd": "must be an iommufd",
            "open": "opened for the first time",
            "devid": "out_devid",
            "gate": "The gate opens",
        },
    ),
    "cheap checks come first, then the lock, then what has to be given back again if something fails. The program gets its ID "
    "before the gate opens, so nobody can use the device before the program knows its name.",
    extra={"access": "the device gets an access object"},
    distractors={
        "gate": "Whoever finds the gate open may use the device. So it opens when everything else is done.",
        "devid": "The ID is made while the device is opened. Before that there is nothing to write.",
        "open": "To be opened the device needs its iommufd, if there is one.",
        "access": "A network card does DMA: it gets a device object. And in v5 nothing gets an access at BIND.",
        "iommufd": "The kernel first asks whether this file is bound already. If it is, the call ends there, and no "
        "iommufd is needed.",
        "bound": "That is asked under the lock, and the group is blocked before the lock is taken.",
        "group": "argsz and flags are looked at first, for that needs no lock, and nothing has to be given back.",
    },
    hints=(
        InOrder("What only looks at the argument comes first. The gate opens last.", "argsz", "gate"),
        InOrder("It begins with argsz, group, bound, iommufd, open.", "argsz", "group", "bound", "iommufd", "open"),
        InOrder(
            "argsz, group, bound, iommufd, open, devid, gate.",
            *("argsz", "group", "bound", "iommufd", "open", "devid", "gate"),
        ),
    ),
    seed=5,
    name="08 order: as posted",
    view=VIEW,
)

order = partial(Ordering, POSTED)


# ---- the second task: an ID of the same pool


def opened(session: Session) -> None:
    """An emulated device (3), a network card (4) and an iommufd (5), all open."""
    for path in ("/dev/vfio/devices/vfio4", "/dev/vfio/devices/vfio0", "/dev/iommu"):
        session.open(path)


def second(session: Session) -> Outcome:
    """The solution: the emulated device first."""
    session.bind(3, iommufd=5)
    return session.bind(4, iommufd=5)


SECOND = Task(
    "Linux 7.2. A program has opened an emulated device (3), a network card (4) and an iommufd (5). A tester wants the network "
    "card to have the ID <b>2</b> in that iommufd. There is only one network card.",
    opened,
    Goal(
        facts.value("vfio_device_file 2", "devid", 2),
        facts.value("vfio_device vfio0", "open_count", 1),
    ),
    (
        "An ID is the lowest number that is free among all objects of an iommufd.",
        "Which device can take the 1, although it does no DMA?",
        "Bind 3, then bind 4, both to iommufd 5.",
    ),
    second,
    "BIND of the emulated device makes an access, and the access takes ID 1. Devices, accesses and address spaces have their "
    "IDs out of one pool. So “the network card has ID 1” is true of one program and false of the next.",
    distractors={
        (
            lambda session: session.machine.trace.end.objects["vfio_device_file 2"].fields["devid"] == 1
        ): "You bound the network card first, so it has the lowest ID, 1. There is no unbind: <b>Undo</b>, or close its file.",
    },
    drawn=False,
    name="08 task: the second ID",
)


def exercise() -> Exercise:
    """The second task of the lesson."""
    rows = ("bind", "descriptor")
    return Exercise(
        SECOND,
        lambda session: Bench(
            session, show=rows, only=(*VIEW, "vfio_device vfio0", "vfio_device vfio4"), keep=("fds",)
        ),
    )


TASKS = {POSTED.name: "the posted function in its order", SECOND.name: "the tester's ID"}
LESSON = Lesson("08", QUESTIONS, CHECK, TASKS, VIEW, ("08 check: without rights", "08 check: the number"))
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
