"""Groups and /dev/vfio/GROUP, the older way to a device: it and the cdev exclude each other (drivers/vfio/group.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..base import Device
from ..fs.devtmpfs import cdev_device_add, cdev_device_del
from ..fs.file import (
    O_CLOEXEC,
    O_RDWR,
    Cdev,
    File,
    FileOperations,
    fd_install,
    fget,
    fput,
    get_unused_fd_flags,
    private,
    put_unused_fd,
)
from ..fs.syscalls import alloc_file
from ..iommu import (
    IommuGroup,
    iommu_group_add_device,
    iommu_group_dma_owner_claimed,
    iommu_group_for,
    iommu_group_put,
    iommu_group_remove_device,
)
from ..iommufd.main import iommufd_ctx_from_file
from ..iommufd.vfio_compat import iommufd_vfio_compat_ioas_create, iommufd_vfio_compat_set_no_iommu
from ..kvm.kvm import Kvm
from ..prototypes import iommufd_ctx_put
from ..task import capable
from ..uaccess import get_user_u32, strndup_user
from .container import (
    RAWIO,
    vfio_container_attach_group,
    vfio_fops,
    vfio_group_detach_container,
    vfio_group_unuse_container,
    vfio_group_use_container,
)
from .iommufd import vfio_device_is_noiommu, vfio_iommufd_compat_attach_ioas, vfio_iommufd_device_has_compat_ioas
from .vfio import IN_THIS_GROUP, REGISTERED, Vfio, VfioContainer, VfioDevice, VfioDeviceFile, VfioGroup, VfioGroupType
from .vfio_main import (
    OPEN_FILE,
    vfio_allocate_device_file,
    vfio_device_fops,
    vfio_device_get_kvm_safe,
    vfio_device_put_kvm,
    vfio_device_put_registration,
    vfio_device_try_get_registration,
    vfio_df_close,
    vfio_df_open,
)

ITS_IOMMUFD = "its iommufd"
NAME_LIMIT = 4096  # bytes of a device name, the end of the string included
ASKED_FOR = "running call"
ITS_GROUP = "its group"


@kernel("drivers/vfio/group.c")
async def vfio_device_get_from_name(group: VfioGroup, name: bytes) -> VfioDevice:
    """Find a device of the group and hold its registration for the running call. ENODEV, or what its driver says."""
    async with group.device_lock:
        for device in await load(group.device_list):
            if device.ops.match is not None:
                good = await device.ops.match(device, name)
            else:
                good = name == device.dev.address.encode()
            if good and await vfio_device_try_get_registration(device, current(), ASKED_FOR):
                return device
    return await require(None, Errno.ENODEV, "device_in_group", "no device of this group has that name")


@kernel("drivers/vfio/group.c")
async def vfio_group_has_iommu(group: VfioGroup) -> bool:
    """Is the group in a container, or does it have an iommufd? Under its lock."""
    return await load(group.container) is not None or await load(group.iommufd) is not None


@kernel("drivers/vfio/group.c")
async def vfio_group_ioctl_unset_container(group: VfioGroup | None) -> int:
    """VFIO_GROUP_UNSET_CONTAINER: EINVAL if there is none, EBUSY while a device is open in a container.

    An iommufd is let go without such a check.
    """
    group = there(group)
    async with group.group_lock:
        taken = await vfio_group_has_iommu(group)
        await refuse_if(not taken, Errno.EINVAL, "group_has_iommu", "the group is in no container and has no iommufd")
        if await load(group.container) is not None:
            users = await load(group.container_users)
            await refuse_if(
                users != 1, Errno.EBUSY, "no_device_open", f"{users - 1} of its devices are open in the container"
            )
            await vfio_group_detach_container(group)
        await put_iommufd(group)
    return 0


@kernel("drivers/vfio/group.c")
async def vfio_group_ioctl_set_container(group: VfioGroup | None, argument: int) -> int:
    """VFIO_GROUP_SET_CONTAINER: give the group a container or an iommufd.

    EFAULT, EBADF; EINVAL if it has one, ENODEV without a device, EBADFD for another kind of file; what the container says.
    """
    number = await get_user_u32(argument)
    number -= (number >> 31) << 32  # the descriptor is a signed number
    file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
    async with cleanup(fput, file):
        await set_container(there(group), file)
    return 0


async def set_container(group: VfioGroup, file: File) -> None:
    """What SET_CONTAINER does under the group's lock."""
    say(Phase.LOCK, "The lock of {}: it gets a container or an iommufd once.", group)
    async with group.group_lock:
        taken = await vfio_group_has_iommu(group)
        await refuse_if(
            taken, Errno.EINVAL, "no_container_yet", "the group is in a container or has an iommufd already"
        )
        gone = await load(group.iommu_group) is None
        await refuse_if(gone, Errno.ENODEV, "group_has_devices", "no VFIO driver drives a device of this group")
        if file.f_op is vfio_fops:
            container: VfioContainer = await private(file)
            await vfio_container_attach_group(container, group)
            return
        say(Phase.ACQUIRE, "{} must be an iommufd then: the group holds it, but owns no DMA yet.", file)
        ictx = await iommufd_ctx_from_file(file, group, ITS_IOMMUFD)
        async with on_failure(iommufd_ctx_put, ictx, group, ITS_IOMMUFD):
            if group.type is VfioGroupType.NO_IOMMU:
                await iommufd_vfio_compat_set_no_iommu(ictx)
            else:
                await iommufd_vfio_compat_ioas_create(ictx)
        await store(group.iommufd, ictx)


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
            say(Phase.PUBLISH, "The gate of the new file is open before any program can use the file.")
            await store_release(df.access_granted, True)


