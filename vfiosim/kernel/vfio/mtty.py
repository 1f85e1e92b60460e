"""A mediated serial port: an emulated device without DMA (samples/vfio-mdev/mtty.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ... import uapi
from ...engine import *
from ...uapi import Errno, VfioIrqInfo, VfioIrqSet, VfioRegionInfo
from ..base import BusDriver, Device
from ..bus import Buses
from ..fs.eventfd import eventfd_ctx_fdget, eventfd_ctx_put, eventfd_signal
from ..unsupported import Unsupported
from .iommufd import (
    vfio_iommufd_emulated_attach_ioas,
    vfio_iommufd_emulated_bind,
    vfio_iommufd_emulated_detach_ioas,
    vfio_iommufd_emulated_unbind,
)
from .mtty_migration import (
    FIFO,
    NO_IRQ,
    RUNNING,
    MdevState,
    mtty_disable_files,
    mtty_migration_ops,
    mtty_reset,
    ports_of,
    state_of,
)
from .pci.vfio_pci_core import (
    CONFIG,
    INFO_MINSZ,
    IRQ_INFO_MINSZ,
    OFFSET_SHIFT,
    READ_WRITE,
    ROM,
    read_device_info,
    write_device_info,
)
from .pci.vfio_pci_intrs import check_one_line, other_kind
from .vfio import Vfio, VfioDevice, VfioDeviceOps
from .vfio_main import IRQ_SET_MINSZ, __vfio_register_dev, register, unregister, vfio_set_irqs_validate_and_prepare

INTX, MSI = uapi.VFIO_PCI_INTX_IRQ_INDEX, uapi.VFIO_PCI_MSI_IRQ_INDEX
CONFIG_SPACE: Final = (
    bytes.fromhex(
        "48435332 01000002 10020007 00000000 01000000 01000000" + 20 * "00" + "48435332" + 12 * "00" + "00010000"
        "23000080 23000000 23000000 23000000" + 16 * "00"
    )
    + b"PCI Serial/UART"
)
BAR0, INTERRUPT_LINE = 0x10, 0x3C
CONFIG_MEMORY: Final = 256  # that was allocated for it
PORTS_MASK: Final = 0xFFFFFFF8  # of a BAR of 8 ports
TX, IER, FCR, LCR, MCR, LSR, MSR, SCR = range(8)  # registers of a port; reading FCR tells why there was an interrupt
DATA, ROOM, LINE_STATUS, MODEM = 1, 2, 4, 8  # bits of IER: what an interrupt is wanted for
DLAB, CLEAR, ENABLE_FIFO, OUT2, READY_LINES, AUTO_FLOW = 0x80, 0x06, 0x01, 0x08, 0x03, 0x20
MAX_TTYS: Final = 24  # serial ports that all devices have together
MIGRATION: Final = 7  # stop-copy, peer-to-peer and pre-copy
_SILENT: Final = (uapi.VFIO_PCI_MSIX_IRQ_INDEX, uapi.VFIO_PCI_ERR_IRQ_INDEX, uapi.VFIO_PCI_REQ_IRQ_INDEX)


async def take_ports(device: Device) -> None:
    """A new device takes its ports. ENOSPC if mtty has not so many left (the beginning of `mtty_init_dev`)."""
    wanted = ports_of(device.spec.model)
    while True:
        left = await load(device.buses.mtty_ports)
        lacks = left < wanted
        await refuse_if(
            lacks, Errno.ENOSPC, "ports_left", f"mtty has {MAX_TTYS} serial ports, and {left} of them are free"
        )
        if await try_cmpxchg(device.buses.mtty_ports, left, left - wanted):
            return


async def give_ports_back(device: Device) -> None:
    """They are free again."""
    left = await load(device.buses.mtty_ports)
    while not await try_cmpxchg(device.buses.mtty_ports, left, left + ports_of(device.spec.model)):
        left = await load(device.buses.mtty_ports)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_open_device(device: VfioDevice) -> None:
    """Nothing to prepare."""


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_ioctl_set_irqs(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_SET_IRQS: EFAULT, EINVAL (the header), EFAULT (its data), ENOTTY for kinds that mtty does not have."""
    hdr = VfioIrqSet.from_buffer_copy(await copy_from_user(argument, IRQ_SET_MINSZ))
    state = await state_of(device)
    size = await vfio_set_irqs_validate_and_prepare(hdr, await load(state.num_irqs), uapi.VFIO_PCI_NUM_IRQS)
    data = await copy_from_user(argument + IRQ_SET_MINSZ, size) if size else b""
    async with state.ops_lock:
        await mtty_set_irqs(state, hdr.flags, hdr.index, hdr.start, hdr.count, data)
    return 0


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_trigger_interrupt(state: MdevState) -> None:
    """Tell the user; the line interrupt is masked from then on, until its user unmasks it."""
    line = await load(state.irq_index) == INTX
    evtfd = await load(state.evtfd)
    if evtfd is None or (line and await load(state.intx_mask)):
        return
    await eventfd_signal(evtfd)
    if line:
        await store(state.intx_mask, True)


