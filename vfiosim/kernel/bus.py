"""Binding and unbinding by hand: the files in /sys/bus/*/drivers (drivers/base/bus.c, drivers/base/driver.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from ..engine import *
from ..uapi import Errno, KernelError
from .base import (
    LOADED,
    NO_GROUP,
    ON_ITS_BUS,
    BusDriver,
    Device,
    DeviceSpec,
    DriverPrivate,
    done_with,
    driver_match_device,
    find_driver,
    put_device,
)
from .dd import __driver_probe_device, device_driver_attach, device_release_driver_internal, driver_detach
from .firmware import Board
from .fs.kernfs import kernfs_drain
from .iommu import IommuGroups, iommu_group_add_device, iommu_group_for, iommu_group_remove_device
from .params import ModuleParameters
from .pci_reset import pci_init_reset_methods

FOUND: Final = "found on its bus"
Calling = Callable[[Device, BusDriver], Awaitable[None]]  # what a driver does with a device


class Slot(KObject):
    """A PCI function that the kernel has forgotten, but that is still plugged in. Born by `remove`, dies by `rescan`."""

    kind = "slot"
    root = "hardware"

    def __init__(self, engine: Engine, spec: DeviceSpec, with_port: bool) -> None:
        super().__init__(engine, spec.name)
        self.spec = spec
        self.with_port = with_port  # went with the root port that it is behind


class Buses(KObject):
    """The devices and drivers of all buses.

    * there from the start; a root;
    * `devices` by address or UUID, `drivers` by name, `modules` by name with "_" for "-";
    * `unplugged`: PCI functions that are plugged in while the kernel has removed them;
    * `mdev_list`: mediated devices, from before they can be found on their bus until their memory goes.
    """

    kind = "buses"
    root = "the kernel"

    rescan_remove_lock: Lock = mutex()  # PCI functions come and go one at a time
    k_lock: Lock = spinlock()
    devices: Table[Device] = table(guard="k_lock")
    drivers_autoprobe: Field[bool] = field(True)  # are devices offered to drivers as they appear?
    mtty_ports: Field[int] = field(24)  # that mtty has left for new devices (`mdev_avail_ports`)
    mdev_list_lock: Lock = mutex()
    mdev_list: Table[Device] = table(guard="mdev_list_lock")
    drivers: Table[BusDriver] = table()
    module_mutex: Lock = mutex()
    modules: Table[BusDriver] = table(guard="module_mutex")
    unplugged: Table[Slot] = table(guard="rescan_remove_lock")  # PCI addresses: what a rescan would find

    def __init__(self, engine: Engine, groups: IommuGroups, parameters: ModuleParameters, board: Board) -> None:
        super().__init__(engine, "buses")
        self.board = board
        self.groups = groups
        self.parameters = parameters


@kernel("include/linux/device/bus.h")
async def bus_find_device_by_name(buses: Buses, bus: str, text: str) -> Device | None:
    """The device of this name on a bus, a newline behind it or not, but no blank; its memory is held by the running call."""
    async with buses.k_lock:
        device = await xa_load(buses.devices, text.removesuffix("\n"))
        if device is None or device.bus != bus:
            return None
        await get(device.kobj, current(), FOUND)
        return device


@kernel("drivers/base/bus.c")
async def unbind_store(buses: Buses, driver: BusDriver, text: str, count: int) -> int:
    """Write an address into a driver's `unbind`: the driver lets go. ENODEV unless it drives that device."""
    device = await bus_find_device_by_name(buses, driver.bus, text)
    bound = await load(device.driver) if device is not None else None
    if device is not None and bound is driver:
        await device_release_driver_internal(device, None)
    if device is not None:
        await put_device(device, current(), FOUND)
    await refuse_if(bound is not driver, Errno.ENODEV, "driver_has_device", "this driver does not drive such a device")
    return count


@kernel("drivers/base/bus.c")
async def bind_store(buses: Buses, driver: BusDriver, text: str, count: int) -> int:
    """Write an address into a driver's `bind`. ENODEV unless the driver fits, EBUSY if the device has one, or what it says."""
    found = await bus_find_device_by_name(buses, driver.bus, text)
    device = await require(found, Errno.ENODEV, "device_on_bus", f"there is no device {text!r} on this bus")
    async with cleanup(put_device, device, current(), FOUND):
        fits = await driver_match_device(driver, device)
        await refuse_if(not fits, Errno.ENODEV, "driver_fits", Unfit(driver, device))
        await device_driver_attach(driver, device)
    return count


@kernel("drivers/base/bus.c")
async def drivers_autoprobe_store(buses: Buses, text: str, count: int) -> int:
    """Write into `drivers_autoprobe`: what begins with 0 switches off that devices are offered to drivers as they appear."""
    await store(buses.drivers_autoprobe, not text.startswith("0"))
    return count


class Unfit:
    """Says why a driver may not take a device: words only, looked up from outside of the call."""

    def __init__(self, driver: BusDriver, device: Device) -> None:
        self._driver, self._device = driver, device

    def __call__(self, engine: Engine) -> str:
        """Another driver is named for it, or none is and this one does not know it."""
        mine, device = self._driver.label, self._device
        named = device.driver_override.value
        if device.bus == "mdev":
            return f"a mediated device has the driver of its parent from its birth or none: {mine} cannot be given {device.label}"
        if named is not None:
            return f"the driver_override of {device.label} names {named!r}, so {mine} may not have it"
        return f"{mine} does not know devices such as {device.label}, and its driver_override names no driver"


