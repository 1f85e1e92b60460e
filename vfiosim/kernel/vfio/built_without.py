"""A kernel built without group.c or device_cdev.c: what a header has in their place (drivers/vfio/vfio.h:134, 378; v7.2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ...engine import *
from ...uapi import Errno
from ..base import Device
from .vfio import Vfio, VfioDevice, VfioDeviceFile

BUILT_WITHOUT: Final[dict[str, dict[str, Callable[..., Any]]]] = {"vfio_group": {}, "vfio_device_cdev": {}}
header = partial(of_version, BUILT_WITHOUT["vfio_group"], "drivers/vfio/vfio.h", "v7.2")


@header()
async def vfio_device_block_group(device: VfioDevice) -> None:
    """No group that a BIND could exclude."""


@header()
async def vfio_device_unblock_group(device: VfioDevice) -> None:
    """Nothing was excluded."""


@header()
async def vfio_device_set_group(vfio: Vfio, device: Device) -> None:
    """No group. What registration asks next is refused here: EINVAL, for caches stay coherent by an IOMMU only."""
    lacks = device.bus == "pci" and await load(device.iommu_group) is None
    await refuse_if(
        lacks, Errno.EINVAL, "iommu_watches_device", "no IOMMU watches the device, so its DMA could reach all memory"
    )


@header()
async def vfio_device_remove_group(device: VfioDevice) -> None:
    """No group that the device could leave."""


@header()
async def vfio_device_group_register(device: VfioDevice) -> None:
    """No group that could be asked for the device."""


@header()
async def vfio_device_group_unregister(device: VfioDevice) -> None:
    """No group that could be asked for the device."""


@partial(of_version, BUILT_WITHOUT["vfio_device_cdev"], "drivers/vfio/vfio.h", "v7.2")()
async def vfio_df_ioctl_bind_iommufd(df: VfioDeviceFile, argument: int) -> int:
    """No BIND in this kernel: ENOTTY, whatever the argument is."""
    await refuse_if(True, Errno.ENOTTY, "built_with_cdev", "this kernel was built without BIND (VFIO_DEVICE_CDEV)")
    return 0
