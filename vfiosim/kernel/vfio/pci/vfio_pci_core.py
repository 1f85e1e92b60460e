"""The driver of physical PCI devices (drivers/vfio/pci/vfio_pci_core.c, v7.2).

The rest of that file is in `hot_reset.py`, `vf_token.py` and `vfio_pci_rdwr.py`.
"""

from __future__ import annotations

import re
from typing import Final

from .... import uapi
from ....engine import Phase, alloc, copy_from_user, copy_to_user, kernel, load, refuse_if, say, store
from ....uapi import Errno, VfioDeviceInfo, VfioIrqInfo, VfioIrqSet
from ...fs.eventfd import eventfd_signal
from ...unsupported import Unsupported
from ..device_info import IRQ_SET_MINSZ, SET, vfio_check_feature, vfio_set_irqs_validate_and_prepare
from ..iommufd import (
    vfio_iommufd_physical_attach_ioas,
    vfio_iommufd_physical_bind,
    vfio_iommufd_physical_detach_ioas,
    vfio_iommufd_physical_pasid_attach_ioas,
    vfio_iommufd_physical_pasid_detach_ioas,
    vfio_iommufd_physical_unbind,
)
from ..vfio import VfioDevice, VfioDeviceOps
from .hot_reset import vfio_pci_ioctl_get_pci_hot_reset_info, vfio_pci_ioctl_pci_hot_reset
from .vf_token import vf_token_close, vf_token_open, vfio_pci_core_feature_token, vfio_pci_core_match_token_uuid
from .vfio_pci_intrs import release_triggers, vfio_pci_set_irqs_ioctl
from .vfio_pci_priv import VfioPciCoreDevice, core_of
from .vfio_pci_rdwr import (
    vfio_config_free,
    vfio_config_init,
    vfio_pci_core_mmap,
    vfio_pci_core_read,
    vfio_pci_core_write,
    vfio_pci_ioctl_get_region_info,
)

INFO_MINSZ: Final = 16  # up to and including num_irqs
IRQ_INFO_MINSZ: Final = 16
IOEVENTFD_MINSZ: Final = 28
TOKEN_ARGUMENT = b"vf_token="
UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
UUID_LENGTH = 36


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_init_dev(device: VfioDevice) -> None:
    """The part of the device that vfio-pci adds."""
    await store(device.driver_data, await alloc(VfioPciCoreDevice, device))


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


@kernel("drivers/vfio/pci/vfio_pci.c")
async def vfio_pci_open_device(device: VfioDevice) -> None:
    """Make the hardware ready; an open virtual function is counted in the token of its physical function."""
    core = await core_of(device)
    await vfio_config_init(core)
    await vf_token_open(core)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_close_device(device: VfioDevice) -> None:
    """Put the hardware to rest: its interrupts go nowhere any more, its configuration space cannot be read."""
    core = await core_of(device)
    await vf_token_close(core)
    await release_triggers(core)
    await vfio_config_free(core)


