"""Devices in a context: bound with the DMA ownership of their group and attached to page tables; emulated ones with an access.

(drivers/iommu/iommufd/device.c, v7.2)

The hardware knows only groups: the first device of a group moves all of it, the others must follow to the same page table.
"""

from __future__ import annotations

from typing import Any

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..iommu import (
    MSI_IS_SHARED,
    IommuGroup,
    iommu_attach_device_pasid,
    iommu_attach_group_handle,
    iommu_detach_device_pasid,
    iommu_detach_group_handle,
    iommu_device_claim_dma_owner,
    iommu_device_release_dma_owner,
    iommu_group_has_isolated_msi,
    iommu_replace_device_pasid,
    iommu_replace_group_handle,
)
from ..prototypes import (
    _iommufd_object_alloc,
    iommufd_ctx_get,
    iommufd_ctx_put,
    iommufd_get_object,
    iommufd_object_abort_and_destroy,
    iommufd_object_destroy_user,
    iommufd_object_finalize,
    iommufd_object_tombstone_user,
    iommufd_try_inc_users,
)
from ..regions import PAGE_SIZE, ends_beyond
from .eventq import iommufd_auto_response_faults
from .hw_pagetable import iommufd_hwpt_paging_alloc
from .io_pagetable import (
    iopt_add_access,
    iopt_remove_access,
    iopt_remove_reserved_iova,
    iopt_table_enforce_dev_resv_regions,
)
from .io_pagetable_h import ULONG_MAX, IoptArea
from .iommufd_private import (
    IN_IOMMUFD,
    ITS_CONTEXT,
    NO_PASID,
    IommufdAccess,
    IommufdAttach,
    IommufdCtx,
    IommufdDevice,
    IommufdGroup,
    IommufdHwPagetable,
    IommufdIoas,
    IommufdObject,
    Ucmd,
    iommufd_hw_pagetable_put,
    iommufd_lock_obj,
    iommufd_put_group,
    iommufd_put_object,
)
from .pages import iopt_area_add_access, iopt_area_remove_access, iopt_pages_rw_access, refuse_access

