"""The memory behind mappings: born, pinned, charged, given back (drivers/iommu/iommufd/pages.c, v7.2)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from ...engine import *
from ...uapi import Errno, KernelError
from ..dma_buf import DmaBuf, dma_buf_detach, dma_buf_fops
from ..fs.file import File, fput, private
from ..fs.shmem import Inode, memfd_pin_folios
from ..mm import MmStruct, mmdrop, mmgrab, mmput, too_much_locked
from ..regions import PAGE_SIZE, ends_beyond
from ..task import TaskStruct, UserStruct, capable, current_mm, current_task, free_uid, put_task_struct
from ..unsupported import Unsupported
from .io_pagetable_h import (
    ACCOUNT_MM,
    ACCOUNT_NONE,
    ACCOUNT_USER,
    IOMMU_READ,
    IOMMU_WRITE,
    ULONG_MAX,
    IoptArea,
    IoptPages,
    holes,
    merged,
)
from .iommufd_private import IommufdCtx, IommufdHwptPaging

MAKER = "being mapped"
PINNING = "pinning"
SOURCE = "memory of it"


@kernel("drivers/iommu/iommufd/pages.c")
async def incr_user_locked_vm(user: UserStruct, task: TaskStruct, npages: int) -> None:
    """Charge the user. ENOMEM beyond RLIMIT_MEMLOCK of the process."""
    limit = await load(task.memlock) // PAGE_SIZE
    while True:
        now = await load(user.locked_vm)
        over = now + npages > limit
        await refuse_if(over, Errno.ENOMEM, "user_may_lock", too_much_locked(f"user {user.uid}", limit, now, npages))
        if await try_cmpxchg(user.locked_vm, now, now + npages):
            return


@kernel("drivers/iommu/iommufd/pages.c")
async def update_mm_locked_vm(mm: MmStruct, task: TaskStruct, npages: int, pinning: bool) -> None:
    """Charge the address space, or discharge it (npages below 0). ENOMEM beyond the limit, EINVAL if it is gone.

    Whoever is pinning pages does not ask whether it is there: of pages of a file it may be gone.
    """
    remote = mm is not await current_mm() and not pinning
    if remote:
        alive = await get_unless_zero(mm.mm_users, current(), "charging")
        await refuse_if(not alive, Errno.EINVAL, "owner_lives_for_charge", "the process of this memory has ended")
    limit = await load(task.memlock) // PAGE_SIZE
    now = await load(mm.locked_vm)
    try:
        over = npages > 0 and now + npages > limit
        await refuse_if(
            over, Errno.ENOMEM, "process_may_lock", too_much_locked(f"process {mm.label}", limit, now, npages)
        )
        await store(mm.locked_vm, now + npages)
    except KernelError:
        if remote:
            await mmput(mm, current(), "charging")
        raise
    if remote:
        await mmput(mm, current(), "charging")


class Owner(NamedTuple):
    """Who is charged: the address space, and the process whose limit holds, and its user."""

    mm: MmStruct
    task: TaskStruct
    user: UserStruct


async def owner_of(pages: IoptPages) -> Owner:
    """Who made the mapping, or took it over."""
    return Owner(await load(pages.source_mm), await load(pages.source_task), await load(pages.source_user))


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_pages_update_pinned(account: str, owner: Owner, npages: int, pinning: bool = False) -> None:
    """Charge `npages` pinned pages, or discharge them (below 0), in one of three ways; VmPin grows in all of them."""
    if account == ACCOUNT_USER and npages > 0:
        await incr_user_locked_vm(owner.user, owner.task, npages)
    elif account == ACCOUNT_USER:
        await atomic_add(owner.user.locked_vm, npages)
    elif account == ACCOUNT_MM:
        await update_mm_locked_vm(owner.mm, owner.task, npages, pinning)
    await atomic_add(owner.mm.pinned_vm, npages)


async def atomic_add(target: Field[int], number: int) -> None:
    """Add to a number that others may change at the same time (`atomic64_add`)."""
    now = await load(target)
    while not await try_cmpxchg(target, now, now + number):
        now = await load(target)


async def charge(pages: IoptPages, pinning: bool = False) -> None:
    """Charge or discharge what has been pinned or unpinned since the last time (`pfn_reader_user_update_pinned`)."""
    now, last = await load(pages.npinned), await load(pages.last_npinned)
    if now != last:
        await iopt_pages_update_pinned(pages.account_mode, await owner_of(pages), now - last, pinning)
        await store(pages.last_npinned, now)


def covered(spans: Iterable[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """Which of these pages are in none of the spans."""
    return holes(merged(spans), first, last)


async def in_use(pages: IoptPages) -> list[tuple[int, int]]:
    """Which pages are pinned: for areas that are in page tables, and for software; of a driver's memory none."""
    if pages.is_dmabuf:
        return []
    return [*(area.indexes for area in await load(pages.domains_itree)), *await load(pages.access_itree)]


