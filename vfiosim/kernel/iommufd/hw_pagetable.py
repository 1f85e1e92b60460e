"""Page tables of the IOMMU (drivers/iommu/iommufd/hw_pagetable.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import Phase, copy_to_user, get, kernel, load, put, refuse_if, require, say, store
from ...uapi import Errno, KernelError
from ..iommu_ops import UserData
from .attach import NO_PASID, iommufd_hw_pagetable_attach, iommufd_hw_pagetable_detach
from .domains import iopt_table_add_domain, iopt_table_remove_domain
from .eventq import FILLED_BY, IommufdFault
from .main import (
    _iommufd_object_alloc,
    iommufd_get_object,
    iommufd_object_abort_and_destroy,
    iommufd_object_finalize,
)
from .nested import iommufd_hwpt_nested_alloc, iommufd_viommu_alloc_hwpt_nested
from .private import (
    IommufdCtx,
    IommufdDevice,
    IommufdHwPagetable,
    IommufdHwptPaging,
    IommufdIoas,
    IommufdObject,
    Ucmd,
    iommufd_put_object,
)
from .viommu import IommufdViommu

HAS_IOAS = "its address space"
VALID_FLAGS = (
    uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
    | uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    | uapi.IOMMU_HWPT_FAULT_ID_VALID
    | uapi.IOMMU_HWPT_ALLOC_PASID
)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_paging_destroy(hwpt: IommufdHwptPaging) -> None:
    """Leave the address space, then let go of it and of the fault queue."""
    ioas = hwpt.ioas
    if hwpt in await load(ioas.hwpt_list):
        say(Phase.UNWIND, "{} goes: it leaves {}, and what only it needed is unpinned.", hwpt, ioas)
        async with ioas.mutex:
            await leave_list(hwpt)
        await iopt_table_remove_domain(ioas, hwpt)
    await let_go(hwpt)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_paging_abort(hwpt: IommufdHwptPaging) -> None:
    """The same for one that was never published; the caller has the mutex of the address space."""
    if hwpt in await load(hwpt.ioas.hwpt_list):
        await leave_list(hwpt)
        await iopt_table_remove_domain(hwpt.ioas, hwpt)
    await let_go(hwpt)


async def leave_list(hwpt: IommufdHwptPaging) -> None:
    """Nobody will choose it any more."""
    others = tuple(other for other in await load(hwpt.ioas.hwpt_list) if other is not hwpt)
    await store(hwpt.ioas.hwpt_list, others)


async def let_go(hwpt: IommufdHwptPaging) -> None:
    """What a page table holds."""
    fault = await load(hwpt.fault)
    if fault is not None:
        await put(fault.users, hwpt, FILLED_BY)
    await put(hwpt.ioas.users, hwpt, HAS_IOAS)


async def check_flags(flags: int, idev: IommufdDevice) -> None:
    """Which kinds of page table this IOMMU can make: EOPNOTSUPP for what nobody knows, and for what it cannot do."""
    unknown = flags & ~VALID_FLAGS
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "hwpt_flags_known", f"the flags {unknown:#x} are not known")
    dirty = bool(flags & uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING) and not idev.dev.iommu_ops.dirty(idev.dev)
    await refuse_if(
        dirty, Errno.EOPNOTSUPP, "iommu_tracks_dirty", "this IOMMU does not remember which pages were written"
    )
    both = uapi.IOMMU_HWPT_FAULT_ID_VALID | uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
    await refuse_if(
        flags & both == both, Errno.EOPNOTSUPP, "fault_queue_or_parent", "a parent of guest tables takes no page faults"
    )


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_paging_alloc(
    ictx: IommufdCtx,
    ioas: IommufdIoas,
    idev: IommufdDevice,
    pasid: int = NO_PASID,
    flags: int = 0,
    immediate_attach: bool = False,
    user_data: UserData | None = None,
) -> IommufdHwptPaging:
    """A page table with everything that is mapped in `ioas`; the caller has its mutex until the table is published.

    EOPNOTSUPP for flags, then what attaching says if it is to be attached at once, then what filling it says.
    """
    await check_flags(flags, idev)
    say(Phase.ACQUIRE, "A new page table takes the lowest free ID of {} and holds {}.", ictx, ioas)
    hwpt = await _iommufd_object_alloc(
        ictx,
        IommufdHwptPaging,
        ioas,
        bool(flags & uapi.IOMMU_HWPT_ALLOC_NEST_PARENT),
        bool(flags & uapi.IOMMU_HWPT_ALLOC_PASID),
    )
    await get(ioas.users, hwpt, HAS_IOAS)
    try:
        wanted = flags & ~uapi.IOMMU_HWPT_FAULT_ID_VALID
        hwpt.domain = await idev.dev.iommu_ops.domain_alloc_paging_flags(idev.dev, wanted, user_data)
        if immediate_attach:
            await iommufd_hw_pagetable_attach(hwpt, idev, pasid)
        try:
            await iopt_table_add_domain(ioas, hwpt)
        except KernelError:
            if immediate_attach:
                await iommufd_hw_pagetable_detach(idev, pasid)
            raise
    except KernelError:
        await iommufd_object_abort_and_destroy(ictx, hwpt)
        raise
    await store(ioas.hwpt_list, (*await load(ioas.hwpt_list), hwpt))
    return hwpt


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_alloc(ucmd: Ucmd) -> None:
    """IOMMU_HWPT_ALLOC: EOPNOTSUPP (reserved), EINVAL (data), ENOENT (device), EINVAL (no such pt), then by its kind."""
    cmd = ucmd.cmd
    reserved = cmd.get("__reserved")
    await refuse_if(reserved != 0, Errno.EOPNOTSUPP, "hwpt_reserved_zero", "reserved fields must be zero")
    odd = (cmd.data_type == uapi.IOMMU_HWPT_DATA_NONE) != (cmd.data_len == 0)
    await refuse_if(odd, Errno.EINVAL, "data_has_type", "a type needs data, and data a type")
    idev = await iommufd_get_object(ucmd.ictx, cmd.dev_id, IommufdDevice)
    try:
        await hwpt_over(ucmd, idev)
    except KernelError:
        await iommufd_put_object(idev)
        raise
    await iommufd_put_object(idev)


async def hwpt_over(ucmd: Ucmd, idev: IommufdDevice) -> None:
    """The page table is made from what pt_id names."""
    try:
        pt = await iommufd_get_object(ucmd.ictx, ucmd.cmd.pt_id, IommufdObject)
    except KernelError:
        pt = None
    pt = await require(pt, Errno.EINVAL, "pt_exists", f"there is no object {ucmd.cmd.pt_id} to make a page table from")
    try:
        if isinstance(pt, IommufdIoas):
            async with pt.mutex:
                await hwpt_over_ioas(ucmd, idev, pt)
        else:
            await hwpt_nested(ucmd, idev, pt)
    except KernelError:
        await iommufd_put_object(pt)
        raise
    await iommufd_put_object(pt)


async def hwpt_nested(ucmd: Ucmd, idev: IommufdDevice, pt: IommufdObject) -> None:
    """A table of a guest, over a page table or a virtual IOMMU. EINVAL over anything else, or over one of another IOMMU."""
    cmd = ucmd.cmd
    data = UserData(cmd.data_type, cmd.data_uptr, cmd.data_len)
    if isinstance(pt, IommufdViommu):
        other = pt.ops is not idev.dev.iommu_ops
        await refuse_if(other, Errno.EINVAL, "viommu_of_this_iommu", f"{pt.oid} stands for another IOMMU")
        hwpt = await iommufd_viommu_alloc_hwpt_nested(pt, idev, cmd.flags, data)
    else:
        paging = isinstance(pt, IommufdHwptPaging)
        await refuse_if(not paging, Errno.EINVAL, "pt_is_table", f"{pt.oid} is no address space and no page table")
        assert isinstance(pt, IommufdHwptPaging)
        hwpt = await iommufd_hwpt_nested_alloc(ucmd.ictx, pt, idev, cmd.flags, data)
    await finish(ucmd, hwpt)


async def hwpt_over_ioas(ucmd: Ucmd, idev: IommufdDevice, ioas: IommufdIoas) -> None:
    """Make a page table from an address space."""
    cmd = ucmd.cmd
    data = UserData(cmd.data_type, cmd.data_uptr, cmd.data_len) if cmd.data_len else None
    await finish(ucmd, await iommufd_hwpt_paging_alloc(ucmd.ictx, ioas, idev, flags=cmd.flags, user_data=data))


async def finish(ucmd: Ucmd, hwpt: IommufdHwPagetable) -> None:
    """Give a table its fault queue if wanted (ENOENT), tell its ID (EFAULT), publish it."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    try:
        if cmd.flags & uapi.IOMMU_HWPT_FAULT_ID_VALID:
            fault = await iommufd_get_object(ictx, cmd.fault_id, IommufdFault)
            await store(hwpt.fault, fault)
            await get(fault.users, hwpt, FILLED_BY)
            await iommufd_put_object(fault)
        cmd.out_hwpt_id = hwpt.id
        await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await iommufd_object_abort_and_destroy(ictx, hwpt)
        raise
    say(Phase.PUBLISH, "{} can be found under its ID from now on.", hwpt)
    await iommufd_object_finalize(ictx, hwpt)
