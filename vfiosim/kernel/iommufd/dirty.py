"""Which pages did devices write? (drivers/iommu/iommufd/hw_pagetable.c, io_pagetable.c and iova_bitmap.c, v7.2)"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ... import uapi
from ...engine import copy_from_user, copy_to_user, first_between, in_order, kernel, load, refuse_if, shared, store
from ...uapi import Errno, KernelError
from .main import iommufd_get_object
from .private import IommufdHwptPaging, IommufdIoas, Ucmd, iommufd_put_object

Span = tuple[int, int]  # first and last address


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_set_dirty_tracking(ucmd: Ucmd) -> None:
    """Remember which pages a device writes: EOPNOTSUPP (flags), ENOENT, EOPNOTSUPP (the table cannot)."""
    enable = uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE
    unknown = ucmd.cmd.flags & ~enable
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "dirty_flags_known", f"the flags {unknown:#x} are not known")
    hwpt = await iommufd_get_object(ucmd.ictx, ucmd.cmd.hwpt_id, IommufdHwptPaging)
    try:
        await iopt_set_dirty_tracking(hwpt.ioas, hwpt, bool(ucmd.cmd.flags & enable))
    except KernelError:
        await iommufd_put_object(hwpt)
        raise
    await iommufd_put_object(hwpt)


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


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_get_dirty_bitmap(ucmd: Ucmd) -> None:
    """Which pages were written? EOPNOTSUPP (flags, reserved), ENOENT, EOVERFLOW, EINVAL, EOPNOTSUPP (the table cannot).

    No error comes from there on: a bitmap that cannot be written, or addresses where nothing is mapped, are passed over.
    """
    cmd = ucmd.cmd
    unknown = cmd.flags & ~uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR
    bad = unknown != 0 or cmd.get("__reserved") != 0
    await refuse_if(bad, Errno.EOPNOTSUPP, "bitmap_flags_known", "unknown flags, or a reserved field that is not zero")
    hwpt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, IommufdHwptPaging)
    try:
        await iommufd_check_iova_range(hwpt.ioas, cmd)
        async with shared(hwpt.ioas.iova_rwsem):
            await iommu_read_and_clear_dirty(hwpt, cmd)
    except KernelError:
        await iommufd_put_object(hwpt)
        raise
    await iommufd_put_object(hwpt)


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iommufd_check_iova_range(ioas: IommufdIoas, cmd: Any) -> None:
    """Does a bitmap make sense for these addresses? EOVERFLOW, EINVAL for the alignment or a page size of zero."""
    iova, length, size = cmd.iova, cmd.length, cmd.page_size
    last = iova + (length - 1) % 2**64
    await refuse_if(last >= 2**64, Errno.EOVERFLOW, "bitmap_ends_somewhere", "the range ends beyond the last address")
    alignment = await load(ioas.iova_alignment)
    odd = bool((iova | last + 1) & (alignment - 1)) or not size or bool((iova | last + 1) & (size - 1))
    await refuse_if(
        odd, Errno.EINVAL, "bitmap_aligned", "addresses must be multiples of the alignment and the page size"
    )


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
        for first, stop in await written(hwpt, (at, end)):
            with suppress(KernelError):
                await iova_bitmap_set(cmd, first, stop)
        if not cmd.flags & uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR:
            await forget(hwpt, (at, end))
        at = end + 1


async def written(hwpt: IommufdHwptPaging, span: Span) -> list[Span]:
    """Which entries of the table, within a range, are marked as written."""
    size, marked = hwpt.translation.page, await load(hwpt.dirty)
    return [(page, page + size - 1) for page in sorted(marked) if span[0] <= page <= span[1]]


async def forget(hwpt: IommufdHwptPaging, span: Span) -> None:
    """Nothing in this range counts as written any more."""
    marked = await load(hwpt.dirty)
    left = tuple(page for page in marked if not span[0] <= page <= span[1])
    if left != marked:
        await store(hwpt.dirty, left)


@kernel("drivers/iommu/iommufd/iova_bitmap.c")
async def iova_bitmap_set(cmd: Any, first: int, last: int) -> None:
    """Set the bits that stand for a range. EFAULT where the bitmap cannot be written."""
    shift = (cmd.page_size & -cmd.page_size).bit_length() - 1
    for bit in range((first - cmd.iova) >> shift, ((last - cmd.iova) >> shift) + 1):
        byte = (await copy_from_user(cmd.data + bit // 8, 1))[0]
        await copy_to_user(cmd.data + bit // 8, bytes((byte | 1 << bit % 8,)))
