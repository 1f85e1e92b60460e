"""What tests do with mock devices (the middle of drivers/iommu/iommufd/selftest.c, v7.2)."""

from __future__ import annotations

from typing import Any

from .... import uapi
from ....engine import *
from ....uapi import Errno, KernelError
from ...iommu import iommu_group_add_device, iommu_group_for, iommu_group_remove_device
from ...prototypes import _iommufd_object_alloc, iommufd_get_object, iommufd_object_abort, iommufd_object_finalize
from ...unsupported import Unsupported
from ..device import (
    iommufd_device_attach,
    iommufd_device_bind,
    iommufd_device_detach,
    iommufd_device_replace,
    iommufd_device_unbind,
)
from ..driver import iommufd_viommu_report_event
from ..eventq import iommufd_fault_iopf_handler
from ..iommufd_private import (
    NO_PASID,
    IommufdCtx,
    IommufdDevice,
    IommufdFault,
    IommufdHwPagetable,
    IommufdHwptNested,
    IommufdObject,
    Ucmd,
    Waiting,
    iommufd_put_object,
)
from .mock_iommu import MockDev, MockIommu

VALID = uapi.MOCK_FLAGS_DEVICE_NO_DIRTY | uapi.MOCK_FLAGS_DEVICE_PASID


class SelftestObj(IommufdObject):
    """A mock device as a test knows it: owns the device, and plays the driver that has bound and attached it.

    * born by MOCK_DOMAIN; dies by IOMMU_DESTROY, which detaches and unbinds the device first.
    """

    kind = "selftest_obj"
    type = "mock device"
    mock_dev: Field[MockDev | None] = field(None, link="owns")
    idev: Field[IommufdDevice | None] = field(None, link="weak")

    def __init__(self, engine: Engine, ictx: IommufdCtx) -> None:
        super().__init__(engine, ictx)


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_dev_create(iommu: MockIommu, flags: int) -> MockDev:
    """A new device, in a new iommu_group with the lowest free number. EINVAL for unknown flags."""
    unknown = flags & ~VALID
    await refuse_if(unknown != 0, Errno.EINVAL, "mock_device_flags", f"the flags {unknown:#x} are not known")
    dev = await alloc(MockDev, iommu, flags)
    async with on_failure(free, dev):
        init(dev, id=await xa_alloc(iommu.mock_dev_ida, dev) or 0)
        async with on_failure(xa_store, iommu.mock_dev_ida, dev.id, None):
            group = await iommu_group_for(iommu.groups, -1, None)
    await iommu_group_add_device(group, dev)
    return dev


@kernel("drivers/iommu/iommufd/selftest.c")
async def mock_dev_destroy(dev: MockDev) -> None:
    """The device goes, and its group with it."""
    await xa_store(dev.iommu.mock_dev_ida, dev.id, None)
    await iommu_group_remove_device(dev)
    await free(dev)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_mock_domain(ucmd: Ucmd) -> None:
    """MOCK_DOMAIN: a mock device, bound and attached to what `id` names. EINVAL (flags), what binding and attaching say, EFAULT."""
    cmd, ictx = ucmd.cmd, ucmd.ictx
    cdev = ictx.file.cdev
    assert cdev is not None
    iommu = cdev.inside
    assert isinstance(iommu, MockIommu)
    say(Phase.ACQUIRE, "A test makes a device out of nothing: an object in {} plays its driver.", ictx)
    sobj = await _iommufd_object_alloc(ictx, SelftestObj)
    async with on_failure(iommufd_object_abort, ictx, sobj):
        flagged = cmd.op == uapi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS
        dev = await mock_dev_create(iommu, cmd.mock_domain_flags.dev_flags if flagged else 0)
        try:
            await bind_and_attach(ucmd, sobj, dev)
        except KernelError:
            await store(sobj.mock_dev, None)
            await mock_dev_destroy(dev)
            raise
    await iommufd_object_finalize(ictx, sobj)


