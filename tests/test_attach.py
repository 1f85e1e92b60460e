"""VFIO_DEVICE_ATTACH_IOMMUFD_PT and DETACH through the public door: page tables, groups, PASIDs, emulated devices."""

from __future__ import annotations

import pytest

from tests.calls import PAGE, READ_ONLY, Space, bind, counts, refused
from vfiosim import uapi

ATTACH, DETACH = uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT


class Pair(Space):
    """An address space and two devices of one group."""

    other: int


@pytest.fixture
def pair(p) -> Pair:
    """Two devices of one iommu_group, bound to one iommufd; the second is `pair.other`."""
    pair = Pair(p, "vfio3")
    pair.other = p.open("/dev/vfio/devices/vfio4")
    bind(p, pair.other, pair.iommu)
    return pair


def attach(s, dev, pt, pasid=None) -> int:
    flags = 0 if pasid is None else uapi.VFIO_DEVICE_ATTACH_PASID
    argument = uapi.VfioDeviceAttachIommufdPt(flags=flags, pt_id=pt, pasid=pasid or 0)
    s.p.ioctl(dev, ATTACH, argument)
    return argument.pt_id


def detach(s, dev, pasid=None) -> None:
    flags = 0 if pasid is None else uapi.VFIO_DEVICE_DETACH_PASID
    s.p.ioctl(dev, DETACH, uapi.VfioDeviceDetachIommufdPt(flags=flags, pasid=pasid or 0))


def attach_with_readonly_argument(s, pt) -> None:
    data = bytes(uapi.VfioDeviceAttachIommufdPt(pt_id=pt))
    s.p.ioctl(s.dev, ATTACH, s.p.memory.map(PAGE, data, prot=READ_ONLY))


# ---- automatic page tables


def test_an_attach_to_an_address_space_makes_a_page_table_that_goes_with_the_detach(m, s):
    before = counts(m)
    assert s.attach() == 3
    assert refused(s.destroy, 3) == "EBUSY"
    assert refused(s.destroy, s.ioas) == "EBUSY"
    s.detach()
    assert counts(m) == before
    assert refused(s.destroy, 3) == "ENOENT"


def test_two_devices_share_the_automatic_page_table(m, pair):
    assert attach(pair, pair.dev, pair.ioas) == attach(pair, pair.other, pair.ioas) == 4
    assert m.check() == []
    detach(pair, pair.dev)
    assert refused(pair.destroy, 4) == "EBUSY"
    detach(pair, pair.other)
    assert refused(pair.destroy, 4) == "ENOENT"


def test_an_automatic_choice_never_falls_on_a_page_table_made_by_hand(s):
    by_hand = s.hwpt()
    assert s.attach() == by_hand + 1


def test_attaching_again_to_the_same_address_space_changes_nothing(m, s):
    s.attach()
    before = counts(m)
    assert s.attach() == 3
    assert counts(m) == before


def test_closing_the_device_detaches_it(m, p):
    before = counts(m)
    s = Space(p)
    s.attach()
    p.close(s.dev)
    s.destroy(s.ioas)
    p.close(s.iommu)
    assert counts(m) == before
    assert m.check() == []


# ---- groups


def test_the_second_device_of_a_group_must_follow_the_first(pair):
    elsewhere = pair.alloc()
    attach(pair, pair.dev, pair.ioas)
    assert refused(attach, pair, pair.other, elsewhere) == "EINVAL"


def test_a_replace_moves_the_whole_group(m, pair):
    elsewhere = pair.alloc()
    attach(pair, pair.dev, pair.ioas)
    attach(pair, pair.other, pair.ioas)
    moved = attach(pair, pair.dev, elsewhere)
    assert attach(pair, pair.other, elsewhere) == moved
    pair.destroy(pair.ioas)
    assert m.check() == []


def test_a_replace_that_fails_leaves_the_device_where_it_was(m, s):
    s.attach()
    first, s.ioas = s.ioas, s.alloc()
    s.map(0x5F0000000000, iova=0x10000)
    assert refused(s.attach) == "EFAULT"
    assert refused(s.destroy, first) == "EBUSY"
    assert m.check() == []


