"""Numbers that are written into files of /sys (lib/kstrtox.c, lib/vsprintf.c, v7.2)."""

from __future__ import annotations

import re
from typing import Final

from ..engine import *
from ..uapi import Errno

ULONG_MAX: Final = (1 << 64) - 1
_HEX: Final = re.compile(r"[ \t-\r]*(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]+)")


@kernel("include/linux/kstrtox.h")
async def kstrtoul(text: str, most: int = ULONG_MAX) -> int:
    """The number that a text is, from 0 to `most`: "12", "+12", "0xc", "014", and one newline behind it; no blank. EINVAL.

    The kernel tells a number that is too large by ERANGE, but nobody here passes that on.
    """
    number = parse_number(text)
    fits = number if number is not None and number <= most else None
    return await require(fits, Errno.EINVAL, "number_is_good", "this is no number that the file takes")


@kernel("lib/kstrtox.c")
async def kstrtobool(text: str) -> bool:
    """Yes or no, as the first letter says, or the second behind an "o": "1", "y", "t", "on", and their opposites. EINVAL."""
    word = text.lower()[:2]
    yes = word[:1] in ("1", "y", "t") or word == "on"
    known = yes or word[:1] in ("0", "n", "f") or word == "of"
    await refuse_if(not known or not word, Errno.EINVAL, "truth_is_told", "this says neither yes nor no")
    return yes


def parse_number(text: str) -> int | None:
    """The same without the limit; None for what is no number (`kstrtoull` with base 0)."""
    digits = text.removeprefix("+").removesuffix("\n").lower()
    base = 16 if re.match("0x[0-9a-f]", digits) else 8 if digits.startswith("0") else 10
    known = {16: "0x[0-9a-f]+", 8: "[0-7]+", 10: "[0-9]+"}[base]
    return int(digits, base) if re.fullmatch(known, digits, re.ASCII) else None


def scan_hex(text: str, most: int) -> tuple[int, ...]:
    """Up to `most` hexadecimal numbers at the beginning of a text, with or without blanks between (`sscanf`, "%x %x")."""
    numbers: list[int] = []
    place = 0
    while len(numbers) < most and (found := _HEX.match(text, place)):
        numbers.append(int(found[1], 16) & 0xFFFFFFFF)
        place = found.end()
    return tuple(numbers)
