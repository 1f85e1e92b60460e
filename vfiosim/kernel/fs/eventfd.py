"""Eventfds: counters that a program can wait for and the kernel can signal (fs/eventfd.c, v7.2)."""

from __future__ import annotations

from functools import partial
from typing import Final

from ...engine import *
from ...uapi import Errno
from ..unsupported import Unsupported
from .file import File, FileOperations, fd_install, fget, fput, private
from .host import HostFile
from .syscalls import file_with_fd

_MOST: Final = (1 << 64) - 2
POLLIN: Final = 1
POLLOUT: Final = 4
ITS_FILE: Final = "its file"


class EventfdCtx(KObject):
    """A counter that can be signalled.

    * born with its file; held by the file and by whoever signals it: an interrupt, a request to let go;
    * dies when both are gone.
    """

    kind = "eventfd"
    kref: Count = count()
    count: Field[int] = field(0)

    def __init__(self, engine: Engine, host: HostFile | None = None) -> None:
        super().__init__(engine)
        self.host = host  # a real eventfd, which has the counter then


@kernel("fs/eventfd.c")
async def do_eventfd(host: HostFile | None = None) -> int:
    """A new eventfd with the value 0, or one that stands for a real one."""
    ctx = await alloc(EventfdCtx, host)
    async with on_failure(free, ctx):
        number, file = await file_with_fd("eventfd", eventfd_fops)
    await get(ctx.kref, file, ITS_FILE)
    await store(file.private_data, ctx)
    await fd_install(number, file)
    return number


@kernel("fs/eventfd.c")
async def eventfd_release(file: File) -> None:
    """The file is gone; the counter lives on while somebody may signal it."""
    ctx: EventfdCtx = await private(file)
    await eventfd_ctx_put(ctx, file, ITS_FILE)


@kernel("fs/eventfd.c")
async def eventfd_ctx_put(ctx: EventfdCtx, holder: KObject, reason: str) -> None:
    """Let go of a counter."""
    if await put(ctx.kref, holder, reason):
        if ctx.host is not None:
            await call_outside(ctx.host.close)
        await free(ctx)


@kernel("fs/eventfd.c")
async def eventfd_ctx_fdget(number: int, holder: KObject, reason: str) -> EventfdCtx:
    """The counter behind a descriptor, held by `holder`. EBADF without a file, EINVAL if it is no eventfd."""
    file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    async with on_failure(fput, file):
        await refuse_if(
            file.f_op is not eventfd_fops,
            Errno.EINVAL,
            "file_is_eventfd",
            "an interrupt needs an eventfd, this is another file",
        )
    ctx: EventfdCtx = await private(file)
    await get(ctx.kref, holder, reason)
    await fput(file)
    return ctx


@kernel("include/linux/eventfd.h")
async def eventfd_signal(ctx: EventfdCtx) -> None:
    """Count one more: whoever polls the eventfd sees it."""
    say(Phase.PUBLISH, "{} is signalled.", ctx)
    if ctx.host is not None:
        await call_outside(partial(ctx.host.add, 1))  # a full counter stays as it is
        return
    await store(ctx.count, min(await load(ctx.count) + 1, _MOST))


@kernel("fs/eventfd.c")
async def eventfd_read(file: File, size: int, offset: int) -> bytes:
    """The value, 8 bytes, which is 0 again afterwards. EINVAL for less than 8 bytes."""
    await refuse_if(size < 8, Errno.EINVAL, "eight_bytes", "an eventfd is read 8 bytes at a time")
    ctx: EventfdCtx = await private(file)
    value = await (load(ctx.count) if ctx.host is None else call_outside(ctx.host.take))
    if value == 0:
        raise Unsupported("waiting for an eventfd")
    if ctx.host is None:
        await store(ctx.count, 0)
    return value.to_bytes(8, "little")


@kernel("fs/eventfd.c")
async def eventfd_write(file: File, data: bytes, offset: int) -> int:
    """Add a number of 8 bytes. EINVAL for anything else, or for the largest number of all."""
    number = int.from_bytes(data[:8], "little")
    bad = len(data) != 8 or number > _MOST
    await refuse_if(bad, Errno.EINVAL, "eight_bytes", "an eventfd takes a number of 8 bytes, and not the largest one")
    ctx: EventfdCtx = await private(file)
    if ctx.host is not None:
        if not await call_outside(partial(ctx.host.add, number)):
            raise Unsupported("waiting for room in an eventfd")
        return 8
    before = await load(ctx.count)
    if before + number > _MOST:
        raise Unsupported("waiting for room in an eventfd")
    await store(ctx.count, before + number)
    return 8


@kernel("fs/eventfd.c")
async def eventfd_poll(file: File) -> int:
    """Can it be read, can it be written?"""
    ctx: EventfdCtx = await private(file)
    if ctx.host is not None:
        return await call_outside(ctx.host.events)
    value = await load(ctx.count)
    return POLLIN * (value > 0) | POLLOUT * (value < _MOST)


eventfd_fops = FileOperations(
    "eventfd", release=eventfd_release, read=eventfd_read, write=eventfd_write, poll=eventfd_poll, stream=True
)