@kernel("samples/vfio-mdev/mtty.c")
async def handle_pci_cfg_write(device: VfioDevice, state: MdevState, position: int, value: int, width: int) -> None:
    """Write configuration space: the interrupt line, and BARs, which tell their size. What was not written is zero in a BAR."""
    if position == INTERRUPT_LINE:
        await xa_store(state.vconfig, position, value & 0xFF)
    if position not in range(BAR0, BAR0 + 20, 4):
        return
    bar = (position - BAR0) // 4
    if width < 4 and bar < 2:
        raise Unsupported("a BAR of mtty that is written in part, with what lies behind it in memory")
    before = await config_of(device, state, position, 4)
    if bar not in device.dev.hardware.bars:
        value = 0
    else:
        value = (value & PORTS_MASK if value == 0xFFFFFFFF else value) | before[0] & 3
    for index, byte in enumerate(value.to_bytes(4, "little")):
        await xa_store(state.vconfig, position + index, byte)


# ---- a serial port: what is sent comes back


async def port(state: MdevState, name: str) -> int:
    """A register of a port."""
    return await xa_load(state.ports, name) or 0


async def is_empty(state: MdevState, which: str) -> bool:
    """Is nothing on its way? Sixteen bytes look like none."""
    return await port(state, which + "head") == await port(state, which + "tail")


async def room_of(state: MdevState, which: str) -> int:
    """How many bytes can be on their way; 16 until something else was said."""
    return FIFO - (await port(state, which + "less"))


@kernel("samples/vfio-mdev/mtty.c")
async def handle_bar_write(state: MdevState, which: str, at: int, data: int) -> None:
    """Write a register of a port."""
    latch = await port(state, which + "dlab")
    if at in (TX, IER) and latch:
        await xa_store(state.ports, which + "divisor", await port(state, which + "divisor") | data << 8 * at)
    elif at == TX:
        async with state.rxtx_lock:
            await send(state, which, data)
    elif at == IER:
        await xa_store(state.ports, which + "IER", data)
        async with state.rxtx_lock:
            if data & ROOM and await is_empty(state, which):
                await mtty_trigger_interrupt(state)
    elif at == FCR:
        await set_fifo(state, which, data)
    elif at == LCR:
        await xa_store(state.ports, which + "LCR", data)
        await xa_store(state.ports, which + "dlab", int(bool(data & DLAB)))
        if data & DLAB:
            await xa_store(state.ports, which + "divisor", 0)
    elif at in (MCR, SCR):
        await xa_store(state.ports, which + ("MCR" if at == MCR else "SCR"), data)
        await tell_of_modem(state, which, data if at == MCR else 0)


