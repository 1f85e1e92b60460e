"""An iommufd that stands for a container: the requests of type 1 (drivers/iommu/iommufd/vfio_compat.c, v7.2).

The compat IOAS is an ordinary object of the context; the context only points to it, so that it can be destroyed.
"""

from __future__ import annotations

from ctypes import sizeof

from ... import uapi
from ...engine import Phase, copy_from_user, copy_to_user, kernel, load, refuse_if, require, say, store
from ...uapi import Errno, KernelError
from ..task import capable
from ..unsupported import Unsupported
from .main import _iommufd_object_alloc, iommufd_get_object, iommufd_object_abort, iommufd_object_finalize
from .private import IommufdCtx, IommufdIoas, Ucmd, iommufd_lock_obj, iommufd_put_object

GET, SET, CLEAR = uapi.IOMMU_VFIO_IOAS_GET, uapi.IOMMU_VFIO_IOAS_SET, uapi.IOMMU_VFIO_IOAS_CLEAR
MAP_FLAGS = uapi.VFIO_DMA_MAP_FLAG_READ | uapi.VFIO_DMA_MAP_FLAG_WRITE
INFO_MINSZ = 16  # up to and including iova_pgsizes
UNMAP_MINSZ = 24  # up to and including size


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def get_compat_ioas(ictx: IommufdCtx) -> IommufdIoas:
    """The IOAS that requests without an ID mean, held for the running call. ENODEV if there is none."""
    async with ictx.objects_lock:
        ioas = await load(ictx.vfio_ioas)
        found = ioas if isinstance(ioas, IommufdIoas) and await iommufd_lock_obj(ioas) else None
    return await require(found, Errno.ENODEV, "compat_ioas_exists", "this iommufd has no IOAS for container requests")


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_compat_ioas_get_id(ictx: IommufdCtx) -> int:
    """The ID of the compat IOAS. ENODEV if there is none."""
    ioas = await get_compat_ioas(ictx)
    number = ioas.id
    await iommufd_put_object(ioas)
    return number


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_compat_ioas_create(ictx: IommufdCtx) -> None:
    """Make sure that there is a compat IOAS: a new one takes the lowest free ID, but gives way to one that is there.

    EINVAL if the context serves groups without an IOMMU.
    """
    say(Phase.ACQUIRE, "{} gets an IOAS for requests that name none, unless it has one.", ictx)
    ioas = await _iommufd_object_alloc(ictx, IommufdIoas)
    try:
        if await compat_ioas_is_there(ictx, ioas):
            await iommufd_object_abort(ictx, ioas)
            return
    except KernelError:
        await iommufd_object_abort(ictx, ioas)
        raise
    await iommufd_object_finalize(ictx, ioas)


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_compat_set_no_iommu(ictx: IommufdCtx) -> None:
    """From now on, for ever, the context serves groups without an IOMMU. EINVAL if it has a compat IOAS."""
    async with ictx.objects_lock:
        has = await load(ictx.vfio_ioas) is not None
        await refuse_if(has, Errno.EINVAL, "no_compat_ioas", "this iommufd has a compat IOAS, for groups with an IOMMU")
        await store(ictx.no_iommu_mode, True)


