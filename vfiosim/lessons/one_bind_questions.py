"""The questions of the lesson about one BIND. Every answer comes out of an experiment."""

from __future__ import annotations

from ..lab import Distractor, ExperimentResult, Question, Session
from . import misconceptions as M
from .beginnings import DEVICE, IOMMUFD, NODES, bound, opened
from .experiments import call, ended, found, held, last_change, ran, told

EMULATED = "/dev/vfio/devices/vfio4"
FILES = frozenset({"thread *", "fds", "file vfio*", "file iommu*", "vfio_device_file", "iommufd_ctx"})
BOUND = FILES | {"vfio_device vfio0", "iommufd_device"}


def _cell(session: Session, name: str, cell: str) -> object:
    return session.machine.trace.end.objects[name].value(cell)


def _ask_another_file() -> ExperimentResult:
    session = ran(bound, call("open", DEVICE), call("get_info", 5))
    gate = _cell(session, "vfio_device_file 2", "access_granted")
    return ended(session, "", f"vfio_device_file 2.access_granted is {int(bool(gate))}")


def _count_the_iommufd() -> ExperimentResult:
    session = ran(bound, call("open", NODES["vfio1"]), call("bind", 5, iommufd=4))
    end = session.machine.trace.end
    who = held(session.machine.trace, "file iommu#1")
    return ended(session, str(end.objects["file iommu#1"].total("f_ref")), *who, at="file iommu#1.f_ref")


def _two_mistakes() -> ExperimentResult:
    return ended(ran(None, call("open", DEVICE), call("open", "/dev/vfio/1"), call("bind", 3, iommufd=777)))


def _the_same_number_again() -> ExperimentResult:
    session = ran(bound, call("close", 4), call("dup", 3))
    asked = ran(bound, call("close", 4), call("dup", 3), call("get_info", 3)).done[-1].outcome
    (path, *_) = session.machine.why("iommufd_ctx 1").paths
    busy, here = session.done[-2].outcome.refused, _cell(session, "vfio_device_file 1", "iommufd")
    answer = "busy" if busy else "none" if not here else "kind" if asked.refused else "stays"
    return found(session, answer, "calls dup(3)", path.words, *told(asked), since=-2)


def _the_close_that_ends_it() -> ExperimentResult:
    session = ran(bound, call("dup", 3), call("open", DEVICE))
    for fd in (3, 6, 5):
        session.close(fd)
        if "file vfio0#1" not in session.machine.trace.end.objects:
            return found(session, str(fd), "Nobody holds file vfio0#1 any more", f"close({fd}) lets file vfio0#1 go")
    return ended(session, "none")


def _bind_without_dma() -> ExperimentResult:
    session = ran(None, call("open", EMULATED), call("open", IOMMUFD), call("bind", 3, iommufd=4))
    outcome = session.done[-1].outcome
    taken = "positive" if _cell(session, "vfio_device_file 1", "devid") else "zero"
    return ended(session, "" if outcome.refused else taken, outcome.evidence, at="vfio_device_file 1.devid")