async def send(state: MdevState, which: str, data: int) -> None:
    """A byte is sent, and comes back if there is room for it."""
    waiting, ier = await port(state, which + "count"), await port(state, which + "IER")
    full = waiting >= await room_of(state, which)
    await xa_store(state.ports, which + "overrun", int(full))
    if full:
        tells = ier & LINE_STATUS
    else:
        head = await port(state, which + "head")
        before = await xa_load(state.fifo, which) or bytes(FIFO)
        await xa_store(state.fifo, which, before[:head] + bytes([data]) + before[head + 1 :])
        await xa_store(state.ports, which + "count", waiting + 1)
        await xa_store(state.ports, which + "head", (head + 1) % FIFO)
        tells = ier & DATA and waiting + 1 == await port(state, which + "level")
    if tells:
        await mtty_trigger_interrupt(state)


async def set_fifo(state: MdevState, which: str, data: int) -> None:
    """Forget what is on its way, and say how much may be; an interrupt comes with each byte from then on."""
    await xa_store(state.ports, which + "fcr", data)
    async with state.rxtx_lock:
        for name in ("count", "head", "tail") if data & CLEAR else ():
            await xa_store(state.ports, which + name, 0)
    await xa_store(state.ports, which + "level", 1)
    await xa_store(state.ports, which + "less", 0 if data & ENABLE_FIFO else FIFO - 1)


async def tell_of_modem(state: MdevState, which: str, lines: int) -> None:
    """The lines to a modem come back as interrupts."""
    wanted = await port(state, which + "IER") & MODEM
    for some in (OUT2, READY_LINES) if wanted else ():
        if lines & some:
            await mtty_trigger_interrupt(state)


@kernel("samples/vfio-mdev/mtty.c")
async def handle_bar_read(state: MdevState, which: str, at: int) -> int:
    """Read a register of a port; 0 where there is none."""
    latch = await port(state, which + "dlab")
    if at in (TX, IER) and latch:
        return await port(state, which + "divisor") >> 8 * at & 0xFF
    if at == TX:
        async with state.rxtx_lock:
            return await receive(state, which)
    if at == IER:
        return await port(state, which + "IER") & 0xF
    if at in (FCR, LSR, MSR):
        async with state.rxtx_lock:
            return await {FCR: read_iir, LSR: read_lsr, MSR: read_msr}[at](state, which)
    return await port(state, which + {LCR: "LCR", MCR: "MCR", SCR: "SCR"}.get(at, "none"))


async def receive(state: MdevState, which: str) -> int:
    """The oldest byte on its way, 0 if there is none."""
    found, tail = 0, await port(state, which + "tail")
    if not await is_empty(state, which):
        found = (await xa_load(state.fifo, which) or bytes(FIFO))[tail]
        await xa_store(state.ports, which + "count", await port(state, which + "count") - 1)
        await xa_store(state.ports, which + "tail", (tail + 1) % FIFO)
    if await is_empty(state, which) and await port(state, which + "IER") & ROOM:
        await mtty_trigger_interrupt(state)
    return found


async def read_iir(state: MdevState, which: str) -> int:
    """Why there was an interrupt."""
    ier, found = await port(state, which + "IER"), 0
    if ier & LINE_STATUS and await port(state, which + "overrun"):
        found |= 6
    if ier & DATA and await port(state, which + "count") >= await port(state, which + "level"):
        found |= 4
    if ier & ROOM and await is_empty(state, which):
        found |= 2
    # a change of the lines to a modem is told by no bit at all (UART_IIR_MSI is 0)
    return (found or 1) | 0xC0


async def read_lsr(state: MdevState, which: str) -> int:
    """Is there something to read, was something lost, is there room?"""
    empty = await is_empty(state, which)
    return (0x60 if empty else 0x01) | 2 * await port(state, which + "overrun")


async def read_msr(state: MdevState, which: str) -> int:
    """The lines from a modem."""
    flow = await port(state, which + "MCR") & AUTO_FLOW
    clear = not flow or await port(state, which + "count") < await room_of(state, which)
    return 0xA2 | 0x11 * clear


