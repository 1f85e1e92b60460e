"""From nothing to a machine whose devices are in the hands of their drivers, before the first program runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..engine import KObject, Table, alloc, get, poke, store, table
from ..engine.engine import Engine
from .base import BusDriver, Device
from .fs.file import Cdev
from .fs.syscalls import DevTmpfs
from .iommu import IommuGroup, iommu_device_use_default_domain
from .iommufd.fops import iommufd_fops
from .kvm.kvm_main import kvm_chardev_ops
from .kvm.vfio import kvm_vfio_ops
from .task import UserStruct
from .vfio.container import vfio_fops
from .vfio.device_fops import vfio_device_fops
from .vfio.group import vfio_group_fops
from .vfio.mtty import mtty_dev_ops
from .vfio.pci.vfio_pci_core import vfio_pci_ops
from .vfio.vfio import VfioDevice, VfioDeviceOps, VfioDeviceSet, VfioGroup
from .vfio.vfio_main import __vfio_register_dev as vfio_register_dev
from .vfio.vfio_main import vfio_assign_device_set

VFIO_DRIVERS: dict[str, VfioDeviceOps] = {ops.name: ops for ops in (vfio_pci_ops, mtty_dev_ops)}
assert kvm_vfio_ops.name == "kvm-vfio"  # importing its file made the type known to KVM


@dataclass(frozen=True)
class DeviceSpec:
    """One device of a topology.

    * `name`: what people call it; `address`: PCI address or UUID; `bus`: "pci" or "mdev"; `model`: free text;
    * `driver`: "vfio-pci" and "mtty" are VFIO drivers; every other name is a kernel driver that uses the DMA API;
    * `group`: the number of its iommu_group; `dev_set`: devices with the same word are reset together, "" for alone;
    * `can_reset`: the function can be reset on its own.
    """

    name: str
    address: str
    group: int
    bus: str = "pci"
    driver: str = "vfio-pci"
    model: str = ""
    dev_set: str = ""
    can_reset: bool = False


class Registry(KObject):
    """Tables of the kernel that no single object owns."""

    kind = "kernel"
    root = "the kernel"
    dev_sets: Table[VfioDeviceSet] = table()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "tables")


@dataclass
class Built:
    """What boot leaves behind, by name."""

    devtmpfs: DevTmpfs
    registry: Registry
    root: UserStruct
    groups: dict[int, IommuGroup] = field(default_factory=dict)
    vfio_groups: dict[int, VfioGroup] = field(default_factory=dict)
    drivers: dict[str, BusDriver] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    vfio_devices: dict[str, VfioDevice] = field(default_factory=dict)


async def boot(devices: tuple[DeviceSpec, ...]) -> Built:
    """Make the nodes that are always there, then every device, in order, with its driver."""
    built = Built(await alloc(DevTmpfs), await alloc(Registry), await alloc(UserStruct, 0))
    await add_node(built, "/dev/iommu", await alloc(Cdev, "iommu", iommufd_fops))
    await add_node(built, "/dev/kvm", await alloc(Cdev, "kvm", kvm_chardev_ops))
    await add_node(built, "/dev/vfio/vfio", await alloc(Cdev, "container", vfio_fops))
    for spec in devices:
        await add_device(built, spec)
    return built


async def add_node(built: Built, path: str, cdev: Cdev) -> None:
    """Let a path lead to a node."""
    await get(cdev.kobj, built.devtmpfs, "node")
    await poke(built.devtmpfs.nodes, path, cdev)


async def add_device(built: Built, spec: DeviceSpec) -> None:
    """A device appears, and its driver takes it."""
    group = built.groups.get(spec.group)
    if group is None:
        group = built.groups[spec.group] = await alloc(IommuGroup, spec.group, emulated=spec.bus == "mdev")
    device = await alloc(Device, spec.name, spec.address, spec.bus, group, spec.model, spec.can_reset)
    built.devices[spec.name] = device
    await get(group.kobj, device, "in this group")
    driver = built.drivers.get(spec.driver)
    if driver is None:
        driver = built.drivers[spec.driver] = await alloc(BusDriver, spec.driver, spec.driver in VFIO_DRIVERS)
        await get(driver.module, driver, "loaded")
    await store(device.driver, driver)
    if driver.driver_managed_dma:
        await probe_vfio(built, spec, device, driver)
    else:
        await iommu_device_use_default_domain(group)


async def probe_vfio(built: Built, spec: DeviceSpec, device: Device, driver: BusDriver) -> None:
    """A VFIO driver takes a device: its group gets a node, and so does the device."""
    group = built.vfio_groups.get(spec.group) or await create_group(built, spec.group)
    index = len(built.vfio_devices)
    dev_set = await vfio_assign_device_set(spec.dev_set or f"vfio{index}", built.registry.dev_sets)
    vdev = await alloc(VfioDevice, index, device, VFIO_DRIVERS[spec.driver], dev_set, group)
    built.vfio_devices[spec.name] = vdev
    await vfio_register_dev(vdev, driver)
    cdev = await alloc(Cdev, vdev.label, vfio_device_fops, vdev.kref, vdev)
    await get(vdev.kref, cdev, "contains the node")
    await add_node(built, f"/dev/vfio/devices/{vdev.label}", cdev)


async def create_group(built: Built, number: int) -> VfioGroup:
    """The first VFIO device of an iommu_group: /dev/vfio/N appears."""
    group = await alloc(VfioGroup, number)
    built.vfio_groups[number] = group
    iommu_group = built.groups[number]
    await get(iommu_group.kobj, group, "its group")
    await store(group.iommu_group, iommu_group)
    group.cdev = await alloc(Cdev, f"group-{number}", vfio_group_fops, group.dev, group)
    await get(group.dev, group.cdev, "contains the node")
    await add_node(built, f"/dev/vfio/{number}", group.cdev)
    return group
