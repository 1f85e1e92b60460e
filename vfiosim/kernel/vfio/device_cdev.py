"""The device's own node: open, BIND, ATTACH, DETACH, and the unbind when the file goes (drivers/vfio/device_cdev.c, v7.2)."""

from __future__ import annotations

from typing import Any, Final

from ... import uapi
from ...engine import *
from ...uapi import VFIO_DEVICE_BIND_FLAG_TOKEN, Errno, KernelError, VfioDeviceBindIommufd
from ..fs.file import File
from ..iommufd.iommufd_private import IommufdCtx
from ..iommufd.main import iommufd_ctx_from_fd
from ..prototypes import iommufd_ctx_put
from ..uaccess import copy_struct_from_user, get_user_u32
from .group import vfio_device_block_group, vfio_device_unblock_group
from .vfio import VfioDevice, VfioDeviceFile
from .vfio_main import (
    vfio_allocate_device_file,
    vfio_device_get_kvm_safe,
    vfio_device_put_kvm,
    vfio_device_put_registration,
    vfio_device_try_get_registration,
    vfio_df_close,
    vfio_df_open,
)

BINDING: Final = "bound to it"
BIND_MINSZ: Final = 16  # up to and including out_devid
OUT_DEVID: Final = 12  # where it is in the argument


@kernel("drivers/vfio/device_cdev.c")
async def vfio_device_fops_cdev_open(file: File) -> None:
    """Open /dev/vfio/devices/vfioN: any number of times, but only BIND works on it. ENODEV while the driver leaves."""
    device = file.cdev.inside if file.cdev is not None else None
    assert isinstance(device, VfioDevice)
    say(Phase.ACQUIRE, "{} becomes an open file of {}; the device itself stays closed until BIND.", file, device)
    held = await vfio_device_try_get_registration(device, file)
    await refuse_if(not held, Errno.ENODEV, "still_registered", "the driver is letting go of this device")
    async with on_failure(vfio_device_put_registration, device, file):
        df = await vfio_allocate_device_file(file, device)
    await store(file.private_data, df)


@kernel("drivers/vfio/device_cdev.c")
async def vfio_df_get_kvm_safe(df: VfioDeviceFile) -> None:
    """Hold the VM that this file belongs to, if one has been noted: once, here, and never again."""
    async with df.kvm_ref_lock:
        await vfio_device_get_kvm_safe(df.device, await load(df.kvm))


@kernel("drivers/vfio/device_cdev.c")
async def vfio_df_check_token(device: VfioDevice, bind: VfioDeviceBindIommufd) -> None:
    """Does the driver want a token, and is this the right one? EINVAL, EFAULT, or what the driver says."""
    given = bool(bind.flags & VFIO_DEVICE_BIND_FLAG_TOKEN)
    if device.ops.match_token_uuid is None:
        await refuse_if(given, Errno.EINVAL, "driver_takes_token", "this driver knows no tokens, yet one was given")
        return
    token = await copy_from_user(bind.token_uuid_ptr, 16) if given else None
    await device.ops.match_token_uuid(device, token)


