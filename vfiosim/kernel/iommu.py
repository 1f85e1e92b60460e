"""iommu groups and who owns their DMA (drivers/iommu/iommu.c, v7.2)."""

from __future__ import annotations

from typing import Any

from ..engine import *
from ..uapi import Errno
from .config import built_with
from .unsupported import Unsupported

DEFAULT, BLOCKING = "default domain", "blocking domain"
IN_GROUP = "in this group"
MSI_IS_SHARED = "the platform cannot isolate the device's interrupts, and the parameter allow_unsafe_interrupts is off"


class IommuGroups(KObject):
    """The numbers of all iommu groups. `ids` by number, `places` by the place in the hardware that a group stands for."""

    kind = "iommu_groups"
    root = "the kernel"
    ids: Table[KObject] = table()
    places: Table[IommuGroup] = table()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "all")


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

    def __init__(
        self,
        engine: Engine,
        number: int,
        groups: IommuGroups | None = None,
        place: int = -1,
    ) -> None:
        super().__init__(engine, str(number))
        self.id = number
        self.groups = groups
        self.place = place  # what its devices have in common: they cannot be told apart by the IOMMU; -1: nothing


def iommu_group_has_isolated_msi(group: IommuGroup) -> bool:
    """Can the interrupts of its devices reach nobody else? All groups of a machine are alike in that."""
    return built_with("interrupt_remapping")


@kernel("drivers/iommu/iommu.c")
async def __iommu_group_set_domain(hwpt: Any, group: IommuGroup, dev: Any) -> None:
    """Program the hardware, unless it is what it does already."""
    now = await load(group.domain)
    if now is not hwpt:
        await dev.iommu_ops.attach_dev(hwpt, dev, table_of(now))
        await store(group.domain, hwpt)


def table_of(domain: str | KObject) -> KObject | None:
    """The table that a group uses; None for the domains that every group has."""
    return None if isinstance(domain, str) else domain


@kernel("drivers/iommu/iommu.c")
async def iommu_group_for(groups: IommuGroups, place: int, number: int | None) -> IommuGroup:
    """The group of a new device: that of its neighbours, or a new one with the lowest free number (`iommu_group_alloc`)."""
    known = await xa_load(groups.places, place)
    if known is not None:
        return known
    if number is None:
        number = await xa_alloc(groups.ids, groups)
        assert number is not None
    async with on_failure(xa_store, groups.ids, number, None):
        group = await alloc(IommuGroup, number, groups, place)
    await xa_store(groups.ids, number, group)
    if place >= 0:
        await xa_store(groups.places, place, group)
    return group


@kernel("drivers/iommu/iommu.c")
async def iommu_group_add_device(group: IommuGroup, device: Any) -> None:
    """From now on a device is in a group, and holds it."""
    await get(group.kobj, device, IN_GROUP)
    await store(device.iommu_group, group)


@kernel("drivers/iommu/iommu.c")
async def iommu_group_remove_device(device: Any) -> None:
    """A device leaves its group, if it is in one."""
    group = await exchange(device.iommu_group, None)
    if group is not None:
        await iommu_group_put(group, device, IN_GROUP)


@kernel("drivers/iommu/iommu.c")
async def iommu_group_put(group: IommuGroup, holder: KObject, reason: str) -> None:
    """Let go of a group; with the last reference it goes, and its number is free again (`iommu_group_release`)."""
    if await put(group.kobj, holder, reason) and group.groups is not None:
        await xa_store(group.groups.ids, group.id, None)
        if group.place >= 0:
            await xa_store(group.groups.places, group.place, None)
        await free(group)


@kernel("drivers/iommu/iommu.c")
async def __iommu_group_set_core_domain(group: IommuGroup) -> None:
    """No page table: the DMA is blocked while user space owns the group, otherwise the default domain is back."""
    await store(group.domain, DEFAULT if await load(group.owner) is None else BLOCKING)


@kernel("drivers/iommu/iommu.c")
async def iommu_attach_group(domain: KObject, group: IommuGroup) -> None:
    """Let the DMA of the group go through a page table. EBUSY if it goes through another one."""
    async with group.mutex:
        now = await load(group.domain)
        foreign = now not in (DEFAULT, BLOCKING)
        await refuse_if(foreign, Errno.EBUSY, "no_other_domain", "the iommu_group uses another page table")
        await store(group.domain, domain)


