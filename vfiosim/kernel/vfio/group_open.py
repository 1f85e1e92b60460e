"""Opening and closing a device through its group (the second part of drivers/vfio/group.c, v7.2)."""

from __future__ import annotations

from ...engine import Phase, kernel, load, refuse_if, say, store, store_release
from ...uapi import Errno, KernelError
from ..task import capable
from .container import RAWIO
from .iommufd import vfio_device_is_noiommu, vfio_iommufd_compat_attach_ioas, vfio_iommufd_device_has_compat_ioas
from .vfio import VfioDevice, VfioDeviceFile, VfioGroup
from .vfio_main import vfio_device_get_kvm_safe, vfio_device_put_kvm, vfio_df_close, vfio_df_open


@kernel("drivers/vfio/group.c")
async def vfio_group_has_iommu(group: VfioGroup) -> bool:
    """Is the group in a container, or does it have an iommufd? Under its lock."""
    return await load(group.container) is not None or await load(group.iommufd) is not None


@kernel("drivers/vfio/group.c")
async def vfio_device_group_get_kvm_safe(device: VfioDevice) -> None:
    """Hold the VM that the group belongs to, if one has been noted."""
    group = device.group
    async with group.kvm_ref_lock:
        await vfio_device_get_kvm_safe(device, await load(group.kvm))


@kernel("drivers/vfio/group.c")
async def vfio_df_group_open(df: VfioDeviceFile) -> None:
    """Open the device for a file that comes from its group, and open the gate of that file at once.

    EINVAL if the group has neither container nor iommufd, and what opening says. Only the first open takes a VM, and only
    it binds and attaches. The iommufd of the group is borrowed: this file holds nothing of it.
    """
    device = df.device
    group = device.group
    say(Phase.LOCK, "The lock of {}: its container or iommufd stays what it is.", group)
    async with group.group_lock:
        ready = await vfio_group_has_iommu(group)
        await refuse_if(not ready, Errno.EINVAL, "group_has_iommu", "the group is in no container and has no iommufd")
        say(Phase.LOCK, "The lock of the device set, inside the group's: nobody else opens or closes a device of it.")
        async with device.dev_set.lock:
            if await load(device.open_count) == 0:
                say(Phase.ACQUIRE, "The first open: if the group belongs to a VM, the device holds it from now on.")
                await vfio_device_group_get_kvm_safe(device)
            await store(df.iommufd, await load(group.iommufd))
            try:
                await open_and_attach(df)
            except KernelError:
                say(Phase.UNWIND, "out_put_kvm: the VM is given back, unless the device is open elsewhere.")
                await store(df.iommufd, None)
                if await load(device.open_count) == 0:
                    await vfio_device_put_kvm(device)
                raise
            say(Phase.PUBLISH, "The gate of the new file is open before anybody can have it.")
            await store(df.bound_for, await load(device.kvm))
            await store_release(df.access_granted, True)


async def open_and_attach(df: VfioDeviceFile) -> None:
    """The middle of `vfio_df_group_open`: with an iommufd the first open attaches the device to the compat IOAS too.

    A device without an IOMMU takes CAP_SYS_RAWIO then, and no compat IOAS may be there: somebody hopes for translation (EPERM).
    """
    ictx = await load(df.iommufd)
    if ictx is not None and vfio_device_is_noiommu(df.device) and await load(df.device.open_count) == 0:
        bad = not await capable(RAWIO) or await vfio_iommufd_device_has_compat_ioas(ictx)
        await refuse_if(bad, Errno.EPERM, "no_hope_for_iommu", f"without an IOMMU it takes {RAWIO}, and no compat IOAS")
    await vfio_df_open(df)
    if ictx is None or await load(df.device.open_count) != 1:
        return
    try:
        await vfio_iommufd_compat_attach_ioas(df.device, ictx)
    except KernelError:
        say(Phase.UNWIND, "out_close_device: the device is closed again.")
        await vfio_df_close(df)
        raise


@kernel("drivers/vfio/group.c")
async def vfio_df_group_close(df: VfioDeviceFile) -> None:
    """Close the device for a file that came from its group; the VM goes with the last one."""
    device = df.device
    say(Phase.LOCK, "The locks of the group and of the device set, for the close.")
    async with device.group.group_lock, device.dev_set.lock:
        await vfio_df_close(df)
        await store(df.iommufd, None)
        if await load(device.open_count) == 0:
            await vfio_device_put_kvm(device)
