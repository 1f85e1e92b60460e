"""The objects of VFIO (drivers/vfio/vfio.h, include/linux/vfio.h, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...engine import Completion, Count, Field, KObject, Lock, Table, completion, count, field, mutex, spinlock, table
from ...engine.engine import Engine
from ..base import Device
from ..fs.file import Cdev, File
from ..iommu import IommuGroup
from ..iommufd.private import IommufdAccess, IommufdCtx, IommufdDevice
from ..kvm.kvm import Kvm


@dataclass(frozen=True)
class VfioDeviceOps:
    """What a VFIO driver does for its devices (`struct vfio_device_ops`); None where it does nothing."""

    name: str
    bind_iommufd: Callable[[VfioDevice, IommufdCtx], Awaitable[int]]
    unbind_iommufd: Callable[[VfioDevice], Awaitable[None]]
    open_device: Callable[[VfioDevice], Awaitable[None]]
    close_device: Callable[[VfioDevice], Awaitable[None]]
    ioctl: Callable[[VfioDevice, int, int], Awaitable[int]]
    attach_ioas: Callable[[VfioDevice, int], Awaitable[int]]
    detach_ioas: Callable[[VfioDevice], Awaitable[None]]
    pasid_attach_ioas: Callable[[VfioDevice, int, int], Awaitable[int]] | None = None
    pasid_detach_ioas: Callable[[VfioDevice, int], Awaitable[None]] | None = None
    match_token_uuid: Callable[[VfioDevice, bytes | None], Awaitable[None]] | None = None


class VfioDeviceSet(KObject):
    """Devices that are opened, closed and reset under one lock.

    * born with the first of its devices, dies with the last.
    """

    kind = "vfio_device_set"
    lock: Lock = mutex()
    device_count: Count = count()


class VfioGroup(KObject):
    """The legacy node of an iommu_group: /dev/vfio/N.

    * born with the first device of the group that a VFIO driver takes, held by its devices (`drivers`);
    * opened by one file at a time, and only while no device of it is bound through its own node;
    * dies after the last driver has gone and the last file is closed.
    """

    kind = "vfio_group"
    drivers: Count = count()
    dev: Count = count()  # its memory
    group_lock: Lock = mutex()
    # guarded by group_lock
    opened_file: Field[File | None] = field(None, guard="group_lock", link="weak")
    cdev_device_open_cnt: Field[int] = field(0, guard="group_lock")
    iommu_group: Field[IommuGroup | None] = field(None, guard="group_lock")
    # guarded by kvm_ref_lock
    kvm_ref_lock: Lock = spinlock()
    kvm: Field[Kvm | None] = field(None, guard="kvm_ref_lock", link="weak")

    def __init__(self, engine: Engine, number: int) -> None:
        super().__init__(engine, str(number))
        self.cdev: Cdev | None = None  # set before the node appears


class VfioDevice(KObject):
    """A device in the hands of a VFIO driver: /dev/vfio/devices/vfioN.

    * born when the driver takes the device; `kref` counts who needs its memory;
    * registered: `refcount` is 1 for the driver and 1 for each open file; an unbind of the driver waits for all of them;
    * opened: `open_count` is the number of opens, through its own node at most one;
    * while open by BIND it holds a VM (`kvm`, if one was known at BIND) and an object in the iommufd.
    """

    kind = "vfio_device"
    kref: Count = count()
    refcount: Count = count()
    comp: Completion = completion()
    # guarded by dev_set.lock
    open_count: Field[int] = field(0, guard="dev_set.lock")
    cdev_opened: Field[bool] = field(False, guard="dev_set.lock")
    kvm: Field[Kvm | None] = field(None, guard="dev_set.lock")
    iommufd_device: Field[IommufdDevice | None] = field(None, guard="dev_set.lock")
    iommufd_access: Field[IommufdAccess | None] = field(None, guard="dev_set.lock")
    iommufd_attached: Field[bool] = field(False, guard="dev_set.lock")
    pasids: Table[bool] = table(guard="dev_set.lock")  # those that are attached

    def __init__(
        self, engine: Engine, index: int, dev: Device, ops: VfioDeviceOps, dev_set: VfioDeviceSet, group: VfioGroup
    ) -> None:
        super().__init__(engine, f"vfio{index}")
        self.dev = dev
        self.ops = ops
        self.dev_set = dev_set
        self.group = group


class VfioDeviceFile(KObject):
    """What one open of a device means ("df").

    * born by opening the node (`group` is None) or by asking an open group for the device;
    * lives exactly as long as its file;
    * `access_granted` opens the gate: before, only BIND works; it is set once and never cleared.
    """

    kind = "vfio_device_file"
    access_granted: Field[bool] = field(False)
    devid: Field[int] = field(0, guard="dev_set.lock")
    iommufd: Field[IommufdCtx | None] = field(None, guard="dev_set.lock")
    kvm_ref_lock: Lock = spinlock()
    kvm: Field[Kvm | None] = field(None, guard="kvm_ref_lock", link="weak")
    # no field of the kernel: which VM the bind took, so that the invariants can see when it is lost
    bound_for: Field[Kvm | None] = field(None)

    def __init__(self, engine: Engine, file: File, device: VfioDevice, group: VfioGroup | None) -> None:
        super().__init__(engine)
        self.file = file
        self.device = device
        self.group = group
