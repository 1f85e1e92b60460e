"""What devices are like that is not VFIO's doing: the models of a machine, in one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Hardware:
    """One model of device.

    * `bars`: number of a BAR to its size in bytes; `mtty` has I/O ports of 8 bytes each;
    * `config`: the first bytes of configuration space, the rest is zero; `config_size` in bytes;
    * `intx`, `msi`, `msix`: how many interrupts of each kind; `msix_bar`: where the MSI-X table lies;
    * `express`: has a PCI Express capability, so that errors can be told;
    * `bus_reset`: does a reset of its whole bus succeed?
    * `flr`: can one function be reset alone (function-level reset)?
    * `ids`: vendor, device, subsystem's vendor and device, class; none for a device that says nothing about itself;
    * `header_bit`: does the header of every function say that there are others in the slot? QEMU's says so in function 0 only.
    """

    bars: dict[int, int] = field(default_factory=dict)
    config: bytes = b""
    config_size: int = 256
    intx: int = 1
    msi: int = 0
    msix: int = 0
    msix_bar: int | None = None
    express: bool = False
    bus_reset: bool = True
    ids: tuple[int, ...] = ()
    header_bit: bool = True
    flr: bool = False


_MTTY_CONFIG: Final = bytes.fromhex("48435332")
MODELS: Final[dict[str, Hardware]] = {
    "edu": Hardware(
        {0: 0x100000},
        bytes.fromhex("3412e811"),
        msi=1,
        ids=(0x1234, 0x11E8, 0x1AF4, 0x1100, 0x00FF00),
        header_bit=False,
    ),
    "pci-testdev": Hardware(
        {0: 0x1000, 1: 0x100}, bytes.fromhex("361b0500"), intx=0, ids=(0x1B36, 0x0005, 0x1AF4, 0x1100, 0x00FF00)
    ),
    "nvme": Hardware(
        {0: 0x4000},
        config_size=4096,
        msix=65,
        msix_bar=0,
        express=True,
        bus_reset=False,
        flr=True,
        ids=(0x1B36, 0x0010, 0x1AF4, 0x1100, 0x010802),
    ),
    "virtio-rng-pci": Hardware({0: 0x4000}, msi=1, ids=(0x1AF4, 0x1005, 0x1AF4, 0x0004, 0x00FF00), header_bit=False),
    "nvme VF": Hardware({0: 0x4000}, config_size=4096, intx=0, msix=65, msix_bar=0, express=True, flr=True),
    "mtty": Hardware({0: 8, 1: 8}, _MTTY_CONFIG, config_size=255, msi=1),  # type mtty-2: two ports
    "mtty-2": Hardware({0: 8, 1: 8}, _MTTY_CONFIG, config_size=255, msi=1),
    "mtty-1": Hardware({0: 8}, _MTTY_CONFIG, config_size=255, msi=1),
}
ANY_MODEL: Final = Hardware({0: 0x4000}, msi=1)  # a device that says nothing about itself


def hardware_of(model: str) -> Hardware:
    """The model of this name."""
    return MODELS.get(model, ANY_MODEL)
