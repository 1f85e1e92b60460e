"""Emulated devices and the address space they read and write (drivers/iommu/iommufd/device.c, v7.2)."""

from __future__ import annotations

from ...engine import KObject, Phase, acquire, get, kernel, load, put, refuse_if, release, require, say, store
from ...uapi import Errno, KernelError
from ..mm import PAGE_SIZE
from .areas import ULONG_MAX
from .domains import iopt_add_access, iopt_remove_access
from .main import _iommufd_object_alloc, iommufd_get_object, iommufd_object_destroy_user, iommufd_object_finalize
from .private import (
    ITS_CONTEXT,
    IommufdAccess,
    IommufdCtx,
    IommufdIoas,
    iommufd_ctx_get,
    iommufd_ctx_put,
    iommufd_put_object,
)

ATTACHED = "attached"


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_change_ioas(access: IommufdAccess, new: IommufdIoas | None) -> None:
    """Move to another address space, or to none. EBUSY while another change is under way, EADDRINUSE if it does not fit."""
    now = await load(access.ioas)
    racing = now is not await load(access.ioas_unpin)
    await refuse_if(racing, Errno.EBUSY, "no_change_under_way", "another change of this device is under way")
    if now is new:
        return
    await store(access.ioas, None)
    if new is not None:
        try:
            await iopt_add_access(new, access)
        except KernelError:
            await store(access.ioas, now)
            raise
        await get(new.users, access, ATTACHED)
    if now is not None:
        say(
            Phase.UNWIND, "{} leaves {}; the driver gives back what it has pinned there, without the lock.", access, now
        )
        await release(access.ioas_lock)
        if access.unmap is not None:
            await access.unmap(0, ULONG_MAX)
        await acquire(access.ioas_lock)
        await iopt_remove_access(now, access)
        await put(now.users, access, ATTACHED)
    await store(access.ioas, new)
    await store(access.ioas_unpin, new)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_change_ioas_id(access: IommufdAccess, number: int) -> None:
    """The same by ID. ENOENT unless that is an address space."""
    ioas = await iommufd_get_object(access.ictx, number, IommufdIoas)
    try:
        await iommufd_access_change_ioas(access, ioas)
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_attach(access: IommufdAccess, number: int) -> None:
    """Attach an emulated device to an address space."""
    async with access.ioas_lock:
        now = await load(access.ioas)
        await refuse_if(now is not None, Errno.EINVAL, "access_not_attached", f"{access.oid} is attached already")
        await iommufd_access_change_ioas_id(access, number)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_replace(access: IommufdAccess, number: int) -> None:
    """Attach an emulated device that is attached to another address space."""
    async with access.ioas_lock:
        await require(await load(access.ioas), Errno.ENOENT, "access_is_attached", f"{access.oid} is not attached")
        await iommufd_access_change_ioas_id(access, number)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_detach(access: IommufdAccess) -> None:
    """Detach an emulated device."""
    async with access.ioas_lock:
        if await load(access.ioas) is not None:
            await iommufd_access_change_ioas(access, None)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_create(ictx: IommufdCtx, driver: KObject, alignment: int = PAGE_SIZE) -> IommufdAccess:
    """Give an emulated device an object in the context. No DMA ownership: nothing of it ever reaches an IOMMU."""
    say(Phase.ACQUIRE, "The device does no DMA: it gets an access object in {}, with an ID like any other.", ictx)
    access = await _iommufd_object_alloc(ictx, IommufdAccess, alignment)
    await get(access.users, driver, "bound")
    await iommufd_ctx_get(ictx, access, ITS_CONTEXT)
    await iommufd_object_finalize(ictx, access)
    return access


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_destroy(access: IommufdAccess, driver: KObject) -> None:
    """The driver gives its access back."""
    await iommufd_object_destroy_user(access.ictx, access, driver)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_destroy_object(access: IommufdAccess) -> None:
    """Give back what the object holds: the address space it is attached to, and its context."""
    say(Phase.UNWIND, "{} goes, and its hold on the iommufd with it.", access)
    await iommufd_access_detach(access)
    if not access.internal:
        await iommufd_ctx_put(access.ictx, access, ITS_CONTEXT)
