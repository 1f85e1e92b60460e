"""Rooms about iommufd: a cycle of references, a number with two meanings, two ways to fail half-way."""

from __future__ import annotations

from .. import uapi
from ..engine import Engine, Phase, copy_to_user, current, get, load, peek, poke, refuse_if, require, say, store
from ..explore.world import Programs
from ..invariants.rules import Broken, Invariant
from ..kernel.fs.file import O_CLOEXEC, O_RDWR, fd_install, fget, fput, get_unused_fd_flags, put_unused_fd
from ..kernel.fs.shmem import shmem_file_operations
from ..kernel.fs.syscalls import alloc_file
from ..kernel.iommufd.areas import IOMMU_WRITE, ULONG_MAX
from ..kernel.iommufd.attach import NO_PASID
from ..kernel.iommufd.auto_domain import iommufd_device_attach, iommufd_device_replace
from ..kernel.iommufd.eventq import ITS_FILE, IommufdFault, iommufd_fault_fops
from ..kernel.iommufd.io_pagetable import iopt_map_common
from ..kernel.iommufd.main import _iommufd_object_alloc
from ..kernel.iommufd.pages import iopt_alloc_file_pages
from ..kernel.iommufd.private import ITS_CONTEXT, IommufdCtx, IommufdIoas, Ucmd, iommufd_ctx_get
from ..kernel.mm import PAGE_SIZE
from ..kernel.vfio.attach import ATTACH_MINSZ, copy_argument
from ..kernel.vfio.iommufd import PASID_LAST
from ..kernel.vfio.vfio import VfioDevice, VfioDeviceFile
from ..machine import Machine
from ..puzzles.programs import DEV, ask, bind, make, ready_to_bind
from ..uapi import Errno, KernelError
from .iommufd_keeps import ATTACH, DETACH, MAPPED, MOVES, PASIDS, QUEUES, READ_ONLY_AT, WRITEABLE_AT
from .room import Room

READ_ONLY = 1


def bound_with_two_address_spaces(trace: bool = True) -> Machine:
    """A bound device (3) and its iommufd (4) with the address spaces 2 and 3."""
    space = ask(uapi.IOMMU_IOAS_ALLOC, uapi.IommuIoasAlloc())
    return make(ready_to_bind("vmm", trace=trace), bind("vmm"), space, space)


# ---- a file mapped into its own iommufd


def map_the_device() -> Programs:
    """MAP_FILE of the device's own descriptor."""
    flags = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE
    wish = uapi.IommuIoasMapFile(size=40, flags=flags, ioas_id=2, fd=DEV, length=PAGE_SIZE)
    return {"A": [ask(uapi.IOMMU_IOAS_MAP_FILE, wish)]}


async def iopt_map_file_pages(
    ictx: IommufdCtx, iopt: IommufdIoas, iova: int | None, fd: int, start: int, length: int, prot: int
) -> int:
    """Map a part of a file that consists of memory. EINVAL for length 0, EOVERFLOW, EBADF, EINVAL for another kind of file."""
    await refuse_if(not length, Errno.EINVAL, "file_length", "a mapping needs at least one byte")
    await refuse_if(
        start + length - 1 > ULONG_MAX, Errno.EOVERFLOW, "file_ends_somewhere", "the part ends beyond the last offset"
    )
    file = await require(await fget(fd), Errno.EBADF, "mapped_file_is_open", f"{fd} is not an open file")
    try:
        no_memory = file.f_op is not shmem_file_operations
        await refuse_if(no_memory, Errno.EINVAL, "file_is_memory", f"{file.label} does not consist of memory")
        pages = await iopt_alloc_file_pages(ictx, file, start, length, bool(prot & IOMMU_WRITE))
    except KernelError:
        await fput(file)
        raise
    await fput(file)
    return await iopt_map_common(iopt, pages, start % PAGE_SIZE, length, iova, prot)


# ---- PASID 0


def attach_as_zero_and_detach() -> Programs:
    """ATTACH with PASID 0, then DETACH without a PASID."""
    attach = uapi.VfioDeviceAttachIommufdPt(argsz=16, flags=uapi.VFIO_DEVICE_ATTACH_PASID, pt_id=4)
    detach = uapi.VfioDeviceDetachIommufdPt(argsz=8)
    return {"A": [ask(ATTACH, attach, DEV), ask(DETACH, detach, DEV)]}


def bound_with_a_page_table(trace: bool = True) -> Machine:
    """A bound device and a page table, 4, that PASIDs can use."""
    wish = uapi.IommuHwptAlloc(flags=uapi.IOMMU_HWPT_ALLOC_PASID, dev_id=1, pt_id=2)
    return make(bound_with_two_address_spaces(trace), ask(uapi.IOMMU_HWPT_ALLOC, wish))


