"""Devices of VFIO: registered, opened and closed, and the calls on an open one (drivers/vfio/vfio_main.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from typing import Any, Final

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError, VfioIrqSet, VfioRegionInfo
from ..base import BusDriver, Device, module_put, syspath, try_module_get
from ..config import built_with
from ..fs.devtmpfs import cdev_device_add, cdev_device_del
from ..fs.file import (
    O_CLOEXEC,
    Cdev,
    File,
    FileOperations,
    Mapping,
    fd_install,
    fput,
    get_unused_fd_flags,
    private,
    put_unused_fd,
)
from ..iommufd.iommufd_private import IommufdCtx
from ..kvm.kvm import Kvm
from ..kvm.kvm_main import kvm_get_kvm_safe, kvm_put_kvm
from ..prototypes import (
    vfio_device_group_register,
    vfio_device_group_unregister,
    vfio_device_group_unuse_iommu,
    vfio_device_group_use_iommu,
    vfio_device_remove_group,
    vfio_device_set_group,
    vfio_df_group_close,
    vfio_df_ioctl_attach_pt,
    vfio_df_ioctl_bind_iommufd,
    vfio_df_ioctl_detach_pt,
    vfio_df_unbind_iommufd,
)
from ..regions import ends_beyond
from .iommufd import vfio_device_is_noiommu, vfio_df_iommufd_bind, vfio_df_iommufd_unbind
from .vfio import (
    IN_THIS_GROUP,
    REGISTERED,
    Vfio,
    VfioDevice,
    VfioDeviceFile,
    VfioDeviceOps,
    VfioDeviceSet,
    VfioGroup,
    VfioMigrationOps,
)

BOUND_FOR = "bound for this VM"
OPEN_FILE = "an open file"
DRIVES = "drives it"
UNPLUG_ROUND = 10_000  # ms after which a driver that wants to leave asks again
IRQ_SET_MINSZ: Final = 20
FEATURE_MINSZ: Final = 8
GET, SET, PROBE = uapi.VFIO_DEVICE_FEATURE_GET, uapi.VFIO_DEVICE_FEATURE_SET, uapi.VFIO_DEVICE_FEATURE_PROBE
_DATA_SIZES: Final = {uapi.VFIO_IRQ_SET_DATA_NONE: 0, uapi.VFIO_IRQ_SET_DATA_BOOL: 1, uapi.VFIO_IRQ_SET_DATA_EVENTFD: 4}
PRECOPY_INFO_V2: Final = 12
ULONG_MAX: Final = (1 << 64) - 1
LOG_MAX_RANGES: Final = 256
LOG_PAGE: Final = 4096


async def register(vfio: Vfio, device: Device, driver: BusDriver, ops: VfioDeviceOps) -> VfioDevice:
    """A vfio_device for this device: the lowest free number, its device set, its group; nobody can find it yet."""
    await refuse_without_iommufd_ops(vfio, ops)
    group = await vfio_device_set_group(vfio, device)
    index = await xa_alloc(vfio.device_ida, vfio)
    assert index is not None  # there is no limit
    dev_set = await vfio_assign_device_set(device.spec.dev_set or f"vfio{index}", vfio.dev_sets)
    vdev = await alloc(VfioDevice, index, device, ops, dev_set, group, vfio, driver)
    await store(device.drvdata, vdev)
    return vdev


async def unregister(device: Device, driver: BusDriver) -> None:
    """Wait until nobody uses the vfio_device, then let go of it."""
    vdev = await load(device.drvdata)
    assert isinstance(vdev, VfioDevice)
    await vfio_unregister_group_dev(vdev, driver)
    await store(device.drvdata, None)
    await vfio_put_device(vdev, driver, DRIVES)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_assign_device_set(key: str, sets: Table[VfioDeviceSet]) -> VfioDeviceSet:
    """The set of devices that share one lock; made for the first of them."""
    known = await xa_load(sets, key)
    if known is None:
        known = await alloc(VfioDeviceSet, key)
        await xa_store(sets, key, known)
    return known


async def refuse_without_iommufd_ops(vfio: Vfio, ops: VfioDeviceOps) -> None:
    """How `__vfio_register_dev` begins, asked here before anything is made: EINVAL, and a warning, for such a driver."""
    whole = ops.bind_iommufd and ops.unbind_iommufd and ops.attach_ioas and ops.detach_ioas
    lacks = vfio.variant.registration_needs_ops and not whole
    await warn_on(lacks, f"the driver {ops.name} cannot bind its device to an iommufd")
    await refuse_if(lacks, Errno.EINVAL, "driver_has_iommufd_ops", "the driver has no operations for an iommufd")


@kernel("drivers/vfio/vfio_main.c")
async def vfio_release_device_set(device: VfioDevice) -> None:
    """The device leaves its set; the last one takes the set along."""
    dev_set = device.dev_set
    async with dev_set.lock:
        others = tuple(other for other in await load(dev_set.device_list) if other is not device)
        await store(dev_set.device_list, others)
    if await put(dev_set.device_count, device, "in this set"):
        await xa_store(device.vfio.dev_sets, dev_set.key, None)
        await free(dev_set)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_put_registration(device: VfioDevice, holder: KObject, reason: str = OPEN_FILE) -> None:
    """Let go of the registration; the last one wakes the driver that waits to leave."""
    if await put(device.refcount, holder, reason):
        await complete(device.comp)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_try_get_registration(device: VfioDevice, holder: KObject, reason: str = OPEN_FILE) -> bool:
    """Hold the registration, so that the driver cannot let go of the device; False if it has begun to."""
    return await get_unless_zero(device.refcount, holder, reason)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_release(device: VfioDevice) -> None:
    """Nobody needs the memory any more: out of its set, its number is free again, its driver clears up."""
    await vfio_release_device_set(device)
    await xa_store(device.vfio.device_ida, device.index, None)
    await load(device.driver.code)  # ops->release is a function of the driver
    if device.ops.release is not None:
        await device.ops.release(device)
    data = await load(device.driver_data)
    if data is not None:
        await free(data)
    await free(device)


@kernel("include/linux/vfio.h")
async def vfio_check_feature(flags: int, size: int, supported: int, minsz: int) -> bool:
    """May the feature be got or set like this? EINVAL if not; False where it was only asked (PROBE)."""
    wrong = flags & (GET | SET) & ~supported
    why = f"the feature {flags & uapi.VFIO_DEVICE_FEATURE_MASK} cannot be {'got' if wrong & GET else 'set'}"
    await refuse_if(bool(wrong), Errno.EINVAL, "feature_direction", why)
    if flags & PROBE:
        return False
    nothing = not flags & (GET | SET)
    await refuse_if(nothing, Errno.EINVAL, "feature_get_or_set", "neither GET nor SET nor PROBE was asked for")
    await refuse_if(size < minsz, Errno.EINVAL, "feature_data_fits", f"the data of this feature are {minsz} bytes")
    return True


@kernel("include/linux/vfio.h")
async def vfio_put_device(device: VfioDevice, holder: KObject, reason: str) -> None:
    """Let go of the memory of a vfio_device."""
    if await put(device.kref, holder, reason):
        await vfio_device_release(device)


@kernel("drivers/vfio/vfio_main.c")
async def __vfio_register_dev(device: VfioDevice, driver: BusDriver) -> None:
    """Make a device usable: its node appears, its driver holds its memory and its registration, its group knows it."""
    dev_set = device.dev_set
    await get(dev_set.device_count, device, "in this set")
    async with dev_set.lock:
        await store(dev_set.device_list, (*await load(dev_set.device_list), device))
    if built_with("vfio_group"):
        await get(device.group.drivers, device, IN_THIS_GROUP)
    await get(device.kref, driver, DRIVES)
    # without an IOMMU there is nothing that BIND could mean, so there is no node
    if built_with("vfio_device_cdev") and not vfio_device_is_noiommu(device):
        await add_cdev(device)
    await get(device.refcount, driver, REGISTERED)
    await vfio_device_group_register(device)


async def add_cdev(device: VfioDevice) -> None:
    """The node of a device appears."""
    fops = device.vfio.device_fops
    cdev = await alloc(Cdev, f"vfio{device.index}", fops, device.kref, device, vfio_device_release)
    init(device, cdev=cdev)
    await get(device.kref, cdev, "contains the node")
    await cdev_device_add(device.vfio.devtmpfs, device.path, cdev)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_unregister_group_dev(device: VfioDevice, driver: BusDriver) -> None:
    """The driver leaves: nobody new can get at the device, and then it waits, however long, for everybody who has it.

    It never gives up and takes nothing away: files that are open keep working. Every 10 seconds the driver asks the users
    again to let go, if it knows how.
    """
    await vfio_device_group_unregister(device)
    say(Phase.BLOCK, "The node of {} is removed: from now on nobody can open it.", device)
    if device.cdev is not None:
        await cdev_device_del(device.vfio.devtmpfs, device.path, device.cdev)
    await vfio_device_put_registration(device, driver, REGISTERED)
    say(Phase.BLOCK, "{} waits until no file of {} is open.", driver, device)
    await until_nobody_has_it_open(device)
    say(Phase.RELEASE, "Nobody has {} open any more.", device)
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
async def vfio_allocate_device_file(
    file: File | None, device: VfioDevice, group: VfioGroup | None = None
) -> VfioDeviceFile:
    """The state of one open of a device; `group` if it was asked for through one, then its file comes later."""
    return await alloc(VfioDeviceFile, file, device, group)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_df_device_first_open(df: VfioDeviceFile) -> None:
    """The first open: hold the driver's module, bind to the iommufd or use the container, let the driver open the device."""
    device = df.device
    ictx = await load(df.iommufd)
    driver: Any = await load(device.dev.driver)  # there is one: an open file holds the registration
    held = await try_module_get(driver, device)
    await refuse_if(not held, Errno.ENODEV, "driver_stays_loaded", "the driver's module is being unloaded")
    async with on_failure(module_put, driver, device):
        if ictx is not None:
            await vfio_df_iommufd_bind(df)
        else:
            await vfio_device_group_use_iommu(device)
        async with on_failure(give_up_iommu, df, ictx):
            say(Phase.ACQUIRE, "{} opens the device: the hardware is made ready.", driver)
            await device.ops.open_device(device)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_df_device_last_close(df: VfioDeviceFile) -> None:
    """The last close, in the reverse order of the first open; whether there is an iommufd says the file that is closed."""
    device = df.device
    ictx = await load(df.iommufd)
    say(Phase.RELEASE, "The driver closes the device.")
    await device.ops.close_device(device)
    await give_up_iommu(df, ictx)
    say(Phase.RELEASE, "The driver need not stay any more, and open_count counts one less.")
    driver: Any = await load(device.dev.driver)  # the same as at the first open, for it cannot have left meanwhile
    await store(device.precopy_info_v2, False)
    await module_put(driver, device)


