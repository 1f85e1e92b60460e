"""The ABI as recordings name it: constants, requests, and what a request takes."""

from __future__ import annotations

from typing import Final

from ..machine.system_calls import SYSTEM_CALLS
from ..uapi import CONSTANTS, FD_FIELDS_OUT, REQUESTS, STRUCTS

# What the C library's headers add to those of VFIO, iommufd and KVM; Linux on x86-64, whatever the host.
_FILES: Final = {
    "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_CREAT": 0o100, "O_EXCL": 0o200, "O_TRUNC": 0o1000, "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000, "O_DIRECTORY": 0o200000, "O_NOFOLLOW": 0o400000, "O_CLOEXEC": 0o2000000, "O_PATH": 0o10000000,
    "SEEK_SET": 0, "SEEK_CUR": 1, "SEEK_END": 2,
    "PROT_NONE": 0, "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4,
    "MAP_SHARED": 1, "MAP_PRIVATE": 2, "MAP_FIXED": 0x10, "MAP_ANONYMOUS": 0x20, "MAP_ANON": 0x20, "MAP_LOCKED": 0x2000,
    "MAP_NORESERVE": 0x4000, "MAP_POPULATE": 0x8000, "MAP_HUGETLB": 0x40000, "MAP_FIXED_NOREPLACE": 0x100000,
}  # fmt: skip
_FD_REQUESTS: Final = frozenset({"VFIO_GROUP_GET_DEVICE_FD", "KVM_CREATE_VM", "KVM_CREATE_VCPU"})
_FD_CALLS: Final = frozenset({"tmpfile", *(name for name, call in SYSTEM_CALLS.items() if call.returns_fd)})


def constant(name: str) -> int | None:
    """The value of a constant or the number of a request; None if there is none of this name."""
    if name in REQUESTS:
        return REQUESTS[name].number
    return CONSTANTS.get(name, _FILES.get(name))


def is_request(name: object) -> bool:
    """Is this the name of a request?"""
    return isinstance(name, str) and name in REQUESTS


def argument_kind(name: str) -> str | None:
    """What a request takes the address of: a struct by its name, "s32" or "cstr"; None for a plain number or nothing."""
    request = REQUESTS[name]
    if request.struct is not None:
        return request.struct.kernel_name
    return request.argument if request.argument in ("s32", "cstr") else None


def is_struct(kind: str | None) -> bool:
    """Is this the name of a struct, and not of something simpler?"""
    return kind in STRUCTS


def returns_fd(call: str, request: object) -> bool:
    """Does this call return a new file descriptor?"""
    return call in _FD_CALLS or (call == "ioctl" and request in _FD_REQUESTS)


def holds_new_fd(request: object, field: str) -> bool:
    """Does the kernel put a new file descriptor into this field of the request's struct?"""
    if not isinstance(request, str) or request not in REQUESTS:
        return False
    return f"{argument_kind(request)}.{field}" in FD_FIELDS_OUT
