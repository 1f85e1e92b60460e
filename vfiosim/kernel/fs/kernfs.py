"""Files of /sys: who may open them, and how their owners go while somebody writes (fs/kernfs/file.c, fs/kernfs/dir.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...engine import *
from ...uapi import Errno
from ..base import Device, DriverPrivate, put_device
from ..kstrtox import kstrtoul
from ..unsupported import Unsupported
from .file import O_ACCMODE, O_RDONLY, O_WRONLY, File, FileOperations, Mapping, inode_permission
from .read_write import DEFAULT_POLLMASK, LLONG_MAX, copy_to_iter, refuse_beyond

PAGE_SIZE: Final = 4096
READ_AT_ONCE: Final = 4096 * 16  # bytes that whoever reads a file in one call asks for
POLLERR_PRI: Final = 8 | 2
INSIDE: Final = "in one of its files"
SEEK_END, SEEK_HOLE = 2, 4
OPENED: Final = "a file of it in /sys is open"


@dataclass(frozen=True)
class Attribute:
    """A file of /sys.

    * `mode`: its permissions; `show`: what reading it tells; `store`: what writing a text of so many bytes does;
    * `node`: what it goes with, and what waits for those who are inside (`struct kernfs_node`, `active`); None: it stays;
    * `there`: it can go before its owner does, and this says whether it is there: by writing into it, as `remove` does. Its
      `store` then leaves it by itself;
    * `binary`: what it tells are bytes, not a line; `size`: how many bytes it is said to have;
    * `rw`: bytes are read from an offset on, so many, or written there (`struct bin_attribute`); `mmap`, `fault`: it can be mapped.
    """

    path: str
    mode: int
    store: Callable[[str, int], Awaitable[int]] | None = None
    show: Callable[[], Awaitable[str]] | None = None
    node: Device | DriverPrivate | None = None
    there: Field[bool] | None = None
    folder: bool = False
    binary: bool = False
    size: int = PAGE_SIZE
    rw: Callable[[int, int, bytes | None], Awaitable[bytes]] | None = None
    mmap: Callable[[Mapping], Awaitable[None]] | None = None
    fault: Callable[[int, int, bytes | None], Awaitable[bytes]] | None = None


class KernfsOpenFile(KObject):
    """What is remembered of an open file of /sys: that it was read. It lives as long as the file."""

    kind = "kernfs_open_file"


@kernel("fs/kernfs/file.c")
async def kernfs_fop_read_iter(attribute: Attribute) -> bytes:
    """Read the whole text. ENODEV if the owner is gone."""
    await refuse_if(attribute.folder, Errno.EISDIR, "path_is_file", "a folder is not read, but listed")
    if attribute.rw is not None:
        return await sysfs_kf_bin_rw(attribute, 0, READ_AT_ONCE, None)
    if attribute.show is None:
        raise Unsupported(f"reading {attribute.path}")
    await kernfs_get_active(attribute)
    async with cleanup(kernfs_put_active, attribute.node):
        text = await attribute.show()
    return (text if attribute.binary else f"{text}\n").encode("latin1")


@kernel("fs/kernfs/file.c")
async def kernfs_fop_write_iter(attribute: Attribute, data: bytes) -> int:
    """Write a text, up to its first zero byte and no more than a page; nothing does nothing. ENODEV if the owner is gone."""
    if attribute.rw is not None:
        return len(await sysfs_kf_bin_rw(attribute, 0, len(data), data))
    if attribute.store is None:
        raise Unsupported(f"writing {attribute.path}")
    await kernfs_get_active(attribute)
    data = data[:PAGE_SIZE]
    if not data:
        await kernfs_put_active(attribute.node)
        return 0
    text = data.partition(b"\0")[0].decode("latin1")
    if attribute.there is not None:
        return await attribute.store(text, len(data))
    async with cleanup(kernfs_put_active, attribute.node):
        return await attribute.store(text, len(data))


@kernel("fs/sysfs/file.c")
async def sysfs_kf_bin_rw(attribute: Attribute, offset: int, size: int, data: bytes | None) -> bytes:
    """Read bytes from an offset on, or write them, as far as the file goes. ENODEV if the owner is gone, EFBIG behind the end."""
    await kernfs_get_active(attribute)
    async with cleanup(kernfs_put_active, attribute.node):
        beyond = offset >= attribute.size
        await refuse_if(
            beyond and data is not None, Errno.EFBIG, "inside_file", f"the file ends at {attribute.size:#x}"
        )
        size = max(min(size, attribute.size - offset), 0)
        if not size or attribute.rw is None:
            return b""
        return await attribute.rw(offset, size, data[:size] if data is not None else None)


@kernel("fs/kernfs/file.c")
async def kernfs_fop_mmap(attribute: Attribute, _: File, wish: Mapping) -> None:
    """What it belongs to is mapped. ENODEV if that is gone."""
    assert attribute.mmap is not None
    await kernfs_get_active(attribute)
    async with cleanup(kernfs_put_active, attribute.node):
        await attribute.mmap(wish)


async def kernfs_vma_fault(attribute: Attribute, _: File, offset: int, width: int, data: bytes | None) -> bytes:
    """An instruction reaches what is mapped, also when the file is gone."""
    assert attribute.fault is not None
    return await attribute.fault(offset, width, data)


@kernel("fs/kernfs/file.c")
async def kernfs_fop_open(attribute: Attribute, flags: int) -> None:
    """May it be opened so? EACCES by its permissions; what can only be read or only written nobody opens otherwise."""
    way = flags & O_ACCMODE
    wrong = attribute.folder and way != O_RDONLY
    await refuse_if(wrong, Errno.EISDIR, "path_is_file", "nothing can be written into a folder")
    await inode_permission(attribute.mode, flags)
    lacks = (way != O_RDONLY and not attribute.mode & 0o222) or (way != O_WRONLY and not attribute.mode & 0o444)
    await refuse_if(
        lacks, Errno.EACCES, "file_can_do_it", f"a file of mode 0{attribute.mode & 0o777:o} nobody opens for that"
    )


@kernel("fs/kernfs/dir.c")
async def kernfs_get_active(attribute: Attribute) -> None:
    """From now on the owner of the file waits for this thread before it goes. ENODEV if it is going already."""
    node = attribute.node
    there = attribute.there is None or await load(attribute.there)
    if there and node is not None:
        there = await get_unless_zero(node.in_use, current(), INSIDE)
    await refuse_if(
        not there, Errno.ENODEV, "file_is_active", "what the file belongs to is going, and the file is gone"
    )


@kernel("fs/kernfs/dir.c")
async def kernfs_put_active(node: Device | DriverPrivate | None) -> None:
    """One less; the last one wakes whoever waits for it."""
    if node is not None and await put(node.in_use, current(), INSIDE):
        await complete(node.unused)


@kernel("fs/kernfs/dir.c")
async def kernfs_drain(device: Device, reason: str) -> None:
    """The files of a device go: nobody new gets into one, and those who are inside are waited for."""
    if not await put(device.in_use, device, reason):
        await wait_for(device.unused)


async def device_is_to_go(device: Device, text: str) -> bool:
    """What is written into `remove` of a device: EINVAL for no number, 0 does nothing; else the file goes first.

    Whoever this tells True removes the device, and then says so (`kernfs_unbreak`).
    """
    async with on_failure(kernfs_put_active, device):
        number = await kstrtoul(text)
    if number:
        return await kernfs_remove_self(device)
    await kernfs_put_active(device)
    return False


@kernel("fs/kernfs/dir.c")
async def kernfs_remove_self(device: Device) -> bool:
    """The file `remove` takes itself away, and its writer is waited for no longer. False for all writers but one.

    The others wait until that one is done (`kernfs_unbreak`).
    """
    first = await exchange(device.remove_file, False)
    await get(device.kobj, current(), INSIDE)
    await kernfs_put_active(device)
    if not first:
        await wait_for(device.removed)
        await kernfs_unbreak(device)
    return first


async def kernfs_unbreak(device: Device) -> None:
    """The writer of `remove` is done; who waits for that may go on (`kernfs_unbreak_active_protection`)."""
    await complete(device.removed)
    await put_device(device, current(), INSIDE)


@kernel("fs/kernfs/file.c")
async def kernfs_fop_release(device: Device | None, file: File) -> None:
    """The last descriptor of a file is gone; `device`: what it was of."""
    read = await load(file.private_data)
    if read is not None:
        await free(read)
    if device is not None:
        await put_device(device, file, OPENED)


@kernel("fs/kernfs/file.c")
async def kernfs_generic_poll(file: File) -> int:
    """It can always be read and written. Until it has been read, something is new in it: POLLERR and POLLPRI."""
    return DEFAULT_POLLMASK | (POLLERR_PRI if await load(file.private_data) is None else 0)


def file_operations(attribute: Attribute, device: Device | None) -> FileOperations:
    """What an open file of /sys can do; `device`: what it keeps the memory of."""
    return FileOperations(
        "sysfs",
        release=partial(kernfs_fop_release, device),
        read=partial(read_from, attribute),
        write=partial(write_at, attribute),
        llseek=partial(kernfs_fop_llseek, attribute),
        poll=kernfs_generic_poll,
        mmap=partial(kernfs_fop_mmap, attribute) if attribute.mmap else None,
        fault=partial(kernfs_vma_fault, attribute) if attribute.fault else None,
        seq=True,
        copies=True,
    )


@kernel("fs/kernfs/file.c")
async def kernfs_fop_llseek(attribute: Attribute, file: File, offset: int, whence: int) -> int:
    """From the start, from here, from the end. EINVAL before the start and behind the last address."""
    if whence > SEEK_END:
        await refuse_beyond(offset, attribute.size)
        offset, whence = attribute.size if whence == SEEK_HOLE else offset, 0  # it is full of data, up to its end
    begin = (0, await load(file.f_pos), attribute.size)[whence]
    good = 0 <= begin + offset <= LLONG_MAX
    await refuse_if(not good, Errno.EINVAL, "place_in_file", "nothing is before the start of a file")
    await store(file.f_pos, begin + offset)
    return begin + offset


async def read_from(attribute: Attribute, file: File, size: int, offset: int, address: int | None = None) -> bytes:
    """What is told from an offset on, as much as there is room for."""
    if not size:
        return b""
    if attribute.rw is not None:
        await was_read(file)
        return await copy_to_iter(address, await sysfs_kf_bin_rw(attribute, offset, size, None))
    found = await kernfs_fop_read_iter(attribute)
    await was_read(file)
    return await copy_to_iter(address, found[offset : offset + size])


async def was_read(file: File) -> None:
    """Nothing is new in the file from now on."""
    if await load(file.private_data) is None:
        await store(file.private_data, await alloc(KernfsOpenFile))


async def write_at(attribute: Attribute, _: File, data: bytes, offset: int, address: int | None = None) -> int:
    """Each write of a text is one of its own, wherever the file stands; bytes have their place."""
    data = data if address is None else await copy_from_user(address, len(data))
    if attribute.rw is not None:
        return len(await sysfs_kf_bin_rw(attribute, offset, len(data), data[:PAGE_SIZE]))
    return await kernfs_fop_write_iter(attribute, data)


async def written(text: str) -> str:
    """What a file tells that never changes."""
    return text
