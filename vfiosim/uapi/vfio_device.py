"""VFIO: requests on a device file, and how it is tied to an iommufd.

A device file comes from a group (`VFIO_GROUP_GET_DEVICE_FD`) or from `/dev/vfio/devices/vfioN`. The second kind answers
nothing but VFIO_DEVICE_BIND_IOMMUFD until that has succeeded.
"""

from ._ioc import _IO
from ._struct import S32, U32, U64, BytesAfter, FdIn, Overlay, Ptr, Struct, struct
from .vfio import VFIO_BASE, VFIO_TYPE

# ---- What is this device?


@struct
class VfioDeviceInfo(Struct):
    """How many regions and interrupts there are; all but argsz is written by the kernel."""

    argsz: U32
    flags: U32
    num_regions: U32  # highest region index + 1
    num_irqs: U32  # highest interrupt index + 1
    cap_offset: U32  # offset of the first capability in bytes, with FLAGS_CAPS
    pad: U32


VFIO_DEVICE_GET_INFO = _IO(VFIO_TYPE, VFIO_BASE + 7, "device", VfioDeviceInfo)

VFIO_DEVICE_FLAGS_RESET = 1 << 0  # VFIO_DEVICE_RESET works
VFIO_DEVICE_FLAGS_PCI = 1 << 1

# ---- Regions: BARs, config space, ...; windows in the device file


@struct
class VfioRegionInfo(Struct):
    """Where a region lies in the device file: `index` is given, the rest is written by the kernel."""

    argsz: U32
    flags: U32
    index: U32  # for PCI one of VFIO_PCI_*_REGION_INDEX
    cap_offset: U32  # offset of the first capability in bytes, with FLAG_CAPS
    size: U64  # bytes; 0: the device has no such region
    offset: U64  # where the region begins in the device file


VFIO_DEVICE_GET_REGION_INFO = _IO(VFIO_TYPE, VFIO_BASE + 8, "device", VfioRegionInfo)

VFIO_REGION_INFO_FLAG_READ = 1 << 0
VFIO_REGION_INFO_FLAG_WRITE = 1 << 1
VFIO_REGION_INFO_FLAG_MMAP = 1 << 2
VFIO_REGION_INFO_FLAG_CAPS = 1 << 3  # cap_offset is valid

VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3  # the page with the MSI-X table can be mapped; header only

# ---- Interrupts


@struct
class VfioIrqInfo(Struct):
    """About one kind of interrupt: `index` is given, flags and count are written by the kernel."""

    argsz: U32
    flags: U32
    index: U32  # for PCI one of VFIO_PCI_*_IRQ_INDEX
    count: U32  # how many interrupts this index has


VFIO_DEVICE_GET_IRQ_INFO = _IO(VFIO_TYPE, VFIO_BASE + 9, "device", VfioIrqInfo)

VFIO_IRQ_INFO_EVENTFD = 1 << 0  # can be delivered to an eventfd
VFIO_IRQ_INFO_MASKABLE = 1 << 1
VFIO_IRQ_INFO_AUTOMASKED = 1 << 2  # masks itself when it fires
VFIO_IRQ_INFO_NORESIZE = 1 << 3  # to enable more, disable all first


@struct
class VfioIrqSet(Struct):
    """Enable, disable, mask or trigger interrupts start .. start+count-1 of an index; all of it is given."""

    argsz: U32  # with the data
    flags: U32  # one DATA bit and one ACTION bit
    index: U32
    start: U32
    count: U32  # 0 with DATA_NONE and ACTION_TRIGGER: disable the whole index
    data: BytesAfter  # per interrupt: nothing, a byte, or the 32-bit fd of an eventfd


VFIO_DEVICE_SET_IRQS = _IO(VFIO_TYPE, VFIO_BASE + 10, "device", VfioIrqSet)

VFIO_IRQ_SET_DATA_NONE = 1 << 0
VFIO_IRQ_SET_DATA_BOOL = 1 << 1
VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
VFIO_IRQ_SET_ACTION_MASK = 1 << 3
VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4
VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5
VFIO_IRQ_SET_DATA_TYPE_MASK = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD
VFIO_IRQ_SET_ACTION_TYPE_MASK = VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER

