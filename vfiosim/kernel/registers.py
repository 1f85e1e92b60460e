"""What is behind the BARs of the recorded devices, as QEMU 7.2 has them (hw/misc/edu.c, hw/misc/pci-testdev.c, hw/nvme/ctrl.c).

A device is told by numbers in `registers` of it, by name; one that has none there is as after power-up. Interrupts that it
raises reach whoever drives it before the write ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ..engine import *
from .base import Device
from .dma import dma_read, dma_write
from .prototypes import vfio_intx_handler, vfio_msihandler
from .unsupported import Unsupported

Masters = Callable[[], Awaitable[bool]]
LINE: Final = "line"  # is its interrupt line up?


async def read_register(device: Device, bar: int, at: int, width: int) -> bytes:
    """One access of `width` bytes to a BAR that is memory, or the ports of pci-testdev."""
    if device.spec.physfn:
        return bytes(width)  # a virtual function of the disk that nobody has put online
    if device.spec.hardware is not None:
        return (await piece(device, bar, at))[at % PAGE : at % PAGE + width]
    if device.model == "edu":
        value = await edu_mmio_read(device, at, width)
    elif device.model == "nvme":
        value = await nvme_mmio_read(device, at, width)
    elif device.model == "pci-testdev":
        value = 0  # no test is chosen
    else:
        raise Unsupported("the content of a BAR")
    return (value & (1 << 8 * width) - 1).to_bytes(width, "little")


async def write_register(device: Device, bar: int, at: int, data: bytes, masters: Masters) -> None:
    """The same for a write; `masters` asks whether the device is a master of its bus: without, nothing that it sends arrives."""
    value, width = int.from_bytes(data, "little"), len(data)
    if device.spec.physfn:
        return
    if device.spec.hardware is not None:
        known, start = await piece(device, bar, at), at % PAGE
        await xa_store(device.memory, _page(bar, at), known[:start] + data + known[start + width :])
    elif device.model == "edu":
        await edu_mmio_write(device, at, value, width, masters)
    elif device.model == "nvme":
        await nvme_mmio_write(device, at, value, width)
    elif device.model != "pci-testdev":
        raise Unsupported("the content of a BAR")
    elif at == 0:
        raise Unsupported("a test of pci-testdev")


async def piece(device: Device, bar: int, at: int) -> bytes:
    """A page of a BAR that is plain memory, zeros at first; no access reaches beyond one."""
    return await xa_load(device.memory, _page(bar, at)) or bytes(PAGE)


def _page(bar: int, at: int) -> str:
    return f"BAR {bar}, page {at // PAGE}"


async def register(device: Device, name: str) -> int:
    """What a register has."""
    found = await xa_load(device.registers, name)
    return found or 0


# ---- edu: inverts a number, computes factorials, raises interrupts, copies memory

IDENTIFICATION: Final = 0x010000ED
INVERTED, FACTORIAL, STATUS, IRQ_STATUS, RAISE, ACKNOWLEDGE = 0x04, 0x08, 0x20, 0x24, 0x60, 0x64
DMA: Final = {0x80: "source", 0x88: "destination", 0x90: "count", 0x98: "command"}
SMALL: Final = {INVERTED: "inverted", FACTORIAL: "factorial", STATUS: "status", IRQ_STATUS: "interrupts"}
TELLS: Final = 0x80  # of the status: a factorial that is done raises an interrupt
FACTORIAL_IRQ, DMA_IRQ = 0x001, 0x100
COMMAND: Final = 0x98
RUN, FROM_BUFFER, TELL = 1, 2, 4  # bits of the command
BUFFER, PAGE = 0x40000, 4096
REACH: Final = (1 << 28) - 1  # bits of an address that it has
PATIENCE: Final = 1 << 16  # numbers whose factorial takes edu no time worth speaking of


async def edu_mmio_read(device: Device, at: int, width: int) -> int:
    """Read a register: 4 bytes at a time, those of its DMA also 8; fewer read as 0, where nothing is as ones."""
    if width < 4:
        return 0
    name = SMALL.get(at) if width == 4 else None
    name = name or DMA.get(at)
    if name is None:
        return IDENTIFICATION if at == 0 and width == 4 else -1
    return await register(device, name)


async def edu_mmio_write(device: Device, at: int, value: int, width: int, masters: Masters) -> None:
    """Write a register, likewise."""
    if width == 4 and at in (INVERTED, FACTORIAL, STATUS, RAISE, ACKNOWLEDGE):
        await edu_act(device, at, value, masters)
    elif width >= 4 and at in DMA and at != COMMAND:
        await xa_store(device.registers, DMA[at], value)
    elif width >= 4 and at == COMMAND and value & RUN:
        await edu_dma(device, value, masters)


async def edu_dma(device: Device, command: int, masters: Masters) -> None:
    """Copy between memory and a page of its own, at once; without being a master of the bus it reads zeros and writes nothing."""
    source, destination, count = [await register(device, DMA[at]) for at in (0x80, 0x88, 0x90)]
    inside = (source if command & FROM_BUFFER else destination) - BUFFER
    if not 0 <= inside <= inside + count <= PAGE:
        raise Unsupported("DMA of edu beyond its buffer, which ends the emulator,")
    buffer, master = await xa_load(device.memory, "buffer") or bytes(PAGE), await masters()
    if command & FROM_BUFFER:
        if master:
            await dma_write(device, destination & REACH, buffer[inside : inside + count])
    else:
        read = await dma_read(device, source & REACH, count) if master else bytes(count)
        await xa_store(device.memory, "buffer", buffer[:inside] + read + buffer[inside + count :])
    await xa_store(device.registers, DMA[COMMAND], command & ~RUN)
    if command & TELL:
        await edu_raise_irq(device, DMA_IRQ, masters)


async def edu_act(device: Device, at: int, value: int, masters: Masters) -> None:
    """A write to one of the small registers."""
    if at == INVERTED:
        await xa_store(device.registers, SMALL[at], ~value & 0xFFFFFFFF)
    elif at == STATUS:
        await xa_store(device.registers, SMALL[at], value & TELLS)
    elif at == RAISE:
        await edu_raise_irq(device, value, masters)
    elif at == ACKNOWLEDGE:
        await edu_lower_irq(device, value)
    else:
        await edu_factorial(device, value, masters)


async def edu_factorial(device: Device, value: int, masters: Masters) -> None:
    """Compute a factorial, modulo 2 to the 32nd."""
    if value >= PATIENCE:
        raise Unsupported("a factorial that takes edu a while")
    result = 1
    for factor in range(2, min(value, 34) + 1):  # that of 34 has 32 twos in it
        result = result * factor & 0xFFFFFFFF
    await xa_store(device.registers, SMALL[FACTORIAL], result)
    if await register(device, SMALL[STATUS]) & TELLS:
        await edu_raise_irq(device, FACTORIAL_IRQ, masters)


async def edu_raise_irq(device: Device, bits: int, masters: Masters) -> None:
    """Raise an interrupt: a message if message interrupts are enabled, else its line goes up and stays up.

    A line that is up already makes no interrupt, and if nobody listened when it went up, that one is lost.
    """
    raised = await register(device, SMALL[IRQ_STATUS]) | bits
    await xa_store(device.registers, SMALL[IRQ_STATUS], raised)
    if not raised or await vfio_msihandler(device, 0, masters):
        return
    if not await register(device, LINE):
        await xa_store(device.registers, LINE, 1)
        await vfio_intx_handler(device)


async def edu_lower_irq(device: Device, bits: int) -> None:
    """Some of the interrupts have been looked after; with the last one the line goes down."""
    left = await register(device, SMALL[IRQ_STATUS]) & ~bits
    await xa_store(device.registers, SMALL[IRQ_STATUS], left)
    if not left:
        await xa_store(device.registers, LINE, 0)


# ---- an NVMe disk, up to the moment at which its queues are used

CAPABILITIES: Final = 0x004018200F0107FF
VERSION: Final = 0x00010400
CC, CSTS, AQA, ASQ, ACQ = 0x14, 0x1C, 0x24, 0x28, 0x30
WRITABLE: Final = (CC, AQA, ASQ, ACQ, ASQ + 4, ACQ + 4)
INTERRUPT_MASKS: Final = (0x0C, 0x10)
NAMES: Final = {CC: "CC", CSTS: "CSTS", AQA: "AQA", ASQ: "ASQ", ACQ: "ACQ"}
LEFT_BY_FIRMWARE: Final = {AQA: 0x00FF003F, ASQ: 0x5FFDD000, ACQ: 0x5FFDE000}
READY, FAILED = 1, 2
REGISTERS_END: Final = 0x1000  # then come the doorbells


async def nvme_mmio_read(device: Device, at: int, width: int) -> int:
    """Read registers; behind the last one there are zeros."""
    space = CAPABILITIES.to_bytes(8, "little") + VERSION.to_bytes(4, "little") + bytes(REGISTERS_END - 12)
    for place in NAMES:
        size = 8 if place in (ASQ, ACQ) else 4
        value = await set_up(device, place)
        space = space[:place] + value.to_bytes(size, "little") + space[place + size :]
    return int.from_bytes(space[at : at + width], "little")


async def set_up(device: Device, at: int) -> int:
    """A register, with what the firmware has left there if nobody has written it since."""
    known = await xa_load(device.registers, NAMES[at])
    return LEFT_BY_FIRMWARE.get(at, 0) if known is None else known


async def nvme_mmio_write(device: Device, at: int, value: int, width: int) -> None:
    """Write a register. A disk that works is not modelled; one that is set up badly says so."""
    if at >= REGISTERS_END:
        if await register(device, NAMES[CSTS]) & READY:
            raise Unsupported("the queues of a disk")
        return
    if at in INTERRUPT_MASKS or (width < 4 and at in WRITABLE):
        raise Unsupported("this register of a disk")
    if at not in WRITABLE:
        return
    if at in (AQA, CC):
        if at == CC:
            await nvme_set_cc(device, value)
        else:
            await xa_store(device.registers, NAMES[AQA], value)
        return
    low = at & ~4
    before = await set_up(device, low)
    shift = 8 * (at - low)
    mask = (1 << 8 * width) - 1 << shift
    await xa_store(device.registers, NAMES[low], before & ~mask | value << shift)


async def nvme_set_cc(device: Device, value: int) -> None:
    """Write the configuration: who enables the disk has to have said where its first queues are."""
    before = await register(device, NAMES[CC])
    if not (value | before) & 0xC001:
        await xa_store(device.registers, NAMES[CC], value)
    elif value & 1 and not before & 1:
        await xa_store(device.registers, NAMES[CC], value)
        works = await nvme_start_ctrl(device, value)
        await xa_store(device.registers, NAMES[CSTS], READY if works else FAILED)
    elif before & 1 and not value & 1:
        await xa_store(device.registers, NAMES[CC], 0)
        await xa_store(device.registers, NAMES[CSTS], 0)
    else:
        raise Unsupported("this register of a disk")


async def nvme_start_ctrl(device: Device, value: int) -> bool:
    """Are the queues where they can be, and the sizes of their entries known?"""
    sizes, *places = [await set_up(device, at) for at in (AQA, ASQ, ACQ)]
    page = 1 << (value >> 7 & 0xF) + 12
    good = all(place and not place % page for place in places) and value >> 7 & 0xF <= 4
    return good and value >> 16 & 0xF == 6 and value >> 20 & 0xF == 4 and bool(sizes & 0xFFF and sizes >> 16 & 0xFFF)


async def reset_registers(device: Device) -> None:
    """The function is reset alone: the disk stops."""
    as_after_power_up: int | None = None
    if device.model == "nvme":
        for name in (NAMES[CC], NAMES[CSTS]):
            await xa_store(device.registers, name, as_after_power_up)
