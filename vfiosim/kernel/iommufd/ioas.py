"""What a program can ask of an I/O address space (drivers/iommu/iommufd/ioas.c, v7.2)."""

from __future__ import annotations

from typing import Any

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..prototypes import _iommufd_object_alloc, iommufd_get_object, iommufd_object_finalize
from ..task import TaskStruct, capable, current_task
from .io_pagetable import (
    iopt_disable_large_pages,
    iopt_enable_large_pages,
    iopt_free_pages_list,
    iopt_get_pages,
    iopt_map_file_pages,
    iopt_map_pages,
    iopt_map_user_pages,
    iopt_set_allow_iova,
    iopt_unmap_all,
    iopt_unmap_iova,
)
from .io_pagetable_h import (
    ACCOUNT_MM,
    ACCOUNT_NONE,
    ACCOUNT_USER,
    IOMMU_READ,
    IOMMU_WRITE,
    ULONG_MAX,
    IoptArea,
    IoptPages,
    holes,
    merged,
)
from .iommufd_private import IommufdCtx, IommufdIoas, Ucmd, iommufd_put_object
from .pages import Owner, drop_owner, iopt_pages_update_pinned, owner_of, set_source
from .selftest.selftest import iommufd_test_syz_conv_iova_id

FIXED = uapi.IOMMU_IOAS_MAP_FIXED_IOVA
READABLE, WRITEABLE = uapi.IOMMU_IOAS_MAP_READABLE, uapi.IOMMU_IOAS_MAP_WRITEABLE
RANGE_SIZE = 16
ALL_LOCKED = "its addresses are locked"


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_destroy(ioas: IommufdIoas) -> None:
    """Give back what the address space holds: its mappings."""
    await iopt_unmap_all(ioas)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_alloc_ioctl(ucmd: Ucmd) -> None:
    """A new, empty address space. EOPNOTSUPP for flags, EFAULT where its ID cannot be written."""
    await refuse_if(ucmd.cmd.flags != 0, Errno.EOPNOTSUPP, "no_flags_known", "IOMMU_IOAS_ALLOC has no flags yet")
    say(Phase.ACQUIRE, "A new address space takes the lowest free ID of {}.", ucmd.ictx)
    ioas = await _iommufd_object_alloc(ucmd.ictx, IommufdIoas)
    ucmd.new_obj = ioas  # undone if the call fails
    ucmd.cmd.out_ioas_id = ioas.id
    await copy_to_user(ucmd.address, ucmd.reply())
    say(Phase.PUBLISH, "{} can be found under its ID from now on.", ioas)
    async with shared(ucmd.ictx.ioas_creation_lock):
        await iommufd_object_finalize(ucmd.ictx, ioas)
    ucmd.new_obj = None


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_iova_ranges(ucmd: Ucmd) -> None:
    """Which addresses can be mapped? EOPNOTSUPP, ENOENT, EFAULT, EMSGSIZE if they do not fit (the number is told then too)."""
    reserved = ucmd.cmd.get("__reserved")
    await refuse_if(
        reserved != 0, Errno.EOPNOTSUPP, "ranges_reserved_zero", f"the reserved field is {reserved:#x}, and must be 0"
    )
    ioas = await iommufd_get_object(ucmd.ictx, ucmd.cmd.ioas_id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas), shared(ioas.iova_rwsem):
        await write_ranges(ucmd, ioas)


async def free_ranges(ioas: IommufdIoas) -> list[tuple[int, int]]:
    """What no page table and no device has reserved; whether something is mapped there does not matter."""
    used = merged((first, last) for first, last, _ in await load(ioas.reserved))
    return holes(used, 0, ULONG_MAX)


