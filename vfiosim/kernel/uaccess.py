"""Copying from user memory by the rules for structures that grow (include/linux/uaccess.h, v7.2)."""

from __future__ import annotations

from ctypes import sizeof
from typing import TypeVar

from ..engine import *
from ..uapi import Errno, Struct

S = TypeVar("S", bound=Struct)
_SCAN = 4096  # bytes of a tail that are looked at in one effect
_STRING = 64  # bytes of a string


@kernel("lib/usercopy.c")
async def check_zeroed_user(address: int, size: int) -> None:
    """Refuse unless `size` bytes at `address` are readable and zero; whichever is wrong first, upwards, is what is said."""
    end = address + size
    while address < end:
        step = min(end, (address // _SCAN + 1) * _SCAN) - address
        chunk = await copy_some_from_user(address, step)
        await refuse_if(any(chunk), Errno.E2BIG, "tail_is_zero", "bytes that this kernel does not know must be zero")
        address += len(chunk)


@kernel("include/linux/uaccess.h")
async def copy_struct_from_user(kind: type[S], address: int, user_size: int) -> S:
    """Copy a structure whose size, by the caller, is `user_size` bytes.

    Larger than known: the unknown tail must be zero (E2BIG). Smaller: the missing end reads as zero. EFAULT if unreadable.
    """
    size = sizeof(kind)
    if user_size > size:
        await check_zeroed_user(address + size, user_size - size)
    data = await copy_from_user(address, min(size, user_size))
    return kind.from_buffer_copy(data.ljust(size, b"\0"))


async def check_argument(argsz: int, least: int, unknown: int) -> None:
    """EINVAL for too small an argument, or flags that there are not."""
    await refuse_if(argsz < least, Errno.EINVAL, "argsz_minimum", f"argsz is {argsz}, and must be at least {least}")
    await refuse_if(unknown != 0, Errno.EINVAL, "flags_known", f"the flags {unknown:#x} are not known")


@kernel("mm/util.c")
async def strndup_user(address: int, limit: int) -> bytes:
    """Copy a string that ends with a zero byte. EFAULT if it cannot be read to its end, EINVAL if it is too long.

    Its length, the end included, may be `limit` bytes at most.
    """
    text = b""
    while b"\0" not in text and len(text) < limit:
        start = address + len(text)
        step = min(_STRING, _SCAN - start % _SCAN, limit - len(text))
        text += await copy_some_from_user(start, step)  # its end may come before what cannot be read
    await refuse_if(b"\0" not in text, Errno.EINVAL, "string_ends", f"the string has more than {limit - 1} bytes")
    return text[: text.index(b"\0")]


@kernel("arch/x86/include/asm/uaccess.h")
async def get_user_u32(address: int) -> int:
    """Read an unsigned 32-bit number (`get_user`)."""
    return int.from_bytes(await copy_from_user(address, 4), "little")
