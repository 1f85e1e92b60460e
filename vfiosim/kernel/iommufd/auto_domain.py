"""Attach, replace and detach; the choice of a page table for an address space (drivers/iommu/iommufd/device.c, v7.2)."""

from __future__ import annotations

from ...engine import KObject, Phase, get, kernel, load, put, refuse_if, say, store
from ...uapi import Errno, KernelError
from .attach import (
    attached,
    iommufd_device_do_replace,
    iommufd_hw_pagetable_attach,
    iommufd_hw_pagetable_detach,
    iommufd_hw_pagetable_put,
)
from .hw_pagetable import iommufd_hwpt_paging_alloc
from .main import iommufd_get_object, iommufd_object_abort_and_destroy, iommufd_object_finalize
from .private import IommufdDevice, IommufdHwPagetable, IommufdIoas, IommufdObject, iommufd_lock_obj, iommufd_put_object

Chosen = tuple[IommufdHwPagetable, IommufdHwPagetable | None]  # the page table, and the one that it replaces


async def move(idev: IommufdDevice, pasid: int, hwpt: IommufdHwPagetable, replace: bool) -> IommufdHwPagetable | None:
    """Attach or replace (`attach_fn`); the answer is the page table that was replaced."""
    if replace:
        return await iommufd_device_do_replace(idev, pasid, hwpt)
    await iommufd_hw_pagetable_attach(hwpt, idev, pasid)
    return None


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_auto_get_domain(idev: IommufdDevice, pasid: int, ioas: IommufdIoas, replace: bool) -> Chosen:
    """Attach to an address space: by the first automatic page table of it that fits (EINVAL: try the next), or a new one."""
    say(Phase.LOCK, "{}: which of its page tables fits the device?", ioas)
    async with ioas.mutex:
        for hwpt in await load(ioas.hwpt_list):
            if not await load(hwpt.auto_domain) or not await iommufd_lock_obj(hwpt):
                continue
            try:
                old = await move(idev, pasid, hwpt, replace)
            except KernelError as error:
                await iommufd_put_object(hwpt)
                if error.errno == Errno.EINVAL:
                    continue
                raise
            await iommufd_put_object(hwpt)
            return hwpt, old
        return await new_auto_domain(idev, pasid, ioas, replace)


async def new_auto_domain(idev: IommufdDevice, pasid: int, ioas: IommufdIoas, replace: bool) -> Chosen:
    """No page table fits: make one. It is attached before it is filled, in a replace afterwards."""
    ictx = idev.ictx
    hwpt = await iommufd_hwpt_paging_alloc(ictx, ioas, idev, pasid, immediate_attach=not replace)
    old = None
    if replace:
        try:
            old = await move(idev, pasid, hwpt, replace)
        except KernelError:
            await iommufd_object_abort_and_destroy(ictx, hwpt)
            raise
    await store(hwpt.auto_domain, True)
    await iommufd_object_finalize(ictx, hwpt)
    return hwpt, old


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_change_pt(idev: IommufdDevice, pasid: int, pt_id: int, replace: bool) -> int:
    """Attach or replace by the ID of an address space or page table; the answer is that of the page table.

    ENOENT without such an object, EINVAL for one of another kind.
    """
    pt = await iommufd_get_object(idev.ictx, pt_id, IommufdObject)
    try:
        if isinstance(pt, IommufdIoas):
            hwpt, old = await iommufd_device_auto_get_domain(idev, pasid, pt, replace)
        else:
            other = not isinstance(pt, IommufdHwPagetable)
            await refuse_if(
                other, Errno.EINVAL, "pt_can_be_attached", f"{pt.oid} is no address space and no page table"
            )
            assert isinstance(pt, IommufdHwPagetable)
            hwpt, old = pt, await move(idev, pasid, pt, replace)
        number = hwpt.id
    except KernelError:
        await iommufd_put_object(pt)
        raise
    await iommufd_put_object(pt)
    if old is not None:
        say(Phase.UNWIND, "{} is let go of; an automatic page table without devices is destroyed.", old)
        await iommufd_hw_pagetable_put(idev.ictx, old, idev, attached(pasid))
    return number


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_attach(idev: IommufdDevice, pasid: int, pt_id: int, driver: KObject) -> int:
    """Attach a device; the answer is the ID of the page table. `driver` (the vfio_device) holds it once more for that."""
    number = await iommufd_device_change_pt(idev, pasid, pt_id, replace=False)
    await get(idev.users, driver, attached(pasid))
    return number


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_replace(idev: IommufdDevice, pasid: int, pt_id: int) -> int:
    """Attach an attached device, and its group, to something else."""
    return await iommufd_device_change_pt(idev, pasid, pt_id, replace=True)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_detach(idev: IommufdDevice, pasid: int, driver: KObject) -> None:
    """Detach a device; nothing happens if its group is not attached."""
    if await iommufd_hw_pagetable_detach(idev, pasid):
        await put(idev.users, driver, attached(pasid))
