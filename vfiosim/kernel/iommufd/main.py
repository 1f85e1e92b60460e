"""The objects of a context, and /dev/iommu where they are asked for (drivers/iommu/iommufd/main.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..fs.file import File, FileOperations, KernelPages, Mapping, fget, fput, private
from ..regions import PAGE_SIZE
from ..uaccess import copy_struct_from_user, get_user_u32
from ..unsupported import Unsupported
from .device import (
    iommufd_access_destroy_object,
    iommufd_device_destroy,
    iommufd_device_pre_destroy,
    iommufd_get_hw_info,
)
from .eventq import (
    iommufd_fault_alloc,
    iommufd_fault_destroy,
    iommufd_veventq_abort,
    iommufd_veventq_alloc,
    iommufd_veventq_destroy,
)
from .hw_pagetable import (
    iommufd_hwpt_alloc,
    iommufd_hwpt_get_dirty_bitmap,
    iommufd_hwpt_invalidate,
    iommufd_hwpt_nested_destroy,
    iommufd_hwpt_paging_abort,
    iommufd_hwpt_paging_destroy,
    iommufd_hwpt_set_dirty_tracking,
)
from .io_pagetable_h import ACCOUNT_MM
from .ioas import (
    iommufd_ioas_alloc_ioctl,
    iommufd_ioas_allow_iovas,
    iommufd_ioas_change_process,
    iommufd_ioas_copy,
    iommufd_ioas_destroy,
    iommufd_ioas_iova_ranges,
    iommufd_ioas_map,
    iommufd_ioas_map_file,
    iommufd_ioas_option,
    iommufd_ioas_unmap,
    iommufd_option_rlimit_mode,
)
from .iommufd_private import (
    LIMIT_31B,
    ZERO_ENTRY,
    IommufdAccess,
    IommufdCtx,
    IommufdDevice,
    IommufdFault,
    IommufdHwptNested,
    IommufdHwptPaging,
    IommufdHwQueue,
    IommufdIoas,
    IommufdObject,
    IommufdVdevice,
    IommufdVeventq,
    IommufdViommu,
    Ucmd,
    iommufd_lock_obj,
)
from .selftest.mock_device import SelftestObj, iommufd_selftest_destroy
from .selftest.selftest import iommufd_test
from .vfio_compat import iommufd_vfio_ioas, iommufd_vfio_ioctl
from .viommu import (
    iommufd_hw_queue_alloc_ioctl,
    iommufd_hw_queue_destroy,
    iommufd_vdevice_abort,
    iommufd_vdevice_alloc_ioctl,
    iommufd_vdevice_destroy,
    iommufd_viommu_alloc_ioctl,
    iommufd_viommu_destroy,
)

P = ParamSpec("P")
O = TypeVar("O", bound=IommufdObject)  # noqa: E741
DESTROY_TIMEOUT: Final = 60_000  # milliseconds that the removal of a kernel-owned object waits for running calls


@kernel("drivers/iommu/iommufd/main.c")
async def _iommufd_object_alloc(
    ictx: IommufdCtx, make: Callable[Concatenate[Engine, IommufdCtx, P], O], *args: P.args, **named: P.kwargs
) -> O:
    """A new object with the lowest free ID, which stays invisible until it is finalized."""
    obj = await alloc(make, ictx, *args, **named)
    await get(obj.wait_cnt, ictx, "has its ID")
    await get(obj.users, ictx, "has its ID")
    try:
        async with ictx.objects_lock:
            number = await xa_alloc(ictx.objects, ZERO_ENTRY, LIMIT_31B)
        init(obj, id=await require(number, Errno.EBUSY, "an_id_is_free", "all 2^31 IDs of this iommufd are taken"))
    except KernelError:
        await put(obj.wait_cnt, ictx, "has its ID")
        await put(obj.users, ictx, "has its ID")
        await free(obj)
        raise
    return obj


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_object_finalize(ictx: IommufdCtx, obj: IommufdObject) -> None:
    """Publish an object: from here on other calls can find it under its ID."""
    async with ictx.objects_lock:
        await xa_store(ictx.objects, obj.id, obj)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_object_abort(ictx: IommufdCtx, obj: IommufdObject) -> None:
    """Undo the allocation of an object that was never published."""
    async with ictx.objects_lock:
        await xa_store(ictx.objects, obj.id, None)
    await put(obj.wait_cnt, ictx, "has its ID")
    await put(obj.users, ictx, "has its ID")
    await free(obj)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_object_abort_and_destroy(ictx: IommufdCtx, obj: IommufdObject) -> None:
    """Undo an object that was never published, with everything that it holds already."""
    kind = obj.own_class
    await ABORT_OPS.get(kind, DESTROY_OPS[kind])(obj)
    await iommufd_object_abort(ictx, obj)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_get_object(ictx: IommufdCtx, number: int, kind: type[O]) -> O:
    """Find an object of this kind and hold it for the running call. ENOENT without one, also if it is of another kind."""
    async with ictx.objects_lock:
        found = await xa_load(ictx.objects, number)
        obj = found if isinstance(found, kind) and await iommufd_lock_obj(found) else None
    kind_of = f"{kind.type} object" if kind.type else "object"
    return await require(obj, Errno.ENOENT, "object_exists", f"there is no {kind_of} {number}")


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_try_inc_users(ictx: IommufdCtx, obj: IommufdObject, holder: KObject) -> bool:
    """Hold an object outside of a call; False if it can no longer be found, so that somebody destroys it already."""
    async with ictx.objects_lock:
        there = await xa_load(ictx.objects, obj.id) is obj
        if there:
            await get(obj.users, holder, "takes it along")
    return there


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_object_dec_wait(ictx: IommufdCtx, obj: IommufdObject) -> bool:
    """No call can begin to use the object any more; wait until those that run are done. False after 60 seconds."""
    if await put(obj.wait_cnt, ictx, "has its ID"):
        return True
    before = PRE_DESTROY_OPS.get(obj.own_class)
    if before is not None:
        await before(obj)
    if await wait_until_zero(obj.wait_cnt, DESTROY_TIMEOUT):
        return True
    await get(obj.wait_cnt, ictx, "has its ID")
    return False


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_object_remove(ictx: IommufdCtx, number: int) -> None:
    """IOMMU_DESTROY: ENOENT without such an object, EBUSY if anybody but the context uses it."""
    async with ictx.objects_lock:
        found = await xa_load(ictx.objects, number)
        obj = await require(
            None if found == ZERO_ENTRY else found, Errno.ENOENT, "object_exists", f"there is no object {number}"
        )
        alone = await put_if_last(obj.users, ictx, "has its ID")
        await refuse_if(not alone, Errno.EBUSY, "object_is_unused", f"somebody still uses object {number}")
        await xa_store(ictx.objects, number, None)
        if await load(ictx.vfio_ioas) is obj:
            await store(ictx.vfio_ioas, None)
    if not await wait_and_destroy(ictx, obj):
        await refuse_if(True, Errno.EBUSY, "calls_end", "a call that uses the object does not end")


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_object_destroy_user(ictx: IommufdCtx, obj: IommufdObject, driver: KObject) -> None:
    """The driver lets go of an object of its own: first wait for running calls, then its ID goes. Cannot fail."""
    await remove_owned(ictx, obj, (driver, "bound"), None)


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_object_tombstone_user(ictx: IommufdCtx, obj: IommufdObject, holder: KObject) -> None:
    """Destroy an object that the program has made, and leave its ID taken: the program may still use it."""
    await remove_owned(ictx, obj, (holder, "takes it along"), ZERO_ENTRY)


async def remove_owned(ictx: IommufdCtx, obj: IommufdObject, owner: tuple[KObject, str], entry: Any) -> None:
    """Destroy an object that its owner still holds (`iommufd_object_remove` with REMOVE_WAIT); `entry` takes its place.

    If somebody else holds it, which cannot be, the kernel warns and leaves it where it is.
    """
    alone = False
    if await iommufd_object_dec_wait(ictx, obj):
        async with ictx.objects_lock:
            await put(obj.users, *owner)
            alone = await put_if_last(obj.users, ictx, "has its ID")
            if alone:
                await xa_store(ictx.objects, obj.id, entry)
            else:
                await get(obj.wait_cnt, ictx, "has its ID")
    else:
        await put(obj.users, *owner)
    if alone:
        await destroy(obj)
    else:
        await warn_on(True, f"{obj.oid} is still in use, so it is left behind")


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_object_put_and_try_destroy(
    ictx: IommufdCtx, obj: IommufdObject, holder: KObject, reason: str
) -> None:
    """Let go of an object that nobody needs any more: it is destroyed, unless somebody uses it at this moment."""
    async with ictx.objects_lock:
        await put(obj.users, holder, reason)
        if not await put_if_last(obj.users, ictx, "has its ID"):
            return
        await xa_store(ictx.objects, obj.id, None)
    await wait_and_destroy(ictx, obj)


async def wait_and_destroy(ictx: IommufdCtx, obj: IommufdObject) -> bool:
    """An object that nobody can find any more goes, as soon as those calls are done that have found it. False if they never are."""
    if not await iommufd_object_dec_wait(ictx, obj):
        return not await warn_on(True, f"{obj.oid} is still in use, so its memory is lost")
    await destroy(obj)
    return True


@kernel("drivers/iommu/iommufd/main.c")
async def destroy(obj: IommufdObject) -> None:
    """Let an object give back what it holds, then free it (`iommufd_object_ops[].destroy`)."""
    await DESTROY_OPS[obj.own_class](obj)
    await free(obj)


async def remove_leaf(ictx: IommufdCtx, obj: IommufdObject) -> bool:
    """At the end of a context: an object that nobody else uses goes (the loop body of `iommufd_fops_release`)."""
    if not await put_if_last(obj.users, ictx, "has its ID"):
        return False
    await xa_store(ictx.objects, obj.id, None)
    await destroy(obj)
    return True


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_destroy(ucmd: Ucmd) -> None:
    """Destroy the object with this ID."""
    say(Phase.RELEASE, f"Object {ucmd.cmd.id} is destroyed only if {{}} is its only user.", ucmd.ictx)
    await iommufd_object_remove(ucmd.ictx, ucmd.cmd.id)


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
    say(Phase.RELEASE, "{} is freed, with everything that is still in it.", ictx)
    progress = True
    while progress:
        progress = False
        number = await next_slot(ictx.objects, 1)
        while number is not None:
            obj = await xa_load(ictx.objects, number)
            if obj is not None and obj != ZERO_ENTRY and await remove_leaf(ictx, obj):
                progress = True
            number = await next_slot(ictx.objects, number + 1)
    await free(ictx)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_option(ucmd: Ucmd) -> None:
    """IOMMU_OPTION: EOPNOTSUPP for reserved fields and unknown options; EFAULT for the reply, what was set stays set."""
    cmd = ucmd.cmd
    unknown = cmd.option_id not in (uapi.IOMMU_OPTION_RLIMIT_MODE, uapi.IOMMU_OPTION_HUGE_PAGES)
    used = cmd.get("__reserved") != 0
    await refuse_if(used, Errno.EOPNOTSUPP, "option_reserved_zero", "reserved fields must be zero")
    await refuse_if(unknown, Errno.EOPNOTSUPP, "option_known", f"there is no option {cmd.option_id}")
    if cmd.option_id == uapi.IOMMU_OPTION_RLIMIT_MODE:
        await iommufd_option_rlimit_mode(cmd, ucmd.ictx)
    else:
        await iommufd_ioas_option(ucmd)
    await copy_to_user(ucmd.address + type(cmd).val64.offset, cmd.val64.to_bytes(8, "little"))


class IommufdIoctlOp(NamedTuple):
    """One call of /dev/iommu (`struct iommufd_ioctl_op`)."""

    struct: type[uapi.Struct]
    last: str  # the last field that every caller has to know
    execute: Callable[[Ucmd], Awaitable[Any]] | None  # None: not modelled; what it answers is what the call does, or 0

    @property
    def min_size(self) -> int:
        """The size of the smallest argument, in bytes."""
        field = next(f for f in self.struct.fields() if f.name == self.last)
        return field.offset + field.size


CALLS: dict[int, IommufdIoctlOp] = {
    uapi.IOMMU_DESTROY: IommufdIoctlOp(uapi.IommuDestroy, "id", iommufd_destroy),
    uapi.IOMMU_IOAS_ALLOC: IommufdIoctlOp(uapi.IommuIoasAlloc, "out_ioas_id", iommufd_ioas_alloc_ioctl),
    uapi.IOMMU_IOAS_ALLOW_IOVAS: IommufdIoctlOp(uapi.IommuIoasAllowIovas, "allowed_iovas", iommufd_ioas_allow_iovas),
    uapi.IOMMU_IOAS_COPY: IommufdIoctlOp(uapi.IommuIoasCopy, "src_iova", iommufd_ioas_copy),
    uapi.IOMMU_IOAS_IOVA_RANGES: IommufdIoctlOp(
        uapi.IommuIoasIovaRanges, "out_iova_alignment", iommufd_ioas_iova_ranges
    ),
    uapi.IOMMU_IOAS_MAP: IommufdIoctlOp(uapi.IommuIoasMap, "iova", iommufd_ioas_map),
    uapi.IOMMU_IOAS_MAP_FILE: IommufdIoctlOp(uapi.IommuIoasMapFile, "iova", iommufd_ioas_map_file),
    uapi.IOMMU_IOAS_UNMAP: IommufdIoctlOp(uapi.IommuIoasUnmap, "length", iommufd_ioas_unmap),
    uapi.IOMMU_IOAS_CHANGE_PROCESS: IommufdIoctlOp(
        uapi.IommuIoasChangeProcess, "__reserved", iommufd_ioas_change_process
    ),
    uapi.IOMMU_OPTION: IommufdIoctlOp(uapi.IommuOption, "val64", iommufd_option),
    uapi.IOMMU_VFIO_IOAS: IommufdIoctlOp(uapi.IommuVfioIoas, "__reserved", iommufd_vfio_ioas),
    uapi.IOMMU_HWPT_ALLOC: IommufdIoctlOp(uapi.IommuHwptAlloc, "__reserved", iommufd_hwpt_alloc),
    uapi.IOMMU_HWPT_SET_DIRTY_TRACKING: IommufdIoctlOp(
        uapi.IommuHwptSetDirtyTracking, "__reserved", iommufd_hwpt_set_dirty_tracking
    ),
    uapi.IOMMU_HWPT_GET_DIRTY_BITMAP: IommufdIoctlOp(
        uapi.IommuHwptGetDirtyBitmap, "data", iommufd_hwpt_get_dirty_bitmap
    ),
    uapi.IOMMU_HWPT_INVALIDATE: IommufdIoctlOp(uapi.IommuHwptInvalidate, "__reserved", iommufd_hwpt_invalidate),
    uapi.IOMMU_GET_HW_INFO: IommufdIoctlOp(uapi.IommuHwInfo, "__reserved", iommufd_get_hw_info),
    uapi.IOMMU_FAULT_QUEUE_ALLOC: IommufdIoctlOp(uapi.IommuFaultAlloc, "out_fault_fd", iommufd_fault_alloc),
    uapi.IOMMU_VIOMMU_ALLOC: IommufdIoctlOp(uapi.IommuViommuAlloc, "out_viommu_id", iommufd_viommu_alloc_ioctl),
    uapi.IOMMU_VDEVICE_ALLOC: IommufdIoctlOp(uapi.IommuVdeviceAlloc, "virt_id", iommufd_vdevice_alloc_ioctl),
    uapi.IOMMU_VEVENTQ_ALLOC: IommufdIoctlOp(uapi.IommuVeventqAlloc, "out_veventq_fd", iommufd_veventq_alloc),
    uapi.IOMMU_HW_QUEUE_ALLOC: IommufdIoctlOp(uapi.IommuHwQueueAlloc, "length", iommufd_hw_queue_alloc_ioctl),
    uapi.IOMMU_TEST_CMD: IommufdIoctlOp(uapi.IommuTestCmd, "last", iommufd_test),
}


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
    return await execute(ucmd, call.execute)


def _not_modelled(cmd: int) -> IommufdIoctlOp | None:
    """A call that the real kernel has: everything up to its argument is the same for all."""
    for name in uapi.request_names(cmd):
        request = uapi.REQUESTS[name]
        if name.startswith("IOMMU_") and request.struct is not None:
            return IommufdIoctlOp(request.struct, request.struct.fields()[0].name, None)
    return None


async def execute(ucmd: Ucmd, handler: Callable[[Ucmd], Awaitable[Any]]) -> int:
    """Run the handler; a new object of the call is published if it succeeded and undone if it failed."""
    try:
        answer = await handler(ucmd)
    except KernelError:
        if ucmd.new_obj is not None:
            await iommufd_object_abort_and_destroy(ucmd.ictx, ucmd.new_obj)
        raise
    if ucmd.new_obj is not None:
        say(Phase.PUBLISH, "{} can be found under its ID from now on.", ucmd.new_obj)
        await iommufd_object_finalize(ucmd.ictx, ucmd.new_obj)
    return answer or 0


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_fops_mmap(file: File, wish: Mapping) -> KernelPages:
    """Map a queue of the hardware: EINVAL unless shared, EPERM to execute it, ENXIO where there is none."""
    ictx: IommufdCtx = await private(file)
    await refuse_if(not wish.shared, Errno.EINVAL, "mapping_is_shared", "a queue cannot be mapped privately")
    await refuse_if(bool(wish.prot & 4), Errno.EPERM, "mapping_not_executed", "a queue cannot be executed")
    there = await xa_load(ictx.mt_mmap, wish.offset)
    fits = there is not None and wish.length == 2 * PAGE_SIZE
    await refuse_if(not fits, Errno.ENXIO, "offset_names_queue", "no queue has this offset, and this length")
    assert isinstance(there, IommufdViommu)
    assert there.pages is not None
    return KernelPages(there.pages, there)


iommufd_fops = FileOperations(
    "iommufd",
    open=iommufd_fops_open,
    release=iommufd_fops_release,
    unlocked_ioctl=iommufd_fops_ioctl,
    mmap=iommufd_fops_mmap,
)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_ctx_get(ictx: IommufdCtx, holder: KObject, reason: str) -> None:
    """Hold the context: one reference more on its file."""
    await get(ictx.file.f_ref, holder, reason)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_ctx_from_file(file: File, holder: KObject, reason: str) -> IommufdCtx:
    """The context behind an open file, held by `holder`. EBADFD if the file is of another kind."""
    await refuse_if(file.f_op is not iommufd_fops, Errno.EBADFD, "file_is_iommufd", f"{file.label} is not an iommufd")
    ictx: IommufdCtx = await private(file)
    await get(file.f_ref, holder, reason)
    return ictx


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
async def iommufd_ctx_put(ictx: IommufdCtx, holder: KObject, reason: str) -> None:
    """Let go of the context; its release, if this was the last reference, waits for the return to user space."""
    await fput(ictx.file, holder, reason)


Destroy = Callable[[Any], Awaitable[None]]
# `iommufd_object_ops`: by kind of object
DESTROY_OPS: Final[dict[type[IommufdObject], Destroy]] = {
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
# where an object that was never published has to go another way
ABORT_OPS: Final[dict[type[IommufdObject], Destroy]] = {
    IommufdHwptPaging: iommufd_hwpt_paging_abort,
    IommufdVdevice: iommufd_vdevice_abort,
    IommufdVeventq: iommufd_veventq_abort,
}
# what can be revoked while somebody waits for users
PRE_DESTROY_OPS: Final[dict[type[IommufdObject], Destroy]] = {IommufdDevice: iommufd_device_pre_destroy}
