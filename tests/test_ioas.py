"""Address spaces of an iommufd through the public door: mappings, addresses, pinned memory, and what they cost."""

from __future__ import annotations

import pytest

from tests.calls import EVERYTHING, FIXED, PAGE, READ_ONLY, READ_WRITE, WITHOUT_IPC_LOCK, Space, bind, counts, refused
from vfiosim import Machine, uapi
from vfiosim.kernel.iommufd.io_pagetable import first_place

# ---- what is pinned, and when


def test_a_mapping_without_device_touches_no_memory(s):
    assert s.map(0x5F0000000000, iova=0x10000) == 0x10000
    assert s.p.status() == {"VmLck": 0, "VmPin": 0}


def test_attaching_pins_what_is_mapped_and_detaching_gives_it_back(s):
    s.map(s.p.mmap(4 * PAGE), 4 * PAGE)
    s.attach()
    assert s.p.status()["VmPin"] == 16
    s.detach()
    assert s.p.status()["VmPin"] == 0


def test_an_attach_that_cannot_pin_leaves_no_trace(m, s):
    s.map(0x5F0000000000, iova=0x10000)
    before = counts(m)
    assert refused(s.attach) == "EFAULT"
    assert counts(m) == before
    assert s.ranges() == ([(0, EVERYTHING)], 1)
    assert m.check() == []


def test_read_only_memory_can_be_mapped_for_reading_only(s):
    s.attach()
    memory = s.p.mmap(PAGE, prot=1)
    assert refused(s.map, memory) == "EFAULT"
    assert s.map(memory, flags=uapi.IOMMU_IOAS_MAP_READABLE) == PAGE


def test_protection_counts_when_the_memory_is_pinned(s):
    memory = s.p.mmap(2 * PAGE)
    s.map(memory, 2 * PAGE)
    s.p.mprotect(memory + PAGE, PAGE, 1)
    assert refused(s.attach) == "EFAULT"
    s.p.mprotect(memory + PAGE, PAGE, 3)
    s.attach()


def test_memory_that_was_unmapped_stays_pinned(s):
    memory = s.p.mmap(PAGE)
    s.attach()
    s.map(memory)
    s.p.munmap(memory, PAGE)
    assert s.p.status()["VmPin"] == 4


def test_the_memory_of_a_process_that_has_ended_cannot_be_pinned(m, s):
    child = s.p.fork("child")
    s.map(child.mmap(PAGE), p=child, iova=0x10000)
    child.exit()
    assert refused(s.attach) == "EFAULT"
    s.unmap()
    s.attach()
    assert m.check() == []


def test_a_mapping_belongs_to_the_process_that_made_it(s):
    child = s.p.fork("child")
    s.attach()
    s.map(child.mmap(PAGE), p=child)
    assert (s.p.status()["VmPin"], child.status()["VmPin"]) == (0, 4)


def test_a_second_page_table_and_a_copy_reuse_the_pinned_memory(s):
    iova = s.map(s.p.mmap(PAGE))
    s.attach()
    s.hwpt()
    s.copy(iova)
    assert s.p.status()["VmPin"] == 4


def test_a_copy_outlives_its_source(m, s):
    s.attach()
    first = s.map(s.p.mmap(PAGE))
    second = s.copy(first)
    s.unmap(first, PAGE)
    assert s.p.status()["VmPin"] == 4
    assert s.unmap(second, PAGE) == PAGE
    assert s.p.status()["VmPin"] == 0
    assert m.check() == []


def test_a_copy_cannot_write_what_was_mapped_for_reading(s):
    iova = s.map(s.p.mmap(PAGE), flags=uapi.IOMMU_IOAS_MAP_READABLE)
    assert refused(s.copy, iova) == "EPERM"
    assert refused(s.copy, iova + PAGE) == "ENOENT"


# ---- files


def test_only_memory_files_can_be_pinned_but_any_file_can_be_mapped(m, s):
    s.map_file(s.p.eventfd())
    assert refused(s.attach) == "EINVAL"
    s.unmap()
    s.map_file(s.p.memfd(4 * PAGE), 4 * PAGE)
    s.attach()
    assert s.p.status()["VmPin"] == 16
    assert m.check() == []