@kernel("drivers/iommu/iommu.c")
async def iommu_detach_group(group: IommuGroup) -> None:
    """The DMA of the group leaves its page table: it is blocked while somebody owns the group."""
    async with group.mutex:
        await __iommu_group_set_core_domain(group)


@kernel("drivers/iommu/iommu.c")
async def iommu_device_use_default_domain(group: IommuGroup | None) -> None:
    """A kernel driver that uses the DMA API is about to drive a device of the group. EBUSY while user space owns it."""
    if group is None:
        return
    async with group.mutex:
        count_now = await load(group.owner_cnt)
        if count_now:
            owned = await load(group.owner) is not None or await load(group.domain) != DEFAULT
            await refuse_if(owned, Errno.EBUSY, "dma_not_of_user_space", f"user space owns the DMA of {group.oid}")
        await store(group.owner_cnt, count_now + 1)


@kernel("drivers/iommu/iommu.c")
async def iommu_device_unuse_default_domain(group: IommuGroup | None) -> None:
    """A kernel driver has left a device of the group."""
    if group is None:
        return
    async with group.mutex:
        await store(group.owner_cnt, await load(group.owner_cnt) - 1)


@kernel("drivers/iommu/iommu.c")
async def __iommu_take_dma_ownership(group: IommuGroup, owner: KObject) -> None:
    """The group changes hands: from now on its DMA is blocked until the new owner attaches a page table."""
    foreign = await load(group.domain) != DEFAULT
    await refuse_if(
        foreign, Errno.EBUSY, "domain_is_default", "the iommu_group uses a domain that is not its default one"
    )
    await store(group.domain, BLOCKING)
    await store(group.owner, owner)
    await store(group.owner_cnt, 1)


@kernel("drivers/iommu/iommu.c")
async def iommu_group_claim_dma_owner(group: IommuGroup, owner: KObject) -> None:
    """Let `owner` alone have the DMA of the whole group, once. EPERM if anybody has it, kernel drivers and itself included."""
    async with group.mutex:
        claims = await load(group.owner_cnt)
        await refuse_if(claims != 0, Errno.EPERM, "dma_unowned", OwnedBy(group))
        say(Phase.ACQUIRE, "{} itself becomes the one owner of the DMA of {}, for all its devices.", owner, group)
        await __iommu_take_dma_ownership(group, owner)


class OwnedBy:
    """Says who has the DMA of a group, where somebody is refused for it: words only, looked up from outside of the call."""

    def __init__(self, group: IommuGroup) -> None:
        self._group = group

    def __call__(self, engine: Engine) -> str:
        """Its owner in user space, or the drivers of its other devices."""
        group = self._group
        if group.owner.value is not None:
            return f"{group.owner.value.oid} owns the DMA of {group.oid}"
        things: list[Any] = [thing for thing in engine.objects.values() if thing.kind == "device"]
        mine = [device for device in things if device.iommu_group.value is group and device.uses_dma_api.value]
        users = [f"{device.oid}, which {device.driver.value.oid} has" for device in mine]
        return f"{group.oid} is not viable: the DMA of {' and of '.join(users)}, belongs to the kernel"


@kernel("drivers/iommu/iommu.c")
async def iommu_device_claim_dma_owner(group: IommuGroup, owner: KObject) -> None:
    """Let `owner` have the DMA of the group, or count one device more if it has it. EPERM if somebody else has it."""
    async with group.mutex:
        count_now = await load(group.owner_cnt)
        if count_now:
            other = await load(group.owner) is not owner
            await refuse_if(other, Errno.EPERM, "dma_owner_is_same", OwnedBy(group))
            say(Phase.ACQUIRE, "{} owns the group's DMA already; owner_cnt counts one device more.", owner)
            await store(group.owner_cnt, count_now + 1)
        else:
            say(Phase.ACQUIRE, "{} becomes the owner of the group's DMA; until ATTACH the DMA is blocked.", owner)
            await __iommu_take_dma_ownership(group, owner)


@kernel("drivers/iommu/iommu.c")
async def __iommu_release_dma_ownership(group: IommuGroup) -> None:
    """Nobody in user space owns the group's DMA any more."""
    say(Phase.RELEASE, "{} belongs to nobody again: its default domain is back.", group)
    await store(group.owner_cnt, 0)
    await store(group.owner, None)
    await store(group.domain, DEFAULT)


