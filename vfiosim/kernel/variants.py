"""Kernel versions as data: number and argument of BIND, and which requests there are, in four of them.

What their functions do is in `posted/`, whole functions that take the place of those of 7.2. Kernel code asks a switch, never a
version. Where the mail of 1 March 2023 that quotes version 5 leaves something out, it is as in 6.6, and `Variant.assumptions` says
so in words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ..uapi import (
    VFIO_DEVICE_BIND_IOMMUFD,
    VFIO_DEVICE_BIND_IOMMUFD_V5,
    VFIO_DEVICE_FEATURE,
    Struct,
    VfioDeviceBindIommufd,
    VfioDeviceBindIommufdV5,
    request_names,
)

AFTER_FEATURE: Final = range(VFIO_DEVICE_FEATURE + 1, 0x3B80)  # where versions differ in what a number means


@dataclass(frozen=True)
class Variant:
    """The rules of one version, as far as versions differ.

    Sources: "mail" is the patch and its review of 27 February and 1 March 2023; "6.6" and "7.2" are the functions of the same
    name in drivers/vfio/ of those releases; "prep" is the series about emulated devices that was merged on 31 March 2023.
    """

    name: str
    title: str

    # ---- the request and its argument
    bind_request: int  # number of BIND: base + 19 in the mail, base + 18 since 6.6
    layout: type[Struct]  # fields of the argument: mail; 6.6 reads the first 16 bytes of what 7.2 reads

    # ---- drivers
    registration_needs_ops: bool  # a driver without them cannot register its device (a warning, EINVAL): prep
    attach_requests: bool  # are the numbers of ATTACH and DETACH known? The mail does not have them

    assumptions: tuple[str, ...] = ()  # what is not known and taken from 6.6, or left out, in words

    def request_names(self, number: int) -> tuple[str, ...]:
        """The names that a request has in this version, on any kind of file; none where it is not known."""
        if number == self.bind_request:
            return ("VFIO_DEVICE_BIND_IOMMUFD",)
        return () if not self.attach_requests and number in AFTER_FEATURE else request_names(number)

    def request_name(self, number: int) -> str:
        """The name of a request, as far as this version is known; else the number."""
        return " or ".join(self.request_names(number)) or hex(number)


V72: Final = Variant(
    "v7.2",
    "Linux 7.2",
    bind_request=VFIO_DEVICE_BIND_IOMMUFD,
    layout=VfioDeviceBindIommufd,
    registration_needs_ops=True,
    attach_requests=True,
)

V66: Final = replace(
    V72,
    name="v6.6",
    title="Linux 6.6, the first release with BIND",
    assumptions=(
        "Only BIND, and the PASID of ATTACH and DETACH, are those of 6.6; everything else answers as 7.2 does.",
        "A group without an IOMMU that has an iommufd: how its devices opened and closed is not modelled.",
    ),
)

_ELIDED: Final = (
    "A descriptor that is no open file gives EBADF, one that is no iommufd EBADFD: the mail does not quote its helper.",
    "A second file of the same device gives EINVAL: the mail shows the call that opens the device, not its inside.",
    "Only out_devid is written back; where that fails everything is undone (EFAULT): the end of the function is left out.",
    "Nothing but BIND works before access_granted, which is set last: the end of the function is left out.",
    "The labels out_put_kvm and out_unlock undo what they undo in 6.6: the mail names them and leaves their bodies out.",
    "In noiommu mode nothing is bound, the driver only opens the device; out_devid is written as 0.",
    "A device without an IOMMU has a node with the usual name, /dev/vfio/devices/vfioN.",
    "Bind of an emulated device whose driver has the operations remembers the iommufd, and out_devid is 0.",
    "The numbers of ATTACH and DETACH are not in the mail: requests from base + 18 on, but for BIND, are not modelled.",
    "Everything that is not about BIND answers as 7.2 does.",
    V66.assumptions[1],
)

V5: Final = replace(
    V66,
    name="v5",
    title="version 5 of the patch, as posted on 27 February 2023",
    bind_request=VFIO_DEVICE_BIND_IOMMUFD_V5,
    layout=VfioDeviceBindIommufdV5,
    registration_needs_ops=False,
    attach_requests=False,
    assumptions=_ELIDED,
)

V5R: Final = replace(
    V5,
    name="v5r",
    title="version 5 with both questions of its review answered yes",
    assumptions=(*_ELIDED, "out_devid is 0 wherever the iommufd has no object for the device: nobody merged this."),
)

VARIANTS: Final[dict[str, Variant]] = {variant.name: variant for variant in (V72, V66, V5, V5R)}


def variant_of(name: str) -> Variant:
    """The version of this name. Raises ValueError for another, with the names that there are."""
    if name not in VARIANTS:
        raise ValueError(f"there is no kernel {name!r} here; there is {', '.join(VARIANTS)}")
    return VARIANTS[name]