def test_a_memory_file_cannot_be_pinned_beyond_its_end(s):
    s.map_file(s.p.memfd(PAGE), 2 * PAGE)
    assert refused(s.attach) == "EINVAL"


def test_a_mapped_file_is_held_until_it_is_unmapped(m, s):
    before = counts(m)
    fd = s.p.memfd(PAGE)
    s.map_file(fd)
    s.p.close(fd)
    assert any("memfd" in path for path in counts(m))
    s.unmap()
    assert counts(m) == before


def test_a_device_mapped_into_its_own_iommufd_is_never_released(m, s):
    s.map_file(s.dev)
    s.p.exit()
    other = m.process("other")
    assert refused(bind, other, other.open("/dev/vfio/devices/vfio0"), other.open("/dev/iommu")) == "EINVAL"


def test_memory_files_can_change_their_process_and_other_memory_cannot(s):
    s.attach()
    s.map_file(s.p.memfd(PAGE))
    child = s.p.fork("child")
    child.ioctl(s.iommu, uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IommuIoasChangeProcess())
    s.map(s.p.mmap(PAGE))
    assert refused(child.ioctl, s.iommu, uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IommuIoasChangeProcess()) == "EINVAL"


def test_pages_charged_to_nobody_leave_their_count_behind_when_they_change_their_process(m, s):
    s.attach()
    s.map_file(s.p.memfd(PAGE))
    child = s.p.fork("child")
    child.ioctl(s.iommu, uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IommuIoasChangeProcess())
    assert (s.p.status()["VmPin"], child.status()["VmPin"]) == (4, 0)
    s.unmap()
    assert child.status()["VmPin"] == 2**64 - 4
    assert any("pinned pages" in broken for broken in m.check())


def test_charged_pages_take_their_charge_along(m):
    p = m.process("small", WITHOUT_IPC_LOCK)
    s = Space(p, mode=1)
    s.attach()
    s.map_file(p.memfd(PAGE))
    child = p.fork("child")
    child.task.caps.value = WITHOUT_IPC_LOCK
    child.ioctl(s.iommu, uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IommuIoasChangeProcess())
    assert (p.status(), child.status()) == ({"VmLck": 0, "VmPin": 0}, {"VmLck": 4, "VmPin": 4})
    p.exit()
    child.close(s.dev)
    child.close(s.iommu)
    assert m.check() == []


# ---- limits


@pytest.mark.parametrize(("mode", "locked"), [(0, 0), (1, 64)])
def test_pinned_memory_counts_for_the_user_or_for_the_process(m, mode, locked):
    p = m.process("small", WITHOUT_IPC_LOCK)
    s = Space(p, mode=mode)
    s.attach()
    s.map(p.mmap(16 * PAGE), 16 * PAGE)
    assert p.status() == {"VmLck": locked, "VmPin": 64}
    s.unmap()
    assert p.status() == {"VmLck": 0, "VmPin": 0}


def test_who_is_charged_can_only_be_chosen_while_there_is_no_object(s):
    assert refused(s.option, uapi.IOMMU_OPTION_RLIMIT_MODE, 1) == "EBUSY"


def test_more_than_rlimit_memlock_is_refused_and_undone(m):
    p = m.process("small", WITHOUT_IPC_LOCK)
    s = Space(p)
    s.attach()
    memory = p.mmap(9 << 20)
    assert refused(s.map, memory, 9 << 20) == "ENOMEM"
    assert p.status()["VmPin"] == 0
    s.map(memory, 8 << 20)
    assert refused(s.map, memory) == "ENOMEM"
    s.unmap()
    s.map(memory)
    assert m.check() == []


# ---- addresses


def test_an_attached_device_reserves_its_interrupt_window_and_what_the_table_cannot_reach(s):
    s.attach()
    assert s.ranges() == ([(0, 0xFEDFFFFF), (0xFEF00000, 0x7FFFFFFFFF)], PAGE)
    s.detach()
    assert s.ranges() == ([(0, EVERYTHING)], 1)


