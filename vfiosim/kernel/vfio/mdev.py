"""Mediated devices are made and taken away (drivers/vfio/mdev/mdev_core.c, drivers/vfio/mdev/mdev_sysfs.c, v7.2)."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from ...engine import *
from ...uapi import Errno
from ..base import MTTY, NEW_GROUP, ON_ITS_BUS, Device, DeviceSpec, put_device
from ..bus import Buses, device_add, device_del
from ..dd import device_driver_attach
from ..fs.kernfs import Attribute, device_is_to_go, kernfs_unbreak, written
from .mtty import available_instances

MDEV_TYPES: Final = ("mtty-1", "mtty-2")
NAMES: Final = ("Single port serial", "Dual port serial")
UUID_STRING_LEN: Final = 36
_UUID: Final = re.compile("-".join(f"[0-9a-fA-F]{{{digits}}}" for digits in (8, 4, 4, 4, 12)))


@kernel("drivers/vfio/mdev/mdev_sysfs.c")
async def create_store(buses: Buses, kind: str, text: str, count: int) -> int:
    """Write a UUID into `create` of a type: a mediated device of that type appears, and its driver has it.

    EINVAL unless it has 36 characters, or one more, which may be anything; EEXIST; or what the driver says.
    """
    long_enough = UUID_STRING_LEN <= count <= UUID_STRING_LEN + 1
    good = long_enough and _UUID.match(text) is not None
    await refuse_if(
        not good, Errno.EINVAL, "uuid_is_good", "this is no UUID, such as 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
    )
    await mdev_device_create(buses, kind, text[:UUID_STRING_LEN].lower())
    return count


@kernel("drivers/vfio/mdev/mdev_core.c")
async def mdev_device_remove_common(device: Device) -> None:
    """It leaves its bus, and with its memory its UUID is free again (`mdev_device_release`)."""
    await device_del(device)
    async with device.buses.mdev_list_lock:
        await xa_store(device.buses.mdev_list, device.address, None)
    await put_device(device, device, ON_ITS_BUS)


def type_file(buses: Buses, kind: str, name: str, path: str) -> Attribute | None:
    """A file of a type of mediated devices."""
    if kind not in MDEV_TYPES:
        return None
    if name == "devices":
        return Attribute(path, 0o755, folder=True)
    if name == "create":
        return Attribute(path, 0o200, partial(create_store, buses, kind))
    if name == "available_instances":
        return Attribute(path, 0o444, show=partial(available_instances, buses, kind))
    told = {"name": NAMES[MDEV_TYPES.index(kind)], "device_api": "vfio-pci"}.get(name)
    return None if told is None else Attribute(path, 0o444, show=partial(written, told))


@kernel("drivers/vfio/mdev/mdev_core.c")
async def mdev_device_create(buses: Buses, kind: str, uuid: str) -> None:
    """A new device, in an iommu_group of its own that stands for no hardware; if its driver fails it is gone again."""
    loaded = await xa_load(buses.drivers, MTTY)
    driver = await require(loaded, Errno.ENODEV, "parent_driver", "mtty is not loaded")
    async with buses.mdev_list_lock:
        known = await xa_load(buses.mdev_list, uuid)
        await refuse_if(known is not None, Errno.EEXIST, "uuid_is_new", "there is a mediated device with this UUID")
        device = await device_add(buses, DeviceSpec(uuid, uuid, NEW_GROUP, bus="mdev", driver=MTTY, model=kind))
        await xa_store(buses.mdev_list, uuid, device)
    async with on_failure(mdev_device_remove_common, device):
        await device_driver_attach(driver, device)
    await store(device.active, True)


@kernel("drivers/vfio/mdev/mdev_sysfs.c")
async def mdev_remove_store(device: Device, text: str, count: int) -> int:
    """Write a number into `remove` of a mediated device: it goes, as soon as its driver can let go of it; 0 does nothing.

    The file itself goes first, so that this happens once. EAGAIN, and the file is gone, while the device is being made.
    """
    if await device_is_to_go(device, text):
        async with cleanup(kernfs_unbreak, device):
            await mdev_device_remove(device)
    return count


@kernel("drivers/vfio/mdev/mdev_core.c")
async def mdev_device_remove(device: Device) -> None:
    """A mediated device goes. EAGAIN while it is being made."""
    async with device.buses.mdev_list_lock:
        active = await load(device.active)
        await refuse_if(not active, Errno.EAGAIN, "mdev_is_made", "the device is not ready yet")
        await store(device.active, False)
    await mdev_device_remove_common(device)
