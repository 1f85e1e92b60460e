"""What kinds of IOMMU differ in: `struct iommu_ops`, and that of the IOMMU behind real devices (include/linux/iommu.h, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ctypes import sizeof
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from .. import uapi
from ..engine import *
from ..uapi import Errno, Struct
from .config import built_with
from .uaccess import copy_struct_from_user

S = TypeVar("S", bound=Struct)
APERTURE_LAST: Final = (1 << 39) - 1  # the last I/O address that the page tables can translate
MSI_WINDOW: Final = (
    0xFEE00000,
    0xFEEFFFFF,
)  # writes to these addresses are interrupts: every device has this range reserved
PGSIZES: Final = 0x40201000  # sizes of pages, a bit each: 4 KiB, 2 MiB, 1 GiB


class UserData(NamedTuple):
    """What a program has to tell the driver of an IOMMU, and what kind of data that is (`struct iommu_user_data`)."""

    type: int
    address: int
    length: int


class Entries:
    """The list that an INVALIDATE brings (`struct iommu_user_data_array`), and how many of it are done."""

    of_one_call = True  # see Struct

    def __init__(self, kind: int, address: int, entry_len: int, entry_num: int) -> None:
        self.type = kind
        self.address = address
        self.entry_len = entry_len
        self.entry_num = entry_num
        self.done = 0

    def entry(self, index: int) -> UserData:
        """One of them."""
        return UserData(self.type, self.address + self.entry_len * index, self.entry_len)


@dataclass(frozen=True)
class Domain:
    """What does not change in a table of an IOMMU (`struct iommu_domain`): who made it, and what it can translate.

    * `first`, `last`: the addresses that it can translate; `pgsizes`: sizes of its pages, a bit each;
    * `dirty_ops`: can it remember which pages were written?
    * `entry`: the size of its smallest entry, where that is less than a page.
    """

    owner: IommuOps
    first: int = 0
    last: int = APERTURE_LAST
    pgsizes: int = PGSIZES
    dirty_ops: bool = False
    entry: int = 0

    @property
    def page(self) -> int:
        """The size of its smallest page."""
        return self.pgsizes & -self.pgsizes


@dataclass(frozen=True, eq=False)
class IommuOps:
    """What a kind of IOMMU can do. `dev` is always the device that it stands before.

    * `info()`: what it says about itself, of type `info_type`; `dirty`: can it track what this device writes?
    * `reserved`: addresses that no device can use for memory;
    * `domain_alloc_paging_flags(dev, flags, data)` makes a table, `domain_alloc_nested(dev, flags, data)` the first content
      of the caches of a guest's one;
    * `attach_dev(table or None, dev, old table or None)`: None is no translation at all;
    * `set_dev_pasid(table or None, dev, pasid, old)`: the same for DMA with a PASID;
    * `cache_invalidate_user(guest's table, entries)`, `viommu_cache_invalidate(viommu, entries)`: forget what is cached;
    * `viommu_init(viommu, data)`, for virtual IOMMUs of type `viommu_type`.
    """

    name: str
    info: Callable[[], bytes]
    info_type: int
    domain_alloc_paging_flags: Callable[[Any, int, UserData | None], Awaitable[Domain]]
    attach_dev: Callable[[Any, Any, Any], Awaitable[None]]
    set_dev_pasid: Callable[[Any, Any, int, Any], Awaitable[None]]
    dirty: Callable[[Any], bool] = lambda dev: False
    reserved: tuple[tuple[int, int], ...] = ()
    domain_alloc_nested: Callable[[Any, int, UserData], Awaitable[tuple[int, ...]]] | None = None
    cache_invalidate_user: Callable[[Any, Any], Awaitable[None]] | None = None
    viommu_type: int = 0
    viommu_init: Callable[[Any, UserData | None], Awaitable[None]] | None = None
    viommu_cache_invalidate: Callable[[Any, Any], Awaitable[None]] | None = None


@kernel("include/linux/iommu.h")
async def iommu_copy_struct_from_user(kind: type[S], data: UserData, wanted: int, least: int) -> S:
    """Copy the data of a driver. EINVAL for another type, or a length that is no version of it; then EFAULT."""
    other = data.type != wanted
    await refuse_if(
        other, Errno.EINVAL, "driver_data_known", f"the data is of type {data.type:#x}, and should be {wanted:#x}"
    )
    fits = least <= data.length <= sizeof(kind)
    why = f"the data has {data.length} bytes, and should have {least} to {sizeof(kind)}"
    await refuse_if(not fits, Errno.EINVAL, "driver_data_length", why)
    return await copy_struct_from_user(kind, data.address, data.length)


# ---- the IOMMU behind real devices: an Intel VT-d unit as an emulated machine has it


@kernel("drivers/iommu/intel/iommu.c")
async def intel_iommu_domain_alloc_paging_flags(dev: object, flags: int, data: UserData | None) -> Domain:
    """A page table. EOPNOTSUPP with data, and for one that is to carry those of a guest where the IOMMU cannot."""
    nests = bool(flags & uapi.IOMMU_HWPT_ALLOC_NEST_PARENT) and not built_with("nesting")
    bad = nests or data is not None
    await refuse_if(bad, Errno.EOPNOTSUPP, "iommu_nests", "this IOMMU cannot put tables of a guest on top")
    return Domain(intel_iommu_ops, dirty_ops=bool(flags & uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING))


@kernel("drivers/iommu/intel/nested.c")
async def intel_nested_cache_invalidate_user(hwpt: object, array: Entries) -> None:
    """Forget what is cached of a guest's table. EINVAL (type), then by entry: EINVAL (length), EFAULT, EOPNOTSUPP, EINVAL."""
    kind, wanted = uapi.IommuHwptVtdS1Invalidate, uapi.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1
    await refuse_if(array.type != wanted, Errno.EINVAL, "invalidate_type", "the entries are of another type")
    for index in range(array.entry_num):
        entry = await iommu_copy_struct_from_user(kind, array.entry(index), wanted, sizeof(kind))
        unknown = entry.flags & ~uapi.IOMMU_VTD_INV_FLAGS_LEAF != 0 or entry.get("__reserved") != 0
        await refuse_if(unknown, Errno.EOPNOTSUPP, "invalidate_flags", "an entry has unknown flags")
        odd = entry.addr % 4096 != 0 or (entry.npages == 2**64 - 1 and entry.addr != 0)
        await refuse_if(odd, Errno.EINVAL, "invalidate_pages", "an entry begins within a page")
        array.done += 1


