"""VFIO: request space, capability chains, the container and the group (the older of the two ways to a device).

A container (`/dev/vfio/vfio`) holds groups and an IOMMU driver; its mappings are in `vfio_type1.py`. A group
(`/dev/vfio/N`) hands out device files, whose requests are in `vfio_device.py`.
"""

from ._ioc import _IO
from ._struct import U16, U32, Struct, struct

VFIO_TYPE = ord(";")  # the subsystem part of every VFIO request number
VFIO_BASE = 100  # the first command of VFIO; one number may mean different things on different files
VFIO_API_VERSION = 0  # what VFIO_GET_API_VERSION returns

# ---- Capability chain: an answer may be followed by capabilities, each with this header


@struct
class VfioInfoCapHeader(Struct):
    """Begins every capability; the kernel writes all of it."""

    id: U16  # which capability, in the numbering of the request
    version: U16
    next: U32  # offset of the next one in bytes from the begin of the answer; 0: this is the last


# ---- Container: which IOMMU driver

VFIO_GET_API_VERSION = _IO(VFIO_TYPE, VFIO_BASE + 0, "container")
VFIO_CHECK_EXTENSION = _IO(
    VFIO_TYPE, VFIO_BASE + 1, "container", "int"
)  # one of the numbers below; returns 1 for yes, 0 for no
VFIO_SET_IOMMU = _IO(
    VFIO_TYPE, VFIO_BASE + 2, "container", "int"
)  # one of the drivers below; needs a group in the container

VFIO_TYPE1_IOMMU = 1  # driver: I/O page tables filled page by page (x86, Arm)
VFIO_SPAPR_TCE_IOMMU = 2  # driver: POWER
VFIO_TYPE1v2_IOMMU = 3  # driver: as TYPE1, but an unmap must not cut a mapping
VFIO_DMA_CC_IOMMU = 4  # feature: DMA is coherent with the caches, whatever the device asks for
VFIO_NOIOMMU_IOMMU = 8  # driver: no protection at all
VFIO_UNMAP_ALL = 9  # feature: VFIO_DMA_UNMAP_FLAG_ALL
VFIO_UPDATE_VADDR = 10  # feature: the VADDR flags of map and unmap; not with emulated devices in the container

# ---- Group: state


@struct
class VfioGroupStatus(Struct):
    """What state is the group in? The kernel writes the flags."""

    argsz: U32
    flags: U32


VFIO_GROUP_GET_STATUS = _IO(VFIO_TYPE, VFIO_BASE + 3, "group", VfioGroupStatus)

VFIO_GROUP_FLAGS_VIABLE = 1 << 0  # no kernel driver does DMA with a device of the group
VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1  # the group is in a container, or in an iommufd that stands for one

# ---- Group: into a container and out; a device file

VFIO_GROUP_SET_CONTAINER = _IO(VFIO_TYPE, VFIO_BASE + 4, "group", "s32")  # the container's descriptor
VFIO_GROUP_UNSET_CONTAINER = _IO(VFIO_TYPE, VFIO_BASE + 5, "group")
VFIO_GROUP_GET_DEVICE_FD = _IO(VFIO_TYPE, VFIO_BASE + 6, "group", "cstr")  # the device's name; returns a new fd
