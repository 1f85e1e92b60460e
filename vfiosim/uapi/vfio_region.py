"""VFIO: the regions of a device (BARs, config space, ...), which are windows in its file, and their capabilities."""

from collections.abc import Sequence
from typing import Annotated

from ._ioc import _IO
from ._struct import U32, U64, Struct, struct
from .vfio import VFIO_BASE, VFIO_TYPE, VfioInfoCapHeader

# ---- About one region


@struct
class VfioRegionInfo(Struct):
    """Where a region lies in the device file: `index` is given, the rest is written by the kernel."""

    argsz: U32
    flags: U32
    index: U32  # for PCI one of VFIO_PCI_*_REGION_INDEX
    cap_offset: U32  # offset of the first capability in bytes, with FLAG_CAPS
    size: U64  # bytes; 0: the device has no such region
    offset: U64  # where the region begins in the device file


VFIO_DEVICE_GET_REGION_INFO = _IO(VFIO_TYPE, VFIO_BASE + 8)

VFIO_REGION_INFO_FLAG_READ = 1 << 0
VFIO_REGION_INFO_FLAG_WRITE = 1 << 1
VFIO_REGION_INFO_FLAG_MMAP = 1 << 2
VFIO_REGION_INFO_FLAG_CAPS = 1 << 3  # cap_offset is valid

# ---- Capabilities of a region, by their IDs

VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1  # only parts of the region can be mapped


@struct
class VfioRegionSparseMmapArea(Struct):
    """A part of a region that can be mapped."""

    offset: U64  # bytes into the region
    size: U64


@struct
class VfioRegionInfoCapSparseMmap(Struct):
    """Capability SPARSE_MMAP: the list of the parts."""

    header: VfioInfoCapHeader
    nr_areas: U32
    reserved: U32
    areas: Annotated[Sequence[VfioRegionSparseMmapArea], VfioRegionSparseMmapArea * 0]


VFIO_REGION_INFO_CAP_TYPE = 2  # a region beyond the fixed ones, with a type of its own


@struct
class VfioRegionInfoCapType(Struct):
    """Capability TYPE: what the region is."""

    header: VfioInfoCapHeader
    type: U32
    subtype: U32  # means something only together with the type


VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3  # the page with the MSI-X table can be mapped; header only
VFIO_REGION_INFO_CAP_NVLINK2_SSATGT = 4


@struct
class VfioRegionInfoCapNvlink2Ssatgt(Struct):
    """Capability NVLINK2_SSATGT: where the memory of the GPU appears on the link."""

    header: VfioInfoCapHeader
    tgt: U64


VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD = 5


@struct
class VfioRegionInfoCapNvlink2Lnkspd(Struct):
    """Capability NVLINK2_LNKSPD: the speed of the link, as the device tree writes it."""

    header: VfioInfoCapHeader
    link_speed: U32
    __pad: U32


# ---- Types of regions: a PCI vendor's number with the top bit, or one of these

VFIO_REGION_TYPE_PCI_VENDOR_TYPE = -(1 << 31)  # bit 31; C takes it for an int, hence the sign
VFIO_REGION_TYPE_PCI_VENDOR_MASK = 0xFFFF
VFIO_REGION_TYPE_GFX = 1
VFIO_REGION_TYPE_CCW = 2
VFIO_REGION_TYPE_MIGRATION_DEPRECATED = 3

# Subtypes for the vendor Intel: of the built-in graphics
VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION = 1
VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG = 2
VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG = 3
# Subtypes for the vendors NVIDIA and IBM: of the NVLink2 bridge
VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM = 1
VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD = 1
# Subtypes of CCW
VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD = 1
VFIO_REGION_SUBTYPE_CCW_SCHIB = 2
VFIO_REGION_SUBTYPE_CCW_CRW = 3
# Subtype of GFX: the EDID (self-description) of a virtual monitor
VFIO_REGION_SUBTYPE_GFX_EDID = 1


@struct
class VfioRegionGfxEdid(Struct):
    """Begin of a GFX_EDID region: user space plugs a monitor into a virtual graphics device."""

    edid_offset: U32  # where the EDID goes, bytes into the region; read-only
    edid_max_size: U32  # read-only
    edid_size: U32  # bytes
    max_xres: U32  # pixels, 0: no limit; read-only
    max_yres: U32
    link_state: U32


VFIO_DEVICE_GFX_LINK_STATE_UP = 1
VFIO_DEVICE_GFX_LINK_STATE_DOWN = 2

# Subtype of MIGRATION_DEPRECATED: the first migration protocol, replaced by the features in vfio_feature.py
VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED = 1


@struct
class VfioDeviceMigrationInfo(Struct):
    """Begin of a region of the old migration protocol."""

    device_state: U32  # the V1 bits
    reserved: U32
    pending_bytes: U64  # bytes still to be saved
    data_offset: U64  # where the data is, bytes into the region
    data_size: U64


VFIO_DEVICE_STATE_V1_STOP = 0
VFIO_DEVICE_STATE_V1_RUNNING = 1 << 0
VFIO_DEVICE_STATE_V1_SAVING = 1 << 1
VFIO_DEVICE_STATE_V1_RESUMING = 1 << 2
VFIO_DEVICE_STATE_MASK = VFIO_DEVICE_STATE_V1_RUNNING | VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING
