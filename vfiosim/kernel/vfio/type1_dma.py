"""The mappings of a container: memory of processes that devices can reach (a part of drivers/vfio/vfio_iommu_type1.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ...engine import (
    Field,
    KObject,
    Lock,
    current,
    field,
    free,
    get_unless_zero,
    kernel,
    load,
    mutex,
    pin_pages,
    refuse_if,
    require,
    store,
)
from ...engine.engine import Engine
from ...uapi import Errno, KernelError
from ..iommu import IommuGroup
from ..iommu_ops import APERTURE_LAST, PGSIZES
from ..mm import PAGE_SIZE, MmStruct, mmdrop, mmput
from ..task import current_mm, current_task
from ..unsupported import Unsupported
from .type1_iova import LAST

DMA_ENTRY_LIMIT: Final = 65535  # mappings that a container may have
PAGE_MASK: Final = LAST & ~(PAGE_SIZE - 1)
ITS_MEMORY = "memory of it"


class VfioDma(KObject):
    """A mapping: devices of the container reach `size` bytes at `vaddr` of a process by the addresses from `iova` on.

    * born by VFIO_IOMMU_MAP_DMA, which notes the address space of the caller and points to it (not more);
    * its pages are pinned, and charged to that address space, while the container has a page table;
    * dies by VFIO_IOMMU_UNMAP_DMA, or with the last group of the container.
    """

    kind = "vfio_dma"
    locked_vm: Field[int] = field(0, guard="iommu.lock")
    iommu_mapped: Field[bool] = field(False, guard="iommu.lock")

    def __init__(
        self, engine: Engine, iova: int, vaddr: int, size: int, writable: bool, mm: MmStruct, lock_cap: bool
    ) -> None:
        super().__init__(engine)
        self.iova, self.vaddr, self.size = iova, vaddr, size
        self.writable = writable
        self.mm = mm
        self.lock_cap = lock_cap

    @property
    def last(self) -> int:
        """Its last I/O address."""
        return self.iova + self.size - 1


class VfioDomain(KObject):
    """A page table of the IOMMU, for the groups of a container that it can serve.

    * born with the first of its groups, dies with the last.
    """

    kind = "vfio_domain"
    group_list: Field[tuple[IommuGroup, ...]] = field((), guard="iommu.lock")
    enforce_cache_coherency = False  # the modelled IOMMU cannot ignore what a device says about caches


class VfioIommu(KObject):
    """The driver's part of a container: its groups, their page tables, and the mappings that are in all of them.

    * born by VFIO_SET_IOMMU, dies when the last group leaves the container.
    """

    kind = "vfio_iommu"
    lock: Lock = mutex()
    # guarded by lock
    domain_list: Field[tuple[VfioDomain, ...]] = field((), guard="lock", link="owns")
    emulated_iommu_groups: Field[tuple[IommuGroup, ...]] = field((), guard="lock")
    dma_list: Field[tuple[VfioDma, ...]] = field((), guard="lock", link="owns")  # by I/O address
    dma_avail: Field[int] = field(DMA_ENTRY_LIMIT, guard="lock")
    pgsize_bitmap: Field[int] = field(PAGE_MASK, guard="lock")
    iova_list: Field[tuple[tuple[int, int], ...]] = field((), guard="lock")

    def __init__(self, engine: Engine, v2: bool) -> None:
        super().__init__(engine)
        self.v2 = v2


async def update_pgsize_bitmap(iommu: VfioIommu) -> None:
    """Which sizes of pages all page tables know; without any, all from 4 KiB on (`vfio_update_pgsize_bitmap`)."""
    await store(iommu.pgsize_bitmap, PGSIZES if await load(iommu.domain_list) else PAGE_MASK)


# ---- pinned pages are charged to the process


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def mm_lock_acct(mm: MmStruct, lock_cap: bool, npage: int) -> None:
    """Charge pages to an address space, or discharge them. ENOMEM beyond RLIMIT_MEMLOCK, unless the owner may exceed it."""
    now = await load(mm.locked_vm)
    over = npage > 0 and not lock_cap and now + npage > await memlock_pages()
    await refuse_if(over, Errno.ENOMEM, "process_may_lock", "the process has locked as much memory as it may")
    await store(mm.locked_vm, now + npage)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_lock_acct(dma: VfioDma, npage: int) -> None:
    """Charge the pages of a mapping; nothing happens if the process has ended."""
    if npage == 0 or not await get_unless_zero(dma.mm.mm_users, current(), "charging"):
        return
    try:
        await mm_lock_acct(dma.mm, dma.lock_cap, npage)
    except KernelError:
        await mmput(dma.mm, current(), "charging")
        raise
    await store(dma.locked_vm, await load(dma.locked_vm) + npage)
    await mmput(dma.mm, current(), "charging")


async def memlock_pages() -> int:
    """RLIMIT_MEMLOCK of the calling process, in pages."""
    return await load(current_task().memlock) // PAGE_SIZE


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_pin_pages_remote(dma: VfioDma) -> None:
    """Pin all pages of a mapping, upwards. EFAULT where there is none, ENOMEM at the first one too many.

    The pages are looked for in the memory of the caller, whoever made the mapping. Registers of a device are mapped as
    they are: there is nothing to pin or to charge.
    """
    mm = await require(await current_mm(), Errno.ENODEV, "caller_has_memory", "the caller has no memory")
    device = mm.device_bytes(dma.vaddr, dma.size)
    if device == dma.size:
        return
    if device:
        raise Unsupported("a mapping that is partly memory and partly a device")
    npage = dma.size // PAGE_SIZE
    room = npage if dma.lock_cap else max(0, await memlock_pages() - await load(mm.locked_vm))
    await pin_pages(mm, dma.vaddr, min(npage, room + 1) * PAGE_SIZE, dma.writable)
    await refuse_if(npage > room, Errno.ENOMEM, "process_may_lock", "the process has locked as much memory as it may")
    await vfio_lock_acct(dma, npage)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_unmap_unpin(iommu: VfioIommu, dma: VfioDma) -> None:
    """Take a mapping out of the page tables, unpin its pages and discharge them. Nothing to do without a page table."""
    if not await load(iommu.domain_list) or not await load(dma.iommu_mapped):
        return
    await store(dma.iommu_mapped, False)
    await vfio_lock_acct(dma, -await load(dma.locked_vm))


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_remove_dma(iommu: VfioIommu, dma: VfioDma) -> None:
    """The end of a mapping."""
    await vfio_unmap_unpin(iommu, dma)
    await store(iommu.dma_list, tuple(other for other in await load(iommu.dma_list) if other is not dma))
    await mmdrop(dma.mm, dma, ITS_MEMORY)
    await free(dma)
    await store(iommu.dma_avail, await load(iommu.dma_avail) + 1)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_unmap_unpin_all(iommu: VfioIommu) -> None:
    """Nobody is left who could use the mappings."""
    for dma in await load(iommu.dma_list):
        await vfio_remove_dma(iommu, dma)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_unmap_unpin_reaccount(iommu: VfioIommu) -> None:
    """Only groups without DMA are left: the mappings stay, but nothing is pinned for them."""
    for dma in await load(iommu.dma_list):
        await vfio_unmap_unpin(iommu, dma)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_replay(iommu: VfioIommu) -> None:
    """A first page table comes to mappings that waited for one: pin them all, or none."""
    done: list[VfioDma] = []
    for dma in await load(iommu.dma_list):
        if await load(dma.iommu_mapped):
            continue
        if dma.last > APERTURE_LAST:
            raise Unsupported("a page table for a mapping that lies beyond its reach")
        try:
            await vfio_pin_pages_remote(dma)
        except KernelError:
            for pinned in reversed(done):
                await vfio_lock_acct(pinned, -await load(pinned.locked_vm))
            raise
        done.append(dma)
    for dma in done:
        await store(dma.iommu_mapped, True)