def test_detaching_what_is_not_attached_is_no_error(m, s):
    before = counts(m)
    s.detach()
    assert counts(m) == before


# ---- the argument


@pytest.mark.parametrize(
    ("fields", "errno"),
    [
        ({"argsz": 11}, "EINVAL"),
        ({"flags": 2}, "EINVAL"),
        ({"argsz": 12, "flags": 1}, "EINVAL"),
        ({"pt_id": 99}, "ENOENT"),
        ({"pt_id": 1}, "EINVAL"),  # a device
    ],
)
def test_a_bad_argument_is_refused(m, s, fields, errno):
    before = counts(m)
    assert refused(s.p.ioctl, s.dev, ATTACH, uapi.VfioDeviceAttachIommufdPt(**fields)) == errno
    assert counts(m) == before


def test_a_device_file_that_is_not_bound_cannot_be_attached(p):
    dev = p.open("/dev/vfio/devices/vfio0")
    assert refused(p.ioctl, dev, ATTACH, uapi.VfioDeviceAttachIommufdPt()) == "EINVAL"


def test_an_attach_whose_answer_cannot_be_written_detaches_even_what_was_attached_before(m, s):
    before = counts(m)
    s.attach()
    assert refused(attach_with_readonly_argument, s, s.ioas) == "EFAULT"
    assert counts(m) == before
    assert m.check() == []


# ---- PASIDs


def test_a_pasid_needs_a_page_table_made_for_pasids(s):
    assert refused(attach, s, s.dev, s.ioas, 1) == "EINVAL"
    assert refused(attach, s, s.dev, s.hwpt(), 1) == "EINVAL"
    attach(s, s.dev, s.hwpt(uapi.IOMMU_HWPT_ALLOC_PASID), 1)


def test_beside_a_pasid_an_address_space_cannot_be_attached(s):
    attach(s, s.dev, s.hwpt(uapi.IOMMU_HWPT_ALLOC_PASID), 1)
    assert refused(s.attach) == "EINVAL"
    detach(s, s.dev, 1)
    s.attach()


def test_pasid_zero_is_the_dma_without_pasid_by_another_name(m, s):
    table = s.hwpt(uapi.IOMMU_HWPT_ALLOC_PASID)
    attach(s, s.dev, table, 0)
    s.detach()
    assert refused(s.destroy, table) == "EBUSY"
    assert refused(s.attach) == "EBUSY"
    detach(s, s.dev, 0)
    s.destroy(table)
    assert m.check() == []


def test_closing_the_device_detaches_all_pasids(m, p):
    before = counts(m)
    s = Space(p)
    table = s.hwpt(uapi.IOMMU_HWPT_ALLOC_PASID)
    for pasid in (0, 1, 77):
        attach(s, s.dev, table, pasid)
    p.close(s.dev)
    s.destroy(table)
    p.close(s.iommu)
    assert counts(m) == before


def test_a_pasid_has_31_bits(s):
    assert refused(attach, s, s.dev, s.hwpt(uapi.IOMMU_HWPT_ALLOC_PASID), 1 << 31) == "ENOSPC"


# ---- emulated devices


@pytest.fixture
def tty(p) -> Space:
    return Space(p, "vfio8")


def test_an_emulated_device_is_attached_to_the_address_space_itself(m, tty):
    assert tty.attach() == tty.ioas
    tty.map(tty.p.mmap(PAGE))
    assert tty.p.status()["VmPin"] == 0
    assert refused(tty.destroy, tty.ioas) == "EBUSY"
    tty.detach()
    tty.destroy(tty.ioas)
    assert m.check() == []


def test_an_emulated_device_knows_no_page_tables_and_no_pasids(p, tty):
    other = p.open("/dev/vfio/devices/vfio0")
    tty.devid = bind(p, other, tty.iommu)
    assert refused(tty.attach, tty.hwpt()) == "ENOENT"
    assert refused(attach, tty, tty.dev, tty.ioas, 1) == "EOPNOTSUPP"


def test_an_emulated_device_makes_the_address_space_coarser(tty):
    assert tty.ranges() == ([(0, 2**64 - 1)], 1)
    tty.attach()
    assert tty.ranges() == ([(0, 2**64 - 1)], PAGE)
    tty.detach()
    tty.map(tty.p.mmap(PAGE), 100, iova=10)
    assert refused(tty.attach) == "EADDRINUSE"


