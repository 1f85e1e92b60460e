"""The legacy container: groups in it, and the IOMMU driver that serves them (drivers/vfio/container.c, v7.2)."""

from __future__ import annotations

from functools import partial

from ... import uapi
from ...engine import *
from ...uapi import Errno, KernelError
from ..fs.file import File, FileOperations, fput, private
from ..iommu import IommuGroup, iommu_group_claim_dma_owner, iommu_group_release_dma_owner
from ..params import ModuleParameters
from ..task import capable
from .vfio import VfioContainer, VfioGroup, VfioGroupType, VfioIommuDriver, VfioIommuDriverOps, VfioIommuDrivers

DEVICE_OPEN = "a device of the group is open"
SERVES = "serves the container"
NOIOMMU = "vfio-noiommu"
RAWIO = "CAP_SYS_RAWIO"
IN_CONTAINER = "in it"


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_open(kind: int) -> None:
    """A container gets this driver: EINVAL for another type, EPERM without CAP_SYS_RAWIO."""
    await refuse_if(kind != uapi.VFIO_NOIOMMU_IOMMU, Errno.EINVAL, "type_is_noiommu", "this driver has only one type")
    await refuse_if(
        not await capable(RAWIO), Errno.EPERM, "capable_of_raw_io", f"working without an IOMMU takes {RAWIO}"
    )


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_release(data: None) -> None:
    """There is nothing to give back."""


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_ioctl(parameters: ModuleParameters, data: None, cmd: int, argument: int) -> int:
    """All it can say is that it is there, if the administrator allows it; ENOTTY for everything else."""
    if cmd == uapi.VFIO_CHECK_EXTENSION:
        enabled = await load(parameters.noiommu)
        return int(enabled and argument == uapi.VFIO_NOIOMMU_IOMMU)
    await refuse_if(True, Errno.ENOTTY, "driver_knows_request", "without an IOMMU there is nothing to map or to ask")
    return 0


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_attach_group(data: None, iommu_group: IommuGroup, kind: VfioGroupType) -> None:
    """Any group will do."""


@kernel("drivers/vfio/container.c")
async def vfio_noiommu_detach_group(data: None, iommu_group: IommuGroup) -> None:
    """The group leaves, and nothing changes."""


def vfio_noiommu_ops(parameters: ModuleParameters) -> VfioIommuDriverOps:
    """The driver, on a machine with these parameters."""
    return VfioIommuDriverOps(
        NOIOMMU,
        open=vfio_noiommu_open,
        release=vfio_noiommu_release,
        ioctl=partial(vfio_noiommu_ioctl, parameters),
        attach_group=vfio_noiommu_attach_group,
        detach_group=vfio_noiommu_detach_group,
    )


@kernel("drivers/vfio/container.c")
async def vfio_iommu_driver_allowed(container: VfioContainer, driver: VfioIommuDriver) -> bool:
    """Groups without an IOMMU and the driver for them go together; neither goes with anything else."""
    return await load(container.noiommu) == (driver.ops.name == NOIOMMU)


async def supports(driver: VfioIommuDriver, container: VfioContainer, argument: int) -> int:
    """What a driver that serves no container yet says to an extension; its module is held while it is asked."""
    if not await get_unless_zero(driver.module, container, "asked"):
        return 0
    answer = await driver.ops.ioctl(None, uapi.VFIO_CHECK_EXTENSION, argument)
    await put(driver.module, container, "asked")
    return answer


@kernel("drivers/vfio/container.c")
async def vfio_container_ioctl_check_extension(container: VfioContainer, argument: int) -> int:
    """VFIO_CHECK_EXTENSION: the driver that is set answers, or else the first loaded one that says yes."""
    async with container.group_lock:
        driver = await load(container.iommu_driver)
        if driver is not None:
            return await driver.ops.ioctl(await load(container.iommu_data), uapi.VFIO_CHECK_EXTENSION, argument)
        async with container.core.iommu_drivers_lock:
            for driver in await load(container.core.iommu_drivers_list):
                if await load(container.group_list) and not await vfio_iommu_driver_allowed(container, driver):
                    continue
                answer = await supports(driver, container, argument)
                if answer:
                    return answer
    return 0