def detached_means_detached(engine: Engine, device: VfioDevice) -> Broken:
    """A device that VFIO takes for detached is attached to nothing."""
    idev = device.iommufd_device.value
    if idev is None or device.iommufd_attached.value:
        return
    attached = idev.igroup.pasid_attach.slots.get(NO_PASID)
    if attached is not None and idev in attached.device_array.slots.values():
        hwpt = attached.hwpt.value
        yield f"{device.oid} is not attached, says VFIO's book, and yet its DMA goes through {hwpt.oid if hwpt else '?'}"


async def vfio_iommufd_physical_pasid_attach_ioas(device: VfioDevice, pasid: int, pt_id: int) -> int:
    """The same for DMA with one PASID. EINVAL for PASID 0, which is the DMA without; ENOSPC for one of 2^31 or more."""
    idev = await load(device.iommufd_device)
    assert idev is not None
    await refuse_if(pasid == NO_PASID, Errno.EINVAL, "pasid_not_zero", "PASID 0 is the DMA without a PASID")
    if await peek(device.pasids, pasid) is not None:
        return await iommufd_device_replace(idev, pasid, pt_id)
    await refuse_if(pasid > PASID_LAST, Errno.ENOSPC, "pasid_is_small", "a PASID is less than 2^31")
    await poke(device.pasids, pasid, True)
    try:
        return await iommufd_device_attach(idev, pasid, pt_id, device)
    except KernelError:
        await poke(device.pasids, pasid, None)
        raise


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


def move_it() -> Programs:
    """ATTACH to the other address space, with a struct that cannot be written."""
    return {"A": [ask(ATTACH, READ_ONLY_AT, DEV)]}


def still_attached(engine: Engine, device: VfioDevice) -> Broken:
    """Nobody detaches a device in this room, so it stays attached while it is open."""
    if device.iommufd_device.value is not None and not device.iommufd_attached.value:
        yield f"{device.oid} was attached, a refused ATTACH has detached it: its memory is gone from under its DMA"


