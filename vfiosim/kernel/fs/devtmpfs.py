"""Device nodes come and go (drivers/base/devtmpfs.c, fs/char_dev.c, v7.2)."""

from __future__ import annotations

from ...engine import *
from .file import Cdev, cdev_put


class DevTmpfs(KObject):
    """The device nodes: path to node."""

    kind = "devtmpfs"
    root = "the kernel"
    nodes: Table[Cdev] = table()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "/dev")


@kernel("fs/char_dev.c")
async def cdev_device_add(devtmpfs: DevTmpfs, path: str, cdev: Cdev) -> None:
    """Let a path lead to a node."""
    await get(cdev.kobj, devtmpfs, "node")
    await xa_store(devtmpfs.nodes, path, cdev)


@kernel("fs/char_dev.c")
async def cdev_device_del(devtmpfs: DevTmpfs, path: str, cdev: Cdev) -> None:
    """The path leads nowhere any more; files that were opened through the node live on."""
    await xa_store(devtmpfs.nodes, path, None)
    await cdev_put(cdev, devtmpfs, "node")
