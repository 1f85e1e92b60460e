"""Regions, interrupts and features of a device, as far as VFIO itself sees to them (drivers/vfio/vfio_main.c, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from typing import Final

from ... import uapi
from ...engine import copy_from_user, copy_to_user, kernel, refuse_if
from ...uapi import Errno, VfioIrqSet, VfioRegionInfo
from ..unsupported import Unsupported
from .vfio import VfioDevice

IRQ_SET_MINSZ: Final = 20
FEATURE_MINSZ: Final = 8
GET, SET, PROBE = uapi.VFIO_DEVICE_FEATURE_GET, uapi.VFIO_DEVICE_FEATURE_SET, uapi.VFIO_DEVICE_FEATURE_PROBE
_DATA_SIZES: Final = {uapi.VFIO_IRQ_SET_DATA_NONE: 0, uapi.VFIO_IRQ_SET_DATA_BOOL: 1, uapi.VFIO_IRQ_SET_DATA_EVENTFD: 4}
PRECOPY_INFO_V2: Final = 12


@kernel("drivers/vfio/vfio_main.c")
async def vfio_get_region_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_REGION_INFO: EINVAL if the driver has none, EFAULT, EINVAL for argsz below 32, what the driver says.

    Capabilities follow the struct if there is room for them, else argsz says how much room they need.
    """
    size = sizeof(VfioRegionInfo)
    await refuse_if(
        device.ops.get_region_info is None, Errno.EINVAL, "driver_has_regions", "this device has no regions"
    )
    assert device.ops.get_region_info is not None
    info = VfioRegionInfo.from_buffer_copy(await copy_from_user(argument, size))
    await refuse_if(info.argsz < size, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {size}")
    caps = await device.ops.get_region_info(device, info)
    if caps:
        info.flags |= uapi.VFIO_REGION_INFO_FLAG_CAPS
        if info.argsz < size + len(caps):
            info.argsz, info.cap_offset = size + len(caps), 0
        else:
            await copy_to_user(argument + size, caps)
            info.cap_offset = size
    await copy_to_user(argument, bytes(info))
    return 0


@kernel("drivers/vfio/vfio_main.c")
async def vfio_set_irqs_validate_and_prepare(hdr: VfioIrqSet, num_irqs: int, max_irq_type: int) -> int:
    """The checks of VFIO_DEVICE_SET_IRQS that no driver has to make; the answer is how many bytes of data follow. EINVAL."""
    known = uapi.VFIO_IRQ_SET_DATA_TYPE_MASK | uapi.VFIO_IRQ_SET_ACTION_TYPE_MASK
    bad = (
        hdr.argsz < IRQ_SET_MINSZ
        or hdr.index >= max_irq_type
        or hdr.count >= 0xFFFFFFFF - hdr.start
        or bool(hdr.flags & ~known)
    )
    await refuse_if(bad, Errno.EINVAL, "irq_set_is_sane", "argsz, index, count or flags are impossible")
    outside = hdr.start >= num_irqs or hdr.start + hdr.count > num_irqs
    await refuse_if(outside, Errno.EINVAL, "irqs_exist", "the device has no such interrupts")
    each = _DATA_SIZES.get(hdr.flags & uapi.VFIO_IRQ_SET_DATA_TYPE_MASK)
    await refuse_if(each is None, Errno.EINVAL, "one_kind_of_data", "exactly one kind of data has to be named")
    assert each is not None
    short = hdr.argsz - IRQ_SET_MINSZ < hdr.count * each
    await refuse_if(short, Errno.EINVAL, "irq_data_fits", "argsz is too small for the data of so many interrupts")
    return int(hdr.count * each)


# ---- features


@kernel("include/linux/vfio.h")
async def vfio_check_feature(flags: int, size: int, supported: int, minsz: int) -> bool:
    """May the feature be got or set like this? EINVAL if not; False where it was only asked (PROBE)."""
    wrong = bool(flags & (GET | SET) & ~supported)
    await refuse_if(wrong, Errno.EINVAL, "feature_direction", "this feature cannot be got, or cannot be set")
    if flags & PROBE:
        return False
    nothing = not flags & (GET | SET)
    await refuse_if(nothing, Errno.EINVAL, "feature_get_or_set", "neither GET nor SET nor PROBE was asked for")
    await refuse_if(size < minsz, Errno.EINVAL, "feature_data_fits", f"the data of this feature are {minsz} bytes")
    return True


@kernel("drivers/vfio/vfio_main.c")
async def vfio_ioctl_device_feature(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_FEATURE: EFAULT, EINVAL (argsz below 8, flags), ENOTTY for a feature the device has not, EINVAL (direction)."""
    head = await copy_from_user(argument, FEATURE_MINSZ)
    argsz, flags = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
    await refuse_if(argsz < FEATURE_MINSZ, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {FEATURE_MINSZ}")
    unknown = flags & ~(uapi.VFIO_DEVICE_FEATURE_MASK | GET | SET | PROBE)
    both = not flags & PROBE and flags & GET and flags & SET
    await refuse_if(bool(unknown), Errno.EINVAL, "flags_known", "there are flags that the kernel does not know")
    await refuse_if(bool(both), Errno.EINVAL, "get_or_set", "GET and SET exclude each other")
    feature, room, data = flags & uapi.VFIO_DEVICE_FEATURE_MASK, argsz - FEATURE_MINSZ, argument + FEATURE_MINSZ
    if feature in _MIGRATION or feature in _LOGGING:
        return await core_feature(device, feature, flags, data, room)
    if feature == PRECOPY_INFO_V2:
        missing = not device.ops.migration_flags & uapi.VFIO_MIGRATION_PRE_COPY
        await refuse_if(missing, Errno.EINVAL, "device_has_precopy", "the device cannot be saved while it runs")
        await vfio_check_feature(flags, room, SET, 0)
        return 0
    missing = device.ops.device_feature is None
    await refuse_if(missing, Errno.ENOTTY, "device_has_feature", "the device has no such feature")
    assert device.ops.device_feature is not None
    return await device.ops.device_feature(device, flags, data, room)


_MIGRATION: Final = {
    uapi.VFIO_DEVICE_FEATURE_MIGRATION: (GET, 8),
    uapi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: (GET | SET, 8),
    uapi.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: (GET, 8),
}
_LOGGING: Final = {
    uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_START: (SET, 24),
    uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: (SET, 0),
    uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: (GET, 32),
}


async def core_feature(device: VfioDevice, feature: int, flags: int, data: int, room: int) -> int:
    """Migration and the logging of DMA writes: ENOTTY unless the driver can do that."""
    has = bool(device.ops.migration_flags) if feature in _MIGRATION else device.ops.logs_dma
    await refuse_if(not has, Errno.ENOTTY, "device_has_feature", "the device has no such feature")
    supported, minsz = _MIGRATION.get(feature) or _LOGGING[feature]
    if not await vfio_check_feature(flags, room, supported, minsz):
        return 0
    if feature == uapi.VFIO_DEVICE_FEATURE_MIGRATION:
        await copy_to_user(data, device.ops.migration_flags.to_bytes(8, "little"))
        return 0
    if feature == uapi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE and flags & GET:
        await copy_to_user(data, uapi.VFIO_DEVICE_STATE_RUNNING.to_bytes(4, "little") + b"\xff" * 4)
        return 0
    raise Unsupported(f"device feature {feature}")
