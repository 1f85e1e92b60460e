"""The questions of the lesson about the order of checks. Every answer comes out of an experiment."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..lab import Distractor, ExperimentResult, Question, Session, errnos
from ..lab.run import PROGRAM
from ..machine.events import Mapped
from ..uapi import VfioDeviceBindIommufd
from . import misconceptions as M
from .beginnings import CTX, DEV, opened
from .order_of_checks_causes import READ, WHOLE, causes, ioctl, refused

FILES = ("thread *", "fds", "file vfio*", "file iommu*", "vfio_device_file", "vfio_device vfio0", "vfio_group 1")
HELD = (*FILES, "vfio_device_set vfio0", "driver vfio-pci", "iommu_group 1", "iommufd_ctx", "iommufd_device")


def _met(*names: str) -> ExperimentResult:
    """What a BIND with these things wrong is answered, and by which check."""
    found = refused(*names)
    return ExperimentResult(
        found.outcome.result, found.steps, len(found.way), (f"the check that refuses is called {found.outcome.check}",)
    )


def _what_it_held() -> ExperimentResult:
    found = refused("another file")
    changed = {change.what for step in found.way for change in step.changes}
    held = " ".join(found.held)
    taken = {
        "group": "vfio_group 1.cdev_device_open_cnt" in changed,
        "lock": "the lock vfio_device_set" in held,
        "iommufd": "a reference to file iommu" in held,
        "driver": "a reference to driver" in held,
        "DMA": "iommu_group 1.owner" in changed,
    }
    answer = tuple(name for name, is_taken in taken.items() if is_taken)
    return ExperimentResult(answer, found.steps, len(found.way), found.held)


def _once_more() -> ExperimentResult:
    session = Session(start=opened)
    data = bytes(VfioDeviceBindIommufd(argsz=WHOLE, iommufd=CTX))
    address = session.do(Mapped(PROGRAM, WHOLE, data, READ)).number
    first = ioctl(session, DEV, "VFIO_DEVICE_BIND_IOMMUFD", address)
    again = session.bind(DEV, argsz=WHOLE, iommufd=CTX)
    last = max(step.index + 1 for step in session.steps if "out_devid" in step.sentence)
    evidence = (f"the first BIND: {first.result}", f"the second BIND: {again.evidence}")
    number = session.machine.trace.end.objects["vfio_device_file 1"].value("devid")
    return ExperimentResult(str(number), session.steps, last, evidence)


def _which_one() -> ExperimentResult:
    (name,) = (name for name in ("flags", "another file", "not coherent") if _met(name, "closed").answer == "EINVAL")
    return replace(_met(name, "closed"), answer=name)


def _behind_ebadf() -> ExperimentResult:
    behind = [name for name in causes("EINVAL") if len(refused(name).way) > len(refused("closed").way)]
    found = refused(behind[0], "closed")
    return ExperimentResult(str(len(behind)), found.steps, len(found.way), tuple(str(refused(name)) for name in behind))


def _every_capability() -> ExperimentResult:
    found = refused("host driver")
    answer = "owner" if "the DMA of" in found.outcome.sentence else "root"
    return ExperimentResult(answer, found.steps, len(found.way), (found.outcome.sentence,))


QUESTIONS: dict[str, Question] = {
    "a second open": Question(
        "Descriptor 3 is bound to the iommufd. Jo's program opens <code>/dev/vfio/devices/vfio0</code> once more, gets 5, and "
        "binds 5 to the same iommufd. All fields are right. What does this BIND return?",
        lambda: _met("another file"),
        "one file of a device can be bound, and descriptor 5 leads to another file. The kernel answers EINVAL, not EBUSY.",
        errnos("0", "EBUSY", "EINVAL", "EPERM"),
        {
            "0": Distractor(
                "You expected the second file to be as good as the first. But only one file of a device can be bound, "
                "and that is the one behind descriptor 3.",
                M.SECOND_OPEN_IS_FINE,
            ),
            "EBUSY": Distractor(
                "The device is in use, that is true. But the errno is chosen by the check that refuses, and this "
                "check answers EINVAL. An errno alone does not name its cause.",
                M.ERRNO_IS_A_CAUSE,
            ),
            "EPERM": "EPERM is about who owns the DMA of the group. Here the same iommufd owns it, so that check would let "
            "the call pass. It is refused before.",
        },
        view=FILES,
    ),
    "three things wrong": Question(
        "One struct, three mistakes. <code>iommufd</code> is −1: EINVAL. <code>flags</code> has an unknown bit: EINVAL. "
        "<code>argsz</code> is 32, and behind the known 24 bytes is one that is not zero: E2BIG. What comes back?",
        lambda: _met("tail", "negative", "flags"),
        "before the kernel can look at a field it has to copy the struct. While it copies, it looks at the bytes that it does "
        "not know. Only <code>argsz</code> is read before.",
        errnos("EINVAL", "E2BIG", "EFAULT"),
        {
            "EINVAL": Distractor(
                "You expected the fields to be checked first. Before the kernel can look at a field it has to copy "
                "the struct, and the copy finds the byte that is not zero.",
                M.ALL_CHECKS_AT_ONCE,
            ),
            "EFAULT": "EFAULT is for memory that cannot be read. Here all 32 bytes can be read and copied.",
        },
        view=FILES,
        hints=("What has to happen before a field can be looked at?",),
    ),
    "a probe": Question(
        "You put <code>iommufd</code> = 777, which is not open, into Jo's BIND of descriptor 5: the answer became EBADF. "
        "Now descriptor 3, which is bound already: that is EINVAL. What does it become with 777?",
        lambda: _met("bound", "closed"),
        "whether <i>this</i> file is bound is the first question under the lock. The number 777 is looked at after it, so the old "
        "EINVAL stays. The probe has told the two causes apart.",
        errnos("EINVAL", "EBADF", "EBADFD"),
        {
            "EBADF": Distractor(
                "You expected the same answer as for descriptor 5. But the two EINVAL have two causes. That of "
                "descriptor 3 is found before 777 is looked up.",
                M.ERRNO_IS_A_CAUSE,
            ),
            "EBADFD": "EBADFD is for a descriptor that is open, and leads to another kind of file. 777 is not open.",
        },
        view=FILES,
        hints=("For descriptor 5 the kernel has to look at the device; for 3 the file itself is enough.",),
    ),
    "what it held": Question(
        "Jo's BIND of descriptor 5 is refused late. What had this call taken at that moment? Tick all.",
        _what_it_held,
        "the group is blocked and the lock is taken first, then the iommufd is looked up and held. The driver and the DMA come "
        "with the first opening of the device, and this was none. All that was taken is given back.",
        {
            "group": "the group is blocked for the old way",
            "lock": "the lock of the device set",
            "iommufd": "a reference to the iommufd's file",
            "driver": "a reference to the driver",
            "DMA": "the ownership of the group's DMA",
        },
        {
            "-group": "The group is blocked before the lock is taken, so it was blocked.",
            "-lock": "Whether another file has the device open is looked at under the lock of the device set.",
            "-iommufd": "The iommufd is looked up before the kernel asks whether another file is bound. So this call held it "
            "already.",
            "+driver": "The driver is held when the device is opened for the first time. This call is refused before it "
            "opens anything.",
            "+DMA": "The iommufd owns the DMA since the <i>first</i> binding. This call was refused before it could claim "
            "anything.",
        },
        view=HELD,
        kind="set",
    ),
    "once more": Question(
        "A good BIND, but the program may not write into its own struct. The kernel has made everything, and cannot tell "
        "<code>out_devid</code>: EFAULT. The program mends that and binds again. Which <code>out_devid</code> does it get?",
        _once_more,
        "the object of the first try was given back with its ID, so the ID is free again. The latest refusal undoes the most.",
        wrong={
            "2": "You expected a new ID for a new try. The kernel takes the lowest ID that is free.",
            "0": "You expected an ID of 0. The IDs of an iommufd begin with 1.",
        },
        otherwise="Nothing of the first try is left: in the phase <i>unwind</i> its ID was given back. So the same ID "
        "is taken again.",
        view=HELD,
        kind="number",
    ),
    "behind EBADF": Question(
        "How many of the causes of EINVAL does the kernel look for <i>after</i> the check that says EBADF?",
        _behind_ebadf,
        "only what needs the iommufd, or an open device, comes after it:",
        wrong={
            "1": "You found one: another file of the device is bound. The other one is that the IOMMU does not keep "
            "caches coherent."
        },
        otherwise="In the plot two bars of EINVAL are longer than the bar of EBADF: these two are looked for later.",
        kind="number",
        view=FILES,
        name="03 check: behind EBADF",
    ),
}

CHECK = (
    Question(
        "A BIND is refused with EINVAL. You put <code>iommufd</code> = 777 in, and it is EINVAL still. Which of these can it be?",
        _which_one,
        "the mistake that you added did not come up, so the cause is looked for before it.",
        {
            "flags": "a flag is set that nobody knows",
            "another file": "another file of the device is bound",
            "not coherent": "the IOMMU does not keep caches coherent",
        },
        {
            name: Distractor(
                f"{what} is asked about after the descriptor was looked up. With 777, which is not open, "
                "the answer is EBADF: see this run.",
                M.ERRNO_IS_A_CAUSE,
                partial(_met, name, "closed"),
            )
            for name, what in (("another file", "Another file"), ("not coherent", "The IOMMU"))
        },
        view=FILES,
        name="03 check: which one",
    ),
    Question(
        "A BIND is refused with EPERM. What does that tell?",
        _every_capability,
        "this program has every capability there is. EPERM of BIND is about the group: its DMA belongs to somebody else, or its "
        "interrupts cannot be isolated. The struct was right.",
        {
            "root": "the program may not do this: run it as root",
            "owner": "the struct is right, and somebody else has the group's DMA, or the computer cannot isolate it",
            "field": "a field of the struct is wrong",
        },
        {
            "root": Distractor(
                "You took EPERM for missing rights. This program has all rights, and is refused all the same: a "
                "driver of the host has a device of the group.",
                M.OWN_DRIVER_IS_ENOUGH,
            ),
            "field": "You expected a wrong field. All fields were checked before, and no check of a field answers EPERM. "
            "The struct was right.",
        },
        view=(*FILES, "iommu_group 3", "device *"),
        name="03 check: not permitted",
    ),
)
