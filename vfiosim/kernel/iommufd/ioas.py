"""What a program can ask of an I/O address space (drivers/iommu/iommufd/ioas.c, v7.2)."""

from __future__ import annotations

from typing import Any

from ... import uapi
from ...engine import (
    Phase,
    copy_from_user,
    copy_to_user,
    kernel,
    load,
    refuse_if,
    say,
    shared,
)
from ...uapi import Errno, KernelError
from .areas import IOMMU_READ, IOMMU_WRITE, ULONG_MAX
from .domains import iopt_set_allow_iova
from .io_pagetable import (
    iopt_free_pages_list,
    iopt_get_pages,
    iopt_map_file_pages,
    iopt_map_pages,
    iopt_map_user_pages,
    iopt_unmap_all,
    iopt_unmap_iova,
)
from .iova import holes, merged
from .main import _iommufd_object_alloc, iommufd_get_object, iommufd_object_finalize
from .private import IommufdIoas, Ucmd, iommufd_put_object
from .selftest import iommufd_test_syz_conv_iova_id

FIXED = uapi.IOMMU_IOAS_MAP_FIXED_IOVA
READABLE, WRITEABLE = uapi.IOMMU_IOAS_MAP_READABLE, uapi.IOMMU_IOAS_MAP_WRITEABLE
RANGE_SIZE = 16


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
async def iommufd_ioas_destroy(ioas: IommufdIoas) -> None:
    """Give back what the address space holds: its mappings."""
    await iopt_unmap_all(ioas)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_iova_ranges(ucmd: Ucmd) -> None:
    """Which addresses can be mapped? EOPNOTSUPP, ENOENT, EFAULT, EMSGSIZE if they do not fit (the number is told then too)."""
    reserved = ucmd.cmd.get("__reserved")
    await refuse_if(reserved != 0, Errno.EOPNOTSUPP, "ranges_reserved_zero", "reserved fields must be zero")
    ioas = await iommufd_get_object(ucmd.ictx, ucmd.cmd.ioas_id, IommufdIoas)
    try:
        async with shared(ioas.iova_rwsem):
            await write_ranges(ucmd, ioas)
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


async def free_ranges(ioas: IommufdIoas) -> list[tuple[int, int]]:
    """What no page table and no device has reserved; whether something is mapped there does not matter."""
    used = merged((first, last) for first, last, _ in await load(ioas.reserved))
    return list(holes(used, 0, ULONG_MAX))


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
        await refuse_if(first >= last, Errno.EINVAL, "range_not_empty", "a range needs two addresses at least")
        hit = any(start <= last and first <= end for start, end in ranges)
        await refuse_if(hit, Errno.EINVAL, "ranges_apart", "the ranges overlap")
        ranges.append((first, last))
    return tuple(sorted(ranges))


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_allow_iovas(ucmd: Ucmd) -> None:
    """Where mappings without a fixed address may go. EOPNOTSUPP, ENOENT, the list's errors, EADDRINUSE if it is reserved."""
    reserved = ucmd.cmd.get("__reserved")
    await refuse_if(reserved != 0, Errno.EOPNOTSUPP, "allow_reserved_zero", "reserved fields must be zero")
    ioas = await iommufd_get_object(ucmd.ictx, ucmd.cmd.ioas_id, IommufdIoas)
    try:
        allowed = await iommufd_ioas_load_iovas(ucmd.cmd.allowed_iovas, ucmd.cmd.num_iovas)
        await iopt_set_allow_iova(ioas, allowed)
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


# ---- MAP, MAP_FILE, COPY


@kernel("drivers/iommu/iommufd/ioas.c")
async def conv_iommu_prot(flags: int) -> int:
    """What devices may do there."""
    return (IOMMU_WRITE if flags & WRITEABLE else 0) | (IOMMU_READ if flags & READABLE else 0)


