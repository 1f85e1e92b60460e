"""The kernel's own test devices: what only their IOMMU can do, seen through the public door.

Of these devices recordings exist (`n-…` in hand-default, hand8 and hand9: page tables, pins, faults, guests, PASIDs, queues, memory
that a driver lends). What else is claimed here about the kernel's answers rests on one of two things, and each test says on which:

* "Selftest NAME": the kernel's own tests assert the same (TEST_F of that name, tools/testing/selftests/iommu/iommufd.c, v7.2);
* "Read": drivers/iommu/iommufd, mostly selftest.c, was read. Such a test shows that the simulator does what the reader understood;
  where no recording has it, no kernel has confirmed it.

That nothing is left behind, and that no invariant is broken, is the simulator's own to keep.
"""

from __future__ import annotations

from ctypes import sizeof

import pytest

from tests.calls import DIRTY, FAULTS, FIRST, PAGE, PARENT, SELFTEST, Lab, counts, refused
from vfiosim import uapi


@pytest.fixture
def lab(m):
    made = Lab(m)
    yield made
    assert m.check() == []
    made.p.exit()
    assert m.check() == []


def test_a_mock_device_that_is_destroyed_leaves_nothing_behind(m):
    """The recording `n-mock` has the numbers and the refusals."""
    before = counts(m)
    lab = Lab(m)
    lab.destroy(lab.st)
    lab.destroy(lab.ioas)
    lab.p.exit()
    assert counts(m) == before
    assert m.check() == []


def test_a_mock_device_that_is_left_goes_with_its_context(m):
    """Selftest ioas_auto_destroy, viommu_auto_destroy."""
    before = counts(m)
    lab = Lab(m)
    lab.map()
    lab.vdevice(lab.viommu(lab.hwpt(PARENT)))
    lab.p.close(lab.iommu)
    lab.p.exit()
    assert counts(m) == before
    assert m.check() == []


