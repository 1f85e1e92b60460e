"""What is done in the lesson about devices without DMA: one BIND of one device, in each of four kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .. import uapi
from ..kernel.task import ALL_CAPABILITIES
from ..machine import Machine, Process
from ..topology import DeviceSpec, Topology
from ..trace import Trace
from ..uapi import KernelError

KERNELS = ("v5", "v5r", "v6.6", "v7.2")
BARE = Topology("without", (DeviceSpec("nic", "0000:00:04.0", 0, noiommu=True),))
DEVICES = {  # the node's number on the machine "versions", and what it is
    "nic": (0, "a network card behind an IOMMU"),
    "ccw": (5, "emulated; its driver can bind"),
    "tty": (4, "emulated; a sample driver"),
    "led": (6, "no DMA at all; its driver cannot bind"),
    "bare": (0, "a network card with no IOMMU; iommufd is -1"),
}


@dataclass(frozen=True)
class Attempt:
    """A BIND of a device in a kernel: the machine, the program, how it ended ("ENODEV", "ID 1"), and its steps."""

    machine: Machine
    process: Process
    result: str
    began: int

    @cached_property
    def steps(self) -> Trace:
        """The steps of the open, where that was refused, else of the BIND."""
        return self.machine.trace[self.began :]

    @property
    def in_words(self) -> str:
        """The kernel, the call and how it ended, in one line."""
        return f"{self.machine.kernel}: {self.steps[0].sentence.removesuffix('.')} → {self.result}"


def bind(kernel: str, device: str, caps: tuple[str, ...] = ALL_CAPABILITIES, number: int = 0) -> Attempt:
    """Open one of `DEVICES` (4) and bind it to an iommufd (3); `number` is that of the request, by default the kernel's own."""
    machine = Machine(BARE if device == "bare" else "versions", kernel=kernel)
    process = machine.process("vmm", caps=caps)
    iommufd = process.open("/dev/iommu")
    began = len(machine.trace)
    try:
        fd = process.open(f"/dev/vfio/devices/vfio{DEVICES[device][0]}")
        began = len(machine.trace)
        argument = machine.variant.layout(iommufd=-1 if device == "bare" else iommufd)
        process.ioctl(fd, number or machine.variant.bind_request, argument)
    except KernelError as problem:
        return Attempt(machine, process, problem.name, began)
    return Attempt(machine, process, f"ID {argument.out_devid}", began)


def asked(made: Attempt, device_id: int) -> Attempt:
    """What IOMMU_GET_HW_INFO says to an ID."""
    began = len(made.machine.trace)
    try:
        made.process.ioctl(3, uapi.IOMMU_GET_HW_INFO, uapi.IommuHwInfo(dev_id=device_id))
    except KernelError as problem:
        return Attempt(made.machine, made.process, problem.name, began)
    return Attempt(made.machine, made.process, "0", began)


def by_group(kernel: str) -> Attempt:
    """The led by the file of its group, with an iommufd as container."""
    machine = Machine("versions", kernel=kernel)
    process = machine.process("vmm")
    iommufd, group = process.open("/dev/iommu"), process.open("/dev/vfio/6")
    ioas = uapi.IommuIoasAlloc()
    process.ioctl(iommufd, uapi.IOMMU_IOAS_ALLOC, ioas)
    process.ioctl(iommufd, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(ioas_id=ioas.out_ioas_id, op=1))
    process.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(iommufd.to_bytes(4, "little")))
    began = len(machine.trace)
    name = bytearray(machine.built.devices["led"].address.encode() + b"\0")
    return Attempt(machine, process, str(process.ioctl(group, uapi.VFIO_GROUP_GET_DEVICE_FD, name)), began)
