"""The objects of a context: how they get an ID, are published and removed (drivers/iommu/iommufd/main.c, v7.2).

The other half of that file, what can be asked of /dev/iommu, is in `fops.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from ...engine import (
    KObject,
    alloc,
    claim,
    free,
    get,
    kernel,
    load,
    peek,
    poke,
    put,
    put_if_last,
    refuse_if,
    require,
    store,
    wait_until_zero,
    warn_on,
)
from ...engine.engine import Engine
from ...uapi import Errno, KernelError
from .private import LIMIT_31B, ZERO_ENTRY, IommufdCtx, IommufdObject, iommufd_lock_obj

P = ParamSpec("P")
O = TypeVar("O", bound=IommufdObject)  # noqa: E741
DESTROY_TIMEOUT: Final = 60_000  # milliseconds that the removal of a kernel-owned object waits for running calls

Destroy = Callable[[Any], Awaitable[None]]
DESTROY_OPS: dict[type[IommufdObject], Destroy] = {}  # by kind of object; `fops.py` fills it in
PRE_DESTROY_OPS: dict[type[IommufdObject], Destroy] = {}  # what can be revoked while somebody waits for users
ABORT_OPS: dict[type[IommufdObject], Destroy] = {}  # where an object that was never published has to go another way


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
            number = await claim(ictx.objects, ZERO_ENTRY, LIMIT_31B)
        obj.id = await require(number, Errno.EBUSY, "ids_left", "all 2^31 IDs of this iommufd are taken")
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
        await poke(ictx.objects, obj.id, obj)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_object_abort(ictx: IommufdCtx, obj: IommufdObject) -> None:
    """Undo the allocation of an object that was never published."""
    async with ictx.objects_lock:
        await poke(ictx.objects, obj.id, None)
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
        found = await peek(ictx.objects, number)
        obj = await require(
            None if found == ZERO_ENTRY else found, Errno.ENOENT, "object_exists", f"there is no object {number}"
        )
        alone = await put_if_last(obj.users, ictx, "has its ID")
        await refuse_if(not alone, Errno.EBUSY, "object_in_use", f"somebody still uses object {number}")
        await poke(ictx.objects, number, None)
        if await load(ictx.vfio_ioas) is obj:
            await store(ictx.vfio_ioas, None)
    if not await wait_and_destroy(ictx, obj):
        await refuse_if(True, Errno.EBUSY, "calls_end", "a call that uses the object does not end")


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_object_put_and_try_destroy(
    ictx: IommufdCtx, obj: IommufdObject, holder: KObject, reason: str
) -> None:
    """Let go of an object that nobody needs any more: it is destroyed, unless somebody uses it at this moment."""
    async with ictx.objects_lock:
        await put(obj.users, holder, reason)
        if not await put_if_last(obj.users, ictx, "has its ID"):
            return
        await poke(ictx.objects, obj.id, None)
    await wait_and_destroy(ictx, obj)


async def wait_and_destroy(ictx: IommufdCtx, obj: IommufdObject) -> bool:
    """An object that nobody can find any more goes, as soon as those calls are done that have found it. False if they never are."""
    if not await iommufd_object_dec_wait(ictx, obj):
        return not await warn_on(True, f"{obj.oid} is still in use, so its memory is lost")
    await destroy(obj)
    return True


@kernel("drivers/iommu/iommufd/iommufd_private.h")
async def iommufd_object_destroy_user(ictx: IommufdCtx, obj: IommufdObject, driver: KObject) -> None:
    """The driver lets go of an object of its own: first wait for running calls, then its ID goes. Cannot fail."""
    await remove_owned(ictx, obj, (driver, "bound"), None)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_try_inc_users(ictx: IommufdCtx, obj: IommufdObject, holder: KObject) -> bool:
    """Hold an object outside of a call; False if it can no longer be found, so that somebody destroys it already."""
    async with ictx.objects_lock:
        there = await peek(ictx.objects, obj.id) is obj
        if there:
            await get(obj.users, holder, "takes it along")
    return there


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
                await poke(ictx.objects, obj.id, entry)
            else:
                await get(obj.wait_cnt, ictx, "has its ID")
    else:
        await put(obj.users, *owner)
    if alone:
        await destroy(obj)
    else:
        await warn_on(True, f"{obj.oid} is still in use, so it is left behind")


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_get_object(ictx: IommufdCtx, number: int, kind: type[O]) -> O:
    """Find an object of this kind and hold it for the running call. ENOENT without one, also if it is of another kind."""
    async with ictx.objects_lock:
        found = await peek(ictx.objects, number)
        obj = found if isinstance(found, kind) and await iommufd_lock_obj(found) else None
    kind_of = f"{kind.type} object" if kind.type else "object"
    return await require(obj, Errno.ENOENT, "object_exists", f"there is no {kind_of} {number}")


@kernel("drivers/iommu/iommufd/main.c")
async def destroy(obj: IommufdObject) -> None:
    """Let an object give back what it holds, then free it (`iommufd_object_ops[].destroy`)."""
    await DESTROY_OPS[obj.own_class](obj)
    await free(obj)


async def remove_leaf(ictx: IommufdCtx, obj: IommufdObject) -> bool:
    """At the end of a context: an object that nobody else uses goes (the loop body of `iommufd_fops_release`)."""
    if not await put_if_last(obj.users, ictx, "has its ID"):
        return False
    await poke(ictx.objects, obj.id, None)
    await destroy(obj)
    return True
