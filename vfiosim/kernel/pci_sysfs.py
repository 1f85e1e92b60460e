"""What files of a PCI function in /sys tell that nothing changes while it is there (drivers/pci/pci-sysfs.c, v7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from ..engine import *
from ..uapi import Errno
from .base import VFIO_DRIVERS, Device
from .firmware import BARS, COMMAND, PIN, bar_flags, interrupt_input
from .fs.file import Mapping
from .fs.kernfs import Attribute, written
from .iov import distance
from .kstrtox import kstrtoul
from .regions import whole_pages
from .registers import read_register, write_register
from .task import capable
from .unsupported import Unsupported
from .vfio.pci.vfio_pci_config import registers_now
from .vfio.vfio import VfioDevice

_IDS: Final = ("vendor", "device", "subsystem_vendor", "subsystem_device", "class")
LINK_STATE: Final = ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
_ALWAYS: Final = {  # of two processors and functions that nobody has put to sleep
    "local_cpus": "3",
    "local_cpulist": "0-1",
    "msi_bus": "1",
    "power_state": "D0",
    "ari_enabled": "0",
}
IO, MEM, PREFETCH, SIZEALIGN, MEM_64 = 0x100, 0x200, 0x2000, 0x40000, 0x100000  # IORESOURCE_…
EXPRESS, LINK_CAPABILITIES, LINK_STATUS = 0x10, 0x0C, 0x12
PORTS, MEMORY, BUS_MASTER = 1, 2, 4  # of the command register: what the function answers to, and whether it sends
FIRST_OF_VFS: Final = 7
SRIOV, VF_BARS = 0x10, 0x24  # a capability, and where in it the BARs of virtual functions begin
PCI_STD_HEADER_SIZEOF, PCI_CFG_SPACE_EXP_SIZE = 64, 4096
RESOURCES: Final = 13  # six BARs, the ROM, and those of its virtual functions


def shown(device: Device, name: str) -> Callable[[], Awaitable[str]] | None:
    """What a file tells; None for one whose content is not modelled, or of a device that says nothing about itself."""
    if name == "uevent" and modalias(device):
        return partial(pci_uevent, device)
    if name == "resource" and device.hardware.ids:
        return partial(resource_show, device)
    if name == "broken_parity_status":
        return partial(broken_parity_status_show, device)
    if name in ("dma_mask_bits", "consistent_dma_mask_bits") and device.hardware.ids:
        return partial(dma_mask_bits_show, device)
    text = constant(device, name)
    return None if text is None else partial(written, text)


@kernel("drivers/pci/pci-sysfs.c")
async def broken_parity_status_show(device: Device) -> str:
    """What somebody has written down about its parity."""
    broken = await load(device.broken_parity_status)
    return str(int(broken))


@kernel("drivers/pci/pci-sysfs.c")
async def broken_parity_status_store(device: Device, text: str, count: int) -> int:
    """Write down whether its parity is broken; nothing here looks at it. EINVAL for no number."""
    await store(device.broken_parity_status, await kstrtoul(text) != 0)
    return count


async def override_of(device: Device) -> str:
    """The only driver that may take it."""
    return await load(device.driver_override) or "(null)"


async def enabled(device: Device) -> str:
    """How often it is enabled: by hand, by a driver of the kernel, and by vfio-pci while it is open."""
    driver, vdev = await load(device.driver), await load(device.drvdata)
    by_driver = driver is not None and driver.label not in VFIO_DRIVERS
    by_vfio = isinstance(vdev, VfioDevice) and await load(vdev.open_count) > 0
    return str(await load(device.enable_cnt) + (by_driver or by_vfio))


@kernel("drivers/pci/pci-sysfs.c")
async def resource_show(device: Device) -> str:
    """Where its BARs begin and end, and what they are; behind them those of all its virtual functions."""
    physical: Device | None = device
    if device.spec.physfn:
        physical = await xa_load(device.bus_devices, device.spec.physfn)
    assert physical is not None  # it goes after its virtual functions
    number = distance(physical.address, device.address) - 1
    return "\n".join(resource(device, physical, number, row) for row in range(RESOURCES))


@kernel("drivers/pci/pci-sysfs.c")
async def dma_mask_bits_show(device: Device) -> str:
    """How many bits of an address it can send: 32, as the bus begins with, unless a driver of the kernel has said more.

    vfio-pci says nothing: where its DMA goes is the matter of an IOMMU.
    """
    return "64" if device.spec.driver not in VFIO_DRIVERS else "32"


@kernel("drivers/pci/pci-sysfs.c")
async def msi_bus_store(text: str, count: int) -> int:
    """May a function send message interrupts? It may; EINVAL for no number."""
    if not await kstrtoul(text):
        raise Unsupported("a function that may not send message interrupts")
    return count


@kernel("drivers/pci/pci-sysfs.c")
async def pci_read_config(device: Device, end: int) -> str:
    """Configuration space as it is, up to its end or to `end`, a character for each byte."""
    space = bytearray(await registers_now(device))
    space[PIN] |= bool(
        device.spec.physfn
    )  # a virtual function claims to have a line interrupt, which VFIO does not believe
    return space[:end].decode("latin1")


async def config_file(device: Device, path: str) -> Attribute:
    """The file of all registers of a function; without CAP_SYS_ADMIN those of its header only. They are not written so."""
    end = PCI_CFG_SPACE_EXP_SIZE if await capable("CAP_SYS_ADMIN") else PCI_STD_HEADER_SIZEOF
    return Attribute(
        path, 0o644, show=partial(pci_read_config, device, end), node=device, binary=True, size=len(device.config)
    )


def resource_file(device: Device, name: str, path: str) -> Attribute | None:
    """The file of a BAR: ports are read and written, memory is mapped, whoever has the device."""
    bar = next((bar for bar in device.hardware.bars if name == f"resource{bar}"), None)
    if bar is None:
        return None
    ports = bar in device.hardware.ports
    return Attribute(
        path,
        0o600,
        node=device,
        binary=True,
        size=device.hardware.bars[bar],
        rw=partial(pci_resource_io, device, bar),
        mmap=partial(pci_mmap_resource, device, bar),
        fault=None if ports else partial(reach_resource, device, bar),
    )


@kernel("drivers/pci/pci-sysfs.c")
async def pci_mmap_resource(device: Device, bar: int, wish: Mapping) -> None:
    """May these pages of a BAR be mapped? EINVAL for ports, and for what ends beyond the BAR."""
    fits = bar not in device.hardware.ports and wish.offset + wish.length <= whole_pages(device.hardware.bars[bar])
    why = f"BAR {bar} has {device.hardware.bars[bar]:#x} bytes; memory inside it can be mapped, ports cannot"
    await refuse_if(not fits, Errno.EINVAL, "mapping_fits", why)


@kernel("drivers/pci/pci-sysfs.c")
async def pci_resource_io(device: Device, bar: int, offset: int, size: int, data: bytes | None) -> bytes:
    """Read ports, or write them: 1, 2 or 4 bytes. EIO for memory, EINVAL for other numbers of bytes."""
    memory = bar not in device.hardware.ports
    await refuse_if(memory, Errno.EIO, "resource_has_ports", f"BAR {bar} is memory: it is mapped, not read")
    await refuse_if(size not in (1, 2, 4), Errno.EINVAL, "port_width", f"a port has 1, 2 or 4 bytes, not {size}")
    return await reach_resource(device, bar, offset, size, data)


async def reach_resource(device: Device, bar: int, at: int, width: int, data: bytes | None) -> bytes:
    """One access to a BAR of the function itself; one that is switched off reads as zeros, and is not written."""
    command = (await registers_now(device))[COMMAND]
    if not command & (PORTS if bar in device.hardware.ports else MEMORY) and not device.spec.physfn:
        return bytes(width) if data is None else data
    if data is None:
        return await read_register(device, bar, at, width)
    await write_register(device, bar, at, data, partial(is_master, device))
    return data


async def is_master(device: Device) -> bool:
    """May the function write to memory by itself?"""
    return bool((await registers_now(device))[COMMAND] & BUS_MASTER)


@kernel("drivers/pci/pci-driver.c")
async def pci_uevent(device: Device) -> str:
    """What programs are told that look after devices: its driver, its numbers, its address."""
    driver = await load(device.driver)
    vendor, model, subvendor, subdevice, kind = device.hardware.ids
    told = [f"DRIVER={driver.label}"] if driver is not None else []
    numbers = f"PCI_ID={vendor:04X}:{model:04X}", f"PCI_SUBSYS_ID={subvendor:04X}:{subdevice:04X}"
    named = f"PCI_SLOT_NAME={device.address}", f"MODALIAS={modalias(device)}"
    return "\n".join((*told, f"PCI_CLASS={kind:04X}", *numbers, *named))


def modalias(device: Device) -> str:
    """By what a driver for it is found; "" for a device that says nothing about itself."""
    if not device.hardware.ids:
        return ""
    vendor, model, subvendor, subdevice, kind = device.hardware.ids
    numbers = f"v{vendor:08X}d{model:08X}sv{subvendor:08X}sd{subdevice:08X}"
    return f"pci:{numbers}bc{kind >> 16:02X}sc{kind >> 8 & 255:02X}i{kind & 255:02X}"


def constant(device: Device, name: str) -> str | None:
    """What never changes; None for what is not modelled."""
    ids = device.hardware.ids
    if name in _ALWAYS:
        return _ALWAYS[name]
    if not ids:
        return None
    if name in LINK_STATE and device.hardware.express:
        return link_state(device, name)
    if name in _IDS:
        return f"{ids[4]:#08x}" if name == "class" else f"{ids[_IDS.index(name)]:#06x}"
    if name == "revision":
        return f"{device.hardware.revision:#04x}"
    if name == "modalias":
        return modalias(device)
    if name == "irq":
        return str(interrupt_input(device.address) if device.hardware.intx else 0)
    return None


def link_state(device: Device, name: str) -> str | None:
    """How fast its link is, or how wide, now or at most, as its capability says; None for another speed than the slowest."""
    express = next(each.at for each in device.hardware.capabilities if each.content[0] == EXPRESS)
    at = express + (LINK_STATUS if name.startswith("current") else LINK_CAPABILITIES)
    word = int.from_bytes(device.config[at : at + 2], "little")
    if name.endswith("width"):
        return str(word >> 4 & 0x3F)
    return "2.5 GT/s PCIe" if word & 0xF == 1 else None


def resource(device: Device, physical: Device, number: int, row: int) -> str:
    """Where a BAR begins and ends, and what it is; `number` counts virtual functions, from 0."""
    of_all = row - FIRST_OF_VFS if device.spec.vfs and row >= FIRST_OF_VFS else None
    bar = row if of_all is None else of_all
    size, start, flags = device.hardware.bars.get(bar, 0), 0, 0
    if size:
        low = bar_flags(device.hardware, bar)
        if device.spec.physfn or of_all is not None:
            at = next(each.at for each in physical.hardware.extended if each.content[0] == SRIOV) + VF_BARS + 4 * bar
        else:
            at = BARS + 4 * bar
        start = int.from_bytes(physical.config[at : at + 4], "little") - low
        start += number * size if device.spec.physfn else 0
        size *= device.spec.vfs if of_all is not None else 1
        kinds = IO if low & 1 else MEM | PREFETCH * (low >> 3 & 1) | MEM_64 * (low >> 2 & 1)
        flags = SIZEALIGN | kinds | low
    return " ".join(f"{value:#018x}" for value in (start, start + size - 1 if size else 0, flags))
