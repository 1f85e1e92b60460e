"""iommufd (`/dev/iommu`): objects with IDs, address spaces (IOAS) and what is mapped in them.

Every request starts with the size of its struct, so that old programs and new kernels understand each other, and the
reverse: a longer struct is accepted if what the kernel does not know is 0 (else E2BIG), a shorter one is filled with 0.
Page tables and what hardware tells are in `iommufd_hwpt.py`, virtual IOMMUs in `iommufd_viommu.py`.
"""

from ._ioc import _IO
from ._struct import U16, U32, U64, FdIn, Ptr, Struct, struct

IOMMUFD_TYPE = ord(";")  # the subsystem part of the request numbers, shared with VFIO

IOMMUFD_CMD_BASE = 0x80  # the first command

# ---- Any object


@struct
class IommuDestroy(Struct):
    """Destroy an object that nobody uses; all of it is given."""

    size: U32
    id: U32


IOMMU_DESTROY = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 0, "iommufd", IommuDestroy)

# ---- An address space


@struct
class IommuIoasAlloc(Struct):
    """Make an empty address space; out_ioas_id is written by the kernel."""

    size: U32
    flags: U32
    out_ioas_id: U32


IOMMU_IOAS_ALLOC = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 1, "iommufd", IommuIoasAlloc)


@struct
class IommuIovaRange(Struct):
    """Addresses for devices."""

    start: U64
    last: U64  # the last address, not the one after it


@struct
class IommuIoasIovaRanges(Struct):
    """Which addresses can be mapped? The kernel writes the list, how many there are, and the alignment."""

    size: U32
    ioas_id: U32
    num_iovas: U32  # in: room in the list; out: how many there are, also if they do not fit (EMSGSIZE)
    __reserved: U32
    allowed_iovas: Ptr  # a list of iommu_iova_range
    out_iova_alignment: U64  # bytes; of address, length and place in the page


IOMMU_IOAS_IOVA_RANGES = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 4, "iommufd", IommuIoasIovaRanges)


@struct
class IommuIoasAllowIovas(Struct):
    """Where the kernel may place mappings that have no fixed address; all of it is given and replaces the old list."""

    size: U32
    ioas_id: U32
    num_iovas: U32  # 0: anywhere
    __reserved: U32
    allowed_iovas: Ptr  # a list of iommu_iova_range


IOMMU_IOAS_ALLOW_IOVAS = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 2, "iommufd", IommuIoasAllowIovas)

# ---- Mappings

# Flags of the three ways to make one
IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0  # at the given address; else the kernel picks one
IOMMU_IOAS_MAP_WRITEABLE = 1 << 1  # devices may write
IOMMU_IOAS_MAP_READABLE = 1 << 2


@struct
class IommuIoasMap(Struct):
    """Map memory of the process; iova is given (FIXED_IOVA) and written back."""

    size: U32
    flags: U32
    ioas_id: U32
    __reserved: U32
    user_va: Ptr
    length: U64  # bytes
    iova: U64  # address for the devices


IOMMU_IOAS_MAP = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 5, "iommufd", IommuIoasMap)


@struct
class IommuIoasMapFile(Struct):
    """Map a part of a file that lives in memory; iova is given (FIXED_IOVA) and written back."""

    size: U32
    flags: U32
    ioas_id: U32
    fd: FdIn
    start: U64  # bytes into the file
    length: U64  # bytes
    iova: U64


IOMMU_IOAS_MAP_FILE = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 15, "iommufd", IommuIoasMapFile)


@struct
class IommuIoasCopy(Struct):
    """Map what is mapped elsewhere, pinned only once; dst_iova is given (FIXED_IOVA) and written back."""

    size: U32
    flags: U32
    dst_ioas_id: U32
    src_ioas_id: U32
    length: U64  # bytes
    dst_iova: U64
    src_iova: U64


IOMMU_IOAS_COPY = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 3, "iommufd", IommuIoasCopy)


@struct
class IommuIoasUnmap(Struct):
    """Unmap whole mappings: the range is given, length is rewritten with how much was unmapped."""

    size: U32
    ioas_id: U32
    iova: U64
    length: U64  # bytes; iova 0 and all ones here: everything


IOMMU_IOAS_UNMAP = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 6, "iommufd", IommuIoasUnmap)


@struct
class IommuIoasChangeProcess(Struct):
    """From now on the caller pays for the pinned memory of all file mappings."""

    size: U32
    __reserved: U32


IOMMU_IOAS_CHANGE_PROCESS = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 18, "iommufd", IommuIoasChangeProcess)

# ---- Options


@struct
class IommuOption(Struct):
    """Read or set an option: val64 is given (SET) or written by the kernel (GET)."""

    size: U32
    option_id: U32
    op: U16
    __reserved: U16
    object_id: U32  # of the object that has the option; 0: the iommufd itself
    val64: U64


IOMMU_OPTION = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 7, "iommufd", IommuOption)

IOMMU_OPTION_RLIMIT_MODE = 0  # pinned memory counts for 0: the user, 1: the process
IOMMU_OPTION_HUGE_PAGES = 1  # of an IOAS; 0: never map pages larger than 4096 bytes
IOMMU_OPTION_OP_SET = 0
IOMMU_OPTION_OP_GET = 1

# ---- The address space that stands for a VFIO container


@struct
class IommuVfioIoas(Struct):
    """Which IOAS do the requests of a VFIO container use here? ioas_id is given (SET) or written (GET)."""

    size: U32
    ioas_id: U32
    op: U16
    __reserved: U16


IOMMU_VFIO_IOAS = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 8, "iommufd", IommuVfioIoas)

IOMMU_VFIO_IOAS_GET = 0
IOMMU_VFIO_IOAS_SET = 1
IOMMU_VFIO_IOAS_CLEAR = 2  # none any more
