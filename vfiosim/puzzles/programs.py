"""What the programs of several puzzles have in common: their nodes and descriptors, the machine on which they begin."""

from __future__ import annotations

from copy import copy
from typing import Any

from .. import uapi
from ..machine import Machine, Process
from ..topology import Topology

Call = tuple[Any, ...]  # as in the programs of `vfiosim.explore.explore`: process, call, arguments
NODE, GROUP, IOMMU = "/dev/vfio/devices/vfio0", "/dev/vfio/1", "/dev/iommu"
DEV, CTX = 3, 4  # the descriptors of a program that has opened its device, then an iommufd


def bind(process: str, dev: int = DEV, ctx: int = CTX, token: int = 0) -> Call:
    """VFIO_DEVICE_BIND_IOMMUFD by the program `process`, of its descriptor `dev` to its iommufd `ctx`.

    `token`: where in its memory the token of a virtual function lies (16 bytes), 0 for none.
    """
    flags = uapi.VFIO_DEVICE_BIND_FLAG_TOKEN if token else 0
    wish = uapi.VfioDeviceBindIommufd(argsz=24, flags=flags, iommufd=ctx, token_uuid_ptr=token)
    return (process, "ioctl", dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, wish)


def ask(request: int, argument: Any, fd: int = CTX) -> Call:
    """A request of the program "vmm" to its iommufd, or to another descriptor."""
    return ("vmm", "ioctl", fd, request, argument)


def ready_to_bind(*names: str, topology: Topology | str = "small", trace: bool = True) -> Machine:
    """A machine with programs of these names, of which each has the first device and an iommufd open."""
    machine = Machine(topology, trace=trace)
    for name in names:
        process = machine.process(name)
        process.open(NODE)
        process.open(IOMMU)
    return machine


def make(machine: Machine, *calls: Call) -> Machine:
    """The machine after these calls, each as in a program: (process, call, arguments...). Raises what a call fails with.

    The arguments stay as they are: what the kernel writes back goes into copies.
    """
    for process, name, *arguments in calls:
        machine.processes[process].start(name, *map(copy, arguments)).value()
    return machine


KVM_VFIO, VM = 5, 6  # the descriptors of a program that has made a VM with a kvm-vfio device
NUMBER_AT = 0x10_0000  # where such a program keeps the number of its device's descriptor


def new_vm(process: Process) -> tuple[int, int]:
    """The program makes a VM with a kvm-vfio device: their descriptors."""
    kvm = process.open("/dev/kvm")
    vm = process.ioctl(kvm, uapi.KVM_CREATE_VM)
    process.close(kvm)
    made = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
    process.ioctl(vm, uapi.KVM_CREATE_DEVICE, made)
    return vm, made.fd


def list_file(process: Process, kvm_vfio: int, fd: int) -> None:
    """The program puts an open file of its own on the list of a VM."""
    number = process.memory.map(4, fd.to_bytes(4, "little"))
    attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.KVM_DEV_VFIO_FILE_ADD, addr=number)
    process.ioctl(kvm_vfio, uapi.KVM_SET_DEVICE_ATTR, attr)


def give_vm(process: Process) -> None:
    """The program makes a VM with a kvm-vfio device, as VM and KVM_VFIO; the latter must be its lowest free descriptor."""
    new_vm(process)
    process.memory.map(4, DEV.to_bytes(4, "little"), address=NUMBER_AT)


def listed_for_a_vm(*names: str, trace: bool = True) -> Machine:
    """As `ready_to_bind`, where each program has a VM, and its device file on the list of that VM."""
    machine = ready_to_bind(*names, trace=trace)
    for name, process in machine.processes.items():
        give_vm(process)
        make(machine, change_list(name, uapi.KVM_DEV_VFIO_FILE_ADD))
    return machine


def change_list(process: str, attribute: int, kvm_vfio: int = KVM_VFIO) -> Call:
    """The program puts the file whose number lies at NUMBER_AT on the list of a VM, or takes it off (KVM_DEV_VFIO_FILE_DEL)."""
    attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=attribute, addr=NUMBER_AT)
    return (process, "ioctl", kvm_vfio, uapi.KVM_SET_DEVICE_ATTR, attr)
