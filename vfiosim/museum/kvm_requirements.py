"""What must still work in the rooms about virtual machines when they are mended."""

from __future__ import annotations

from functools import partial

from .. import uapi
from ..kernel.kvm.kvm import Kvm
from ..kernel.vfio.vfio import VfioDevice
from ..machine import Machine
from ..puzzles.programs import (
    DEV,
    GROUP,
    IOMMU,
    NODE,
    NUMBER_AT,
    bind,
    change_list,
    list_file,
    listed_for_a_vm,
    make,
    new_vm,
    ready_to_bind,
)
from ..uapi import KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL
from .requirements import Requirement, close

listed = partial(change_list, "vmm")

# ---- the failed second bind

# A device (3) that is listed for a VM, 6; 5 is its kvm-vfio, 4 an iommufd.
ready_for_a_vm = partial(listed_for_a_vm, "vmm")


def console_of_a_vm(trace: bool = True) -> Machine:
    """As `ready_for_a_vm`, with an emulated device."""
    machine = Machine("small", trace=trace)
    vmm = machine.process("vmm")
    vmm.open("/dev/vfio/devices/vfio4")
    vmm.open(IOMMU)
    _vm, kvm_vfio = new_vm(vmm)
    list_file(vmm, kvm_vfio, DEV)
    return machine


def bound_without_a_vm(trace: bool = True) -> Machine:
    """A device bound through descriptor 3 that has no VM; 7 is another file of it, listed for the VM 6 by 5; 4: an iommufd."""
    machine = ready_to_bind("vmm", trace=trace)
    vmm = machine.processes["vmm"]
    _vm, kvm_vfio = new_vm(vmm)
    list_file(vmm, kvm_vfio, vmm.open(NODE))
    return make(machine, bind("vmm"))


WITHOUT_A_VM = Requirement(
    "A device whose file is on no list must still be bound and closed, without a VM.",
    (bind("vmm"), close(DEV)),
    "0, 0",
    partial(ready_to_bind, "vmm"),
)


def device_has_its_vm(machine: Machine) -> bool:
    """Does a device know a VM, which it keeps alive?"""
    known = [device.kvm.value for device in machine.engine.objects.of(VfioDevice)]
    return any(kvm is not None and kvm.users_count.value for kvm in known)


def second_file_has_taken_no_vm(machine: Machine) -> bool:
    """Is the VM gone, which only a refused BIND could hold now?"""
    return not list(machine.engine.objects.of(Kvm))


def no_device_has_a_vm(machine: Machine) -> bool:
    """Has every device forgotten its VM?"""
    return all(device.kvm.value is None for device in machine.engine.objects.of(VfioDevice))


SECOND_BIND = (
    Requirement(
        "A BIND through another file must still be refused with EINVAL, and work when the first file is closed.",
        (bind("vmm", 7, 6), bind("vmm", 10, 6), close(3), close(5), bind("vmm", 10, 6)),
        "EINVAL, EINVAL, 0, 0, 0",
    ),
    Requirement(
        "The first BIND must still take the VM of its file: it lives on when the program has closed it.",
        (bind("vmm"), close(5), close(6)),
        "0, 0, 0",
        ready_for_a_vm,
        device_has_its_vm,
    ),
    Requirement(
        "The close of the device must still give its VM back.",
        (bind("vmm"), close(DEV), close(5), close(6)),
        "0, 0, 0, 0",
        ready_for_a_vm,
        no_device_has_a_vm,
    ),
    Requirement(
        "A refused BIND must leave the device its VM also where the device is an emulated one.",
        (("vmm", "open", "/dev/vfio/devices/vfio4"), bind("vmm"), bind("vmm", 7), close(5), close(6)),
        "7, 0, EINVAL, 0, 0",
        console_of_a_vm,
        device_has_its_vm,
    ),
    Requirement(
        "A refused BIND must hold no VM: that of its own file goes when the program has closed it.",
        (bind("vmm", 7), close(5), close(6)),
        "EINVAL, 0, 0",
        bound_without_a_vm,
        second_file_has_taken_no_vm,
    ),
    WITHOUT_A_VM,
)

# ---- the reference before the check

ONE_CONSOLE = (
    Requirement(
        "The VM must still get its first device, and EEXIST for a second one until the first is closed.",
        (bind("vmm", 5, 7), bind("vmm", 6, 7), listed(KVM_DEV_VFIO_FILE_DEL, 3), close(5), bind("vmm", 6, 7)),
        "0, EEXIST, 0, 0, 0",
    ),
    Requirement(
        "Without a VM both devices must still open.", (close(3), bind("vmm", 5, 7), bind("vmm", 6, 7)), "0, 0, 0"
    ),
)

# ---- the list that is used too long

LISTED_ONCE = (
    Requirement(
        "ADD must still tell the file its VM: a BIND takes it.",
        (listed(KVM_DEV_VFIO_FILE_ADD, 5), bind("vmm")),
        "0, 0",
        seen=device_has_its_vm,
    ),
    Requirement(
        "ADD must still refuse a file twice (EEXIST), one that is not of VFIO (EINVAL), and one that is not open (EBADF).",
        (
            listed(KVM_DEV_VFIO_FILE_ADD, 5),
            listed(KVM_DEV_VFIO_FILE_ADD, 5),
            listed(KVM_DEV_VFIO_FILE_DEL, 5),
            close(DEV),
            listed(KVM_DEV_VFIO_FILE_ADD, 5),
            ("vmm", "open", IOMMU),
            listed(KVM_DEV_VFIO_FILE_ADD, 5),
        ),
        "0, EEXIST, 0, 0, EBADF, 3, EINVAL",
    ),
)

# ---- the last put under the group's lock


def group_without_a_vm(trace: bool = True) -> Machine:
    """A VM (4) with a kvm-vfio (3), and a group (5) that has an iommufd (6) and is not listed yet."""
    machine = Machine("small", trace=trace)
    vmm = machine.process("vmm")
    new_vm(vmm)
    group, ctx = vmm.open(GROUP), vmm.open(IOMMU)
    vmm.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(ctx.to_bytes(4, "little")))
    vmm.memory.map(4, group.to_bytes(4, "little"), address=NUMBER_AT)
    return machine


OPEN_IT = ("vmm", "ioctl", 5, uapi.VFIO_GROUP_GET_DEVICE_FD, b"0000:01:00.0\0")
GROUP_AND_VM = (
    Requirement(
        "A group on the list of a VM must still know it: its device takes the VM, which lives on when the program has closed it.",
        (listed(KVM_DEV_VFIO_FILE_ADD, 3), OPEN_IT, close(3), close(4)),
        "0, 7, 0, 0",
        group_without_a_vm,
        device_has_its_vm,
    ),
    Requirement(
        "A group that is taken from the list must forget the VM.",
        (listed(KVM_DEV_VFIO_FILE_ADD, 3), listed(KVM_DEV_VFIO_FILE_DEL, 3), OPEN_IT),
        "0, 0, 7",
        group_without_a_vm,
        no_device_has_a_vm,
    ),
    Requirement(
        "A group on the list of a kvm-vfio that is closed must forget the VM.",
        (listed(KVM_DEV_VFIO_FILE_ADD, 3), close(3), OPEN_IT),
        "0, 0, 3",
        group_without_a_vm,
        no_device_has_a_vm,
    ),
)
