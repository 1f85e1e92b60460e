"""From nothing to a machine whose devices are in the hands of their drivers, before the first program runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..engine import *
from ..uapi import KernelError
from . import promises
from .base import EMULATED, LOADED, MTTY, NO_OPS, VFIO_DRIVERS, VFIO_PCI, BusDriver, Device, DeviceSpec
from .bus import Buses, Calling, device_add, driver_register
from .config import RECORDED, Config
from .dd import device_driver_attach
from .firmware import board_of
from .fs.devtmpfs import DevTmpfs, cdev_device_add
from .fs.file import Cdev
from .iommu import IommuGroup, IommuGroups
from .iommufd.main import VFIO_MISC_DEV, iommufd_fops
from .iommufd.selftest.mock_iommu import MockIommu
from .kvm.kvm_main import kvm_chardev_ops
from .kvm.vfio import kvm_vfio_ops
from .module import module_name
from .params import ModuleParameters
from .pci import ROOT_PORT, virtio_pci_probe
from .task import UserStruct
from .variants import V72, Variant
from .vfio.bare import bare_probe, bare_remove
from .vfio.container import vfio_fops, vfio_noiommu_ops
from .vfio.group import vfio_group_fops
from .vfio.mtty import mtty_probe, mtty_remove
from .vfio.pci.vfio_pci import vfio_pci_probe, vfio_pci_remove
from .vfio.vfio import Vfio, VfioDevice, VfioGroup, VfioIommuDriver, VfioIommuDrivers
from .vfio.vfio_iommu_type1 import vfio_iommu_driver_ops_type1
from .vfio.vfio_main import vfio_device_fops

__all__ = ["Built", "DeviceSpec", "boot"]
assert kvm_vfio_ops.name == "kvm-vfio"  # importing its file made the type known to KVM
assert promises.LOCKS  # and what is said without a protection to `say`


@dataclass
class Built:
    """What boot leaves behind; the dictionaries show how things stand now, by name."""

    devtmpfs: DevTmpfs
    root: UserStruct
    buses: Buses
    vfio: Vfio

    @property
    def devices(self) -> dict[str, Device]:
        """Every device that the kernel knows at the moment."""
        return {each.name: each for each in self.buses.devices.slots.values() if each.model != ROOT_PORT}

    @property
    def drivers(self) -> dict[str, BusDriver]:
        """Every driver."""
        return dict(self.buses.drivers.slots)

    @property
    def vfio_devices(self) -> dict[str, VfioDevice]:
        """Every device that a VFIO driver has taken."""
        found = {name: device.drvdata.value for name, device in self.devices.items()}
        return {name: vdev for name, vdev in found.items() if isinstance(vdev, VfioDevice)}

    @property
    def vfio_groups(self) -> dict[int, VfioGroup]:
        """Every group that has a node."""
        return dict(self.vfio.group_list.slots)

    @property
    def groups(self) -> dict[int, IommuGroup]:
        """Every iommu_group of a device."""
        return {number: group for number, group in self.buses.groups.ids.slots.items() if isinstance(group, IommuGroup)}


async def boot(devices: tuple[DeviceSpec, ...], config: Config = RECORDED, variant: Variant = V72) -> Built:
    """Make the nodes that are always there, then every device, in order, with its driver."""
    devtmpfs = await alloc(DevTmpfs)
    parameters = await alloc(ModuleParameters)
    await store(parameters.noiommu, config.enable_unsafe_noiommu_mode)
    await store(parameters.iommufd_unsafe_interrupts, config.allow_unsafe_interrupts)
    await store(parameters.type1_unsafe_interrupts, config.allow_unsafe_interrupts)
    await store(parameters.dma_entry_limit, config.dma_entry_limit)
    buses = await alloc(Buses, await alloc(IommuGroups), parameters, board_of(devices))
    tests = await alloc(MockIommu, buses.groups)
    vfio = await alloc(Vfio, devtmpfs, vfio_device_fops, vfio_group_fops, parameters, variant)
    built = Built(devtmpfs, await alloc(UserStruct, 0), buses, vfio)
    await cdev_device_add(devtmpfs, "/dev/iommu", await alloc(Cdev, "iommu", iommufd_fops, inside=tests, mode=0o660))
    await cdev_device_add(devtmpfs, "/dev/kvm", await alloc(Cdev, "kvm", kvm_chardev_ops))
    if config.vfio_group:
        await cdev_device_add(devtmpfs, "/dev/vfio/vfio", await container_node(parameters, config, tests))
    await load_drivers(built, {spec.driver: spec.bus for spec in devices})
    emulated = {spec.group for spec in devices if spec.noiommu or spec.bus == "mdev"}
    for number in range(max((spec.group for spec in devices), default=0)):
        if number not in emulated:
            await xa_store(buses.groups.ids, number, buses.groups)  # taken by devices that nobody here looks at
    for spec in devices:
        override = spec.driver if spec.driver == VFIO_PCI else None
        device = await device_add(buses, spec, override, spec.group)
        driver = await xa_load(buses.drivers, spec.driver)
        assert driver is not None
        below = [n for n in range(spec.group) if n in emulated and await xa_load(buses.groups.ids, n) is None]
        for number in below:  # these are for devices that come later
            await xa_store(buses.groups.ids, number, buses.groups)
        await first_probe(driver, device)
        for number in below:
            await xa_store(buses.groups.ids, number, None)
        if spec.bus == "mdev":
            await xa_store(buses.mdev_list, device.address, device)
            await store(device.active, True)
    return built


async def first_probe(driver: BusDriver, device: Device) -> None:
    """The driver takes the device; one that cannot have it, by its version or without an IOMMU, leaves it without a driver."""
    try:
        await device_driver_attach(driver, device)
    except KernelError as error:
        if error.check not in ("driver_has_iommufd_ops", "iommu_watches_device"):
            raise


async def container_node(parameters: ModuleParameters, config: Config, tests: MockIommu) -> Cdev:
    """/dev/vfio/vfio, and the IOMMU drivers that its containers can be given; an iommufd needs none."""
    if config.iommufd_vfio_container:
        return await alloc(Cdev, VFIO_MISC_DEV, iommufd_fops, inside=tests, mode=0o666)
    core = await alloc(VfioIommuDrivers)
    without = [vfio_noiommu_ops(parameters)] if config.vfio_noiommu else []
    for ops in (*without, vfio_iommu_driver_ops_type1(parameters)):
        driver = await alloc(VfioIommuDriver, ops)
        await get(driver.module, driver, LOADED)
        await store(core.iommu_drivers_list, (driver, *await load(core.iommu_drivers_list)))
    return await alloc(Cdev, VFIO_MISC_DEV, vfio_fops, inside=core, mode=0o666)


async def load_drivers(built: Built, names: dict[str, str]) -> None:
    """Drivers by name, with their bus; those of VFIO are always there."""
    for name, bus in {VFIO_PCI: "pci", MTTY: "mdev", **names}.items():
        vfio = built.vfio
        probes: dict[str, Calling] = {
            VFIO_PCI: partial(vfio_pci_probe, vfio),
            MTTY: partial(mtty_probe, vfio),
            NO_OPS: partial(bare_probe, vfio),
            EMULATED: partial(bare_probe, vfio),
            "virtio-pci": virtio_pci_probe,
        }
        remove = {VFIO_PCI: vfio_pci_remove, MTTY: mtty_remove, NO_OPS: bare_remove, EMULATED: bare_remove}.get(name)
        driver = await driver_register(built.buses, name, bus, name in VFIO_DRIVERS, probes.get(name), remove)
        await xa_store(built.buses.modules, module_name(name), driver)
