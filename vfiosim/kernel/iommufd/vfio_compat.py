"""The requests of a VFIO container, answered by an iommufd (drivers/iommu/iommufd/vfio_compat.c, v7.2).

The compat IOAS is an ordinary object of the context; the context only points to it, so that it can be destroyed.
"""

from __future__ import annotations

from ctypes import sizeof

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..config import built_with
from ..prototypes import _iommufd_object_alloc, iommufd_get_object, iommufd_object_abort, iommufd_object_finalize
from ..regions import PAGE_SIZE
from ..task import capable
from ..uaccess import check_argument
from .io_pagetable import iopt_cut_iova, iopt_disable_large_pages, iopt_map_user_pages, iopt_unmap_all, iopt_unmap_iova
from .io_pagetable_h import IOMMU_READ, IOMMU_WRITE, ULONG_MAX
from .ioas import free_ranges
from .iommufd_private import IommufdCtx, IommufdIoas, Ucmd, iommufd_lock_obj, iommufd_put_object

TYPES = (uapi.VFIO_TYPE1_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def get_compat_ioas(ictx: IommufdCtx) -> IommufdIoas:
    """The address space that stands for the container, held for the running call. ENODEV if there is none."""
    async with ictx.objects_lock:
        ioas = await load(ictx.vfio_ioas)
        found = ioas if ioas is not None and await iommufd_lock_obj(ioas) else None
    return await require(found, Errno.ENODEV, "compat_ioas_set", "no address space stands for the container")


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_compat_ioas_get_id(ictx: IommufdCtx) -> int:
    """The ID of the address space that stands for the container. ENODEV if there is none."""
    ioas = await get_compat_ioas(ictx)
    number = ioas.id
    await iommufd_put_object(ioas)
    return number


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_compat_set_no_iommu(ictx: IommufdCtx) -> None:
    """The context serves devices without IOMMU from now on, for good. EINVAL if an address space stands for the container."""
    async with ictx.objects_lock:
        ioas = await load(ictx.vfio_ioas)
        await refuse_if(ioas is not None, Errno.EINVAL, "no_compat_ioas", "an address space stands for the container")
        await store(ictx.no_iommu_mode, True)


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_compat_ioas_create(ictx: IommufdCtx) -> None:
    """Make sure that an address space stands for the container. EINVAL in a context without IOMMU.

    A new one takes the lowest free ID, but gives way to one that is there.
    """
    say(Phase.ACQUIRE, "{} gets an address space for requests that name none, unless it has one.", ictx)
    ioas = await _iommufd_object_alloc(ictx, IommufdIoas)
    async with on_failure(iommufd_object_abort, ictx, ioas), ictx.objects_lock:
        without = await load(ictx.no_iommu_mode)
        await refuse_if(without, Errno.EINVAL, "context_has_iommu", "the context serves devices without IOMMU")
        known = await load(ictx.vfio_ioas)
        if known is not None and await iommufd_lock_obj(known):
            await iommufd_put_object(known)
        else:
            known = None
            await store(ictx.vfio_ioas, ioas)
    if known is not None:
        await iommufd_object_abort(ictx, ioas)
    else:
        await iommufd_object_finalize(ictx, ioas)


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_ioas(ucmd: Ucmd) -> None:
    """IOMMU_VFIO_IOAS: EOPNOTSUPP (reserved, op); GET ENODEV; SET ENOENT; CLEAR always works."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    reserved = cmd.get("__reserved")
    await refuse_if(
        reserved != 0,
        Errno.EOPNOTSUPP,
        "vfio_ioas_reserved_zero",
        f"the reserved field is {reserved:#x}, and must be 0",
    )
    if cmd.op == uapi.IOMMU_VFIO_IOAS_GET:
        cmd.ioas_id = await iommufd_vfio_compat_ioas_get_id(ictx)
        await copy_to_user(ucmd.address, ucmd.reply())
    elif cmd.op == uapi.IOMMU_VFIO_IOAS_SET:
        ioas = await iommufd_get_object(ictx, cmd.ioas_id, IommufdIoas)
        say(Phase.PUBLISH, "{} stands for the container from now on; nothing holds it for that.", ioas)
        async with ictx.objects_lock:
            await store(ictx.vfio_ioas, ioas)
        await iommufd_put_object(ioas)
    else:
        clear = cmd.op == uapi.IOMMU_VFIO_IOAS_CLEAR
        await refuse_if(not clear, Errno.EOPNOTSUPP, "vfio_ioas_op", "the address space can be read, set and cleared")
        say(Phase.PUBLISH, "No address space of {} stands for the container any more.", ictx)
        async with ictx.objects_lock:
            await store(ictx.vfio_ioas, None)


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_map_dma(ictx: IommufdCtx, argument: int) -> int:
    """VFIO_IOMMU_MAP_DMA: EFAULT, EINVAL (argsz, flags), ENODEV, then as IOAS_MAP at a fixed address."""
    size = sizeof(uapi.VfioIommuType1DmaMap)
    wanted = uapi.VfioIommuType1DmaMap.from_buffer_copy(await copy_from_user(argument, size))
    unknown = wanted.flags & ~(uapi.VFIO_DMA_MAP_FLAG_READ | uapi.VFIO_DMA_MAP_FLAG_WRITE)
    await check_argument(wanted.argsz, size, unknown)
    prot = IOMMU_READ if wanted.flags & uapi.VFIO_DMA_MAP_FLAG_READ else 0
    prot |= IOMMU_WRITE if wanted.flags & uapi.VFIO_DMA_MAP_FLAG_WRITE else 0
    ioas = await get_compat_ioas(ictx)
    async with cleanup(iommufd_put_object, ioas):
        await iopt_map_user_pages(ictx, ioas, wanted.iova, wanted.vaddr, wanted.size, prot)
    return 0


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_unmap_dma(ictx: IommufdCtx, argument: int) -> int:
    """VFIO_IOMMU_UNMAP_DMA: EFAULT, EINVAL (argsz, flags), ENODEV, EINVAL (ALL with a range), then what cutting says.

    From there on `size` is written back whatever happens (EFAULT wins); nothing mapped there is a success.
    """
    size = sizeof(uapi.VfioIommuType1DmaUnmap)
    wanted = uapi.VfioIommuType1DmaUnmap.from_buffer_copy(await copy_from_user(argument, size))
    unknown = wanted.flags & ~uapi.VFIO_DMA_UNMAP_FLAG_ALL
    await check_argument(wanted.argsz, size, unknown)
    ioas = await get_compat_ioas(ictx)
    async with cleanup(iommufd_put_object, ioas):
        error = await unmap_dma(ioas, wanted)
        await copy_to_user(argument, bytes(wanted)[:size])
        if error is not None:
            raise error
    return 0


async def unmap_dma(ioas: IommufdIoas, wanted: uapi.VfioIommuType1DmaUnmap) -> KernelError | None:
    """Unmap, after cutting what the edges cut if pages are small; `wanted.size` becomes how much was unmapped."""
    iova, size = wanted.iova, wanted.size
    error: KernelError | None = None
    if wanted.flags & uapi.VFIO_DMA_UNMAP_FLAG_ALL:
        await refuse_if(iova != 0 or size != 0, Errno.EINVAL, "all_has_no_range", "everything, or a range")
        wanted.size, error = await iopt_unmap_all(ioas)
        return error
    if await load(ioas.disable_large_pages):
        places = ((iova + size - 1) % 2**64, iova - 1)
        await iopt_cut_iova(ioas, places if iova else places[:1])
    try:
        wanted.size, error = await iopt_unmap_iova(ioas, iova, size)
    except KernelError as refused:
        wanted.size, error = 0, refused
    return error


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_check_extension(ictx: IommufdCtx, kind: int) -> int:
    """What this container can: type 1 and UNMAP_ALL with an IOMMU; does it know devices without one?"""
    if kind in (*TYPES, uapi.VFIO_UNMAP_ALL):
        return int(not await load(ictx.no_iommu_mode))
    if kind == uapi.VFIO_NOIOMMU_IOMMU:
        return int(built_with("vfio_noiommu"))
    if kind == uapi.VFIO_DMA_CC_IOMMU:
        ioas = await get_compat_ioas(ictx)
        async with ioas.mutex:
            tables = await load(ioas.hwpt_list)
        await iommufd_put_object(ioas)
        return int(not tables)  # no page table of this IOMMU enforces coherency
    return 0


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_set_iommu(ictx: IommufdCtx, kind: int) -> int:
    """VFIO_SET_IOMMU: EPERM (without IOMMU, without CAP_SYS_RAWIO), EINVAL (type), ENODEV. TYPE1 wants small pages."""
    without = await load(ictx.no_iommu_mode)
    if built_with("vfio_noiommu") and kind == uapi.VFIO_NOIOMMU_IOMMU and without:
        raw = await capable("CAP_SYS_RAWIO")
        await refuse_if(not raw, Errno.EPERM, "may_go_without_iommu", "DMA without an IOMMU needs CAP_SYS_RAWIO")
        return 0
    bad = kind not in TYPES or without
    await refuse_if(
        bad, Errno.EINVAL, "compat_type", "there are TYPE1 and TYPE1v2, and devices without IOMMU have neither"
    )
    ioas = await get_compat_ioas(ictx)
    async with cleanup(iommufd_put_object, ioas):
        if kind == uapi.VFIO_TYPE1_IOMMU:
            await iopt_disable_large_pages(ioas)
    return 0


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_get_pagesizes(ioas: IommufdIoas) -> int:
    """Sizes of pages that fit every page table, a bit each."""
    async with shared(ioas.domains_rwsem):
        sizes = ULONG_MAX
        for table in await load(ioas.domains):
            sizes &= table.translation.pgsizes
        if sizes & (PAGE_SIZE - 1):
            sizes = sizes & ~(PAGE_SIZE - 1) | PAGE_SIZE
        return max(sizes, await load(ioas.iova_alignment))


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_iommu_get_info(ictx: IommufdCtx, argument: int) -> int:
    """VFIO_IOMMU_GET_INFO: EFAULT, EINVAL (argsz), ENODEV; then two capabilities as far as there is room for each."""
    minimum = uapi.VfioIommuType1Info.cap_offset.offset  # type: ignore[attr-defined]
    given = await copy_from_user(argument, minimum)
    info = uapi.VfioIommuType1Info.from_buffer_copy(given.ljust(sizeof(uapi.VfioIommuType1Info), b"\0"))
    await refuse_if(info.argsz < minimum, Errno.EINVAL, "info_argsz", f"argsz must be at least {minimum}")
    ioas = await get_compat_ioas(ictx)
    async with cleanup(iommufd_put_object, ioas):
        info.flags = uapi.VFIO_IOMMU_INFO_PGSIZES | uapi.VFIO_IOMMU_INFO_CAPS
        info.iova_pgsizes = await iommufd_get_pagesizes(ioas)
        async with shared(ioas.iova_rwsem):
            room = info.argsz
            total = await write_caps(argument, room, await free_ranges(ioas))
            info.cap_offset = sizeof(info) if room >= total else 0
            info.argsz = total
            await copy_to_user(argument, bytes(info)[: min(room, sizeof(info))])
    return 0


async def write_caps(argument: int, room: int, ranges: list[tuple[int, int]]) -> int:
    """How much can be mapped (no limit), and where; the answer is how much room the whole needs."""
    avail, where = sizeof(uapi.VfioIommuType1Info), sizeof(uapi.VfioIommuType1Info) + 16
    total = where + 16 + 16 * len(ranges)
    if room >= avail + 12:
        await copy_to_user(argument + avail, cap(uapi.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 0xFFFFFFFF)[:12])
    for index, (first, last) in enumerate(ranges):
        at = where + 16 + 16 * index
        if room >= at + 16:
            await copy_to_user(argument + at, first.to_bytes(8, "little") + last.to_bytes(8, "little"))
    if room >= total:
        await copy_to_user(argument + where, cap(uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, len(ranges)))
    if room >= where:
        await copy_to_user(argument + avail + 4, where.to_bytes(4, "little"))  # its link to the second one
    return total


def cap(number: int, value: int) -> bytes:
    """A capability: its header, version 1, and a number."""
    header = number.to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(4)
    return header + value.to_bytes(8, "little")


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_ioctl(ictx: IommufdCtx, cmd: int, argument: int) -> int:
    """A request of a VFIO container on an iommufd; ENOTTY for those that it has not."""
    say(Phase.VALIDATE, "A request of the old interface: {} plays a VFIO container.", ictx)
    if cmd == uapi.VFIO_GET_API_VERSION:
        return uapi.VFIO_API_VERSION
    handler = {
        uapi.VFIO_SET_IOMMU: iommufd_vfio_set_iommu,
        uapi.VFIO_CHECK_EXTENSION: iommufd_vfio_check_extension,
        uapi.VFIO_IOMMU_GET_INFO: iommufd_vfio_iommu_get_info,
        uapi.VFIO_IOMMU_MAP_DMA: iommufd_vfio_map_dma,
        uapi.VFIO_IOMMU_UNMAP_DMA: iommufd_vfio_unmap_dma,
    }.get(cmd)
    known = await require(handler, Errno.ENOTTY, "container_request_known", "an iommufd has no such call")
    return await known(ictx, argument)
