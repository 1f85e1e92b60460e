"""The lanes of a trace: for each thread which locks it holds over the steps, and for whom it waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..trace import State, Trace
from .story import known_story

Bar = tuple[str, str, str]  # lane, "holds" or "waits", what is held; or what is waited for, and who has it


def lanes_data(trace: Trace, states: Iterable[State]) -> dict[str, Any]:
    """Names of the lanes, the lane of each step, and bars: lane, sort, first step, the step after its last one, text, level.

    `states` are those of the trace.

    A bar says what is true after each of its steps. Bars of one lane that overlap have different levels, counted from 0.
    """
    named = known_story(trace).lanes
    names = list(dict.fromkeys(named.get(step.thread, step.thread) for step in trace))
    open_bars: dict[Bar, int] = {}
    bars: list[tuple[Bar, int, int]] = []
    for number, state in enumerate(states):
        now = dict.fromkeys(_bars(state, named))
        bars += [(bar, open_bars.pop(bar), number) for bar in [*open_bars] if bar not in now]
        open_bars.update({bar: number for bar in now if bar not in open_bars})
    bars += [(bar, first, len(trace) + 1) for bar, first in open_bars.items()]
    names += [lane for (lane, *_), _, _ in bars if lane not in names]
    names = list(dict.fromkeys(names))
    return {
        "names": names,
        "steps": [names.index(named.get(step.thread, step.thread)) for step in trace],
        "bars": list(_levelled(sorted(bars, key=lambda bar: bar[1]), names)),
    }


def _bars(state: State, named: dict[str, str]) -> Iterator[Bar]:
    for thing in state.objects.values():
        for lock, holder in thing.locks.items() if thing.locks else ():
            if holder is not None:
                yield named.get(holder, holder), "holds", f"{thing.oid}.{lock}"
    for waiting in state.waiting():
        own = f"thread {waiting.thread}"
        holders = tuple(who if who == own else named.get(who.removeprefix("thread "), who) for who in waiting.holders)
        told = str(waiting._replace(holders=holders)).removeprefix(f"{waiting.thread} waits for ")
        yield named.get(waiting.thread, waiting.thread), "waits", told


def _levelled(bars: list[tuple[Bar, int, int]], names: list[str]) -> Iterator[list[Any]]:
    free: dict[str, list[int]] = {}  # by lane, for each level the step from which on it is free
    for (lane, sort, text), first, end in bars:
        levels = free.setdefault(lane, [])
        level = next((number for number, since in enumerate(levels) if since <= first), len(levels))
        levels[level:] = [end, *levels[level + 1 :]]
        yield [names.index(lane), sort, first, end, text, level]
