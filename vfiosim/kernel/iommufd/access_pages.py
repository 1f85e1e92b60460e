"""What drivers of emulated devices pin, and give back when it is unmapped (drivers/iommu/iommufd/device.c, v7.2)."""

from __future__ import annotations

from ...engine import Phase, first_between, kernel, load, refuse_if, require, say, shared, warn_on
from ...uapi import Errno, KernelError
from ..mm import PAGE_SIZE
from .areas import IOMMU_READ, IOMMU_WRITE, ULONG_MAX, IoptArea
from .pages_access import iopt_area_add_access, iopt_area_remove_access
from .private import IommufdAccess, IommufdIoas, iommufd_lock_obj, iommufd_put_object

Pinned = list[tuple[IoptArea, int, int]]  # an area, and its first and last page that are meant


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_pin_pages(access: IommufdAccess, iova: int, length: int, write: bool) -> Pinned:
    """Pin: EINVAL (length), EOVERFLOW, ENOENT (not attached), EINVAL (alignment), EPERM, EFAULT, ENOENT (a gap).

    All of it, or nothing. Until it is given back, UNMAP asks the driver for it and waits.
    """
    await refuse_if(not length, Errno.EINVAL, "pin_length", "nothing is to be pinned")
    last = iova + length - 1
    await refuse_if(
        last > ULONG_MAX, Errno.EOVERFLOW, "access_ends_somewhere", "the range ends beyond the last address"
    )
    async with access.ioas_lock:
        ioas = await require(
            await load(access.ioas), Errno.ENOENT, "access_is_attached", f"{access.oid} is not attached"
        )
        say(Phase.ACQUIRE, "{} pins memory behind {}, for software.", access, ioas)
        done: Pinned = []
        async with shared(ioas.iova_rwsem):
            try:
                await pin_areas(access, ioas, iova, last, write, done)
            except KernelError:
                for area, first, end in done:
                    await iopt_area_remove_access(area, first, end, access.internal)
                raise
    return done


async def pin_areas(access: IommufdAccess, ioas: IommufdIoas, iova: int, last: int, write: bool, done: Pinned) -> None:
    """Area by area, as far as they follow each other without a gap; `done` grows with them."""
    at = iova
    while at <= last:
        area = await first_between(ioas.areas, at, at)
        pages = await load(area.pages) if area is not None else None
        await refuse_if(pages is None, Errno.ENOENT, "accessed_is_mapped", "not all of the range is mapped")
        assert area is not None
        end = min(last, area.last)
        cut = end < last and area.byte_at(area.last) % PAGE_SIZE != PAGE_SIZE - 1
        odd = await load(area.prevent_access) or area.byte_at(at) % PAGE_SIZE != 0 or cut
        await refuse_if(odd, Errno.EINVAL, "pinned_aligned", "the range does not consist of whole pages, or is going")
        need = IOMMU_WRITE if write else IOMMU_READ
        await refuse_if(not area.iommu_prot & need, Errno.EPERM, "access_allowed", "the mapping does not allow this")
        span = area.byte_at(at) // PAGE_SIZE, area.byte_at(end) // PAGE_SIZE
        await iopt_area_add_access(area, *span, write, access.internal)
        done.append((area, *span))
        at = end + 1


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_unpin_pages(access: IommufdAccess, iova: int, length: int) -> None:
    """Give back just what was pinned with this address and length."""
    async with access.ioas_lock:
        ioas = await require(
            await load(access.ioas_unpin), Errno.EINVAL, "access_was_attached", f"{access.oid} has nothing pinned"
        )
        async with shared(ioas.iova_rwsem):
            at, last = iova, iova + length - 1
            while at <= last:
                area = await first_between(ioas.areas, at, at)
                if area is None:
                    await warn_on(True, f"{access.oid} unpins in {ioas.oid} what was not pinned there")
                    return
                end = min(last, area.last)
                first, stop = area.byte_at(at) // PAGE_SIZE, area.byte_at(end) // PAGE_SIZE
                await iopt_area_remove_access(area, first, stop, access.internal)
                at = end + 1


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_notify_unmap(ioas: IommufdIoas, iova: int, length: int) -> None:
    """Ask every emulated device for what it has pinned in a range."""
    say(Phase.UNWIND, "The drivers of emulated devices are asked to give back what they have pinned.")
    for access in await load(ioas.access_list):
        if access.unmap is not None and await iommufd_lock_obj(access):
            await access.unmap(iova, length)
            await iommufd_put_object(access)
