"""Which descriptors programs have open, as buttons: a press chooses one for the next call, and brings its file out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from . import controls as widgets
from .style import text


@dataclass(frozen=True)
class ProgramLine:
    """A program and its descriptors: number and name of the file. `none` is said where there are no `chips`."""

    program: str
    title: str
    says: str
    chips: tuple[tuple[int, str], ...] = ()
    none: str = ""

    def html(self) -> str:
        """It, where nothing can be pressed."""
        items = [f"<li><b>{fd}</b> → {_text(label)}</li>" for fd, label in self.chips]
        shown = "".join(items) or (f"<li>{self.none}</li>" if self.none else "")
        title = f"<b>{_text(self.title)}</b> " if self.title else ""
        return f"<div>{title}{_text(self.says)} <ul>{shown}</ul></div>"


class DescriptorTable(widgets.VBox):
    """The descriptor tables. `choose(program, fd)` is called when a descriptor is pressed, `release()` when it is let go.

    `pressed` is the program and the descriptor that is pressed now, as long as it leads to the same file.
    """

    def __init__(self, choose: Callable[[str, int], None], release: Callable[[], None]) -> None:
        self._choose, self._release = choose, release
        self.lines: tuple[ProgramLine, ...] = ()
        self.pressed: tuple[str, int] | None = None
        self._chips, self._text = _chips(), text("html")
        super().__init__([self._text if self._chips is None else self._chips], kind="table")
        if self._chips is not None:
            self._chips.on_msg(lambda _, content, __: self._heard(content))

    @property
    def value(self) -> str:
        """It as HTML, where nothing can be pressed."""
        shown = "".join(line.html() for line in self.lines)
        return f'<div role="group" aria-label="descriptor tables">{shown}</div>'

    def show(self, lines: Sequence[ProgramLine]) -> None:
        """Programs have these descriptors now."""
        was, self.lines = self.label(), (*lines,)
        if self.label() != was:
            self.pressed = None
        self._tell()

    def label(self) -> str:
        """The name of the file behind the descriptor that is pressed; "" if none is."""
        found = {(line.program, fd): label for line in self.lines for fd, label in line.chips}
        return found.get(self.pressed, "") if self.pressed is not None else ""

    def press(self, program: str, fd: int) -> None:
        """Press a descriptor that is there: it is chosen, or let go if it was; one that has gone meanwhile is left alone."""
        if not any(line.program == program and fd in dict(line.chips) for line in self.lines):
            return
        again = self.pressed == (program, fd)
        self.pressed = None if again else (program, fd)
        self._tell()
        if again:
            self._release()
        else:
            self._choose(program, fd)

    def _heard(self, content: dict[str, Any]) -> None:
        program, fd = content.get("press", ("", -1))
        self.press(program, fd)

    def _tell(self) -> None:
        if self._chips is None:
            self._text.value = self.value
            return
        with self._chips.hold_sync():
            self._chips.rows = [asdict(line) for line in self.lines]
            self._chips.pressed = [*(self.pressed or ())]


def _chips() -> Any:
    try:
        from ..views.chips import Chips
    except ImportError:
        return None
    return Chips()


def _text(text: str) -> str:
    return escape(text, quote=False)