async def check_map(flags: int, reserved: int, *numbers: int) -> None:
    """The checks that only look at the argument: EOPNOTSUPP, EOVERFLOW, EINVAL without any permission."""
    unknown = flags & ~(FIXED | WRITEABLE | READABLE)
    bad = unknown != 0 or reserved != 0
    await refuse_if(bad, Errno.EOPNOTSUPP, "map_flags_known", "unknown flags, or a reserved field that is not zero")
    over = any(number >= ULONG_MAX for number in numbers)
    await refuse_if(over, Errno.EOVERFLOW, "map_in_range", "no address and no length is 2^64 - 1")
    nothing = not flags & (WRITEABLE | READABLE)
    await refuse_if(nothing, Errno.EINVAL, "map_for_something", "devices must be allowed to read or to write")


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_map(ucmd: Ucmd) -> None:
    """Map memory of the caller. EOPNOTSUPP, EOVERFLOW, EINVAL, ENOENT, then what mapping says; EFAULT for the reply."""
    cmd = ucmd.cmd
    await check_map(cmd.flags, cmd.get("__reserved"), cmd.iova, cmd.length)
    iova = cmd.iova if cmd.flags & FIXED else None
    ioas = await iommufd_get_object(ucmd.ictx, cmd.ioas_id, IommufdIoas)
    try:
        prot = await conv_iommu_prot(cmd.flags)
        cmd.iova = await iopt_map_user_pages(ucmd.ictx, ioas, iova, cmd.user_va, cmd.length, prot)
        await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_map_file(ucmd: Ucmd) -> None:
    """Map a part of a file, of whatever kind as long as nothing has to be pinned. Errors as for memory, EBADF."""
    cmd = ucmd.cmd
    await check_map(cmd.flags, 0, cmd.iova, cmd.length)
    iova = cmd.iova if cmd.flags & FIXED else None
    ioas = await iommufd_get_object(ucmd.ictx, cmd.ioas_id, IommufdIoas)
    try:
        prot = await conv_iommu_prot(cmd.flags)
        cmd.iova = await iopt_map_file_pages(ucmd.ictx, ioas, iova, cmd.fd, cmd.start, cmd.length, prot)
        await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


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
    try:
        elements = await iopt_get_pages(source, cmd.src_iova, cmd.length)
    except KernelError:
        await iommufd_put_object(source)
        raise
    await iommufd_put_object(source)
    try:
        await copy_to(ucmd, elements)
    except KernelError:
        await iopt_free_pages_list(elements)
        raise


async def copy_to(ucmd: Ucmd, elements: Any) -> None:
    """The second half of COPY: the destination."""
    cmd = ucmd.cmd
    ioas = await iommufd_get_object(ucmd.ictx, cmd.dst_ioas_id, IommufdIoas)
    try:
        iova = cmd.dst_iova if cmd.flags & FIXED else None
        prot = await conv_iommu_prot(cmd.flags)
        cmd.dst_iova = await iopt_map_pages(ioas, elements, cmd.length, iova, prot)
        await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


@kernel("drivers/iommu/iommufd/ioas.c")
async def iommufd_ioas_unmap(ucmd: Ucmd) -> None:
    """Unmap whole mappings: ENOENT, EOVERFLOW, EINVAL, EBUSY or ENOENT (cut), ENOENT if nothing was mapped there."""
    cmd = ucmd.cmd
    ioas = await iommufd_get_object(ucmd.ictx, cmd.ioas_id, IommufdIoas)
    try:
        everything = cmd.iova == 0 and cmd.length == ULONG_MAX
        cmd.length = await unmap_all(ioas) if everything else await unmap_range(ioas, cmd.iova, cmd.length)
        await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await iommufd_put_object(ioas)
        raise
    await iommufd_put_object(ioas)


async def unmap_all(ioas: IommufdIoas) -> int:
    """Everything; the answer is how many bytes that was."""
    unmapped, error = await iopt_unmap_all(ioas)
    if error is not None:
        raise error
    return unmapped


async def unmap_range(ioas: IommufdIoas, iova: int, length: int) -> int:
    """A range; the answer is how many bytes of it were mapped."""
    over = iova >= ULONG_MAX or length >= ULONG_MAX
    await refuse_if(over, Errno.EOVERFLOW, "unmap_in_range", "no address and no length is 2^64 - 1")
    unmapped, error = await iopt_unmap_iova(ioas, iova, length)
    if error is not None:
        raise error
    await refuse_if(not unmapped, Errno.ENOENT, "something_was_mapped", "nothing is mapped there")
    return unmapped
