"""What a kernel with iommufd's own tests built in does beside them (drivers/iommu/iommufd/selftest.c, v7.2)."""

from __future__ import annotations

from typing import Any, Final

from ...engine import in_order, kernel, shared
from ...uapi import KernelError
from .main import iommufd_get_object
from .private import IommufdCtx, IommufdIoas, iommufd_put_object

SYZ: Final = 1 << 16  # a flag of COPY: src_iova is the number of an area (low half) and an offset in it (high half)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_syz_conv_iova_id(ictx: IommufdCtx, cmd: Any) -> None:
    """Take the flag away, and let src_iova be an address."""
    if not cmd.flags & SYZ:
        return
    cmd.flags &= ~SYZ
    try:
        ioas = await iommufd_get_object(ictx, cmd.src_ioas_id, IommufdIoas)
    except KernelError:
        return
    nth, offset = cmd.src_iova & 0xFFFFFFFF, cmd.src_iova >> 32
    async with shared(ioas.iova_rwsem):
        areas = await in_order(ioas.areas)
    cmd.src_iova = (areas[nth].iova + offset) % 2**64 if nth < len(areas) else 0
    await iommufd_put_object(ioas)
