"""What page tables, devices and options do to an address space (drivers/iommu/iommufd/io_pagetable.c, v7.2)."""

from __future__ import annotations

from ...engine import (
    KObject,
    Phase,
    alloc,
    first_between,
    free,
    get,
    in_order,
    kernel,
    load,
    poke,
    put,
    refuse_if,
    say,
    store,
)
from ...uapi import Errno, KernelError
from ..mm import PAGE_SIZE
from .areas import HAS_PAGES, ULONG_MAX, IoptArea, IoptPages
from .pages import iopt_fill_domain, iopt_unfill_domain
from .private import IommufdAccess, IommufdDevice, IommufdHwptPaging, IommufdIoas

# ---- addresses that may not be mapped, and those that may be given out


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_reserve_iova(iopt: IommufdIoas, first: int, last: int, owner: KObject) -> None:
    """Nobody may map these addresses as long as `owner` is here. EADDRINUSE if something is mapped or allowed there."""
    area = await first_between(iopt.areas, first, last)
    allowed = any(start <= last and first <= end for start, end in await load(iopt.allowed))
    await refuse_if(
        area is not None or allowed, Errno.EADDRINUSE, "reserved_is_unused", "something is mapped or allowed there"
    )
    await store(iopt.reserved, (*await load(iopt.reserved), (first, last, owner)))


async def unreserve(iopt: IommufdIoas, owner: KObject) -> None:
    """Give back what was reserved for `owner`; the caller has iova_rwsem (`__iopt_remove_reserved_iova`)."""
    now = await load(iopt.reserved)
    await store(iopt.reserved, tuple(entry for entry in now if entry[2] is not owner))


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_remove_reserved_iova(iopt: IommufdIoas, owner: KObject) -> None:
    """Give back what was reserved for a device."""
    async with iopt.iova_rwsem:
        await unreserve(iopt, owner)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_table_enforce_dev_resv_regions(iopt: IommufdIoas, owner: IommufdDevice) -> None:
    """Reserve what a device cannot use for memory: writes to that window are interrupts. EADDRINUSE if it is in use."""
    async with iopt.iova_rwsem:
        try:
            for first, last in owner.dev.iommu_ops.reserved:
                await iopt_reserve_iova(iopt, first, last, owner)
        except KernelError:
            await unreserve(iopt, owner)
            raise


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_set_allow_iova(iopt: IommufdIoas, allowed: tuple[tuple[int, int], ...]) -> None:
    """Replace the list of addresses that may be given out. EADDRINUSE if one of them is reserved; the old list stays then."""
    async with iopt.iova_rwsem:
        reserved = await load(iopt.reserved)
        hit = any(first <= end and start <= last for start, end in allowed for first, last, _ in reserved)
        await refuse_if(hit, Errno.EADDRINUSE, "allowed_not_reserved", "one of the ranges cannot be used at all")
        await store(iopt.allowed, allowed)


# ---- alignment


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_check_iova_alignment(iopt: IommufdIoas, alignment: int) -> None:
    """Do all areas fit a larger alignment? EADDRINUSE otherwise."""
    for area in await in_order(iopt.areas):
        odd = (area.iova | area.length | area.page_offset) % alignment != 0
        await refuse_if(odd, Errno.EADDRINUSE, "areas_are_aligned", f"a mapping is not aligned to {alignment} bytes")


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_calculate_iova_alignment(iopt: IommufdIoas) -> None:
    """Alignment follows who is there: page tables, emulated devices that pin, small pages; else 1. EADDRINUSE as above."""
    alignment = PAGE_SIZE if await load(iopt.disable_large_pages) else 1
    for table in await load(iopt.domains):
        alignment = max(alignment, table.translation.page)
    for user in await load(iopt.access_list):
        alignment = max(alignment, user.iova_alignment)
    if alignment > await load(iopt.iova_alignment):
        await iopt_check_iova_alignment(iopt, alignment)
    await store(iopt.iova_alignment, alignment)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_enable_large_pages(iopt: IommufdIoas) -> None:
    """Page tables may use large pages."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        await store(iopt.disable_large_pages, False)
        await iopt_calculate_iova_alignment(iopt)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_disable_large_pages(iopt: IommufdIoas) -> None:
    """Page tables may use small pages only. EINVAL if they are filled already, EADDRINUSE if an area does not fit."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        if await load(iopt.disable_large_pages):
            return
        domains = await load(iopt.domains)
        filled = bool(domains) and await first_between(iopt.areas, 0, ULONG_MAX) is not None
        await refuse_if(
            filled, Errno.EINVAL, "tables_are_empty", "a page table has been filled with large pages already"
        )
        await store(iopt.disable_large_pages, True)
        try:
            await iopt_calculate_iova_alignment(iopt)
        except KernelError:
            await store(iopt.disable_large_pages, False)
            raise