Chosen = tuple[IommufdHwPagetable, IommufdHwPagetable | None]  # the page table, and the one that it replaces
ATTACHED = "attached"
Pinned = list[tuple[IoptArea, int, int]]  # an area, and its first and last page that are meant


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_get_group(ictx: IommufdCtx, device: Any, holder: KObject) -> IommufdGroup:
    """What the context knows of the device's iommu_group, made at its first device. ENODEV for a device without group."""
    watched = await load(device.iommu_group)
    group = await require(watched, Errno.ENODEV, "has_iommu_group", "the device is in no iommu_group")
    await get(group.kobj, holder, "looked up")
    async with ictx.groups_lock:
        igroup = await xa_load(ictx.groups, group.id)
        if igroup is not None and await get_unless_zero(igroup.ref, holder, IN_IOMMUFD):
            await put(group.kobj, holder, "looked up")
            return igroup
    async with on_failure(put, group.kobj, holder, "looked up"):
        fresh = await alloc(IommufdGroup, ictx, group)
    await get(fresh.ref, holder, IN_IOMMUFD)
    await hand_over(group.kobj, (holder, "looked up"), (fresh, "of this group"))
    async with ictx.groups_lock:
        while True:
            found = await xa_load(ictx.groups, group.id)
            if found is None or found is igroup:
                await xa_store(ictx.groups, group.id, fresh)
                return fresh
            if await get_unless_zero(found.ref, holder, IN_IOMMUFD):
                break
            igroup = found
    await iommufd_put_group(fresh, holder)
    return found


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_pre_destroy(idev: IommufdDevice) -> None:
    """The device is about to go: no guest can get it any more, and the one that has it loses it."""
    async with idev.igroup.lock:
        await store(idev.destroying, True)
        vdev = await load(idev.vdev)
        if vdev is None or not await iommufd_try_inc_users(idev.ictx, vdev, idev):
            return
    say(Phase.RELEASE, "{} loses its device: it is destroyed, too, and its ID is never used again.", vdev)
    await iommufd_object_tombstone_user(idev.ictx, vdev, idev)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_destroy(idev: IommufdDevice) -> None:
    """Give back what the object holds: DMA ownership, iommufd_group, context."""
    say(Phase.RELEASE, "{} is to go: it gives back its share of the DMA ownership.", idev)
    await iommu_device_release_dma_owner(idev.igroup.group)
    say(Phase.RELEASE, "{} is freed: it gives back its group and its iommufd.", idev)
    await iommufd_put_group(idev.igroup, idev)
    if not idev.dev.is_mock:
        await iommufd_ctx_put(idev.ictx, idev, ITS_CONTEXT)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_bind(ictx: IommufdCtx, device: Any, driver: KObject) -> IommufdDevice:
    """Claim the DMA of the device for the context and give the device an ID there; `driver` (the vfio_device) holds it.

    EINVAL without cache coherency, ENODEV without iommu_group, EPERM without isolated interrupts or if the DMA is owned by
    somebody else, EBUSY in a foreign domain.
    """
    say(Phase.ACQUIRE, "The device joins the iommufd_group of {}. Nobody else may own the DMA of its group.", ictx)
    await refuse_if(
        not device.cache_coherent, Errno.EINVAL, "cache_coherent", "iommufd needs an IOMMU that keeps caches coherent"
    )
    igroup = await iommufd_get_group(ictx, device, driver)
    group: IommuGroup = igroup.group
    async with on_failure(iommufd_put_group, igroup, driver):
        shared_msi = not device.is_mock and not iommu_group_has_isolated_msi(group)
        allowed = shared_msi and await load(device.buses.parameters.iommufd_unsafe_interrupts)
        await refuse_if(shared_msi and not allowed, Errno.EPERM, "msi_isolated", MSI_IS_SHARED)
        await iommu_device_claim_dma_owner(group, ictx)
        async with on_failure(iommu_device_release_dma_owner, group):
            idev = await new_idev(ictx, igroup, device, driver)
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
async def iommufd_ctx_has_group(ictx: IommufdCtx, group: object) -> bool:
    """Is any device of this iommu_group bound to the iommufd?"""
    number = await next_slot(ictx.objects, 0)
    while number is not None:
        obj = await xa_load(ictx.objects, number)
        if isinstance(obj, IommufdDevice) and obj.igroup.group is group:
            return True
        number = await next_slot(ictx.objects, number + 1)
    return False


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_unbind(idev: IommufdDevice, driver: KObject) -> None:
    """The driver gives the device back: wait for running calls, remove the ID, give up the DMA."""
    await iommufd_object_destroy_user(idev.ictx, idev, driver)


