"""iommufd: the request of kernels built for testing, with a device and an IOMMU that exist only in software.

The mock IOMMU has what the emulated machine of the recorded runs lacks: dirty tracking, nested tables, page faults.
"""

from ._ioc import _IO
from ._struct import S32, U32, U64, Member, Overlay, Struct, struct
from .iommufd import IOMMUFD_CMD_BASE, IOMMUFD_TYPE

# ---- What to do; the comment says what `id` in the request stands for

IOMMU_TEST_OP_ADD_RESERVED = 1  # IOAS: reserve addresses
IOMMU_TEST_OP_MOCK_DOMAIN = 2  # IOAS: make a mock device and attach it
IOMMU_TEST_OP_MD_CHECK_MAP = 3  # HWPT: is this memory mapped here?
IOMMU_TEST_OP_MD_CHECK_REFS = 4  # unused: how often are these pages pinned?
IOMMU_TEST_OP_CREATE_ACCESS = 5  # IOAS: make an emulated device, which reads and writes by software
IOMMU_TEST_OP_DESTROY_ACCESS_PAGES = 6  # access: unpin
IOMMU_TEST_OP_ACCESS_PAGES = 7  # access: pin
IOMMU_TEST_OP_ACCESS_RW = 8  # access: read or write
IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT = 9  # unused: pretend that memory is short
IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE = 10  # mock device: move it to another page table
IOMMU_TEST_OP_ACCESS_REPLACE_IOAS = 11  # access: move it to another IOAS
IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS = 12  # IOAS: as MOCK_DOMAIN, with MOCK_FLAGS_DEVICE_*
IOMMU_TEST_OP_DIRTY = 13  # HWPT: mark pages dirty
IOMMU_TEST_OP_MD_CHECK_IOTLB = 14  # HWPT: what is in the translation cache?
IOMMU_TEST_OP_TRIGGER_IOPF = 15  # unused: the device has a page fault
IOMMU_TEST_OP_DEV_CHECK_CACHE = 16  # device: what is in its own cache?
IOMMU_TEST_OP_TRIGGER_VEVENT = 17  # unused: the device has an event for its guest
IOMMU_TEST_OP_PASID_ATTACH = 18  # mock device
IOMMU_TEST_OP_PASID_REPLACE = 19  # mock device
IOMMU_TEST_OP_PASID_DETACH = 20  # mock device
IOMMU_TEST_OP_PASID_CHECK_HWPT = 21  # mock device: is this PASID attached to that HWPT?
IOMMU_TEST_OP_DMABUF_GET = 22  # unused: make a mock dma-buf
IOMMU_TEST_OP_DMABUF_REVOKE = 23  # unused: take its memory away, or give it back

# ---- Arguments of the operations


@struct
class _AddReserved(Struct):
    start: U64
    length: U64  # bytes


@struct
class _MockDomain(Struct):
    out_stdev_id: U32  # the mock device
    out_hwpt_id: U32
    out_idev_id: U32  # the device object in the iommufd


@struct
class _MockDomainFlags(Struct):
    out_stdev_id: U32
    out_hwpt_id: U32
    out_idev_id: U32
    dev_flags: U32


@struct
class _PtId(Struct):
    pt_id: U32


@struct
class _CheckMap(Struct):
    iova: U64
    length: U64  # bytes
    uptr: U64


@struct
class _CheckRefs(Struct):
    length: U64  # bytes
    uptr: U64
    refs: U32
    _pad: U32


@struct
class _CreateAccess(Struct):
    out_access_fd: U32
    flags: U32


@struct
class _DestroyAccessPages(Struct):
    access_pages_id: U32


@struct
class _AccessPages(Struct):
    flags: U32
    out_access_pages_id: U32
    iova: U64
    length: U64  # bytes
    uptr: U64


@struct
class _AccessRw(Struct):
    iova: U64
    length: U64  # bytes
    uptr: U64
    flags: U32
    _pad: U32


@struct
class _MemoryLimit(Struct):
    limit: U32  # bytes


@struct
class _IoasId(Struct):
    ioas_id: U32


@struct
class _Dirty(Struct):
    flags: U32
    _pad: U32
    iova: U64
    length: U64  # bytes
    page_size: U64  # bytes per bit
    uptr: U64
    out_nr_dirty: U64


@struct
class _CheckIotlb(Struct):
    id: U32
    iotlb: U32


@struct
class _TriggerIopf(Struct):
    dev_id: U32
    pasid: U32
    grpid: U32
    perm: U32
    addr: U64


@struct
class _CheckDevCache(Struct):
    id: U32
    cache: U32


@struct
class _DevId(Struct):
    dev_id: U32


@struct
class _PasidPt(Struct):
    pasid: U32
    pt_id: U32


@struct
class _Pasid(Struct):
    pasid: U32


@struct
class _PasidHwpt(Struct):
    pasid: U32
    hwpt_id: U32  # 0: attached to nothing


@struct
class _DmabufGet(Struct):
    length: U32  # bytes
    open_flags: U32


@struct
class _DmabufRevoke(Struct):
    dmabuf_fd: S32
    revoked: U32


@struct
class _Arguments(Overlay):
    add_reserved: _AddReserved
    mock_domain: _MockDomain
    mock_domain_flags: _MockDomainFlags
    mock_domain_replace: _PtId
    check_map: _CheckMap
    check_refs: _CheckRefs
    create_access: _CreateAccess
    destroy_access_pages: _DestroyAccessPages
    access_pages: _AccessPages
    access_rw: _AccessRw
    memory_limit: _MemoryLimit
    access_replace_ioas: _IoasId
    dirty: _Dirty
    check_iotlb: _CheckIotlb
    trigger_iopf: _TriggerIopf
    check_dev_cache: _CheckDevCache
    trigger_vevent: _DevId
    pasid_attach: _PasidPt
    pasid_replace: _PasidPt
    pasid_detach: _Pasid
    pasid_check: _PasidHwpt
    dmabuf_get: _DmabufGet
    dmabuf_revoke: _DmabufRevoke


