"""iommu groups and who owns their DMA (drivers/iommu/iommu.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ..engine import Count, Field, KObject, Lock, Phase, count, field, kernel, load, mutex, refuse_if, say, store
from ..engine.engine import Engine
from ..uapi import Errno

DEFAULT, BLOCKING = "default domain", "blocking domain"
APERTURE_LAST: Final = (1 << 39) - 1  # the last I/O address that the page tables can translate
MSI_WINDOW: Final = (
    0xFEE00000,
    0xFEEFFFFF,
)  # writes to these addresses are interrupts: every device has this range reserved
PGSIZES: Final = 0x1000  # sizes of pages, a bit each


class IommuGroup(KObject):
    """The smallest set of devices whose DMA the hardware can keep apart from all others.

    * born with its first device, held by its devices and by who uses it (`kobj`);
    * owned by nobody, by kernel drivers together (`owner` None, one count for each driven device), by a vfio_group
      (count 1) or by an iommufd context (one count for each bound device);
    * while user space owns it the blocking domain or a page table of the owner is in force, else the default domain.
    """

    kind = "iommu_group"
    kobj: Count = count()
    mutex: Lock = mutex()
    # guarded by mutex
    owner: Field[KObject | None] = field(None, guard="mutex", link="weak")
    owner_cnt: Field[int] = field(0, guard="mutex")
    domain: Field[str | KObject] = field(DEFAULT, guard="mutex", link="weak")

    def __init__(self, engine: Engine, number: int, emulated: bool = False) -> None:
        super().__init__(engine, str(number))
        self.id = number
        self.emulated = emulated  # made for a device that does no DMA of its own


@kernel("drivers/iommu/iommu.c")
async def iommu_device_use_default_domain(group: IommuGroup | None) -> None:
    """A kernel driver that uses the DMA API is about to drive a device of the group. EBUSY while user space owns it."""
    if group is None:
        return
    async with group.mutex:
        count_now = await load(group.owner_cnt)
        if count_now:
            owned = await load(group.owner) is not None or await load(group.domain) != DEFAULT
            await refuse_if(owned, Errno.EBUSY, "group_is_owned", "user space owns the DMA of this iommu_group")
        await store(group.owner_cnt, count_now + 1)


@kernel("drivers/iommu/iommu.c")
async def iommu_device_unuse_default_domain(group: IommuGroup | None) -> None:
    """A kernel driver has left a device of the group."""
    if group is None:
        return
    async with group.mutex:
        await store(group.owner_cnt, await load(group.owner_cnt) - 1)


@kernel("drivers/iommu/iommu.c")
async def iommu_device_claim_dma_owner(group: IommuGroup, owner: KObject) -> None:
    """Let `owner` have the DMA of the group, or count one device more if it has it. EPERM if somebody else has it."""
    async with group.mutex:
        count_now = await load(group.owner_cnt)
        if count_now:
            other = await load(group.owner) is not owner
            await refuse_if(other, Errno.EPERM, "dma_owner_is_other", "somebody else owns the DMA of this iommu_group")
            await store(group.owner_cnt, count_now + 1)
        else:
            await __iommu_take_dma_ownership(group, owner)


@kernel("drivers/iommu/iommu.c")
async def __iommu_take_dma_ownership(group: IommuGroup, owner: KObject) -> None:
    """The group changes hands: from now on its DMA is blocked until the new owner attaches a page table."""
    foreign = await load(group.domain) != DEFAULT
    await refuse_if(foreign, Errno.EBUSY, "foreign_domain", "the iommu_group uses a domain that is not its default one")
    await store(group.domain, BLOCKING)
    await store(group.owner, owner)
    await store(group.owner_cnt, 1)


@kernel("drivers/iommu/iommu.c")
async def iommu_device_release_dma_owner(group: IommuGroup) -> None:
    """One device less; with the last one the group goes back to the default domain."""
    async with group.mutex:
        count_now = await load(group.owner_cnt)
        if count_now > 1:
            await store(group.owner_cnt, count_now - 1)
            return
        say(Phase.UNWIND, "{} belongs to nobody again: its default domain is back.", group)
        await store(group.owner_cnt, 0)
        await store(group.owner, None)
        await store(group.domain, DEFAULT)


@kernel("drivers/iommu/iommu.c")
async def iommu_group_dma_owner_claimed(group: IommuGroup) -> bool:
    """Does anybody own the group's DMA at this moment? A kernel driver counts too."""
    async with group.mutex:
        claims = await load(group.owner_cnt)
        return claims != 0


@kernel("drivers/iommu/iommu.c")
async def iommu_attach_group_handle(domain: KObject, group: IommuGroup, wants_faults: bool) -> None:
    """Let the hardware translate for the group. EBUSY if something else does, ENODEV if it cannot report page faults."""
    async with group.mutex:
        now = await load(group.domain)
        foreign = now not in (DEFAULT, BLOCKING)
        await refuse_if(foreign, Errno.EBUSY, "group_has_no_domain", "the iommu_group is attached to something else")
        await set_domain(domain, group, wants_faults)


@kernel("drivers/iommu/iommu.c")
async def iommu_replace_group_handle(domain: KObject, group: IommuGroup, wants_faults: bool) -> None:
    """Let the hardware translate for the group in another way, without a gap. ENODEV if it cannot report page faults."""
    async with group.mutex:
        await set_domain(domain, group, wants_faults)


@kernel("drivers/iommu/iommu.c")
async def iommu_detach_group_handle(group: IommuGroup) -> None:
    """The group goes back to its core domain: blocked while user space owns it, otherwise the default one."""
    async with group.mutex:
        owner = await load(group.owner)
        await store(group.domain, DEFAULT if owner is None else BLOCKING)


async def set_domain(domain: KObject, group: IommuGroup, wants_faults: bool) -> None:
    """Program the hardware. None of the modelled devices can ask for pages that are missing."""
    await refuse_if(
        wants_faults, Errno.ENODEV, "device_requests_pages", "the device cannot report page faults (no PRI)"
    )
    await store(group.domain, domain)


@kernel("drivers/iommu/iommu.c")
async def iommu_attach_device_pasid(wants_faults: bool, group: IommuGroup) -> None:
    """DMA with a PASID: the modelled devices have none, so nothing is programmed. ENODEV as for the whole group."""
    async with group.mutex:
        await refuse_if(
            wants_faults, Errno.ENODEV, "device_requests_pages", "the device cannot report page faults (no PRI)"
        )
