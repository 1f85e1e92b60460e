"""Bitmaps of I/O pages in user memory (drivers/iommu/iommufd/iova_bitmap.c, v7.2)."""

from __future__ import annotations

from typing import Any

from ...engine import *


@kernel("drivers/iommu/iommufd/iova_bitmap.c")
async def iova_bitmap_set(cmd: Any, first: int, last: int) -> None:
    """Set the bits that stand for a range. EFAULT where the bitmap cannot be written."""
    shift = (cmd.page_size & -cmd.page_size).bit_length() - 1
    for bit in range((first - cmd.iova) >> shift, ((last - cmd.iova) >> shift) + 1):
        byte = (await copy_from_user(cmd.data + bit // 8, 1))[0]
        await copy_to_user(cmd.data + bit // 8, bytes((byte | 1 << bit % 8,)))
