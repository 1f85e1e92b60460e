"""What can be done with an open device file (the file operations of drivers/vfio/vfio_main.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import Phase, free, kernel, load_acquire, refuse_if, say
from ...uapi import Errno, request_names
from ..fs.file import File, FileOperations, private
from ..unsupported import Unsupported
from .attach import vfio_df_ioctl_attach_pt, vfio_df_ioctl_detach_pt
from .device_cdev import vfio_device_fops_cdev_open, vfio_df_ioctl_bind_iommufd, vfio_df_unbind_iommufd
from .vfio import VfioDeviceFile
from .vfio_main import vfio_device_put_registration

NOT_MODELLED = {
    uapi.VFIO_DEVICE_FEATURE,
    uapi.VFIO_DEVICE_GET_REGION_INFO,
}


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_release(file: File) -> None:
    """Nobody holds the file any more: undo the bind, then let go of the registration, last of all free the df."""
    df: VfioDeviceFile = await private(file)
    await vfio_df_unbind_iommufd(df)
    say(Phase.UNWIND, "{} lets go of the registration: a driver that waits to leave may go on.", file)
    await vfio_device_put_registration(df.device, file)
    await free(df)


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
    if cmd in NOT_MODELLED:
        raise Unsupported(request_names(cmd)[0])
    return await df.device.ops.ioctl(df.device, cmd, argument)


vfio_device_fops = FileOperations(
    "vfio device",
    open=vfio_device_fops_cdev_open,
    release=vfio_device_fops_release,
    unlocked_ioctl=vfio_device_fops_unl_ioctl,
)
