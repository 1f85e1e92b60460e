"""The driver of physical PCI devices (drivers/vfio/pci/vfio_pci_core.c, v7.2)."""

from __future__ import annotations

from ....engine import copy_from_user, copy_to_user, kernel, refuse_if
from ....uapi import (
    REQUESTS,
    VFIO_DEVICE_FLAGS_PCI,
    VFIO_DEVICE_FLAGS_RESET,
    VFIO_DEVICE_GET_INFO,
    VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS,
    Errno,
    VfioDeviceInfo,
    request_names,
)
from ...unsupported import Unsupported
from ..iommufd import (
    vfio_iommufd_physical_attach_ioas,
    vfio_iommufd_physical_bind,
    vfio_iommufd_physical_detach_ioas,
    vfio_iommufd_physical_pasid_attach_ioas,
    vfio_iommufd_physical_pasid_detach_ioas,
    vfio_iommufd_physical_unbind,
)
from ..vfio import VfioDevice, VfioDeviceOps

INFO_MINSZ = 16  # up to and including num_irqs


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_match_token_uuid(device: VfioDevice, token: bytes | None) -> None:
    """A device that is neither a virtual function nor has any takes no token (EINVAL)."""
    await refuse_if(token is not None, Errno.EINVAL, "no_token_needed", "this device needs no token, yet one was given")


@kernel("drivers/vfio/pci/vfio_pci.c")
async def vfio_pci_open_device(device: VfioDevice) -> None:
    """Make the hardware ready: nothing in it is part of this model."""


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_close_device(device: VfioDevice) -> None:
    """Put the hardware to rest."""


async def write_device_info(argument: int, flags: int) -> int:
    """VFIO_DEVICE_GET_INFO: EFAULT, EINVAL for argsz below 16; as much of the answer goes back as the caller has room for."""
    info = VfioDeviceInfo.from_buffer_copy((await copy_from_user(argument, INFO_MINSZ)).ljust(24, b"\0"))
    await refuse_if(info.argsz < INFO_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {INFO_MINSZ}")
    room = min(info.argsz, 24)
    info.flags, info.num_regions, info.num_irqs = flags, VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS
    await copy_to_user(argument, bytes(info)[:room])
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_info(device: VfioDevice, argument: int) -> int:
    """A PCI device; RESET if the function can be reset on its own."""
    reset = VFIO_DEVICE_FLAGS_RESET if device.dev.can_reset else 0
    return await write_device_info(argument, VFIO_DEVICE_FLAGS_PCI | reset)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_ioctl(device: VfioDevice, cmd: int, argument: int) -> int:
    """Requests that the driver answers itself; ENOTTY for what it does not know."""
    if cmd == VFIO_DEVICE_GET_INFO:
        return await vfio_pci_ioctl_get_info(device, argument)
    return await other_device_request(cmd, VFIO_PCI_KNOWN)


async def other_device_request(cmd: int, known: frozenset[str]) -> int:
    """What a driver says to the rest: not modelled, or not known to the kernel either (ENOTTY)."""
    for name in request_names(cmd):
        if name in known:
            raise Unsupported(name)
    await refuse_if(True, Errno.ENOTTY, "driver_knows_request", "the device's driver has no such request")
    return 0


VFIO_PCI_KNOWN = frozenset(
    name
    for name in REQUESTS
    if name
    in {
        "VFIO_DEVICE_GET_IRQ_INFO",
        "VFIO_DEVICE_SET_IRQS",
        "VFIO_DEVICE_RESET",
        "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO",
        "VFIO_DEVICE_PCI_HOT_RESET",
        "VFIO_DEVICE_IOEVENTFD",
    }
)

vfio_pci_ops = VfioDeviceOps(
    "vfio-pci",
    bind_iommufd=vfio_iommufd_physical_bind,
    unbind_iommufd=vfio_iommufd_physical_unbind,
    open_device=vfio_pci_open_device,
    close_device=vfio_pci_core_close_device,
    ioctl=vfio_pci_core_ioctl,
    attach_ioas=vfio_iommufd_physical_attach_ioas,
    detach_ioas=vfio_iommufd_physical_detach_ioas,
    pasid_attach_ioas=vfio_iommufd_physical_pasid_attach_ioas,
    pasid_detach_ioas=vfio_iommufd_physical_pasid_detach_ioas,
    match_token_uuid=vfio_pci_core_match_token_uuid,
)