def test_closing_an_emulated_device_lets_go_of_the_address_space(m, p):
    before = counts(m)
    tty = Space(p, "vfio8")
    tty.attach()
    p.close(tty.dev)
    tty.destroy(tty.ioas)
    p.close(tty.iommu)
    assert counts(m) == before


# ---- page tables by hand, fault queues, and what this IOMMU cannot do


def test_a_page_table_made_by_hand_pins_without_any_device(m, s):
    s.map(s.p.mmap(PAGE))
    table = s.hwpt()
    s.p.close(s.dev)
    assert s.p.status()["VmPin"] == 4
    s.destroy(table)
    assert s.p.status()["VmPin"] == 0
    assert m.check() == []


@pytest.mark.parametrize(
    ("flags", "errno"),
    [
        (uapi.IOMMU_HWPT_ALLOC_NEST_PARENT, "EOPNOTSUPP"),
        (uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING, "EOPNOTSUPP"),
        (uapi.IOMMU_HWPT_FAULT_ID_VALID, "ENOENT"),
        (16, "EOPNOTSUPP"),
    ],
)
def test_a_page_table_that_this_iommu_cannot_make_leaves_no_trace(m, s, flags, errno):
    before = counts(m)
    assert refused(s.hwpt, flags) == errno
    assert counts(m) == before


def test_a_fault_queue_lives_with_its_file_and_its_page_tables(m, s):
    queue = uapi.IommuFaultAlloc()
    s.p.ioctl(s.iommu, uapi.IOMMU_FAULT_QUEUE_ALLOC, queue)
    argument = uapi.IommuHwptAlloc(
        flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, dev_id=s.devid, pt_id=s.ioas, fault_id=queue.out_fault_id
    )
    s.p.ioctl(s.iommu, uapi.IOMMU_HWPT_ALLOC, argument)
    assert refused(s.attach, argument.out_hwpt_id) == "ENODEV"
    s.p.close(queue.out_fault_fd)
    assert refused(s.destroy, queue.out_fault_id) == "EBUSY"
    s.destroy(argument.out_hwpt_id)
    s.destroy(queue.out_fault_id)
    assert m.check() == []


def test_a_fault_queue_that_cannot_be_told_leaves_neither_object_nor_file(m, s):
    before = counts(m)
    place = s.p.memory.map(PAGE, bytes(uapi.IommuFaultAlloc()), prot=READ_ONLY)
    assert refused(s.p.ioctl, s.iommu, uapi.IOMMU_FAULT_QUEUE_ALLOC, place) == "EFAULT"
    assert counts(m) == before


# ---- two threads


def test_a_page_table_that_a_call_is_looking_at_survives_its_last_detach_and_stays(m, s):
    table = s.attach()
    argument = uapi.IommuHwptSetDirtyTracking(hwpt_id=table)
    call = s.p.start("ioctl", s.iommu, uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, argument, run=False)
    hwpt = next(thing for thing in m.engine.objects.values() if thing.kind == "iommufd_hwpt_paging")
    while hwpt.users.value < 3 or hwpt.ictx.objects_lock.holder is not None:
        call.step()
    s.detach()
    call.run()
    assert refused(s.destroy, s.ioas) == "EBUSY"
    s.destroy(table)
    s.destroy(s.ioas)
    assert m.check() == []


def test_an_attach_waits_while_another_one_chooses_a_page_table(m, pair):
    argument = uapi.VfioDeviceAttachIommufdPt(pt_id=pair.ioas)
    first = pair.p.start("ioctl", pair.dev, ATTACH, argument, run=False)
    ioas = next(thing for thing in m.engine.objects.values() if thing.kind == "iommufd_ioas")
    while ioas.mutex.holder is None:
        first.step()
    second = pair.p.start("ioctl", pair.other, ATTACH, uapi.VfioDeviceAttachIommufdPt(pt_id=pair.ioas))
    assert "iommufd_ioas 2.mutex" in second.waits_for
    first.run()
    assert second.state == "done"
    assert m.check() == []