def attached(pasid: int) -> str:
    """Why an attached device holds its page table, and is held itself."""
    return "attached" if pasid == NO_PASID else f"attached, PASID {pasid}"


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hwpt_pasid_compat(hwpt: IommufdHwPagetable, idev: IommufdDevice, pasid: int) -> None:
    """PASIDs need page tables that were made for them, also for the DMA without PASID beside them. EINVAL otherwise."""
    slots = idev.igroup.pasid_attach
    if pasid == NO_PASID:
        beside = not hwpt.pasid_compat and await next_slot(slots, NO_PASID + 1) is not None
        await refuse_if(
            beside, Errno.EINVAL, "table_fits_pasids", "a page table that is used beside PASIDs must be made for PASIDs"
        )
        return
    await refuse_if(not hwpt.pasid_compat, Errno.EINVAL, "made_for_pasids", f"{hwpt.oid} was not made for PASIDs")
    rid = await xa_load(slots, NO_PASID)
    other = await load(rid.hwpt) if rid is not None else None
    plain = other is not None and not other.pasid_compat
    await refuse_if(
        plain, Errno.EINVAL, "pasid_fits_table", "the page table of the DMA without PASID was not made for PASIDs"
    )


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hwpt_attach_device(hwpt: IommufdHwPagetable, idev: IommufdDevice, pasid: int) -> None:
    """Let the hardware use a page table. EINVAL by the rules of PASIDs, EBUSY, then what the driver of the IOMMU says."""
    await iommufd_hwpt_pasid_compat(hwpt, idev, pasid)
    group = idev.igroup.group
    if pasid == NO_PASID:
        say(Phase.PUBLISH, "The hardware now translates what {} does by {}.", group, hwpt)
        await iommu_attach_group_handle(hwpt, group, idev.dev)
    else:
        await iommu_attach_device_pasid(hwpt, group, idev.dev, pasid)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hwpt_detach_device(hwpt: IommufdHwPagetable, idev: IommufdDevice, pasid: int) -> None:
    """The hardware uses a page table no more; faults that nobody has answered are answered for it."""
    group = idev.igroup.group
    if pasid == NO_PASID:
        await iommu_detach_group_handle(group, idev.dev)
    else:
        await iommu_detach_device_pasid(hwpt, group, idev.dev, pasid)
    await iommufd_auto_response_faults(hwpt, idev, pasid)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hwpt_replace_device(
    idev: IommufdDevice, pasid: int, hwpt: IommufdHwPagetable, old: IommufdHwPagetable
) -> None:
    """Let the hardware use another page table, without a gap. Errors as above."""
    await iommufd_hwpt_pasid_compat(hwpt, idev, pasid)
    group = idev.igroup.group
    if pasid == NO_PASID:
        say(Phase.PUBLISH, "The hardware now translates what {} does by {}.", group, hwpt)
        await iommu_replace_group_handle(hwpt, group, idev.dev)
    else:
        await iommu_replace_device_pasid(hwpt, group, idev.dev, pasid, old)
    await iommufd_auto_response_faults(old, idev, pasid)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hw_pagetable_attach(hwpt: IommufdHwPagetable, idev: IommufdDevice, pasid: int) -> None:
    """Attach a device to a page table.

    EBUSY if it is attached already, EINVAL if its group uses another page table, EADDRINUSE if what the device has reserved
    is in use; for the first device of the group also what the hardware says.
    """
    igroup = idev.igroup
    say(Phase.LOCK, "The devices of {} agree on one page table: its lock.", igroup)
    async with igroup.lock:
        known = await xa_load(igroup.pasid_attach, pasid)
        attach = known or await alloc(IommufdAttach, igroup)
        try:
            await enter(attach, hwpt, idev, pasid, first=known is None)
        except KernelError:
            if known is None:
                await free(attach)
            raise
        await get(hwpt.users, idev, attached(pasid))


async def enter(attach: IommufdAttach, hwpt: IommufdHwPagetable, idev: IommufdDevice, pasid: int, first: bool) -> None:
    """Put a device into the slot of its group, with what it reserves; the first one programs the hardware."""
    now = await load(attach.hwpt)
    there = await xa_load(attach.device_array, idev.id)
    await refuse_if(there is not None, Errno.EBUSY, "device_not_attached", f"{idev.oid} is attached already")
    await xa_store(attach.device_array, idev.id, idev)
    async with on_failure(xa_store, attach.device_array, idev.id, None):
        other = now is not None and now is not hwpt
        await refuse_if(other, Errno.EINVAL, "same_table_as_group", "the group of the device uses another page table")
        if pasid == NO_PASID:
            await iopt_table_enforce_dev_resv_regions(hwpt.ioas, idev)
        try:
            if first:
                await iommufd_hwpt_attach_device(hwpt, idev, pasid)
        except KernelError:
            if pasid == NO_PASID:
                await iopt_remove_reserved_iova(hwpt.ioas, idev)
            raise
    if first:
        await store(attach.hwpt, hwpt)
        await xa_store(attach.igroup.pasid_attach, pasid, attach)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hw_pagetable_detach(idev: IommufdDevice, pasid: int) -> bool:
    """Detach a device; with the last one of its group the DMA is blocked again. False if the group is not attached."""
    igroup = idev.igroup
    async with igroup.lock:
        attach = await xa_load(igroup.pasid_attach, pasid)
        if attach is None:
            return False
        hwpt = await load(attach.hwpt)
        assert hwpt is not None
        await xa_store(attach.device_array, idev.id, None)
        if await next_slot(attach.device_array, 0) is None:
            say(Phase.RELEASE, "The last device of {} is detached: its DMA is blocked.", igroup)
            await iommufd_hwpt_detach_device(hwpt, idev, pasid)
            await xa_store(igroup.pasid_attach, pasid, None)
            await free(attach)
        if pasid == NO_PASID:
            await iopt_remove_reserved_iova(hwpt.ioas, idev)
    await iommufd_hw_pagetable_put(idev.ictx, hwpt, idev, attached(pasid))
    return True


