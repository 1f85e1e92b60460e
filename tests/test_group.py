"""The legacy way to a device: group, container and type 1 driver through the public door, and a group with an iommufd."""

from __future__ import annotations

import pytest

from tests.calls import (
    DMA_READ_WRITE,
    PAGE,
    V1,
    V2,
    address,
    counts,
    device_fd,
    locked,
    map_dma,
    pointer,
    ready,
    refused,
    set_container,
    status,
    unmap_dma,
    unset,
    watched,
)
from vfiosim import KernelError, uapi
from vfiosim.engine import KernelOops

# ---- the order of the steps


def test_a_device_is_opened_after_container_and_driver(m, p):
    group = p.open("/dev/vfio/1")
    assert refused(device_fd, p, group, address(m, "pci0")) == "EINVAL"
    container = p.open("/dev/vfio/vfio")
    assert refused(p.ioctl, container, uapi.VFIO_SET_IOMMU, V2) == "EINVAL"
    set_container(p, group, container)
    assert refused(device_fd, p, group, address(m, "pci0")) == "EINVAL"
    assert refused(p.ioctl, container, uapi.VFIO_SET_IOMMU, 99) == "ENODEV"
    p.ioctl(container, uapi.VFIO_SET_IOMMU, V2)
    device = device_fd(p, group, address(m, "pci0"))
    info = uapi.VfioDeviceInfo()
    p.ioctl(device, uapi.VFIO_DEVICE_GET_INFO, info)
    assert info.num_regions == 9
    assert m.check() == []


def test_everything_taken_in_a_container_is_given_back(m, p):
    before = counts(m)
    group, container = ready(p)
    buffer = p.mmap(4 * PAGE)
    map_dma(p, container, 0, buffer, 4 * PAGE)
    device = device_fd(p, group, address(m, "pci0"))
    assert m.check() == []
    for fd in (container, group, device):
        p.close(fd)
    assert counts(m) == before
    assert locked(p) == 0
    assert m.check() == []


def test_the_group_owns_the_dma_while_it_is_in_a_container(m, p):
    iommu_group = m.built.groups[1]
    group, container = p.open("/dev/vfio/1"), p.open("/dev/vfio/vfio")
    assert status(p, group) == uapi.VFIO_GROUP_FLAGS_VIABLE
    set_container(p, group, container)
    assert status(p, group) == uapi.VFIO_GROUP_FLAGS_VIABLE | uapi.VFIO_GROUP_FLAGS_CONTAINER_SET
    assert iommu_group.owner.value is m.built.vfio_groups[1]
    assert iommu_group.owner_cnt.value == 1
    unset(p, group)
    assert iommu_group.owner.value is None
    assert status(p, group) == uapi.VFIO_GROUP_FLAGS_VIABLE


def test_a_kernel_driver_in_the_group_keeps_it_out_of_containers(m, p):
    group, container = p.open("/dev/vfio/4"), p.open("/dev/vfio/vfio")
    assert status(p, group) == 0
    before = counts(m)
    assert refused(set_container, p, group, container) == "EPERM"
    assert counts(m) == before
    assert m.check() == []


def test_a_group_gets_one_container_and_only_of_the_right_kind(p):
    group, container, iommu = p.open("/dev/vfio/1"), p.open("/dev/vfio/vfio"), p.open("/dev/iommu")
    assert refused(unset, p, group) == "EINVAL"
    assert refused(set_container, p, group, -1) == "EBADF"
    assert refused(set_container, p, group, p.eventfd()) == "EBADFD"
    assert refused(set_container, p, group, group) == "EBADFD"
    assert refused(p.ioctl, group, uapi.VFIO_GROUP_SET_CONTAINER, 0) == "EFAULT"
    set_container(p, group, container)
    assert refused(set_container, p, group, container) == "EINVAL"
    assert refused(set_container, p, group, iommu) == "EINVAL"


def test_a_container_cannot_be_left_while_a_device_is_open_in_it(m, p):
    group, _ = ready(p)
    device = device_fd(p, group, address(m, "pci0"))
    assert refused(unset, p, group) == "EBUSY"
    p.close(device)
    assert unset(p, group) == 0


def test_an_open_device_keeps_its_group_open_in_a_container(m, p):
    group, _ = ready(p)
    device = device_fd(p, group, address(m, "pci0"))
    p.close(group)
    assert refused(p.open, "/dev/vfio/1") == "EBUSY"
    p.close(device)
    p.open("/dev/vfio/1")


# ---- opening a device


