"""The questions of the lesson about one BIND. Every answer comes out of an experiment."""

from __future__ import annotations

from ..lab import Distractor, ExperimentResult, Question, Session
from . import misconceptions as M
from .beginnings import DEVICE, IOMMUFD, bound, opened
from .experiments import call, ended, held, last_change, ran

EMULATED = "/dev/vfio/devices/vfio4"
FILES = frozenset({"thread *", "fds", "file vfio*", "file iommu*", "vfio_device_file", "iommufd_ctx"})
BOUND = FILES | {"vfio_device vfio0", "iommufd_device"}


def _cell(session: Session, name: str, cell: str) -> object:
    return session.machine.trace.end.objects[name].value(cell)


def _ask_before_bind() -> ExperimentResult:
    session = ran(None, call("open", DEVICE), call("get_info", 3))
    gate = _cell(session, "vfio_device_file 1", "access_granted")
    return ended(session, "", f"vfio_device_file 1.access_granted is {int(bool(gate))}")


def _count_the_iommufd() -> ExperimentResult:
    session = ran(opened, call("bind", 3, iommufd=4))
    end = session.machine.trace.end
    who = held(session.machine.trace, "file iommu#1")
    return ended(session, str(end.objects["file iommu#1"].total("f_ref")), *who, at="file iommu#1.f_ref")


def _two_mistakes() -> ExperimentResult:
    return ended(ran(None, call("open", DEVICE), call("open", "/dev/vfio/1"), call("bind", 3, iommufd=777)))


def _close_the_iommufd() -> ExperimentResult:
    session = ran(bound, call("close", 4))
    usable = not ran(bound, call("close", 4), call("get_info", 3)).done[-1].outcome.refused
    answer = "busy" if session.done[-1].outcome.refused else "bound" if usable else "unbound"
    (path, *_) = session.machine.why("iommufd_ctx").paths
    return ended(session, answer, path.words, at="file iommu#1.f_ref")


def _ask_through_a_copy() -> ExperimentResult:
    session = ran(bound, call("dup", 3), call("close", 3), call("get_info", 5))
    return ended(session, "", session.done[-1].outcome.evidence)


def _bind_without_dma() -> ExperimentResult:
    session = ran(None, call("open", EMULATED), call("open", IOMMUFD), call("bind", 3, iommufd=4))
    outcome = session.done[-1].outcome
    taken = "positive" if _cell(session, "vfio_device_file 1", "devid") else "zero"
    return ended(session, "" if outcome.refused else taken, outcome.evidence, at="vfio_device_file 1.devid")


