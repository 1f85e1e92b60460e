"""Hazards around what a device belongs to: a VM, a way into its group, the DMA of its group, a reset of its bus."""

from __future__ import annotations

from functools import partial

from .. import uapi
from ..engine import Engine
from ..invariants.rules import Broken, every, rule
from ..invariants.vfio import in_use, of_device
from ..kernel.vfio.device_cdev import vfio_df_get_kvm_safe
from ..kernel.vfio.group import vfio_device_block_group
from ..kernel.vfio.vfio import VfioDeviceFile, VfioDeviceSet, VfioGroup
from ..kernel.vfio.vfio_main import vfio_device_put_kvm
from ..machine import Machine
from ..topology import DeviceSpec, Topology
from .changed import changed
from .programs import DEV, IOMMU, bind, listed_for_a_vm, make
from .puzzle import Puzzle, can_end

NODES = "/dev/vfio/devices"

# ---- R13


@changed(vfio_df_get_kvm_safe)
def take_a_vm_at_first_open() -> None:
    """Hold the VM that this file belongs to, unless the device is open already: then it has its VM, or none.

    + if await load(df.device.open_count) != 0:
    +     return
      async with df.kvm_ref_lock:
    """


@changed(vfio_device_put_kvm)
def give_the_vm_back_at_last_close() -> None:
    """Give back the VM that the device remembers, unless the device is still open: then somebody's BIND needs it.

    + if await load(device.open_count) != 0:
    +     return
      kvm = await load(device.kvm)
    """


R13 = Puzzle(
    name="R13",
    title="two files of one device, two VMs",
    story="Two programs have opened the same device, and each has put its file on the list of a VM of its own. Both bind, "
    "and the second one is refused. On its way out it gives back the VM that the device remembers, and that is not "
    "its own any more: the device in use has lost its VM, and the count of one VM is wrong for ever.",
    setup=partial(listed_for_a_vm, "A", "B"),
    calls={"A": [bind("A")], "B": [bind("B")]},
    properties=(
        "binding_keeps_its_vm",
        "vm_is_counted_by_who_points_to_it",
        can_end("A has the device, B is refused: EINVAL", A="0", B="EINVAL"),
        can_end("the other way round", A="EINVAL", B="0"),
    ),
    fixes={"vfio_df_get_kvm_safe": take_a_vm_at_first_open, "vfio_device_put_kvm": give_the_vm_back_at_last_close},
    happens="a failed bind through another file gave it away",
    shortest=(144,),
    source="drivers/vfio/device_cdev.c: vfio_df_ioctl_bind_iommufd; vfio_main.c: vfio_device_put_kvm (v7.2)",
)

# ---- R15

GROUP_FD, COMPAT, BY_GROUP, BY_NODE = 3, 4, 5, 6


def _open_through_the_group(trace: bool = True) -> Machine:
    """The graphics card is open through its group, which has an iommufd; its audio function is open through its own node."""
    machine = Machine("small", trace=trace)
    vmm = machine.process("vmm")
    vmm.open("/dev/vfio/2")
    vmm.ioctl(GROUP_FD, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(vmm.open(IOMMU).to_bytes(4, "little")))
    vmm.ioctl(GROUP_FD, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(b"0000:02:00.0\0"))
    vmm.open(f"{NODES}/vfio2")
    return machine


@rule(
    VfioGroup,
    "vfio_device_file",
    "vfio_device_file.access_granted",
    ("file.f_ref < 1", of_device),
    lock=lambda group: group.group_lock,
    guard="vfio_group.group_lock",
)
def one_way_into_a_group(engine: Engine, group: VfioGroup) -> Broken:
    """The devices of a group are in use through the group or through their nodes, never both."""
    files = [df for df in every(engine, VfioDeviceFile) if df.device.group is group and in_use(df)]
    by_group, by_node = ([df.device for df in files if (df.group is group) is way] for way in (True, False))
    if by_group and by_node:
        yield f"{by_group[0].oid} is in use through {group.oid}, and {by_node[0].oid} through its own node"


@changed(vfio_device_block_group)
def block_an_unused_group() -> None:
    """Also look for devices that are open through the group.

    Without a binding every open device is one of those, and the lock of the group keeps others from being opened so.

    - await store(group.cdev_device_open_cnt, await load(group.cdev_device_open_cnt) + 1)
    + bindings = await load(group.cdev_device_open_cnt)
    + async with group.device_lock:
    +     opens = [await load(one.open_count) for one in await load(group.device_list)]
    + used = not bindings and any(opens)
    + await refuse_if(used, Errno.EBUSY, "group_is_unused", "a device is open through the group")
    + await store(group.cdev_device_open_cnt, bindings + 1)
    """


R15 = Puzzle(
    name="R15",
    title="one group, two ways in",
    story="A program has opened a device through its group, which has an iommufd in the place of a container, and closes "
    "the group. In a container the open device would keep the group open; here nothing does. So another device of "
    "the group can be bound through its own node, although the group is still in use.",
    setup=_open_through_the_group,
    calls={"A": [("vmm", "close", GROUP_FD), ("vmm", "close", BY_GROUP)], "B": [bind("vmm", BY_NODE, COMPAT)]},
    properties=(
        one_way_into_a_group,
        can_end("while the group is open its devices cannot be bound through their nodes: EBUSY", A="0, 0", B="EBUSY"),
        can_end("a device can be bound through its node when the group is closed", A="0, 0", B="0"),
    ),
    fixes={"vfio_device_block_group": block_an_unused_group},
    happens="through its own node",
    shortest=(98,),
    source="drivers/vfio/group.c: vfio_device_block_group, vfio_group_fops_release (v7.2)",
)

# ---- R16

