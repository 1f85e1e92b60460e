"""The questions of the lesson about groups. Every answer comes out of an experiment."""

from __future__ import annotations

from ..lab import Distractor, ExperimentResult, Question, Session
from . import misconceptions as M
from .experiments import ran
from .groups_calls import NEW, OLD, disk_back, enter, free_disk, get_device, owner, pair, set_iommu, usb
from .groups_cases import BIND_USB, NOTE, ORDERS, REMEDIES, WAYS, accepted, bind, last, refused, says, wrong
from .groups_shown import GPU, HDMI, USB

GROUP_2 = (
    "thread *",
    "fds",
    "file vfio*",
    "vfio_device vfio1",
    "vfio_device vfio2",
    "iommufd_ctx",
    "iommu_group 2",
    "vfio_group 2",
)
GROUP_3 = (
    "thread *",
    "fds",
    "file vfio*",
    "file group*",
    "iommufd_ctx",
    "iommu_group 3",
    "vfio_group 3",
    "device sata",
)


def _two_owners() -> ExperimentResult:
    return last(NOTE["own"].run())


def _all_orders() -> ExperimentResult:
    return last(ORDERS["sibling, group"].run(), refused(ORDERS))


def _in_the_way() -> ExperimentResult:
    return last(ran(usb, BIND_USB), accepted(REMEDIES))


def _give_it_back() -> ExperimentResult:
    return last(ran(usb, free_disk, BIND_USB, disk_back))


def _how_many() -> ExperimentResult:
    session = Session(start=lambda session: enter(session, 2, OLD))
    claimed = session.done[-1].steps_before
    set_iommu(session)
    for address in (GPU, HDMI):
        get_device(session, address)
    who, many = owner(session, 2)
    trace = session.machine.trace[claimed : session.done[session.given].steps_before]
    step = next(step.index + 1 for step in trace if any(change.what.endswith("owner_cnt") for change in step.changes))
    return ExperimentResult(str(many), trace, step, (f"after all five calls: {who}, {many}",))


def _one_is_left() -> ExperimentResult:
    calls = (bind(3, 5), bind(4, 5), lambda session: session.close(3), lambda session: session.open("/dev/vfio/2"))
    return last(ran(pair, *calls))


def _a_flag() -> ExperimentResult:
    calls = (
        lambda session: enter(session, 3, NEW),
        lambda session: set_iommu(session, NEW),
        lambda session: get_device(session, USB),
    )
    return last(ran(lambda session: None, *calls))


def _note() -> ExperimentResult:
    return last(NOTE["shared"].run(), accepted(NOTE))


QUESTIONS: dict[str, Question] = {
    "two owners": Question(
        "The VMM has bound <code>vfio1</code>, the graphics card, to its iommufd. Now it binds <code>vfio2</code>, the audio "
        "function of the same card, to a <b>second</b> iommufd. How does the second BIND end?",
        _two_owners,
        "the hardware cannot tell the two functions apart. So the whole group has one owner of its DMA, and that is the first "
        "iommufd. The kernel refuses any other.",
        {
            "0": "It succeeds: each node has an owner of its own",
            "EPERM": "EPERM: somebody else owns the DMA of the group",
            "moved": "It succeeds, and both devices now belong to the second iommufd",
            "EBUSY": "EBUSY: somebody uses the group",
        },
        {
            "0": Distractor(
                "You expected each device to have an owner of its own. The owner is a field of iommu_group 2, so both "
                "devices have the same one: the first iommufd.",
                M.NO_GROUPS_ANY_MORE,
            ),
            "moved": "You expected the second BIND to take the group over. No BIND takes the DMA away from its owner: the "
            "first iommufd stays it until its last device is closed.",
            "EBUSY": "EBUSY says that the group's <i>file</i> is in use. Nobody has opened that. Here another iommufd owns the "
            "DMA.",
        },
    ),
    "all orders": Question(
        "<code>vfio1</code> and <code>vfio2</code> are the devices of group 2. One program does all of this, with one iommufd. "
        "In which of these is the <b>second</b> call refused?",
        _all_orders,
        "BIND shuts the file of the whole group, and an open group's file forbids BIND of all its devices. To "
        "<i>open</i> a node shuts nothing.",
        says(ORDERS),
        wrong(ORDERS),
        kind="set",
        hints=("Who gets something, when a node is only opened?", "The file of a group leads to all its devices."),
    ),
    "in the way": Question(
        "<code>usb</code> has the driver vfio-pci. The VMM, with all rights of root, binds its node, and BIND fails with EPERM. "
        "In the same group is a disk, <code>sata</code>, with the kernel's driver ahci. Which of these <b>alone</b> makes the "
        "way to usb free?",
        _in_the_way,
        "the kernel itself is the owner: ahci lets the disk do DMA for the kernel, and the hardware cannot tell the disk from "
        "usb. A group is viable if no driver of the kernel does DMA in it. A device without a driver asks for no DMA. Nor does one "
        "with vfio-pci, until it is bound.",
        says(REMEDIES),
        wrong(REMEDIES),
        view=GROUP_3,
        kind="set",
        hints=(
            "Who owns the DMA of group 3, as long as ahci drives the disk?",
            "Two of the five free the group from the kernel.",
        ),
    ),
    "give it back": Question(
        "<code>usb</code> is bound at last. Now the administrator wants the disk beside it for the host: it is to have the "
        "kernel's driver ahci. What happens?",
        _give_it_back,
        "the rule holds in both directions. While user space owns the DMA of a group, no driver may do DMA for the kernel in it.",
        {
            "EBUSY": "EBUSY: ahci does not get the disk",
            "0": "ahci gets the disk: the disk is another device, and nobody has bound that",
            "cut": "ahci gets the disk, and the VMM loses usb",
            "waits": "The call waits until usb is closed",
        },
        {
            "0": Distractor(
                "Nobody has bound the disk itself, that is true. But usb is in the same group, and user space owns "
                "the DMA of the whole group.",
                M.NO_GROUPS_ANY_MORE,
            ),
            "cut": "Nothing is taken from a VMM that owns the DMA of a group. A driver that comes later is refused.",
            "waits": "A driver that leaves waits, as in notebook 05. A driver that comes is refused while user space owns the DMA.",
        },
        view=GROUP_3,
    ),
    "how many?": Question(
        "The old way: a program opens the file of group 2 and a container, and puts the group into the container. It opens both "
        "devices through the group. What is <code>owner_cnt</code> of <code>iommu_group 2</code> now?",
        _how_many,
        "SET_CONTAINER claims the group as a whole, once. The devices that are opened later are not counted there.",
        wrong={
            "2": "You counted devices; so does BIND. SET_CONTAINER takes the DMA of the whole group in one claim.",
            "0": "You expected that nobody has claimed the DMA. A program that lets a device do DMA must own the group: "
            "SET_CONTAINER claims it.",
            "3": "You counted the container and two devices. Only one of them claims: SET_CONTAINER.",
        },
        otherwise="Ask which of the calls claims the DMA of the group: only SET_CONTAINER does.",
        kind="number",
        view=("thread *", "fds", "vfio_container", "iommu_group 2", "vfio_group 2"),
        about=("iommu_group 2.owner_cnt",),
        hints=("A container gets a group, not a device.",),
    ),
}

