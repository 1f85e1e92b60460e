"""Rooms about iommufd: a cycle of references, a number with two meanings, two ways to fail half-way."""

from __future__ import annotations

from .. import uapi
from ..engine import Engine
from ..invariants.rules import Broken, rule
from ..kernel.fs.file import fput
from ..kernel.fs.shmem import shmem_file_operations
from ..kernel.iommufd.eventq import iommufd_fault_alloc
from ..kernel.iommufd.io_pagetable import iopt_map_file_pages
from ..kernel.iommufd.iommufd_private import NO_PASID
from ..kernel.regions import PAGE_SIZE
from ..kernel.vfio.device_cdev import vfio_df_ioctl_attach_pt
from ..kernel.vfio.iommufd import vfio_iommufd_physical_pasid_attach_ioas
from ..kernel.vfio.vfio import VfioDevice
from ..kernel.vfio.vfio_main import vfio_device_fops
from ..machine import Machine
from ..puzzles.changed import changed
from ..puzzles.programs import DEV, ask, bind, make, ready_to_bind
from .iommufd_requirements import (
    ATTACH,
    MAPPED,
    MOVES,
    PASIDS,
    QUEUES,
    READ_ONLY_AT,
    WRITEABLE_AT,
    attach,
    detach,
    map_file,
)
from .room import Room

READ_ONLY = 1


def bound_with_two_address_spaces(trace: bool = True) -> Machine:
    """A bound device (3) and its iommufd (4) with the address spaces 2 and 3."""
    space = ask(uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())
    return make(ready_to_bind("vmm", trace=trace), bind("vmm"), space, space)


# ---- a file mapped into its own iommufd


@changed(iopt_map_file_pages, shmem_file_operations=shmem_file_operations, vfio_device_fops=vfio_device_fops)
def map_memory_only() -> None:
    """Map a part of a file that consists of memory. EINVAL for length 0, EOVERFLOW, EBADF, EINVAL for another kind of file.

    + no_memory = file.f_op is not shmem_file_operations
    + await refuse_if(no_memory, Errno.EINVAL, "file_is_memory", f"{file.label} does not consist of memory")
      pages = await iopt_alloc_file_pages(ictx, file, start, length, bool(prot & IOMMU_WRITE))
    """


# ---- PASID 0


def bound_with_a_page_table(trace: bool = True) -> Machine:
    """A bound device and a page table, 4, that PASIDs can use."""
    wish = uapi.IommuHwptAlloc(flags=uapi.IOMMU_HWPT_ALLOC_PASID, dev_id=1, pt_id=2)
    return make(bound_with_two_address_spaces(trace), ask(uapi.IOMMU_HWPT_ALLOC, wish))


@rule(
    VfioDevice,
    "vfio_device.iommufd_device",
    "vfio_device.iommufd_attached",
    "iommufd_group.pasid_attach",
    "iommufd_attach.device_array",
    "iommufd_attach.hwpt",
    lock=lambda device: device.dev_set.lock,
    guard="vfio_device_set.lock",
)
def detached_means_detached(engine: Engine, device: VfioDevice) -> Broken:
    """A device that VFIO takes for detached is attached to nothing."""
    idev = device.iommufd_device.value
    if idev is None or device.iommufd_attached.value:
        return
    attached = idev.igroup.pasid_attach.slots.get(NO_PASID)
    if attached is not None and idev in attached.device_array.slots.values():
        hwpt = attached.hwpt.value
        yield f"{device.oid} is not attached as far as VFIO knows, but its DMA still goes through {hwpt.oid if hwpt else '?'}"


@changed(vfio_iommufd_physical_pasid_attach_ioas)
def attach_no_pasid_zero() -> None:
    """The same for DMA with one PASID. EINVAL for PASID 0, which is the DMA without; ENOSPC for one of 2^31 or more.

    + await refuse_if(pasid == 0, Errno.EINVAL, "pasid_not_zero", "PASID 0 is the DMA without a PASID")
      if await xa_load(device.pasids, pasid) is not None:
    """


# ---- the replace that cannot tell its result


def attached_and_a_page_to_read(trace: bool = True) -> Machine:
    """A device attached to address space 2; the struct for moving it to 3 lies at READ_ONLY_AT, and at WRITEABLE_AT."""
    machine = bound_with_two_address_spaces(trace)
    vmm = machine.processes["vmm"]
    vmm.ioctl(DEV, ATTACH, uapi.VfioDeviceAttachIommufdPt(argsz=12, pt_id=2))
    wish = bytes(uapi.VfioDeviceAttachIommufdPt(argsz=12, pt_id=3))
    vmm.memory.map(PAGE_SIZE, wish, prot=READ_ONLY, address=READ_ONLY_AT)
    vmm.memory.map(PAGE_SIZE, wish, address=WRITEABLE_AT)
    return machine