async def write_ranges(ucmd: Ucmd, ioas: IommufdIoas) -> None:
    """As many ranges as there is room for, then how many there are."""
    cmd, room = ucmd.cmd, ucmd.cmd.num_iovas
    cmd.out_iova_alignment = await load(ioas.iova_alignment)
    ranges = await free_ranges(ioas)
    for index, (first, last) in enumerate(ranges[:room]):
        data = first.to_bytes(8, "little") + last.to_bytes(8, "little")
        await copy_to_user(cmd.allowed_iovas + RANGE_SIZE * index, data)
    cmd.num_iovas = len(ranges)
    await copy_to_user(ucmd.address, ucmd.reply())
    await refuse_if(len(ranges) > room, Errno.EMSGSIZE, "room_for_ranges", f"there are {len(ranges)} ranges")


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_load_iovas(address: int, number: int) -> tuple[tuple[int, int], ...]:
    """Copy a list of ranges. For each in turn EFAULT, EINVAL if it has less than two addresses or hits an earlier one."""
    ranges: list[tuple[int, int]] = []
    for index in range(number):
        data = await copy_from_user(address + RANGE_SIZE * index, RANGE_SIZE)
        first, last = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
        await refuse_if(
            first >= last,
            Errno.EINVAL,
            "range_not_empty",
            f"the range {first:#x} to {last:#x} has less than two addresses",
        )
        hit = any(start <= last and first <= end for start, end in ranges)
        await refuse_if(hit, Errno.EINVAL, "ranges_apart", f"the range {first:#x} to {last:#x} overlaps one before it")
        ranges.append((first, last))
    return tuple(sorted(ranges))


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_allow_iovas(ucmd: Ucmd) -> None:
    """Where mappings without a fixed address may go. EOPNOTSUPP, ENOENT, the list's errors, EADDRINUSE if it is reserved."""
    reserved = ucmd.cmd.get("__reserved")
    await refuse_if(
        reserved != 0, Errno.EOPNOTSUPP, "allow_reserved_zero", f"the reserved field is {reserved:#x}, and must be 0"
    )
    ioas = await iommufd_get_object(ucmd.ictx, ucmd.cmd.ioas_id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas):
        allowed = await iommufd_ioas_load_iovas(ucmd.cmd.allowed_iovas, ucmd.cmd.num_iovas)
        await iopt_set_allow_iova(ioas, allowed)


@kernel("drivers/iommu/iommufd/ioas.c")
async def conv_iommu_prot(flags: int) -> int:
    """What devices may do there."""
    return (IOMMU_WRITE if flags & WRITEABLE else 0) | (IOMMU_READ if flags & READABLE else 0)


async def check_map(flags: int, reserved: int, *numbers: int) -> None:
    """The checks that only look at the argument: EOPNOTSUPP, EOVERFLOW, EINVAL without any permission."""
    unknown = flags & ~(FIXED | WRITEABLE | READABLE)
    bad = unknown != 0 or reserved != 0
    why = f"the flags {unknown:#x} are not known" if unknown else f"the reserved field is {reserved:#x}, and must be 0"
    await refuse_if(bad, Errno.EOPNOTSUPP, "map_flags_known", why)
    over = any(number >= ULONG_MAX for number in numbers)
    await refuse_if(over, Errno.EOVERFLOW, "map_in_range", "an address or the length is 2^64 - 1")
    nothing = not flags & (WRITEABLE | READABLE)
    await refuse_if(nothing, Errno.EINVAL, "map_for_something", "devices must be allowed to read or to write")


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_map_file(ucmd: Ucmd) -> None:
    """Map a part of a file, of whatever kind as long as nothing has to be pinned. Errors as for memory, EBADF."""
    cmd = ucmd.cmd
    await check_map(cmd.flags, 0, cmd.iova, cmd.length)
    iova = cmd.iova if cmd.flags & FIXED else None
    say(
        Phase.ACQUIRE,
        "The address space is found by its ID, and the file by its descriptor; both are held during the call.",
    )
    ioas = await iommufd_get_object(ucmd.ictx, cmd.ioas_id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas):
        prot = await conv_iommu_prot(cmd.flags)
        cmd.iova = await iopt_map_file_pages(ucmd.ictx, ioas, iova, cmd.fd, cmd.start, cmd.length, prot)
        await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_map(ucmd: Ucmd) -> None:
    """Map memory of the caller. EOPNOTSUPP, EOVERFLOW, EINVAL, ENOENT, then what mapping says; EFAULT for the reply."""
    cmd = ucmd.cmd
    await check_map(cmd.flags, cmd.get("__reserved"), cmd.iova, cmd.length)
    iova = cmd.iova if cmd.flags & FIXED else None
    say(Phase.ACQUIRE, "The address space is found by its ID, and held during the call.")
    ioas = await iommufd_get_object(ucmd.ictx, cmd.ioas_id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas):
        prot = await conv_iommu_prot(cmd.flags)
        cmd.iova = await iopt_map_user_pages(ucmd.ictx, ioas, iova, cmd.user_va, cmd.length, prot)
        await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_copy(ucmd: Ucmd) -> None:
    """Map again what is mapped elsewhere; both then go their own ways.

    EOPNOTSUPP, EOVERFLOW, EINVAL, ENOENT (source), EINVAL, EOVERFLOW, ENOENT (not all of it mapped), ENOENT (destination),
    then what mapping says, with EPERM to write what was mapped for reading only.
    """
    cmd = ucmd.cmd
    await iommufd_test_syz_conv_iova_id(ucmd.ictx, cmd)
    await check_map(cmd.flags, 0, cmd.length, cmd.src_iova, cmd.dst_iova)
    source = await iommufd_get_object(ucmd.ictx, cmd.src_ioas_id, IommufdIoas)
    async with cleanup(iommufd_put_object, source):
        elements = await iopt_get_pages(source, cmd.src_iova, cmd.length)
    async with on_failure(iopt_free_pages_list, elements):
        await copy_to(ucmd, elements)


