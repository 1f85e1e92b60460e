"""How a drill tells what has happened."""

from __future__ import annotations

from html import escape

from ...lab import Session
from ...lab.outcome import Done
from ...lab.session import LessonCall
from ...lab.style import words
from ...trace import Trace


def code(text: str) -> str:
    """A piece of code in a sentence."""
    return f"<code>{escape(text, quote=False)}</code>"


def describe(session: Session, last_is_open: bool = True) -> str:
    """The calls up to now, with what they returned; of the last one only the call, if that is what is asked for."""
    answered = session.done[:-1] if last_is_open else session.done
    lines = [f"<li>{_call(done)} → {escape(done.outcome.result)}</li>" for done in answered]
    if last_is_open:
        lines.append(f"<li>{_call(session.done[-1])} → <b>?</b></li>")
    bound = any(map(_fields, session.done))
    memory = (
        "A struct lies at the very end of the program's memory: nothing behind it can be read. "
        if bound and last_is_open
        else ""
    )
    return f"A program on a fresh machine does this, and nothing else. {memory}<ol>{''.join(lines)}</ol>"


def _call(done: Done) -> str:
    """The call; of a BIND with its struct."""
    shown, fields = done.outcome.call, _fields(done)
    return code(f"{shown[:-1]}, {fields})" if fields else shown)


def _fields(done: Done) -> str:
    fields = done.event.fields if isinstance(done.event, LessonCall) else {}
    return ", ".join(f"{name}={value}" for name, value in fields.items())


def as_text(html: str) -> str:
    """A piece of HTML as lines of text."""
    for tag in ("</p>", "</li>", "</tr>", "</table>", "<ol>", "</ol>", "<ul>"):
        html = html.replace(tag, "\n")
    html = html.replace("<li>", "- ").replace("</td><td>", " | ").replace("</th><th>", " | ")
    return "\n".join(line for line in map(words, html.splitlines()) if line)


def decisive(trace: Trace) -> int:
    """The step (counted from 1) that refused; the last one if none did."""
    return next((step.index + 1 for step in trace if step.refused), len(trace))


def held_by(holder: str, reason: str, n: int) -> str:
    """Who holds `n` references, and what with, in words."""
    table, _, process = holder.partition(" ")
    if table == "fds":
        return f"{n} for {'descriptor' if n == 1 else 'descriptors'} {reason.removeprefix('fd ')} of {process}"
    return f"{n} for {holder}: {reason}"
