"""Where a running call stands: its code with the line that runs next, the kernel function that it mirrors, its next effect."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ...engine.operations import Place
from ...engine.source import Cursor
from ...explore.touches import name_of
from ...machine import Call
from ...trace.recorder import place_of
from ...trace.state import Place as Line
from ...views.sources import function_text
from ..held_resources import about_to
from ..rehearsal import Rehearsal

BEFORE, AFTER = 4, 6  # lines of code around the one that runs next
NEAR = range(-1, 4)  # those of them that are shown where a screen is low


@dataclass(frozen=True)
class CodeLine:
    """A line of code; `here`: it would run next; `shares`: what it touches that another thread touches, too.

    `out`: it asks for a protection that is taken out of the kernel.
    """

    number: int
    text: str
    here: bool
    shares: tuple[str, ...] = ()
    out: bool = False


@dataclass(frozen=True)
class Standing:
    """A running call, as it stands.

    `next` is its next effect in words, "" where it `waits` for something; `place` the line that runs next, with the kernel's
    function; `callers` the functions that it is in, outermost first; `code` that function around the line, `cut` where more of it
    comes before.
    """

    thread: str
    next: str
    waits: str
    place: Line
    callers: tuple[str, ...]
    code: tuple[CodeLine, ...]
    cut: bool


def standing(call: Call, rehearsal: Rehearsal) -> Standing:
    """Where a running call stands. One that has not begun stands where the rehearsal has seen it enter the kernel."""
    thread = call.thread
    waits = call.waits_for
    if thread.code is not None and call.begun:
        place, callers = place_of(thread), _callers(thread.cursor)
    else:
        place, callers = rehearsal.begins.get(thread.label) or Line(), ()
    code, cut = _around(place, rehearsal.lines, call.process.machine.taken_out.names)
    next_effect = "" if waits else about_to(call.process.machine.engine, thread)
    return Standing(thread.prefix or thread.label, next_effect, waits, place, callers, code, cut)


def _callers(cursor: Cursor) -> tuple[str, ...]:
    cursor.place()
    names = [frame.cr_code.co_name for frame in cursor.stack]
    return tuple(name for name in names[:-1] if name not in ("system_call", *names[-1:]))


def _around(
    place: Line, lines: Mapping[tuple[str, int], tuple[Place, ...]], out: Collection[str]
) -> tuple[tuple[CodeLine, ...], bool]:
    """The function around a line, so many lines of it that they fit beside another one's; does more come before them?"""
    if not place.file:
        return (), False
    first, text = function_text(place.file, place.line, place.function, place.source)
    whole, at = text.splitlines(), place.line - first
    begin = max(0, min(at - BEFORE, len(whole) - BEFORE - AFTER - 1))
    shown = textwrap.dedent("\n".join(whole[begin : begin + BEFORE + AFTER + 1])).split("\n")
    names = "|".join(re.escape(name.rpartition(".")[2]) for name in out)
    asks = re.compile(rf"async with .*\b({names})\b|\"({names})\"" if names else "(?!)")
    code = (
        CodeLine(
            number,
            line,
            number == place.line,
            tuple(map(name_of, lines.get((place.file, number), ()))),
            asks.search(line) is not None,
        )
        for number, line in enumerate(shown, first + begin)
    )
    return tuple(code), begin > 0