async def copy_to(ucmd: Ucmd, elements: Any) -> None:
    """The second half of COPY: the destination."""
    cmd = ucmd.cmd
    ioas = await iommufd_get_object(ucmd.ictx, cmd.dst_ioas_id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas):
        iova = cmd.dst_iova if cmd.flags & FIXED else None
        prot = await conv_iommu_prot(cmd.flags)
        cmd.dst_iova = await iopt_map_pages(ioas, elements, cmd.length, iova, prot)
        await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_unmap(ucmd: Ucmd) -> None:
    """Unmap whole mappings: ENOENT, EOVERFLOW, EINVAL, EBUSY or ENOENT (cut), ENOENT if nothing was mapped there."""
    cmd = ucmd.cmd
    ioas = await iommufd_get_object(ucmd.ictx, cmd.ioas_id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas):
        everything = cmd.iova == 0 and cmd.length == ULONG_MAX
        cmd.length = await unmap_all(ioas) if everything else await unmap_range(ioas, cmd.iova, cmd.length)
        await copy_to_user(ucmd.address, ucmd.reply())


async def unmap_all(ioas: IommufdIoas) -> int:
    """Everything; the answer is how many bytes that was."""
    unmapped, error = await iopt_unmap_all(ioas)
    if error is not None:
        raise error
    return unmapped


async def unmap_range(ioas: IommufdIoas, iova: int, length: int) -> int:
    """A range; the answer is how many bytes of it were mapped."""
    over = iova >= ULONG_MAX or length >= ULONG_MAX
    await refuse_if(over, Errno.EOVERFLOW, "unmap_in_range", "the address or the length is 2^64 - 1")
    unmapped, error = await iopt_unmap_iova(ioas, iova, length)
    if error is not None:
        raise error
    await refuse_if(
        not unmapped,
        Errno.ENOENT,
        "something_was_mapped",
        f"nothing is mapped from {iova:#x} to {iova + length - 1:#x}",
    )
    return unmapped


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_release_all_iova_rwsem(locked: list[IommufdIoas]) -> None:
    """Unlock them."""
    for ioas in locked:
        await release(ioas.iova_rwsem)
        await put(ioas.users, current(), ALL_LOCKED)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_take_all_iova_rwsem(ictx: IommufdCtx, locked: list[IommufdIoas]) -> None:
    """Lock the addresses of every address space of the context, by their IDs."""
    number = await next_slot(ictx.objects, 1)
    while number is not None:
        async with ictx.objects_lock:
            ioas = await xa_load(ictx.objects, number)
            held = isinstance(ioas, IommufdIoas) and await get_unless_zero(ioas.users, current(), ALL_LOCKED)
        if held and isinstance(ioas, IommufdIoas):
            await acquire(ioas.iova_rwsem)
            locked.append(ioas)
        number = await next_slot(ictx.objects, number + 1)


@kernel("drivers/iommu/iommufd/ioas.c")
async def need_charge_update(pages: IoptPages, task: TaskStruct) -> bool:
    """Would somebody else be charged from now on?"""
    if pages.account_mode == ACCOUNT_NONE:
        return False
    other_mm = await load(pages.source_mm) is not await load(task.mm)
    if pages.account_mode == ACCOUNT_MM:
        return other_mm
    return other_mm or await load(pages.source_user) is not await load(task.user)


@kernel("drivers/iommu/iommufd/ioas.c")
async def charge_current(task: TaskStruct, pinned: dict[str, int]) -> None:
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
    await refuse_if(
        reserved != 0, Errno.EOPNOTSUPP, "change_reserved_zero", f"the reserved field is {reserved:#x}, and must be 0"
    )
    locked: list[IommufdIoas] = []
    say(Phase.LOCK, "All address spaces of {} are locked at once.", ucmd.ictx)
    async with ucmd.ictx.ioas_creation_lock:
        await iommufd_take_all_iova_rwsem(ucmd.ictx, locked)
        async with cleanup(iommufd_release_all_iova_rwsem, locked):
            await change_all([area for ioas in locked for area in await in_order(ioas.areas)])


