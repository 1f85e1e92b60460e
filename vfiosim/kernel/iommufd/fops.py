"""/dev/iommu itself: open, its calls, release (the other half of drivers/iommu/iommufd/main.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from ... import uapi
from ...engine import KObject, Phase, alloc, free, get, kernel, next_slot, peek, refuse_if, require, say, store
from ...uapi import Errno, KernelError
from ..fs.file import File, FileOperations, Mapping, fget, fput, private
from ..uaccess import copy_struct_from_user, get_user_u32
from ..unsupported import Unsupported
from .device import iommufd_access_destroy_object, iommufd_device_destroy
from .ioas import iommufd_ioas_alloc_ioctl, iommufd_ioas_destroy
from .main import DESTROY_OPS, iommufd_object_abort, iommufd_object_finalize, iommufd_object_remove, remove_leaf
from .private import ZERO_ENTRY, IommufdAccess, IommufdCtx, IommufdDevice, IommufdIoas, Ucmd
from .vfio_compat import iommufd_vfio_ioas, iommufd_vfio_ioctl

DESTROY_OPS.update(
    {
        IommufdDevice: iommufd_device_destroy,
        IommufdAccess: iommufd_access_destroy_object,
        IommufdIoas: iommufd_ioas_destroy,
    }
)


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
    uapi.IOMMU_VFIO_IOAS: Call(uapi.IommuVfioIoas, "__reserved", iommufd_vfio_ioas),
}
_FIRST, _LAST, _TEST = (
    uapi.IOMMUFD_CMD_BASE,
    0x94,
    0xA0,
)  # low bytes of the requests; the recorded kernel has the test call


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_fops_open(file: File) -> None:
    """A context of its own for each open file."""
    say(Phase.ACQUIRE, "A new iommufd context is born; it lives as long as {}.", file)
    ictx = await alloc(IommufdCtx, file)
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
    known = _FIRST <= low <= _LAST or low == _TEST
    if not (known or _LAST < low < _TEST):
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
            await DESTROY_OPS[type(ucmd.new_obj)](ucmd.new_obj)
            await iommufd_object_abort(ucmd.ictx, ucmd.new_obj)
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
    """Map a queue of the hardware: EINVAL unless shared, EPERM to execute it, ENXIO where there is none, and here is none."""
    await refuse_if(not wish.shared, Errno.EINVAL, "mapping_is_shared", "a queue cannot be mapped privately")
    await refuse_if(bool(wish.prot & 4), Errno.EPERM, "mapping_not_executed", "a queue cannot be executed")
    await refuse_if(True, Errno.ENXIO, "offset_names_queue", "no queue has this offset")


iommufd_fops = FileOperations(
    "iommufd",
    open=iommufd_fops_open,
    release=iommufd_fops_release,
    unlocked_ioctl=iommufd_fops_ioctl,
    mmap=iommufd_fops_mmap,
)
