"""What must always be true of devices, groups, containers and virtual machines."""

from __future__ import annotations

from ..engine import Engine
from ..kernel.fs.file import File
from ..kernel.kvm.kvm import Kvm, KvmVfio
from ..kernel.vfio.container import DEVICE_OPEN, IN_CONTAINER, SERVES
from ..kernel.vfio.device_cdev import BINDING
from ..kernel.vfio.group import ITS_IOMMUFD
from ..kernel.vfio.vfio import VfioContainer, VfioDevice, VfioDeviceFile, VfioGroup
from ..kernel.vfio.vfio_main import BOUND_FOR, OPEN_FILE, vfio_device_fops
from .rules import Broken, every, idle, invariant


def of_device(file: File) -> bool:
    """Is it an open file of a VFIO device?"""
    return file.f_op is vfio_device_fops


def in_use(df: VfioDeviceFile) -> bool:
    """Has the file access to its device, and does anybody still hold it? What is being released is used by nobody."""
    return df.access_granted.value and df.file is not None and df.file.f_ref.value > 0


@invariant(
    VfioDeviceFile,
    "vfio_device_file.access_granted",
    "vfio_device.open_count",
    "vfio_device.cdev_opened",
    "vfio_device_file.noiommu",
    "vfio_device_file.iommufd",
    ("file.f_ref < 1", of_device),
    f"file.f_ref ({BINDING})",
    lock=lambda df: df.device.dev_set.lock,
    guard="vfio_device_set.lock",
)
def gate_means_open(engine: Engine, df: VfioDeviceFile) -> Broken:
    """Behind an open gate there is an open device, and the binding holds the iommufd, until the file is released."""
    if not in_use(df) or df.group is not None:
        return
    device, ictx = df.device, df.iommufd.value
    if device.open_count.value != 1 or not device.cdev_opened.value:
        yield f"{df.oid} is bound, but {device.oid} has open_count {device.open_count.value}"
    if df.noiommu.value:  # bound to no iommufd at all, where a version allows it
        return
    if ictx is None or (df, BINDING) not in ictx.file.f_ref.held:
        yield f"{df.oid} is bound, but does not hold the iommufd it is bound to"


@invariant(
    VfioDeviceFile,
    "vfio_device_file.bound_for",
    "vfio_device_file.access_granted",
    "vfio_device.open_count",
    "vfio_device.kvm",
    "kvm",
    lock=lambda df: df.device.dev_set.lock,
    guard="vfio_device_set.lock",
)
def binding_keeps_its_vm(engine: Engine, df: VfioDeviceFile) -> Broken:
    """The VM that a bind took stays with the device until the device is closed."""
    kvm = df.bound_for.value
    if df.access_granted.value and df.device.open_count.value and kvm is not None and df.device.kvm.value is not kvm:
        state = "the VM is gone already" if kvm.freed else "the VM can go now while the device is in use"
        yield (
            f"{df.oid} is bound and took {kvm.oid} for {df.device.oid}, but the device has lost it: {state}, "
            "because a failed bind through another file gave it away"
        )


@invariant(Kvm, f"kvm.users_count ({BOUND_FOR})", "vfio_device", "vfio_device.kvm", "vfio_device_set.lock")
def vm_is_counted_by_who_points_to_it(engine: Engine, kvm: Kvm) -> Broken:
    """A vfio_device holds exactly the VM that it points to."""
    for device in every(engine, VfioDevice):
        if device.dev_set.lock.holder is not None:
            continue
        held, due = kvm.users_count.held.get((device, BOUND_FOR), 0), int(device.kvm.value is kvm)
        if held > due:
            told = (
                f"{held} references to {kvm.oid} and points to it once"
                if due
                else f"{kvm.oid} and points to it no longer"
            )
            yield f"{device.oid} holds {told}: nobody will give that back"
        elif held < due:
            yield f"{device.oid} points to {kvm.oid} without holding it"


@invariant(
    VfioDevice,
    "vfio_device.kvm",
    "kvm",
    lock=lambda device: device.dev_set.lock,
    guard="vfio_device_set.lock",
)
def vm_pointer_is_alive(engine: Engine, device: VfioDevice) -> Broken:
    """A vfio_device never points to a VM that is gone."""
    kvm = device.kvm.value
    if kvm is not None and kvm.freed:
        yield f"{device.oid} points to {kvm.oid}, which is gone"


