"""What can be done with an open device file (the file operations of drivers/vfio/vfio_main.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import Phase, free, kernel, load_acquire, refuse_if, require, say
from ...uapi import Errno
from ..base import syspath
from ..fs.file import File, FileOperations, Mapping, private
from ..unsupported import Unsupported
from ..variants import AFTER_FEATURE
from .attach import vfio_df_ioctl_attach_pt, vfio_df_ioctl_detach_pt
from .device_cdev import vfio_device_fops_cdev_open, vfio_df_ioctl_bind_iommufd, vfio_df_unbind_iommufd
from .device_info import vfio_get_region_info, vfio_ioctl_device_feature
from .group_open import vfio_df_group_close
from .vfio import VfioDevice, VfioDeviceFile
from .vfio_main import vfio_device_put_registration


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_release(file: File) -> None:
    """Nobody holds the file any more: undo the bind, then let go of the registration, last of all free the df."""
    df: VfioDeviceFile = await private(file)
    if df.group is not None:
        await vfio_df_group_close(df)
    else:
        await vfio_df_unbind_iommufd(df)
    say(Phase.UNWIND, "{} lets go of the registration: a driver that waits to leave may go on.", file)
    await vfio_device_put_registration(df.device, file)
    await free(df)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_unl_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a device file: BIND always, everything else only behind the gate (EINVAL)."""
    df: VfioDeviceFile = await private(file)
    variant = df.device.vfio.variant
    if cmd == variant.bind_request:
        return await vfio_df_ioctl_bind_iommufd(df, argument)
    granted = await load_acquire(df.access_granted)
    await refuse_if(
        not granted, Errno.EINVAL, "access_granted", "the gate is shut: before a successful BIND nothing else works"
    )
    if not variant.attach_requests and cmd in AFTER_FEATURE:
        raise Unsupported(f"request {cmd:#x}, whose meaning in this version is not known,")
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
    if device.ops.name == "mtty":
        raise Unsupported("writing to mtty")
    handler = await require(device.ops.write, Errno.EINVAL, "driver_writes", "the driver has nothing to write to")
    return await handler(device, data, offset)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_fops_mmap(file: File, wish: Mapping) -> None:
    """Map a region: EINVAL before BIND, or if the driver cannot."""
    device = await gate(file)
    handler = await require(device.ops.mmap, Errno.EINVAL, "driver_maps", "no region of this device can be mapped")
    await handler(device, wish)


@kernel("drivers/vfio/vfio_main.c")
async def vfio_device_show_fdinfo(file: File) -> str:
    """Where the device is in /sys, whether the file is bound or not."""
    df: VfioDeviceFile = await private(file)
    return f"vfio-device-syspath: {syspath(df.device.dev)}\n"


vfio_device_fops = FileOperations(
    "vfio device",
    open=vfio_device_fops_cdev_open,
    release=vfio_device_fops_release,
    unlocked_ioctl=vfio_device_fops_unl_ioctl,
    read=vfio_device_fops_read,
    write=vfio_device_fops_write,
    mmap=vfio_device_fops_mmap,
    show_fdinfo=vfio_device_show_fdinfo,
)
