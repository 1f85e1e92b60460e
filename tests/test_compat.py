"""Where the ways to a device meet: an iommufd that plays a container, device memory, and what a process leaves behind."""

from __future__ import annotations

from ctypes import sizeof

import pytest

from tests.calls import (
    DMA_READ_WRITE,
    PAGE,
    V1,
    V2,
    WITHOUT_IPC_LOCK,
    Space,
    address,
    counts,
    device_fd,
    locked,
    map_dma,
    ready,
    refused,
    set_container,
    status,
    unmap_dma,
    unset,
    watched,
)
from vfiosim import Machine, uapi
from vfiosim.topology import Topology

ONE_GROUP = Topology("one", Topology.named("lab").devices[:2], iommufd_container=True)


@pytest.fixture
def plain(m):
    """A process that may not lock more memory than its limit."""
    return m.process("plain", caps=WITHOUT_IPC_LOCK)


def compat_id(p, iommu) -> int:
    argument = uapi.IommuVfioIoas(op=uapi.IOMMU_VFIO_IOAS_GET)
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, argument)
    return argument.ioas_id


# ---- a group with an iommufd


@pytest.mark.parametrize(("number", "device", "kind"), [(1, "pci0", "iommufd_device"), (11, "mdev0", "iommufd_access")])
def test_the_first_open_attaches_the_device_to_the_compat_ioas_and_the_last_close_detaches_it(
    m, p, number, device, kind
):
    before = counts(m)
    group, iommu = p.open(f"/dev/vfio/{number}"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    destroy = uapi.IommuDestroy(id=compat_id(p, iommu))
    first, second = (device_fd(p, group, address(m, device)) for _ in range(2))
    assert m.built.vfio_devices[device].iommufd_attached.value
    assert refused(p.ioctl, iommu, uapi.IOMMU_DESTROY, destroy) == "EBUSY"
    p.close(second)
    assert refused(p.ioctl, iommu, uapi.IOMMU_DESTROY, destroy) == "EBUSY"
    p.close(first)
    p.ioctl(iommu, uapi.IOMMU_DESTROY, destroy)
    assert m.check() == []
    unset(p, group)
    p.close(group)
    p.close(iommu)
    assert counts(m) == before


def test_a_device_of_a_group_pins_what_the_iommufd_maps_as_a_container(m, p):
    group, iommu = p.open("/dev/vfio/1"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    assert p.ioctl(iommu, uapi.VFIO_SET_IOMMU, V2) == 0
    map_dma(p, iommu, 0x10000, p.mmap(4 * PAGE), 4 * PAGE)
    assert p.status()["VmPin"] == 0
    fd = device_fd(p, group, address(m, "pci0"))
    assert p.status()["VmPin"] == 16
    assert refused(unmap_dma, p, iommu, 0x11000, PAGE) == "ENOENT"
    assert unmap_dma(p, iommu, 0x10000, 4 * PAGE) == 4 * PAGE
    assert p.status()["VmPin"] == 0
    p.close(fd)
    assert m.check() == []


def test_an_attach_that_fails_closes_the_device_again(m, p):
    group, iommu = p.open("/dev/vfio/1"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    place = p.mmap(PAGE)
    map_dma(p, iommu, 0, place, PAGE)
    p.munmap(place, PAGE)
    before = counts(m)
    assert refused(device_fd, p, group, address(m, "pci0")) == "EFAULT"
    assert counts(m) == before
    assert m.built.vfio_devices["pci0"].open_count.value == 0
    assert m.check() == []


def test_no_invariant_is_broken_at_any_moment_of_an_attach_and_a_mapping(m, p):
    s = Space(p)
    wanted = uapi.IommuIoasMap(flags=3, ioas_id=s.ioas, user_va=p.mmap(PAGE), length=PAGE)
    attach = uapi.VfioDeviceAttachIommufdPt(pt_id=s.ioas)
    watched(p, "ioctl", s.iommu, uapi.IOMMU_IOAS_MAP, wanted)
    watched(p, "ioctl", s.dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach)
    everything = uapi.IommuIoasUnmap(ioas_id=s.ioas, length=2**64 - 1)
    watched(p, "ioctl", s.iommu, uapi.IOMMU_IOAS_UNMAP, everything)
    watched(p, "close", s.iommu)
    watched(p, "close", s.dev)


# ---- /dev/vfio/vfio is an iommufd


def test_a_kernel_whose_container_is_an_iommufd_serves_both_interfaces():
    m = Machine(ONE_GROUP)
    p = m.process("vmm")
    before = counts(m)
    group, container = p.open("/dev/vfio/1"), p.open("/dev/vfio/vfio")
    set_container(p, group, container)
    assert status(p, group) == 3
    assert p.ioctl(container, uapi.VFIO_SET_IOMMU, V1) == 0
    assert compat_id(p, container) == 1
    fd = device_fd(p, group, address(m, "pci0"))
    assert p.ioctl(fd, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo()) == 0
    for number in (fd, container, group):
        p.close(number)
    assert counts(m) == before
    assert m.check() == []


def test_such_a_container_charges_the_process_as_containers_do():
    m = Machine(ONE_GROUP)
    p = m.process("plain", caps=WITHOUT_IPC_LOCK)
    for path, charged in (("/dev/vfio/vfio", 4), ("/dev/iommu", 0)):
        group, container = p.open("/dev/vfio/1"), p.open(path)
        set_container(p, group, container)
        fd = device_fd(p, group, address(m, "pci0"))
        map_dma(p, container, 0, p.mmap(PAGE), PAGE)
        assert p.status() == {"VmLck": charged, "VmPin": 4}
        for number in (fd, group, container):
            p.close(number)
    assert m.check() == []


# ---- registers of a device are no memory


def test_an_iommufd_cannot_pin_the_registers_of_a_device(p):
    s = Space(p)
    registers = p.mmap(PAGE, fd=s.dev)
    s.map(registers, iova=0)  # nothing is pinned before somebody needs it
    assert refused(s.attach) == "EFAULT"
    s.unmap()
    s.attach()
    assert refused(s.map, registers) == "EFAULT"
    p.munmap(registers, PAGE)


def test_a_container_maps_registers_without_charging_them(m, plain):
    group, container = ready(plain)
    fd = device_fd(plain, group, address(m, "pci0"))
    registers = plain.mmap(2 * PAGE, fd=fd)
    map_dma(plain, container, 0, registers, 2 * PAGE, DMA_READ_WRITE)
    assert locked(plain) == 0
    map_dma(plain, container, 0x10000, plain.mmap(PAGE), PAGE)
    assert locked(plain) == 1
    assert unmap_dma(plain, container, 0, 2 * PAGE) == 2 * PAGE
    assert locked(plain) == 1
    assert m.check() == []


def test_registers_stay_registers_when_their_mapping_is_cut_protected_or_inherited(p):
    s = Space(p)
    registers = p.mmap(4 * PAGE, fd=s.dev)
    p.munmap(registers + PAGE, PAGE)
    p.mprotect(registers + 2 * PAGE, PAGE, 1)
    s.attach()
    child = p.fork("child")
    for who, page in ((p, 0), (p, 3), (child, 0), (child, 3)):
        assert refused(s.map, registers + page * PAGE, p=who) == "EFAULT"


# ---- what mtty tells, and what a fault queue answers


def test_mtty_knows_its_interrupts_once_somebody_has_asked_for_its_info(p):
    s = Space(p, "vfio8")
    info = uapi.VfioIrqInfo(index=0)
    assert refused(p.ioctl, s.dev, uapi.VFIO_DEVICE_GET_IRQ_INFO, info) == "EINVAL"
    p.ioctl(s.dev, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo())
    p.ioctl(s.dev, uapi.VFIO_DEVICE_GET_IRQ_INFO, info)
    assert info.count == 1


def test_a_fault_queue_takes_whole_faults_and_whole_answers(p):
    iommu = p.open("/dev/iommu")
    queue = uapi.IommuFaultAlloc()
    p.ioctl(iommu, uapi.IOMMU_FAULT_QUEUE_ALLOC, queue)
    fd, size = queue.out_fault_fd, sizeof(uapi.IommuHwptPgfault)
    assert p.read(fd, 2 * size) == b""
    assert refused(p.read, fd, size + 1) == "ESPIPE"
    assert refused(p.write, fd, b"\0") == "ESPIPE"
    assert refused(p.write, fd, bytes(sizeof(uapi.IommuHwptPageResponse))) == "EINVAL"
    assert p.poll(fd, 5) == 4
    p.exec()
    assert refused(p.close, fd) == "EBADF"  # it was made with O_CLOEXEC


# ---- users


def test_pinned_memory_is_charged_to_the_user_that_a_process_has_become(m, plain):
    s = Space(plain)
    s.attach()
    s.map(plain.mmap(PAGE))
    before = plain.task.user.value
    assert before.locked_vm.value == 1
    plain.setuid(1000)
    assert plain.task.user.value.uid == 1000
    s.map(plain.mmap(2 * PAGE), 2 * PAGE)
    assert (before.locked_vm.value, plain.task.user.value.locked_vm.value) == (1, 2)
    s.unmap()
    assert (before.locked_vm.value, plain.task.user.value.locked_vm.value) == (0, 0)
    assert m.check() == []


# ---- exec


def test_exec_begins_with_empty_memory_and_the_old_one_cannot_be_pinned_any_more(m, p):
    s = Space(p)
    s.map(p.mmap(PAGE), iova=0)
    pinned = p.fork("other")
    place = p.mmap(PAGE)
    old = p.task.mm.value
    p.exec()
    assert p.task.mm.value is not old
    assert old.mm_users.value == 0
    assert refused(p.memory.read, place, 1) == "EFAULT"
    assert refused(s.attach) == "EFAULT"
    s.unmap()
    s.attach()
    s.map(p.mmap(PAGE))
    assert p.status()["VmPin"] == 4
    pinned.exit()
    assert m.check() == []


def test_exec_ends_the_mappings_of_a_device(m, p):
    s = Space(p)
    p.mmap(PAGE, fd=s.dev)
    p.exec()
    before = m.built.vfio_devices["pci0"].open_count.value
    p.close(s.dev)
    assert (before, m.built.vfio_devices["pci0"].open_count.value) == (1, 0)
    assert m.check() == []