@kernel("drivers/base/bus.c")
async def drivers_probe_store(buses: Buses, bus: str, text: str, count: int) -> int:
    """Write an address into `drivers_probe`: the drivers that fit may take the device. ENODEV without such a device."""
    found = await bus_find_device_by_name(buses, bus, text)
    device = await require(found, Errno.ENODEV, "device_on_bus", f"there is no device {text!r} on this bus")
    if await load(device.driver) is None:  # looked at without the lock: nobody waits for a driver that is leaving
        await device_attach(buses, device)
    await put_device(device, current(), FOUND)
    return count


@kernel("drivers/base/bus.c")
async def bus_remove_device(device: Device) -> None:
    """Nobody can find a device on its bus any more; if a driver has it still, that lets go now, for as long as it takes."""
    async with device.buses.k_lock:
        await xa_store(device.bus_devices, device.address, None)
    await device_release_driver_internal(device, None)


@kernel("drivers/base/dd.c")
async def __device_set_driver_override(device: Device, text: str, count: int) -> int:
    """Write a name into `driver_override`: only that driver may take the device; an empty line lifts it.

    EINVAL where the name and its newline would not fit into a page. Only the first line counts, with all its blanks.
    """
    too_long = count >= PAGE_SIZE - 1
    await refuse_if(too_long, Errno.EINVAL, "name_fits_page", "a file of /sys holds a page, and the name needs more")
    await store(device.driver_override, text.partition("\n")[0] or None)
    return count


@kernel("drivers/base/dd.c")
async def device_attach(buses: Buses, device: Device) -> None:
    """Offer a device without a driver to the drivers of its bus, one after the other, until one that fits has taken it."""
    async with device.lock:
        if await load(device.dead) or await load(device.driver) is not None:
            return
        for name in await slots_of(buses.drivers):
            driver = await find_driver(buses.drivers, name)
            if driver is None:
                continue
            if await driver_match_device(driver, device):
                with suppress(KernelError):  # noted in the kernel's log, and the next one may try
                    await __driver_probe_device(driver, device)
            await done_with(driver)
            if await load(device.driver) is not None:
                return


@kernel("drivers/base/dd.c")
async def driver_attach(buses: Buses, driver: BusDriver) -> None:
    """Let a driver try all devices of its bus that fit; each is locked for that, whoever has it."""
    for address in await slots_of(buses.devices):
        device = await bus_find_device_by_name(buses, driver.bus, address)
        if device is None:
            continue
        if await driver_match_device(driver, device):
            async with device.lock:
                with suppress(KernelError):  # noted in the kernel's log, and that is all
                    await __driver_probe_device(driver, device)
        await put_device(device, current(), FOUND)


@kernel("drivers/base/driver.c")
async def driver_register(
    buses: Buses, name: str, bus: str, managed: bool, probe: Calling | None, remove: Calling | None
) -> BusDriver:
    """A driver can be found on its bus. `managed`: binding it leaves the ownership of DMA alone."""
    driver = await alloc(BusDriver, name, await alloc(DriverPrivate, name), bus, managed, probe, remove)
    await get(driver.module, driver, LOADED)
    await get(driver.p.in_use, driver, LOADED)
    await xa_store(buses.drivers, name, driver)
    return driver


@kernel("drivers/base/bus.c")
async def bus_remove_driver(buses: Buses, driver: BusDriver) -> None:
    """A driver goes: nobody can find it any more, who has found it is waited for, then it lets go of its devices."""
    await xa_store(buses.drivers, driver.label, None)
    await done_with(driver, driver, LOADED)
    say(Phase.BLOCK, "{} waits until nobody uses its files or walks over its bus.", driver)
    await wait_for(driver.p.unused)
    await driver_detach(driver)


PAGE_SIZE: Final = 4096


@kernel("drivers/base/core.c")
async def device_add(
    buses: Buses, spec: DeviceSpec, override: str | None = None, group_id: int | None = None
) -> Device:
    """A device appears on its bus, in the iommu_group of its neighbours or in a new one; no driver has it yet."""
    device = await alloc(Device, spec, buses)
    if spec.group != NO_GROUP and spec.bus == "pci" and not spec.noiommu:
        await iommu_group_add_device(await iommu_group_for(buses.groups, spec.group, group_id), device)
    await store(device.driver_override, override)
    await get(device.kobj, device, ON_ITS_BUS)
    await get(device.in_use, device, ON_ITS_BUS)
    if spec.bus == "pci":
        await pci_init_reset_methods(device)
        await store(device.reset_files, await load(device.reset_methods) != ())
        if spec.no_reset:
            await store(device.reset_methods, ())
    async with buses.k_lock:
        await xa_store(buses.devices, device.address, device)
    return device


@kernel("drivers/base/core.c")
async def device_del(device: Device) -> None:
    """A device goes: no driver can take it any more, its files go, it leaves its bus, its driver lets go, then its group."""
    async with device.lock:
        await store(device.dead, True)
    say(Phase.BLOCK, "The files of {} go, as soon as nobody is in one.", device)
    await kernfs_drain(device, ON_ITS_BUS)
    await bus_remove_device(device)
    await iommu_group_remove_device(device)


async def virtual_functions(device: Device) -> tuple[Device, ...]:
    """The virtual functions of a physical one, in the order of their addresses."""
    found: list[Device] = []
    for address in sorted(await slots_of(device.bus_devices)):
        other = await xa_load(device.bus_devices, address)
        if other is not None and other.spec.physfn == device.address:
            found.append(other)
    return tuple(found)
