"""Modules are unloaded (kernel/module/main.c, v7.2)."""

from __future__ import annotations

from ..engine import *
from ..uapi import Errno
from .base import LOADED, VFIO_PCI, BusDriver
from .bus import Buses, bus_remove_driver
from .fs.file import caller
from .task import capable
from .unsupported import Unsupported

# Modules of such a machine that are no drivers of devices, or that others need.
_OTHERS = frozenset(
    ("vfio", "vfio_iommu_type1", "vfio_pci_core", "mdev", "iommufd", "iommufd_test", "kvm", "kvm_intel")
)


def module_name(driver: str) -> str:
    """What the module of a driver is called: "vfio_pci"."""
    return driver.replace("-", "_")


@kernel("kernel/module/main.c")
async def try_stop_module(driver: BusDriver) -> None:
    """From now on nobody can hold the module. EAGAIN (that is, EWOULDBLOCK) if anybody does: it is in use."""
    say(Phase.RELEASE, "{} gives up what it holds of its own module: was that the last reference?", driver)
    if not await put(driver.module, driver, LOADED):
        in_use = await get_unless_zero(driver.module, driver, LOADED)  # zero: the last user has left meanwhile
        await refuse_if(in_use, Errno.EAGAIN, "module_unused", "the module is in use")
    say(Phase.BLOCK, "From now on nobody can take a reference to {}.", driver)
    await store(driver.going, True)


@kernel("kernel/module/main.c")
async def delete_module(buses: Buses, name: str) -> int:
    """Unload a module: EPERM without CAP_SYS_MODULE, ENOENT, EBUSY if it is going already, EAGAIN while it is in use.

    Its driver then lets go of every device, however long that takes. Only that of vfio-pci can be unloaded here.
    """
    say(Phase.VALIDATE, f"{caller()} calls delete_module({name}).")
    allowed = await capable("CAP_SYS_MODULE")
    await refuse_if(not allowed, Errno.EPERM, "may_unload", "only CAP_SYS_MODULE may unload modules")
    if name in _OTHERS:
        raise Unsupported(f"unloading {name}")
    async with buses.module_mutex:
        found = await xa_load(buses.modules, name)
        driver = await require(found, Errno.ENOENT, "module_is_loaded", "there is no such module")
        if driver.label != VFIO_PCI:
            raise Unsupported(f"unloading {name}")
        going = await load(driver.going)
        await refuse_if(going, Errno.EBUSY, "module_is_live", "the module is being unloaded already")
        await try_stop_module(driver)
    say(Phase.BLOCK, "{} leaves its bus.", driver)
    await bus_remove_driver(buses, driver)
    await free_module(buses, driver)
    return 0


@kernel("kernel/module/main.c")
async def free_module(buses: Buses, driver: BusDriver) -> None:
    """The code and the data of a module go."""
    async with buses.module_mutex:
        await xa_store(buses.modules, module_name(driver.label), None)
    say(Phase.RELEASE, "The code of {} is gone from memory.", driver)
    await free(driver.p)
    await free(driver)
