"""The driver of physical PCI devices (drivers/vfio/pci/vfio_pci_core.c, v7.2)."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from .... import uapi
from ....engine import *
from ....uapi import (
    Errno,
    KernelError,
    VfioDeviceInfo,
    VfioIrqInfo,
    VfioIrqSet,
    VfioPciDependentDevice,
    VfioPciHotReset,
    VfioPciHotResetInfo,
    VfioRegionInfo,
)
from ...base import Device
from ...config import built_with
from ...fs.eventfd import EventfdCtx, eventfd_ctx_fdget, eventfd_ctx_put, eventfd_signal
from ...fs.file import File, Mapping, fget, fput
from ...pci_reset import pci_reset_bus, pci_try_reset_function
from ...regions import PAGE_SIZE
from ...registers import read_register, write_register
from ...uaccess import check_argument
from ...unsupported import Unsupported
from ..iommufd import vfio_iommufd_device_ictx, vfio_iommufd_get_dev_id
from ..vfio import VfioDevice, VfioGroup
from ..vfio_main import IRQ_SET_MINSZ, SET, vfio_check_feature, vfio_set_irqs_validate_and_prepare
from .vfio_pci_config import (
    IOEVENTFDS,
    LOW_POWER,
    __vfio_pci_memory_enabled,
    change,
    changes_of,
    lend_again,
    set_power_state,
    tables_for,
    vfio_config_free,
    vfio_config_init,
    vfio_pci_config_rw,
    wake,
)
from .vfio_pci_dmabuf import vfio_pci_core_feature_dma_buf, vfio_pci_dma_buf_cleanup, vfio_pci_dma_buf_move
from .vfio_pci_intrs import masters_bus, release_triggers, vfio_pci_set_irqs_ioctl
from .vfio_pci_priv import VfioPciCoreDevice, VfioPciVfToken, core_of
from .vfio_pci_rdwr import forget_ioeventfds, table_of, vfio_pci_bar_rw, vfio_pci_ioeventfd

INFO_MINSZ: Final = 16  # up to and including num_irqs
IRQ_INFO_MINSZ: Final = 16
IOEVENTFD_MINSZ: Final = 28
TOKEN_ARGUMENT = b"vf_token="
UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
UUID_LENGTH = 36
OFFSET_SHIFT: Final = 40  # the index of a region is in the upper bits of an offset
_MASK: Final = (1 << OFFSET_SHIFT) - 1
CONFIG, ROM, VGA = uapi.VFIO_PCI_CONFIG_REGION_INDEX, uapi.VFIO_PCI_ROM_REGION_INDEX, uapi.VFIO_PCI_VGA_REGION_INDEX
TABLE_WIDTH: Final = 4  # of an access to the table of message interrupts at least
WAKES = "tells that it wakes"
READ_WRITE: Final = uapi.VFIO_REGION_INFO_FLAG_READ | uapi.VFIO_REGION_INFO_FLAG_WRITE
MSIX_MAPPABLE: Final = uapi.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE.to_bytes(2, "little") + b"\1\0" + bytes(4)
HEADER: Final = 12
ENTRY: Final = 8


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_runtime_pm_entry(core: VfioPciCoreDevice, ctx: EventfdCtx | None) -> None:
    """The function may sleep while no program uses it. EINVAL if it may already; each use wakes it for a while."""
    async with core.memory_lock:
        await vfio_pci_dma_buf_move(core, True)
        engaged = bool((await changes_of(core)).get(LOW_POWER))
        await refuse_if(engaged, Errno.EINVAL, "not_in_low_power", "the function may sleep already")
        await change(core, {LOW_POWER: 1})
        if ctx is not None:
            await store(core.pm_wake_eventfd_ctx, ctx)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_pm_entry_with_wakeup(core: VfioPciCoreDevice, data: int) -> None:
    """The same with an eventfd that tells when it has to wake: EFAULT, EINVAL (a negative number), EBADF, EINVAL (another file).

    Without CONFIG_PM, as the recorded kernel is built, it never sleeps: nothing wakes it, and nobody is told.
    """
    number = int.from_bytes((await copy_from_user(data, 8))[:4], "little", signed=True)
    await refuse_if(number < 0, Errno.EINVAL, "eventfd_number_possible", f"{number} is no descriptor")
    ctx = await eventfd_ctx_fdget(number, core, WAKES)
    async with on_failure(eventfd_ctx_put, ctx, core, WAKES):
        await vfio_pci_runtime_pm_entry(core, ctx)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_runtime_pm_exit(core: VfioPciCoreDevice) -> None:
    """It may not, from now on."""
    async with core.memory_lock:
        await change(core, {LOW_POWER: 0})
        await forget_waker(core)
        await lend_again(core)


async def forget_waker(core: VfioPciCoreDevice) -> None:
    """Nobody is told any more when it wakes."""
    ctx = await exchange(core.pm_wake_eventfd_ctx, None)
    if ctx is not None:
        await eventfd_ctx_put(ctx, core, WAKES)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_enable(core: VfioPciCoreDevice) -> None:
    """The function begins anew, if it can be reset alone: EAGAIN while its driver comes or goes. Then its tables are made."""
    await store(core.reset_works, await pci_try_reset_function(core.vdev.dev))
    await vfio_config_init(core)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_close_device(device: VfioDevice) -> None:
    """Put the hardware to rest: its interrupts go nowhere any more, its configuration space cannot be read."""
    core = await core_of(device)
    await vf_token_close(core)
    await vfio_pci_dma_buf_cleanup(core)
    await release_triggers(core)
    changed = await vfio_config_free(core)
    if changed.get(LOW_POWER):
        async with core.memory_lock:
            await forget_waker(core)
    if IOEVENTFDS in changed:
        await forget_ioeventfds(core)


async def read_device_info(argument: int) -> VfioDeviceInfo:
    """The argument of VFIO_DEVICE_GET_INFO: EFAULT, EINVAL for argsz below 16."""
    info = VfioDeviceInfo.from_buffer_copy((await copy_from_user(argument, INFO_MINSZ)).ljust(24, b"\0"))
    await refuse_if(info.argsz < INFO_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {INFO_MINSZ}")
    return info


async def write_device_info(info: VfioDeviceInfo, argument: int, flags: int, most: int = 24) -> int:
    """As much of the answer goes back as the caller has room for, and no more than `most` bytes. EFAULT."""
    room = min(info.argsz, most)
    info.flags, info.num_regions, info.num_irqs = flags, uapi.VFIO_PCI_NUM_REGIONS, uapi.VFIO_PCI_NUM_IRQS
    await copy_to_user(argument, bytes(info)[:room])
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_fill_devs(device: VfioDevice, other: Device, by_id: bool) -> VfioPciDependentDevice:
    """One entry of the list: where the function is, and its ID in the caller's iommufd or the number of its iommu_group."""
    entry = VfioPciDependentDevice()
    address = other.address
    entry.segment, entry.bus = int(address[:4], 16), int(address[5:7], 16)
    entry.devfn = int(address[8:10], 16) << 3 | int(address[11:], 16)
    if not by_id:
        group = await require(
            await load(other.iommu_group),
            Errno.EPERM,
            "device_isolated",
            f"{other.label} would be reset too, and has no iommu_group",
        )
        entry.group_id = group.id
        return entry
    listed = [vdev for vdev in await load(device.dev_set.device_list) if vdev.dev is other]
    ictx = await vfio_iommufd_device_ictx(device)
    entry.devid = (await vfio_iommufd_get_dev_id(listed[0], ictx) if listed else -1) & 0xFFFFFFFF
    return entry


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_info(device: VfioDevice, argument: int) -> int:
    """A PCI device; RESET if the function can be reset on its own."""
    works = await load((await core_of(device)).reset_works)
    reset = uapi.VFIO_DEVICE_FLAGS_RESET if works else 0
    return await write_device_info(await read_device_info(argument), argument, uapi.VFIO_DEVICE_FLAGS_PCI | reset)