@kernel("drivers/vfio/container.c")
async def __vfio_container_attach_groups(container: VfioContainer, driver: VfioIommuDriver, data: object) -> None:
    """Give a new driver all groups of the container; if one does not go, take those before it back."""
    done: list[IommuGroup] = []
    for group in await load(container.group_list):
        iommu_group = await load(group.iommu_group)
        assert iommu_group is not None
        try:
            await driver.ops.attach_group(data, iommu_group, group.type)
        except KernelError:
            for attached in reversed(done):
                await driver.ops.detach_group(data, attached)
            raise
        done.append(iommu_group)


@kernel("drivers/vfio/container.c")
async def vfio_ioctl_set_iommu(container: VfioContainer, argument: int) -> int:
    """VFIO_SET_IOMMU: give the container a driver. EINVAL without a group or with a driver, ENODEV, what the driver says."""
    say(Phase.LOCK, "The lock of {}: no group comes or goes now.", container)
    async with container.group_lock:
        groups = await load(container.group_list)
        await refuse_if(not groups, Errno.EINVAL, "container_has_group", "no group is in this container")
        driver = await load(container.iommu_driver)
        await refuse_if(driver is not None, Errno.EINVAL, "no_driver_yet", "the container has its driver already")
        async with container.core.iommu_drivers_lock:
            refusal: KernelError | None = None
            for driver in await load(container.core.iommu_drivers_list):
                allowed = await vfio_iommu_driver_allowed(container, driver)
                if not allowed or not await supports(driver, container, argument):
                    continue
                try:
                    await give_driver(container, driver, argument)
                except KernelError as error:
                    refusal = error  # the next one may do
                    continue
                return 0
            if refusal is not None:
                raise refusal
            await refuse_if(
                True,
                Errno.ENODEV,
                "driver_for_type",
                f"no loaded driver offers {argument} to the groups of this container",
            )
    return 0


async def give_driver(container: VfioContainer, driver: VfioIommuDriver, argument: int) -> None:
    """The loop body of `vfio_ioctl_set_iommu`: the driver opens, takes the groups, and belongs to the container."""
    say(Phase.ACQUIRE, "{} is to serve the container: its module is held, every group is attached to it.", driver)
    await get_unless_zero(driver.module, container, SERVES)
    async with on_failure(put, driver.module, container, SERVES):
        data = await driver.ops.open(argument)
        async with on_failure(driver.ops.release, data):
            await __vfio_container_attach_groups(container, driver, data)
    say(Phase.PUBLISH, "{} has a driver: devices of its groups can be opened, memory can be mapped.", container)
    await store(container.iommu_driver, driver)
    await store(container.iommu_data, data)


