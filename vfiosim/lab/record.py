"""What the reader has answered up to now, kept in a small file. It is never in the way: without a file it is kept in memory."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from .still import Still, note
from .style import button, row, style, text, words

VARIABLE = "VFIOSIM_PROGRESS"
_VERSION = 1


class Answered(NamedTuple):
    """How often a question was answered, how often rightly, and whether the first answer was right."""

    tries: int
    right: int
    first: bool


class Progress:
    """The answers of one reader, on this computer only.

    They are in `path`: `$VFIOSIM_PROGRESS`, or `vfiosim/progress.json` in the user's data directory (`$XDG_DATA_HOME`,
    `~/.local/share`). An empty VFIOSIM_PROGRESS means: no file. Where the file cannot be used, `problem` says why in one
    sentence, and everything goes on in memory.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._memory: dict[str, Answered] = {}
        self._stuck = False  # the file cannot be written, so memory knows more than it does

    @property
    def path(self) -> Path | None:
        """The file; None where nothing is kept beyond this session."""
        named = os.environ.get(VARIABLE)
        if named == "" or (named is None and sys.platform == "emscripten"):
            return None
        if named is not None:
            return Path(named)
        with suppress(RuntimeError):  # a user without a home
            home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
            return Path(home) / "vfiosim" / "progress.json"
        return None

    @property
    def answers(self) -> dict[str, Answered]:
        """What is known of each question, by its name."""
        return self._read()

    def record(self, name: str, right: bool) -> None:
        """Keep that the question of this name was answered. Nothing is kept without a name."""
        if not name:
            return
        known = self._read()
        before = known.get(name, Answered(0, 0, right))
        known[name] = Answered(before.tries + 1, before.right + right, before.first)
        self._write(known)

    def reset(self) -> None:
        """Forget everything."""
        self.problem = ""
        self._write({})

    # ---- the file

    def _read(self) -> dict[str, Answered]:
        path = self.path
        if path is None or self._stuck:
            return dict(self._memory)
        try:
            data = json.loads(path.read_text("utf-8"))
            return {str(name): _answered(one) for name, one in data["answers"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._give_up(path, error)
            return dict(self._memory)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._put_aside(path)
            return {}

    def _put_aside(self, path: Path) -> None:
        """A file that is no record of ours is kept under another name, for it may be somebody's only copy."""
        aside = path.with_name(f"{path.name}.damaged")
        try:
            path.replace(aside)
        except OSError as error:
            self._give_up(path, error)
        else:
            self.problem = f"The file of your progress could not be read; it is now {aside}, and a new one was begun."

    def _write(self, known: dict[str, Answered]) -> None:
        self._memory = dict(known)
        path = self.path
        if path is None:
            return
        data = {"version": _VERSION, "answers": {name: one._asdict() for name, one in known.items()}}
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(data, indent=1, ensure_ascii=False), "utf-8")
            fresh.replace(path)  # at once, so that no reader sees half of it
        except OSError as error:
            self._give_up(path, error)
        else:
            self.problem = "" if self._stuck else self.problem
            self._stuck = False

    def _give_up(self, path: Path, error: OSError) -> None:
        self._stuck = True
        self.problem = f"Your progress is kept until the kernel ends only: {path} cannot be used ({error.strerror})."

    # ---- to look at

    @property
    def kept(self) -> str:
        """Where it is kept, or that it is not, in a sentence."""
        if self.problem:
            return self.problem
        path = self.path
        return f"Kept in {path}." if path else "Kept until the kernel ends only; there is no file."

    def __str__(self) -> str:
        known = self.answers
        if not known:
            return f"No question has been answered yet. {self.kept}"
        solved = sum(one.right > 0 for one in known.values())
        first = sum(one.first for one in known.values())
        lines = [f"{solved} of {len(known)} answered rightly, {first} of them at the first try. {self.kept}"]
        lines += [f"  {'✓' if one.right else '✕'} {name}: {_tries(one)}" for name, one in known.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def show(self) -> Overview:
        """The same as a widget, with a button to forget everything."""
        return Overview(self)


def _answered(data: Any) -> Answered:
    tries, right, first = data["tries"], data["right"], data["first"]
    if not (type(tries) is int and type(right) is int and type(first) is bool and 0 <= right <= tries):
        raise ValueError("this is no record of an answer")
    return Answered(tries, right, first)


def _tries(one: Answered) -> str:
    return f"{one.tries} {'try' if one.tries == 1 else 'tries'}, {one.right} right"


class Overview(Still):
    """What was answered, and a button to forget it."""

    def __init__(self, kept: Progress) -> None:
        self._kept = kept
        self.shown = text("vfiosim-progress")
        self.look = button("Look again", "show the answers that were given since")
        self.reset = button("Reset", "forget all answers")
        self.look.on_click(lambda _: self._show())
        self.reset.on_click(lambda _: self._reset())
        super().__init__([style(), self.shown, row("", self.look, self.reset)])
        self.add_class("vfiosim-lab")
        self.add_class("vfiosim-ask")
        self._show()

    @property
    def message(self) -> str:
        """What is shown, in words."""
        return words(self.shown.value)

    def still(self) -> str:
        """The overview as it was when the cell ran."""
        return note(self.shown.value)

    def in_words(self) -> str:
        """The overview as text."""
        return str(self._kept)

    def _reset(self) -> None:
        self._kept.reset()
        self._show()

    def _show(self) -> None:
        first, *rest = str(self._kept).splitlines()
        items = "".join(f"<li>{escape(line.strip())}</li>" for line in rest)
        self.shown.value = f'<div role="status">{escape(first)}<ul>{items}</ul></div>'


progress = Progress()