async def give_up_iommu(df: VfioDeviceFile, ictx: IommufdCtx | None) -> None:
    """The opposite of what the first open did: unbind from the iommufd, or one use less of the container."""
    if ictx is not None:
        await vfio_df_iommufd_unbind(df)
    else:
        await vfio_device_group_unuse_iommu(df.device)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_df_open(df: VfioDeviceFile) -> None:
    """Open the device for one file. EINVAL if another file has it open and this one came from the device's own node.

    Files that came from the group may be many; only the first one really opens.
    """
    device = df.device
    say(Phase.VALIDATE, "Is the device open already? Only files of its group may share it.")
    opens = await load(device.open_count)
    await refuse_if(
        opens != 0 and df.group is None, Errno.EINVAL, "single_open", "another file of this device is bound already"
    )
    first = "The device is opened for the first time: open_count becomes 1. Its driver has to stay."
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
async def vfio_device_fops_release(file: File) -> None:
    """Nobody holds the file any more: undo the bind, then let go of the registration, last of all free the df."""
    df: VfioDeviceFile = await private(file)
    if df.group is not None:
        await vfio_df_group_close(df)
    else:
        await vfio_df_unbind_iommufd(df)
    say(Phase.RELEASE, "{} gives back the registration: a driver that waits for it can go on.", file)
    await vfio_device_put_registration(df.device, file)
    await free(df)


