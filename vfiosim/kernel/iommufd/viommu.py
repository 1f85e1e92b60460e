"""Virtual IOMMUs, and devices as a guest knows them (drivers/iommu/iommufd/viommu.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import *
from ...uapi import Errno
from ..iommu_ops import IommuOps, UserData
from ..prototypes import (
    _iommufd_object_alloc,
    iommufd_get_object,
    iommufd_object_abort_and_destroy,
    iommufd_object_finalize,
    mock_hw_queue_init_phys,
)
from ..regions import PAGE_SIZE, ends_beyond
from ..unsupported import Unsupported
from .device import (
    Pinned,
    iommufd_access_change_ioas,
    iommufd_access_destroy,
    iommufd_access_detach,
    iommufd_access_pin_pages,
    iommufd_access_unpin_pages,
)
from .io_pagetable_h import ULONG_MAX
from .iommufd_private import (
    ITS_VIOMMU,
    IommufdAccess,
    IommufdDevice,
    IommufdHwptPaging,
    IommufdHwQueue,
    IommufdVdevice,
    IommufdViommu,
    Ucmd,
    iommufd_put_object,
)

GUEST_MEMORY = "the memory of its guest"
ITS_DEVICE = "its device"
RUNNING = "running call"
BEFORE = "the queue behind it"
POINTER, INT_MAX = 8, 2**31 - 1  # bytes of a pointer; most bytes of one allocation


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_viommu_destroy(viommu: IommufdViommu) -> None:
    """Let the driver of the IOMMU clear up, then let go of the page table."""
    await poke_mmap(viommu)
    await put(viommu.hwpt.users, viommu, GUEST_MEMORY)


async def poke_mmap(viommu: IommufdViommu) -> None:
    """Its page can be mapped no more (`iommufd_viommu_destroy_mmap`)."""
    offset = await load(viommu.mmap_offset)
    if offset:
        await xa_store(viommu.ictx.mt_mmap, offset, None)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_viommu_alloc_ioctl(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, no type), ENOENT (device), EOPNOTSUPP, ENOENT (page table), EINVAL, what the driver says, EFAULT."""
    cmd = ucmd.cmd
    await refuse_if(cmd.flags != 0, Errno.EOPNOTSUPP, "flags_known", f"the flags {cmd.flags:#x} are not known")
    bad = cmd.type == uapi.IOMMU_VIOMMU_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "viommu_has_type", "a virtual IOMMU must have a type, and 0 is none")
    idev = await iommufd_get_object(ucmd.ictx, cmd.dev_id, IommufdDevice)
    async with cleanup(iommufd_put_object, idev):
        await viommu_over(ucmd, idev.dev.iommu_ops)


async def viommu_over(ucmd: Ucmd, ops: IommuOps) -> None:
    """The page table, then the object, then the driver's part of it."""
    cmd = ucmd.cmd
    unable = ops.viommu_init is None or cmd.type != ops.viommu_type
    await refuse_if(
        unable, Errno.EOPNOTSUPP, "iommu_can_be_virtual", "the IOMMU behind this device cannot be handed to a guest"
    )
    assert ops.viommu_init is not None
    hwpt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, IommufdHwptPaging)
    async with cleanup(iommufd_put_object, hwpt):
        carries = hwpt.nest_parent
        await refuse_if(not carries, Errno.EINVAL, "viommu_parent", f"{hwpt.oid} was not made to carry guests")
        say(Phase.ACQUIRE, "A virtual IOMMU takes the lowest free ID of {} and holds {}.", ucmd.ictx, hwpt)
        viommu = await _iommufd_object_alloc(ucmd.ictx, IommufdViommu, hwpt, ops)
        ucmd.new_obj = viommu
        await get(hwpt.users, viommu, GUEST_MEMORY)
        data = UserData(cmd.type, cmd.data_uptr, cmd.data_len) if cmd.data_len else None
        await ops.viommu_init(viommu, data)
        cmd.out_viommu_id = viommu.id
        await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_vdevice_abort(vdev: IommufdVdevice) -> None:
    """Leave the virtual IOMMU and the device; the caller has the lock of the group."""
    if await xa_load(vdev.viommu.vdevs, vdev.virt_id) is vdev:
        await xa_store(vdev.viommu.vdevs, vdev.virt_id, None)
    await put(vdev.viommu.users, vdev, ITS_VIOMMU)
    await store(vdev.idev.vdev, None)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_vdevice_destroy(vdev: IommufdVdevice) -> None:
    """The same for one that could be found, then let go of the device: its removal may be waiting for that."""
    async with vdev.idev.igroup.lock:
        await iommufd_vdevice_abort(vdev)
    await put(vdev.idev.users, vdev, ITS_DEVICE)
    await put(vdev.idev.wait_cnt, vdev, ITS_DEVICE)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_vdevice_alloc_ioctl(ucmd: Ucmd) -> None:
    """ENOENT (virtual IOMMU, device), EINVAL (another IOMMU), ENOENT (device goes), EEXIST (device, number), EFAULT."""
    viommu = await iommufd_get_object(ucmd.ictx, ucmd.cmd.viommu_id, IommufdViommu)
    async with cleanup(iommufd_put_object, viommu):
        idev = await iommufd_get_object(ucmd.ictx, ucmd.cmd.dev_id, IommufdDevice)
        async with on_failure(iommufd_put_object, idev):
            other = viommu.ops is not idev.dev.iommu_ops
            await refuse_if(other, Errno.EINVAL, "vdevice_of_this_iommu", f"{viommu.oid} stands for another IOMMU")
            async with idev.igroup.lock:
                await new_vdevice(ucmd, viommu, idev)


