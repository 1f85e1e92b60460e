"""Mediated devices are made and taken away (drivers/vfio/mdev/mdev_core.c, drivers/vfio/mdev/mdev_sysfs.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ...engine import kernel, peek, refuse_if, require
from ...uapi import Errno, KernelError
from ..base import MTTY, NEW_GROUP, Device, DeviceSpec
from ..bus import Buses, device_add, device_del
from ..dd import device_driver_attach

MDEV_TYPES: Final = ("mtty-1", "mtty-2")
_UUID_LENGTH: Final = 36


@kernel("drivers/vfio/mdev/mdev_sysfs.c")
async def create_store(buses: Buses, kind: str, text: str, count: int) -> int:
    """Write a UUID into `create` of a type: a mediated device of that type appears, and its driver has it. EINVAL, EEXIST."""
    await refuse_if(
        not _UUID_LENGTH <= count <= _UUID_LENGTH + 1 or not is_uuid(text),
        Errno.EINVAL,
        "uuid_is_good",
        "this is no UUID",
    )
    await mdev_device_create(buses, kind, text.lower())
    return count


@kernel("drivers/vfio/mdev/mdev_core.c")
async def mdev_device_create(buses: Buses, kind: str, uuid: str) -> None:
    """A new device, in an iommu_group of its own that stands for no hardware; if its driver fails it is gone again."""
    known = await peek(buses.devices, uuid)
    await refuse_if(known is not None, Errno.EEXIST, "uuid_is_new", "there is a mediated device with this UUID")
    spec = DeviceSpec(uuid, uuid, NEW_GROUP, bus="mdev", driver=MTTY, model=kind)
    device = await device_add(buses, spec)
    loaded = await peek(buses.drivers, MTTY)
    driver = await require(loaded, Errno.ENODEV, "parent_driver", "mtty is not loaded")
    try:
        await device_driver_attach(driver, device)
    except KernelError:
        await device_del(device)
        raise


@kernel("drivers/vfio/mdev/mdev_core.c")
async def mdev_device_remove(device: Device, count: int) -> int:
    """Write 1 into `remove` of a mediated device: it goes, as soon as its driver can let go of it."""
    await device_del(device)
    return count


def is_uuid(text: str) -> bool:
    """Thirty-two hexadecimal digits in groups of 8, 4, 4, 4 and 12."""
    parts = text.split("-")
    digits = all(c in "0123456789abcdefABCDEF" for c in "".join(parts))
    return digits and [len(part) for part in parts] == [8, 4, 4, 4, 12]
