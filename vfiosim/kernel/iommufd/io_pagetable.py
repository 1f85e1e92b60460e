"""Mapping, unmapping, and what page tables and devices do to an address space (drivers/iommu/iommufd/io_pagetable.c, v7.2)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..config import built_with
from ..dma_buf import dma_buf_fops
from ..fs.file import fget, fput
from ..prototypes import iommufd_access_notify_unmap
from ..regions import PAGE_SIZE, ends_beyond
from .io_pagetable_h import HAS_PAGES, IOMMU_WRITE, ULONG_MAX, IoptArea, IoptPages, Range, holes, merged
from .iommufd_private import IommufdAccess, IommufdCtx, IommufdDevice, IommufdHwptPaging, IommufdIoas
from .iova_bitmap import iova_bitmap_set
from .pages import (
    MAKER,
    iopt_alloc_dmabuf_pages,
    iopt_alloc_file_pages,
    iopt_alloc_user_pages,
    iopt_area_fill_domain,
    iopt_area_fill_domains,
    iopt_area_unfill_domains,
    iopt_put_pages,
    unfill,
)

TRIES = 100  # how often drivers are asked to give back what they have pinned


@dataclass
class Element:
    """One piece of what is to be mapped (`struct iopt_pages_list`): a part of some pages, and its area once there is one.

    The running call holds the pages until the area does; None once they have changed hands.
    """

    of_one_call: ClassVar = True  # see Struct

    pages: IoptPages | None
    start_byte: int
    length: int
    area: IoptArea | None = None


HPAGE_SIZE: Final = 1 << 21
Span = tuple[int, int]  # first and last address


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_alloc_iova(iopt: IommufdIoas, address: int, length: int) -> int:
    """The lowest free place, aligned as the memory itself. EOVERFLOW if too long, EINVAL if badly aligned, ENOSPC if none.

    Only allowed places are searched, if there is a list of them; never below 4096.
    """
    none = length == 0 or length >= ULONG_MAX // 2
    await refuse_if(none, Errno.EOVERFLOW, "length_has_alignment", f"no range has {length:#x} bytes")
    alignment = 1 << (length - 1).bit_length()
    if address:
        alignment = min(alignment, address & -address)
    alignment = min(alignment, HPAGE_SIZE if built_with("transparent_hugepage") else PAGE_SIZE)
    wanted = await load(iopt.iova_alignment)
    why = f"the memory is aligned to {alignment:#x} bytes, and the address space needs {wanted:#x}"
    await refuse_if(alignment < wanted, Errno.EINVAL, "memory_is_aligned", why)
    allowed = await load(iopt.allowed)
    used: list[Range] = [(first, last) for first, last, _ in await load(iopt.reserved)]
    used += [(area.iova, area.last) for area in await in_order(iopt.areas)]
    place = first_place(merged(allowed), merged(used), length, alignment, address % PAGE_SIZE)
    return await require(place, Errno.ENOSPC, "place_left", f"no gap that may be used has room for {length:#x} bytes")


def fitted(first: int, last: int, length: int, alignment: int, offset: int) -> int | None:
    """Where in a range a mapping can begin (`__alloc_iova_check_range`), None if it does not fit."""
    start = first + alignment - 1
    if start > ULONG_MAX:
        return None
    start = start // alignment * alignment | offset
    return None if start >= last or last - start < length - 1 else start


def first_place(allowed: list[Range], used: list[Range], length: int, alignment: int, offset: int) -> int | None:
    """The lowest place in the allowed ranges (everything, if there are none) that touches no used one."""
    floor, ceiling = PAGE_SIZE, ULONG_MAX - PAGE_SIZE
    windows = allowed or [(floor, ceiling)]
    for first, last in windows:
        first, last = max(first, floor), min(last, ceiling)
        start = fitted(first, last, length, alignment, offset) if first <= last else None
        if start is None:
            continue
        for low, high in holes(used, start, last):
            place = fitted(low, high, length, alignment, offset)
            if place is not None:
                return place
    return None


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_check_iova(iopt: IommufdIoas, iova: int, length: int) -> None:
    """Is a given place possible and free? EINVAL misaligned, EOVERFLOW, EINVAL reserved, EEXIST mapped already."""
    alignment = await load(iopt.iova_alignment)
    await refuse_if(
        iova % alignment != 0, Errno.EINVAL, "iova_aligned", f"the I/O address must be a multiple of {alignment}"
    )
    last = iova + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "iova_ends_somewhere", ends_beyond(iova, length))
    hit = [
        f"{first:#x} to {end:#x}, for {owner.oid}"
        for first, end, owner in await load(iopt.reserved)
        if first <= last and iova <= end
    ]
    await refuse_if(bool(hit), Errno.EINVAL, "iova_not_reserved", f"reserved are {', '.join(hit)}")
    taken = await first_between(iopt.areas, iova, last)
    there = "" if taken is None else f"{taken.iova:#x} to {taken.iova + taken.length - 1:#x} are mapped already"
    await refuse_if(taken is not None, Errno.EEXIST, "iova_free", f"the I/O addresses {there}")


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_insert_area(
    iopt: IommufdIoas, pages: IoptPages, iova: int, start_byte: int, length: int, prot: int
) -> IoptArea:
    """Give an area its place, still without pages. EPERM to write what was mapped for reading, EINVAL for its alignment."""
    denied = bool(prot & IOMMU_WRITE) and not pages.writable
    await refuse_if(denied, Errno.EPERM, "source_is_writable", "the memory was mapped for reading only")
    area = await alloc(IoptArea, iopt, iova, length, start_byte, prot)
    async with on_failure(free, area):
        alignment = await load(iopt.iova_alignment)
        await refuse_if(
            area.page_offset % alignment != 0,
            Errno.EINVAL,
            "place_in_page_aligned",
            f"the memory must begin at a multiple of {alignment}",
        )
        beyond = start_byte + length - 1 > ULONG_MAX or iova + length - 1 > ULONG_MAX
        await refuse_if(beyond, Errno.EOVERFLOW, "area_ends_somewhere", "the range ends beyond the last address")
    await xa_store(iopt.areas, iova, area)
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
        say(Phase.ACQUIRE, "The place in {} is taken. It shows no memory yet.", iopt)
        for element in elements:
            assert element.pages is not None
            element.area = await iopt_insert_area(iopt, element.pages, place, element.start_byte, element.length, prot)
            place += element.length
    return iova


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_abort_area(area: IoptArea) -> None:
    """An area gives its place back and dies."""
    async with area.iopt.iova_rwsem:
        await xa_store(area.iopt.areas, area.iova, None)
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
    async with on_failure(iopt_free_pages_list, elements):
        return await iopt_map_pages(iopt, elements, length, iova, prot)


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
    await refuse_if(start + length - 1 > ULONG_MAX, Errno.EOVERFLOW, "file_ends_somewhere", ends_beyond(start, length))
    file = await require(await fget(fd), Errno.EBADF, "mapped_file_is_open", f"{fd} is not an open file")
    async with cleanup(fput, file):
        if file.f_op is dma_buf_fops:
            pages = await iopt_alloc_dmabuf_pages(ictx, file, start, length, bool(prot & IOMMU_WRITE))
        else:
            pages = await iopt_alloc_file_pages(ictx, file, start, length, bool(prot & IOMMU_WRITE))
    return await iopt_map_common(iopt, pages, start % PAGE_SIZE, length, iova, prot)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iommu_read_and_clear_dirty(hwpt: IommufdHwptPaging, cmd: Any) -> None:
    """Set a bit for each written page, from the first address on as far as mappings follow each other without a gap."""
    await table_tracks_dirty(hwpt)
    at, last = cmd.iova, cmd.iova + cmd.length - 1
    while at <= last:
        area = await first_between(hwpt.ioas.areas, at, at)
        if area is None or await load(area.pages) is None:
            return
        end = min(last, area.last)
        for first, stop in await written(hwpt, area, (at, end)):
            with suppress(KernelError):
                await iova_bitmap_set(cmd, first, stop)
        if not cmd.flags & uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR:
            await forget(hwpt, (at, end))
        at = end + 1


async def written(hwpt: IommufdHwptPaging, area: IoptArea, span: Span) -> list[Span]:
    """What of a range is told as written, for each entry of the table that is marked.

    Of an entry that is made of several smaller ones the last of these is not told (`record_dirty` in
    drivers/iommu/generic_pt/iommu_pt.h), which shows where pages of the bitmap are smaller than those of memory.
    """
    size, marked = hwpt.translation.entry or hwpt.translation.page, await load(hwpt.dirty)
    inside = [page for page in sorted(marked) if span[0] <= page <= span[1]]
    return [(page, page + size - 1) for page in inside if page % PAGE_SIZE == 0 or not area.has_whole_page(page)]


async def forget(hwpt: IommufdHwptPaging, span: Span) -> None:
    """Nothing in this range counts as written any more."""
    marked = await load(hwpt.dirty)
    left = tuple(page for page in marked if not span[0] <= page <= span[1])
    if left != marked:
        await store(hwpt.dirty, left)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iommufd_check_iova_range(ioas: IommufdIoas, cmd: Any) -> None:
    """Does a bitmap make sense for these addresses? EOVERFLOW, EINVAL for the alignment or a page size of zero."""
    iova, length, size = cmd.iova, cmd.length, cmd.page_size
    last = iova + (length - 1) % 2**64
    await refuse_if(last >= 2**64, Errno.EOVERFLOW, "bitmap_ends_somewhere", ends_beyond(iova, length))
    alignment = await load(ioas.iova_alignment)
    odd = bool((iova | last + 1) & (alignment - 1)) or not size or bool((iova | last + 1) & (size - 1))
    why = f"{iova:#x} and the end {last + 1:#x} must be multiples of {alignment:#x} and of the page size, {size:#x}"
    await refuse_if(odd, Errno.EINVAL, "bitmap_aligned", why)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_set_dirty_tracking(ioas: IommufdIoas, hwpt: IommufdHwptPaging, enable: bool) -> None:
    """Begin with nothing written, or stop remembering; what is remembered can still be read then."""
    await table_tracks_dirty(hwpt)
    async with shared(ioas.iova_rwsem):
        if enable:
            for area in await in_order(ioas.areas):
                if await load(area.pages) is not None:
                    await forget(hwpt, (area.iova, area.last))
        await store(hwpt.tracks_dirty, enable)


async def table_tracks_dirty(hwpt: IommufdHwptPaging) -> None:
    """EOPNOTSUPP for a table that was not made to track."""
    await refuse_if(
        not hwpt.translation.dirty_ops,
        Errno.EOPNOTSUPP,
        "table_tracks_dirty",
        "this page table does not remember which pages were written",
    )


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_get_pages(iopt: IommufdIoas, iova: int, length: int) -> list[Element]:
    """The memory behind a range, held for the running call. EINVAL, EOVERFLOW, ENOENT unless areas cover all of it."""
    await refuse_if(not length, Errno.EINVAL, "source_length", "the length is 0: there is nothing to copy")
    last = iova + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "source_ends_somewhere", ends_beyond(iova, length))
    elements: list[Element] = []
    async with on_failure(iopt_free_pages_list, elements), shared(iopt.iova_rwsem):
        at = iova
        while at <= last:
            area = await first_between(iopt.areas, at, at)
            pages = await load(area.pages) if area is not None else None
            pages = await require(pages, Errno.ENOENT, "source_is_mapped", f"nothing is mapped at {at:#x}")
            assert area is not None
            end = min(last, area.last)
            await get(pages.kref, current(), MAKER)
            elements.append(Element(pages, area.byte_at(at), end - at + 1))
            at = end + 1
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
        await refuse_if(
            cut, Errno.ENOENT, "area_inside_range", f"the mapping {area.iova:#x} to {area.last:#x} would be cut in two"
        )
        if await load(area.num_accesses):
            await store(area.prevent_access, True)
            return area, None
        say(Phase.RELEASE, "{} goes.", area)
        await store(area.pages, None)
    return area, pages


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_unmap_iova(iopt: IommufdIoas, iova: int, length: int) -> tuple[int, KernelError | None]:
    """Unmap a range. EINVAL for length 0, EOVERFLOW, and as above."""
    await refuse_if(not length, Errno.EINVAL, "unmap_length", "the length is 0: there is nothing to unmap")
    last = iova + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "unmap_ends_somewhere", ends_beyond(iova, length))
    return await iopt_unmap_iova_range(iopt, iova, last)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_unmap_all(iopt: IommufdIoas) -> tuple[int, KernelError | None]:
    """Unmap everything; success if there was nothing."""
    return await iopt_unmap_iova_range(iopt, 0, ULONG_MAX)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_set_allow_iova(iopt: IommufdIoas, allowed: tuple[tuple[int, int], ...]) -> None:
    """Replace the list of addresses that may be given out. EADDRINUSE if one of them is reserved; the old list stays then."""
    async with iopt.iova_rwsem:
        reserved = await load(iopt.reserved)
        hit = [
            f"{a:#x} to {b:#x}, for {who.oid}"
            for a, b, who in reserved
            if any(a <= end and start <= b for start, end in allowed)
        ]
        await refuse_if(bool(hit), Errno.EADDRINUSE, "allowed_not_reserved", f"reserved are {', '.join(hit)}")
        say(Phase.PUBLISH, "Of {} these addresses may be given out, and no others.", iopt)
        await store(iopt.allowed, allowed)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_reserve_iova(iopt: IommufdIoas, first: int, last: int, owner: KObject) -> None:
    """Nobody may map these addresses as long as `owner` is here. EADDRINUSE if something is mapped or allowed there."""
    area = await first_between(iopt.areas, first, last)
    allowed = any(start <= last and first <= end for start, end in await load(iopt.allowed))
    await refuse_if(
        area is not None or allowed,
        Errno.EADDRINUSE,
        "reserved_is_unused",
        f"from {first:#x} to {last:#x} something is mapped or allowed",
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
async def iopt_unfill_domain(iopt: IommufdIoas, areas: tuple[IoptArea, ...], domain: IommufdHwptPaging) -> None:
    """A page table goes. If it was the last one the memory is unpinned, otherwise another remembers where it is."""
    left = await load(iopt.domains)
    for area in areas:
        pages = await load(area.pages)
        if pages is None:
            continue
        if not left:
            await unfill_one(area)
        elif await load(area.storage_domain) is domain:
            async with pages.mutex:
                await store(area.storage_domain, left[0])


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_fill_domain(iopt: IommufdIoas, areas: tuple[IoptArea, ...], domain: IommufdHwptPaging) -> None:
    """A new page table gets every area of its address space; on failure it gets none."""
    done: list[IoptArea] = []
    for area in areas:
        pages = await load(area.pages)
        if pages is None:
            continue
        try:
            async with pages.mutex:
                await iopt_area_fill_domain(area, pages, domain)
        except KernelError:
            if not await load(iopt.domains):
                for other in done:
                    await unfill_one(other)
            raise
        done.append(area)


async def unfill_one(area: IoptArea) -> None:
    """The last page table goes: take one area out of it."""
    pages = await require(await load(area.pages), Errno.EINVAL, "area_is_published", "an area without memory")
    async with pages.mutex:
        await unfill(area, pages)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_check_iova_alignment(iopt: IommufdIoas, alignment: int) -> None:
    """Do all areas fit a larger alignment? EADDRINUSE otherwise."""
    for area in await in_order(iopt.areas):
        odd = (area.iova | area.length | area.page_offset) % alignment != 0
        await refuse_if(odd, Errno.EADDRINUSE, "areas_are_aligned", f"a mapping is not aligned to {alignment} bytes")


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
        async with on_failure(unreserve, iopt, domain):
            if made.first:
                await iopt_reserve_iova(iopt, 0, made.first - 1, domain)
            await iopt_reserve_iova(iopt, made.last + 1, ULONG_MAX, domain)
            await iopt_fill_domain(iopt, await in_order(iopt.areas), domain)
        await store(iopt.iova_alignment, alignment)
        await store(iopt.domains, (*await load(iopt.domains), domain))


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
async def iopt_area_split(area: IoptArea, iova: int) -> None:
    """Cut an area in two behind `iova`. EBUSY while it is incomplete or goes, EINVAL misaligned, pinned by software or with
    large pages in a table."""
    if iova in (area.iova, area.last):
        return
    iopt = area.iopt
    pages = await load(area.pages)
    if pages is None:
        await refuse_if(True, Errno.EBUSY, "split_is_complete", "another call is mapping or unmapping this area")
        return
    going = await load(area.prevent_access)
    await refuse_if(going, Errno.EBUSY, "split_stays", f"the mapping {area.iova:#x} to {area.last:#x} is going")
    lent = pages.is_dmabuf
    await refuse_if(lent, Errno.EOPNOTSUPP, "not_lent_memory", "an area with memory of a driver cannot be cut")
    alignment = await load(iopt.iova_alignment)
    odd = (iova + 1) % alignment != 0 or area.byte_at(iova + 1) % alignment != 0
    await refuse_if(odd, Errno.EINVAL, "cut_is_aligned", f"an area can be cut at multiples of {alignment} only")
    halves: list[IoptArea] = []
    try:
        for first, last in ((area.iova, iova), (iova + 1, area.last)):
            halves.append(await alloc(IoptArea, iopt, first, last - first + 1, area.byte_at(first), area.iommu_prot))
        async with pages.mutex:
            pinned = await load(area.num_accesses)
            why = f"software has pinned {pinned} range(s) of the mapping {area.iova:#x} to {area.last:#x}, which stays in one piece"
            await refuse_if(pinned != 0, Errno.EINVAL, "split_not_pinned", why)
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
    await xa_store(area.iopt.areas, area.iova, None)
    for half in halves:
        await xa_store(area.iopt.areas, half.iova, half)
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


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_enable_large_pages(iopt: IommufdIoas) -> None:
    """Page tables may use large pages."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        say(Phase.PUBLISH, "Page tables of {} may use large pages from now on.", iopt)
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
        say(Phase.PUBLISH, "Page tables of {} use small pages only from now on.", iopt)
        await store(iopt.disable_large_pages, True)
        async with on_failure(store, iopt.disable_large_pages, False):
            await iopt_calculate_iova_alignment(iopt)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_add_access(iopt: IommufdIoas, access: IommufdAccess) -> None:
    """An emulated device comes. EADDRINUSE if a mapping is not aligned to pages."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        before = await load(iopt.access_list)
        await store(iopt.access_list, (*before, access))
        async with on_failure(store, iopt.access_list, before):
            await iopt_calculate_iova_alignment(iopt)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_remove_access(iopt: IommufdIoas, access: IommufdAccess) -> None:
    """An emulated device goes."""
    async with iopt.domains_rwsem, iopt.iova_rwsem:
        users = await load(iopt.access_list)
        await store(iopt.access_list, tuple(user for user in users if user is not access))
        await iopt_calculate_iova_alignment(iopt)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_table_enforce_dev_resv_regions(iopt: IommufdIoas, owner: IommufdDevice) -> None:
    """Reserve what a device cannot use for memory: writes to that window are interrupts. EADDRINUSE if it is in use."""
    async with iopt.iova_rwsem, on_failure(unreserve, iopt, owner):
        for first, last in owner.dev.iommu_ops.reserved:
            await iopt_reserve_iova(iopt, first, last, owner)
