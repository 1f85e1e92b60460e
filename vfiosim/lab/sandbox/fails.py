"""What is to fail in the next call, on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from ... import uapi
from ...machine.events import Failing
from .. import controls as widgets
from ..press import ClickFilter
from ..style import button

NOTHING = ("nothing", ())  # not None: with that a list stands at none of its lines


class Fails(widgets.Box):
    """A list of what can fail, once `look` has asked for it; it is seen while `wanted` is pressed, which stands elsewhere."""

    def __init__(self, clicks: ClickFilter, look: Callable[[], None]) -> None:
        self.wanted = widgets.ToggleButton(
            description="Let it fail", tooltip="something in this call fails on purpose", layout={"width": "auto"}
        )
        self.look = button("What can fail?", "everything in this call that can fail, in its order", clicks=clicks)
        self.what = widgets.Dropdown(description="fails", tooltip="What is to fail", options=[NOTHING])
        self.look.on_click(lambda _: look())
        self.wanted.observe(lambda change: self._unfold(change["new"]), "value")
        super().__init__([self.look, self.what], kind="parts")
        self._unfold(False)

    def chosen(self) -> Failing | None:
        """What is to be done before the call, if something in it is to fail."""
        if not self.wanted.value or not self.what.value:
            return None
        number, errno = self.what.value
        return Failing(number, uapi.Errno[errno])

    def offer(self, found: Collection[tuple[int, str, str]]) -> str:
        """These can fail: number, errno, and what it is; the answer is what to say."""
        self.what.options = [NOTHING, *((f"{n}: {errno}, {what}", (n, errno)) for n, errno, what in found)]
        ways = Counter(number for number, *_ in found)
        several = "".join(f", number {number} in {n} ways" for number, n in ways.items() if n > 1)
        many = f"{len(ways)} things can fail in this call{several}; choose one, then Call."
        return many if found else "Nothing in this call can fail."

    def was_used(self, refused: bool) -> None:
        """The call was made; where it was refused nothing has changed, and the next thing may fail in it."""
        self.wanted.value = self.wanted.value and refused
        self.what.index = 0

    def _unfold(self, wanted: bool) -> None:
        widgets.unfold(self.look, wanted)
        widgets.unfold(self.what, wanted)
        self.what.options = [NOTHING]