async def open_and_attach(df: VfioDeviceFile) -> None:
    """The middle of `vfio_df_group_open`: with an iommufd the first open attaches the device to the compat IOAS too.

    A device without an IOMMU takes CAP_SYS_RAWIO then, and no compat IOAS may be there: somebody hopes for translation (EPERM).
    """
    ictx = await load(df.iommufd)
    if ictx is not None and vfio_device_is_noiommu(df.device) and await load(df.device.open_count) == 0:
        bad = not await capable(RAWIO) or await vfio_iommufd_device_has_compat_ioas(ictx)
        await refuse_if(
            bad, Errno.EPERM, "noiommu_is_allowed", f"without an IOMMU it takes {RAWIO}, and no compat IOAS"
        )
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


@kernel("drivers/vfio/group.c")
async def vfio_device_open_file(device: VfioDevice) -> File:
    """Open the device and make the file for it; the registration goes over to the file."""
    df = await vfio_allocate_device_file(None, device, device.group)
    async with on_failure(free, df):
        await vfio_df_group_open(df)
        try:
            file = await alloc_file("vfio-device", vfio_device_fops, O_RDWR)
        except KernelError:
            say(Phase.UNWIND, "err_close_device: there is no file for the device, so it is closed again.")
            await vfio_df_group_close(df)
            raise
    init(df, file=file)
    await store(file.private_data, df)
    await hand_over(device.refcount, (current(), ASKED_FOR), (file, OPEN_FILE))
    return file


@kernel("drivers/vfio/group.c")
async def vfio_group_ioctl_get_device_fd(group: VfioGroup | None, argument: int) -> int:
    """VFIO_GROUP_GET_DEVICE_FD: a new file of a device, as often as one likes.

    EFAULT, EINVAL (name too long), ENODEV, what the driver says to the name, EMFILE, what opening says.
    """
    name = await strndup_user(argument, NAME_LIMIT)
    called = repr(name.decode(errors="replace"))
    say(
        Phase.ACQUIRE, f"The device of the group that is called {called} gets a descriptor and a file, if there is one."
    )
    device = await vfio_device_get_from_name(there(group), name)
    async with on_failure(vfio_device_put_registration, device, current(), ASKED_FOR):
        number = await get_unused_fd_flags(O_CLOEXEC)
        async with on_failure(put_unused_fd, number):
            file = await vfio_device_open_file(device)
    say(Phase.PUBLISH, "Descriptor {} now leads to {}.", number, file)
    await fd_install(number, file)
    return number


