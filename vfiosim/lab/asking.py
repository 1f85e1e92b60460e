"""What all questions and tasks have in common: what is asked, hints, what is said about an answer, and the steps that show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from .help import Help, Hints
from .static_fallback import ONLY_LIVE, StaticFallback, note
from .style import anchor, text, words


class Asking(StaticFallback):
    """`asked` is what is asked (HTML), behind the words of `lead`; `message` is what was said last, in words.

    `name`: under which the answer is kept; the end of the notebook leads back to here by it. `standing` is as in `Help`.
    """

    looks = "lab ask"
    is_task = False  # is something to be done, rather than said?
    mark = "-"  # what stands before a choice

    def __init__(
        self,
        lead: str,
        asked: str,
        hints: Hints = (),
        solution: Callable[[], str] | None = None,
        *,
        name: str,
        standing: Callable[[], str] | None = None,
    ) -> None:
        super().__init__()
        self._asked = f'<b id="{anchor(name)}">{lead}</b> {asked}'
        self.asked = text("question", f"<p>{self._asked}</p>")
        self.help = Help(hints, solution, standing)
        if solution:
            self.hint, self.solution = self.help.hint, self.help.solution
        self.verdict = text("verdict")
        self.because = text("because")  # below the steps: so the verdict and the picture are on one screen

    @property
    def message(self) -> str:
        """The verdict and the help, in words."""
        return words(self.verdict.value + self.because.value + self.help.slot.value)

    def _choices(self) -> Sequence[str]:
        """The answers that there are to choose from, as the reader reads them."""
        return ()

    def _below(self) -> str:
        """What stands below the verdict where there are no widgets."""
        shown = (child.static_html() for child in self.children if isinstance(child, StaticFallback))
        return "".join([*shown, self.because.value])

    def static_html(self) -> str:
        """What is asked, with its choices or its hints to unfold, and what has been found out."""
        items = "".join(f"<li>{escape(line, quote=False)}</li>" for line in self._choices())
        choices = f'<ul style="font: max(16px, 1em)/1.4 system-ui, sans-serif">{items}</ul>' if items else ""
        hints = note(self.help.static_html()) if self.is_task else ""
        said = self.verdict.value or note(f"<i>{ONLY_LIVE}</i>")
        return f"{note(self._asked)}{choices}{hints}{said}{self._below()}"

    def in_words(self) -> str:
        """What is asked, and what has been found out, as text."""
        items = [f"  {self.mark} {line}" for line in self._choices()]
        return "\n".join([words(self._asked), *items, words(self.verdict.value + self.because.value)]).rstrip()
