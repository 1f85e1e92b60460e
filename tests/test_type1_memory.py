"""Mappings of a container that change hands, and what it tells of written pages; the recordings have the kernel's answers."""

from __future__ import annotations

import pytest

from vfiosim import Machine, Process, uapi
from vfiosim.uapi import Errno, KernelError

PAGE = 4096
START, GET = 1, 4
IOVA, SIZE = 0x10000, 4 * PAGE


def container() -> tuple[Process, int, int]:
    """A program with a container that has edu in it, and four pages mapped: the program, the container, where the pages are."""
    program = Machine("lab").process("vmm")
    group, fd = program.open("/dev/vfio/1"), program.open("/dev/vfio/vfio")
    program.ioctl(group, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(fd.to_bytes(4, "little")))
    program.ioctl(fd, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)
    pages = program.memory.map(SIZE)
    map_dma(program, fd, 3, pages)
    return program, fd, pages


def map_dma(program: Process, fd: int, flags: int, vaddr: int, iova: int = IOVA, size: int = SIZE) -> None:
    """Map memory of a program, or take a mapping over (flags 4)."""
    wanted = uapi.VfioIommuType1DmaMap(flags=flags, vaddr=vaddr, iova=iova, size=size)
    program.ioctl(fd, uapi.VFIO_IOMMU_MAP_DMA, wanted)


def let_go(program: Process, fd: int) -> None:
    """The mapping waits for a program to take it over."""
    wanted = uapi.VfioIommuType1DmaUnmap(flags=uapi.VFIO_DMA_UNMAP_FLAG_VADDR, iova=IOVA, size=SIZE)
    program.ioctl(fd, uapi.VFIO_IOMMU_UNMAP_DMA, wanted)


def dirty(program: Process, fd: int, iova: int, size: int) -> int:
    """The bitmap of a range."""
    place = program.memory.map(64)
    bitmap = uapi.VfioBitmap(pgsize=PAGE, size=64, data=place)
    wanted = uapi.VfioIommuType1DirtyBitmapGet(iova=iova, size=size, bitmap=bitmap)
    argument = bytearray((48).to_bytes(4, "little") + GET.to_bytes(4, "little") + bytes(wanted))
    program.ioctl(fd, uapi.VFIO_IOMMU_DIRTY_PAGES, argument)
    return int.from_bytes(program.memory.read(place, 64), "little")


def track(program: Process, fd: int) -> None:
    """Begin to track."""
    program.ioctl(fd, uapi.VFIO_IOMMU_DIRTY_PAGES, bytearray(b"\x08\0\0\0" + START.to_bytes(4, "little")))


def test_a_mapping_that_a_child_takes_over_is_charged_to_the_child_alone() -> None:
    program, fd, pages = container()
    assert program.status()["VmLck"] == 16
    let_go(program, fd)
    child = program.fork("child")
    map_dma(child, fd, uapi.VFIO_DMA_MAP_FLAG_VADDR, pages)
    assert (program.status()["VmLck"], child.status()["VmLck"]) == (0, 16)
    assert program.machine.check() == []


def test_only_a_mapping_that_waits_can_be_taken_over_and_only_as_a_whole() -> None:
    program, fd, pages = container()
    for size, errno in ((SIZE, Errno.EINVAL), (PAGE, Errno.EINVAL)):
        with pytest.raises(KernelError) as refused:
            map_dma(program, fd, uapi.VFIO_DMA_MAP_FLAG_VADDR, pages, size=size)
        assert refused.value.errno == errno
    let_go(program, fd)
    with pytest.raises(KernelError) as refused:
        let_go(program, fd)
    assert refused.value.check == "vaddr_is_valid"


def test_all_pages_that_a_device_can_write_count_as_written() -> None:
    program, fd, _ = container()
    track(program, fd)
    assert [dirty(program, fd, IOVA, SIZE) for _ in range(2)] == [0b1111, 0b1111]


def test_a_bitmap_that_begins_within_a_word_tells_later_of_pages_that_are_not_mapped() -> None:
    """What the kernel shifts it clears only in part: a surprise, which the recordings show."""
    program, fd, _ = container()
    track(program, fd)
    assert dirty(program, fd, 0, 2 * IOVA) == 0b1111 << 16
    assert dirty(program, fd, IOVA, SIZE) & 0xFFFF == 0b1111
    assert dirty(program, fd, IOVA - PAGE, SIZE + PAGE) == 0b1111 << 1 | 0b1111 << 17