# ---- page tables and emulated devices come and go


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_table_add_domain(iopt: IommufdIoas, domain: IommufdHwptPaging) -> None:
    """A new page table gets everything that is mapped.

    EADDRINUSE if an area is not aligned to pages, or lies (or is allowed) where the table cannot translate; EFAULT, EINVAL,
    ENOMEM where its memory cannot be pinned or charged. Afterwards nothing has changed then.
    """
    say(Phase.LOCK, "{} gets everything that is mapped in {}: nothing may change there meanwhile.", domain, iopt)
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        before, made = await load(iopt.iova_alignment), domain.translation
        alignment = max(before, made.page)
        if alignment != before:
            await iopt_check_iova_alignment(iopt, alignment)
        try:
            if made.first:
                await iopt_reserve_iova(iopt, 0, made.first - 1, domain)
            await iopt_reserve_iova(iopt, made.last + 1, ULONG_MAX, domain)
            await iopt_fill_domain(iopt, await in_order(iopt.areas), domain)
        except KernelError:
            await unreserve(iopt, domain)
            raise
        await store(iopt.iova_alignment, alignment)
        await store(iopt.domains, (*await load(iopt.domains), domain))


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_table_remove_domain(iopt: IommufdIoas, domain: IommufdHwptPaging) -> None:
    """A page table goes; the last one in the list takes its place there."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        before = await load(iopt.domains)
        domains = list(before)
        index, tail = domains.index(domain), domains.pop()
        if index < len(domains):
            domains[index] = tail
        await store(iopt.domains, tuple(domains))
        await iopt_unfill_domain(iopt, await in_order(iopt.areas), domain)
        await unreserve(iopt, domain)
        await iopt_calculate_iova_alignment(iopt)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_add_access(iopt: IommufdIoas, access: IommufdAccess) -> None:
    """An emulated device comes. EADDRINUSE if a mapping is not aligned to pages."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        before = await load(iopt.access_list)
        await store(iopt.access_list, (*before, access))
        try:
            await iopt_calculate_iova_alignment(iopt)
        except KernelError:
            await store(iopt.access_list, before)
            raise


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_remove_access(iopt: IommufdIoas, access: IommufdAccess) -> None:
    """An emulated device goes."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        users = await load(iopt.access_list)
        await store(iopt.access_list, tuple(user for user in users if user is not access))
        await iopt_calculate_iova_alignment(iopt)


# ---- splitting, which only the requests of a VFIO container do


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_area_split(area: IoptArea, iova: int) -> None:
    """Cut an area in two behind `iova`. EBUSY while it is incomplete, EINVAL misaligned or with large pages in a table."""
    if iova in (area.iova, area.last):
        return
    iopt = area.iopt
    pages = await load(area.pages)
    if pages is None:
        await refuse_if(True, Errno.EBUSY, "split_is_complete", "another call is mapping or unmapping this area")
        return
    alignment = await load(iopt.iova_alignment)
    odd = (iova + 1) % alignment != 0 or area.byte_at(iova + 1) % alignment != 0
    await refuse_if(odd, Errno.EINVAL, "cut_is_aligned", f"an area can be cut at multiples of {alignment} only")
    halves: list[IoptArea] = []
    try:
        for first, last in ((area.iova, iova), (iova + 1, area.last)):
            halves.append(await alloc(IoptArea, iopt, first, last - first + 1, area.byte_at(first), area.iommu_prot))
        async with pages.mutex:
            stored = await load(area.storage_domain)
            large = stored is not None and not await load(iopt.disable_large_pages)
            await refuse_if(
                large, Errno.EINVAL, "no_large_pages", "the page table may have entered it as one large page"
            )
            await split_into(halves, area, pages, stored)
    except KernelError:
        for half in halves:
            await free(half)
        raise
    await free(area)


async def split_into(
    halves: list[IoptArea], area: IoptArea, pages: IoptPages, stored: IommufdHwptPaging | None
) -> None:
    """The second half of `iopt_area_split`, which cannot fail: two areas in the place of one, with the same memory."""
    await poke(area.iopt.areas, area.iova, None)
    for half in halves:
        await poke(area.iopt.areas, half.iova, half)
        await store(half.storage_domain, stored)
        await store(half.pages, pages)
        await get(pages.kref, half, HAS_PAGES)
    if stored is not None:
        others = tuple(other for other in await load(pages.domains_itree) if other is not area)
        await store(pages.domains_itree, (*others, *halves))
    await put(pages.kref, area, HAS_PAGES)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_cut_iova(iopt: IommufdIoas, places: tuple[int, ...]) -> None:
    """Cut the areas at these places."""
    async with iopt.iova_rwsem:
        for iova in places:
            area = await first_between(iopt.areas, iova, iova)
            if area is not None:
                await iopt_area_split(area, iova)
