"""The reset of a whole slot or bus (drivers/vfio/pci/vfio_pci_core.c, v7.2)."""

from __future__ import annotations

from typing import Final

from .... import uapi
from ....engine import (
    Phase,
    copy_from_user,
    copy_to_user,
    kernel,
    load,
    next_slot,
    peek,
    refuse_if,
    require,
    say,
    slots_of,
    store,
)
from ....uapi import Errno, KernelError, VfioPciDependentDevice, VfioPciHotReset, VfioPciHotResetInfo
from ...base import Device
from ...fs.file import File, fget, fput
from ...iommufd.private import IommufdCtx, IommufdDevice
from ..vfio import VfioDevice, VfioGroup

HEADER: Final = 12
ENTRY: Final = 8


async def reset_scope(device: VfioDevice) -> tuple[Device, ...]:
    """The functions that a reset of the slot or bus of this one would hit. ENODEV where there is no such reset."""
    dev = device.dev
    physical = await peek(dev.bus_devices, dev.spec.physfn)
    scope = physical.spec.dev_set if physical is not None else dev.spec.dev_set
    await refuse_if(
        not scope, Errno.ENODEV, "slot_or_bus_reset", "neither the slot nor the bus of this device can be reset"
    )
    addresses = sorted(address for address in await slots_of(dev.bus_devices) if address[:7] == dev.address[:7])
    found: list[Device] = []
    for address in addresses:
        other = await peek(dev.bus_devices, address)
        if other is not None:
            found.append(other)
    return tuple(found)


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_device_ictx(device: VfioDevice) -> IommufdCtx | None:
    """The iommufd that a device is bound to."""
    idev = await load(device.iommufd_device)
    return idev.ictx if idev is not None else None


@kernel("drivers/iommu/iommufd/device.c")
async def iommufd_ctx_has_group(ictx: IommufdCtx, group: object) -> bool:
    """Is any device of this iommu_group bound to the iommufd?"""
    number = await next_slot(ictx.objects, 0)
    while number is not None:
        obj = await peek(ictx.objects, number)
        if isinstance(obj, IommufdDevice) and obj.igroup.group is group:
            return True
        number = await next_slot(ictx.objects, number + 1)
    return False


