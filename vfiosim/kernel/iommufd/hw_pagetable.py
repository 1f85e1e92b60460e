"""Page tables of the IOMMU (drivers/iommu/iommufd/hw_pagetable.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import KObject, Phase, copy_to_user, get, kernel, load, put, refuse_if, require, say, store
from ...uapi import Errno, KernelError
from ..mm import PAGE_SIZE
from ..unsupported import Unsupported
from .attach import NO_PASID, iommufd_hw_pagetable_attach, iommufd_hw_pagetable_detach
from .domains import iopt_table_add_domain, iopt_table_remove_domain
from .eventq import FILLED_BY, IommufdFault
from .main import (
    _iommufd_object_alloc,
    iommufd_get_object,
    iommufd_object_abort_and_destroy,
    iommufd_object_finalize,
)
from .private import (
    IommufdCtx,
    IommufdDevice,
    IommufdHwptPaging,
    IommufdIoas,
    IommufdObject,
    Ucmd,
    iommufd_put_object,
)

HAS_IOAS = "its address space"
VALID_FLAGS = (
    uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
    | uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    | uapi.IOMMU_HWPT_FAULT_ID_VALID
    | uapi.IOMMU_HWPT_ALLOC_PASID
)
INVALIDATE_MOST = 1 << 19


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


async def check_flags(flags: int, user_data: bool) -> None:
    """Which kinds of page table this IOMMU can make: EOPNOTSUPP for what nobody knows, and for what it cannot do."""
    unknown = flags & ~VALID_FLAGS
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "hwpt_flags_known", f"the flags {unknown:#x} are not known")
    dirty = bool(flags & uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
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
    user_data: bool = False,
) -> IommufdHwptPaging:
    """A page table with everything that is mapped in `ioas`; the caller has its mutex until the table is published.

    EOPNOTSUPP for flags, then what attaching says if it is to be attached at once, then what filling it says.
    """
    await check_flags(flags, user_data)
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
        nests = hwpt.nest_parent or user_data
        await refuse_if(nests, Errno.EOPNOTSUPP, "iommu_nests", "this IOMMU cannot put tables of a guest on top")
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
            await hwpt_nested(ucmd, pt)
    except KernelError:
        await iommufd_put_object(pt)
        raise
    await iommufd_put_object(pt)


async def hwpt_nested(ucmd: Ucmd, pt: IommufdObject) -> None:
    """A table of a guest over another one: this IOMMU has none that could carry it."""
    paging = isinstance(pt, IommufdHwptPaging)
    await refuse_if(not paging, Errno.EINVAL, "pt_is_table", f"{pt.oid} is no address space and no page table")
    known = uapi.IOMMU_HWPT_FAULT_ID_VALID | uapi.IOMMU_HWPT_ALLOC_PASID
    bad = ucmd.cmd.flags & ~known != 0 or not ucmd.cmd.data_len
    await refuse_if(bad, Errno.EOPNOTSUPP, "nested_needs_data", "a table of a guest needs data, and takes few flags")
    await refuse_if(True, Errno.EINVAL, "parent_carries", f"{pt.oid} was not made to carry tables of a guest")


async def hwpt_over_ioas(ucmd: Ucmd, idev: IommufdDevice, ioas: IommufdIoas) -> None:
    """Make a page table from an address space, with a fault queue if wanted (ENOENT), tell its ID (EFAULT), publish it."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    hwpt = await iommufd_hwpt_paging_alloc(ictx, ioas, idev, flags=cmd.flags, user_data=cmd.data_len != 0)
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


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_set_dirty_tracking(ucmd: Ucmd) -> None:
    """Remember which pages a device writes: EOPNOTSUPP (flags), ENOENT, EOPNOTSUPP (the IOMMU cannot)."""
    unknown = ucmd.cmd.flags & ~uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "dirty_flags_known", f"the flags {unknown:#x} are not known")
    hwpt = await iommufd_get_object(ucmd.ictx, ucmd.cmd.hwpt_id, IommufdHwptPaging)
    await cannot_track(hwpt)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_get_dirty_bitmap(ucmd: Ucmd) -> None:
    """Which pages were written? EOPNOTSUPP (flags, reserved), ENOENT, EOVERFLOW, EINVAL, EOPNOTSUPP (the IOMMU cannot)."""
    cmd = ucmd.cmd
    unknown = cmd.flags & ~uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR
    bad = unknown != 0 or cmd.get("__reserved") != 0
    await refuse_if(bad, Errno.EOPNOTSUPP, "bitmap_flags_known", "unknown flags, or a reserved field that is not zero")
    hwpt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, IommufdHwptPaging)
    try:
        await iommufd_check_iova_range(hwpt.ioas, cmd)
    except KernelError:
        await iommufd_put_object(hwpt)
        raise
    await cannot_track(hwpt)


async def cannot_track(hwpt: IommufdHwptPaging) -> None:
    """No page table of this IOMMU can track dirty pages."""
    await iommufd_put_object(hwpt)
    await refuse_if(
        True, Errno.EOPNOTSUPP, "table_tracks_dirty", "this page table does not remember which pages were written"
    )


@kernel("drivers/iommu/iommufd/io_pagetable.c")
async def iommufd_check_iova_range(ioas: IommufdIoas, cmd: KObject | object) -> None:
    """Does a bitmap make sense for these addresses? EOVERFLOW, EINVAL for the alignment or a page size of zero."""
    iova, length, size = cmd.iova, cmd.length, cmd.page_size  # type: ignore[union-attr]
    last = iova + (length - 1) % 2**64
    await refuse_if(last >= 2**64, Errno.EOVERFLOW, "bitmap_ends_somewhere", "the range ends beyond the last address")
    alignment = await load(ioas.iova_alignment)
    odd = bool((iova | last + 1) & (alignment - 1)) or not size or bool((iova | last + 1) & (size - 1))
    await refuse_if(
        odd, Errno.EINVAL, "bitmap_aligned", "addresses must be multiples of the alignment and the page size"
    )


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_invalidate(ucmd: Ucmd) -> None:
    """Forget what was cached of a guest's table; how much was done is written back whatever happens (EFAULT wins)."""
    try:
        await check_invalidate(ucmd)
    except Unsupported:
        raise
    except KernelError:
        ucmd.cmd.entry_num = 0
        await copy_to_user(ucmd.address, ucmd.reply())
        raise


async def check_invalidate(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (reserved), EINVAL (entries), ENOENT, EINVAL: there are no tables of guests on this IOMMU."""
    cmd = ucmd.cmd
    reserved = cmd.get("__reserved")
    await refuse_if(reserved != 0, Errno.EOPNOTSUPP, "invalidate_reserved_zero", "reserved fields must be zero")
    size_bad = not 0 < cmd.entry_len <= PAGE_SIZE or cmd.entry_num > INVALIDATE_MOST
    bad = cmd.entry_num != 0 and (not cmd.data_uptr or size_bad)
    await refuse_if(bad, Errno.EINVAL, "entries_possible", "entries need an address and a size of up to a page")
    pt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, IommufdObject)
    await iommufd_put_object(pt)
    await refuse_if(True, Errno.EINVAL, "table_of_a_guest", f"{pt.oid} is no table of a guest")