def vfio_pci_get_irq_count(device: VfioDevice, index: int) -> int:
    """How many interrupts of this kind the device has."""
    hardware = device.dev.hardware
    counts = (hardware.intx, hardware.msi, hardware.msix, int(hardware.express), 1)
    return counts[index] if index < len(counts) else 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_region_info(device: VfioDevice, info: VfioRegionInfo) -> bytes:
    """Size, offset and flags of a region: BARs, ROM, configuration space; EINVAL for others. The answer is its capabilities."""
    hardware = device.dev.hardware
    absent = info.index >= VGA  # nothing here has the registers of old graphics cards, nor regions of its own
    await refuse_if(
        absent, Errno.EINVAL, "region_exists", f"the device has no region {info.index}; its last is {VGA - 1}"
    )
    info.offset = info.index << OFFSET_SHIFT
    info.flags = info.size = 0
    if info.index == CONFIG:
        info.size, info.flags = hardware.config_size, READ_WRITE
        return b""
    size = hardware.bars.get(info.index, 0)
    if not size:
        return b""
    info.size, info.flags = size, READ_WRITE
    if size < PAGE_SIZE:
        return b""
    info.flags |= uapi.VFIO_REGION_INFO_FLAG_MMAP
    return MSIX_MAPPABLE if hardware.msix_bar == info.index else b""


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_irq_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_IRQ_INFO: EFAULT, EINVAL (argsz below 16, index, the error interrupt without PCI Express), EFAULT."""
    info = VfioIrqInfo.from_buffer_copy(await copy_from_user(argument, IRQ_INFO_MINSZ))
    short = info.argsz < IRQ_INFO_MINSZ
    await refuse_if(
        short, Errno.EINVAL, "argsz_minimum", f"argsz is {info.argsz}, and must be at least {IRQ_INFO_MINSZ}"
    )
    kinds = uapi.VFIO_PCI_NUM_IRQS
    why = f"kinds of interrupts are 0 to {kinds - 1}, not {info.index}"
    await refuse_if(info.index >= kinds, Errno.EINVAL, "irq_index_known", why)
    silent = info.index == uapi.VFIO_PCI_ERR_IRQ_INDEX and not device.dev.hardware.express
    await refuse_if(silent, Errno.EINVAL, "device_tells_errors", "only a PCI Express device tells its errors")
    info.flags = uapi.VFIO_IRQ_INFO_EVENTFD
    info.count = vfio_pci_get_irq_count(device, info.index)
    if info.index == uapi.VFIO_PCI_INTX_IRQ_INDEX:
        info.flags |= uapi.VFIO_IRQ_INFO_MASKABLE | uapi.VFIO_IRQ_INFO_AUTOMASKED
    elif info.index != uapi.VFIO_PCI_MSIX_IRQ_INDEX or not device.dev.hardware.msix:
        info.flags |= uapi.VFIO_IRQ_INFO_NORESIZE
    await copy_to_user(argument, bytes(info))
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_set_irqs(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_SET_IRQS: EFAULT, EINVAL (the header), EFAULT (its data), then what this kind of interrupt says."""
    core = await core_of(device)
    hdr = VfioIrqSet.from_buffer_copy(await copy_from_user(argument, IRQ_SET_MINSZ))
    most = vfio_pci_get_irq_count(device, hdr.index)
    size = await vfio_set_irqs_validate_and_prepare(hdr, most, uapi.VFIO_PCI_NUM_IRQS)
    data = await copy_from_user(argument + IRQ_SET_MINSZ, size) if size else b""
    async with core.igate:
        await vfio_pci_set_irqs_ioctl(core, hdr.flags, hdr.index, hdr.start, hdr.count, data)
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_reset(device: VfioDevice) -> int:
    """VFIO_DEVICE_RESET: EINVAL if the function could not be reset alone when it was opened, EAGAIN while a driver comes or goes.

    ENOTTY if that does not work any more.
    """
    core = await core_of(device)
    works = await load(core.reset_works)
    await refuse_if(not works, Errno.EINVAL, "reset_works", "this function cannot be reset on its own")
    async with core.memory_lock:
        await wake(core)
        await vfio_pci_dma_buf_move(core, True)
        async with cleanup(lend_again, core):
            method = await pci_try_reset_function(device.dev)
    await refuse_if(not method, Errno.ENOTTY, "function_resets", "no way to reset this function alone works any more")
    return 0


