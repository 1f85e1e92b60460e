"""Files that live in memory: memfd (mm/memfd.c, mm/gup.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ...engine import *
from ...uapi import Errno, KernelError
from ..regions import PAGE_SIZE, Sparse, whole_pages
from ..unsupported import Unsupported
from .file import O_RDWR, File, FileOperations, Mapping, fd_install, private, put_unused_fd
from .host import HostFile
from .read_write import LLONG_MAX, copy_from_iter, copy_to_iter, refuse_beyond
from .syscalls import alloc_file, drop_file, file_with_fd

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

    def page(self, place: int) -> tuple[object, int]:
        """Which page is at a place: a file has one, however it is reached."""
        return (self.content if self.host is None else self.host.identity()), place // PAGE_SIZE

    def read(self, place: int, size: int) -> bytes:
        """The bytes at a place, as far as its pages go."""
        if self.host is not None:
            return self.host.read(place, size)
        found = b""
        while size > len(found) and (part := self.content.view(place + len(found), place + size, False)):
            found += part
        return found

    def write(self, place: int, data: bytes) -> None:
        """Change bytes; the file grows where that is needed."""
        if self.host is not None:
            self.host.write(place, data)
            return
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


async def size_of(inode: Inode) -> int:
    """How many bytes a memory file has; a real one is asked."""
    return await (load(inode.i_size) if inode.host is None else call_outside(inode.host.size))


@kernel("mm/shmem.c")
async def shmem_mmap(file: File, wish: Mapping) -> Sparse:
    """Any part of it, whether it is there as yet or not."""
    inode: Inode = await private(file)
    if inode.host is not None:
        raise Unsupported(f"mapping {file.label}, a file of the host,")
    return inode.content


@kernel("mm/shmem.c")
async def shmem_file_read_iter(file: File, size: int, offset: int, address: int | None = None) -> bytes:
    """As many bytes as there are, and as there is room for."""
    inode: Inode = await private(file)
    left = max(await size_of(inode) - offset, 0)
    return await copy_to_iter(address, await read_memory(inode, offset, min(size, left))) if left else b""


@kernel("mm/shmem.c")
async def shmem_file_write_iter(file: File, data: bytes, offset: int, address: int | None = None) -> int:
    """Write as much as there is; behind its end the file grows."""
    inode: Inode = await private(file)
    data = await copy_from_iter(address, data)
    await write_memory(inode, offset, data)
    if offset + len(data) > await load(inode.i_size):
        await store(inode.i_size, offset + len(data))
    return len(data)


@kernel("mm/shmem.c")
async def shmem_file_llseek(file: File, offset: int, whence: int) -> int:
    """From the start, from here, from the end. EINVAL before the start."""
    inode: Inode = await private(file)
    if whence > SEEK_END:
        await refuse_beyond(offset, await size_of(inode))
        raise Unsupported(f"where {file.label} has data, and where holes,")
    begin = (0, await load(file.f_pos), await size_of(inode))[whence]
    good = 0 <= begin + offset <= LLONG_MAX
    await refuse_if(not good, Errno.EINVAL, "place_in_file", "nothing is before the start of a file")
    await store(file.f_pos, begin + offset)
    return begin + offset


shmem_file_operations = FileOperations(
    "memfd",
    release=shmem_release,
    read=shmem_file_read_iter,
    write=shmem_file_write_iter,
    mmap=shmem_mmap,
    llseek=shmem_file_llseek,
    copies=True,
)


@kernel("mm/shmem.c")
async def shmem_zero_setup(size: int) -> File:
    """A file without a name for memory that is shared."""
    file = await alloc_file("dev/zero", shmem_file_operations, O_RDWR)
    async with on_failure(drop_file, file):
        await store(file.private_data, await alloc(Inode, size))
    return file


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
    there = await size_of(inode)
    beyond = start + size > there
    await refuse_if(
        beyond, Errno.EINVAL, "inside_of_file", f"the file has {there:#x} bytes, and {start + size:#x} are wanted"
    )
