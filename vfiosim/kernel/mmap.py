"""Files that are mapped into memory: each mapping holds its file (mm/mmap.c, kernel/fork.c, v7.2)."""

from __future__ import annotations

from functools import partial
from typing import Final

from ..engine import *
from ..uapi import Errno
from .fs.file import (
    O_ACCMODE,
    O_RDWR,
    O_WRONLY,
    PLAIN_FILE,
    File,
    KernelPages,
    Mapping,
    fget,
    for_the_call,
    fput,
    private,
)
from .fs.read_write import LLONG_MAX
from .fs.shmem import Inode, shmem_file_operations, shmem_zero_setup
from .mm import PROT_WRITE, MmStruct, vma_close, vma_open
from .regions import PAGE_SIZE, TASK_SIZE, whole_pages
from .task import current_task, mm_of
from .unsupported import Unsupported

MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_TYPE, MAP_ANONYMOUS = 1, 2, 3, 15, 0x20
_MAP_DROPPABLE, _MAP_GROWSDOWN, _MAP_HUGETLB = 8, 0x100, 0x40000
_LEGACY_MAP_MASK: Final = 0x7C07F9F3  # what a mapping may ask for whose flags are checked
PAGE_SHIFT: Final = 12
ULONG_MAX: Final = (1 << 64) - 1
PROT_EXEC: Final = 4


@kernel("mm/mmap.c")
async def do_mmap(file: File, wish: Mapping, flags: int, address: int | None) -> int:
    """The checks that do not depend on the file, then those of the file; then the mapping holds the file."""
    await refuse_if(wish.length == 0, Errno.EINVAL, "mapping_has_length", "a mapping has a length")
    room = TASK_SIZE - (address or 0)
    await refuse_if(
        wish.length > room,
        Errno.ENOMEM,
        "memory_has_room",
        f"{wish.length:#x} bytes do not fit where programs may have memory",
    )
    inside: KObject | None = await load(file.private_data)
    last = LLONG_MAX if isinstance(inside, Inode) or file.f_op.seq else ULONG_MAX
    far = wish.offset // PAGE_SIZE > last - wish.length >> PAGE_SHIFT
    await refuse_if(far, Errno.EOVERFLOW, "file_reaches_so_far", "no file of this kind can be so long")
    if file.f_op is PLAIN_FILE:
        raise Unsupported(f"mapping {file.label}")
    await refuse_odd_kind(flags)
    mode = file.f_flags & O_ACCMODE
    wrong = mode == O_WRONLY or (wish.shared and wish.prot & PROT_WRITE and mode != O_RDWR)
    await refuse_if(
        bool(wrong),
        Errno.EACCES,
        "opened_for_mapping",
        f"the file was not opened for {'reading' if mode == O_WRONLY else 'writing'}",
    )
    runs = wish.prot & PROT_EXEC and file.cdev is None and file.f_op is not shmem_file_operations
    await refuse_if(bool(runs), Errno.EPERM, "runs_no_program", "there is no program in a file without a path")
    handler = await require(file.f_op.mmap, Errno.ENODEV, "file_can_be_mapped", f"{file.label} cannot be mapped")
    await refuse_growing(flags)
    content = await handler(file, wish)
    mm, prot = await mm_of(current_task()), wish.prot & 3
    if content is None:
        change = partial(mm.map_registers, file, wish.offset, wish.length, prot, address)
    elif isinstance(content, KernelPages):
        change = partial(mm.map_pages, content.content, wish.length, prot, address)
    else:
        change = partial(mm.map_file, content, wish.offset, wish.length, prot, wish.shared, address)
    where = await change_mappings(mm, change)
    say(Phase.ACQUIRE, "The mapping holds {}: closing the descriptor does not close the device.", file)
    owner = content.owner if isinstance(content, KernelPages) else None
    await vma_open((file, wish.length, owner), mm, hex(where))
    return where


async def refuse_odd_kind(flags: int, most: int = MAP_SHARED_VALIDATE) -> None:
    """EINVAL: neither shared nor private. EOPNOTSUPP: shared, with flags to be looked at, and one of them is not known."""
    kind, more = flags & MAP_TYPE, flags & ~_LEGACY_MAP_MASK
    if not MAP_SHARED <= kind <= most:
        await refuse_if(True, Errno.EINVAL, "shared_or_private", "a mapping is either shared or private")
    if kind == MAP_SHARED_VALIDATE and more:
        await refuse_if(True, Errno.EOPNOTSUPP, "mapping_flags_known", f"files cannot be mapped with {more:#x}")


async def refuse_growing(flags: int) -> None:
    """EINVAL: a stack, but shared or of a file."""
    if flags & _MAP_GROWSDOWN:
        await refuse_if(True, Errno.EINVAL, "grows_alone", "only private memory of no file can grow downwards")


