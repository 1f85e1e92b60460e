"""The objects of VFIO (drivers/vfio/vfio.h, include/linux/vfio.h, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ...engine import *
from ...uapi import VfioRegionInfo
from ..base import BusDriver, Device
from ..fs.devtmpfs import DevTmpfs
from ..fs.file import Cdev, File, FileOperations, Mapping
from ..iommu import IommuGroup
from ..iommufd.iommufd_private import IommufdAccess, IommufdCtx, IommufdDevice
from ..kvm.kvm import Kvm
from ..params import ModuleParameters
from ..variants import V72, Variant


@dataclass(frozen=True)
class VfioDeviceOps:
    """What a VFIO driver does for its devices (`struct vfio_device_ops`); None where it does nothing."""

    name: str
    # the four that make a device usable with an iommufd; a driver without them can register in some versions only
    bind_iommufd: Callable[[VfioDevice, IommufdCtx], Awaitable[int]] | None
    unbind_iommufd: Callable[[VfioDevice], Awaitable[None]] | None
    open_device: Callable[[VfioDevice], Awaitable[None]]
    close_device: Callable[[VfioDevice], Awaitable[None]]
    ioctl: Callable[[VfioDevice, int, int], Awaitable[int]]
    attach_ioas: Callable[[VfioDevice, int], Awaitable[int]] | None
    detach_ioas: Callable[[VfioDevice], Awaitable[None]] | None
    release: Callable[[VfioDevice], Awaitable[None]] | None = None
    pasid_attach_ioas: Callable[[VfioDevice, int, int], Awaitable[int]] | None = None
    pasid_detach_ioas: Callable[[VfioDevice, int], Awaitable[None]] | None = None
    get_region_info: Callable[[VfioDevice, VfioRegionInfo], Awaitable[bytes]] | None = None  # answers with capabilities
    device_feature: Callable[[VfioDevice, int, int, int], Awaitable[int]] | None = None
    read: Callable[[VfioDevice, int, int], Awaitable[bytes]] | None = None
    write: Callable[[VfioDevice, bytes, int], Awaitable[int]] | None = None
    mmap: Callable[[VfioDevice, Mapping], Awaitable[None]] | None = None
    fault: Callable[[VfioDevice, int, int, bytes | None], Awaitable[bytes]] | None = None  # an access to what is mapped
    migration_flags: int = 0  # what its migration can do; 0: it has none
    mig_ops: VfioMigrationOps | None = None
    logs_dma: bool = False  # can it note which memory it wrote?
    match_token_uuid: Callable[[VfioDevice, bytes | None], Awaitable[None]] | None = None
    match: Callable[[VfioDevice, bytes], Awaitable[bool]] | None = None
    request: Callable[[VfioDevice, int], Awaitable[None]] | None = None  # the driver wants to leave, for the n-th time


@dataclass(frozen=True)
class VfioMigrationOps:
    """How a driver saves and loads the state of a device (`struct vfio_migration_ops`)."""

    migration_set_state: Callable[[VfioDevice, int], Awaitable[File | None]]  # answers with a file to read or write
    migration_get_state: Callable[[VfioDevice], Awaitable[int]]
    migration_get_data_size: Callable[[VfioDevice], Awaitable[int]]  # of its whole state, in bytes


class Vfio(KObject):
    """What all of VFIO shares (`struct vfio`): the numbers of devices, the groups, the device sets. There from the start."""

    kind = "vfio"
    root = "the kernel"
    device_ida: Table[KObject] = table()
    dev_sets: Table[VfioDeviceSet] = table()
    group_lock: Lock = mutex()
    # guarded by group_lock
    group_list: Table[VfioGroup] = table(guard="group_lock")  # by the number of the iommu_group

    def __init__(
        self,
        engine: Engine,
        devtmpfs: DevTmpfs,
        device_fops: FileOperations,
        group_fops: FileOperations,
        parameters: ModuleParameters,
        variant: Variant = V72,
    ) -> None:
        super().__init__(engine, "tables")
        self.parameters = parameters
        self.variant = variant  # the version whose rules hold
        self.devtmpfs = devtmpfs
        self.device_fops = device_fops  # of every device node
        self.group_fops = group_fops  # of every group node


class VfioDeviceSet(KObject):
    """Devices that are opened, closed and reset under one lock.

    * born with the first of its devices, dies with the last.
    """

    kind = "vfio_device_set"
    lock: Lock = mutex()
    device_count: Count = count()
    device_list: Field[tuple[VfioDevice, ...]] = field((), guard="lock")  # oldest first

    def __init__(self, engine: Engine, key: str) -> None:
        super().__init__(engine, key)
        self.key = key


class VfioGroupType(StrEnum):
    """What stands between the devices of a group and memory."""

    IOMMU = "VFIO_IOMMU"
    EMULATED_IOMMU = "VFIO_EMULATED_IOMMU"
    NO_IOMMU = "VFIO_NO_IOMMU"


class VfioGroup(KObject):
    """The legacy node of an iommu_group: /dev/vfio/N.

    * born with the first device of the group that a VFIO driver takes, held by its devices (`drivers`);
    * opened by one file at a time, and only while no device of it is bound through its own node;
    * its devices can be opened while it is in a container (which it holds by a count) or has an iommufd (whose file it
      holds), never both; `container_users` is 1 for being in the container, and 1 for each device opened there;
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
    container: Field[VfioContainer | None] = field(None, guard="group_lock")
    container_users: Field[int] = field(0, guard="group_lock")
    iommufd: Field[IommufdCtx | None] = field(None, guard="group_lock")
    # guarded by device_lock
    device_lock: Lock = mutex()
    device_list: Field[tuple[VfioDevice, ...]] = field((), guard="device_lock")  # newest first
    # guarded by kvm_ref_lock
    kvm_ref_lock: Lock = spinlock()
    kvm: Field[Kvm | None] = field(None, guard="kvm_ref_lock", link="weak")

    def __init__(self, engine: Engine, number: int, type_: VfioGroupType) -> None:
        name = f"noiommu-{number}" if type_ is VfioGroupType.NO_IOMMU else str(number)
        super().__init__(engine, name)
        self.type = type_
        self.number = number
        self.path = f"/dev/vfio/{name}"
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
    driver_data: Field[KObject | None] = field(None, link="owns")
    iommufd_device: Field[IommufdDevice | None] = field(None, guard="dev_set.lock")
    iommufd_access: Field[IommufdAccess | None] = field(None, guard="dev_set.lock")
    iommufd_ictx: Field[IommufdCtx | None] = field(None, guard="dev_set.lock")  # remembered where bind makes no access
    iommufd_attached: Field[bool] = field(False, guard="dev_set.lock")
    pasids: Table[bool] = table(guard="dev_set.lock")  # those that are attached
    precopy_info_v2: Field[bool] = field(False)  # the program knows flags of VFIO_MIG_GET_PRECOPY_INFO

    def __init__(
        self,
        engine: Engine,
        index: int,
        dev: Device,
        ops: VfioDeviceOps,
        dev_set: VfioDeviceSet,
        group: VfioGroup,
        vfio: Vfio,
        driver: BusDriver,
    ) -> None:
        super().__init__(engine, f"vfio{index}")
        self.index = index
        self.cdev_name = f"vfio{index}"
        self.path = f"/dev/vfio/devices/vfio{index}"
        self.vfio = vfio
        self.cdev: Cdev | None = None  # set before the node appears
        self.dev = dev
        self.ops = ops
        self.driver = driver  # whose module `ops` is in
        self.dev_set = dev_set
        self.group = group  # None in a kernel that was built without VFIO_GROUP


