"""Binding devices to a context: with DMA ownership or, emulated, with an access (drivers/iommu/iommufd/device.c, v7.2)."""

from __future__ import annotations

from typing import Any

from ...engine import (
    KObject,
    Phase,
    alloc,
    free,
    get,
    get_unless_zero,
    hand_over,
    kernel,
    peek,
    poke,
    put,
    refuse_if,
    require,
    say,
)
from ...uapi import Errno, KernelError
from ..iommu import IommuGroup, iommu_device_claim_dma_owner, iommu_device_release_dma_owner
from .main import _iommufd_object_alloc, iommufd_object_destroy_user, iommufd_object_finalize
from .private import ITS_CONTEXT, IommufdCtx, IommufdDevice, IommufdGroup, iommufd_ctx_get, iommufd_ctx_put

IN_IOMMUFD = "in this iommufd"


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_get_group(ictx: IommufdCtx, device: Any, holder: KObject) -> IommufdGroup:
    """What the context knows of the device's iommu_group, made at its first device. ENODEV for a device without group."""
    group = await require(device.iommu_group, Errno.ENODEV, "has_iommu_group", "the device is in no iommu_group")
    await get(group.kobj, holder, "looked up")
    async with ictx.groups_lock:
        igroup = await peek(ictx.groups, group.id)
        if igroup is not None and await get_unless_zero(igroup.ref, holder, IN_IOMMUFD):
            await put(group.kobj, holder, "looked up")
            return igroup
    try:
        fresh = await alloc(IommufdGroup, ictx, group)
    except KernelError:
        await put(group.kobj, holder, "looked up")
        raise
    await get(fresh.ref, holder, IN_IOMMUFD)
    await hand_over(group.kobj, (holder, "looked up"), (fresh, "of this group"))
    async with ictx.groups_lock:
        while True:
            found = await peek(ictx.groups, group.id)
            if found is None or found is igroup:
                await poke(ictx.groups, group.id, fresh)
                return fresh
            if await get_unless_zero(found.ref, holder, IN_IOMMUFD):
                break
            igroup = found
    await iommufd_put_group(fresh, holder)
    return found


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_put_group(igroup: IommufdGroup, holder: KObject) -> None:
    """Let go of an iommufd_group; the last one takes it out of the context and lets go of the iommu_group."""
    if await put(igroup.ref, holder, IN_IOMMUFD):
        async with igroup.ictx.groups_lock:
            if await peek(igroup.ictx.groups, igroup.group.id) is igroup:
                await poke(igroup.ictx.groups, igroup.group.id, None)
        await put(igroup.group.kobj, igroup, "of this group")
        await free(igroup)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_bind(ictx: IommufdCtx, device: Any, driver: KObject) -> IommufdDevice:
    """Claim the DMA of the device for the context and give the device an ID there; `driver` (the vfio_device) holds it.

    EINVAL without cache coherency, ENODEV without iommu_group, EPERM without isolated interrupts or if the DMA is owned by
    somebody else, EBUSY in a foreign domain.
    """
    say(Phase.ACQUIRE, "{} gets to know the iommu_group of the device: an iommufd_group stands for it.", ictx)
    await refuse_if(
        not device.cache_coherent, Errno.EINVAL, "cache_coherent", "iommufd needs an IOMMU that keeps caches coherent"
    )
    igroup = await iommufd_get_group(ictx, device, driver)
    group: IommuGroup = igroup.group
    try:
        await refuse_if(
            not device.is_mock and not device.isolated_msi,
            Errno.EPERM,
            "msi_isolated",
            "the platform cannot isolate the device's interrupts",
        )
        say(Phase.ACQUIRE, "{} becomes the owner of the group's DMA; until ATTACH the DMA is blocked.", ictx)
        await iommu_device_claim_dma_owner(group, ictx)
        try:
            idev = await new_idev(ictx, igroup, device, driver)
        except KernelError:
            await iommu_device_release_dma_owner(group)
            raise
    except KernelError:
        await iommufd_put_group(igroup, driver)
        raise
    return idev


async def new_idev(ictx: IommufdCtx, igroup: IommufdGroup, device: Any, driver: KObject) -> IommufdDevice:
    """The second half of `iommufd_device_bind`: the object, what it holds, who holds it, its publication."""
    say(Phase.ACQUIRE, "The device gets an object in {} with the lowest free ID; it holds the iommufd open.", ictx)
    idev = await _iommufd_object_alloc(ictx, IommufdDevice, igroup, device)
    if not device.is_mock:
        await iommufd_ctx_get(ictx, idev, ITS_CONTEXT)
    await get(idev.users, driver, "bound")
    await hand_over(igroup.ref, (driver, IN_IOMMUFD), (idev, IN_IOMMUFD))
    await iommufd_object_finalize(ictx, idev)
    return idev


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_unbind(idev: IommufdDevice, driver: KObject) -> None:
    """The driver gives the device back: wait for running calls, remove the ID, give up the DMA."""
    await iommufd_object_destroy_user(idev.ictx, idev, driver)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_destroy(idev: IommufdDevice) -> None:
    """Give back what the object holds: DMA ownership, iommufd_group, context."""
    say(Phase.UNWIND, "{} goes: its share of the DMA ownership, its group and its hold on the iommufd with it.", idev)
    await iommu_device_release_dma_owner(idev.igroup.group)
    await iommufd_put_group(idev.igroup, idev)
    if not idev.dev.is_mock:
        await iommufd_ctx_put(idev.ictx, idev, ITS_CONTEXT)
