"""VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA on a container (a part of drivers/vfio/vfio_iommu_type1.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from typing import Final

from ... import uapi
from ...engine import Phase, alloc, copy_from_user, copy_to_user, kernel, load, refuse_if, require, say, store
from ...uapi import Errno, KernelError
from ..mm import TASK_SIZE, mmgrab
from ..task import capable, current_mm
from ..unsupported import Unsupported
from .type1_dma import ITS_MEMORY, VfioDma, VfioIommu, vfio_pin_pages_remote, vfio_remove_dma
from .type1_iova import LAST, find_dma, iova_dma_valid

UNMAP_MINSZ: Final = 24  # up to and including size
BITMAP_MAX: Final = 1 << 28  # bytes of a bitmap
MAP_READ, MAP_WRITE = uapi.VFIO_DMA_MAP_FLAG_READ, uapi.VFIO_DMA_MAP_FLAG_WRITE
MAP_VADDR = uapi.VFIO_DMA_MAP_FLAG_VADDR
UNMAP_BITMAP, UNMAP_ALL = uapi.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, uapi.VFIO_DMA_UNMAP_FLAG_ALL
UNMAP_VADDR = uapi.VFIO_DMA_UNMAP_FLAG_VADDR

# ---- map


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_map_dma(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_MAP_DMA: EFAULT, EINVAL (argsz, flags), then what `vfio_dma_do_map` says."""
    size = sizeof(uapi.VfioIommuType1DmaMap)
    wanted = uapi.VfioIommuType1DmaMap.from_buffer_copy(await copy_from_user(argument, size))
    wrong = wanted.argsz < size or wanted.flags & ~(MAP_READ | MAP_WRITE | MAP_VADDR) != 0
    await refuse_if(wrong, Errno.EINVAL, "argsz_and_flags", f"argsz must be at least {size}, and all flags known")
    await vfio_dma_do_map(iommu, wanted)
    return 0


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_dma_do_map(iommu: VfioIommu, wanted: uapi.VfioIommuType1DmaMap) -> None:
    """Map memory of the caller. In this order: EINVAL (size 0), EOVERFLOW, EINVAL (neither read nor write), EINVAL (alignment),
    EEXIST (overlap), ENOSPC (too many), EINVAL (reserved or out of reach), EFAULT or ENOMEM (pinning)."""
    iova, vaddr, size = wanted.iova, wanted.vaddr, wanted.size
    await refuse_if(size == 0, Errno.EINVAL, "size_not_zero", "a mapping has at least one page")
    over = iova + size - 1 > LAST or vaddr + size - 1 > LAST
    await refuse_if(over, Errno.EOVERFLOW, "range_ends_somewhere", "a range ends beyond the last address")
    access, moves = wanted.flags & (MAP_READ | MAP_WRITE), wanted.flags & MAP_VADDR
    both = bool(access) == bool(moves)
    await refuse_if(both, Errno.EINVAL, "access_or_move", "devices may read, write or both; or an old mapping moves")
    if moves:
        raise Unsupported("VFIO_DMA_MAP_FLAG_VADDR")
    say(Phase.LOCK, "The lock of {}: mappings come and go one at a time.", iommu)
    async with iommu.lock:
        await check_map(iommu, iova, vaddr, size)
        say(Phase.ACQUIRE, "The mapping is noted, with the address space of the caller.")
        mm = await require(await current_mm(), Errno.ENODEV, "caller_has_memory", "the caller has no memory")
        lock_cap = await capable("CAP_IPC_LOCK")
        dma = await alloc(VfioDma, iova, vaddr, size, bool(access & MAP_WRITE), mm, lock_cap)
        await store(iommu.dma_avail, await load(iommu.dma_avail) - 1)
        await mmgrab(mm, dma, ITS_MEMORY)
        others = await load(iommu.dma_list)
        await store(iommu.dma_list, tuple(sorted((*others, dma), key=lambda d: d.iova)))
        if await load(iommu.domain_list):
            await vfio_pin_map_dma(iommu, dma)


async def check_map(iommu: VfioIommu, iova: int, vaddr: int, size: int) -> None:
    """The checks of a mapping that need the lock."""
    page = await load(iommu.pgsize_bitmap)
    page &= -page
    crooked = (size | iova | vaddr) & (page - 1) != 0
    await refuse_if(crooked, Errno.EINVAL, "whole_pages", f"size and both addresses must be multiples of {page}")
    taken = find_dma(await load(iommu.dma_list), iova, iova + size - 1) is not None
    await refuse_if(taken, Errno.EEXIST, "iova_is_free", "some of these I/O addresses are mapped already")
    full = await load(iommu.dma_avail) == 0
    await refuse_if(full, Errno.ENOSPC, "mappings_left", "the container has as many mappings as it may")
    valid = iova_dma_valid(await load(iommu.iova_list), iova, iova + size - 1)
    await refuse_if(not valid, Errno.EINVAL, "iova_usable", "some of these I/O addresses are reserved or out of reach")


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_pin_map_dma(iommu: VfioIommu, dma: VfioDma) -> None:
    """Pin the memory and put it into every page table; if that fails nothing of the mapping stays."""
    say(Phase.ACQUIRE, "The pages are pinned and charged to the process; every page table gets them.")
    try:
        await vfio_pin_pages_remote(dma)
    except KernelError:
        await vfio_remove_dma(iommu, dma)
        raise
    await store(dma.iommu_mapped, True)


