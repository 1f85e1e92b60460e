"""Memory pinned for software, without a page table (the accesses of drivers/iommu/iommufd/pages.c, v7.2)."""

from __future__ import annotations

from contextlib import suppress

from ...engine import kernel, load, refuse_if, require, store
from ...uapi import Errno, KernelError
from .areas import IoptArea, IoptPages
from .pages import charge, covered, in_use, pin_span


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_area_add_access(area: IoptArea, first: int, last: int, write: bool, lock: bool) -> None:
    """Pin pages `first` to `last` behind an area, as far as they are not pinned yet. EPERM, EFAULT, EINVAL, ENOMEM."""
    pages = await require(await load(area.pages), Errno.EINVAL, "area_is_published", "an area without memory")
    denied = write and not pages.writable
    await refuse_if(denied, Errno.EPERM, "memory_is_writable", "the memory was mapped for reading only")
    async with pages.mutex:
        known = await load(pages.access_itree)
        if (first, last) not in known:
            await pin(pages, first, last)
        await store(pages.access_itree, (*known, (first, last)))
        await store(area.num_accesses, await load(area.num_accesses) + 1)
        if lock:
            await store(area.num_locks, await load(area.num_locks) + 1)


async def pin(pages: IoptPages, first: int, last: int) -> None:
    """Pin and charge what of a range nobody has pinned; on failure nothing is (`iopt_pages_fill_xarray`)."""
    before = await load(pages.npinned)
    spans = covered(await in_use(pages), first, last)
    for start, end in spans:
        await pin_span(pages, start, end)
    await store(pages.npinned, before + sum(end - start + 1 for start, end in spans))
    try:
        await charge(pages)
    except KernelError:
        await store(pages.npinned, before)
        raise


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_area_remove_access(area: IoptArea, first: int, last: int, lock: bool) -> None:
    """Give back what was pinned; it stays pinned as long as a page table or somebody else needs it."""
    pages = await require(await load(area.pages), Errno.EINVAL, "area_is_published", "an area without memory")
    async with pages.mutex:
        before = await load(pages.access_itree)
        at = before.index((first, last))
        await store(pages.access_itree, (*before[:at], *before[at + 1 :]))
        await store(area.num_accesses, await load(area.num_accesses) - 1)
        if lock:
            await store(area.num_locks, await load(area.num_locks) - 1)
        released = sum(end - start + 1 for start, end in covered(await in_use(pages), first, last))
        await store(pages.npinned, await load(pages.npinned) - released)
        with suppress(KernelError):  # the address space is gone, and its count with it
            await charge(pages)