# ---- Reset of this device alone

VFIO_DEVICE_RESET = _IO(VFIO_TYPE, VFIO_BASE + 11, "device")

# ---- Display of a virtual graphics device


@struct
class _PlaneSource(Overlay):
    region_index: U32  # the plane is in this region of the device
    dmabuf_id: U32  # the plane is a dma-buf; VFIO_DEVICE_GET_GFX_DMABUF makes a fd of it


@struct
class VfioDeviceGfxPlaneInfo(Struct):
    """A display plane: flags and drm_plane_type are given, the rest is written by the kernel."""

    argsz: U32
    flags: U32
    drm_plane_type: U32
    drm_format: U32
    drm_format_mod: U64
    width: U32  # pixels
    height: U32
    stride: U32  # bytes from one line to the next
    size: U32  # bytes
    x_pos: U32  # position of a cursor plane, pixels
    y_pos: U32
    x_hot: U32  # the point of the cursor that points
    y_hot: U32
    _source: _PlaneSource
    reserved: U32


VFIO_DEVICE_QUERY_GFX_PLANE = _IO(VFIO_TYPE, VFIO_BASE + 14, "device", VfioDeviceGfxPlaneInfo)
VFIO_DEVICE_GET_GFX_DMABUF = _IO(VFIO_TYPE, VFIO_BASE + 15, "device", "s32")  # a dmabuf_id; returns a fd

# ---- A write to the device whenever an eventfd fires


@struct
class VfioDeviceIoeventfd(Struct):
    """Write `data` at `offset` of the device file each time `fd` is signalled; fd -1 ends it. All of it is given."""

    argsz: U32
    flags: U32  # the width of the write, one bit
    offset: U64  # bytes into the device file
    data: U64
    fd: S32
    reserved: U32


VFIO_DEVICE_IOEVENTFD = _IO(VFIO_TYPE, VFIO_BASE + 16, "device", VfioDeviceIoeventfd)

VFIO_DEVICE_IOEVENTFD_8 = 1 << 0  # width in bits
VFIO_DEVICE_IOEVENTFD_16 = 1 << 1
VFIO_DEVICE_IOEVENTFD_32 = 1 << 2
VFIO_DEVICE_IOEVENTFD_64 = 1 << 3
VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xF  # all four

# ---- Tie the device file to an iommufd


@struct
class VfioDeviceBindIommufd(Struct):
    """Bind the device to an iommufd, for as long as the file is open; out_devid is written by the kernel."""

    argsz: U32
    flags: U32
    iommufd: FdIn
    out_devid: U32  # ID of the device inside that iommufd, from 1
    token_uuid_ptr: Ptr  # 16 bytes, with FLAG_TOKEN


VFIO_DEVICE_BIND_IOMMUFD = _IO(VFIO_TYPE, VFIO_BASE + 18, "device", VfioDeviceBindIommufd)

VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0  # a secret that the users of PF and VF share


@struct
class VfioDeviceAttachIommufdPt(Struct):
    """Give the device an address space: pt_id is given and rewritten with what it was attached to."""

    argsz: U32
    flags: U32
    pt_id: U32  # in: an IOAS or HWPT; out: the HWPT that was taken (an emulated device: unchanged)
    pasid: U32  # with ATTACH_PASID


VFIO_DEVICE_ATTACH_IOMMUFD_PT = _IO(VFIO_TYPE, VFIO_BASE + 19, "device", VfioDeviceAttachIommufdPt)

VFIO_DEVICE_ATTACH_PASID = 1 << 0  # only the DMA that carries this process address space ID


@struct
class VfioDeviceDetachIommufdPt(Struct):
    """Take the address space away again; all of it is given."""

    argsz: U32
    flags: U32
    pasid: U32  # with DETACH_PASID


VFIO_DEVICE_DETACH_IOMMUFD_PT = _IO(VFIO_TYPE, VFIO_BASE + 20, "device", VfioDeviceDetachIommufdPt)

VFIO_DEVICE_DETACH_PASID = 1 << 0
