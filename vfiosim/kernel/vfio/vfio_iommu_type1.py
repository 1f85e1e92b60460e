"""The IOMMU driver of containers: groups and page tables (drivers/vfio/vfio_iommu_type1.c, v7.2).

What a mapping is and how its memory is pinned is in `type1_dma.py`, how mappings come and go in `type1_map.py`, which
I/O addresses there are in `type1_iova.py`.
"""

from __future__ import annotations

from ctypes import sizeof

from ... import uapi
from ...engine import Phase, alloc, copy_from_user, copy_to_user, free, kernel, load, refuse_if, say, store
from ...uapi import Errno, KernelError
from ..iommu import IommuGroup, iommu_attach_group, iommu_detach_group
from ..iommu_ops import APERTURE_LAST
from ..unsupported import Unsupported
from .type1_dma import (
    VfioDomain,
    VfioIommu,
    update_pgsize_bitmap,
    vfio_iommu_replay,
    vfio_iommu_unmap_unpin_all,
    vfio_iommu_unmap_unpin_reaccount,
)
from .type1_iova import aper_expand, aper_resize, group_resv_regions, refuse_iova_conflicts, resv_exclude
from .type1_map import vfio_iommu_type1_map_dma, vfio_iommu_type1_unmap_dma
from .vfio import VfioGroupType, VfioIommuDriverOps

INFO_MINSZ = 16  # up to and including iova_pgsizes
MAX_DIRTY_BITMAP = 1 << 28  # bytes
CAPABILITY = 8  # bytes of its header


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_open(kind: int) -> VfioIommu:
    """The driver's part of a container: type 1, or its second version, whose unmaps never cut a mapping."""
    return await alloc(VfioIommu, kind == uapi.VFIO_TYPE1v2_IOMMU)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_release(iommu: VfioIommu) -> None:
    """The container needs no driver any more: what is left goes."""
    await vfio_iommu_unmap_unpin_all(iommu)
    for domain in await load(iommu.domain_list):
        for iommu_group in await load(domain.group_list):
            await iommu_detach_group(iommu_group)
        await free(domain)
    await free(iommu)


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_attach_group(iommu: VfioIommu, iommu_group: IommuGroup, kind: VfioGroupType) -> None:
    """A group comes under the mappings of the container.

    EBUSY if its DMA goes through a page table already, EINVAL if a mapping lies where its devices cannot reach or must
    not; what pinning says if mappings were waiting for a page table. A group without DMA of its own needs nothing.
    """
    async with iommu.lock:
        if kind is VfioGroupType.EMULATED_IOMMU:
            emulated = await load(iommu.emulated_iommu_groups)
            await store(iommu.emulated_iommu_groups, (iommu_group, *emulated))
            return
        say(Phase.ACQUIRE, "{} gets a page table.", iommu_group)
        fresh = await alloc(VfioDomain)
        try:
            await attach_to_domain(iommu, fresh, iommu_group)
        except KernelError:
            await free(fresh)
            raise


async def attach_to_domain(iommu: VfioIommu, fresh: VfioDomain, iommu_group: IommuGroup) -> None:
    """The second half of `vfio_iommu_type1_attach_group`: the new page table, or one of the container that does as well."""
    await iommu_attach_group(fresh, iommu_group)
    try:
        ranges = await load(iommu.iova_list)
        reserved = group_resv_regions(iommu_group)
        await refuse_iova_conflicts(await load(iommu.dma_list), ranges, 0, APERTURE_LAST, reserved)
        ranges = resv_exclude(aper_resize(ranges, 0, APERTURE_LAST), reserved)
        await refuse_if(not ranges, Errno.EINVAL, "addresses_left", "no I/O address is left that the group could use")
        domain = await fitting_domain(iommu, fresh, iommu_group)
        if domain is fresh:
            await vfio_iommu_replay(iommu)
            await store(iommu.domain_list, (fresh, *await load(iommu.domain_list)))
            await update_pgsize_bitmap(iommu)
    except KernelError:
        await iommu_detach_group(iommu_group)
        raise
    await store(domain.group_list, (iommu_group, *await load(domain.group_list)))
    await store(iommu.iova_list, ranges)


