"""BIND as it was posted on 27 February 2023, version 5 of the patch (drivers/vfio/, mail of that day and its review)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ... import uapi
from ...engine import *
from ...uapi import Errno
from ..base import BusDriver, Device, module_put, try_module_get
from ..config import built_with
from ..fs.file import File, private
from ..iommufd.iommufd_private import IommufdCtx
from ..prototypes import (
    iommufd_ctx_put,
    vfio_device_group_register,
    vfio_device_group_unuse_iommu,
    vfio_device_group_use_iommu,
)
from ..task import capable
from ..unsupported import Unsupported
from ..variants import AFTER_FEATURE
from ..vfio.container import RAWIO
from ..vfio.device_cdev import BINDING, give_iommufd_back, open_and_publish, take_iommufd
from ..vfio.group import vfio_device_block_group, vfio_device_unblock_group
from ..vfio.iommufd import vfio_df_iommufd_unbind
from ..vfio.mtty import give_ports_back, mtty_dev_ops, mtty_init_dev, take_ports
from ..vfio.vfio import IN_THIS_GROUP, REGISTERED, Vfio, VfioDevice, VfioDeviceFile
from ..vfio.vfio_main import (
    DRIVES,
    add_cdev,
    register,
    vfio_device_put_kvm,
    vfio_df_close,
    vfio_get_region_info,
    vfio_ioctl_device_feature,
)
from .v66 import copy_fixed, vfio_df_iommufd_bind

REMEMBERED = "remembered for the attach"
MINSZ: Final = 24  # all of it
OUT_DEVID: Final = 20  # where it is in the argument
TABLE: Final[dict[str, Callable[..., Any]]] = {"vfio_df_iommufd_bind": vfio_df_iommufd_bind}
v5 = partial(of_version, TABLE, tag="v5")


@v5("samples/vfio-mdev/mtty.c")
async def mtty_probe(vfio: Vfio, device: Device, driver: BusDriver) -> None:
    """mtty takes a mediated device. It has no operations for an iommufd: they were thought to be for devices with DMA only."""
    own = replace(mtty_dev_ops, bind_iommufd=None, unbind_iommufd=None, attach_ioas=None, detach_ioas=None)
    await take_ports(device)
    async with on_failure(give_ports_back, device):
        vdev = await register(vfio, device, driver, own)
    await mtty_init_dev(vdev)
    await prototype("__vfio_register_dev")(vdev, driver)


@v5("drivers/vfio/vfio_main.c")
async def __vfio_register_dev(device: VfioDevice, driver: BusDriver) -> None:
    """Make a device usable, as in 7.2; one without an IOMMU has a node, too."""
    dev_set = device.dev_set
    await get(dev_set.device_count, device, "in this set")
    async with dev_set.lock:
        await store(dev_set.device_list, (*await load(dev_set.device_list), device))
    if built_with("vfio_group"):
        await get(device.group.drivers, device, IN_THIS_GROUP)
    await get(device.kref, driver, DRIVES)
    if built_with("vfio_device_cdev"):
        await add_cdev(device)
    await get(device.refcount, driver, REGISTERED)
    await vfio_device_group_register(device)


@v5("drivers/vfio/vfio_main.c")
async def vfio_device_fops_unl_ioctl(file: File, cmd: int, argument: int) -> int:
    """BIND, by its number then, always; everything else only behind the gate (EINVAL). The mail knows no ATTACH and no DETACH."""
    df: VfioDeviceFile = await private(file)
    if cmd == uapi.VFIO_DEVICE_BIND_IOMMUFD_V5:
        return await prototype("vfio_df_ioctl_bind_iommufd")(df, argument)  # type: ignore[no-any-return]
    granted = await load_acquire(df.access_granted)
    await refuse_if(
        not granted, Errno.EINVAL, "access_granted", "the gate is shut: before a successful BIND nothing else works"
    )
    if cmd in AFTER_FEATURE:
        raise Unsupported(f"request {cmd:#x}, whose meaning in this version is not known,")
    if cmd == uapi.VFIO_DEVICE_FEATURE:
        return await vfio_ioctl_device_feature(df.device, argument)
    if cmd == uapi.VFIO_DEVICE_GET_REGION_INFO:
        return await vfio_get_region_info(df.device, argument)
    return await df.device.ops.ioctl(df.device, cmd, argument)


@v5("drivers/vfio/vfio_main.c")
async def vfio_df_ioctl_bind_iommufd(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_BIND_IOMMUFD: EFAULT, EINVAL (argsz, flags), ENODEV without a bind operation, EBUSY, EINVAL, what opening says.

    A negative iommufd means noiommu mode, for trusted programs (EPERM).
    """
    bind = await copy_fixed(uapi.VfioDeviceBindIommufdV5, argument, MINSZ)
    await refuse_if(bind.flags != 0, Errno.EINVAL, "flags_known", f"the flags {bind.flags:#x} are not known")
    operation = df.device.ops.bind_iommufd
    await require(operation, Errno.ENODEV, "driver_binds", "its driver has no operation for binding")
    return await bind_device(df, bind, argument)


