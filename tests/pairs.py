"""Small machines, each with the calls that one program can make on it next: any two of them can be made at the same time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

from vfiosim import Machine, Process, uapi
from vfiosim.kernel.fs.file import O_RDWR

Call = tuple[Any, ...]
Calls = dict[str, Call]
World = tuple[Callable[..., Machine], Calls]

NODE, GROUP, ADDRESS = "/dev/vfio/devices/vfio0", "/dev/vfio/1", "0000:01:00.0"
DRIVER = "/sys/bus/pci/drivers/vfio-pci/"
PAGE = 4096
IOVA = 16 * PAGE
CONFIG = 7 << 40
FIRST_FD = 3
IOAS = 2  # the first address space of an iommufd with one device


def ioctl(fd: int, request: int, argument: Any = 0) -> Call:
    """A request of the program."""
    return ("vmm", "ioctl", fd, request, argument)


def on_fd(**fds: int) -> Calls:
    """What can be done with any descriptor."""
    return {f"{name} {what}": ("vmm", name, fd) for what, fd in fds.items() for name in ("close", "dup")}


def bind(fd: int, iommu: int) -> Call:
    """BIND."""
    return ioctl(fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))


def bytes_of(number: int) -> bytes:
    """A descriptor as a request takes it."""
    return number.to_bytes(4, "little", signed=True)


FROM_OUTSIDE: Calls = {
    "open node": ("other", "open", NODE, O_RDWR),
    "open group": ("other", "open", GROUP, O_RDWR),
    "unbind": ("root", "write_file", f"{DRIVER}unbind", ADDRESS),
    "remove": ("root", "write_file", f"/sys/bus/pci/devices/{ADDRESS}/remove", "1"),
    "override": ("root", "write_file", f"/sys/bus/pci/devices/{ADDRESS}/driver_override", "none"),
}


def kvm(p: Process) -> tuple[int, int]:
    """A VM and its list of files."""
    vm = p.ioctl(p.open("/dev/kvm"), uapi.KVM_CREATE_VM)
    made = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
    p.ioctl(vm, uapi.KVM_CREATE_DEVICE, made)
    return vm, made.fd


def started(trace: bool) -> tuple[Machine, Process]:
    """A machine with the program, one that has devices open too, and one that changes drivers and has none open itself."""
    m = Machine("small", trace=trace)
    m.process("root"), m.process("other")
    return m, m.process("vmm")


# ---- a device that is not bound yet: two files of it, an iommufd, a VM


def unbound(trace: bool = True) -> Machine:
    """Descriptors 3 and 4 are the device, 5 the iommufd, 7 the VM, 8 its list; at 0x10000 is number 3."""
    m, p = started(trace)
    for path in (NODE, NODE, "/dev/iommu"):
        p.open(path)
    kvm(p)
    p.memory.map(PAGE, bytes_of(3), address=0x10000)
    return m


def with_a_vm(trace: bool = True) -> Machine:
    """The same, and the first file is on the list of the VM already."""
    m = unbound(trace)
    m.processes["vmm"].ioctl(*listed(uapi.KVM_DEV_VFIO_FILE_ADD)[2:])
    return m


def listed(attr: int) -> Call:
    """Put descriptor 3 on the list of the VM, or take it off."""
    return ioctl(8, uapi.KVM_SET_DEVICE_ATTR, uapi.KvmDeviceAttr(group=1, attr=attr, addr=0x10000))


UNBOUND: Calls = {
    "bind": bind(3, 5),
    "bind other": bind(4, 5),
    "add": listed(uapi.KVM_DEV_VFIO_FILE_ADD),
    "del": listed(uapi.KVM_DEV_VFIO_FILE_DEL),
    "info": ioctl(3, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo()),
    "ioas": ioctl(5, uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc()),
    **on_fd(dev=3, other=4, iommu=5, vm=7, list=8),
    **FROM_OUTSIDE,
}


# ---- a device that is bound and attached, with memory mapped


def attached(trace: bool = True) -> Machine:
    """3 is the device, 4 the iommufd, 5 an eventfd; IOAS 2 has a page at IOVA, 4 is an empty one. Memory at 0x20000."""
    m, p = started(trace)
    p.open(NODE), p.open("/dev/iommu")
    p.ioctl(*bind(3, 4)[2:])
    p.ioctl(4, uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())
    p.ioctl(*attach(IOAS)[2:])
    p.ioctl(4, uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())
    p.memory.map(4 * PAGE, address=0x20000)
    p.ioctl(*ioas_map(IOVA)[2:])
    p.eventfd()
    return m


def attach(pt: int) -> Call:
    """ATTACH."""
    return ioctl(3, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(pt_id=pt))


def ioas_map(iova: int) -> Call:
    """MAP a page."""
    return ioctl(
        4, uapi.IOMMU_IOAS_MAP, uapi.IommuIoasMap(flags=7, ioas_id=IOAS, user_va=0x20000, length=PAGE, iova=iova)
    )


ATTACHED: Calls = {
    "attach other": attach(4),
    "attach again": attach(IOAS),
    "detach": ioctl(3, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.VfioDeviceDetachIommufdPt()),
    "map": ioas_map(2 * IOVA),
    "map same": ioas_map(IOVA),
    "unmap": ioctl(4, uapi.IOMMU_IOAS_UNMAP, uapi.IommuIoasUnmap(ioas_id=IOAS, iova=IOVA, length=PAGE)),
    "copy": ioctl(
        4,
        uapi.IOMMU_IOAS_COPY,
        uapi.IommuIoasCopy(flags=7, dst_ioas_id=4, src_ioas_id=IOAS, length=PAGE, dst_iova=0, src_iova=IOVA),
    ),
    "hwpt": ioctl(4, uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc(dev_id=1, pt_id=IOAS)),
    "destroy ioas": ioctl(4, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=IOAS)),
    "destroy other": ioctl(4, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=4)),
    "destroy device": ioctl(4, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=1)),
    "read config": ("vmm", "read", 3, 4, CONFIG),
    "memory off": ("vmm", "write", 3, b"\0\0", CONFIG + 4),
    "interrupt": ioctl(3, uapi.VFIO_DEVICE_SET_IRQS, struct.pack("<5Ii", 24, 36, 1, 0, 1, 5)),
    "signal": ("vmm", "write", 5, (1).to_bytes(8, "little")),
    "reset": ioctl(3, uapi.VFIO_DEVICE_RESET),
    "mmap": ("vmm", "mmap", PAGE, 3, 1, 3, 0, None),
    **on_fd(dev=3, iommu=4, event=5),
    **FROM_OUTSIDE,
}


# ---- a group in a container, with a device of it open and memory mapped


def contained(trace: bool = True) -> Machine:
    """3 is the group, 4 the container, 5 the device, 6 a second container; a page is mapped at IOVA. Memory at 0x20000."""
    m, p = started(trace)
    p.open(GROUP), p.open("/dev/vfio/vfio")
    p.ioctl(3, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(bytes_of(4)))
    p.ioctl(4, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)
    p.ioctl(3, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(ADDRESS.encode() + b"\0"))
    p.open("/dev/vfio/vfio")
    p.memory.map(4 * PAGE, address=0x20000)
    p.ioctl(4, uapi.VFIO_IOMMU_MAP_DMA, map_dma(IOVA))
    return m


def map_dma(iova: int, flags: int = 3) -> uapi.VfioIommuType1DmaMap:
    """A mapping of a page."""
    return uapi.VfioIommuType1DmaMap(flags=flags, vaddr=0x20000, iova=iova, size=PAGE)


def unmap_dma(flags: int = 0) -> uapi.VfioIommuType1DmaUnmap:
    """The page that is mapped."""
    return uapi.VfioIommuType1DmaUnmap(flags=flags, iova=IOVA, size=PAGE)


CONTAINED: Calls = {
    "unset": ioctl(3, uapi.VFIO_GROUP_UNSET_CONTAINER),
    "set other": ioctl(3, uapi.VFIO_GROUP_SET_CONTAINER, bytes_of(6)),
    "status": ioctl(3, uapi.VFIO_GROUP_GET_STATUS, uapi.VfioGroupStatus()),
    "device": ioctl(3, uapi.VFIO_GROUP_GET_DEVICE_FD, ADDRESS.encode() + b"\0"),
    "map": ioctl(4, uapi.VFIO_IOMMU_MAP_DMA, map_dma(2 * IOVA)),
    "unmap": ioctl(4, uapi.VFIO_IOMMU_UNMAP_DMA, unmap_dma()),
    "let go": ioctl(4, uapi.VFIO_IOMMU_UNMAP_DMA, unmap_dma(uapi.VFIO_DMA_UNMAP_FLAG_VADDR)),
    "take over": ioctl(4, uapi.VFIO_IOMMU_MAP_DMA, map_dma(IOVA, uapi.VFIO_DMA_MAP_FLAG_VADDR)),
    "track": ioctl(4, uapi.VFIO_IOMMU_DIRTY_PAGES, struct.pack("<2I", 8, 1)),
    "iommu": ioctl(4, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU),
    "hot reset": ioctl(5, uapi.VFIO_DEVICE_PCI_HOT_RESET, struct.pack("<3Ii", 16, 0, 1, 3)),
    **on_fd(group=3, container=4, dev=5),
    **FROM_OUTSIDE,
}


# ---- a group with an iommufd


def by_iommufd_and_open(trace: bool = True) -> Machine:
    """The same, and 7 is the device."""
    m = by_iommufd(trace)
    m.processes["vmm"].ioctl(3, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(ADDRESS.encode() + b"\0"))
    return m


def by_iommufd(trace: bool = True) -> Machine:
    """3 is the group, 4 the iommufd, 5 a second one, 6 a container."""
    m, p = started(trace)
    for path in (GROUP, "/dev/iommu", "/dev/iommu", "/dev/vfio/vfio"):
        p.open(path)
    p.ioctl(3, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(bytes_of(4)))
    p.ioctl(4, uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())
    return m


BY_IOMMUFD: Calls = {
    "unset": ioctl(3, uapi.VFIO_GROUP_UNSET_CONTAINER),
    "set other": ioctl(3, uapi.VFIO_GROUP_SET_CONTAINER, bytes_of(5)),
    "status": ioctl(3, uapi.VFIO_GROUP_GET_STATUS, uapi.VfioGroupStatus()),
    "device": ioctl(3, uapi.VFIO_GROUP_GET_DEVICE_FD, ADDRESS.encode() + b"\0"),
    "into a container": ioctl(3, uapi.VFIO_GROUP_SET_CONTAINER, bytes_of(6)),
    "compat ioas": ioctl(4, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(op=0)),
    "destroy ioas": ioctl(4, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=1)),
    **on_fd(group=3, iommu=4, second=5, container=6),
    **FROM_OUTSIDE,
}


# ---- eventfds and sockets


def passing(trace: bool = True) -> Machine:
    """3 is an eventfd, 4 and 5 are two connected sockets, a message with the eventfd waits at 5."""
    m, p = started(trace)
    p.eventfd()
    p.socketpair()
    p.sendmsg_fds(4, [3])
    p.write(3, (1).to_bytes(8, "little"))
    return m


PASSING: Calls = {
    "send": ("vmm", "sendmsg_fds", 4, (3,)),
    "receive": ("vmm", "recvmsg_fds", 5),
    "receive here": ("vmm", "recvmsg_fds", 4),
    "signal": ("vmm", "write", 3, (1).to_bytes(8, "little")),
    "take": ("vmm", "read", 3, 8),
    "poll": ("vmm", "poll", 3, 1, 0),
    "wait": ("vmm", "poll", 3, 1, -1),
    **on_fd(event=3, one=4, two=5),
}

WORLDS: dict[str, World] = {
    "unbound": (unbound, UNBOUND),
    "with a VM": (with_a_vm, UNBOUND),
    "attached": (attached, ATTACHED),
    "contained": (contained, CONTAINED),
    "by iommufd": (by_iommufd, BY_IOMMUFD),
    "by iommufd, open": (by_iommufd_and_open, {**BY_IOMMUFD, **on_fd(dev=7)}),
    "passing": (passing, PASSING),
}
PAIRS = [
    (world, one, other)
    for world, (_, calls) in WORLDS.items()
    for one, other in combinations_with_replacement(calls, 2)
]
