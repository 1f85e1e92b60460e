"""How a vfio_device gets its object in an iommufd (drivers/vfio/iommufd.c, v7.2)."""

from __future__ import annotations

from ...engine import Phase, kernel, load, say, store
from ...uapi import KernelError
from ..iommufd.device import iommufd_access_create, iommufd_access_destroy, iommufd_device_bind, iommufd_device_unbind
from ..iommufd.private import IommufdCtx
from ..iommufd.vfio_compat import iommufd_vfio_compat_ioas_get_id
from ..unsupported import Unsupported
from .vfio import VfioDevice, VfioDeviceFile, VfioGroupType


def vfio_device_is_noiommu(device: VfioDevice) -> bool:
    """Does no IOMMU watch this device (drivers/vfio/vfio.h)?"""
    return device.group.type is VfioGroupType.NO_IOMMU


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_device_has_compat_ioas(ictx: IommufdCtx) -> bool:
    """Has the context a compat IOAS?"""
    try:
        await iommufd_vfio_compat_ioas_get_id(ictx)
    except KernelError:
        return False
    return True


@kernel("drivers/vfio/iommufd.c")
async def vfio_df_iommufd_bind(df: VfioDeviceFile) -> None:
    """Let the driver bind its device to the iommufd of this file; the object's ID goes into `df.devid`.

    A device without an IOMMU gets no object.
    """
    if vfio_device_is_noiommu(df.device):
        return
    ictx = await load(df.iommufd)
    assert ictx is not None
    await store(df.devid, await df.device.ops.bind_iommufd(df.device, ictx))


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_compat_attach_ioas(device: VfioDevice, ictx: IommufdCtx) -> None:
    """Attach a device that was opened through its group to the compat IOAS. ENODEV without one, what the attach says."""
    if vfio_device_is_noiommu(device):
        return
    number = await iommufd_vfio_compat_ioas_get_id(ictx)
    raise Unsupported(f"attaching {device.oid} to the compat IOAS, which has ID {number}")


@kernel("drivers/vfio/iommufd.c")
async def vfio_df_iommufd_unbind(df: VfioDeviceFile) -> None:
    """Let the driver take its device out of the iommufd."""
    if vfio_device_is_noiommu(df.device):
        return
    await df.device.ops.unbind_iommufd(df.device)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_physical_bind(device: VfioDevice, ictx: IommufdCtx) -> int:
    """Bind a device that does DMA; the answer is its object ID."""
    idev = await iommufd_device_bind(ictx, device.dev, device)
    await store(device.iommufd_device, idev)
    return idev.id


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_physical_unbind(device: VfioDevice) -> None:
    """Take a device that does DMA out of the iommufd."""
    idev = await load(device.iommufd_device)
    assert idev is not None
    say(Phase.UNWIND, "{} leaves the iommufd: first no new call may use it, then its ID goes.", device)
    await iommufd_device_unbind(idev, device)
    await store(device.iommufd_device, None)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_emulated_bind(device: VfioDevice, ictx: IommufdCtx) -> int:
    """Bind a device that does no DMA; the answer is the ID of its access object."""
    access = await iommufd_access_create(ictx, device)
    await store(device.iommufd_access, access)
    return access.id


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_emulated_unbind(device: VfioDevice) -> None:
    """Take a device that does no DMA out of the iommufd."""
    access = await load(device.iommufd_access)
    if access is not None:
        await iommufd_access_destroy(access, device)
        await store(device.iommufd_access, None)
