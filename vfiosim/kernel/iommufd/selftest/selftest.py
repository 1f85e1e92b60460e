"""What a kernel with iommufd's own tests built in does beside them (drivers/iommu/iommufd/selftest.c, v7.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from .... import uapi
from ....engine import *
from ....uapi import Errno, KernelError
from ...dma_buf import DmaBuf, DmaBufOps, dma_buf_export, dma_buf_fd, dma_buf_get, dma_buf_invalidate_mappings
from ...fs.file import fput, private
from ...mm import MmStruct
from ...prototypes import iommufd_get_object
from ...regions import PAGE_SIZE, ends_beyond, whole_pages
from ...task import current_task
from ...vfio.type1_objects import VfioDma
from ..io_pagetable import iopt_reserve_iova
from ..io_pagetable_h import ULONG_MAX, IoptPages, merged
from ..iommufd_private import IommufdCtx, IommufdHwptNested, IommufdHwptPaging, IommufdIoas, Ucmd, iommufd_put_object
from ..pages import in_use, page_behind
from .access import (
    iommufd_test_access_item_destroy,
    iommufd_test_access_pages,
    iommufd_test_access_replace_ioas,
    iommufd_test_access_rw,
    iommufd_test_create_access,
    nth_address,
)
from .mock_device import (
    iommufd_test_dev_check_cache,
    iommufd_test_mock_domain,
    iommufd_test_mock_domain_replace,
    iommufd_test_pasid_attach,
    iommufd_test_pasid_check_hwpt,
    iommufd_test_pasid_detach,
    iommufd_test_pasid_replace,
    iommufd_test_trigger_iopf,
    iommufd_test_trigger_vevent,
)
from .mock_iommu import mock_ops

LENT: Final = 512 * PAGE_SIZE  # bytes at most
SYZ: Final = 1 << 16  # a flag of COPY: src_iova is the number of an area and an offset in it


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_syz_conv_iova_id(ictx: IommufdCtx, cmd: uapi.IommuIoasCopy) -> None:
    """Take the flag away, and let src_iova be an address."""
    if not cmd.flags & SYZ:
        return
    cmd.flags &= ~SYZ
    try:
        ioas = await iommufd_get_object(ictx, cmd.src_ioas_id, IommufdIoas)
    except KernelError:
        return
    cmd.src_iova = await nth_address(ioas, cmd.src_iova)
    await iommufd_put_object(ioas)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_add_reserved(ucmd: Ucmd) -> None:
    """ADD_RESERVED: EINVAL for nothing, EOVERFLOW, ENOENT, EADDRINUSE. There is no way to take it back."""
    start, length = ucmd.cmd.add_reserved.start, ucmd.cmd.add_reserved.length
    await refuse_if(not length, Errno.EINVAL, "reserve_length", "the length is 0: there is nothing to reserve")
    last = start + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "reserve_ends_somewhere", ends_beyond(start, length))
    ioas = await iommufd_get_object(ucmd.ictx, ucmd.cmd.id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas), ioas.iova_rwsem:
        await iopt_reserve_iova(ioas, start, last, ioas)


async def mock_table(ucmd: Ucmd) -> IommufdHwptPaging:
    """A page table of the mock IOMMU, held for the running call. ENOENT, EINVAL for one of another IOMMU."""
    hwpt = await iommufd_get_object(ucmd.ictx, ucmd.cmd.id, IommufdHwptPaging)
    if hwpt.translation.owner is not mock_ops:
        await iommufd_put_object(hwpt)
        await refuse_if(True, Errno.EINVAL, "table_is_mock", f"{hwpt.oid} belongs to real hardware")
    return hwpt


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_md_check_pa(ucmd: Ucmd) -> None:
    """MD_CHECK_MAP: ENOENT, EINVAL (alignment; other memory is mapped there), EFAULT."""
    hwpt = await mock_table(ucmd)
    async with cleanup(iommufd_put_object, hwpt):
        await check_pages(hwpt, ucmd.cmd.check_map)


async def check_pages(hwpt: IommufdHwptPaging, wanted: Any) -> None:
    """Page by page: is the memory at this address what devices get there?"""
    page, mm = hwpt.translation.page, await load(current_task().mm)
    iova, address, length = wanted.iova, wanted.uptr, wanted.length
    odd = bool((iova | length | address) % page) or address + length > ULONG_MAX
    await refuse_if(odd, Errno.EINVAL, "checked_aligned", f"all must be multiples of {page}")
    for done in range(0, length, page):
        at = address + done
        await pin_pages(mm, at - at % PAGE_SIZE, PAGE_SIZE, False, False)
        area = await first_between(hwpt.ioas.areas, iova + done, iova + done)
        pages = await load(area.pages) if area is not None else None
        other = area is None or pages is None
        if area is not None and pages is not None:
            place = pages.address + area.byte_at(iova + done)
            other = await page_behind(pages, place) != mm.page_at(at) or place % PAGE_SIZE != at % PAGE_SIZE
            other = other or await load(pages.dmabuf_revoked)
        await refuse_if(other, Errno.EINVAL, "mapped_as_expected", "other memory is mapped there, or none")


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_md_check_refs(ucmd: Ucmd) -> None:
    """MD_CHECK_REFS: EINVAL (alignment), EFAULT, EIO where a page of the caller is not pinned just so often."""
    wanted, mm = ucmd.cmd.check_refs, await load(current_task().mm)
    address, length = wanted.uptr, wanted.length
    odd = bool((length | address) % PAGE_SIZE) or address + length > ULONG_MAX
    await refuse_if(odd, Errno.EINVAL, "counted_aligned", f"all must be multiples of {PAGE_SIZE}")
    pins = await pins_of_pages()
    places = range(address, address + length, PAGE_SIZE)
    # Not one page further than the first one that is not there, however many were asked for.
    wrong = next(
        (at for at in places if pins[mm.page_at(at)] != wanted.refs or not mm.pinnable(at, PAGE_SIZE, False)), None
    )
    await pin_pages(mm, address, length if wrong is None else wrong + PAGE_SIZE - address, False, False)
    if wrong is not None:
        often = f"the page at {wrong:#x} is pinned {pins[mm.page_at(wrong)]} times"
        await refuse_if(True, Errno.EIO, "pinned_so_often", often)


async def pins_of_pages() -> Counter[object]:
    """How often each page of the machine is pinned: once for each memory of an iommufd, once for each mapping of a container."""
    objects = current().engine.objects
    for mm in objects.of(MmStruct):  # whoever pins or unpins changes them
        await load(mm.pinned_vm)
        await load(mm.locked_vm)
    pinned: list[object] = []
    for pages in objects.of(IoptPages):
        for first, last in merged(await in_use(pages)):
            for index in range(first, last + 1):
                pinned.append(await page_behind(pages, pages.address + index * PAGE_SIZE))
    for dma in objects.of(VfioDma):
        vaddr, mm, *_ = dma.pinned
        if await load(dma.iommu_mapped):
            memory = [span for span in mm.spans(vaddr, dma.size) if not span[2]]
            pinned += [mm.page_at(at) for start, size, _ in memory for at in range(start, start + size, PAGE_SIZE)]
    return Counter(pinned)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_md_check_iotlb(ucmd: Ucmd) -> None:
    """MD_CHECK_IOTLB: ENOENT, EINVAL unless this is cached of the guest's table."""
    hwpt = await iommufd_get_object(ucmd.ictx, ucmd.cmd.id, IommufdHwptNested)
    argument, words = ucmd.cmd.check_iotlb, await load(hwpt.iotlb)
    await iommufd_put_object(hwpt)
    same = argument.id < len(words) and words[argument.id] == argument.iotlb
    await refuse_if(not same, Errno.EINVAL, "iotlb_as_expected", "something else is cached")


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_dirty(ucmd: Ucmd) -> None:
    """DIRTY: EINVAL (size, alignment), EOVERFLOW, ENOENT, EINVAL (does not track), EFAULT; answers how many bits are set."""
    wanted = ucmd.cmd.dirty
    size = wanted.page_size
    bad = not size or not wanted.length or not wanted.uptr or bool(wanted.iova % size or wanted.length % size)
    await refuse_if(bad, Errno.EINVAL, "dirty_argument", "a bitmap, for whole pages")
    most = wanted.length // size
    await refuse_if(most > 8 << 24, Errno.EOVERFLOW, "dirty_length", "the bitmap is larger than 16 MiB")
    hwpt = await mock_table(ucmd)
    async with cleanup(iommufd_put_object, hwpt):
        off = not await load(hwpt.tracks_dirty)
        await refuse_if(off, Errno.EINVAL, "table_is_tracking", f"{hwpt.oid} does not track which pages are written")
        bits = int.from_bytes(await copy_from_user(wanted.uptr, -(-most // 8)), "little")
        pages = [wanted.iova + bit * size for bit in range(most) if bits >> bit & 1]
        await set_dirty(hwpt, pages)
        wanted.out_nr_dirty = len(pages)
        await copy_to_user(ucmd.address, ucmd.reply())


async def set_dirty(hwpt: IommufdHwptPaging, pages: list[int]) -> None:
    """Mark entries of the table as written; where nothing is mapped there is none. An entry is a whole page if it can be."""
    before, small = await load(hwpt.dirty), hwpt.translation.page
    marked = set(before)
    for iova in pages:
        area = await first_between(hwpt.ioas.areas, iova, iova)
        if area is None or await load(area.pages) is None:
            continue
        size = PAGE_SIZE if area.has_whole_page(iova) else small
        first = iova - iova % size
        marked.update(range(first, first + size, small))
    await store(hwpt.dirty, tuple(sorted(marked)))


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_temp_memory_limit(ucmd: Ucmd) -> None:
    """SET_TEMP_MEMORY_LIMIT: EINVAL below 12 bytes; it changes in how many steps memory is pinned, which nobody sees."""
    least = 12
    few = ucmd.cmd.memory_limit.limit < least
    await refuse_if(few, Errno.EINVAL, "limit_possible", f"at least {least} bytes are needed")


iommufd_test_dmabuf_ops: Final = DmaBufOps("the test")


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_dmabuf_get(ucmd: Ucmd) -> int:
    """DMABUF_GET: EINVAL for nothing, or for more than 2 MiB; answers a descriptor of memory that this driver lends."""
    wanted = ucmd.cmd.dmabuf_get
    size = whole_pages(wanted.length)
    odd = not 0 < size <= LENT
    await refuse_if(odd, Errno.EINVAL, "lent_length", f"from 1 to {LENT} bytes can be lent")
    dmabuf = await alloc(DmaBuf, size, iommufd_test_dmabuf_ops)
    async with on_failure(free, dmabuf):
        file = await dma_buf_export(dmabuf, wanted.open_flags)
    return await dma_buf_fd(file, wanted.open_flags)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_dmabuf_revoke(ucmd: Ucmd) -> None:
    """DMABUF_REVOKE: EBADF, EINVAL (no dma-buf), EOPNOTSUPP (of another driver).

    Take the memory away, or lend it again: what is mapped leads nowhere.
    """
    file = await dma_buf_get(ucmd.cmd.dmabuf_revoke.dmabuf_fd)
    async with cleanup(fput, file):
        dmabuf: DmaBuf = await private(file)
        if dmabuf.ops is not iommufd_test_dmabuf_ops:
            await refuse_if(True, Errno.EOPNOTSUPP, "lent_by_test", f"{dmabuf.ops.name} lends this memory, and no test")
        async with dmabuf.resv:
            await store(dmabuf.revoked, bool(ucmd.cmd.dmabuf_revoke.revoked))
            await dma_buf_invalidate_mappings(dmabuf)


OPERATIONS: Final[dict[int, Callable[[Ucmd], Awaitable[int | None]]]] = {
    uapi.IOMMU_TEST_OP_ADD_RESERVED: iommufd_test_add_reserved,
    uapi.IOMMU_TEST_OP_MOCK_DOMAIN: iommufd_test_mock_domain,
    uapi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS: iommufd_test_mock_domain,
    uapi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: iommufd_test_mock_domain_replace,
    uapi.IOMMU_TEST_OP_MD_CHECK_MAP: iommufd_test_md_check_pa,
    uapi.IOMMU_TEST_OP_MD_CHECK_REFS: iommufd_test_md_check_refs,
    uapi.IOMMU_TEST_OP_MD_CHECK_IOTLB: iommufd_test_md_check_iotlb,
    uapi.IOMMU_TEST_OP_DEV_CHECK_CACHE: iommufd_test_dev_check_cache,
    uapi.IOMMU_TEST_OP_DIRTY: iommufd_test_dirty,
    uapi.IOMMU_TEST_OP_CREATE_ACCESS: iommufd_test_create_access,
    uapi.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: iommufd_test_access_replace_ioas,
    uapi.IOMMU_TEST_OP_ACCESS_RW: iommufd_test_access_rw,
    uapi.IOMMU_TEST_OP_ACCESS_PAGES: iommufd_test_access_pages,
    uapi.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: iommufd_test_access_item_destroy,
    uapi.IOMMU_TEST_OP_TRIGGER_IOPF: iommufd_test_trigger_iopf,
    uapi.IOMMU_TEST_OP_TRIGGER_VEVENT: iommufd_test_trigger_vevent,
    uapi.IOMMU_TEST_OP_PASID_ATTACH: iommufd_test_pasid_attach,
    uapi.IOMMU_TEST_OP_PASID_REPLACE: iommufd_test_pasid_replace,
    uapi.IOMMU_TEST_OP_PASID_DETACH: iommufd_test_pasid_detach,
    uapi.IOMMU_TEST_OP_PASID_CHECK_HWPT: iommufd_test_pasid_check_hwpt,
    uapi.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT: iommufd_test_temp_memory_limit,
    uapi.IOMMU_TEST_OP_DMABUF_GET: iommufd_test_dmabuf_get,
    uapi.IOMMU_TEST_OP_DMABUF_REVOKE: iommufd_test_dmabuf_revoke,
}


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test(ucmd: Ucmd) -> int:
    """IOMMU_TEST_CMD: EOPNOTSUPP for an unknown operation."""
    number = ucmd.cmd.op
    await refuse_if(number not in OPERATIONS, Errno.EOPNOTSUPP, "test_known", f"there is no test {number}")
    return await OPERATIONS[number](ucmd) or 0
