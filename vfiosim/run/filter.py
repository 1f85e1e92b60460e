"""Which system calls of a program are told to the supervisor: a filter for seccomp(2), and the numbers of the calls.

A filter sees numbers alone, neither paths nor files, so what is trapped and turns out to be none of ours is let through.
There are two ways, of which AUTO takes the first where it can:

* NAMESPACE: the program has a mount namespace of its own, in which /dev and /sys are those of the machine;
* REDIRECT: each path that it opens or asks about is looked at, which is slower and needs nothing more.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

AUTO, NAMESPACE, REDIRECT = WAYS = ("auto", "namespace", "redirect")
SHORT: Final = 128  # bytes; a write of more than that is no write into a file of /sys that anybody makes
_LOAD, _AND, _EQUAL, _AT_LEAST, _ABOVE, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x25, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_OTHER_ABI: Final = 0x40000000  # x32, whose calls have this bit
_TYPES: Final = (0x3B00, 0xAE00)  # of requests: ';' of VFIO and iommufd, and that of KVM
# No close is trapped: a signal that comes before the supervisor hears of it would end it with EINTR, and the file would stay open.
CLOSES: Final = frozenset(("close", "close_range", "dup2", "dup3"))
NAME_A_DESCRIPTOR: Final = frozenset((
    "ioctl", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "read", "readv", "lseek", "write", "writev",
    "mmap", "fstat",
))  # fmt: skip
# Where a program has /dev and /sys of its own, the files tell of opens, of what is read and written in order, and of stats.
IN_NAMESPACE: Final = NAME_A_DESCRIPTOR - {"read", "readv", "lseek", "write", "writev", "fstat"}
EMPTY: Final = frozenset(
    ("read", "write")
)  # there, too, if they are of no bytes: the host does not ask who serves a file of those
Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class Abi:
    """How programs of a processor call the kernel. `calls`: number to name; `stat`: how `struct stat` lies in memory."""

    arch: int
    seccomp: int  # the number of seccomp(2)
    calls: Mapping[int, str]
    stat: str
    stat_order: tuple[str, ...]


_TIMES: Final = ("atime", "_0", "mtime", "_0", "ctime", "_0")
_ABIS: Final = {
    "x86_64": Abi(
        0xC000003E,
        317,
        {
            16: "ioctl", 17: "pread64", 18: "pwrite64", 295: "preadv", 296: "pwritev", 327: "preadv2", 328: "pwritev2",
            0: "read", 19: "readv", 8: "lseek", 1: "write", 20: "writev", 9: "mmap",
            2: "open", 85: "creat", 257: "openat", 437: "openat2", 4: "stat", 6: "lstat",
            5: "fstat", 262: "newfstatat", 332: "statx", 21: "access", 269: "faccessat", 439: "faccessat2", 89: "readlink",
            267: "readlinkat", 191: "getxattr", 192: "lgetxattr", 194: "listxattr", 195: "llistxattr",
            425: "io_uring_setup", 3: "close", 436: "close_range", 33: "dup2", 292: "dup3",
        },
        "<QQQIIIiQqqqqqqqqq24x",
        ("dev", "ino", "nlink", "mode", "uid", "gid", "_0", "rdev", "size", "blksize", "blocks", *_TIMES),
    ),
    "aarch64": Abi(
        0xC00000B7,
        277,
        {
            29: "ioctl", 67: "pread64", 68: "pwrite64", 69: "preadv", 70: "pwritev", 286: "preadv2", 287: "pwritev2",
            63: "read", 65: "readv", 62: "lseek", 64: "write", 66: "writev", 222: "mmap",
            56: "openat", 437: "openat2", 80: "fstat", 79: "newfstatat", 291: "statx",
            48: "faccessat", 439: "faccessat2", 78: "readlinkat", 8: "getxattr", 9: "lgetxattr", 11: "listxattr", 12: "llistxattr",
            425: "io_uring_setup", 57: "close", 436: "close_range", 24: "dup3",
        },
        "<QQIIIIQQqiiqqqqqqq8x",
        ("dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "_0", "size", "blksize", "_0", "blocks", *_TIMES),
    ),
}  # fmt: skip


class CannotRun(RuntimeError):
    """Programs cannot be run here; one sentence says what is missing."""


def abi() -> Abi:
    """That of this computer. Raises CannotRun where it is not known."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _ABIS:
        raise CannotRun(
            f"programs run on Linux on {' and '.join(_ABIS)}, and this is {platform.system()} on {machine or '?'}"
        )
    return _ABIS[machine]


def program(of: Abi, names: Iterable[str], empty: Iterable[str] = ()) -> bytes:
    """The filter that tells of these calls, as far as their arguments may be about us, and lets all else be done at once.

    Of those in `empty` it tells if they are of no bytes.
    """
    numbers = {name: number for number, name in of.calls.items()}
    code: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, of.arch),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _OTHER_ABI),
        (_RETURN, 0, 0, _ALLOW),
    ]
    blocks = {name: _block(name) for name in names}
    blocks |= {
        name: [_argument(2), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)] for name in empty
    }
    for name, block in blocks.items():
        if name in numbers:
            code += [(_EQUAL, 0, len(block), numbers[name]), *block]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _block(name: str) -> list[Instruction]:
    """What is asked about the arguments of a call; its last line is reached when it is to be told."""
    allow, notify = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)
    if name == "ioctl":
        first, second = _TYPES
        return [_argument(1), (_AND, 0, 0, 0xFF00), (_EQUAL, 2, 0, first), (_EQUAL, 1, 0, second), allow, notify]
    if name in ("write", "writev"):  # bytes, or parts
        return [_argument(2), (_ABOVE, 0, 1, SHORT if name == "write" else 2), allow, notify]
    if name == "mmap":  # shared, and of a file
        none = 0xFFFFFFFF
        return [
            _argument(3),
            (_AND, 0, 0, 1),
            (_EQUAL, 1, 0, 1),
            allow,
            _argument(4),
            (_EQUAL, 0, 1, none),
            allow,
            notify,
        ]
    return [notify]


def _argument(number: int) -> Instruction:
    """Look at the lower half of an argument."""
    return (_LOAD, 0, 0, 16 + 8 * number)
