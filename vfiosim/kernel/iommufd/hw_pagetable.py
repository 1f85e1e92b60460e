"""Page tables of the IOMMU, and those of a guest over them (drivers/iommu/iommufd/hw_pagetable.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..iommu_ops import Domain, Entries, UserData
from ..prototypes import (
    _iommufd_object_alloc,
    iommufd_get_object,
    iommufd_hw_pagetable_attach,
    iommufd_hw_pagetable_detach,
    iommufd_object_abort_and_destroy,
    iommufd_object_finalize,
)
from ..regions import PAGE_SIZE
from ..unsupported import Unsupported
from .eventq import FILLED_BY
from .io_pagetable import (
    iommu_read_and_clear_dirty,
    iommufd_check_iova_range,
    iopt_set_dirty_tracking,
    iopt_table_add_domain,
    iopt_table_remove_domain,
)
from .iommufd_private import (
    NO_PASID,
    IommufdCtx,
    IommufdDevice,
    IommufdFault,
    IommufdHwPagetable,
    IommufdHwptNested,
    IommufdHwptPaging,
    IommufdIoas,
    IommufdObject,
    IommufdViommu,
    Ucmd,
    iommufd_put_object,
)
from .iommufd_private import (
    IommufdObject as Object,
)

HAS_IOAS = "its address space"
VALID_FLAGS = (
    uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
    | uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    | uapi.IOMMU_HWPT_FAULT_ID_VALID
    | uapi.IOMMU_HWPT_ALLOC_PASID
)
UNDER = "its parent"
NESTED_FLAGS = uapi.IOMMU_HWPT_FAULT_ID_VALID | uapi.IOMMU_HWPT_ALLOC_PASID
INVALIDATE_MOST = 1 << 19


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_paging_destroy(hwpt: IommufdHwptPaging) -> None:
    """Leave the address space, then let go of it and of the fault queue."""
    ioas = hwpt.ioas
    if hwpt in await load(ioas.hwpt_list):
        say(Phase.RELEASE, "{} is freed: it leaves {}, and memory that only it needed is unpinned.", hwpt, ioas)
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
async def iommufd_hwpt_nested_destroy(hwpt: IommufdHwptNested) -> None:
    """Let go of the fault queue and of what it lies on."""
    fault = await load(hwpt.fault)
    if fault is not None:
        await put(fault.users, hwpt, FILLED_BY)
    await put(hwpt.under.users, hwpt, UNDER)


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
    async with on_failure(iommufd_object_abort_and_destroy, ictx, hwpt):
        wanted = flags & ~uapi.IOMMU_HWPT_FAULT_ID_VALID
        init(hwpt, domain=await idev.dev.iommu_ops.domain_alloc_paging_flags(idev.dev, wanted, user_data))
        if immediate_attach:
            await iommufd_hw_pagetable_attach(hwpt, idev, pasid)
        try:
            await iopt_table_add_domain(ioas, hwpt)
        except KernelError:
            if immediate_attach:
                await iommufd_hw_pagetable_detach(idev, pasid)
            raise
    await store(ioas.hwpt_list, (*await load(ioas.hwpt_list), hwpt))
    return hwpt


async def check_nested(flags: int, data: UserData) -> None:
    """EOPNOTSUPP for a flag that a guest's table cannot have, or no data."""
    unknown = flags & ~NESTED_FLAGS
    await refuse_if(
        unknown != 0, Errno.EOPNOTSUPP, "nested_flags_known", f"a guest's table cannot have the flags {unknown:#x}"
    )
    await refuse_if(not data.length, Errno.EOPNOTSUPP, "nested_needs_data", "a table of a guest needs data")


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_nested_alloc(
    ictx: IommufdCtx, parent: IommufdHwptPaging, idev: IommufdDevice, flags: int, data: UserData
) -> IommufdHwptNested:
    """A table of a guest over a page table. EOPNOTSUPP (flags, no data), EINVAL for a parent that cannot carry it."""
    ops = idev.dev.iommu_ops
    await check_nested(flags, data)
    unfit = await load(parent.auto_domain) or not parent.nest_parent or parent.translation.owner is not ops
    await refuse_if(unfit, Errno.EINVAL, "parent_carries", f"{parent.oid} was not made to carry tables of a guest")
    return await over(ictx, parent, None, idev, flags, data)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_viommu_alloc_hwpt_nested(
    viommu: IommufdViommu, idev: IommufdDevice, flags: int, data: UserData
) -> IommufdHwptNested:
    """A table of a guest over a virtual IOMMU. EOPNOTSUPP (flags, no data), then what the driver says."""
    await check_nested(flags, data)
    return await over(viommu.ictx, viommu.hwpt, viommu, idev, flags, data)


