"""VFIO: device features, a family of small get/set calls behind one request; migration is the largest of them."""

from collections.abc import Sequence
from typing import Annotated

from ._ioc import _IO
from ._struct import S32, U32, U64, BytesAfter, Struct, struct
from .vfio import VFIO_BASE, VFIO_TYPE


@struct
class VfioDeviceFeature(Struct):
    """Envelope of every feature: flags are given; the data is given (SET) or written by the kernel (GET)."""

    argsz: U32  # with the data
    flags: U32  # number of the feature and at least one of GET, SET, PROBE
    data: BytesAfter


VFIO_DEVICE_FEATURE = _IO(VFIO_TYPE, VFIO_BASE + 17, "device", VfioDeviceFeature)

VFIO_DEVICE_FEATURE_MASK = 0xFFFF  # the bits of flags with the number
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_SET = 1 << 17
VFIO_DEVICE_FEATURE_PROBE = 1 << 18  # do nothing, only say whether GET or SET is possible

# ---- PCI VF token (SET): 16 bytes, the secret that users of PF and VF share

VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0

# ---- Migration (GET): which states does the device have?

VFIO_DEVICE_FEATURE_MIGRATION = 1


@struct
class VfioDeviceFeatureMigration(Struct):
    """Data of MIGRATION, written by the kernel."""

    flags: U64


VFIO_MIGRATION_STOP_COPY = 1 << 0
VFIO_MIGRATION_P2P = 1 << 1  # states in which the device is quiet towards its neighbours
VFIO_MIGRATION_PRE_COPY = 1 << 2  # data can be saved while the device runs

# ---- Migration state (GET, SET)

VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2


@struct
class VfioDeviceFeatureMigState(Struct):
    """Data of MIG_DEVICE_STATE: device_state is given with SET; data_fd is written by the kernel, -1 for none."""

    device_state: U32
    data_fd: S32  # read the state from here or write it, while saving or resuming


VFIO_DEVICE_STATE_ERROR = 0  # only a reset helps
VFIO_DEVICE_STATE_STOP = 1
VFIO_DEVICE_STATE_RUNNING = 2
VFIO_DEVICE_STATE_STOP_COPY = 3  # stopped, its state can be read
VFIO_DEVICE_STATE_RESUMING = 4  # stopped, its state can be written
VFIO_DEVICE_STATE_RUNNING_P2P = 5
VFIO_DEVICE_STATE_PRE_COPY = 6  # running, and what changes can be read
VFIO_DEVICE_STATE_PRE_COPY_P2P = 7
VFIO_DEVICE_STATE_NR = 8  # how many states there are


@struct
class VfioPrecopyInfo(Struct):
    """How much is left to be read in a PRE_COPY state; all but argsz is written by the kernel."""

    argsz: U32
    flags: U32
    initial_bytes: U64  # of what should be read before the device is stopped
    dirty_bytes: U64  # changed since it was read


VFIO_MIG_GET_PRECOPY_INFO = _IO(VFIO_TYPE, VFIO_BASE + 21, "migration", VfioPrecopyInfo)  # on the data_fd

VFIO_PRECOPY_INFO_REINIT = 1 << 0  # initial_bytes begins anew
VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12  # feature (SET): the caller understands those flags

# ---- Size of the migration data (GET)

VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9


@struct
class VfioDeviceFeatureMigDataSize(Struct):
    """Data of MIG_DATA_SIZE, written by the kernel."""

    stop_copy_length: U64  # bytes, an estimate


# ---- Low power (SET)

VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4
VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5


@struct
class VfioDeviceLowPowerEntryWithWakeup(Struct):
    """Data of LOW_POWER_ENTRY_WITH_WAKEUP, given."""

    wakeup_eventfd: S32  # signalled when the device leaves low power by itself
    reserved: U32


# ---- Log of the memory that the device wrote (START and STOP: SET, REPORT: GET)

VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6
VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7
VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8


@struct
class VfioDeviceFeatureDmaLoggingControl(Struct):
    """Data of DMA_LOGGING_START, given except for page_size, which the kernel rewrites."""

    page_size: U64  # bytes per bit of the log
    num_ranges: U32
    __reserved: U32
    ranges: U64  # address of that many ranges


@struct
class VfioDeviceFeatureDmaLoggingRange(Struct):
    """Addresses to watch."""

    iova: U64
    length: U64  # bytes


@struct
class VfioDeviceFeatureDmaLoggingReport(Struct):
    """Data of DMA_LOGGING_REPORT, given; the kernel sets bits in the bitmap and clears its log."""

    iova: U64
    length: U64  # bytes
    page_size: U64  # bytes per bit
    bitmap: U64  # address of the bitmap, whole 64-bit words


# ---- Bus mastering (SET)

VFIO_DEVICE_FEATURE_BUS_MASTER = 10


@struct
class VfioDeviceFeatureBusMaster(Struct):
    """Data of BUS_MASTER, given: may the device do DMA at all?"""

    op: U32


VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0
VFIO_DEVICE_FEATURE_SET_MASTER = 1

# ---- A part of a region as a dma-buf, for other devices (GET; returns a fd)

VFIO_DEVICE_FEATURE_DMA_BUF = 11


@struct
class VfioRegionDmaRange(Struct):
    """A piece of the region."""

    offset: U64  # bytes into the region
    length: U64


@struct
class VfioDeviceFeatureDmaBuf(Struct):
    """Data of DMA_BUF, given."""

    region_index: U32
    open_flags: U32  # of the new fd, as for open(2)
    flags: U32
    nr_ranges: U32
    dma_ranges: Annotated[Sequence[VfioRegionDmaRange], VfioRegionDmaRange * 0]
