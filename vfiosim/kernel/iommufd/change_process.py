"""A new process takes over what is mapped (drivers/iommu/iommufd/ioas.c, v7.2)."""

from __future__ import annotations

from contextlib import suppress

from ...engine import (
    Phase,
    acquire,
    current,
    get_unless_zero,
    in_order,
    kernel,
    load,
    next_slot,
    peek,
    put,
    refuse_if,
    release,
    require,
    say,
)
from ...uapi import Errno, KernelError
from ..task import Task, current_task
from .areas import ACCOUNT_MM, ACCOUNT_NONE, IoptArea, IoptPages
from .pages import Owner, drop_owner, iopt_pages_update_pinned, owner_of, set_source
from .private import IommufdCtx, IommufdIoas, Ucmd

ALL_LOCKED = "its addresses are locked"


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_take_all_iova_rwsem(ictx: IommufdCtx, locked: list[IommufdIoas]) -> None:
    """Lock the addresses of every address space of the context, by their IDs."""
    number = await next_slot(ictx.objects, 1)
    while number is not None:
        async with ictx.objects_lock:
            ioas = await peek(ictx.objects, number)
            held = isinstance(ioas, IommufdIoas) and await get_unless_zero(ioas.users, current(), ALL_LOCKED)
        if held and isinstance(ioas, IommufdIoas):
            await acquire(ioas.iova_rwsem)
            locked.append(ioas)
        number = await next_slot(ictx.objects, number + 1)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_release_all_iova_rwsem(locked: list[IommufdIoas]) -> None:
    """Unlock them."""
    for ioas in locked:
        await release(ioas.iova_rwsem)
        await put(ioas.users, current(), ALL_LOCKED)


@kernel("drivers/iommu/iommufd/ioas.c")
async def need_charge_update(pages: IoptPages, task: Task) -> bool:
    """Would somebody else be charged from now on?"""
    if pages.account_mode == ACCOUNT_NONE:
        return False
    other_mm = await load(pages.source_mm) is not await load(task.mm)
    if pages.account_mode == ACCOUNT_MM:
        return other_mm
    return other_mm or await load(pages.source_user) is not await load(task.user)


@kernel("drivers/iommu/iommufd/ioas.c")
async def charge_current(task: Task, pinned: dict[str, int]) -> None:
    """Charge the caller for all of it, or for nothing. ENOMEM."""
    done: list[str] = []
    owner = Owner(await load(task.mm), task, await load(task.user))
    try:
        for account, npages in pinned.items():
            await iopt_pages_update_pinned(account, owner, npages)
            done.append(account)
    except KernelError:
        for account in done:
            await iopt_pages_update_pinned(account, owner, -pinned[account])
        raise


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_change_process(ucmd: Ucmd) -> None:
    """IOMMU_IOAS_CHANGE_PROCESS: EOPNOTSUPP (reserved), EBUSY, EINVAL (not all from files), ENOMEM (charging)."""
    reserved = ucmd.cmd.get("__reserved")
    await refuse_if(reserved != 0, Errno.EOPNOTSUPP, "change_reserved_zero", "reserved fields must be zero")
    locked: list[IommufdIoas] = []
    say(Phase.LOCK, "All address spaces of {} are locked at once.", ucmd.ictx)
    async with ucmd.ictx.ioas_creation_lock:
        await iommufd_take_all_iova_rwsem(ucmd.ictx, locked)
        try:
            await change_all([area for ioas in locked for area in await in_order(ioas.areas)])
        except KernelError:
            await iommufd_release_all_iova_rwsem(locked)
            raise
        await iommufd_release_all_iova_rwsem(locked)


async def change_all(areas: list[IoptArea]) -> None:
    """Check all areas, charge the caller for what is pinned, then discharge the old owners."""
    task = current_task()
    found: list[IoptPages] = []
    for area in areas:
        pages = await require(
            await load(area.pages), Errno.EBUSY, "all_areas_complete", "another call is mapping or unmapping an area"
        )
        await refuse_if(
            pages.file is None,
            Errno.EINVAL,
            "all_from_files",
            "memory of a process cannot change its owner, a file can",
        )
        if pages not in found:
            found.append(pages)
    pinned: dict[str, int] = {}
    for pages in found:
        if await need_charge_update(pages, task):
            pinned[pages.account_mode] = pinned.get(pages.account_mode, 0) + await load(pages.npinned)
    await charge_current(task, {account: n for account, n in pinned.items() if n})
    for pages in found:
        await change_owner(pages, task)


async def change_owner(pages: IoptPages, task: Task) -> None:
    """The old owner is discharged, the memory belongs to the caller (`change_mm`).

    Memory that was charged to nobody moves without its part of VmPin: the new owner's falls below zero at the unmap.
    """
    old = await owner_of(pages)
    if await need_charge_update(pages, task):
        with suppress(KernelError):
            await iopt_pages_update_pinned(pages.account_mode, old, -await load(pages.npinned))
    await set_source(pages, task)
    await drop_owner(pages, old)
