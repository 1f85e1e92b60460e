"""KVM: as much as device assignment needs: a VM, its kvm-vfio device, and the attributes that tell it about files."""

from ._ioc import _IO, _IOW, _IOWR
from ._struct import U32, U64, FdOut, Ptr, Struct, struct

KVMIO = 0xAE  # the subsystem part of every KVM request number
KVM_API_VERSION = 12  # what KVM_GET_API_VERSION returns

# ---- /dev/kvm

KVM_GET_API_VERSION = _IO(KVMIO, 0x00, "kvm")
KVM_CREATE_VM = _IO(KVMIO, 0x01, "kvm", "int")  # kind of machine, 0 on x86; returns a fd
KVM_CHECK_EXTENSION = _IO(KVMIO, 0x03, "kvm", "int")  # a KVM_CAP number; returns 0 for no

KVM_CAP_DEVICE_CTRL = 89  # KVM_CREATE_DEVICE and the attributes exist

# ---- The VM

KVM_CREATE_VCPU = _IO(KVMIO, 0x41, "vm", "int")  # number of the virtual CPU; returns a fd


@struct
class KvmCreateDevice(Struct):
    """Make an in-kernel device of a VM, for example the one that knows VFIO files; fd is written by the kernel."""

    type: U32  # one of KVM_DEV_TYPE_*
    fd: FdOut
    flags: U32


KVM_CREATE_DEVICE = _IOWR(KVMIO, 0xE0, KvmCreateDevice, "vm")

KVM_CREATE_DEVICE_TEST = 1  # flag: make nothing, only say whether the type exists

KVM_DEV_TYPE_VFIO = 4  # the one that matters here: at most one per VM

# ---- An in-kernel device


@struct
class KvmDeviceAttr(Struct):
    """Set, read or look for one attribute; all of it is given, what `addr` points to is given or written."""

    flags: U32
    group: U32
    attr: U64
    addr: Ptr


KVM_SET_DEVICE_ATTR = _IOW(KVMIO, 0xE1, KvmDeviceAttr, "kvm-device")
KVM_GET_DEVICE_ATTR = _IOW(KVMIO, 0xE2, KvmDeviceAttr, "kvm-device")
KVM_HAS_DEVICE_ATTR = _IOW(KVMIO, 0xE3, KvmDeviceAttr, "kvm-device")

# ---- Attributes of KVM_DEV_TYPE_VFIO; addr: the file descriptor, 32 bits signed

KVM_DEV_VFIO_FILE = 1  # group of attributes: a VFIO file, of a group or a device
KVM_DEV_VFIO_FILE_ADD = 1
KVM_DEV_VFIO_FILE_DEL = 2
KVM_DEV_VFIO_GROUP = KVM_DEV_VFIO_FILE  # the older names, from when it had to be a group
KVM_DEV_VFIO_GROUP_ADD = KVM_DEV_VFIO_FILE_ADD
KVM_DEV_VFIO_GROUP_DEL = KVM_DEV_VFIO_FILE_DEL
