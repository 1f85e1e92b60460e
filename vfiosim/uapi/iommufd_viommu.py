"""iommufd: virtual IOMMUs, which give a guest a part of the hardware; their devices, events and queues."""

from ._ioc import _IO
from ._struct import U32, U64, FdOut, Ptr, Struct, struct
from .iommufd import IOMMUFD_CMD_BASE, IOMMUFD_TYPE

# ---- A virtual IOMMU


@struct
class IommuViommuAlloc(Struct):
    """Make a virtual IOMMU of the one that is behind a device; out_viommu_id is written by the kernel."""

    size: U32
    flags: U32
    type: U32
    dev_id: U32
    hwpt_id: U32  # a table made with NEST_PARENT: the memory of the guest
    out_viommu_id: U32
    data_len: U32  # bytes
    __reserved: U32
    data_uptr: Ptr  # a struct that depends on the type; some are written by the kernel


IOMMU_VIOMMU_ALLOC = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 16, "iommufd", IommuViommuAlloc)

IOMMU_VIOMMU_TYPE_DEFAULT = 0  # not a type: refused


# ---- A device as the guest sees it


@struct
class IommuVdeviceAlloc(Struct):
    """Tell a virtual IOMMU the number that the guest knows a device by; out_vdevice_id is written by the kernel."""

    size: U32
    viommu_id: U32
    dev_id: U32
    out_vdevice_id: U32
    virt_id: U64  # number of the device in the guest, e.g. its stream ID


IOMMU_VDEVICE_ALLOC = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 17, "iommufd", IommuVdeviceAlloc)

# ---- Events of the hardware that belong to the guest


@struct
class IommuVeventqAlloc(Struct):
    """Make an event queue of one type; the kernel writes its ID and a fd to read events from."""

    size: U32
    flags: U32
    viommu_id: U32
    type: U32
    veventq_depth: U32  # at most so many events wait; further ones are lost
    out_veventq_id: U32
    out_veventq_fd: FdOut
    __reserved: U32


IOMMU_VEVENTQ_ALLOC = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 19, "iommufd", IommuVeventqAlloc)

IOMMU_VEVENTQ_TYPE_DEFAULT = 0  # not a type: refused


@struct
class IommufdVeventHeader(Struct):
    """Comes before every event read from the fd."""

    flags: U32
    sequence: U32  # one more each time, a gap where events were lost; after 2**31 - 1 comes 0


IOMMU_VEVENTQ_FLAG_LOST_EVENTS = 1 << 0  # no event follows, some were lost


# ---- A queue in the memory of the guest that the hardware reads by itself


@struct
class IommuHwQueueAlloc(Struct):
    """Give the hardware a queue of the guest; out_hw_queue_id is written by the kernel."""

    size: U32
    flags: U32
    viommu_id: U32
    type: U32
    index: U32  # which of the queues of this type
    out_hw_queue_id: U32
    nesting_parent_iova: U64  # where the queue lies, guest-physical
    length: U64  # bytes


IOMMU_HW_QUEUE_ALLOC = _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 20, "iommufd", IommuHwQueueAlloc)

IOMMU_HW_QUEUE_TYPE_DEFAULT = 0  # not a type: refused