def test_a_mapping_without_fixed_address_gets_the_lowest_free_place(s):
    memory = s.p.mmap(4 * PAGE)
    first, second = s.map(memory), s.map(memory)
    assert (first, second) == (PAGE, 2 * PAGE)
    s.unmap(first, PAGE)
    assert s.map(memory) == first


def test_a_mapping_goes_only_where_it_is_allowed(s):
    s.allow((0x100000, 0x101FFF))
    memory = s.p.mmap(PAGE)
    assert [s.map(memory), s.map(memory)] == [0x100000, 0x101000]
    assert refused(s.map, memory) == "ENOSPC"
    assert s.map(memory, iova=0x200000) == 0x200000


def test_what_is_allowed_cannot_be_reserved(s):
    s.allow((0xFEE00000, 0xFEE00FFF))
    assert refused(s.attach) == "EADDRINUSE"


def test_a_fixed_address_must_be_free_and_reachable(s):
    s.attach()
    memory = s.p.mmap(PAGE)
    s.map(memory, iova=0x10000)
    assert refused(s.map, memory, iova=0x10000) == "EEXIST"
    assert refused(s.map, memory, iova=0xFEE00000) == "EINVAL"
    assert refused(s.map, memory, iova=0x10800) == "EINVAL"
    assert refused(s.map, memory, iova=0x8000000000) == "EINVAL"


def test_unmap_takes_whole_mappings_upwards_and_stops_at_one_that_is_cut(s):
    memory = s.p.mmap(4 * PAGE)
    s.map(memory, PAGE, 0x10000)
    s.map(memory, 2 * PAGE, 0x11000)
    assert refused(s.unmap, 0x10000, 2 * PAGE) == "ENOENT"
    assert s.map(memory, PAGE, 0x10000) == 0x10000
    assert s.unmap() == 3 * PAGE
    assert s.unmap() == 0
    assert refused(s.unmap, 0x10000, PAGE) == "ENOENT"


def test_a_mapping_can_be_cut_through_the_old_interface_with_small_pages(m, s):
    s.p.ioctl(s.iommu, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(ioas_id=s.ioas, op=uapi.IOMMU_VFIO_IOAS_SET))
    s.p.ioctl(s.iommu, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1_IOMMU)
    s.attach()
    s.map(s.p.mmap(4 * PAGE), 4 * PAGE, 0x10000)
    hole = uapi.VfioIommuType1DmaUnmap(argsz=24, iova=0x11000, size=PAGE)
    s.p.ioctl(s.iommu, uapi.VFIO_IOMMU_UNMAP_DMA, hole)
    assert s.p.status()["VmPin"] == 12
    assert m.check() == []
    assert s.unmap() == 3 * PAGE


@pytest.mark.parametrize(
    ("used", "length", "alignment", "offset", "place"),
    [
        ([], PAGE, PAGE, 0, 0x1000),
        ([(0x1000, 0x1FFF)], PAGE, PAGE, 0, 0x2000),
        ([(0x1000, 0x101F)], 1, 1, 0x10, 0x1030),  # offset and place are or-ed: more low bits than the memory has
        ([(0x1000, 0x1FFF), (0x3000, 2**64 - 1)], PAGE, PAGE, 0, 0x2000),
        ([(0x1000, 0x1FFF), (0x3000, 2**64 - 1)], 2 * PAGE, PAGE, 0, None),
        ([(0x1000, 0x1FFE), (0x2000, 2**64 - 1)], 1, 1, 0, None),  # a gap of one address cannot be used
    ],
)
def test_the_first_gap_that_fits_is_taken(used, length, alignment, offset, place):
    assert first_place([], used, length, alignment, offset) == place


@pytest.mark.parametrize(
    ("va", "length", "errno"),
    [
        (0x10000, 2**63 - 1, "EOVERFLOW"),
        (0x10000, 0, "EINVAL"),
        (2**64 - PAGE, PAGE, "EOVERFLOW"),
        (2**64 - 2 * PAGE, PAGE, None),
        (0x10800, PAGE, None),  # without page table and emulated device nothing has to be aligned
    ],
)
def test_lengths_and_addresses_have_limits(s, va, length, errno):
    assert (refused(s.map, va, length) if errno else s.map(va, length) and None) == errno


