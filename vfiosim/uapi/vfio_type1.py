"""VFIO: the mappings of a container with the type 1 IOMMU driver; iommufd answers most of these requests too."""

from ._ioc import _IO
from ._struct import U32, U64, BytesAfter, Ptr, Struct, struct
from .vfio import VFIO_BASE, VFIO_TYPE, VfioInfoCapHeader

# ---- What can this IOMMU do?


@struct
class VfioIommuType1Info(Struct):
    """All but argsz is written by the kernel; argsz is rewritten when the capabilities need more room."""

    argsz: U32
    flags: U32
    iova_pgsizes: U64  # bit n: pages of 2**n bytes; with INFO_PGSIZES
    cap_offset: U32  # offset of the first capability in bytes, 0 if they did not fit; with INFO_CAPS
    pad: U32


VFIO_IOMMU_GET_INFO = _IO(VFIO_TYPE, VFIO_BASE + 12, "container", VfioIommuType1Info)

VFIO_IOMMU_INFO_PGSIZES = 1 << 0
VFIO_IOMMU_INFO_CAPS = 1 << 1

# ---- Its capabilities, by their IDs

VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1

VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2


@struct
class VfioIommuType1InfoCapMigration(Struct):
    """Capability MIGRATION: how dirty pages can be tracked."""

    header: VfioInfoCapHeader
    flags: U32
    _pad: U32
    pgsize_bitmap: U64  # bit n: one bit can stand for 2**n bytes
    max_dirty_bitmap_size: U64  # bytes


VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3


@struct
class VfioIommuType1InfoDmaAvail(Struct):
    """Capability DMA_AVAIL: how many more mappings are possible."""

    header: VfioInfoCapHeader
    avail: U32


# ---- Map


@struct
class VfioIommuType1DmaMap(Struct):
    """Let the devices of the container see memory of the process; all of it is given."""

    argsz: U32
    flags: U32
    vaddr: Ptr  # address in the process
    iova: U64  # address for the devices
    size: U64  # bytes


VFIO_IOMMU_MAP_DMA = _IO(VFIO_TYPE, VFIO_BASE + 13, "container", VfioIommuType1DmaMap)

VFIO_DMA_MAP_FLAG_READ = 1 << 0  # the devices may read
VFIO_DMA_MAP_FLAG_WRITE = 1 << 1
VFIO_DMA_MAP_FLAG_VADDR = 1 << 2  # only a new address for a mapping whose old one was invalidated

# ---- Unmap


@struct
class VfioBitmap(Struct):
    """A bitmap of dirty pages in the memory of the caller; the kernel sets bits in it."""

    pgsize: U64  # bytes per bit
    size: U64  # bytes of the bitmap
    data: U64  # its address


@struct
class VfioIommuType1DmaUnmap(Struct):
    """Take memory away from the devices: the range is given; size is rewritten with how much was unmapped."""

    argsz: U32
    flags: U32
    iova: U64
    size: U64  # bytes
    data: BytesAfter  # a vfio_bitmap, with FLAG_GET_DIRTY_BITMAP


VFIO_IOMMU_UNMAP_DMA = _IO(VFIO_TYPE, VFIO_BASE + 14, "container", VfioIommuType1DmaUnmap)

VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1 << 0
VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1  # everything; iova and size must be 0
VFIO_DMA_UNMAP_FLAG_VADDR = 1 << 2  # keep the mapping, only forget the address in the process

# ---- Switch the translation (POWER)

VFIO_IOMMU_ENABLE = _IO(VFIO_TYPE, VFIO_BASE + 15, "container")
VFIO_IOMMU_DISABLE = _IO(VFIO_TYPE, VFIO_BASE + 16, "container")

# ---- Dirty pages


@struct
class VfioIommuType1DirtyBitmap(Struct):
    """Start or stop the tracking, or read the result; one flag is given."""

    argsz: U32
    flags: U32
    data: BytesAfter  # a vfio_iommu_type1_dirty_bitmap_get, with FLAG_GET_BITMAP


@struct
class VfioIommuType1DirtyBitmapGet(Struct):
    """The range to report, given; the kernel writes the bitmap that it names."""

    iova: U64
    size: U64  # bytes
    bitmap: VfioBitmap


VFIO_IOMMU_DIRTY_PAGES = _IO(VFIO_TYPE, VFIO_BASE + 17, "container", VfioIommuType1DirtyBitmap)

VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1 << 0
VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 1 << 1
VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 1 << 2
