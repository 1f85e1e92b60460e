"""Everything that was done, as Python to copy and as a text to save and load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...machine import program_of
from .. import controls as widgets
from ..fields import BadInput
from ..press import ClickFilter
from ..run import Run
from ..style import alert, button, row, status, text, words
from .inputs import TextField

LARGEST = 4_000_000  # bytes of a file to load


class SavePane(widgets.VBox):
    """Two texts and their buttons; `load` is given a saved text, and raises ValueError for one that is none."""

    def __init__(self, run: Callable[[], Run], clicks: ClickFilter, load: Callable[[str], None]) -> None:
        self._run, self._load = run, load
        self.code = widgets.Textarea(
            rows=9, description="Python", tooltip="A program that does the same", layout={"width": "100%"}, kind="code"
        )
        self.saved = widgets.Textarea(
            rows=9,
            description="saved",
            tooltip="What was saved, or is to be loaded",
            layout={"width": "100%"},
            kind="code",
        )
        self.file = TextField("file", "sandbox.txt", tip="the name of a file, beside the notebook")
        self.save = button("Save", "everything that was done, as a text", clicks=clicks)
        self.load = button("Load", "do what the text says, on a fresh machine", clicks=clicks)
        self.to_file = button("Save to file", "write the text into the file", clicks=clicks)
        self.from_file = button("Load from file", "read the file and do what it says", clicks=clicks)
        self.save.on_click(lambda _: self._press(self._save))
        self.load.on_click(lambda _: self._press(self._load_text))
        self.to_file.on_click(lambda _: self._press(self._write))
        self.from_file.on_click(lambda _: self._press(self._read))
        self.problem = text("problem")
        super().__init__(
            [
                widgets.Box([self.code, self.saved], kind="texts"),
                row("Keep", self.save, self.load, self.file, self.to_file, self.from_file),
                self.problem,
            ],
            kind="keep",
        )

    @property
    def message(self) -> str:
        """What was said last, in words."""
        return words(self.problem.value)

    def refresh(self) -> None:
        """More was done; the Python is written only while somebody can see it."""
        if self.layout.display != "none":
            try:
                self.code.value = program_of(self._run().machine)
            except ValueError as problem:
                self.code.value = f"# {problem}"

    def _press(self, what: Callable[[], str]) -> None:
        try:
            self.problem.value = status(what())
        except BadInput:
            return
        except ValueError as problem:
            self._complain(f"That did not work: {problem}.")
        except OSError as problem:
            self._complain(f"That did not work: {problem.strerror or problem}.")

    def _complain(self, said: str) -> None:
        self.problem.value = alert(said[:400])

    def _save(self) -> str:
        self.saved.value = self._run().save()
        return "Copy this text; Load does the same again, here or elsewhere."

    def _load_text(self) -> str:
        self._load(str(self.saved.value))
        return "Loaded."

    def _write(self) -> str:
        path = Path(self.file.read().strip())
        saved = self._run().save()
        path.write_text(saved, "utf-8")
        self.saved.value = saved
        return f"Saved to {path.name}, beside the notebook."

    def _read(self) -> str:
        path = Path(self.file.read().strip())
        if path.stat().st_size > LARGEST:
            raise ValueError("this file is too large for a saved sandbox")
        try:
            found = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise ValueError("this file is no text") from None
        self.saved.value = found
        self._load(found)
        return f"Loaded from {path.name}."