def test_its_page_tables_begin_at_sixteen_mebibytes_and_have_small_pages(lab):
    """Read."""
    assert refused(lambda: lab.map(iova=FIRST - PAGE)) == "EINVAL"
    lab.map(PAGE // 2, FIRST)
    assert refused(lambda: lab.map(PAGE // 4, FIRST + PAGE)) == "EINVAL"


def test_check_map_compares_memory(lab):
    """Selftest access_pin for what is there; read for what is not."""
    address = lab.map(2 * PAGE)
    lab.test("MD_CHECK_MAP", lab.auto, check_map__iova=FIRST, check_map__length=2 * PAGE, check_map__uptr=address)
    for iova, place in ((FIRST + PAGE, address), (FIRST + 2 * PAGE, address)):
        wrong = {"check_map__iova": iova, "check_map__length": PAGE, "check_map__uptr": place}
        assert refused(lambda wrong=wrong: lab.test("MD_CHECK_MAP", lab.auto, **wrong)) == "EINVAL"


def test_check_refs_goes_no_further_than_there_is_memory(lab):
    """Read: iommufd_test_md_check_refs gives up at the first page that it cannot have, with 2**60 bytes to go."""
    here = lab.p.mmap(PAGE)
    lab.test("MD_CHECK_REFS", check_refs__uptr=here, check_refs__length=PAGE, check_refs__refs=0)
    assert (
        refused(lab.test, "MD_CHECK_REFS", check_refs__uptr=here, check_refs__length=2**60, check_refs__refs=0)
        == "EFAULT"
    )


def test_dirty_pages_are_read_once_unless_they_are_to_be_kept(lab):
    """Selftest get_dirty_bitmap, get_dirty_bitmap_no_clear; that DIRTY needs tracking was read."""
    hwpt = lab.hwpt(DIRTY)
    lab.map(4 * PAGE)
    where = {"dirty__iova": FIRST, "dirty__length": 4 * PAGE, "dirty__page_size": PAGE}
    bits = lab.p.memory.map(PAGE, b"\x05")
    assert refused(lambda: lab.test("DIRTY", hwpt, dirty__uptr=bits, **where)) == "EINVAL"
    lab.call(uapi.IommuHwptSetDirtyTracking(hwpt_id=hwpt, flags=1), uapi.IOMMU_HWPT_SET_DIRTY_TRACKING)
    assert lab.test("DIRTY", hwpt, dirty__uptr=bits, **where).dirty.out_nr_dirty == 2
    found = lab.p.memory.map(PAGE)
    for flags, seen in ((uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR, 5), (0, 5), (0, 0)):
        lab.p.memory.write(found, bytes(8))
        wanted = uapi.IommuHwptGetDirtyBitmap(
            hwpt_id=hwpt, flags=flags, iova=FIRST, length=4 * PAGE, page_size=PAGE, data=found
        )
        lab.call(wanted, uapi.IOMMU_HWPT_GET_DIRTY_BITMAP)
        assert lab.p.memory.read(found, 1) == bytes((seen,))


def test_a_table_of_a_guest_needs_a_parent_and_holds_it(lab):
    """Selftest alloc_hwpt_nested, replace; that a parent refuses a table without data was read."""
    data = uapi.IommuHwptSelftest(iotlb=uapi.IOMMU_TEST_IOTLB_DEFAULT)
    assert refused(lambda: lab.hwpt(pt=lab.dev)) == "EINVAL"
    assert refused(lambda: lab.hwpt(PARENT | FAULTS)) == "EOPNOTSUPP"
    assert refused(lambda: lab.hwpt(pt=lab.hwpt(), data=data)) == "EINVAL"
    parent = lab.hwpt(PARENT)
    assert refused(lambda: lab.hwpt(pt=parent)) == "EOPNOTSUPP"
    assert refused(lambda: lab.hwpt(PARENT, pt=parent, data=data)) == "EOPNOTSUPP"
    assert refused(lambda: lab.hwpt(FAULTS, pt=parent, data=data, fault=2**32 - 1)) == "ENOENT"
    nested = lab.hwpt(pt=parent, data=data)
    for number in range(4):
        lab.test("MD_CHECK_IOTLB", nested, check_iotlb__id=number, check_iotlb__iotlb=uapi.IOMMU_TEST_IOTLB_DEFAULT)
    assert refused(lambda: lab.hwpt(pt=nested, data=data)) == "EINVAL"
    assert refused(lambda: lab.destroy(parent)) == "EBUSY"
    lab.test("MOCK_DOMAIN_REPLACE", lab.st, mock_domain_replace__pt_id=nested)
    assert refused(lambda: lab.destroy(nested)) == "EBUSY"
    assert refused(lambda: lab.destroy(lab.auto)) == "ENOENT"  # automatic: it went with its last device
    lab.test("MOCK_DOMAIN_REPLACE", lab.st, mock_domain_replace__pt_id=lab.ioas)
    lab.destroy(nested)
    lab.destroy(parent)


def test_invalidate_says_how_far_it_came(lab):
    """Selftest alloc_hwpt_nested."""
    nested = lab.hwpt(pt=lab.hwpt(PARENT), data=uapi.IommuHwptSelftest(iotlb=7))
    entries = [uapi.IommuHwptInvalidateSelftest(iotlb_id=1), uapi.IommuHwptInvalidateSelftest(iotlb_id=9)]
    wanted = uapi.IommuHwptInvalidate(
        hwpt_id=nested,
        data_type=uapi.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
        data_uptr=lab.p.memory.map(PAGE, b"".join(bytes(entry) for entry in entries)),
        entry_len=sizeof(entries[0]),
        entry_num=2,
    )
    assert refused(lambda: lab.call(wanted, uapi.IOMMU_HWPT_INVALIDATE)) == "EINVAL"
    assert wanted.entry_num == 1
    for number, word in enumerate((7, 0, 7, 7)):
        lab.test("MD_CHECK_IOTLB", nested, check_iotlb__id=number, check_iotlb__iotlb=word)


def test_a_virtual_device_that_loses_its_device_leaves_a_tombstone(lab):
    """Selftest vdevice_tombstone; that its number stays taken was read."""
    viommu = lab.viommu(lab.hwpt(PARENT))
    virtual = lab.vdevice(viommu)
    assert refused(lambda: lab.vdevice(viommu, 1)) == "EEXIST"
    lab.destroy(lab.st)
    assert refused(lambda: lab.destroy(virtual)) == "ENOENT"
    lab.destroy(viommu)
    taken = {lab.call(uapi.IommuIoasAlloc(), uapi.IOMMU_IOAS_ALLOC).out_ioas_id for _ in range(6)}
    assert virtual not in taken
    assert viommu in taken


def test_page_faults_are_read_answered_and_answered_for_who_does_not(lab):
    """Selftest alloc_hwpt_nested for one fault; the order, the refusals and the answers of others were read."""
    queue, fd = lab.fault_queue()
    hwpt = lab.hwpt(FAULTS, fault=queue)
    lab.test("TRIGGER_IOPF", trigger_iopf__dev_id=lab.dev)  # the table in use has no queue
    assert (lab.p.read(fd, 40), lab.p.poll(fd, 5)) == (b"", 4)
    lab.test("MOCK_DOMAIN_REPLACE", lab.st, mock_domain_replace__pt_id=hwpt)
    for address in (PAGE, 2 * PAGE, 3 * PAGE):
        lab.test("TRIGGER_IOPF", trigger_iopf__dev_id=lab.dev, trigger_iopf__addr=address, trigger_iopf__grpid=9)
    assert lab.p.poll(fd, 5) == 5
    assert refused(lambda: lab.p.read(fd, 0)) == "EINVAL"
    seen = [uapi.IommuHwptPgfault.from_buffer_copy(lab.p.read(fd, 80)[at : at + 40]) for at in (0,)]
    assert [(f.flags, f.dev_id, f.grpid, f.addr, f.cookie) for f in seen] == [(2, lab.dev, 9, PAGE, 1)]
    answer = bytes(uapi.IommuHwptPageResponse(cookie=1))
    assert lab.p.write(fd, answer + answer) == 8
    assert refused(lambda: lab.p.write(fd, answer)) == "EINVAL"
    lab.test("MOCK_DOMAIN_REPLACE", lab.st, mock_domain_replace__pt_id=lab.ioas)
    assert lab.p.poll(fd, 5) == 4
    assert refused(lambda: lab.p.write(fd, bytes(uapi.IommuHwptPageResponse(cookie=2)))) == "EINVAL"


def test_events_of_a_guest_are_numbered_and_lost_ones_are_told(lab):
    """Selftest vdevice_alloc; that TRIGGER_VEVENT needs a queue, and the bytes of an event, were read."""
    viommu = lab.viommu(lab.hwpt(PARENT))
    nested = lab.hwpt(pt=viommu, data=uapi.IommuHwptSelftest())
    replace = {"mock_domain_replace__pt_id": nested}
    # the guest does not know the device
    assert refused(lambda: lab.test("MOCK_DOMAIN_REPLACE", lab.st, **replace)) == "ENOENT"
    lab.vdevice(viommu, 0x42)
    lab.test("MOCK_DOMAIN_REPLACE", lab.st, **replace)
    assert refused(lambda: lab.test("TRIGGER_VEVENT", trigger_vevent__dev_id=lab.dev)) == "EOPNOTSUPP"
    for depth in (0, 2**19 + 1):
        assert refused(lambda depth=depth: lab.veventq(viommu, depth)) == "EINVAL"
    fd = lab.veventq(viommu)
    assert refused(lambda: lab.veventq(viommu)) == "EEXIST"
    head = sizeof(uapi.IommufdVeventHeader)
    for size in (0, head - 1):
        assert refused(lambda size=size: lab.p.read(fd, size)) == "EINVAL"
    for _ in range(4):
        lab.test("TRIGGER_VEVENT", trigger_vevent__dev_id=lab.dev)
    for size in (0, head - 1, head):
        assert refused(lambda size=size: lab.p.read(fd, size)) == "EINVAL"
    event = (0x42).to_bytes(4, "little")
    heads = [bytes(uapi.IommufdVeventHeader(flags=flags, sequence=n)) for flags, n in ((0, 0), (0, 1), (1, 3))]
    assert lab.p.read(fd, PAGE) == heads[0] + event + heads[1] + event + heads[2]
    assert lab.p.poll(fd, 1) == 0
    lab.test("TRIGGER_VEVENT", trigger_vevent__dev_id=lab.dev)
    assert lab.p.read(fd, PAGE) == bytes(uapi.IommufdVeventHeader(sequence=4)) + event


def test_a_real_device_and_a_mock_one_never_share_a_table(lab):
    """Read."""
    address = lab.map()
    dev = lab.p.open("/dev/vfio/devices/vfio0")
    lab.p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=lab.iommu))
    assert refused(lambda: lab.p.ioctl(dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach_to(lab.auto))) == "EINVAL"
    own = attach_to(lab.ioas)
    lab.p.ioctl(dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, own)
    assert own.pt_id not in (lab.ioas, lab.auto)
    check = {"check_map__iova": FIRST, "check_map__length": PAGE, "check_map__uptr": address}
    lab.test("MD_CHECK_MAP", lab.auto, **check)
    assert refused(lambda: lab.test("MD_CHECK_MAP", own.pt_id, **check)) == "EINVAL"


def attach_to(pt: int) -> uapi.VfioDeviceAttachIommufdPt:
    return uapi.VfioDeviceAttachIommufdPt(pt_id=pt)


def test_an_emulated_device_of_a_test_reads_and_writes_what_is_mapped(m, lab):
    """Selftest access_rw; its refusals were read."""
    address = lab.map(2 * PAGE)
    other = lab.call(uapi.IommuIoasAlloc(), uapi.IOMMU_IOAS_ALLOC).out_ioas_id
    before = counts(m)
    fd = lab.test("CREATE_ACCESS", lab.ioas).create_access.out_access_fd
    buffer = lab.p.memory.map(PAGE, b"hello")
    where = {"access_rw__iova": FIRST + PAGE - 2, "access_rw__length": 5, "access_rw__uptr": buffer}
    lab.test("ACCESS_RW", fd, access_rw__flags=uapi.MOCK_ACCESS_RW_WRITE, **where)
    assert lab.p.memory.read(address + PAGE - 2, 5) == b"hello"
    lab.p.memory.write(address + PAGE, b"LLO")
    lab.test("ACCESS_RW", fd, **where)
    assert lab.p.memory.read(buffer, 5) == b"heLLO"
    assert refused(lambda: lab.test("ACCESS_RW", fd, **{**where, "access_rw__iova": FIRST + 2 * PAGE - 2})) == "ENOENT"
    assert refused(lambda: lab.test("ACCESS_RW", lab.iommu, **where)) == "EBADFD"
    lab.test("ACCESS_REPLACE_IOAS", fd, access_replace_ioas__ioas_id=other)
    assert refused(lambda: lab.test("ACCESS_RW", fd, **where)) == "ENOENT"
    assert refused(lambda: lab.destroy(other)) == "EBUSY"
    lab.p.close(fd)
    assert counts(m) == before


def test_reserved_addresses_cannot_be_mapped(lab):
    """Selftest area_auto_iova for ADD_RESERVED; the refusals were read."""
    reserve = {"add_reserved__start": FIRST, "add_reserved__length": PAGE}
    lab.test("ADD_RESERVED", lab.ioas, **reserve)
    assert refused(lab.map) == "EINVAL"
    lab.map(iova=FIRST + PAGE)
    wrong = {"add_reserved__start": FIRST + PAGE, "add_reserved__length": 1}
    assert refused(lambda: lab.test("ADD_RESERVED", lab.ioas, **wrong)) == "EADDRINUSE"


def test_what_software_has_pinned_is_given_back_when_it_is_unmapped(m, lab):
    """Selftest access_pin, access_pin_unmap; the charges and EBADE were read."""
    lab.destroy(lab.st)
    before = counts(m)
    address = lab.map(2 * PAGE)
    pins = uapi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES
    fd = lab.test("CREATE_ACCESS", lab.ioas, create_access__flags=pins).create_access.out_access_fd
    where = {"access_pages__iova": FIRST, "access_pages__length": PAGE, "access_pages__uptr": address}
    numbers = [lab.test("ACCESS_PAGES", fd, **where).access_pages.out_access_pages_id for _ in range(2)]
    assert numbers == [0, 1]
    assert lab.p.task.mm.value.pinned_vm.value == 1
    assert refused(lambda: lab.test("ACCESS_PAGES", fd, **{**where, "access_pages__uptr": address + PAGE})) == "EBADE"
    lab.test("DESTROY_ACCESS_PAGES", fd, destroy_access_pages__access_pages_id=0)
    assert (lab.p.task.mm.value.pinned_vm.value, m.check()) == (1, [])
    lab.call(uapi.IommuIoasUnmap(ioas_id=lab.ioas, iova=FIRST, length=2 * PAGE), uapi.IOMMU_IOAS_UNMAP)
    assert lab.p.task.mm.value.pinned_vm.value == 0
    assert refused(lambda: lab.test("DESTROY_ACCESS_PAGES", fd, destroy_access_pages__access_pages_id=1)) == "ENOENT"
    lab.p.close(fd)
    assert counts(m) == before


def test_a_hardware_queue_keeps_its_memory_mapped(m, lab):
    """Selftest hw_queue."""
    viommu = lab.viommu(lab.hwpt(PARENT))

    def queue(index: int, iova: int = FIRST, length: int = PAGE, kind: int = SELFTEST) -> int:
        wanted = uapi.IommuHwQueueAlloc(
            viommu_id=viommu, type=kind, index=index, nesting_parent_iova=iova, length=length
        )
        return lab.call(wanted, uapi.IOMMU_HW_QUEUE_ALLOC).out_hw_queue_id

    def unmap(iova: int) -> None:
        lab.call(uapi.IommuIoasUnmap(ioas_id=lab.ioas, iova=iova, length=PAGE), uapi.IOMMU_IOAS_UNMAP)

    before = counts(m)
    assert refused(queue, 0, kind=uapi.IOMMU_HW_QUEUE_TYPE_DEFAULT) == "EOPNOTSUPP"
    assert refused(queue, 0, length=0) == "EINVAL"
    assert refused(queue, 0, iova=2**64 - 1) == "EOVERFLOW"
    assert refused(queue, 0) == "ENOENT"
    assert counts(m) == before
    for page in (0, 1):
        lab.map(PAGE, FIRST + page * PAGE)
    before = counts(m)
    assert refused(queue, 1) == "EIO"
    assert refused(queue, 2) == "EINVAL"
    assert counts(m) == before
    first = queue(0)
    assert refused(queue, 0) == "EEXIST"
    assert refused(unmap, FIRST) == "EBUSY"
    unmap(FIRST + PAGE)
    second = queue(1, FIRST + PAGE // 2, PAGE // 2)
    assert refused(lab.destroy, first) == "EBUSY"
    lab.destroy(second)
    lab.destroy(first)
    unmap(FIRST)
