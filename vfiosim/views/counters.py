"""Every count that changes in a trace: as numbers over the steps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeAlias

from ..trace import State, Trace
from .graph import fits

Values: TypeAlias = "list[tuple[int, int | None]]"  # a step, and the value after it; None while the object is not there

COUNTS = ("count", "cnt", "users")  # how the names of plain numbers end that are counts


def counts_over(trace: Trace, hide: Collection[str] = ()) -> dict[str, Values]:
    """By its path, each count that changes in the trace, with the steps (0 is the start) where it does.

    A count of what is not there yet is none: an object that is born with one reference changes it.
    """
    found: dict[str, Values] = {}
    touched = {edit.oid for micro in trace.micro for edit in micro.edits}
    for number, state in enumerate(trace.states()):
        there = dict(_counts(state, touched))
        for path in {**found, **there}:
            values = found.setdefault(path, [] if number == 0 else [(0, None)])
            if not values or values[-1][1] != there.get(path):
                values.append((number, there.get(path)))
    return {
        path: values
        for path, values in found.items()
        if len({value or 0 for _, value in values}) > 1 and not fits(path.rpartition(".")[0], hide)
    }


def _counts(state: State, touched: Collection[str]) -> Iterator[tuple[str, int]]:
    """The counts of these objects by their paths; a plain number is one too where it is called so (`open_count`, `owner_cnt`)."""
    for thing in (thing for oid, thing in state.objects.items() if oid in touched):
        yield from ((f"{thing.oid}.{counter}", thing.total(counter)) for counter in thing.counts)
        for name, value in thing.fields.items():
            if type(value) is int and name.endswith(COUNTS):
                yield f"{thing.oid}.{name}", value
