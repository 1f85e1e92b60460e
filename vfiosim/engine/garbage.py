"""Python's search for garbage, put off while hundreds of machines are kept: otherwise it is up to a third of the work."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = (20_000, 20, 100)  # see `gc.set_threshold`
_OPEN: list[
    tuple[int, int, int]
] = []  # how it was when each of the blocks that are open began, whatever thread it is in


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Within the block Python looks for garbage less often; with the last such block it is as it was before the first.

    What somebody has made rarer already, or has switched off, stays so.
    """
    _OPEN.append(gc.get_threshold())
    if 0 < _OPEN[0][0] < SELDOM[0]:
        gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        first = _OPEN[0]
        _OPEN.pop()
        if not _OPEN:
            gc.set_threshold(*first)
