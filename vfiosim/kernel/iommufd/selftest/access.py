"""Emulated devices of the tests: they read and write user memory by software (drivers/iommu/iommufd/selftest.c, v7.2)."""

from __future__ import annotations

from functools import partial
from typing import Final

from .... import uapi
from ....engine import *
from ....uapi import Errno, KernelError
from ...fs.file import (
    O_CLOEXEC,
    O_RDWR,
    File,
    FileOperations,
    fd_install,
    fget,
    fput,
    get_unused_fd_flags,
    private,
    put_unused_fd,
)
from ...fs.syscalls import alloc_file
from ...regions import PAGE_SIZE
from ...task import current_task
from ..device import (
    Pinned,
    iommufd_access_attach,
    iommufd_access_create,
    iommufd_access_destroy,
    iommufd_access_pin_pages,
    iommufd_access_replace,
    iommufd_access_rw,
    iommufd_access_unpin_pages,
)
from ..io_pagetable_h import ULONG_MAX
from ..iommufd_private import IommufdAccess, IommufdIoas, Ucmd
from ..pages import page_behind

MOST: Final = 16 << 20  # bytes in one go
WRITE: Final = uapi.MOCK_ACCESS_RW_WRITE
SLOW: Final = uapi.MOCK_ACCESS_RW_SLOW_PATH
RW_FLAGS: Final = WRITE | SLOW | uapi.MOCK_FLAGS_ACCESS_SYZ


class SelftestAccess(KObject):
    """An emulated device of a test: a file that plays the driver of an access object.

    * born by CREATE_ACCESS together with its file, attached to an address space at once; dies with the file.
    """

    kind = "selftest_access"
    access: Field[IommufdAccess | None] = field(None)
    lock: Lock = mutex()
    items: Field[tuple[tuple[int, int, int], ...]] = field(
        (), guard="lock"
    )  # number, address, length of what is pinned
    next_id: Field[int] = field(0, guard="lock")

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)


async def nth_address(ioas: IommufdIoas, iova: int) -> int:
    """The address that a fuzzer names by the number of an area (low half) and an offset in it; 0 where there are not so many.

    (`__iommufd_test_syz_conv_iova`.)
    """
    async with shared(ioas.iova_rwsem):
        areas = await in_order(ioas.areas)
    nth = iova & 0xFFFFFFFF
    return (areas[nth].iova + (iova >> 32)) % 2**64 if nth < len(areas) else 0


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_syz_conv_iova(access: IommufdAccess, iova: int, flags: int) -> int:
    """The address of an access, which with a flag is the number of an area; 0 for an access without an address space."""
    if not flags & uapi.MOCK_FLAGS_ACCESS_SYZ:
        return iova
    async with access.ioas_lock:
        ioas = await load(access.ioas)
        return await nth_address(ioas, iova) if ioas is not None else 0


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_access_get(number: int) -> tuple[File, IommufdAccess]:
    """The access behind a descriptor; the running call holds the file. EBADFD for anything else, also for nothing."""
    file = await fget(number)
    other = file is not None and file.f_op is not iommfd_test_staccess_fops
    if file is not None and other:
        await fput(file)
    known = None if other else file
    file = await require(known, Errno.EBADFD, "file_is_test_access", f"{number} is no emulated device of a test")
    driver: SelftestAccess = await private(file)
    access = await load(driver.access)
    assert access is not None
    return file, access


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_access_unmap(driver: SelftestAccess, access: IommufdAccess, iova: int, length: int) -> None:
    """A range goes: give back all that touches it."""
    last = iova + length - 1
    async with driver.lock:
        for item in await load(driver.items):
            if item[1] <= last and iova <= item[1] + item[2] - 1:
                await store(driver.items, tuple(other for other in await load(driver.items) if other is not item))
                await iommufd_access_unpin_pages(access, *item[1:])


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_access_item_destroy(ucmd: Ucmd) -> None:
    """DESTROY_ACCESS_PAGES: EBADFD, ENOENT."""
    file, access = await iommufd_access_get(ucmd.cmd.id)
    number = ucmd.cmd.destroy_access_pages.access_pages_id
    driver: SelftestAccess = await private(file)
    async with cleanup(fput, file), driver.lock:
        items = await load(driver.items)
        found = next((item for item in items if item[0] == number), None)
        item = await require(found, Errno.ENOENT, "pinned_exists", f"nothing is pinned under the number {number}")
        await store(driver.items, tuple(other for other in items if other is not item))
        await iommufd_access_unpin_pages(access, *item[1:])


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_staccess_release(file: File) -> None:
    """The file is closed: the access object goes."""
    driver: SelftestAccess = await private(file)
    access = await load(driver.access)
    if access is not None:
        await iommufd_test_access_unmap(driver, access, 0, ULONG_MAX)
        await iommufd_access_destroy(access, driver)
    await free(driver)


iommfd_test_staccess_fops = FileOperations("iommufd_test_staccess", release=iommufd_test_staccess_release, stream=True)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_create_access(ucmd: Ucmd) -> None:
    """CREATE_ACCESS: EOPNOTSUPP (flags), ENOMEM (no free descriptor), ENOENT, EADDRINUSE, EFAULT; answers a descriptor."""
    argument = ucmd.cmd.create_access
    pins = uapi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES
    unknown = argument.flags & ~pins
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "create_access_flags", f"the flags {unknown:#x} are not known")
    alignment = PAGE_SIZE if argument.flags & pins else 1
    say(Phase.ACQUIRE, "A file plays the driver of a device that works by software, in {}.", ucmd.ictx)
    driver = await alloc(SelftestAccess)
    async with on_failure(free, driver):
        file = await alloc_file("[iommufd_test_staccess]", iommfd_test_staccess_fops, O_RDWR)
    await store(file.private_data, driver)
    async with on_failure(fput, file, current(), "being opened"):
        number = await free_descriptor()
        async with on_failure(put_unused_fd, number):
            await new_access(ucmd, driver, alignment, number)
    await fd_install(number, file)