async def over(
    ictx: IommufdCtx,
    parent: IommufdHwptPaging,
    viommu: IommufdViommu | None,
    idev: IommufdDevice,
    flags: int,
    data: UserData,
) -> IommufdHwptNested:
    """The object, and what it lies on; then the driver of the IOMMU reads the data."""
    ops = idev.dev.iommu_ops
    wants_pasid = bool(flags & uapi.IOMMU_HWPT_ALLOC_PASID)
    hwpt = await _iommufd_object_alloc(ictx, IommufdHwptNested, parent, viommu, wants_pasid)
    say(Phase.ACQUIRE, "{} is a table of a guest; it holds {}.", hwpt, hwpt.under)
    await get(hwpt.under.users, hwpt, UNDER)
    assert ops.domain_alloc_nested is not None  # it has made the table under it
    async with on_failure(iommufd_object_abort_and_destroy, ictx, hwpt):
        caches = await ops.domain_alloc_nested(idev.dev, flags & ~uapi.IOMMU_HWPT_FAULT_ID_VALID, data)
    init(hwpt, domain=Domain(ops))
    await store(hwpt.iotlb, caches)
    return hwpt


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_alloc(ucmd: Ucmd) -> None:
    """IOMMU_HWPT_ALLOC: EOPNOTSUPP (reserved), EINVAL (data), ENOENT (device), EINVAL (no such pt), then by its kind."""
    cmd = ucmd.cmd
    reserved = cmd.get("__reserved")
    await refuse_if(
        reserved != 0, Errno.EOPNOTSUPP, "hwpt_reserved_zero", f"the reserved field is {reserved:#x}, and must be 0"
    )
    odd = (cmd.data_type == uapi.IOMMU_HWPT_DATA_NONE) != (cmd.data_len == 0)
    why = f"the type {cmd.data_type:#x} needs data" if cmd.data_type else f"{cmd.data_len} bytes of data need a type"
    await refuse_if(odd, Errno.EINVAL, "data_has_type", why)
    idev = await iommufd_get_object(ucmd.ictx, cmd.dev_id, IommufdDevice)
    async with cleanup(iommufd_put_object, idev):
        await hwpt_over(ucmd, idev)


