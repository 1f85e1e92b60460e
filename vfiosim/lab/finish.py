"""The end of a notebook: what the reader can do now, what is still open, and what is next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from .record import progress
from .static_fallback import Telling
from .style import anchor, style, text


@dataclass(frozen=True)
class End:
    """The end of a lesson: the beginning of the names of its questions and tasks (`lesson`, "00"), and all their names;

    `called`: what the notebook calls some of them by, where the name under which an answer is kept is another one;

    `further`: the names of what stands behind the end, for another day;

    `can` are the things that the reader can do now, each in a sentence without its subject; `then` is the file of the notebook that
    is next, or "", and what it is about; "" where the page says it itself beside the end.
    """

    lesson: str
    names: Sequence[str]
    can: Sequence[str]
    then: tuple[str, str]
    called: Mapping[str, str] = field(default_factory=dict)
    further: Sequence[str] = ()


class Finish(Telling):
    """Shows the end of a lesson; it changes by itself with each answer that is given."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.shown = text("finish")
        super().__init__([style(), self.shown])
        progress.watch(self)
        self.look()

    @property
    def left(self) -> list[str]:
        """The questions and tasks that have not been answered rightly yet, by what the notebook calls them."""
        return [self._called(name) for name in self._open(self.end.names)]

    def _open(self, names: Sequence[str]) -> list[str]:
        known = progress.answers
        return [name for name in names if not (name in known and known[name].right)]

    def _called(self, name: str) -> str:
        return self.end.called.get(name, name.removeprefix(f"{self.end.lesson} "))

    def _link(self, name: str) -> str:
        """What the notebook calls it, leading to where it stands."""
        return f'<a href="#{anchor(name)}">{escape(self._called(name))}</a>'

    def look(self) -> None:
        """Bring what is shown in line with what has been answered."""
        self.shown.value = f'<div role="status" class="{"done" if not self.left else "open"}">{self._html()}</div>'

    def _html(self) -> str:
        file, about = self.end.then
        can = "".join(f"<li>{escape(one)}</li>" for one in self.end.can)
        link = f'<a href="{file}">{escape(file.removesuffix(".ipynb"))}</a>: ' if file else ""
        then = f"<p><b>Next.</b> {link}{escape(about)}</p>" if about else ""
        total, left = len(self.end.names), self._open(self.end.names)
        if further := len(self.end.further):
            then += f"<p><b>Further</b>, below: {further - len(self._open(self.end.further))} of {further} right.</p>"
        if left:
            tried = [self._link(name) for name in left if name in progress.answers]
            again = f" Not right yet: {_some(tried)}; press <b>Reset</b> there and try again." if tried else ""
            new = [self._link(name) for name in left if name not in progress.answers]
            still = f" Not tried yet: {_some(new)}." if new else ""
            return f"<p><b>{total - len(left)} of {total} right.</b>{again}{still}</p>{then}"
        return f"<p><b>✓ All {total} right.</b> You can now</p><ul>{can}</ul>{then}"


def _some(links: Sequence[str]) -> str:
    more = f"; and {len(links) - 4} more" if len(links) > 4 else ""
    return "; ".join(links[:4]) + more