async def devices_of(attach: IommufdAttach) -> list[IommufdDevice]:
    """The devices in a slot, by their IDs."""
    found: list[IommufdDevice] = []
    number = await next_slot(attach.device_array, 0)
    while number is not None:
        device = await xa_load(attach.device_array, number)
        if device is not None:
            found.append(device)
        number = await next_slot(attach.device_array, number + 1)
    return found


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_group_remove_reserved_iova(igroup: IommufdGroup, ioas: IommufdIoas) -> None:
    """Give back what the attached devices of a group have reserved in an address space."""
    attach = await xa_load(igroup.pasid_attach, NO_PASID)
    assert attach is not None
    for device in await devices_of(attach):
        await iopt_remove_reserved_iova(ioas, device)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_group_do_replace_reserved_iova(igroup: IommufdGroup, hwpt: IommufdHwPagetable) -> None:
    """Reserve for the whole group in the address space that it moves to, unless it is there. EADDRINUSE."""
    attach = await xa_load(igroup.pasid_attach, NO_PASID)
    assert attach is not None
    old = await load(attach.hwpt)
    if old is not None and old.ioas is hwpt.ioas:
        return
    async with on_failure(iommufd_group_remove_reserved_iova, igroup, hwpt.ioas):
        for device in await devices_of(attach):
            await iopt_table_enforce_dev_resv_regions(hwpt.ioas, device)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_do_replace(
    idev: IommufdDevice, pasid: int, hwpt: IommufdHwPagetable
) -> IommufdHwPagetable | None:
    """Move the whole group to another page table; the answer is the old one, with one reference that the caller gives back.

    EINVAL if the device is not attached; the same page table: nothing happens. If it fails the group stays where it is.
    """
    igroup = idev.igroup
    async with igroup.lock:
        slot = await xa_load(igroup.pasid_attach, pasid)
        attach = await require(slot, Errno.EINVAL, "group_is_attached", "the group is not attached")
        old = await load(attach.hwpt)
        inside = await xa_load(attach.device_array, idev.id)
        await refuse_if(inside is None, Errno.EINVAL, "device_is_attached", f"{idev.oid} is not attached")
        if hwpt is old:
            return None
        assert old is not None
        say(Phase.ACQUIRE, "All attached devices of {} move from {} to {}.", igroup, old, hwpt)
        if pasid == NO_PASID:
            await iommufd_group_do_replace_reserved_iova(igroup, hwpt)
        try:
            await iommufd_hwpt_replace_device(idev, pasid, hwpt, old)
        except KernelError:
            if pasid == NO_PASID:
                await iommufd_group_remove_reserved_iova(igroup, hwpt.ioas)
            raise
        if pasid == NO_PASID and old.ioas is not hwpt.ioas:
            await iommufd_group_remove_reserved_iova(igroup, old.ioas)
        await store(attach.hwpt, hwpt)
        await move_references(await devices_of(attach), idev, old, hwpt, pasid)
    return old


async def move_references(
    devices: list[IommufdDevice], idev: IommufdDevice, old: IommufdHwPagetable, new: IommufdHwPagetable, pasid: int
) -> None:
    """Every device of the group holds the new page table; the old one keeps that of the caller for now."""
    for device in devices:
        await get(new.users, device, attached(pasid))
    for device in devices:
        if device is not idev:
            await put(old.users, device, attached(pasid))


