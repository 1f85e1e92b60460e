"""What a student holds: machines, programs on them, and what was done, to be done again and written down."""

from __future__ import annotations

from .as_code import program_of
from .call import Blocked, Call
from .events import Patches
from .machine import Machine
from .memory import Memory
from .process import Process
from .sharing import OLDER, PREFIX, decode_as, encode

__all__ = [
    "OLDER",
    "PREFIX",
    "Blocked",
    "Call",
    "Machine",
    "Memory",
    "Patches",
    "Process",
    "decode",
    "encode",
    "program_of",
]


def decode(text: str, patches: Patches | None = None) -> tuple[Machine, int | None]:
    """The machine that a text tells of, with everything done; and the step to look at, None if the text names none.

    A step can be written behind the text: "vfiosim4:…@7". `patches` are the functions that took the place of kernel functions
    in that run, by name. Raises ValueError, in one sentence, for a text that is damaged, from elsewhere, or does not repeat.
    """
    return decode_as(Machine, text, patches or {})
