"""The life of a vfio_device and of its open files (drivers/vfio/vfio_main.c, v7.2).

What can be done with such a file, the other half of that file, is in `device_fops.py`.
"""

from __future__ import annotations

from typing import Any

from ...engine import (
    KObject,
    Phase,
    Table,
    alloc,
    complete,
    free,
    get,
    get_unless_zero,
    kernel,
    load,
    peek,
    poke,
    put,
    refuse_if,
    say,
    store,
    wait_for_timeout,
    warn_on,
)
from ...uapi import Errno, KernelError
from ..base import BusDriver, module_put, try_module_get
from ..fs.devtmpfs import cdev_device_add, cdev_device_del
from ..fs.file import Cdev, File, private
from ..iommufd.private import IommufdCtx
from ..kvm.kvm import Kvm
from ..kvm.kvm_main import kvm_get_kvm_safe, kvm_put_kvm
from .group import vfio_device_group_unuse_iommu, vfio_device_group_use_iommu
from .group_life import (
    IN_THIS_GROUP,
    REGISTERED,
    vfio_device_group_register,
    vfio_device_group_unregister,
    vfio_device_remove_group,
)
from .iommufd import vfio_device_is_noiommu, vfio_df_iommufd_bind, vfio_df_iommufd_unbind
from .vfio import Vfio, VfioDevice, VfioDeviceFile, VfioDeviceOps, VfioDeviceSet, VfioGroup

BOUND_FOR = "bound for this VM"
OPEN_FILE = "an open file"
DRIVES = "drives it"
UNPLUG_ROUND = 10_000  # ms after which a driver that wants to leave asks again


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_try_get_registration(device: VfioDevice, holder: KObject, reason: str = OPEN_FILE) -> bool:
    """Hold the registration, so that the driver cannot let go of the device; False if it has begun to."""
    return await get_unless_zero(device.refcount, holder, reason)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_put_registration(device: VfioDevice, holder: KObject, reason: str = OPEN_FILE) -> None:
    """Let go of the registration; the last one wakes the driver that waits to leave."""
    if await put(device.refcount, holder, reason):
        await complete(device.comp)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_allocate_device_file(
    file: File | None, device: VfioDevice, group: VfioGroup | None = None
) -> VfioDeviceFile:
    """The state of one open of a device; `group` if it was asked for through one, then its file comes later."""
    return await alloc(VfioDeviceFile, file, device, group)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_get_kvm_safe(device: VfioDevice, kvm: Kvm | None) -> None:
    """Hold the VM and remember it in the device; nothing happens without a VM, or with one that is dying."""
    if kvm is None:
        return
    if await kvm_get_kvm_safe(kvm, device, BOUND_FOR):
        await store(device.kvm, kvm)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_put_kvm(device: VfioDevice) -> None:
    """Give back the VM that the device remembers, whoever's BIND it came from."""
    kvm = await load(device.kvm)
    if kvm is None:
        return
    await kvm_put_kvm(kvm, device, BOUND_FOR)
    await store(device.kvm, None)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_df_open(df: VfioDeviceFile) -> None:
    """Open the device for one file. EINVAL if another file has it open and this one came from the device's own node.

    Files that came from the group may be many; only the first one really opens.
    """
    device = df.device
    opens = await load(device.open_count)
    await refuse_if(
        opens != 0 and df.group is None, Errno.EINVAL, "single_open", "another file of this device is bound already"
    )
    first = "The device is opened for the first time: open_count becomes 1, its driver's module is held."
    say(
        Phase.ACQUIRE,
        f"The device is open already: open_count becomes {opens + 1}, and that is all." if opens else first,
    )
    await store(device.open_count, opens + 1)
    if opens == 0:
        try:
            await vfio_df_device_first_open(df)
        except KernelError:
            await store(device.open_count, await load(device.open_count) - 1)
            raise


@kernel("drivers/vfio/vfio_main.c")
async def vfio_df_device_first_open(df: VfioDeviceFile) -> None:
    """The first open: hold the driver's module, bind to the iommufd or use the container, let the driver open the device."""
    device = df.device
    ictx = await load(df.iommufd)
    driver: Any = await load(device.dev.driver)  # there is one: who has the device open holds the registration
    held = await try_module_get(driver, device)
    await refuse_if(not held, Errno.ENODEV, "driver_stays", "the driver's module is being unloaded")
    try:
        if ictx is not None:
            await vfio_df_iommufd_bind(df)
        elif not await in_noiommu_mode(df):
            await vfio_device_group_use_iommu(device)
        try:
            say(Phase.ACQUIRE, "{} opens the device: the hardware is made ready.", driver)
            await device.ops.open_device(device)
        except KernelError:
            await give_up_iommu(df, ictx)
            raise
    except KernelError:
        await module_put(driver, device)
        raise


@kernel("drivers/vfio/vfio_main.c")
async def vfio_df_device_last_close(df: VfioDeviceFile) -> None:
    """The last close, in the reverse order of the first open; whether there is an iommufd says the file that is closed."""
    device = df.device
    ictx = await load(df.iommufd)
    say(Phase.UNWIND, "The driver closes the device.")
    await device.ops.close_device(device)
    await give_up_iommu(df, ictx)
    driver: Any = await load(device.dev.driver)  # the same as at the first open, for it cannot have left meanwhile
    await module_put(driver, device)


