"""The configuration space of a PCI function as a program sees it (drivers/vfio/pci/vfio_pci_config.c, v7.2)."""

from __future__ import annotations

from ....engine import *
from ...unsupported import Unsupported
from .vfio_pci_priv import VfioPciCoreDevice


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_config_init(core: VfioPciCoreDevice) -> None:
    """The tables that say what a program sees of configuration space, and what it may change."""
    await store(core.vconfig, True)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_config_free(core: VfioPciCoreDevice) -> None:
    """The tables go with the last close."""
    await store(core.vconfig, False)


@kernel("drivers/vfio/pci/vfio_pci_config.c")
async def vfio_pci_config_rw(core: VfioPciCoreDevice, size: int, position: int) -> bytes:
    """Read configuration space. Whether its tables are there is not asked: whoever comes here has the device open."""
    if not await load(core.vconfig):
        raise KernelOops(f"{current().label} reads configuration space of {core.oid} through a table that is not there")
    config = core.vdev.dev.hardware.config
    if position + size > len(config):
        raise Unsupported("these bytes of configuration space")
    return config[position : position + size]
