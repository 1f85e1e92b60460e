"""How a drill tells what has happened."""

from __future__ import annotations

from html import escape

from ...lab import Session
from ...lab.session import Action
from ...lab.style import words
from ...trace import Trace


def code(text: str) -> str:
    """A piece of code in a sentence."""
    return f"<code>{escape(text, quote=False)}</code>"


def told(session: Session, last_is_open: bool = True) -> str:
    """The calls up to now, with what they returned; of the last one only the call, if that is what is asked for."""
    done = session.actions[:-1] if last_is_open else session.actions
    lines = [f"<li>{_call(action)} → {escape(action.outcome.result)}</li>" for action in done]
    if last_is_open:
        lines.append(f"<li>{_call(session.actions[-1])} → <b>?</b></li>")
    bound = any(action.fields for action in session.actions)
    memory = (
        "A struct lies at the very end of the program's memory: nothing behind it can be read. "
        if bound and last_is_open
        else ""
    )
    return f"A program on a fresh machine does this, and nothing else. {memory}<ol>{''.join(lines)}</ol>"


def _call(action: Action) -> str:
    """The call; of a BIND with its struct."""
    shown = action.outcome.call
    return code(f"{shown[:-1]}, {action.fields})" if action.fields else shown)


def as_text(html: str) -> str:
    """A piece of HTML as lines of text."""
    for tag in ("</p>", "</li>", "</tr>", "</table>", "<ol>", "</ol>", "<ul>"):
        html = html.replace(tag, "\n")
    html = html.replace("<li>", "- ").replace("</td><td>", " | ").replace("</th><th>", " | ")
    return "\n".join(line for line in map(words, html.splitlines()) if line)


def decisive(trace: Trace) -> int:
    """The step (counted from 1) that refused; the last one if none did."""
    return next((step.index + 1 for step in trace if step.refused), len(trace))