def test_a_second_file_of_a_device_only_counts(m, p):
    group, _ = ready(p)
    first, second = (device_fd(p, group, address(m, "pci0")) for _ in range(2))
    device = m.built.vfio_devices["pci0"]
    assert device.open_count.value == 2
    assert m.built.vfio_groups[1].container_users.value == 2
    p.close(first)
    p.ioctl(second, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo())
    assert m.check() == []
    p.close(second)
    assert device.open_count.value == 0


def test_the_name_is_looked_at_before_a_descriptor_is_reserved_and_that_before_the_container(m, p):
    group = p.open("/dev/vfio/1")
    name, nonsense = pointer(p, address(m, "pci0").encode() + b"\0"), pointer(p, b"nonsense\0")
    while True:
        try:
            p.dup(group)
        except KernelError:
            break
    assert refused(p.ioctl, group, uapi.VFIO_GROUP_GET_DEVICE_FD, nonsense) == "ENODEV"
    assert refused(p.ioctl, group, uapi.VFIO_GROUP_GET_DEVICE_FD, name) == "EMFILE"
    p.close(group + 1)
    assert refused(p.ioctl, group, uapi.VFIO_GROUP_GET_DEVICE_FD, name) == "EINVAL"
    assert p.dup(group) == group + 1
    assert m.check() == []


@pytest.mark.parametrize(
    ("name", "errno"),
    [
        ("", "ENODEV"),
        ("0000:00:05.0", "ENODEV"),
        ("0000:00:04.0x", "ENODEV"),
        ("0000:00:04.0 x", "EINVAL"),
        ("0000:00:04.0 vf_token=00010203-0405-0607-0809-0a0b0c0d0e0f", "EINVAL"),
        ("0000:00:04.0 vf_token=00010203", "EINVAL"),
    ],
)
def test_a_device_is_asked_for_by_its_address(p, name, errno):
    group, _ = ready(p)
    assert refused(device_fd, p, group, name) == errno


def test_blanks_may_follow_the_address_of_a_device(m, p):
    group, _ = ready(p)
    assert device_fd(p, group, "0000:00:04.0   ") > 0


def test_a_name_must_end_within_a_page_and_within_memory(p):
    group, _ = ready(p)
    for where, errno in (
        (p.memory.map(2 * PAGE, b"x" * 2 * PAGE), "EINVAL"),
        (p.memory.map(PAGE, b"x" * PAGE), "EINVAL"),
        (p.memory.map(100, b"x" * 100), "EFAULT"),
        (0, "EFAULT"),
    ):
        assert refused(p.ioctl, group, uapi.VFIO_GROUP_GET_DEVICE_FD, where) == errno


def test_a_file_from_a_group_cannot_be_bound_or_attached(m, p):
    group, _ = ready(p)
    device, iommu = device_fd(p, group, address(m, "pci0")), p.open("/dev/iommu")
    assert (
        refused(p.ioctl, device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu)) == "EINVAL"
    )
    for request in (uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT):
        assert refused(p.ioctl, device, request, bytearray(16)) == "ENOTTY"


def test_the_first_open_through_a_group_takes_the_vm_and_the_last_close_gives_it_back(m, p):
    group, _ = ready(p)
    kvm = p.open("/dev/kvm")
    vm = p.ioctl(kvm, uapi.KVM_CREATE_VM)
    wanted = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
    p.ioctl(vm, uapi.KVM_CREATE_DEVICE, wanted)
    early = device_fd(p, group, address(m, "pci0"))
    where = pointer(p, group.to_bytes(4, "little"))
    add = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.KVM_DEV_VFIO_FILE_ADD, addr=where)
    p.ioctl(wanted.fd, uapi.KVM_SET_DEVICE_ATTR, add)
    late = device_fd(p, group, address(m, "pci0"))
    device = m.built.vfio_devices["pci0"]
    assert device.kvm.value is None
    p.close(early)
    p.close(late)
    first, second = (device_fd(p, group, address(m, "pci0")) for _ in range(2))
    assert device.kvm.value is not None
    p.close(wanted.fd)
    p.close(vm)
    p.close(first)
    assert m.kvm_live() == 1
    p.close(second)
    assert m.kvm_live() == 0
    assert m.check() == []


# ---- the driver of a container


def test_the_last_group_that_leaves_takes_driver_and_mappings_along(m, p):
    group, container = ready(p)
    other = p.open("/dev/vfio/2")
    set_container(p, other, container)
    map_dma(p, container, 0, p.mmap(PAGE), PAGE)
    p.close(group)
    assert locked(p) == 1
    p.close(other)
    assert locked(p) == 0
    assert refused(map_dma, p, container, 0, p.mmap(PAGE), PAGE) == "EINVAL"
    assert m.check() == []


