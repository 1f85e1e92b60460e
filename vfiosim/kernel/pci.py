"""PCI functions that go and come back, and the numbers that drivers know them by (drivers/pci/, v7.2)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from ..engine import *
from ..uapi import Errno
from .base import (
    NEW_GROUP,
    NO_GROUP,
    ON_ITS_BUS,
    PCI_ANY_ID,
    BusDriver,
    Device,
    DeviceSpec,
    pci_match_one_id,
    put_device,
)
from .bus import Buses, Slot, device_add, device_attach, device_del, driver_attach, driver_register
from .dd import device_driver_attach, device_release_driver_internal
from .fs.kernfs import device_is_to_go, kernfs_unbreak
from .kstrtox import kstrtoul, scan_hex
from .task import capable


@kernel("drivers/pci/pci-sysfs.c")
async def enable_store(device: Device, text: str, count: int) -> int:
    """Write a number into `enable`: EPERM without CAP_SYS_ADMIN, EINVAL, EBUSY if a driver has it, EIO to disable it too often."""
    allowed = await capable("CAP_SYS_ADMIN")
    await refuse_if(not allowed, Errno.EPERM, "may_enable", "only CAP_SYS_ADMIN may enable a device by hand")
    wanted = await kstrtoul(text)
    async with device.lock:
        driven = await load(device.driver) is not None
        await refuse_if(driven, Errno.EBUSY, "device_is_free", "a driver has this device, and enables it as it likes")
        enabled = await load(device.enable_cnt)
        none = not wanted and not enabled
        await refuse_if(none, Errno.EIO, "device_enabled", "the device is not enabled")
        await store(device.enable_cnt, enabled + 1 if wanted else enabled - 1)
    return count


@kernel("drivers/pci/pci-sysfs.c")
async def rescan_store(buses: Buses, bus: str, text: str, count: int) -> int:
    """Write a number into `rescan`: what is plugged in and not known appears, and is offered to the drivers; 0 does nothing.

    `bus`: only what is on this bus, such as "0000:01", or behind it; "" for all.
    """
    if await kstrtoul(text):
        async with buses.rescan_remove_lock:
            for address in await slots_of(buses.unplugged):
                if address.startswith(bus) or bus == ROOT_BUS:
                    await pci_bus_add_device(buses, address)
    return count


@kernel("drivers/pci/pci-sysfs.c")
async def remove_store(device: Device, text: str, count: int) -> int:
    """Write a number into `remove` of a PCI function: the kernel forgets it, until a rescan finds it again; 0 does nothing.

    The file itself goes first, so that this happens once.
    """
    if await device_is_to_go(device, text):
        async with device.buses.rescan_remove_lock:
            await pci_stop_and_remove_bus_device(device)
        await kernfs_unbreak(device)
    return count


@kernel("drivers/pci/remove.c")
async def pci_stop_dev(device: Device) -> None:
    """The driver of a function lets go of it."""
    say(Phase.BLOCK, "{} is removed: its driver has to release it.", device)
    await device_release_driver_internal(device, None)


@kernel("drivers/pci/remove.c")
async def pci_destroy_dev(device: Device, with_port: bool = False) -> None:
    """A function leaves its bus; what is plugged in a rescan will find again."""
    await device_del(device)
    if not device.spec.physfn and device.spec.model != ROOT_PORT:
        await xa_store(device.buses.unplugged, device.address, await alloc(Slot, device.spec, with_port))
    await put_device(device, device, ON_ITS_BUS)


@kernel("drivers/pci/remove.c")
async def pci_stop_and_remove_bus_device(device: Device) -> None:
    """A PCI function goes: its driver lets go of it while it can still be found, then it leaves its bus.

    A root port takes all that is behind it along: all drivers let go, the last one first, then all leave.
    """
    for child in reversed(await behind(device)):
        await pci_stop_dev(child)
    await pci_stop_dev(device)
    for child in await behind(device):
        await pci_destroy_dev(child, with_port=True)
    await pci_destroy_dev(device)


async def pci_bus_add_device(buses: Buses, address: str) -> None:
    """A function that is plugged in appears."""
    slot = await xa_store(buses.unplugged, address, None)
    if slot is None:
        return
    device = await device_add(buses, await neighbours(buses, slot.spec))
    await free(slot)
    if await load(buses.drivers_autoprobe):
        await device_attach(buses, device)


async def neighbours(buses: Buses, spec: DeviceSpec) -> DeviceSpec:
    """Which iommu_group a function is in that a rescan finds (`get_pci_function_alias_group`, drivers/iommu/iommu.c).

    Functions of one slot are in one group. Whether there are others the kernel asks the header of the new one before it has
    counted them itself, and the header of a function that is not number 0 may say no.
    """
    first = await xa_load(buses.devices, f"{spec.address[:-1]}0")
    header = first.hardware.header_bit if first is not None else True
    stays = header or spec.address.endswith("0") or spec.group == NO_GROUP or spec.noiommu
    return spec if stays else replace(spec, group=NEW_GROUP)


# ---- root ports: they and their driver are made when somebody first asks for one

ROOT_BUS: Final = "0000:00"  # all others are behind it
ROOT_PORT: Final = "root port"
PCIEPORT: Final = "pcieport"
VIRTIO: Final = (0x1000, 0x107F)  # the first and the last device number of virtio
ID_TABLES: Final = {
    "virtio-pci": ((0x1AF4, PCI_ANY_ID, PCI_ANY_ID, PCI_ANY_ID, 0, 0),),
    PCIEPORT: tuple((*[PCI_ANY_ID] * 4, kind, PCI_ANY_ID) for kind in (0x060400, 0x060401, 0x080700)),
}  # what a driver of the kernel knows by itself


def bus_of(port: str) -> str:
    """The bus behind the root port with this address; "" if it is none."""
    found = re.fullmatch(r"0000:00:1c\.([0-7])", port)
    return f"0000:{int(found[1]) + 1:02x}" if found else ""


async def behind(device: Device) -> list[Device]:
    """The functions behind a root port, upwards; none behind other functions."""
    bus = bus_of(device.address)
    addresses = sorted(each for each in await slots_of(device.bus_devices) if bus and each.startswith(bus))
    found: list[Device] = []
    for address in addresses:
        child = await xa_load(device.bus_devices, address)
        if child is not None:
            found.append(child)
    return found


async def find_port(buses: Buses, address: str) -> None:
    """Let the root port at this address be found, if there is one: it is there unless it was removed."""
    bus = bus_of(address)
    if not bus or await xa_load(buses.devices, address) is not None:
        return
    there = any(each.startswith(bus) for each in await slots_of(buses.devices))
    for place in await slots_of(buses.unplugged):
        slot = await xa_load(buses.unplugged, place)
        there = there or (place.startswith(bus) and slot is not None and not slot.with_port)
    if there:
        port = await device_add(
            buses, DeviceSpec(f"port {address}", address, NO_GROUP, driver=PCIEPORT, model=ROOT_PORT)
        )
        await device_driver_attach(await find_port_driver(buses), port)


async def find_port_driver(buses: Buses) -> BusDriver:
    """The driver of root ports."""
    driver = await xa_load(buses.drivers, PCIEPORT)
    return driver or await driver_register(buses, PCIEPORT, "pci", True, pcie_portdrv_probe, None)


async def with_port(buses: Buses, write: Callable[[str, int], Awaitable[int]], text: str, count: int) -> int:
    """Write into a file of /sys whose text may name a root port."""
    await find_port(buses, text.removesuffix("\n"))
    return await write(text, count)


@kernel("drivers/pci/pcie/portdrv.c")
async def pcie_portdrv_probe(device: Device, driver: BusDriver) -> None:
    """The driver of root ports takes nothing else: ENODEV."""
    await refuse_if(device.model != ROOT_PORT, Errno.ENODEV, "device_is_port", f"{device.label} is no root port")


@kernel("drivers/virtio/virtio_pci_common.c")
async def virtio_pci_probe(device: Device, driver: BusDriver) -> None:
    """The driver of virtio takes what has a number of virtio, whatever its driver_override says: else ENODEV."""
    strange = not VIRTIO[0] <= device.hardware.ids[1] <= VIRTIO[1] and device.spec.driver != driver.label
    await refuse_if(strange, Errno.ENODEV, "device_is_virtio", f"{device.label} is no device of virtio")


@kernel("drivers/pci/pci-driver.c")
async def new_id_store(buses: Buses, driver: BusDriver, text: str, count: int) -> int:
    """Write "vendor device [subvendor subdevice class mask data]" into `new_id`: the driver knows such devices from now on.

    EINVAL for fewer than two numbers, or for data that the driver has no use for; EEXIST if it knows them already. Then it is
    offered every device on its bus that fits.
    """
    numbers = scan_hex(text, 7)
    await refuse_if(len(numbers) < 2, Errno.EINVAL, "numbers_are_good", "vendor and device are needed, in hexadecimal")
    known = await load(driver.p.dynids)
    ids = (*numbers, *(0, 0, PCI_ANY_ID, PCI_ANY_ID, 0, 0)[len(numbers) :])[:6]
    await refuse_if(sum(numbers[6:]) != 0, Errno.EINVAL, "data_is_known", "no entry of the driver has such data")
    twice = len(numbers) < 7 and any(
        pci_match_one_id(each, ids[:5]) for each in (*known, *ID_TABLES.get(driver.label, ()))
    )
    await refuse_if(twice, Errno.EEXIST, "id_is_new", "the driver knows such devices already")
    await store(driver.p.dynids, (*known, ids))
    await driver_attach(buses, driver)
    return count


@kernel("drivers/pci/pci-driver.c")
async def remove_id_store(driver: BusDriver, text: str, count: int) -> int:
    """Write them into `remove_id`: the driver forgets them again. EINVAL for fewer than two numbers, ENODEV if it has none such."""
    numbers = scan_hex(text, 6)
    await refuse_if(len(numbers) < 2, Errno.EINVAL, "numbers_are_good", "vendor and device are needed, in hexadecimal")
    wanted = (*numbers, *(0, 0, PCI_ANY_ID, PCI_ANY_ID, 0, 0)[len(numbers) :])
    known = await load(driver.p.dynids)
    gone = next((each for each in known if each[:2] == wanted[:2] and pci_match_one_id(wanted, each[:5])), None)
    await refuse_if(gone is None, Errno.ENODEV, "id_was_added", "nobody has added such devices to the driver")
    place = known.index(gone)
    await store(driver.p.dynids, known[:place] + known[place + 1 :])
    return count
