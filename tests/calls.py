"""Calls that many tests make, and what they look at: binding, VMs, groups and containers, address spaces, test devices."""

from __future__ import annotations

from ctypes import sizeof

import pytest

from vfiosim import KernelError, Machine, uapi
from vfiosim.engine import Count, Field
from vfiosim.topology import DeviceSpec, Topology

PAGE = 4096
READ_WRITE = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE
FIXED = uapi.IOMMU_IOAS_MAP_FIXED_IOVA
EVERYTHING = 2**64 - 1
READ_ONLY = 1
WITHOUT_IPC_LOCK = ("CAP_SYS_RAWIO", "CAP_SYS_RESOURCE")
DMA_READ_WRITE = uapi.VFIO_DMA_MAP_FLAG_READ | uapi.VFIO_DMA_MAP_FLAG_WRITE
V1, V2 = uapi.VFIO_TYPE1_IOMMU, uapi.VFIO_TYPE1v2_IOMMU


# ---- what is seen


def refused(call, *arguments, **named) -> str:
    """The name of the errno with which the call is refused."""
    with pytest.raises(KernelError) as caught:
        call(*arguments, **named)
    return caught.value.name


def counts(m) -> dict[str, int]:
    """Every reference count of the machine that is not zero, by path."""
    cells = (cell for thing in m.engine.objects.values() for cell in thing.cells())
    return {cell.path: cell.value for cell in cells if isinstance(cell, Count) and cell.value}


def fields(m) -> dict[str, object]:
    """Every field of the machine, by path."""
    cells = (cell for thing in m.engine.objects.values() for cell in thing.cells())
    return {cell.path: cell.value for cell in cells if isinstance(cell, Field)}


def watched(p, name, *arguments):
    """Make a call effect by effect, and look at all invariants in between."""
    call = p.start(name, *arguments, run=False)
    while call.step():
        assert p.machine.check() == []
    assert p.machine.check() == []
    return call.value()


# ---- the device's own node, and VMs


def bind(p, dev, iommu, **more):
    """BIND_IOMMUFD; the answer is the device's ID."""
    argument = uapi.VfioDeviceBindIommufd(iommufd=iommu, **more)
    p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, argument)
    return argument.out_devid


def vm(p) -> tuple[int, int]:
    """A VM and its kvm-vfio device."""
    kvm = p.open("/dev/kvm")
    number = p.ioctl(kvm, uapi.KVM_CREATE_VM)
    p.close(kvm)
    wanted = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
    p.ioctl(number, uapi.KVM_CREATE_DEVICE, wanted)
    return number, wanted.fd


def attr(p, kv, which, fd):
    address = p.memory.map(4, fd.to_bytes(4, "little"))
    return p.ioctl(
        kv, uapi.KVM_SET_DEVICE_ATTR, uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=which, addr=address)
    )


def add(p, kv, fd):
    return attr(p, kv, uapi.KVM_DEV_VFIO_FILE_ADD, fd)


# ---- groups and containers


def pointer(p, data: bytes):
    return p.memory.map(len(data), data)


def set_container(p, group, fd):
    return p.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, pointer(p, fd.to_bytes(4, "little", signed=True)))


def unset(p, group):
    return p.ioctl(group, uapi.VFIO_GROUP_UNSET_CONTAINER)


def device_fd(p, group, name: str):
    return p.ioctl(group, uapi.VFIO_GROUP_GET_DEVICE_FD, pointer(p, name.encode() + b"\0"))


def status(p, group) -> int:
    argument = uapi.VfioGroupStatus()
    p.ioctl(group, uapi.VFIO_GROUP_GET_STATUS, argument)
    return argument.flags


def address(m, device: str):
    return m.built.devices[device].address


def ready(p, number: int = 1, kind: int = V2) -> tuple[int, int]:
    """A group in a container with a driver."""
    group, container = p.open(f"/dev/vfio/{number}"), p.open("/dev/vfio/vfio")
    set_container(p, group, container)
    p.ioctl(container, uapi.VFIO_SET_IOMMU, kind)
    return group, container


def map_dma(p, container, iova, vaddr, size, flags=DMA_READ_WRITE):
    argument = uapi.VfioIommuType1DmaMap(flags=flags, vaddr=vaddr, iova=iova, size=size)
    return p.ioctl(container, uapi.VFIO_IOMMU_MAP_DMA, argument)


