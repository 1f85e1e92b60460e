"""The IOMMU driver of containers whose groups have no IOMMU (the beginning of drivers/vfio/container.c, v7.2).

It maps nothing and protects nothing: the program must know physical addresses, and is trusted with all of memory.
"""

from __future__ import annotations

from functools import partial

from ... import uapi
from ...engine import kernel, refuse_if
from ...uapi import Errno
from ..iommu import IommuGroup
from ..task import capable
from .container import NOIOMMU, RAWIO
from .vfio import VfioGroupType, VfioIommuDriverOps


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_open(kind: int) -> None:
    """A container gets this driver: EINVAL for another type, EPERM without CAP_SYS_RAWIO."""
    await refuse_if(kind != uapi.VFIO_NOIOMMU_IOMMU, Errno.EINVAL, "type_is_noiommu", "this driver has only one type")
    await refuse_if(
        not await capable(RAWIO), Errno.EPERM, "capable_of_raw_io", f"working without an IOMMU takes {RAWIO}"
    )


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_release(data: None) -> None:
    """There is nothing to give back."""


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_ioctl(enabled: bool, data: None, cmd: int, argument: int) -> int:
    """All it can say is that it is there, if the administrator allows it; ENOTTY for everything else."""
    if cmd == uapi.VFIO_CHECK_EXTENSION:
        return int(enabled and argument == uapi.VFIO_NOIOMMU_IOMMU)
    await refuse_if(True, Errno.ENOTTY, "driver_knows_request", "without an IOMMU there is nothing to map or to ask")
    return 0


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_attach_group(data: None, iommu_group: IommuGroup, kind: VfioGroupType) -> None:
    """Any group will do."""


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_detach_group(data: None, iommu_group: IommuGroup) -> None:
    """The group leaves, and nothing changes."""


def vfio_noiommu_ops(enabled: bool) -> VfioIommuDriverOps:
    """The driver; `enabled` is the module parameter enable_unsafe_noiommu_mode."""
    return VfioIommuDriverOps(
        NOIOMMU,
        open=vfio_noiommu_open,
        release=vfio_noiommu_release,
        ioctl=partial(vfio_noiommu_ioctl, enabled),
        attach_group=vfio_noiommu_attach_group,
        detach_group=vfio_noiommu_detach_group,
    )
