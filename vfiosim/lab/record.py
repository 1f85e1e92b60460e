"""What the reader has answered up to now, kept in a small file. It is never in the way: without a file it is kept in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from .record_file import Answered, Answers, NewerError, change, read
from .static_fallback import Telling
from .style import button, row, style, text

VARIABLE = "VFIOSIM_PROGRESS"


class Watcher(Protocol):
    """What wants to know of each answer."""

    def look(self) -> None:
        """Something has been answered, or all was forgotten."""


class Progress:
    """The answers of one reader, on this computer only.

    They are in `path`: `$VFIOSIM_PROGRESS`, or `vfiosim/progress.json` in the user's data directory (`$XDG_DATA_HOME`,
    `~/.local/share`). An empty VFIOSIM_PROGRESS means: no file. Where the file cannot be used, `problem` says why in one
    sentence, and everything goes on in memory.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._put_aside = ""  # where a damaged file is now, in a sentence
        self._seen: dict[Path, Answers] = {}  # what each file had in it
        self._late: dict[Path | None, list[tuple[str, bool]]] = {}  # answers that no file has taken as yet
        self._watchers: WeakSet[Any] = WeakSet()

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
    def answers(self) -> Answers:
        """What is known of each question, by its name."""
        path, known = self.path, Answers()
        if path is not None:
            try:
                known, whole = read(path)
            except (NewerError, OSError) as error:
                self._give_up(path, error)
                known = self._seen.get(path, {})
            else:
                if not whole:
                    self._change(path, lambda good: good)
        return self._with_late(path, known)

    def record(self, name: str, right: bool) -> None:
        """Keep that the question of this name was answered. Nothing is kept without a name."""
        if not name:
            return
        path = self.path
        self._late.setdefault(path, []).append((name, right))
        if path is not None and self._change(path, lambda known: self._with_late(path, known)):
            del self._late[path]
        self._tell()

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher.look()` after each answer, for as long as anybody else knows it."""
        self._watchers.add(watcher)

    def _tell(self) -> None:
        for watcher in [*self._watchers]:
            watcher.look()

    def reset(self) -> None:
        """Forget everything."""
        path, self.problem, self._put_aside = self.path, "", ""
        self._late.pop(path, None)
        if path is not None:
            self._seen.pop(path, None)
            self._change(path, lambda _: {})
        self._tell()

    def _with_late(self, path: Path | None, known: Answers) -> Answers:
        known = dict(known)
        for name, right in self._late.get(path, ()):
            before = known.get(name, Answered(0, 0, right))
            known[name] = Answered(before.tries + 1, before.right + right, before.first)
        return known

    def _change(self, path: Path, how: Callable[[Answers], Answers]) -> bool:
        """Change the file. If that cannot be, say why."""
        try:
            self._seen[path], aside = change(path, how)
        except (NewerError, OSError) as error:
            self._give_up(path, error)
            return False
        if aside is not None:
            self._put_aside = (
                f"The file of your progress was damaged: what can be read is kept, all of it is in {aside}."
            )
        self.problem = self._put_aside
        return True

    def _give_up(self, path: Path, error: NewerError | OSError) -> None:
        why = f"{path} cannot be used ({error.strerror})" if isinstance(error, OSError) else error
        self.problem = f"Your progress is kept until the kernel ends only: {why}."

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


def _tries(one: Answered) -> str:
    return f"{one.tries} {'try' if one.tries == 1 else 'tries'}, {one.right} right"


class Overview(Telling):
    """What was answered, and a button to forget it."""

    def __init__(self, kept: Progress) -> None:
        self._kept = kept
        self.shown = text("progress")
        self.look = button("Look again", "show the answers that were given since")
        self.reset = button("Reset", "forget all answers")
        self.look.on_click(lambda _: self._show())
        self.reset.on_click(lambda _: self._reset())
        super().__init__([style(), self.shown, row("", self.look, self.reset)])
        self._show()

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