async def new_vdevice(ucmd: Ucmd, viommu: IommufdViommu, idev: IommufdDevice) -> None:
    """The object; in the end it takes over the call's hold on the device."""
    cmd = ucmd.cmd
    going = await load(idev.destroying)
    await refuse_if(going, Errno.ENOENT, "device_stays_bound", f"{idev.oid} is being unbound")
    known = await load(idev.vdev)
    await refuse_if(known is not None, Errno.EEXIST, "device_is_not_virtual", f"{idev.oid} is in a guest already")
    vdev = await _iommufd_object_alloc(ucmd.ictx, IommufdVdevice, viommu, idev, cmd.virt_id)
    say(Phase.ACQUIRE, "{} holds {}, and {} as a running call does.", vdev, viommu, idev)
    await get(viommu.users, vdev, ITS_VIOMMU)
    await store(idev.vdev, vdev)
    async with on_failure(iommufd_object_abort_and_destroy, ucmd.ictx, vdev):
        taken = await xa_load(viommu.vdevs, cmd.virt_id) is not None
        await refuse_if(taken, Errno.EEXIST, "number_is_free", f"the guest has a device {cmd.virt_id:#x} already")
        await xa_store(viommu.vdevs, cmd.virt_id, vdev)
        cmd.out_vdevice_id = vdev.id
        await copy_to_user(ucmd.address, ucmd.reply())
    await hand_over(idev.users, (current(), RUNNING), (vdev, ITS_DEVICE))
    await hand_over(idev.wait_cnt, (current(), RUNNING), (vdev, ITS_DEVICE))
    await iommufd_object_finalize(ucmd.ictx, vdev)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_hw_queue_destroy(queue: IommufdHwQueue) -> None:
    """The hardware forgets the queue, its memory is given back."""
    viommu = queue.viommu
    async with viommu.queue_mutex:
        if await xa_load(viommu.hw_queue, queue.index) is queue:
            await xa_store(viommu.hw_queue, queue.index, None)
        before = await load(queue.prev)
        if before is not None:
            await put(before.users, queue, BEFORE)
    access = await load(queue.access)
    if access is not None:
        await iommufd_access_unpin_pages(access, queue.page, queue.length)
        await iommufd_access_detach(access)
        await iommufd_access_destroy(access, queue)
        await put(viommu.users, queue, ITS_VIOMMU)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_hw_queue_alloc_phys(queue: IommufdHwQueue) -> IommufdAccess:
    """An access object without driver, attached to the memory of the guest, which pins the queue.

    ERANGE, ENOMEM (length), EADDRINUSE, as pinning, EFAULT for pages that do not follow each other in physical memory.
    """
    over = queue.length > ULONG_MAX - PAGE_SIZE + 1
    await refuse_if(over, Errno.ERANGE, "hw_queue_whole_pages", "its last page would end beyond the last address")
    big = queue.length // PAGE_SIZE * POINTER > INT_MAX
    await refuse_if(big, Errno.ENOMEM, "hw_queue_list_fits", "the list of its pages would take more than 2 GiB")
    access = await _iommufd_object_alloc(queue.ictx, IommufdAccess)
    init(access, internal=True)
    await get(access.users, queue, "bound")
    await iommufd_object_finalize(queue.ictx, access)
    async with on_failure(iommufd_access_destroy, access, queue):
        async with access.ioas_lock:
            await iommufd_access_change_ioas(access, queue.viommu.hwpt.ioas)
        async with on_failure(iommufd_access_detach, access):
            pinned = await iommufd_access_pin_pages(access, queue.page, queue.length, write=False)
            async with on_failure(iommufd_access_unpin_pages, access, queue.page, queue.length):
                await check_contiguous(queue, pinned)
    return access


