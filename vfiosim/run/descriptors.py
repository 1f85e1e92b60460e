"""Which descriptors of a program a request speaks of, or makes: what the simulated kernel has to know before it is asked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from ..kernel.variants import V72, Variant
from ..machine.system_calls import REQUESTS_OF, layouts
from ..uapi import REQUESTS
from .memory import ProgramMemory

_DATA_EVENTFD: Final = 1 << 2
_MOST: Final = 4096  # descriptors of one request
_MAKERS: Final = frozenset(
    {
        "VFIO_GROUP_GET_DEVICE_FD",
        "VFIO_DEVICE_FEATURE",
        "VFIO_DEVICE_GET_GFX_DMABUF",
        "KVM_CREATE_VM",
        "KVM_CREATE_VCPU",
        "KVM_CREATE_DEVICE",
        "IOMMU_FAULT_QUEUE_ALLOC",
        "IOMMU_VEVENTQ_ALLOC",
    }
)


@lru_cache(maxsize=256)
def _known(variant: Variant, file: str, request: int, role: str = "fd_in") -> tuple[frozenset[str], tuple[int, ...]]:
    """The names that a request has, sent to a file of this kind, and where in its struct descriptors of this role are."""
    kinds = REQUESTS_OF.get(file, ())
    names = frozenset(name for name in variant.request_names(request) if REQUESTS[name].file in kinds)
    fields = (field for layout in layouts(variant, request, kinds) for field in layout.fields())
    return names, tuple(field.offset for field in fields if field.role == role)


@lru_cache(maxsize=256)
def name_of(variant: Variant, file: str, request: int) -> str:
    """The name that a request has on a file of this kind, in this version; where it has none, its number, and its name in 7.2."""
    names = _known(variant, file, request)[0]
    own = min(names) if names else variant.request_name(request)
    return (
        own
        if variant.request_names(request)
        else own + "".join(f" ({each} in 7.2)" for each in V72.request_names(request))
    )


def makes_descriptors(variant: Variant, file: str, request: int) -> bool:
    """May a request answer with a new descriptor?"""
    return not _MAKERS.isdisjoint(_known(variant, file, request)[0])


def descriptors_in(variant: Variant, file: str, request: int, memory: ProgramMemory, at: int) -> Iterator[int]:
    """The descriptors that a request names, whose argument is at an address. Raises OSError where that cannot be read."""
    names, offsets = _known(variant, file, request)
    for offset in offsets:
        yield from _numbers(memory, at + offset, 1)
    if "VFIO_GROUP_SET_CONTAINER" in names:
        yield from _numbers(memory, at, 1)
    elif "VFIO_DEVICE_SET_IRQS" in names:
        _, flags, _, _, count = struct.unpack("<5I", memory.read(at, 20))
        if flags & _DATA_EVENTFD:
            yield from _numbers(memory, at + 20, count)
    elif "VFIO_DEVICE_PCI_HOT_RESET" in names:
        yield from _numbers(memory, at + 12, struct.unpack("<8xI", memory.read(at, 12))[0])
    elif "KVM_SET_DEVICE_ATTR" in names:
        yield from _numbers(memory, struct.unpack("<16xQ", memory.read(at, 24))[0], 1)


def made_by(variant: Variant, file: str, request: int, memory: ProgramMemory, at: int) -> Iterator[int]:
    """The descriptors that the kernel has written into the argument of a request. Raises OSError."""
    for offset in _known(variant, file, request, "fd_out")[1]:
        yield from _numbers(memory, at + offset, 1)


def renumbered(
    variant: Variant, file: str, request: int, memory: ProgramMemory, at: int, number: int, real: int
) -> None:
    """Tell the real number of a descriptor where the kernel has written another one. Raises OSError."""
    for offset in _known(variant, file, request, "fd_out")[1]:
        if _numbers(memory, at + offset, 1) == (number,):
            memory.write(at + offset, struct.pack("<i", real))


def _numbers(memory: ProgramMemory, at: int, count: int) -> tuple[int, ...]:
    count = min(count, _MOST)
    return struct.unpack(f"<{count}i", memory.read(at, 4 * count)) if count else ()