async def fitting_domain(iommu: VfioIommu, fresh: VfioDomain, iommu_group: IommuGroup) -> VfioDomain:
    """A page table of the container that can serve the group too; the new one is not needed then."""
    for domain in await load(iommu.domain_list):
        if domain.enforce_cache_coherency == fresh.enforce_cache_coherency:
            say(Phase.ACQUIRE, "{} shares the page table of the groups that are in the container already.", iommu_group)
            await iommu_detach_group(iommu_group)
            try:
                await iommu_attach_group(domain, iommu_group)
            except KernelError:
                await iommu_attach_group(fresh, iommu_group)  # the next one may do, or else the new one
                continue
            await free(fresh)
            return domain
    return fresh


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_detach_group(iommu: VfioIommu, iommu_group: IommuGroup) -> None:
    """A group leaves. The last one with DMA takes the page table along, the last one of all takes the mappings along."""
    async with iommu.lock:
        emulated = await load(iommu.emulated_iommu_groups)
        if iommu_group in emulated:
            left = tuple(other for other in emulated if other is not iommu_group)
            await store(iommu.emulated_iommu_groups, left)
            if not left and not await load(iommu.domain_list):
                await vfio_iommu_unmap_unpin_all(iommu)
            return
        for domain in await load(iommu.domain_list):
            groups = await load(domain.group_list)
            if iommu_group in groups:
                await iommu_detach_group(iommu_group)
                await store(domain.group_list, tuple(other for other in groups if other is not iommu_group))
                await after_detach(iommu, domain, last=len(groups) == 1)
                break


async def after_detach(iommu: VfioIommu, domain: VfioDomain, last: bool) -> None:
    """The second half of `vfio_iommu_type1_detach_group`: a page table without groups goes, the address ranges may grow."""
    ranges = await load(iommu.iova_list)
    if last:
        domains = await load(iommu.domain_list)
        if len(domains) == 1:
            if await load(iommu.emulated_iommu_groups):
                await vfio_iommu_unmap_unpin_reaccount(iommu)
            else:
                await vfio_iommu_unmap_unpin_all(iommu)
        await store(iommu.domain_list, tuple(other for other in domains if other is not domain))
        await free(domain)
        ranges = aper_expand(ranges, len(domains) > 1)
        await update_pgsize_bitmap(iommu)
    if ranges:
        reserved: tuple[tuple[int, int], ...] = ()
        for other in await load(iommu.domain_list):
            for iommu_group in await load(other.group_list):
                reserved += group_resv_regions(iommu_group)
        await store(iommu.iova_list, resv_exclude(((ranges[0][0], ranges[-1][1]),), reserved))


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_check_extension(iommu: VfioIommu | None, kind: int) -> int:
    """What this driver can do; two of the answers depend on what is in the container."""
    if kind in (uapi.VFIO_TYPE1_IOMMU, uapi.VFIO_TYPE1v2_IOMMU, uapi.VFIO_UNMAP_ALL):
        return 1
    if iommu is None:
        return 0
    if kind == uapi.VFIO_UPDATE_VADDR:
        async with iommu.lock:
            return int(not await load(iommu.emulated_iommu_groups))
    if kind == uapi.VFIO_DMA_CC_IOMMU:
        async with iommu.lock:
            return int(all(domain.enforce_cache_coherency for domain in await load(iommu.domain_list)))
    return 0


