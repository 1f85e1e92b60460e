"""Memory that one driver lends to others, as a file (drivers/dma-buf/dma-buf.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine import *
from ..uapi import Errno
from .fs.file import (
    O_ACCMODE,
    File,
    FileOperations,
    Mapping,
    fd_install,
    fget,
    fput,
    get_unused_fd_flags,
    private,
)
from .fs.shmem import SEEK_END, Inode
from .fs.syscalls import alloc_file
from .unsupported import Unsupported

if TYPE_CHECKING:
    from .iommufd.io_pagetable_h import IoptPages


@dataclass(frozen=True)
class DmaBufOps:
    """The driver that lends memory (`struct dma_buf_ops`).

    `registers`: what it lends are those of a device; `release`: what it has to do when the file goes.
    """

    name: str
    registers: bool = False
    release: Callable[[File], Awaitable[None]] | None = None


class DmaBuf(Inode):
    """Memory of a driver: who has its file may let devices reach it, until the driver takes it away.

    * born with its file, lives as long as it; each mapping for devices holds the file, and is attached;
    * `revoked`: nobody new may attach; who was attached then reaches nothing, for good;
    * `priv`: what of its driver it is a part of.
    """

    kind = "dma_buf"
    resv: Lock = mutex()
    revoked: Field[bool] = field(False, guard="resv")
    attachments: Field[tuple[IoptPages, ...]] = field((), guard="resv", link="weak")
    priv: Field[Any] = field(None, link="weak")

    def __init__(self, engine: Engine, size: int, ops: DmaBufOps, nr_ranges: int = 1) -> None:
        super().__init__(engine, size)
        self.ops = ops
        self.nr_ranges = nr_ranges  # of how many pieces of the driver's memory it is

    def read(self, place: int, size: int) -> bytes:
        """As of any file; raises Unsupported for registers."""
        if self.ops.registers:
            raise Unsupported("DMA to registers of a device")
        return super().read(place, size)

    def write(self, place: int, data: bytes) -> None:
        """The same."""
        if self.ops.registers:
            raise Unsupported("DMA to registers of a device")
        super().write(place, data)


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_release(file: File) -> None:
    """The memory goes with the file, and its driver is told."""
    dmabuf: DmaBuf = await private(file)
    if dmabuf.ops.release is not None:
        await dmabuf.ops.release(file)
    await free(dmabuf)


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_mmap_internal(file: File, wish: Mapping) -> None:
    """EINVAL: no modelled driver lets programs map its memory."""
    await refuse_if(True, Errno.EINVAL, "driver_maps_memory", "the driver does not let programs map this memory")


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_llseek(file: File, offset: int, whence: int) -> int:
    """Only to ask for the size, and back to the start. EINVAL."""
    dmabuf: DmaBuf = await private(file)
    odd = bool(offset) or whence not in (0, SEEK_END)
    await refuse_if(odd, Errno.EINVAL, "place_is_an_end", "a dma-buf can be asked for its start and its end alone")
    return await load(dmabuf.i_size) if whence else 0


dma_buf_fops = FileOperations(
    "dmabuf", release=dma_buf_release, mmap=dma_buf_mmap_internal, llseek=dma_buf_llseek, stream=True
)


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_export(dmabuf: DmaBuf, flags: int) -> File:
    """A file for memory that is lent, which only the caller has as yet."""
    file = await alloc_file("dmabuf", dma_buf_fops, flags & O_ACCMODE)
    await store(file.private_data, dmabuf)
    return file


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_fd(file: File, flags: int) -> int:
    """A descriptor for it. EMFILE, and then the file goes, and the memory with it."""
    async with on_failure(fput, file, current(), "being opened"):
        number = await get_unused_fd_flags(flags)
    await fd_install(number, file)
    return number


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_get(number: int) -> File:
    """The file, held by the running call. EBADF, EINVAL for a file of another kind."""
    file = await require(await fget(number), Errno.EBADF, "dma_buf_is_open", f"{number} is not an open file")
    if file.f_op is not dma_buf_fops:
        await fput(file)
        await refuse_if(True, Errno.EINVAL, "file_is_dma_buf", f"{file.label} is no memory of a driver")
    return file


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_detach(dmabuf: DmaBuf, pages: IoptPages) -> None:
    """Nobody has to be told any more, if anybody had to."""
    async with dmabuf.resv:
        await store(dmabuf.attachments, tuple(one for one in await load(dmabuf.attachments) if one is not pages))


@kernel("drivers/dma-buf/dma-buf.c")
async def dma_buf_invalidate_mappings(dmabuf: DmaBuf) -> None:
    """Tell all that are attached; what they have mapped leads nowhere from now on (`iopt_revoke_notify`)."""
    for pages in await load(dmabuf.attachments):
        async with pages.mutex:
            await store(pages.dmabuf_revoked, True)
