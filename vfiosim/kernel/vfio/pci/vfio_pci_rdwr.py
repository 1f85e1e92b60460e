"""Reading, writing and mapping the regions of a PCI device (drivers/vfio/pci/vfio_pci_{rdwr,config,core}.c, v7.2)."""

from __future__ import annotations

from typing import Final

from .... import uapi
from ....engine import KernelOops, current, kernel, load, refuse_if, store
from ....uapi import Errno, VfioRegionInfo
from ...fs.file import Mapping
from ...mm import PAGE_SIZE
from ...unsupported import Unsupported
from ..vfio import VfioDevice
from .vfio_pci_priv import VfioPciCoreDevice, core_of

OFFSET_SHIFT: Final = 40  # the index of a region is in the upper bits of an offset
_MASK: Final = (1 << OFFSET_SHIFT) - 1
CONFIG, ROM, VGA = uapi.VFIO_PCI_CONFIG_REGION_INDEX, uapi.VFIO_PCI_ROM_REGION_INDEX, uapi.VFIO_PCI_VGA_REGION_INDEX
READ_WRITE: Final = uapi.VFIO_REGION_INFO_FLAG_READ | uapi.VFIO_REGION_INFO_FLAG_WRITE
MSIX_MAPPABLE: Final = uapi.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE.to_bytes(2, "little") + b"\1\0" + bytes(4)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_region_info(device: VfioDevice, info: VfioRegionInfo) -> bytes:
    """Size, offset and flags of a region: BARs, ROM, configuration space; EINVAL for others. The answer is its capabilities."""
    hardware = device.dev.hardware
    absent = info.index >= VGA  # nothing here has the registers of old graphics cards, nor regions of its own
    await refuse_if(absent, Errno.EINVAL, "region_exists", "the device has no such region")
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
async def vfio_pci_core_read(device: VfioDevice, size: int, offset: int) -> bytes:
    """Read from a region. EINVAL for one that is not there or beyond its end. What is in a BAR is not modelled."""
    index, position = offset >> OFFSET_SHIFT, offset & _MASK
    await refuse_if(index >= VGA, Errno.EINVAL, "region_exists", "the device has no such region")
    if not size:
        return b""
    if index == CONFIG:
        return await vfio_pci_config_rw(await core_of(device), size, position)
    beyond = position >= device.dev.hardware.bars.get(index, 0)
    await refuse_if(beyond, Errno.EINVAL, "inside_region", "this is beyond the end of the region")
    raise Unsupported("the content of a BAR")


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_config_init(core: VfioPciCoreDevice) -> None:
    """The tables that say what a program sees of configuration space, and what it may change."""
    await store(core.vconfig, True)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_config_free(core: VfioPciCoreDevice) -> None:
    """The tables go with the last close."""
    await store(core.vconfig, False)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_pci_config_rw(core: VfioPciCoreDevice, size: int, position: int) -> bytes:
    """Read configuration space. Whether its tables are there is not asked: whoever comes here has the device open."""
    if not await load(core.vconfig):
        raise KernelOops(f"{current().label} reads configuration space of {core.oid} through a table that is not there")
    config = core.vdev.dev.hardware.config
    if position + size > len(config):
        raise Unsupported("these bytes of configuration space")
    return config[position : position + size]


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_write(device: VfioDevice, data: bytes, offset: int) -> int:
    """Write into a region. EINVAL for one that is not there or is read-only. What devices do with it is not modelled."""
    index = offset >> OFFSET_SHIFT
    await refuse_if(
        index >= VGA or index == ROM, Errno.EINVAL, "region_exists", "the device has no such region to write"
    )
    if not data:
        return 0
    raise Unsupported("writing to a device")


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_core_mmap(device: VfioDevice, wish: Mapping) -> None:
    """May this part of the device be mapped? EINVAL: only whole pages inside a BAR of at least a page, and only shared."""
    index, position = wish.offset >> OFFSET_SHIFT, wish.offset & _MASK
    await refuse_if(index >= uapi.VFIO_PCI_NUM_REGIONS, Errno.EINVAL, "region_exists", "the device has no such region")
    await refuse_if(not wish.shared, Errno.EINVAL, "mapping_is_shared", "a device cannot be mapped privately")
    size = device.dev.hardware.bars.get(index, 0)
    small = index >= ROM or size < PAGE_SIZE
    await refuse_if(small, Errno.EINVAL, "region_mappable", "this region cannot be mapped")
    length = (wish.length + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
    await refuse_if(position + length > size, Errno.EINVAL, "inside_region", "this is beyond the end of the region")
