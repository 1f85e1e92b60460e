"""Calls that succeed, each on a machine of its own on which everything is ready for it; and two that are refused.

`CALLS` has them by name: a function that makes the machine, and answers it with the call (process, name, arguments...).
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import sizeof
from typing import Any

from tests.calls import (
    FAULTS,
    FIRST,
    NOIOMMU,
    PAGE,
    PARENT,
    READ_WRITE,
    SELFTEST,
    WITHOUT,
    WITHOUT_ADDRESS,
    Lab,
    Space,
    device_fd,
    pointer,
    set_container,
)
from vfiosim import Machine, uapi
from vfiosim.kernel.fs.file import O_RDWR
from vfiosim.topology import DeviceSpec, Topology

Made = tuple[Machine, tuple[Any, ...]]
CALLS: dict[str, Callable[[], Made]] = {}

BIND, ATTACH = uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT
NIC, MDEV = "0000:00:04.0", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
TYPE1 = uapi.VFIO_TYPE1v2_IOMMU
CARD = Topology(
    "card",
    (
        DeviceSpec("pf", "0000:04:00.0", 13, model="nvme", vfs=1),
        DeviceSpec("vf", "0000:04:00.1", 14, model="nvme VF", physfn="0000:04:00.0"),
    ),
)


def good(function: Callable[[], Made]) -> Callable[[], Made]:
    """A row of the table; its name is that of the function."""
    CALLS[function.__name__] = function
    return function


def vmm(topology: Topology | str = "lab"):
    """A machine with one program."""
    machine = Machine(topology)
    return machine, machine.process("vmm")


def ioctl(fd: int, request: int, argument: Any = 0, process: str = "vmm") -> tuple[Any, ...]:
    """The call as a row has it."""
    return (process, "ioctl", fd, request, argument)


def kvm(p):
    """A VM and its list of VFIO files, as descriptors."""
    vm = p.ioctl(p.open("/dev/kvm"), uapi.KVM_CREATE_VM)
    made = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
    p.ioctl(vm, uapi.KVM_CREATE_DEVICE, made)
    return vm, made.fd


def add(p, listed: int, fd: int, attr: int = uapi.KVM_DEV_VFIO_FILE_ADD) -> tuple[Any, ...]:
    """The request that puts a file on the list of a VM."""
    place = pointer(p, fd.to_bytes(4, "little"))
    return ioctl(listed, uapi.KVM_SET_DEVICE_ATTR, uapi.KvmDeviceAttr(group=1, attr=attr, addr=place))


def ready(node: str = "vfio0", topology: Topology | str = "lab"):
    """A program with a device and an iommufd open."""
    machine, p = vmm(topology)
    return machine, p, p.open(f"/dev/vfio/devices/{node}"), p.open("/dev/iommu")


def in_container(address: str = NIC, number: int = 1):
    """A group in a container whose driver serves it."""
    machine, p = vmm()
    group, container = p.open(f"/dev/vfio/{number}"), p.open("/dev/vfio/vfio")
    set_container(p, group, container)
    p.ioctl(container, uapi.VFIO_SET_IOMMU, TYPE1)
    return machine, p, group, container


# ---- the device's own node


@good
def open_node() -> Made:
    return vmm()[0], ("vmm", "open", "/dev/vfio/devices/vfio0", O_RDWR)


@good
def bind_plain() -> Made:
    machine, _, dev, iommu = ready()
    return machine, ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))


@good
def bind_for_a_vm() -> Made:
    machine, p, dev, iommu = ready()
    p.ioctl(*add(p, kvm(p)[1], dev)[2:])
    return machine, ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))


@good
def bind_emulated() -> Made:
    machine, _, dev, iommu = ready("vfio8")
    return machine, ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))


@good
def bind_without_an_iommufd() -> Made:
    machine = Machine("versions", kernel="v5r")
    dev = machine.process("vmm").open("/dev/vfio/devices/vfio0")
    return machine, ioctl(dev, machine.variant.bind_request, machine.variant.layout(argsz=16, iommufd=-1))


@good
def bind_as_it_was_posted() -> Made:
    machine = Machine("versions", kernel="v5")
    p = machine.process("vmm")
    dev, iommu = p.open("/dev/vfio/devices/vfio5"), p.open("/dev/iommu")
    return machine, ioctl(dev, machine.variant.bind_request, machine.variant.layout(argsz=16, iommufd=iommu))


@good
def bind_with_a_token() -> Made:
    machine, p, dev, iommu = ready(topology=CARD)
    token = pointer(p, b"sixteen bytes ok")
    flags = uapi.VFIO_DEVICE_BIND_FLAG_TOKEN
    return machine, ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu, flags=flags, token_uuid_ptr=token))


@good
def bind_a_virtual_function() -> Made:
    machine, p, dev, iommu = ready(topology=CARD)
    where = pointer(p, b"sixteen bytes ok")
    asked = {"iommufd": iommu, "flags": uapi.VFIO_DEVICE_BIND_FLAG_TOKEN, "token_uuid_ptr": where}
    p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(**asked))
    vf = p.open("/dev/vfio/devices/vfio1")
    return machine, ioctl(vf, BIND, uapi.VfioDeviceBindIommufd(**asked))


@good
def bind_the_second_of_a_group() -> Made:
    machine, p, first, iommu = ready("vfio3")
    p.ioctl(first, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    return machine, ioctl(p.open("/dev/vfio/devices/vfio4"), BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))


@good
def a_second_bind_is_refused_while_the_first_has_a_vm() -> Made:
    machine, p, dev, iommu = ready()
    p.ioctl(*add(p, kvm(p)[1], dev)[2:])
    p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    other = p.open("/dev/vfio/devices/vfio0")
    return machine, ioctl(other, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))


@good
def a_second_bind_is_refused_and_has_a_vm_of_its_own() -> Made:
    machine, p, dev, iommu = ready()
    p.ioctl(*add(p, kvm(p)[1], dev)[2:])
    p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    other = p.open("/dev/vfio/devices/vfio0")
    p.ioctl(*add(p, kvm(p)[1], other)[2:])
    return machine, ioctl(other, BIND, uapi.VfioDeviceBindIommufd(iommufd=iommu))


def space(node: str = "vfio0"):
    """A bound device and an address space with one mapping."""
    machine, p = vmm()
    s = Space(p, node)
    s.map(p.memory.map(2 * PAGE), 2 * PAGE, iova=16 * PAGE)
    return machine, p, s


@good
def attach_to_an_address_space() -> Made:
    machine, _, s = space()
    return machine, ioctl(s.dev, ATTACH, uapi.VfioDeviceAttachIommufdPt(pt_id=s.ioas))


@good
def attach_to_a_page_table() -> Made:
    machine, p, s = space()
    made = uapi.IommuHwptAlloc(dev_id=s.devid, pt_id=s.ioas)
    p.ioctl(s.iommu, uapi.IOMMU_HWPT_ALLOC, made)
    return machine, ioctl(s.dev, ATTACH, uapi.VfioDeviceAttachIommufdPt(pt_id=made.out_hwpt_id))


@good
def replace_an_address_space() -> Made:
    machine, _, s = space()
    s.attach()
    return machine, ioctl(s.dev, ATTACH, uapi.VfioDeviceAttachIommufdPt(pt_id=s.alloc()))


@good
def attach_emulated() -> Made:
    machine, _, s = space("vfio8")
    return machine, ioctl(s.dev, ATTACH, uapi.VfioDeviceAttachIommufdPt(pt_id=s.ioas))


@good
def replace_emulated() -> Made:
    machine, _, s = space("vfio8")
    s.attach()
    return machine, ioctl(s.dev, ATTACH, uapi.VfioDeviceAttachIommufdPt(pt_id=s.alloc()))


@good
def attach_a_pasid() -> Made:
    machine, p, s = space()
    made = uapi.IommuHwptAlloc(dev_id=s.devid, pt_id=s.ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)
    p.ioctl(s.iommu, uapi.IOMMU_HWPT_ALLOC, made)
    wanted = uapi.VfioDeviceAttachIommufdPt(pt_id=made.out_hwpt_id, flags=uapi.VFIO_DEVICE_ATTACH_PASID, pasid=7)
    return machine, ioctl(s.dev, ATTACH, wanted)


@good
def detach() -> Made:
    machine, _, s = space()
    s.attach()
    return machine, ioctl(s.dev, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.VfioDeviceDetachIommufdPt())


@good
def device_info() -> Made:
    machine, _, s = space()
    return machine, ioctl(s.dev, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo())


@good
def device_info_emulated() -> Made:
    machine, _, s = space("vfio8")
    return machine, ioctl(s.dev, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo())


@good
def region_info() -> Made:
    machine, _, s = space()
    return machine, ioctl(s.dev, uapi.VFIO_DEVICE_GET_REGION_INFO, uapi.VfioRegionInfo(index=0))


@good
def map_registers() -> Made:
    machine, _, s = space()
    return machine, ("vmm", "mmap", PAGE, 3, 1, s.dev, 0, None)


# ---- groups and containers


@good
def open_group() -> Made:
    return vmm()[0], ("vmm", "open", "/dev/vfio/1", O_RDWR)


@good
def group_status() -> Made:
    machine, p = vmm()
    return machine, ioctl(p.open("/dev/vfio/1"), uapi.VFIO_GROUP_GET_STATUS, uapi.VfioGroupStatus())


@good
def set_container_to_a_container() -> Made:
    machine, p = vmm()
    group, container = p.open("/dev/vfio/1"), p.open("/dev/vfio/vfio")
    return machine, ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, container.to_bytes(4, "little"))


@good
def set_container_to_an_iommufd() -> Made:
    machine, p = vmm()
    group, iommu = p.open("/dev/vfio/1"), p.open("/dev/iommu")
    return machine, ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, iommu.to_bytes(4, "little"))


@good
def a_second_group_into_a_container() -> Made:
    machine, p, _, container = in_container()
    return machine, ioctl(p.open("/dev/vfio/2"), uapi.VFIO_GROUP_SET_CONTAINER, container.to_bytes(4, "little"))


@good
def set_iommu() -> Made:
    machine, p = vmm()
    group, container = p.open("/dev/vfio/1"), p.open("/dev/vfio/vfio")
    set_container(p, group, container)
    return machine, ioctl(container, uapi.VFIO_SET_IOMMU, TYPE1)


@good
def unset_container() -> Made:
    machine, _, group, _ = in_container()
    return machine, ioctl(group, uapi.VFIO_GROUP_UNSET_CONTAINER)


def wanted_device(group: int, name: str) -> tuple[Any, ...]:
    """GET_DEVICE_FD of a name."""
    return ioctl(group, uapi.VFIO_GROUP_GET_DEVICE_FD, name.encode() + b"\0")


@good
def device_fd_in_a_container() -> Made:
    machine, _, group, _ = in_container()
    return machine, wanted_device(group, NIC)


@good
def device_fd_for_a_vm() -> Made:
    machine, p, group, _ = in_container()
    p.ioctl(*add(p, kvm(p)[1], group)[2:])
    return machine, wanted_device(group, NIC)


def by_iommufd(number: int):
    """A group with an iommufd in the place of a container."""
    machine, p = vmm()
    group = p.open(f"/dev/vfio/{number}")
    set_container(p, group, p.open("/dev/iommu"))
    return machine, p, group


@good
def device_fd_with_an_iommufd() -> Made:
    machine, _, group = by_iommufd(1)
    return machine, wanted_device(group, NIC)


@good
def device_fd_again() -> Made:
    machine, p, group = by_iommufd(1)
    device_fd(p, group, NIC)
    return machine, wanted_device(group, NIC)


@good
def device_fd_emulated() -> Made:
    machine, _, group = by_iommufd(11)
    return machine, wanted_device(group, MDEV)


@good
def device_fd_without_iommu() -> Made:
    machine, p = vmm(WITHOUT)
    group, container = p.open("/dev/vfio/noiommu-0"), p.open("/dev/vfio/vfio")
    set_container(p, group, container)
    p.ioctl(container, uapi.VFIO_SET_IOMMU, NOIOMMU)
    return machine, wanted_device(group, WITHOUT_ADDRESS)


def type1_map(p, pages: int = 2) -> uapi.VfioIommuType1DmaMap:
    """A mapping of two pages."""
    flags = uapi.VFIO_DMA_MAP_FLAG_READ | uapi.VFIO_DMA_MAP_FLAG_WRITE
    size = pages * PAGE
    return uapi.VfioIommuType1DmaMap(flags=flags, vaddr=p.memory.map(size), iova=16 * PAGE, size=size)


@good
def map_dma() -> Made:
    machine, p, _, container = in_container()
    return machine, ioctl(container, uapi.VFIO_IOMMU_MAP_DMA, type1_map(p))


@good
def unmap_dma() -> Made:
    machine, p, _, container = in_container()
    p.ioctl(container, uapi.VFIO_IOMMU_MAP_DMA, type1_map(p))
    wanted = uapi.VfioIommuType1DmaUnmap(argsz=24, iova=16 * PAGE, size=2 * PAGE)
    return machine, ioctl(container, uapi.VFIO_IOMMU_UNMAP_DMA, wanted)


@good
def unmap_the_middle_of_a_mapping_by_iommufd() -> Made:
    machine, p = vmm()
    group, iommu = p.open("/dev/vfio/1"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    p.ioctl(iommu, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1_IOMMU)
    p.ioctl(iommu, uapi.VFIO_IOMMU_MAP_DMA, type1_map(p, pages=3))
    wanted = uapi.VfioIommuType1DmaUnmap(argsz=24, iova=17 * PAGE, size=PAGE)
    return machine, ioctl(iommu, uapi.VFIO_IOMMU_UNMAP_DMA, wanted)


# ---- iommufd


@good
def open_iommufd() -> Made:
    return vmm()[0], ("vmm", "open", "/dev/iommu", O_RDWR)


@good
def ioas_alloc() -> Made:
    machine, p = vmm()
    return machine, ioctl(p.open("/dev/iommu"), uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())


def ioas_map_of(p, s, iova: int) -> tuple[Any, ...]:
    """MAP of a page."""
    flags = READ_WRITE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA
    wanted = uapi.IommuIoasMap(flags=flags, ioas_id=s.ioas, user_va=p.memory.map(PAGE), length=PAGE, iova=iova)
    return ioctl(s.iommu, uapi.IOMMU_IOAS_MAP, wanted)


@good
def ioas_map() -> Made:
    machine, p, s = space()
    return machine, ioas_map_of(p, s, 64 * PAGE)


@good
def ioas_map_for_a_device() -> Made:
    machine, p, s = space()
    s.attach()
    return machine, ioas_map_of(p, s, 64 * PAGE)


@good
def ioas_map_file() -> Made:
    machine, p, s = space()
    s.attach()
    wanted = uapi.IommuIoasMapFile(flags=READ_WRITE, ioas_id=s.ioas, fd=p.memfd(PAGE), length=PAGE)
    return machine, ioctl(s.iommu, uapi.IOMMU_IOAS_MAP_FILE, wanted)


@good
def ioas_copy() -> Made:
    machine, _, s = space()
    s.attach()
    wanted = uapi.IommuIoasCopy(
        flags=READ_WRITE, dst_ioas_id=s.ioas, src_ioas_id=s.ioas, length=PAGE, src_iova=16 * PAGE
    )
    return machine, ioctl(s.iommu, uapi.IOMMU_IOAS_COPY, wanted)


@good
def ioas_unmap() -> Made:
    machine, _, s = space()
    s.attach()
    wanted = uapi.IommuIoasUnmap(ioas_id=s.ioas, iova=16 * PAGE, length=2 * PAGE)
    return machine, ioctl(s.iommu, uapi.IOMMU_IOAS_UNMAP, wanted)


@good
def ioas_ranges() -> Made:
    machine, p, s = space()
    wanted = uapi.IommuIoasIovaRanges(ioas_id=s.ioas, num_iovas=8, allowed_iovas=p.mmap(PAGE))
    return machine, ioctl(s.iommu, uapi.IOMMU_IOAS_IOVA_RANGES, wanted)


@good
def ioas_allow() -> Made:
    machine, p, s = space()
    place = pointer(p, (16 * PAGE).to_bytes(8, "little") + (64 * PAGE).to_bytes(8, "little"))
    wanted = uapi.IommuIoasAllowIovas(ioas_id=s.ioas, num_iovas=1, allowed_iovas=place)
    return machine, ioctl(s.iommu, uapi.IOMMU_IOAS_ALLOW_IOVAS, wanted)


@good
def hwpt_alloc() -> Made:
    machine, _, s = space()
    return machine, ioctl(s.iommu, uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc(dev_id=s.devid, pt_id=s.ioas))


@good
def hw_info() -> Made:
    machine, p, s = space()
    wanted = uapi.IommuHwInfo(dev_id=s.devid, data_len=24, data_uptr=p.mmap(PAGE))
    return machine, ioctl(s.iommu, uapi.IOMMU_GET_HW_INFO, wanted)


@good
def destroy() -> Made:
    machine, _, s = space()
    return machine, ioctl(s.iommu, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=s.ioas))


@good
def set_option() -> Made:
    machine, _, s = space()
    wanted = uapi.IommuOption(option_id=uapi.IOMMU_OPTION_HUGE_PAGES, object_id=s.ioas, val64=0)
    return machine, ioctl(s.iommu, uapi.IOMMU_OPTION, wanted)


# ---- iommufd with the kernel's own test devices


def lab():
    """A mock device."""
    machine = Machine("lab")
    return machine, Lab(machine)


@good
def mock_device() -> Made:
    machine, made = lab()
    wanted = uapi.IommuTestCmd(op=uapi.IOMMU_TEST_OP_MOCK_DOMAIN, id=made.ioas)
    return machine, ioctl(made.iommu, uapi.IOMMU_TEST_CMD, wanted)


@good
def fault_queue() -> Made:
    machine, made = lab()
    return machine, ioctl(made.iommu, uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.IommuFaultAlloc())


@good
def hwpt_with_a_fault_queue() -> Made:
    machine, made = lab()
    wanted = uapi.IommuHwptAlloc(flags=FAULTS, dev_id=made.dev, pt_id=made.ioas, fault_id=made.fault_queue()[0])
    return machine, ioctl(made.iommu, uapi.IOMMU_HWPT_ALLOC, wanted)


@good
def hwpt_of_a_guest() -> Made:
    machine, made = lab()
    parent, data = made.hwpt(PARENT), uapi.IommuHwptSelftest()
    wanted = uapi.IommuHwptAlloc(dev_id=made.dev, pt_id=parent, data_type=uapi.IOMMU_HWPT_DATA_SELFTEST)
    wanted.data_len, wanted.data_uptr = sizeof(data), pointer(made.p, bytes(data))
    return machine, ioctl(made.iommu, uapi.IOMMU_HWPT_ALLOC, wanted)


@good
def viommu() -> Made:
    machine, made = lab()
    data = uapi.IommuViommuSelftest()
    wanted = uapi.IommuViommuAlloc(type=SELFTEST, dev_id=made.dev, hwpt_id=made.hwpt(PARENT))
    wanted.data_len, wanted.data_uptr = sizeof(data), pointer(made.p, bytes(data))
    return machine, ioctl(made.iommu, uapi.IOMMU_VIOMMU_ALLOC, wanted)


@good
def vdevice() -> Made:
    machine, made = lab()
    wanted = uapi.IommuVdeviceAlloc(viommu_id=made.viommu(made.hwpt(PARENT)), dev_id=made.dev, virt_id=9)
    return machine, ioctl(made.iommu, uapi.IOMMU_VDEVICE_ALLOC, wanted)


@good
def veventq() -> Made:
    machine, made = lab()
    wanted = uapi.IommuVeventqAlloc(viommu_id=made.viommu(made.hwpt(PARENT)), veventq_depth=2)
    wanted.type = uapi.IOMMU_VEVENTQ_TYPE_SELFTEST
    return machine, ioctl(made.iommu, uapi.IOMMU_VEVENTQ_ALLOC, wanted)


@good
def hw_queue() -> Made:
    machine, made = lab()
    virtual = made.viommu(made.hwpt(PARENT))
    made.map(2 * PAGE)
    wanted = uapi.IommuHwQueueAlloc(viommu_id=virtual, type=SELFTEST, nesting_parent_iova=FIRST, length=PAGE)
    return machine, ioctl(made.iommu, uapi.IOMMU_HW_QUEUE_ALLOC, wanted)


@good
def mock_access() -> Made:
    machine, made = lab()
    wanted = uapi.IommuTestCmd(op=uapi.IOMMU_TEST_OP_CREATE_ACCESS, id=made.ioas)
    return machine, ioctl(made.iommu, uapi.IOMMU_TEST_CMD, wanted)


@good
def mock_access_pins() -> Made:
    machine, made = lab()
    address = made.map(2 * PAGE)
    pins = uapi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES
    fd = made.test("CREATE_ACCESS", made.ioas, create_access__flags=pins).create_access.out_access_fd
    wanted = uapi.IommuTestCmd(op=uapi.IOMMU_TEST_OP_ACCESS_PAGES, id=fd)
    pages = wanted.access_pages
    pages.iova, pages.length, pages.uptr = FIRST, PAGE, address
    return machine, ioctl(made.iommu, uapi.IOMMU_TEST_CMD, wanted)


# ---- KVM, and files of all kinds


@good
def create_vm() -> Made:
    machine, p = vmm()
    return machine, ioctl(p.open("/dev/kvm"), uapi.KVM_CREATE_VM)


@good
def create_kvm_device() -> Made:
    machine, p = vmm()
    vm = p.ioctl(p.open("/dev/kvm"), uapi.KVM_CREATE_VM)
    return machine, ioctl(vm, uapi.KVM_CREATE_DEVICE, uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO))


@good
def add_a_file_to_a_vm() -> Made:
    machine, p, dev, _ = ready()
    return machine, add(p, kvm(p)[1], dev)


@good
def take_a_file_off_a_vm() -> Made:
    machine, p, dev, _ = ready()
    listed = kvm(p)[1]
    p.ioctl(*add(p, listed, dev)[2:])
    return machine, add(p, listed, dev, uapi.KVM_DEV_VFIO_FILE_DEL)


@good
def dup() -> Made:
    machine, _, dev, _ = ready()
    return machine, ("vmm", "dup", dev)


@good
def eventfd() -> Made:
    return vmm()[0], ("vmm", "eventfd")


@good
def memfd() -> Made:
    return vmm()[0], ("vmm", "memfd", PAGE)


@good
def socketpair() -> Made:
    return vmm()[0], ("vmm", "socketpair")


@good
def send_a_file() -> Made:
    machine, p, dev, _ = ready()
    return machine, ("vmm", "sendmsg_fds", p.socketpair()[0], (dev,))


@good
def close_the_last_socket_that_can_send_to_one_in_its_own_queue() -> Made:
    machine, p, dev, _ = ready()
    first, second = p.socketpair()
    p.sendmsg_fds(first, (second, dev))
    p.close(second)
    return machine, ("vmm", "close", first)


@good
def let_a_function_sleep_and_be_told_of_its_waking() -> Made:
    machine, p, dev, _ = ready()
    what = uapi.VFIO_DEVICE_FEATURE_SET | uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
    header = uapi.VfioDeviceFeature(argsz=16, flags=what)
    argument = pointer(p, bytes(header) + p.eventfd().to_bytes(4, "little") + bytes(4))
    return machine, ioctl(dev, uapi.VFIO_DEVICE_FEATURE, argument)


@good
def map_a_bar_by_its_file_of_sys() -> Made:
    machine, p = vmm()
    bar = p.open("/sys/bus/pci/devices/0000:01:00.0/resource0", O_RDWR)
    return machine, ("vmm", "mmap", PAGE, 3, 1, bar, 0)


@good
def list_the_iommu_groups() -> Made:
    return vmm()[0], ("vmm", "listdir", "/sys/kernel/iommu_groups")


@good
def unload_a_module() -> Made:
    return vmm()[0], ("vmm", "rmmod", "vfio-pci")
