"""Interrupts: which eventfd is signalled when the device wants attention (drivers/vfio/pci/vfio_pci_intrs.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from .... import uapi
from ....engine import *
from ....uapi import Errno, KernelError
from ...base import Device
from ...firmware import COMMAND
from ...fs.eventfd import EventfdCtx, eventfd_ctx_fdget, eventfd_ctx_put, eventfd_signal
from ..virqfd import vfio_virqfd_disable, vfio_virqfd_enable
from .vfio_pci_priv import OWN, VfioPciCoreDevice, virq_disabled

NONE, BOOL, EVENTFD = uapi.VFIO_IRQ_SET_DATA_NONE, uapi.VFIO_IRQ_SET_DATA_BOOL, uapi.VFIO_IRQ_SET_DATA_EVENTFD
INTX, MSI, MSIX = uapi.VFIO_PCI_INTX_IRQ_INDEX, uapi.VFIO_PCI_MSI_IRQ_INDEX, uapi.VFIO_PCI_MSIX_IRQ_INDEX
NO_IRQ: Final = uapi.VFIO_PCI_NUM_IRQS
TRIGGER: Final = "signals it"
BUS_MASTER: Final = 4  # a bit of the command register


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_send_intx_eventfd(core: VfioPciCoreDevice) -> None:
    """Tell the user of the line interrupt, unless a program has switched it off in configuration space."""
    if await load(core.irq_type) == INTX and not await virq_disabled(core):
        trigger = await xa_load(core.ctx, 0)
        if trigger is not None:
            await eventfd_signal(trigger)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def __vfio_pci_intx_mask(core: VfioPciCoreDevice) -> None:
    """The same for who has `igate`."""
    async with core.irqlock:
        if await load(core.irq_type) == INTX:
            await store(core.masked, True)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_intx_mask(core: VfioPciCoreDevice) -> None:
    """No line interrupt reaches anybody until it is unmasked; nothing to do where it is not enabled."""
    async with core.igate:
        await __vfio_pci_intx_mask(core)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_intx_unmask_handler(core: VfioPciCoreDevice) -> bool:
    """Let line interrupts through again; if the line is up it stays masked, and the answer says that its user is to be told."""
    async with core.irqlock:
        if await load(core.irq_type) != INTX or not await load(core.masked) or await virq_disabled(core):
            return False
        up = await xa_load(core.vdev.dev.registers, "line")
        await store(core.masked, bool(up))
        return bool(up)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def __vfio_pci_intx_unmask(core: VfioPciCoreDevice) -> None:
    """Unmask the line interrupt, and tell of one that has waited for that."""
    if await vfio_pci_intx_unmask_handler(core):
        await vfio_send_intx_eventfd(core)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_intx_unmask(core: VfioPciCoreDevice) -> None:
    """The same for who does not have `igate` yet."""
    async with core.igate:
        await __vfio_pci_intx_unmask(core)


async def open_core(device: Device) -> VfioPciCoreDevice | None:
    """The part of vfio-pci of a function, if that drives it and a program has it open."""
    vdev: Any = await load(device.drvdata)
    core = await load(vdev.driver_data) if vdev is not None else None
    good = isinstance(core, VfioPciCoreDevice) and await load(core.vconfig) is not None
    return core if good else None


async def own_byte(core: VfioPciCoreDevice, at: int, first: int | None = None) -> int:
    """What a register of the function itself has in configuration space, `first` if no program has written it."""
    changed = await load(core.vconfig)
    return int(dict(changed or ()).get(OWN + at, core.vdev.dev.config[at] if first is None else first))


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_intx_handler(device: Device) -> None:
    """The line of a function went up: it is masked at once, and its user is told, who unmasks it when the device is quiet."""
    core = await open_core(device)
    if core is None or await load(core.irq_type) != INTX:
        return
    async with core.irqlock:
        handled = not await load(core.masked)
        if handled:
            await store(core.masked, True)
    if handled:
        say(Phase.PUBLISH, "{} raises its line: it is masked until its user unmasks it.", device)
        await vfio_send_intx_eventfd(core)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_intx_enable(core: VfioPciCoreDevice, trigger: EventfdCtx | None) -> None:
    """Have the line interrupt; masked if a program has switched it off in configuration space."""
    await xa_store(core.ctx, 0, trigger)
    await store(core.masked, await virq_disabled(core))
    await store(core.irq_type, INTX)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_intx_set_signal(core: VfioPciCoreDevice, trigger: EventfdCtx | None) -> None:
    """Another eventfd takes the place of the one that is there."""
    old = await xa_store(core.ctx, 0, trigger)
    if old is not None:
        await eventfd_ctx_put(old, core, TRIGGER)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_msihandler(device: Device, vector: int, masters: Callable[[], Awaitable[bool]]) -> bool:
    """A function sends a message interrupt, which is a write to memory, so that it has to be a master of its bus.

    False if it does not use them now: no vector is enabled, or a program has switched them off in configuration space.
    """
    core = await open_core(device)
    if core is None or await load(core.irq_type) not in (MSI, MSIX):
        return False
    if core.msi_flags and not await own_byte(core, core.msi_flags, 1) & 1:
        return False
    trigger = await xa_load(core.ctx, vector)
    if trigger is not None and await masters():
        await eventfd_signal(trigger)
    return True


async def masters_bus(core: VfioPciCoreDevice) -> bool:
    """May the function write to memory by itself?"""
    return bool(await own_byte(core, COMMAND) & BUS_MASTER)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_msi_enable(core: VfioPciCoreDevice, nvec: int, index: int) -> None:
    """Have so many vectors. ERANGE for none at all."""
    async with core.memory_lock:
        await refuse_if(nvec < 1, Errno.ERANGE, "vectors_wanted", "interrupts cannot be enabled with no vector at all")
    await store(core.vectors, nvec)
    await store(core.irq_type, index)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_msi_set_block(core: VfioPciCoreDevice, start: int, count: int, data: bytes) -> None:
    """Several vectors at once; if one fails, those before it lose their eventfds."""
    for done in range(count):
        number = int.from_bytes(data[4 * done : 4 * done + 4], "little", signed=True)
        try:
            await set_vector(core, start + done, number)
        except KernelError:
            for undo in range(done):
                await set_vector(core, start + undo, -1)
            raise


async def set_vector(core: VfioPciCoreDevice, vector: int, number: int) -> None:
    """The old eventfd of a vector goes, then the new one comes, if there is one. EBADF, EINVAL."""
    old = await xa_store(core.ctx, vector, None)
    if old is not None:
        await eventfd_ctx_put(old, core, TRIGGER)
    if number >= 0:
        await xa_store(core.ctx, vector, await eventfd_ctx_fdget(number, core, TRIGGER))


async def signal_vectors(core: VfioPciCoreDevice, start: int, count: int, flags: int, data: bytes) -> None:
    """Signal by hand, as if the device had done it."""
    for vector in range(start, start + count):
        ctx = await xa_load(core.ctx, vector)
        if ctx is not None and (flags & NONE or data[vector - start]):
            await eventfd_signal(ctx)


async def disable_irqs(core: VfioPciCoreDevice) -> None:
    """No interrupt of the device reaches anybody any more."""
    if await load(core.irq_type) == INTX:
        await vfio_virqfd_disable(core.unmask)
    for vector in await slots_of(core.ctx):
        ctx = await xa_store(core.ctx, vector, None)
        if ctx is not None:
            await eventfd_ctx_put(ctx, core, TRIGGER)
    await store(core.irq_type, NO_IRQ)


async def release_triggers(core: VfioPciCoreDevice) -> None:
    """At the last close every eventfd is given back."""
    async with core.igate:
        for place in (core.err_trigger, core.req_trigger):
            if await load(place) is not None:
                await replace_trigger(core, place, None)
        if await load(core.irq_type) != NO_IRQ:
            await disable_irqs(core)


def other_kind(enabled: int) -> str:
    """Which kind of interrupt is in the way."""
    names = {INTX: "the line interrupt", MSI: "MSI", MSIX: "MSI-X"}
    return f"{names.get(enabled, 'nothing')} is enabled, and a device has one kind at a time"


async def check_one_line(start: int, count: int) -> None:
    """EINVAL: there is one line interrupt, number 0."""
    bad = start != 0 or count != 1
    await refuse_if(
        bad, Errno.EINVAL, "one_line", f"there is one line, number 0: {count} from number {start} on are asked for"
    )


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_set_intx_unmask(core: VfioPciCoreDevice, start: int, count: int, flags: int, data: bytes) -> None:
    """Unmask the line interrupt, now or whenever an eventfd is signalled: EINVAL unless it is enabled."""
    await refuse_if(
        await load(core.irq_type) != INTX, Errno.EINVAL, "intx_enabled", "the line interrupt is not enabled"
    )
    await check_one_line(start, count)
    if flags & EVENTFD:
        number = int.from_bytes(data[:4], "little", signed=True)
        if number < 0:
            await vfio_virqfd_disable(core.unmask)
        else:
            await vfio_virqfd_enable(core, vfio_pci_intx_unmask_handler, vfio_send_intx_eventfd, core.unmask, number)
    elif flags & NONE or data[0]:
        await __vfio_pci_intx_unmask(core)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_set_intx_mask(core: VfioPciCoreDevice, start: int, count: int, flags: int, data: bytes) -> None:
    """Mask the line interrupt: EINVAL unless it is enabled, ENOTTY to have it done by an eventfd, which nobody has written."""
    await refuse_if(
        await load(core.irq_type) != INTX, Errno.EINVAL, "intx_enabled", "the line interrupt is not enabled"
    )
    await check_one_line(start, count)
    await refuse_if(
        bool(flags & EVENTFD), Errno.ENOTTY, "mask_by_hand", "an eventfd can unmask an interrupt, not mask it"
    )
    if flags & NONE or data[0]:
        await __vfio_pci_intx_mask(core)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_set_intx_trigger(core: VfioPciCoreDevice, start: int, count: int, flags: int, data: bytes) -> None:
    """Enable, change, disable or signal the line interrupt. EINVAL while another kind is enabled."""
    enabled = await load(core.irq_type)
    if enabled == INTX and not count and flags & NONE:
        await disable_irqs(core)
        return
    await refuse_if(enabled not in (INTX, NO_IRQ), Errno.EINVAL, "one_kind_of_irq", other_kind(enabled))
    await check_one_line(start, count)
    if flags & EVENTFD:
        number = int.from_bytes(data[:4], "little", signed=True)
        trigger = await eventfd_ctx_fdget(number, core, TRIGGER) if number >= 0 else None
        if enabled == INTX:
            await vfio_intx_set_signal(core, trigger)
        else:
            await vfio_intx_enable(core, trigger)
        return
    await refuse_if(enabled != INTX, Errno.EINVAL, "intx_enabled", "the line interrupt is not enabled")
    if flags & NONE or data[0]:
        await vfio_send_intx_eventfd(core)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_set_msi_trigger(
    core: VfioPciCoreDevice, index: int, start: int, count: int, flags: int, data: bytes
) -> None:
    """Enable, change, disable or signal message interrupts. EINVAL while another kind is enabled."""
    enabled = await load(core.irq_type)
    if enabled == index and not count and flags & NONE:
        await disable_irqs(core)
        return
    await refuse_if(enabled not in (index, NO_IRQ), Errno.EINVAL, "one_kind_of_irq", other_kind(enabled))
    if not flags & EVENTFD:
        await refuse_if(enabled != index, Errno.EINVAL, "msi_enabled", "these interrupts are not enabled")
        await signal_vectors(core, start, count, flags, data)
        return
    if enabled == index and index == MSI:
        allocated = await load(core.vectors)
        more = start + count > allocated
        why = f"{allocated} vectors are allocated; to have {start + count}, disable all of them first"
        await refuse_if(more, Errno.EINVAL, "vectors_allocated", why)
    if enabled == NO_IRQ:
        await vfio_msi_enable(core, start + count, index)
    try:
        await vfio_msi_set_block(core, start, count, data)
    except KernelError:
        if enabled == NO_IRQ:
            await disable_irqs(core)
        raise


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_set_ctx_trigger_single(
    core: VfioPciCoreDevice, place: Field[EventfdCtx | None], start: int, count: int, flags: int, data: bytes
) -> None:
    """The error and the request interrupt: set, take away (fd −1, or a count of 0), or signal by hand. EINVAL."""
    known = await load(place)
    if flags & NONE:
        await refuse_if(known is None, Errno.EINVAL, "trigger_is_set", "no eventfd is set for this interrupt")
        if count and known is not None:
            await eventfd_signal(known)
        else:
            await replace_trigger(core, place, None)
        return
    await refuse_if(count == 0, Errno.EINVAL, "one_irq", "data for no interrupt at all")
    if flags & BOOL:
        if data[0] and known is not None:
            await eventfd_signal(known)
        return
    number = int.from_bytes(data[:4], "little", signed=True)
    await refuse_if(
        number < -1, Errno.EINVAL, "fd_or_minus_one", f"a descriptor, or −1 to take the eventfd away, and not {number}"
    )
    await replace_trigger(core, place, await eventfd_ctx_fdget(number, core, TRIGGER) if number >= 0 else None)


async def replace_trigger(core: VfioPciCoreDevice, place: Field[EventfdCtx | None], new: EventfdCtx | None) -> None:
    """Another eventfd, or none, takes the place of the one that is there."""
    say(Phase.PUBLISH, "From now on {} is signalled." if new is not None else "Nobody is told any more.", new)
    old = await load(place)
    await store(place, new)
    if old is not None:
        await eventfd_ctx_put(old, core, TRIGGER)


@kernel("drivers/vfio/pci/vfio_pci_intrs.c")
async def vfio_pci_set_irqs_ioctl(
    core: VfioPciCoreDevice, flags: int, index: int, start: int, count: int, data: bytes
) -> None:
    """What VFIO_DEVICE_SET_IRQS does after its checks: ENOTTY for an action that this kind of interrupt has not."""
    action = flags & uapi.VFIO_IRQ_SET_ACTION_TYPE_MASK
    trigger = action == uapi.VFIO_IRQ_SET_ACTION_TRIGGER
    masking = action in (uapi.VFIO_IRQ_SET_ACTION_MASK, uapi.VFIO_IRQ_SET_ACTION_UNMASK)
    express = core.vdev.dev.hardware.express
    if index == INTX and masking:
        masks = action == uapi.VFIO_IRQ_SET_ACTION_MASK
        await (vfio_pci_set_intx_mask if masks else vfio_pci_set_intx_unmask)(core, start, count, flags, data)
    elif index == INTX and trigger:
        await vfio_pci_set_intx_trigger(core, start, count, flags, data)
    elif index in (MSI, MSIX) and trigger:
        await vfio_pci_set_msi_trigger(core, index, start, count, flags, data)
    elif index == uapi.VFIO_PCI_ERR_IRQ_INDEX and trigger and express:
        await vfio_pci_set_ctx_trigger_single(core, core.err_trigger, start, count, flags, data)
    elif index == uapi.VFIO_PCI_REQ_IRQ_INDEX and trigger:
        await vfio_pci_set_ctx_trigger_single(core, core.req_trigger, start, count, flags, data)
    else:
        await refuse_if(True, Errno.ENOTTY, "irq_has_action", "this kind of interrupt has no such action")