async def check_contiguous(queue: IommufdHwQueue, pinned: Pinned) -> None:
    """EFAULT where a page does not follow the one before it. Where user memory lies is chance; the same page twice never does."""
    if queue.length == PAGE_SIZE:
        return
    known: set[tuple[object, int]] = set()
    for area, first, last in pinned:
        pages = await require(await load(area.pages), Errno.EFAULT, "hw_queue_mapped", "its memory is gone")
        mm = await load(pages.source_mm)
        for page in range(first, last + 1):
            at = pages.file or mm, pages.address + page * PAGE_SIZE
            again = at in known
            await refuse_if(
                again, Errno.EFAULT, "hw_queue_contiguous", "a page of it stands for two, so it lies not in one piece"
            )
            known.add(at)
    raise Unsupported("whether pages of a hardware queue follow each other in physical memory, which is chance,")


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_hw_queue_alloc_ioctl(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, no type), EINVAL (length), EOVERFLOW, ENOENT, EOPNOTSUPP (type), what pinning says, then the driver.

    Of the driver: EINVAL (number), EEXIST, EIO without the queue before it.
    """
    cmd = ucmd.cmd
    await refuse_if(cmd.flags != 0, Errno.EOPNOTSUPP, "flags_known", f"the flags {cmd.flags:#x} are not known")
    bad = cmd.type == uapi.IOMMU_HW_QUEUE_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "hw_queue_has_type", "a queue must have a type, and 0 is none")
    await refuse_if(not cmd.length, Errno.EINVAL, "hw_queue_length", "a queue needs room")
    over = cmd.nesting_parent_iova + cmd.length - 1 > ULONG_MAX
    why = ends_beyond(cmd.nesting_parent_iova, cmd.length)
    await refuse_if(over, Errno.EOVERFLOW, "hw_queue_ends_somewhere", why)
    viommu = await iommufd_get_object(ucmd.ictx, cmd.viommu_id, IommufdViommu)
    async with cleanup(iommufd_put_object, viommu):
        known = cmd.type == uapi.IOMMU_HW_QUEUE_TYPE_SELFTEST
        await refuse_if(
            not known, Errno.EOPNOTSUPP, "hw_queue_type_known", f"the IOMMU has no queues of type {cmd.type:#x}"
        )
        await new_queue(ucmd, viommu)


async def new_queue(ucmd: Ucmd, viommu: IommufdViommu) -> None:
    """The object, its memory, then the driver's part."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    offset = cmd.nesting_parent_iova % PAGE_SIZE
    length = offset + cmd.length + -(offset + cmd.length) % PAGE_SIZE
    queue = await _iommufd_object_alloc(
        ictx, IommufdHwQueue, viommu, cmd.index, cmd.nesting_parent_iova - offset, length
    )
    ucmd.new_obj = queue
    say(Phase.ACQUIRE, "The memory of {} is pinned by an access object of its own.", queue)
    access = await iommufd_hw_queue_alloc_phys(queue)
    await get(viommu.users, queue, ITS_VIOMMU)
    await store(queue.access, access)
    await mock_hw_queue_init_phys(queue)
    cmd.out_hw_queue_id = queue.id
    await copy_to_user(ucmd.address, ucmd.reply())
