"""Binding and unbinding by hand: the files in /sys/bus/*/drivers (drivers/base/bus.c, drivers/base/driver.c, v7.2)."""

from __future__ import annotations

from contextlib import suppress

from ..engine import (
    KObject,
    Lock,
    Phase,
    Table,
    alloc,
    get,
    kernel,
    load,
    mutex,
    peek,
    poke,
    refuse_if,
    require,
    say,
    store,
    table,
    wait_for,
)
from ..engine.engine import Engine
from ..uapi import Errno, KernelError
from .base import (
    LOADED,
    NO_GROUP,
    ON_ITS_BUS,
    BusDriver,
    Device,
    DeviceSpec,
    done_with,
    driver_match_device,
    find_driver,
    put_device,
)
from .dd import device_driver_attach, device_release_driver_internal, driver_detach, really_probe
from .iommu import IommuGroups, iommu_group_for, iommu_group_put


class Slot(KObject):
    """A PCI function that the kernel has forgotten, but that is still plugged in. Born by `remove`, dies by `rescan`."""

    kind = "slot"
    root = "hardware"

    def __init__(self, engine: Engine, spec: DeviceSpec) -> None:
        super().__init__(engine, spec.name)
        self.spec = spec


class Buses(KObject):
    """The devices and drivers of all buses.

    * there from the start; a root;
    * `devices` by address or UUID, `drivers` by name, `modules` by name with "_" for "-";
    * `unplugged`: PCI functions that are plugged in while the kernel has removed them.
    """

    kind = "buses"
    root = "the kernel"

    rescan_remove_lock: Lock = mutex()  # PCI functions come and go one at a time
    devices: Table[Device] = table()
    drivers: Table[BusDriver] = table()
    module_mutex: Lock = mutex()
    modules: Table[BusDriver] = table(guard="module_mutex")
    unplugged: Table[Slot] = table(guard="rescan_remove_lock")  # PCI addresses: what a rescan would find

    def __init__(self, engine: Engine, groups: IommuGroups) -> None:
        super().__init__(engine, "buses")
        self.groups = groups


@kernel("drivers/base/bus.c")
async def unbind_store(device: Device | None, driver: BusDriver, count: int) -> int:
    """Write an address into a driver's `unbind`: the driver lets go. ENODEV unless it drives that device."""
    bound = await load(device.driver) if device is not None else None
    await refuse_if(bound is not driver, Errno.ENODEV, "driver_has_device", "this driver does not drive such a device")
    assert device is not None
    await device_release_driver_internal(device, driver)
    return count


@kernel("drivers/base/bus.c")
async def bind_store(device: Device | None, driver: BusDriver, count: int) -> int:
    """Write an address into a driver's `bind`. ENODEV unless the driver fits, EBUSY if the device has one, or what it says."""
    fits = device is not None and await driver_match_device(driver, device)
    await refuse_if(
        not fits, Errno.ENODEV, "driver_fits", "there is no such device on this bus, or the driver is not for it"
    )
    assert device is not None
    await device_driver_attach(driver, device)
    return count


@kernel("drivers/base/bus.c")
async def drivers_probe_store(buses: Buses, device: Device | None, count: int) -> int:
    """Write an address into `drivers_probe`: the first driver that fits may take the device. EINVAL without such a device."""
    found = await require(device, Errno.EINVAL, "device_on_bus", "there is no such device on this bus")
    await device_attach(buses, found)
    return count


@kernel("drivers/base/dd.c")
async def device_attach(buses: Buses, device: Device) -> None:
    """Offer a device without a driver to the driver it names, or to the one that knows it; a failure leaves it without."""
    async with device.lock:
        if await load(device.driver) is not None:
            return
        for name in (await load(device.driver_override), device.spec.driver):
            driver = await find_driver(buses.drivers, name or "")
            if driver is None:
                continue
            fits = await driver_match_device(driver, device)
            if fits:
                with suppress(KernelError):  # noted in the kernel's log, and that is all
                    await really_probe(device, driver)
            await done_with(driver)
            if fits:
                return


@kernel("drivers/base/bus.c")
async def bus_remove_driver(buses: Buses, driver: BusDriver) -> None:
    """A driver goes: nobody can find it any more, who has found it is waited for, then it lets go of its devices."""
    await poke(buses.drivers, driver.label, None)
    await done_with(driver, driver, LOADED)
    say(Phase.BLOCK, "{} waits until nobody works with its files or goes along its bus.", driver)
    await wait_for(driver.p.unused)
    await driver_detach(driver)


@kernel("drivers/base/driver.c")
async def driver_set_override(device: Device, text: str, count: int) -> int:
    """Write a name into `driver_override`: only that driver may take the device; an empty line lifts it."""
    async with device.lock:
        await store(device.driver_override, text or None)
    return count


@kernel("drivers/base/core.c")
async def device_add(
    buses: Buses, spec: DeviceSpec, override: str | None = None, group_id: int | None = None
) -> Device:
    """A device appears on its bus, in the iommu_group of its neighbours or in a new one; no driver has it yet."""
    group = None
    if spec.group != NO_GROUP:
        group = await iommu_group_for(buses.groups, spec.group, spec.bus == "mdev", group_id, spec.noiommu)
    device = await alloc(Device, spec, group, buses.devices)
    if group is not None:
        await get(group.kobj, device, "in this group")
    await store(device.driver_override, override)
    await get(device.kobj, device, ON_ITS_BUS)
    await poke(buses.devices, device.address, device)
    return device


@kernel("drivers/base/core.c")
async def device_del(device: Device) -> bool:
    """A device goes away: first its driver lets go, then nobody can find it, then its iommu_group loses it.

    False if somebody else has taken it away meanwhile.
    """
    await device_release_driver_internal(device, None)
    if await peek(device.bus_devices, device.address) is not device:
        return False
    await poke(device.bus_devices, device.address, None)
    if device.iommu_group is not None:
        await iommu_group_put(device.iommu_group, device, "in this group")
    await put_device(device, device, ON_ITS_BUS)
    return True
