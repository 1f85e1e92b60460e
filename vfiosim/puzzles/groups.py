"""Hazards around groups, device nodes and the gate of a device file: who may open, bind and use what, and how often."""

from __future__ import annotations

from functools import partial

from ..machine import Machine
from .programs import (
    CTX,
    DEV,
    GROUP,
    IOMMU,
    KVM_VFIO,
    VM,
    bind,
    listed_for_a_vm,
    make,
    ready_to_bind,
)
from .puzzle import Puzzle, can_end

CONFIG_SPACE = 7 << 40  # where it begins in a device file (VFIO_PCI_CONFIG_REGION_INDEX)


def _one_to_bind_one_to_open(trace: bool = True) -> Machine:
    machine = ready_to_bind("B", trace=trace)
    machine.process("A")
    return machine


def _two_iommufds(trace: bool = True) -> Machine:
    return make(ready_to_bind("vmm", trace=trace), ("vmm", "open", IOMMU))


PUZZLES = (
    Puzzle(
        name="R1",
        title="the group or its device",
        story="One program opens the group while another binds its device through the node. Each looks whether the other is "
        "there, then says that it is there itself. If both look before either has said so, both own the same group. "
        "A device is bound for the group as soon as cdev_device_open_cnt counts it; its binding is made later.",
        setup=_one_to_bind_one_to_open,
        calls={"A": [("A", "open", GROUP)], "B": [bind("B")]},
        properties=(
            "group_and_node_exclude_each_other",
            "group_counts_bindings",
            can_end("the group is opened, and the bind refused", A="3", B="EBUSY"),
            can_end("the device is bound, and the open refused", A="EBUSY", B="0"),
        ),
        without=("group_lock",),
        happens="is open and counts 1 of its devices as bound",
        shortest=(39,),
        source="drivers/vfio/group.c: vfio_group_fops_open, vfio_device_block_group (v7.2)",
    ),
    Puzzle(
        name="R2",
        title="two binds of one file",
        story="Two threads bind the same device file, each to an iommufd of its own. The second must be refused before it "
        "writes anything into the file. Otherwise it overwrites the pointer to the first iommufd, fails and clears it: the first "
        "iommufd is never given back. And both look and write under one lock, or each finds the file unbound.",
        setup=_two_iommufds,
        calls={"A": [bind("vmm")], "B": [bind("vmm", ctx=CTX + 1)]},
        properties=(
            "gate_means_open",
            can_end("A is first, and B refused", A="0", B="EINVAL"),
            can_end("B is first, and A refused", A="EINVAL", B="0"),
        ),
        without=("not_bound_yet",),
        vast={"vfio_device_set.lock": ("oops: A follows a null pointer in vfio_df_iommufd_bind", 85)},
        happens="does not hold the iommufd it is bound to",
        shortest=(138,),
        source="drivers/vfio/device_cdev.c: vfio_df_ioctl_bind_iommufd (v7.2)",
    ),
    Puzzle(
        name="R3",
        title="two files of one device",
        story="Two programs have opened the node of one device, each binds it to its own iommufd; the first one closes it "
        "again. Opening the node is free, but only one may bind. Otherwise the second uses a device whose DMA belongs to the "
        "first.",
        setup=partial(ready_to_bind, "A", "B"),
        calls={"A": [bind("A"), ("A", "close", DEV)], "B": [bind("B")]},
        properties=(
            "gate_means_open",
            can_end("A has the device, and B is refused", A="0, 0", B="EINVAL"),
            can_end("B has it after A has closed it", A="0, 0", B="0"),
            can_end("B is first, and A refused", A="EINVAL, 0", B="0"),
        ),
        without=("single_open",),
        happens="has open_count 2",
        shortest=(140,),
        leaves_out=("group_counts_bindings",),
        source="drivers/vfio/vfio_main.c: vfio_df_open (v7.2)",
    ),
    Puzzle(
        name="R4",
        title="bound while somebody reads",
        story="One thread binds a device file, another reads configuration space through it. The bind opens the gate last. If "
        "the processor may show the open gate before what was written earlier, the reader finds a device whose driver has no "
        "tables yet.",
        setup=partial(ready_to_bind, "vmm", topology="lab"),
        calls={"A": [bind("vmm")], "B": [("vmm", "read", DEV, 4, CONFIG_SPACE)]},
        properties=(
            can_end("the read comes too early, and the gate is shut", A="0", B="EINVAL"),
            can_end("the gate is open, and so is the device", A="0", B="34 12 e8 11"),
        ),
        without=("order of access_granted",),
        happens="through a table that is not there",
        shortest=(116,),
        source="drivers/vfio/device_cdev.c: vfio_df_ioctl_bind_iommufd; vfio_main.c: vfio_device_fops_read (v7.2)",
    ),
    Puzzle(
        name="R5",
        title="bound while its VM is closed",
        story="A device file knows its VM by a pointer that holds nothing. One thread binds the file and takes a reference to "
        "the VM; another closes the VM's descriptors, which clears the pointer. If the pointer is read before and used after "
        "that, the VM is gone.",
        setup=partial(listed_for_a_vm, "vmm"),
        calls={"A": [bind("vmm")], "B": [("vmm", "close", KVM_VFIO), ("vmm", "close", VM)]},
        properties=(can_end("the bind works, with the VM or without", A="0", B="0, 0"),),
        without=("kvm_ref_lock",),
        happens="use after free: A touches kvm 1.users_count",
        shortest=(69,),
        source="drivers/vfio/device_cdev.c: vfio_df_get_kvm_safe; virt/kvm/vfio.c: kvm_vfio_file_free (v7.2)",
    ),
)
