"""How Linux hands a device to user space: VFIO, iommufd and KVM, as a simulator to play with.

    from vfiosim import Machine, uapi

    m = Machine()
    p = m.process("vmm")
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    bind = uapi.VfioDeviceBindIommufd(iommufd=iommu)
    p.ioctl(dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, bind)

Needs nothing but the standard library; `vfiosim.views` draws and `vfiosim.lab` has the widgets.
"""

from . import ctrl_c as ctrl_c
from . import uapi
from .engine import KernelOops, PatchError, Phase
from .kernel import Unsupported
from .kernel.config import Config
from .machine import Blocked, Call, Machine, Process
from .replay import Replay, replay
from .topology import DeviceSpec, Topology
from .tracebacks import show_own_errors
from .uapi import Errno, KernelError

__all__ = [
    "Blocked",
    "Call",
    "Config",
    "DeviceSpec",
    "Errno",
    "KernelError",
    "KernelOops",
    "Machine",
    "PatchError",
    "Phase",
    "Process",
    "Replay",
    "Topology",
    "Unsupported",
    "replay",
    "uapi",
]

show_own_errors()
