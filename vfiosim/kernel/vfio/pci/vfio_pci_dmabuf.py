"""BARs that are lent to other devices, as files (drivers/vfio/pci/vfio_pci_dmabuf.c, v7.2; with CONFIG_PCI_P2PDMA).

Another device reaches what is lent by I/O addresses, once an iommufd has mapped the file (IOMMU_IOAS_MAP_FILE). Whenever the
function stops answering to memory addresses, all of that is taken away; what was mapped stays gone, and a new mapping works as
soon as the function answers again. With the last close of the device it is gone for ever; until then each file holds the
registration of the device, so its driver need not wait for files.
"""

from __future__ import annotations

from ctypes import sizeof
from typing import Final

from ....engine import *
from ....uapi import (
    VFIO_PCI_ROM_REGION_INDEX,
    Errno,
    VfioDeviceFeatureDmaBuf,
    VfioRegionDmaRange,
)
from ...base import Device
from ...config import built_with
from ...dma_buf import DmaBuf, DmaBufOps, dma_buf_export, dma_buf_fd, dma_buf_invalidate_mappings
from ...firmware import BARS
from ...fs.file import File, fput, private
from ...regions import KMALLOC_MAX, PAGE_SIZE
from ..vfio_main import GET, vfio_check_feature, vfio_device_put_registration, vfio_device_try_get_registration
from .vfio_pci_config import __vfio_pci_memory_enabled
from .vfio_pci_priv import VfioPciCoreDevice

LENDS = "lends its registers"
TOO_BIG: Final = 1 << 63  # a length with this bit means something else where the memory is mapped
BEGIN: Final = sizeof(VfioDeviceFeatureDmaBuf)
ENTRY: Final = sizeof(VfioRegionDmaRange)


@kernel("drivers/vfio/pci/vfio_pci_dmabuf.c")
async def vfio_pci_dma_buf_release(file: File) -> None:
    """The file goes: the device need not take anything away any more, and its driver may leave."""
    dmabuf: DmaBuf = await private(file)
    core: VfioPciCoreDevice | None = await load(dmabuf.priv)
    if core is not None:
        async with core.memory_lock:
            await store(core.dmabufs, tuple(other for other in await load(core.dmabufs) if other is not file))
        await vfio_device_put_registration(core.vdev, dmabuf, LENDS)


vfio_pci_dmabuf_ops: Final = DmaBufOps("vfio-pci", registers=True, release=vfio_pci_dma_buf_release)


@kernel("drivers/vfio/pci/vfio_pci_dmabuf.c")
async def vfio_pci_core_fill_phys_vec(ranges: list[VfioRegionDmaRange], start: int, size: int) -> None:
    """Where the pieces of a BAR lie, which begins at `start`. EOVERFLOW beyond the last address there is, EINVAL beyond its end."""
    for piece in ranges:
        end = start + piece.offset + piece.length
        why = f"{piece.length:#x} bytes from {piece.offset:#x} on end beyond the last address that there is"
        await refuse_if(end >= 1 << 64, Errno.EOVERFLOW, "piece_ends_somewhere", why)
        why = f"the BAR has {size:#x} bytes, and {end - start:#x} are wanted"
        await refuse_if(end > start + size, Errno.EINVAL, "inside_bar", why)


@kernel("drivers/vfio/pci/vfio_pci_dmabuf.c")
async def vfio_pci_core_get_dmabuf_phys(device: Device, bar: int, ranges: list[VfioRegionDmaRange]) -> None:
    """Where they lie in memory. EINVAL for ports, which do not, then as above."""
    await refuse_if(bar in device.hardware.ports, Errno.EINVAL, "bar_is_memory", f"BAR {bar} consists of ports")
    start = int.from_bytes(device.config[BARS + 4 * bar : BARS + 4 * bar + 4], "little") // 16 * 16
    await vfio_pci_core_fill_phys_vec(ranges, start, device.hardware.bars[bar])


@kernel("drivers/vfio/pci/vfio_pci_dmabuf.c")
async def validate_dmabuf_input(ranges: list[VfioRegionDmaRange]) -> int:
    """How many bytes the pieces are together. EINVAL for empty ones, those that are no whole pages, and too many bytes."""
    length = 0
    for piece in ranges:
        odd = not piece.length or bool((piece.offset | piece.length) % PAGE_SIZE)
        await refuse_if(
            odd, Errno.EINVAL, "lent_whole_pages", "only whole pages of a BAR can be lent, and one at least"
        )
        length += piece.length
    await refuse_if(length >= TOO_BIG, Errno.EINVAL, "length_possible", f"together they would be {length:#x} bytes")
    return length