@kernel("drivers/iommu/iommu.c")
async def iommu_group_release_dma_owner(group: IommuGroup) -> None:
    """The one owner gives the DMA of the group back."""
    async with group.mutex:
        await __iommu_release_dma_ownership(group)


@kernel("drivers/iommu/iommu.c")
async def iommu_device_release_dma_owner(group: IommuGroup) -> None:
    """One device less; with the last one the group goes back to the default domain."""
    async with group.mutex:
        count_now = await load(group.owner_cnt)
        if count_now > 1:
            await store(group.owner_cnt, count_now - 1)
            return
        await __iommu_release_dma_ownership(group)


@kernel("drivers/iommu/iommu.c")
async def iommu_group_dma_owner_claimed(group: IommuGroup) -> bool:
    """Does anybody own the group's DMA at this moment? A kernel driver counts too."""
    async with group.mutex:
        claims = await load(group.owner_cnt)
        return claims != 0


@kernel("drivers/iommu/iommu.c")
async def iommu_attach_device_pasid(hwpt: Any, group: IommuGroup, dev: Any, pasid: int) -> None:
    """DMA with a PASID. EINVAL by a table of another kind of IOMMU, or for a PASID that the device cannot have.

    A device without PASIDs is left alone.
    """
    await refuse_alien(hwpt, dev)
    async with group.mutex:
        most = dev.max_pasids
        too_large = 0 < most <= pasid
        why = f"PASIDs of the device are less than {most}; this one is {pasid}"
        await refuse_if(too_large, Errno.EINVAL, "device_has_pasid", why)
        await dev.iommu_ops.set_dev_pasid(hwpt, dev, pasid, None)


@kernel("drivers/iommu/iommu.c")
async def iommu_replace_device_pasid(hwpt: Any, group: IommuGroup, dev: Any, pasid: int, old: Any) -> None:
    """DMA with a PASID goes through another table. EINVAL by a table of another kind of IOMMU."""
    await refuse_alien(hwpt, dev)
    async with group.mutex:
        if hwpt is not old:
            await dev.iommu_ops.set_dev_pasid(hwpt, dev, pasid, old)


@kernel("drivers/iommu/iommu.c")
async def iommu_detach_device_pasid(hwpt: Any, group: IommuGroup, dev: Any, pasid: int) -> None:
    """DMA with a PASID is blocked again."""
    async with group.mutex:
        await dev.iommu_ops.set_dev_pasid(None, dev, pasid, hwpt)


@kernel("drivers/iommu/iommu.c")
async def iommu_attach_group_handle(hwpt: Any, group: IommuGroup, dev: Any) -> None:
    """Let the hardware translate for the group. EBUSY if something else does, EINVAL by a table of another kind of IOMMU.

    Then what the driver of the IOMMU says.
    """
    async with group.mutex:
        now = await load(group.domain)
        foreign = now not in (DEFAULT, BLOCKING)
        await refuse_if(foreign, Errno.EBUSY, "group_has_no_domain", "the iommu_group is attached to something else")
        await refuse_alien(hwpt, dev)
        await __iommu_group_set_domain(hwpt, group, dev)


async def refuse_alien(hwpt: Any, dev: Any) -> None:
    """A table works only with the kind of IOMMU that made it (`domain_iommu_ops_compatible`)."""
    alien = hwpt.translation.owner is not dev.iommu_ops
    await refuse_if(alien, Errno.EINVAL, "table_of_this_iommu", "the table was made by another kind of IOMMU")


@kernel("drivers/iommu/iommu.c")
async def iommu_detach_group_handle(group: IommuGroup, dev: Any) -> None:
    """The group goes back to its core domain: blocked while user space owns it, otherwise the default one."""
    async with group.mutex:
        await dev.iommu_ops.attach_dev(None, dev, table_of(await load(group.domain)))
        await __iommu_group_set_core_domain(group)


@kernel("drivers/iommu/iommu.c")
async def iommu_replace_group_handle(hwpt: Any, group: IommuGroup, dev: Any) -> None:
    """Let the hardware translate for the group in another way, without a gap."""
    if hwpt.translation.owner is not dev.iommu_ops:  # which the kernel does not ask here
        raise Unsupported("another IOMMU's table in place of one, whose driver takes the device for one of its own,")
    async with group.mutex:
        await __iommu_group_set_domain(hwpt, group, dev)
