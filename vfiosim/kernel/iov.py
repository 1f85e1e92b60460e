"""Virtual functions are made and taken away (drivers/pci/iov.c, drivers/pci/pci-sysfs.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ..engine import *
from ..uapi import Errno
from .base import VFIO_PCI, Device, DeviceSpec
from .bus import device_add, device_attach, virtual_functions
from .kstrtox import kstrtobool, kstrtoul
from .pci import pci_stop_and_remove_bus_device
from .vfio.pci.vfio_pci_core import vfio_pci_core_sriov_configure

INT_MAX: Final = 0x7FFFFFFF
U16_MAX: Final = 0xFFFF


@kernel("drivers/pci/iov.c")
async def sriov_vf_total_msix_show(device: Device) -> str:
    """How many messages its virtual functions may send in all: vfio-pci shares none out."""
    async with device.lock:
        return "0"


@kernel("drivers/pci/iov.c")
async def sriov_vf_msix_count_store(device: Device, text: str, count: int) -> int:
    """Say how many messages a virtual function may send: EINVAL, EOPNOTSUPP, for the driver of its physical one cannot."""
    await kstrtoul(text, INT_MAX)
    physical = await xa_load(device.bus_devices, device.spec.physfn)
    assert physical is not None  # it goes after its virtual functions
    async with physical.lock:
        await refuse_if(True, Errno.EOPNOTSUPP, "driver_shares_messages", "the driver of its physical one cannot")
    return count


@kernel("drivers/pci/iov.c")
async def sriov_numvfs_show(device: Device) -> str:
    """How many virtual functions it has; whoever makes some, or takes them away, is waited for."""
    async with device.lock:
        return str(len(await virtual_functions(device)))


@kernel("drivers/pci/iov.c")
async def sriov_numvfs_store(device: Device, text: str, count: int) -> int:
    """Write a number into `sriov_numvfs`: EINVAL, ERANGE, ENOENT if the driver cannot, EBUSY while there are any.

    The lock of the physical function is held meanwhile, also while an open virtual function makes the removal wait; so is the
    one under which PCI functions come and go.
    """
    wanted = await kstrtoul(text, U16_MAX)
    why = f"{wanted} virtual functions are wanted, and the device can have {device.spec.vfs}"
    await refuse_if(wanted > device.spec.vfs, Errno.ERANGE, "vfs_possible", why)
    async with device.lock:
        present = await virtual_functions(device)
        if wanted == len(present):
            return count
        driver = await load(device.driver)
        able = driver if driver is not None and driver.label == VFIO_PCI else None
        await require(able, Errno.ENOENT, "driver_makes_vfs", "the driver of this device cannot make virtual functions")
        if wanted == 0:
            async with device.buses.rescan_remove_lock:
                await sriov_disable(device)
            return count
        await refuse_if(
            bool(present),
            Errno.EBUSY,
            "no_vfs_yet",
            f"there are {len(present)} virtual functions; first set their number to 0",
        )
        async with device.buses.rescan_remove_lock:
            await vfio_pci_core_sriov_configure(device)
            await sriov_enable(device, wanted)
    return count


@kernel("drivers/pci/iov.c")
async def sriov_drivers_autoprobe_show(device: Device) -> str:
    """Are its virtual functions offered to drivers?"""
    offered = await load(device.vf_autoprobe)
    return str(int(offered))


@kernel("drivers/pci/iov.c")
async def sriov_drivers_autoprobe_store(device: Device, text: str, count: int) -> int:
    """Say whether virtual functions are offered to drivers; those with a `driver_override` are. EINVAL."""
    await store(device.vf_autoprobe, await kstrtobool(text))
    return count


@kernel("drivers/pci/iov.c")
async def sriov_enable(device: Device, wanted: int) -> None:
    """New functions appear behind the physical one, each in an iommu_group of its own; vfio-pci takes them."""
    base, first = device.address[:8], int(device.address[8:10], 16) * 8 + int(device.address[11:], 16) + 1
    for number in range(first, first + wanted):
        address = f"{base}{number >> 3:02x}.{number & 7}"
        name = f"{device.name}.vf{number - first}"
        spec = DeviceSpec(name, address, -1, model=f"{device.model} VF", physfn=device.address)
        say(Phase.PUBLISH, f"The virtual function {address} appears.")
        await device_attach(device.buses, await device_add(device.buses, spec, VFIO_PCI))


@kernel("drivers/pci/iov.c")
async def sriov_disable(device: Device) -> None:
    """All virtual functions go, one after the other, each as soon as nobody has it open any more."""
    for virtual in await virtual_functions(device):
        await store(virtual.vf_links, False)
        await pci_stop_and_remove_bus_device(virtual)


async def links_between(device: Device) -> dict[str, str]:
    """Where `physfn` of a virtual function leads, and `virtfn0` and so on of a physical one."""
    if device.spec.physfn:
        return {"physfn": device.spec.physfn} if await load(device.vf_links) else {}
    linked = [each for each in await virtual_functions(device) if await load(each.vf_links)] if device.spec.vfs else []
    return {f"virtfn{distance(device.address, each.address) - 1}": each.address for each in linked}


def distance(physical: str, virtual: str) -> int:
    """How many functions further on the bus, or on the next ones."""
    first, second = [int(each[5:7] + each[8:10], 16) * 8 + int(each[11:]) for each in (physical, virtual)]
    return second - first
