"""What becomes of a DMA: a device reads memory at an I/O address, and three things decide whether it gets there."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from ..kernel.iommufd.io_pagetable_h import IOMMU_READ, IoptArea
from ..kernel.iommufd.iommufd_private import IommufdCtx, IommufdHwPagetable, IommufdIoas
from ..machine import Machine
from ..uapi import KernelError

SIZE = 4  # bytes that the device reads


class Door(NamedTuple):
    """Something that a DMA has to pass: the call that opens it, what is asked there, and the answer."""

    call: str
    asked: str
    answer: str
    is_open: bool


@dataclass(frozen=True)
class Dma:
    """A read of `SIZE` bytes by a device: the doors on the way, and the bytes it got, or None where it did not arrive."""

    device: str
    iova: int
    doors: tuple[Door, ...]
    data: bytes | None

    @property
    def arrives(self) -> bool:
        """Does the device get its bytes?"""
        return all(door.is_open for door in self.doors)

    @property
    def end(self) -> str:
        """What the device gets, in words."""
        if not self.arrives:
            return "nothing: the IOMMU stops the read"
        return "what the pinned pages hold" if self.data is None else f"“{self.data.rstrip(bytes(1)).decode('latin1')}”"

    def __repr__(self) -> str:
        lines = [f"{'✓' if door.is_open else '✕'} {door.call:7} {door.asked} {door.answer}" for door in self.doors]
        return "\n".join([f"{self.device} reads memory at I/O address {self.iova:#x}:", *lines, f"It gets {self.end}."])

    def html(self) -> str:
        """The doors from left to right, with the way of the read as far as it comes."""
        parts, on_its_way = [_tile("the card reads", f"{self.iova:#x}", "at", _INK)], True
        for number, door in enumerate(self.doors, start=1):
            parts.append(_arrow(on_its_way))
            on_its_way = on_its_way and door.is_open
            colour, sign = (_GOOD, "✓") if door.is_open else (_BAD, "✕")
            parts.append(_tile(f"{number}. {door.call}", f"{sign} {door.answer}", door.asked, colour))
        parts += [
            _arrow(on_its_way),
            _tile("memory", self.end.partition(":")[0], "It gets", _GOOD if self.arrives else _BAD),
        ]
        return f'<div role="img" aria-label="{escape(repr(self))}" style="{_ROW}">{"".join(parts)}</div>'


_GOOD, _BAD, _INK = "var(--vfiosim-good, #00724f)", "var(--vfiosim-bad, #a33c00)", "var(--vfiosim-ink, #111)"
_ROW = "display: flex; align-items: stretch; gap: 6px; margin: 2px 0; font-size: 16px; line-height: 1.25"


_TILE = "flex: 1 1 auto; min-width: 4.5em; overflow-wrap: normal"


def _tile(title: str, answer: str, asked: str, colour: str) -> str:
    looks = f"{_TILE}; border: 2px solid {colour}; border-radius: 6px; padding: 2px 10px; text-align: center"
    lines = f"<b>{escape(title)}</b><br>{escape(asked)}<br>"
    return f'<div style="{looks}">{lines}<b style="color: {colour}">{escape(answer)}</b></div>'


def _arrow(passed: bool) -> str:
    colour, sign = (_GOOD, "➜") if passed else (_BAD, "┄")
    return f'<div style="align-self: center; font-size: 24px; color: {colour}">{sign}</div>'


def dma(machine: Machine, device: str = "nic", iova: int = 0x10000) -> Dma:
    """The read that a device would make now. Nothing in the machine changes: a DMA is no call, no kernel code runs for it.

    Raises KeyError for a device that the machine does not have.
    """
    group = machine.built.devices[device].iommu_group.value
    owner, table = group.owner.value, group.domain.value
    yours = isinstance(owner, IommufdCtx)
    attached = isinstance(table, IommufdHwPagetable)
    area = _area(table.ioas, iova) if isinstance(table, IommufdHwPagetable) else None
    readable = area is not None and bool(area.iommu_prot & IOMMU_READ)
    doors = (
        Door("bind", "Whose is the DMA?", "your iommufd's" if yours else "the kernel's", yours),
        Door("attach", "Which table is used?", _table(table, yours), attached),
        Door("map", f"What is at {iova:#x}?", _entry(area, owner, iova), readable),
    )
    return Dma(device, iova, doors, _data(area, iova) if area is not None and readable else None)


def _table(table: object, yours: bool) -> str:
    if isinstance(table, IommufdHwPagetable):
        return f"HWPT {table.id}"
    return "none: all is blocked" if yours else "one of the kernel"


def _entry(area: IoptArea | None, owner: object, iova: int) -> str:
    if area is not None:
        return f"{area.length >> 10} KiB of memory" if area.iommu_prot & IOMMU_READ else "memory to write only"
    spaces = owner.objects.slots.values() if isinstance(owner, IommufdCtx) else ()
    known = [f"IOAS {one.id}" for one in spaces if isinstance(one, IommufdIoas) and _area(one, iova)]
    return f"nothing: only in {known[0]}" if known else "nothing"


def _area(ioas: IommufdIoas, iova: int) -> IoptArea | None:
    areas = (area for area in ioas.areas.slots.values() if area.iova <= iova <= area.last)
    return next((area for area in areas if area.pages.value is not None), None)


def _data(area: IoptArea, iova: int) -> bytes | None:
    pages = area.pages.value
    assert pages is not None
    if pages.file is not None:
        return None
    try:
        return pages.source_mm.value.read(pages.address + area.byte_at(iova), SIZE)
    except KernelError:  # the program has unmapped them; the pages are pinned, and the device still reaches them
        return None
