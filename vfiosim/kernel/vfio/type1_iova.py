"""Which I/O addresses a container may use (a part of drivers/vfio/vfio_iommu_type1.c, v7.2).

Ranges are pairs of a first and a last address, in ascending order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ...engine import kernel, refuse_if
from ...uapi import Errno
from ..iommu import IommuGroup
from ..iommu_ops import APERTURE_LAST, MSI_WINDOW

if TYPE_CHECKING:
    from .type1_dma import VfioDma

Ranges: TypeAlias = tuple[tuple[int, int], ...]
LAST = (1 << 64) - 1


def group_resv_regions(iommu_group: IommuGroup) -> Ranges:
    """Addresses that devices of the group must not be given: writes there are interrupts (`iommu_get_group_resv_regions`)."""
    return (MSI_WINDOW,)


def aper_resize(ranges: Ranges, start: int, end: int) -> Ranges:
    """Cut the ranges to what a further page table can translate; the first one sets them (`vfio_iommu_aper_resize`)."""
    if not ranges:
        return ((start, end),)
    return tuple((max(a, start), min(b, end)) for a, b in ranges if a <= end and b >= start)


def resv_exclude(ranges: Ranges, reserved: Ranges) -> Ranges:
    """The ranges without what is reserved (`vfio_iommu_resv_exclude`)."""
    for start, end in reserved:
        parts = []
        for a, b in ranges:
            if start > b or end < a:
                parts.append((a, b))
                continue
            parts += [(a, start - 1)] if start > a else []
            parts += [(end + 1, b)] if end < b else []
        ranges = tuple(parts)
    return ranges


def aper_expand(ranges: Ranges, translated: bool) -> Ranges:
    """A page table has gone: the outermost addresses are those of the others, or all (`vfio_iommu_aper_expand`)."""
    if not ranges:
        return ranges
    middle = [address for pair in ranges for address in pair]
    middle[0], middle[-1] = 0, APERTURE_LAST if translated else LAST
    return tuple(zip(middle[::2], middle[1::2], strict=True))


def find_dma(dmas: tuple[VfioDma, ...], first: int, last: int) -> VfioDma | None:
    """The lowest mapping that has an address from `first` to `last` (`vfio_find_dma`)."""
    return next((dma for dma in dmas if dma.iova <= last and dma.last >= first), None)


def iova_dma_valid(ranges: Ranges, first: int, last: int) -> bool:
    """May these addresses be mapped? All may, as long as no device does DMA (`vfio_iommu_iova_dma_valid`)."""
    return not ranges or any(first >= a and last <= b for a, b in ranges)


async def refuse_iova_conflicts(
    dmas: tuple[VfioDma, ...], ranges: Ranges, start: int, end: int, reserved: Ranges
) -> None:
    """EINVAL if a mapping lies beyond what a new page table can translate, or in what its group reserves."""
    await vfio_iommu_aper_conflict(dmas, ranges, start, end)
    taken = any(find_dma(dmas, a, b) for a, b in reserved)
    await refuse_if(taken, Errno.EINVAL, "reserved_is_free", "something is mapped where the group's interrupts go")


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
    await refuse_if(
        conflict, Errno.EINVAL, "aperture_fits", "something is mapped beyond the reach of the new page table"
    )
