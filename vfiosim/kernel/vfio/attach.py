"""Attaching a bound device to an address space, and detaching it (drivers/vfio/device_cdev.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ... import uapi
from ...engine import Phase, copy_from_user, copy_to_user, kernel, refuse_if, say
from ...uapi import Errno, KernelError
from .vfio import VfioDeviceFile

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
    device, ops = df.device, df.device.ops
    can = ops.pasid_attach_ioas is not None
    flag = uapi.VFIO_DEVICE_ATTACH_PASID if device.vfio.variant.attach_pasid else 0
    data, pasid = await copy_argument(argument, ATTACH_MINSZ, flag, can)
    assert ops.attach_ioas is not None  # registration has seen to it
    assert ops.detach_ioas is not None
    pt_id = int.from_bytes(data[8:12], "little")
    say(Phase.LOCK, "The lock of the device set, for the attachment.")
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
    return 0


@kernel("drivers/vfio/device_cdev.c")
async def vfio_df_ioctl_detach_pt(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_DETACH_IOMMUFD_PT: the argument's errors; then it always works, attached or not."""
    device, ops = df.device, df.device.ops
    can = ops.pasid_detach_ioas is not None
    flag = uapi.VFIO_DEVICE_DETACH_PASID if device.vfio.variant.attach_pasid else 0
    _, pasid = await copy_argument(argument, DETACH_MINSZ, flag, can)
    assert ops.detach_ioas is not None
    say(Phase.LOCK, "The lock of the device set, for the end of the attachment.")
    async with device.dev_set.lock:
        if pasid is not None and ops.pasid_detach_ioas is not None:
            await ops.pasid_detach_ioas(device, pasid)
        else:
            await ops.detach_ioas(device)
    return 0
