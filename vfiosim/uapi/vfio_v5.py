"""VFIO_DEVICE_BIND_IOMMUFD as it was posted on 27 February 2023, in version 5 of the series; it was never merged.

It stands apart: in a merged kernel the same number is ATTACH, and the 24 bytes of Linux 7.2 are laid out in another way.
"""

from ._ioc import _IO
from ._struct import S32, STRUCTS, U32, U64, Struct, struct
from .vfio import VFIO_BASE, VFIO_TYPE


@struct
class VfioDeviceBindIommufdV5(Struct):
    """Bind the device to an iommufd, or, where that is negative, to none (noiommu mode)."""

    argsz: U32
    flags: U32
    dev_cookie: U64  # a number of user space's choice, by which later events would name the device
    iommufd: S32
    out_devid: U32  # ID of the device inside that iommufd; with the review's second proposal 0 means none


STRUCTS.pop(VfioDeviceBindIommufdV5.kernel_name, None)  # no struct of the 7.2 ABI

VFIO_DEVICE_BIND_IOMMUFD_V5 = _IO(VFIO_TYPE, VFIO_BASE + 19)
