"""VFIO: the fixed regions and interrupts of PCI devices, and their hot reset."""

from collections.abc import Sequence
from ctypes import c_int32
from typing import Annotated

from ._ioc import _IO
from ._struct import U8, U16, U32, Overlay, Struct, struct
from .vfio import VFIO_BASE, VFIO_TYPE

# ---- Regions of a PCI device

VFIO_PCI_BAR0_REGION_INDEX = 0
VFIO_PCI_BAR1_REGION_INDEX = 1
VFIO_PCI_BAR2_REGION_INDEX = 2
VFIO_PCI_BAR3_REGION_INDEX = 3
VFIO_PCI_BAR4_REGION_INDEX = 4
VFIO_PCI_BAR5_REGION_INDEX = 5
VFIO_PCI_ROM_REGION_INDEX = 6
VFIO_PCI_CONFIG_REGION_INDEX = 7
VFIO_PCI_VGA_REGION_INDEX = 8
VFIO_PCI_NUM_REGIONS = 9  # regions from here on carry a TYPE capability

# ---- Interrupts of a PCI device

VFIO_PCI_INTX_IRQ_INDEX = 0
VFIO_PCI_MSI_IRQ_INDEX = 1
VFIO_PCI_MSIX_IRQ_INDEX = 2
VFIO_PCI_ERR_IRQ_INDEX = 3  # the device reported an error that cannot be corrected
VFIO_PCI_REQ_IRQ_INDEX = 4  # the host wants the device back
VFIO_PCI_NUM_IRQS = 5

# ---- Hot reset: all devices of a slot or bus at once


@struct
class _Affected(Overlay):
    group_id: U32  # when the device came from a group
    devid: U32  # with FLAG_DEV_ID: its ID in the caller's iommufd, or one of VFIO_PCI_DEVID_*


@struct
class VfioPciDependentDevice(Struct):
    """A device that the hot reset would hit too."""

    _affected: _Affected
    segment: U16
    bus: U8
    devfn: U8  # device number in the upper five bits, function in the lower three


VFIO_PCI_DEVID_OWNED = 0  # not bound itself, but a device of its group is bound to the same iommufd
VFIO_PCI_DEVID_NOT_OWNED = -1


@struct
class VfioPciHotResetInfo(Struct):
    """Which devices would a hot reset hit? The kernel writes flags, count and the list."""

    argsz: U32  # with room for the list
    flags: U32
    count: U32  # how many there are, also if they do not fit (ENOSPC)
    devices: Annotated[Sequence[VfioPciDependentDevice], VfioPciDependentDevice * 0]


VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = _IO(VFIO_TYPE, VFIO_BASE + 12, "device", VfioPciHotResetInfo)

VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0  # the list has devid, not group_id
VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1  # all of them are in the hands of the caller


@struct
class VfioPciHotReset(Struct):
    """Do the hot reset; group files prove that the caller owns all devices. All of it is given."""

    argsz: U32  # with the list
    flags: U32
    count: U32  # 0 when the device is bound to an iommufd, which is the proof then
    group_fds: Annotated[Sequence[int], c_int32 * 0]


VFIO_DEVICE_PCI_HOT_RESET = _IO(VFIO_TYPE, VFIO_BASE + 13, "device", VfioPciHotReset)
