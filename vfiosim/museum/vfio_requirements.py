"""What must still work in the rooms about VFIO itself when they are mended."""

from __future__ import annotations

from .. import uapi
from ..kernel.vfio.pci.vfio_pci_priv import VfioPciCoreDevice
from ..machine import Machine
from ..puzzles.programs import DEV, Call, bind
from .machines import CONSOLE, TOKEN_AT, physical_function
from .requirements import AN_ERROR, Requirement, close

# ---- the way out that skips the unlock; the secret that is set too early

UNLOCKED = (
    Requirement(
        "A token for a device that takes none must still be EINVAL, and a BIND without one work afterwards, once.",
        (bind("vmm", token=TOKEN_AT), bind("vmm"), bind("vmm"), close(DEV)),
        "EINVAL, 0, EINVAL, 0",
    ),
)
VF = "/dev/vfio/devices/vfio1"
TOKENS = (
    Requirement(
        "A virtual function must still be bound with the token of its physical function, and with no other (EACCES).",
        (
            bind("vmm", token=TOKEN_AT),
            ("vmm", "open", VF),
            bind("vmm", 5),
            bind("vmm", 5, token=TOKEN_AT + 16),
            bind("vmm", 5, token=TOKEN_AT),
        ),
        "0, 5, EACCES, EACCES, 0",
        physical_function,
    ),
)


def nobody_has_set_a_token(machine: Machine) -> bool:
    """Is the token of each physical function still the one that nobody knows?"""
    secrets = [core.vf_token.value for core in machine.engine.objects.of(VfioPciCoreDevice)]
    return all(secret is None or secret.uuid.value is None for secret in secrets)


FAILED = (
    Requirement(
        "A BIND to a descriptor that is not open must still be EBADF, and one to an iommufd work afterwards.",
        (bind("vmm", ctx=777, token=TOKEN_AT), bind("vmm", ctx=777), bind("vmm"), bind("vmm"), close(DEV)),
        "EBADF, EBADF, 0, EINVAL, 0",
    ),
    Requirement(
        "A BIND to an open file that is no iommufd must still be EBADFD, and set no token either.",
        (bind("vmm", ctx=DEV, token=TOKEN_AT),),
        "EBADFD",
        seen=nobody_has_set_a_token,
    ),
)

# ---- the check that only one way has


def give(fd: int) -> Call:
    """The group (3) gets the container, or the iommufd, behind a descriptor."""
    return ("vmm", "ioctl", 3, uapi.VFIO_GROUP_SET_CONTAINER, fd.to_bytes(4, "little"))


TAKE = ("vmm", "ioctl", 3, uapi.VFIO_GROUP_UNSET_CONTAINER)
TYPE1 = ("vmm", "ioctl", 6, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)
OPEN_CONSOLE = ("vmm", "ioctl", 3, uapi.VFIO_GROUP_GET_DEVICE_FD, CONSOLE)
BACKENDS = (
    Requirement(
        "A group without an open device must still move to a container, and its device be opened there.",
        (close(5), TAKE, give(6), TYPE1, OPEN_CONSOLE),
        "0, 0, 0, 0, 5",
    ),
    Requirement(
        "A group with a device that is open with an iommufd must still be given an iommufd again.",
        (TAKE, give(4), OPEN_CONSOLE, close(5), close(7)),
        "0, 0, 7, 0, 0",
    ),
    Requirement(
        "What was refused must still be: a second one (EINVAL), a closed descriptor (EBADF), another file (EBADFD).",
        (give(6), TAKE, give(777), give(5), give(4)),
        "EINVAL, 0, EBADF, EBADFD, 0",
    ),
    Requirement(
        "SET_CONTAINER must not answer 0 where the group has got no container.",
        (TAKE, give(6), TYPE1),
        f"0, {AN_ERROR}, {AN_ERROR} or 0, 0, 0",
    ),
)