async def map_anonymous(length: int, prot: int, flags: int, address: int | None) -> int:
    """Memory of no file. What is shared is a file all the same, which processes have in common that fork."""
    mm = await mm_of(current_task())
    await refuse_if(length == 0, Errno.EINVAL, "mapping_has_length", "a mapping has a length")
    huge = flags & _MAP_HUGETLB != 0
    await refuse_if(huge, Errno.ENOMEM, "huge_pages_left", "no huge pages were set aside on this machine")
    beyond = whole_pages(length) > TASK_SIZE - (address or 0)
    why = f"{length:#x} bytes do not fit where programs may have memory"
    await refuse_if(beyond, Errno.ENOMEM, "memory_has_room", why)
    if flags & MAP_TYPE == _MAP_DROPPABLE:
        raise Unsupported("memory that the kernel may drop")
    await refuse_odd_kind(flags, MAP_PRIVATE)
    if flags & MAP_TYPE == MAP_PRIVATE:
        return await change_mappings(mm, partial(mm.map, length, b"", prot & 3, address))
    await refuse_growing(flags)
    file = await shmem_zero_setup(length)
    async with cleanup(fput, file, current(), "being opened"):
        inode: Inode = await private(file)
        change = partial(mm.map_file, inode.content, 0, whole_pages(length), prot & 3, True, address)
        where = await change_mappings(mm, change)
        await vma_open((file, whole_pages(length), None), mm, hex(where))
    return where


@kernel("mm/mmap.c")
async def ksys_mmap_pgoff(length: int, prot: int, flags: int, number: int, offset: int, address: int | None) -> int:
    """Map a file, or memory of none: EINVAL (offset), EBADF, EINVAL (length, flags), ENOMEM, EOVERFLOW, EACCES, ENODEV."""
    length, offset = length & ULONG_MAX, offset & ULONG_MAX
    odd = offset % PAGE_SIZE != 0
    await refuse_if(odd, Errno.EINVAL, "whole_pages", f"an offset of {offset:#x} is not where a page begins")
    if flags & MAP_ANONYMOUS:
        return await map_anonymous(length, prot, flags, address)
    file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    async with for_the_call(file):
        if flags & _MAP_HUGETLB:
            await refuse_if(True, Errno.EINVAL, "file_of_huge_pages", f"{file.label} does not consist of huge pages")
        return await do_mmap(file, Mapping(whole_pages(length), prot, flags & MAP_TYPE, offset), flags, address)


def can_be_unmapped(address: int, length: int) -> bool:
    """Is this a range of pages that a program may have?"""
    return not address % PAGE_SIZE and 0 < length <= TASK_SIZE - address


@kernel("mm/mmap.c")
async def do_munmap(address: int, length: int) -> int:
    """Unmap a range; a mapping that is cut in two holds its file twice. EINVAL unless `address` is a whole page."""
    odd = not can_be_unmapped(address, length)
    await refuse_if(
        odd, Errno.EINVAL, "whole_pages", "a range begins at a page, and ends where programs may have memory"
    )
    mm, end = await mm_of(current_task()), address + whole_pages(length)
    await change_mappings(mm, partial(mm.unmap, address, whole_pages(length)))
    for slot in await slots_of(mm.files):
        entry = await xa_load(mm.files, slot)
        start = int(slot, 16)
        if entry is None or start >= end or start + entry[1] <= address:
            continue
        await xa_store(mm.files, slot, None)
        for low, high in ((start, min(address, start + entry[1])), (max(end, start), start + entry[1])):
            if low < high:
                await vma_open((entry[0], high - low, entry[2]), mm, hex(low))
        await vma_close(entry, mm, slot)
    return 0


async def access_memory(address: int, size: int, data: bytes | None = None, width: int = 0) -> bytes:
    """What instructions of a program do: read memory, or registers of a device that are mapped, or write `data`. EFAULT.

    Registers are reached by one access if `size` is that of one, else 8 bytes at a time, then 1; or `width` at a time.
    """
    mm, done = await mm_of(current_task()), b""
    while len(done) < size:
        at, left = address + len(done), size - len(done)
        step = width or (left if size in (1, 2, 4, 8) else 8 if left >= 8 else 1)
        piece = None if data is None else data[len(done) : len(done) + step]
        region = mm.registers(at)
        if region is not None:
            allowed = mm.allows(at, data is not None)
            await refuse_if(not allowed, Errno.EFAULT, "registers_mapped_so", "these registers are not mapped for that")
            done += await region.file.f_op.fault(region.file, region.offset + at - region.start, step, piece)
        elif piece is None:
            done += await copy_from_user(at, step)
        else:
            await copy_to_user(at, piece)
            done += piece
    return done


@kernel("mm/mmap.c")
async def dup_mmap(parent: MmStruct, child: MmStruct) -> None:
    """The memory of a forked process holds the same files."""
    for slot in await slots_of(parent.files):
        entry = await xa_load(parent.files, slot)
        if entry is not None:
            await vma_open(entry, child, slot)
