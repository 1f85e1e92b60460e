"""A mediated serial port: an emulated device without DMA (samples/vfio-mdev/mtty.c, v7.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ... import uapi
from ...engine import *
from ...uapi import Errno, VfioIrqInfo, VfioIrqSet, VfioRegionInfo
from ..base import BusDriver, Device
from ..bus import Buses
from ..unsupported import Unsupported
from .iommufd import (
    vfio_iommufd_emulated_attach_ioas,
    vfio_iommufd_emulated_bind,
    vfio_iommufd_emulated_detach_ioas,
    vfio_iommufd_emulated_unbind,
)
from .pci.vfio_pci_core import CONFIG, IRQ_INFO_MINSZ, OFFSET_SHIFT, READ_WRITE, read_device_info, write_device_info
from .vfio import Vfio, VfioDevice, VfioDeviceOps
from .vfio_main import IRQ_SET_MINSZ, __vfio_register_dev, register, unregister, vfio_set_irqs_validate_and_prepare

MAX_TTYS: Final = 24  # serial ports that all devices have together
MIGRATION: Final = 7  # stop-copy, peer-to-peer and pre-copy
_SILENT: Final = (uapi.VFIO_PCI_MSIX_IRQ_INDEX, uapi.VFIO_PCI_ERR_IRQ_INDEX, uapi.VFIO_PCI_REQ_IRQ_INDEX)


class MdevState(KObject):
    """The part of a vfio_device that mtty adds.

    * lives exactly as long as its vfio_device;
    * `num_irqs`: how many kinds of interrupts it admits to: none until somebody has asked for GET_INFO, then for good.
    """

    kind = "mdev_state"
    num_irqs: Field[int] = field(0)


def ports_of(kind: str) -> int:
    """How many serial ports a device of a type has."""
    return 1 if kind == "mtty-1" else 2


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
async def mtty_release_dev(device: VfioDevice) -> None:
    """The memory of the device goes, and its ports are free."""
    await give_ports_back(device.dev)


async def available_instances(buses: Buses, kind: str) -> str:
    """How many more devices of this type there can be (`mtty_get_available`)."""
    left = await load(buses.mtty_ports)
    return str(left // ports_of(kind))


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_init_dev(device: VfioDevice) -> None:
    """The part of the device that mtty adds."""
    await store(device.driver_data, await alloc(MdevState, device.label))


async def state_of(device: VfioDevice) -> MdevState:
    """The part of mtty of a device (`container_of`)."""
    state = await load(device.driver_data)
    assert isinstance(state, MdevState)
    return state


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_open_device(device: VfioDevice) -> None:
    """Nothing to prepare."""


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_close_device(device: VfioDevice) -> None:
    """Nothing to put to rest."""


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_ioctl_get_region_info(device: VfioDevice, info: VfioRegionInfo) -> bytes:
    """Every region of a PCI device is there, most of them empty. EINVAL for others."""
    absent = info.index >= uapi.VFIO_PCI_NUM_REGIONS
    await refuse_if(absent, Errno.EINVAL, "region_exists", "the device has no such region")
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
    bad = info.argsz < IRQ_INFO_MINSZ or info.index >= kinds or info.index not in known
    await refuse_if(bad, Errno.EINVAL, "irq_index_known", "argsz is too small, or there is no such kind of interrupt")
    line = info.index == uapi.VFIO_PCI_INTX_IRQ_INDEX
    more = uapi.VFIO_IRQ_INFO_MASKABLE | uapi.VFIO_IRQ_INFO_AUTOMASKED if line else uapi.VFIO_IRQ_INFO_NORESIZE
    info.flags, info.count = uapi.VFIO_IRQ_INFO_EVENTFD | more, 1
    await copy_to_user(argument, bytes(info))
    return 0


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_set_irqs(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_SET_IRQS: EFAULT, EINVAL (the header), EFAULT (its data), ENOTTY for kinds that mtty does not have."""
    hdr = VfioIrqSet.from_buffer_copy(await copy_from_user(argument, IRQ_SET_MINSZ))
    kinds = await load((await state_of(device)).num_irqs)
    size = await vfio_set_irqs_validate_and_prepare(hdr, kinds, uapi.VFIO_PCI_NUM_IRQS)
    if size:
        await copy_from_user(argument + IRQ_SET_MINSZ, size)
    masks = uapi.VFIO_IRQ_SET_ACTION_MASK | uapi.VFIO_IRQ_SET_ACTION_UNMASK
    none = hdr.index in _SILENT or (hdr.index == uapi.VFIO_PCI_MSI_IRQ_INDEX and bool(hdr.flags & masks))
    await refuse_if(none, Errno.ENOTTY, "irq_has_action", "mtty has no such interrupt, or cannot mask it")
    raise Unsupported("interrupts of mtty")


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_read(device: VfioDevice, size: int, offset: int) -> bytes:
    """Read from a region; only the beginning of its configuration space is modelled."""
    position = offset & ((1 << OFFSET_SHIFT) - 1)
    config = device.dev.hardware.config
    if offset >> OFFSET_SHIFT != CONFIG or position + size > len(config):
        raise Unsupported("these bytes of mtty")
    return config[position : position + size]


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_get_device_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_INFO: as PCI devices answer it; its own answer is what mtty knows of its interrupts."""
    info = await read_device_info(argument)
    await store((await state_of(device)).num_irqs, uapi.VFIO_PCI_NUM_IRQS)
    return await write_device_info(info, argument, uapi.VFIO_DEVICE_FLAGS_PCI)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_ioctl(device: VfioDevice, cmd: int, argument: int) -> int:
    """Requests that the driver answers itself; it looks like a PCI device. A reset puts its ports back and always works."""
    if cmd == uapi.VFIO_DEVICE_GET_INFO:
        return await mtty_get_device_info(device, argument)
    if cmd == uapi.VFIO_DEVICE_GET_IRQ_INFO:
        return await mtty_get_irq_info(device, argument)
    if cmd == uapi.VFIO_DEVICE_SET_IRQS:
        return await mtty_set_irqs(device, argument)
    unknown = cmd != uapi.VFIO_DEVICE_RESET
    await refuse_if(unknown, Errno.ENOTTY, "driver_knows_request", "the device's driver has no such request")
    return 0


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
    migration_flags=MIGRATION,
    logs_dma=True,
    attach_ioas=vfio_iommufd_emulated_attach_ioas,
    detach_ioas=vfio_iommufd_emulated_detach_ioas,
)
# as the sample was while such operations were thought to be for devices with DMA only
mtty_dev_ops_without_iommufd = replace(
    mtty_dev_ops, bind_iommufd=None, unbind_iommufd=None, attach_ioas=None, detach_ioas=None
)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_probe(vfio: Vfio, device: Device, driver: BusDriver) -> None:
    """mtty takes a mediated device."""
    ops = mtty_dev_ops if vfio.variant.samples_have_ops else mtty_dev_ops_without_iommufd
    await take_ports(device)
    async with on_failure(give_ports_back, device):
        vdev = await register(vfio, device, driver, ops)
    await mtty_init_dev(vdev)
    await __vfio_register_dev(vdev, driver)


@kernel("samples/vfio-mdev/mtty.c")
async def mtty_remove(device: Device, driver: BusDriver) -> None:
    """mtty lets go of a mediated device."""
    await unregister(device, driver)
