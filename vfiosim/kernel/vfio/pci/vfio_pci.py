"""The driver vfio-pci (drivers/vfio/pci/vfio_pci.c, v7.2)."""

from __future__ import annotations

from ....engine import *
from ....uapi import Errno
from ...base import BusDriver, Device
from ...iov import sriov_disable
from ...pci import ROOT_PORT
from ..iommufd import (
    vfio_iommufd_physical_attach_ioas,
    vfio_iommufd_physical_bind,
    vfio_iommufd_physical_detach_ioas,
    vfio_iommufd_physical_pasid_attach_ioas,
    vfio_iommufd_physical_pasid_detach_ioas,
    vfio_iommufd_physical_unbind,
)
from ..vfio import Vfio, VfioDevice, VfioDeviceOps
from ..vfio_main import DRIVES, __vfio_register_dev, register, vfio_put_device, vfio_unregister_group_dev
from .vfio_pci_core import (
    vf_token_open,
    vfio_pci_core_close_device,
    vfio_pci_core_enable,
    vfio_pci_core_init_dev,
    vfio_pci_core_ioctl,
    vfio_pci_core_ioctl_feature,
    vfio_pci_core_match,
    vfio_pci_core_match_token_uuid,
    vfio_pci_core_mmap,
    vfio_pci_core_read,
    vfio_pci_core_request,
    vfio_pci_core_write,
    vfio_pci_ioctl_get_region_info,
    vfio_pci_mmap_page_fault,
    vfio_pci_vf_init,
    vfio_pci_vf_uninit,
)
from .vfio_pci_priv import core_of


@kernel("drivers/vfio/pci/vfio_pci.c")
async def vfio_pci_open_device(device: VfioDevice) -> None:
    """Make the hardware ready; an open virtual function is counted in the token of its physical function."""
    core = await core_of(device)
    await vfio_pci_core_enable(core)
    await vf_token_open(core)


vfio_pci_ops = VfioDeviceOps(
    "vfio-pci",
    bind_iommufd=vfio_iommufd_physical_bind,
    unbind_iommufd=vfio_iommufd_physical_unbind,
    open_device=vfio_pci_open_device,
    close_device=vfio_pci_core_close_device,
    ioctl=vfio_pci_core_ioctl,
    get_region_info=vfio_pci_ioctl_get_region_info,
    device_feature=vfio_pci_core_ioctl_feature,
    read=vfio_pci_core_read,
    write=vfio_pci_core_write,
    mmap=vfio_pci_core_mmap,
    fault=vfio_pci_mmap_page_fault,
    attach_ioas=vfio_iommufd_physical_attach_ioas,
    detach_ioas=vfio_iommufd_physical_detach_ioas,
    pasid_attach_ioas=vfio_iommufd_physical_pasid_attach_ioas,
    pasid_detach_ioas=vfio_iommufd_physical_pasid_detach_ioas,
    match_token_uuid=vfio_pci_core_match_token_uuid,
    match=vfio_pci_core_match,
    request=vfio_pci_core_request,
)


@kernel("drivers/vfio/pci/vfio_pci.c")
async def vfio_pci_probe(vfio: Vfio, device: Device, driver: BusDriver) -> None:
    """vfio-pci takes a PCI function. EINVAL for a bridge such as a root port."""
    if device.model == ROOT_PORT:
        await refuse_if(True, Errno.EINVAL, "header_is_normal", f"{device.label} is a bridge, and VFIO hands out none")
    vdev = await register(vfio, device, driver, vfio_pci_ops)
    await vfio_pci_core_init_dev(vdev)
    await vfio_pci_vf_init(vdev, device.spec.vfs > 0)
    await __vfio_register_dev(vdev, driver)


@kernel("drivers/vfio/pci/vfio_pci.c")
async def vfio_pci_remove(device: Device, driver: BusDriver) -> None:
    """vfio-pci lets go of a PCI function: first of its virtual functions, however long that takes."""
    await sriov_disable(device)
    vdev = await load(device.drvdata)
    assert isinstance(vdev, VfioDevice)
    await vfio_unregister_group_dev(vdev, driver)
    await vfio_pci_vf_uninit(vdev)
    await store(device.drvdata, None)
    await vfio_put_device(vdev, driver, DRIVES)