async def free_descriptor() -> int:
    """A number for the file. ENOMEM where others say EMFILE."""
    try:
        return await get_unused_fd_flags(O_CLOEXEC)
    except KernelError:
        await refuse_if(True, Errno.ENOMEM, "descriptor_left", "the process has no free descriptor")
        raise


async def new_access(ucmd: Ucmd, driver: SelftestAccess, alignment: int, number: int) -> None:
    """The access object, attached to what `id` names, and the reply."""
    access = await iommufd_access_create(ucmd.ictx, driver, alignment)
    init(access, unmap=partial(iommufd_test_access_unmap, driver, access))
    async with on_failure(iommufd_access_destroy, access, driver):
        await iommufd_access_attach(access, ucmd.cmd.id)
        ucmd.cmd.create_access.out_access_fd = number
        await copy_to_user(ucmd.address, ucmd.reply())
    await store(driver.access, access)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_access_replace_ioas(ucmd: Ucmd) -> None:
    """ACCESS_REPLACE_IOAS: EBADFD, ENOENT, EADDRINUSE."""
    file, access = await iommufd_access_get(ucmd.cmd.id)
    async with cleanup(fput, file):
        await iommufd_access_replace(access, ucmd.cmd.access_replace_ioas.ioas_id)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_access_pages(ucmd: Ucmd) -> None:
    """ACCESS_PAGES: ENOMEM, EOPNOTSUPP (flags), EBADFD, EOPNOTSUPP (does not pin), what pinning says, EFAULT, EBADE."""
    wanted = ucmd.cmd.access_pages
    await refuse_if(wanted.length > MOST, Errno.ENOMEM, "pages_length", "at most 16 MiB in one go")
    unknown = wanted.flags & ~(uapi.MOCK_FLAGS_ACCESS_WRITE | uapi.MOCK_FLAGS_ACCESS_SYZ)
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "pages_flags_known", f"the flags {unknown:#x} are not known")
    file, access = await iommufd_access_get(ucmd.cmd.id)
    async with cleanup(fput, file):
        small = access.iova_alignment != PAGE_SIZE
        await refuse_if(small, Errno.EOPNOTSUPP, "access_pins", "the device was made as one that does not pin")
        iova = await iommufd_test_syz_conv_iova(access, wanted.iova, wanted.flags)
        driver: SelftestAccess = await private(file)
        async with driver.lock:
            await pin_for_test(ucmd, driver, access, iova)


async def pin_for_test(ucmd: Ucmd, driver: SelftestAccess, access: IommufdAccess, iova: int) -> None:
    """Pin, compare with the memory that the test expects, note it, reply."""
    wanted = ucmd.cmd.access_pages
    length = wanted.length
    pinned = await iommufd_access_pin_pages(access, iova, length, bool(wanted.flags & uapi.MOCK_FLAGS_ACCESS_WRITE))
    before, number = await load(driver.items), await load(driver.next_id)
    async with on_failure(iommufd_access_unpin_pages, access, iova, length):
        if wanted.uptr:
            await check_pinned(pinned, wanted.uptr - iova % PAGE_SIZE)
        await store(driver.next_id, number + 1)
        wanted.out_access_pages_id = number
        await copy_to_user(ucmd.address, ucmd.reply())
    await store(driver.items, (*before, (number, iova, length)))


async def check_pinned(pinned: Pinned, address: int) -> None:
    """Is this the memory of the caller at `address`? EOVERFLOW for the last page of all addresses, EFAULT, EBADE."""
    mm = await load(current_task().mm)
    for area, first, last in pinned:
        pages = await load(area.pages)
        assert pages is not None
        for index in range(first, last + 1):
            beyond = address // PAGE_SIZE == ULONG_MAX // PAGE_SIZE
            await refuse_if(beyond, Errno.EOVERFLOW, "page_ends_somewhere", f"{address:#x} is in the last page of all")
            await pin_pages(mm, address - address % PAGE_SIZE, PAGE_SIZE, False, False)
            other = await page_behind(pages, pages.address + index * PAGE_SIZE) != mm.page_at(address)
            await refuse_if(other, Errno.EBADE, "pinned_as_expected", "other memory was pinned")
            address += PAGE_SIZE


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_access_rw(ucmd: Ucmd) -> None:
    """ACCESS_RW: ENOMEM above 16 MiB, EOPNOTSUPP (flags), EBADFD, EFAULT, then as the address space says, EFAULT."""
    wanted = ucmd.cmd.access_rw
    await refuse_if(wanted.length > MOST, Errno.ENOMEM, "rw_length", "at most 16 MiB in one go")
    unknown = wanted.flags & ~RW_FLAGS
    await refuse_if(unknown != 0, Errno.EOPNOTSUPP, "rw_flags_known", f"the flags {unknown:#x} are not known")
    file, access = await iommufd_access_get(ucmd.cmd.id)
    async with cleanup(fput, file):
        data = await copy_from_user(wanted.uptr, wanted.length) if wanted.flags & WRITE else None
        iova = await iommufd_test_syz_conv_iova(access, wanted.iova, wanted.flags)
        found = await iommufd_access_rw(access, iova, wanted.length, data, bool(wanted.flags & SLOW))
        if data is None:
            await copy_to_user(wanted.uptr, found)