@kernel("drivers/iommu/intel/nested.c")
async def intel_iommu_domain_alloc_nested(dev: object, flags: int, data: UserData) -> tuple[int, ...]:
    """A table of a guest, of which nothing is looked at. EOPNOTSUPP (flags, type of data), EINVAL for its length, EFAULT."""
    wanted = uapi.IOMMU_HWPT_DATA_VTD_S1
    unknown = flags & ~uapi.IOMMU_HWPT_ALLOC_PASID
    await refuse_if(
        unknown != 0, Errno.EOPNOTSUPP, "nested_flags_known", f"a guest's table cannot have the flags {unknown:#x}"
    )
    other = data.type != wanted
    await refuse_if(
        other, Errno.EOPNOTSUPP, "nested_data_known", f"this IOMMU has no guest tables of type {data.type:#x}"
    )
    await iommu_copy_struct_from_user(uapi.IommuHwptVtdS1, data, wanted, sizeof(uapi.IommuHwptVtdS1))
    return ()


@kernel("drivers/iommu/intel/iommu.c")
async def intel_iommu_attach_device(hwpt: Any, dev: object, old: Any) -> None:
    """Program the hardware. ENODEV: none of the modelled devices can ask for pages that are missing."""
    faults = hwpt is not None and await load(hwpt.fault) is not None
    await refuse_if(faults, Errno.ENODEV, "device_requests_pages", "the device cannot report page faults (no PRI)")


@kernel("drivers/iommu/intel/iommu.c")
async def intel_iommu_set_dev_pasid(hwpt: Any, dev: object, pasid: int, old: Any) -> None:
    """DMA with a PASID: the modelled devices have none, so nothing is programmed. ENODEV as for the whole group."""
    await intel_iommu_attach_device(hwpt, dev, old)


def intel_iommu_hw_info() -> bytes:
    """Flags, and its two capability registers: bits 26 and 45 of the second are nesting and dirty tracking."""
    more = built_with("nesting") << 26 | built_with("dirty_tracking") << 45
    return bytes(uapi.IommuHwInfoVtd(flags=1, cap_reg=0x00D2008C22260286, ecap_reg=0x0000480080F00F4E | more))


intel_iommu_ops: Final = IommuOps(
    "intel",
    intel_iommu_hw_info,
    uapi.IOMMU_HW_INFO_TYPE_INTEL_VTD,
    intel_iommu_domain_alloc_paging_flags,
    intel_iommu_attach_device,
    intel_iommu_set_dev_pasid,
    dirty=lambda dev: built_with("dirty_tracking"),
    reserved=(MSI_WINDOW,),
    domain_alloc_nested=intel_iommu_domain_alloc_nested,
    cache_invalidate_user=intel_nested_cache_invalidate_user,
)