class VfioDeviceFile(KObject):
    """What one open of a device means ("df").

    * born by opening the node (`group` is None) or by asking an open group for the device;
    * lives exactly as long as its file (`file`, set before anybody can find it);
    * holds the iommufd that it is bound to; one that came from a group only borrows the group's;
    * `access_granted` opens the gate: before, only BIND works; it is set once and never cleared.
    """

    kind = "vfio_device_file"
    access_granted: Field[bool] = field(False, notes=lambda df: (df.bound_for, df.device.kvm))
    devid: Field[int] = field(0, guard="dev_set.lock")
    iommufd: Field[IommufdCtx | None] = field(None, guard="dev_set.lock")
    noiommu: Field[bool] = field(False, guard="dev_set.lock")  # bound to no iommufd, in version 5 only
    kvm_ref_lock: Lock = spinlock()
    kvm: Field[Kvm | None] = field(None, guard="kvm_ref_lock", link="weak")
    # which VM the device had when the gate was opened, so that the invariants can see when it is lost
    bound_for: Field[Kvm | None] = field(None, link="note")

    def __init__(self, engine: Engine, file: File | None, device: VfioDevice, group: VfioGroup | None) -> None:
        super().__init__(engine)
        self.file = file
        self.device = device
        self.group = group


@dataclass(frozen=True)
class VfioIommuDriverOps:
    """What an IOMMU driver does for containers (`struct vfio_iommu_driver_ops`); `data` is what its open has made."""

    name: str
    open: Callable[[int], Awaitable[KObject | None]]
    release: Callable[[Any], Awaitable[None]]
    ioctl: Callable[[Any, int, int], Awaitable[int]]
    attach_group: Callable[[Any, IommuGroup, VfioGroupType], Awaitable[None]]
    detach_group: Callable[[Any, IommuGroup], Awaitable[None]]


class VfioIommuDriver(KObject):
    """An IOMMU driver that containers can be given.

    * loaded when the machine starts, a root; each container that uses it holds its module.
    """

    kind = "vfio_iommu_driver"
    root = "a loaded driver"
    module: Count = count()

    def __init__(self, engine: Engine, ops: VfioIommuDriverOps) -> None:
        super().__init__(engine, ops.name)
        self.ops = ops


class VfioIommuDrivers(KObject):
    """What all containers share: the list of IOMMU drivers."""

    kind = "vfio_iommu_drivers"
    root = "the kernel"
    iommu_drivers_lock: Lock = mutex()
    iommu_drivers_list: Field[tuple[VfioIommuDriver, ...]] = field((), guard="iommu_drivers_lock")

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "loaded")


class VfioContainer(KObject):
    """The legacy owner of DMA mappings: /dev/vfio/vfio.

    * born by opening the node, held by its file and by each group in it;
    * gets an IOMMU driver by VFIO_SET_IOMMU, only while a group is in it, and loses it with the last group;
    * `group_lock` is a lock for readers and writers in the kernel; here readers wait for each other too.
    """

    kind = "vfio_container"
    kref: Count = count()
    group_lock: Lock = mutex()
    group_list: Field[tuple[VfioGroup, ...]] = field((), guard="group_lock")
    iommu_driver: Field[VfioIommuDriver | None] = field(None, guard="group_lock")
    iommu_data: Field[KObject | None] = field(None, guard="group_lock", link="owns")
    noiommu: Field[bool] = field(False, guard="group_lock")  # are the groups in it without an IOMMU?

    def __init__(self, engine: Engine, core: VfioIommuDrivers) -> None:
        super().__init__(engine)
        self.core = core


IN_THIS_GROUP = "in this group"
REGISTERED = "registered"