@invariant(
    VfioDeviceFile,
    "vfio_device_file.kvm",
    "kvm",
    "kvm_vfio",
    "kvm_vfio.lock",
    "kvm_vfio.file_list",
    lock=lambda df: df.kvm_ref_lock,
    guard="vfio_device_file.kvm_ref_lock",
)
def known_vm_lists_the_file(engine: Engine, df: VfioDeviceFile) -> Broken:
    """A file that knows a VM is in the list of a kvm-vfio device (or is just being put there, or taken off)."""
    kvm = df.kvm.value
    if kvm is None:
        return
    if kvm.freed:
        yield f"{df.oid} points to {kvm.oid}, which is gone"
    lists = list(every(engine, KvmVfio))
    if all(kv.lock.holder is None for kv in lists) and not any(df.file in kv.file_list.value for kv in lists):
        yield f"{df.oid} knows {kvm.oid}, but no kvm-vfio device lists its file"


@invariant(
    VfioGroup,
    "vfio_group.opened_file",
    "vfio_group.cdev_device_open_cnt",
    lock=lambda group: group.group_lock,
    guard="vfio_group.group_lock",
)
def group_and_node_exclude_each_other(engine: Engine, group: VfioGroup) -> Broken:
    """An open group has no device that is bound through its own node."""
    if group.opened_file.value is not None and group.cdev_device_open_cnt.value:
        bound = group.cdev_device_open_cnt.value
        yield f"{group.oid} is open and counts {bound} of its devices as bound through a node"


@invariant(
    VfioGroup,
    "vfio_group.cdev_device_open_cnt",
    "vfio_device_file",
    "vfio_device_file.access_granted",
    ("file.f_ref < 1", of_device),
    lock=lambda group: group.group_lock,
    guard="vfio_group.group_lock",
)
def group_counts_bindings(engine: Engine, group: VfioGroup) -> Broken:
    """The group counts its bound device files; a bind or close that is under way may add to it."""
    files = (df for df in every(engine, VfioDeviceFile) if df.device.group is group and df.group is None)
    bound = [df for df in files if in_use(df)]
    counted = group.cdev_device_open_cnt.value
    if counted < len(bound) or (idle(engine) and counted != len(bound)):
        yield f"{group.oid} counts bindings: {counted}. Of its devices so many are bound: {len(bound)}"


@invariant(
    VfioGroup,
    "vfio_group.opened_file",
    "vfio_group.container",
    "vfio_group.container_users",
    "vfio_group.iommufd",
    f"vfio_container.kref ({IN_CONTAINER})",
    f"file.f_ref ({ITS_IOMMUFD})",
    f"file.f_ref ({DEVICE_OPEN})",
    lock=lambda group: group.group_lock,
    guard="vfio_group.group_lock",
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


@invariant(
    VfioContainer,
    "vfio_container.group_list",
    "vfio_container.iommu_driver",
    f"vfio_iommu_driver.module ({SERVES})",
    lock=lambda container: container.group_lock,
    guard="vfio_container.group_lock",
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


@invariant(
    VfioDevice,
    "vfio_device.open_count",
    "vfio_device.iommufd_device",
    "vfio_device.iommufd_access",
    "vfio_device_file",
    "vfio_device_file.access_granted",
    lock=lambda device: device.dev_set.lock,
    guard="vfio_device_set.lock",
)
def open_device_has_open_files(engine: Engine, device: VfioDevice) -> Broken:
    """A device counts the files it is open through; a closed one has no object in an iommufd."""
    opens = device.open_count.value
    files = [df for df in every(engine, VfioDeviceFile) if df.device is device and df.access_granted.value]
    if idle(engine) and opens != len(files):
        yield f"{device.oid} has open_count {opens}, but is open through {len(files)} files"
    left = device.iommufd_device.value or device.iommufd_access.value
    if not opens and left is not None:
        yield f"{device.oid} is closed, but was never taken out of {left.ictx.oid}: {left.oid} is left behind"


@invariant(VfioDevice, f"vfio_device.refcount ({OPEN_FILE})", "vfio_device_file", only_at_rest=True)
def registration_counts_open_files(engine: Engine, device: VfioDevice) -> Broken:
    """The registration is held by the driver and by each open file of the device."""
    counted = sum(n for (_, reason), n in device.refcount.held.items() if reason == OPEN_FILE)
    files = [df for df in every(engine, VfioDeviceFile) if df.device is device]
    if counted != len(files):
        yield f"{device.oid} counts {counted} open files, but there are {len(files)}"
