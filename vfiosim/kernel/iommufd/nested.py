"""Tables of a guest over a page table or a virtual IOMMU (the other half of drivers/iommu/iommufd/hw_pagetable.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ... import uapi
from ...engine import Field, KObject, Phase, copy_to_user, field, get, kernel, load, put, refuse_if, require, say, store
from ...engine.engine import Engine
from ...uapi import Errno, KernelError
from ..iommu_ops import Domain, UserData
from ..mm import PAGE_SIZE
from ..unsupported import Unsupported
from .eventq import FILLED_BY
from .main import _iommufd_object_alloc, iommufd_get_object, iommufd_object_abort_and_destroy
from .private import IommufdCtx, IommufdDevice, IommufdHwPagetable, IommufdHwptPaging, Ucmd, iommufd_put_object
from .private import IommufdObject as Object
from .viommu import IommufdViommu

UNDER = "its parent"
NESTED_FLAGS = uapi.IOMMU_HWPT_FAULT_ID_VALID | uapi.IOMMU_HWPT_ALLOC_PASID
INVALIDATE_MOST = 1 << 19


class IommufdHwptNested(IommufdHwPagetable):
    """A table that a guest fills by itself: its addresses are those of the guest, the table under it translates them on.

    * born by HWPT_ALLOC over a page table that was made to carry it, or over a virtual IOMMU; holds the one or the other;
    * held by each attached device;
    * `iotlb`: what the hardware has cached of it, a word each; INVALIDATE makes it forget them.
    """

    kind = "iommufd_hwpt_nested"
    iotlb: Field[tuple[int, ...]] = field(())

    def __init__(
        self, engine: Engine, ictx: IommufdCtx, parent: IommufdHwptPaging, viommu: IommufdViommu | None, pasid: bool
    ) -> None:
        super().__init__(engine, ictx, parent.ioas, pasid)
        self.parent = parent
        self.viommu = viommu

    @property
    def under(self) -> Object:
        """What it holds: the virtual IOMMU, or the page table under it."""
        return self.viommu or self.parent


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_nested_destroy(hwpt: IommufdHwptNested) -> None:
    """Let go of the fault queue and of what it lies on."""
    fault = await load(hwpt.fault)
    if fault is not None:
        await put(fault.users, hwpt, FILLED_BY)
    await put(hwpt.under.users, hwpt, UNDER)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_hwpt_nested_alloc(
    ictx: IommufdCtx, parent: IommufdHwptPaging, idev: IommufdDevice, flags: int, data: UserData
) -> IommufdHwptNested:
    """A table of a guest over a page table. EOPNOTSUPP (flags, no data), EINVAL for a parent that cannot carry it."""
    ops = idev.dev.iommu_ops
    bad = flags & ~NESTED_FLAGS != 0 or not data.length
    await refuse_if(bad, Errno.EOPNOTSUPP, "nested_needs_data", "a table of a guest needs data, and takes few flags")
    unfit = await load(parent.auto_domain) or not parent.nest_parent or parent.translation.owner is not ops
    await refuse_if(unfit, Errno.EINVAL, "parent_carries", f"{parent.oid} was not made to carry tables of a guest")
    return await over(ictx, parent, None, idev, flags, data)


@kernel("drivers/iommu/iommufd/hw_pagetable.c")
async def iommufd_viommu_alloc_hwpt_nested(
    viommu: IommufdViommu, idev: IommufdDevice, flags: int, data: UserData
) -> IommufdHwptNested:
    """A table of a guest over a virtual IOMMU. EOPNOTSUPP (flags, no data), then what the driver says."""
    bad = flags & ~NESTED_FLAGS != 0 or not data.length
    await refuse_if(bad, Errno.EOPNOTSUPP, "nested_needs_data", "a table of a guest needs data, and takes few flags")
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
    try:
        caches = await ops.domain_alloc_nested(idev.dev, flags & ~uapi.IOMMU_HWPT_FAULT_ID_VALID, data)
    except KernelError:
        await iommufd_object_abort_and_destroy(ictx, hwpt)
        raise
    hwpt.domain = Domain(ops)
    await store(hwpt.iotlb, caches)
    return hwpt


# ---- invalidate


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


class Entries:
    """The list that an INVALIDATE brings (`struct iommu_user_data_array`), and how many of it are done."""

    def __init__(self, kind: int, address: int, entry_len: int, entry_num: int) -> None:
        self.type = kind
        self.address = address
        self.entry_len = entry_len
        self.entry_num = entry_num
        self.done = 0

    def entry(self, index: int) -> UserData:
        """One of them."""
        return UserData(self.type, self.address + self.entry_len * index, self.entry_len)


async def check_invalidate(ucmd: Ucmd, array: Entries) -> None:
    """EOPNOTSUPP (reserved), EINVAL (entries), ENOENT, EINVAL (not a table of a guest), then what the driver says."""
    cmd = ucmd.cmd
    reserved = cmd.get("__reserved")
    await refuse_if(reserved != 0, Errno.EOPNOTSUPP, "invalidate_reserved_zero", "reserved fields must be zero")
    size_bad = not 0 < cmd.entry_len <= PAGE_SIZE or cmd.entry_num > INVALIDATE_MOST
    bad = cmd.entry_num != 0 and (not cmd.data_uptr or size_bad)
    await refuse_if(bad, Errno.EINVAL, "entries_possible", "entries need an address and a size of up to a page")
    pt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, Object)
    try:
        owner = await require(
            owner_of(pt), Errno.EINVAL, "table_of_a_guest", f"{pt.oid} is no table of a guest and no virtual IOMMU"
        )
        await owner(pt, array)
    except KernelError:
        await iommufd_put_object(pt)
        raise
    await iommufd_put_object(pt)


def owner_of(pt: KObject) -> Callable[[Any, Any], Awaitable[None]] | None:
    """Who can make the hardware forget: the driver of the IOMMU. None for objects of other kinds."""
    if isinstance(pt, IommufdHwptNested):
        return pt.translation.owner.cache_invalidate_user
    return pt.ops.viommu_cache_invalidate if isinstance(pt, IommufdViommu) else None