def test_groups_of_a_container_share_one_page_table(m, p):
    _, container = ready(p)
    set_container(p, p.open("/dev/vfio/2"), container)
    domains = {m.built.groups[number].domain.value for number in (1, 2)}
    assert len(domains) == 1
    assert sum(oid.startswith("vfio_domain") for oid in m.engine.objects) == 1


def test_a_driver_answers_for_extensions_only_what_it_can(p):
    def ask(number):
        return p.ioctl(container, uapi.VFIO_CHECK_EXTENSION, number)

    asked = (V1, V2, uapi.VFIO_UNMAP_ALL, uapi.VFIO_UPDATE_VADDR, uapi.VFIO_DMA_CC_IOMMU, 99)
    container = p.open("/dev/vfio/vfio")
    assert [ask(number) for number in asked] == [1, 1, 1, 0, 0, 0]
    _, container = ready(p)
    assert [ask(number) for number in asked] == [1, 1, 1, 1, 0, 0]


def test_the_reserved_window_is_missing_from_the_ranges_of_a_container(p):
    _, container = ready(p)
    short = bytearray(bytes(uapi.VfioIommuType1Info(argsz=24)))
    p.ioctl(container, uapi.VFIO_IOMMU_GET_INFO, short)
    assert uapi.VfioIommuType1Info.from_buffer_copy(short).argsz == 120
    long = bytearray(bytes(uapi.VfioIommuType1Info(argsz=120)) + bytes(96))
    p.ioctl(container, uapi.VFIO_IOMMU_GET_INFO, long)
    ranges = [int.from_bytes(long[at : at + 8], "little") for at in range(88, 120, 8)]
    assert ranges == [0, 0xFEDFFFFF, 0xFEF00000, 0x7FFFFFFFFF]


# ---- mappings


def test_the_checks_of_a_mapping_come_in_order(p):
    _, container = ready(p)
    buffer = p.mmap(2 * PAGE)
    top = (1 << 64) - PAGE
    for iova, vaddr, size, flags, errno in (
        (1, 1, 0, 0, "EINVAL"),
        (top, 1, 2 * PAGE, 0, "EOVERFLOW"),
        (0, buffer, PAGE, 0, "EINVAL"),
        (1, buffer, PAGE, DMA_READ_WRITE, "EINVAL"),
        (0xFEE00000, buffer, PAGE, DMA_READ_WRITE, "EINVAL"),
        (1 << 39, buffer, PAGE, DMA_READ_WRITE, "EINVAL"),
        (0, 0x5F0000000000, PAGE, DMA_READ_WRITE, "EFAULT"),
        (0, buffer + PAGE, 3 * PAGE, DMA_READ_WRITE, "EFAULT"),
        (0, buffer, PAGE, 8, "EINVAL"),
    ):
        assert refused(map_dma, p, container, iova, vaddr, size, flags) == errno
    map_dma(p, container, 0, buffer, PAGE)
    assert refused(map_dma, p, container, 0, 0x5F0000000000, 2 * PAGE) == "EEXIST"
    assert locked(p) == 1


def test_read_only_memory_can_be_mapped_for_reading_only(p):
    _, container = ready(p)
    buffer = p.mmap(PAGE, prot=1)
    assert refused(map_dma, p, container, 0, buffer, PAGE) == "EFAULT"
    assert map_dma(p, container, 0, buffer, PAGE, uapi.VFIO_DMA_MAP_FLAG_READ) == 0


def test_version_2_never_cuts_a_mapping(p):
    _, container = ready(p)
    map_dma(p, container, 4 * PAGE, p.mmap(4 * PAGE), 4 * PAGE)
    assert refused(unmap_dma, p, container, 5 * PAGE, PAGE) == "EINVAL"
    assert refused(unmap_dma, p, container, 4 * PAGE, PAGE) == "EINVAL"
    assert unmap_dma(p, container, 0, PAGE) == 0
    assert unmap_dma(p, container, 3 * PAGE, 6 * PAGE) == 4 * PAGE
    assert locked(p) == 0


def test_version_1_takes_a_mapping_whole_if_it_starts_inside_and_stops_at_one_that_does_not(p):
    _, container = ready(p, kind=V1)
    map_dma(p, container, 4 * PAGE, p.mmap(4 * PAGE), 4 * PAGE)
    map_dma(p, container, 8 * PAGE, p.mmap(PAGE), PAGE)
    assert unmap_dma(p, container, 5 * PAGE, 8 * PAGE) == 0
    assert unmap_dma(p, container, 4 * PAGE, PAGE) == 4 * PAGE
    assert unmap_dma(p, container, 0, 16 * PAGE) == PAGE


