"""Options of a context and of an address space (drivers/iommu/iommufd/main.c and ioas.c, v7.2)."""

from __future__ import annotations

from typing import Any

from ... import uapi
from ...engine import copy_to_user, kernel, load, next_slot, refuse_if, store
from ...uapi import Errno, KernelError
from ..task import capable
from .areas import ACCOUNT_MM, ACCOUNT_USER
from .domains import iopt_disable_large_pages, iopt_enable_large_pages
from .main import iommufd_get_object
from .private import IommufdCtx, IommufdIoas, Ucmd, iommufd_put_object


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_option_rlimit_mode(cmd: Any, ictx: IommufdCtx) -> None:
    """Who is charged for pinned memory: 0 the user, 1 the process. SET needs CAP_SYS_RESOURCE, and a context without objects."""
    await refuse_if(
        cmd.object_id != 0, Errno.EOPNOTSUPP, "mode_of_context", "this option belongs to the iommufd itself"
    )
    if cmd.op == uapi.IOMMU_OPTION_OP_GET:
        cmd.val64 = int(await load(ictx.account_mode) == ACCOUNT_MM)
        return
    await refuse_if(
        cmd.op != uapi.IOMMU_OPTION_OP_SET, Errno.EOPNOTSUPP, "option_op_known", "an option can be set or read"
    )
    allowed = await capable("CAP_SYS_RESOURCE")
    await refuse_if(not allowed, Errno.EPERM, "may_set_limits", "this needs CAP_SYS_RESOURCE")
    async with ictx.objects_lock:
        used = await next_slot(ictx.objects, 1) is not None
        await refuse_if(used, Errno.EBUSY, "context_is_empty", "the iommufd has objects already")
        await refuse_if(cmd.val64 not in (0, 1), Errno.EINVAL, "mode_known", "the mode is 0 or 1")
        await store(ictx.account_mode, ACCOUNT_MM if cmd.val64 else ACCOUNT_USER)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_option_huge_pages(cmd: Any, ioas: IommufdIoas) -> None:
    """May page tables use large pages? 1 yes, 0 no: EINVAL if they are filled, EADDRINUSE if an area does not fit."""
    if cmd.op == uapi.IOMMU_OPTION_OP_GET:
        cmd.val64 = int(not await load(ioas.disable_large_pages))
        return
    await refuse_if(
        cmd.op != uapi.IOMMU_OPTION_OP_SET, Errno.EOPNOTSUPP, "option_op_known", "an option can be set or read"
    )
    await refuse_if(cmd.val64 not in (0, 1), Errno.EINVAL, "large_pages_known", "the value is 0 or 1")
    if cmd.val64:
        await iopt_enable_large_pages(ioas)
    else:
        await iopt_disable_large_pages(ioas)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_option(ucmd: Ucmd) -> None:
    """An option of an address space. ENOENT, then what the option says."""
    ioas = await iommufd_get_object(ucmd.ictx, ucmd.cmd.object_id, IommufdIoas)
    try:
        await iommufd_ioas_option_huge_pages(ucmd.cmd, ioas)
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


@kernel("drivers/iommu/iommufd/main.c")
async def iommufd_option(ucmd: Ucmd) -> None:
    """IOMMU_OPTION: EOPNOTSUPP for reserved fields and unknown options; EFAULT for the reply, what was set stays set."""
    cmd = ucmd.cmd
    unknown = cmd.option_id not in (uapi.IOMMU_OPTION_RLIMIT_MODE, uapi.IOMMU_OPTION_HUGE_PAGES)
    bad = unknown or cmd.get("__reserved") != 0
    await refuse_if(bad, Errno.EOPNOTSUPP, "option_known", "an unknown option, or a reserved field that is not zero")
    if cmd.option_id == uapi.IOMMU_OPTION_RLIMIT_MODE:
        await iommufd_option_rlimit_mode(cmd, ucmd.ictx)
    else:
        await iommufd_ioas_option(ucmd)
    await copy_to_user(ucmd.address + type(cmd).val64.offset, cmd.val64.to_bytes(8, "little"))