@kernel("drivers/vfio/iommufd.c")
async def vfio_iommufd_get_dev_id(device: VfioDevice, ictx: IommufdCtx | None) -> int:
    """The ID of the device in this iommufd; 0 if only a neighbour in its iommu_group is bound to it; −1 otherwise."""
    idev = await load(device.iommufd_device)
    if idev is not None and idev.ictx is ictx:
        return idev.id
    group = device.dev.iommu_group
    if ictx is not None and group is not None and await iommufd_ctx_has_group(ictx, group):
        return uapi.VFIO_PCI_DEVID_OWNED
    return uapi.VFIO_PCI_DEVID_NOT_OWNED


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_get_pci_hot_reset_info(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: EFAULT, EINVAL (argsz below 12), ENODEV, ENOSPC with the count, EFAULT."""
    hdr = VfioPciHotResetInfo.from_buffer_copy(await copy_from_user(argument, HEADER))
    await refuse_if(hdr.argsz < HEADER, Errno.EINVAL, "argsz_minimum", f"argsz must be at least {HEADER}")
    hdr.flags = 0
    hit = await reset_scope(device)
    room = (hdr.argsz - HEADER) // ENTRY
    if len(hit) > room:
        hdr.count = len(hit)
        await copy_to_user(argument, bytes(hdr))
    await refuse_if(len(hit) > room, Errno.ENOSPC, "list_fits", "the list does not fit; count says how many there are")
    by_id = await load(device.cdev_opened)
    owned = uapi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID | uapi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED if by_id else 0
    async with device.dev_set.lock:
        entries = [await vfio_pci_fill_devs(device, other, by_id) for other in hit]
    if by_id and any(entry.devid == 0xFFFFFFFF for entry in entries):
        owned &= ~uapi.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED
    await copy_to_user(argument + HEADER, b"".join(bytes(entry) for entry in entries))
    hdr.count, hdr.flags = len(entries), owned
    await copy_to_user(argument, bytes(hdr))
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_fill_devs(device: VfioDevice, other: Device, by_id: bool) -> VfioPciDependentDevice:
    """One entry of the list: where the function is, and its ID in the caller's iommufd or the number of its iommu_group."""
    entry = VfioPciDependentDevice()
    address = other.address
    entry.segment, entry.bus = int(address[:4], 16), int(address[5:7], 16)
    entry.devfn = int(address[8:10], 16) << 3 | int(address[11:], 16)
    if not by_id:
        group = await require(
            other.iommu_group, Errno.EPERM, "device_isolated", "a device without an iommu_group is hit"
        )
        entry.group_id = group.id
        return entry
    listed = [vdev for vdev in await load(device.dev_set.device_list) if vdev.dev is other]
    ictx = await vfio_iommufd_device_ictx(device)
    entry.devid = (await vfio_iommufd_get_dev_id(listed[0], ictx) if listed else -1) & 0xFFFFFFFF
    return entry


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_pci_hot_reset(device: VfioDevice, argument: int) -> int:
    """VFIO_DEVICE_PCI_HOT_RESET: EFAULT, EINVAL (argsz, flags, files given or not), ENODEV, what the proof says."""
    hdr = VfioPciHotReset.from_buffer_copy(await copy_from_user(argument, HEADER))
    bad = hdr.argsz < HEADER or hdr.flags
    await refuse_if(bool(bad), Errno.EINVAL, "argsz_and_flags", f"argsz must be at least {HEADER} and flags 0")
    own_node = await load(device.cdev_opened)
    await refuse_if(
        bool(hdr.count) == own_node,
        Errno.EINVAL,
        "proof_fits",
        "group files are the proof for a device that came from one",
    )
    hit = await reset_scope(device)
    if not hdr.count:
        await vfio_pci_dev_set_hot_reset(device, hit, None)
        return 0
    await refuse_if(hdr.count > len(hit), Errno.EINVAL, "not_too_many_files", "more files than devices that are hit")
    raw = await copy_from_user(argument + HEADER, 4 * hdr.count)
    numbers = [int.from_bytes(raw[n : n + 4], "little", signed=True) for n in range(0, len(raw), 4)]
    await vfio_pci_ioctl_pci_hot_reset_groups(device, hit, numbers)
    return 0


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_ioctl_pci_hot_reset_groups(device: VfioDevice, hit: tuple[Device, ...], numbers: list[int]) -> None:
    """Group files as the proof: EBADF, EINVAL for another kind of file; they are held until the reset is over."""
    files: list[File] = []
    try:
        groups = []
        for number in numbers:
            file = await require(await fget(number), Errno.EBADF, "fd_is_open", f"{number} is not an open file")
            files.append(file)
            group = await load(file.private_data)
            kind = file.f_op is not device.vfio.group_fops
            await refuse_if(kind, Errno.EINVAL, "file_is_group", f"{file.label} is no file of a group")
            groups.append(group)
        await vfio_pci_dev_set_hot_reset(device, hit, tuple(g for g in groups if isinstance(g, VfioGroup)))
    except KernelError:
        for file in reversed(files):
            await fput(file)
        raise
    for file in reversed(files):
        await fput(file)


@kernel("drivers/vfio/pci/vfio_pci_core.c")
async def vfio_pci_dev_set_hot_reset(
    device: VfioDevice, hit: tuple[Device, ...], groups: tuple[VfioGroup, ...] | None
) -> None:
    """Reset all devices of the set, if the caller has every one of them. EINVAL if not; then what the hardware says."""
    dev_set = device.dev_set
    say(Phase.LOCK, "The lock of {}: nobody opens or closes a device that is reset.", dev_set)
    async with dev_set.lock:
        listed = await load(dev_set.device_list)
        known = {vdev.dev.oid for vdev in listed}
        whole = all(other.oid in known for other in hit)
        await refuse_if(not whole, Errno.EINVAL, "all_on_vfio", "a device that is hit is not in the hands of vfio-pci")
        ictx = await vfio_iommufd_device_ictx(device)
        for vdev in listed:
            if groups is None:
                owned = await vfio_iommufd_get_dev_id(vdev, ictx) >= 0
            else:
                owned = vdev.group in groups
            await refuse_if(
                not owned, Errno.EINVAL, "all_owned", f"{vdev.label} would be reset too and is not the caller's"
            )
        fails = not device.dev.hardware.bus_reset
        await refuse_if(fails, Errno.ENOTTY, "hardware_resets", "the hardware did not reset")
        await pci_reset_bus(hit)


@kernel("drivers/pci/pci.c")
async def pci_reset_bus(hit: tuple[Device, ...]) -> None:
    """The reset itself, which takes its time: whatever a device was doing is lost."""
    for dev in hit:
        await store(dev.in_reset, True)
    for dev in hit:
        await store(dev.in_reset, False)