@kernel("drivers/vfio/device_cdev.c")
async def vfio_df_ioctl_bind_iommufd(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_BIND_IOMMUFD: make the device behind this file usable, under the rule of one iommufd.

    Fails with, in this order: EFAULT, EINVAL (argsz), E2BIG or EFAULT (tail), EINVAL (iommufd, flags), EINVAL (group file),
    EBUSY (group open), EINVAL (bound), token errors, EBADF or EBADFD (iommufd), EINVAL (another file), and what opening says;
    EFAULT where out_devid cannot be written. After a failure everything is as before, but for a VM: a second file's failed bind
    gives back the VM that the first one's took. What it is in other versions is in `kernel/posted/`.
    """
    device = df.device
    bind = await read_bind_argument(argument)
    await refuse_if(
        df.group is not None, Errno.EINVAL, "not_from_group", "this file came from a group; it is open already"
    )
    await vfio_device_block_group(device)
    async with on_failure(vfio_device_unblock_group, device):
        say(Phase.LOCK, "The lock of the device set: nobody else opens, binds or closes a device of this set now.")
        async with device.dev_set.lock:
            await bind_locked(df, bind, argument)
    return 0


async def read_bind_argument(argument: int) -> VfioDeviceBindIommufd:
    """The checks of BIND that only look at its argument; its size by the caller comes first, for it may grow."""
    say(Phase.VALIDATE, "The argument is copied: is it long enough, is every byte beyond the known ones zero?")
    user_size = await get_user_u32(argument)
    await refuse_if(user_size < BIND_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {BIND_MINSZ}")
    bind = await copy_struct_from_user(VfioDeviceBindIommufd, argument, user_size)
    say(Phase.VALIDATE, "Is the iommufd number possible, are all flags known? And is this a file of a group?")
    await refuse_if(bind.iommufd < 0, Errno.EINVAL, "iommufd_not_negative", "a descriptor number is never negative")
    unknown = bind.flags & ~VFIO_DEVICE_BIND_FLAG_TOKEN
    await refuse_if(unknown != 0, Errno.EINVAL, "flags_known", f"the flags {unknown:#x} are not known")
    return bind


async def bind_locked(df: VfioDeviceFile, bind: VfioDeviceBindIommufd, argument: int) -> None:
    """What BIND does under the lock of the device set."""
    device = df.device
    say(Phase.VALIDATE, "Is this file bound already? And does the driver want a token?")
    bound = await load(df.access_granted)
    await refuse_if(bound, Errno.EINVAL, "not_bound_yet", "this file is bound already; a file can be bound once")
    await vfio_df_check_token(device, bind)
    ictx = await take_iommufd(df, bind.iommufd)
    async with on_failure(give_iommufd_back, df, ictx):
        await open_and_publish(df, argument + OUT_DEVID)


async def take_iommufd(df: VfioDeviceFile, number: int) -> IommufdCtx:
    """The binding holds the iommufd behind a descriptor."""
    say(Phase.ACQUIRE, "Descriptor {} must be an iommufd; the binding holds its file from now on.", number)
    ictx = await iommufd_ctx_from_fd(number)
    await hand_over(ictx.file.f_ref, (current(), "running call"), (df, BINDING))
    await store(df.iommufd, ictx)
    return ictx


async def give_iommufd_back(df: VfioDeviceFile, ictx: IommufdCtx) -> None:
    """After a failure: the file is bound to nothing."""
    await iommufd_ctx_put(ictx, df, BINDING)
    await store(df.iommufd, None)


async def open_and_publish(df: VfioDeviceFile, where: int) -> None:
    """The second half of BIND, the same in all versions: VM, open, out_devid (at the address `where`), and the gate."""
    device = df.device
    say(Phase.ACQUIRE, "Does this file belong to a VM? If so, the device holds the VM from now on.")
    await vfio_df_get_kvm_safe(df)
    try:
        await vfio_df_open(df)
        try:
            await publish_devid(df, where)
        except KernelError:
            say(Phase.UNWIND, "out_close_device: the device is closed again.")
            await vfio_df_close(df)
            raise
    except KernelError:
        say(Phase.UNWIND, "out_put_kvm: the VM of the device and the iommufd are given back.")
        await vfio_device_put_kvm(device)
        raise
    say(Phase.PUBLISH, "The gate opens: a call that finds the gate open finds the device open, too.")
    await store(device.cdev_opened, True)
    await store_release(df.access_granted, True)
    say(Phase.LOCK, "The lock of the device set is given back.")


async def publish_devid(df: VfioDeviceFile, where: int) -> None:
    """Tell the caller the ID of its device in the iommufd."""
    devid = await load(df.devid)
    say(Phase.PUBLISH, f"out_devid = {devid} is written into the caller's struct.")
    await copy_to_user(where, devid.to_bytes(4, "little"))


@kernel("drivers/vfio/device_cdev.c")
async def vfio_df_unbind_iommufd(df: VfioDeviceFile) -> None:
    """The end of a binding; only the end of the file brings it about. Nothing to do if there was none."""
    device = df.device
    if not await load(df.access_granted):
        return
    say(Phase.LOCK, "The lock of the device set, for the unbind.")
    async with device.dev_set.lock:
        await vfio_df_close(df)
        say(Phase.RELEASE, "The VM, if there is one, and the iommufd are given back.")
        await vfio_device_put_kvm(device)
        ictx: Any = await load(df.iommufd)  # there is one: the file is bound
        await iommufd_ctx_put(ictx, df, BINDING)
        await store(device.cdev_opened, False)
    await vfio_device_unblock_group(device)


ATTACH_MINSZ: Final = 12  # up to and including pt_id
DETACH_MINSZ: Final = 8  # up to and including flags
PASID_SIZE: Final = 4


async def copy_argument(argument: int, minsz: int, flag: int, can: bool) -> tuple[bytes, int | None]:
    """The argument, and the PASID if there is one.

    EFAULT, EINVAL (argsz, flags), EOPNOTSUPP (a PASID, and a driver that knows none), EINVAL (argsz without room), EFAULT.
    """
    say(Phase.VALIDATE, "The argument is copied: is it long enough, are all flags known?")
    data = await copy_from_user(argument, minsz)
    argsz, flags = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    await refuse_if(argsz < minsz, Errno.EINVAL, "attach_argsz", f"argsz must be at least {minsz}")
    unknown = flags & ~flag
    await refuse_if(unknown != 0, Errno.EINVAL, "attach_flags_known", f"the flags {unknown:#x} are not known")
    if not flags & flag:
        return data, None
    await refuse_if(not can, Errno.EOPNOTSUPP, "driver_takes_pasid", "the driver of this device knows no PASIDs")
    size = minsz + PASID_SIZE
    await refuse_if(argsz < size, Errno.EINVAL, "pasid_argsz", f"with a PASID argsz must be at least {size}")
    return data, int.from_bytes(await copy_from_user(argument + minsz, PASID_SIZE), "little")


@kernel("drivers/vfio/device_cdev.c")
async def vfio_df_ioctl_attach_pt(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT: give the device an address space or a page table; a second one replaces the first.

    The argument's errors, then what attaching says, EFAULT where pt_id cannot be written: then the device is detached, also
    if it had been attached before.
    """
    device = df.device
    can = device.ops.pasid_attach_ioas is not None
    data, pasid = await copy_argument(argument, ATTACH_MINSZ, uapi.VFIO_DEVICE_ATTACH_PASID, can)
    pt_id = int.from_bytes(data[8:12], "little")
    await attach_and_tell(device, argument, pt_id, pasid)
    return 0


async def attach_and_tell(device: VfioDevice, argument: int, pt_id: int, pasid: int | None) -> None:
    """What ATTACH does under the lock of the device set."""
    ops = device.ops
    assert ops.attach_ioas is not None  # registration has seen to it
    assert ops.detach_ioas is not None
    say(Phase.LOCK, "The lock of the device set, for the attachment. What the pt_id stands for is held meanwhile.")
    async with device.dev_set.lock:
        if pasid is not None and ops.pasid_attach_ioas is not None:
            number = await ops.pasid_attach_ioas(device, pasid, pt_id)
        else:
            number = await ops.attach_ioas(device, pt_id)
        say(Phase.PUBLISH, f"pt_id = {number} is written into the caller's struct.")
        try:
            await copy_to_user(argument + 8, number.to_bytes(4, "little"))
        except KernelError:
            say(Phase.UNWIND, "out_detach: the device is detached, whatever it was attached to before.")
            await ops.detach_ioas(device)
            raise


@kernel("drivers/vfio/device_cdev.c")
async def vfio_df_ioctl_detach_pt(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_DETACH_IOMMUFD_PT: the argument's errors; then it always works, attached or not."""
    device, ops = df.device, df.device.ops
    can = ops.pasid_detach_ioas is not None
    _, pasid = await copy_argument(argument, DETACH_MINSZ, uapi.VFIO_DEVICE_DETACH_PASID, can)
    assert ops.detach_ioas is not None
    say(Phase.LOCK, "The lock of the device set, for the end of the attachment.")
    async with device.dev_set.lock:
        if pasid is not None and ops.pasid_detach_ioas is not None:
            await ops.pasid_detach_ioas(device, pasid)
        else:
            await ops.detach_ioas(device)
    return 0
