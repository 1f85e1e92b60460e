"""iommufd: hardware page tables (HWPT), what hardware says about itself, dirty pages, and page faults of devices."""

import ctypes
from collections.abc import Sequence
from typing import Annotated

from ._ioc import _IO
from ._struct import U8, U32, U64, FdOut, Overlay, Ptr, Struct, struct
from .iommufd import IOMMUFD_CMD_BASE, IOMMUFD_TYPE

# ---- Make a page table


@struct
class IommuHwptAlloc(Struct):
    """Make a page table for a device by hand; out_hwpt_id is written by the kernel."""

    size: U32
    flags: U32
    dev_id: U32  # the device whose IOMMU decides on the format
    pt_id: U32  # what to translate to: an IOAS, an HWPT below this one, or a virtual IOMMU
    out_hwpt_id: U32
    __reserved: U32
    data_type: U32
    data_len: U32  # bytes
    data_uptr: Ptr  # a struct that depends on data_type
    fault_id: U32  # fault queue, with FAULT_ID_VALID
    __reserved2: U32


IOMMU_HWPT_ALLOC = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 9, "iommufd", IommuHwptAlloc)

IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0  # tables of a guest may be put on top
IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1
IOMMU_HWPT_FAULT_ID_VALID = 1 << 2
IOMMU_HWPT_ALLOC_PASID = 1 << 3  # can be attached to a PASID

IOMMU_HWPT_DATA_NONE = 0  # no struct: a table over an IOAS
IOMMU_HWPT_DATA_VTD_S1 = 1


@struct
class IommuHwptVtdS1(Struct):
    """VTD_S1: where the table of a guest lies in its memory."""

    flags: U64
    pgtbl_addr: U64
    addr_width: U32
    __reserved: U32


# ---- What the IOMMU of a device says about itself


@struct
class _InfoType(Overlay):
    in_data_type: U32  # which struct is wanted, with FLAG_INPUT_TYPE
    out_data_type: U32  # which struct was written


@struct
class IommuHwInfo(Struct):
    """dev_id and the buffer are given; the kernel fills the buffer and writes type, length and capabilities."""

    size: U32
    flags: U32
    dev_id: U32
    data_len: U32  # bytes; in: of the buffer, out: of the struct
    data_uptr: Ptr
    _data_type: _InfoType
    out_max_pasid_log2: U8  # PASIDs have so many bits; 0: none
    __reserved: Annotated[Sequence[int], ctypes.c_uint8 * 3]
    out_capabilities: U64


IOMMU_GET_HW_INFO = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 10, "iommufd", IommuHwInfo)

IOMMU_HW_INFO_FLAG_INPUT_TYPE = 1 << 0

IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0
IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 1 << 3  # the device cannot ask for translations itself

IOMMU_HW_INFO_TYPE_DEFAULT = 0  # in: whatever there is
IOMMU_HW_INFO_TYPE_INTEL_VTD = 1


@struct
class IommuHwInfoVtd(Struct):
    """INTEL_VTD: two registers, as the hardware has them."""

    flags: U32
    __reserved: U32
    cap_reg: U64
    ecap_reg: U64


# ---- Dirty pages: which memory did the device write?


@struct
class IommuHwptSetDirtyTracking(Struct):
    """Switch the tracking on or off; all of it is given."""

    size: U32
    flags: U32
    hwpt_id: U32
    __reserved: U32


IOMMU_HWPT_SET_DIRTY_TRACKING = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 11, "iommufd", IommuHwptSetDirtyTracking)

IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1 << 0  # without it: off


@struct
class IommuHwptGetDirtyBitmap(Struct):
    """The range is given; the kernel sets bits in the bitmap and forgets them."""

    size: U32
    hwpt_id: U32
    flags: U32
    __reserved: U32
    iova: U64
    length: U64  # bytes
    page_size: U64  # bytes per bit
    data: Ptr  # the bitmap, whole 64-bit words


IOMMU_HWPT_GET_DIRTY_BITMAP = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 12, "iommufd", IommuHwptGetDirtyBitmap)

IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1 << 0  # do not forget them

# ---- Invalidate: a guest changed its table, so hardware must forget what it cached

IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0
IOMMU_VTD_INV_FLAGS_LEAF = 1 << 0


@struct
class IommuHwptVtdS1Invalidate(Struct):
    """VTD_S1: forget what is cached for some pages of a guest's table, or all."""

    addr: U64
    npages: U64
    flags: U32
    __reserved: U32


@struct
class IommuHwptInvalidate(Struct):
    """A list of invalidations, given; entry_num is rewritten with how many were done."""

    size: U32
    hwpt_id: U32  # a table of a guest, or a virtual IOMMU
    data_uptr: Ptr
    data_type: U32
    entry_len: U32  # bytes of each
    entry_num: U32
    __reserved: U32


IOMMU_HWPT_INVALIDATE = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 13, "iommufd", IommuHwptInvalidate)


# ---- Page faults of devices, for the caller to solve


@struct
class IommuFaultAlloc(Struct):
    """Make a fault queue; the kernel writes its ID and a fd to read faults from and write answers to."""

    size: U32
    flags: U32
    out_fault_id: U32
    out_fault_fd: FdOut


IOMMU_FAULT_QUEUE_ALLOC = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 14, "iommufd", IommuFaultAlloc)


@struct
class IommuHwptPgfault(Struct):
    """One fault, as read from the fd."""

    flags: U32
    dev_id: U32
    pasid: U32  # with PASID_VALID
    grpid: U32  # faults with this number are answered together
    perm: U32  # what the device wanted to do
    __reserved: U32
    addr: U64
    length: U32  # bytes; a hint
    cookie: U32  # to be given in the answer


IOMMU_PGFAULT_FLAGS_PASID_VALID = 1 << 0
IOMMU_PGFAULT_FLAGS_LAST_PAGE = 1 << 1  # the last of its group
IOMMU_PGFAULT_PERM_READ = 1 << 0
IOMMU_PGFAULT_PERM_WRITE = 1 << 1
IOMMU_PGFAULT_PERM_EXEC = 1 << 2
IOMMU_PGFAULT_PERM_PRIV = 1 << 3


@struct
class IommuHwptPageResponse(Struct):
    """The answer to a group of faults, as written to the fd."""

    cookie: U32
    code: U32


IOMMUFD_PAGE_RESP_SUCCESS = 0  # solved, try again
IOMMUFD_PAGE_RESP_INVALID = 1  # not allowed
