"""The configuration space of a PCI function as a program sees it (drivers/vfio/pci/vfio_pci_config.c, v7.2).

A program can read all of it and may write much of it, but the kernel keeps some of it for itself: BARs, the lists of capabilities,
where message interrupts go. Of these the program sees a copy, which it changes as it likes. Two tables say bit by bit what is a
copy (`virt`) and what may be written (`write`).

Here the copy is told by its differences from what the function was like at boot: `vconfig` of the core device, which the first
open makes and the last close forgets. What a program writes into registers of the function itself stands there too, as far as
the last close puts it back (`pci_restore_state`); what stays for the next program is `scratch` of the device.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from ....engine import *
from ....uapi import VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, Errno, KernelError
from ...base import Device
from ...bus import virtual_functions
from ...config import built_with
from ...firmware import BARS, COMMAND, FIRST_CAPABILITY, HEADER, MSI, MSIX, PIN, SPACE, STATUS, bar_flags
from ...hardware import Hardware
from ...pci_reset import pci_try_reset_function
from ...prototypes import vfio_pci_dma_buf_move
from ..vfio import VfioDevice
from .vfio_pci_intrs import vfio_pci_intx_mask, vfio_pci_intx_unmask
from .vfio_pci_priv import OWN, VfioPciCoreDevice, virq_disabled

Changes = dict[int, int]  # by offset of a byte; those of the function itself by OWN + offset
LOW_POWER: Final = OWN * 2  # is no byte: may the function sleep while nobody uses it?
IOEVENTFDS: Final = OWN * 2 + 1  # nor is this: has a program let an eventfd write to the device?
BASIC, INVALID = 0, 0xFF  # the header, and what is no part of a capability
PM, VENDOR, EXPRESS = 1, 9, 16
LENGTHS: Final = {
    PM: 8,
    EXPRESS: 0x34,
    MSIX: 12,
}  # of capabilities, in bytes; that of MSI and of a vendor's is told by itself
EXT_LENGTHS: Final = {14: 8, 16: 0x40}  # of those beyond 256 bytes: ARI, SR-IOV
IO, MEMORY = 1, 2  # bits of the command register
INTX_DISABLE: Final = 1 << 10
INTX_PENDING: Final = 8  # a bit of the status register
ROM: Final = 48
PMCSR: Final = 4  # of the power management capability, and so on
STATE_MASK: Final = 3
D3HOT: Final = 3
DEVCTL: Final = 8
FLR, PAYLOAD, READRQ, PHANTOM = 0x8000, 0xE0, 0x7000, 0x200
MSI_FLAGS: Final = 2
MSI_ENABLE, QSIZE, QMASK, MSI_64BIT, MSI_MASKBIT = 1, 0x70, 0x0E, 0x80, 0x100


class Perm(NamedTuple):
    """What of a capability is a copy, and what may be written: bits of each of its bytes (`struct perm_bits`)."""

    virt: bytes = b""
    write: bytes = b""


ALL: Final = (1 << 32) - 1
Row = tuple[int, int, int, int]  # offset, size in bytes, bits that are a copy, bits that may be written


def perm(size: int, *rows: Row) -> Perm:
    """The two tables of a capability of so many bytes (`alloc_perm_bits`, `p_setb`, `p_setw`, `p_setd`)."""
    virt, write = bytearray(-(-size // 4) * 4), bytearray(-(-size // 4) * 4)
    for at, width, copied, written in rows:
        mask = (1 << 8 * width) - 1
        virt[at : at + width] = (copied & mask).to_bytes(width, "little")
        write[at : at + width] = (written & mask).to_bytes(width, "little")
    return Perm(bytes(virt), bytes(write))


NEXT: Final[Row] = (1, 1, ALL, 0)  # where the next capability is: so that one can be hidden
CAP_PERMS: Final = {
    BASIC: perm(
        HEADER,
        (0, 4, ALL, 0),
        (COMMAND, 2, INTX_DISABLE, ALL),
        (STATUS, 2, 0x10, 0),
        (12, 1, 0, ALL),
        (13, 1, 0, ALL),
        (15, 1, 0, ALL),
        *[(BARS + 4 * bar, 4, ALL, ALL) for bar in range(6)],
        (ROM, 4, ALL, ALL),
        (52, 1, ALL, 0),
        (60, 1, ALL, ALL),
        (PIN, 1, ALL, 0),
    ),
    PM: perm(8, NEXT, (2, 2, 0xF800, 0), (PMCSR, 4, 0x8100, ALL & ~0x8103)),
    EXPRESS: perm(0x34, NEXT, (DEVCTL, 2, FLR | PAYLOAD | READRQ, ALL & ~PHANTOM), (40, 2, 0, ALL & ~0x20)),
}


def msi_perm(flags: int) -> Perm:
    """The tables for message interrupts, whose layout each function says for itself (`init_pci_cap_msi_perm`)."""
    wide = bool(flags & MSI_64BIT)
    data = 12 if wide else 8
    rows: list[Row] = [NEXT, (MSI_FLAGS, 1, ALL, ALL), (4, 4, ALL, ALL), (data, 2, ALL, ALL)]
    if wide:
        rows.append((8, 4, ALL, ALL))
    if flags & MSI_MASKBIT:
        rows += [(data + 4, 4, 0, ALL), (data + 8, 4, 0, ALL)]
    return perm(data + 2 + 10 * bool(flags & MSI_MASKBIT), *rows)


# ---- what is there


class Tables(NamedTuple):
    """What the first open makes: which capability each byte belongs to, and the copy that a program sees at first."""

    config_map: bytes
    copy_at_open: bytes


@lru_cache(maxsize=64)
def tables_of(config: bytes, hardware_ids: tuple[int, ...], virtual: bool) -> Tables:
    """The tables for a function with these registers (`vfio_cap_init`, `vfio_ecap_init`, and more of `vfio_config_init`)."""
    found = bytearray(bytes(HEADER) + bytes([INVALID]) * (len(config) - HEADER))
    copied = bytearray(config)
    if virtual and hardware_ids:
        copied[0:4] = (hardware_ids[0] | hardware_ids[1] << 16).to_bytes(4, "little")
    copied[COMMAND] |= MEMORY if virtual else 0
    before, at = FIRST_CAPABILITY, config[FIRST_CAPABILITY] if config[STATUS] & 0x10 else 0
    while at:
        length = length_of(config, at)
        found[at : at + length] = bytes([config[at]]) * length
        if config[at] == PM:  # wake-up events are for the kernel
            copied[at + 3] &= 0x07
            copied[at + PMCSR + 1] &= 0x7E
        copied[before] = at if length else config[at + 1]
        before, at = at + 1 if length else before, config[at + 1]
    at = SPACE if number(config[SPACE : SPACE + 4]) else 0
    while at:
        header = number(config[at : at + 4])
        length = EXT_LENGTHS[header & 0xFFFF]
        found[at : at + length] = bytes([header & 0xFF]) * length
        at = header >> 20
    return Tables(bytes(found), bytes(copied))


def length_of(config: bytes, at: int) -> int:
    """How long a capability is; 0 for one that a program does not get to see (`vfio_cap_len`)."""
    if config[at] == MSI:
        flags = number(config[at + MSI_FLAGS : at + MSI_FLAGS + 2])
        return 10 + 4 * bool(flags & MSI_64BIT) + 10 * bool(flags & MSI_MASKBIT)
    return config[at + 2] if config[at] == VENDOR else LENGTHS.get(config[at], 0)


def tables_for(device: Device) -> Tables:
    """The tables of a function."""
    return tables_of(device.config, device.hardware.ids, bool(device.spec.physfn))


# ---- one piece: of one capability, of one size, at a multiple of it


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_default_config_read(core: VfioPciCoreDevice, position: int, count: int, virt: int) -> int:
    """The copy, and what is no copy from the function itself."""
    changed = await changes_of(core)
    found = copy_at(core, changed, position, count)
    if virt == (1 << 8 * count) - 1:
        return found
    return await hardware_at(core, changed, position, count) & ~virt | found & virt


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_default_config_write(
    core: VfioPciCoreDevice, position: int, count: int, virt: int, write: int, value: int
) -> None:
    """Into the copy what is a copy, into the function what is not, and nothing where nothing may be written."""
    changed = await changes_of(core)
    if write & virt:
        kept = copy_at(core, changed, position, count) & ~(write & virt) | value & write & virt
        await change(core, dict(enumerate(kept.to_bytes(count, "little"), position)))
    if write & ~virt:
        before = await hardware_at(core, changed, position, count)
        await set_hardware(core, changed, position, count, before & ~(write & ~virt) | value & write & ~virt)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_direct_config_read(core: VfioPciCoreDevice, position: int, count: int, offset: int) -> int:
    """From the function itself, but for where the next capability is."""
    changed = await changes_of(core)
    found = (await hardware_at(core, changed, position, count)).to_bytes(count, "little")
    copied = copy_at(core, changed, position, count).to_bytes(count, "little")
    mangled = 4 if position >= SPACE else 2
    return number(bytes(copied[n] if offset + n < mangled else found[n] for n in range(count)))


def sized(hardware: Hardware, position: int, value: int, count: int) -> int:
    """What a program sees of BARs that it has written, which is how it learns their size (`vfio_bar_fixup`)."""
    masks = bar_masks(hardware)
    at = position - BARS
    keep, flags = number(masks[0][at : at + count]), number(masks[1][at : at + count])
    return value & keep | flags


def bar_masks(hardware: Hardware) -> tuple[bytes, bytes]:
    """The bits of each BAR that can be written, and those that are fixed."""
    keep, flags = bytearray(24), bytearray(24)
    for bar, size in hardware.bars.items():
        mask = (1 << 64) - size
        keep[4 * bar : 4 * bar + 4] = (mask & ALL).to_bytes(4, "little")
        flags[4 * bar] = bar_flags(hardware, bar)
        if bar in hardware.wide:
            keep[4 * bar + 4 : 4 * bar + 8] = (mask >> 32).to_bytes(4, "little")
    return bytes(keep), bytes(flags)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def __vfio_pci_memory_enabled(core: VfioPciCoreDevice) -> bool:
    """Does the function answer to memory addresses? A virtual one always does, for its physical one has the switch."""
    changed = await changes_of(core)
    awake = power_state(core, changed) < D3HOT
    return awake and (bool(core.vdev.dev.spec.physfn) or bool(copy_at(core, changed, COMMAND, 2) & MEMORY))


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_basic_config_read(core: VfioPciCoreDevice, position: int, count: int, virt: int) -> int:
    """The header: BARs tell their size, a function without a ROM has no address for it."""
    found = await vfio_default_config_read(core, position, count, virt)
    dev = core.vdev.dev
    if BARS <= position < BARS + 24:
        return sized(dev.hardware, position, found, count)
    if ROM <= position < ROM + 4:
        return 0
    if position == COMMAND and dev.spec.physfn:
        return found | copy_at(core, await changes_of(core), COMMAND, 2) & MEMORY
    return found


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_basic_config_write(
    core: VfioPciCoreDevice, position: int, count: int, virt: int, write: int, value: int
) -> None:
    """The header. Whoever uses a BAR meanwhile is waited for where the command register is written."""
    was_off = await virq_disabled(core)
    if position == COMMAND:
        say(Phase.LOCK, "The memory lock of {}: nobody uses its BARs while it is switched.", core)
        async with core.memory_lock:
            if not value & MEMORY:
                await vfio_pci_dma_buf_move(core, True)
            await vfio_default_config_write(core, position, count, virt, write, value)
            bits = copy_at(core, await changes_of(core), COMMAND, 1) & ~(IO | MEMORY) | value & (IO | MEMORY)
            await change(core, {COMMAND: bits})
            await lend_again(core)
    else:
        await vfio_default_config_write(core, position, count, virt, write, value)
    if COMMAND <= position <= COMMAND + 1:
        await follow_intx_disable(core, was_off)


async def follow_intx_disable(core: VfioPciCoreDevice, before: bool) -> None:
    """The line interrupt is switched off or on where the bit for it in the command register has changed."""
    off = await virq_disabled(core)
    if off == before:
        return
    if off:
        await vfio_pci_intx_mask(core)
    else:
        await vfio_pci_intx_unmask(core)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_lock_and_set_power_state(core: VfioPciCoreDevice, state: int) -> None:
    """Sleep (D3hot) or wake (D0)."""
    async with core.memory_lock:
        if state == D3HOT:
            await vfio_pci_dma_buf_move(core, True)
        await set_power_state(core, state)
        await lend_again(core)


async def set_power_state(core: VfioPciCoreDevice, state: int) -> None:
    """The state itself; D1 and D2 none of the modelled functions has. What has virtual functions does not sleep."""
    at = core.capability(PM) + PMCSR
    busy = state and core.vdev.dev.spec.vfs and await virtual_functions(core.vdev.dev)
    if busy or state not in (0, D3HOT):
        return
    now = (await changes_of(core)).get(OWN + at, core.vdev.dev.config[at])
    await change(core, {OWN + at: now & ~STATE_MASK | state})


async def wake(core: VfioPciCoreDevice) -> None:
    """Who resets a function wakes it first (`pci_dev_save_and_disable`, drivers/pci/pci.c)."""
    if core.capability(PM) and await load(core.vconfig) is not None and power_state(core, await changes_of(core)):
        await set_power_state(core, 0)


async def lend_again(core: VfioPciCoreDevice) -> None:
    """What was taken away of the device can be mapped again, if it answers to memory addresses."""
    if built_with("pci_p2pdma") and await __vfio_pci_memory_enabled(core):
        await vfio_pci_dma_buf_move(core, False)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_pm_config_write(
    core: VfioPciCoreDevice, position: int, count: int, virt: int, write: int, value: int
) -> None:
    """Power management: the kernel itself puts the function to sleep and wakes it."""
    await vfio_default_config_write(core, position, count, virt, write, value)
    if position == core.capability(PM) + PMCSR:
        await vfio_lock_and_set_power_state(core, value & STATE_MASK)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_exp_config_write(
    core: VfioPciCoreDevice, position: int, count: int, virt: int, write: int, value: int
) -> None:
    """PCI Express: who writes the bit for a reset resets the function, if it can be, and never reads the bit."""
    await vfio_default_config_write(core, position, count, virt, write, value)
    at = core.capability(EXPRESS) + DEVCTL
    control = copy_at(core, await changes_of(core), at, 2)
    if control & FLR:
        await change(core, {at + 1: control >> 8 & ~(FLR >> 8)})
        if core.vdev.dev.hardware.flr:
            async with core.memory_lock:
                await vfio_pci_dma_buf_move(core, True)
                with suppress(KernelError):
                    await pci_try_reset_function(core.vdev.dev)
                    await wake(core)
                await lend_again(core)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_msi_config_write(
    core: VfioPciCoreDevice, position: int, count: int, virt: int, write: int, value: int
) -> None:
    """Message interrupts: they are enabled by an ioctl and not here, and no more of them than that allocated."""
    await vfio_default_config_write(core, position, count, virt, write, value)
    at = core.capability(MSI)
    if position - at <= MSI_FLAGS <= position - at + count:
        flags = copy_at(core, await changes_of(core), at + MSI_FLAGS, 1)
        on = await load(core.irq_type) == VFIO_PCI_MSI_IRQ_INDEX
        flags &= ALL if on else ~MSI_ENABLE
        most = max(await load(core.vectors) * 2 - 1, 1).bit_length() - 1
        flags = flags if (flags & QSIZE) >> 4 <= most else flags & ~QSIZE | most << 4
        await change(core, {at + MSI_FLAGS: flags, OWN + at + MSI_FLAGS: flags})


# ---- all of it, in pieces


def piece(config_map: bytes, position: int, count: int) -> int:
    """How much is done at once: no more than a dword, at a multiple of its size, of one capability alone."""
    size = 1
    while (position + size) % 4 and config_map[position + size] == config_map[position]:
        size += 1
    size = min(size, count)
    return 4 if size >= 4 and not position % 4 else 2 if size >= 2 and not position % 2 else 1


def start_of(config_map: bytes, position: int) -> int:
    """Where the capability begins that has this byte (`vfio_find_cap_start`)."""
    base = SPACE if position >= SPACE else HEADER
    if config_map[position] == BASIC:
        return 0
    start = position
    while start - 1 >= base and config_map[start - 1] == config_map[position]:
        start -= 1
    return start


def perm_at(core: VfioPciCoreDevice, position: int, count: int) -> tuple[int, int]:
    """Which bits of a piece are a copy, and which may be written; none and none where no table says anything."""
    capability = core.config_map[position]
    start = start_of(core.config_map, position)
    flags = number(core.vdev.dev.config[start + MSI_FLAGS : start + MSI_FLAGS + 2])
    found = msi_perm(flags) if capability == MSI else CAP_PERMS.get(capability, Perm())
    offset = position - start
    return number(found.virt[offset : offset + count]), number(found.write[offset : offset + count])


def has_table(capability: int, position: int) -> bool:
    """Does a table say which bits of a capability are a copy?"""
    return position < SPACE and (capability in CAP_PERMS or capability == MSI)


async def refuse_outside(core: VfioPciCoreDevice, position: int, count: int) -> None:
    """EFAULT for what does not lie inside of configuration space as a whole."""
    outside = position + count > len(core.config_map)
    await refuse_if(
        outside,
        Errno.EFAULT,
        "inside_config_space",
        f"configuration space has {len(core.config_map)} bytes; {count} from {position:#x} on are wanted",
    )


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_config_init(core: VfioPciCoreDevice) -> None:
    """The tables that say what a program sees of configuration space, and what it may change."""
    await store(core.vconfig, ())


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_config_free(core: VfioPciCoreDevice) -> Changes:
    """The tables go with the last close. The answer is what was in them: what else there is to let go of."""
    changed = await exchange(core.vconfig, None)
    return dict(changed or ())


async def changes_of(core: VfioPciCoreDevice) -> Changes:
    """What was changed since the first open. Whether the tables are there is not asked: whoever comes here has the device open."""
    changed = await load(core.vconfig)
    if changed is None:
        raise KernelOops(f"{current().label} reads configuration space of {core.oid} through a table that is not there")
    return dict(changed)


async def change(core: VfioPciCoreDevice, more: Changes) -> None:
    """Change some bytes, whoever changes others meanwhile."""
    while True:
        before = await load(core.vconfig)
        if before is None:
            raise KernelOops(f"{current().label} writes a table of {core.oid} that is not there")
        after = dict(before) | more
        if await try_cmpxchg(core.vconfig, before, tuple(sorted(after.items()))):
            return


def number(data: bytes) -> int:
    """Bytes as the number that they are in a register."""
    return int.from_bytes(data, "little")


def copy_at(core: VfioPciCoreDevice, changed: Changes, position: int, count: int) -> int:
    """What the copy has at a place."""
    return number(bytes(changed.get(at, core.copy_at_open[at]) for at in range(position, position + count)))


async def hardware_at(core: VfioPciCoreDevice, changed: Changes, position: int, count: int) -> int:
    """What the function itself has at a place (`pci_user_read_config_dword` and its like, drivers/pci/access.c)."""
    device, found = core.vdev.dev, bytearray()
    for at in range(position, position + count):
        kept: int | None = None
        if core.config_map[at] == INVALID:
            kept = await xa_load(device.scratch, at)
        found.append(changed.get(OWN + at, device.config[at]) if kept is None else kept)
    if position <= STATUS < position + count:
        up = await xa_load(device.registers, "line")
        found[STATUS - position] |= INTX_PENDING if up else 0
    if core.msix_control in range(position, position + count) and await load(core.irq_type) == VFIO_PCI_MSIX_IRQ_INDEX:
        found[core.msix_control - position] |= 0x80
    return number(bytes(found))


async def registers_now(device: Device) -> bytes:
    """What the function itself has in all of its configuration space."""
    vdev = await load(device.drvdata)
    core = await load(vdev.driver_data) if isinstance(vdev, VfioDevice) else None
    changed = await load(core.vconfig) if isinstance(core, VfioPciCoreDevice) else None
    if changed is None or not isinstance(core, VfioPciCoreDevice):
        return bytes(device.config)
    value = await hardware_at(core, dict(changed), 0, len(device.config))
    return value.to_bytes(len(device.config), "little")


async def set_hardware(core: VfioPciCoreDevice, changed: Changes, position: int, count: int, value: int) -> None:
    """Write registers of the function itself, as far as it lets itself be written (`pci_user_write_config_dword`)."""
    device = core.vdev.dev
    more: Changes = {}
    for index in range(count):
        at, mask = position + index, device.writable[position + index]
        bits = value >> 8 * index & mask
        if core.config_map[at] != INVALID:
            more[OWN + at] = changed.get(OWN + at, device.config[at]) & ~mask | bits
        elif mask:
            await xa_store(device.scratch, at, bits)
    if more:
        await change(core, more)


def power_state(core: VfioPciCoreDevice, changed: Changes) -> int:
    """How awake the function is: 0 is D0, 3 is D3hot; 0 too for one that cannot sleep."""
    at = core.capability(PM)
    return changed.get(OWN + at + PMCSR, core.vdev.dev.config[at + PMCSR]) & STATE_MASK if at else 0


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_pci_config_rw(core: VfioPciCoreDevice, position: int, count: int, data: bytes | None) -> bytes:
    """Read or write (`data`) configuration space, piece by piece. EFAULT beyond its end, with what lies before it written."""
    found, end = b"", position + count
    while position < end:
        await refuse_outside(core, position, end - position)
        size = piece(core.config_map, position, end - position)
        if data is None:
            found += (await read_piece(core, position, size)).to_bytes(size, "little")
        else:
            await write_piece(core, position, size, number(data[:size]))
            data = data[size:]
        position += size
    return found


async def read_piece(core: VfioPciCoreDevice, position: int, count: int) -> int:
    """Read one piece as its capability says (the reading half of `vfio_pci_config_rw_single`)."""
    capability = core.config_map[position]
    if capability == INVALID:
        return await hardware_at(core, await changes_of(core), position, count)
    virt, _ = perm_at(core, position, count)
    if capability == BASIC and position < HEADER:
        return await vfio_basic_config_read(core, position, count, virt)
    if has_table(capability, position):
        return await vfio_default_config_read(core, position, count, virt)
    return await vfio_direct_config_read(core, position, count, position - start_of(core.config_map, position))


async def write_piece(core: VfioPciCoreDevice, position: int, count: int, value: int) -> None:
    """Write one piece as its capability says (the writing half of `vfio_pci_config_rw_single`)."""
    capability = core.config_map[position]
    if capability == INVALID or (capability == VENDOR and position < SPACE):
        await set_hardware(core, await changes_of(core), position, count, value)
    elif has_table(capability, position):
        virt, write = perm_at(core, position, count)
        await _WRITE[capability](core, position, count, virt, write, value)


_WRITE: Final = {
    BASIC: vfio_basic_config_write,
    PM: vfio_pm_config_write,
    EXPRESS: vfio_exp_config_write,
    MSI: vfio_msi_config_write,
}
