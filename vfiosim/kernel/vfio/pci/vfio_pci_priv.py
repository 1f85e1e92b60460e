"""What vfio-pci keeps for each of its devices (include/linux/vfio_pci_core.h, drivers/vfio/pci/vfio_pci_priv.h, v7.2)."""

from __future__ import annotations

from ....engine import *
from ....uapi import VFIO_PCI_NUM_IRQS
from ...fs.eventfd import EventfdCtx
from ..vfio import VfioDevice


class VfioPciVfToken(KObject):
    """The secret that the users of a physical function and of its virtual functions share.

    * born with a physical function that vfio-pci drives, with a random value;
    * `users`: how many of its virtual functions are open; while there are any, the secret is fixed but for one feature;
    * outlives every file; dies with the driver's hold on the physical function.
    """

    kind = "vfio_pci_vf_token"
    lock: Lock = mutex()
    # guarded by lock
    uuid: Field[bytes | None] = field(None, guard="lock")  # None: random, nobody knows it
    users: Field[int] = field(0, guard="lock")


class VfioPciCoreDevice(KObject):
    """The part of a vfio_device that vfio-pci adds: its configuration space, and which eventfds its interrupts go to.

    * lives exactly as long as its vfio_device;
    * `irq_type`: which kind of interrupt is enabled, VFIO_PCI_NUM_IRQS for none; one kind at a time;
    * while the device is open it holds the eventfds; the last close lets go of them;
    * `vconfig`: are the tables there through which configuration space is read? The first open makes them.
    """

    kind = "vfio_pci_core_device"
    igate: Lock = mutex()
    # guarded by igate
    irq_type: Field[int] = field(VFIO_PCI_NUM_IRQS, guard="igate")
    vectors: Field[int] = field(0, guard="igate")  # how many MSI vectors were allocated
    ctx: Table[EventfdCtx] = table(guard="igate")
    err_trigger: Field[EventfdCtx | None] = field(None, guard="igate")
    req_trigger: Field[EventfdCtx | None] = field(None, guard="igate")
    memory_lock: Lock = rwsem()  # its registers can be used; who resets it takes this alone
    vconfig: Field[bool] = field(False)
    reset_works: Field[str] = field("")  # how the function was reset at its open, "" if it cannot be reset alone
    vf_token: Field[VfioPciVfToken | None] = field(None, link="owns")
    sriov_pf_core_dev: Field[VfioPciCoreDevice | None] = field(None, link="weak")

    def __init__(self, engine: Engine, vdev: VfioDevice) -> None:
        super().__init__(engine, vdev.label)
        self.vdev = vdev


async def core_of(device: VfioDevice) -> VfioPciCoreDevice:
    """The part of vfio-pci of a device (`container_of`)."""
    core = await load(device.driver_data)
    assert isinstance(core, VfioPciCoreDevice)
    return core
