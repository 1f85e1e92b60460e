"""A bench with the calls of address spaces, and above its picture the way that a DMA of the card would take now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

from ..kernel.iommufd.iommufd_private import IommufdCtx, IommufdObject
from ..lab import Bench, Outcome, Session
from ..lab import controls as widgets
from ..lab.bench import ROWS
from ..lab.fields import NumberField
from ..lab.static_fallback import note
from ..lab.style import text
from ..machine import Machine
from ..machine.events import Mapped
from ..naming import ImpossibleError
from ..views.atlas import Atlas
from .address_spaces_dma import dma
from .beginnings import CTX, DEV, bound, opened

PAGE, PAGES, IOVA, PACKET = 4096, 4, 0x10000, b"ping"
CARD = ("fds vmm", "vfio_device vfio0")
_SPACES = ("iommufd_device", "iommufd_access", "iommufd_ioas", "iommufd_hwpt_paging", "iopt_area", "iopt_pages")
ONLY = (*CARD, "file vfio0#1", *_SPACES, "iommu_group 1")  # what the pictures show
WATCH = (
    "owner",
    "domain",
    "pages",
    "npinned",
)  # what a door asks for, and memory: a call is shown where it last changes one
BRIEF = ("fds vmm", "file iommu#1", *ONLY[2:])  # what those of a bench show: the device is known there by its ID


# ---- the calls


def memory(session: Session) -> Outcome:
    """The program fills memory with a packet."""
    return session.do(Mapped("vmm", PAGES * PAGE, PACKET))


def packet(session: Session) -> int:
    """Where the packet is in the memory of the program. Raises ImpossibleError where there is none."""
    found = [int(done.outcome.number) for done in session.done if isinstance(done.event, Mapped)]
    if not found:
        raise ImpossibleError("the program has no memory to map yet")
    return found[0]


def alloc(session: Session) -> Outcome:
    """IOMMU_IOAS_ALLOC."""
    return session.ask(CTX, "IOMMU_IOAS_ALLOC")


def enter(session: Session, ioas: int, iova: int = IOVA) -> Outcome:
    """IOMMU_IOAS_MAP: the packet, at this I/O address, to be read and written."""
    fields = {"ioas_id": ioas, "user_va": packet(session), "length": PAGES * PAGE, "iova": iova}
    return session.ask(CTX, "IOMMU_IOAS_MAP", flags=7, **fields)  # fixed address, writeable, readable


def leave(session: Session, ioas: int, iova: int = IOVA) -> Outcome:
    """IOMMU_IOAS_UNMAP."""
    return session.ask(CTX, "IOMMU_IOAS_UNMAP", ioas_id=ioas, iova=iova, length=PAGES * PAGE)


def attach(session: Session, number: int) -> Outcome:
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT."""
    return session.ask(DEV, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pt_id=number)


def detach(session: Session) -> Outcome:
    """VFIO_DEVICE_DETACH_IOMMUFD_PT."""
    return session.ask(DEV, "VFIO_DEVICE_DETACH_IOMMUFD_PT")


def table(session: Session, device: int, ioas: int) -> Outcome:
    """IOMMU_HWPT_ALLOC."""
    return session.ask(CTX, "IOMMU_HWPT_ALLOC", dev_id=device, pt_id=ioas)


def destroy(session: Session, number: int) -> Outcome:
    """IOMMU_DESTROY."""
    return session.ask(CTX, "IOMMU_DESTROY", id=number)


def ids(machine: Machine) -> str:
    """The objects of each iommufd, by their IDs, as the picture calls them."""
    things = machine.engine.objects.values()
    contexts = [thing for thing in things if isinstance(thing, IommufdCtx)]
    told = []
    for ctx in contexts:
        found = [f"{one.id} {one.oid}" for one in ctx.objects.slots.values() if isinstance(one, IommufdObject)]
        told += [f"{f'{ctx.oid}: ' if len(contexts) > 1 else ''}ID {' · '.join(found)}"] if found else []
    return " · ".join(told)


