"""DMA: how a device gets at memory, by way of the IOMMU (QEMU 7.2: hw/i386/intel_iommu.c)."""

from __future__ import annotations

from typing import Any, Final

from ..engine import *
from .base import Device
from .fs.file import File, private
from .fs.shmem import Inode
from .iommufd.iommufd_private import IommufdHwptNested
from .mm import MmStruct
from .regions import PAGE_SIZE
from .unsupported import Unsupported

Place = tuple[MmStruct | Inode, int]
DEFAULT: Final = "default domain"


async def dma_read(device: Device, iova: int, size: int) -> bytes:
    """What a device reads; where it may not it gets zeros, and the IOMMU reports that it tried."""
    found = b""
    while len(found) < size:
        at = iova + len(found)
        step = min(size - len(found), PAGE_SIZE - at % PAGE_SIZE)
        place = await iommu_translate(device, at, False)
        found += bytes(step) if place is None else await read_memory(*place, step)
    return found


async def dma_write(device: Device, iova: int, data: bytes) -> None:
    """A device writes; where it may not nothing is written."""
    while data:
        step = min(len(data), PAGE_SIZE - iova % PAGE_SIZE)
        place = await iommu_translate(device, iova, True)
        if place is not None:
            say(Phase.PUBLISH, "{} writes memory of {}, past every program.", device, place[0])
            await write_memory(*place, data[:step])
        iova, data = iova + step, data[step:]


async def iommu_translate(device: Device, iova: int, write: bool) -> Place | None:
    """Where an I/O address leads in the page table that is in force for the device; None if there is no way."""
    group = await load(device.iommu_group)
    domain: Any = await load(group.domain) if group is not None else DEFAULT
    if domain == DEFAULT:
        raise Unsupported("DMA that user space has no page table for")
    if isinstance(domain, IommufdHwptNested):
        raise Unsupported("DMA through a page table of a guest")
    place = None if isinstance(domain, str) else await domain.leads_to(iova, write)
    if place is not None and isinstance(place[0], File):
        return await private(place[0]), place[1]
    return place
