"""What vfio-pci keeps for each of its devices (include/linux/vfio_pci_core.h, drivers/vfio/pci/vfio_pci_priv.h, v7.2)."""

from __future__ import annotations

from ....engine import *
from ....uapi import VFIO_PCI_NUM_IRQS
from ...firmware import COMMAND, HEADER, MSI, MSIX, SPACE
from ...fs.eventfd import EventfdCtx
from ...fs.file import File
from ..vfio import VfioDevice
from ..virqfd import Virqfd

OWN = 1 << 16  # added to the offset of what a function itself has, where the copy of it is told of too


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


class VfioPciIoeventfd(KObject):
    """A write to a BAR whenever an eventfd is signalled.

    * born by VFIO_DEVICE_IOEVENTFD; dies by the same with a descriptor of −1, or with the last close of the device.
    """

    kind = "vfio_pci_ioeventfd"
    virqfd: Field[Virqfd | None] = field(None, link="owns")

    def __init__(self, engine: Engine, core: VfioPciCoreDevice, bar: int, pos: int, data: bytes) -> None:
        super().__init__(engine)
        self.core, self.bar, self.pos, self.data = core, bar, pos, data


class VfioPciCoreDevice(KObject):
    """The part of a vfio_device that vfio-pci adds: its configuration space, and which eventfds its interrupts go to.

    * lives exactly as long as its vfio_device;
    * `irq_type`: which kind of interrupt is enabled, VFIO_PCI_NUM_IRQS for none; one kind at a time;
    * while the device is open it holds the eventfds; the last close lets go of them;
    * `vconfig`: what programs have changed in configuration space since the first open, by offset (`vfio_pci_config.py`); None
      while the tables for it are not there.
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
    vconfig: Field[tuple[tuple[int, int], ...] | None] = field(None)
    irqlock: Lock = spinlock()
    masked: Field[bool] = field(False, guard="irqlock")  # does the line interrupt wait until it is unmasked?
    ioeventfds_lock: Lock = mutex()
    ioeventfds_list: Field[tuple[VfioPciIoeventfd, ...]] = field((), guard="ioeventfds_lock", link="owns")
    unmask: Field[Virqfd | None] = field(None, link="owns")  # what does that whenever an eventfd is signalled
    dmabufs: Field[tuple[File, ...]] = field(
        (), guard="memory_lock", link="weak"
    )  # what of it is lent to other devices
    pm_wake_eventfd_ctx: Field[EventfdCtx | None] = field(None, guard="memory_lock")
    reset_works: Field[str] = field("")  # how the function was reset at its open, "" if it cannot be reset alone
    vf_token: Field[VfioPciVfToken | None] = field(None, link="owns")
    sriov_pf_core_dev: Field[VfioPciCoreDevice | None] = field(None, link="weak")

    def __init__(self, engine: Engine, vdev: VfioDevice, config_map: bytes, copy_at_open: bytes) -> None:
        super().__init__(engine, vdev.label)
        self.vdev = vdev
        self.config_map = config_map  # which capability each byte of configuration space belongs to
        self.copy_at_open = copy_at_open  # what a program sees there at first
        self.msi_flags = self.capability(MSI) + 2 if self.capability(MSI) else 0
        self.msix_control = self.capability(MSIX) + 3 if self.capability(MSIX) else -1

    def capability(self, number: int) -> int:
        """Where a capability begins, 0 if there is none."""
        return max(self.config_map.find(number, HEADER, SPACE), 0)


INTX_DISABLE = 4  # of the upper byte of the command register


async def virq_disabled(core: VfioPciCoreDevice) -> bool:
    """Has a program switched off the line interrupt in configuration space? The bit for that is a copy."""
    at, changed = COMMAND + 1, await load(core.vconfig)
    return bool(dict(changed or ()).get(at, core.copy_at_open[at]) & INTX_DISABLE)


async def core_of(device: VfioDevice) -> VfioPciCoreDevice:
    """The part of vfio-pci of a device (`container_of`)."""
    core = await load(device.driver_data)
    assert isinstance(core, VfioPciCoreDevice)
    return core