@kernel("samples/vfio-mdev/mtty.c")
async def mdev_access(device: VfioDevice, at: int, width: int, value: int | None) -> int:
    """Read a piece, or write `value` into it. EFAULT beyond the last region that it has."""
    index, position = at >> OFFSET_SHIFT, at & (1 << OFFSET_SHIFT) - 1
    state = await state_of(device)
    async with state.ops_lock:
        none = index > CONFIG or index == ROM
        await refuse_if(none, Errno.EFAULT, "region_exists", "the device has no such region")
        if index == CONFIG and value is None:
            if position + width > CONFIG_MEMORY:
                raise Unsupported("memory behind the configuration space of mtty")
            return int.from_bytes(await config_of(device, state, position, width), "little")
        position &= 0xFFFF  # of 16 bits wherever the driver hands it on
        if index == CONFIG:
            assert value is not None
            await handle_pci_cfg_write(device, state, position, value, width)
        elif index > 1 and position <= SCR and await lies_elsewhere(state, index, position, value is not None):
            raise Unsupported("memory behind the ports of mtty")
        elif value is None:
            return await handle_bar_read(state, f"{index}.", position)
        else:
            await handle_bar_write(state, f"{index}.", position, value & 0xFF)
    return 0


async def lies_elsewhere(state: MdevState, index: int, position: int, writes: bool) -> bool:
    """Is a register of a port that there is not something else in `struct mdev_state` that is not zero just now?

    Locks that nobody has, answers that nobody has asked for and files that are not there look like a port that nobody has used.
    """
    asked, state_now = await load(state.num_irqs), await load(state.state)
    return writes or (index == 2 and position in (TX, LSR) and asked > 0) or (index == 5 and state_now != RUNNING)


async def config_of(device: VfioDevice, state: MdevState, position: int, width: int) -> bytes:
    """Bytes of its configuration space."""
    space = CONFIG_SPACE if 1 in device.dev.hardware.bars else CONFIG_SPACE[:20] + bytes(4) + CONFIG_SPACE[24:]
    found = bytearray(space.ljust(CONFIG_MEMORY, b"\0")[position : position + width])
    for index in range(width):
        written = await xa_load(state.vconfig, position + index)
        found[index] = found[index] if written is None else written
    return bytes(found)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_init_dev(device: VfioDevice) -> None:
    """The part of the device that mtty adds."""
    await store(device.driver_data, await alloc(MdevState, device))


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_probe(vfio: Vfio, device: Device, driver: BusDriver) -> None:
    """mtty takes a mediated device."""
    await take_ports(device)
    async with on_failure(give_ports_back, device):
        vdev = await register(vfio, device, driver, mtty_dev_ops)
    await mtty_init_dev(vdev)
    await __vfio_register_dev(vdev, driver)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_release_dev(device: VfioDevice) -> None:
    """The memory of the device goes, and its ports are free."""
    await give_ports_back(device.dev)


