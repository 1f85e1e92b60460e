"""Devices and the drivers bound to them (drivers/base/, include/linux/device.h, v7.2)."""

from __future__ import annotations

from ..engine import Count, Field, KObject, count, field, get_unless_zero, kernel, put
from ..engine.engine import Engine
from .iommu import IommuGroup


class BusDriver(KObject):
    """A driver and its module.

    * loaded when the machine starts; a root, for nothing has to hold it;
    * its devices hold the module while they are open (`module`), so that it cannot be unloaded under them.
    """

    kind = "driver"
    root = "a loaded driver"

    module: Count = count()

    def __init__(self, engine: Engine, name: str, driver_managed_dma: bool) -> None:
        super().__init__(engine, name)
        self.driver_managed_dma = driver_managed_dma  # does binding it leave DMA ownership alone?


class Device(KObject):
    """A PCI function or a mediated device: the thing itself, whoever drives it.

    * there from the start; a root, as it is hardware (or was created by its parent driver);
    * belongs to one iommu_group for ever, or to none.
    """

    kind = "device"
    root = "hardware"

    driver: Field[BusDriver | None] = field(None)

    def __init__(
        self,
        engine: Engine,
        name: str,
        address: str,
        bus: str,
        iommu_group: IommuGroup | None,
        model: str,
        can_reset: bool,
    ) -> None:
        super().__init__(engine, name)
        self.address = address  # PCI address or UUID
        self.bus = bus  # "pci" or "mdev"
        self.iommu_group = iommu_group
        self.model = model
        self.can_reset = can_reset  # by a function-level reset
        self.cache_coherent = True  # IOMMU_CAP_CACHE_COHERENCY
        self.isolated_msi = True  # iommu_group_has_isolated_msi()


@kernel("kernel/module/main.c")
async def try_module_get(driver: BusDriver | None, holder: KObject) -> bool:
    """Hold the module of a driver; False if it is being unloaded."""
    return driver is not None and await get_unless_zero(driver.module, holder, "open")


@kernel("kernel/module/main.c")
async def module_put(driver: BusDriver | None, holder: KObject) -> None:
    """Let go of the module."""
    if driver is not None:
        await put(driver.module, holder, "open")
