"""A mediated serial port: an emulated device without DMA (samples/vfio-mdev/mtty.c, v7.2)."""

from __future__ import annotations

from ...engine import kernel
from ...uapi import VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_GET_INFO
from .iommufd import (
    vfio_iommufd_emulated_attach_ioas,
    vfio_iommufd_emulated_bind,
    vfio_iommufd_emulated_detach_ioas,
    vfio_iommufd_emulated_unbind,
)
from .pci.vfio_pci_core import other_device_request, write_device_info
from .vfio import VfioDevice, VfioDeviceOps

MTTY_KNOWN = frozenset({"VFIO_DEVICE_GET_IRQ_INFO", "VFIO_DEVICE_SET_IRQS", "VFIO_DEVICE_RESET"})


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_open_device(device: VfioDevice) -> None:
    """Nothing to prepare."""


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_close_device(device: VfioDevice) -> None:
    """Nothing to put to rest."""


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_ioctl(device: VfioDevice, cmd: int, argument: int) -> int:
    """Requests that the driver answers itself; it looks like a PCI device that cannot reset itself."""
    if cmd == VFIO_DEVICE_GET_INFO:
        return await write_device_info(argument, VFIO_DEVICE_FLAGS_PCI)
    return await other_device_request(cmd, MTTY_KNOWN)


mtty_dev_ops = VfioDeviceOps(
    "mtty",
    bind_iommufd=vfio_iommufd_emulated_bind,
    unbind_iommufd=vfio_iommufd_emulated_unbind,
    open_device=mtty_open_device,
    close_device=mtty_close_device,
    ioctl=mtty_ioctl,
    attach_ioas=vfio_iommufd_emulated_attach_ioas,
    detach_ioas=vfio_iommufd_emulated_detach_ioas,
)
