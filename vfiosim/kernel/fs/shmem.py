"""Files that live in memory: memfd (mm/memfd.c, mm/gup.c, v7.2)."""

from __future__ import annotations

from ...engine import Field, KObject, alloc, field, free, kernel, load, refuse_if, store
from ...engine.engine import Engine
from ...uapi import Errno
from ..unsupported import Unsupported
from .file import O_RDWR, File, FileOperations, Mapping, fd_install, get_unused_fd_flags, private
from .syscalls import alloc_file


class Inode(KObject):
    """What a memory file consists of: so many bytes.

    * born with the file, lives as long as it.
    """

    kind = "inode"
    i_size: Field[int] = field(0)

    def __init__(self, engine: Engine, size: int) -> None:
        super().__init__(engine)
        self.i_size.value = size


@kernel("mm/shmem.c")
async def shmem_release(file: File) -> None:
    """The memory goes with the file."""
    await free(await private(file))


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
async def memfd_create(size: int) -> int:
    """A descriptor of a new memory file. EMFILE if the table is full."""
    number = await get_unused_fd_flags()
    file = await alloc_file("memfd", shmem_file_operations, O_RDWR)
    await store(file.private_data, await alloc(Inode, size))
    await fd_install(number, file)
    return number


@kernel("mm/gup.c")
async def memfd_pin_folios(file: File, start: int, size: int) -> None:
    """Pin a part of a memory file. EINVAL for any other file, and beyond its end."""
    other = file.f_op is not shmem_file_operations
    await refuse_if(other, Errno.EINVAL, "file_is_memory", f"{file.label} does not live in memory")
    inode = await private(file)
    beyond = start + size > await load(inode.i_size)
    await refuse_if(beyond, Errno.EINVAL, "inside_of_file", "the file ends before that")