async def read_device_info(argument: int) -> VfioDeviceInfo:
    """The argument of VFIO_DEVICE_GET_INFO: EFAULT, EINVAL for argsz below 16."""
    info = VfioDeviceInfo.from_buffer_copy((await copy_from_user(argument, INFO_MINSZ)).ljust(24, b"\0"))
    await refuse_if(info.argsz < INFO_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {INFO_MINSZ}")
    return info


async def write_device_info(info: VfioDeviceInfo, argument: int, flags: int) -> int:
    """As much of the answer goes back as the caller has room for. EFAULT."""
    room = min(info.argsz, 24)
    info.flags, info.num_regions, info.num_irqs = flags, uapi.VFIO_PCI_NUM_REGIONS, uapi.VFIO_PCI_NUM_IRQS
    await copy_to_user(argument, bytes(info)[:room])
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_info(device: VfioDevice, argument: int) -> int:
    """A PCI device; RESET if the function can be reset on its own."""
    reset = uapi.VFIO_DEVICE_FLAGS_RESET if device.dev.can_reset else 0
    return await write_device_info(await read_device_info(argument), argument, uapi.VFIO_DEVICE_FLAGS_PCI | reset)


def vfio_pci_get_irq_count(device: VfioDevice, index: int) -> int:
    """How many interrupts of this kind the device has."""
    hardware = device.dev.hardware
    counts = (hardware.intx, hardware.msi, hardware.msix, int(hardware.express), 1)
    return counts[index] if index < len(counts) else 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_irq_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_IRQ_INFO: EFAULT, EINVAL (argsz below 16, index, the error interrupt without PCI Express), EFAULT."""
    info = VfioIrqInfo.from_buffer_copy(await copy_from_user(argument, IRQ_INFO_MINSZ))
    bad = info.argsz < IRQ_INFO_MINSZ or info.index >= uapi.VFIO_PCI_NUM_IRQS
    await refuse_if(bad, Errno.EINVAL, "irq_index_known", "argsz is too small, or there is no such kind of interrupt")
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
    """VFIO_DEVICE_RESET: EINVAL if the function cannot be reset on its own."""
    await refuse_if(not device.dev.can_reset, Errno.EINVAL, "reset_works", "this function cannot be reset on its own")
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_ioeventfd(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_IOEVENTFD: a write to the device whenever an eventfd is signalled. EFAULT, EINVAL (argsz, flags, size, fd)."""
    raw = await copy_from_user(argument, IOEVENTFD_MINSZ)
    argsz, flags = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:8], "little")
    sizes = flags & uapi.VFIO_DEVICE_IOEVENTFD_SIZE_MASK
    number = int.from_bytes(raw[24:28], "little", signed=True)
    await refuse_if(argsz < IOEVENTFD_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {IOEVENTFD_MINSZ}")
    await refuse_if(flags != sizes, Errno.EINVAL, "flags_known", "there are flags that the kernel does not know")
    bad = sizes.bit_count() != 1 or number < -1
    await refuse_if(bad, Errno.EINVAL, "one_size_one_fd", "exactly one size of a write, and a descriptor or −1")
    raise Unsupported("VFIO_DEVICE_IOEVENTFD")


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_ioctl_feature(device: VfioDevice, flags: int, data: int, room: int) -> int:
    """The features of vfio-pci: low power and the token; ENOTTY for others."""
    feature = flags & uapi.VFIO_DEVICE_FEATURE_MASK
    if feature == uapi.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN:
        return await vfio_pci_core_feature_token(await core_of(device), flags, data, room)
    minsz = _LOW_POWER.get(feature)
    await refuse_if(minsz is None, Errno.ENOTTY, "device_has_feature", "the device has no such feature")
    if await vfio_check_feature(flags, room, SET, minsz or 0):
        raise Unsupported(f"device feature {feature}")
    return 0


_LOW_POWER: Final = {
    uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: 0,
    uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: 8,
    uapi.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: 0,
}


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_ioctl(device: VfioDevice, cmd: int, argument: int) -> int:
    """Requests that the driver answers itself; ENOTTY for what it does not know."""
    if cmd == uapi.VFIO_DEVICE_RESET:
        return await vfio_pci_ioctl_reset(device)
    handler = _REQUESTS.get(cmd)
    await refuse_if(handler is None, Errno.ENOTTY, "driver_knows_request", "the device's driver has no such request")
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
async def vfio_pci_core_request(device: VfioDevice, count: int) -> None:
    """The driver wants to leave: the request interrupt tells the user, if there is one; else only the kernel's log."""
    ctx = await load((await core_of(device)).req_trigger)
    if ctx is not None:
        await eventfd_signal(ctx)
    elif count == 0:
        say(Phase.BLOCK, "{} has no request interrupt: its users are not told that they should let go.", device)


vfio_pci_ops = VfioDeviceOps(
    "vfio-pci",
    bind_iommufd=vfio_iommufd_physical_bind,
    unbind_iommufd=vfio_iommufd_physical_unbind,
    open_device=vfio_pci_open_device,
    close_device=vfio_pci_core_close_device,
    ioctl=vfio_pci_core_ioctl,
    get_region_info=vfio_pci_ioctl_get_region_info,
    device_feature=vfio_pci_core_ioctl_feature,
    read=vfio_pci_core_read,
    write=vfio_pci_core_write,
    mmap=vfio_pci_core_mmap,
    attach_ioas=vfio_iommufd_physical_attach_ioas,
    detach_ioas=vfio_iommufd_physical_detach_ioas,
    pasid_attach_ioas=vfio_iommufd_physical_pasid_attach_ioas,
    pasid_detach_ioas=vfio_iommufd_physical_pasid_detach_ioas,
    match_token_uuid=vfio_pci_core_match_token_uuid,
    match=vfio_pci_core_match,
    request=vfio_pci_core_request,
)