async def bind_and_attach(ucmd: Ucmd, sobj: SelftestObj, dev: MockDev) -> None:
    """The middle of MOCK_DOMAIN: as a driver does it; the reply may undo all of it."""
    cmd = ucmd.cmd
    await store(sobj.mock_dev, dev)
    idev = await iommufd_device_bind(ucmd.ictx, dev, sobj)
    async with on_failure(iommufd_device_unbind, idev, sobj):
        await store(sobj.idev, idev)
        number = await iommufd_device_attach(idev, NO_PASID, cmd.id, sobj)
        out = cmd.mock_domain
        out.out_hwpt_id, out.out_stdev_id, out.out_idev_id = number, sobj.id, idev.id
        async with on_failure(iommufd_device_detach, idev, NO_PASID, sobj):
            await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_mock_domain_replace(ucmd: Ucmd) -> None:
    """MOCK_DOMAIN_REPLACE: ENOENT, what replacing says, EFAULT."""
    sobj, idev = await device_of_test(ucmd)
    argument = ucmd.cmd.mock_domain_replace
    async with cleanup(iommufd_put_object, sobj):
        argument.pt_id = await iommufd_device_replace(idev, NO_PASID, argument.pt_id)
        await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_dev_check_cache(ucmd: Ucmd) -> None:
    """DEV_CHECK_CACHE: ENOENT, EINVAL unless the device has this in its cache."""
    idev, dev = await mock_of(ucmd, ucmd.cmd.id)
    argument, words = ucmd.cmd.check_dev_cache, await load(dev.cache)
    await iommufd_put_object(idev)
    same = argument.id < len(words) and words[argument.id] == argument.cache
    await refuse_if(not same, Errno.EINVAL, "cache_as_expected", "something else is in the cache of the device")


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_trigger_iopf(ucmd: Ucmd) -> None:
    """TRIGGER_IOPF: ENOENT, EINVAL (not a mock device); a fault that nobody wants to know of is no error."""
    argument = ucmd.cmd.trigger_iopf
    idev = await iommufd_get_object(ucmd.ictx, argument.dev_id, IommufdDevice)
    mock = idev.dev.is_mock
    if mock:
        await report_fault(idev, argument)
    await iommufd_put_object(idev)
    await refuse_if(not mock, Errno.EINVAL, "device_is_mock", f"{idev.oid} is a real device")


async def report_fault(idev: IommufdDevice, argument: Any) -> None:
    """Queue a fault at the table that the PASID uses; without one a guest's table of the device (`find_fault_handler`)."""
    pasid = argument.pasid
    hwpt = await attached_to(idev, pasid)
    if hwpt is None and pasid != NO_PASID:
        plain = await attached_to(idev, NO_PASID)
        hwpt = plain if isinstance(plain, IommufdHwptNested) else None
        pasid = NO_PASID
    fault = await load(hwpt.fault) if hwpt is not None else None
    if hwpt is None or not isinstance(fault, IommufdFault):
        return
    flags = uapi.IOMMU_PGFAULT_FLAGS_LAST_PAGE
    flags |= uapi.IOMMU_PGFAULT_FLAGS_PASID_VALID if argument.pasid != NO_PASID else 0
    what = (flags, argument.pasid, argument.grpid, argument.perm, argument.addr)
    group: Waiting = (idev, hwpt, pasid, *what)
    await iommufd_fault_iopf_handler(fault, group)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_trigger_vevent(ucmd: Ucmd) -> None:
    """TRIGGER_VEVENT: ENOENT (device, or no guest has it), EOPNOTSUPP without a queue."""
    idev, dev = await mock_of(ucmd, ucmd.cmd.trigger_vevent.dev_id)
    async with cleanup(iommufd_put_object, idev):
        viommu, number = await load(dev.viommu), await load(dev.vdev_id)
        guest = await require(viommu if number else None, Errno.ENOENT, "guest_has_device", "no guest has the device")
        event = bytes(uapi.IommuViommuEventSelftest(virt_id=number & 0xFFFFFFFF))
        await iommufd_viommu_report_event(guest, uapi.IOMMU_VEVENTQ_TYPE_SELFTEST, event)


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_pasid_check_hwpt(ucmd: Ucmd) -> None:
    """PASID_CHECK_HWPT: ENOENT (device, table), EINVAL (no table; another one is attached)."""
    sobj, idev = await device_of_test(ucmd)
    argument = ucmd.cmd.pasid_check
    async with cleanup(iommufd_put_object, sobj):
        now = await attached_to(idev, argument.pasid)
        wanted = None
        if argument.hwpt_id:
            wanted = await iommufd_get_object(ucmd.ictx, argument.hwpt_id, IommufdObject)
            await iommufd_put_object(wanted)
        same = now is wanted and (wanted is None or isinstance(wanted, IommufdHwPagetable))
        await refuse_if(not same, Errno.EINVAL, "pasid_attached_there", "the PASID is attached to something else")


