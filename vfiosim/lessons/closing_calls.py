"""What programs do in the lesson about closing: the VMM, its helper, a broker, and an administrator."""

from __future__ import annotations

from ..lab import Outcome, Session
from ..machine.events import Called, Forked
from ..naming import ImpossibleError
from ..trace import State
from .beginnings import DEV, bound

DRIVER, NIC = "/sys/bus/pci/drivers/vfio-pci", "0000:01:00.0"
UNBIND = f"{DRIVER}/unbind"


def other(session: Session, process: str, name: str, *arguments: object) -> Outcome:
    """A call of any program on the machine."""
    return session.do(Called(process, name, arguments))


def unbind(session: Session) -> Outcome:
    """The administrator takes the driver away from the card."""
    return other(session, "admin", "write_file", UNBIND, NIC)


def mmap(session: Session, fd: int = DEV) -> Outcome:
    """The VMM maps a page of the card's memory, shared, for reading and writing."""
    return other(session, "vmm", "mmap", 4096, 3, 1, fd, 0, None)


def passed(session: Session) -> None:
    """A bound device (3), an iommufd (4), a socket (5) to a broker (6), and the device's file in a message on its way."""
    bound(session)
    other(session, "vmm", "socketpair")
    session.do(Forked("vmm", "broker"))
    for fd in (3, 4, 5):
        other(session, "broker", "close", fd)
    session.close(6)
    other(session, "vmm", "sendmsg_fds", 5, (3,))


def munmap(session: Session) -> Outcome:
    """The VMM unmaps the page again. Raises ImpossibleError if the VMM has mapped nothing of the device."""
    places = mapped(session.state, "vmm")
    if not places:
        raise ImpossibleError("the program has mapped nothing of the device")
    return other(session, "vmm", "munmap", next(iter(places)), 4096)


def mapped(state: State, program: str) -> dict[int, str]:
    """The files that a program has mapped, by their addresses."""
    links = [link for link in state.references("counted") if link.holder == f"mm_struct {program}"]
    return {int(link.reason.split()[-1], 16): link.target for link in links if link.reason.startswith("mapped at")}