def test_everything_is_unmapped_with_one_flag_and_no_range(p):
    _, container = ready(p)
    for n in range(3):
        map_dma(p, container, 2 * n * PAGE, p.mmap(PAGE), PAGE)
    everything = uapi.VFIO_DMA_UNMAP_FLAG_ALL
    assert refused(unmap_dma, p, container, 0, PAGE, everything) == "EINVAL"
    assert refused(unmap_dma, p, container, 0, 0) == "EINVAL"
    assert unmap_dma(p, container, 0, 0, everything) == 3 * PAGE


def test_locked_memory_has_a_limit_and_bad_memory_before_it_is_said_first(m):
    poor = m.process("poor", caps=())
    _, container = ready(poor)
    assert refused(map_dma, poor, container, 0, poor.mmap(9 << 20), 9 << 20) == "ENOMEM"
    assert refused(map_dma, poor, container, 0, poor.mmap(1 << 20), 9 << 20) == "EFAULT"
    assert map_dma(poor, container, 0, poor.mmap(8 << 20), 8 << 20) == 0
    assert refused(map_dma, poor, container, 8 << 20, poor.mmap(PAGE), PAGE) == "ENOMEM"
    assert locked(poor) == 2048
    assert m.check() == []


def test_a_mapping_outlives_the_process_that_made_it(m, p):
    _, container = ready(p)
    child = p.fork("child")
    map_dma(child, container, 0, child.mmap(PAGE), PAGE)
    assert (locked(child), locked(p)) == (1, 0)
    child.exit()
    assert m.check() == []
    assert unmap_dma(p, container, 0, PAGE) == PAGE
    assert m.check() == []
    assert "mm_struct child" not in m.engine.objects


def test_memory_is_pinned_only_once_a_device_does_dma(m, p):
    mdev, container = ready(p, 11)
    assert m.built.groups[11].owner.value is None
    map_dma(p, container, 0, p.mmap(PAGE), PAGE)
    map_dma(p, container, 2 * PAGE, 0x5F0000000000, PAGE)
    assert locked(p) == 0
    group = p.open("/dev/vfio/1")
    assert refused(set_container, p, group, container) == "EFAULT"
    assert m.built.groups[1].owner.value is None
    assert unmap_dma(p, container, 2 * PAGE, PAGE) == PAGE
    set_container(p, group, container)
    assert locked(p) == 1
    unset(p, group)
    assert locked(p) == 0
    assert unmap_dma(p, container, 0, PAGE) == PAGE
    p.close(mdev)
    assert m.check() == []


# ---- what must hold at every moment


def test_no_invariant_is_broken_at_any_moment_of_the_legacy_way(m, p):
    group, container = (watched(p, "open", path) for path in ("/dev/vfio/1", "/dev/vfio/vfio"))
    argument = pointer(p, container.to_bytes(4, "little"))
    watched(p, "ioctl", group, uapi.VFIO_GROUP_SET_CONTAINER, argument)
    watched(p, "ioctl", container, uapi.VFIO_SET_IOMMU, V2)
    name = pointer(p, address(m, "pci0").encode() + b"\0")
    files = [watched(p, "ioctl", group, uapi.VFIO_GROUP_GET_DEVICE_FD, name) for _ in range(2)]
    wanted = uapi.VfioIommuType1DmaMap(flags=DMA_READ_WRITE, vaddr=p.mmap(PAGE), size=PAGE)
    watched(p, "ioctl", container, uapi.VFIO_IOMMU_MAP_DMA, wanted)
    for fd in (group, *files, container):
        watched(p, "close", fd)


def test_no_invariant_is_broken_at_any_moment_of_a_bind_and_its_close(m, p):
    device, iommu = (watched(p, "open", path) for path in ("/dev/vfio/devices/vfio0", "/dev/iommu"))
    watched(p, "ioctl", device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    watched(p, "close", device)


# ---- a group with an iommufd


def test_a_group_with_an_iommufd_owns_no_dma_and_gets_an_ordinary_ioas(m, p):
    group, iommu = p.open("/dev/vfio/1"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    assert status(p, group) == 3
    assert m.built.groups[1].owner.value is None
    compat = uapi.IommuVfioIoas(op=uapi.IOMMU_VFIO_IOAS_GET)
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, compat)
    assert compat.ioas_id == 1
    fresh = uapi.IommuIoasAlloc()
    p.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, fresh)
    assert fresh.out_ioas_id == 2
    unset(p, group)
    set_container(p, group, iommu)
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, compat)
    assert compat.ioas_id == 1
    assert m.check() == []


