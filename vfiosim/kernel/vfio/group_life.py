"""How the legacy group of a device comes and goes, the other half of drivers/vfio/group.c (v7.2)."""

from __future__ import annotations

from ...engine import Phase, alloc, free, get, kernel, load, peek, poke, put, say, store
from ..fs.devtmpfs import cdev_device_add, cdev_device_del
from ..fs.file import Cdev
from ..iommu import IommuGroup, iommu_group_put
from .container import vfio_group_detach_container
from .vfio import Vfio, VfioDevice, VfioGroup, VfioGroupType

ITS_GROUP = "its group"
IN_THIS_GROUP = "in this group"
REGISTERED = "registered"


@kernel("drivers/vfio/group.c")
async def vfio_create_group(vfio: Vfio, iommu_group: IommuGroup) -> VfioGroup:
    """The first VFIO device of an iommu_group: /dev/vfio/N appears."""
    type_ = VfioGroupType.EMULATED_IOMMU if iommu_group.emulated else VfioGroupType.IOMMU
    type_ = VfioGroupType.NO_IOMMU if iommu_group.noiommu else type_
    group = await alloc(VfioGroup, iommu_group.id, type_)
    await get(group.dev, vfio, REGISTERED)
    await get(iommu_group.kobj, group, ITS_GROUP)
    await store(group.iommu_group, iommu_group)
    group.cdev = await alloc(Cdev, f"group-{iommu_group.id}", vfio.group_fops, group.dev, group, vfio_group_release)
    await get(group.dev, group.cdev, "contains the node")
    await cdev_device_add(vfio.devtmpfs, group.path, group.cdev)
    await poke(vfio.group_list, iommu_group.id, group)
    return group


@kernel("drivers/vfio/group.c")
async def vfio_group_release(group: VfioGroup) -> None:
    """Nobody needs the memory of a group any more."""
    await free(group)


@kernel("drivers/vfio/group.c")
async def vfio_device_set_group(vfio: Vfio, iommu_group: IommuGroup) -> VfioGroup:
    """The group of a device that a driver takes: the one that is there, or a new one."""
    async with vfio.group_lock:
        known = await peek(vfio.group_list, iommu_group.id)
        return known if known is not None else await vfio_create_group(vfio, iommu_group)


@kernel("drivers/vfio/group.c")
async def vfio_device_group_register(device: VfioDevice) -> None:
    """From now on an open group can be asked for this device."""
    group = device.group
    async with group.device_lock:
        await store(group.device_list, (device, *await load(group.device_list)))


@kernel("drivers/vfio/group.c")
async def vfio_device_group_unregister(device: VfioDevice) -> None:
    """The group no longer knows the device: nobody can get a new file of it there."""
    group = device.group
    say(Phase.BLOCK, "{} leaves the list of {}.", device, group)
    async with group.device_lock:
        listed = await load(group.device_list)
        await store(group.device_list, tuple(other for other in listed if other is not device))


@kernel("drivers/vfio/group.c")
async def vfio_device_remove_group(device: VfioDevice) -> None:
    """The device leaves its group; with the last one the node goes, and open files of the group are dead from then on."""
    group, vfio = device.group, device.vfio
    async with vfio.group_lock:
        if not await put(group.drivers, device, IN_THIS_GROUP):
            return
        say(Phase.UNWIND, "It was the last device of {}: the node goes.", group)
        assert group.cdev is not None
        await poke(vfio.group_list, group.number, None)
        await cdev_device_del(vfio.devtmpfs, group.path, group.cdev)
        async with group.group_lock:
            if await load(group.container) is not None:
                await vfio_group_detach_container(group)
            iommu_group = await load(group.iommu_group)
            await store(group.iommu_group, None)
    if iommu_group is not None:
        await iommu_group_put(iommu_group, group, ITS_GROUP)
    if await put(group.dev, vfio, REGISTERED):
        await vfio_group_release(group)
