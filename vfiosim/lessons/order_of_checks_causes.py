"""What can be wrong with a BIND, in the order in which Linux 7.2 finds it out; and a BIND with one thing wrong, or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from .. import uapi
from ..kernel.iommu import IommuGroup
from ..lab import Outcome, Session
from ..lab.run import PROGRAM
from ..lab.session import LessonCall
from ..machine.events import Called, Mapped
from ..naming import ImpossibleError, must_be_one_of
from ..trace import Step, Trace
from .beginnings import (
    CTX,
    DEV,
    GROUPS,
    IOMMUFD,
    NODES,
    bind_already,
    bind_another_file,
    bind_sibling_elsewhere,
    open_group,
)

UUID_AT = 0x10000  # where the program has 16 bytes that can be read
WHOLE = 24  # bytes of the struct
READ, WRITE = 1, 2


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with a BIND.

    * `says`: what it is; `fields`: what is written into the struct; `tail`: bytes behind it; `size`, `prot`: how many bytes of
      memory the program has there, and what it may do with them;
    * `node`: the device that it happens to; `before`: what is done before, with the name of that device; the answer, if there is
      one, is the descriptor to bind; `host`: what is different about the computer.
    """

    says: str
    fields: Mapping[str, int] = field(default_factory=dict)
    before: Callable[[Session, str], int | None] | None = None
    node: str = ""
    host: Callable[[Session, Any], None] | None = None
    tail: bytes = b""
    size: int = WHOLE
    prot: int = READ | WRITE


def through_the_group(session: Session, node: str) -> int:
    """The device's file as the group gives it: the old way in."""
    group = int(session.open(f"/dev/vfio/{GROUPS[node]}").result)
    container = int(session.open("/dev/vfio/vfio").result)
    ioctl(session, group, "VFIO_GROUP_SET_CONTAINER", container.to_bytes(4, "little"))
    ioctl(session, container, "VFIO_SET_IOMMU", 1)
    device: Any = session.machine.engine.objects[f"vfio_device {node}"]
    return int(ioctl(session, group, "VFIO_GROUP_GET_DEVICE_FD", device.dev.address.encode() + b"\0").result)


def _have_a_uuid(session: Session, node: str) -> None:
    session.do(Mapped(PROGRAM, 16, bytes(range(16)), address=UUID_AT))


def _not_coherent(session: Session, device: Any) -> None:
    device.cache_coherent = False


def _shared_interrupts(session: Session, device: Any) -> None:
    engine = session.machine.engine
    engine.options = {**engine.options, "interrupt_remapping": False}


def _own_domain(session: Session, device: Any) -> None:
    group: IommuGroup = device.iommu_group.value
    group.domain.value = "of a host driver"


TOKEN = uapi.VFIO_DEVICE_BIND_FLAG_TOKEN

CAUSES: dict[str, Cause] = {
    "no struct": Cause("there is no memory at the address", size=0),
    "short": Cause("argsz is 8", {"argsz": 8}),
    "tail": Cause("argsz is 32, and the last byte is not 0", {"argsz": 32}, tail=b"\0\0\0\0\0\0\0\1"),
    "long": Cause("argsz is 4096, and the memory ends after 24 bytes", {"argsz": 4096}),
    "cut": Cause("the memory ends after 8 bytes", size=8),
    "negative": Cause("iommufd is -1", {"iommufd": -1}),
    "flags": Cause("flags is 2", {"flags": 2}),
    "group's file": Cause("the descriptor came from the group, not from the node", before=through_the_group),
    "group": Cause("the group's file is open", before=open_group),
    "bound": Cause("this file is bound already", before=bind_already),
    "no tokens": Cause("a token, and a driver that knows none", {"flags": TOKEN}, node="vfio4"),
    "token's pointer": Cause("a token, and its address leads nowhere", {"flags": TOKEN}),
    "token": Cause("a token that nobody asked for", {"flags": TOKEN, "token_uuid_ptr": UUID_AT}, _have_a_uuid),
    "closed": Cause("iommufd is 777, which is not open", {"iommufd": 777}),
    "another kind": Cause("iommufd is 3, which is the device", {"iommufd": DEV}),
    "another file": Cause("another file of the device is bound already", before=bind_another_file),
    "not coherent": Cause("the IOMMU does not keep caches coherent", host=_not_coherent),
    "interrupts": Cause("the computer cannot isolate the interrupts", host=_shared_interrupts),
    "sibling": Cause("its group belongs to another iommufd", before=bind_sibling_elsewhere, node="vfio1"),
    "host driver": Cause("a driver of the host has a device of its group", node="vfio3"),
    "host's domain": Cause("a driver of the host has put the group into a domain of its own", host=_own_domain),
    "read-only": Cause("the struct cannot be written", prot=READ),
}