@kernel("drivers/vfio/container.c")
async def vfio_fops_unl_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a container; all but three go to its driver, and are EINVAL without one."""
    container: VfioContainer = await private(file)
    if cmd == uapi.VFIO_GET_API_VERSION:
        return uapi.VFIO_API_VERSION
    if cmd == uapi.VFIO_CHECK_EXTENSION:
        return await vfio_container_ioctl_check_extension(container, argument)
    if cmd == uapi.VFIO_SET_IOMMU:
        return await vfio_ioctl_set_iommu(container, argument)
    driver = await require(
        await load(container.iommu_driver),
        Errno.EINVAL,
        "container_has_driver",
        "no IOMMU driver has been set for this container",
    )
    return await driver.ops.ioctl(await load(container.iommu_data), cmd, argument)


@kernel("drivers/vfio/container.c")
async def vfio_fops_open(file: File) -> None:
    """A container of its own for each open file."""
    say(Phase.ACQUIRE, "A new, empty container is born; {} holds it.", file)
    core = file.cdev.inside if file.cdev is not None else None
    assert isinstance(core, VfioIommuDrivers)
    container = await alloc(VfioContainer, core)
    await get(container.kref, file, "its file")
    await store(file.private_data, container)


@kernel("drivers/vfio/container.c")
async def vfio_fops_release(file: File) -> None:
    """The container loses its file; it goes when no group is in it either."""
    container: VfioContainer = await private(file)
    await store(file.private_data, None)
    if await put(container.kref, file, "its file"):
        await free(container)


@kernel("drivers/vfio/container.c")
async def vfio_container_attach_group(container: VfioContainer, group: VfioGroup) -> None:
    """A group enters the container, under the group's lock. EPERM if its DMA has an owner; what the driver says.

    A group whose devices do no DMA of their own needs no ownership, and one without an IOMMU has none to give; that one needs
    CAP_SYS_RAWIO, and does not mix with others (EPERM).
    """
    without = group.type is VfioGroupType.NO_IOMMU
    await refuse_if(
        without and not await capable(RAWIO),
        Errno.EPERM,
        "capable_of_raw_io",
        f"a group without an IOMMU takes {RAWIO}",
    )
    say(Phase.LOCK, "The lock of {}: no group comes or goes now.", container)
    async with container.group_lock:
        mixed = await load(container.group_list) != () and await load(container.noiommu) != without
        await refuse_if(mixed, Errno.EPERM, "groups_alike", "groups with and without an IOMMU cannot share a container")
        iommu_group = await load(group.iommu_group)
        assert iommu_group is not None
        if group.type is VfioGroupType.IOMMU:
            await iommu_group_claim_dma_owner(iommu_group, group)
        driver = await load(container.iommu_driver)
        if driver is not None:
            try:
                await driver.ops.attach_group(await load(container.iommu_data), iommu_group, group.type)
            except KernelError:
                if group.type is VfioGroupType.IOMMU:
                    await iommu_group_release_dma_owner(iommu_group)
                raise
        say(Phase.PUBLISH, "{} is in the container, which it holds from now on.", group)
        await store(group.container, container)
        await store(group.container_users, 1)
        await store(container.noiommu, without)
        await store(container.group_list, (group, *await load(container.group_list)))
        await get(container.kref, group, IN_CONTAINER)


@kernel("drivers/vfio/container.c")
async def vfio_group_detach_container(group: VfioGroup) -> None:
    """A group leaves its container, under the group's lock; with the last group the driver and all mappings go."""
    container = await load(group.container)
    assert container is not None
    users = await load(group.container_users)
    await warn_on(users != 1, f"{group.oid} leaves its container with container_users {users} instead of 1")
    async with container.group_lock:
        say(Phase.RELEASE, "{} leaves the container, and nobody owns its DMA any more.", group)
        driver = await load(container.iommu_driver)
        iommu_group = await load(group.iommu_group)
        assert iommu_group is not None
        if driver is not None:
            await driver.ops.detach_group(await load(container.iommu_data), iommu_group)
        if group.type is VfioGroupType.IOMMU:
            await iommu_group_release_dma_owner(iommu_group)
        await store(group.container, None)
        await store(group.container_users, 0)
        left = tuple(other for other in await load(container.group_list) if other is not group)
        await store(container.group_list, left)
        if driver is not None and not left:
            say(Phase.RELEASE, "It was the last group: {} leaves {} too.", driver, container)
            await driver.ops.release(await load(container.iommu_data))
            await put(driver.module, container, SERVES)
            await store(container.iommu_driver, None)
            await store(container.iommu_data, None)
    if await put(container.kref, group, IN_CONTAINER):
        await free(container)


@kernel("drivers/vfio/container.c")
async def vfio_group_use_container(group: VfioGroup) -> None:
    """A device of the group is opened for the first time: the group's file must stay. EINVAL before VFIO_SET_IOMMU."""
    container, file = await load(group.container), await load(group.opened_file)
    assert container is not None
    assert file is not None
    driver = await load(container.iommu_driver)
    await refuse_if(driver is None, Errno.EINVAL, "container_has_driver", "the container has no IOMMU driver yet")
    without = group.type is VfioGroupType.NO_IOMMU
    await refuse_if(
        without and not await capable(RAWIO),
        Errno.EPERM,
        "capable_of_raw_io",
        f"a device without an IOMMU takes {RAWIO}",
    )
    say(Phase.ACQUIRE, "The open device holds the file of {}: the group stays open, and in its container.", group)
    await get(file.f_ref, group, DEVICE_OPEN)
    await store(group.container_users, await load(group.container_users) + 1)


@kernel("drivers/vfio/container.c")
async def vfio_group_unuse_container(group: VfioGroup) -> None:
    """The last file of a device is closed: one reason less to keep the group's file."""
    users = await load(group.container_users)
    await warn_on(users <= 1, f"{group.oid} gives up a use of its container that was never taken")
    await store(group.container_users, users - 1)
    file = await load(group.opened_file)
    assert file is not None
    await fput(file, group, DEVICE_OPEN)


vfio_fops = FileOperations(
    "vfio container", open=vfio_fops_open, release=vfio_fops_release, unlocked_ioctl=vfio_fops_unl_ioctl
)
