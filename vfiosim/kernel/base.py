"""Devices and the drivers bound to them (drivers/base/, include/linux/device.h, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from ..engine import *
from .hardware import Hardware, hardware_of
from .iommu import IommuGroup
from .iommu_ops import intel_iommu_ops

VFIO_PCI: Final = "vfio-pci"
MTTY: Final = "mtty"
NEW_GROUP: Final = -1  # a device gets an iommu_group of its own, whatever its number
NO_GROUP: Final = -2  # no IOMMU knows the device
NO_OPS: Final = "no-dma"  # a driver for a device without DMA, which has no operations for an iommufd
EMULATED: Final = "emulated"  # a driver that emulates a device and always had them, as those of ap, ccw and gvt
VFIO_DRIVERS: Final = frozenset({VFIO_PCI, MTTY, NO_OPS, EMULATED})


@dataclass(frozen=True)
class DeviceSpec:
    """One device of a topology.

    * `name`: what people call it; `address`: PCI address or UUID; `bus`: "pci" or "mdev"; `model`: free text;
    * `driver`: "vfio-pci", "mtty", "no-dma" and "emulated" are VFIO drivers; every other one uses the DMA API of the kernel;
    * `group`: the number of its iommu_group, or NEW_GROUP, or NO_GROUP; `noiommu`: no IOMMU watches it, only its name matters;
    * `dev_set`: devices with the same word are reset together, "" for alone;
    * `can_reset`: the function can be reset on its own, whatever its model says;
    * `hardware`: what it is like where no model is; its BARs are plain memory then.
    """

    name: str
    address: str
    group: int
    bus: str = "pci"
    driver: str = "vfio-pci"
    model: str = ""
    dev_set: str = ""
    can_reset: bool = False
    noiommu: bool = False
    no_reset: bool = False  # its ways to be reset have been switched off (`reset_method`)
    vfs: int = 0  # how many virtual functions it can have
    physfn: str = ""  # for a virtual function: the address of its physical function
    hardware: Hardware | None = None


class DriverPrivate(KObject):
    """What the driver core knows of a driver (`struct driver_private`, drivers/base/base.h): its place on the bus, its files.

    * lives as long as its driver; who has found the driver by its name works with it for a while (`in_use`): a write to a
      file of it (kernfs), or a look along its bus (klist), and unloading waits for both.

    Its memory may be looked at after its death: an open file of /sys has a node of its own (`struct kernfs_node`), and is told
    there that it comes too late.
    """

    kind = "driver_private"
    root = "a loaded driver"
    stays_readable = True

    in_use: Count = count()
    unused: Completion = completion()
    klist_devices: Table[Device] = table()  # those that it drives, by address, oldest first
    dynids: Field[tuple[tuple[int, ...], ...]] = field(
        ()
    )  # what was written into `new_id`, as the fields of `pci_device_id`


class BusDriver(KObject):
    """A driver and its module.

    * loaded when the machine starts; a root, for nothing has to hold it;
    * its devices hold the module while they are open (`module`), so that it cannot be unloaded under them;
    * goes when its module is unloaded, after it has let go of all its devices.
    """

    kind = "driver"
    root = "a loaded driver"

    module: Count = count()  # zero: it is being unloaded
    going: Field[bool] = field(False, guard="module_mutex")
    code: Field[bool] = field(True)  # its functions and its tables of functions: gone with the module

    def __init__(
        self,
        engine: Engine,
        name: str,
        private: DriverPrivate,
        bus: str,
        driver_managed_dma: bool,
        probe: Callable[[Device, BusDriver], Awaitable[None]] | None = None,
        remove: Callable[[Device, BusDriver], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(engine, name)
        self.p = private
        self.bus = bus
        self.driver_managed_dma = driver_managed_dma  # does binding it leave DMA ownership alone?
        self.probe = probe  # take a device
        self.remove = remove  # let go of it


class Device(KObject):
    """A PCI function or a mediated device: the thing itself, whoever drives it.

    * there from the start, found on its bus later, or created by its parent driver; a root, for it is hardware;
    * belongs to one iommu_group for as long as it is there; without an IOMMU to one that vfio makes for it, or to none;
    * driven by one driver at a time; the lock is held while a driver takes it or lets go of it;
    * goes when it is removed from its bus, after its driver has let go and nobody is in one of its files in /sys (`in_use`).
    """

    kind = "device"
    root = "hardware"

    kobj: Count = count()  # its memory: held by its bus, by who has found it there, and by open files of it
    in_use: Count = count()
    unused: Completion = completion()
    lock: Lock = mutex()
    driver_override: Field[str | None] = field(None)  # the only driver that may take it; has a spinlock of its own
    active: Field[bool] = field(False)  # a mediated device that is ready and not on its way out
    reset_methods: Field[tuple[str, ...]] = field(())  # ways to reset it that are tried, see `pci_reset.py`
    reset_files: Field[bool] = field(False)  # was there one when it was found? Only then it has files for it
    remove_file: Field[bool] = field(True)  # is there a file `remove` in its directory? It takes itself away
    removed: Completion = completion()  # whoever wrote into it is done
    # guarded by lock
    driver: Field[BusDriver | None] = field(None, guard="lock")
    driver_link: Field[str] = field("", guard="lock")  # where the link `driver` in its directory leads
    dead: Field[bool] = field(False, guard="lock")  # on its way out: no driver can take it any more
    enable_cnt: Field[int] = field(0, guard="lock")  # how often `enable` has enabled it
    # of the hardware: what was written into configuration space where no capability is, and the registers behind its BARs
    scratch: Table[int] = table()
    registers: Table[int] = table()
    memory: Table[bytes] = table()
    drvdata: Field[KObject | None] = field(None, guard="lock", link="weak")
    iommu_group: Field[IommuGroup | None] = field(None, link="weak")  # as long as it is in one
    uses_dma_api: Field[bool] = field(False, guard="lock")  # counted in its group for a kernel driver
    broken_parity_status: Field[bool] = field(False)  # that its parity is broken, as somebody has written down
    vf_links: Field[bool] = field(True)  # of a virtual function: do it and its physical one lead to each other?
    vf_autoprobe: Field[bool] = field(True)  # of a physical one: are its virtual ones offered to drivers?
    in_reset: Field[bool] = field(False, guard="dev_set.lock")  # together with its whole slot or bus, at this moment

    def __init__(self, engine: Engine, spec: DeviceSpec, buses: Any) -> None:
        super().__init__(engine, spec.name)
        self.buses = buses
        self.bus_devices: Table[Device] = buses.devices  # every device, by address
        self.spec = spec
        self.name = spec.name
        self.address = spec.address  # PCI address or UUID
        self.bus = spec.bus  # "pci" or "mdev"
        self.model = spec.model
        self.hardware = spec.hardware or hardware_of(spec.model, spec.vfs)
        self.config, self.writable = buses.board.registers(spec, self.hardware)  # its registers when Linux found it
        self.iommu_ops = intel_iommu_ops
        self.max_pasids = 0  # none
        self.is_mock = False
        self.cache_coherent = True  # IOMMU_CAP_CACHE_COHERENCY


ON_ITS_BUS: Final = "on its bus"
LOADED: Final = "loaded"
IN_USE: Final = "found by its name"


async def find_driver(drivers: Table[BusDriver], name: str) -> BusDriver | None:
    """The driver of this name, in use by the running call until `done_with` it; None if it is being unloaded."""
    driver = await xa_load(drivers, name)
    if driver is None or not await get_unless_zero(driver.p.in_use, current(), IN_USE):
        return None
    return driver


async def done_with(driver: BusDriver, holder: KObject | None = None, reason: str = IN_USE) -> None:
    """One user less; the last one wakes whoever wants to unload the driver."""
    if await put(driver.p.in_use, holder or current(), reason):
        await complete(driver.p.unused)


@kernel("drivers/base/core.c")
async def put_device(device: Device, holder: KObject, reason: str) -> None:
    """Let go of the memory of a device; it is freed with the last reference."""
    if await put(device.kobj, holder, reason):
        await free(device)


def syspath(device: Device) -> str:
    """Where a device is in /sys, from the root of its bus on."""
    if device.bus == "mdev":
        return f"/sys/devices/virtual/mtty/mtty/{device.address}"
    number = int(device.address[5:7], 16)
    port = f"0000:00:1c.{number - 1}/" if number else ""  # the root port that this bus is behind
    return f"/sys/devices/pci0000:00/{port}{device.address}"


@kernel("drivers/base/base.h")
async def driver_match_device(driver: BusDriver, device: Device) -> bool:
    """May this driver take this device? Of mediated ones none may: their parent gives them its driver (`mdev_match`)."""
    if driver.bus != device.bus or device.bus == "mdev":
        return False
    override = await load(device.driver_override)
    if override is not None:
        return driver.label == override
    if device.spec.physfn:  # `pci_device_can_probe`
        physical = await xa_load(device.bus_devices, device.spec.physfn)
        if physical is not None and not await load(physical.vf_autoprobe):
            return False
    added = await load(driver.p.dynids)
    ids = device.hardware.ids
    if any(pci_match_one_id(known, ids) for known in added):
        return True
    return driver.label == device.spec.driver and driver.label != VFIO_PCI  # vfio-pci knows no device by itself


PCI_ANY_ID: Final = 0xFFFFFFFF


def pci_match_one_id(known: tuple[int, ...], ids: tuple[int, ...]) -> bool:
    """Is a device with these numbers meant? Vendor, device, subsystem vendor and device, and its class under a mask."""
    same = all(mine in (PCI_ANY_ID, its) for mine, its in zip(known[:4], ids[:4], strict=False))
    return len(ids) > 4 and same and not (known[4] ^ ids[4]) & known[5]


@kernel("kernel/module/main.c")
async def try_module_get(driver: BusDriver, holder: KObject) -> bool:
    """Hold the module of a driver; False if it is being unloaded."""
    return await get_unless_zero(driver.module, holder, "open")


@kernel("kernel/module/main.c")
async def module_put(driver: BusDriver, holder: KObject) -> None:
    """Let go of the module."""
    await put(driver.module, holder, "open")