BLOCKED = "cdev_device_open_cnt"


@dataclass(frozen=True)
class Refusal:
    """A BIND with some things wrong, and what the kernel said."""

    names: tuple[str, ...]
    outcome: Outcome
    steps: Trace

    @cached_property
    def way(self) -> list[Step]:
        """The steps up to the one that refused."""
        last = next((step.index for step in self.steps if step.refused), len(self.steps) - 1)
        return list(self.steps)[: last + 1]

    @cached_property
    def held(self) -> tuple[str, ...]:
        """What the call had taken when it was refused, beside the file that it was made on."""
        before, after = (self.steps.start, self.steps.state(len(self.way) - 1))
        blocked = [
            f"{oid} is blocked"
            for oid, group in after.objects.items()
            if group.kind == "vfio_group" and group.value(BLOCKED) != before.objects[oid].value(BLOCKED)
        ]
        return (*blocked, *dict.fromkeys(what for what in self.outcome.had if "(running call)" not in what))

    def __str__(self) -> str:
        done = self.outcome
        place = f"{done.result:6} {done.check:20} step {len(self.way):2}, holding {len(self.held)}"
        return f"{place}: {done.sentence}" if done.refused else f"{done.result}: it succeeds"

    __repr__ = __str__


def causes(errno: str) -> tuple[str, ...]:
    """The causes of this errno ("EINVAL"), in the order in which the kernel looks for them."""
    return tuple(name for name in CAUSES if refused(name).outcome.result == errno)


@cache
def refused(*names: str) -> Refusal:
    """A BIND with these things wrong, on a fresh machine. Raises ValueError for names there are not, or that do not go together."""
    for name in names:
        must_be_one_of(CAUSES, name, "cause")
    causes = [CAUSES[name] for name in names]
    nodes = {cause.node for cause in causes if cause.node} or {"vfio0"}
    written = [name for cause in causes for name in cause.fields if name != "flags"]
    if len(nodes) > 1 or len({*written}) < len(written) or sum(cause.before is not None for cause in causes) > 1:
        raise ImpossibleError(f"{' and '.join(names)} do not go together in one BIND")
    return _refused(names, causes, nodes.pop())


def _refused(names: tuple[str, ...], causes: list[Cause], node: str) -> Refusal:
    session = Session()
    session.open(NODES[node])
    session.open(IOMMUFD)
    device: Any = session.machine.engine.objects[f"vfio_device {node}"]
    fd = DEV
    for cause in causes:
        if cause.host:
            cause.host(session, device.dev)
        if cause.before:
            fd = cause.before(session, node) or fd
    fields = {"argsz": WHOLE, "iommufd": CTX}
    for cause in causes:
        fields |= {**cause.fields, "flags": fields.get("flags", 0) | cause.fields.get("flags", 0)}
    data = bytes(uapi.VfioDeviceBindIommufd(**fields)) + b"".join(cause.tail for cause in causes)
    size = min([len(data), *(cause.size for cause in causes if cause.size < WHOLE)])
    prot = min(cause.prot for cause in causes) if causes else READ | WRITE
    address = session.do(Mapped(PROGRAM, size, data[:size], prot)).number if size else 0
    outcome = ioctl(session, fd, "VFIO_DEVICE_BIND_IOMMUFD", address)
    return Refusal(names, outcome, session.steps)


def ioctl(session: Session, fd: int, request: str, argument: int | bytes) -> Outcome:
    """A request with the address of its argument, or with its bytes."""
    made = Called(PROGRAM, "ioctl", (fd, uapi.REQUESTS[request].number, argument))
    return session.do(LessonCall(f"ioctl({fd}, {request})", made.do))
