"""I/O addresses as ranges, as the first IOMMU driver of containers cuts and joins them (drivers/vfio/vfio_iommu_type1.c, v7.2)."""

from __future__ import annotations

from typing import TypeAlias

from ..iommu import IommuGroup
from ..iommu_ops import APERTURE_LAST, MSI_WINDOW
from .type1_objects import VfioDma

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


def span_of(dma: VfioDma | None) -> str:
    """Where a mapping lies, in words."""
    return "" if dma is None else spans(((dma.iova, dma.last),))


def spans(ranges: Ranges) -> str:
    """Ranges in words."""
    return " and ".join(f"{first:#x} to {last:#x}" for first, last in ranges)


def iova_dma_valid(ranges: Ranges, first: int, last: int) -> bool:
    """May these addresses be mapped? All may, as long as no device does DMA (`vfio_iommu_iova_dma_valid`)."""
    return not ranges or any(first >= a and last <= b for a, b in ranges)
