"""Every count that changes in a trace: as numbers over the steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

from ..trace import ObjectState, State, Trace
from .graph import fits

Values: TypeAlias = "list[tuple[int, int | None]]"  # a step, and the value after it; None while the object is not there

COUNTS = ("count", "cnt", "users")  # how the names of plain numbers end that are counts


def counts_over(trace: Trace, states: Iterable[State], hide: Collection[str] = ()) -> dict[str, Values]:
    """By its path, each count that changes in the trace, with the steps (0 is the start) where it does; `states` are its states.

    A count of what is not there yet is none: an object that is born with one reference changes it.
    """
    found: dict[str, Values] = {}
    known: dict[str, dict[str, int]] = {}
    touched = {edit.oid for micro in trace.micro for edit in micro.edits}
    for number, state in enumerate(states):
        if number:
            asked = dict.fromkeys(edit.oid for micro in trace.micro_of(number - 1) for edit in micro.edits)
        else:
            asked = dict.fromkeys(oid for oid in state.objects if oid in touched)
        for oid in asked:
            now = dict(_counts(state.objects[oid])) if oid in state.objects else {}
            for path in {**known.get(oid, {}), **now}:
                values, value = found.setdefault(path, [(0, None)] if number else []), now.get(path)
                if not values or values[-1][1] != value:
                    values.append((number, value))
            known[oid] = now
    return {
        path: values
        for path, values in found.items()
        if len({value or 0 for _, value in values}) > 1 and not fits(path.rpartition(".")[0], hide)
    }


def _counts(thing: ObjectState) -> Iterator[tuple[str, int]]:
    """The counts of an object by their paths; a plain number is one too where it is called so (`open_count`, `owner_cnt`)."""
    yield from ((f"{thing.oid}.{counter}", thing.total(counter)) for counter in thing.counts)
    for name, value in thing.fields.items():
        if type(value) is int and name.endswith(COUNTS):
            yield f"{thing.oid}.{name}", value
