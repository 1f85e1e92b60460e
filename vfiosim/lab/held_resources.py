"""What a running call is about to do, and what a refused one had in its hands."""

from __future__ import annotations

import linecache
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..engine import Count, Engine, KObject, Micro, Request, Thread
from ..engine.checks import refuse_if
from ..engine.lifetime import alloc, hand_over
from ..engine.operations import FREED, GAVE, GAVE_REFERENCE, TOOK, TOOK_REFERENCE, Operation, declared
from ..engine.source import Line
from ..engine.thread import _begin
from ..trace.words import describe
from ..uapi import KernelError

HELD = {TOOK: 1, TOOK_REFERENCE: 1, GAVE: -1, GAVE_REFERENCE: -1}


@dataclass(frozen=True)
class HeldResources:
    """What a call held when it was refused, what of it was given back on the way out, and what is left."""

    had: tuple[str, ...] = ()
    back: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[str, ...]:
        """What it left behind."""
        return tuple((Counter(self.had) - Counter(self.back)).elements())


def held_resources(engine: Engine, thread: Thread) -> HeldResources:
    """Locks, references and new objects of a call that was refused, as its run shows them."""
    own = [Micro(*entry) for entry in engine.micro if entry[0] is thread]
    refusals = [number for number, micro in enumerate(own) if isinstance(micro.answer, KernelError)]
    same = [number for number in refusals if own[number].answer is thread.error]
    if not refusals:
        return HeldResources()
    refused = (same or refusals)[0 if same else -1]
    at_refusal, at_end = _held(own[:refused]), _held(own)
    return HeldResources(tuple(at_refusal.elements()), tuple((at_refusal - at_end).elements()))


def _held(micros: list[Micro]) -> Counter[str]:
    held: Counter[str] = Counter()
    for micro in micros:
        if isinstance(micro.answer, BaseException):
            continue
        for what, change in _changes(micro.request, micro.answer):
            held[what] += change
    return +held


def _changes(request: Request, answer: Any) -> list[tuple[str, int]]:
    known = declared(request)
    if known.does in HELD and (answer or not known.tries):
        return [(_held_thing(known, request), HELD[known.does])]
    if request[0] is hand_over:
        return [(_reference(request[1], *request[2]), -1), (_reference(request[1], *request[3]), 1)]
    if request[0] is alloc and isinstance(answer, KObject):
        return [(f"a new object, {answer.oid}", 1)]
    return [(f"a new object, {request[1].oid}", -1)] if known.does == FREED else []


def _held_thing(known: Operation, request: Request) -> str:
    return f"the lock {request[1].path}" if known.does in (TOOK, GAVE) else _reference(*request[1:])


def _reference(target: Count, holder: KObject, reason: str) -> str:
    return f"a reference to {target.owner.oid} for {holder.oid} ({reason})"


def about_to(engine: Engine, thread: Thread) -> str:
    """The next effect of a thread, in words."""
    request = engine.upcoming(thread)
    if request is None:
        return "has ended"
    known = declared(request)
    if request[0] is _begin:
        return "enter the kernel"
    if known.does in HELD:
        verb = "give back" if HELD[known.does] < 0 else "try to take" if known.does == TOOK and known.tries else "take"
        return f"{verb} {_held_thing(known, request)}"
    if request[0] is refuse_if:
        return f"check {request[3]}: it will {'refuse' if request[1] else 'pass'}"
    verb, _, rest = describe(request, None).removesuffix(" → None").partition(" ")
    return f"{verb.replace('_', ' ')} {rest}"


def text_of(line: Line) -> str:
    """A statement as it is written, on one line."""
    found = ""
    for number in range(line.number, line.number + 8):
        found += " " + linecache.getline(line.code.co_filename, number).strip()
        if found.count("(") <= found.count(")"):
            break
    return found.strip().replace("( ", "(").replace(" )", ")").replace(",)", ")")


def line_of_refusal(engine: Engine, thread: Thread) -> str:
    """The line of code whose check refused a call; "" if none did."""
    for entry in reversed(engine.micro):
        micro = Micro(*entry)
        if micro.thread is thread and micro.answer is thread.error:
            return text_of(micro.line)
    return ""
