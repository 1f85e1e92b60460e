"""BIND, ATTACH and DETACH in Linux 6.6, the first release with them: no token, no PASID (drivers/vfio/device_cdev.c, v6.6)."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import sizeof
from functools import partial
from typing import Any, Final, TypeVar

from ... import uapi
from ...engine import *
from ...uapi import Errno, Struct
from ..unsupported import Unsupported
from ..vfio.device_cdev import (
    ATTACH_MINSZ,
    BIND_MINSZ,
    DETACH_MINSZ,
    OUT_DEVID,
    attach_and_tell,
    copy_argument,
    give_iommufd_back,
    open_and_publish,
    take_iommufd,
)
from ..vfio.group import vfio_device_block_group, vfio_device_unblock_group
from ..vfio.iommufd import vfio_device_is_noiommu
from ..vfio.vfio import VfioDeviceFile

S = TypeVar("S", bound=Struct)
TABLE: Final[dict[str, Callable[..., Any]]] = {}
v66 = partial(of_version, TABLE, tag="v6.6")


async def copy_fixed(layout: type[S], argument: int, minsz: int) -> S:
    """The argument as a struct of one size: more than that is not looked at. EFAULT, EINVAL (argsz)."""
    say(
        Phase.VALIDATE, f"The argument's {minsz} bytes are copied, whatever its argsz says; then: is argsz long enough?"
    )
    data = await copy_from_user(argument, minsz)
    bind: Any = layout.from_buffer_copy(data.ljust(sizeof(layout), b"\0"))
    await refuse_if(bind.argsz < minsz, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {minsz}")
    say(Phase.VALIDATE, "Is the iommufd number possible, are all flags known? And is this a file of a group?")
    return bind  # type: ignore[no-any-return]


@v66("drivers/vfio/device_cdev.c")
async def vfio_df_ioctl_bind_iommufd(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_BIND_IOMMUFD: EFAULT, EINVAL (argsz, iommufd, flags, group file), then as in 7.2; nobody asks for a token."""
    device = df.device
    bind = await copy_fixed(uapi.VfioDeviceBindIommufd, argument, BIND_MINSZ)
    await refuse_if(bind.iommufd < 0, Errno.EINVAL, "iommufd_not_negative", "a descriptor number is never negative")
    await refuse_if(bind.flags != 0, Errno.EINVAL, "flags_known", f"the flags {bind.flags:#x} are not known")
    await refuse_if(
        df.group is not None, Errno.EINVAL, "not_from_group", "this file came from a group; it is open already"
    )
    await vfio_device_block_group(device)
    async with on_failure(vfio_device_unblock_group, device):
        say(Phase.LOCK, "The lock of the device set: nobody else opens, binds or closes a device of this set now.")
        async with device.dev_set.lock:
            say(Phase.VALIDATE, "Is this file bound already?")
            bound = await load(df.access_granted)
            await refuse_if(
                bound, Errno.EINVAL, "not_bound_yet", "this file is bound already; a file can be bound once"
            )
            ictx = await take_iommufd(df, bind.iommufd)
            async with on_failure(give_iommufd_back, df, ictx):
                await open_and_publish(df, argument + OUT_DEVID)
    return 0


@v66("drivers/vfio/device_cdev.c")
async def vfio_df_ioctl_attach_pt(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT: the argument's errors, then what attaching says, EFAULT where pt_id cannot be written."""
    data, _ = await copy_argument(argument, ATTACH_MINSZ, 0, can=False)
    await attach_and_tell(df.device, argument, int.from_bytes(data[8:12], "little"), None)
    return 0


@v66("drivers/vfio/device_cdev.c")
async def vfio_df_ioctl_detach_pt(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_DETACH_IOMMUFD_PT: the argument's errors; then it always works, attached or not."""
    device = df.device
    await copy_argument(argument, DETACH_MINSZ, 0, can=False)
    assert device.ops.detach_ioas is not None
    say(Phase.LOCK, "The lock of the device set, for the end of the attachment.")
    async with device.dev_set.lock:
        await device.ops.detach_ioas(device)
    return 0


@v66("drivers/vfio/iommufd.c")
async def vfio_df_iommufd_bind(df: VfioDeviceFile) -> None:
    """Let the driver bind its device to the iommufd of this file; a device without an IOMMU was broken until after 6.13."""
    device = df.device
    if vfio_device_is_noiommu(device):
        raise Unsupported("a device without an IOMMU, with an iommufd, before this was repaired,")
    if device.ops.bind_iommufd is None:
        return
    ictx = await load(df.iommufd)
    assert ictx is not None
    await store(df.devid, await device.ops.bind_iommufd(device, ictx))