async def pin_span(pages: IoptPages, first: int, last: int, write: bool) -> None:
    """Pin pages `first` to `last`. EFAULT if one of them is not there, must not be written, or its process is gone.

    EINVAL for a file that is no memory file, or beyond its end.
    """
    address, size = pages.address + first * PAGE_SIZE, (last - first + 1) * PAGE_SIZE
    if pages.file is not None:
        await memfd_pin_folios(pages.file, address, size)
        return
    mm = await load(pages.source_mm)
    remote = mm is not await current_mm()
    if remote:
        alive = await get_unless_zero(mm.mm_users, current(), PINNING)
        await refuse_if(not alive, Errno.EFAULT, "owner_lives", "the process that this memory belonged to has ended")
    try:
        await pin_pages(mm, address, size, write)
    except KernelError:
        if remote:
            await mmput(mm, current(), PINNING)
        raise
    if remote:
        await mmput(mm, current(), PINNING)


async def fill(area: IoptArea, pages: IoptPages) -> None:
    """Pin what of an area is not pinned yet, and charge it; on failure nothing is pinned (`pfn_reader`)."""
    if pages.is_dmabuf:
        return
    before = await load(pages.npinned)
    spans = covered(await in_use(pages), *area.indexes)
    for first, last in spans:
        await pin_span(pages, first, last, pages.writable)
    nothing = not area.iommu_prot  # only a container's request can ask for that
    await warn_on(nothing, f"{pages.oid} is to be mapped, but neither to be read nor to be written")
    await refuse_if(nothing, Errno.EINVAL, "entry_allows_something", "an entry would allow nothing")
    await store(pages.npinned, before + sum(last - first + 1 for first, last in spans))
    async with on_failure(store, pages.npinned, before):
        await charge(pages, bool(spans))


async def unfill(area: IoptArea, pages: IoptPages) -> None:
    """An area leaves the last page table: unpin what no other area needs (`__iopt_area_unfill_domain`)."""
    others = tuple(other for other in await load(pages.domains_itree) if other is not area)
    await store(pages.domains_itree, others)
    await store(area.storage_domain, None)
    if pages.is_dmabuf:
        return
    released = sum(last - first + 1 for first, last in covered(await in_use(pages), *area.indexes))
    await store(pages.npinned, await load(pages.npinned) - released)
    with suppress(KernelError):  # the address space is gone, and its count with it
        await charge(pages)


