"""KVM: as much as device assignment needs: a VM, its kvm-vfio device, and the attributes that tell it about files."""

import ctypes
from collections.abc import Sequence
from typing import Annotated

from ._ioc import _IO, _IOW, _IOWR
from ._struct import S32, U32, U64, FdOut, Ptr, Struct, struct

KVMIO = 0xAE  # the subsystem part of every KVM request number
KVM_API_VERSION = 12  # what KVM_GET_API_VERSION returns

# ---- /dev/kvm

KVM_GET_API_VERSION = _IO(KVMIO, 0x00)
KVM_CREATE_VM = _IO(KVMIO, 0x01)  # argument: kind of machine, 0 on x86; returns a fd
KVM_CHECK_EXTENSION = _IO(KVMIO, 0x03)  # argument: a KVM_CAP number; returns 0 for no

KVM_CAP_DEVICE_CTRL = 89  # KVM_CREATE_DEVICE and the attributes exist

# ---- The VM

KVM_CREATE_VCPU = _IO(KVMIO, 0x41)  # argument: number of the virtual CPU; returns a fd


@struct
class KvmCreateDevice(Struct):
    """Make an in-kernel device of a VM, for example the one that knows VFIO files; fd is written by the kernel."""

    type: U32  # one of KVM_DEV_TYPE_*
    fd: FdOut
    flags: U32


KVM_CREATE_DEVICE = _IOWR(KVMIO, 0xE0, KvmCreateDevice)

KVM_CREATE_DEVICE_TEST = 1  # flag: make nothing, only say whether the type exists

KVM_DEV_TYPE_FSL_MPIC_20 = 1
KVM_DEV_TYPE_FSL_MPIC_42 = 2
KVM_DEV_TYPE_XICS = 3
KVM_DEV_TYPE_VFIO = 4  # the one that matters here: at most one per VM
KVM_DEV_TYPE_ARM_VGIC_V2 = 5
KVM_DEV_TYPE_FLIC = 6
KVM_DEV_TYPE_ARM_VGIC_V3 = 7
KVM_DEV_TYPE_ARM_VGIC_ITS = 8
KVM_DEV_TYPE_XIVE = 9
KVM_DEV_TYPE_ARM_PV_TIME = 10
KVM_DEV_TYPE_RISCV_AIA = 11
KVM_DEV_TYPE_LOONGARCH_IPI = 12
KVM_DEV_TYPE_LOONGARCH_EIOINTC = 13
KVM_DEV_TYPE_LOONGARCH_PCHPIC = 14
KVM_DEV_TYPE_LOONGARCH_DMSINTC = 15
KVM_DEV_TYPE_ARM_VGIC_V5 = 16
KVM_DEV_TYPE_MAX = 17  # how many numbers are taken, 0 included

# ---- An in-kernel device


@struct
class KvmDeviceAttr(Struct):
    """Set, read or look for one attribute; all of it is given, what `addr` points to is given or written."""

    flags: U32
    group: U32
    attr: U64
    addr: Ptr


KVM_SET_DEVICE_ATTR = _IOW(KVMIO, 0xE1, KvmDeviceAttr)
KVM_GET_DEVICE_ATTR = _IOW(KVMIO, 0xE2, KvmDeviceAttr)
KVM_HAS_DEVICE_ATTR = _IOW(KVMIO, 0xE3, KvmDeviceAttr)

# ---- Attributes of KVM_DEV_TYPE_VFIO; addr: the file descriptor, 32 bits signed

KVM_DEV_VFIO_FILE = 1  # group of attributes: a VFIO file, of a group or a device
KVM_DEV_VFIO_FILE_ADD = 1
KVM_DEV_VFIO_FILE_DEL = 2
KVM_DEV_VFIO_GROUP = KVM_DEV_VFIO_FILE  # the older names, from when it had to be a group
KVM_DEV_VFIO_GROUP_ADD = KVM_DEV_VFIO_FILE_ADD
KVM_DEV_VFIO_GROUP_DEL = KVM_DEV_VFIO_FILE_DEL
KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE = 3  # POWER: addr points to a kvm_vfio_spapr_tce


@struct
class KvmVfioSpaprTce(Struct):
    """A group and the I/O page table to use for it; given."""

    groupfd: S32
    tablefd: S32


# ---- Requests that share the prefix but have nothing to do with assigned devices


@struct
class _KvmPitConfig(Struct):
    """An interval timer; not used here, but its size is a part of the request number."""

    flags: U32
    pad: Annotated[Sequence[int], ctypes.c_uint32 * 15]


@struct
class _KvmCreateGuestMemfd(Struct):
    """Memory that only the guest sees; not used here, but its size is a part of the request number."""

    size: U64  # bytes
    flags: U64
    reserved: Annotated[Sequence[int], ctypes.c_uint64 * 6]


KVM_CREATE_IRQCHIP = _IO(KVMIO, 0x60)
KVM_CREATE_PIT = _IO(KVMIO, 0x64)
KVM_CREATE_PIT2 = _IOW(KVMIO, 0x77, _KvmPitConfig)
KVM_CREATE_GUEST_MEMFD = _IOWR(KVMIO, 0xD4, _KvmCreateGuestMemfd)
