"""The byte fuzzer: a great many calls, most of them wrong, and what no call may ever do.

`corpus` is what recordings teach about good calls, `programs` makes bad ones of them, `memory` watches what the kernel writes,
`run` plays a program on a machine and checks it, `command` is the command line.
"""

from .command import main
from .run import FuzzFailure, FuzzTotals, fuzz

__all__ = ["FuzzFailure", "FuzzTotals", "fuzz", "main"]
