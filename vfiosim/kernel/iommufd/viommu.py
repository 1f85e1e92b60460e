"""Virtual IOMMUs, and devices as a guest knows them (drivers/iommu/iommufd/viommu.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import (
    Field,
    KObject,
    Lock,
    Phase,
    Table,
    copy_to_user,
    current,
    field,
    get,
    hand_over,
    kernel,
    load,
    mutex,
    peek,
    poke,
    put,
    refuse_if,
    rwsem,
    say,
    store,
    table,
)
from ...engine.engine import Engine
from ...uapi import Errno, KernelError
from ..iommu_ops import IommuOps, UserData
from .main import (
    _iommufd_object_alloc,
    iommufd_get_object,
    iommufd_object_abort_and_destroy,
    iommufd_object_finalize,
    iommufd_object_tombstone_user,
    iommufd_try_inc_users,
)
from .private import IommufdCtx, IommufdDevice, IommufdHwptPaging, IommufdObject, Ucmd, iommufd_put_object

GUEST_MEMORY = "the memory of its guest"
ITS_VIOMMU = "its virtual IOMMU"
ITS_DEVICE = "its device"
RUNNING = "running call"


class IommufdViommu(IommufdObject):
    """A share of an IOMMU for one guest.

    * born by VIOMMU_ALLOC with a page table that carries tables of guests, and holds it; does not hold the device;
    * held by its devices, its event queues, the tables of the guest over it, its hardware queues;
    * `vdevs`: its devices by the number that the guest knows them by.
    """

    kind = "iommufd_viommu"
    type = "virtual IOMMU"
    vdevs: Table[IommufdVdevice] = table(guard="igroup.lock", link="weak")
    veventqs_rwsem: Lock = rwsem()
    veventqs: Field[tuple[IommufdObject, ...]] = field((), guard="veventqs_rwsem", link="weak")
    # of the mock driver
    queue_mutex: Lock = mutex()
    hw_queue: Table[IommufdObject] = table(guard="queue_mutex", link="weak")
    mmap_offset: Field[int] = field(0)  # where a program can map its page; 0: nowhere

    def __init__(self, engine: Engine, ictx: IommufdCtx, hwpt: IommufdHwptPaging, ops: IommuOps) -> None:
        super().__init__(engine, ictx)
        self.hwpt = hwpt
        self.ops = ops


class IommufdVdevice(IommufdObject):
    """A device as a guest knows it: a number in a virtual IOMMU.

    * born by VDEVICE_ALLOC, one for a device at most; holds the virtual IOMMU, and the device as a running call does;
    * dies by IOMMU_DESTROY; if the device goes first it takes this along, and the ID stays taken for ever (a tombstone).
    """

    kind = "iommufd_vdevice"
    type = "virtual device"

    def __init__(
        self, engine: Engine, ictx: IommufdCtx, viommu: IommufdViommu, idev: IommufdDevice, virt_id: int
    ) -> None:
        super().__init__(engine, ictx)
        self.viommu = viommu
        self.idev = idev
        self.virt_id = virt_id


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_viommu_destroy(viommu: IommufdViommu) -> None:
    """Let the driver of the IOMMU clear up, then let go of the page table."""
    await poke_mmap(viommu)
    await put(viommu.hwpt.users, viommu, GUEST_MEMORY)


async def poke_mmap(viommu: IommufdViommu) -> None:
    """Its page can be mapped no more (`iommufd_viommu_destroy_mmap`)."""
    offset = await load(viommu.mmap_offset)
    if offset:
        await poke(viommu.ictx.mt_mmap, offset, None)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_viommu_alloc_ioctl(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, no type), ENOENT (device), EOPNOTSUPP, ENOENT (page table), EINVAL, what the driver says, EFAULT."""
    cmd = ucmd.cmd
    bad = cmd.flags != 0 or cmd.type == uapi.IOMMU_VIOMMU_TYPE_DEFAULT
    await refuse_if(bad, Errno.EOPNOTSUPP, "viommu_has_type", "a virtual IOMMU has no flags and must have a type")
    idev = await iommufd_get_object(ucmd.ictx, cmd.dev_id, IommufdDevice)
    try:
        await viommu_over(ucmd, idev.dev.iommu_ops)
    except KernelError:
        await iommufd_put_object(idev)
        raise
    await iommufd_put_object(idev)


