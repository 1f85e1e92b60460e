"""PCI functions that go and come back (drivers/pci/pci-sysfs.c, v7.2)."""

from __future__ import annotations

from ..engine import alloc, free, kernel, poke, slots_of
from .base import VFIO_PCI, Device
from .bus import Buses, Slot, device_add, device_attach, device_del


@kernel("drivers/pci/pci-sysfs.c")
async def remove_store(buses: Buses, device: Device, count: int) -> int:
    """Write 1 into `remove` of a PCI function: the kernel forgets it, until a rescan finds it again."""
    async with buses.rescan_remove_lock:
        if await device_del(device):
            await poke(buses.unplugged, device.address, await alloc(Slot, device.spec))
    return count


@kernel("drivers/pci/pci-sysfs.c")
async def rescan_store(buses: Buses, count: int) -> int:
    """Write 1 into `rescan`: whatever is plugged in and not known appears, and is offered to the drivers that know it."""
    async with buses.rescan_remove_lock:
        for address in await slots_of(buses.unplugged):
            slot = await poke(buses.unplugged, address, None)
            if slot is not None:
                spec = slot.spec
                device = await device_add(buses, spec)
                await free(slot)
                if spec.driver != VFIO_PCI:
                    await device_attach(buses, device)
    return count
