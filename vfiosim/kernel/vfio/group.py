"""How a group and the nodes of its devices exclude each other, and what it knows of them (drivers/vfio/group.c, v7.2).

What can be done with an open group is in `group_fops.py`, opening its devices in `group_open.py`.
"""

from __future__ import annotations

from ...engine import Phase, kernel, load, refuse_if, require, say, store, warn_on
from ...uapi import Errno
from ..kvm.kvm import Kvm
from .container import vfio_group_unuse_container, vfio_group_use_container
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
async def vfio_device_group_use_iommu(device: VfioDevice) -> None:
    """The first open of a device in a container; under the group's lock. EINVAL if the container has no driver."""
    group = device.group
    container = await load(group.container)
    await warn_on(container is None, f"{device.oid} is opened although its group is in no container")
    await require(container, Errno.EINVAL, "group_in_container", "the group is in no container")
    await vfio_group_use_container(group)


@kernel("drivers/vfio/group.c")
async def vfio_device_group_unuse_iommu(device: VfioDevice) -> None:
    """The last close of a device in a container; under the group's lock."""
    group = device.group
    if await warn_on(await load(group.container) is None, f"{device.oid} was opened in a container that is gone"):
        return
    await vfio_group_unuse_container(group)


@kernel("drivers/vfio/group.c")
async def vfio_group_set_kvm(group: VfioGroup, kvm: Kvm | None) -> None:
    """Note which VM the group belongs to."""
    async with group.kvm_ref_lock:
        await store(group.kvm, kvm)