SATA = "0000:03:00.1"  # in the same iommu_group as the USB controller
AHCI = "/sys/bus/pci/drivers/ahci"


def _user_and_kernel(trace: bool = True) -> Machine:
    machine = Machine("small", trace=trace)
    vmm = machine.process("vmm")
    vmm.open(f"{NODES}/vfio3")
    vmm.open(IOMMU)
    machine.process("admin")
    return make(machine, ("admin", "write_file", f"{AHCI}/unbind", SATA))


R16 = Puzzle(
    name="R16",
    title="a kernel driver takes a neighbour",
    story="A program binds a device while the administrator gives another function of the same iommu_group to a kernel "
    "driver. The IOMMU cannot tell the two apart, so only one side may have their DMA. Both sides look whether the "
    "group is free and then take it.",
    setup=_user_and_kernel,
    calls={"A": [bind("vmm")], "B": [("admin", "write_file", f"{AHCI}/{what}", SATA) for what in ("bind", "unbind")]},
    properties=(
        "dma_has_one_owner",
        can_end("the program has the DMA of the group, the kernel driver gets EBUSY", A="0", B="EBUSY, ENODEV"),
        can_end("the kernel driver has the DMA of the group, the program gets EPERM", A="EPERM", B="12, 12"),
    ),
    without=("dma_owner_is_same", "dma_not_of_user_space"),
    vast={
        "iommu_group.mutex": (
            "iommu_group 3 serves iommufd_device A1 of user space and device sata of the kernel at the same time",
            102,
        )
    },
    happens="at the same time",
    shortest=(100, 104),
    leaves_out=("attached_devices_hold_their_table",),
    source="drivers/iommu/iommu.c: iommu_device_claim_dma_owner, iommu_device_use_default_domain (v7.2)",
)

# ---- R17


def _two_owners(trace: bool = True) -> Machine:
    """Two programs, with the two functions of the graphics card and an iommufd each."""
    machine = Machine("small", trace=trace)
    for name, node in (("A", "vfio1"), ("B", "vfio2")):
        process = machine.process(name)
        process.open(f"{NODES}/{node}")
        process.open(IOMMU)
    return machine


R17 = Puzzle(
    name="R17",
    title="two devices of one group, two iommufds",
    story="Two programs bind two devices of the same iommu_group, each to an iommufd of its own. The hardware has one "
    "page table for the whole group: if both had it, the second one's attachment would move the DMA of the first "
    "one's device into its own memory.",
    setup=_two_owners,
    calls={"A": [bind("A")], "B": [bind("B")]},
    properties=(
        "dma_has_one_owner",
        can_end("the iommufd of A owns the group, B gets EPERM", A="0", B="EPERM"),
        can_end("the other way round", A="EPERM", B="0"),
    ),
    without=("dma_owner_is_same",),
    happens="but a device of it is bound elsewhere",
    shortest=(160,),
    source="drivers/iommu/iommu.c: iommu_device_claim_dma_owner (v7.2)",
)

# ---- R23

ONE_BUS = Topology(
    "one bus",
    tuple(
        DeviceSpec(name, f"0000:01:00.{number}", number + 1, model="has a group of its own", dev_set="bus 0000:01")
        for number, name in enumerate(("left", "right"))
    ),
)
RIGHT = 5  # the descriptor of the second device


def _both_bound(trace: bool = True) -> Machine:
    """The program "owner" has both devices, bound to its iommufd; "other" has the second one open, too."""
    machine = Machine(ONE_BUS, trace=trace)
    owner = machine.process("owner")
    for path in (f"{NODES}/vfio0", IOMMU, f"{NODES}/vfio1"):
        owner.open(path)
    other = machine.process("other")
    for path in (f"{NODES}/vfio1", IOMMU):
        other.open(path)
    return make(machine, bind("owner"), bind("owner", RIGHT))


@rule(VfioDeviceSet, "device.in_reset", "vfio_device_set.device_list", "vfio_device.iommufd_device")
def one_owner_in_a_reset(engine: Engine, dev_set: VfioDeviceSet) -> Broken:
    """While a bus is reset its devices are bound to one iommufd at most."""
    idevs = [device.iommufd_device.value for device in dev_set.device_list.value if device.dev.in_reset.value]
    owners = list(dict.fromkeys(idev.ictx.oid for idev in idevs if idev is not None))
    if len(owners) > 1:
        yield f"{dev_set.oid} is being reset, with devices of {' and of '.join(owners)}"


R23 = Puzzle(
    name="R23",
    title="reset while a neighbour changes hands",
    story="A program resets the bus of its device, which it may because it has all devices there. Meanwhile it gives one "
    "of them up, and another program binds that. If the check and the reset are not one step, the reset hits a "
    "device in the middle of its work.",
    setup=_both_bound,
    calls={
        "A": [("owner", "ioctl", DEV, uapi.VFIO_DEVICE_PCI_HOT_RESET, uapi.VfioPciHotReset(argsz=12))],
        "B": [("owner", "close", RIGHT)],
        "C": [bind("other")],
    },
    properties=(
        one_owner_in_a_reset,
        can_end("a program that has all devices of the bus can reset it", A="0"),
        can_end(
            "a program that does not have all of them cannot: another program has one (EINVAL)",
            A="EINVAL",
            B="0",
            C="0",
        ),
    ),
    without=("vfio_device_set.lock",),
    happens="is being reset, with devices of",
    shortest=(165,),
    leaves_out=(
        "gate_means_open",
        "binding_keeps_its_vm",
        "known_vm_lists_the_file",
        "group_counts_bindings",
        "open_device_has_open_files",
    ),
    source="drivers/vfio/pci/vfio_pci_core.c: vfio_pci_dev_set_hot_reset (v7.2)",
)

PUZZLES = (R13, R15, R16, R17, R23)