def unmap_dma(p, container, iova, size, flags=0) -> int:
    """How many bytes were unmapped."""
    argument = uapi.VfioIommuType1DmaUnmap(flags=flags, iova=iova, size=size)
    p.ioctl(container, uapi.VFIO_IOMMU_UNMAP_DMA, argument)
    return argument.size


def locked(p):
    return p.task.mm.value.locked_vm.value


# ---- without an IOMMU

NOIOMMU = uapi.VFIO_NOIOMMU_IOMMU
WITHOUT_ADDRESS = "0000:00:04.0"
WITHOUT = Topology(
    "without IOMMU",
    (
        DeviceSpec("nic", WITHOUT_ADDRESS, 0, noiommu=True),
        DeviceSpec("gpu", "0000:00:05.0", 1, noiommu=True),
        DeviceSpec("tty", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", 2, bus="mdev", driver="mtty"),
    ),
)


# ---- address spaces


class Space:
    """An iommufd with one address space, and a device that can be attached to it."""

    def __init__(self, p, node: str = "vfio0", mode: int = 0) -> None:
        self.p = p
        self.iommu = p.open("/dev/iommu")
        self.option(uapi.IOMMU_OPTION_RLIMIT_MODE, mode)
        self.dev = p.open(f"/dev/vfio/devices/{node}")
        self.devid = bind(p, self.dev, self.iommu)
        self.ioas = self.alloc()

    def alloc(self) -> int:
        argument = uapi.IommuIoasAlloc()
        self.p.ioctl(self.iommu, uapi.IOMMU_IOAS_ALLOC, argument)
        return argument.out_ioas_id

    def attach(self, pt=None) -> int:
        argument = uapi.VfioDeviceAttachIommufdPt(pt_id=self.ioas if pt is None else pt)
        self.p.ioctl(self.dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument)
        return argument.pt_id

    def detach(self) -> None:
        self.p.ioctl(self.dev, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.VfioDeviceDetachIommufdPt())

    def map(self, va: int, length: int = PAGE, iova: int | None = None, flags: int = READ_WRITE, p=None) -> int:
        fixed = 0 if iova is None else FIXED
        argument = uapi.IommuIoasMap(flags=flags | fixed, ioas_id=self.ioas, user_va=va, length=length, iova=iova or 0)
        (p or self.p).ioctl(self.iommu, uapi.IOMMU_IOAS_MAP, argument)
        return argument.iova

    def map_file(self, fd: int, length: int = PAGE, start: int = 0, p=None) -> int:
        argument = uapi.IommuIoasMapFile(flags=READ_WRITE, ioas_id=self.ioas, fd=fd, start=start, length=length)
        (p or self.p).ioctl(self.iommu, uapi.IOMMU_IOAS_MAP_FILE, argument)
        return argument.iova

    def copy(self, iova: int, length: int = PAGE, flags: int = READ_WRITE, to=None) -> int:
        argument = uapi.IommuIoasCopy(
            flags=flags, dst_ioas_id=to or self.ioas, src_ioas_id=self.ioas, length=length, src_iova=iova
        )
        self.p.ioctl(self.iommu, uapi.IOMMU_IOAS_COPY, argument)
        return argument.dst_iova

    def unmap(self, iova: int = 0, length: int = EVERYTHING) -> int:
        argument = uapi.IommuIoasUnmap(ioas_id=self.ioas, iova=iova, length=length)
        self.p.ioctl(self.iommu, uapi.IOMMU_IOAS_UNMAP, argument)
        return argument.length

    def ranges(self) -> tuple[list[tuple[int, int]], int]:
        place = self.p.mmap(PAGE)
        argument = uapi.IommuIoasIovaRanges(ioas_id=self.ioas, num_iovas=8, allowed_iovas=place)
        self.p.ioctl(self.iommu, uapi.IOMMU_IOAS_IOVA_RANGES, argument)
        data = self.p.memory.read(place, 16 * argument.num_iovas)
        numbers = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        return list(zip(numbers[::2], numbers[1::2], strict=True)), argument.out_iova_alignment

    def allow(self, *ranges: tuple[int, int]) -> None:
        data = b"".join(number.to_bytes(8, "little") for both in ranges for number in both)
        place = self.p.memory.map(PAGE, data)
        argument = uapi.IommuIoasAllowIovas(ioas_id=self.ioas, num_iovas=len(ranges), allowed_iovas=place)
        self.p.ioctl(self.iommu, uapi.IOMMU_IOAS_ALLOW_IOVAS, argument)

    def option(self, which: int, value: int, of: int = 0) -> None:
        argument = uapi.IommuOption(option_id=which, op=uapi.IOMMU_OPTION_OP_SET, object_id=of, val64=value)
        self.p.ioctl(self.iommu, uapi.IOMMU_OPTION, argument)

    def destroy(self, number: int) -> None:
        self.p.ioctl(self.iommu, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=number))

    def hwpt(self, flags: int = 0, pt: int | None = None) -> int:
        argument = uapi.IommuHwptAlloc(flags=flags, dev_id=self.devid, pt_id=self.ioas if pt is None else pt)
        self.p.ioctl(self.iommu, uapi.IOMMU_HWPT_ALLOC, argument)
        return argument.out_hwpt_id