def test_the_compat_ioas_can_be_chosen_cleared_and_destroyed(p):
    iommu = p.open("/dev/iommu")
    compat = uapi.IommuVfioIoas(op=uapi.IOMMU_VFIO_IOAS_GET)
    assert refused(p.ioctl, iommu, uapi.IOMMU_VFIO_IOAS, compat) == "ENODEV"
    assert refused(p.ioctl, iommu, uapi.VFIO_SET_IOMMU, V2) == "ENODEV"
    assert refused(p.ioctl, iommu, uapi.VFIO_SET_IOMMU, 99) == "EINVAL"
    fresh = uapi.IommuIoasAlloc()
    p.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, fresh)
    choose = uapi.IommuVfioIoas(op=uapi.IOMMU_VFIO_IOAS_SET, ioas_id=fresh.out_ioas_id)
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, choose)
    assert p.ioctl(iommu, uapi.VFIO_SET_IOMMU, V2) == 0
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(op=uapi.IOMMU_VFIO_IOAS_CLEAR))
    assert refused(p.ioctl, iommu, uapi.IOMMU_VFIO_IOAS, compat) == "ENODEV"
    p.ioctl(iommu, uapi.IOMMU_VFIO_IOAS, choose)
    p.ioctl(iommu, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=fresh.out_ioas_id))
    assert refused(p.ioctl, iommu, uapi.IOMMU_VFIO_IOAS, compat) == "ENODEV"


def test_an_open_that_fails_after_the_bind_leaves_nothing_behind(m, p):
    group, iommu = p.open("/dev/vfio/1"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    p.ioctl(iommu, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=1))
    before = counts(m)
    assert refused(device_fd, p, group, address(m, "pci0")) == "ENODEV"
    assert counts(m) == before
    assert m.built.vfio_devices["pci0"].open_count.value == 0
    assert m.check() == []


def test_with_an_iommufd_the_group_can_be_closed_and_changed_under_an_open_device(m, p):
    before = counts(m)
    group, iommu = p.open("/dev/vfio/1"), p.open("/dev/iommu")
    set_container(p, group, iommu)
    device = device_fd(p, group, address(m, "pci0"))
    assert unset(p, group) == 0
    assert status(p, group) == 0
    p.close(group)
    p.open("/dev/vfio/1")
    assert m.check() == []
    p.close(iommu)
    p.ioctl(device, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo())
    p.close(device)
    p.close(group)
    assert counts(m) == before


def switched(m, p) -> tuple[int, int, int]:
    """An emulated device that is open through an iommufd and, later, a container; and its group."""
    group, iommu, container = p.open("/dev/vfio/11"), p.open("/dev/iommu"), p.open("/dev/vfio/vfio")
    set_container(p, group, iommu)
    first = device_fd(p, group, address(m, "mdev0"))
    unset(p, group)
    set_container(p, group, container)
    p.ioctl(container, uapi.VFIO_SET_IOMMU, V2)
    return group, first, device_fd(p, group, address(m, "mdev0"))


def test_a_device_opened_in_two_ways_and_closed_in_the_wrong_order_costs_the_group_its_file(m, p):
    group, first, second = switched(m, p)
    p.close(first)
    assert m.check() == []
    p.close(second)
    broken = m.check()
    assert sum(line.startswith("warning: vfio_group 11") for line in broken) == 2
    assert any("is closed, but was never taken out of iommufd_ctx" in line for line in broken)
    with pytest.raises(KernelOops, match="released already"):
        status(p, group)
    assert not p.task.alive.value


def test_closed_in_the_other_order_nothing_is_wrong(m, p):
    group, first, second = switched(m, p)
    p.close(second)
    p.close(first)
    assert status(p, group) == 3
    assert unset(p, group) == 0
    assert m.check() == []


def test_a_new_address_for_what_is_not_mapped_and_a_bitmap_without_a_size_are_refused(p):
    _, container = ready(p)
    assert refused(map_dma, p, container, 0, p.mmap(PAGE), PAGE, uapi.VFIO_DMA_MAP_FLAG_VADDR) == "ENOENT"
    bitmap = uapi.VfioIommuType1DirtyBitmap(argsz=0)
    assert refused(p.ioctl, container, uapi.VFIO_IOMMU_DIRTY_PAGES, bitmap) == "EINVAL"
    assert refused(p.ioctl, container, uapi.VFIO_IOMMU_ENABLE) == "ENOTTY"
