"""BARs read and written by read and write (drivers/vfio/pci/vfio_pci_rdwr.c, v7.2)."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from ....engine import *
from ....uapi import Errno, KernelError
from ...firmware import COMMAND
from ...registers import read_register, write_register
from ..virqfd import vfio_virqfd_disable, vfio_virqfd_enable
from .vfio_pci_config import IOEVENTFDS, __vfio_pci_memory_enabled, change, number
from .vfio_pci_intrs import masters_bus, own_byte
from .vfio_pci_priv import VfioPciCoreDevice, VfioPciIoeventfd

MSIX_ENTRY = 16
BAR_COUNT, QWORD, VFIO_PCI_IOEVENTFD_MAX = 6, 8, 1000
PORTS = 1  # a bit of the command register
TABLE = 4  # where the capability says in which BAR the table of message interrupts lies, and where there


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_core_iowrite(core: VfioPciCoreDevice, bar: int, at: int, data: bytes) -> None:
    """The same for a write."""
    if bar in core.vdev.dev.hardware.ports:
        if await own_byte(core, COMMAND) & PORTS:
            await write_register(core.vdev.dev, bar, at, data, partial(masters_bus, core))
        return
    async with shared(core.memory_lock):
        await refuse_memory_off(core)
        await write_register(core.vdev.dev, bar, at, data, partial(masters_bus, core))


async def refuse_memory_off(core: VfioPciCoreDevice) -> None:
    """EIO: the command register says that the function does not answer, or it sleeps."""
    on = await __vfio_pci_memory_enabled(core)
    await refuse_if(
        not on, Errno.EIO, "memory_is_on", "the function does not answer: it sleeps, or its command register says so"
    )


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_core_ioread(core: VfioPciCoreDevice, bar: int, at: int, width: int) -> bytes:
    """One access of 1, 2, 4 or 8 bytes. EIO while the function does not answer to memory addresses.

    Ports are not asked: while the function does not answer to them, they read as ones.
    """
    if bar in core.vdev.dev.hardware.ports:
        on = await own_byte(core, COMMAND) & PORTS
        return await read_register(core.vdev.dev, bar, at, width) if on else b"\xff" * width
    async with shared(core.memory_lock):
        await refuse_memory_off(core)
        return await read_register(core.vdev.dev, bar, at, width)


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
async def vfio_pci_bar_rw(core: VfioPciCoreDevice, bar: int, position: int, count: int, data: bytes | None) -> bytes:
    """Read a BAR, or write `data` into it, as far as it goes; the answer is what was read or written. EINVAL beyond its end."""
    end = core.vdev.dev.hardware.bars.get(bar, 0)
    await refuse_if(
        position >= end,
        Errno.EINVAL,
        "inside_region",
        f"region {bar} has {end:#x} bytes, and {position:#x} is beyond",
    )
    return await vfio_pci_core_do_io_rw(core, bar, position, min(count, end - position), data)


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_ioeventfd_handler(ioeventfd: VfioPciIoeventfd) -> bool:
    """The eventfd was signalled: the write is left to a thread, which can wait for the lock that it needs."""
    return True


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_ioeventfd_thread(ioeventfd: VfioPciIoeventfd) -> None:
    """Write; while the function does not answer, nothing happens, and nobody is told."""
    with suppress(KernelError):
        await vfio_pci_core_iowrite(ioeventfd.core, ioeventfd.bar, ioeventfd.pos, ioeventfd.data)


async def forget_ioeventfd(ioeventfd: VfioPciIoeventfd) -> None:
    """A write is not made any more."""
    await vfio_virqfd_disable(ioeventfd.virqfd)
    await free(ioeventfd)


async def forget_ioeventfds(core: VfioPciCoreDevice) -> None:
    """At the last close none is made any more."""
    for ioeventfd in await load(core.ioeventfds_list):
        await forget_ioeventfd(ioeventfd)
    await store(core.ioeventfds_list, ())


@kernel("drivers/vfio/pci/vfio_pci_rdwr.c")
async def vfio_pci_ioeventfd(
    core: VfioPciCoreDevice, bar: int, position: int, value: int, size: int, number: int
) -> None:
    """Write to a BAR whenever an eventfd is signalled, or no longer (`number` −1).

    EINVAL (beyond a BAR, into the table of message interrupts, 8 bytes), EEXIST, ENODEV, ENOSPC, what the eventfd says.
    """
    end = core.vdev.dev.hardware.bars.get(bar, 0) if bar < BAR_COUNT else 0
    first, last = table_of(core, bar)
    bad = position + size > end or (position < last and position + size > first) or size == QWORD
    await refuse_if(
        bad, Errno.EINVAL, "register_possible", "this is no register of 1, 2 or 4 bytes that may be written so"
    )
    data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    async with core.ioeventfds_lock:
        known = await load(core.ioeventfds_list)
        same = [one for one in known if (one.bar, one.pos, one.data) == (bar, position, data)]
        if same and number == -1:
            await store(core.ioeventfds_list, tuple(one for one in known if one is not same[0]))
            await forget_ioeventfd(same[0])
            return
        await refuse_if(bool(same), Errno.EEXIST, "write_is_new", "an eventfd makes this very write already")
        await refuse_if(number < 0, Errno.ENODEV, "write_is_known", "no eventfd makes this write")
        full = len(known) >= VFIO_PCI_IOEVENTFD_MAX
        await refuse_if(full, Errno.ENOSPC, "writes_left", f"{VFIO_PCI_IOEVENTFD_MAX} such writes are the most")
        made = await alloc(VfioPciIoeventfd, core, bar, position, data)
        async with on_failure(free, made):
            await vfio_virqfd_enable(made, vfio_pci_ioeventfd_handler, vfio_pci_ioeventfd_thread, made.virqfd, number)
        await store(core.ioeventfds_list, (made, *known))
        await change(core, {IOEVENTFDS: 1})