async def vfio_df_ioctl_attach_pt(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT: as ever, but where pt_id cannot be written nothing has happened yet."""
    device, ops = df.device, df.device.ops
    can = ops.pasid_attach_ioas is not None
    flag = uapi.VFIO_DEVICE_ATTACH_PASID if device.vfio.variant.attach_pasid else 0
    data, pasid = await copy_argument(argument, ATTACH_MINSZ, flag, can)
    assert ops.attach_ioas is not None  # registration has seen to it
    assert ops.detach_ioas is not None
    pt_id = int.from_bytes(data[8:12], "little")
    say(Phase.VALIDATE, "Can pt_id be written? Tried with its old value, before anything is changed.")
    await copy_to_user(argument + 8, data[8:12])
    say(Phase.LOCK, "The lock of the device set, for the attachment.")
    async with device.dev_set.lock:
        if pasid is not None and ops.pasid_attach_ioas is not None:
            number = await ops.pasid_attach_ioas(device, pasid, pt_id)
        else:
            number = await ops.attach_ioas(device, pt_id)
        say(Phase.PUBLISH, f"pt_id = {number} is written into the caller's struct.")
        try:
            await copy_to_user(argument + 8, number.to_bytes(4, "little"))
        except KernelError:
            say(Phase.UNWIND, "out_detach: the device is detached, whatever it was attached to before.")
            await ops.detach_ioas(device)
            raise
    return 0


# ---- the queue that fails half-way


def queue_without_room() -> Programs:
    """FAULT_QUEUE_ALLOC with a struct that cannot be written."""
    return {"A": [ask(uapi.IOMMU_FAULT_QUEUE_ALLOC, READ_ONLY_AT)]}


def iommufd_and_a_page_to_read(trace: bool = True) -> Machine:
    """An iommufd (4); the struct for a queue of faults lies at READ_ONLY_AT, and at WRITEABLE_AT."""
    machine = ready_to_bind("vmm", trace=trace)
    wish = bytes(uapi.IommuFaultAlloc())
    machine.processes["vmm"].memory.map(PAGE_SIZE, wish, prot=READ_ONLY, address=READ_ONLY_AT)
    machine.processes["vmm"].memory.map(PAGE_SIZE, wish, address=WRITEABLE_AT)
    return machine


async def iommufd_fault_alloc(ucmd: Ucmd) -> None:
    """IOMMU_FAULT_QUEUE_ALLOC as it was: after a failure the file is let go of, and its release comes later."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    await refuse_if(cmd.flags != 0, Errno.EOPNOTSUPP, "fault_flags", "IOMMU_FAULT_QUEUE_ALLOC has no flags yet")
    say(Phase.ACQUIRE, "A queue takes the lowest free ID of {}; a file to read it gets a descriptor.", ictx)
    fault = await _iommufd_object_alloc(ictx, IommufdFault)
    ucmd.new_obj = fault
    file = await alloc_file("[iommufd-pgfault]", iommufd_fault_fops, O_RDWR)
    await store(file.private_data, fault)
    await iommufd_ctx_get(ictx, file, ITS_CONTEXT)
    await get(fault.users, file, ITS_FILE)
    try:
        number = await get_unused_fd_flags(O_CLOEXEC)
        try:
            cmd.out_fault_id, cmd.out_fault_fd = fault.id, number
            await copy_to_user(ucmd.address, ucmd.reply())
        except KernelError:
            await put_unused_fd(number)
            raise
    except KernelError:
        await fput(file, current(), "being opened")
        raise
    await fd_install(number, file)


DETACHED_MEANS_DETACHED = Invariant(
    "detached_means_detached",
    VfioDevice,
    (
        "vfio_device.iommufd_device",
        "vfio_device.iommufd_attached",
        "iommufd_group.pasid_attach",
        "iommufd_attach.device_array",
        "iommufd_attach.hwpt",
    ),
    lambda device: device.dev_set.lock,
    "vfio_device_set.lock",
    False,
    detached_means_detached,
)

STILL_ATTACHED = Invariant(
    "still_attached",
    VfioDevice,
    ("vfio_device.iommufd_device", "vfio_device.iommufd_attached"),
    lambda device: device.dev_set.lock,
    "vfio_device_set.lock",
    False,
    still_attached,
)

ROOMS = (
    Room(
        name="mapped-into-itself",
        title="The file that is mapped into itself",
        symptom="A program binds a device, maps the device's own file into an address space of the same iommufd, "
        "and ends. The device stays bound and its group busy until the machine is started anew.",
        lesson="Who holds a file must ask what kind of file it is: a file that leads back to the holder closes a ring.",
        alive=True,
        setup=bound_with_two_address_spaces,
        programs=map_the_device,
        properties=(),
        happens="left behind: vfio_device_file",
        keeps=MAPPED,
        repair={"iopt_map_file_pages": iopt_map_file_pages},
        recordings=("g-map-file-device", "g-map-file-device-unbound", "g-map-file-iommufd", "g-map-file"),
    ),
    Room(
        name="pasid-zero",
        title="A number with two meanings",
        symptom="A program attaches a device with PASID 0 and detaches it without a PASID: 0, done. But the page "
        "table is still busy, and attaching anything else is EBUSY.",
        lesson="Two names for one thing need one book that is kept about it.",
        alive=True,
        setup=bound_with_a_page_table,
        programs=attach_as_zero_and_detach,
        properties=(DETACHED_MEANS_DETACHED,),
        happens="is not attached, says VFIO's book",
        keeps=PASIDS,
        repair={"vfio_iommufd_physical_pasid_attach_ioas": vfio_iommufd_physical_pasid_attach_ioas},
        recordings=("f-pasid-zero", "f-pasid-zero-double-detach", "f-pasid"),
    ),
    Room(
        name="replace-that-detaches",
        title="The move that ends in the street",
        symptom="A device is attached. A program wants to move it to another address space, but the struct lies "
        "in memory that can only be read: EFAULT. The device now is attached to nothing.",
        lesson="The way back from the second step is not the way back from the first: undo a replace by what was"
        " there before.",
        alive=True,
        setup=attached_and_a_page_to_read,
        programs=move_it,
        properties=(STILL_ATTACHED,),
        happens="a refused ATTACH has detached it",
        keeps=MOVES,
        repair={"vfio_df_ioctl_attach_pt": vfio_df_ioctl_attach_pt},
        recordings=("f-replace-efault-other-order",),
    ),
    Room(
        name="release-after-free",
        title="The release that comes too late",
        symptom="A program asks for a queue of page faults, and its struct cannot be written: EFAULT. A moment "
        "later the kernel works on memory that belongs to somebody else.",
        lesson="fput is not now: what the release handler needs has to live until it has run.",
        alive=False,
        setup=iommufd_and_a_page_to_read,
        programs=queue_without_room,
        properties=(),
        happens="use after free",
        keeps=QUEUES,
        faulty={"iommufd_fault_alloc": iommufd_fault_alloc},
        links=(
            "commit 4e034bf045b1, September 2025 (CVE-2025-39966): iommufd: Fix race during abort for file descriptors "
            "https://git.kernel.org/linus/4e034bf045b1",
        ),
    ),
)
