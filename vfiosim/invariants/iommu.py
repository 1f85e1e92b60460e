"""What must always be true of iommu groups, iommufd contexts, and memory that devices use."""

from __future__ import annotations

from ..engine import Engine
from ..kernel.base import Device
from ..kernel.fs.file import File
from ..kernel.iommu import IommuGroup
from ..kernel.iommufd.io_pagetable_h import IoptPages
from ..kernel.iommufd.iommufd_private import (
    ITS_CONTEXT,
    IommufdAccess,
    IommufdCtx,
    IommufdDevice,
    IommufdGroup,
    IommufdHwptPaging,
    IommufdIoas,
    IommufdObject,
)
from ..kernel.iommufd.main import iommufd_fops
from ..kernel.mm import MmStruct
from ..kernel.vfio.type1_objects import VfioDma
from ..kernel.vfio.vfio import VfioGroup
from .rules import Broken, every, idle, invariant


def of_context(file: File) -> bool:
    """Is it the file of an iommufd context?"""
    return file.f_op is iommufd_fops


@invariant(
    MmStruct,
    "mm_struct.locked_vm",
    "vfio_dma",
    "vfio_dma.locked_vm",
    "vfio_dma.source",
    "mm_struct.mm_users < 1",
    only_at_rest=True,
)
def locked_memory_is_charged(engine: Engine, mm: MmStruct) -> Broken:
    """A process is charged for all that containers have pinned of it."""
    due = sum(dma.locked_vm.value for dma in every(engine, VfioDma) if dma.source.value[1] is mm)
    if mm.mm_users.value and mm.locked_vm.value < due:
        yield f"{mm.oid} is charged {mm.locked_vm.value} pages, but containers have pinned {due} of it"


@invariant(
    IommuGroup,
    "iommu_group.owner",
    "iommu_group.owner_cnt",
    "iommufd_device",
    "iommufd_device.users < 1",
    "device",
    "device.uses_dma_api",
    "device.iommu_group",
    lock=lambda group: group.mutex,
    guard="iommu_group.mutex",
)
def dma_has_one_owner(engine: Engine, group: IommuGroup) -> Broken:
    """The DMA of a group is counted once for each bound device, or for each device with a kernel driver, or for its vfio_group."""
    bound = [d for d in every(engine, IommufdDevice) if d.users.value and d.igroup.group is group]
    driven = [d for d in every(engine, Device) if d.iommu_group.value is group and d.uses_dma_api.value]
    owner, counted = group.owner.value, group.owner_cnt.value
    if bound and driven:
        yield f"{group.oid} serves {bound[0].oid} of user space and {driven[0].oid} of the kernel at the same time"
    if any(d.ictx is not owner for d in bound):
        yield f"{group.oid} belongs to {owner.oid if owner else 'nobody'}, but a device of it is bound elsewhere"
    due = 1 if isinstance(owner, VfioGroup) else len(bound) if owner is not None else len(driven)
    if idle(engine) and counted != due:
        yield f"{group.oid} counts {counted} claims of its DMA; there should be {due}"


@invariant(
    VfioGroup,
    "vfio_group.iommu_group",
    "vfio_group.container",
    "iommu_group.owner is vfio_group",
    lock=lambda group: group.group_lock,
    guard="vfio_group.group_lock",
)
def group_owns_dma_through_its_container(engine: Engine, group: VfioGroup) -> Broken:
    """A group owns the DMA of its devices only while it is in a container."""
    behind = group.iommu_group.value
    if behind is not None and behind.owner.value is group and group.container.value is None:
        yield f"{group.oid} owns the DMA of {behind.oid}, but is in no container"


@invariant(
    IommufdObject,
    ("iommufd_object.users < 1", lambda obj: least_users(obj) == 1),
    ("iommufd_object.users < 2", lambda obj: least_users(obj) == 2),
    "iommufd_ctx.objects",
    ("file.f_ref < 1", of_context),
    lock=lambda obj: obj.ictx.objects_lock,
    guard="iommufd_ctx.objects_lock",
)
def published_object_is_held(engine: Engine, obj: IommufdObject) -> Broken:
    """What can be found under its ID is held by its context, and, if it is a device's, by its driver."""
    if obj.ictx.objects.slots.get(obj.id) is not obj or not obj.ictx.file.f_ref.value:
        return  # with the last reference to the context's file nobody can look for objects any more
    if obj.users.value < least_users(obj):
        yield f"{obj.oid} can be found under ID {obj.id}, but has only {obj.users.value} users"


def least_users(obj: IommufdObject) -> int:
    """How many hold an object that can be found: its context, and the driver of a device."""
    return 2 if isinstance(obj, (IommufdDevice, IommufdAccess)) else 1


@invariant(
    IommufdGroup,
    "iommufd_group.pasid_attach",
    "iommufd_attach.hwpt",
    "iommufd_attach.device_array",
    "iommufd_hw_pagetable",
    "iommufd_hw_pagetable.users",
    "iommu_group.mutex",
    "iommu_group.domain",
    lock=lambda group: group.lock,
    guard="iommufd_group.lock",
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
    "iommufd_ioas.iova_rwsem",
    "iommufd_ioas.reserved",
    lock=lambda ioas: ioas.domains_rwsem,
    guard="iommufd_ioas.domains_rwsem",
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
    "iommufd_ioas",
    "iommufd_ioas.users",
    "iommufd_ioas.domains",
    "iommufd_ioas.hwpt_list",
    lock=lambda hwpt: hwpt.ioas.mutex,
    guard="iommufd_ioas.mutex",
)
def page_table_holds_its_address_space(engine: Engine, hwpt: IommufdHwptPaging) -> Broken:
    """The address space of a page table lives at least as long as the table is part of it."""
    ioas = hwpt.ioas
    if hwpt not in (*ioas.domains.value, *ioas.hwpt_list.value):
        return
    if ioas.freed or not any(holder is hwpt for holder, _ in ioas.users.held):
        yield f"{hwpt.oid} does not hold {ioas.oid}, which it was filled from"


@invariant(
    MmStruct,
    "mm_struct.pinned_vm",
    "iopt_pages",
    "iopt_pages.npinned",
    "iopt_pages.source_mm",
    "mm_struct.mm_users < 1",
    only_at_rest=True,
)
def pinned_memory_is_counted(engine: Engine, mm: MmStruct) -> Broken:
    """A process is charged for just as much pinned memory as it has.

    IOMMU_IOAS_CHANGE_PROCESS breaks this for memory that was mapped with CAP_IPC_LOCK: the memory moves, its count stays.
    """
    pinned = sum(pages.npinned.value for pages in every(engine, IoptPages) if pages.source_mm.value is mm)
    if mm.mm_users.value and mm.pinned_vm.value != pinned:
        yield f"{mm.oid} counts {mm.pinned_vm.value} pinned pages; there are {pinned}"


@invariant(IommufdCtx, f"file.f_ref ({ITS_CONTEXT})", "iommufd_ctx.objects")
def context_is_held_by_its_objects(engine: Engine, ictx: IommufdCtx) -> Broken:
    """Every bound device, physical or emulated, holds the file of its context."""
    holders = {holder for holder, reason in ictx.file.f_ref.held if reason == ITS_CONTEXT}
    for thing in ictx.objects.slots.values():
        mock = isinstance(thing, IommufdDevice) and thing.dev.is_mock  # goes with the context, which nobody else holds
        mock = mock or (isinstance(thing, IommufdAccess) and thing.internal)
        if isinstance(thing, (IommufdDevice, IommufdAccess)) and not mock and thing not in holders:
            yield f"{thing.oid} lives in {ictx.oid} without holding its file"