async def bind_device(df: VfioDeviceFile, bind: uapi.VfioDeviceBindIommufdV5, argument: int) -> int:
    """The rest of it. A file is bound that has an iommufd, or none on purpose."""
    device = df.device
    await vfio_device_block_group(device)
    async with on_failure(vfio_device_unblock_group, device):
        say(Phase.LOCK, "The lock of the device set: nobody else opens, binds or closes a device of this set now.")
        async with device.dev_set.lock:
            say(Phase.VALIDATE, "Is this file bound already?")
            bound = await load(df.iommufd) is not None or await load(df.noiommu)
            await refuse_if(
                bound, Errno.EINVAL, "not_bound_yet", "this file is bound already; a file can be bound once"
            )
            where = argument + OUT_DEVID
            if bind.iommufd < 0:
                await enter_noiommu_mode(df)
                async with on_failure(store, df.noiommu, False):
                    await open_and_publish(df, where)
            else:
                ictx = await take_iommufd(df, bind.iommufd)
                async with on_failure(give_iommufd_back, df, ictx):
                    await open_and_publish(df, where)
    return 0


async def enter_noiommu_mode(df: VfioDeviceFile) -> None:
    """Bound to no iommufd. EPERM."""
    say(Phase.ACQUIRE, "A negative descriptor: noiommu mode, for trusted programs only.")
    trusted = await capable(RAWIO)
    await refuse_if(not trusted, Errno.EPERM, "noiommu_takes_rawio", f"without an iommufd it takes {RAWIO}")
    await store(df.noiommu, True)


@v5("drivers/vfio/vfio_main.c")
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
        ictx = await load(df.iommufd)
        if ictx is not None:  # it is None in noiommu mode
            await iommufd_ctx_put(ictx, df, BINDING)
        await store(device.cdev_opened, False)
    await vfio_device_unblock_group(device)


@v5("drivers/vfio/vfio_main.c")
async def vfio_df_device_first_open(df: VfioDeviceFile) -> None:
    """The first open: as in 7.2, but in noiommu mode there is nothing to bind to, and no container."""
    device = df.device
    ictx = await load(df.iommufd)
    driver: Any = await load(device.dev.driver)
    held = await try_module_get(driver, device)
    await refuse_if(not held, Errno.ENODEV, "driver_stays_loaded", "the driver's module is being unloaded")
    async with on_failure(module_put, driver, device):
        if ictx is not None:
            await vfio_df_iommufd_bind(df)
        elif not await load(df.noiommu):
            await vfio_device_group_use_iommu(device)
        async with on_failure(give_up_iommu, df, ictx):
            say(Phase.ACQUIRE, "{} opens the device: the hardware is made ready.", driver)
            await device.ops.open_device(device)


@v5("drivers/vfio/vfio_main.c")
async def vfio_df_device_last_close(df: VfioDeviceFile) -> None:
    """The last close, in the reverse order of the first open; whether there is an iommufd says the file that is closed."""
    device = df.device
    ictx = await load(df.iommufd)
    say(Phase.RELEASE, "The driver closes the device.")
    await device.ops.close_device(device)
    await give_up_iommu(df, ictx)
    driver: Any = await load(device.dev.driver)
    await module_put(driver, device)


async def give_up_iommu(df: VfioDeviceFile, ictx: IommufdCtx | None) -> None:
    """The opposite of what the first open did: unbind from the iommufd, or one use less of the container."""
    if ictx is not None:
        await vfio_df_iommufd_unbind(df)
    elif not await load(df.noiommu):
        await vfio_device_group_unuse_iommu(df.device)


@v5("drivers/vfio/iommufd.c")
async def vfio_iommufd_emulated_bind(device: VfioDevice, ictx: IommufdCtx) -> int:
    """A device that does no DMA has no object and no ID yet: the iommufd is remembered for the attach."""
    await get(ictx.file.f_ref, device, REMEMBERED)
    await store(device.iommufd_ictx, ictx)
    return 0


@v5("drivers/vfio/iommufd.c")
async def vfio_iommufd_emulated_unbind(device: VfioDevice) -> None:
    """The iommufd is forgotten."""
    ictx = await load(device.iommufd_ictx)
    assert ictx is not None
    await store(device.iommufd_ictx, None)
    await iommufd_ctx_put(ictx, device, REMEMBERED)
