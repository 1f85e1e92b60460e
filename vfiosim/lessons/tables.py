"""Tables and other pieces of HTML that a lesson shows in large letters, and that are text in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..lab.style import words

SHORT = 8  # letters of a title that is not broken into lines


class Code(str):
    """A cell that is code."""


class Shown:
    """A piece of HTML that is text in a terminal."""

    def __init__(self, html: str) -> None:
        self._html = html

    def __repr__(self) -> str:
        return words(self._html)

    def _repr_html_(self) -> str:
        return self._html


def table(head: Sequence[str], lines: Sequence[Sequence[str]], loud: Sequence[str] = (), letters: int = 16) -> Shown:
    """A table; cells that begin with one of `loud` stand out. `letters` is their height in pixels."""
    stands_out = ";background:#d9820055;font-weight:600"
    cell = f"padding:{letters // 3}px {letters // 2}px;border:1px solid #8886;text-align:left"
    cell += f";line-height:1.25;font-size:{letters}px;overflow-wrap:normal;word-break:normal"  # no word is broken

    def title(words: str) -> str:
        whole = ";white-space:nowrap" if len(words) < SHORT else ""
        return f'<th style="{cell}{whole}">{escape(words)}</th>'

    rows = ["".join(map(title, head))]
    for line in lines:
        rest = (
            f'<td colspan="{len(head) - len(line) + 1 if last else 1}" '
            f'style="{cell}{stands_out if each.startswith((*loud,)) and loud else ""}">{_inner(each)}</td>'
            for last, each in zip([False] * (len(line) - 2) + [True], line[1:], strict=True)
        )
        rows.append(title(line[0]) + "".join(rest))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return Shown(f'<table style="border-collapse:collapse;margin:4px 0">{body}</table>')


def _inner(cell: str) -> str:
    return f'<code style="font-size:inherit">{escape(cell)}</code>' if isinstance(cell, Code) and cell else escape(cell)