async def mock_of(ucmd: Ucmd, number: int) -> tuple[IommufdDevice, MockDev]:
    """A bound device, which must be a mock one, held for the running call. ENOENT."""
    idev = await iommufd_get_object(ucmd.ictx, number, IommufdDevice)
    if not isinstance(idev.dev, MockDev):
        raise Unsupported("a test of the mock IOMMU with a device that is not one of its own")
    return idev, idev.dev


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_pasid_attach(ucmd: Ucmd) -> None:
    """PASID_ATTACH: ENOENT, what attaching says, EFAULT."""
    sobj, idev = await device_of_test(ucmd)
    argument = ucmd.cmd.pasid_attach
    async with cleanup(iommufd_put_object, sobj):
        argument.pt_id = await iommufd_device_attach(idev, argument.pasid, argument.pt_id, sobj)
        async with on_failure(iommufd_device_detach, idev, argument.pasid, sobj):
            await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_pasid_replace(ucmd: Ucmd) -> None:
    """PASID_REPLACE: ENOENT, what replacing says, EFAULT."""
    sobj, idev = await device_of_test(ucmd)
    argument = ucmd.cmd.pasid_replace
    async with cleanup(iommufd_put_object, sobj):
        argument.pt_id = await iommufd_device_replace(idev, argument.pasid, argument.pt_id)
        await copy_to_user(ucmd.address, ucmd.reply())


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_test_pasid_detach(ucmd: Ucmd) -> None:
    """PASID_DETACH: ENOENT; nothing happens if the PASID is not attached."""
    sobj, idev = await device_of_test(ucmd)
    await iommufd_device_detach(idev, ucmd.cmd.pasid_detach.pasid, sobj)
    await iommufd_put_object(sobj)


async def attached_to(idev: IommufdDevice, pasid: int) -> IommufdHwPagetable | None:
    """The table that a PASID of a device is attached to (`iommu_attach_handle_get`)."""
    attach = await xa_load(idev.igroup.pasid_attach, pasid)
    return await load(attach.hwpt) if attach is not None else None


@kernel("drivers/iommu/iommufd/selftest.c")
async def iommufd_selftest_destroy(sobj: SelftestObj) -> None:
    """The device is detached and unbound, then it goes."""
    idev, dev = await load(sobj.idev), await load(sobj.mock_dev)
    assert idev is not None
    assert dev is not None
    if await next_slot(idev.igroup.pasid_attach, 1) is not None:
        raise Unsupported("a mock device that goes while PASIDs of it are attached")
    await iommufd_device_detach(idev, NO_PASID, sobj)
    await iommufd_device_unbind(idev, sobj)
    await store(sobj.mock_dev, None)
    await mock_dev_destroy(dev)


async def device_of_test(ucmd: Ucmd) -> tuple[SelftestObj, IommufdDevice]:
    """The mock device that `id` names, held for the running call. ENOENT."""
    sobj = await iommufd_get_object(ucmd.ictx, ucmd.cmd.id, SelftestObj)
    idev = await load(sobj.idev)
    assert idev is not None
    return sobj, idev
