"""What stat(2) and statx(2) write into the memory of a program."""

from __future__ import annotations

import os
import struct
from typing import Final

from .filter import Abi

_BASIC: Final = 0x7FF  # STATX_BASIC_STATS
_STATX: Final = struct.Struct("<IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIII112x")

STATX_SIZE: Final = _STATX.size


def stat_bytes(of: Abi, status: os.stat_result) -> bytes:
    """`struct stat`."""
    return struct.pack(of.stat, *(int(getattr(status, f"st_{name}", 0) or 0) for name in of.stat_order))


def of_node(of: Abi, name: str, told: bytes, inode: int, mode: int, rdev: int) -> bytes:
    """What the call of this name has told of a plain file, as it tells of a node."""
    if name == "statx":
        start, end = (
            told[:28],
            told[48:128],
        )  # stx_mode, stx_ino and stx_size are between, stx_rdev_major and _minor after
        return start + struct.pack("<HxxQQ", mode, inode, 0) + end + struct.pack("<II", os.major(rdev), os.minor(rdev))
    told_of = dict(zip(of.stat_order, struct.unpack(of.stat, told), strict=True))
    told_of |= {"mode": mode, "ino": inode, "size": 0, "rdev": rdev}
    return struct.pack(of.stat, *(told_of[each] for each in of.stat_order))


def statx_bytes(status: os.stat_result) -> bytes:
    """`struct statx`."""
    times = [(int(moment), 0) for moment in (status.st_atime, 0, status.st_ctime, status.st_mtime)]
    return _STATX.pack(
        _BASIC,
        status.st_blksize or 4096,
        0,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_mode,
        status.st_ino,
        status.st_size,
        status.st_blocks or 0,
        0,
        *(part for moment in times for part in moment),
        os.major(status.st_rdev or 0),
        os.minor(status.st_rdev or 0),
        os.major(status.st_dev),
        os.minor(status.st_dev),
    )
