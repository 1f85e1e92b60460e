"""Queues in the memory of a guest that the hardware reads by itself (drivers/iommu/iommufd/viommu.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import Field, Phase, copy_to_user, field, get, kernel, load, peek, poke, put, refuse_if, say, store
from ...engine.engine import Engine
from ...uapi import Errno, KernelError
from ..mm import PAGE_SIZE
from ..unsupported import Unsupported
from .access import iommufd_access_change_ioas, iommufd_access_destroy, iommufd_access_detach
from .access_pages import iommufd_access_pin_pages, iommufd_access_unpin_pages
from .areas import ULONG_MAX
from .main import _iommufd_object_alloc, iommufd_get_object, iommufd_object_finalize
from .private import IommufdAccess, IommufdCtx, IommufdObject, Ucmd, iommufd_put_object
from .viommu import ITS_VIOMMU, IommufdViommu

BEFORE = "the queue behind it"


class IommufdHwQueue(IommufdObject):
    """A queue of a guest: its memory is pinned, and cannot be unmapped, as long as the hardware may read it.

    * born by HW_QUEUE_ALLOC; holds the virtual IOMMU, the queue before it, and an access object of its own (with an ID);
    * dies by IOMMU_DESTROY.
    """

    kind = "iommufd_hw_queue"
    type = "hardware queue"
    access: Field[IommufdAccess | None] = field(None)
    prev: Field[IommufdHwQueue | None] = field(None, guard="viommu.queue_mutex", link="weak")

    def __init__(self, engine: Engine, ictx: IommufdCtx, viommu: IommufdViommu, index: int, page: int) -> None:
        super().__init__(engine, ictx)
        self.viommu = viommu
        self.index = index
        self.page = page  # where it lies


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_hw_queue_destroy(queue: IommufdHwQueue) -> None:
    """The hardware forgets the queue, its memory is given back."""
    viommu = queue.viommu
    async with viommu.queue_mutex:
        if await peek(viommu.hw_queue, queue.index) is queue:
            await poke(viommu.hw_queue, queue.index, None)
        before = await load(queue.prev)
        if before is not None:
            await put(before.users, queue, BEFORE)
    access = await load(queue.access)
    if access is not None:
        await iommufd_access_unpin_pages(access, queue.page, PAGE_SIZE)
        await iommufd_access_detach(access)
        await iommufd_access_destroy(access, queue)
        await put(viommu.users, queue, ITS_VIOMMU)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_hw_queue_alloc_ioctl(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, no type), EINVAL (length), EOVERFLOW, ENOENT, EOPNOTSUPP (type), what pinning says, then the driver.

    Of the driver: EINVAL (number), EEXIST, EIO without the queue before it.
    """
    cmd = ucmd.cmd
    bad = cmd.flags != 0 or cmd.type == uapi.IOMMU_HW_QUEUE_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "hw_queue_has_type", "a queue has no flags and must have a type")
    await refuse_if(not cmd.length, Errno.EINVAL, "hw_queue_length", "a queue needs room")
    over = cmd.nesting_parent_iova + cmd.length - 1 > ULONG_MAX
    await refuse_if(over, Errno.EOVERFLOW, "hw_queue_ends_somewhere", "the queue ends beyond the last address")
    viommu = await iommufd_get_object(ucmd.ictx, cmd.viommu_id, IommufdViommu)
    try:
        known = cmd.type == uapi.IOMMU_HW_QUEUE_TYPE_SELFTEST
        await refuse_if(not known, Errno.EOPNOTSUPP, "hw_queue_type_known", "the IOMMU has no queues of this type")
        if cmd.nesting_parent_iova % PAGE_SIZE + cmd.length > PAGE_SIZE:
            raise Unsupported("a hardware queue of several pages, which must follow each other in physical memory")
        await new_queue(ucmd, viommu)
    except KernelError:
        await iommufd_put_object(viommu)
        raise
    await iommufd_put_object(viommu)


async def new_queue(ucmd: Ucmd, viommu: IommufdViommu) -> None:
    """The object, its memory, then the driver's part."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    page = cmd.nesting_parent_iova - cmd.nesting_parent_iova % PAGE_SIZE
    queue = await _iommufd_object_alloc(ictx, IommufdHwQueue, viommu, cmd.index, page)
    ucmd.new_obj = queue
    say(Phase.ACQUIRE, "The memory of {} is pinned by an access object of its own.", queue)
    access = await iommufd_hw_queue_alloc_phys(queue)
    await get(viommu.users, queue, ITS_VIOMMU)
    await store(queue.access, access)
    await mock_hw_queue_init_phys(queue)
    cmd.out_hw_queue_id = queue.id
    await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_hw_queue_alloc_phys(queue: IommufdHwQueue) -> IommufdAccess:
    """An access object without driver, attached to the memory of the guest, which pins the queue. EADDRINUSE, as pinning."""
    access = await _iommufd_object_alloc(queue.ictx, IommufdAccess)
    access.internal = True
    await get(access.users, queue, "bound")
    await iommufd_object_finalize(queue.ictx, access)
    try:
        async with access.ioas_lock:
            await iommufd_access_change_ioas(access, queue.viommu.hwpt.ioas)
        try:
            await iommufd_access_pin_pages(access, queue.page, PAGE_SIZE, write=False)
        except KernelError:
            await iommufd_access_detach(access)
            raise
    except KernelError:
        await iommufd_access_destroy(access, queue)
        raise
    return access


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_hw_queue_init_phys(queue: IommufdHwQueue) -> None:
    """The mock IOMMU has two queues, and the second needs the first. EINVAL, EEXIST, EIO."""
    viommu, index = queue.viommu, queue.index
    far = index >= uapi.IOMMU_TEST_HW_QUEUE_MAX
    await refuse_if(far, Errno.EINVAL, "hw_queue_number", "there is no queue of this number")
    async with viommu.queue_mutex:
        taken = await peek(viommu.hw_queue, index) is not None
        await refuse_if(taken, Errno.EEXIST, "hw_queue_free", "the guest has this queue already")
        before = None
        if index:
            before = await peek(viommu.hw_queue, index - 1)
        alone = bool(index) and before is None
        await refuse_if(alone, Errno.EIO, "hw_queue_before", "the guest has no queue before this one")
        if isinstance(before, IommufdHwQueue):
            await get(before.users, queue, BEFORE)
            await store(queue.prev, before)
        await poke(viommu.hw_queue, index, queue)
