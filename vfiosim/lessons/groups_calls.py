"""What is done in the lesson about groups: a graphics card and its audio function, a USB controller beside the disk of the host."""

from __future__ import annotations

from collections.abc import Callable

from .. import uapi
from ..lab import Outcome, Session
from ..machine import Machine, Process
from ..machine.events import Began, Called, Forked
from .beginnings import NODES, leading_to
from .closing_calls import other
from .order_of_checks_causes import ioctl

OLD, NEW = "/dev/vfio/vfio", "/dev/iommu"  # what a group's file can be put into
LABELS = {OLD: "vfio#", NEW: "iommu#"}  # of their files
CARD, DISK, DRIVERS = "0000:01:00.0", "0000:03:00.1", "/sys/bus/pci/drivers"


def pair(session: Session) -> None:
    """The nodes of the graphics card (3) and of its audio function (4), and two iommufds (5, 6); nothing is bound."""
    for path in (NODES["vfio1"], NODES["vfio2"], NEW, NEW):
        session.open(path)


def usb(session: Session) -> None:
    """The node of the USB controller (3) and an iommufd (4); and an administrator."""
    session.open(NODES["vfio3"])
    session.open(NEW)
    session.do(Began("admin"))


def computer(start: Callable[[Session], None] = pair) -> tuple[Machine, Process]:
    """The machine and its program after such a beginning."""
    session = Session(start=start)
    return session.machine, session.process


def owner(session: Session, group: int) -> tuple[str, int]:
    """Who owns the DMA of a group, and how often: "" and 0 if nobody does, "" and more if kernel drivers do."""
    fields = session.machine.trace.end.objects[f"iommu_group {group}"].fields
    return str(fields["owner"] or ""), int(str(fields["owner_cnt"]))


# ---- the administrator and the disk


def free_disk(session: Session) -> Outcome:
    """The disk loses its driver."""
    return other(session, "admin", "write_file", f"{DRIVERS}/ahci/unbind", DISK)


def disk_back(session: Session) -> Outcome:
    """The disk gets its driver again."""
    return other(session, "admin", "write_file", f"{DRIVERS}/ahci/bind", DISK)


def disk_to_vfio(session: Session) -> Outcome:
    """A disk without a driver gets vfio-pci."""
    other(session, "admin", "write_file", f"/sys/bus/pci/devices/{DISK}/driver_override", "vfio-pci")
    return other(session, "admin", "write_file", f"{DRIVERS}/vfio-pci/bind", DISK)


# ---- the two doors of group 2

DOORS: dict[str, Callable[[Session], Outcome]] = {
    "open group 2": lambda session: session.open("/dev/vfio/2"),
    "open vfio1": lambda session: session.open(NODES["vfio1"]),
    "bind vfio1": lambda session: session.bind(3, iommufd=5),
    "bind vfio2": lambda session: session.bind(4, iommufd=5),
    "open group 1": lambda session: session.open("/dev/vfio/1"),
}


def one_after_the_other(first: str, second: str) -> Session:
    """The pair, after two of the `DOORS`."""
    session = Session(start=pair)
    DOORS[first](session)
    DOORS[second](session)
    return session


# ---- three ways to a device


def enter(session: Session, group: int, into: str) -> Outcome:
    """The old way up to the devices: the group's file is put `into` a container (`OLD`) or an iommufd (`NEW`)."""
    session.open(f"/dev/vfio/{group}")
    session.open(into)
    return set_container(session, into)


def set_container(session: Session, into: str = OLD) -> Outcome:
    """VFIO_GROUP_SET_CONTAINER, on the group's file that is open."""
    given = _fd(session, LABELS[into]).to_bytes(4, "little", signed=True)
    return ioctl(session, _fd(session, "group"), "VFIO_GROUP_SET_CONTAINER", given)


def set_iommu(session: Session, into: str = OLD) -> Outcome:
    """VFIO_SET_IOMMU, type 1."""
    return ioctl(session, _fd(session, LABELS[into]), "VFIO_SET_IOMMU", 1)


def get_device(session: Session, address: str) -> Outcome:
    """VFIO_GROUP_GET_DEVICE_FD."""
    return ioctl(session, _fd(session, "group"), "VFIO_GROUP_GET_DEVICE_FD", address.encode() + b"\0")


def viable(session: Session) -> bool:
    """What VFIO_GROUP_GET_STATUS says of the group."""
    asked = ioctl(session, _fd(session, "group"), "VFIO_GROUP_GET_STATUS", bytes(uapi.VfioGroupStatus(argsz=8)))
    return any(line in ("flags = 0x1", "flags = 0x3") for line in asked.wrote)


def _fd(session: Session, label: str) -> int:
    return next(iter(leading_to(session, label)), -1)


# ---- two programs


def sound(session: Session) -> None:
    """A sound daemon (device 3, socket 4, iommufd 5) has bound vfio2; the VMM has a socket (3) to it, vfio1 (4), an iommufd (5)."""
    other(session, "vmm", "socketpair")
    session.do(Forked("vmm", "sound"))
    session.close(4)
    other(session, "sound", "close", 3)
    for path in (NODES["vfio2"], NEW):
        other(session, "sound", "open", path)
    session.do(
        Called("sound", "ioctl", (3, uapi.VFIO_DEVICE_BIND_IOMMUFD, bytes(uapi.VfioDeviceBindIommufd(iommufd=5))))
    )
    session.open(NODES["vfio1"])
    session.open(NEW)
