"""Which I/O address a mapping gets that does not ask for one (`iopt_alloc_iova` of drivers/iommu/iommufd/io_pagetable.c, v7.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ...engine import in_order, kernel, load, refuse_if, require
from ...uapi import Errno
from ..mm import PAGE_SIZE
from .areas import ULONG_MAX
from .private import IommufdIoas

Range = tuple[int, int]  # first and last address
MAX_ALIGNMENT: Final = PAGE_SIZE  # more only where the kernel uses huge pages


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iopt_alloc_iova(iopt: IommufdIoas, address: int, length: int) -> int:
    """The lowest free place, aligned as the memory itself. EOVERFLOW if too long, EINVAL if badly aligned, ENOSPC if none.

    Only allowed places are searched, if there is a list of them; never below 4096.
    """
    await refuse_if(
        length == 0 or length >= ULONG_MAX // 2, Errno.EOVERFLOW, "length_has_alignment", "no range is that long"
    )
    alignment = 1 << (length - 1).bit_length()
    if address:
        alignment = min(alignment, address & -address)
    alignment = min(alignment, MAX_ALIGNMENT)
    too_fine = alignment < await load(iopt.iova_alignment)
    await refuse_if(
        too_fine, Errno.EINVAL, "memory_is_aligned", "the address space needs memory that is aligned better"
    )
    allowed = await load(iopt.allowed)
    used: list[Range] = [(first, last) for first, last, _ in await load(iopt.reserved)]
    used += [(area.iova, area.last) for area in await in_order(iopt.areas)]
    place = first_place(merged(allowed), merged(used), length, alignment, address % PAGE_SIZE)
    return await require(place, Errno.ENOSPC, "place_left", "no gap of the address space is large enough")


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


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses as ranges in ascending order that neither overlap nor touch."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def holes(used: list[Range], first: int, last: int) -> Iterator[Range]:
    """What merged ranges leave free between two addresses, both included."""
    for low, high in used:
        if high < first:
            continue
        if low > last:
            break
        if low > first:
            yield first, low - 1
        first = high + 1
    if first <= last:
        yield first, last