async def move(idev: IommufdDevice, pasid: int, hwpt: IommufdHwPagetable, replace: bool) -> IommufdHwPagetable | None:
    """Attach or replace (`attach_fn`); the answer is the page table that was replaced."""
    if replace:
        return await iommufd_device_do_replace(idev, pasid, hwpt)
    await iommufd_hw_pagetable_attach(hwpt, idev, pasid)
    return None


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_auto_get_domain(idev: IommufdDevice, pasid: int, ioas: IommufdIoas, replace: bool) -> Chosen:
    """Attach to an address space: by the first automatic page table of it that fits (EINVAL: try the next), or a new one."""
    say(Phase.LOCK, "{}: each of its page tables is tried, until one fits the device.", ioas)
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
        async with on_failure(iommufd_object_abort_and_destroy, ictx, hwpt):
            old = await move(idev, pasid, hwpt, replace)
    await store(hwpt.auto_domain, True)
    await iommufd_object_finalize(ictx, hwpt)
    return hwpt, old


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_change_pt(idev: IommufdDevice, pasid: int, pt_id: int, replace: bool) -> int:
    """Attach or replace by the ID of an address space or page table; the answer is that of the page table.

    ENOENT without such an object, EINVAL for one of another kind.
    """
    pt = await iommufd_get_object(idev.ictx, pt_id, IommufdObject)
    async with cleanup(iommufd_put_object, pt):
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
    if old is not None:
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
        say(Phase.PUBLISH, "From now on {} shows what is mapped in {}.", access, new)
        async with on_failure(store, access.ioas, now):
            await iopt_add_access(new, access)
        await get(new.users, access, ATTACHED)
    if now is not None:
        say(Phase.RELEASE, "{} leaves {}; the driver gives back what it pinned there, without the lock.", access, now)
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
    async with cleanup(iommufd_put_object, ioas):
        await iommufd_access_change_ioas(access, ioas)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_destroy_object(access: IommufdAccess) -> None:
    """Give back what the object holds: the address space it is attached to, and its context."""
    say(Phase.RELEASE, "{} is freed, and does not hold the iommufd any more.", access)
    await iommufd_access_detach(access)
    if not access.internal:
        await iommufd_ctx_put(access.ictx, access, ITS_CONTEXT)


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
async def iommufd_access_detach(access: IommufdAccess) -> None:
    """Detach an emulated device."""
    async with access.ioas_lock:
        if await load(access.ioas) is not None:
            await iommufd_access_change_ioas(access, None)


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
async def iommufd_access_notify_unmap(ioas: IommufdIoas, iova: int, length: int) -> None:
    """Ask every emulated device for what it has pinned in a range."""
    say(Phase.RELEASE, "The drivers of emulated devices are asked to give back what they have pinned.")
    for access in await load(ioas.access_list):
        if access.unmap is not None and await iommufd_lock_obj(access):
            await access.unmap(iova, length)
            await iommufd_put_object(access)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_unpin_pages(access: IommufdAccess, iova: int, length: int) -> None:
    """Give back just what was pinned with this address and length."""
    async with access.ioas_lock:
        ioas = await require(
            await load(access.ioas_unpin), Errno.EINVAL, "access_was_attached", f"{access.oid} has nothing pinned"
        )
        async with shared(ioas.iova_rwsem):
            at, last = iova, iova + length - 1
            while at <= last:
                area = await first_between(ioas.areas, at, at)
                if area is None:
                    await warn_on(True, f"{access.oid} unpins in {ioas.oid} what was not pinned there")
                    return
                end = min(last, area.last)
                first, stop = area.byte_at(at) // PAGE_SIZE, area.byte_at(end) // PAGE_SIZE
                await iopt_area_remove_access(area, first, stop, access.internal)
                at = end + 1


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_pin_pages(access: IommufdAccess, iova: int, length: int, write: bool) -> Pinned:
    """Pin: EINVAL (length), EOVERFLOW, ENOENT (not attached), EINVAL (alignment), EPERM, EFAULT, ENOENT (a gap).

    All of it, or nothing. Until it is given back, UNMAP asks the driver for it and waits.
    """
    await refuse_if(not length, Errno.EINVAL, "pin_length", "the length is 0: there is nothing to pin")
    last = iova + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "access_ends_somewhere", ends_beyond(iova, length))
    async with access.ioas_lock:
        ioas = await require(
            await load(access.ioas), Errno.ENOENT, "access_is_attached", f"{access.oid} is not attached"
        )
        say(Phase.ACQUIRE, "{} pins memory behind {}, for software.", access, ioas)
        done: Pinned = []
        async with shared(ioas.iova_rwsem):
            try:
                await pin_areas(access, ioas, iova, last, write, done)
            except KernelError:
                for area, first, end in done:
                    await iopt_area_remove_access(area, first, end, access.internal)
                raise
    return done


