"""What must always be true: each invariant in words, with the fields it reads and the lock under which it may be broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .engine import Count, Engine, KObject, Lock, Thread
from .kernel.base import Device
from .kernel.iommu import IommuGroup
from .kernel.iommufd.private import IommufdAccess, IommufdDevice, IommufdObject
from .kernel.kvm.kvm import Kvm, KvmVfio
from .kernel.mm import MmStruct
from .kernel.vfio.container import DEVICE_OPEN, IN_CONTAINER, SERVES
from .kernel.vfio.device_cdev import BINDING
from .kernel.vfio.group_fops import ITS_IOMMUFD
from .kernel.vfio.type1_dma import VfioDma
from .kernel.vfio.vfio import VfioContainer, VfioDevice, VfioDeviceFile, VfioGroup
from .kernel.vfio.vfio_main import BOUND_FOR, OPEN_FILE

Broken = Iterator[str]


@dataclass(frozen=True)
class Invariant:
    """One rule about objects of one kind.

    * `reads`: the fields it looks at, as "kind.field"; a change of one of them may break it;
    * `lock`: the lock of an object under which it may be broken for a while, None if it has to hold at every effect;
    * `broken`: given the engine and the object, the sentences that say how it is broken.
    """

    name: str
    about: type[KObject]
    reads: tuple[str, ...]
    lock: Callable[[Any], Lock | None]
    broken: Callable[[Engine, Any], Broken]


INVARIANTS: list[Invariant] = []


def _invariant(
    about: type[KObject], *reads: str, lock: Callable[[Any], Lock | None] = lambda _: None
) -> Callable[[Callable[[Engine, Any], Broken]], Callable[[Engine, Any], Broken]]:
    def add(function: Callable[[Engine, Any], Broken]) -> Callable[[Engine, Any], Broken]:
        INVARIANTS.append(Invariant(function.__name__, about, reads, lock, function))
        return function

    return add


def check(engine: Engine) -> list[str]:
    """Every broken invariant, in words; an empty list if all is well. Looks only, so that it can be called at any time."""
    found = list(engine.violations)
    for thing in list(engine.objects.values()):
        found += _broken_references(thing)
        for invariant in INVARIANTS:
            if isinstance(thing, invariant.about):
                lock = invariant.lock(thing)
                if lock is None or lock.holder is None:
                    found += invariant.broken(engine, thing)
    return found


def _broken_references(thing: KObject) -> Broken:
    """Every reference has a holder that lives, and is given back once."""
    for cell in thing.cells():
        if not isinstance(cell, Count):
            continue
        for (holder, reason), n in cell.held.items():
            if n < 0:
                yield f"{holder.oid} gave back {-n} more of {cell.path} than it had taken ({reason})"
            elif holder.freed or (isinstance(holder, Thread) and holder.ended):
                yield f"{holder.oid} is gone, but {cell.path} still counts it ({reason}): a lost reference"


def _idle(engine: Engine) -> bool:
    return not engine.threads


def _in_use(df: VfioDeviceFile) -> bool:
    """Has the file access to its device, and does anybody still hold it? What is being released is used by nobody."""
    return df.access_granted.value and df.file is not None and df.file.f_ref.value > 0


def _all(engine: Engine, kind: type[Any]) -> Iterator[Any]:
    return (thing for thing in engine.objects.values() if isinstance(thing, kind))


@_invariant(
    VfioDeviceFile,
    "vfio_device_file.access_granted",
    "vfio_device.open_count",
    "vfio_device.cdev_opened",
    "file.f_ref",
    lock=lambda df: df.device.dev_set.lock,
)
def gate_means_open(engine: Engine, df: VfioDeviceFile) -> Broken:
    """Behind an open gate there is an open device, and the binding holds the iommufd, until the file is released."""
    if not _in_use(df) or df.group is not None:
        return
    device, ictx = df.device, df.iommufd.value
    if device.open_count.value != 1 or not device.cdev_opened.value:
        yield f"{df.oid} is bound, but {device.oid} has open_count {device.open_count.value}"
    if ictx is None or (df, BINDING) not in ictx.file.f_ref.held:
        yield f"{df.oid} is bound, but does not hold the iommufd it is bound to"


@_invariant(
    VfioDeviceFile,
    "vfio_device_file.bound_for",
    "vfio_device_file.access_granted",
    "vfio_device.kvm",
    lock=lambda df: df.device.dev_set.lock,
)
def binding_keeps_its_vm(engine: Engine, df: VfioDeviceFile) -> Broken:
    """The VM that a bind took stays with the device until the device is closed."""
    kvm = df.bound_for.value
    if df.access_granted.value and df.device.open_count.value and kvm is not None and df.device.kvm.value is not kvm:
        state = "which is gone already" if kvm.freed else "which can now go while the device is in use"
        yield (
            f"{df.oid} is bound and took {kvm.oid} for {df.device.oid}, but the device has lost it, {state}: "
            "a failed bind through another file gave it away"
        )


@_invariant(Kvm, "kvm.users_count", "vfio_device.kvm")
def vm_is_counted_by_who_points_to_it(engine: Engine, kvm: Kvm) -> Broken:
    """A vfio_device holds exactly the VM that it points to."""
    for device in _all(engine, VfioDevice):
        if device.dev_set.lock.holder is not None:
            continue
        held, due = kvm.users_count.held.get((device, BOUND_FOR), 0), int(device.kvm.value is kvm)
        if held > due:
            yield f"{device.oid} counts {held} times on {kvm.oid} and points to it {due} times: nobody will give that back"
        elif held < due:
            yield f"{device.oid} points to {kvm.oid} without holding it"


@_invariant(VfioDevice, "vfio_device.kvm", "kvm.users_count", lock=lambda device: device.dev_set.lock)
def vm_pointer_is_alive(engine: Engine, device: VfioDevice) -> Broken:
    """A vfio_device never points to a VM that is gone."""
    kvm = device.kvm.value
    if kvm is not None and kvm.freed:
        yield f"{device.oid} points to {kvm.oid}, which is gone"


@_invariant(VfioDeviceFile, "vfio_device_file.kvm", "kvm_vfio.file_list", lock=lambda df: df.kvm_ref_lock)
def known_vm_lists_the_file(engine: Engine, df: VfioDeviceFile) -> Broken:
    """A file that knows a VM is in the list of a kvm-vfio device (or is just being put there, or taken off)."""
    kvm = df.kvm.value
    if kvm is None:
        return
    if kvm.freed:
        yield f"{df.oid} points to {kvm.oid}, which is gone"
    lists = list(_all(engine, KvmVfio))
    if all(kv.lock.holder is None for kv in lists) and not any(df.file in kv.file_list.value for kv in lists):
        yield f"{df.oid} knows {kvm.oid}, but no kvm-vfio device lists its file"


@_invariant(VfioGroup, "vfio_group.opened_file", "vfio_group.cdev_device_open_cnt", lock=lambda group: group.group_lock)
def group_and_node_exclude_each_other(engine: Engine, group: VfioGroup) -> Broken:
    """An open group has no device that is bound through its own node."""
    if group.opened_file.value is not None and group.cdev_device_open_cnt.value:
        yield f"{group.oid} is open and {group.cdev_device_open_cnt.value} of its devices are bound through their nodes"


@_invariant(
    VfioGroup, "vfio_group.cdev_device_open_cnt", "vfio_device_file.access_granted", lock=lambda g: g.group_lock
)
def group_counts_bindings(engine: Engine, group: VfioGroup) -> Broken:
    """The group counts its bound device files; a bind or close that is under way may add to it."""
    files = (df for df in _all(engine, VfioDeviceFile) if df.device.group is group and df.group is None)
    bound = [df for df in files if _in_use(df)]
    counted = group.cdev_device_open_cnt.value
    if counted < len(bound) or (_idle(engine) and counted != len(bound)):
        yield f"{group.oid} counts {counted} bindings, but {len(bound)} of its devices are bound"


@_invariant(
    VfioGroup,
    "vfio_group.opened_file",
    "vfio_group.container",
    "vfio_group.container_users",
    "vfio_group.iommufd",
    "file.f_ref",
    lock=lambda group: group.group_lock,
)
def group_holds_what_serves_it(engine: Engine, group: VfioGroup) -> Broken:
    """A group has a container or an iommufd only while it is open, and holds it; devices open in a container hold its file."""
    file, container, ictx = group.opened_file.value, group.container.value, group.iommufd.value
    users = group.container_users.value
    if file is None and (container is not None or ictx is not None):
        yield f"{group.oid} is closed, but has {container.oid if container else ictx.oid if ictx else 'nothing'}"
    if ictx is not None and ictx.file.f_ref.held.get((group, ITS_IOMMUFD), 0) != 1:
        yield f"{group.oid} has {ictx.oid}, but does not hold its file"
    if container is None and users:
        yield f"{group.oid} counts {users} users of a container that it is not in"
    if container is not None:
        if container.kref.held.get((group, IN_CONTAINER), 0) != 1:
            yield f"{group.oid} is in {container.oid}, but does not hold it"
        held = file.f_ref.held.get((group, DEVICE_OPEN), 0) if file is not None else 0
        if users != 1 + held:
            yield f"{group.oid} counts {users} users of its container, but {held} open devices hold its file"


@_invariant(
    VfioContainer,
    "vfio_container.group_list",
    "vfio_container.iommu_driver",
    "vfio_iommu_driver.module",
    lock=lambda container: container.group_lock,
)
def driver_of_container_serves_groups(engine: Engine, container: VfioContainer) -> Broken:
    """A container has an IOMMU driver, and holds its module, only while a group is in it."""
    driver = container.iommu_driver.value
    if driver is None:
        return
    if not container.group_list.value:
        yield f"{container.oid} has {driver.oid}, but no group is in it"
    if driver.module.held.get((container, SERVES), 0) != 1:
        yield f"{container.oid} has {driver.oid}, but does not hold its module"


@_invariant(
    VfioDevice,
    "vfio_device.open_count",
    "vfio_device.iommufd_device",
    "vfio_device.iommufd_access",
    "vfio_device_file.access_granted",
    lock=lambda device: device.dev_set.lock,
)
def open_device_has_open_files(engine: Engine, device: VfioDevice) -> Broken:
    """A device counts the files it is open through; a closed one has no object in an iommufd."""
    opens = device.open_count.value
    files = [df for df in _all(engine, VfioDeviceFile) if df.device is device and df.access_granted.value]
    if _idle(engine) and opens != len(files):
        yield f"{device.oid} has open_count {opens}, but is open through {len(files)} files"
    left = device.iommufd_device.value or device.iommufd_access.value
    if not opens and left is not None:
        yield f"{device.oid} is closed, but was never taken out of {left.ictx.oid}: {left.oid} is left behind"


@_invariant(MmStruct, "mm_struct.locked_vm", "vfio_dma.locked_vm", "mm_struct.mm_users")
def locked_memory_is_charged(engine: Engine, mm: MmStruct) -> Broken:
    """A process is charged for all that containers have pinned of it."""
    due = sum(dma.locked_vm.value for dma in _all(engine, VfioDma) if dma.mm is mm)
    if _idle(engine) and mm.mm_users.value and mm.locked_vm.value < due:
        yield f"{mm.oid} is charged {mm.locked_vm.value} pages, but containers have pinned {due} of it"


@_invariant(IommuGroup, "iommu_group.owner", "iommu_group.owner_cnt", lock=lambda group: group.mutex)
def dma_has_one_owner(engine: Engine, group: IommuGroup) -> Broken:
    """The DMA of a group is counted once for each bound device, or for each device with a kernel driver, or for its vfio_group."""
    bound = [d for d in _all(engine, IommufdDevice) if d.igroup.group is group and d.users.value]
    driven = [
        d
        for d in _all(engine, Device)
        if d.iommu_group is group and d.driver.value is not None and not d.driver.value.driver_managed_dma
    ]
    owner, counted = group.owner.value, group.owner_cnt.value
    if bound and driven:
        yield f"{group.oid} serves {bound[0].oid} of user space and {driven[0].oid} of the kernel at the same time"
    if any(d.ictx is not owner for d in bound):
        yield f"{group.oid} belongs to {owner.oid if owner else 'nobody'}, but a device of it is bound elsewhere"
    if isinstance(owner, VfioGroup):
        due = 1
        if owner.group_lock.holder is None and owner.container.value is None:
            yield f"{owner.oid} owns the DMA of {group.oid}, but is in no container"
    else:
        due = len(bound) if owner is not None else len(driven)
    if _idle(engine) and counted != due:
        yield f"{group.oid} counts {counted} claims of its DMA; there should be {due}"


@_invariant(IommufdObject, "iommufd_object.users", "iommufd_ctx.objects", lock=lambda obj: obj.ictx.objects_lock)
def published_object_is_held(engine: Engine, obj: IommufdObject) -> Broken:
    """What can be found under its ID is held by its context, and, if it is a device's, by its driver."""
    if obj.ictx.objects.slots.get(obj.id) is not obj or not obj.ictx.file.f_ref.value:
        return  # with the last reference to the context's file nobody can look for objects any more
    least = 2 if isinstance(obj, (IommufdDevice, IommufdAccess)) else 1
    if obj.users.value < least:
        yield f"{obj.oid} can be found under ID {obj.id}, but has only {obj.users.value} users"


@_invariant(VfioDevice, "vfio_device.refcount")
def registration_counts_open_files(engine: Engine, device: VfioDevice) -> Broken:
    """The registration is held by the driver and by each open file of the device."""
    counted = sum(n for (_, reason), n in device.refcount.held.items() if reason == OPEN_FILE)
    files = [df for df in _all(engine, VfioDeviceFile) if df.device is device]
    if _idle(engine) and counted != len(files):
        yield f"{device.oid} counts {counted} open files, but there are {len(files)}"