# ---- The request

_BY_OP = (
    *("", "add_reserved", "mock_domain", "check_map", "check_refs", "create_access", "destroy_access_pages"),
    *("access_pages", "access_rw", "memory_limit", "mock_domain_replace", "access_replace_ioas", "mock_domain_flags"),
    *("dirty", "check_iotlb", "trigger_iopf", "check_dev_cache", "trigger_vevent", "pasid_attach", "pasid_replace"),
    *("pasid_detach", "pasid_check", "dmabuf_get", "dmabuf_revoke"),
)


@struct
class IommuTestCmd(Struct):
    """Do something with mock devices; the member named after `op` holds its arguments and results."""

    size: U32
    op: U32
    id: U32
    __reserved: U32
    _arguments: _Arguments
    last: U32
    _pad: U32

    def _worth_showing(self, field: Member) -> bool:
        """Of the arguments only those of this operation."""
        return field.name in ("size", "op", "id", *_BY_OP[self.op : self.op + 1])


IOMMU_TEST_CMD = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 32, "iommufd", IommuTestCmd)

# ---- The mock IOMMU

MOCK_IOMMUPT_DEFAULT = 0  # kinds of page table
MOCK_IOMMUPT_HUGE = 1  # with large pages
# Of the default kind, in bytes
MOCK_APERTURE_START = 1 << 24
MOCK_APERTURE_LAST = (1 << 31) - 1
MOCK_PAGE_SIZE = 2048
MOCK_HUGE_PAGE_SIZE = 512 * MOCK_PAGE_SIZE

MOCK_FLAGS_DEVICE_NO_DIRTY = 1 << 0  # no dirty tracking
MOCK_FLAGS_DEVICE_PASID = 1 << 2
MOCK_PASID_WIDTH = 20  # bits
IOMMU_TEST_PASID_RESERVED = 1024  # attaching this PASID fails

# Caches of tables and of devices: made with a known content, and gone when they were invalidated
MOCK_NESTED_DOMAIN_IOTLB_ID_MAX = 3
MOCK_NESTED_DOMAIN_IOTLB_NUM = MOCK_NESTED_DOMAIN_IOTLB_ID_MAX + 1
MOCK_DEV_CACHE_ID_MAX = 3
MOCK_DEV_CACHE_NUM = MOCK_DEV_CACHE_ID_MAX + 1
IOMMU_TEST_IOTLB_DEFAULT = 0xBADBEEF
IOMMU_TEST_DEV_CACHE_DEFAULT = 0xBADDAD

# ---- The emulated device

MOCK_FLAGS_ACCESS_WRITE = 1 << 0  # pin for writing
MOCK_FLAGS_ACCESS_SYZ = 1 << 16  # iova is a number in a list of mappings, for fuzzers
MOCK_ACCESS_RW_WRITE = 1 << 0
MOCK_ACCESS_RW_SLOW_PATH = 1 << 2  # not by way of pinned pages
MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES = 1 << 0  # it will pin, so mappings must be page aligned

# ---- The types and data of the mock IOMMU in other requests

IOMMU_HW_INFO_TYPE_SELFTEST = 0xFEEDBEEF
IOMMU_HW_INFO_SELFTEST_REGVAL = 0xDEADBEEF


@struct
class IommuTestHwInfo(Struct):
    """IOMMU_GET_HW_INFO: what the mock IOMMU says, always IOMMU_HW_INFO_SELFTEST_REGVAL."""

    flags: U32
    test_reg: U32


IOMMU_HWPT_DATA_SELFTEST = 0xDEAD


@struct
class IommuHwptSelftest(Struct):
    """IOMMU_HWPT_ALLOC: what the caches of the table begin with; given."""

    iotlb: U32
    pagetable_type: U32  # one of MOCK_IOMMUPT_*


IOMMU_HWPT_INVALIDATE_DATA_SELFTEST = 0xDEADBEEF
IOMMU_TEST_INVALIDATE_FLAG_ALL = 1 << 0


@struct
class IommuHwptInvalidateSelftest(Struct):
    """IOMMU_HWPT_INVALIDATE of a table: forget one cache or all; given."""

    flags: U32
    iotlb_id: U32


IOMMU_VIOMMU_TYPE_SELFTEST = 0xDEADBEEF


@struct
class IommuViommuSelftest(Struct):
    """IOMMU_VIOMMU_ALLOC: in_data is given and comes back in out_data, with a page that can be mapped."""

    in_data: U32
    out_data: U32
    out_mmap_offset: U64
    out_mmap_length: U64  # bytes


IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST = 0xDEADBEEF


@struct
class IommuViommuInvalidateSelftest(Struct):
    """IOMMU_HWPT_INVALIDATE of a virtual IOMMU: forget one cache of a device or all; given."""

    flags: U32
    vdev_id: U32
    cache_id: U32


IOMMU_VEVENTQ_TYPE_SELFTEST = 0xBEEFBEEF


@struct
class IommuViommuEventSelftest(Struct):
    """The event that TRIGGER_VEVENT makes: the guest's number of the device."""

    virt_id: U32


IOMMU_HW_QUEUE_TYPE_SELFTEST = 0xDEADBEEF
IOMMU_TEST_HW_QUEUE_MAX = 2  # queues per virtual IOMMU