async def pin_areas(access: IommufdAccess, ioas: IommufdIoas, iova: int, last: int, write: bool, done: Pinned) -> None:
    """Area by area, as far as they follow each other without a gap; `done` grows with them."""
    at = iova
    while at <= last:
        area = await first_between(ioas.areas, at, at)
        pages = await load(area.pages) if area is not None else None
        await refuse_if(pages is None, Errno.ENOENT, "accessed_is_mapped", f"nothing is mapped at {at:#x}")
        assert area is not None
        end = min(last, area.last)
        cut = end < last and area.byte_at(area.last) % PAGE_SIZE != PAGE_SIZE - 1
        going = await load(area.prevent_access)
        await refuse_if(going, Errno.EINVAL, "area_stays", f"the mapping {area.iova:#x} to {area.last:#x} is going")
        odd = area.byte_at(at) % PAGE_SIZE != 0 or cut
        await refuse_if(
            odd, Errno.EINVAL, "pinned_aligned", f"{at:#x} to {end:#x} are no whole pages of what is mapped"
        )
        await refuse_access(area, write)
        span = area.byte_at(at) // PAGE_SIZE, area.byte_at(end) // PAGE_SIZE
        await iopt_area_add_access(area, *span, write, access.internal)
        done.append((area, *span))
        at = end + 1


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_access_rw(access: IommufdAccess, iova: int, length: int, data: bytes | None, slow: bool) -> bytes:
    """Write, or read without `data`: EINVAL (length), EOVERFLOW, ENOENT (not attached), EPERM, EFAULT, ENOENT (a gap).

    What lies before a gap has been written then.
    """
    await refuse_if(not length, Errno.EINVAL, "access_length", "the length is 0: there is nothing to read or write")
    last = iova + length - 1
    await refuse_if(last > ULONG_MAX, Errno.EOVERFLOW, "access_ends_somewhere", ends_beyond(iova, length))
    async with access.ioas_lock:
        ioas = await require(
            await load(access.ioas), Errno.ENOENT, "access_is_attached", f"{access.oid} is not attached"
        )
        async with shared(ioas.iova_rwsem):
            return await rw_areas(ioas, iova, last, data, slow)


async def rw_areas(ioas: IommufdIoas, iova: int, last: int, data: bytes | None, slow: bool) -> bytes:
    """Area by area, as far as they follow each other without a gap."""
    found, at = b"", iova
    while at <= last:
        area = await first_between(ioas.areas, at, at)
        pages = await load(area.pages) if area is not None else None
        await refuse_if(pages is None, Errno.ENOENT, "accessed_is_mapped", f"nothing is mapped at {at:#x}")
        assert area is not None
        await refuse_access(area, data is not None)
        end = min(last, area.last)
        part = None if data is None else data[at - iova : end - iova + 1]
        found += await iopt_pages_rw_access(area, at, end - at + 1, part, slow)
        at = end + 1
    return found


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_get_hw_info(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, reserved), ENOENT (device), EOPNOTSUPP (another kind of IOMMU is asked for), EFAULT."""
    cmd = ucmd.cmd
    unknown = cmd.flags & ~uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "info_flags_known", f"the flags {unknown:#x} are not known")
    await refuse_if(any(cmd.get("__reserved")), Errno.EOPNOTSUPP, "info_reserved_zero", "reserved fields must be zero")
    idev = await iommufd_get_object(ucmd.ictx, cmd.dev_id, IommufdDevice)
    async with cleanup(iommufd_put_object, idev):
        await write_info(ucmd, idev)


async def write_info(ucmd: Ucmd, idev: IommufdDevice) -> None:
    """The registers, as much as fits; zeros behind them; then how long the whole is."""
    cmd, dev = ucmd.cmd, idev.dev
    ops = dev.iommu_ops
    wanted = cmd.in_data_type if cmd.flags & uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE else uapi.IOMMU_HW_INFO_TYPE_DEFAULT
    other = wanted not in (uapi.IOMMU_HW_INFO_TYPE_DEFAULT, ops.info_type)
    await refuse_if(
        other, Errno.EOPNOTSUPP, "info_type_known", f"the IOMMU is of type {ops.info_type}, and not {wanted}"
    )
    say(Phase.PUBLISH, "What the IOMMU of {} says about itself is copied to the caller.", dev)
    data = ops.info()
    await copy_to_user(cmd.data_uptr, data[: cmd.data_len])
    if cmd.data_len > len(data):
        await copy_to_user(cmd.data_uptr + len(data), bytes(cmd.data_len - len(data)))
    cmd.out_data_type = ops.info_type
    cmd.data_len = len(data)
    cmd.out_capabilities = uapi.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED
    if ops.dirty(dev):
        cmd.out_capabilities |= uapi.IOMMU_HW_CAP_DIRTY_TRACKING
    cmd.out_max_pasid_log2 = max(dev.max_pasids.bit_length() - 1, 0)
    await copy_to_user(ucmd.address, ucmd.reply())