# the next step from one state (a row) to another one (a column), all in the order of their numbers; 0, ERROR: no way leads there
_FROM_FSM: Final = ("00000000", "01534555", "05255565", "01131100", "01114111", "01211527", "02272267", "05535567")
_P2P, _PRE_COPY = uapi.VFIO_MIGRATION_P2P, uapi.VFIO_MIGRATION_PRE_COPY
_STATE_NEEDS: Final = (0, 0, 0, 0, 0, _P2P, _PRE_COPY, _P2P | _PRE_COPY)  # beside STOP_COPY, which all need


@kernel("drivers/vfio/vfio_main.c")
async def vfio_mig_get_next_state(device: VfioDevice, current_state: int, new: int) -> int:
    """The next step on the way to a state; states that the driver has not are left out. EINVAL where no way leads."""
    can = device.ops.migration_flags
    lacks = not 0 < new < len(_STATE_NEEDS) or _STATE_NEEDS[new] & ~can
    step = 0 if lacks else int(_FROM_FSM[current_state][new])
    while step and _STATE_NEEDS[step] & ~can:
        step = int(_FROM_FSM[step][new])
    await refuse_if(
        not step, Errno.EINVAL, "state_can_be_reached", f"no way leads from state {current_state} to state {new}"
    )
    return step


