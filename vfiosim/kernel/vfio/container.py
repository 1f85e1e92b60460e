"""The legacy container, as far as it can go without a group: no group can join it yet (drivers/vfio/container.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import Count, KObject, Phase, alloc, count, free, get, kernel, put, refuse_if, say, store
from ...uapi import Errno
from ..fs.file import File, FileOperations, private
from ..unsupported import Unsupported


class VfioContainer(KObject):
    """The legacy owner of DMA mappings: /dev/vfio/vfio.

    * born by opening the node, held by its file and by each group in it;
    * has an iommu driver only while a group is in it.
    """

    kind = "vfio_container"
    kref: Count = count()


@kernel("drivers/vfio/container.c")
async def vfio_fops_open(file: File) -> None:
    """A container of its own for each open file."""
    say(Phase.ACQUIRE, "A new, empty container is born; {} holds it.", file)
    container = await alloc(VfioContainer)
    await get(container.kref, file, "its file")
    await store(file.private_data, container)


@kernel("drivers/vfio/container.c")
async def vfio_fops_release(file: File) -> None:
    """The container loses its file; it goes when no group is in it either."""
    container: VfioContainer = await private(file)
    if await put(container.kref, file, "its file"):
        await free(container)


@kernel("drivers/vfio/container.c")
async def vfio_fops_unl_ioctl(file: File, cmd: int, argument: int) -> int:
    """Requests on a container: without a driver, and so without a group, almost everything is EINVAL."""
    if cmd == uapi.VFIO_GET_API_VERSION:
        return uapi.VFIO_API_VERSION
    if cmd == uapi.VFIO_CHECK_EXTENSION:
        raise Unsupported("VFIO_CHECK_EXTENSION")
    if cmd == uapi.VFIO_SET_IOMMU:
        await refuse_if(True, Errno.EINVAL, "container_has_group", "no group is in this container")
    await refuse_if(True, Errno.EINVAL, "container_has_driver", "no iommu driver has been set for this container")
    return 0


vfio_fops = FileOperations(
    "vfio container", open=vfio_fops_open, release=vfio_fops_release, unlocked_ioctl=vfio_fops_unl_ioctl
)
