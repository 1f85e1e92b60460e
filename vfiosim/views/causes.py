"""What a check looked at before it refused: the reader is to see why, whatever else the picture leaves out."""

from __future__ import annotations

import re

from ..trace import MicroStep, Trace

READS = frozenset({"load", "load_acquire", "load_count", "peek", "read_once"})
_READ = re.compile(r"\w+ (?P<oid>\S+ .+?)\.(?P<cell>\w+)(?:\[[^]]*\])?(?: → (?P<found>.+))?")


def causes(trace: Trace) -> dict[str, set[str]]:
    """The objects that were looked at for a check that refused, each with the cells that were read, and what was found there."""
    seen: dict[str, set[str]] = {}
    for place, micro in enumerate(trace.micro):
        if micro.refused and micro.operation in ("refuse_if", "require"):
            for found in _before(trace.micro[:place], micro):
                seen.setdefault(found["oid"], set()).add(found["cell"])
                if found["found"] and " " in found["found"]:
                    seen.setdefault(found["found"], set())
    return seen


def _before(micros: tuple[MicroStep, ...], refused: MicroStep) -> list[re.Match[str]]:
    """What the thread read for this check: all since it did anything else than to read and to check."""
    reads = []
    for micro in reversed(micros):
        if micro.thread == refused.thread:
            if micro.operation in READS and (read := _READ.fullmatch(micro.text)):
                reads.append(read)
            elif micro.operation != "refuse_if":
                break
    return reads
