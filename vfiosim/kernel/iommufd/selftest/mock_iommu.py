"""An IOMMU, and devices before it, that exist only in software (the first third of drivers/iommu/iommufd/selftest.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from typing import Any, Final

from .... import uapi
from ....engine import *
from ....engine import require as demand
from ....engine import table as table_
from ....uapi import Errno
from ...iommu import IommuGroup, IommuGroups
from ...iommu_ops import Domain, Entries, IommuOps, UserData, iommu_copy_struct_from_user
from ...regions import KMALLOC_MAX, PAGE_SIZE, PIECE, Sparse
from ...uaccess import copy_struct_from_user
from ..driver import iommufd_viommu_get_vdev_id
from ..iommufd_private import IommufdHwPagetable, IommufdHwptNested, IommufdHwQueue, IommufdViommu, device_of
from ..viommu import BEFORE

ALL: Final = uapi.IOMMU_TEST_INVALIDATE_FLAG_ALL
PAGING_FLAGS: Final = (
    uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING | uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | uapi.IOMMU_HWPT_ALLOC_PASID
)
PAGE_SIZES: Final = 2**37 - uapi.MOCK_PAGE_SIZE  # every power of two that its table has an entry for


class MockIommu(KObject):
    """The IOMMU of the tests: knows the groups of the machine, and the numbers of its own devices."""

    kind = "mock_iommu_device"
    root = "the kernel"
    mock_dev_ida: Table[MockDev] = table_(first=0)

    def __init__(self, engine: Engine, groups: IommuGroups) -> None:
        super().__init__(engine, "mock")
        self.groups = groups


class MockDev(KObject):
    """A device without hardware: it does no DMA, but can say that it did.

    * born by a test, in an iommu_group of its own, bound and attached at once; dies with the test object that owns it;
    * `cache`: what the device itself remembers of translations, a word each; `viommu`: whose guest has it.
    """

    kind = "mock_dev"
    is_mock = True
    cache_coherent = True
    cache: Field[tuple[int, ...]] = field((uapi.IOMMU_TEST_DEV_CACHE_DEFAULT,) * uapi.MOCK_DEV_CACHE_NUM)
    viommu: Field[IommufdViommu | None] = field(None, guard="viommu_rwsem", link="weak")
    vdev_id: Field[int] = field(0, guard="viommu_rwsem")
    pasid_1024_fake_error: Field[bool] = field(False)

    iommu_group: Field[IommuGroup | None] = field(None, link="weak")

    def __init__(self, engine: Engine, iommu: MockIommu, flags: int) -> None:
        super().__init__(engine)
        self.iommu = iommu
        self.iommu_ops = mock_ops
        self.flags = flags
        self.max_pasids = 1 << uapi.MOCK_PASID_WIDTH if flags & uapi.MOCK_FLAGS_DEVICE_PASID else 0
        self.id = 0

    @property
    def tracks(self) -> bool:
        """May its page tables track what it writes?"""
        return not self.flags & uapi.MOCK_FLAGS_DEVICE_NO_DIRTY


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_domain_nop_attach(hwpt: IommufdHwPagetable | None, dev: MockDev, old: IommufdHwPagetable | None) -> None:
    """Attach. EINVAL for a table that tracks what this device cannot, ENOENT for a guest that does not know the device."""
    tracks = hwpt is not None and hwpt.translation.dirty_ops
    await refuse_if(tracks and not dev.tracks, Errno.EINVAL, "mock_tracks_dirty", "the device has no dirty tracking")
    viommu = hwpt.viommu if isinstance(hwpt, IommufdHwptNested) else None
    number = 0
    if viommu is not None:
        found = await iommufd_viommu_get_vdev_id(viommu, dev)
        number = await demand(found, Errno.ENOENT, "guest_knows_device", "the guest has no such device")
    if viommu is not await load(dev.viommu):
        await store(dev.viommu, viommu)
        await store(dev.vdev_id, number)


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_domain_set_dev_pasid_nop(hwpt: Any, dev: MockDev, pasid: int, old: Any) -> None:
    """Attach a PASID; nothing to do for a device without. ENOMEM every second time for one number, to test the unwinding."""
    if not dev.max_pasids or pasid != uapi.IOMMU_TEST_PASID_RESERVED:
        return
    fails = hwpt is not None and await load(dev.pasid_1024_fake_error)
    await store(dev.pasid_1024_fake_error, hwpt is not None and not fails)
    await refuse_if(fails, Errno.ENOMEM, "pasid_fails_in_turn", "every second attachment of this PASID fails")


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_domain_alloc_nested(dev: object, flags: int, data: UserData) -> tuple[int, ...]:
    """What the caches of a guest's table begin with. EOPNOTSUPP (flags, type of data), EINVAL for its length, EFAULT."""
    unknown = flags & ~uapi.IOMMU_HWPT_ALLOC_PASID
    await refuse_if(
        unknown != 0, Errno.EOPNOTSUPP, "mock_flags_known", f"the mock IOMMU does not know the flags {unknown:#x}"
    )
    other = data.type != uapi.IOMMU_HWPT_DATA_SELFTEST
    await refuse_if(
        other, Errno.EOPNOTSUPP, "mock_nested_known", f"the mock IOMMU has no guest tables of type {data.type:#x}"
    )
    wanted = await iommu_copy_struct_from_user(uapi.IommuHwptSelftest, data, uapi.IOMMU_HWPT_DATA_SELFTEST, 4)
    return (wanted.iotlb,) * uapi.MOCK_NESTED_DOMAIN_IOTLB_NUM