QUESTIONS: dict[str, Question] = {
    "open is enough?": Question(
        "A program has opened <code>/dev/vfio/devices/vfio0</code> and at once asks for VFIO_DEVICE_GET_INFO "
        "(how many regions and interrupts it has). What does the call return?",
        _ask_before_bind,
        "an open file of this kind is a ticket, no more. Its gate, <code>access_granted</code>, is 0 until a BIND has "
        "succeeded, and behind a shut gate every request but BIND gets the same answer.",
        {
            "0": "0: the device is open, so it answers",
            "EBADF": "EBADF: the descriptor is not valid yet",
            "EINVAL": "EINVAL: nothing can be asked in this state",
            "ENOTTY": "ENOTTY: there is no such request on this file",
        },
        {
            "0": Distractor(
                "You took <i>opening the file</i> for <i>opening the device</i>. With the old group files these come together. "
                "Here they are two calls.",
                M.OPEN_IS_ENOUGH,
            ),
            "EBADF": "You took the shut gate for a missing file. The descriptor is good; its file may not do much yet.",
            "ENOTTY": "ENOTTY means that a file does not know a request. It comes after the gate: first the gate has to be open.",
        },
        view=FILES | {"vfio_device vfio0"},
        hints=(
            "Who has been asked up to now: the file, or the device?",
            "Look at access_granted of the file in the picture.",
        ),
    ),
    "who holds the iommufd?": Question(
        "The iommufd has just been opened: its file counts 1 reference, for descriptor 4. Now BIND succeeds. "
        "What is the count (<code>f_ref</code> of <code>file iommu#1</code>) afterwards?",
        _count_the_iommufd,
        "the binding holds the file, so that the iommufd cannot go while the device uses it. The new device object in the "
        "iommufd holds it once more. These are the holders after BIND:",
        wrong={
            "1": Distractor(
                "You counted descriptors only. Kernel objects hold files too: that is why a file can outlive its descriptor.",
                M.ONE_NUMBER_ONE_HOLDER,
            ),
            "2": "You have one of the two. The binding (the device's open file) holds the iommufd, and so does the device "
            "object that BIND makes inside the iommufd.",
        },
        otherwise="Count holders, not calls: each unit of a counter belongs to somebody. Ask who would have to give it back.",
        view=BOUND,
        hints=(
            "The descriptor stays. Who else needs the iommufd from now on?",
            "The binding, and something that BIND makes in it.",
        ),
    ),
    "which error wins?": Question(
        "The old group file <code>/dev/vfio/1</code> is open, so BIND must fail with EBUSY. And the <code>iommufd</code> "
        "field says 777, which is no open descriptor: EBADF. Both are wrong at once. Which errno comes back?",
        _two_mistakes,
        "the checks have an order. What needs no lock comes first (sizes, flags, a negative number). Then the group is looked "
        "at. Only then, under the lock of the device set, is the descriptor looked up.",
        wrong={
            "EBADF": Distractor(
                "You expected all arguments to be checked before anything else. A descriptor is looked up late, because "
                "looking it up already takes a reference.",
                M.ALL_CHECKS_AT_ONCE,
            ),
            "EINVAL": "EINVAL is for a field that can never be right, like iommufd = -1. The number 777 could be open.",
            "EBADFD": "EBADFD is for a descriptor that is open, but of another kind of file.",
        },
        otherwise="Neither mistake has this answer. The two candidates are EBUSY and EBADF.",
        view=FILES | {"vfio_group 1", "file group1#*"},
        hints=("Which of the two can be seen without taking a reference?",),
    ),
    "close the iommufd first": Question(
        "A device is bound. The program closes the descriptor of the <b>iommufd</b> and keeps that of the device. What now?",
        _close_the_iommufd,
        "close gives back one descriptor, not the file. The binding holds the file of the iommufd. There is no unbind "
        "request: a binding ends with the device's file, and only then does the iommufd go.",
        {
            "unbound": "The iommufd goes, and with it the binding: the device no longer answers",
            "busy": "close fails with EBUSY while a device is bound",
            "bound": "close succeeds, the iommufd lives on, the device stays bound",
        },
        {
            "unbound": Distractor(
                "You took the descriptor for the object. A descriptor is one holder of a file among several.",
                M.CLOSING_IS_RELEASING,
            ),
            "busy": "You expected close to protect you. close never asks whether somebody still needs the file; the other "
            "holders simply keep it.",
        },
        view=BOUND,
        hints=("A descriptor is one holder. Who are the others?",),
    ),
    "a copy": Question(
        "The device is bound. The program does <code>dup(3)</code> and gets 5, closes 3, and asks for "
        "VFIO_DEVICE_GET_INFO on 5. What comes back?",
        _ask_through_a_copy,
        "the gate belongs to the open file, and 5 leads to the same file. As long as one number is left the file lives.",
        {
            "0": "0: the device answers",
            "EBADF": "EBADF: 5 is no bound descriptor",
            "EINVAL": "EINVAL: closing 3 has ended the binding",
        },
        {
            "EBADF": Distractor("It is the file that is bound, not the number, and descriptor 5 leads to that file."),
            "EINVAL": Distractor(
                "The binding ends with the file, and the file has a number left.", M.ONE_NUMBER_ONE_HOLDER
            ),
        },
        view=BOUND,
        name="01 check: a copy",
    ),
    "a device without DMA": Question(
        "<code>vfio4</code> is a serial port made of software: it never does DMA, so there is nothing for an IOMMU to "
        "protect. May it be bound to an iommufd, and if so, what is <code>out_devid</code>?",
        _bind_without_dma,
        "the call has one meaning for all devices: <i>from now on this iommufd is in charge</i>. A device without DMA of its "
        "own gets an <i>access</i> instead of a device object: through it the driver may reach the program's memory. An "
        "access is an object of the iommufd too. It takes an ID, and IDs begin with 1, so out_devid is never 0.",
        {
            "EINVAL": "BIND is refused: there is no IOMMU to put it under",
            "zero": "It binds, and out_devid is 0: there is no device object",
            "positive": "It binds, and out_devid is 1 or more",
        },
        {
            "EINVAL": "You took BIND for “put behind an IOMMU”. It claims DMA only where there is DMA to claim.",
            "zero": "You expected “no DMA” to mean “no object”. There is one, of another kind: an access.",
        },
        view=FILES | {"vfio_device vfio4", "iommufd_access"},
        hints=("The driver may still want to reach the memory of the program.",),
    ),
}


# ---- at the end


def _two_wrong_fields() -> ExperimentResult:
    session = ran(opened, call("bind", 3, argsz=8, iommufd=777))
    return ended(session, "", session.done[-1].outcome.check)


def _after_a_refusal() -> ExperimentResult:
    session = ran(None, call("open", DEVICE), call("bind", 3, iommufd=777))
    steps, cell = session.steps, "cdev_device_open_cnt"
    return ExperimentResult(
        str(_cell(session, "vfio_group 1", cell)), steps, last_change(steps, f"vfio_group 1.{cell}")
    )


CHECK = (
    Question(
        "BIND with <code>argsz</code> = 8 and <code>iommufd</code> = 777, which is not open. Which errno?",
        _two_wrong_fields,
        "the size is looked at before anything else: without it nobody knows which fields there are.",
        wrong={
            "EBADF": Distractor(
                "The descriptor is looked up under the lock, long after the size.", M.ALL_CHECKS_AT_ONCE
            )
        },
        otherwise="Which of the two can be checked without taking anything?",
        view=FILES,
        name="01 check: two wrong fields",
    ),
    Question(
        "BIND is refused with EBADF. On its way it had blocked the group: <code>cdev_device_open_cnt</code> became 1. What is that "
        "count after the call?",
        _after_a_refusal,
        "a call that fails gives back what it has taken, in reverse order. That is the phase <i>unwind</i>.",
        wrong={"1": "Then one wrong number would lock everybody out of the group for ever."},
        otherwise="A refused call has to leave everything as it was.",
        view=FILES | {"vfio_group 1"},
        kind="number",
        name="01 check: after a refusal",
    ),
)