async def viommu_over(ucmd: Ucmd, ops: IommuOps) -> None:
    """The page table, then the object, then the driver's part of it."""
    cmd = ucmd.cmd
    unable = ops.viommu_init is None or cmd.type != ops.viommu_type
    await refuse_if(
        unable, Errno.EOPNOTSUPP, "iommu_can_be_virtual", "the IOMMU behind this device cannot be handed to a guest"
    )
    assert ops.viommu_init is not None
    hwpt = await iommufd_get_object(ucmd.ictx, cmd.hwpt_id, IommufdHwptPaging)
    try:
        carries = hwpt.nest_parent
        await refuse_if(not carries, Errno.EINVAL, "viommu_parent", f"{hwpt.oid} was not made to carry guests")
        say(Phase.ACQUIRE, "A virtual IOMMU takes the lowest free ID of {} and holds {}.", ucmd.ictx, hwpt)
        viommu = await _iommufd_object_alloc(ucmd.ictx, IommufdViommu, hwpt, ops)
        ucmd.new_obj = viommu
        await get(hwpt.users, viommu, GUEST_MEMORY)
        data = UserData(cmd.type, cmd.data_uptr, cmd.data_len) if cmd.data_len else None
        await ops.viommu_init(viommu, data)
        cmd.out_viommu_id = viommu.id
        await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await iommufd_put_object(hwpt)
        raise
    await iommufd_put_object(hwpt)


# ---- devices


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_vdevice_abort(vdev: IommufdVdevice) -> None:
    """Leave the virtual IOMMU and the device; the caller has the lock of the group."""
    if await peek(vdev.viommu.vdevs, vdev.virt_id) is vdev:
        await poke(vdev.viommu.vdevs, vdev.virt_id, None)
    await put(vdev.viommu.users, vdev, ITS_VIOMMU)
    await store(vdev.idev.vdev, None)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_vdevice_destroy(vdev: IommufdVdevice) -> None:
    """The same for one that could be found, then let go of the device: its removal may be waiting for that."""
    async with vdev.idev.igroup.lock:
        await iommufd_vdevice_abort(vdev)
    await put(vdev.idev.users, vdev, ITS_DEVICE)
    await put(vdev.idev.wait_cnt, vdev, ITS_DEVICE)


@kernel("drivers/iommu/iommufd/viommu.c")
async def iommufd_vdevice_alloc_ioctl(ucmd: Ucmd) -> None:
    """ENOENT (virtual IOMMU, device), EINVAL (another IOMMU), ENOENT (device goes), EEXIST (device, number), EFAULT."""
    viommu = await iommufd_get_object(ucmd.ictx, ucmd.cmd.viommu_id, IommufdViommu)
    try:
        idev = await iommufd_get_object(ucmd.ictx, ucmd.cmd.dev_id, IommufdDevice)
        try:
            other = viommu.ops is not idev.dev.iommu_ops
            await refuse_if(other, Errno.EINVAL, "vdevice_of_this_iommu", f"{viommu.oid} stands for another IOMMU")
            async with idev.igroup.lock:
                await new_vdevice(ucmd, viommu, idev)
        except KernelError:
            await iommufd_put_object(idev)
            raise
    except KernelError:
        await iommufd_put_object(viommu)
        raise
    await iommufd_put_object(viommu)


async def new_vdevice(ucmd: Ucmd, viommu: IommufdViommu, idev: IommufdDevice) -> None:
    """The object; in the end it takes over the call's hold on the device."""
    cmd = ucmd.cmd
    going = await load(idev.destroying)
    await refuse_if(going, Errno.ENOENT, "device_stays", f"{idev.oid} is being unbound")
    known = await load(idev.vdev)
    await refuse_if(known is not None, Errno.EEXIST, "device_is_not_virtual", f"{idev.oid} is in a guest already")
    vdev = await _iommufd_object_alloc(ucmd.ictx, IommufdVdevice, viommu, idev, cmd.virt_id)
    say(Phase.ACQUIRE, "{} holds {}, and {} as a running call does.", vdev, viommu, idev)
    await get(viommu.users, vdev, ITS_VIOMMU)
    await store(idev.vdev, vdev)
    try:
        taken = await peek(viommu.vdevs, cmd.virt_id) is not None
        await refuse_if(taken, Errno.EEXIST, "number_is_free", f"the guest has a device {cmd.virt_id:#x} already")
        await poke(viommu.vdevs, cmd.virt_id, vdev)
        cmd.out_vdevice_id = vdev.id
        await copy_to_user(ucmd.address, ucmd.reply())
    except KernelError:
        await iommufd_object_abort_and_destroy(ucmd.ictx, vdev)
        raise
    await hand_over(idev.users, (current(), RUNNING), (vdev, ITS_DEVICE))
    await hand_over(idev.wait_cnt, (current(), RUNNING), (vdev, ITS_DEVICE))
    await iommufd_object_finalize(ucmd.ictx, vdev)


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_device_pre_destroy(idev: IommufdDevice) -> None:
    """The device is about to go: no guest can get it any more, and the one that has it loses it."""
    async with idev.igroup.lock:
        await store(idev.destroying, True)
        vdev = await load(idev.vdev)
        if vdev is None or not await iommufd_try_inc_users(idev.ictx, vdev, idev):
            return
    say(Phase.UNWIND, "{} loses its device: it goes too, and nothing else will ever get its ID.", vdev)
    await iommufd_object_tombstone_user(idev.ictx, vdev, idev)


def device_of(vdev: KObject | None) -> KObject | None:
    """The device behind a virtual one."""
    return vdev.idev.dev if isinstance(vdev, IommufdVdevice) else None