@kernel("drivers/vfio/vfio_main.c")
async def vfio_ioct_mig_return_fd(file: File, argument: int, state: int) -> int:
    """A descriptor for what is read or written in a state. EMFILE, EFAULT; the device stays in that state then, too."""
    async with on_failure(fput, file, current(), "being opened"):
        number = await get_unused_fd_flags(O_CLOEXEC)
        async with on_failure(put_unused_fd, number):
            await copy_to_user(argument, state.to_bytes(4, "little") + number.to_bytes(4, "little"))
    await fd_install(number, file)
    return 0


@kernel("drivers/vfio/vfio_main.c")
async def vfio_ioctl_device_feature_mig_device_state(
    device: VfioDevice, mig_ops: VfioMigrationOps, flags: int, argument: int
) -> int:
    """In which state a device is, or bring it into another one: EFAULT, what the driver says. Without a file data_fd is -1."""
    state = int.from_bytes((await copy_from_user(argument, 8))[:4], "little")
    if flags & GET:
        state = await mig_ops.migration_get_state(device)
        await copy_to_user(argument, state.to_bytes(4, "little") + b"\xff" * 4)
        return 0
    try:
        file = await mig_ops.migration_set_state(device, state)
    except KernelError:
        await copy_to_user(argument, state.to_bytes(4, "little") + b"\xff" * 4)
        raise
    if file is not None:
        return await vfio_ioct_mig_return_fd(file, argument, state)
    await copy_to_user(argument, state.to_bytes(4, "little") + b"\xff" * 4)
    return 0


_MIGRATION: Final = {
    uapi.VFIO_DEVICE_FEATURE_MIGRATION: (GET, 8),
    uapi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: (GET | SET, 8),
    uapi.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: (GET, 8),
}
_LOGGING: Final = {
    uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_START: (SET, 24),
    uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: (SET, 0),
    uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: (GET, 32),
}