async def change_all(areas: list[IoptArea]) -> None:
    """Check all areas, charge the caller for what is pinned, then discharge the old owners."""
    task = current_task()
    found: list[IoptPages] = []
    for area in areas:
        pages = await require(
            await load(area.pages), Errno.EBUSY, "all_areas_complete", "another call is mapping or unmapping an area"
        )
        await refuse_if(
            pages.file is None or pages.is_dmabuf,
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
    error: KernelError | None = None
    for pages in found:
        error = await change_owner(pages, task) or error
    if error is not None:
        raise error


async def change_owner(pages: IoptPages, task: TaskStruct) -> KernelError | None:
    """The old owner is discharged, the memory belongs to the caller (`change_mm`). An old owner that has ended is an error, but
    no more: the call has done all it does, and the new owner is never discharged.

    Memory that was charged to nobody moves without its part of VmPin: the new owner's falls below zero at the unmap.
    """
    old, error = await owner_of(pages), None
    if await need_charge_update(pages, task):
        try:
            await iopt_pages_update_pinned(pages.account_mode, old, -await load(pages.npinned))
        except KernelError as refused:
            error = refused
            await warn_on(True, f"the process that {pages.oid} was charged to has ended, and cannot be discharged")
            await store(pages.last_npinned, 0)
    await set_source(pages, task)
    await drop_owner(pages, old)
    return error


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_option_rlimit_mode(cmd: uapi.IommuOption, ictx: IommufdCtx) -> None:
    """Who is charged for pinned memory: 0 the user, 1 the process. SET needs CAP_SYS_RESOURCE, and a context without objects."""
    await refuse_if(
        cmd.object_id != 0, Errno.EOPNOTSUPP, "mode_of_context", "this option belongs to the iommufd itself"
    )
    if cmd.op == uapi.IOMMU_OPTION_OP_GET:
        cmd.val64 = int(await load(ictx.account_mode) == ACCOUNT_MM)
        return
    await refuse_if(
        cmd.op != uapi.IOMMU_OPTION_OP_SET,
        Errno.EOPNOTSUPP,
        "option_op_known",
        f"an option is set (0) or read (1), and not {cmd.op}",
    )
    allowed = await capable("CAP_SYS_RESOURCE")
    await refuse_if(not allowed, Errno.EPERM, "may_set_limits", "this needs CAP_SYS_RESOURCE")
    async with ictx.objects_lock:
        used = await next_slot(ictx.objects, 1) is not None
        await refuse_if(used, Errno.EBUSY, "context_is_empty", "the iommufd has objects already")
        await refuse_if(cmd.val64 not in (0, 1), Errno.EINVAL, "mode_known", f"the mode is 0 or 1, and not {cmd.val64}")
        who = "the process" if cmd.val64 else "the user"
        say(Phase.PUBLISH, f"For what {{}} pins {who} is charged from now on.", ictx)
        await store(ictx.account_mode, ACCOUNT_MM if cmd.val64 else ACCOUNT_USER)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_option_huge_pages(cmd: uapi.IommuOption, ioas: IommufdIoas) -> None:
    """May page tables use large pages? 1 yes, 0 no: EINVAL if they are filled, EADDRINUSE if an area does not fit."""
    if cmd.op == uapi.IOMMU_OPTION_OP_GET:
        cmd.val64 = int(not await load(ioas.disable_large_pages))
        return
    await refuse_if(
        cmd.op != uapi.IOMMU_OPTION_OP_SET,
        Errno.EOPNOTSUPP,
        "option_op_known",
        f"an option is set (0) or read (1), and not {cmd.op}",
    )
    await refuse_if(
        cmd.val64 not in (0, 1), Errno.EINVAL, "large_pages_known", f"the value is 0 or 1, and not {cmd.val64}"
    )
    if cmd.val64:
        await iopt_enable_large_pages(ioas)
    else:
        await iopt_disable_large_pages(ioas)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_option(ucmd: Ucmd) -> None:
    """An option of an address space. ENOENT, then what the option says."""
    ioas = await iommufd_get_object(ucmd.ictx, ucmd.cmd.object_id, IommufdIoas)
    async with cleanup(iommufd_put_object, ioas):
        await iommufd_ioas_option_huge_pages(ucmd.cmd, ioas)
