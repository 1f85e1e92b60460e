"""Kernel functions as other versions have them, whole; by version, then by the name of the function whose place they take.

What a version leaves out, and what is assumed, is said in `kernel/variants.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from . import v5, v5r, v66

POSTED: Final[Mapping[str, Mapping[str, Callable[..., Any]]]] = {
    "v6.6": v66.TABLE,
    "v5": v5.TABLE,
    "v5r": v5r.TABLE,
}
