"""A driver takes a device and lets go of it (drivers/base/dd.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ..engine import *
from ..uapi import Errno, KernelError
from .base import BusDriver, Device, put_device
from .iommu import iommu_device_unuse_default_domain, iommu_device_use_default_domain


@kernel("drivers/base/dd.c")
async def really_probe(device: Device, driver: BusDriver) -> None:
    """The driver takes the device; one that uses the DMA API is counted in the iommu_group first (EBUSY)."""
    say(Phase.ACQUIRE, "{} takes {}.", driver, device)
    await store(device.driver, driver)
    try:
        if not driver.driver_managed_dma:
            await iommu_device_use_default_domain(await load(device.iommu_group))
            await store(device.uses_dma_api, True)
        await store(device.driver_link, driver.label)
        if driver.probe is not None:
            await driver.probe(device, driver)
        await xa_store(driver.p.klist_devices, device.address, device)
    except KernelError:
        say(Phase.RELEASE, "{} stays without a driver.", device)
        await store(device.driver_link, "")
        await dma_cleanup(device)
        await store(device.driver, None)
        raise


@kernel("drivers/base/dd.c")
async def __driver_probe_device(driver: BusDriver, device: Device) -> None:
    """Let this driver take the device. ENODEV if the device is on its way out, EBUSY if it has a driver, else what that says."""
    gone = await load(device.dead)
    await refuse_if(gone, Errno.ENODEV, "device_is_registered", "the device is on its way out")
    bound = await load(device.driver)
    await refuse_if(bound is not None, Errno.EBUSY, "device_is_free", "a driver has this device already")
    await really_probe(device, driver)


@kernel("drivers/pci/pci-driver.c")
async def dma_cleanup(device: Device) -> None:
    """A kernel driver no longer uses the DMA API for this device (`pci_dma_cleanup`)."""
    if await load(device.uses_dma_api):
        await store(device.uses_dma_api, False)
        await iommu_device_unuse_default_domain(await load(device.iommu_group))


@kernel("drivers/base/dd.c")
async def device_driver_attach(driver: BusDriver, device: Device) -> None:
    """Let this driver take the device. EBUSY if the device has one, else what taking it fails with."""
    async with device.lock:
        await __driver_probe_device(driver, device)


@kernel("drivers/base/dd.c")
async def device_release_driver_internal(device: Device, driver: BusDriver | None) -> None:
    """The driver lets go of the device, for as long as that takes: nobody can hurry it, and the lock is held meanwhile.

    The first thing to go is the link to it.
    """
    say(Phase.LOCK, "The lock of {}: one driver comes or goes at a time.", device)
    async with device.lock:
        bound = await load(device.driver)
        if bound is None or (driver is not None and bound is not driver):
            return
        await store(device.driver_link, "")
        if bound.remove is not None:
            await bound.remove(device, bound)
        await dma_cleanup(device)
        await store(device.driver, None)
        await xa_store(bound.p.klist_devices, device.address, None)
        say(Phase.RELEASE, "{} has let go of {}.", bound, device)


LET_GO: Final = "its driver lets go of it"


@kernel("drivers/base/dd.c")
async def driver_detach(driver: BusDriver) -> None:
    """A driver lets go of all its devices, of the last one first, for as long as each takes."""
    while addresses := await slots_of(driver.p.klist_devices):
        device = await xa_load(driver.p.klist_devices, addresses[-1])
        if device is None:
            continue  # somebody else took the driver from it in between: look again
        await get(device.kobj, current(), LET_GO)
        await device_release_driver_internal(device, driver)
        await put_device(device, current(), LET_GO)