# ---- unmap


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_unmap_dma(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_UNMAP_DMA: EFAULT, EINVAL (argsz, flags), then what `vfio_dma_do_unmap` says. `size` is what was unmapped."""
    whole = sizeof(uapi.VfioIommuType1DmaUnmap)
    data = (await copy_from_user(argument, UNMAP_MINSZ)).ljust(whole, b"\0")
    wanted = uapi.VfioIommuType1DmaUnmap.from_buffer_copy(data)
    bitmap = wanted.flags & UNMAP_BITMAP
    wrong = wanted.argsz < UNMAP_MINSZ or wanted.flags & ~(UNMAP_BITMAP | UNMAP_ALL | UNMAP_VADDR) != 0
    wrong = wrong or bool(bitmap and wanted.flags & (UNMAP_ALL | UNMAP_VADDR))
    await refuse_if(
        wrong, Errno.EINVAL, "argsz_and_flags", f"argsz must be at least {UNMAP_MINSZ}, and flags go together"
    )
    if bitmap:
        await check_bitmap(wanted, argument)
    if wanted.flags & UNMAP_VADDR:
        raise Unsupported("VFIO_DMA_UNMAP_FLAG_VADDR")
    wanted.size = await vfio_dma_do_unmap(iommu, wanted)
    await copy_to_user(argument, bytes(wanted)[:UNMAP_MINSZ])
    return 0


async def check_bitmap(wanted: uapi.VfioIommuType1DmaUnmap, argument: int) -> None:
    """The bitmap that dirty pages would be reported in: EINVAL (argsz), EFAULT, EINVAL (where it lies, how large it is)."""
    size = sizeof(uapi.VfioBitmap)
    short = wanted.argsz < UNMAP_MINSZ + size
    await refuse_if(short, Errno.EINVAL, "argsz_for_bitmap", "there is no room for a bitmap behind the request")
    bitmap = uapi.VfioBitmap.from_buffer_copy(await copy_from_user(argument + UNMAP_MINSZ, size))
    if bitmap.pgsize == 0:
        raise Unsupported("a bitmap for pages of no size")
    outside = bitmap.data + bitmap.size > TASK_SIZE
    await refuse_if(outside, Errno.EINVAL, "bitmap_in_memory", "no user memory can lie where the bitmap should")
    pages = wanted.size // (bitmap.pgsize & -bitmap.pgsize)
    bad = not pages or not bitmap.size or not -(-pages // 64) * 8 <= bitmap.size <= BITMAP_MAX
    await refuse_if(bad, Errno.EINVAL, "bitmap_size", "the bitmap has not the size for so many pages")


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_dma_do_unmap(iommu: VfioIommu, wanted: uapi.VfioIommuType1DmaUnmap) -> int:
    """Unmap whole mappings, upwards; the answer is how many bytes. Nothing mapped is no error.

    EINVAL for addresses that are no multiples of a page or a size of 0, EOVERFLOW; in version 2 EINVAL for a mapping that
    sticks out. In version 1 one that starts inside goes whole, and one that starts before ends the call, without an error.
    """
    everything = bool(wanted.flags & UNMAP_ALL)
    say(Phase.LOCK, "The lock of {}: mappings come and go one at a time.", iommu)
    async with iommu.lock:
        first = wanted.iova
        last = await check_unmap(iommu, wanted, everything)
        dmas = await load(iommu.dma_list)
        if iommu.v2 and not everything:
            low, high = find_dma(dmas, first, first), find_dma(dmas, last, last)
            cut = (low is not None and low.iova != first) or (high is not None and high.last != last)
            await refuse_if(cut, Errno.EINVAL, "mapping_not_cut", "a mapping would be cut in two; unmap all of it")
        unmapped = 0
        for dma in dmas:
            if dma.last < first:
                continue
            if dma.iova > last or (not iommu.v2 and first > dma.iova):
                break
            unmapped += dma.size
            await vfio_remove_dma(iommu, dma)
    return unmapped


async def check_unmap(iommu: VfioIommu, wanted: uapi.VfioIommuType1DmaUnmap, everything: bool) -> int:
    """The checks of an unmap that need the lock; the answer is the last address that is meant."""
    page = await load(iommu.pgsize_bitmap)
    page &= -page
    crooked = wanted.iova & (page - 1) != 0
    await refuse_if(crooked, Errno.EINVAL, "whole_pages", f"the address must be a multiple of {page}")
    if everything:
        given = wanted.iova != 0 or wanted.size != 0
        await refuse_if(given, Errno.EINVAL, "all_without_range", "to unmap everything, address and size must be 0")
        return LAST
    odd = wanted.size == 0 or wanted.size & (page - 1) != 0
    await refuse_if(odd, Errno.EINVAL, "whole_pages_size", f"the size must be a multiple of {page}, and not 0")
    last: int = wanted.iova + wanted.size - 1
    await refuse_if(last > LAST, Errno.EOVERFLOW, "range_ends_somewhere", "the range ends beyond the last address")
    tracking = wanted.flags & UNMAP_BITMAP != 0
    await refuse_if(tracking, Errno.EINVAL, "dirty_tracking_on", "dirty pages are reported only while they are tracked")
    return last
