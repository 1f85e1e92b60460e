"""What is done whenever an eventfd is signalled (drivers/vfio/virqfd.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ...engine import *
from ...uapi import Errno
from ..fs.eventfd import POLLIN, EventfdCtx, eventfd_ctx_fdget, eventfd_ctx_put

Handler = Callable[[Any], Awaitable[bool]]
Inject = Callable[[Any], Awaitable[None]]
LISTENS: Final = "listens to it"


class Virqfd(KObject):
    """A listener of an eventfd.

    * born by a request that names the eventfd, one for each `place`; holds its counter;
    * at each signal `handler` is called; if that says so, `thread` is called too;
    * dies by another request, with what it works for, or when the file of the eventfd goes.
    """

    kind = "virqfd"
    eventfd: Field[EventfdCtx | None] = field(None)

    def __init__(
        self, engine: Engine, opaque: Any, handler: Handler, thread: Inject, place: Field[Virqfd | None]
    ) -> None:
        super().__init__(engine)
        self.opaque, self.handler, self.thread, self.place = opaque, handler, thread, place

    async def func(self, events: int) -> None:
        """Its eventfd was signalled (POLLIN), or goes."""
        await virqfd_wakeup(self, events)


@kernel("drivers/vfio/virqfd.c")
async def virqfd_wakeup(virqfd: Virqfd, events: int) -> None:
    """A signal is taken and acted upon; where the file goes, the listener goes."""
    if events != POLLIN:
        await vfio_virqfd_disable(virqfd.place)
        return
    ctx = await load(virqfd.eventfd)
    if ctx is not None:
        async with ctx.lock:
            await store(ctx.count, 0)
        await inject(virqfd)


async def inject(virqfd: Virqfd) -> None:
    """Act upon a signal."""
    if await virqfd.handler(virqfd.opaque):
        await virqfd.thread(virqfd.opaque)


@kernel("drivers/vfio/virqfd.c")
async def vfio_virqfd_enable(
    opaque: KObject, handler: Handler, thread: Inject, place: Field[Virqfd | None], number: int
) -> None:
    """Listen to an eventfd from now on; one that is signalled already counts. EBADF, EINVAL, EBUSY if one is listened to."""
    virqfd = await alloc(Virqfd, opaque, handler, thread, place)
    async with on_failure(free, virqfd):
        ctx = await eventfd_ctx_fdget(number, virqfd, LISTENS)
        async with on_failure(eventfd_ctx_put, ctx, virqfd, LISTENS):
            free_place = await try_cmpxchg(place, None, virqfd)
            await refuse_if(not free_place, Errno.EBUSY, "one_listener", "an eventfd is listened to already")
    await store(virqfd.eventfd, ctx)
    async with ctx.lock:
        await store(ctx.callbacks, (virqfd, *await load(ctx.callbacks)))  # the newest is called first
        waiting = await load(ctx.count)
    if waiting:
        await inject(virqfd)


@kernel("drivers/vfio/virqfd.c")
async def vfio_virqfd_disable(place: Field[Virqfd | None]) -> None:
    """Listen no longer."""
    virqfd = await exchange(place, None)
    ctx = await load(virqfd.eventfd) if virqfd is not None else None
    if virqfd is None or ctx is None:
        return
    async with ctx.lock:
        await store(ctx.callbacks, tuple(each for each in await load(ctx.callbacks) if each is not virqfd))
    await eventfd_ctx_put(ctx, virqfd, LISTENS)
    await free(virqfd)
