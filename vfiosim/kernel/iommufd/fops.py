"""/dev/iommu itself: open, its calls, release (the other half of drivers/iommu/iommufd/main.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from ... import uapi
from ...engine import KObject, Phase, alloc, free, get, kernel, next_slot, peek, refuse_if, require, say, store
from ...uapi import Errno, KernelError
from ..fs.file import File, FileOperations, Mapping, fget, fput, private
from ..mm import PAGE_SIZE
from ..uaccess import copy_struct_from_user, get_user_u32
from ..unsupported import Unsupported
from .access import iommufd_access_destroy_object
from .areas import ACCOUNT_MM
from .change_process import iommufd_ioas_change_process
from .device import iommufd_device_destroy
from .dirty import iommufd_hwpt_get_dirty_bitmap, iommufd_hwpt_set_dirty_tracking
from .eventq import IommufdFault, iommufd_fault_alloc, iommufd_fault_destroy
from .hw_info import iommufd_get_hw_info
from .hw_pagetable import (
    iommufd_hwpt_alloc,
    iommufd_hwpt_paging_abort,
    iommufd_hwpt_paging_destroy,
)
from .hw_queue import IommufdHwQueue, iommufd_hw_queue_alloc_ioctl, iommufd_hw_queue_destroy
from .ioas import (
    iommufd_ioas_alloc_ioctl,
    iommufd_ioas_allow_iovas,
    iommufd_ioas_copy,
    iommufd_ioas_destroy,
    iommufd_ioas_iova_ranges,
    iommufd_ioas_map,
    iommufd_ioas_map_file,
    iommufd_ioas_unmap,
)
from .main import (
    ABORT_OPS,
    DESTROY_OPS,
    PRE_DESTROY_OPS,
    iommufd_object_abort_and_destroy,
    iommufd_object_finalize,
    iommufd_object_remove,
    remove_leaf,
)
from .nested import IommufdHwptNested, iommufd_hwpt_invalidate, iommufd_hwpt_nested_destroy
from .option import iommufd_option
from .private import ZERO_ENTRY, IommufdAccess, IommufdCtx, IommufdDevice, IommufdHwptPaging, IommufdIoas, Ucmd
from .selftest import iommufd_test
from .selftest_device import SelftestObj, iommufd_selftest_destroy
from .veventq import IommufdVeventq, iommufd_veventq_abort, iommufd_veventq_alloc, iommufd_veventq_destroy
from .vfio_compat import iommufd_vfio_ioas, iommufd_vfio_ioctl
from .viommu import (
    IommufdVdevice,
    IommufdViommu,
    iommufd_device_pre_destroy,
    iommufd_vdevice_abort,
    iommufd_vdevice_alloc_ioctl,
    iommufd_vdevice_destroy,
    iommufd_viommu_alloc_ioctl,
    iommufd_viommu_destroy,
)

DESTROY_OPS.update(
    {
        IommufdDevice: iommufd_device_destroy,
        IommufdAccess: iommufd_access_destroy_object,
        IommufdIoas: iommufd_ioas_destroy,
        IommufdHwptPaging: iommufd_hwpt_paging_destroy,
        IommufdHwptNested: iommufd_hwpt_nested_destroy,
        IommufdFault: iommufd_fault_destroy,
        IommufdVeventq: iommufd_veventq_destroy,
        IommufdViommu: iommufd_viommu_destroy,
        IommufdVdevice: iommufd_vdevice_destroy,
        IommufdHwQueue: iommufd_hw_queue_destroy,
        SelftestObj: iommufd_selftest_destroy,
    }
)
ABORT_OPS.update(
    {
        IommufdHwptPaging: iommufd_hwpt_paging_abort,
        IommufdVdevice: iommufd_vdevice_abort,
        IommufdVeventq: iommufd_veventq_abort,
    }
)
PRE_DESTROY_OPS[IommufdDevice] = iommufd_device_pre_destroy


class Call(NamedTuple):
    """One call of /dev/iommu (`struct iommufd_ioctl_op`)."""

    struct: type[uapi.Struct]
    last: str  # the last field that every caller has to know
    execute: Callable[[Ucmd], Awaitable[None]] | None  # None: not modelled

    @property
    def min_size(self) -> int:
        """The size of the smallest argument, in bytes."""
        field = next(f for f in self.struct.fields() if f.name == self.last)
        return field.offset + field.size


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_destroy(ucmd: Ucmd) -> None:
    """Destroy the object with this ID."""
    say(Phase.UNWIND, f"Object {ucmd.cmd.id} is to go: only if nobody but {{}} uses it.", ucmd.ictx)
    await iommufd_object_remove(ucmd.ictx, ucmd.cmd.id)


CALLS: dict[int, Call] = {
    uapi.IOMMU_DESTROY: Call(uapi.IommuDestroy, "id", iommufd_destroy),
    uapi.IOMMU_IOAS_ALLOC: Call(uapi.IommuIoasAlloc, "out_ioas_id", iommufd_ioas_alloc_ioctl),
    uapi.IOMMU_IOAS_ALLOW_IOVAS: Call(uapi.IommuIoasAllowIovas, "allowed_iovas", iommufd_ioas_allow_iovas),
    uapi.IOMMU_IOAS_COPY: Call(uapi.IommuIoasCopy, "src_iova", iommufd_ioas_copy),
    uapi.IOMMU_IOAS_IOVA_RANGES: Call(uapi.IommuIoasIovaRanges, "out_iova_alignment", iommufd_ioas_iova_ranges),
    uapi.IOMMU_IOAS_MAP: Call(uapi.IommuIoasMap, "iova", iommufd_ioas_map),
    uapi.IOMMU_IOAS_MAP_FILE: Call(uapi.IommuIoasMapFile, "iova", iommufd_ioas_map_file),
    uapi.IOMMU_IOAS_UNMAP: Call(uapi.IommuIoasUnmap, "length", iommufd_ioas_unmap),
    uapi.IOMMU_IOAS_CHANGE_PROCESS: Call(uapi.IommuIoasChangeProcess, "__reserved", iommufd_ioas_change_process),
    uapi.IOMMU_OPTION: Call(uapi.IommuOption, "val64", iommufd_option),
    uapi.IOMMU_VFIO_IOAS: Call(uapi.IommuVfioIoas, "__reserved", iommufd_vfio_ioas),
    uapi.IOMMU_HWPT_ALLOC: Call(uapi.IommuHwptAlloc, "__reserved", iommufd_hwpt_alloc),
    uapi.IOMMU_HWPT_SET_DIRTY_TRACKING: Call(
        uapi.IommuHwptSetDirtyTracking, "__reserved", iommufd_hwpt_set_dirty_tracking
    ),
    uapi.IOMMU_HWPT_GET_DIRTY_BITMAP: Call(uapi.IommuHwptGetDirtyBitmap, "data", iommufd_hwpt_get_dirty_bitmap),
    uapi.IOMMU_HWPT_INVALIDATE: Call(uapi.IommuHwptInvalidate, "__reserved", iommufd_hwpt_invalidate),
    uapi.IOMMU_GET_HW_INFO: Call(uapi.IommuHwInfo, "__reserved", iommufd_get_hw_info),
    uapi.IOMMU_FAULT_QUEUE_ALLOC: Call(uapi.IommuFaultAlloc, "out_fault_fd", iommufd_fault_alloc),
    uapi.IOMMU_VIOMMU_ALLOC: Call(uapi.IommuViommuAlloc, "out_viommu_id", iommufd_viommu_alloc_ioctl),
    uapi.IOMMU_VDEVICE_ALLOC: Call(uapi.IommuVdeviceAlloc, "virt_id", iommufd_vdevice_alloc_ioctl),
    uapi.IOMMU_VEVENTQ_ALLOC: Call(uapi.IommuVeventqAlloc, "out_veventq_fd", iommufd_veventq_alloc),
    uapi.IOMMU_HW_QUEUE_ALLOC: Call(uapi.IommuHwQueueAlloc, "length", iommufd_hw_queue_alloc_ioctl),
    uapi.IOMMU_TEST_CMD: Call(uapi.IommuTestCmd, "last", iommufd_test),
}
_FIRST, _TEST = uapi.IOMMUFD_CMD_BASE, 0xA0  # low bytes of the requests; the recorded kernel has the test call

VFIO_MISC_DEV = "container"  # the node /dev/vfio/vfio


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_fops_open(file: File) -> None:
    """A context of its own for each open file; one that plays a container charges pinned memory as containers do."""
    say(Phase.ACQUIRE, "A new iommufd context is born; it lives as long as {}.", file)
    ictx = await alloc(IommufdCtx, file)
    if file.cdev is not None and file.cdev.label == VFIO_MISC_DEV:
        await store(ictx.account_mode, ACCOUNT_MM)
    await store(file.private_data, ictx)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_fops_release(file: File) -> None:
    """Destroy what is left in the context, again and again what nobody uses any more, then the context."""
    ictx: IommufdCtx = await private(file)
    say(Phase.UNWIND, "{} goes, and everything that is still in it.", ictx)
    progress = True
    while progress:
        progress = False
        number = await next_slot(ictx.objects, 1)
        while number is not None:
            obj = await peek(ictx.objects, number)
            if obj is not None and obj != ZERO_ENTRY and await remove_leaf(ictx, obj):
                progress = True
            number = await next_slot(ictx.objects, number + 1)
    await free(ictx)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_fops_ioctl(file: File, cmd: int, argument: int) -> int:
    """The common way into every call: is it known, how large is the argument, copy it, do it, publish what it made."""
    ictx: IommufdCtx = await private(file)
    low = cmd & 0xFF
    if low < _FIRST or low > _TEST:
        return await iommufd_vfio_ioctl(ictx, cmd, argument)
    say(Phase.VALIDATE, "How large is the argument, and does this kernel know all of it?")
    user_size = await get_user_u32(argument)
    call = await require(
        CALLS.get(cmd) or _not_modelled(cmd), Errno.ENOTTY, "exact_number", "an iommufd has no such call"
    )
    await refuse_if(user_size < call.min_size, Errno.EINVAL, "size_minimum", f"size must be at least {call.min_size}")
    ucmd = Ucmd(ictx, argument, user_size, await copy_struct_from_user(call.struct, argument, user_size))
    if call.execute is None:
        raise Unsupported(uapi.request_names(cmd)[0])
    await execute(ucmd, call.execute)
    return 0


def _not_modelled(cmd: int) -> Call | None:
    """A call that the real kernel has: everything up to its argument is the same for all."""
    for name in uapi.request_names(cmd):
        request = uapi.REQUESTS[name]
        if name.startswith("IOMMU_") and request.struct is not None:
            return Call(request.struct, request.struct.fields()[0].name, None)
    return None


async def execute(ucmd: Ucmd, handler: Callable[[Ucmd], Awaitable[Any]]) -> None:
    """Run the handler; a new object of the call is published if it succeeded and undone if it failed."""
    try:
        await handler(ucmd)
    except KernelError:
        if ucmd.new_obj is not None:
            await iommufd_object_abort_and_destroy(ucmd.ictx, ucmd.new_obj)
        raise
    if ucmd.new_obj is not None:
        say(Phase.PUBLISH, "{} can be found under its ID from now on.", ucmd.new_obj)
        await iommufd_object_finalize(ucmd.ictx, ucmd.new_obj)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_ctx_from_fd(number: int) -> IommufdCtx:
    """The context behind a descriptor, held for whoever asks (as its running call). EBADF no file, EBADFD another kind."""
    file = await require(await fget(number), Errno.EBADF, "iommufd_is_open", f"{number} is not an open file")
    if file.f_op is not iommufd_fops:
        await fput(file)
    await refuse_if(file.f_op is not iommufd_fops, Errno.EBADFD, "file_is_iommufd", f"{file.label} is not an iommufd")
    ictx: IommufdCtx = await private(file)
    return ictx


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_ctx_from_file(file: File, holder: KObject, reason: str) -> IommufdCtx:
    """The context behind an open file, held by `holder`. EBADFD if the file is of another kind."""
    await refuse_if(file.f_op is not iommufd_fops, Errno.EBADFD, "file_is_iommufd", f"{file.label} is not an iommufd")
    ictx: IommufdCtx = await private(file)
    await get(file.f_ref, holder, reason)
    return ictx


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_fops_mmap(file: File, wish: Mapping) -> None:
    """Map a queue of the hardware: EINVAL unless shared, EPERM to execute it, ENXIO where there is none."""
    ictx: IommufdCtx = await private(file)
    await refuse_if(not wish.shared, Errno.EINVAL, "mapping_is_shared", "a queue cannot be mapped privately")
    await refuse_if(bool(wish.prot & 4), Errno.EPERM, "mapping_not_executed", "a queue cannot be executed")
    there = await peek(ictx.mt_mmap, wish.offset)
    fits = there is not None and wish.length == 2 * PAGE_SIZE
    await refuse_if(not fits, Errno.ENXIO, "offset_names_queue", "no queue has this offset, and this length")
    raise Unsupported("the page of a virtual IOMMU, mapped")


iommufd_fops = FileOperations(
    "iommufd",
    open=iommufd_fops_open,
    release=iommufd_fops_release,
    unlocked_ioctl=iommufd_fops_ioctl,
    mmap=iommufd_fops_mmap,
)