# ---- how machines begin


def nothing_bound(session: Session) -> None:
    """A device (3) and an iommufd (4), both open; a packet in memory."""
    opened(session)
    memory(session)


def mapped(session: Session) -> None:
    """The device is bound (ID 1); the packet is mapped in an address space (2) to which nothing is attached."""
    bound(session)
    memory(session)
    alloc(session)
    enter(session, 2)


def sending(session: Session) -> None:
    """The same, and the device is attached to the address space: it got a page table (3)."""
    mapped(session)
    attach(session, 2)


# ---- the bench


class Desk(Bench):
    """A bench for address spaces: one field for the ID that a call names, and what a DMA of the card meets after each call.

    `blind`: where a read stops is to be found out, so only its end is told, until it arrives.
    """

    rows: Sequence[str] = (*ROWS, "space")

    def __init__(self, session: Session, blind: bool = False, **options: Any) -> None:
        self._blind = blind
        own = Atlas()  # on the map of a bind an address space begins where a screen ends
        super().__init__(
            session, **{"show": ("space",), "only": BRIEF, "keep": CARD[:1], "atlas": own, "watch": WATCH, **options}
        )
        self.add_class("vfiosim-many")

    def _space_row(self) -> widgets.Box:
        self.number = NumberField("ID", "", tip="The object that the call names: an address space or a page table")
        self.dev_id = NumberField("dev_id", "", tip="The ID of the device: what BIND wrote into out_devid")
        self.iova = NumberField("iova", f"{IOVA:#x}", high=2**64 - 1, tip="The I/O address: what the card will use")
        self.iova.add_class("vfiosim-iova")
        s, own = self.session, self._own
        return self.row(
            "",
            (
                "bind",
                lambda: s.bind(DEV, iommufd=CTX),
                "VFIO_DEVICE_BIND_IOMMUFD: put the device into the hands of the iommufd",
            ),
            ("IOAS_ALLOC", own(lambda: alloc(s)), "a new, empty address space; it gets the lowest free ID"),
            self.number,
            self.iova,
            (
                "MAP",
                lambda: enter(s, self.number.read(), self.iova.read()),
                "enter the packet into address space ID, at iova",
            ),
            (
                "UNMAP",
                lambda: leave(s, self.number.read(), self.iova.read()),
                "take the entry at iova out of address space ID",
            ),
            (
                "ATTACH",
                lambda: attach(s, self.number.read()),
                "let the device use ID; a device that is attached moves there",
            ),
            ("DETACH", partial(detach, s), "the device uses no table any more"),
            ("DESTROY", lambda: destroy(s, self.number.read()), "end the object ID"),
            self.dev_id,
            (
                "HWPT_ALLOC",
                own(lambda: table(s, self.dev_id.read(), self.number.read())),
                "a page table for device dev_id from address space ID",
            ),
        )

    def _own(self, call: Callable[[], Outcome]) -> Callable[[], Outcome]:
        """A call that makes something: the next call names it."""

        def made() -> Outcome:
            outcome = call()
            for line in outcome.wrote:
                name, _, number = line.partition(" = ")
                if name in ("out_ioas_id", "out_hwpt_id"):
                    self.number.set(number)
            return outcome

        return made

    def _shown(self) -> list[widgets.Widget]:
        self.doors = text("doors")
        return [self.doors, self.trace_pane]

    def _refresh(self, before: dict[int, object] | None) -> None:
        super()._refresh(before)
        machine, status = self.session.machine, self.session.process.status()
        read = dma(machine)
        blind = self._blind and not read.arrives
        way = f"<div>The card reads at {read.iova:#x}. It gets {read.end}.</div>" if blind else read.html()
        line = " · ".join(filter(None, ["" if blind else ids(machine), f"VmPin {status['VmPin']} KiB"]))
        self.doors.value = f'{way}<div style="margin: 0">{escape(line)}</div>'

    def static_html(self) -> str:
        """The bench without a kernel, and the way of a DMA."""
        return f"{note(self.doors.value)}{super().static_html()}"
