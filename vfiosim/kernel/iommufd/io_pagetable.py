"""Mapping and unmapping in an address space (drivers/iommu/iommufd/io_pagetable.c, v7.2).

What page tables and devices do to an address space is in `domains.py`, how a free place is found in `iova.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...engine import (
    Phase,
    alloc,
    current,
    first_between,
    free,
    get,
    hand_over,
    kernel,
    load,
    poke,
    refuse_if,
    require,
    say,
    shared,
    store,
    warn_on,
)
from ...uapi import Errno, KernelError
from ..fs.file import fget, fput
from ..mm import PAGE_SIZE
from .access_pages import iommufd_access_notify_unmap
from .areas import HAS_PAGES, IOMMU_WRITE, ULONG_MAX, IoptArea, IoptPages
from .iova import iopt_alloc_iova
from .pages import (
    MAKER,
    iopt_alloc_file_pages,
    iopt_alloc_user_pages,
    iopt_area_fill_domains,
    iopt_area_unfill_domains,
    iopt_put_pages,
)
from .private import IommufdCtx, IommufdIoas

TRIES = 100  # how often drivers are asked to give back what they have pinned


@dataclass
class Element:
    """One piece of what is to be mapped (`struct iopt_pages_list`): a part of some pages, and its area once there is one.

    The running call holds the pages until the area does; None once they have changed hands.
    """

    pages: IoptPages | None
    start_byte: int
    length: int
    area: IoptArea | None = None


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_check_iova(iopt: IommufdIoas, iova: int, length: int) -> None:
    """Is a given place possible and free? EINVAL misaligned, EOVERFLOW, EINVAL reserved, EEXIST mapped already."""
    alignment = await load(iopt.iova_alignment)
    await refuse_if(
        iova % alignment != 0, Errno.EINVAL, "iova_aligned", f"the I/O address must be a multiple of {alignment}"
    )
    last = iova + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "iova_ends_somewhere", "the range ends beyond the last address")
    hit = any(first <= last and iova <= end for first, end, _ in await load(iopt.reserved))
    await refuse_if(hit, Errno.EINVAL, "iova_not_reserved", "a device or page table cannot use these addresses")
    taken = await first_between(iopt.areas, iova, last)
    await refuse_if(taken is not None, Errno.EEXIST, "iova_free", "something is mapped there already")


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_insert_area(
    iopt: IommufdIoas, pages: IoptPages, iova: int, start_byte: int, length: int, prot: int
) -> IoptArea:
    """Give an area its place, still without pages. EPERM to write what was mapped for reading, EINVAL for its alignment."""
    denied = bool(prot & IOMMU_WRITE) and not pages.writable
    await refuse_if(denied, Errno.EPERM, "source_is_writable", "the memory was mapped for reading only")
    area = await alloc(IoptArea, iopt, iova, length, start_byte, prot)
    try:
        alignment = await load(iopt.iova_alignment)
        await refuse_if(
            area.page_offset % alignment != 0,
            Errno.EINVAL,
            "place_in_page_aligned",
            f"the memory must begin at a multiple of {alignment}",
        )
        beyond = start_byte + length - 1 > ULONG_MAX or iova + length - 1 > ULONG_MAX
        await refuse_if(beyond, Errno.EOVERFLOW, "area_ends_somewhere", "the range ends beyond the last address")
    except KernelError:
        await free(area)
        raise
    await poke(iopt.areas, iova, area)
    return area


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_alloc_area_pages(
    iopt: IommufdIoas, elements: list[Element], length: int, iova: int | None, prot: int
) -> int:
    """Find or check the place, and take it. EINVAL for the length, then what the place says. The answer is the place."""
    say(Phase.LOCK, "The addresses of {} are locked: is the place free?", iopt)
    async with iopt.iova_rwsem:
        alignment = await load(iopt.iova_alignment)
        await refuse_if(
            length % alignment != 0 or not length,
            Errno.EINVAL,
            "length_aligned",
            f"the length must be a multiple of {alignment}",
        )
        if iova is None:
            first = elements[0]
            assert first.pages is not None
            iova = await iopt_alloc_iova(iopt, first.start_byte + first.pages.address, length)
        else:
            await iopt_check_iova(iopt, iova, length)
        place = iova
        for element in elements:
            assert element.pages is not None
            element.area = await iopt_insert_area(iopt, element.pages, place, element.start_byte, element.length, prot)
            place += element.length
    return iova


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_abort_area(area: IoptArea) -> None:
    """An area gives its place back and dies."""
    async with area.iopt.iova_rwsem:
        await poke(area.iopt.areas, area.iova, None)
    await free(area)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_free_pages_list(elements: list[Element]) -> None:
    """Undo what a call has not brought to its end: areas without pages, pages without area."""
    for element in elements:
        if element.area is not None:
            await iopt_abort_area(element.area)
        if element.pages is not None:
            await iopt_put_pages(element.pages, current(), MAKER)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_fill_domains_pages(elements: list[Element]) -> None:
    """Enter the new areas into every page table; all of them, or none."""
    done: list[Element] = []
    for element in elements:
        assert element.area is not None
        assert element.pages is not None
        try:
            await iopt_area_fill_domains(element.area, element.pages)
        except KernelError:
            for other in done:
                assert other.area is not None
                assert other.pages is not None
                await iopt_area_unfill_domains(other.area, other.pages)
            raise
        done.append(element)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_map_pages(iopt: IommufdIoas, elements: list[Element], length: int, iova: int | None, prot: int) -> int:
    """Map: take the place, enter the memory into the page tables, publish. The answer is the place.

    Between the steps the place is taken, but belongs to nobody yet: UNMAP of it says EBUSY.
    """
    place = await iopt_alloc_area_pages(iopt, elements, length, iova, prot)
    async with shared(iopt.domains_rwsem):
        await iopt_fill_domains_pages(elements)
        say(Phase.PUBLISH, "The mapping is complete and can be found from now on.")
        async with iopt.iova_rwsem:
            for element in elements:
                assert element.area is not None
                assert element.pages is not None
                await hand_over(element.pages.kref, (current(), MAKER), (element.area, HAS_PAGES))
                await store(element.area.pages, element.pages)
                element.area = element.pages = None
    return place


async def iopt_map_common(
    iopt: IommufdIoas, pages: IoptPages, start_byte: int, length: int, iova: int | None, prot: int
) -> int:
    """Map one piece of memory that is new to the context."""
    elements = [Element(pages, start_byte, length)]
    try:
        return await iopt_map_pages(iopt, elements, length, iova, prot)
    except KernelError:
        await iopt_free_pages_list(elements)
        raise


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_map_user_pages(
    ictx: IommufdCtx, iopt: IommufdIoas, iova: int | None, address: int, length: int, prot: int
) -> int:
    """Map memory of the calling process, at `iova` or, without one, where there is room. The answer is the place."""
    pages = await iopt_alloc_user_pages(ictx, address, length, bool(prot & IOMMU_WRITE))
    return await iopt_map_common(iopt, pages, address % PAGE_SIZE, length, iova, prot)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_map_file_pages(
    ictx: IommufdCtx, iopt: IommufdIoas, iova: int | None, fd: int, start: int, length: int, prot: int
) -> int:
    """Map a part of a file. EINVAL for length 0, EOVERFLOW, EBADF, then as memory."""
    await refuse_if(not length, Errno.EINVAL, "file_length", "a mapping needs at least one byte")
    await refuse_if(
        start + length - 1 > ULONG_MAX, Errno.EOVERFLOW, "file_ends_somewhere", "the part ends beyond the last offset"
    )
    file = await require(await fget(fd), Errno.EBADF, "mapped_file_is_open", f"{fd} is not an open file")
    try:
        pages = await iopt_alloc_file_pages(ictx, file, start, length, bool(prot & IOMMU_WRITE))
    except KernelError:
        await fput(file)
        raise
    await fput(file)
    return await iopt_map_common(iopt, pages, start % PAGE_SIZE, length, iova, prot)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_get_pages(iopt: IommufdIoas, iova: int, length: int) -> list[Element]:
    """The memory behind a range, held for the running call. EINVAL, EOVERFLOW, ENOENT unless areas cover all of it."""
    await refuse_if(not length, Errno.EINVAL, "source_length", "nothing is to be copied")
    last = iova + length - 1
    await refuse_if(
        last > ULONG_MAX, Errno.EOVERFLOW, "source_ends_somewhere", "the range ends beyond the last address"
    )
    elements: list[Element] = []
    try:
        async with shared(iopt.iova_rwsem):
            at = iova
            while at <= last:
                area = await first_between(iopt.areas, at, at)
                pages = await load(area.pages) if area is not None else None
                pages = await require(pages, Errno.ENOENT, "source_is_mapped", "not all of the source is mapped")
                assert area is not None
                end = min(last, area.last)
                await get(pages.kref, current(), MAKER)
                elements.append(Element(pages, area.byte_at(at), end - at + 1))
                at = end + 1
    except KernelError:
        await iopt_free_pages_list(elements)
        raise
    return elements


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_unmap_iova_range(iopt: IommufdIoas, start: int, last: int) -> tuple[int, KernelError | None]:
    """Unmap every area of a range, upwards, and stop at the first that cannot go: EBUSY or ENOENT (cut by the range).

    The answer is how many bytes were unmapped, and the error: what was unmapped before it stays unmapped.
    """
    unmapped = tries = 0
    while True:
        pinned = None
        async with shared(iopt.domains_rwsem):
            while start <= last and pinned is None:
                try:
                    found = await take_area(iopt, start, last)
                except KernelError as error:
                    return unmapped, error
                if found is None:
                    break
                area, pages = found
                if pages is None:
                    pinned, start = area, area.iova
                else:
                    unmapped += area.length
                    start = area.last + 1
                    await drop_area(area, pages)
        if pinned is None:
            return unmapped, None
        await iommufd_access_notify_unmap(iopt, pinned.iova, pinned.length)
        tries += 1
        if await gives_up(iopt, tries):
            return unmapped, KernelError(
                Errno.EDEADLK, "a driver does not give back what it pinned", check="unmap_answered"
            )


async def gives_up(iopt: IommufdIoas, tries: int) -> bool:
    """After a hundred times nobody asks a driver again for what it has pinned."""
    return tries > TRIES and await warn_on(True, f"a driver does not give back what it has pinned in {iopt.oid}")


async def drop_area(area: IoptArea, pages: IoptPages) -> None:
    """An area that nobody can use any more leaves the page tables, gives its place back, and lets go of its memory."""
    await iopt_area_unfill_domains(area, pages)
    await hand_over(pages.kref, (area, HAS_PAGES), (current(), MAKER))
    await iopt_abort_area(area)
    await iopt_put_pages(pages, current(), MAKER)


async def take_area(iopt: IommufdIoas, start: int, last: int) -> tuple[IoptArea, IoptPages | None] | None:
    """The lowest area of a range, if it may go, and its pages, which it has no more: nobody can use it.

    Without pages if software has some of it pinned: the driver must be asked, and cannot pin more of it.
    """
    async with iopt.iova_rwsem:
        area = await first_between(iopt.areas, start, last)
        if area is None:
            return None
        pages = await require(
            await load(area.pages), Errno.EBUSY, "area_is_complete", "another call is mapping or unmapping this area"
        )
        locked = await load(area.num_locks) != 0
        await refuse_if(locked, Errno.EBUSY, "area_not_locked", "the hardware reads a queue in this area")
        cut = area.iova < start or area.last > last
        await refuse_if(cut, Errno.ENOENT, "area_inside_range", "the range cuts a mapping; only whole ones can go")
        if await load(area.num_accesses):
            await store(area.prevent_access, True)
            return area, None
        say(Phase.UNWIND, "{} goes.", area)
        await store(area.pages, None)
    return area, pages


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_unmap_iova(iopt: IommufdIoas, iova: int, length: int) -> tuple[int, KernelError | None]:
    """Unmap a range. EINVAL for length 0, EOVERFLOW, and as above."""
    await refuse_if(not length, Errno.EINVAL, "unmap_length", "nothing is to be unmapped")
    last = iova + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "unmap_ends_somewhere", "the range ends beyond the last address")
    return await iopt_unmap_iova_range(iopt, iova, last)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_unmap_all(iopt: IommufdIoas) -> tuple[int, KernelError | None]:
    """Unmap everything; success if there was nothing."""
    return await iopt_unmap_iova_range(iopt, 0, ULONG_MAX)
