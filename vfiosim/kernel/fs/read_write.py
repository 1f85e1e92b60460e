"""read, write, lseek and poll as a program calls them (fs/read_write.c, fs/select.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ...engine import *
from ...uapi import Errno, KernelError
from ..regions import PAGE_SIZE, TASK_SIZE
from ..unsupported import Unsupported
from .file import O_ACCMODE, O_RDONLY, O_WRONLY, PLAIN_FILE, File, fget, for_the_call


async def open_file(number: int) -> File:
    """The file behind a descriptor, with a reference for the running call. EBADF."""
    return await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")


@kernel("fs/read_write.c")
async def sys_lseek(number: int, offset: int, whence: int = 0) -> int:
    """Where the next read or write begins: from the start (0), from there (1), from the end (2). EBADF, EINVAL, ESPIPE."""
    file = await open_file(number)
    async with for_the_call(file):
        good = 0 <= whence <= SEEK_MAX
        await refuse_if(not good, Errno.EINVAL, "whence_known", "counted from the start, from here or from the end")
        if file.f_op is PLAIN_FILE:
            raise Unsupported(f"seeking in {file.label}")
        handler = await require(file.f_op.llseek, Errno.ESPIPE, "file_has_place", f"{file.label} has no place to go to")
        return await handler(file, offset, whence)


@kernel("fs/read_write.c")
async def rw_verify_area(place: int, size: int) -> None:
    """EINVAL for what would end behind the last place that a file can have."""
    beyond = place + size > LLONG_MAX
    await refuse_if(beyond, Errno.EINVAL, "ends_in_file", f"no file has room for {size} bytes from {place:#x} on")


@kernel("fs/read_write.c")
async def vfs_read(file: File, size: int, offset: int | None, address: int | None = None) -> bytes:
    """The checks that do not depend on the kind of file, then what the file says; where it cannot be told nothing moves on."""
    await check_position(file, offset)
    wrong = file.f_flags & O_ACCMODE == O_WRONLY
    await refuse_if(wrong, Errno.EBADF, "opened_for_reading", "the file was not opened for reading")
    if file.f_op is PLAIN_FILE:
        raise Unsupported(f"reading {file.label}")
    handler = await require(file.f_op.read, Errno.EINVAL, "file_can_be_read", f"{file.label} cannot be read")
    await access_ok(address, size)
    place = await position(file, offset)
    await rw_verify_area(place, size)
    if file.f_op.copies:
        found = await handler(file, size, place, address)  # type: ignore[call-arg]
    else:
        found = await handler(file, size, place)
        if address is not None:
            await copy_to_user(address, found)
    if offset is None and not file.f_op.stream:
        await store(file.f_pos, place + len(found))
    return found


@kernel("fs/read_write.c")
async def vfs_write(file: File, data: bytes, offset: int | None, address: int | None = None) -> int:
    """The checks that do not depend on the kind of file, then what the file says."""
    wrong = file.f_flags & O_ACCMODE == O_RDONLY
    await check_position(file, offset, wrong and file.f_op.seq)
    await refuse_if(wrong, Errno.EBADF, "opened_for_writing", "the file was not opened for writing")
    if file.f_op is PLAIN_FILE:
        raise Unsupported(f"writing {file.label}")
    handler = await require(file.f_op.write, Errno.EINVAL, "file_can_be_written", f"{file.label} cannot be written")
    await access_ok(address, len(data))
    place = await position(file, offset)
    await rw_verify_area(place, len(data))
    if file.f_op.copies:
        done = await handler(file, data, place, address)  # type: ignore[call-arg]
    else:
        done = await handler(file, data if address is None else await copy_from_user(address, len(data)), place)
    if offset is None and not file.f_op.stream:
        await store(file.f_pos, place + done)
    return done


async def position(file: File, offset: int | None) -> int:
    """Where to read or write: where the call says, or where the file stands (`file_ppos`)."""
    if offset is not None:
        return offset
    return 0 if file.f_op.stream else await load(file.f_pos)


async def access_ok(address: int | None, size: int) -> None:
    """EFAULT for what cannot be memory of a program; whether it is mapped is found out by whoever copies."""
    outside = address is not None and address + size > TASK_SIZE
    await refuse_if(outside, Errno.EFAULT, "address_of_program", "the memory of a program ends below that")


async def copy_to_iter(address: int | None, data: bytes) -> bytes:
    """Copy what there is room for, page by page; the answer is what was copied. EFAULT if nothing was."""
    done = len(data) if address is None else 0
    while done < len(data):
        step = min(len(data) - done, PAGE_SIZE - (address + done) % PAGE_SIZE)  # type: ignore[operator]
        try:
            await copy_to_user(address + done, data[done : done + step])  # type: ignore[operator]
        except KernelError:
            if not done:
                raise
            break
        done += step
    return data[:done]


async def copy_from_iter(address: int | None, data: bytes) -> bytes:
    """The same from a program: what of `data` there is."""
    found = data if address is None else b""
    while len(found) < len(data):
        step = min(len(data) - len(found), PAGE_SIZE - (address + len(found)) % PAGE_SIZE)  # type: ignore[operator]
        try:
            found += await copy_from_user(address + len(found), step)  # type: ignore[operator]
        except KernelError:
            if not found:
                raise
            break
    return found


async def check_offset(offset: int | None) -> None:
    """Is the offset possible? Looked at before the file (`ksys_pread64`, `ksys_pwrite64`)."""
    negative = offset is not None and offset < 0
    await refuse_if(negative, Errno.EINVAL, "offset_not_negative", "an offset is never negative")


async def check_position(file: File, offset: int | None, none: bool = False) -> None:
    """Has the file offsets, if one is given? `none`: not for this."""
    if offset is not None:
        stream = file.f_op.stream or none
        await refuse_if(stream, Errno.ESPIPE, "file_has_offsets", f"{file.label} is a stream, which has no offsets")


@kernel("fs/read_write.c")
async def sys_read(number: int, size: int, offset: int | None = None, address: int | None = None) -> bytes:
    """Read (`offset` None: where the file stands). EINVAL (offset), EBADF, ESPIPE for a stream with an offset, EINVAL (no read).

    `address`: where in the program's memory the bytes go, EFAULT if they cannot; None: into the answer alone.
    """
    await check_offset(offset)
    file = await open_file(number)
    async with for_the_call(file):
        return await vfs_read(file, size, offset, address)


@kernel("fs/read_write.c")
async def sys_write(number: int, data: bytes, offset: int | None = None, address: int | None = None) -> int:
    """Write (`offset` None: where the file stands). EINVAL (offset), EBADF, ESPIPE for a stream with an offset, EINVAL (no write).

    `address`: where in the program's memory the bytes are, EFAULT if they cannot be read; None: in `data` alone.
    """
    await check_offset(offset)
    file = await open_file(number)
    async with for_the_call(file):
        return await vfs_write(file, data, offset, address)


SEEK_MAX: Final = 4
LLONG_MAX: Final = (1 << 63) - 1
POLLIN: Final = 1
DEFAULT_POLLMASK: Final = (
    0x145  # POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM: of a file that does not say when it can be read and written
)

POLLNVAL: Final = 0x20  # nothing is open there
ALWAYS_POLLED: Final = 8 | 16  # POLLERR and POLLHUP are told, asked for or not


@kernel("fs/select.c")
async def sys_poll(number: int, events: int, timeout: int) -> int:
    """Which of `events` (1: readable, 4: writable) are there; waits so many milliseconds at most, without end if negative.

    A number that is not open is no error: POLLNVAL is told of it.
    """
    file = await fget(number)
    if file is None:
        return POLLNVAL
    async with for_the_call(file):
        if file.f_op is PLAIN_FILE:
            raise Unsupported(f"polling {file.label}")
        events |= ALWAYS_POLLED
        ready = await vfs_poll(file, events)
        while not ready and timeout:
            if file.f_op.wait is None:
                raise Unsupported(f"waiting for {file.label}")
            in_time = await file.f_op.wait(file, timeout)
            ready = await vfs_poll(file, events)
            timeout = timeout if in_time else 0
        return ready


async def refuse_beyond(offset: int, size: int) -> None:
    """ENXIO: who looks for data or for a hole begins inside of the file."""
    inside = 0 <= offset < size
    await refuse_if(
        not inside, Errno.ENXIO, "seek_inside", f"the file has {size:#x} bytes: {offset:#x} is beyond its end"
    )


async def wait_for_readable(file: File, news: Completion, timeout: int) -> bool:
    """Wait for news of a file, at most so many milliseconds, without end if negative; False if they are over, or at a kill.

    What can be read is left to whoever reads it, who may wait too.
    """
    told = await wait_for_killable(news) if timeout < 0 else await wait_for_killable_timeout(news, timeout)
    if told and await vfs_poll(file, POLLIN):
        await complete(news)
    return told


async def vfs_poll(file: File, events: int) -> int:
    """What can be done with a file now, of what is asked."""
    return (DEFAULT_POLLMASK if file.f_op.poll is None else await file.f_op.poll(file)) & events
