"""A VFIO driver takes a device and lets go of it (drivers/vfio/pci/vfio_pci.c, samples/vfio-mdev/mtty.c, v7.2)."""

from __future__ import annotations

from ...engine import alloc, claim, kernel, load, store
from ..base import BusDriver, Device
from ..iov import sriov_disable
from .group_life import vfio_device_set_group
from .mtty import mtty_dev_ops, mtty_dev_ops_without_iommufd, mtty_init_dev
from .pci.vf_token import vfio_pci_vf_init, vfio_pci_vf_uninit
from .pci.vfio_pci_core import vfio_pci_core_init_dev, vfio_pci_ops
from .vfio import Vfio, VfioDevice, VfioDeviceOps
from .vfio_main import (
    DRIVES,
    __vfio_register_dev,
    refuse_without_iommufd_ops,
    vfio_assign_device_set,
    vfio_put_device,
    vfio_unregister_group_dev,
)


@kernel("drivers/vfio/pci/vfio_pci.c")
async def vfio_pci_probe(vfio: Vfio, device: Device, driver: BusDriver) -> None:
    """vfio-pci takes a PCI function."""
    vdev = await register(vfio, device, driver, vfio_pci_ops)
    await vfio_pci_core_init_dev(vdev)
    await vfio_pci_vf_init(vdev, device.spec.vfs > 0)
    await __vfio_register_dev(vdev, driver)


@kernel("drivers/vfio/pci/vfio_pci.c")
async def vfio_pci_remove(device: Device, driver: BusDriver) -> None:
    """vfio-pci lets go of a PCI function: first of its virtual functions, however long that takes."""
    await sriov_disable(device)
    await unregister(device, driver)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_probe(vfio: Vfio, device: Device, driver: BusDriver) -> None:
    """mtty takes a mediated device."""
    ops = mtty_dev_ops if vfio.variant.samples_have_ops else mtty_dev_ops_without_iommufd
    vdev = await register(vfio, device, driver, ops)
    await mtty_init_dev(vdev)
    await __vfio_register_dev(vdev, driver)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_remove(device: Device, driver: BusDriver) -> None:
    """mtty lets go of a mediated device."""
    await unregister(device, driver)


async def register(vfio: Vfio, device: Device, driver: BusDriver, ops: VfioDeviceOps) -> VfioDevice:
    """A vfio_device for this device: the lowest free number, its device set, its group; nobody can find it yet."""
    await refuse_without_iommufd_ops(vfio, ops)
    index = await claim(vfio.device_ida, vfio)
    assert index is not None
    assert device.iommu_group is not None
    dev_set = await vfio_assign_device_set(device.spec.dev_set or f"vfio{index}", vfio.dev_sets)
    group = await vfio_device_set_group(vfio, device.iommu_group)
    vdev = await alloc(VfioDevice, index, device, ops, dev_set, group, vfio, driver)
    await store(device.drvdata, vdev)
    return vdev


async def unregister(device: Device, driver: BusDriver) -> None:
    """Wait until nobody uses the vfio_device, then let go of it."""
    vdev = await load(device.drvdata)
    assert isinstance(vdev, VfioDevice)
    await vfio_unregister_group_dev(vdev, driver)
    if device.bus == "pci":
        await vfio_pci_vf_uninit(vdev)
    await store(device.drvdata, None)
    await vfio_put_device(vdev, driver, DRIVES)
