"""What the IOMMU behind a device says about itself (drivers/iommu/iommufd/device.c, v7.2)."""

from __future__ import annotations

from ... import uapi
from ...engine import copy_to_user, kernel, refuse_if
from ...uapi import Errno, KernelError
from .main import iommufd_get_object
from .private import IommufdDevice, Ucmd, iommufd_put_object


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_get_hw_info(ucmd: Ucmd) -> None:
    """EOPNOTSUPP (flags, reserved), ENOENT (device), EOPNOTSUPP (another kind of IOMMU is asked for), EFAULT."""
    cmd = ucmd.cmd
    unknown = cmd.flags & ~uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE
    bad = unknown != 0 or any(cmd.get("__reserved"))
    await refuse_if(bad, Errno.EOPNOTSUPP, "info_flags_known", "unknown flags, or a reserved field that is not zero")
    idev = await iommufd_get_object(ucmd.ictx, cmd.dev_id, IommufdDevice)
    try:
        await write_info(ucmd, idev)
    except KernelError:
        await iommufd_put_object(idev)
        raise
    await iommufd_put_object(idev)


async def write_info(ucmd: Ucmd, idev: IommufdDevice) -> None:
    """The registers, as much as fits; zeros behind them; then how long the whole is."""
    cmd, dev = ucmd.cmd, idev.dev
    ops = dev.iommu_ops
    wanted = cmd.in_data_type if cmd.flags & uapi.IOMMU_HW_INFO_FLAG_INPUT_TYPE else uapi.IOMMU_HW_INFO_TYPE_DEFAULT
    await refuse_if(
        wanted not in (uapi.IOMMU_HW_INFO_TYPE_DEFAULT, ops.info_type),
        Errno.EOPNOTSUPP,
        "info_type_known",
        "the IOMMU is of another kind",
    )
    data = ops.info
    await copy_to_user(cmd.data_uptr, data[: cmd.data_len])
    if cmd.data_len > len(data):
        await copy_to_user(cmd.data_uptr + len(data), bytes(cmd.data_len - len(data)))
    cmd.out_data_type = ops.info_type
    cmd.data_len = len(data)
    cmd.out_capabilities = uapi.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED
    if ops.dirty(dev):
        cmd.out_capabilities |= uapi.IOMMU_HW_CAP_DIRTY_TRACKING
    cmd.out_max_pasid_log2 = max(dev.max_pasids.bit_length() - 1, 0)
    await copy_to_user(ucmd.address, ucmd.reply())