CHECK = (
    Question(
        "<code>vfio1</code> and <code>vfio2</code> are bound to one iommufd. The VMM closes the file of <code>vfio1</code>. Then a "
        "tool opens <code>/dev/vfio/2</code>, to get at <code>vfio1</code>. What comes back?",
        _one_is_left,
        "the group counts its bound devices. vfio2 is one, and one is enough to keep the group's file closed.",
        {"EBUSY": "EBUSY", "ok": "It opens: vfio1 is free", "EPERM": "EPERM"},
        {
            "ok": "You looked at one device. vfio1 is free, but the file leads to the whole group, and vfio2 is still bound.",
            "EPERM": "EPERM is about the owner of the DMA. The open of a group asks only whether a device is bound.",
        },
        name="06 check: one is left",
    ),
    Question(
        "The disk has its driver ahci. A program opens the file of group 3 and puts it into an iommufd, in the place of a "
        "container: that succeeds, and GET_STATUS of the group says <i>viable</i>. Then the program asks the group for "
        "<code>usb</code>: GET_DEVICE_FD. How does that end?",
        _a_flag,
        "with an iommufd as container nobody claims the DMA before the first device is opened. That claim meets ahci.",
        {"0": "A descriptor: the group is viable", "EPERM": "EPERM", "EBUSY": "EBUSY"},
        {
            "0": "The flag says that there is an iommufd. It does not say that the group's DMA was claimed, and the disk has ahci.",
            "EBUSY": "EBUSY is about the group's file and the nodes: one of them shuts the other. Here only the group's "
            "file is used. But the DMA belongs to the kernel, for ahci.",
        },
        view=GROUP_3,
        name="06 check: a flag",
    ),
    Question(
        "On another computer <code>ls /sys/bus/pci/devices/0000:01:00.0/vfio-dev</code> prints <code>vfio0</code>: vfio-pci has "
        "the network card. That kernel was built with groups and iommufd, but without VFIO_DEVICE_CDEV. Which ways to the card "
        "work there, to the last call?",
        lambda: last(WAYS["node"].run(), accepted(WAYS)),
        "/sys shows each device that a VFIO driver has. The node, and BIND with it, come from device_cdev.c, and that is not in "
        "this kernel. So look for the file <code>dev</code> in the folder <code>vfio0</code>: it is there if the node is.",
        says(WAYS),
        wrong(WAYS),
        view=("thread *", "fds", "file *", "vfio_device vfio0", "vfio_group 1", "vfio_container"),
        kind="set",
        name="06 check: another kernel",
    ),
    Question(
        "Last, write the release note again. Which of these sentences are true?",
        _note,
        "the node replaces the group's file. The group stays: one owner of the DMA, which programs may share, and no driver of "
        "the kernel beside it.",
        says(NOTE),
        wrong(NOTE),
        kind="set",
        name="06 check: the note",
    ),
)