def there(group: VfioGroup | None) -> VfioGroup:
    """The group behind a file. A file that was released under its descriptor has none: the kernel falls over it."""
    if group is None:
        raise KernelOops("NULL pointer dereference: a descriptor leads to a group file that was released already")
    return group


@kernel("drivers/vfio/group.c")
async def vfio_group_ioctl_get_status(group: VfioGroup | None, argument: int) -> int:
    """VFIO_GROUP_GET_STATUS: is it in use, or could it be? EFAULT, EINVAL for argsz below 8, ENODEV.

    With an iommufd the group counts as viable although nobody has asked for its DMA yet.
    """
    size = 8
    status = uapi.VfioGroupStatus.from_buffer_copy(await copy_from_user(argument, size))
    await refuse_if(status.argsz < size, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {size}")
    group = there(group)
    async with group.group_lock:
        iommu_group = await load(group.iommu_group)
        found = await require(
            iommu_group, Errno.ENODEV, "group_has_devices", "no VFIO driver drives a device of this group"
        )
        if await vfio_group_has_iommu(group):
            status.flags = uapi.VFIO_GROUP_FLAGS_CONTAINER_SET | uapi.VFIO_GROUP_FLAGS_VIABLE
        else:
            claimed = await iommu_group_dma_owner_claimed(found)
            status.flags = 0 if claimed else uapi.VFIO_GROUP_FLAGS_VIABLE
    await copy_to_user(argument, bytes(status))
    return 0


@kernel("drivers/vfio/group.c")
async def vfio_group_fops_unl_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a group file; ENOTTY for others."""
    group: VfioGroup | None = await private(file)
    if cmd == uapi.VFIO_GROUP_GET_DEVICE_FD:
        return await vfio_group_ioctl_get_device_fd(group, argument)
    if cmd == uapi.VFIO_GROUP_GET_STATUS:
        return await vfio_group_ioctl_get_status(group, argument)
    if cmd == uapi.VFIO_GROUP_SET_CONTAINER:
        return await vfio_group_ioctl_set_container(group, argument)
    if cmd == uapi.VFIO_GROUP_UNSET_CONTAINER:
        return await vfio_group_ioctl_unset_container(group)
    await refuse_if(True, Errno.ENOTTY, "group_knows_request", f"a group file has no request {cmd:#x}")
    return 0


@kernel("drivers/vfio/group.c")
async def vfio_device_block_group(device: VfioDevice) -> None:
    """A device of the group is going to be bound through its own node: the group must not be open, and stays closed."""
    group = device.group
    say(Phase.LOCK, "The lock of {}: nobody can open the group between the check and the count.", group)
    async with group.group_lock:
        opened = await load(group.opened_file)
        await refuse_if(
            opened is not None,
            Errno.EBUSY,
            "group_is_closed",
            "the group's file is open; group and device node exclude each other",
        )
        say(Phase.BLOCK, "{} is blocked: as long as cdev_device_open_cnt is not zero nobody can open it.", group)
        await store(group.cdev_device_open_cnt, await load(group.cdev_device_open_cnt) + 1)


@kernel("drivers/vfio/group.c")
async def vfio_device_unblock_group(device: VfioDevice) -> None:
    """The binding is over: one reason less to keep the group closed."""
    group = device.group
    say(Phase.RELEASE, "{} counts one binding less; at zero its own file can be opened again.", group)
    async with group.group_lock:
        await store(group.cdev_device_open_cnt, await load(group.cdev_device_open_cnt) - 1)


@kernel("drivers/vfio/group.c")
async def vfio_group_fops_open(file: File) -> None:
    """Open /dev/vfio/N. ENODEV without a device, EBUSY while a device of it is bound through its node, or if it is open.

    A group without an IOMMU takes CAP_SYS_RAWIO (EPERM).
    """
    group = file.cdev.inside if file.cdev is not None else None
    assert isinstance(group, VfioGroup)
    say(Phase.LOCK, "The lock of {}: nobody can bind a device of it between the check and the open.", group)
    async with group.group_lock:
        drivers = await load_count(group.drivers)
        await refuse_if(
            drivers == 0, Errno.ENODEV, "group_has_devices", "no VFIO driver drives a device of this group any more"
        )
        without = group.type is VfioGroupType.NO_IOMMU
        await refuse_if(
            without and not await capable(RAWIO),
            Errno.EPERM,
            "capable_of_raw_io",
            f"a group without an IOMMU takes {RAWIO}",
        )
        bound = await load(group.cdev_device_open_cnt)
        await refuse_if(
            bound != 0, Errno.EBUSY, "no_device_bound", "a device of the group is bound through its own node"
        )
        opened = await load(group.opened_file)
        await refuse_if(
            opened is not None, Errno.EBUSY, "group_not_open", "the group is open already, and only one may have it"
        )
        say(Phase.BLOCK, "{} is open: no device of it can be bound through its own node now.", group)
        await store(group.opened_file, file)
        await store(file.private_data, group)


@kernel("drivers/vfio/group.c")
async def vfio_group_fops_release(file: File) -> None:
    """The group file is gone: the group leaves its container or iommufd, and its devices' own nodes can be used again.

    In a container this waits for the last open device, which holds the file; with an iommufd it does not.
    """
    group: VfioGroup = await private(file)
    await store(file.private_data, None)
    say(Phase.RELEASE, "{} is closed again.", group)
    async with group.group_lock:
        if await load(group.container) is not None:
            await vfio_group_detach_container(group)
        await put_iommufd(group)
        await store(group.opened_file, None)


vfio_group_fops = FileOperations(
    "vfio group", open=vfio_group_fops_open, release=vfio_group_fops_release, unlocked_ioctl=vfio_group_fops_unl_ioctl
)


async def put_iommufd(group: VfioGroup) -> None:
    """The group lets go of its iommufd, if it has one; devices that are bound to it stay bound."""
    ictx = await load(group.iommufd)
    if ictx is not None:
        say(Phase.RELEASE, "{} gives back its iommufd, without a check whether a device is still open with it.", group)
        await iommufd_ctx_put(ictx, group, ITS_IOMMUFD)
        await store(group.iommufd, None)


@kernel("drivers/vfio/group.c")
async def vfio_group_release(group: VfioGroup) -> None:
    """Nobody needs the memory of a group any more."""
    await free(group)


@kernel("drivers/vfio/group.c")
async def vfio_create_group(vfio: Vfio, iommu_group: IommuGroup, type_: VfioGroupType) -> VfioGroup:
    """The first VFIO device of an iommu_group: /dev/vfio/N appears, or /dev/vfio/noiommu-N."""
    group = await alloc(VfioGroup, iommu_group.id, type_)
    await get(group.dev, vfio, REGISTERED)
    await get(iommu_group.kobj, group, ITS_GROUP)
    await store(group.iommu_group, iommu_group)
    cdev = await alloc(Cdev, f"group-{iommu_group.id}", vfio.group_fops, group.dev, group, vfio_group_release)
    init(group, cdev=cdev)
    await get(group.dev, cdev, "contains the node")
    await cdev_device_add(vfio.devtmpfs, group.path, cdev)
    await xa_store(vfio.group_list, iommu_group.id, group)
    return group


@kernel("drivers/vfio/group.c")
async def vfio_noiommu_group_alloc(vfio: Vfio, device: Device, type_: VfioGroupType) -> VfioGroup:
    """An iommu_group for one device, which stands for no hardware and goes with the driver."""
    iommu_group = await iommu_group_for(device.buses.groups, -1, None)
    await iommu_group_add_device(iommu_group, device)
    async with on_failure(iommu_group_remove_device, device), vfio.group_lock:
        return await vfio_create_group(vfio, iommu_group, type_)


@kernel("drivers/vfio/group.c")
async def vfio_device_set_group(vfio: Vfio, device: Device) -> VfioGroup:
    """The group of a device that a driver takes: the one that is there, or a new one. EINVAL where there is none to be had.

    A device that is emulated gets an iommu_group of its own, and so does one that no IOMMU watches, where the administrator
    allows that.
    """
    if device.bus == "mdev":
        return await vfio_noiommu_group_alloc(vfio, device, VfioGroupType.EMULATED_IOMMU)
    iommu_group = await load(device.iommu_group)
    if iommu_group is None and await load(vfio.parameters.noiommu):
        return await vfio_noiommu_group_alloc(vfio, device, VfioGroupType.NO_IOMMU)
    watched = await require(iommu_group, Errno.EINVAL, "iommu_watches_device", NO_IOMMU_WATCHES)
    async with vfio.group_lock:
        known = await xa_load(vfio.group_list, watched.id)
        return known if known is not None else await vfio_create_group(vfio, watched, VfioGroupType.IOMMU)


NO_IOMMU_WATCHES = (
    "no IOMMU watches the device, so its DMA could reach all memory; "
    "the parameter enable_unsafe_noiommu_mode of the module vfio allows that"
)


@kernel("drivers/vfio/group.c")
async def vfio_device_remove_group(device: VfioDevice) -> None:
    """The device leaves its group; with the last one the node goes, and open files of the group are dead from then on."""
    group, vfio = device.group, device.vfio
    if group.type is not VfioGroupType.IOMMU:
        await iommu_group_remove_device(device.dev)
    async with vfio.group_lock:
        if not await put(group.drivers, device, IN_THIS_GROUP):
            return
        say(Phase.RELEASE, "It was the last device of {}: the node is removed.", group)
        assert group.cdev is not None
        await xa_store(vfio.group_list, group.number, None)
        await cdev_device_del(vfio.devtmpfs, group.path, group.cdev)
        async with group.group_lock:
            if await load(group.container) is not None:
                await vfio_group_detach_container(group)
            iommu_group = await load(group.iommu_group)
            await store(group.iommu_group, None)
    if iommu_group is not None:
        await iommu_group_put(iommu_group, group, ITS_GROUP)
    if await put(group.dev, vfio, REGISTERED):
        await vfio_group_release(group)


@kernel("drivers/vfio/group.c")
async def vfio_device_group_register(device: VfioDevice) -> None:
    """From now on an open group can be asked for this device."""
    group = device.group
    async with group.device_lock:
        await store(group.device_list, (device, *await load(group.device_list)))


@kernel("drivers/vfio/group.c")
async def vfio_device_group_unregister(device: VfioDevice) -> None:
    """The group no longer knows the device: nobody can get a new file of it there."""
    group = device.group
    say(Phase.BLOCK, "{} leaves the list of {}.", device, group)
    async with group.device_lock:
        listed = await load(group.device_list)
        await store(group.device_list, tuple(other for other in listed if other is not device))


@kernel("drivers/vfio/group.c")
async def vfio_device_group_use_iommu(device: VfioDevice) -> None:
    """The first open of a device in a container; under the group's lock. EINVAL if the container has no driver."""
    group = device.group
    container = await load(group.container)
    await warn_on(container is None, f"{device.oid} is opened although its group is in no container")
    await require(container, Errno.EINVAL, "group_in_container", "the group is in no container")
    await vfio_group_use_container(group)


@kernel("drivers/vfio/group.c")
async def vfio_device_group_unuse_iommu(device: VfioDevice) -> None:
    """The last close of a device in a container; under the group's lock."""
    group = device.group
    if await warn_on(await load(group.container) is None, f"{device.oid} was opened in a container that is gone"):
        return
    await vfio_group_unuse_container(group)


@kernel("drivers/vfio/group.c")
async def vfio_group_set_kvm(group: VfioGroup, kvm: Kvm | None) -> None:
    """Note which VM the group belongs to."""
    async with group.kvm_ref_lock:
        await store(group.kvm, kvm)