async def core_feature(device: VfioDevice, feature: int, flags: int, data: int, room: int) -> int:
    """Migration and the logging of DMA writes: ENOTTY unless the driver can do that."""
    has = bool(device.ops.migration_flags) if feature in _MIGRATION else device.ops.logs_dma
    await refuse_if(not has, Errno.ENOTTY, "device_has_feature", "the device has no such feature")
    supported, minsz = _MIGRATION.get(feature) or _LOGGING[feature]
    if not await vfio_check_feature(flags, room, supported, minsz):
        return 0
    if feature == uapi.VFIO_DEVICE_FEATURE_MIGRATION:
        await copy_to_user(data, device.ops.migration_flags.to_bytes(8, "little"))
        return 0
    mig_ops = device.ops.mig_ops
    if feature == uapi.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE and mig_ops is not None:
        await copy_to_user(data, (await mig_ops.migration_get_data_size(device)).to_bytes(8, "little"))
        return 0
    if feature == uapi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE and mig_ops is not None:
        return await vfio_ioctl_device_feature_mig_device_state(device, mig_ops, flags, data)
    if feature == uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
        await vfio_ioctl_device_feature_logging_start(data)
    elif feature == uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
        await vfio_ioctl_device_feature_logging_report(data)
    return 0


@kernel("drivers/vfio/vfio_main.c")
async def vfio_ioctl_device_feature_logging_start(argument: int) -> None:
    """Note from now on which memory the device writes; the only modelled driver that can writes none.

    EFAULT, EINVAL (no range), E2BIG, then range by range EFAULT, EINVAL (alignment), EOVERFLOW, EINVAL (overlap).
    """
    control = uapi.VfioDeviceFeatureDmaLoggingControl.from_buffer_copy(await copy_from_user(argument, 24))
    await refuse_if(not control.num_ranges, Errno.EINVAL, "ranges_given", "no range is given")
    many = control.num_ranges > LOG_MAX_RANGES
    await refuse_if(
        many, Errno.E2BIG, "ranges_not_too_many", f"of {control.num_ranges} ranges {LOG_MAX_RANGES} are the most"
    )
    known: list[tuple[int, int]] = []
    for number in range(control.num_ranges):
        raw = await copy_from_user(control.ranges + 16 * number, 16)
        iova, length = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
        odd = bool((iova | length) & (control.page_size - 1) & ULONG_MAX)
        it = f"range {number}, {length:#x} bytes from {iova:#x},"
        await refuse_if(odd, Errno.EINVAL, "whole_pages", f"{it} is no multiple of {control.page_size:#x} bytes")
        over = iova + length > ULONG_MAX
        await refuse_if(over, Errno.EOVERFLOW, "range_ends_somewhere", f"{it} ends beyond the last address")
        end = iova + length - 1 & ULONG_MAX  # of no bytes from zero on: all addresses
        taken = any(iova <= last and end >= first for first, last in known)
        await refuse_if(taken, Errno.EINVAL, "ranges_apart", f"{it} overlaps one before it")
        known.append((iova, end))
    await copy_to_user(argument, bytes(control))


@kernel("drivers/vfio/vfio_main.c")
async def vfio_ioctl_device_feature_logging_report(argument: int) -> None:
    """Which memory the device has written: EFAULT, EINVAL (size of a page), EOVERFLOW; none, so nobody looks at the bitmap."""
    report = uapi.VfioDeviceFeatureDmaLoggingReport.from_buffer_copy(await copy_from_user(argument, 32))
    odd = report.page_size < LOG_PAGE or report.page_size.bit_count() != 1
    await refuse_if(odd, Errno.EINVAL, "page_size_possible", f"a page has {LOG_PAGE} bytes or a larger power of 2")
    over = report.iova + report.length > ULONG_MAX
    await refuse_if(over, Errno.EOVERFLOW, "range_ends_somewhere", ends_beyond(report.iova, report.length))


