"""The questions of the lesson about devices without DMA. Every answer comes out of an experiment."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..kernel.variants import VARIANTS
from ..lab import Distractor, ExperimentResult, Question
from ..lab.question import step_saying
from .no_dma_calls import KERNELS, Attempt, asked, bind, by_group

VIEW = ("thread *", "fds", "file vfio*", "vfio_device_file", "iommufd_ctx", "iommufd_device", "iommufd_access")


def shown(made: Attempt, answer: object = "", at: str = "") -> ExperimentResult:
    """The steps of a call, at the one that says `at`, or that refuses, or at the last but one; `answer` or how it ended."""
    steps = made.steps
    step = next((step.index + 1 for step in steps if step.refused), len(steps) - 1)
    return ExperimentResult(answer or made.result, steps, step_saying(steps, at) if at else step, (made.in_words,))


def _doors() -> ExperimentResult:
    node = not bind("v5", "led").result.startswith("E")
    group = not by_group("v5").result.startswith("E")
    answer = {(True, True): "both", (False, True): "group", (True, False): "node"}.get((node, group), "none")
    return replace(
        shown(bind("v5", "led"), answer),
        evidence=(
            f"one program, by the node: {bind('v5', 'led').in_words}",
            f"another one, by the group's file: {by_group('v5').in_words}",
        ),
    )


def _zero() -> ExperimentResult:
    return shown(asked(bind("v5r", "led"), 0))


def _what_became() -> ExperimentResult:
    made = bind("v6.6", "led")
    return shown(made, "no node" if made.result == "ENOENT" else made.result)


def _an_access() -> ExperimentResult:
    return shown(asked(bind("v7.2", "tty"), 1))


def _noiommu() -> ExperimentResult:
    able = tuple(kernel for kernel in KERNELS if bind(kernel, "bare").result.startswith("ID"))
    return replace(_bare("v7.2"), answer=able)


def _bare(kernel: str) -> ExperimentResult:
    return shown(bind(kernel, "bare"))


def _without_rights() -> ExperimentResult:
    return shown(bind("v5", "bare", ()))


def _never_zero() -> ExperimentResult:
    found = {bind("v7.2", device).result for device in ("nic", "ccw", "tty")}
    return shown(bind("v7.2", "tty"), "zero" if "ID 0" in found else "never", "out_devid")


def _posted_number() -> ExperimentResult:
    made = bind("v7.2", "nic", number=VARIANTS["v5"].bind_request)
    return shown(made, "other" if "ATTACH" in made.in_words else "same")


BY_TRUST = (
    "You expected −1 to be refused everywhere. In the posted patch a negative descriptor means noiommu "
    "mode, for a program that is trusted."
)
QUESTIONS: dict[str, Question] = {
    "two doors": Question(
        "<code>led</code> does no DMA, and its driver has no operation for binding. The posted kernel, v5, is running. By which "
        "of its two doors can a program get at the device?",
        _doors,
        "BIND by the node says ENODEV, because the driver has no operation. The group's file never asks for an ID, and lets the "
        "device through. The new door can do less than the old one: that is why the author asks.",
        {
            "both": "By both",
            "group": "Only by the group's file, the old door",
            "node": "Only by the node, the new door",
            "none": "By none of them: there is nothing to bind",
        },
        {
            "both": "You expected the node to be as good as the group's file. BIND asks the driver for its operation, and "
            "led's driver has none: the node is refused.",
            "node": Distractor(
                "You expected the new door to ask for less. It asks for one thing more, the driver's operation. The "
                "old door opens the device.",
                refute=lambda: shown(by_group("v5"), at="driver no-dma opens the device"),
            ),
            "none": Distractor(
                "The group's file opens the device: it never asked who does DMA.",
                refute=lambda: shown(by_group("v5"), at="driver no-dma opens the device"),
            ),
        },
    ),
    "zero": Question(
        "Both questions are answered yes (v5r). The device is bound, and <code>out_devid</code> is 0. A careless VMM does not "
        "look, and passes 0 on as the ID of its device: IOMMU_GET_HW_INFO. What does the kernel answer?",
        _zero,
        "IDs start at 1. There is no object 0, so 0 can say “none”, and a VMM that does not look gets an error, not somebody "
        "else's device.",
        {
            "0": "0: it tells about the first device there is",
            "ENOENT": "ENOENT: there is no such object",
            "EINVAL": "EINVAL: 0 is no ID at all",
        },
        {
            "0": "You expected IDs to count from 0. They are names of objects and begin with 1, so there is no device object 0.",
            "EINVAL": "You expected a test for 0. The kernel has none: it looks 0 up like any other ID, and there is no "
            "device object 0.",
        },
    ),
    "what became": Question(
        "Five months later BIND is merged, into Linux 6.6. What happens to <code>led</code> there?",
        _what_became,
        "Linux said neither yes nor no to that mail. Since 6.6 every driver must have the operations, or its device is not "
        "registered at all: no node, "
        "and nothing to bind. The question can no longer be asked.",
        {
            "ID 0": "It binds, and out_devid is 0: the author's yes was taken",
            "no node": "It cannot even be opened: there is no node",
            "ENODEV": "BIND says ENODEV: the posted code was taken",
            "ID 1": "It binds, and out_devid is 1",
        },
        {
            "ID 0": "You expected the author's yes in the merged kernel. There is no BIND at all: there is no "
            "/dev/vfio/devices/vfio6 to open.",
            "ENODEV": "You expected the posted code in the merged kernel. BIND is not even called: there is no "
            "/dev/vfio/devices/vfio6 to open.",
            "ID 1": "You expected led's driver to make an object with an ID. It has no operation for that, and there is "
            "no /dev/vfio/devices/vfio6.",
        },
    ),
    "noiommu": Question(
        "A network card that no IOMMU watches. A program with all rights opens the card's node and binds it with "
        "<code>iommufd = -1</code>. In which kernels does that succeed?",
        _noiommu,
        "the posted patch had a mode for it: a negative descriptor, for trusted programs. What was merged gives such a card no "
        "node, and calls every negative descriptor a mistake. The old door remained, /dev/vfio/noiommu-0.",
        {kernel: kernel for kernel in KERNELS},
        {
            **dict.fromkeys(
                ("-v5", "-v5r"), Distractor(BY_TRUST, refute=lambda: shown(bind("v5", "bare"), at="noiommu mode"))
            ),
            **{
                f"+{kernel}": Distractor(
                    "You expected the mode of the patch in a merged kernel. There such a card has no node: no "
                    "/dev/vfio/devices/vfio0.",
                    refute=partial(_bare, kernel),
                )
                for kernel in ("v6.6", "v7.2")
            },
        },
        kind="set",
    ),
    "without rights": Question(
        "v5, <code>iommufd = -1</code>, and a program that has no rights of an administrator. What comes back?",
        _without_rights,
        "noiommu mode lets a device write anywhere in memory. So it takes CAP_SYS_RAWIO.",
        {"ID 0": "It binds", "EPERM": "EPERM", "EBADF": "EBADF: -1 is no open file"},
        {
            "ID 0": "You expected nobody to be refused. Without an IOMMU the device can overwrite all memory, so the "
            "program needs a right, CAP_SYS_RAWIO.",
            "EBADF": "You expected −1 to be looked up. In v5 a negative number means a mode without an iommufd, and that "
            "takes CAP_SYS_RAWIO.",
        },
        name="08 check: without rights",
    ),
    "the number": Question(
        "The posted BIND had the number 0x3b77. A program that was built with the posted header calls it on Linux 7.2. "
        "Is that BIND?",
        _posted_number,
        "the merged BIND is 0x3b76, and 0x3b77 is ATTACH. A patch is a proposal: its numbers are as little a promise as "
        "its rules.",
        {"other": "No: that number is another request now", "same": "Yes: numbers of requests never change"},
        {
            "same": "Numbers of merged requests never change, that is true. This one was in a patch only: 7.2 reads "
            "0x3b77 as ATTACH, and nothing is bound yet."
        },
        name="08 check: the number",
    ),
}

CHECK = (
    Question(
        "A VMM for Linux 7.2: BIND succeeded. Does the VMM have to be ready for <code>out_devid = 0</code>?",
        _never_zero,
        "every driver can bind, and every bind makes a device object or an access. Each of them has an ID of 1 or more.",
        {"zero": "Yes: for devices that do no DMA", "never": "No: it is 1 or more"},
        {
            "zero": "You remember the proposal. In 7.2 a device that does no DMA gets an access, and out_devid is the ID "
            "of that."
        },
        name="08 check: ready for zero",
    ),
    Question(
        "Linux 7.2. The sample driver of <code>tty</code> has its operations now: BIND made an access, and "
        "<code>out_devid</code> is 1. The VMM passes 1 on as the ID of its device: IOMMU_GET_HW_INFO. What comes back?",
        _an_access,
        "object 1 is an access, not a device: no hardware stands behind it. The kernel looks for a device of this ID and finds "
        "none. So the author's warning holds still: have an ID, and it need not be good for everything.",
        {
            "ENOENT": "ENOENT: there is no such device",
            "0": "0: every ID that BIND gives is good for this",
            "EBUSY": "EBUSY: the device is bound",
        },
        {
            "0": "You expected every ID to be good for every request. An ID names an object of one kind. Object 1 is "
            "an access, and there is no device object 1.",
            "EBUSY": "GET_HW_INFO only asks, and a bound device may be asked about. But object 1 is an access, and "
            "there is no device object 1.",
        },
        name="08 an access",
    ),
)
