"""Folders and links of a device in /sys, and files about its iommu_group (drivers/base/core.c, drivers/iommu/iommu.c, v7.2)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from ...engine import *
from ...uapi import Errno
from .. import iov, pci_sysfs
from ..base import VFIO_DRIVERS, BusDriver, Device, syspath
from ..bus import Buses
from ..config import built_with
from ..unsupported import Unsupported
from ..vfio import mdev
from ..vfio.vfio import VfioDevice
from .kernfs import Attribute, written

DMAR: Final = "dmar0"  # the only IOMMU of the recorded machine
MAJOR: Final = 251  # of the nodes of devices: the number that was free when the recorded kernel started
MSI_WINDOW: Final = "0x00000000fee00000 0x00000000feefffff msi"
DRIVER_FILES: Final = {"pci": ("bind", "new_id", "remove_id", "uevent", "unbind"), "mdev": ("bind", "uevent", "unbind")}
PCI_ATTRIBUTES: Final = [
    "ari_enabled", "broken_parity_status", "class", "config", "consistent_dma_mask_bits", "device", "dma_mask_bits",
    "driver_override", "enable", "firmware_node", "iommu", "iommu_group", "irq", "link", "local_cpulist", "local_cpus",
    "modalias", "msi_bus", "power_state", "remove", "rescan", "resource", "revision", "subsystem", "subsystem_device",
    "subsystem_vendor", "uevent", "vendor",
]  # fmt: skip
LINKS: Final = (
    "driver",
    "firmware_node",
    "iommu",
    "iommu_group",
    "physfn",
    "subsystem",
)  # of a function, if they lead anywhere
EVENT: Final = re.compile(
    r"(add|remove|change|move|online|offline|bind|unbind)"
    r"( [0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}( [0-9a-zA-Z]+=[0-9a-zA-Z]+)*)?[\n\0]?"
)
TYPE_FILES: Final = ("available_instances", "create", "device_api", "devices", "name")


def firmware_knows(device: Device) -> bool:
    """Does the firmware have a name for it? For the first function of a slot it has one."""
    return device.address.endswith(".0") and not device.spec.physfn


async def link_to(device: Device, name: str | None) -> str | None:
    """Where a link of a device leads; without a name the link to the device that its bus has. None where there is no link."""
    if name is None:
        return syspath(device)
    if name.startswith("vfio-dev/"):
        vdev = await shown_device(device)
        mine = f"vfio-dev/{vdev.cdev_name}/" if vdev is not None else "none"
        return {f"{mine}device": syspath(device), f"{mine}subsystem": "/sys/class/vfio-dev"}.get(name)
    if name.startswith(("virtfn", "physfn")):
        other = (await iov.links_between(device)).get(name)
        return other and f"{syspath(device).rpartition('/')[0]}/{other}"
    group, driver = await load(device.iommu_group), await load(device.driver_link)
    links = {
        "subsystem": f"/sys/bus/{device.bus}",
        "iommu_group": f"/sys/kernel/iommu_groups/{group.id}" if group is not None else None,
        "driver": f"/sys/bus/{device.bus}/drivers/{driver}" if driver else None,
        "mdev_type": f"/sys/devices/virtual/mtty/mtty/mdev_supported_types/{device.model}",
        "iommu": f"/sys/class/iommu/{DMAR}" if group is not None and group.place >= 0 else None,
    }
    if name == "firmware_node" and firmware_knows(device):
        raise Unsupported("what the firmware calls a function")
    return links.get(name) if (name == "mdev_type") <= (device.bus == "mdev") else None


async def folder_in(device: Device, name: str, vdev: VfioDevice | None) -> tuple[str, ...] | None:
    """The names in a folder of a device, or in one that a link of it leads to; None where there is none.

    `vdev`: the VFIO device that the device is at the moment.
    """
    if name == "link" and device.bus == "pci":
        return ()
    if name == "vfio-dev":
        return None if vdev is None else (vdev.cdev_name,)
    if vdev is not None and name == f"vfio-dev/{vdev.cdev_name}":
        return "dev", "device", "subsystem", "uevent"
    if name == "vendor" and device.bus == "mdev":
        return ("sample_mdev_dev",) if await load(device.driver_link) else None  # its driver's (`dev_groups`)
    if name.startswith("iommu_group"):
        return await group_folder(device, name)
    if await link_to(device, name) is None:
        return None
    if name == "driver":
        label = await load(device.driver_link)
        driver = await xa_load(device.buses.drivers, label)
        return None if driver is None else await driver_folder(device.buses, driver)
    if name == "mdev_type":
        return TYPE_FILES
    raise Unsupported(f"listing {name} of a device")


async def group_folder(device: Device, name: str) -> tuple[str, ...] | None:
    """The names in the folder of an iommu_group, or of its devices."""
    group = await load(device.iommu_group)
    if group is None:
        return None
    if name == "iommu_group":
        return "devices", *["name"] * (group.place < 0), "reserved_regions", "type"
    if name != "iommu_group/devices":
        return None
    return tuple([one.address for one in await all_devices(device.buses) if await load(one.iommu_group) is group])


async def all_devices(buses: Buses) -> list[Device]:
    """The devices of all buses."""
    found: list[Device] = []
    for address in await slots_of(buses.devices):
        device = await xa_load(buses.devices, address)
        found += [device] if device is not None else []
    return found


async def driver_folder(buses: Buses, driver: BusDriver) -> tuple[str, ...]:
    """The names in the folder of a driver: its devices and its files."""
    if driver.label not in VFIO_DRIVERS:
        raise Unsupported(f"all that {driver.label} drives")
    driven = [one.address for one in await all_devices(buses) if await load(one.driver_link) == driver.label]
    return tuple(sorted((*driven, *DRIVER_FILES[driver.bus])))


def node_file(vdev: VfioDevice | None, name: str, path: str) -> Attribute | None:
    """A file about the node of a VFIO device: its number, and what programs are told of it that look after nodes."""
    if vdev is None or not name.startswith(f"{vdev.cdev_name}/"):
        return None
    minor = vdev.cdev_name.removeprefix("vfio")
    told = {"dev": f"{MAJOR}:{minor}", "uevent": f"MAJOR={MAJOR}\nMINOR={minor}\nDEVNAME=vfio/devices/{vdev.cdev_name}"}
    what = name.partition("/")[2]
    if what not in told:
        return None
    return Attribute(path, 0o644 if what == "uevent" else 0o444, uevent_store, partial(written, told[what]))


async def linked_file(device: Device, vdev: VfioDevice | None, name: str, path: str) -> Attribute | None:
    """A file in the folder of its node, or of its iommu_group."""
    folder, _, inside = name.partition("/")
    return node_file(vdev, inside, path) if folder == "vfio-dev" else await group_file(device, inside, path)


async def group_file(device: Device, name: str, path: str) -> Attribute | None:
    """A file about an iommu_group: without hardware behind it, it has a name and nothing else to tell."""
    group = await load(device.iommu_group)
    if group is None:
        return None
    real = group.place >= 0
    told = {"type": "DMA" if real else "unknown", "reserved_regions": MSI_WINDOW if real else ""}
    if not real:
        told["name"] = "vfio-noiommu"
    if name not in told:
        return None
    return Attribute(path, 0o644 if name == "type" else 0o444, show=partial(written, told[name]))


PF_FILES: Final = (
    *("sriov_drivers_autoprobe", "sriov_numvfs", "sriov_offset", "sriov_stride"),
    *("sriov_totalvfs", "sriov_vf_device", "sriov_vf_total_msix"),
)


def sriov_file(device: Device, name: str, path: str) -> Attribute | None:
    """A file about virtual functions: of a physical one, or the one that a virtual one has."""
    if device.spec.physfn and name == "sriov_vf_msix_count":
        return Attribute(path, 0o200, partial(iov.sriov_vf_msix_count_store, device), node=device)
    if not device.spec.vfs or name not in PF_FILES:
        return None
    changes: dict[str, Callable[[str, int], Awaitable[int]]] = {
        "sriov_numvfs": partial(iov.sriov_numvfs_store, device),
        "sriov_drivers_autoprobe": partial(iov.sriov_drivers_autoprobe_store, device),
    }
    shows: dict[str, Callable[[], Awaitable[str]]] = {
        "sriov_numvfs": partial(iov.sriov_numvfs_show, device),
        "sriov_drivers_autoprobe": partial(iov.sriov_drivers_autoprobe_show, device),
        "sriov_vf_total_msix": partial(iov.sriov_vf_total_msix_show, device),
        "sriov_totalvfs": partial(written, str(device.spec.vfs)),
        "sriov_vf_device": partial(written, f"{device.hardware.ids[1]:x}"),
    }
    show = shows.get(name, partial(written, "1"))  # they follow each other, right behind it
    return Attribute(path, 0o644 if name in changes else 0o444, changes.get(name), show, device)


async def names_in(device: Device, vdev: VfioDevice | None) -> tuple[str, ...]:
    """The names in the folder of a device itself."""
    driver = await load(device.driver_link)
    if driver and driver not in VFIO_DRIVERS:
        raise Unsupported(f"all that {driver} has in the folder of a device")
    gone = [] if await load(device.remove_file) and not device.spec.physfn else ["remove"]
    extra = ["driver"] * bool(driver) + ["vfio-dev"] * (vdev is not None)
    if device.bus == "mdev":
        extra += ["vendor"] * bool(driver) + ["iommu_group"] * (await load(device.iommu_group) is not None)
        names = [*extra, "mdev_type", "remove", "subsystem", "uevent"]
    else:
        absent = [name for name in ("iommu", "iommu_group") if await link_to(device, name) is None]
        absent += ["rescan"] if device.spec.physfn else []
        absent += ["firmware_node"] if not firmware_knows(device) else []
        extra += await iov.links_between(device)
        extra += PF_FILES if device.spec.vfs else ["sriov_vf_msix_count"] if device.spec.physfn else []
        extra += pci_sysfs.LINK_STATE if device.hardware.express else []
        extra += ["reset", "reset_method"] if await load(device.reset_files) else []
        names = (
            [name for name in PCI_ATTRIBUTES if name not in absent]
            + extra
            + [f"resource{bar}" for bar in device.hardware.bars]
        )
    return tuple(sorted(name for name in names if name not in gone))


async def shown_device(device: Device) -> VfioDevice | None:
    """The VFIO device that a device is at the moment, as its directory shows it."""
    vdev = await load(device.drvdata)
    if not isinstance(vdev, VfioDevice):
        return None
    if not built_with("vfio_group"):
        return vdev if await xa_load(vdev.vfio.devtmpfs.nodes, vdev.path) is not None else None
    return vdev if vdev in await load(vdev.group.device_list) else None


async def mdev_uevent(device: Device) -> str:
    """What programs are told that look after mediated devices: the driver (`dev_uevent`)."""
    driver = await load(device.driver)
    return "" if driver is None else f"DRIVER={driver.label}"


async def uevent_store(text: str, count: int) -> int:
    """Tell programs once more that a device is there: one of some words, then a UUID and names with values, or nothing. EINVAL.

    Nobody listens. (`kobject_synth_uevent`.)
    """
    await refuse_if(not EVENT.fullmatch(text), Errno.EINVAL, "event_known", "this is no event")
    return count


async def mdev_file(device: Device, name: str, path: str) -> Attribute | None:
    """A file of a mediated device."""
    if name.startswith("mdev_type/"):
        return mdev.type_file(device.buses, device.spec.model, name.removeprefix("mdev_type/"), path)
    if name == "vendor/sample_mdev_dev":
        driver, shown = await load(device.driver_link), partial(written, f"This is MDEV {device.address}")
        return Attribute(path, 0o444, show=shown, node=device) if driver else None
    return Attribute(path, 0o644, uevent_store, partial(mdev_uevent, device), device) if name == "uevent" else None
