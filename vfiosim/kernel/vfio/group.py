"""The legacy group node, and how it and the device nodes exclude each other (drivers/vfio/group.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import Phase, copy_from_user, copy_to_user, kernel, load, load_count, refuse_if, require, say, store
from ...uapi import Errno, request_names
from ..fs.file import File, FileOperations, private
from ..iommu import iommu_group_dma_owner_claimed
from ..kvm.kvm import Kvm
from ..unsupported import Unsupported
from .vfio import VfioDevice, VfioGroup


@kernel("drivers/vfio/group.c")
async def vfio_device_block_group(device: VfioDevice) -> None:
    """A device of the group is going to be bound through its own node: the group must not be open, and stays closed."""
    group = device.group
    say(Phase.LOCK, "The lock of {}: looking and counting must be one step for whoever opens the group.", group)
    async with group.group_lock:
        opened = await load(group.opened_file)
        await refuse_if(
            opened is not None,
            Errno.EBUSY,
            "group_is_open",
            "the legacy group is open; group and device node exclude each other",
        )
        say(Phase.BLOCK, "{} is blocked: as long as the count is not zero nobody can open it.", group)
        await store(group.cdev_device_open_cnt, await load(group.cdev_device_open_cnt) + 1)


@kernel("drivers/vfio/group.c")
async def vfio_device_unblock_group(device: VfioDevice) -> None:
    """The binding is over: one reason less to keep the group closed."""
    group = device.group
    say(Phase.UNWIND, "One binding less keeps {} closed.", group)
    async with group.group_lock:
        await store(group.cdev_device_open_cnt, await load(group.cdev_device_open_cnt) - 1)


@kernel("drivers/vfio/group.c")
async def vfio_group_fops_open(file: File) -> None:
    """Open /dev/vfio/N. ENODEV without a device, EBUSY while a device of it is bound through its node, or if it is open."""
    group = file.cdev.inside if file.cdev is not None else None
    assert isinstance(group, VfioGroup)
    say(Phase.LOCK, "The lock of {}: looking and opening must be one step for whoever binds a device.", group)
    async with group.group_lock:
        drivers = await load_count(group.drivers)
        await refuse_if(
            drivers == 0, Errno.ENODEV, "group_has_devices", "no VFIO driver drives a device of this group any more"
        )
        bound = await load(group.cdev_device_open_cnt)
        await refuse_if(
            bound != 0, Errno.EBUSY, "no_device_bound", "a device of the group is bound through its own node"
        )
        opened = await load(group.opened_file)
        await refuse_if(
            opened is not None, Errno.EBUSY, "group_not_open", "the group is open already, and only one may have it"
        )
        say(Phase.BLOCK, "{} is open: no device of it can be bound through its own node now.", group)
        await store(group.opened_file, file)
        await store(file.private_data, group)


@kernel("drivers/vfio/group.c")
async def vfio_group_fops_release(file: File) -> None:
    """The group file is gone: devices of the group can be bound through their own nodes again."""
    group: VfioGroup = await private(file)
    await store(file.private_data, None)
    say(Phase.UNWIND, "{} is closed again.", group)
    async with group.group_lock:
        await store(group.opened_file, None)


@kernel("drivers/vfio/group.c")
async def vfio_group_ioctl_get_status(group: VfioGroup, argument: int) -> int:
    """VFIO_GROUP_GET_STATUS: could somebody own the group's DMA now? EFAULT, EINVAL for argsz below 8, ENODEV."""
    size = 8
    status = uapi.VfioGroupStatus.from_buffer_copy(await copy_from_user(argument, size))
    await refuse_if(status.argsz < size, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {size}")
    async with group.group_lock:
        iommu_group = await load(group.iommu_group)
        found = await require(
            iommu_group, Errno.ENODEV, "group_has_devices", "no VFIO driver drives a device of this group"
        )
        claimed = await iommu_group_dma_owner_claimed(found)
    status.flags = 0 if claimed else uapi.VFIO_GROUP_FLAGS_VIABLE
    await copy_to_user(argument, bytes(status))
    return 0


@kernel("drivers/vfio/group.c")
async def vfio_group_fops_unl_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a group file; ENOTTY for others."""
    group: VfioGroup = await private(file)
    if cmd == uapi.VFIO_GROUP_GET_STATUS:
        return await vfio_group_ioctl_get_status(group, argument)
    if cmd in NOT_MODELLED:
        raise Unsupported(request_names(cmd)[0])
    await refuse_if(True, Errno.ENOTTY, "group_knows_request", "a group file has no such request")
    return 0


NOT_MODELLED = {uapi.VFIO_GROUP_GET_DEVICE_FD, uapi.VFIO_GROUP_SET_CONTAINER, uapi.VFIO_GROUP_UNSET_CONTAINER}


@kernel("drivers/vfio/group.c")
async def vfio_group_set_kvm(group: VfioGroup, kvm: Kvm | None) -> None:
    """Note which VM the group belongs to."""
    async with group.kvm_ref_lock:
        await store(group.kvm, kvm)


vfio_group_fops = FileOperations(
    "vfio group", open=vfio_group_fops_open, release=vfio_group_fops_release, unlocked_ioctl=vfio_group_fops_unl_ioctl
)
