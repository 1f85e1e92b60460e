"""How a PCI function is reset, and who is waited for meanwhile (drivers/pci/pci.c, drivers/pci/pci-sysfs.c, v7.2)."""

from __future__ import annotations

from typing import Final

from ..engine import *
from ..uapi import Errno
from .base import Device
from .kstrtox import kstrtoul
from .registers import reset_registers

METHODS: Final = (
    "device_specific",
    "acpi",
    "flr",
    "af_flr",
    "pm",
    "bus",
    "cxl_bus",
)  # in the order in which they are tried


async def can_reset_by(device: Device, method: str) -> bool:
    """Does the hardware have this way to reset the function? `bus` resets a whole bus, and needs it for this function alone."""
    if method == "flr":
        return device.spec.can_reset or device.hardware.flr
    root = device.address.startswith("0000:00:")
    if method != "bus" or root or device.spec.physfn or device.bus != "pci":
        return False
    addresses = await slots_of(device.bus_devices)
    return not [each for each in addresses if each[:7] == device.address[:7] and each != device.address]


@kernel("drivers/pci/pci.c")
async def __pci_reset_function_locked(device: Device) -> str:
    """Try the ways, one after the other. The answer is the one that worked, "" if none did."""
    for method in await load(device.reset_methods):
        if await can_reset_by(device, method):
            await reset_registers(device)
            return method
    return ""


@kernel("drivers/pci/pci.c")
async def pci_init_reset_methods(device: Device) -> None:
    """Which ways there are at this moment; of two functions of a slot the first one was alone when it was found."""
    found = [method for method in METHODS if await can_reset_by(device, method)]
    await store(device.reset_methods, tuple(found))


@kernel("drivers/pci/pci.c")
async def pci_try_reset_function(device: Device) -> str:
    """Reset a function; the answer is how, "" if that cannot be done (ENOTTY).

    EAGAIN while a driver comes or goes: who opens a device or resets it does not wait for the lock. A function that cannot be
    reset at all does not come so far.
    """
    if await load(device.reset_methods) == ():
        return ""
    taken = await try_acquire(device.lock)
    await refuse_if(not taken, Errno.EAGAIN, "device_lock_free", LockTaken(device))
    method = await __pci_reset_function_locked(device)
    await release(device.lock)
    return method


class LockTaken:
    """Says who has the lock of a device: words only, looked up from outside of the call."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def __call__(self, engine: Engine) -> str:
        """The call that lets a driver come or go."""
        holder = self._device.lock.holder
        who = (
            "somebody" if holder is None else holder.label.partition(":")[0]
        )  # the program, not the number of its call
        return f"{who} has the lock of {self._device.oid}, for its driver comes or goes; a reset does not wait for that"


@kernel("drivers/pci/pci.c")
async def pci_reset_bus(hit: tuple[Device, ...], works: bool) -> None:
    """Reset a bus or slot, which takes its time: whatever a device on it was doing is lost.

    EAGAIN while a driver of one of them comes or goes, and only then ENOTTY where the hardware fails.
    """
    taken: list[Device] = []
    for device in hit:
        if not await try_acquire(device.lock):
            await unlock_all(taken)
            await refuse_if(True, Errno.EAGAIN, "device_lock_free", LockTaken(device))
        taken.append(device)
    for device in hit if works else ():
        await store(device.in_reset, True)
    for device in hit if works else ():
        await store(device.in_reset, False)
    await unlock_all(taken)
    await refuse_if(not works, Errno.ENOTTY, "hardware_resets", "the hardware did not reset")


async def unlock_all(taken: list[Device]) -> None:
    """Give their locks back, the last one first."""
    for device in reversed(taken):
        await release(device.lock)


@kernel("drivers/pci/pci-sysfs.c")
async def reset_store(device: Device, text: str, count: int) -> int:
    """Write 1 into `reset`: the function is reset. EINVAL for anything else, ENOTTY if it does not work."""
    number = await kstrtoul(text)
    await refuse_if(number != 1, Errno.EINVAL, "reset_is_one", "only 1 resets the function")
    method = ""
    if await load(device.reset_methods) != ():
        async with device.lock:  # unlike a program that opens the device it waits (`pci_reset_function`)
            method = await __pci_reset_function_locked(device)
    await refuse_if(not method, Errno.ENOTTY, "function_resets", "no way to reset this function alone works")
    return count


@kernel("drivers/pci/pci-sysfs.c")
async def reset_method_store(device: Device, text: str, count: int) -> int:
    """Write names with blanks between into `reset_method`: only these ways are tried. EINVAL for one that is none or not there.

    "default" brings back what the hardware has, an empty line takes all away.
    """
    if text.removesuffix("\n") == "default":
        await pci_init_reset_methods(device)
        return count
    names = text.split()
    for name in names:
        there = await can_reset_by(device, name)
        await refuse_if(
            not there, Errno.EINVAL, "reset_method_known", f"there is no way {name!r} to reset this function"
        )
    too_many = len(names) > len(METHODS)
    await refuse_if(too_many, Errno.EINVAL, "reset_methods_fit", f"there are {len(METHODS)} ways at most")
    await store(device.reset_methods, tuple(names))
    return count


async def reset_methods_of(device: Device) -> str:
    """The ways that are tried."""
    methods = await load(device.reset_methods)
    return " ".join(methods)