async def compat_ioas_is_there(ictx: IommufdCtx, fresh: IommufdIoas) -> bool:
    """The middle of `iommufd_vfio_compat_ioas_create`: looking and pointing to the new one is one step."""
    async with ictx.objects_lock:
        plain = await load(ictx.no_iommu_mode)
        await refuse_if(plain, Errno.EINVAL, "not_without_iommu", "this iommufd serves groups without an IOMMU")
        old = await load(ictx.vfio_ioas)
        if isinstance(old, IommufdIoas) and await iommufd_lock_obj(old):
            await iommufd_put_object(old)
            return True
        await store(ictx.vfio_ioas, fresh)
    return False


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_ioas(ucmd: Ucmd) -> None:
    """IOMMU_VFIO_IOAS: tell, set or clear the compat IOAS. EOPNOTSUPP; GET: ENODEV, EFAULT; SET: ENOENT."""
    ictx, cmd = ucmd.ictx, ucmd.cmd
    await refuse_if(cmd.__reserved != 0, Errno.EOPNOTSUPP, "reserved_is_zero", "a reserved field must be zero")
    if cmd.op == GET:
        cmd.ioas_id = await iommufd_vfio_compat_ioas_get_id(ictx)
        await copy_to_user(ucmd.address, ucmd.reply())
    elif cmd.op == SET:
        ioas = await iommufd_get_object(ictx, cmd.ioas_id, IommufdIoas)
        say(Phase.PUBLISH, "{} is what container requests mean from now on; nothing holds it for that.", ioas)
        async with ictx.objects_lock:
            await store(ictx.vfio_ioas, ioas)
        await iommufd_put_object(ioas)
    else:
        await refuse_if(cmd.op != CLEAR, Errno.EOPNOTSUPP, "op_known", f"operation {cmd.op} is not known")
        async with ictx.objects_lock:
            await store(ictx.vfio_ioas, None)


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_map_dma(ictx: IommufdCtx, argument: int) -> int:
    """VFIO_IOMMU_MAP_DMA on the compat IOAS. EFAULT, EINVAL (argsz, flags), ENODEV, then what a mapping says."""
    size = sizeof(uapi.VfioIommuType1DmaMap)
    wanted = uapi.VfioIommuType1DmaMap.from_buffer_copy(await copy_from_user(argument, size))
    wrong = wanted.argsz < size or wanted.flags & ~MAP_FLAGS != 0
    await refuse_if(wrong, Errno.EINVAL, "argsz_and_flags", f"argsz must be at least {size}, and all flags known")
    await iommufd_put_object(await get_compat_ioas(ictx))
    raise Unsupported("VFIO_IOMMU_MAP_DMA on an iommufd")


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_unmap_dma(ictx: IommufdCtx, argument: int) -> int:
    """VFIO_IOMMU_UNMAP_DMA on the compat IOAS. EFAULT, EINVAL (argsz, flags), ENODEV, then what an unmap says."""
    data = (await copy_from_user(argument, UNMAP_MINSZ)).ljust(sizeof(uapi.VfioIommuType1DmaUnmap), b"\0")
    wanted = uapi.VfioIommuType1DmaUnmap.from_buffer_copy(data)
    wrong = wanted.argsz < UNMAP_MINSZ or wanted.flags & ~uapi.VFIO_DMA_UNMAP_FLAG_ALL != 0
    await refuse_if(
        wrong, Errno.EINVAL, "argsz_and_flags", f"argsz must be at least {UNMAP_MINSZ}, and all flags known"
    )
    await iommufd_put_object(await get_compat_ioas(ictx))
    raise Unsupported("VFIO_IOMMU_UNMAP_DMA on an iommufd")


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_iommu_get_info(ictx: IommufdCtx, argument: int) -> int:
    """VFIO_IOMMU_GET_INFO on the compat IOAS. EFAULT, EINVAL (argsz), ENODEV."""
    argsz = int.from_bytes((await copy_from_user(argument, INFO_MINSZ))[:4], "little")
    await refuse_if(argsz < INFO_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {INFO_MINSZ}")
    await iommufd_put_object(await get_compat_ioas(ictx))
    raise Unsupported("VFIO_IOMMU_GET_INFO on an iommufd")


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_cc_iommu(ictx: IommufdCtx) -> int:
    """Does every page table of the compat IOAS keep caches coherent, whatever a device asks for? ENODEV without one."""
    await iommufd_put_object(await get_compat_ioas(ictx))
    raise Unsupported("VFIO_CHECK_EXTENSION of VFIO_DMA_CC_IOMMU on an iommufd")


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_check_extension(ictx: IommufdCtx, kind: int) -> int:
    """VFIO_CHECK_EXTENSION: type 1 in both versions, except where groups without an IOMMU are served."""
    if kind in (uapi.VFIO_TYPE1_IOMMU, uapi.VFIO_TYPE1v2_IOMMU, uapi.VFIO_UNMAP_ALL):
        return int(not await load(ictx.no_iommu_mode))
    if kind == uapi.VFIO_DMA_CC_IOMMU:
        return await iommufd_vfio_cc_iommu(ictx)
    return int(kind == uapi.VFIO_NOIOMMU_IOMMU)


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_set_iommu(ictx: IommufdCtx, kind: int) -> int:
    """VFIO_SET_IOMMU: changes nothing for v2, and may be repeated. EINVAL for other types than type 1, ENODEV.

    Where groups without an IOMMU are served only that type is possible, with CAP_SYS_RAWIO (EPERM).
    """
    without = await load(ictx.no_iommu_mode)
    if without and kind == uapi.VFIO_NOIOMMU_IOMMU:
        raw = await capable("CAP_SYS_RAWIO")
        await refuse_if(not raw, Errno.EPERM, "capable_of_raw_io", "working without an IOMMU takes CAP_SYS_RAWIO")
        return 0
    known = kind in (uapi.VFIO_TYPE1_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)
    await refuse_if(
        without or not known, Errno.EINVAL, "type_is_type1", "an iommufd stands for a container of type 1 only"
    )
    await iommufd_put_object(await get_compat_ioas(ictx))
    if kind == uapi.VFIO_TYPE1_IOMMU:
        raise Unsupported("VFIO_SET_IOMMU of VFIO_TYPE1_IOMMU on an iommufd")
    return 0


@kernel("drivers/iommu/iommufd/vfio_compat.c")
async def iommufd_vfio_ioctl(ictx: IommufdCtx, cmd: int, argument: int) -> int:
    """Requests of a container on an iommufd; ENOTTY for all others."""
    if cmd == uapi.VFIO_GET_API_VERSION:
        return uapi.VFIO_API_VERSION
    handler = {
        uapi.VFIO_SET_IOMMU: iommufd_vfio_set_iommu,
        uapi.VFIO_CHECK_EXTENSION: iommufd_vfio_check_extension,
        uapi.VFIO_IOMMU_GET_INFO: iommufd_vfio_iommu_get_info,
        uapi.VFIO_IOMMU_MAP_DMA: iommufd_vfio_map_dma,
        uapi.VFIO_IOMMU_UNMAP_DMA: iommufd_vfio_unmap_dma,
    }.get(cmd)
    known = await require(handler, Errno.ENOTTY, "number_in_table", "an iommufd has no such call")
    return await known(ictx, argument)
