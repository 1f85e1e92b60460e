"""All ioctl requests: what each one takes and on which kind of file, found by name or by number."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from . import (
    iommufd,
    iommufd_hwpt,
    iommufd_test,
    iommufd_viommu,
    kvm,
    vfio,
    vfio_device,
    vfio_feature,
    vfio_pci,
    vfio_type1,
)
from ._ioc import Argument, FileKind, Number
from ._struct import Struct

MODULES = (
    *(vfio, vfio_device, vfio_pci, vfio_feature, vfio_type1),
    *(iommufd, iommufd_hwpt, iommufd_viommu, iommufd_test, kvm),
)
_KINDS = get_args(FileKind)


@dataclass(frozen=True, slots=True)
class Request:
    """An ioctl request. Two requests may have one number; then the kind of file tells which is meant."""

    name: str
    number: int
    struct: type[Struct] | None
    argument: Argument | None  # None: the argument is not used
    file: FileKind


def _requests() -> Iterator[Request]:
    """All that are declared, by the kind of their file and then by their number."""
    declared = ((one, name) for module in MODULES for name, one in vars(module).items() if isinstance(one, Number))
    for number, name in sorted(declared, key=lambda one: (_KINDS.index(one[0].file), one[0])):
        assert number.file is not None, f"no kind of file knows {name}"
        if isinstance(number.takes, type):
            yield Request(name, int(number), number.takes, "struct", number.file)
        else:
            yield Request(name, int(number), None, number.takes, number.file)


REQUESTS: dict[str, Request] = {request.name: request for request in _requests()}
_BY_NUMBER: dict[int, tuple[Request, ...]] = {}
for _each in REQUESTS.values():
    _BY_NUMBER[_each.number] = (*_BY_NUMBER.get(_each.number, ()), _each)


def request_names(number: int) -> tuple[str, ...]:
    """The names of all requests that have this number, on any kind of file; usually one, none if it is unknown."""
    return tuple(request.name for request in _BY_NUMBER.get(number, ()))


def request_name(number: int, file: FileKind | None = None) -> str:
    """The name of a request, for people to read: "IOMMU_DESTROY", or "0x1234" if it has none.

    Where two requests share the number, the kind of file decides (an iommufd also answers those of a container);
    without it both names are given, joined by " or ".
    """
    requests = _BY_NUMBER.get(number, ())
    asked = ("iommufd", "container") if file == "iommufd" else (file,)
    names = [request.name for request in requests if request.file in asked] or [request.name for request in requests]
    return " or ".join(names) if names else hex(number)
