"""A schedule as the turns of its threads: what each did that the others notice, what it holds then, and for whom it waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.operations import FREED
from ..trace import State
from .result import Witness, runs
from .touches import Touch, contested, touches


@dataclass(frozen=True)
class Turn:
    """One thread went on for so many `effects`.

    `touches` are those of places that another thread touches, too; `texts` all its effects in words; `stands` by thread what it
    holds and waits for at the end of the turn; `step` is the number of the last step of it, counted from 1.
    """

    thread: str
    effects: int
    touches: tuple[Touch, ...]
    texts: tuple[str, ...]
    stands: Mapping[str, tuple[str, ...]]
    step: int


def turns(witness: Witness) -> list[Turn]:
    """The turns of a schedule, in their order."""
    engine, trace = witness.machine.engine, witness.trace
    at = witness.before
    made = touches(engine, at)
    places = {*contested(made)}
    threads = {entry[0].label: entry[0].prefix for entry in engine.micro}
    found = []
    for thread, effects in runs(witness.schedule):
        begin, at = at, at + effects
        mine = tuple(
            touch
            for touch in made
            if begin <= touch.at < at and touch.place in places and (touch.place[1] or touch.verb == FREED)
        )
        texts = tuple(micro.text for micro in trace.micro if begin <= micro.index < at)
        step = sum(step.first < at for step in trace)
        found.append(Turn(thread, effects, mine, texts, _stands(trace.at_micro(at - 1), threads), step))
    return found


def _stands(state: State, threads: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """By thread, in whole words, what it holds and waits for."""
    said: dict[str, list[str]] = {}
    for thing in state.objects.values():
        for lock, holder in thing.locks.items():
            if holder is not None and threads.get(holder):
                said.setdefault(threads[holder], []).append(f"holds {thing.oid}.{lock}")
    for waiting in state.waiting():
        if threads.get(waiting.thread):
            by = [threads.get(who.removeprefix("thread "), who) for who in waiting.holders]
            told = f"waits for {waiting.path}" + (f", held by {', '.join(by)}" if by else "")
            said.setdefault(threads[waiting.thread], []).append(told)
    return {thread: tuple(some) for thread, some in said.items()}
