"""Devices and the page tables they are attached to (drivers/iommu/iommufd/device.c, v7.2).

The hardware knows only groups: the first device of a group moves all of it, the others must follow to the same page table.
Which page table is chosen for an address space is in `auto_domain.py`.
"""

from __future__ import annotations

from typing import Final

from ...engine import (
    KObject,
    Phase,
    alloc,
    free,
    get,
    kernel,
    load,
    next_slot,
    peek,
    poke,
    put,
    refuse_if,
    require,
    say,
    store,
)
from ...uapi import Errno, KernelError
from ..iommu import (
    iommu_attach_device_pasid,
    iommu_attach_group_handle,
    iommu_detach_device_pasid,
    iommu_detach_group_handle,
    iommu_replace_device_pasid,
    iommu_replace_group_handle,
)
from .domains import iopt_remove_reserved_iova, iopt_table_enforce_dev_resv_regions
from .eventq import iommufd_auto_response_faults
from .main import iommufd_object_put_and_try_destroy
from .private import IommufdAttach, IommufdCtx, IommufdDevice, IommufdGroup, IommufdHwPagetable, IommufdIoas

NO_PASID: Final = 0  # DMA without a PASID, the usual one (IOMMU_NO_PASID)


def attached(pasid: int) -> str:
    """Why an attached device holds its page table, and is held itself."""
    return "attached" if pasid == NO_PASID else f"attached, PASID {pasid}"


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hwpt_pasid_compat(hwpt: IommufdHwPagetable, idev: IommufdDevice, pasid: int) -> None:
    """PASIDs need page tables that were made for them, also for the DMA without PASID beside them. EINVAL otherwise."""
    slots = idev.igroup.pasid_attach
    if pasid == NO_PASID:
        beside = not hwpt.pasid_compat and await next_slot(slots, NO_PASID + 1) is not None
        await refuse_if(beside, Errno.EINVAL, "beside_pasids", "beside PASIDs the page table must be made for them")
        return
    await refuse_if(not hwpt.pasid_compat, Errno.EINVAL, "made_for_pasids", f"{hwpt.oid} was not made for PASIDs")
    rid = await peek(slots, NO_PASID)
    other = await load(rid.hwpt) if rid is not None else None
    plain = other is not None and not other.pasid_compat
    await refuse_if(
        plain, Errno.EINVAL, "pasid_beside", "the page table of the DMA without PASID was not made for PASIDs"
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
        known = await peek(igroup.pasid_attach, pasid)
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
    there = await peek(attach.device_array, idev.id)
    await refuse_if(there is not None, Errno.EBUSY, "device_not_attached", f"{idev.oid} is attached already")
    await poke(attach.device_array, idev.id, idev)
    try:
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
    except KernelError:
        await poke(attach.device_array, idev.id, None)
        raise
    if first:
        await store(attach.hwpt, hwpt)
        await poke(attach.igroup.pasid_attach, pasid, attach)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_hw_pagetable_detach(idev: IommufdDevice, pasid: int) -> bool:
    """Detach a device; with the last one of its group the DMA is blocked again. False if the group is not attached."""
    igroup = idev.igroup
    async with igroup.lock:
        attach = await peek(igroup.pasid_attach, pasid)
        if attach is None:
            return False
        hwpt = await load(attach.hwpt)
        assert hwpt is not None
        await poke(attach.device_array, idev.id, None)
        if await next_slot(attach.device_array, 0) is None:
            say(Phase.UNWIND, "The last device of {} is detached: its DMA is blocked.", igroup)
            await iommufd_hwpt_detach_device(hwpt, idev, pasid)
            await poke(igroup.pasid_attach, pasid, None)
            await free(attach)
        if pasid == NO_PASID:
            await iopt_remove_reserved_iova(hwpt.ioas, idev)
    await iommufd_hw_pagetable_put(idev.ictx, hwpt, idev, attached(pasid))
    return True


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_hw_pagetable_put(ictx: IommufdCtx, hwpt: IommufdHwPagetable, holder: KObject, reason: str) -> None:
    """Let go of a page table; one that was made automatically goes with its last device."""
    if await load(hwpt.auto_domain):
        await iommufd_object_put_and_try_destroy(ictx, hwpt, holder, reason)
    else:
        await put(hwpt.users, holder, reason)


# ---- replace


async def devices_of(attach: IommufdAttach) -> list[IommufdDevice]:
    """The devices in a slot, by their IDs."""
    found: list[IommufdDevice] = []
    number = await next_slot(attach.device_array, 0)
    while number is not None:
        device = await peek(attach.device_array, number)
        if device is not None:
            found.append(device)
        number = await next_slot(attach.device_array, number + 1)
    return found


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_group_remove_reserved_iova(igroup: IommufdGroup, ioas: IommufdIoas) -> None:
    """Give back what the attached devices of a group have reserved in an address space."""
    attach = await peek(igroup.pasid_attach, NO_PASID)
    assert attach is not None
    for device in await devices_of(attach):
        await iopt_remove_reserved_iova(ioas, device)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_group_do_replace_reserved_iova(igroup: IommufdGroup, hwpt: IommufdHwPagetable) -> None:
    """Reserve for the whole group in the address space that it moves to, unless it is there. EADDRINUSE."""
    attach = await peek(igroup.pasid_attach, NO_PASID)
    assert attach is not None
    old = await load(attach.hwpt)
    if old is not None and old.ioas is hwpt.ioas:
        return
    try:
        for device in await devices_of(attach):
            await iopt_table_enforce_dev_resv_regions(hwpt.ioas, device)
    except KernelError:
        await iommufd_group_remove_reserved_iova(igroup, hwpt.ioas)
        raise


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_do_replace(
    idev: IommufdDevice, pasid: int, hwpt: IommufdHwPagetable
) -> IommufdHwPagetable | None:
    """Move the whole group to another page table; the answer is the old one, with one reference that the caller gives back.

    EINVAL if the device is not attached; the same page table: nothing happens. If it fails the group stays where it is.
    """
    igroup = idev.igroup
    async with igroup.lock:
        slot = await peek(igroup.pasid_attach, pasid)
        attach = await require(slot, Errno.EINVAL, "group_is_attached", "the group is not attached")
        old = await load(attach.hwpt)
        inside = await peek(attach.device_array, idev.id)
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
