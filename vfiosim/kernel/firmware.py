"""What PCI functions are like when Linux finds them: where the firmware has put their BARs, and what is in their registers.

The firmware is SeaBIOS (src/fw/pciinit.c), which hands out addresses by size: what is largest lies lowest.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Final

from .hardware import ANY_MODEL, Hardware, hardware_of

if TYPE_CHECKING:
    from .base import DeviceSpec

MiB: Final = 1 << 20
MEMORY_ENDS: Final = 0xFEC00000  # below the interrupt controller
PORTS_BEGIN: Final = 0xC000
WINDOW: Final = 2 * MiB  # of a root port, at least; a second one is for memory that can be read ahead
CHIPSET: Final = 0x4000  # what functions of the board itself need
CHIPSET_PORTS: Final = ((0x40, "the board", 0), (0x40, "the board", 1))
LINES: Final = (10, 10, 11, 11)
HEADER, SPACE = 64, 256  # of configuration space: the header, and what has no capabilities of PCI Express
MSI, MSIX = 5, 17  # numbers of capabilities
COMMAND, STATUS, HEADER_TYPE, BARS, SUBSYSTEM, FIRST_CAPABILITY, LINE, PIN = 4, 6, 14, 16, 44, 52, 60, 61
IO_MEMORY_SERR: Final = 0x103
Places = dict[tuple[str, int], int]  # by address of a function and number of a BAR


def up(number: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-number // unit) * unit


def pci_functions(specs: Iterable[DeviceSpec]) -> list[DeviceSpec]:
    """Those whose BARs the firmware sets: virtual functions have none of their own."""
    return sorted((spec for spec in specs if spec.bus == "pci" and not spec.physfn), key=attrgetter("address"))


def bars_of(spec: DeviceSpec, sort: str = "memory") -> list[tuple[int, str, int]]:
    """Its BARs of one sort, "memory", "ports" or "ahead": size, address of the function, number."""
    hardware = spec.hardware or hardware_of(spec.model, spec.vfs)
    sorts = dict.fromkeys(hardware.ports, "ports") | dict.fromkeys(hardware.ahead, "ahead")
    return [(size, spec.address, bar) for bar, size in hardware.bars.items() if sorts.get(bar, "memory") == sort]


def laid_out(start: int, wanted: list[tuple[int, str, int]]) -> Places:
    """One after the other from an address on, the largest first."""
    found: Places = {}
    for size, address, bar in sorted(wanted, key=itemgetter(0), reverse=True):
        found[address, bar] = start
        start += size
    return found


def place_bars(specs: Iterable[DeviceSpec]) -> Places:
    """Where the firmware puts every BAR of a machine."""
    functions = pci_functions(specs)
    buses = sorted({spec.address[:7] for spec in functions if not spec.address.startswith("0000:00:")}, reverse=True)
    behind = {
        bus: [bar for spec in functions if spec.address.startswith(bus) for bar in bars_of(spec)] for bus in buses
    }
    windows = [(max(WINDOW, up(sum(size for size, *_ in bars), MiB)), bus, -1) for bus, bars in behind.items()]
    own = [bar for spec in functions if spec.address.startswith("0000:00:") for bar in bars_of(spec)]
    ahead = [bar for spec in functions for bar in bars_of(spec, "ahead")]
    above = (MEMORY_ENDS - len(buses) * WINDOW - sum(size for size, *_ in ahead) - CHIPSET) // WINDOW * WINDOW
    wanted = [*windows, *own]
    found = laid_out((above - sum(size for size, *_ in wanted) - CHIPSET) // WINDOW * WINDOW, wanted)
    for bus in buses:
        found |= laid_out(found[bus, -1], behind[bus])
    ports = [*CHIPSET_PORTS, *(bar for spec in functions for bar in bars_of(spec, "ports"))]
    return found | laid_out(above + len(buses) * WINDOW, ahead) | laid_out(PORTS_BEGIN, ports)


def interrupt_line(address: str) -> int:
    """Which line of the interrupt controller a function pulls that has one (`mch_pci_slot_get_irq`)."""
    slot = int(address[8:10], 16)
    return LINES[slot % 4]


def interrupt_input(address: str) -> int:
    """Which input of the I/O APIC that is: 20 and more on the root bus, 16 behind a root port."""
    return 16 if int(address[5:7], 16) else 20 + int(address[8:10], 16) % 4


def is_one_of_several(spec: DeviceSpec, specs: Iterable[DeviceSpec]) -> bool:
    """Does the header of a function say that there are others in its slot?"""
    others = [each for each in pci_functions(specs) if each.address[:11] == spec.address[:11]]
    return len(others) > 1 and (spec.address.endswith("0") or (spec.hardware or hardware_of(spec.model)).header_bit)


def bar_flags(hardware: Hardware, bar: int) -> int:
    """The lowest bits of a BAR: 1 for ports, 4 for an address of 64 bits, 8 for what may be read ahead."""
    return 1 if bar in hardware.ports else 4 * (bar in hardware.wide) + 8 * (bar in hardware.ahead)


def power_up(spec: DeviceSpec, hardware: Hardware, places: Places, several: bool) -> bytes:
    """All of its configuration space as Linux finds it, with the device enabled and the bus not mastered."""
    space = bytearray(hardware.config_size)
    vendor, device, subvendor, subdevice, class_ = hardware.ids or ANY_MODEL.ids
    real = not spec.physfn  # a virtual function leaves empty what its physical one says
    space[0:4] = (vendor | device << 16).to_bytes(4, "little") if real else b"\xff" * 4
    space[COMMAND:STATUS] = (IO_MEMORY_SERR if real else 0).to_bytes(2, "little")
    space[STATUS] = 0x10 if hardware.capabilities else 0
    space[8:12] = (hardware.revision | class_ << 8).to_bytes(4, "little")
    space[HEADER_TYPE] = 0x80 if several else 0
    for bar in hardware.bars if real else ():
        flags = bar_flags(hardware, bar)
        at = BARS + 4 * bar
        space[at : at + 4] = (places.get((spec.address, bar), 0) | flags).to_bytes(4, "little")
    space[SUBSYSTEM : SUBSYSTEM + 4] = (subvendor | subdevice << 16).to_bytes(4, "little")
    if hardware.intx:
        space[LINE], space[PIN] = interrupt_line(spec.address), 1
    for number, capability in enumerate((*hardware.capabilities, *hardware.extended)):
        if not number and hardware.capabilities:
            space[FIRST_CAPABILITY] = capability.at
        space[capability.at : capability.at + len(capability.content)] = capability.content
    return bytes(space)


WRITABLE: Final = (
    (COMMAND, 0x07),
    (COMMAND + 1, 0x05),
    (12, 0xFF),
    (LINE, 0xFF),
)  # of the header; BARs have rules of their own


def writable(spec: DeviceSpec, hardware: Hardware) -> bytes:
    """Which bits of configuration space a write changes. Behind the header that is all that no capability has."""
    mask = bytearray(b"\0" * HEADER + b"\xff" * (hardware.config_size - HEADER))
    for at, bits in WRITABLE:
        mask[at] = bits
    if hardware.express:
        mask[256:260] = bytes(4)
    for capability in (*hardware.capabilities, *hardware.extended):
        mask[capability.at : capability.at + len(capability.content)] = bytes(len(capability.content))
        for offset, bits in capability.writable:
            mask[capability.at + offset] = bits
    return bytes(mask)


class Board:
    """A computer as its firmware leaves it."""

    def __init__(self, devices: tuple[DeviceSpec, ...]) -> None:
        self._devices = devices
        self._places = place_bars(devices)
        self._known: dict[DeviceSpec, tuple[bytes, bytes]] = {}

    def registers(self, spec: DeviceSpec, hardware: Hardware) -> tuple[bytes, bytes]:
        """The configuration space of a function, and which bits of it can be written; of one that is no PCI function, nothing."""
        if spec.bus != "pci":
            return b"", b""
        if spec not in self._known:
            several = is_one_of_several(spec, self._devices)
            space = power_up(spec, hardware, self._places, several)
            self._known[spec] = space, writable(spec, hardware)
        return self._known[spec]


@lru_cache(maxsize=16)
def board_of(devices: tuple[DeviceSpec, ...]) -> Board:
    """The computer with these devices."""
    return Board(devices)
