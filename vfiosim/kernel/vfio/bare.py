"""Two drivers that exist in no kernel tree, to show what versions do with such devices.

Both emulate a device that answers no request of its own. "no-dma" has no operations for an iommufd, for its device does no
DMA; "emulated" has those that drivers of emulated devices share.
"""

from __future__ import annotations

from dataclasses import replace

from ...engine import *
from ...uapi import Errno
from ..base import EMULATED, NO_OPS, BusDriver, Device
from .iommufd import (
    vfio_iommufd_emulated_attach_ioas,
    vfio_iommufd_emulated_bind,
    vfio_iommufd_emulated_detach_ioas,
    vfio_iommufd_emulated_unbind,
)
from .vfio import Vfio, VfioDevice, VfioDeviceOps
from .vfio_main import __vfio_register_dev, register, unregister


async def bare_open_device(device: VfioDevice) -> None:
    """Nothing to prepare."""


async def bare_close_device(device: VfioDevice) -> None:
    """Nothing to put to rest."""


async def bare_ioctl(device: VfioDevice, cmd: int, argument: int) -> int:
    """It knows no request: ENOTTY."""
    await refuse_if(True, Errno.ENOTTY, "driver_knows_request", "the device's driver has no such request")
    return 0


emulated_ops = VfioDeviceOps(
    EMULATED,
    bind_iommufd=vfio_iommufd_emulated_bind,
    unbind_iommufd=vfio_iommufd_emulated_unbind,
    open_device=bare_open_device,
    close_device=bare_close_device,
    ioctl=bare_ioctl,
    attach_ioas=vfio_iommufd_emulated_attach_ioas,
    detach_ioas=vfio_iommufd_emulated_detach_ioas,
)
no_dma_ops = replace(
    emulated_ops, name=NO_OPS, bind_iommufd=None, unbind_iommufd=None, attach_ioas=None, detach_ioas=None
)


async def bare_probe(vfio: Vfio, device: Device, driver: BusDriver) -> None:
    """One of the two drivers takes its device."""
    ops = {ops.name: ops for ops in (emulated_ops, no_dma_ops)}[driver.label]
    await __vfio_register_dev(await register(vfio, device, driver, ops), driver)


async def bare_remove(device: Device, driver: BusDriver) -> None:
    """It lets go of its device."""
    await unregister(device, driver)