async def available_instances(buses: Buses, kind: str) -> str:
    """How many more devices of this type there can be (`mtty_get_available`)."""
    left = await load(buses.mtty_ports)
    return str(left // ports_of(kind))


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_remove(device: Device, driver: BusDriver) -> None:
    """mtty lets go of a mediated device."""
    await unregister(device, driver)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_read(device: VfioDevice, size: int, offset: int) -> bytes:
    """Read from a region, in pieces of 4, 2 or 1 bytes. EFAULT where there is no region."""
    found = b""
    while len(found) < size:
        at, left = offset + len(found), size - len(found)
        width = 4 if left >= 4 and not at % 4 else 2 if left >= 2 and not at % 2 else 1
        found += (await mdev_access(device, at, width, None)).to_bytes(width, "little")
    return found


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_write(device: VfioDevice, data: bytes, offset: int) -> int:
    """Write into a region, likewise."""
    done = 0
    while done < len(data):
        at, left = offset + done, len(data) - done
        width = 4 if left >= 4 and not at % 4 else 2 if left >= 2 and not at % 2 else 1
        await mdev_access(device, at, width, int.from_bytes(data[done : done + width], "little"))
        done += width
    return done


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_set_irqs(state: MdevState, flags: int, index: int, start: int, count: int, data: bytes) -> None:
    """Enable, disable, mask or signal one of its two kinds of interrupts; one kind at a time; without one action nothing."""
    action = flags & uapi.VFIO_IRQ_SET_ACTION_TYPE_MASK
    masks = action in (uapi.VFIO_IRQ_SET_ACTION_MASK, uapi.VFIO_IRQ_SET_ACTION_UNMASK)
    none = index in _SILENT or (index == MSI and masks)
    await refuse_if(none, Errno.ENOTTY, "irq_has_action", "mtty has no such interrupt, or cannot mask it")
    if not masks and action != uapi.VFIO_IRQ_SET_ACTION_TRIGGER:
        return
    enabled = await load(state.irq_index)
    if masks:
        await refuse_if(enabled != INTX, Errno.EINVAL, "intx_enabled", "the line interrupt is not enabled")
        await check_one_line(start, count)
        await mask_or_unmask(state, flags, data)
        return
    if enabled == index and not count and flags & uapi.VFIO_IRQ_SET_DATA_NONE:
        await mtty_disable_irq(state)
        return
    await refuse_if(enabled not in (index, NO_IRQ), Errno.EINVAL, "one_kind_of_irq", other_kind(enabled))
    await check_one_line(start, count)
    if flags & uapi.VFIO_IRQ_SET_DATA_EVENTFD:
        await mtty_disable_irq(state)
        number = int.from_bytes(data[:4], "little", signed=True)
        if number >= 0:
            await store(state.evtfd, await eventfd_ctx_fdget(number, state, "signals it"))
            await store(state.irq_index, index)
        return
    await refuse_if(enabled != index, Errno.EINVAL, "irq_enabled", "this interrupt is not enabled")
    if flags & uapi.VFIO_IRQ_SET_DATA_NONE or data[0]:
        await mtty_trigger_interrupt(state)


async def mask_or_unmask(state: MdevState, flags: int, data: bytes) -> None:
    """Mask or unmask the line interrupt. ENOTTY to have it done by an eventfd."""
    by_fd = bool(flags & uapi.VFIO_IRQ_SET_DATA_EVENTFD)
    await refuse_if(by_fd, Errno.ENOTTY, "mask_by_hand", "mtty does not mask interrupts by an eventfd")
    if flags & uapi.VFIO_IRQ_SET_DATA_NONE or data[0]:
        await store(state.intx_mask, bool(flags & uapi.VFIO_IRQ_SET_ACTION_MASK))


async def mtty_disable_irq(state: MdevState) -> None:
    """Its interrupts go nowhere any more (`mtty_disable_intx`, `mtty_disable_msi`)."""
    evtfd = await load(state.evtfd)
    if evtfd is not None:
        await eventfd_ctx_put(evtfd, state, "signals it")
        await store(state.evtfd, None)
        if await load(state.irq_index) == INTX:
            await store(state.intx_mask, False)
        await store(state.irq_index, NO_IRQ)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_ioctl_get_region_info(device: VfioDevice, info: VfioRegionInfo) -> bytes:
    """Every region of a PCI device is there, most of them empty. EINVAL for others."""
    absent = info.index >= uapi.VFIO_PCI_NUM_REGIONS
    why = f"the device has no region {info.index}; its last is {uapi.VFIO_PCI_NUM_REGIONS - 1}"
    await refuse_if(absent, Errno.EINVAL, "region_exists", why)
    hardware = device.dev.hardware
    info.size = hardware.config_size if info.index == CONFIG else hardware.bars.get(info.index, 0)
    info.offset, info.flags = info.index << OFFSET_SHIFT, READ_WRITE
    return b""


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_get_irq_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_IRQ_INFO: EFAULT, EINVAL (argsz below 16, index): one line and one message interrupt.

    EINVAL too as long as nobody has asked for GET_INFO.
    """
    info = VfioIrqInfo.from_buffer_copy(await copy_from_user(argument, IRQ_INFO_MINSZ))
    known = (uapi.VFIO_PCI_INTX_IRQ_INDEX, uapi.VFIO_PCI_MSI_IRQ_INDEX)
    kinds = await load((await state_of(device)).num_irqs)
    short = info.argsz < IRQ_INFO_MINSZ
    await refuse_if(
        short, Errno.EINVAL, "argsz_minimum", f"argsz is {info.argsz}, and must be at least {IRQ_INFO_MINSZ}"
    )
    why = f"mtty knows {kinds} kinds of interrupts, and none before GET_INFO was asked for; this is kind {info.index}"
    await refuse_if(info.index >= kinds, Errno.EINVAL, "irq_index_known", why)
    other = info.index not in known
    await refuse_if(
        other, Errno.EINVAL, "device_has_irq", f"mtty has a line interrupt (0) and MSI (1), and not {info.index}"
    )
    line = info.index == uapi.VFIO_PCI_INTX_IRQ_INDEX
    more = uapi.VFIO_IRQ_INFO_MASKABLE | uapi.VFIO_IRQ_INFO_AUTOMASKED if line else uapi.VFIO_IRQ_INFO_NORESIZE
    info.flags, info.count = uapi.VFIO_IRQ_INFO_EVENTFD | more, 1
    await copy_to_user(argument, bytes(info))
    return 0


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_get_device_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_INFO: as PCI devices answer it; its own answer is what mtty knows of its interrupts."""
    info = await read_device_info(argument)
    await store((await state_of(device)).num_irqs, uapi.VFIO_PCI_NUM_IRQS)
    return await write_device_info(info, argument, uapi.VFIO_DEVICE_FLAGS_PCI, INFO_MINSZ)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_ioctl(device: VfioDevice, cmd: int, argument: int) -> int:
    """Requests that the driver answers itself; it looks like a PCI device. A reset always works."""
    if cmd == uapi.VFIO_DEVICE_GET_INFO:
        return await mtty_get_device_info(device, argument)
    if cmd == uapi.VFIO_DEVICE_GET_IRQ_INFO:
        return await mtty_get_irq_info(device, argument)
    if cmd == uapi.VFIO_DEVICE_SET_IRQS:
        return await mtty_ioctl_set_irqs(device, argument)
    unknown = cmd != uapi.VFIO_DEVICE_RESET
    await refuse_if(unknown, Errno.ENOTTY, "driver_knows_request", f"the device's driver has no request {cmd:#x}")
    return await mtty_reset(await state_of(device))


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_close_device(device: VfioDevice) -> None:
    """Nobody reads or writes its state any more, and its interrupts go nowhere (`mtty_close`)."""
    state = await state_of(device)
    await mtty_disable_files(state)
    await mtty_disable_irq(state)


mtty_dev_ops = VfioDeviceOps(
    "mtty",
    bind_iommufd=vfio_iommufd_emulated_bind,
    unbind_iommufd=vfio_iommufd_emulated_unbind,
    open_device=mtty_open_device,
    close_device=mtty_close_device,
    release=mtty_release_dev,
    ioctl=mtty_ioctl,
    get_region_info=mtty_ioctl_get_region_info,
    read=mtty_read,
    write=mtty_write,
    migration_flags=MIGRATION,
    mig_ops=mtty_migration_ops,
    logs_dma=True,
    attach_ioas=vfio_iommufd_emulated_attach_ioas,
    detach_ioas=vfio_iommufd_emulated_detach_ioas,
)
