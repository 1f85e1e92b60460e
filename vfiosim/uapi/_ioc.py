"""How Linux builds the number of an ioctl request.

A request number has four parts: two bits for the direction, 14 bits for the size of the argument, eight for the
subsystem ("type") and eight for the command. VFIO and iommufd leave direction and size at zero on purpose: their
structs carry their own size and may grow without a new number. KVM puts both in.

The direction is seen from the caller: `_IOW` passes a struct to the kernel, `_IOR` gets one from it.
"""

import ctypes

_COMMAND_BITS, _TYPE_BITS, _SIZE_BITS = 8, 8, 14
_TYPE_SHIFT = _COMMAND_BITS
_SIZE_SHIFT = _TYPE_SHIFT + _TYPE_BITS
_DIRECTION_SHIFT = _SIZE_SHIFT + _SIZE_BITS
_NONE, _WRITE, _READ = 0, 1, 2

Data = type[ctypes.Structure]


def _number(direction: int, kind: int, command: int, size: int) -> int:
    return direction << _DIRECTION_SHIFT | size << _SIZE_SHIFT | kind << _TYPE_SHIFT | command


def _IO(kind: int, command: int) -> int:
    """The number of a request that says nothing about its argument."""
    return _number(_NONE, kind, command, 0)


def _IOR(kind: int, command: int, data: Data) -> int:
    """The number of a request that fills in a struct for the caller."""
    return _number(_READ, kind, command, ctypes.sizeof(data))


def _IOW(kind: int, command: int, data: Data) -> int:
    """The number of a request that takes a struct from the caller."""
    return _number(_WRITE, kind, command, ctypes.sizeof(data))


def _IOWR(kind: int, command: int, data: Data) -> int:
    """The number of a request that takes a struct and writes it back."""
    return _number(_READ | _WRITE, kind, command, ctypes.sizeof(data))
