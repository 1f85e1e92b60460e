"""Files that live in memory: memfd (mm/memfd.c, mm/gup.c, v7.2)."""

from __future__ import annotations

from ...engine import *
from ...uapi import Errno, KernelError
from ..unsupported import Unsupported
from .file import File, FileOperations, Mapping, fd_install, private, put_unused_fd
from .host import HostFile
from .syscalls import drop_file, file_with_fd


class Inode(KObject):
    """What a memory file consists of: so many bytes.

    * born with the file, lives as long as it.
    """

    kind = "inode"
    i_size: Field[int] = field(0)

    def __init__(self, engine: Engine, size: int, host: HostFile | None = None) -> None:
        super().__init__(engine)
        self.host = host  # a real memory file, which has the size then
        self.i_size.value = size


@kernel("mm/shmem.c")
async def shmem_release(file: File) -> None:
    """The memory goes with the file."""
    inode: Inode = await private(file)
    if inode.host is not None:
        await call_outside(inode.host.close)
    await free(inode)


async def shmem_read(file: File, size: int, offset: int) -> bytes:
    """What is in a memory file is not modelled."""
    raise Unsupported(f"reading {file.label}")


async def shmem_write(file: File, data: bytes, offset: int) -> int:
    """Nor is writing it."""
    raise Unsupported(f"writing {file.label}")


async def shmem_mmap(file: File, wish: Mapping) -> None:
    """Nor is mapping it."""
    raise Unsupported(f"mapping {file.label}")


shmem_file_operations = FileOperations(
    "memfd", release=shmem_release, read=shmem_read, write=shmem_write, mmap=shmem_mmap
)


@kernel("mm/memfd.c")
async def memfd_create(size: int, host: HostFile | None = None) -> int:
    """A descriptor of a new memory file, or of one that stands for a real one. EMFILE if the table is full."""
    number, file = await file_with_fd("memfd", shmem_file_operations)
    try:
        inode = await alloc(Inode, size, host)
    except KernelError:
        await put_unused_fd(number)
        await drop_file(file)
        raise
    await store(file.private_data, inode)
    await fd_install(number, file)
    return number


@kernel("mm/gup.c")
async def memfd_pin_folios(file: File, start: int, size: int) -> None:
    """Pin a part of a memory file. EINVAL for any other file, and beyond its end."""
    other = file.f_op is not shmem_file_operations
    await refuse_if(other, Errno.EINVAL, "file_is_memory", f"{file.label} does not live in memory")
    inode: Inode = await private(file)
    i_size = await (load(inode.i_size) if inode.host is None else call_outside(inode.host.size))
    beyond = start + size > i_size
    await refuse_if(beyond, Errno.EINVAL, "inside_of_file", "the file ends before that")
