"""What the checks of a trace looked at, the cells that a thread read before it decided; and what is wrong at a step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..trace import MicroStep, Trace
from .facts import touched
from .story import lanes

READS = frozenset({"load", "load_acquire", "load_count", "xa_load", "read_once"})
CHECKS = ("refuse_if", "require")
_READ = re.compile(r"\w+ (?P<oid>\S+ .+?)\.(?P<cell>\w+)(?:\[[^]]*\])?(?: → (?P<found>.+))?")


class CellRead(NamedTuple):
    """A cell was read by the effect of this place in the trace; `found` is what was in it."""

    place: int
    oid: str
    cell: str
    found: str


def looks(trace: Trace) -> list[CellRead]:
    """All reads of a trace."""
    found = []
    for place, micro in enumerate(trace.micro):
        if micro.operation in READS and (read := _READ.fullmatch(micro.text)):
            found.append(CellRead(place, read["oid"], read["cell"], read["found"] or ""))
    return found


def checked(trace: Trace, seen: Iterable[CellRead], refused: bool = False) -> list[CellRead]:
    """Those of its reads on which the checks of a trace rest; with `refused` those checks only that refused."""
    return list(dict.fromkeys(look for some in grounds(trace, seen, refused).values() for look in some))


def grounds(trace: Trace, seen: Iterable[CellRead], refused: bool = False) -> dict[int, list[CellRead]]:
    """The same by the place of the check."""
    known = {look.place: look for look in seen}
    checks = [place for place, micro in enumerate(trace.micro) if micro.operation in CHECKS]
    return {
        place: [known[at] for at in _before(trace.micro, place) if at in known]
        for place in checks
        if trace.micro[place].refused or not refused
    }


def refused(trace: Trace, seen: Iterable[CellRead]) -> set[str]:
    """The objects that were looked at for a check that refused, and those that were found there."""
    rest = checked(trace, seen, refused=True)
    return {look.oid for look in rest} | {look.found for look in rest if " " in look.found}


def _before(micros: tuple[MicroStep, ...], place: int) -> list[int]:
    """Where the thread read for the check at this place: since it last did anything else than to read and to check."""
    found = []
    for at in range(place - 1, -1, -1):
        if micros[at].thread == micros[place].thread:
            if micros[at].operation in READS:
                found.append(at)
            elif micros[at].operation not in CHECKS:
                break
    return found


def harmed(trace: Trace) -> list[tuple[str, ...]]:
    """By step, the paths of the cells that contradict each other then, or of the freed memory that it touches, and who crashes."""
    lane = lanes(trace)
    base = trace.micro[0].index if trace.micro else 0
    micros = (trace.micro[step.first - base : step.last - base + 1] for step in trace)
    return [
        (
            *step.harmed,
            *filter(None, (touched(micro) for micro in some)),
            *([f"thread {lane.get(step.thread, step.thread)}."] if step.refused == "oops" else ()),
        )
        for step, some in zip(trace, micros, strict=True)
    ]
