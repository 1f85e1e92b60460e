"""How Linux builds the number of an ioctl request, and what is known of a request beside its number.

A request number has four parts: two bits for the direction, 14 bits for the size of the argument, eight for the
subsystem ("type") and eight for the command. VFIO and iommufd leave direction and size at zero on purpose: their
structs carry their own size and may grow without a new number. KVM puts both in.

The direction is seen from the caller: `_IOW` passes a struct to the kernel.
"""

import ctypes
from typing import Literal

from ._struct import Struct

Argument = Literal["struct", "s32", "cstr", "int"]  # address of a struct, number or string; or a number itself
FileKind = Literal["container", "group", "device", "migration", "iommufd", "kvm", "vm", "kvm-device"]
Takes = type[Struct] | Literal["s32", "cstr", "int"] | None  # None: the argument is not used

_TYPE_SHIFT, _SIZE_SHIFT, _DIRECTION_SHIFT = 8, 16, 30
_NONE, _WRITE, _READ = 0, 1, 2


class Number(int):
    """The number of a request; `file` is the kind of file that knows it (None: no file of 7.2), `takes` its argument."""

    file: FileKind | None = None
    takes: Takes = None


def _number(direction: int, kind: int, command: int, file: FileKind | None, takes: Takes) -> int:
    size = ctypes.sizeof(takes) if isinstance(takes, type) and direction else 0
    made = Number(direction << _DIRECTION_SHIFT | size << _SIZE_SHIFT | kind << _TYPE_SHIFT | command)
    made.file, made.takes = file, takes
    return made


def _IO(kind: int, command: int, file: FileKind | None = None, takes: Takes = None) -> int:
    """The number of a request that says nothing about its argument."""
    return _number(_NONE, kind, command, file, takes)


def _IOW(kind: int, command: int, takes: type[Struct], file: FileKind) -> int:
    """The number of a request that takes a struct from the caller."""
    return _number(_WRITE, kind, command, file, takes)


def _IOWR(kind: int, command: int, takes: type[Struct], file: FileKind) -> int:
    """The number of a request that takes a struct and writes it back."""
    return _number(_READ | _WRITE, kind, command, file, takes)