@kernel("drivers/vfio/vfio_main.c")
async def vfio_ioctl_device_feature(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_FEATURE: EFAULT, EINVAL (argsz below 8, flags), ENOTTY for a feature the device has not, EINVAL (direction)."""
    head = await copy_from_user(argument, FEATURE_MINSZ)
    argsz, flags = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
    await refuse_if(argsz < FEATURE_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {FEATURE_MINSZ}")
    unknown = flags & ~(uapi.VFIO_DEVICE_FEATURE_MASK | GET | SET | PROBE)
    both = not flags & PROBE and flags & GET and flags & SET
    await refuse_if(bool(unknown), Errno.EINVAL, "flags_known", f"the flags {unknown:#x} are not known")
    await refuse_if(bool(both), Errno.EINVAL, "get_or_set", "GET and SET exclude each other")
    feature, room, data = flags & uapi.VFIO_DEVICE_FEATURE_MASK, argsz - FEATURE_MINSZ, argument + FEATURE_MINSZ
    if feature in _MIGRATION or feature in _LOGGING:
        return await core_feature(device, feature, flags, data, room)
    if feature == PRECOPY_INFO_V2:
        missing = not device.ops.migration_flags & uapi.VFIO_MIGRATION_PRE_COPY
        await refuse_if(missing, Errno.EINVAL, "device_has_precopy", "the device cannot be saved while it runs")
        if await vfio_check_feature(flags, room, SET, 0):
            await store(device.precopy_info_v2, True)
        return 0
    missing = device.ops.device_feature is None
    await refuse_if(missing, Errno.ENOTTY, "device_has_feature", f"the device has no feature {feature}")
    assert device.ops.device_feature is not None
    return await device.ops.device_feature(device, flags, data, room)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_get_region_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_REGION_INFO: EINVAL if the driver has none, EFAULT, EINVAL for argsz below 32, what the driver says.

    Capabilities follow the struct if there is room for them, else argsz says how much room they need.
    """
    size = sizeof(VfioRegionInfo)
    await refuse_if(
        device.ops.get_region_info is None, Errno.EINVAL, "driver_has_regions", "this device has no regions"
    )
    assert device.ops.get_region_info is not None
    info = VfioRegionInfo.from_buffer_copy(await copy_from_user(argument, size))
    await refuse_if(info.argsz < size, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {size}")
    caps = await device.ops.get_region_info(device, info)
    if caps:
        info.flags |= uapi.VFIO_REGION_INFO_FLAG_CAPS
        if info.argsz < size + len(caps):
            info.argsz, info.cap_offset = size + len(caps), 0
        else:
            await copy_to_user(argument + size, caps)
            info.cap_offset = size
    await copy_to_user(argument, bytes(info))
    return 0


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_unl_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a device file: BIND always, everything else only behind the gate (EINVAL)."""
    df: VfioDeviceFile = await private(file)
    if cmd == uapi.VFIO_DEVICE_BIND_IOMMUFD:
        return await vfio_df_ioctl_bind_iommufd(df, argument)
    granted = await load_acquire(df.access_granted)
    await refuse_if(
        not granted, Errno.EINVAL, "access_granted", "the gate is shut: before a successful BIND nothing else works"
    )
    if cmd == uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT and df.group is None:
        return await vfio_df_ioctl_attach_pt(df, argument)
    if cmd == uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT and df.group is None:
        return await vfio_df_ioctl_detach_pt(df, argument)
    if cmd == uapi.VFIO_DEVICE_FEATURE:
        return await vfio_ioctl_device_feature(df.device, argument)
    if cmd == uapi.VFIO_DEVICE_GET_REGION_INFO:
        return await vfio_get_region_info(df.device, argument)
    return await df.device.ops.ioctl(df.device, cmd, argument)


async def gate(file: File) -> VfioDevice:
    """The device behind a file whose gate is open. EINVAL before a successful BIND."""
    df: VfioDeviceFile = await private(file)
    granted = await load_acquire(df.access_granted)
    await refuse_if(not granted, Errno.EINVAL, "access_granted", "the gate is shut: only BIND works on this file")
    return df.device


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_read(file: File, size: int, offset: int) -> bytes:
    """Read from a region: EINVAL before BIND, or if the driver cannot."""
    device = await gate(file)
    handler = await require(device.ops.read, Errno.EINVAL, "driver_reads", "the driver has nothing to read")
    return await handler(device, size, offset)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_write(file: File, data: bytes, offset: int) -> int:
    """Write into a region: EINVAL before BIND, or if the driver cannot."""
    device = await gate(file)
    handler = await require(device.ops.write, Errno.EINVAL, "driver_writes", "the driver has nothing to write to")
    return await handler(device, data, offset)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_mmap(file: File, wish: Mapping) -> None:
    """Map a region: EINVAL before BIND, or if the driver cannot."""
    device = await gate(file)
    handler = await require(device.ops.mmap, Errno.EINVAL, "driver_maps", "no region of this device can be mapped")
    await handler(device, wish)


async def vfio_device_fault(file: File, offset: int, width: int, data: bytes | None) -> bytes:
    """An access to a region that is mapped, which holds the file, and so the device."""
    df: VfioDeviceFile = await private(file)
    assert df.device.ops.fault is not None  # who maps has it
    return await df.device.ops.fault(df.device, offset, width, data)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_show_fdinfo(file: File) -> str:
    """Where the device is in /sys, whether the file is bound or not."""
    df: VfioDeviceFile = await private(file)
    return f"vfio-device-syspath: {syspath(df.device.dev)}\n"


vfio_device_fops = FileOperations(
    "vfio device",
    open=prototype("vfio_device_fops_cdev_open"),
    release=vfio_device_fops_release,
    unlocked_ioctl=vfio_device_fops_unl_ioctl,
    read=vfio_device_fops_read,
    write=vfio_device_fops_write,
    mmap=vfio_device_fops_mmap,
    fault=vfio_device_fault,
    show_fdinfo=vfio_device_show_fdinfo,
)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_file_set_kvm(file: File, kvm: Kvm | None) -> None:
    """Note in an open device file which VM it belongs to; BIND will look there, nobody else."""
    df: VfioDeviceFile = await private(file)
    async with df.kvm_ref_lock:
        await store(df.kvm, kvm)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_set_irqs_validate_and_prepare(hdr: VfioIrqSet, num_irqs: int, max_irq_type: int) -> int:
    """The checks of VFIO_DEVICE_SET_IRQS that no driver has to make; the answer is how many bytes of data follow. EINVAL."""
    known = uapi.VFIO_IRQ_SET_DATA_TYPE_MASK | uapi.VFIO_IRQ_SET_ACTION_TYPE_MASK
    short = hdr.argsz < IRQ_SET_MINSZ
    await refuse_if(short, Errno.EINVAL, "argsz_minimum", f"argsz is {hdr.argsz}, and must be at least {IRQ_SET_MINSZ}")
    no_kind = hdr.index >= max_irq_type
    await refuse_if(
        no_kind, Errno.EINVAL, "irq_index_known", f"kinds of interrupts are 0 to {max_irq_type - 1}, not {hdr.index}"
    )
    many = hdr.count >= 0xFFFFFFFF - hdr.start
    why = f"start {hdr.start} and count {hdr.count} together are more than 32 bits can tell"
    await refuse_if(many, Errno.EINVAL, "irqs_countable", why)
    unknown = hdr.flags & ~known
    await refuse_if(unknown != 0, Errno.EINVAL, "flags_known", f"the flags {unknown:#x} are not known")
    outside = hdr.start >= num_irqs or hdr.start + hdr.count > num_irqs
    why = f"the device has {num_irqs} interrupts of this kind; {hdr.count} from number {hdr.start} on are asked for"
    await refuse_if(outside, Errno.EINVAL, "irqs_exist", why)
    kinds = hdr.flags & uapi.VFIO_IRQ_SET_DATA_TYPE_MASK
    each = _DATA_SIZES.get(kinds)
    why = f"one of DATA_NONE, DATA_BOOL and DATA_EVENTFD has to be named; the flags name {kinds.bit_count()}"
    await refuse_if(each is None, Errno.EINVAL, "one_kind_of_data", why)
    assert each is not None
    room = hdr.argsz - IRQ_SET_MINSZ
    why = f"the data of {hdr.count} interrupts are {hdr.count * each} bytes; argsz leaves {room} behind the struct"
    await refuse_if(room < hdr.count * each, Errno.EINVAL, "irq_data_fits", why)
    return int(hdr.count * each)