@rule(
    VfioDevice,
    "vfio_device.iommufd_device",
    "vfio_device.iommufd_attached",
    lock=lambda device: device.dev_set.lock,
    guard="vfio_device_set.lock",
)
def still_attached(engine: Engine, device: VfioDevice) -> Broken:
    """Nobody detaches a device in this room, so it stays attached while it is open."""
    if device.iommufd_device.value is not None and not device.iommufd_attached.value:
        yield f"{device.oid} was attached, a refused ATTACH has detached it: its DMA has lost its memory"


@changed(vfio_df_ioctl_attach_pt)
def attach_after_a_trial() -> None:
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT: as ever, but where pt_id cannot be written nothing has happened yet.

      pt_id = int.from_bytes(data[8:12], "little")
    + say(Phase.VALIDATE, "Can pt_id be written? Its old value is written back, before anything is changed.")
    + await copy_to_user(argument + 8, data[8:12])
    """


# ---- the queue that fails half-way


def iommufd_and_a_page_to_read(trace: bool = True) -> Machine:
    """An iommufd (4); the struct for a queue of faults lies at READ_ONLY_AT, and at WRITEABLE_AT."""
    machine = ready_to_bind("vmm", trace=trace)
    wish = bytes(uapi.IommuFaultAlloc())
    machine.processes["vmm"].memory.map(PAGE_SIZE, wish, prot=READ_ONLY, address=READ_ONLY_AT)
    machine.processes["vmm"].memory.map(PAGE_SIZE, wish, address=WRITEABLE_AT)
    return machine


@changed(iommufd_fault_alloc, fput=fput)
def faulty_fault_alloc() -> None:
    """IOMMU_FAULT_QUEUE_ALLOC as it was: after a failure the file is put, and its release comes later.

    - async with on_failure(fput_close_sync, file, current(), "being opened"):
    + async with on_failure(fput, file, current(), "being opened"):
    """


ROOMS = (
    Room(
        name="mapped-into-itself",
        title="The file that is mapped into itself",
        symptom="A program binds a device, maps the device's own file into an address space of the same iommufd, "
        "and ends. The device stays bound and its group busy until the machine is restarted.",
        lesson="Check the kind of a file before something keeps it: one that leads back to its holder makes a cycle of references.",
        alive=True,
        setup=bound_with_two_address_spaces,
        calls={"A": [map_file(DEV)]},
        properties=(),
        happens="left behind: vfio_device_file",
        must_still_work=MAPPED,
        repair={"iopt_map_file_pages": map_memory_only},
        recordings=("g-map-file-device", "g-map-file-device-unbound", "g-map-file-iommufd", "g-map-file"),
    ),
    Room(
        name="pasid-zero",
        title="A number with two meanings",
        symptom="A device can send a PASID, a number, along with its DMA; each PASID can have a page table of its own. A program "
        "attaches a device with PASID 0 and detaches it without a PASID: 0, done. But the page table is still busy, and "
        "attaching anything else is EBUSY.",
        lesson="Where one thing has two names, there must be one record for both, or only one of the names may be used.",
        alive=True,
        setup=bound_with_a_page_table,
        calls={"A": [attach(4, 0), detach()]},
        properties=(detached_means_detached,),
        happens="is not attached as far as VFIO knows",
        must_still_work=PASIDS,
        repair={"vfio_iommufd_physical_pasid_attach_ioas": attach_no_pasid_zero},
        recordings=("f-pasid-zero", "f-pasid-zero-double-detach", "f-pasid"),
    ),
    Room(
        name="replace-that-detaches",
        title="The move that ends nowhere",
        symptom="A device is attached. A program wants to move it to another address space, but the struct lies "
        "in memory that can only be read: EFAULT. The device now is attached to nothing.",
        lesson="The undo of a replace is to attach what was attached before; a detach is the undo of a first attach only. "
        "Where nothing fails after the change, no undo is needed.",
        alive=True,
        setup=attached_and_a_page_to_read,
        calls={"A": [ask(ATTACH, READ_ONLY_AT, DEV)]},
        properties=(still_attached,),
        happens="a refused ATTACH has detached it",
        must_still_work=MOVES,
        repair={"vfio_df_ioctl_attach_pt": attach_after_a_trial},
        recordings=("f-replace-efault-other-order",),
    ),
    Room(
        name="release-after-free",
        title="The release that comes too late",
        symptom="A program asks for a queue of page faults, and its struct cannot be written: EFAULT. A moment "
        "later the kernel works on memory that belongs to somebody else.",
        lesson="fput runs the release handler later: what the handler needs must live until then.",
        alive=False,
        setup=iommufd_and_a_page_to_read,
        calls={"A": [ask(uapi.IOMMU_FAULT_QUEUE_ALLOC, READ_ONLY_AT)]},
        properties=(),
        happens="use after free",
        must_still_work=QUEUES,
        faulty={"iommufd_fault_alloc": faulty_fault_alloc},
        links=(
            "commit 4e034bf045b1, September 2025 (CVE-2025-39966): iommufd: Fix race during abort for file descriptors "
            "https://git.kernel.org/linus/4e034bf045b1",
        ),
    ),
)