async def hwpt_over(ucmd: Ucmd, idev: IommufdDevice) -> None:
    """The page table is made from what pt_id names."""
    try:
        pt = await iommufd_get_object(ucmd.ictx, ucmd.cmd.pt_id, IommufdObject)
    except KernelError:
        pt = None
    pt = await require(pt, Errno.EINVAL, "pt_exists", f"there is no object {ucmd.cmd.pt_id} to make a page table from")
    async with cleanup(iommufd_put_object, pt):
        if isinstance(pt, IommufdIoas):
            async with pt.mutex:
                await hwpt_over_ioas(ucmd, idev, pt)
        else:
            await hwpt_nested(ucmd, idev, pt)


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
    async with on_failure(iommufd_object_abort_and_destroy, ictx, hwpt):
        if cmd.flags & uapi.IOMMU_HWPT_FAULT_ID_VALID:
            fault = await iommufd_get_object(ictx, cmd.fault_id, IommufdFault)
            await store(hwpt.fault, fault)
            await get(fault.users, hwpt, FILLED_BY)
            await iommufd_put_object(fault)
        cmd.out_hwpt_id = hwpt.id
        await copy_to_user(ucmd.address, ucmd.reply())
    say(Phase.PUBLISH, "{} can be found under its ID from now on.", hwpt)
    await iommufd_object_finalize(ictx, hwpt)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_set_dirty_tracking(ucmd: Ucmd) -> None:
    """Remember which pages a device writes: EOPNOTSUPP (flags), ENOENT, EOPNOTSUPP (the table cannot)."""
    enable = uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE
    unknown = ucmd.cmd.flags & ~enable
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "dirty_flags_known", f"the flags {unknown:#x} are not known")
    hwpt = await iommufd_get_object(ucmd.ictx, ucmd.cmd.hwpt_id, IommufdHwptPaging)
    async with cleanup(iommufd_put_object, hwpt):
        await iopt_set_dirty_tracking(hwpt.ioas, hwpt, bool(ucmd.cmd.flags & enable))


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_get_dirty_bitmap(ucmd: Ucmd) -> None:
    """Which pages were written? EOPNOTSUPP (flags, reserved), ENOENT, EOVERFLOW, EINVAL, EOPNOTSUPP (the table cannot).

    No error comes from there on: a bitmap that cannot be written, or addresses where nothing is mapped, are passed over.
    """
    cmd = ucmd.cmd
    unknown = cmd.flags & ~uapi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "bitmap_flags_known", f"the flags {unknown:#x} are not known")
    used = cmd.get("__reserved") != 0
    await refuse_if(used, Errno.EOPNOTSUPP, "bitmap_reserved_zero", "reserved fields must be zero")
    hwpt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, IommufdHwptPaging)
    async with cleanup(iommufd_put_object, hwpt):
        await iommufd_check_iova_range(hwpt.ioas, cmd)
        async with shared(hwpt.ioas.iova_rwsem):
            await iommu_read_and_clear_dirty(hwpt, cmd)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_invalidate(ucmd: Ucmd) -> None:
    """Forget what was cached of a guest's table; how much was done is written back whatever happens (EFAULT wins)."""
    cmd = ucmd.cmd
    array = Entries(cmd.data_type, cmd.data_uptr, cmd.entry_len, cmd.entry_num)
    try:
        await check_invalidate(ucmd, array)
    except Unsupported:
        raise
    except KernelError:
        cmd.entry_num = array.done
        await copy_to_user(ucmd.address, ucmd.reply())
        raise
    cmd.entry_num = array.done
    await copy_to_user(ucmd.address, ucmd.reply())


async def check_invalidate(ucmd: Ucmd, array: Entries) -> None:
    """EOPNOTSUPP (reserved), EINVAL (entries), ENOENT, EINVAL (not a table of a guest), then what the driver says."""
    cmd = ucmd.cmd
    reserved = cmd.get("__reserved")
    await refuse_if(
        reserved != 0,
        Errno.EOPNOTSUPP,
        "invalidate_reserved_zero",
        f"the reserved field is {reserved:#x}, and must be 0",
    )
    if cmd.entry_num:
        await refuse_if(not cmd.data_uptr, Errno.EINVAL, "entries_given", "the entries have no address")
        bad = not 0 < cmd.entry_len <= PAGE_SIZE
        why = f"an entry has 1 to {PAGE_SIZE} bytes, and not {cmd.entry_len}"
        await refuse_if(bad, Errno.EINVAL, "entries_possible", why)
        many = cmd.entry_num > INVALIDATE_MOST
        await refuse_if(
            many, Errno.EINVAL, "entries_not_too_many", f"{INVALIDATE_MOST} entries are the most, not {cmd.entry_num}"
        )
    pt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, Object)
    async with cleanup(iommufd_put_object, pt):
        owner = await require(
            owner_of_entries(pt),
            Errno.EINVAL,
            "table_of_a_guest",
            f"{pt.oid} is no table of a guest and no virtual IOMMU",
        )
        await owner(pt, array)


def owner_of_entries(pt: KObject) -> Callable[[Any, Any], Awaitable[None]] | None:
    """Who can make the hardware forget: the driver of the IOMMU. None for objects of other kinds."""
    if isinstance(pt, IommufdHwptNested):
        return pt.translation.owner.cache_invalidate_user
    return pt.ops.viommu_cache_invalidate if isinstance(pt, IommufdViommu) else None
