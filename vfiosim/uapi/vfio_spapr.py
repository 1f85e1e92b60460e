"""VFIO: the container of POWER machines (sPAPR), where an address window is made first and then filled.

Nothing in the simulator answers these requests; they are here because some share their numbers with others.
"""

from ._ioc import _IO
from ._struct import U32, U64, Overlay, Struct, struct
from .vfio import VFIO_BASE, VFIO_TYPE

# ---- The address windows


@struct
class VfioIommuSpaprTceDdwInfo(Struct):
    """What windows can be made; written by the kernel."""

    pgsizes: U64  # bit n: pages of 2**n bytes
    max_dynamic_windows_supported: U32
    levels: U32  # depth of the I/O page table


@struct
class VfioIommuSpaprTceInfo(Struct):
    """The window that is there from the begin; all but argsz is written by the kernel."""

    argsz: U32
    flags: U32
    dma32_window_start: U32
    dma32_window_size: U32  # bytes
    ddw: VfioIommuSpaprTceDdwInfo  # with INFO_DDW


VFIO_IOMMU_SPAPR_TCE_GET_INFO = _IO(VFIO_TYPE, VFIO_BASE + 12)

VFIO_IOMMU_SPAPR_INFO_DDW = 1 << 0


@struct
class VfioIommuSpaprTceCreate(Struct):
    """Make a window: its shape is given, start_addr is written by the kernel."""

    argsz: U32
    flags: U32
    page_shift: U32  # pages of 2**page_shift bytes
    __resv1: U32
    window_size: U64  # bytes
    levels: U32
    __resv2: U32
    start_addr: U64


VFIO_IOMMU_SPAPR_TCE_CREATE = _IO(VFIO_TYPE, VFIO_BASE + 19)


@struct
class VfioIommuSpaprTceRemove(Struct):
    """Remove a window; all of it is given."""

    argsz: U32
    flags: U32
    start_addr: U64


VFIO_IOMMU_SPAPR_TCE_REMOVE = _IO(VFIO_TYPE, VFIO_BASE + 20)

# ---- Memory, pinned before it is mapped


@struct
class VfioIommuSpaprRegisterMemory(Struct):
    """Pin memory of the process, or let it go; all of it is given."""

    argsz: U32
    flags: U32
    vaddr: U64
    size: U64  # bytes


VFIO_IOMMU_SPAPR_REGISTER_MEMORY = _IO(VFIO_TYPE, VFIO_BASE + 17)
VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY = _IO(VFIO_TYPE, VFIO_BASE + 18)

# ---- Enhanced error handling (EEH): a device that misbehaves is frozen and recovered


@struct
class VfioEehPeErr(Struct):
    """An error to inject."""

    type: U32
    func: U32
    addr: U64
    mask: U64


@struct
class _EehArgument(Overlay):
    err: VfioEehPeErr


@struct
class VfioEehPeOp(Struct):
    """One operation on the devices that share an error domain; all of it is given."""

    argsz: U32
    flags: U32
    op: U32
    _pad: U32
    _argument: _EehArgument


VFIO_EEH_PE_OP = _IO(VFIO_TYPE, VFIO_BASE + 21)

VFIO_EEH_PE_DISABLE = 0
VFIO_EEH_PE_ENABLE = 1
VFIO_EEH_PE_UNFREEZE_IO = 2
VFIO_EEH_PE_UNFREEZE_DMA = 3
VFIO_EEH_PE_GET_STATE = 4  # returns one of the states below
VFIO_EEH_PE_RESET_DEACTIVATE = 5
VFIO_EEH_PE_RESET_HOT = 6
VFIO_EEH_PE_RESET_FUNDAMENTAL = 7
VFIO_EEH_PE_CONFIGURE = 8
VFIO_EEH_PE_INJECT_ERR = 9

VFIO_EEH_PE_STATE_NORMAL = 0
VFIO_EEH_PE_STATE_RESET = 1
VFIO_EEH_PE_STATE_STOPPED = 2  # neither I/O nor DMA
VFIO_EEH_PE_STATE_STOPPED_DMA = 4  # I/O works, DMA does not
VFIO_EEH_PE_STATE_UNAVAIL = 5
