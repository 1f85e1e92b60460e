"""A step, and an effect, as the player of a page is told of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from string import digits
from typing import Any

from ..trace import MicroStep, Step, Trace
from .sources import Sources
from .story import known_story

Data = dict[str, Any]


def with_names(trace: Trace) -> Callable[[str], str]:
    """Makes of a text one in which each thread is called as in the picture."""
    named = known_story(trace).lanes
    if not named:
        return lambda text: text
    # Of the calls of a program only the number is different.
    stems = sorted({name.rstrip(digits) for name in named}, key=len, reverse=True)
    threads = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, stems))})\d*(?![\w#])")
    return lambda text: threads.sub(lambda found: named.get(found[0], found[0]), text)


def step_data(step: Step, frame: int, sources: Sources, by_name: Callable[[str], str]) -> Data:
    return {
        "frame": frame,
        "phase": step.phase,
        "sentence": by_name(step.sentence),
        "thread": by_name(step.thread),
        "refused": step.refused,
        "waits": step.waits,
        "place": sources.number(step),
        "changes": [by_name(str(change)) for change in step.changes],
    }


def effect_data(micro: MicroStep, sources: Sources, by_name: Callable[[str], str]) -> Data:
    changes = [by_name(str(edit)) for edit in micro.edits]
    return {"text": by_name(micro.text), "place": sources.number(micro), "changes": changes}