def forgotten(words: tuple[int, ...], flags: int, index: int) -> tuple[int, ...]:
    """The caches after one of them, or all, were emptied."""
    return tuple(0 if flags & ALL or at == index else word for at, word in enumerate(words))


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_domain_alloc_paging_flags(dev: MockDev, flags: int, data: UserData | None) -> Domain:
    """A page table of pages from 2048 bytes on. EOPNOTSUPP (flags, type of data, kind of table), EINVAL, EFAULT."""
    dirty = bool(flags & uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    unknown = flags & ~PAGING_FLAGS
    await refuse_if(
        unknown != 0, Errno.EOPNOTSUPP, "mock_flags_known", f"the mock IOMMU does not know the flags {unknown:#x}"
    )
    blind = dirty and not dev.tracks
    await refuse_if(blind, Errno.EOPNOTSUPP, "mock_tracks_dirty", "the device has no dirty tracking")
    kind = uapi.MOCK_IOMMUPT_DEFAULT
    if data is not None:
        other = data.type not in (uapi.IOMMU_HWPT_DATA_SELFTEST, uapi.IOMMU_HWPT_DATA_NONE)
        await refuse_if(
            other, Errno.EOPNOTSUPP, "mock_data_known", f"the mock IOMMU does not know data of type {data.type:#x}"
        )
        wanted = await iommu_copy_struct_from_user(uapi.IommuHwptSelftest, data, uapi.IOMMU_HWPT_DATA_SELFTEST, 4)
        kind = wanted.pagetable_type
    known = kind in (uapi.MOCK_IOMMUPT_DEFAULT, uapi.MOCK_IOMMUPT_HUGE)
    await refuse_if(
        not known, Errno.EOPNOTSUPP, "mock_table_known", f"the mock IOMMU has no page tables of kind {kind}"
    )
    sizes = uapi.MOCK_HUGE_PAGE_SIZE | PAGE_SIZE if kind == uapi.MOCK_IOMMUPT_HUGE else PAGE_SIZES
    return Domain(mock_ops, uapi.MOCK_APERTURE_START, uapi.MOCK_APERTURE_LAST, sizes, dirty, uapi.MOCK_PAGE_SIZE)


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_viommu_cache_invalidate(viommu: IommufdViommu, array: Entries) -> None:
    """Forget what devices of a guest have cached. All entries are read before the first is done; none at all is success."""
    wanted, kind = uapi.IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST, uapi.IommuViommuInvalidateSelftest
    if array.entry_num == 0 and array.type == wanted:
        return
    bad = array.type != wanted or not array.entry_num
    big = array.entry_num * sizeof(kind) > KMALLOC_MAX
    array.done = array.entry_num * big  # a failed allocation tells of none that they were not done
    await refuse_if(
        big, Errno.ENOMEM, "entries_fit", f"the list takes {array.entry_num * sizeof(kind)} bytes of {KMALLOC_MAX}"
    )
    await refuse_if(bad, Errno.EINVAL, "viommu_invalidate_type", "the entries are of another type")
    entries = [
        await copy_struct_from_user(kind, array.entry(index).address, array.entry_len)
        for index in range(array.entry_num)
    ]
    for entry in entries:
        await refuse_if(entry.flags & ~ALL != 0, Errno.EOPNOTSUPP, "invalidate_flags", "an entry has unknown flags")
        far = entry.cache_id > uapi.MOCK_DEV_CACHE_ID_MAX
        await refuse_if(far, Errno.EINVAL, "invalidate_number", "there is no cache of this number")
        vdev = await xa_load(viommu.vdevs, entry.vdev_id)
        dev = device_of(vdev)
        await refuse_if(dev is None, Errno.EINVAL, "invalidate_device", "the guest has no device of this number")
        assert isinstance(dev, MockDev)
        await store(dev.cache, forgotten(await load(dev.cache), entry.flags, entry.cache_id))
        array.done += 1


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_hw_queue_init_phys(queue: IommufdHwQueue) -> None:
    """The mock IOMMU has two queues, and the second needs the first. EINVAL, EEXIST, EIO."""
    viommu, index = queue.viommu, queue.index
    far = index >= uapi.IOMMU_TEST_HW_QUEUE_MAX
    await refuse_if(far, Errno.EINVAL, "hw_queue_number", "there is no queue of this number")
    async with viommu.queue_mutex:
        taken = await xa_load(viommu.hw_queue, index) is not None
        await refuse_if(taken, Errno.EEXIST, "hw_queue_free", "the guest has this queue already")
        before = None
        if index:
            before = await xa_load(viommu.hw_queue, index - 1)
        alone = bool(index) and before is None
        await refuse_if(alone, Errno.EIO, "hw_queue_before", "the guest has no queue before this one")
        if isinstance(before, IommufdHwQueue):
            await get(before.users, queue, BEFORE)
            await store(queue.prev, before)
        await xa_store(viommu.hw_queue, index, queue)


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_viommu_init(viommu: IommufdViommu, data: UserData | None) -> None:
    """The driver's part of a virtual IOMMU; with data also two pages that can be mapped. EINVAL, EFAULT."""
    if data is None:
        return
    kind, wanted = uapi.IommuViommuSelftest, uapi.IOMMU_VIOMMU_TYPE_SELFTEST
    reply: uapi.IommuViommuSelftest = await iommu_copy_struct_from_user(kind, data, wanted, kind.out_data.offset + 4)  # type: ignore[attr-defined]
    offset = PAGE_SIZE
    while await xa_load(viommu.ictx.mt_mmap, offset) is not None:
        offset += 2 * PAGE_SIZE
    await xa_store(viommu.ictx.mt_mmap, offset, viommu)
    reply.out_data, reply.out_mmap_offset, reply.out_mmap_length = reply.in_data, offset, 2 * PAGE_SIZE
    async with on_failure(xa_store, viommu.ictx.mt_mmap, offset, None):
        await copy_to_user(data.address, bytes(reply)[: min(data.length, sizeof(reply))])
    init(viommu, pages=Sparse({0: bytearray(reply.in_data.to_bytes(PIECE, "little"))}, end=2 * PAGE_SIZE))
    await store(viommu.mmap_offset, offset)


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_domain_cache_invalidate_user(hwpt: IommufdHwptNested, array: Entries) -> None:
    """Forget what is cached of a guest's table, entry by entry. EINVAL (type, length, number), EFAULT, EOPNOTSUPP (flags)."""
    wanted = uapi.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST
    await refuse_if(array.type != wanted, Errno.EINVAL, "invalidate_type", "the entries are of another type")
    for index in range(array.entry_num):
        entry = await iommu_copy_struct_from_user(uapi.IommuHwptInvalidateSelftest, array.entry(index), wanted, 8)
        await refuse_if(entry.flags & ~ALL != 0, Errno.EOPNOTSUPP, "invalidate_flags", "an entry has unknown flags")
        far = entry.iotlb_id > uapi.MOCK_NESTED_DOMAIN_IOTLB_ID_MAX
        await refuse_if(far, Errno.EINVAL, "invalidate_number", "there is no cache of this number")
        await store(hwpt.iotlb, forgotten(await load(hwpt.iotlb), entry.flags, entry.iotlb_id))
        array.done += 1


mock_ops: Final = IommuOps(
    "mock",
    lambda: bytes(uapi.IommuTestHwInfo(test_reg=uapi.IOMMU_HW_INFO_SELFTEST_REGVAL)),
    uapi.IOMMU_HW_INFO_TYPE_SELFTEST,
    mock_domain_alloc_paging_flags,
    mock_domain_nop_attach,
    mock_domain_set_dev_pasid_nop,
    dirty=lambda dev: dev.tracks,
    domain_alloc_nested=mock_domain_alloc_nested,
    cache_invalidate_user=mock_domain_cache_invalidate_user,
    viommu_type=uapi.IOMMU_VIOMMU_TYPE_SELFTEST,
    viommu_init=mock_viommu_init,
    viommu_cache_invalidate=mock_viommu_cache_invalidate,
)
