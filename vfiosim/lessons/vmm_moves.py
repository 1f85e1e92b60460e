"""What a VMM does, as moves that find their descriptors by themselves; and the search for the fewest that reach a goal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..engine import Count, Field, Table
from ..kernel.iommufd.iommufd_private import IommufdCtx, IommufdIoas
from ..kernel.vfio.vfio import VfioDeviceFile
from ..lab import Outcome, Session
from ..lab.outcome import Done
from ..machine import Machine
from ..machine.events import Event
from ..uapi import KernelError
from .address_spaces_bench import IOVA, PAGE, PAGES, packet
from .beginnings import DEVICE, IOMMUFD

Move = Callable[[Session], Outcome]


def fd_of(session: Session, label: str) -> int:
    """The lowest descriptor of a file whose label begins so. Raises ValueError where none is open."""
    found = [fd for fd, file in session.descriptors().items() if file.label.startswith(label)]
    if not found:
        raise ValueError(f"the VMM has no descriptor of {label}")
    return found[0]


def opened(session: Session, fd: int) -> bool:
    """Is this descriptor open?"""
    return fd in session.descriptors()


def close(session: Session, fd: int) -> Outcome:
    """Give a descriptor back. Raises ValueError where it is not open: to close it again would be no way on."""
    if not opened(session, fd):
        raise ValueError(f"{fd} is closed already")
    return session.close(fd)


def space_of(session: Session, fd: int) -> int:
    """The ID of the newest address space of an iommufd. Raises ValueError where there is none."""
    if not opened(session, fd):
        raise ValueError(f"{fd} is closed already")
    return newest(session.descriptors()[fd].private_data.value)


def newest(ctx: object) -> int:
    """The ID of the newest address space of an iommufd. Raises ValueError where there is none."""
    objects = ctx.objects.slots if isinstance(ctx, IommufdCtx) else {}
    found = [number for number, thing in objects.items() if isinstance(thing, IommufdIoas)]
    if not found:
        raise ValueError("there is no address space yet")
    return int(max(found))


def at(session: Session, fd: int, call: str) -> Outcome:
    """MAP or UNMAP the guest's memory in the newest address space of an iommufd."""
    where = {"ioas_id": space_of(session, fd), "iova": IOVA, "length": PAGES * PAGE}
    more = {"flags": 7, "user_va": packet(session)} if call == "MAP" else {}  # fixed address, writeable, readable
    return session.ask(fd, f"IOMMU_IOAS_{call}", **where, **more)


def _attach(session: Session) -> Outcome:
    card = fd_of(session, "vfio0")
    bound = session.descriptors()[card].private_data.value
    ctx = bound.iommufd.value if isinstance(bound, VfioDeviceFile) else None
    wanted = newest(ctx) if ctx is not None else 1  # whatever it is, the kernel refuses it: the card is not bound
    return session.ask(card, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pt_id=wanted)


UP: Mapping[str, tuple[Move, str]] = {
    "open card": (lambda session: session.open(DEVICE), "open the node of the network card"),
    "open iommufd": (lambda session: session.open(IOMMUFD), "open /dev/iommu"),
    "FILE_ADD": (
        lambda session: session.file_add(fd_of(session, "kvm-vfio"), fd_of(session, "vfio0")),
        "put the card's file on the list of the VM's kvm-vfio device",
    ),
    "BIND": (
        lambda session: session.bind(fd_of(session, "vfio0"), iommufd=fd_of(session, "iommu")),
        "bind the card to the iommufd",
    ),
    "IOAS_ALLOC": (lambda session: session.ask(fd_of(session, "iommu"), "IOMMU_IOAS_ALLOC"), "a new address space"),
    "MAP": (
        lambda session: at(session, fd_of(session, "iommu"), "MAP"),
        "enter the memory of the guest, 16 KiB at 0x10000, into the address space",
    ),
    "ATTACH": (_attach, "let the card use the address space"),
}
DOWN: Mapping[str, tuple[Move, str]] = {
    "FILE_DEL": (
        lambda session: session.file_del(fd_of(session, "kvm-vfio"), fd_of(session, "vfio0")),
        "take the card's file off the list of the VM",
    ),
    "UNMAP": (
        lambda session: at(session, fd_of(session, "iommu"), "UNMAP"),
        "take the memory of the guest out of the address space",
    ),
    "DETACH": (
        lambda session: session.ask(fd_of(session, "vfio0"), "VFIO_DEVICE_DETACH_IOMMUFD_PT"),
        "the card uses no table any more",
    ),
    "DESTROY": (
        lambda session: session.ask(
            fd_of(session, "iommu"), "IOMMU_DESTROY", id=space_of(session, fd_of(session, "iommu"))
        ),
        "end the address space",
    ),
    "close card": (lambda session: session.close(fd_of(session, "vfio0")), "give the card's descriptor back"),
    "close iommufd": (lambda session: session.close(fd_of(session, "iommu")), "give the iommufd's descriptor back"),
}


# ---- the fewest moves


class Sketch(Session):
    """A session that keeps no trace: for a search, which needs only where a machine stands."""

    def _boot(self) -> Machine:
        machine = Machine(self.setup.topology, trace=False)
        for name in self.setup.processes:
            machine.process(name)
        return machine

    def do(self, action: Event, more: bool = False) -> Outcome:
        """Do something; of how it ended only whether it was refused, and its number."""
        try:
            came = action.do(self.machine)
            error, number = getattr(came, "error", None), getattr(came, "result", came)
        except KernelError as problem:
            error, number = problem, None
        outcome = Outcome(str(action), str(error or number), refused=error is not None, number=number)
        self.done.append(Done(action, outcome, 0, 0))
        return outcome

    def stands(self) -> tuple[object, ...]:
        """Where the machine stands, to compare: the cells of all objects, whichever number a file or an object has got."""
        found = []
        for thing in self.machine.engine.objects.values():
            for cell in thing.cells():
                if isinstance(cell, Count | Field):
                    found.append((cell.path, str(cell.value)))
                elif isinstance(cell, Table):
                    found.append((cell.path, str(sorted(map(str, cell.slots.values())))))
        return tuple(sorted(found))


def fewest(
    start: Callable[[Session], object],
    moves: Mapping[str, tuple[Move, str]],
    reached: Callable[[Session], bool],
    most: int,
) -> tuple[list[str], int]:
    """The shortest way from `start` to where `reached` is true, by a search through all orders of up to `most` moves.

    A move that is refused is no way on, nor is one to where the machine has stood before. Told with the number of
    places where a machine has stood; [] if there is no way.
    """
    seen, ways = set[object](), list[tuple[str, ...]]([()])
    for _ in range(most):
        longer = []
        for way in ways:
            for name in moves:
                session = Sketch(start=start)
                try:
                    ended = [moves[one][0](session) for one in (*way, name)]
                except ValueError:
                    continue
                if ended[-1].refused or (stands := session.stands()) in seen:
                    continue
                if reached(session):
                    return [*way, name], len(seen)
                seen.add(stands)
                longer.append((*way, name))
        ways = longer
    return [], len(seen)