async def ranges_wanted(device: Device, wanted: VfioDeviceFeatureDmaBuf, data: int) -> list[VfioRegionDmaRange]:
    """The pieces that a program wants to lend. EINVAL (none, flags), ENODEV (no such BAR), ENOMEM (too many), EFAULT."""
    count, bar = wanted.nr_ranges, wanted.region_index
    odd = not count or bool(wanted.flags)
    await refuse_if(
        odd, Errno.EINVAL, "pieces_and_no_flags", "one piece at least has to be lent, and there are no flags"
    )
    there = bar < VFIO_PCI_ROM_REGION_INDEX and device.hardware.bars.get(bar, 0)
    await refuse_if(not there, Errno.ENODEV, "bar_is_there", f"the device has no BAR {bar}")
    await refuse_if(
        count * ENTRY > KMALLOC_MAX,
        Errno.ENOMEM,
        "entries_fit",
        f"the list takes {count * ENTRY} bytes of {KMALLOC_MAX}",
    )
    raw = await copy_from_user(data + BEGIN, count * ENTRY)
    return [VfioRegionDmaRange.from_buffer_copy(raw, at) for at in range(0, len(raw), ENTRY)]


@kernel("drivers/vfio/pci/vfio_pci_dmabuf.c")
async def vfio_pci_core_feature_dma_buf(core: VfioPciCoreDevice, flags: int, data: int, room: int) -> int:
    """VFIO_DEVICE_FEATURE_DMA_BUF: lend pieces of a BAR; the answer is a descriptor. EINVAL, EFAULT, ENODEV, ENOMEM, EMFILE."""
    if not await vfio_check_feature(flags, room, GET, BEGIN):
        return 0
    wanted = VfioDeviceFeatureDmaBuf.from_buffer_copy(await copy_from_user(data, BEGIN))
    device = core.vdev.dev
    ranges = await ranges_wanted(device, wanted, data)
    length = await validate_dmabuf_input(ranges)
    await vfio_pci_core_get_dmabuf_phys(device, wanted.region_index, ranges)
    dmabuf = await alloc(DmaBuf, length, vfio_pci_dmabuf_ops, len(ranges))
    async with on_failure(free, dmabuf):
        held = await vfio_device_try_get_registration(core.vdev, dmabuf, LENDS)
        await refuse_if(not held, Errno.ENODEV, "device_stays", "the driver is letting go of the device")
        async with on_failure(vfio_device_put_registration, core.vdev, dmabuf, LENDS):
            file = await dma_buf_export(dmabuf, wanted.open_flags)
    async with core.memory_lock:
        await store(dmabuf.priv, core)
        async with dmabuf.resv:
            await store(dmabuf.revoked, not await __vfio_pci_memory_enabled(core))
        await store(core.dmabufs, (*await load(core.dmabufs), file))
    return await dma_buf_fd(file, wanted.open_flags)


@kernel("drivers/vfio/pci/vfio_pci_dmabuf.c")
async def vfio_pci_dma_buf_move(core: VfioPciCoreDevice, revoked: bool) -> None:
    """Take away what is lent of the device, or lend it again; the caller has the memory lock alone."""
    if not built_with("pci_p2pdma"):
        return
    for file in await load(core.dmabufs):
        if not await get_unless_zero(file.f_ref, current(), "running call"):
            continue
        dmabuf: DmaBuf = await private(file)
        async with dmabuf.resv:
            if await load(dmabuf.revoked) != revoked:
                now = "cannot be mapped any more, and its mappings lead nowhere." if revoked else "can be mapped again."
                say(Phase.RELEASE if revoked else Phase.PUBLISH, "{} " + now, dmabuf)
                await store(dmabuf.revoked, revoked)
                await dma_buf_invalidate_mappings(dmabuf)
        await fput(file)


@kernel("drivers/vfio/pci/vfio_pci_dmabuf.c")
async def vfio_pci_dma_buf_cleanup(core: VfioPciCoreDevice) -> None:
    """The last close: what is lent is gone for ever, and does not hold up the driver, whoever keeps the files."""
    if not built_with("pci_p2pdma"):
        return
    async with core.memory_lock:
        await vfio_pci_dma_buf_move(core, True)
        for file in await load(core.dmabufs):
            if not await get_unless_zero(file.f_ref, current(), "running call"):
                continue
            dmabuf: DmaBuf = await private(file)
            await store(core.dmabufs, tuple(other for other in await load(core.dmabufs) if other is not file))
            await store(dmabuf.priv, None)
            await vfio_device_put_registration(core.vdev, dmabuf, LENDS)
            await fput(file)
