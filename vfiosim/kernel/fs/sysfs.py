"""The files of /sys that bind drivers, remove devices and tell about them (fs/kernfs/, fs/sysfs/, v7.2)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from ...engine import current, get, get_unless_zero, kernel, load, peek, refuse_if, require, slots_of
from ...uapi import Errno, KernelError
from ..base import BusDriver, Device, done_with, put_device, syspath
from ..bus import Buses, bind_store, driver_set_override, drivers_probe_store, unbind_store
from ..iov import sriov_numvfs_store
from ..pci import remove_store, rescan_store
from ..unsupported import Unsupported
from ..vfio.mdev import MDEV_TYPES, create_store, mdev_device_remove
from ..vfio.vfio import VfioDevice
from .devtmpfs import DevTmpfs
from .file import get_unused_fd_flags, put_unused_fd

_DRIVER: Final = re.compile(r"/sys/bus/(pci|mdev)/drivers/([^/]+)/(bind|unbind)")
_PROBE: Final = re.compile(r"/sys/bus/(pci|mdev)/drivers_probe")
_DEVICE: Final = re.compile(r"/sys/bus/(pci|mdev)/devices/([^/]+)(?:/(.+))?")
_CREATE: Final = re.compile(r"/sys/(?:class/mdev_bus|devices/virtual/mtty)/mtty/mdev_supported_types/([^/]+)/create")
_PCI_ATTRIBUTES: Final = [
    "ari_enabled",
    "broken_parity_status",
    "class",
    "config",
    "consistent_dma_mask_bits",
    "device",
    "dma_mask_bits",
    "driver_override",
    "enable",
    "firmware_node",
    "iommu",
    "iommu_group",
    "irq",
    "link",
    "local_cpulist",
    "local_cpus",
    "modalias",
    "msi_bus",
    "power_state",
    "remove",
    "rescan",
    "resource",
    "revision",
    "subsystem",
    "subsystem_device",
    "subsystem_vendor",
    "uevent",
    "vendor",
]
S_IFDIR, S_IFCHR, S_IFREG = 0o040000, 0o020000, 0o100000


@kernel("fs/read_write.c")
async def write_sysfs_file(buses: Buses, path: str, data: bytes) -> int:
    """Open a file of /sys, write into it, close it: EMFILE, ENOENT, EACCES, then what the file says."""
    number = await get_unused_fd_flags()
    try:
        store_function = await sysfs_file(buses, path)
        result = await store_function(data.decode("latin1").strip(), len(data))
    except KernelError:
        await put_unused_fd(number)
        raise
    await put_unused_fd(number)
    return result


async def sysfs_file(buses: Buses, path: str) -> Callable[[str, int], Awaitable[int]]:
    """What writing into a path does."""
    found: Any
    if found := _DRIVER.fullmatch(path):
        driver = await peek(buses.drivers, found[2])
        on_bus = driver if driver is not None and driver.bus == found[1] else None
        known = await require(on_bus, Errno.ENOENT, "path_exists", "there is no such driver")
        return partial(driver_file, buses, known, found[3])
    if _PROBE.fullmatch(path):
        return lambda text, count: of_device(buses, text, lambda device: drivers_probe_store(buses, device, count))
    if path == "/sys/bus/pci/rescan":
        return lambda text, count: rescan_store(buses, count)
    if found := _CREATE.fullmatch(path):
        await refuse_if(found[1] not in MDEV_TYPES, Errno.ENOENT, "path_exists", "mtty has no such type of device")
        return lambda text, count: create_store(buses, found[1], text, count)
    if found := _DEVICE.fullmatch(path):
        return await device_file(buses, found[2], found[3] or "", path)
    raise Unsupported(f"writing {path}")


WRITING = "being written to"


async def device_at(buses: Buses, address: str) -> Device:
    """The device with this address. ENOENT."""
    device = await peek(buses.devices, address)
    return await require(device, Errno.ENOENT, "path_exists", "there is no such device")


@kernel("fs/kernfs/file.c")
async def driver_file(buses: Buses, driver: BusDriver, name: str, address: str, count: int) -> int:
    """Write an address into `bind` or `unbind` of a driver. ENODEV if it was unloaded after the file was opened."""
    there = await get_unless_zero(driver.p.in_use, current(), WRITING)
    await refuse_if(not there, Errno.ENODEV, "file_is_active", "the driver is being unloaded, and its files are gone")
    change = bind_store if name == "bind" else unbind_store
    try:
        result = await of_device(buses, address, lambda device: change(device, driver, count))
    except KernelError:
        await done_with(driver, reason=WRITING)
        raise
    await done_with(driver, reason=WRITING)
    return result


async def of_device(buses: Buses, address: str, change: Callable[[Device | None], Awaitable[int]]) -> int:
    """Look a device up by what was written."""
    device = await peek(buses.devices, address)
    return await (change(device) if device is None else held(device, change(device)))


async def held(device: Device, change: Awaitable[int]) -> int:
    """Do something with a device that may be removed meanwhile: its memory stays until this is done."""
    thread = current()
    await get(device.kobj, thread, WRITING)
    try:
        result = await change
    except KernelError:
        await put_device(device, thread, WRITING)
        raise
    await put_device(device, thread, WRITING)
    return result


async def device_file(buses: Buses, address: str, name: str, path: str) -> Callable[[str, int], Awaitable[int]]:
    """What writing into a file of a device does."""
    device = await device_at(buses, address)
    if name == "remove":
        if device.bus == "mdev":
            return lambda text, count: held(device, mdev_device_remove(device, count))
        return lambda text, count: held(device, remove_store(buses, device, count))
    if name == "sriov_numvfs":
        await refuse_if(not device.spec.vfs, Errno.ENOENT, "path_exists", "the device can have no virtual functions")
        return lambda text, count: held(device, sriov_numvfs_store(buses, device, text, count))
    if name == "driver_override" and device.bus == "pci":
        return lambda text, count: held(device, driver_set_override(device, text, count))
    if name in ("driver/unbind", "driver/bind"):
        driver = await require(await load(device.driver), Errno.ENOENT, "path_exists", "no driver has this device")
        return partial(driver_file, buses, driver, name.removeprefix("driver/"))
    raise Unsupported(f"writing {path}")


# ---- looking


@kernel("fs/readdir.c")
async def list_directory(buses: Buses, devtmpfs: DevTmpfs, path: str) -> tuple[str, ...]:
    """The names in a directory: of the device nodes, or of a PCI function."""
    path = path.rstrip("/")
    if path == "/dev/vfio" or path == "/dev/vfio/devices":
        nodes = await slots_of(devtmpfs.nodes)
        inside = {node[len(path) + 1 :].split("/")[0] for node in nodes if node.startswith(path + "/")}
        return tuple(sorted(inside))
    found = _DEVICE.fullmatch(path)
    if found is None or found[1] != "pci" or (found[3] or "vfio-dev") != "vfio-dev":
        raise Unsupported(f"listing {path}")
    device = await device_at(buses, found[2])
    vdev = await load(device.drvdata)
    if found[3]:
        shown = vdev if isinstance(vdev, VfioDevice) else None
        return ((await require(shown, Errno.ENOENT, "path_exists", "it is no VFIO device now")).cdev_name,)
    driven = await load(device.driver) is not None
    extra = ["driver"] * driven + ["vfio-dev"] * isinstance(vdev, VfioDevice)
    return tuple(sorted(_PCI_ATTRIBUTES + extra + [f"resource{bar}" for bar in device.hardware.bars]))


@kernel("fs/stat.c")
async def read_link(buses: Buses, path: str) -> str:
    """Where a link of a device leads: to its iommu_group or to its driver."""
    found = _DEVICE.fullmatch(path)
    if found is None or found[3] not in ("iommu_group", "driver", None):
        raise Unsupported(f"the link {path}")
    device = await device_at(buses, found[2])
    if found[3] is None:
        return syspath(device)
    if found[3] == "iommu_group":
        group = await require(device.iommu_group, Errno.ENOENT, "path_exists", "it is in no iommu_group")
        return f"/sys/kernel/iommu_groups/{group.id}"
    driver = await require(await load(device.driver), Errno.ENOENT, "path_exists", "no driver has this device")
    return f"/sys/bus/{device.bus}/drivers/{driver.label}"


@kernel("fs/stat.c")
async def mode_of(buses: Buses, devtmpfs: DevTmpfs, path: str) -> int:
    """What kind of file a path names, and who may do what with it (`st_mode`). ENOENT."""
    cdev = await peek(devtmpfs.nodes, path)
    if cdev is not None:
        return S_IFCHR | cdev.mode
    if path in ("/dev", "/dev/vfio", "/dev/vfio/devices"):
        return S_IFDIR | 0o755
    found = _DEVICE.fullmatch(path)
    if found is not None and not found[3]:
        await device_at(buses, found[2])
        return S_IFDIR | 0o755
    if not path.startswith("/dev/"):
        raise Unsupported(f"looking at {path}")
    await refuse_if(True, Errno.ENOENT, "path_exists", f"there is no {path}")
    return 0
