"""What the first IOMMU driver of containers keeps (the structs of drivers/vfio/vfio_iommu_type1.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from typing import Final

from ... import uapi
from ...engine import *
from ...uapi import Errno
from ..iommu import IommuGroup
from ..mm import MmStruct
from ..regions import PAGE_SIZE, TASK_SIZE
from ..task import TaskStruct

PAGE_MASK: Final = ((1 << 64) - 1) & ~(PAGE_SIZE - 1)
BITMAP_MAX: Final = 1 << 28  # bytes of a bitmap
UNMAP_MINSZ: Final = 24  # of a request to unmap: up to and including size
CAPABILITY: Final = 8  # bytes of its header
MAP_READ, MAP_WRITE = uapi.VFIO_DMA_MAP_FLAG_READ, uapi.VFIO_DMA_MAP_FLAG_WRITE


# an address, the address space where it lies, whether its process may lock as much as it likes, and that process
Source = tuple[int, MmStruct, bool, TaskStruct]


class VfioDma(KObject):
    """A mapping: devices of the container reach `size` bytes at `vaddr` of a process by the addresses from `iova` on.

    * born by VFIO_IOMMU_MAP_DMA, which notes the caller, whose limit counts, and its address space, without its memory;
    * its pages are pinned, and charged to that address space, while the container has a page table;
    * dies by VFIO_IOMMU_UNMAP_DMA, or with the last group of the container.
    """

    kind = "vfio_dma"
    locked_vm: Field[int] = field(0, guard="iommu.lock")
    iommu_mapped: Field[bool] = field(False, guard="iommu.lock")
    # another one may take it over
    source: Field[Source] = field(None, guard="iommu.lock")  # type: ignore[arg-type]
    vaddr_invalid: Field[bool] = field(False, guard="iommu.lock")  # does it wait for that?
    bitmap: Field[int | None] = field(None, guard="iommu.lock")  # pages that were written, while that is tracked

    def __init__(self, engine: Engine, iova: int, size: int, access: int, source: Source) -> None:
        super().__init__(engine)
        self.iova, self.size = iova, size
        self.readable, self.writable = bool(access & MAP_READ), bool(access & MAP_WRITE)
        self.source.value = self.pinned = source  # what was pinned at first is what devices reach

    @property
    def last(self) -> int:
        """Its last I/O address."""
        return self.iova + self.size - 1


class VfioDomain(KObject):
    """A page table of the IOMMU, for the groups of a container that it can serve.

    * born with the first of its groups, dies with the last.
    """

    kind = "vfio_domain"
    group_list: Field[tuple[IommuGroup, ...]] = field((), guard="iommu.lock")
    enforce_cache_coherency = False  # the modelled IOMMU cannot ignore what a device says about caches

    def __init__(self, engine: Engine, iommu: VfioIommu) -> None:
        super().__init__(engine)
        self.iommu = iommu

    async def leads_to(self, iova: int, write: bool) -> tuple[KObject, int] | None:
        """Where a device gets by an I/O address: the address space, and the place in it; None if it may not."""
        dma = await first_between(self.iommu.dma_list, iova, iova)
        if dma is None or not await load(dma.iommu_mapped) or not (dma.writable if write else dma.readable):
            return None
        vaddr, mm, *_ = dma.pinned
        return mm, vaddr + iova - dma.iova


class VfioIommu(KObject):
    """The driver's part of a container: its groups, their page tables, and the mappings that are in all of them.

    * born by VFIO_SET_IOMMU, dies when the last group leaves the container.
    """

    kind = "vfio_iommu"
    lock: Lock = mutex()
    # guarded by lock
    domain_list: Field[tuple[VfioDomain, ...]] = field((), guard="lock", link="owns")
    emulated_iommu_groups: Field[tuple[IommuGroup, ...]] = field((), guard="lock")
    dma_list: Intervals[VfioDma] = intervals(guard="lock", link="owns")
    dma_avail: Field[int] = field(0, guard="lock")  # how many more mappings there may be
    pgsize_bitmap: Field[int] = field(PAGE_MASK, guard="lock")
    iova_list: Field[tuple[tuple[int, int], ...]] = field((), guard="lock")
    vaddr_invalid_count: Field[int] = field(0, guard="lock")  # mappings that wait for a program to take them over
    dirty_page_tracking: Field[bool] = field(False, guard="lock")

    def __init__(self, engine: Engine, v2: bool, limit: int) -> None:
        super().__init__(engine)
        self.v2 = v2
        self.limit = self.dma_avail.value = limit


async def capabilities(iommu: VfioIommu) -> bytes:
    """The chain of capabilities behind VFIO_IOMMU_GET_INFO; each one says where the next begins."""
    smallest = await load(iommu.pgsize_bitmap)
    smallest &= -smallest
    ranges = await load(iommu.iova_list)
    migration = uapi.VfioIommuType1InfoCapMigration(pgsize_bitmap=smallest, max_dirty_bitmap_size=BITMAP_MAX)
    avail = uapi.VfioIommuType1InfoDmaAvail(avail=await load(iommu.dma_avail))
    bodies = [
        (uapi.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, bytes(migration)[CAPABILITY:]),
        (uapi.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, bytes(avail)[CAPABILITY:]),
    ]
    if ranges:
        table = b"".join(first.to_bytes(8, "little") + last.to_bytes(8, "little") for first, last in ranges)
        count = len(ranges).to_bytes(8, "little")
        bodies.append((uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, count + table))
    chain = b""
    for n, (number, body) in enumerate(bodies):
        body = body.ljust(-(-len(body) // 8) * 8, b"\0")
        following = sizeof(uapi.VfioIommuType1Info) + len(chain) + CAPABILITY + len(body)
        header = uapi.VfioInfoCapHeader(id=number, version=1, next=following if n + 1 < len(bodies) else 0)
        chain += bytes(header) + body
    return chain


# ---- what is asked of a range, and of the bitmap in which it is told which pages were written


async def refuse_cut(iommu: VfioIommu, first: int, last: int) -> None:
    """EINVAL for a range that has a part of a mapping."""
    low = await first_between(iommu.dma_list, first, first)
    high = await first_between(iommu.dma_list, last, last)
    cut = high if high is not None and high.last != last else None
    cut = low if low is not None and low.iova != first else cut
    where = "" if cut is None else f"{cut.iova:#x} to {cut.last:#x}"
    await refuse_if(
        cut is not None, Errno.EINVAL, "mapping_not_cut", f"the mapping {where} is partly in the range; take all of it"
    )


async def check_bitmap(wanted: uapi.VfioIommuType1DmaUnmap, argument: int) -> uapi.VfioBitmap:
    """The bitmap that dirty pages would be reported in: EINVAL (argsz), EFAULT, EINVAL (where it lies, how large it is)."""
    size = sizeof(uapi.VfioBitmap)
    short = wanted.argsz < UNMAP_MINSZ + size
    await refuse_if(
        short, Errno.EINVAL, "argsz_for_bitmap", f"with a bitmap argsz must be at least {UNMAP_MINSZ + size}"
    )
    bitmap = uapi.VfioBitmap.from_buffer_copy(await copy_from_user(argument + UNMAP_MINSZ, size))
    await verify_bitmap(bitmap, wanted.size)
    return bitmap


async def verify_bitmap(bitmap: uapi.VfioBitmap, size: int) -> None:
    """EINVAL for a bitmap that cannot be in user memory, or has not the size for so many bytes (`verify_bitmap_size`)."""
    # of no size: what `__ffs(0)` is C does not say, but all that can follow is EINVAL
    await refuse_if(bitmap.pgsize == 0, Errno.EINVAL, "bitmap_pages", "a page has a size")
    outside = bitmap.data + bitmap.size > TASK_SIZE
    await refuse_if(
        outside, Errno.EINVAL, "bitmap_in_memory", f"a bitmap at {bitmap.data:#x} is beyond the memory of programs"
    )
    page = bitmap.pgsize & -bitmap.pgsize
    pages = size // page
    await refuse_if(not pages, Errno.EINVAL, "bitmap_has_pages", f"{size:#x} bytes are less than a page of {page:#x}")
    need = -(-pages // 64) * 8
    bad = not need <= bitmap.size <= BITMAP_MAX
    why = f"{pages} pages need a bitmap of {need} bytes, and at most {BITMAP_MAX}; this one has {bitmap.size}"
    await refuse_if(bad, Errno.EINVAL, "bitmap_size", why)


async def check_tracking(iommu: VfioIommu, counted: int, page: int) -> None:
    """EINVAL unless dirty pages are tracked, in pages as a bitmap counts them."""
    why = f"the bitmap is for pages of {counted:#x} bytes, and the container has pages of {page:#x}"
    await refuse_if(counted != page, Errno.EINVAL, "bitmap_page_size", why)
    tracks = await load(iommu.dirty_page_tracking)
    await refuse_if(
        not tracks, Errno.EINVAL, "dirty_tracking_on", "which pages are written is not tracked: begin with START"
    )
