"""The first IOMMU driver of containers: maps pinned memory for all groups of one (drivers/vfio/vfio_iommu_type1.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from functools import partial
from typing import Final

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..iommu import (
    MSI_IS_SHARED,
    IommuGroup,
    iommu_attach_group,
    iommu_detach_group,
    iommu_group_has_isolated_msi,
)
from ..iommu_ops import APERTURE_LAST, PGSIZES
from ..mm import MmStruct, mmdrop, mmgrab, mmput, too_much_locked
from ..params import ModuleParameters
from ..regions import PAGE_SIZE, ends_beyond
from ..task import TaskStruct, capable, current_mm, current_task, put_task_struct
from ..uaccess import check_argument
from .type1_objects import (
    MAP_READ,
    MAP_WRITE,
    PAGE_MASK,
    UNMAP_MINSZ,
    VfioDma,
    VfioDomain,
    VfioIommu,
    capabilities,
    check_bitmap,
    check_tracking,
    refuse_cut,
    verify_bitmap,
)
from .type1_ranges import (
    Ranges,
    aper_expand,
    aper_resize,
    find_dma,
    group_resv_regions,
    iova_dma_valid,
    resv_exclude,
    span_of,
    spans,
)
from .vfio import VfioGroupType, VfioIommuDriverOps

LAST = (1 << 64) - 1
ITS_MEMORY = "memory of it"


BITMAP_PAGES: Final = (1 << 31) - 1
WORD: Final = 64  # bits
DIRTY_MINSZ: Final = 8  # up to and including flags
START, STOP, GET = 1, 2, 4  # flags of VFIO_IOMMU_DIRTY_PAGES
MAP_VADDR = uapi.VFIO_DMA_MAP_FLAG_VADDR
UNMAP_BITMAP, UNMAP_ALL = uapi.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, uapi.VFIO_DMA_UNMAP_FLAG_ALL
UNMAP_VADDR = uapi.VFIO_DMA_UNMAP_FLAG_VADDR
INFO_MINSZ = 16  # up to and including iova_pgsizes


async def update_pgsize_bitmap(iommu: VfioIommu) -> None:
    """Which sizes of pages all page tables know; without any, all from 4 KiB on (`vfio_update_pgsize_bitmap`)."""
    await store(iommu.pgsize_bitmap, PGSIZES if await load(iommu.domain_list) else PAGE_MASK)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_dma_bitmap_alloc(dma: VfioDma) -> None:
    """A bitmap for a mapping. EINVAL for one of 2 to the 31st pages and more."""
    many = dma.size // PAGE_SIZE > BITMAP_PAGES
    why = f"the mapping has {dma.size // PAGE_SIZE:#x} pages; a bitmap is for {BITMAP_PAGES:#x} at most"
    await refuse_if(many, Errno.EINVAL, "bitmap_possible", why)
    await store(dma.bitmap, 0)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def mm_lock_acct(task: TaskStruct, mm: MmStruct, lock_cap: bool, npage: int) -> None:
    """Charge pages to an address space, or discharge them. ENOMEM beyond RLIMIT_MEMLOCK of `task`, unless it may exceed that."""
    now = await load(mm.locked_vm)
    limit = await load(task.memlock) // PAGE_SIZE
    over = npage > 0 and not lock_cap and now + npage > limit
    await refuse_if(over, Errno.ENOMEM, "process_may_lock", too_much_locked(f"process {mm.label}", limit, now, npage))
    await store(mm.locked_vm, now + npage)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_lock_acct(dma: VfioDma, npage: int) -> None:
    """Charge the pages of a mapping; nothing happens if the process has ended."""
    if npage == 0:
        return
    _, mm, lock_cap, task = await load(dma.source)
    if await get_unless_zero(mm.mm_users, current(), "charging"):
        async with on_failure(mmput, mm, current(), "charging"):
            await mm_lock_acct(task, mm, lock_cap, npage)
        await store(dma.locked_vm, await load(dma.locked_vm) + npage)
        await mmput(mm, current(), "charging")


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_pin_pages_remote(dma: VfioDma) -> None:
    """Pin all pages of a mapping, upwards. EFAULT where there is none, ENOMEM at the first one too many.

    The pages are looked for in the memory of the caller, whoever made the mapping. Registers of a device are mapped as
    they are: there is nothing to pin or to charge.
    """
    mm = await require(await current_mm(), Errno.ENODEV, "caller_has_memory", "the caller has no memory")
    limit, now = await load(current_task().memlock) // PAGE_SIZE, await load(mm.locked_vm)
    vaddr, _, lock_cap, _ = await load(dma.source)
    room = dma.size if lock_cap else max(0, limit - now)
    pinned = 0
    for address, size, device in mm.spans(vaddr, dma.size):
        if device:
            wrong = not mm.allows(address, dma.writable)
            await refuse_if(
                wrong, Errno.EFAULT, "registers_allow_it", "these registers may not be written through memory"
            )
            continue
        npage = size // PAGE_SIZE
        await pin_pages(mm, address, min(npage, room + 1 - pinned) * PAGE_SIZE, dma.writable)
        pinned += npage
        over = pinned > room
        more = dma.size // PAGE_SIZE
        await refuse_if(
            over, Errno.ENOMEM, "process_may_lock", too_much_locked(f"process {mm.label}", limit, now, more)
        )
    await vfio_lock_acct(dma, pinned)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_unmap_unpin(iommu: VfioIommu, dma: VfioDma) -> None:
    """Take a mapping out of the page tables, unpin its pages and discharge them. Nothing to do without a page table."""
    if not await load(iommu.domain_list) or not await load(dma.iommu_mapped):
        return
    await store(dma.iommu_mapped, False)
    await vfio_lock_acct(dma, -await load(dma.locked_vm))


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_remove_dma(iommu: VfioIommu, dma: VfioDma) -> None:
    """The end of a mapping."""
    await vfio_unmap_unpin(iommu, dma)
    await xa_store(iommu.dma_list, dma.iova, None)
    _, mm, _, task = await load(dma.source)
    await put_task_struct(task, dma, ITS_MEMORY)
    await mmdrop(mm, dma, ITS_MEMORY)
    if await load(dma.vaddr_invalid):
        await store(iommu.vaddr_invalid_count, await load(iommu.vaddr_invalid_count) - 1)
    await free(dma)
    await store(iommu.dma_avail, await load(iommu.dma_avail) + 1)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def update_user_bitmap(data: int, iommu: VfioIommu, dma: VfioDma, base: int) -> None:
    """Write the bits of a mapping into the bitmap of a program, whose first bit is the page at `base`. EFAULT.

    Where they do not begin with a word, the kernel shifts its own bitmap and takes in what is in the first word already; of
    that it forgets only as many bits as the mapping has pages, so that later bitmaps tell of pages that nobody has written.
    """
    pages, offset = dma.size // PAGE_SIZE, (dma.iova - base) // PAGE_SIZE
    bits = await load(dma.bitmap) or 0
    if await load(dma.iommu_mapped):
        bits |= all_pages(dma)
    data, shift = data + offset // WORD * 8, offset % WORD
    words = -(-(pages + shift) // WORD)
    if shift:
        inside = (1 << WORD * words) - 1
        bits = bits & ~inside | (bits & inside) << shift & inside
        bits |= int.from_bytes(await copy_from_user(data, 8), "little")
    await copy_to_user(data, (bits & (1 << WORD * words) - 1).to_bytes(words * 8, "little"))
    await store(dma.bitmap, bits & ~all_pages(dma))


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iova_dirty_bitmap(iommu: VfioIommu, data: int, first: int, last: int) -> None:
    """The bits of all mappings in a range, which has to take each of them as a whole. EINVAL, EFAULT."""
    await refuse_cut(iommu, first, last)
    for dma in await in_order(iommu.dma_list):
        if first <= dma.iova <= last:
            await update_user_bitmap(data, iommu, dma, first)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_dma_do_unmap(
    iommu: VfioIommu, wanted: uapi.VfioIommuType1DmaUnmap, bitmap: uapi.VfioBitmap | None = None
) -> int:
    """Unmap whole mappings, upwards; the answer is how many bytes. Nothing mapped is no error.

    EINVAL for addresses that are no multiples of a page or a size of 0, EOVERFLOW; in version 2 EINVAL for a mapping that
    sticks out. In version 1 one that starts inside goes whole, and one that starts before ends the call, without an error.
    With a `bitmap` it tells which pages of them were written. Where only the memory behind them is to be forgotten, they stay.
    """
    everything = bool(wanted.flags & UNMAP_ALL)
    say(Phase.LOCK, "The lock of {}: mappings come and go one at a time.", iommu)
    async with iommu.lock:
        first = wanted.iova
        last = await check_unmap(iommu, wanted, everything, bitmap)
        if iommu.v2 and not everything:
            await refuse_cut(iommu, first, last)
        if wanted.flags & UNMAP_VADDR:
            return await invalidate_vaddr(iommu, first, last)
        unmapped = 0
        while True:
            dma = await first_between(iommu.dma_list, first, last)
            if dma is None or (not iommu.v2 and first > dma.iova):
                return unmapped
            if bitmap is not None:
                await update_user_bitmap(bitmap.data, iommu, dma, first)
            unmapped += dma.size
            await vfio_remove_dma(iommu, dma)


async def invalidate_vaddr(iommu: VfioIommu, first: int, last: int) -> int:
    """From now on mappings wait for a program to say where their memory is; devices use it meanwhile. EINVAL if one waits.

    Then those before it wait no longer either, since when ever they waited.
    """
    found = [dma for dma in await in_order(iommu.dma_list) if dma.iova <= last and dma.last >= first]
    if not iommu.v2 and found and first > found[0].iova:
        return 0
    for number, dma in enumerate(found):
        waits = await load(dma.vaddr_invalid)
        for other in found[:number] if waits else ():
            await set_vaddr_invalid(iommu, other, False)
        await refuse_if(
            waits, Errno.EINVAL, "vaddr_is_valid", f"the mapping {span_of(dma)} waits already to be taken over"
        )
        await set_vaddr_invalid(iommu, dma, True)
    return sum(dma.size for dma in found)


async def set_vaddr_invalid(iommu: VfioIommu, dma: VfioDma, invalid: bool) -> None:
    """A mapping waits for a program to take it over, or no longer."""
    await store(dma.vaddr_invalid, invalid)
    await store(iommu.vaddr_invalid_count, await load(iommu.vaddr_invalid_count) + (1 if invalid else -1))


async def check_unmap(
    iommu: VfioIommu, wanted: uapi.VfioIommuType1DmaUnmap, everything: bool, bitmap: uapi.VfioBitmap | None
) -> int:
    """The checks of an unmap that need the lock; the answer is the last address that is meant."""
    if wanted.flags & UNMAP_VADDR:
        emulated = await load(iommu.emulated_iommu_groups)
        await refuse_if(
            bool(emulated), Errno.EBUSY, "no_emulated_device", "an emulated device uses the memory by its address"
        )
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
    await refuse_if(last > LAST, Errno.EOVERFLOW, "range_ends_somewhere", ends_beyond(wanted.iova, wanted.size))
    if bitmap is not None:
        await check_tracking(iommu, bitmap.pgsize, page)
    return last


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_pin_map_dma(iommu: VfioIommu, dma: VfioDma) -> None:
    """Pin the memory and put it into every page table; if that fails nothing of the mapping stays."""
    say(Phase.ACQUIRE, "The pages are pinned and charged to the process; every page table gets them.")
    async with on_failure(vfio_remove_dma, iommu, dma):
        await vfio_pin_pages_remote(dma)
    await store(dma.iommu_mapped, True)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_change_dma_owner(dma: VfioDma, vaddr: int) -> None:
    """The memory of the caller is behind a mapping from now on, and charged to it. ENOMEM.

    What devices reach is still what was pinned at first; that the same pages are at `vaddr` is up to the caller.
    """
    mm = await require(await current_mm(), Errno.ENODEV, "caller_has_memory", "the caller has no memory")
    _, before, lock_cap, owner = await load(dma.source)
    if mm is not before:
        task, npage, mine = current_task(), await load(dma.locked_vm), await capable("CAP_IPC_LOCK")
        await mm_lock_acct(task, mm, mine, npage)
        if await get_unless_zero(before.mm_users, current(), "charging"):
            await mm_lock_acct(owner, before, lock_cap, -npage)
            await mmput(before, current(), "charging")
        await put_task_struct(owner, dma, ITS_MEMORY)
        await get(task.usage, dma, ITS_MEMORY)
        await mmdrop(before, dma, ITS_MEMORY)
        await mmgrab(mm, dma, ITS_MEMORY)
        lock_cap, owner = mine, task
    await store(dma.source, (vaddr, mm, lock_cap, owner))


async def check_map(iommu: VfioIommu, iova: int, size: int) -> None:
    """The other checks of a mapping that need the lock."""
    taken = await first_between(iommu.dma_list, iova, iova + size - 1)
    there = "" if taken is None else f"{taken.iova:#x} to {taken.iova + taken.size - 1:#x} are mapped already"
    await refuse_if(taken is not None, Errno.EEXIST, "iova_is_free", f"the I/O addresses {there}")
    full = await load(iommu.dma_avail) == 0
    await refuse_if(full, Errno.ENOSPC, "mappings_left", f"the container has {iommu.limit} mappings, as many as it may")
    usable, last = await load(iommu.iova_list), iova + size - 1
    valid = iova_dma_valid(usable, iova, last)
    why = f"not all of {iova:#x} to {last:#x} can be mapped; devices reach {spans(usable)}"
    await refuse_if(not valid, Errno.EINVAL, "iova_usable", why)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_dma_do_map(iommu: VfioIommu, wanted: uapi.VfioIommuType1DmaMap) -> None:
    """Map memory of the caller. In this order: EINVAL (size 0), EOVERFLOW, EINVAL (neither read nor write), EINVAL (alignment),
    EEXIST (overlap), ENOSPC (too many), EINVAL (reserved or out of reach), EFAULT or ENOMEM (pinning)."""
    iova, vaddr, size = wanted.iova, wanted.vaddr, wanted.size
    await refuse_if(size == 0, Errno.EINVAL, "size_not_zero", "a mapping has at least one page")
    over = iova + size - 1 > LAST
    await refuse_if(over, Errno.EOVERFLOW, "range_ends_somewhere", ends_beyond(iova, size))
    over = vaddr + size - 1 > LAST
    await refuse_if(over, Errno.EOVERFLOW, "memory_ends_somewhere", f"of the memory {ends_beyond(vaddr, size)}")
    access, moves = wanted.flags & (MAP_READ | MAP_WRITE), wanted.flags & MAP_VADDR
    both = bool(access) == bool(moves)
    why = (
        "VADDR gives a mapping away as it is, without READ and WRITE"
        if moves
        else "neither READ nor WRITE nor VADDR is asked for"
    )
    await refuse_if(both, Errno.EINVAL, "access_or_move", why)
    say(Phase.LOCK, "The lock of {}: mappings come and go one at a time.", iommu)
    async with iommu.lock:
        await check_map_alignment(iommu, iova | vaddr | size)
        if moves:
            await give_vaddr(iommu, iova, vaddr, size)
            return
        await check_map(iommu, iova, size)
        say(Phase.ACQUIRE, "The mapping is noted, with the address space of the caller.")
        mm = await require(await current_mm(), Errno.ENODEV, "caller_has_memory", "the caller has no memory")
        task, lock_cap = current_task(), await capable("CAP_IPC_LOCK")
        dma = await alloc(VfioDma, iova, size, access, (vaddr, mm, lock_cap, task))
        await store(iommu.dma_avail, await load(iommu.dma_avail) - 1)
        await get(task.usage, dma, ITS_MEMORY)
        await mmgrab(mm, dma, ITS_MEMORY)
        await xa_store(iommu.dma_list, iova, dma)
        if await load(iommu.domain_list):
            await vfio_pin_map_dma(iommu, dma)
        if await load(iommu.dirty_page_tracking):
            async with on_failure(vfio_remove_dma, iommu, dma):
                await vfio_dma_bitmap_alloc(dma)


async def check_map_alignment(iommu: VfioIommu, all_bits: int) -> None:
    """Size and both addresses, ORed, of a mapping: EINVAL unless they are whole pages."""
    page = await load(iommu.pgsize_bitmap)
    page &= -page
    crooked = all_bits & (page - 1) != 0
    await refuse_if(crooked, Errno.EINVAL, "whole_pages", f"size and both addresses must be multiples of {page}")


async def give_vaddr(iommu: VfioIommu, iova: int, vaddr: int, size: int) -> None:
    """A program takes over a mapping that waits for that. ENOENT, EINVAL unless it is this one as a whole, ENOMEM."""
    found = await first_between(iommu.dma_list, iova, iova + size - 1)
    dma = await require(
        found, Errno.ENOENT, "mapping_is_there", f"nothing is mapped from {iova:#x} to {iova + size - 1:#x}"
    )
    ready = await load(dma.vaddr_invalid) and (dma.iova, dma.size) == (iova, size)
    why = f"of the mapping {span_of(dma)} all of it can be taken over, once UNMAP with VADDR has let it go"
    await refuse_if(not ready, Errno.EINVAL, "mapping_waits", why)
    await vfio_change_dma_owner(dma, vaddr)
    await set_vaddr_invalid(iommu, dma, False)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_replay(iommu: VfioIommu) -> None:
    """A first page table comes to mappings that waited for one: pin them all, or none. ERANGE for one beyond its reach."""
    done: list[VfioDma] = []
    for dma in await in_order(iommu.dma_list):
        if await load(dma.iommu_mapped):
            continue
        try:
            await vfio_pin_pages_remote(dma)
            done.append(dma)
            why = f"the mapping {span_of(dma)} lies beyond the reach of the page table, 0x0 to {APERTURE_LAST:#x}"
            await refuse_if(dma.last > APERTURE_LAST, Errno.ERANGE, "table_reaches_it", why)
        except KernelError:
            for pinned in reversed(done):
                await vfio_lock_acct(pinned, -await load(pinned.locked_vm))
            raise
    for dma in done:
        await store(dma.iommu_mapped, True)


async def refuse_iova_conflicts(
    dmas: tuple[VfioDma, ...], ranges: Ranges, start: int, end: int, reserved: Ranges
) -> None:
    """EINVAL if a mapping lies beyond what a new page table can translate, or in what its group reserves."""
    await vfio_iommu_aper_conflict(dmas, ranges, start, end)
    taken = next((dma for a, b in reserved if (dma := find_dma(dmas, a, b)) is not None), None)
    why = f"the mapping {span_of(taken)} is in the way of the group's interrupts, {spans(reserved)}"
    await refuse_if(taken is not None, Errno.EINVAL, "reserved_is_free", why)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_aper_conflict(dmas: tuple[VfioDma, ...], ranges: Ranges, start: int, end: int) -> None:
    """EINVAL if the addresses of the page tables do not meet, or a mapping lies outside the new ones."""
    if not ranges:
        return
    first, last = ranges[0][0], ranges[-1][1]
    apart = start > last or end < first
    below = start > first and find_dma(dmas, first, start - 1) is not None
    above = end < last and find_dma(dmas, end + 1, last) is not None
    conflict = apart or below or above
    why = f"something is mapped beyond the reach of the new page table, {start:#x} to {end:#x}"
    await refuse_if(conflict, Errno.EINVAL, "aperture_fits", why)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_attach_group(
    parameters: ModuleParameters, iommu: VfioIommu, iommu_group: IommuGroup, kind: VfioGroupType
) -> None:
    """A group comes under the mappings of the container.

    EBUSY if its DMA goes through a page table already, EINVAL if a mapping lies where its devices cannot reach or must
    not, EPERM without isolated interrupts; what pinning says if mappings were waiting for a page table. A group without
    DMA of its own needs nothing.
    """
    async with iommu.lock:
        waits = await load(iommu.vaddr_invalid_count)
        why = f"mappings that wait for a program to take them over: {waits}"
        await refuse_if(waits != 0, Errno.EBUSY, "vaddrs_are_valid", why)
        if kind is VfioGroupType.EMULATED_IOMMU:
            emulated = await load(iommu.emulated_iommu_groups)
            await store(iommu.emulated_iommu_groups, (iommu_group, *emulated))
            return
        say(Phase.ACQUIRE, "{} gets a page table.", iommu_group)
        fresh = await alloc(VfioDomain, iommu)
        async with on_failure(free, fresh):
            await attach_to_domain(parameters, iommu, fresh, iommu_group)


async def attach_to_domain(
    parameters: ModuleParameters, iommu: VfioIommu, fresh: VfioDomain, iommu_group: IommuGroup
) -> None:
    """The second half of `vfio_iommu_type1_attach_group`: the new page table, or one of the container that does as well."""
    await iommu_attach_group(fresh, iommu_group)
    async with on_failure(iommu_detach_group, iommu_group):
        ranges = await load(iommu.iova_list)
        reserved = group_resv_regions(iommu_group)
        await refuse_iova_conflicts(await in_order(iommu.dma_list), ranges, 0, APERTURE_LAST, reserved)
        ranges = resv_exclude(aper_resize(ranges, 0, APERTURE_LAST), reserved)
        await refuse_if(not ranges, Errno.EINVAL, "addresses_left", "no I/O address is left that the group could use")
        if not iommu_group_has_isolated_msi(iommu_group):
            allowed = await load(parameters.type1_unsafe_interrupts)
            await refuse_if(not allowed, Errno.EPERM, "msi_isolated", MSI_IS_SHARED)
        domain = await fitting_domain(iommu, fresh, iommu_group)
        if domain is fresh:
            await vfio_iommu_replay(iommu)
            await store(iommu.domain_list, (fresh, *await load(iommu.domain_list)))
            await update_pgsize_bitmap(iommu)
    await store(domain.group_list, (iommu_group, *await load(domain.group_list)))
    await store(iommu.iova_list, ranges)


async def fitting_domain(iommu: VfioIommu, fresh: VfioDomain, iommu_group: IommuGroup) -> VfioDomain:
    """A page table of the container that can serve the group too; the new one is not needed then."""
    for domain in await load(iommu.domain_list):
        if domain.enforce_cache_coherency == fresh.enforce_cache_coherency:
            say(Phase.ACQUIRE, "{} shares the page table of the groups that are in the container already.", iommu_group)
            await iommu_detach_group(iommu_group)
            try:
                await iommu_attach_group(domain, iommu_group)
            except KernelError:
                say(Phase.ACQUIRE, "{} does not fit there: the next page table may do, or else a new one.", iommu_group)
                await iommu_attach_group(fresh, iommu_group)
                continue
            await free(fresh)
            return domain
    return fresh


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_unmap_unpin_all(iommu: VfioIommu) -> None:
    """Nobody is left who could use the mappings."""
    for dma in await in_order(iommu.dma_list):
        await vfio_remove_dma(iommu, dma)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_unmap_unpin_reaccount(iommu: VfioIommu) -> None:
    """Only groups without DMA are left: the mappings stay, but nothing is pinned for them."""
    for dma in await in_order(iommu.dma_list):
        await vfio_unmap_unpin(iommu, dma)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_detach_group(iommu: VfioIommu, iommu_group: IommuGroup) -> None:
    """A group leaves. The last one with DMA takes the page table along, the last one of all takes the mappings along."""
    async with iommu.lock:
        emulated = await load(iommu.emulated_iommu_groups)
        if iommu_group in emulated:
            left = tuple(other for other in emulated if other is not iommu_group)
            await store(iommu.emulated_iommu_groups, left)
            if not left and not await load(iommu.domain_list):
                await vfio_iommu_unmap_unpin_all(iommu)
            return
        for domain in await load(iommu.domain_list):
            groups = await load(domain.group_list)
            if iommu_group in groups:
                await iommu_detach_group(iommu_group)
                await store(domain.group_list, tuple(other for other in groups if other is not iommu_group))
                await after_detach(iommu, domain, last=len(groups) == 1)
                break


async def after_detach(iommu: VfioIommu, domain: VfioDomain, last: bool) -> None:
    """The second half of `vfio_iommu_type1_detach_group`: a page table without groups goes, the address ranges may grow."""
    if await load(iommu.dirty_page_tracking):  # what the group has written nobody knows
        for dma in await in_order(iommu.dma_list):
            await store(dma.bitmap, (await load(dma.bitmap) or 0) | all_pages(dma))
    ranges = await load(iommu.iova_list)
    if last:
        domains = await load(iommu.domain_list)
        if len(domains) == 1:
            if await load(iommu.emulated_iommu_groups):
                await vfio_iommu_unmap_unpin_reaccount(iommu)
            else:
                await vfio_iommu_unmap_unpin_all(iommu)
        await store(iommu.domain_list, tuple(other for other in domains if other is not domain))
        await free(domain)
        ranges = aper_expand(ranges, len(domains) > 1)
        await update_pgsize_bitmap(iommu)
    if ranges:
        reserved: tuple[tuple[int, int], ...] = ()
        for other in await load(iommu.domain_list):
            for iommu_group in await load(other.group_list):
                reserved += group_resv_regions(iommu_group)
        await store(iommu.iova_list, resv_exclude(((ranges[0][0], ranges[-1][1]),), reserved))


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_open(parameters: ModuleParameters, kind: int) -> VfioIommu:
    """The driver's part of a container: type 1, or its second version, whose unmaps never cut a mapping."""
    return await alloc(VfioIommu, kind == uapi.VFIO_TYPE1v2_IOMMU, await load(parameters.dma_entry_limit))


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_release(iommu: VfioIommu) -> None:
    """The container needs no driver any more: what is left goes."""
    await vfio_iommu_unmap_unpin_all(iommu)
    for domain in await load(iommu.domain_list):
        for iommu_group in await load(domain.group_list):
            await iommu_detach_group(iommu_group)
        await free(domain)
    await free(iommu)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_check_extension(iommu: VfioIommu | None, kind: int) -> int:
    """What this driver can do; two of the answers depend on what is in the container."""
    if kind in (uapi.VFIO_TYPE1_IOMMU, uapi.VFIO_TYPE1v2_IOMMU, uapi.VFIO_UNMAP_ALL):
        return 1
    if iommu is None:
        return 0
    if kind == uapi.VFIO_UPDATE_VADDR:
        async with iommu.lock:
            return int(not await load(iommu.emulated_iommu_groups))
    if kind == uapi.VFIO_DMA_CC_IOMMU:
        async with iommu.lock:
            return int(all(domain.enforce_cache_coherency for domain in await load(iommu.domain_list)))
    return 0


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_get_info(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_GET_INFO: EFAULT, EINVAL for argsz below 16; capabilities only if there is room for all of them."""
    whole = sizeof(uapi.VfioIommuType1Info)
    data = (await copy_from_user(argument, INFO_MINSZ)).ljust(whole, b"\0")
    info = uapi.VfioIommuType1Info.from_buffer_copy(data)
    await refuse_if(info.argsz < INFO_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {INFO_MINSZ}")
    room = min(info.argsz, whole)
    async with iommu.lock:
        info.flags = uapi.VFIO_IOMMU_INFO_PGSIZES | uapi.VFIO_IOMMU_INFO_CAPS
        info.iova_pgsizes = await load(iommu.pgsize_bitmap)
        chain = await capabilities(iommu)
    if info.argsz < whole + len(chain):
        info.argsz = whole + len(chain)
    else:
        await copy_to_user(argument + whole, chain)
        info.cap_offset = whole
    await copy_to_user(argument, bytes(info)[:room])
    return 0


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_map_dma(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_MAP_DMA: EFAULT, EINVAL (argsz, flags), then what `vfio_dma_do_map` says."""
    size = sizeof(uapi.VfioIommuType1DmaMap)
    wanted = uapi.VfioIommuType1DmaMap.from_buffer_copy(await copy_from_user(argument, size))
    unknown = wanted.flags & ~(MAP_READ | MAP_WRITE | MAP_VADDR)
    await check_argument(wanted.argsz, size, unknown)
    await vfio_dma_do_map(iommu, wanted)
    return 0


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_unmap_dma(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_UNMAP_DMA: EFAULT, EINVAL (argsz, flags), then what `vfio_dma_do_unmap` says. `size` is what was unmapped."""
    whole = sizeof(uapi.VfioIommuType1DmaUnmap)
    data = (await copy_from_user(argument, UNMAP_MINSZ)).ljust(whole, b"\0")
    wanted = uapi.VfioIommuType1DmaUnmap.from_buffer_copy(data)
    bitmap = wanted.flags & UNMAP_BITMAP
    await check_argument(wanted.argsz, UNMAP_MINSZ, wanted.flags & ~(UNMAP_BITMAP | UNMAP_ALL | UNMAP_VADDR))
    beside = wanted.flags & (UNMAP_ALL | UNMAP_VADDR) if bitmap else 0
    why = f"a bitmap tells of one range that goes, so the flags {beside:#x} do not go with it"
    await refuse_if(beside != 0, Errno.EINVAL, "bitmap_alone", why)
    told = await check_bitmap(wanted, argument) if bitmap else None
    wanted.size = await vfio_dma_do_unmap(iommu, wanted, told)
    await copy_to_user(argument, bytes(wanted)[:UNMAP_MINSZ])
    return 0


# ---- which pages were written: what the IOMMU does not tell, so all are, if a device may have


def all_pages(dma: VfioDma) -> int:
    """A bit for each page of a mapping."""
    return (1 << dma.size // PAGE_SIZE) - 1


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_dirty_pages(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_DIRTY_PAGES: EACCES in version 1, EFAULT, EINVAL (argsz, flags); begin and end to track, or tell."""
    await refuse_if(not iommu.v2, Errno.EACCES, "second_version", "dirty pages need version 2")
    head = await copy_from_user(argument, DIRTY_MINSZ)
    argsz, flags = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
    await check_argument(argsz, DIRTY_MINSZ, flags & ~(START | STOP | GET))
    one = flags in (START, STOP, GET)
    await refuse_if(
        not one, Errno.EINVAL, "one_flag", f"the flags are {flags:#x}: one of START, STOP and GET_BITMAP is wanted"
    )
    if flags == GET:
        await dirty_get_bitmap(iommu, argument + DIRTY_MINSZ, argsz - DIRTY_MINSZ)
        return 0
    async with iommu.lock:
        tracks = await load(iommu.dirty_page_tracking)
        if flags == START and not tracks:
            for dma in await in_order(iommu.dma_list):
                await vfio_dma_bitmap_alloc(dma)
        await store(iommu.dirty_page_tracking, flags == START)
    return 0


async def dirty_get_bitmap(iommu: VfioIommu, argument: int, room: int) -> None:
    """Tell of a range: EINVAL (argsz), EFAULT, EINVAL (size 0), EOVERFLOW, EINVAL (the bitmap, alignment, not tracked)."""
    size = sizeof(uapi.VfioIommuType1DirtyBitmapGet)
    await refuse_if(room < size, Errno.EINVAL, "argsz_for_range", f"the range and its bitmap need {size} bytes more")
    wanted = uapi.VfioIommuType1DirtyBitmapGet.from_buffer_copy(await copy_from_user(argument, size))
    await refuse_if(not wanted.size, Errno.EINVAL, "size_not_zero", "a range has at least one page")
    last = wanted.iova + wanted.size - 1
    await refuse_if(last > LAST, Errno.EOVERFLOW, "range_ends_somewhere", ends_beyond(wanted.iova, wanted.size))
    await verify_bitmap(wanted.bitmap, wanted.size)
    async with iommu.lock:
        page = await load(iommu.pgsize_bitmap)
        page &= -page
        crooked = (wanted.iova | wanted.size) % page != 0
        await refuse_if(crooked, Errno.EINVAL, "whole_pages", f"address and size must be multiples of {page}")
        await check_tracking(iommu, wanted.bitmap.pgsize, page)
        await vfio_iova_dirty_bitmap(iommu, wanted.bitmap.data, wanted.iova, last)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_ioctl(iommu: VfioIommu | None, cmd: int, argument: int) -> int:
    """Requests that a container hands to its driver; without a container only VFIO_CHECK_EXTENSION."""
    if cmd == uapi.VFIO_CHECK_EXTENSION or iommu is None:
        return await vfio_iommu_type1_check_extension(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_GET_INFO:
        return await vfio_iommu_type1_get_info(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_MAP_DMA:
        return await vfio_iommu_type1_map_dma(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_UNMAP_DMA:
        return await vfio_iommu_type1_unmap_dma(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_DIRTY_PAGES:
        return await vfio_iommu_type1_dirty_pages(iommu, argument)
    await refuse_if(True, Errno.ENOTTY, "driver_knows_request", f"the IOMMU driver has no request {cmd:#x}")
    return 0


def vfio_iommu_driver_ops_type1(parameters: ModuleParameters) -> VfioIommuDriverOps:
    """The driver, on a machine with these parameters."""
    return VfioIommuDriverOps(
        "vfio-iommu-type1",
        open=partial(vfio_iommu_type1_open, parameters),
        release=vfio_iommu_type1_release,
        ioctl=vfio_iommu_type1_ioctl,
        attach_group=partial(vfio_iommu_type1_attach_group, parameters),
        detach_group=vfio_iommu_type1_detach_group,
    )
