"""What devices are like that is not VFIO's doing: the models of a machine, in one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

Bits = tuple[tuple[int, int], ...]  # offsets of bytes, each with a mask


@dataclass(frozen=True)
class Capability:
    """A capability in configuration space: where it begins, its bytes with ID and pointer, what of them a write changes."""

    at: int
    content: bytes
    writable: Bits = ()


@dataclass(frozen=True)
class Hardware:
    """One model of device.

    * `bars`: number of a BAR to its size in bytes; `ports`: those that are I/O ports; `wide`: those with addresses of 64 bits;
      `ahead`: those that may be read ahead;
    * `capabilities`: in configuration space, in the order in which they point to each other; `extended`: beyond 256 bytes;
    * `config_size`: of configuration space in bytes; `revision`: its eighth byte;
    * `intx`, `msi`, `msix`: how many interrupts of each kind; `msix_bar`: where the MSI-X table lies;
    * `express`: has a PCI Express capability, so that errors can be told;
    * `bus_reset`: does a reset of its whole bus succeed?
    * `flr`: can one function be reset alone (function-level reset)?
    * `ids`: vendor, device, subsystem's vendor and device, class; none for a mediated device;
    * `header_bit`: does the header of every function say that there are others in the slot? QEMU's says so in function 0 only.
    """

    bars: dict[int, int] = field(default_factory=dict, hash=False)
    ports: tuple[int, ...] = ()
    wide: tuple[int, ...] = ()
    ahead: tuple[int, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    extended: tuple[Capability, ...] = ()
    config_size: int = 256
    revision: int = 0
    intx: int = 1
    msi: int = 0
    msix: int = 0
    msix_bar: int | None = None
    express: bool = False
    bus_reset: bool = True
    ids: tuple[int, ...] = ()
    header_bit: bool = True
    flr: bool = False


_MSI: Final = Capability(0x40, bytes.fromhex("0500 8000").ljust(14, b"\0"))
_MSIX: Final = "11 80 {} 00200000 00300000"
_EXPRESS: Final = Capability(
    0x80,
    bytes.fromhex("1060 0200 00800010 00000000 11040000 00001100" + 16 * "00" + "00003000").ljust(0x3C, b"\0"),
    ((0x29, 0x80),),
)
_POWER: Final = Capability(0x60, bytes.fromhex("0100 0300 08000000"), ((4, 3),))
_ARI: Final = Capability(0x100, bytes.fromhex("0e000100 00010000"))
_SRIOV: Final = (
    Capability(0x100, bytes.fromhex("0e000112 00010000")),
    Capability(
        0x120,
        bytes.fromhex(
            "10000100 00000000 19000000 02000200 02000000 01000100 00001000 53050000 01000000 044080fd"
        ).ljust(0x40, b"\0"),
    ),
)

_VIRTIO: Final = (
    Capability(0x98, bytes.fromhex("1184 0100 01000000 01080000")),
    Capability(
        0x84, bytes.fromhex("0970 1405 00000000 00000000 00000000 00000000"), tuple((n, 0xFF) for n in range(4, 20))
    ),
    Capability(0x70, bytes.fromhex("0960 1402 04000000 00300000 00100000 04000000")),
    Capability(0x60, bytes.fromhex("0950 1004 04000000 00200000 00100000")),
    Capability(0x50, bytes.fromhex("0940 1003 04000000 00100000 00100000")),
    Capability(0x40, bytes.fromhex("0900 1001 04000000 00000000 00100000")),
)


def _disk(vectors: str, extended: tuple[Capability, ...] = (), virtual: bool = False) -> Hardware:
    """An NVMe disk; `vectors`: how many MSI-X vectors it has, less one, as its configuration space says."""
    return Hardware(
        {0: 0x4000},
        wide=(0,),
        capabilities=(Capability(0x40, bytes.fromhex(_MSIX.format(vectors))), _EXPRESS, _POWER),
        extended=extended,
        config_size=4096,
        revision=2,
        intx=0 if virtual else 1,
        msix=int.from_bytes(bytes.fromhex(vectors), "little") + 1,
        msix_bar=0,
        express=True,
        bus_reset=virtual,
        flr=True,
        ids=(0x1B36, 0x0010, 0x1AF4, 0x1100, 0x010802),
    )


MODELS: Final[dict[str, Hardware]] = {
    "edu": Hardware(
        {0: 0x100000},
        capabilities=(_MSI,),
        revision=0x10,
        msi=1,
        ids=(0x1234, 0x11E8, 0x1AF4, 0x1100, 0x00FF00),
        header_bit=False,
    ),
    "pci-testdev": Hardware({0: 0x1000, 1: 0x100}, ports=(1,), intx=0, ids=(0x1B36, 0x0005, 0x1AF4, 0x1100, 0x00FF00)),
    "nvme": _disk("4000"),
    "nvme PF": _disk("0600", _SRIOV),
    "nvme VF": _disk("0000", (_ARI,), virtual=True),
    "virtio-rng-pci": Hardware(
        {0: 0x20, 1: 0x1000, 4: 0x4000},
        ports=(0,),
        wide=(4,),
        ahead=(4,),
        capabilities=_VIRTIO,
        msix=2,
        msix_bar=1,
        ids=(0x1AF4, 0x1005, 0x1AF4, 0x0004, 0x00FF00),
        header_bit=False,
    ),
    "mtty": Hardware({0: 8, 1: 8}, config_size=255, msi=1),  # type mtty-2: two ports
    "mtty-2": Hardware({0: 8, 1: 8}, config_size=255, msi=1),
    "mtty-1": Hardware({0: 8}, config_size=255, msi=1),
}
ANY_MODEL: Final = Hardware(
    {0: 0x4000}, msi=1, ids=(0x1234, 0x0001, 0x1AF4, 0x1100, 0x00FF00)
)  # a device that says nothing about itself


def hardware_of(model: str, vfs: int = 0) -> Hardware:
    """The model of this name; `vfs`: how many virtual functions it can have."""
    return MODELS.get(f"{model} PF" if vfs else model, MODELS.get(model, ANY_MODEL))
