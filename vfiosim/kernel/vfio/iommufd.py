"""How a vfio_device gets its object in an iommufd (drivers/vfio/iommufd.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..config import built_with
from ..iommufd.device import (
    iommufd_access_attach,
    iommufd_access_create,
    iommufd_access_destroy,
    iommufd_access_detach,
    iommufd_access_replace,
    iommufd_ctx_has_group,
    iommufd_device_attach,
    iommufd_device_bind,
    iommufd_device_detach,
    iommufd_device_replace,
    iommufd_device_unbind,
)
from ..iommufd.iommufd_private import NO_PASID, IommufdCtx
from ..iommufd.vfio_compat import iommufd_vfio_compat_ioas_get_id
from ..unsupported import Unsupported
from .vfio import VfioDevice, VfioDeviceFile, VfioGroupType

PASID_LAST = (1 << 31) - 1


def vfio_device_is_noiommu(device: VfioDevice) -> bool:
    """Does no IOMMU watch this device (drivers/vfio/vfio.h)?"""
    return built_with("vfio_noiommu") and device.group.type is VfioGroupType.NO_IOMMU


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

    A device without an IOMMU gets no object, nor does one whose driver has nothing to bind: it does no DMA.
    """
    device = df.device
    if vfio_device_is_noiommu(device) or device.ops.bind_iommufd is None:
        return
    ictx = await load(df.iommufd)
    assert ictx is not None
    await store(df.devid, await device.ops.bind_iommufd(device, ictx))


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_compat_attach_ioas(device: VfioDevice, ictx: IommufdCtx) -> None:
    """Attach a device that was opened through its group to the compat IOAS. ENODEV without one, what the attach says."""
    if vfio_device_is_noiommu(device) or device.ops.attach_ioas is None:
        return
    await device.ops.attach_ioas(device, await iommufd_vfio_compat_ioas_get_id(ictx))


@kernel("drivers/vfio/iommufd.c")
async def vfio_df_iommufd_unbind(df: VfioDeviceFile) -> None:
    """Let the driver take its device out of the iommufd."""
    if vfio_device_is_noiommu(df.device) or df.device.ops.unbind_iommufd is None:
        return
    await df.device.ops.unbind_iommufd(df.device)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_device_ictx(device: VfioDevice) -> IommufdCtx | None:
    """The iommufd that a device is bound to."""
    idev = await load(device.iommufd_device)
    return idev.ictx if idev is not None else None


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_get_dev_id(device: VfioDevice, ictx: IommufdCtx | None) -> int:
    """The ID of the device in this iommufd; 0 if only a neighbour in its iommu_group is bound to it; −1 otherwise."""
    idev = await load(device.iommufd_device)
    if idev is not None and idev.ictx is ictx:
        return idev.id
    group = await load(device.dev.iommu_group)
    if ictx is not None and group is not None and await iommufd_ctx_has_group(ictx, group):
        return uapi.VFIO_PCI_DEVID_OWNED
    return uapi.VFIO_PCI_DEVID_NOT_OWNED


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
    pasid = await next_slot(device.pasids, 0)
    while pasid is not None:
        await iommufd_device_detach(idev, pasid, device)
        await xa_store(device.pasids, pasid, None)
        pasid = await next_slot(device.pasids, 0)
    if await load(device.iommufd_attached):
        await iommufd_device_detach(idev, NO_PASID, device)
        await store(device.iommufd_attached, False)
    say(Phase.RELEASE, "{} leaves the iommufd: first no new call may use it, then its ID goes.", device)
    await iommufd_device_unbind(idev, device)
    await store(device.iommufd_device, None)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_physical_attach_ioas(device: VfioDevice, pt_id: int) -> int:
    """Attach, or move if it is attached; the answer is the ID of the page table."""
    idev = await load(device.iommufd_device)
    assert idev is not None
    if await load(device.iommufd_attached):
        number = await iommufd_device_replace(idev, NO_PASID, pt_id)
    else:
        number = await iommufd_device_attach(idev, NO_PASID, pt_id, device)
    await store(device.iommufd_attached, True)
    return number


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_physical_detach_ioas(device: VfioDevice) -> None:
    """Detach, if it is attached."""
    idev = await load(device.iommufd_device)
    if idev is not None and await load(device.iommufd_attached):
        await iommufd_device_detach(idev, NO_PASID, device)
        await store(device.iommufd_attached, False)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_physical_pasid_attach_ioas(device: VfioDevice, pasid: int, pt_id: int) -> int:
    """The same for DMA with one PASID. ENOSPC for a number of 2^31 or more."""
    idev = await load(device.iommufd_device)
    assert idev is not None
    if await xa_load(device.pasids, pasid) is not None:
        return await iommufd_device_replace(idev, pasid, pt_id)
    await refuse_if(pasid > PASID_LAST, Errno.ENOSPC, "pasid_is_small", "a PASID is less than 2^31")
    say(Phase.ACQUIRE, f"VFIO notes that PASID {pasid} of {{}} is attached.", device)
    await xa_store(device.pasids, pasid, True)
    async with on_failure(xa_store, device.pasids, pasid, None):
        return await iommufd_device_attach(idev, pasid, pt_id, device)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_physical_pasid_detach_ioas(device: VfioDevice, pasid: int) -> None:
    """Detach one PASID, if it is attached."""
    idev = await load(device.iommufd_device)
    if idev is not None and await xa_load(device.pasids, pasid) is not None:
        await iommufd_device_detach(idev, pasid, device)
        await xa_store(device.pasids, pasid, None)


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
        await store(device.iommufd_attached, False)
        await store(device.iommufd_access, None)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_emulated_attach_ioas(device: VfioDevice, pt_id: int) -> int:
    """Attach the access to an address space, or move it; there is no page table, the answer is the ID that was given."""
    access = await load(device.iommufd_access)
    if access is None:
        raise Unsupported("attaching an emulated device that has no access since its bind")
    change = iommufd_access_replace if await load(device.iommufd_attached) else iommufd_access_attach
    await change(access, pt_id)
    await store(device.iommufd_attached, True)
    return pt_id


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_emulated_detach_ioas(device: VfioDevice) -> None:
    """Detach the access, if it is attached."""
    access = await load(device.iommufd_access)
    if access is not None and await load(device.iommufd_attached):
        await iommufd_access_detach(access)
        await store(device.iommufd_attached, False)
