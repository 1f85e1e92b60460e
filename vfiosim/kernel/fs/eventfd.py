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
ULLONG_MAX: Final = (1 << 64) - 1
POLLIN, POLLOUT, POLLHUP = 1, 4, 16
ITS_FILE: Final = "its file"


class EventfdCtx(KObject):
    """A counter that can be signalled.

    * born with its file; held by the file and by whoever signals it: an interrupt, a request to let go;
    * who waits for it sleeps (`sleepers` is how many) until it changes, or is called at each signal (`callbacks`);
    * dies when both are gone.
    """

    kind = "eventfd"
    kref: Count = count()
    lock: Lock = spinlock()  # of the queue of those who wait (`wqh.lock`)
    # guarded by lock
    count: Field[int] = field(0, guard="lock")
    sleepers: Field[int] = field(0, guard="lock")
    callbacks: Field[tuple[KObject, ...]] = field((), guard="lock", link="weak")
    woken: Completion = completion()

    def __init__(self, engine: Engine, host: HostFile | None = None) -> None:
        super().__init__(engine)
        self.host = host  # a real eventfd, which has the counter then


@kernel("fs/eventfd.c")
async def eventfd_ctx_put(ctx: EventfdCtx, holder: KObject, reason: str) -> None:
    """Let go of a counter."""
    if await put(ctx.kref, holder, reason):
        if ctx.host is not None:
            await call_outside(ctx.host.close)
        await free(ctx)


@kernel("fs/eventfd.c")
async def eventfd_release(file: File) -> None:
    """The file is gone; the counter lives on while somebody may signal it."""
    ctx: EventfdCtx = await private(file)
    for callback in await load(ctx.callbacks):
        await callback.func(POLLHUP)  # type: ignore[attr-defined]
    await eventfd_ctx_put(ctx, file, ITS_FILE)


@kernel("fs/eventfd.c")
async def eventfd_poll(file: File) -> int:
    """Can it be read, can it be written?"""
    ctx: EventfdCtx = await private(file)
    if ctx.host is not None:
        return await call_outside(ctx.host.events)
    value = await load(ctx.count)
    return POLLIN * (value > 0) | POLLOUT * (value < _MOST)


async def eventfd_wait(file: File, timeout: int) -> bool:
    """Wait until the counter changes, at most so many milliseconds, without end if negative; False if they are over."""
    ctx: EventfdCtx = await private(file)
    if ctx.host is not None:
        raise Unsupported("waiting for an eventfd of another program")
    async with ctx.lock:
        await store(ctx.sleepers, await load(ctx.sleepers) + 1)
    if timeout < 0:
        await sleep_on(ctx)
        return True
    if await wait_for_killable_timeout(ctx.woken, timeout):
        return True
    async with ctx.lock:
        late = await load(ctx.sleepers)
        await store(ctx.sleepers, max(late - 1, 0))
    if not late:
        await wait_for(ctx.woken)  # woken in the last moment
    return bool(not late)


@kernel("fs/eventfd.c")
async def eventfd_ctx_do_read(ctx: EventfdCtx) -> int:
    """Take the value; where it is 0, the caller is one who sleeps from now on."""
    async with ctx.lock:
        value = await load(ctx.count)
        if value:
            await store(ctx.count, 0)
            await wake_up(ctx)
        else:
            await store(ctx.sleepers, await load(ctx.sleepers) + 1)
    return value


@kernel("include/linux/eventfd.h")
async def eventfd_signal(ctx: EventfdCtx) -> None:
    """Count one more: whoever polls the eventfd sees it."""
    say(Phase.PUBLISH, "{} is signalled.", ctx)
    if ctx.host is not None:
        await call_outside(partial(ctx.host.add, 1))  # a full counter stays as it is
        return
    async with ctx.lock:
        await store(ctx.count, min(await load(ctx.count) + 1, ULLONG_MAX))
        await wake_up(ctx)
    await call_back(ctx)


async def wake_up(ctx: EventfdCtx) -> None:
    """The counter has changed: all who sleep look again."""
    sleepers = await load(ctx.sleepers)
    for _ in range(sleepers):
        await complete(ctx.woken)
    await store(ctx.sleepers, 0)


async def call_back(ctx: EventfdCtx) -> None:
    """Whoever wants to be called when the eventfd is signalled; it takes the signal."""
    for callback in await load(ctx.callbacks):
        await callback.func(POLLIN)  # type: ignore[attr-defined]


async def sleep_on(ctx: EventfdCtx) -> None:
    """Wait until the counter changes. EINTR if the process is killed meanwhile."""
    woken = await wait_for_killable(ctx.woken)
    await refuse_if(not woken, Errno.EINTR, "process_lives", "the process is killed, so it waits no longer")


@kernel("fs/eventfd.c")
async def eventfd_read(file: File, size: int, offset: int, address: int | None = None) -> bytes:
    """The value, 8 bytes, which is 0 again afterwards; waits for one. EINVAL for less than 8 bytes, EINTR."""
    await refuse_if(size < 8, Errno.EINVAL, "eight_bytes", f"an eventfd is read 8 bytes at a time, and not {size}")
    ctx: EventfdCtx = await private(file)
    value = await eventfd_ctx_do_read(ctx) if ctx.host is None else await call_outside(ctx.host.take)
    if value == 0 and ctx.host is not None:
        raise Unsupported("waiting for an eventfd of another program")
    while value == 0:
        await sleep_on(ctx)
        value = await eventfd_ctx_do_read(ctx)
    told = int(value).to_bytes(8, "little")
    if address is not None:
        await copy_to_user(address, told)  # if this fails, the value is gone
    return told


@kernel("fs/eventfd.c")
async def eventfd_write(file: File, data: bytes, offset: int, address: int | None = None) -> int:
    """Add a number of 8 bytes; waits for room. EINVAL for anything else, or for the largest number of all; EINTR."""
    bad = len(data) != 8
    await refuse_if(bad, Errno.EINVAL, "eight_bytes", f"an eventfd takes a number of 8 bytes, and not of {len(data)}")
    number = int.from_bytes(data if address is None else await copy_from_user(address, 8), "little")
    await refuse_if(number > _MOST, Errno.EINVAL, "number_fits", f"an eventfd takes numbers up to {_MOST:#x}")
    ctx: EventfdCtx = await private(file)
    if ctx.host is not None:
        if not await call_outside(partial(ctx.host.add, number)):
            raise Unsupported("waiting for room in an eventfd of another program")
        return 8
    while not await eventfd_add(ctx, number):
        await sleep_on(ctx)
    if number:
        await call_back(ctx)
    return 8


async def eventfd_add(ctx: EventfdCtx, number: int) -> bool:
    """Add to the counter; where there is no room, the caller is one who sleeps from now on, and the answer is False."""
    async with ctx.lock:
        before = await load(ctx.count)
        room = before + number <= _MOST
        if room:
            await store(ctx.count, before + number)
            await wake_up(ctx)
        else:
            await store(ctx.sleepers, await load(ctx.sleepers) + 1)
    return room


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


@kernel("fs/read_write.c")
async def noop_llseek(file: File, offset: int, whence: int) -> int:
    """It stands where it stood."""
    return await load(file.f_pos)


eventfd_fops = FileOperations(
    "eventfd",
    release=eventfd_release,
    read=eventfd_read,
    write=eventfd_write,
    poll=eventfd_poll,
    wait=eventfd_wait,
    llseek=noop_llseek,
    stream=True,
    copies=True,
)