QUESTIONS: dict[str, Question] = {
    "another file": Question(
        "A program opens <code>/dev/vfio/devices/vfio0</code> twice: descriptors 3 and 5. It binds 3 to an iommufd. Then it asks "
        "5 for VFIO_DEVICE_GET_INFO (how many regions and interrupts the device has). What does the call return?",
        _ask_another_file,
        "each <code>open</code> makes a file of its own, and each file has a gate of its own. BIND has opened the gate of the file "
        "behind 3. The gate of the other file is still shut: <code>access_granted</code> is 0.",
        {
            "0": "0: the device is bound, so it answers",
            "EINVAL": "EINVAL: nothing can be asked through this file yet",
            "EBADF": "EBADF: the second descriptor is not valid",
            "EBUSY": "EBUSY: the device is in use through the other file",
        },
        {
            "0": Distractor(
                "You took <i>the device is bound</i> for <i>each of its files is</i>. Opening the node once more gives another "
                "file, whose gate is shut.",
                M.OPEN_IS_ENOUGH,
            ),
            "EBADF": "EBADF would mean that no open file has this number. Descriptor 5 is open; only the gate of its file "
            "is shut.",
            "EBUSY": "EBUSY would mean that one user shuts out the other. The kernel does not look at the other file here: it "
            "looks at the gate of this one.",
        },
        view=FILES | {"vfio_device vfio0"},
        hints=(
            "Does the gate belong to the device, or to an open file of it?",
            "Look for access_granted in the picture: how many boxes have it?",
        ),
    ),
    "two cards": Question(
        "Two cards are open, vfio0 and vfio1, and one iommufd: its file counts 1 reference, for its descriptor. Both cards are "
        "bound to it. What is the count (<code>f_ref</code> of <code>file iommu#1</code>) afterwards?",
        _count_the_iommufd,
        "each binding holds the file, so that the iommufd cannot go while a device uses it, and the new device object in the "
        "iommufd holds it once more. These are the holders:",
        wrong={
            "1": Distractor(
                "You counted descriptors only. Objects of the kernel hold files, too. So a file can live longer than "
                "its descriptor.",
                M.ONE_NUMBER_ONE_HOLDER,
            ),
            "2": "You counted one holder for both devices together. Each device has a binding of its own, and an "
            "object in the iommufd.",
            "3": "You counted one holder for each card, or two for one card only. Each BIND adds two: the binding (the open file "
            "of the device), and the device object that it makes inside the iommufd.",
        },
        otherwise="Count the holders of the file: its descriptor, and for each card the binding, and the device object that BIND "
        "makes.",
        kind="number",
        view=BOUND | {"vfio_device vfio1"},
        about=("file iommu#1.f_ref",),
        hints=(
            "The descriptor stays. How many holders has one BIND added? Look at 00 once more.",
            "The binding, and something that BIND makes in the iommufd: for each card.",
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
                "You expected the number 777 to be checked first. The kernel looks it up late and under a lock, "
                "because that takes a reference. The group is looked at before.",
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
        "A device is bound: BIND was given 4, the <b>iommufd</b>. The program closes the descriptor of the iommufd. Then "
        "<code>dup(3)</code> gives 4: this number leads to the device's own file now. What has become of the binding?",
        _the_same_number_again,
        "BIND has looked the number up once, and holds the file that it found. What the number leads to later does not concern the "
        "binding. There is no request to unbind: a binding ends with the device's file.",
        {
            "stays": "it is as before, with the iommufd that no number leads to",
            "kind": "it has no iommufd: calls through 3 fail with EBADFD",
            "none": "it has ended with the first close",
            "busy": "close fails with EBUSY while a device is bound",
        },
        {
            "kind": "You expected the binding to keep the number 4. A number is only a way to a file. BIND looks it up once, and "
            "keeps the file.",
            "none": Distractor(
                "You expected close(4) to end the iommufd. It ends one descriptor. The binding holds the file of the "
                "iommufd, too, so the file and the binding stay.",
                M.CLOSING_IS_RELEASING,
            ),
            "busy": "You expected close to be refused while somebody needs the file. close never asks that: the "
            "descriptor was one holder, and the other holders keep the file.",
        },
        view=BOUND,
        hints=("What does BIND keep: a number, or a file?", "Who holds the iommufd, once no descriptor leads to it?"),
    ),
    "a copy": Question(
        "A device is bound: descriptor 3. Then <code>dup(3)</code> gives 5, and opening <code>/dev/vfio/devices/vfio0</code> once "
        "more gives 6. The program closes 3, then 6, then 5. Which close ends the binding?",
        _the_close_that_ends_it,
        "the binding ends with the file that was bound. 3 and 5 lead to that file, so the later of their closes ends it. 6 leads "
        "to another file of the same device.",
        {
            "3": "close(3)",
            "6": "close(6)",
            "5": "close(5)",
            "none": "none of them",
        },
        {
            "3": Distractor(
                "close(3) took one descriptor away. Descriptor 5 still leads to the file, and a binding ends only with its file.",
                M.ONE_NUMBER_ONE_HOLDER,
            ),
            "6": "6 leads to a file of its own, which nobody has bound. When that file goes, the binding stays.",
            "none": "You expected something else to keep the binding, such as the iommufd. It does not hold the "
            "device's file. When that goes, the binding ends, whoever has the iommufd open.",
        },
        view=BOUND,
        hints=("How many files are there, and which numbers lead to each?",),
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
            "EINVAL": "You expected BIND to need a device that does DMA. Where there is no DMA, BIND leaves out that part, "
            "and makes an access instead.",
            "zero": "You expected that without DMA there is no object, and so no ID. BIND makes an object of another "
            "kind, an access, and its ID is 1.",
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
                "You expected the descriptor to be looked up first. It is looked up under the lock, long after the "
                "size of the struct was checked.",
                M.ALL_CHECKS_AT_ONCE,
            )
        },
        otherwise="The size is checked first, for that needs no lock and takes no reference. It is too short: EINVAL.",
        view=FILES,
        name="01 check: two wrong fields",
    ),
    Question(
        "BIND is refused with EBADF. On its way it had blocked the group: <code>cdev_device_open_cnt</code> became 1. What is that "
        "count after the call?",
        _after_a_refusal,
        "a call that fails gives back what it has taken, in reverse order. That is the phase <i>unwind</i>.",
        wrong={
            "1": "You expected the group to stay blocked. Before the call returns it gives back all that it has taken. "
            "Otherwise one wrong number would block the group for ever."
        },
        otherwise="A refused call leaves every count as it was before. Here it was 0.",
        view=FILES | {"vfio_group 1"},
        about=("vfio_group 1.cdev_device_open_cnt",),
        kind="number",
        name="01 check: after a refusal",
    ),
)