async def reset_scope(device: VfioDevice) -> tuple[Device, ...]:
    """The functions that a reset of the slot or bus of this one would hit. ENODEV where there is no such reset."""
    dev = device.dev
    physical = await xa_load(dev.bus_devices, dev.spec.physfn)
    scope = physical.spec.dev_set if physical is not None else dev.spec.dev_set
    await refuse_if(
        not scope, Errno.ENODEV, "slot_or_bus_reset", "neither the slot nor the bus of this device can be reset"
    )
    addresses = [address for address in await slots_of(dev.bus_devices) if address[:7] == dev.address[:7]]
    found: list[Device] = []
    for address in addresses:
        other = await xa_load(dev.bus_devices, address)
        if other is not None:
            found.append(other)
    return tuple(found)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_pci_hot_reset_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: EFAULT, EINVAL (argsz below 12), ENODEV, ENOSPC with the count, EFAULT."""
    hdr = VfioPciHotResetInfo.from_buffer_copy(await copy_from_user(argument, HEADER))
    await refuse_if(hdr.argsz < HEADER, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {HEADER}")
    hdr.flags = 0
    hit = await reset_scope(device)
    room = (hdr.argsz - HEADER) // ENTRY
    if len(hit) > room:
        hdr.count = len(hit)
        await copy_to_user(argument, bytes(hdr))
    why = f"argsz has room for {room} devices of the {len(hit)} that would be reset; count says so"
    await refuse_if(len(hit) > room, Errno.ENOSPC, "list_fits", why)
    by_id = await load(device.cdev_opened)
    owned = uapi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID | uapi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED if by_id else 0
    async with device.dev_set.lock:
        entries = [await vfio_pci_fill_devs(device, other, by_id) for other in hit]
    if by_id and any(entry.devid == 0xFFFFFFFF for entry in entries):
        owned &= ~uapi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED
    await copy_to_user(argument + HEADER, b"".join(bytes(entry) for entry in entries))
    hdr.count, hdr.flags = len(entries), owned
    await copy_to_user(argument, bytes(hdr))
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_pci_hot_reset_groups(device: VfioDevice, hit: tuple[Device, ...], numbers: list[int]) -> None:
    """Group files as the proof: EBADF, EINVAL for another kind of file; they are held until the reset is over."""
    files: list[File] = []
    try:
        groups = []
        for number in numbers:
            file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
            files.append(file)
            group = await load(file.private_data)
            kind = file.f_op is not device.vfio.group_fops
            await refuse_if(kind, Errno.EINVAL, "file_is_group", f"{file.label} is no file of a group")
            groups.append(group)
        await vfio_pci_dev_set_hot_reset(device, hit, tuple(g for g in groups if isinstance(g, VfioGroup)))
    except KernelError:
        for file in reversed(files):
            await fput(file)
        raise
    for file in reversed(files):
        await fput(file)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_pci_hot_reset(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_PCI_HOT_RESET: EFAULT, EINVAL (argsz, flags, files given or not), ENODEV, what the proof says."""
    hdr = VfioPciHotReset.from_buffer_copy(await copy_from_user(argument, HEADER))
    await check_argument(hdr.argsz, HEADER, hdr.flags)
    own_node = await load(device.cdev_opened)
    needs = "a device that was opened through its group needs group files as proof, and none is given"
    why = (
        "the iommufd is the proof of a device that was opened through its node, so no group files are given"
        if own_node
        else needs
    )
    await refuse_if(bool(hdr.count) == own_node, Errno.EINVAL, "proof_fits", why)
    hit = await reset_scope(device)
    if not hdr.count:
        await vfio_pci_dev_set_hot_reset(device, hit, None)
        return 0
    why = f"{hdr.count} files are given, and {len(hit)} devices would be reset"
    await refuse_if(hdr.count > len(hit), Errno.EINVAL, "not_too_many_files", why)
    raw = await copy_from_user(argument + HEADER, 4 * hdr.count)
    numbers = [int.from_bytes(raw[n : n + 4], "little", signed=True) for n in range(0, len(raw), 4)]
    await vfio_pci_ioctl_pci_hot_reset_groups(device, hit, numbers)
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_ioeventfd(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_IOEVENTFD: a write to the device whenever an eventfd is signalled. EFAULT, EINVAL (argsz, flags, size, fd)."""
    raw = await copy_from_user(argument, IOEVENTFD_MINSZ)
    argsz, flags = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:8], "little")
    sizes = flags & uapi.VFIO_DEVICE_IOEVENTFD_SIZE_MASK
    number = int.from_bytes(raw[24:28], "little", signed=True)
    await check_argument(argsz, IOEVENTFD_MINSZ, flags & ~sizes)
    bad = sizes.bit_count() != 1
    await refuse_if(bad, Errno.EINVAL, "one_size", f"a write has one size; the flags name {sizes.bit_count()}")
    await refuse_if(number < -1, Errno.EINVAL, "fd_or_minus_one", f"a descriptor, or −1 to end it, and not {number}")
    offset, value = int.from_bytes(raw[8:16], "little"), int.from_bytes(raw[16:24], "little")
    await vfio_pci_ioeventfd(await core_of(device), offset >> OFFSET_SHIFT, offset & _MASK, value, sizes, number)
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_ioctl(device: VfioDevice, cmd: int, argument: int) -> int:
    """Requests that the driver answers itself; ENOTTY for what it does not know."""
    if cmd == uapi.VFIO_DEVICE_RESET:
        return await vfio_pci_ioctl_reset(device)
    handler = _REQUESTS.get(cmd)
    await refuse_if(
        handler is None, Errno.ENOTTY, "driver_knows_request", f"the device's driver has no request {cmd:#x}"
    )
    assert handler is not None
    return await handler(device, argument)


_REQUESTS: Final = {
    uapi.VFIO_DEVICE_GET_INFO: vfio_pci_ioctl_get_info,
    uapi.VFIO_DEVICE_GET_IRQ_INFO: vfio_pci_ioctl_get_irq_info,
    uapi.VFIO_DEVICE_SET_IRQS: vfio_pci_ioctl_set_irqs,
    uapi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: vfio_pci_ioctl_get_pci_hot_reset_info,
    uapi.VFIO_DEVICE_PCI_HOT_RESET: vfio_pci_ioctl_pci_hot_reset,
    uapi.VFIO_DEVICE_IOEVENTFD: vfio_pci_ioctl_ioeventfd,
}


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_feature_token(core: VfioPciCoreDevice, flags: int, data: int, room: int) -> int:
    """VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: set the secret, also while virtual functions are open. ENOTTY, EINVAL, EFAULT."""
    secret = await load(core.vf_token)
    await refuse_if(secret is None, Errno.ENOTTY, "device_has_feature", "the device has no virtual functions")
    assert secret is not None
    if not await vfio_check_feature(flags, room, SET, 16):
        return 0
    uuid = await copy_from_user(data, 16)
    async with secret.lock:
        await store(secret.uuid, uuid)
    return 0


async def vf_token_open(core: VfioPciCoreDevice) -> None:
    """An open virtual function is counted."""
    await count_user(core, 1)


async def vf_token_close(core: VfioPciCoreDevice) -> None:
    """A closed one no longer."""
    await count_user(core, -1)


async def count_user(core: VfioPciCoreDevice, by: int) -> None:
    """Change how many virtual functions of a physical function are open."""
    pf = await load(core.sriov_pf_core_dev)
    secret = await load(pf.vf_token) if pf is not None else None
    if secret is not None:
        async with secret.lock:
            await store(secret.users, await load(secret.users) + by)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_ioctl_feature(device: VfioDevice, flags: int, data: int, room: int) -> int:
    """The features of vfio-pci: low power, the token, and BARs that are lent; ENOTTY for others."""
    feature = flags & uapi.VFIO_DEVICE_FEATURE_MASK
    if feature == uapi.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN:
        return await vfio_pci_core_feature_token(await core_of(device), flags, data, room)
    if feature == uapi.VFIO_DEVICE_FEATURE_DMA_BUF and built_with("pci_p2pdma"):
        return await vfio_pci_core_feature_dma_buf(await core_of(device), flags, data, room)
    minsz = _LOW_POWER.get(feature)
    await refuse_if(minsz is None, Errno.ENOTTY, "device_has_feature", f"the device has no feature {feature}")
    if not await vfio_check_feature(flags, room, SET, minsz or 0):
        return 0
    core = await core_of(device)
    if feature == uapi.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
        await vfio_pci_runtime_pm_exit(core)
    elif feature == uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
        await vfio_pci_runtime_pm_entry(core, None)
    else:
        await vfio_pci_core_pm_entry_with_wakeup(core, data)
    return 0


_LOW_POWER: Final = {
    uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: 0,
    uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: 8,
    uapi.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: 0,
}


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_read(device: VfioDevice, size: int, offset: int) -> bytes:
    """Read from a region. EINVAL for one that is not there or beyond its end, EIO for a BAR that is switched off."""
    index, position = offset >> OFFSET_SHIFT, offset & _MASK
    if not size:
        return b""
    await refuse_if(index >= VGA, Errno.EINVAL, "region_exists", f"the device has no region {index}")
    if index == CONFIG:
        return await vfio_pci_config_rw(await core_of(device), position, size, None)
    return await vfio_pci_bar_rw(await core_of(device), index, position, size, None)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_write(device: VfioDevice, data: bytes, offset: int) -> int:
    """Write into a region. EINVAL for one that is not there or is read-only, EIO for a BAR that is switched off."""
    index = offset >> OFFSET_SHIFT
    if not data:
        return 0
    await refuse_if(
        index >= VGA or index == ROM, Errno.EINVAL, "region_exists", f"the device has no region {index} to write"
    )
    core, position = await core_of(device), offset & _MASK
    if index == CONFIG:
        await vfio_pci_config_rw(core, position, len(data), data)
        return len(data)
    return len(await vfio_pci_bar_rw(core, index, position, len(data), data))


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_mmap_page_fault(device: VfioDevice, offset: int, width: int, data: bytes | None) -> bytes:
    """An access through a mapping goes to the device itself. EFAULT, a signal for a program, while it does not answer."""
    core, (bar, at) = await core_of(device), (offset >> OFFSET_SHIFT, offset & _MASK)
    first, last = table_of(core, bar)
    async with shared(core.memory_lock):
        off = (await changes_of(core)).get(LOW_POWER) or not await __vfio_pci_memory_enabled(core)
        await refuse_if(
            bool(off), Errno.EFAULT, "memory_answers", "the function sleeps, or its command register says no: SIGBUS"
        )
        if at < last and at + width > first:
            if width >= TABLE_WIDTH:
                raise Unsupported("the table of message interrupts, reached past the kernel")
            return bytes(width) if data is None else data  # it answers to whole words only
        if data is None:
            return await read_register(device.dev, bar, at, width)
        await write_register(device.dev, bar, at, data, partial(masters_bus, core))
    return data


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_mmap(device: VfioDevice, wish: Mapping) -> None:
    """May this part of the device be mapped? EINVAL: only whole pages inside a BAR of at least a page, and only shared."""
    index, position = wish.offset >> OFFSET_SHIFT, wish.offset & _MASK
    await refuse_if(
        index >= uapi.VFIO_PCI_NUM_REGIONS, Errno.EINVAL, "region_exists", f"the device has no region {index}"
    )
    await refuse_if(not wish.shared, Errno.EINVAL, "mapping_is_shared", "a device cannot be mapped privately")
    size = device.dev.hardware.bars.get(index, 0)
    small = index >= ROM or size < PAGE_SIZE
    await refuse_if(
        small, Errno.EINVAL, "region_mappable", f"region {index} has {size} bytes; a BAR of a page can be mapped"
    )
    length = (wish.length + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
    await refuse_if(
        position + length > size,
        Errno.EINVAL,
        "inside_region",
        f"region {index} has {size:#x} bytes, and {position + length:#x} are wanted",
    )


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_request(device: VfioDevice, count: int) -> None:
    """The driver wants to leave: the request interrupt tells the user, if there is one; else only the kernel's log."""
    ctx = await load((await core_of(device)).req_trigger)
    if ctx is not None:
        await eventfd_signal(ctx)
    elif count == 0:
        say(Phase.BLOCK, "{} has no request interrupt: its users are not told that they should let go.", device)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_match_token_uuid(device: VfioDevice, token: bytes | None) -> None:
    """Is this the secret? EACCES where one is needed and it is missing or another, EINVAL where none is needed.

    A physical function without an open virtual function takes what it is given as the new secret, whatever comes afterwards.
    """
    core = await core_of(device)
    if device.dev.spec.physfn:
        await match_token_of_vf(core, token)
        return
    secret = await load(core.vf_token)
    if secret is None:
        await refuse_if(
            token is not None, Errno.EINVAL, "no_token_needed", "this device needs no token, yet one was given"
        )
        return
    async with secret.lock:
        if await load(secret.users):
            wrong = token is None or token != await load(secret.uuid)
            await refuse_if(wrong, Errno.EACCES, "token_matches", "its virtual functions are in use: show their token")
        elif token is not None:
            say(Phase.PUBLISH, "No virtual function is open: what was given becomes the token of {}, at once.", device)
            await store(secret.uuid, token)


async def match_token_of_vf(core: VfioPciCoreDevice, token: bytes | None) -> None:
    """A virtual function: its physical function's secret, if vfio-pci has that too."""
    pf = await load(core.sriov_pf_core_dev)
    if pf is None:
        await refuse_if(
            token is not None, Errno.EINVAL, "no_token_needed", "vfio-pci does not have its physical function"
        )
        return
    await refuse_if(
        token is None, Errno.EACCES, "token_given", "a virtual function needs the token of its physical function"
    )
    secret = await load(pf.vf_token)
    assert secret is not None
    async with secret.lock:
        right = await load(secret.uuid)
    await refuse_if(token != right, Errno.EACCES, "token_matches", "this is not the token of its physical function")


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_match(device: VfioDevice, name: bytes) -> bool:
    """Is this the name of the device: its PCI address, then perhaps a token after a blank? EINVAL for anything else there.

    The token is tried at once; what the driver says to it is what the call fails with.
    """
    address = device.dev.address.encode()
    rest = name.removeprefix(address)
    if not name.startswith(address) or (rest and not rest.startswith(b" ")):
        return False
    token = None
    while rest := rest.lstrip(b" "):
        first = token is None and rest.startswith(TOKEN_ARGUMENT)
        await refuse_if(not first, Errno.EINVAL, "option_known", "after the address only one vf_token= may follow")
        written, rest = rest[len(TOKEN_ARGUMENT) :][:UUID_LENGTH], rest[len(TOKEN_ARGUMENT) + UUID_LENGTH :]
        good = UUID.fullmatch(written)
        await refuse_if(good is None, Errno.EINVAL, "token_is_uuid", "a token is written as a UUID")
        token = bytes.fromhex(written.replace(b"-", b"").decode())
    await vfio_pci_core_match_token_uuid(device, token)
    return True


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_vf_init(device: VfioDevice, can_have_vfs: bool) -> None:
    """A physical function gets a secret; a virtual one finds its physical function, if vfio-pci has it."""
    core = await core_of(device)
    if can_have_vfs:
        await store(core.vf_token, await alloc(VfioPciVfToken))
        return
    physical = await xa_load(device.dev.bus_devices, device.dev.spec.physfn)
    vdev = await load(physical.drvdata) if physical is not None else None
    if isinstance(vdev, VfioDevice):
        await store(core.sriov_pf_core_dev, await core_of(vdev))


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_vf_uninit(device: VfioDevice) -> None:
    """The secret goes with the driver."""
    core = await core_of(device)
    secret = await load(core.vf_token)
    if secret is not None:
        await store(core.vf_token, None)
        await free(secret)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_init_dev(device: VfioDevice) -> None:
    """The part of the device that vfio-pci adds."""
    await store(device.driver_data, await alloc(VfioPciCoreDevice, device, *tables_for(device.dev)))


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_sriov_configure(device: Device) -> None:
    """Wake a function that is open before it gets virtual ones."""
    vdev = await load(device.drvdata)
    core = await load(vdev.driver_data) if isinstance(vdev, VfioDevice) else None
    if isinstance(core, VfioPciCoreDevice) and await load(core.vconfig) is not None:
        async with core.memory_lock:
            await set_power_state(core, 0)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_dev_set_hot_reset(
    device: VfioDevice, hit: tuple[Device, ...], groups: tuple[VfioGroup, ...] | None
) -> None:
    """Reset all devices of the set, if the caller has every one of them. EINVAL if not; then what the hardware says."""
    dev_set = device.dev_set
    say(Phase.LOCK, "The lock of {}: nobody opens or closes a device that is reset.", dev_set)
    async with dev_set.lock:
        listed = await load(dev_set.device_list)
        known = {vdev.dev.oid for vdev in listed}
        foreign = [other.label for other in hit if other.oid not in known]
        why = f"vfio-pci does not have {' and '.join(foreign)}, which would be reset too"
        await refuse_if(bool(foreign), Errno.EINVAL, "all_on_vfio", why)
        ictx = await vfio_iommufd_device_ictx(device)
        for vdev in listed:
            if groups is None:
                owned = await vfio_iommufd_get_dev_id(vdev, ictx) >= 0
            else:
                owned = vdev.group in groups
            await refuse_if(
                not owned, Errno.EINVAL, "all_owned", f"{vdev.label} would be reset too and is not the caller's"
            )
        cores = [await core_of(vdev) for vdev in listed]
        await lock_memory(cores)
        async with on_failure(unlock_memory, cores):
            for core in cores:
                await wake(core)
            await pci_reset_bus(hit, device.dev.hardware.bus_reset)
        await unlock_memory(cores)


async def lock_memory(cores: list[VfioPciCoreDevice]) -> None:
    """Nobody uses the registers of any of them from now on. EBUSY, and none is locked, where somebody does at the moment."""
    for number, core in enumerate(cores):
        if not await try_acquire(core.memory_lock):
            await unlock_memory(cores[:number])
            await refuse_if(
                True, Errno.EBUSY, "memory_lock_free", f"{core.label} is being reset, or its interrupts change"
            )
        await vfio_pci_dma_buf_move(core, True)


async def unlock_memory(cores: list[VfioPciCoreDevice]) -> None:
    """The last one first."""
    for core in reversed(cores):
        if built_with("pci_p2pdma") and await load(core.vconfig) is not None:
            await lend_again(core)
        await release(core.memory_lock)
