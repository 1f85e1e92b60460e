"""How the lessons begin: a program with a device and an iommufd, open or bound."""

from __future__ import annotations

from ..lab import Session
from ..machine import Machine, Process

NODES = {f"vfio{number}": f"/dev/vfio/devices/vfio{number}" for number in range(5)}
GROUPS = {"vfio0": 1, "vfio1": 2, "vfio2": 2, "vfio3": 3, "vfio4": 4}
DEVICE, IOMMUFD = NODES["vfio0"], "/dev/iommu"
DEV, CTX = 3, 4  # the descriptors of the device and of the iommufd


def opened(session: Session) -> None:
    """A device file (3) and an iommufd (4), both open, nothing bound."""
    session.open(DEVICE)
    session.open(IOMMUFD)


def bound(session: Session) -> None:
    """A device (3) that is bound to an iommufd (4)."""
    opened(session)
    session.bind(3, iommufd=4)


def program() -> tuple[Machine, Process]:
    """A fresh machine with a program that has opened a device (3) and an iommufd (4)."""
    session = Session()
    opened(session)
    return session.machine, session.process


def bound_program() -> tuple[Machine, Process]:
    """The same, and the device is bound to the iommufd."""
    session = Session()
    bound(session)
    return session.machine, session.process


def leading_to(session: Session, label: str) -> list[int]:
    """The descriptors of files whose labels begin so, the lowest first."""
    return [fd for fd, file in session.descriptors().items() if file.label.startswith(label)]


# ---- what is wrong before a BIND of one of the NODES, whose file is DEV


def open_group(session: Session, node: str) -> None:
    """Its group's file is open."""
    session.open(f"/dev/vfio/{GROUPS[node]}")


def bind_already(session: Session, node: str) -> None:
    """Its file is bound."""
    session.bind(DEV, iommufd=CTX)


def bind_another_file(session: Session, node: str) -> None:
    """Another file of it is bound."""
    session.bind(int(session.open(NODES[node]).result), iommufd=CTX)


def bind_sibling_elsewhere(session: Session, node: str) -> None:
    """Another device of its group is bound to another iommufd."""
    sibling = int(session.open(NODES["vfio2" if node == "vfio1" else "vfio1"]).result)
    session.bind(sibling, iommufd=int(session.open(IOMMUFD).result))