async def stored_by(area: IoptArea, pages: IoptPages, domain: IommufdHwptPaging) -> None:
    """The area is in its first page table."""
    await store(area.storage_domain, domain)
    await store(pages.domains_itree, (*await load(pages.domains_itree), area))


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_alloc_pages(
    ictx: IommufdCtx, start_byte: int, length: int, writable: bool, address: int, file: File | None
) -> IoptPages:
    """Note which memory is meant; it is not touched yet. EINVAL for a length of zero or next to the whole address space."""
    await refuse_if(
        not 0 < length <= ULONG_MAX - PAGE_SIZE, Errno.EINVAL, "length_possible", "nothing, or more than there is"
    )
    task = current_task()
    lent = file is not None and file.f_op is dma_buf_fops
    account = ACCOUNT_NONE if lent or await capable("CAP_IPC_LOCK") else await load(ictx.account_mode)
    npages = -(-(length + start_byte) // PAGE_SIZE)
    say(
        Phase.ACQUIRE,
        "An iopt_pages says what is mapped. It holds the process, its memory, and the user who is charged.",
    )
    pages = await alloc(IoptPages, address, npages, writable, account, file)
    await get(pages.kref, current(), MAKER)
    await set_source(pages, task)
    return pages


async def set_source(pages: IoptPages, task: TaskStruct) -> None:
    """From now on the memory is that of this process, and charged to it."""
    mm = await load(task.mm)
    await mmgrab(mm, pages, SOURCE)
    await get(task.usage, pages, SOURCE)
    await store(pages.source_mm, mm)
    await store(pages.source_task, task)
    user = await load(task.user)
    await get(user.refs, pages, SOURCE)
    await store(pages.source_user, user)


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_alloc_user_pages(ictx: IommufdCtx, address: int, length: int, writable: bool) -> IoptPages:
    """Memory at an address of the calling process. EOVERFLOW if it goes beyond the last address, EINVAL for its length."""
    over = address + length > ULONG_MAX
    await refuse_if(over, Errno.EOVERFLOW, "memory_ends_somewhere", f"of the memory {ends_beyond(address, length)}")
    start_byte = address % PAGE_SIZE
    return await iopt_alloc_pages(ictx, start_byte, length, writable, address - start_byte, None)


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_alloc_file_pages(ictx: IommufdCtx, file: File, start: int, length: int, writable: bool) -> IoptPages:
    """A part of a file, of whatever kind; the file is held as long as the mapping."""
    start_byte = start % PAGE_SIZE
    pages = await iopt_alloc_pages(ictx, start_byte, length, writable, start - start_byte, file)
    say(Phase.ACQUIRE, "{} holds {}, for as long as the mapping lasts.", pages, file)
    await get(file.f_ref, pages, "mapped for devices")
    return pages


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_map_dmabuf(pages: IoptPages, dmabuf: DmaBuf) -> None:
    """Attach to a driver's memory, so that the driver can take it away. ENODEV while it is, EOPNOTSUPP for several pieces."""
    async with dmabuf.resv:
        gone = await load(dmabuf.revoked)
        await refuse_if(gone, Errno.ENODEV, "dma_buf_is_there", "the driver has taken this memory away")
        if dmabuf.nr_ranges > 1:
            why = f"{dmabuf.nr_ranges} pieces of a device are one file here, and one alone can be mapped"
            await refuse_if(True, Errno.EOPNOTSUPP, "dma_buf_is_one_piece", why)
        await store(dmabuf.attachments, (*await load(dmabuf.attachments), pages))


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_alloc_dmabuf_pages(ictx: IommufdCtx, file: File, start: int, length: int, writable: bool) -> IoptPages:
    """A part of a driver's memory, which is neither pinned nor charged. EINVAL beyond its end, ENODEV if it is taken away."""
    dmabuf: DmaBuf = await private(file)
    there = await load(dmabuf.i_size)
    why = f"the driver's memory has {there:#x} bytes, and {start + length:#x} are wanted"
    await refuse_if(start + length > there, Errno.EINVAL, "inside_dma_buf", why)
    pages = await iopt_alloc_file_pages(ictx, file, start, length, writable)
    async with on_failure(iopt_put_pages, pages, current(), MAKER):
        await iopt_map_dmabuf(pages, dmabuf)
    return pages


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_release_pages(pages: IoptPages) -> None:
    """No area shows this memory any more."""
    if pages.is_dmabuf and pages.file is not None:
        await dma_buf_detach(await private(pages.file), pages)
    if pages.file is not None:
        await fput(pages.file, pages, "mapped for devices")
    await drop_owner(pages, await owner_of(pages))
    await free(pages)


async def drop_owner(pages: IoptPages, owner: Owner) -> None:
    """Let go of the process that the memory belonged to."""
    await mmdrop(owner.mm, pages, SOURCE)
    await put_task_struct(owner.task, pages, SOURCE)
    await free_uid(owner.user, pages, SOURCE)


@kernel("drivers/iommu/iommufd/io_pagetable.h")
async def iopt_put_pages(pages: IoptPages, holder: KObject, reason: str) -> None:
    """Let go of memory; the last one lets go of the file and the process."""
    if await put(pages.kref, holder, reason):
        await iopt_release_pages(pages)


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_area_fill_domain(area: IoptArea, pages: IoptPages, domain: IommufdHwptPaging) -> None:
    """A new page table gets an area; the caller has the mutex of the pages."""
    await fill(area, pages)
    if await load(area.storage_domain) is None:
        await stored_by(area, pages, domain)


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_area_fill_domains(area: IoptArea, pages: IoptPages) -> None:
    """A new area goes into every page table of its address space; without any, nothing is pinned."""
    domains = await load(area.iopt.domains)
    if not domains:
        return
    say(Phase.ACQUIRE, "The memory is pinned, charged, and entered into {} page table(s).", len(domains))
    async with pages.mutex:
        await fill(area, pages)
        await stored_by(area, pages, domains[0])


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_area_unfill_domains(area: IoptArea, pages: IoptPages) -> None:
    """An area leaves every page table of its address space, and its memory is unpinned."""
    async with pages.mutex:
        if await load(area.storage_domain) is not None:
            say(Phase.RELEASE, "The memory leaves the page tables and is unpinned.")
            await unfill(area, pages)


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_pages_rw_slow(area: IoptArea, pages: IoptPages, address: int, length: int, data: bytes | None) -> bytes:
    """Pin the pages that are not pinned yet, read or write them. EFAULT, EINVAL beyond the end of a file.

    One page of a process that lives is pinned for what is done with it only (`iopt_pages_rw_page`).
    """
    mm = await load(pages.source_mm)
    index, last = (address - pages.address) // PAGE_SIZE, (address + length - 1 - pages.address) // PAGE_SIZE
    alone = index == last and pages.file is None and await get_unless_zero(mm.mm_users, current(), PINNING)
    if alone:
        async with cleanup(mmput, mm, current(), PINNING):
            await pin_pages(mm, address - address % PAGE_SIZE, PAGE_SIZE, data is not None, False)
    else:
        for start, stop in covered(await in_use(pages), index, last):
            await pin_span(pages, start, stop, pages.writable)
    memory = mm if pages.file is None else await private(pages.file)
    try:
        if data is None:
            return await read_memory(memory, address, length)
        await write_memory(memory, address, data)
    except KernelError as error:
        raise Unsupported("reaching pages that are pinned, but mapped no more,") from error
    return b""


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_pages_rw_access(area: IoptArea, iova: int, length: int, data: bytes | None, slow: bool) -> bytes:
    """Read or write memory behind an area: at its address in the process, or by way of its pages. EPERM, EFAULT."""
    pages = await load(area.pages)
    assert pages is not None
    denied = data is not None and not pages.writable
    await refuse_if(denied, Errno.EPERM, "memory_is_writable", "the memory was mapped for reading only")
    await refuse_dmabuf(pages)
    mm, address = await load(pages.source_mm), pages.address + area.byte_at(iova)
    if pages.file is None and not slow and mm is await load(current_task().mm):
        if data is None:
            return await copy_from_user(address, length)
        await copy_to_user(address, data)
        return b""
    return await iopt_pages_rw_slow(area, pages, address, length, data)


async def refuse_access(area: IoptArea, write: bool) -> None:
    """EPERM for what a mapping does not let software do."""
    need = IOMMU_WRITE if write else IOMMU_READ
    why = f"the mapping {area.iova:#x} to {area.last:#x} allows no {'writes' if write else 'reads'}"
    await refuse_if(not area.iommu_prot & need, Errno.EPERM, "access_allowed", why)


async def refuse_dmabuf(pages: IoptPages) -> None:
    """EINVAL: software does not get at the memory of a driver."""
    await refuse_if(pages.is_dmabuf, Errno.EINVAL, "not_a_drivers_memory", "software does not reach memory of a driver")


async def page_behind(pages: IoptPages, address: int) -> tuple[object, int]:
    """Which page is at an address of the memory, or at a place of the file."""
    if pages.file is not None:
        inode: Inode = await private(pages.file)
        return inode.page(address)
    return (await load(pages.source_mm)).page_at(address)


@kernel("drivers/iommu/iommufd/pages.c")
async def iopt_area_add_access(area: IoptArea, first: int, last: int, write: bool, lock: bool) -> None:
    """Pin pages `first` to `last` behind an area, as far as they are not pinned yet. EPERM, EFAULT, EINVAL, ENOMEM."""
    pages = await require(await load(area.pages), Errno.EINVAL, "area_is_published", "an area without memory")
    denied = write and not pages.writable
    await refuse_if(denied, Errno.EPERM, "memory_is_writable", "the memory was mapped for reading only")
    await refuse_dmabuf(pages)
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
        await pin_span(pages, start, end, pages.writable)
    await store(pages.npinned, before + sum(end - start + 1 for start, end in spans))
    async with on_failure(store, pages.npinned, before):
        await charge(pages, bool(spans))


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
