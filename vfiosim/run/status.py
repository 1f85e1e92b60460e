"""What stat(2) and statx(2) write into the memory of a program."""

from __future__ import annotations

import os
import struct
from typing import Final

from .filter import Abi

_BASIC: Final = 0x7FF  # STATX_BASIC_STATS
_STATX: Final = struct.Struct("<IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIII112x")


def stat_bytes(of: Abi, status: os.stat_result) -> bytes:
    """`struct stat`."""
    return struct.pack(of.stat, *(int(getattr(status, f"st_{name}", 0) or 0) for name in of.stat_order))


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
