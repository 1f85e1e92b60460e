"""What must always be true of iommu groups, iommufd contexts, and memory that devices use."""

from __future__ import annotations

from ..engine import Engine
from ..kernel.base import Device
from ..kernel.iommu import IommuGroup
from ..kernel.iommufd.areas import IoptPages
from ..kernel.iommufd.private import (
    IommufdAccess,
    IommufdCtx,
    IommufdDevice,
    IommufdGroup,
    IommufdHwptPaging,
    IommufdIoas,
    IommufdObject,
)
from ..kernel.mm import MmStruct
from ..kernel.vfio.type1_dma import VfioDma
from ..kernel.vfio.vfio import VfioGroup
from .rules import Broken, every, idle, invariant


@invariant(MmStruct, "mm_struct.locked_vm", "vfio_dma.locked_vm", "mm_struct.mm_users")
def locked_memory_is_charged(engine: Engine, mm: MmStruct) -> Broken:
    """A process is charged for all that containers have pinned of it."""
    due = sum(dma.locked_vm.value for dma in every(engine, VfioDma) if dma.mm is mm)
    if idle(engine) and mm.mm_users.value and mm.locked_vm.value < due:
        yield f"{mm.oid} is charged {mm.locked_vm.value} pages, but containers have pinned {due} of it"


@invariant(IommuGroup, "iommu_group.owner", "iommu_group.owner_cnt", lock=lambda group: group.mutex)
def dma_has_one_owner(engine: Engine, group: IommuGroup) -> Broken:
    """The DMA of a group is counted once for each bound device, or for each device with a kernel driver, or for its vfio_group."""
    bound = [d for d in every(engine, IommufdDevice) if d.igroup.group is group and d.users.value]
    driven = [d for d in every(engine, Device) if d.iommu_group is group and d.uses_dma_api.value]
    owner, counted = group.owner.value, group.owner_cnt.value
    if bound and driven:
        yield f"{group.oid} serves {bound[0].oid} of user space and {driven[0].oid} of the kernel at the same time"
    if any(d.ictx is not owner for d in bound):
        yield f"{group.oid} belongs to {owner.oid if owner else 'nobody'}, but a device of it is bound elsewhere"
    if isinstance(owner, VfioGroup):
        due = 1
        if owner.group_lock.holder is None and owner.container.value is None:
            yield f"{owner.oid} owns the DMA of {group.oid}, but is in no container"
    else:
        due = len(bound) if owner is not None else len(driven)
    if idle(engine) and counted != due:
        yield f"{group.oid} counts {counted} claims of its DMA; there should be {due}"


@invariant(IommufdObject, "iommufd_object.users", "iommufd_ctx.objects", lock=lambda obj: obj.ictx.objects_lock)
def published_object_is_held(engine: Engine, obj: IommufdObject) -> Broken:
    """What can be found under its ID is held by its context, and, if it is a device's, by its driver."""
    if obj.ictx.objects.slots.get(obj.id) is not obj or not obj.ictx.file.f_ref.value:
        return  # with the last reference to the context's file nobody can look for objects any more
    least = 2 if isinstance(obj, (IommufdDevice, IommufdAccess)) else 1
    if obj.users.value < least:
        yield f"{obj.oid} can be found under ID {obj.id}, but has only {obj.users.value} users"


@invariant(
    IommufdGroup,
    "iommufd_group.pasid_attach",
    "iommufd_attach.hwpt",
    "iommu_group.domain",
    lock=lambda group: group.lock,
)
def attached_devices_hold_their_table(engine: Engine, igroup: IommufdGroup) -> Broken:
    """All attached devices of a group share one page table, each holds it, and the hardware uses it."""
    for pasid, attach in igroup.pasid_attach.slots.items():
        hwpt = attach.hwpt.value
        if hwpt is None or hwpt.freed:
            yield f"{igroup.oid} is attached to a page table that is gone"
            continue
        for device in attach.device_array.slots.values():
            if not any(holder is device for holder, _ in hwpt.users.held):
                yield f"{device.oid} is attached to {hwpt.oid} without holding it"
        if pasid == 0 and igroup.group.mutex.holder is None and igroup.group.domain.value is not hwpt:
            yield f"{igroup.oid} is attached to {hwpt.oid}, but its hardware uses {igroup.group.domain.value}"


@invariant(
    IommufdIoas,
    "iommufd_ioas.domains",
    "iommufd_ioas.areas",
    "iopt_area.pages",
    "iopt_area.storage_domain",
    lock=lambda ioas: ioas.domains_rwsem,
)
def page_tables_have_every_area(engine: Engine, ioas: IommufdIoas) -> Broken:
    """With a page table every complete area is in it and pinned, without one none is; areas do not touch reserved addresses."""
    if ioas.iova_rwsem.holder is not None:
        return
    for area in ioas.areas.in_order():
        stored = area.storage_domain.value
        if area.pages.value is None:
            continue
        if bool(ioas.domains.value) != (stored is not None) or (
            stored is not None and stored not in ioas.domains.value
        ):
            yield f"{area.oid} is stored by {stored.oid if stored else 'no page table'}; {ioas.oid} has others"
        if any(first <= area.last and area.iova <= last for first, last, _ in ioas.reserved.value):
            yield f"{area.oid} lies where a page table or device of {ioas.oid} cannot translate"


@invariant(
    IommufdHwptPaging,
    "iommufd_hwpt_paging.users",
    "iommufd_ioas.users",
    "iommufd_ioas.domains",
    "iommufd_ioas.hwpt_list",
    lock=lambda hwpt: hwpt.ioas.mutex,
)
def page_table_holds_its_address_space(engine: Engine, hwpt: IommufdHwptPaging) -> Broken:
    """The address space of a page table lives at least as long as the table is part of it."""
    ioas = hwpt.ioas
    if hwpt not in (*ioas.domains.value, *ioas.hwpt_list.value):
        return
    if ioas.freed or not any(holder is hwpt for holder, _ in ioas.users.held):
        yield f"{hwpt.oid} does not hold {ioas.oid}, which it was filled from"


@invariant(MmStruct, "mm_struct.pinned_vm", "iopt_pages.npinned")
def pinned_memory_is_counted(engine: Engine, mm: MmStruct) -> Broken:
    """A process is charged for just as much pinned memory as it has.

    IOMMU_IOAS_CHANGE_PROCESS breaks this for memory that was mapped with CAP_IPC_LOCK: the memory moves, its count stays.
    """
    pinned = sum(pages.npinned.value for pages in every(engine, IoptPages) if pages.source_mm.value is mm)
    if idle(engine) and mm.mm_users.value and mm.pinned_vm.value != pinned:
        yield f"{mm.oid} counts {mm.pinned_vm.value} pinned pages; there are {pinned}"


@invariant(IommufdCtx, "file.f_ref", "vfio_device_file.iommufd")
def context_is_held_by_its_objects(engine: Engine, ictx: IommufdCtx) -> Broken:
    """Every bound device, physical or emulated, holds the file of its context."""
    holders = {holder for holder, _ in ictx.file.f_ref.held}
    for thing in ictx.objects.slots.values():
        mock = isinstance(thing, IommufdDevice) and thing.dev.is_mock  # goes with the context, which nobody else holds
        mock = mock or (isinstance(thing, IommufdAccess) and thing.internal)
        if isinstance(thing, (IommufdDevice, IommufdAccess)) and not mock and thing not in holders:
            yield f"{thing.oid} lives in {ictx.oid} without holding its file"
