"""Version 5 of the patch with both questions of its review answered yes (mail of 1 March 2023). Nobody merged this."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ... import uapi
from ...engine import *
from ...uapi import Errno
from ..vfio.vfio import VfioDeviceFile
from . import v5
from .v66 import copy_fixed

TABLE: Final[dict[str, Callable[..., Any]]] = dict(v5.TABLE)
v5r = partial(of_version, TABLE, tag="v5r")


@v5r("drivers/vfio/vfio_main.c")
async def vfio_df_ioctl_bind_iommufd(df: VfioDeviceFile, argument: int) -> int:
    """VFIO_DEVICE_BIND_IOMMUFD as in v5, also for a device whose driver has nothing to bind: it does no DMA, and its ID is 0."""
    bind = await copy_fixed(uapi.VfioDeviceBindIommufdV5, argument, v5.MINSZ)
    await refuse_if(bind.flags != 0, Errno.EINVAL, "flags_known", f"the flags {bind.flags:#x} are not known")
    return await v5.bind_device(df, bind, argument)
