"""Virtual IOMMUs, as far as refusing them goes: this IOMMU cannot be handed to a guest (drivers/iommu/iommufd/viommu.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import kernel, refuse_if
from ...uapi import Errno
from .areas import ULONG_MAX
from .main import iommufd_get_object
from .private import IommufdDevice, IommufdObject, Ucmd, iommufd_put_object

VEVENTQ_MOST = 1 << 16


class IommufdViommu(IommufdObject):
    """A virtual IOMMU: never born on this machine, its hardware has nothing to offer to a guest."""

    kind = "iommufd_viommu"
    type = "virtual IOMMU"


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_viommu_alloc_ioctl(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, no type), ENOENT (device), EOPNOTSUPP."""
    cmd = ucmd.cmd
    bad = cmd.flags != 0 or cmd.type == uapi.IOMMU_VIOMMU_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "viommu_has_type", "a virtual IOMMU has no flags and must have a type")
    await iommufd_put_object(await iommufd_get_object(ucmd.ictx, cmd.dev_id, IommufdDevice))
    await refuse_if(
        True, Errno.EOPNOTSUPP, "iommu_can_be_virtual", "the IOMMU behind this device cannot be handed to a guest"
    )


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_vdevice_alloc_ioctl(ucmd: Ucmd) -> None:
    """ENOENT: there is no virtual IOMMU."""
    await iommufd_get_object(ucmd.ictx, ucmd.cmd.viommu_id, IommufdViommu)


@kernel("drivers/iommu/iommufd/eventq.c")
async def iommufd_veventq_alloc(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, reserved, no type), EINVAL (depth), ENOENT."""
    cmd = ucmd.cmd
    bad = cmd.flags != 0 or cmd.get("__reserved") != 0 or cmd.type == uapi.IOMMU_VEVENTQ_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "veventq_has_type", "a queue has no flags and must have a type")
    depth = cmd.veventq_depth
    await refuse_if(
        not 0 < depth <= VEVENTQ_MOST, Errno.EINVAL, "veventq_depth", "a queue has room for 1 to 65536 events"
    )
    await iommufd_get_object(ucmd.ictx, cmd.viommu_id, IommufdViommu)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_hw_queue_alloc_ioctl(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, no type), EINVAL (length), EOVERFLOW, ENOENT."""
    cmd = ucmd.cmd
    bad = cmd.flags != 0 or cmd.type == uapi.IOMMU_HW_QUEUE_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "hw_queue_has_type", "a queue has no flags and must have a type")
    await refuse_if(not cmd.length, Errno.EINVAL, "hw_queue_length", "a queue needs room")
    over = cmd.nesting_parent_iova + cmd.length - 1 > ULONG_MAX
    await refuse_if(over, Errno.EOVERFLOW, "hw_queue_ends_somewhere", "the queue ends beyond the last address")
    await iommufd_get_object(ucmd.ictx, cmd.viommu_id, IommufdViommu)
