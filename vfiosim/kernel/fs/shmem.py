"""Files that live in memory: memfd (mm/memfd.c, mm/gup.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ...engine import *
from ...uapi import Errno, KernelError
from ..regions import Sparse, whole_pages
from ..unsupported import Unsupported
from .file import File, FileOperations, Mapping, fd_install, private, put_unused_fd
from .host import HostFile
from .syscalls import drop_file, file_with_fd

SEEK_END: Final = 2


class Inode(KObject):
    """What a memory file consists of: so many bytes.

    * born with the file, lives as long as it;
    * whoever maps the file has its bytes in memory, whole pages of them.
    """

    kind = "inode"
    i_size: Field[int] = field(0)

    def __init__(self, engine: Engine, size: int, host: HostFile | None = None) -> None:
        super().__init__(engine)
        self.host = host  # a real memory file, which has the size then
        self.i_size.value = size
        self.content = Sparse(end=whole_pages(size))

    def read(self, place: int, size: int) -> bytes:
        """The bytes at a place, as far as its pages go."""
        found = b""
        while size > len(found) and (part := self.content.view(place + len(found), place + size, False)):
            found += part
        return found

    def write(self, place: int, data: bytes) -> None:
        """Change bytes; the file grows where that is needed."""
        self.content.end = max(self.content.end or 0, whole_pages(place + len(data)))
        done = 0
        while done < len(data):
            part = self.content.view(place + done, place + len(data), True)
            part[:] = data[done : done + len(part)]
            done += len(part)


@kernel("mm/shmem.c")
async def shmem_release(file: File) -> None:
    """The memory goes with the file."""
    inode: Inode = await private(file)
    if inode.host is not None:
        await call_outside(inode.host.close)
    await free(inode)


async def inode_of(file: File) -> Inode:
    """The bytes of a memory file that are here; those of a real one are where it is."""
    inode: Inode = await private(file)
    if inode.host is not None:
        raise Unsupported(f"what is in {file.label}, a file of the host,")
    return inode


@kernel("mm/shmem.c")
async def shmem_mmap(file: File, wish: Mapping) -> Sparse:
    """Any part of it, whether it is there as yet or not."""
    return (await inode_of(file)).content


@kernel("mm/shmem.c")
async def shmem_file_read_iter(file: File, size: int, offset: int) -> bytes:
    """As many bytes as there are."""
    inode = await inode_of(file)
    left = max(await load(inode.i_size) - offset, 0)
    return await read_memory(inode, offset, min(size, left)) if left else b""


@kernel("mm/shmem.c")
async def shmem_file_write_iter(file: File, data: bytes, offset: int) -> int:
    """Write; behind its end the file grows."""
    inode = await inode_of(file)
    await write_memory(inode, offset, data)
    if offset + len(data) > await load(inode.i_size):
        await store(inode.i_size, offset + len(data))
    return len(data)


@kernel("mm/shmem.c")
async def shmem_file_llseek(file: File, offset: int, whence: int) -> int:
    """From the start, from here, from the end. EINVAL before the start."""
    if whence > SEEK_END:
        raise Unsupported(f"where {file.label} has data, and where holes,")
    inode = await inode_of(file)
    begin = (0, await load(file.f_pos), await load(inode.i_size))[whence]
    await refuse_if(begin + offset < 0, Errno.EINVAL, "place_in_file", "nothing is before the start of a file")
    await store(file.f_pos, begin + offset)
    return begin + offset


shmem_file_operations = FileOperations(
    "memfd",
    release=shmem_release,
    read=shmem_file_read_iter,
    write=shmem_file_write_iter,
    mmap=shmem_mmap,
    llseek=shmem_file_llseek,
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
