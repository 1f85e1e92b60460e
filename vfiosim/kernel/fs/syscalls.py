"""open, close, dup and ioctl as a program calls them (fs/open.c, fs/file.c, fs/ioctl.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ...engine import *
from ...uapi import Errno, KernelError
from ..unsupported import Unsupported
from .devtmpfs import DevTmpfs
from .file import (
    O_PATH,
    O_RDWR,
    PLAIN_FILE,
    File,
    FileOperations,
    caller,
    chrdev_open,
    close_fd,
    current_files,
    fd_install,
    fdget,
    fget_raw,
    fput,
    fput_close_sync,
    get_unused_fd_flags,
    gives_back,
    inode_permission,
    put_unused_fd,
)

OpenSysfs = Callable[[str, int], Awaitable[File]]  # opens a path below /sys
FIOCLEX, FIONCLEX = 0x5451, 0x5450
_PLAIN_PATHS = {"/": "directory", "/dev/null": "null", "/dev/zero": "zero"}

REQUESTS_OF_DEVICES: Final = (0x3B, 0xAE)  # the type of the requests of VFIO and iommufd, and that of KVM


@kernel("fs/open.c")
async def do_sys_openat2(devtmpfs: DevTmpfs, path: str, flags: int, open_sysfs: OpenSysfs | None = None) -> int:
    """Open a path. The descriptor number is reserved first (EMFILE), then the path is looked up (ENOENT), then it is opened."""
    say(Phase.VALIDATE, f"{caller()} calls open({path}).")
    number = await get_unused_fd_flags(flags)
    async with on_failure(put_unused_fd, number):
        if open_sysfs is not None and path.startswith("/sys/"):
            file = await open_sysfs(path, flags)
        else:
            file = await do_file_open(devtmpfs, path, flags)
    say(Phase.PUBLISH, "Descriptor {} now leads to {}.", number, file)
    await fd_install(number, file)
    return number


@kernel("fs/namei.c")
async def do_file_open(devtmpfs: DevTmpfs, path: str, flags: int) -> File:
    """Find what a path names and open it; a file whose open fails is freed again without its release handler."""
    if path in _PLAIN_PATHS:
        return await alloc_file(_PLAIN_PATHS[path], PLAIN_FILE, flags)
    if not path.startswith("/dev/"):
        raise Unsupported(f"opening {path!r}")
    cdev = await require(
        await xa_load(devtmpfs.nodes, path),  # type: ignore[arg-type]
        Errno.ENOENT,
        "path_exists",
        f"there is no {path}",
    )
    if not flags & O_PATH:
        await inode_permission(cdev.mode, flags)
    file = await alloc_file(name_of(path), cdev.f_op, flags)
    if flags & O_PATH:
        return file
    async with on_failure(drop_file, file):
        await chrdev_open(file, cdev)
    return file


def name_of(path: str) -> str:
    """What the file behind a device node is called: the end of its path, with a word for the number of a group."""
    last = path.rsplit("/", 1)[1]
    return f"group{last}" if last.isdigit() else last


@kernel("fs/file_table.c")
async def alloc_file(name: str, f_op: FileOperations, flags: int) -> File:
    """A new open file; the opener holds it until a descriptor does."""
    file = await alloc(File, name, f_op, flags)
    await get(file.f_ref, current(), "being opened")
    return file


async def drop_file(file: File) -> None:
    """A file that nobody has seen yet goes again, without its release handler."""
    await put(file.f_ref, current(), "being opened")
    await free(file)


async def file_with_fd(name: str, f_op: FileOperations) -> tuple[int, File]:
    """A descriptor number and a file, which belong together as soon as the file is ready (`fd_install`)."""
    number = await get_unused_fd_flags()
    async with on_failure(put_unused_fd, number):
        return number, await alloc_file(name, f_op, O_RDWR)


async def open_plain(name: str) -> int:
    """A descriptor of a file that VFIO knows nothing of (an eventfd, a pipe, a socket)."""
    number, file = await file_with_fd(name, PLAIN_FILE)
    await fd_install(number, file)
    return number


@kernel("fs/open.c")
async def sys_close(number: int) -> int:
    """Close a descriptor. If it held the last reference, the release handler runs before close returns."""
    say(Phase.VALIDATE, f"{caller()} calls close({number}).")
    file = await close_fd(number)
    await fput_close_sync(file, current_files(), f"fd {number}")
    return 0


@kernel("fs/file.c")
async def sys_dup(number: int) -> int:
    """A second descriptor for the same open file (also one opened with O_PATH)."""
    say(Phase.VALIDATE, f"{caller()} calls dup({number}): the lowest free number is to lead to the same file.")
    file = await require(await fget_raw(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    async with on_failure(fput, file):
        twin = await get_unused_fd_flags()
    await fd_install(twin, file, "running call")
    return twin


@kernel("fs/ioctl.c")
async def vfs_ioctl(file: File, request: int, argument: int, names: str) -> int:
    """Hand a request to the driver of the file; the number is seen as 32 bits."""
    if file.f_op is PLAIN_FILE:
        alien = request >> 8 & 0xFF in REQUESTS_OF_DEVICES
        await refuse_if(alien, Errno.ENOTTY, "file_knows_request", f"{file.label} knows nothing of devices")
        raise Unsupported(f"{names} on {file.label}")
    handler = await require(
        file.f_op.unlocked_ioctl, Errno.ENOTTY, "file_knows_ioctl", f"{file.label} knows no ioctl at all"
    )
    return await handler(file, request, argument)


@kernel("fs/ioctl.c")
async def do_vfs_ioctl(file: File, number: int, request: int, argument: int, names: str) -> int:
    """What every file answers, whoever's it is: whether exec closes the descriptor."""
    if request in (FIOCLEX, FIONCLEX):
        await xa_store(current_files().close_on_exec, number, True if request == FIOCLEX else None)
        return 0
    return await vfs_ioctl(file, request, argument, names)


@kernel("fs/ioctl.c")
async def sys_ioctl(number: int, request: int, argument: int, names: str) -> int:
    """Send a request to the driver behind a descriptor. EBADF without a file, ENOTTY where nobody knows the request.

    `names` is what the number means in this version of the kernel.
    """
    say(Phase.VALIDATE, f"{caller()} calls ioctl({number}, {names}).")
    found, held = await fdget(number)
    file = await require(found, Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    try:
        result = await do_vfs_ioctl(file, number, request, argument, names)
    except KernelError:
        if held:
            await fput(file)
        raise
    if held:
        gives_back(file)
        await fput(file)
    return result


@kernel("fs/proc/fd.c")
async def proc_fdinfo(number: int) -> str:
    """What is told about an open file in /proc/self/fdinfo. EMFILE, for that is a file, too; ENOENT if it is not open."""
    async with cleanup(put_unused_fd, await get_unused_fd_flags()):
        file = await xa_load(current_files().fd, number)
        good = file if isinstance(file, File) else None
        found = await require(good, Errno.ENOENT, "fd_is_open", f"{number} is not an open file")
        return await found.f_op.show_fdinfo(found) if found.f_op.show_fdinfo is not None else ""
