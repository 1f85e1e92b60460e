"""Lists of /sys: devices of VFIO, groups, mediated devices and their types (drivers/base/class.c, drivers/iommu/iommu.c, v7.2)."""

from __future__ import annotations

import re
from typing import Final

from ...engine import *
from ...uapi import Errno
from ..base import Device, syspath
from ..bus import Buses
from ..config import built_with
from ..iommu import IommuGroup
from ..params import TYPE1, has_type1
from ..unsupported import Unsupported
from ..vfio.mdev import MDEV_TYPES
from .devtmpfs import DevTmpfs
from .folders import TYPE_FILES, all_devices, shown_device

_CLASS: Final = re.compile(r"/sys/class/vfio-dev/([^/]+)(/.+)?")
_GROUP: Final = re.compile(r"/sys/kernel/iommu_groups/(\d+)(/.+)?")
_NODE: Final = re.compile(r"/sys/class/vfio/([^/]+)")
_TYPES: Final = re.compile(r"/sys/class/mdev_bus/mtty/mdev_supported_types/([^/]+)(/devices)?")
FILES_OF_GROUP: Final = ("devices", "reserved_regions", "type")
_FIXED: Final = {
    "/sys/bus/pci": (
        *("devices", "drivers", "drivers_autoprobe", "drivers_probe", "rescan", "resource_alignment", "slots"),
        "uevent",
    ),
    "/sys/bus/mdev": ("devices", "drivers", "drivers_autoprobe", "drivers_probe", "uevent"),
    "/sys/bus/mdev/drivers": ("mtty",),
    "/sys/class/mdev_bus": ("mtty",),
    "/sys/class/mdev_bus/mtty/mdev_supported_types": MDEV_TYPES,
    "/sys/module/vfio_pci/parameters": ("disable_denylist", "disable_idle_d3", "enable_sriov", "nointxmask"),
    "/sys/module/iommufd/parameters": ("allow_unsafe_interrupts",),
}


async def real_path(buses: Buses, path: str) -> str:
    """Where a file is that a class or the list of all groups leads to: in the folder of a device. Other paths as they are."""
    if found := _CLASS.fullmatch(path):
        device = await device_named(buses, found[1])
        if device is not None:
            return f"/sys/bus/{device.bus}/devices/{device.address}/vfio-dev/{found[1]}{found[2] or ''}"
    elif found := _GROUP.fullmatch(path):
        inside = await devices_of(buses, int(found[1]))
        if inside:
            return f"/sys/bus/{inside[0].bus}/devices/{inside[0].address}/iommu_group{found[2] or ''}"
    return path


async def device_named(buses: Buses, name: str) -> Device | None:
    """The device whose node has this name."""
    for device in await all_devices(buses):
        vdev = await shown_device(device)
        if vdev is not None and vdev.cdev_name == name:
            return device
    return None


async def devices_of(buses: Buses, number: int) -> list[Device]:
    """The devices of a group."""
    found: list[Device] = []
    for device in await all_devices(buses):
        group = await load(device.iommu_group)
        if group is not None and group.id == number:
            found.append(device)
    return found


async def names_of_class(buses: Buses, devtmpfs: DevTmpfs, path: str) -> tuple[str, ...] | None:
    """The names in a list of /sys; None for a path that is none. ENOENT for a group, a type or a module that there is not."""
    if path in _FIXED:
        return _FIXED[path]
    if path == "/sys/class/vfio-dev":
        shown = [await shown_device(device) for device in await all_devices(buses)]
        return tuple(sorted([vdev.cdev_name for vdev in shown if vdev is not None]))
    if path == "/sys/class/vfio" and built_with("vfio_group"):
        return await group_nodes(devtmpfs)
    if path == "/sys/kernel/iommu_groups":
        return tuple(sorted([str(number) for number in await slots_of(buses.groups.ids)]))
    if found := _GROUP.fullmatch(path):
        return await names_of_group(buses, int(found[1]), found[2])
    if await group_with_node(devtmpfs, path):
        return "dev", "subsystem", "uevent"
    gone = _CLASS.fullmatch(path) is not None
    await refuse_if(gone, Errno.ENOENT, "path_exists", "there is no VFIO device of this name now")
    return parameters_of(path) or await names_of_types(buses, path)


def parameters_of(path: str) -> tuple[str, ...] | None:
    """The parameters of a module that this kernel has."""
    if path == "/sys/module/vfio/parameters" and built_with("vfio_noiommu"):
        return ("enable_unsafe_noiommu_mode",)
    if path == f"/sys/module/{TYPE1}/parameters" and has_type1():
        return "allow_unsafe_interrupts", "disable_hugepages", "dma_entry_limit"
    return None


async def names_of_types(buses: Buses, path: str) -> tuple[str, ...] | None:
    """What mtty offers, and the mediated devices that there are. ENOENT for a type that it has not."""
    if path == "/sys/class/mdev_bus/mtty":
        return tuple(sorted((*await mdevs(buses, MDEV_TYPES), "mdev_supported_types", "subsystem", "uevent")))
    found = _TYPES.fullmatch(path)
    if found is None:
        return None
    none = found[1] not in MDEV_TYPES
    await refuse_if(none, Errno.ENOENT, "path_exists", f"there is no type {found[1]} of mediated devices")
    return await mdevs(buses, (found[1],)) if found[2] else TYPE_FILES


async def names_of_group(buses: Buses, number: int, rest: str | None) -> tuple[str, ...]:
    """The folder of a group of devices that nobody here looks at; the others are found by their devices. ENOENT."""
    group = await xa_load(buses.groups.ids, number)
    known = await require(group, Errno.ENOENT, "path_exists", f"there is no iommu_group {number}")
    if rest or isinstance(known, IommuGroup):
        raise Unsupported(f"what is in iommu_group {number}")
    return FILES_OF_GROUP


async def group_with_node(devtmpfs: DevTmpfs, path: str) -> str:
    """The name of the group that this is a path of in the class of groups; "" for another path. ENOENT if it has no node."""
    found = _NODE.fullmatch(path)
    if found is None:
        return ""
    none = found[1] not in await group_nodes(devtmpfs)
    await refuse_if(none, Errno.ENOENT, "path_exists", f"no group {found[1]} has a node now")
    return found[1]


async def group_nodes(devtmpfs: DevTmpfs) -> tuple[str, ...]:
    """The groups that have a node."""
    names = [
        node.removeprefix("/dev/vfio/") for node in await slots_of(devtmpfs.nodes) if node.startswith("/dev/vfio/")
    ]
    return tuple(sorted([name for name in names if name != "vfio" and "/" not in name]))


async def mdevs(buses: Buses, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The mediated devices of some types."""
    found = [device for device in await all_devices(buses) if device.bus == "mdev"]
    return tuple(sorted([one.address for one in found if kind_of(one) in kinds]))


def kind_of(device: Device) -> str:
    """Its type: one that says nothing has two ports."""
    return device.model if device.model in MDEV_TYPES else MDEV_TYPES[1]


async def link_of_class(buses: Buses, devtmpfs: DevTmpfs, path: str) -> str | None:
    """Where a link of a class leads; None for a path that is none. ENOENT."""
    if (found := _CLASS.fullmatch(path)) and not found[2]:
        device = await require(
            await device_named(buses, found[1]), Errno.ENOENT, "path_exists", f"there is no VFIO device {found[1]} now"
        )
        return f"{syspath(device)}/vfio-dev/{found[1]}"
    if name := await group_with_node(devtmpfs, path):
        return f"/sys/devices/virtual/vfio/{name}"
    return None
