"""The files of /sys that bind drivers, remove devices and tell about them (fs/sysfs/, drivers/base/, drivers/pci/, v7.2)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from ...engine import *
from ...uapi import Errno, KernelError
from .. import pci_sysfs
from ..base import BusDriver, Device, put_device
from ..bus import (
    FOUND,
    Buses,
    __device_set_driver_override,
    bind_store,
    bus_find_device_by_name,
    drivers_autoprobe_store,
    drivers_probe_store,
    unbind_store,
)
from ..params import parameter_file
from ..pci import (
    PCIEPORT,
    ROOT_BUS,
    enable_store,
    find_port,
    find_port_driver,
    new_id_store,
    remove_id_store,
    remove_store,
    rescan_store,
    with_port,
)
from ..pci_reset import reset_method_store, reset_methods_of, reset_store
from ..unsupported import Unsupported
from ..vfio import mdev
from .classes import link_of_class, names_of_class, real_path
from .devtmpfs import DevTmpfs
from .file import O_RDONLY, O_WRONLY, File, get_unused_fd_flags, put_unused_fd
from .folders import (
    LINKS,
    PCI_ATTRIBUTES,
    driver_folder,
    folder_in,
    link_to,
    linked_file,
    mdev_file,
    names_in,
    shown_device,
    sriov_file,
    uevent_store,
)
from .kernfs import (
    OPENED,
    Attribute,
    file_operations,
    kernfs_fop_open,
    kernfs_fop_read_iter,
    kernfs_fop_write_iter,
)
from .syscalls import alloc_file

T = TypeVar("T")
_DRIVER: Final = re.compile(r"/sys/bus/(pci|mdev)/drivers/([^/]+)/([^/]+)")
_FOLDER_OF_DRIVER: Final = re.compile(r"/sys/bus/(pci|mdev)/drivers/([^/]+)")
_BUS: Final = re.compile(r"/sys/bus/(pci|mdev)/([^/]+)")
_DEVICE: Final = re.compile(r"/sys/bus/(pci|mdev)/devices/([^/]+)(?:/(.+))?")
_PARAMETER: Final = re.compile(r"/sys/module/([^/]+)/parameters/([^/]+)")
_TYPE: Final = re.compile(
    r"/sys/(?:class/mdev_bus|class/mtty|devices/virtual/mtty)/mtty/mdev_supported_types/([^/]+)/([^/]+)"
)
S_IFDIR, S_IFCHR, S_IFREG = 0o040000, 0o020000, 0o100000


# ---- opening, reading, writing


@kernel("fs/kernfs/file.c")
async def sysfs_open(buses: Buses, path: str, flags: int) -> File:
    """Open a file of /sys. ENOENT, EACCES."""
    attribute, device = await sysfs_file(buses, path)
    async with on_failure(let_go, device):
        await kernfs_fop_open(attribute, flags)
        file = await alloc_file(path.rpartition("/")[2], file_operations(attribute, device), flags)
    if device is not None:
        await hand_over(device.kobj, (current(), FOUND), (file, OPENED))
    return file


async def let_go(device: Device | None) -> None:
    """The running call needs the memory of a device no longer that it has found by a path."""
    if device is not None:
        await put_device(device, current(), FOUND)


async def use_file(buses: Buses, path: str, flags: int, use: Callable[[Attribute], Awaitable[T]]) -> T:
    """Open a file of /sys, use it, close it: EMFILE, ENOENT, EACCES, then what its use says."""
    number = await get_unused_fd_flags()
    device = None
    try:
        attribute, device = await sysfs_file(buses, path)
        await kernfs_fop_open(attribute, flags)
        result = await use(attribute)
    except KernelError:
        await let_go(device)
        await put_unused_fd(number)
        raise
    await let_go(device)
    await put_unused_fd(number)
    return result


@kernel("fs/read_write.c")
async def write_sysfs_file(buses: Buses, path: str, data: bytes) -> int:
    """Open a file of /sys, write into it, close it; the answer is how many bytes were taken."""
    return await use_file(buses, path, O_WRONLY, partial(kernfs_fop_write_iter, data=data))


@kernel("fs/read_write.c")
async def read_sysfs_file(buses: Buses, path: str) -> bytes:
    """Open a file of /sys, read it, close it."""
    return await use_file(buses, path, O_RDONLY, kernfs_fop_read_iter)


# ---- which file


async def sysfs_file(buses: Buses, path: str) -> tuple[Attribute, Device | None]:
    """The file that a path names, and the device that it is of; the running call holds that. ENOENT."""
    path = await real_path(buses, path)
    if found := _DEVICE.fullmatch(path):
        device = await device_at(buses, found[1], found[2])
        async with on_failure(let_go, device):
            return await device_file(device, found[3] or "", path), device
    attribute = None
    if found := _DRIVER.fullmatch(path):
        if found[2] == PCIEPORT:
            await find_port_driver(buses)
        driver = await xa_load(buses.drivers, found[2])
        if driver is not None and driver.bus == found[1]:
            attribute = driver_file(buses, driver, found[3], path)
    elif found := _BUS.fullmatch(path):
        attribute = bus_file(buses, found[1], found[2], path)
    elif found := _PARAMETER.fullmatch(path):
        attribute = parameter_file(buses.parameters, found[1], found[2], path)
    elif found := _TYPE.fullmatch(path):
        attribute = mdev.type_file(buses, found[1], found[2], path)
    elif not path.startswith("/sys/class/vfio-dev/"):
        raise Unsupported(f"opening {path!r}")
    return await require(attribute, Errno.ENOENT, "path_exists", f"there is no {path}"), None


async def device_at(buses: Buses, bus: str, address: str) -> Device:
    """The device with this address, held by the running call. ENOENT."""
    await find_port(buses, address)
    device = await bus_find_device_by_name(buses, bus, address)
    return await require(device, Errno.ENOENT, "path_exists", f"there is no device {address} on this bus")


def bus_file(buses: Buses, bus: str, name: str, path: str) -> Attribute | None:
    """A file of a bus."""
    if name == "drivers_probe":
        return Attribute(path, 0o200, partial(with_port, buses, partial(drivers_probe_store, buses, bus)))
    if name == "drivers_autoprobe":
        return Attribute(path, 0o644, partial(drivers_autoprobe_store, buses), partial(flag, buses))
    if name == "rescan" and bus == "pci":
        return Attribute(path, 0o200, partial(rescan_store, buses, ROOT_BUS))
    if name in ("devices", "drivers"):
        return Attribute(path, 0o755, folder=True)
    return Attribute(path, 0o200, uevent_store) if name == "uevent" else None


async def flag(buses: Buses) -> str:
    """Are devices offered to drivers as they appear?"""
    offered = await load(buses.drivers_autoprobe)
    return str(int(offered))


def driver_file(buses: Buses, driver: BusDriver, name: str, path: str) -> Attribute | None:
    """A file of a driver."""
    store = {"bind": partial(bind_store, buses, driver), "unbind": partial(unbind_store, buses, driver)}
    if driver.bus == "pci":
        store |= {"new_id": partial(new_id_store, buses, driver), "remove_id": partial(remove_id_store, driver)}
    if name in store:
        return Attribute(path, 0o200, partial(with_port, buses, store[name]), node=driver.p)
    return Attribute(path, 0o200, uevent_store, node=driver.p) if name == "uevent" else None


async def device_file(device: Device, name: str, path: str) -> Attribute:
    """A file of a device. ENOENT."""
    attribute: Attribute | None = None
    vdev = await shown_device(device) if name.startswith("vfio-dev") else None  # no other name depends on it
    if not name or await folder_in(device, name, vdev) is not None:
        return Attribute(path, 0o755, folder=True)
    if name.startswith(("vfio-dev/", "iommu_group/")):
        attribute = await linked_file(device, vdev, name, path)
    elif name.startswith("driver/"):
        label = await load(device.driver_link)
        driver = await xa_load(device.buses.drivers, label)
        if driver is not None:
            attribute = driver_file(device.buses, driver, name.removeprefix("driver/"), path)
    elif name == "remove" and await load(device.remove_file):
        attribute = remove_file(device, path)
    elif name in ("reset", "reset_method") and await load(device.reset_files):
        attribute = reset_file(device, name, path)
    elif device.bus == "pci" and name == "config":
        attribute = await pci_sysfs.config_file(device, path)
    elif device.bus == "pci" and name != "remove":
        attribute = pci_file(device, name, path)
    elif device.bus == "mdev":
        attribute = await mdev_file(device, name, path)
    return await require(attribute, Errno.ENOENT, "path_exists", f"there is no file {name} of this device now")


def remove_file(device: Device, path: str) -> Attribute | None:
    """The file that takes a device away, and first itself; a virtual function has none, for it goes with the others."""
    if device.bus == "mdev":
        return Attribute(path, 0o200, partial(mdev.mdev_remove_store, device), node=device, there=device.remove_file)
    if device.spec.physfn:
        return None
    return Attribute(path, 0o220, partial(remove_store, device), node=device, there=device.remove_file)


def reset_file(device: Device, name: str, path: str) -> Attribute:
    """A file about the reset of a PCI function."""
    if name == "reset":
        return Attribute(path, 0o200, partial(reset_store, device), node=device)
    return Attribute(path, 0o644, partial(reset_method_store, device), partial(reset_methods_of, device), device)


def pci_file(device: Device, name: str, path: str) -> Attribute | None:
    """A file of a PCI function."""
    if name == "rescan" and device.spec.physfn:
        return None
    if name == "rescan":
        return Attribute(path, 0o200, partial(rescan_store, device.buses, device.address[:7]), node=device)
    if name == "driver_override":
        return Attribute(
            path, 0o644, partial(__device_set_driver_override, device), partial(pci_sysfs.override_of, device), device
        )
    if name == "enable":
        return Attribute(path, 0o644, partial(enable_store, device), partial(pci_sysfs.enabled, device), device)
    if name.startswith("sriov_"):
        return sriov_file(device, name, path)
    told = pci_sysfs.shown(device, name)
    changes: dict[str, Callable[[str, int], Awaitable[int]]] = {
        "uevent": uevent_store,
        "msi_bus": pci_sysfs.msi_bus_store,
        "broken_parity_status": partial(pci_sysfs.broken_parity_status_store, device),
    }
    if name in changes:
        return Attribute(path, 0o644, changes[name], told, device)
    if name in pci_sysfs.LINK_STATE and device.hardware.express:
        return Attribute(path, 0o444, None, told, device)
    if name in LINKS:
        return None
    if name in PCI_ATTRIBUTES:
        return Attribute(path, 0o444, None, told, device)
    return pci_sysfs.resource_file(device, name, path)


# ---- looking


@kernel("fs/readdir.c")
async def list_directory(buses: Buses, devtmpfs: DevTmpfs, path: str) -> tuple[str, ...]:
    """The names in a directory: of the device nodes, or of a PCI function. EMFILE, for a directory is opened, too; ENOENT."""
    async with cleanup(put_unused_fd, await get_unused_fd_flags()):
        path = await real_path(buses, path.rstrip("/"))
        if path == "/dev/vfio" or path == "/dev/vfio/devices":
            nodes = await slots_of(devtmpfs.nodes)
            inside = {node[len(path) + 1 :].split("/")[0] for node in nodes if node.startswith(path + "/")}
            await refuse_if(not inside, Errno.ENOENT, "path_exists", f"there is no {path}: no node is in it")
            return tuple(sorted(inside))
        if driver_found := _FOLDER_OF_DRIVER.fullmatch(path):
            driver = await xa_load(buses.drivers, driver_found[2])
            if driver is not None and driver.bus == driver_found[1]:
                return await driver_folder(buses, driver)
        if path == "/sys/bus/mdev/devices":
            return tuple(sorted(address for address in await slots_of(buses.devices) if ":" not in address))
        found = _DEVICE.fullmatch(path)
        if found is None:
            names = await names_of_class(buses, devtmpfs, path)
            if names is not None:
                return names
            raise Unsupported(f"listing {path}")
        device = await device_at(buses, found[1], found[2])
        async with cleanup(let_go, device):
            return await device_folder(device, found[3] or "", path)


async def device_folder(device: Device, name: str, path: str) -> tuple[str, ...]:
    """The names in the folder of a device, or in one of its folders. ENOENT, ENOTDIR."""
    vdev = await shown_device(device)
    if name:
        inside = await folder_in(device, name, vdev)
        if inside is None:
            await device_file(device, name, path)
        return tuple(sorted(await require(inside, Errno.ENOTDIR, "path_is_folder", f"{name} is no folder")))
    return await names_in(device, vdev)


@kernel("fs/stat.c")
async def mode_of(buses: Buses, devtmpfs: DevTmpfs, path: str) -> int:
    """What kind of file a path names, and who may do what with it (`st_mode`). ENOENT."""
    cdev = await xa_load(devtmpfs.nodes, path)
    if cdev is not None:
        return S_IFCHR | cdev.mode
    if path == "/dev" or any(node.startswith(path + "/") for node in await slots_of(devtmpfs.nodes)):
        return S_IFDIR | 0o755
    path = await real_path(buses, path)
    found = _DEVICE.fullmatch(path)
    if found is not None and not found[3]:
        await let_go(await device_at(buses, found[1], found[2]))
        return S_IFDIR | 0o755
    if folder := _FOLDER_OF_DRIVER.fullmatch(path):
        driver = await xa_load(buses.drivers, folder[2])
        none = driver is None or driver.bus != folder[1]
        await refuse_if(none, Errno.ENOENT, "path_exists", f"there is no driver {folder[2]} on this bus")
        return S_IFDIR | 0o755
    if found is None and await names_of_class(buses, devtmpfs, path.rstrip("/")) is not None:
        return S_IFDIR | 0o755
    if path.startswith("/sys/"):
        attribute, device = await sysfs_file(buses, path)
        await let_go(device)
        return (S_IFDIR if attribute.folder else S_IFREG) | attribute.mode
    if not path.startswith("/dev/"):
        raise Unsupported(f"looking at {path}")
    await refuse_if(True, Errno.ENOENT, "path_exists", f"there is no {path}")
    return 0


@kernel("fs/stat.c")
async def read_link(buses: Buses, devtmpfs: DevTmpfs, path: str) -> str:
    """Where a link of a device or a class leads. ENOENT, EINVAL for what is no link."""
    target = await link_of_class(buses, devtmpfs, path)
    if target is not None:
        return target
    found = _DEVICE.fullmatch(await real_path(buses, path))
    if found is None:
        raise Unsupported(f"the link {path}")
    device = await device_at(buses, found[1], found[2])
    async with cleanup(let_go, device):
        target = await link_to(device, found[3])
        if target is None:
            await device_file(device, found[3], path)
        return await require(target, Errno.EINVAL, "path_is_link", f"{found[3]} is no link")
