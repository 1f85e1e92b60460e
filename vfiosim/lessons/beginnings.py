"""How the lessons begin: a program with a device and an iommufd, open or bound."""

from __future__ import annotations

from ..lab import Session
from ..machine import Machine, Process

DEVICE, IOMMUFD = "/dev/vfio/devices/vfio0", "/dev/iommu"


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