def test_a_mapping_whose_answer_cannot_be_written_stays(s):
    argument = uapi.IommuIoasMap(
        flags=READ_WRITE | FIXED, ioas_id=s.ioas, user_va=s.p.mmap(PAGE), length=PAGE, iova=0x10000
    )
    place = s.p.memory.map(PAGE, bytes(argument), prot=READ_ONLY)
    assert refused(s.p.ioctl, s.iommu, uapi.IOMMU_IOAS_MAP, place) == "EFAULT"
    assert s.unmap() == PAGE


def test_a_page_table_decides_what_the_old_interface_says_of_coherency(s):
    s.p.ioctl(s.iommu, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(ioas_id=s.ioas, op=uapi.IOMMU_VFIO_IOAS_SET))
    assert s.p.ioctl(s.iommu, uapi.VFIO_CHECK_EXTENSION, uapi.VFIO_DMA_CC_IOMMU) == 1
    s.attach()
    assert s.p.ioctl(s.iommu, uapi.VFIO_CHECK_EXTENSION, uapi.VFIO_DMA_CC_IOMMU) == 0


# ---- two threads


def test_unmap_of_a_mapping_that_is_being_made_says_ebusy(m, s):
    s.attach()
    memory = s.p.mmap(PAGE)
    argument = uapi.IommuIoasMap(flags=READ_WRITE | FIXED, ioas_id=s.ioas, user_va=memory, length=PAGE, iova=0x10000)
    call = s.p.start("ioctl", s.iommu, uapi.IOMMU_IOAS_MAP, argument, run=False)
    while not any(thing.kind == "iopt_area" for thing in m.engine.objects.values()):
        call.step()
    area = next(thing for thing in m.engine.objects.values() if thing.kind == "iopt_area")
    while area.storage_domain.value is None:
        call.step()
    assert refused(s.unmap, 0x10000, PAGE) == "EBUSY"
    assert call.run().state == "done"
    assert s.unmap() == PAGE


# ---- everything is given back


def test_mapped_memory_is_kept_by_its_area_in_the_address_space(m, s):
    s.map(s.p.mmap(PAGE))
    links = [(link.sort, link.holder, link.target) for link in m.why("iopt_pages 1").paths[0].links[-2:]]
    assert links == [("owns", "iommufd_ioas 2", "iopt_area 1"), ("counted", "iopt_area 1", "iopt_pages 1")]


def test_closing_everything_gives_everything_back(m):
    p = m.process("vmm")
    before = counts(m)
    s = Space(p)
    s.attach()
    iova = s.map(p.mmap(4 * PAGE), 4 * PAGE)
    s.copy(iova)
    s.hwpt()
    fd = p.memfd(PAGE)
    s.map_file(fd)
    for number in (s.iommu, s.dev, fd):
        p.close(number)
    assert counts(m) == before
    assert p.status() == {"VmLck": 0, "VmPin": 0}
    assert m.check() == []


def test_a_process_that_ends_with_pinned_memory_leaves_nothing(m):
    before = set(m.engine.objects)
    s = Space(m.process("vmm"))
    s.attach()
    s.map(s.p.mmap(PAGE))
    s.p.exit()
    assert set(m.engine.objects) == before
    assert m.check() == []


def test_a_run_with_mappings_can_be_repeated(m, s):
    s.map(s.p.mmap(PAGE))
    s.attach()
    twin = m.branch(-1)
    assert twin.trace.end == m.trace.end


@pytest.mark.parametrize("attached", [False, True])
def test_many_mappings_do_not_make_one_more_dearer(attached):
    """Counted in effects of the engine: the same number with 3 and with 300 mappings."""

    def effects(present: int) -> int:
        m = Machine("lab")
        s = Space(m.process("vmm"))
        if attached:
            s.attach()
        memory = s.p.mmap(PAGE)
        for n in range(present):
            s.map(memory, iova=0x100000 + 2 * PAGE * n)
        before = len(m.engine.micro)
        s.map(memory, iova=0x10000)
        s.unmap(0x10000, PAGE)
        return len(m.engine.micro) - before

    assert effects(3) == effects(300)