async def capabilities(iommu: VfioIommu) -> bytes:
    """The chain of capabilities behind VFIO_IOMMU_GET_INFO; each one says where the next begins."""
    smallest = await load(iommu.pgsize_bitmap)
    smallest &= -smallest
    ranges = await load(iommu.iova_list)
    migration = uapi.VfioIommuType1InfoCapMigration(pgsize_bitmap=smallest, max_dirty_bitmap_size=MAX_DIRTY_BITMAP)
    avail = uapi.VfioIommuType1InfoDmaAvail(avail=await load(iommu.dma_avail))
    bodies = [
        (uapi.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, bytes(migration)[CAPABILITY:]),
        (uapi.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, bytes(avail)[CAPABILITY:]),
    ]
    if ranges:
        table = b"".join(first.to_bytes(8, "little") + last.to_bytes(8, "little") for first, last in ranges)
        count = len(ranges).to_bytes(8, "little")
        bodies.append((uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, count + table))
    chain = b""
    for n, (number, body) in enumerate(bodies):
        body = body.ljust(-(-len(body) // 8) * 8, b"\0")
        following = sizeof(uapi.VfioIommuType1Info) + len(chain) + CAPABILITY + len(body)
        header = uapi.VfioInfoCapHeader(id=number, version=1, next=following if n + 1 < len(bodies) else 0)
        chain += bytes(header) + body
    return chain


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_get_info(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_GET_INFO: EFAULT, EINVAL for argsz below 16; capabilities only if there is room for all of them."""
    whole = sizeof(uapi.VfioIommuType1Info)
    data = (await copy_from_user(argument, INFO_MINSZ)).ljust(whole, b"\0")
    info = uapi.VfioIommuType1Info.from_buffer_copy(data)
    await refuse_if(info.argsz < INFO_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {INFO_MINSZ}")
    room = min(info.argsz, whole)
    async with iommu.lock:
        info.flags = uapi.VFIO_IOMMU_INFO_PGSIZES | uapi.VFIO_IOMMU_INFO_CAPS
        info.iova_pgsizes = await load(iommu.pgsize_bitmap)
        chain = await capabilities(iommu)
    if info.argsz < whole + len(chain):
        info.argsz = whole + len(chain)
    else:
        await copy_to_user(argument + whole, chain)
        info.cap_offset = whole
    await copy_to_user(argument, bytes(info)[:room])
    return 0


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_dirty_pages(iommu: VfioIommu, argument: int) -> int:
    """VFIO_IOMMU_DIRTY_PAGES: EACCES in version 1. What it does is not part of this model."""
    await refuse_if(not iommu.v2, Errno.EACCES, "second_version", "dirty pages are a matter of version 2")
    raise Unsupported("VFIO_IOMMU_DIRTY_PAGES")


@kernel("drivers/vfio/vfio_iommu_type1.c")
async def vfio_iommu_type1_ioctl(iommu: VfioIommu | None, cmd: int, argument: int) -> int:
    """Requests that a container hands to its driver; without a container only VFIO_CHECK_EXTENSION."""
    if cmd == uapi.VFIO_CHECK_EXTENSION or iommu is None:
        return await vfio_iommu_type1_check_extension(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_GET_INFO:
        return await vfio_iommu_type1_get_info(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_MAP_DMA:
        return await vfio_iommu_type1_map_dma(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_UNMAP_DMA:
        return await vfio_iommu_type1_unmap_dma(iommu, argument)
    if cmd == uapi.VFIO_IOMMU_DIRTY_PAGES:
        return await vfio_iommu_type1_dirty_pages(iommu, argument)
    await refuse_if(True, Errno.ENOTTY, "driver_knows_request", "the IOMMU driver has no such request")
    return 0


vfio_iommu_driver_ops_type1 = VfioIommuDriverOps(
    "vfio-iommu-type1",
    open=vfio_iommu_type1_open,
    release=vfio_iommu_type1_release,
    ioctl=vfio_iommu_type1_ioctl,
    attach_group=vfio_iommu_type1_attach_group,
    detach_group=vfio_iommu_type1_detach_group,
)
