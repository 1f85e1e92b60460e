"""Calls as people read them; of a request the fields that it is given, and those that are other when the call has ended."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from .. import uapi
from ..kernel.variants import Variant
from ..machine.system_calls import REQUESTS_OF, layouts
from ..uapi import Member, Struct
from .memory import ProgramMemory

_MAP: Final = "IOMMU_IOAS_MAP_"
# By the kernel's name of a struct, how the names of its flags begin.
_FLAGS: Final = {
    "iommu_ioas_copy": _MAP,
    "iommu_ioas_map": _MAP,
    "iommu_ioas_map_file": _MAP,
    "vfio_device_bind_iommufd": "VFIO_DEVICE_BIND_FLAG_",
    "vfio_device_info": "VFIO_DEVICE_FLAGS_",
    "vfio_group_status": "VFIO_GROUP_FLAGS_",
    "vfio_iommu_type1_dma_map": "VFIO_DMA_MAP_FLAG_",
    "vfio_iommu_type1_dma_unmap": "VFIO_DMA_UNMAP_FLAG_",
    "vfio_region_info": "VFIO_REGION_INFO_FLAG_",
}
_TEST: Final = "IOMMU_TEST_OP_"  # how the names begin of what a test of iommufd does; its struct has a part for each
_OPEN: Final = {
    getattr(os, name): name
    for name in ("O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC")
    if hasattr(os, name)
}


@dataclass(frozen=True)
class ProgramCall:
    """A call that a program has made: by whom, what, how it ended, and what it has changed in its argument.

    `effects`: how many the machine had done when the call was told.
    """

    program: str
    shown: str
    result: Any = None
    errno: str = ""
    sentence: str = ""
    changed: str = ""
    effects: int = 0

    def __str__(self) -> str:
        end = f"-1 {self.errno} ({self.sentence})" if self.errno else str(self.result)
        return f"{self.program}: {self.shown} = {end} {self.changed}".rstrip()


class _Field(NamedTuple):
    """A number in a struct: where it lies there, and how it is written."""

    name: str
    start: int
    end: int
    signed: bool
    written: Callable[[int], str]


@dataclass
class Given:
    """What a request to a file of this kind is given: a struct at an address, or only a number."""

    variant: Variant
    file: str
    request: int
    memory: ProgramMemory
    at: int

    def __post_init__(self) -> None:
        self.before = self._fields()

    def _fields(self) -> dict[str, str] | None:
        """The fields that have a number; None where they cannot be read."""
        shape = _shape(self.variant, self.request, self.file)
        with suppress(OSError):
            return shape and _fields(self.variant, self.request, self.file, self.memory.read(self.at, shape[0]))
        return None

    def __str__(self) -> str:
        return f"{self.at:#x}" if self.before is None else _shown(self.before)

    def changed(self) -> str:
        """The fields that the kernel has written, in braces; "" if there are none."""
        before, after = self.before or {}, self._fields() or {}
        found = {name: after.get(name, "0") for name in before | after if after.get(name) != before.get(name)}
        return _shown(found) if found else ""


@lru_cache(maxsize=256)  # many requests are made again and again
def _fields(variant: Variant, request: int, file: str, data: bytes) -> dict[str, str]:
    """By name what there is room for, without what is 0 and a size that leaves some room."""
    size, sized, fields = _shape(variant, request, file) or (0, False, ())
    if fields[1].name == "op":
        operation = int.from_bytes(data[fields[1].start : fields[1].end], "little")
        fields = _of_operation(variant, request, file, operation)
    values = [int.from_bytes(data[each.start : each.end], "little", signed=each.signed) for each in fields]
    room = values[0] if sized else size
    found = {fields[0].name: str(room)} if room < fields[0].end else {}
    for each, number in zip(fields[sized:], values[sized:], strict=True):
        if number and each.end <= room:
            found[each.name] = each.written(number)
    return found


@lru_cache(maxsize=256)
def _shape(variant: Variant, request: int, file: str) -> tuple[int, bool, tuple[_Field, ...]] | None:
    """How large the struct of a request is, whether its first field is its size, and where its numbers lie."""
    for layout in layouts(variant, request, REQUESTS_OF.get(file, ())):
        numbers = [each for each in layout.fields() if each.kind == "int"] or [*layout.fields()]
        fields = tuple(
            _Field(each.name, start := each.offset, start + each.size, each.signed, _written(layout, each))
            for each in numbers
        )
        return ctypes.sizeof(layout), numbers[0].name in ("argsz", "size"), fields
    return None


@lru_cache(maxsize=256)
def _of_operation(variant: Variant, request: int, file: str, operation: int) -> tuple[_Field, ...]:
    """The numbers that an operation has; of the parts its own is the one whose words are in its name, the longest of them."""
    shape = _shape(variant, request, file)
    fields = () if shape is None else shape[2]
    names = {number: name for name, number in uapi.CONSTANTS.items() if name.startswith(_TEST)}
    words = set(names.get(operation, "").removeprefix(_TEST).lower().split("_"))
    parts = {each.name.partition(".")[0] for each in fields if "." in each.name}
    part = max((each for each in parts if words.issuperset(each.split("_"))), key=len, default="")
    return tuple(each for each in fields if "." not in each.name or each.name.partition(".")[0] == part)


def _written(layout: type[Struct], field: Member) -> Callable[[int], str]:
    prefix = _FLAGS.get(layout.kernel_name) if field.name == "flags" else None
    if prefix is not None:
        return partial(in_bits, dict(_bits(uapi.CONSTANTS, prefix)))
    return hex if field.size == 8 or "flags" in field.name else str


def _bits(constants: Mapping[str, int], prefix: str) -> Iterator[tuple[int, str]]:
    """The constants with one bit whose names begin so, without what they have in common."""
    for name, number in constants.items():
        if name.startswith(prefix) and number.bit_count() == 1:
            yield number, name.removeprefix(prefix)


def in_bits(names: Mapping[int, str], number: int) -> str:
    """A number as the names of its bits; what has none is hexadecimal."""
    named = [name for bit, name in names.items() if number & bit]
    rest = number & ~sum(names)
    return "|".join([*named, *([hex(rest)] if rest or not named else [])])


def open_flags(number: int) -> str:
    """How a file is opened, as C has it."""
    how = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[number & os.O_ACCMODE]
    return how if number < 4 else f"{how}|{in_bits(_OPEN, number & ~os.O_ACCMODE)}"


def _shown(fields: dict[str, str]) -> str:
    return f"{{{', '.join(f'{name}={value}' for name, value in fields.items())}}}"
