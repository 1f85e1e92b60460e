"""BARs read and written by read and write (drivers/vfio/pci/vfio_pci_rdwr.c, v7.2)."""

from __future__ import annotations

from functools import partial

from ....engine import *
from ....uapi import Errno
from ...firmware import COMMAND
from ...registers import read_register, write_register
from .vfio_pci_config import __vfio_pci_memory_enabled, number
from .vfio_pci_intrs import masters_bus, own_byte
from .vfio_pci_priv import VfioPciCoreDevice

MSIX_ENTRY = 16
PORTS = 1  # a bit of the command register
TABLE = 4  # where the capability says in which BAR the table of message interrupts lies, and where there


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_bar_rw(core: VfioPciCoreDevice, bar: int, position: int, count: int, data: bytes | None) -> bytes:
    """Read a BAR, or write `data` into it, as far as it goes; the answer is what was read or written. EINVAL beyond its end."""
    end = core.vdev.dev.hardware.bars.get(bar, 0)
    await refuse_if(position >= end, Errno.EINVAL, "inside_region", "this is beyond the end of the region")
    return await vfio_pci_core_do_io_rw(core, bar, position, min(count, end - position), data)


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_core_do_io_rw(core: VfioPciCoreDevice, bar: int, at: int, count: int, data: bytes | None) -> bytes:
    """Access by access, of 8 bytes at most; the table of message interrupts reads as ones, and writes to it are dropped."""
    done, end = b"", at + count
    first, last = table_of(core, bar)
    while at < end:
        room = first - at if at < first else 0 if at < last else end - at
        width = next((width for width in (8, 4, 2, 1) if min(room, end - at) >= width and not at % width), 0)
        size = width or min(end, last) - at
        piece = b"\xff" * size if data is None else data[len(done) : len(done) + size]
        if width and data is None:
            piece = await vfio_pci_core_ioread(core, bar, at, width)
        elif width:
            await vfio_pci_core_iowrite(core, bar, at, piece)
        done += piece
        at += size
    return done


def table_of(core: VfioPciCoreDevice, bar: int) -> tuple[int, int]:
    """Where in a BAR the table of message interrupts lies; nowhere if it is not in this one."""
    hardware, config = core.vdev.dev.hardware, core.vdev.dev.config
    if hardware.msix_bar != bar:
        return 0, 0
    place = core.msix_control - 3 + TABLE
    first = number(config[place : place + 4]) & ~7
    return first, first + MSIX_ENTRY * hardware.msix


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_core_ioread(core: VfioPciCoreDevice, bar: int, at: int, width: int) -> bytes:
    """One access of 1, 2, 4 or 8 bytes. EIO while the function does not answer to memory addresses.

    Ports are not asked: while the function does not answer to them, they read as ones.
    """
    if bar in core.vdev.dev.hardware.ports:
        on = await own_byte(core, COMMAND) & PORTS
        return await read_register(core.vdev.dev, at, width) if on else b"\xff" * width
    async with shared(core.memory_lock):
        await refuse_memory_off(core)
        return await read_register(core.vdev.dev, at, width)


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_core_iowrite(core: VfioPciCoreDevice, bar: int, at: int, data: bytes) -> None:
    """The same for a write."""
    if bar in core.vdev.dev.hardware.ports:
        if await own_byte(core, COMMAND) & PORTS:
            await write_register(core.vdev.dev, at, data, partial(masters_bus, core))
        return
    async with shared(core.memory_lock):
        await refuse_memory_off(core)
        await write_register(core.vdev.dev, at, data, partial(masters_bus, core))


async def refuse_memory_off(core: VfioPciCoreDevice) -> None:
    """EIO: the command register says that the function does not answer, or it sleeps."""
    on = await __vfio_pci_memory_enabled(core)
    await refuse_if(
        not on, Errno.EIO, "memory_is_on", "the function does not answer: it sleeps, or its command register says so"
    )