# ---- the kernel's own test devices

FIRST = uapi.MOCK_APERTURE_START
PARENT = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
DIRTY = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
FAULTS = uapi.IOMMU_HWPT_FAULT_ID_VALID
SELFTEST = uapi.IOMMU_VIOMMU_TYPE_SELFTEST


class Lab:
    """An iommufd with one address space and one mock device attached to it."""

    def __init__(self, m: Machine, **more) -> None:
        self.m, self.p = m, m.process("vmm", **more)
        self.iommu = self.p.open("/dev/iommu")
        self.ioas = self.call(uapi.IommuIoasAlloc(), uapi.IOMMU_IOAS_ALLOC).out_ioas_id
        made = self.test("MOCK_DOMAIN", self.ioas).mock_domain
        self.st, self.auto, self.dev = made.out_stdev_id, made.out_hwpt_id, made.out_idev_id

    def call(self, argument, request):
        self.p.ioctl(self.iommu, request, argument)
        return argument

    def test(self, operation: str, number: int = 0, **arguments):
        fields = {name.replace("__", ".", 1): value for name, value in arguments.items()}
        wanted = uapi.IommuTestCmd(op=getattr(uapi, f"IOMMU_TEST_OP_{operation}"), id=number, **fields)
        return self.call(wanted, uapi.IOMMU_TEST_CMD)

    def hwpt(self, flags: int = 0, pt: int | None = None, data: uapi.Struct | None = None, fault: int = 0) -> int:
        wanted = uapi.IommuHwptAlloc(flags=flags, dev_id=self.dev, pt_id=pt or self.ioas, fault_id=fault)
        if data is not None:
            wanted.data_type, wanted.data_len = uapi.IOMMU_HWPT_DATA_SELFTEST, sizeof(data)
            wanted.data_uptr = self.p.memory.map(PAGE, bytes(data))
        return self.call(wanted, uapi.IOMMU_HWPT_ALLOC).out_hwpt_id

    def map(self, length: int = PAGE, iova: int = FIRST) -> int:
        address = self.p.memory.map(length)
        wanted = uapi.IommuIoasMap(
            flags=READ_WRITE | FIXED, ioas_id=self.ioas, user_va=address, length=length, iova=iova
        )
        self.call(wanted, uapi.IOMMU_IOAS_MAP)
        return address

    def destroy(self, number: int) -> None:
        self.call(uapi.IommuDestroy(id=number), uapi.IOMMU_DESTROY)

    def viommu(self, parent: int) -> int:
        wanted = uapi.IommuViommuAlloc(type=SELFTEST, dev_id=self.dev, hwpt_id=parent)
        return self.call(wanted, uapi.IOMMU_VIOMMU_ALLOC).out_viommu_id

    def vdevice(self, viommu: int, number: int = 0x99) -> int:
        wanted = uapi.IommuVdeviceAlloc(viommu_id=viommu, dev_id=self.dev, virt_id=number)
        return self.call(wanted, uapi.IOMMU_VDEVICE_ALLOC).out_vdevice_id

    def fault_queue(self) -> tuple[int, int]:
        made = self.call(uapi.IommuFaultAlloc(), uapi.IOMMU_FAULT_QUEUE_ALLOC)
        return made.out_fault_id, made.out_fault_fd

    def veventq(self, viommu: int, depth: int = 2) -> int:
        wanted = uapi.IommuVeventqAlloc(viommu_id=viommu, type=uapi.IOMMU_VEVENTQ_TYPE_SELFTEST, veventq_depth=depth)
        return self.call(wanted, uapi.IOMMU_VEVENTQ_ALLOC).out_veventq_fd