async def give_up_iommu(df: VfioDeviceFile, ictx: IommufdCtx | None) -> None:
    """The opposite of what the first open did: unbind from the iommufd, or one use less of the container."""
    if ictx is not None:
        await vfio_df_iommufd_unbind(df)
    elif not await in_noiommu_mode(df):
        await vfio_device_group_unuse_iommu(df.device)


async def in_noiommu_mode(df: VfioDeviceFile) -> bool:
    """Is the file bound to no iommufd, by a negative descriptor? A field that only some versions have."""
    return df.device.vfio.variant.allow_noiommu_fd and await load(df.noiommu)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_df_close(df: VfioDeviceFile) -> None:
    """Close the device for one file."""
    device = df.device
    opens = await load(device.open_count)
    if opens == 0:  # the kernel warns and goes on
        return
    if opens == 1:
        await vfio_df_device_last_close(df)
    await store(device.open_count, await load(device.open_count) - 1)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_file_set_kvm(file: File, kvm: Kvm | None) -> None:
    """Note in an open device file which VM it belongs to; BIND will look there, nobody else."""
    df: VfioDeviceFile = await private(file)
    async with df.kvm_ref_lock:
        await store(df.kvm, kvm)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_assign_device_set(key: str, sets: Table[VfioDeviceSet]) -> VfioDeviceSet:
    """The set of devices that share one lock; made for the first of them."""
    known = await peek(sets, key)
    if known is None:
        known = await alloc(VfioDeviceSet, key)
        await poke(sets, key, known)
    return known


async def refuse_without_iommufd_ops(vfio: Vfio, ops: VfioDeviceOps) -> None:
    """How `__vfio_register_dev` begins, asked here before anything is made: EINVAL, and a warning, for such a driver."""
    whole = ops.bind_iommufd and ops.unbind_iommufd and ops.attach_ioas and ops.detach_ioas
    lacks = vfio.variant.registration_needs_ops and not whole
    await warn_on(lacks, f"the driver {ops.name} cannot bind its device to an iommufd")
    await refuse_if(lacks, Errno.EINVAL, "driver_has_iommufd_ops", "the driver has no operations for an iommufd")


@kernel("drivers/vfio/vfio_main.c")
async def __vfio_register_dev(device: VfioDevice, driver: BusDriver) -> None:
    """Make a device usable: its node appears, its driver holds its memory and its registration, its group knows it."""
    dev_set = device.dev_set
    await get(dev_set.device_count, device, "in this set")
    async with dev_set.lock:
        await store(dev_set.device_list, (*await load(dev_set.device_list), device))
    await get(device.group.drivers, device, IN_THIS_GROUP)
    await get(device.kref, driver, DRIVES)
    # without an IOMMU there is nothing that BIND could mean, so there is no node
    if not vfio_device_is_noiommu(device) or device.vfio.variant.noiommu_node:
        fops = device.vfio.device_fops
        device.cdev = await alloc(Cdev, f"vfio{device.index}", fops, device.kref, device, vfio_device_release)
        await get(device.kref, device.cdev, "contains the node")
        await cdev_device_add(device.vfio.devtmpfs, device.path, device.cdev)
    await get(device.refcount, driver, REGISTERED)
    await vfio_device_group_register(device)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_unregister_group_dev(device: VfioDevice, driver: BusDriver) -> None:
    """The driver leaves: nobody new can get at the device, and then it waits, however long, for everybody who has it.

    It never gives up and takes nothing away: files that are open keep working. Every 10 seconds the driver asks the users
    again to let go, if it knows how.
    """
    await vfio_device_group_unregister(device)
    say(Phase.BLOCK, "The node of {} goes: from now on nobody can open it.", device)
    if device.cdev is not None:
        await cdev_device_del(device.vfio.devtmpfs, device.path, device.cdev)
    await vfio_device_put_registration(device, driver, REGISTERED)
    say(Phase.BLOCK, "{} waits until no file of {} is open.", driver, device)
    await until_nobody_has_it_open(device)
    say(Phase.UNWIND, "Nobody has {} open any more.", device)
    await vfio_device_remove_group(device)


async def until_nobody_has_it_open(device: VfioDevice) -> None:
    """Wait for the last registration to be given back; every round the driver asks for it."""
    rounds = 0
    gone = await wait_for_timeout(device.comp, 0)
    while not gone:
        if device.ops.request is not None:
            await device.ops.request(device, rounds)
            rounds += 1
        gone = await wait_for_timeout(device.comp, UNPLUG_ROUND)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_put_device(device: VfioDevice, holder: KObject, reason: str) -> None:
    """Let go of the memory of a vfio_device."""
    if await put(device.kref, holder, reason):
        await vfio_device_release(device)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_release(device: VfioDevice) -> None:
    """Nobody needs the memory any more: out of its set, its number is free again, its driver clears up."""
    await vfio_release_device_set(device)
    await poke(device.vfio.device_ida, device.index, None)
    await load(device.driver.code)  # ops->release is a function of the driver
    data = await load(device.driver_data)
    if data is not None:
        await free(data)
    await free(device)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_release_device_set(device: VfioDevice) -> None:
    """The device leaves its set; the last one takes the set along."""
    dev_set = device.dev_set
    async with dev_set.lock:
        others = tuple(other for other in await load(dev_set.device_list) if other is not device)
        await store(dev_set.device_list, others)
    if await put(dev_set.device_count, device, "in this set"):
        await poke(device.vfio.dev_sets, dev_set.key, None)
        await free(dev_set)
