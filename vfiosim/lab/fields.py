"""Controls that say beside themselves what is wrong with their input."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from html import escape
from typing import Any

from ..uapi import Struct
from . import controls as widgets
from .style import alert, text

_NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)")
_LONG_WORD = re.compile(r"\S{40,}")
LONGEST = 300  # letters of a sentence beside a field; of what was typed it repeats no more


class BadInput(Exception):
    """A field holds something that cannot be used; the field says why. The text is its label.

    `field` is that field, where there is one that tells when what stands in it has changed. `missing` is what is said of an
    empty one: it stands in the line about the press, so that nothing below the field moves.
    """

    field: LabelledField | None = None
    missing = ""

    def told(self) -> str:
        """What is wrong, for the line about the press."""
        return f"{self}: {self.missing}" if self.missing else f"see what is said at {self}"


class LabelledField(widgets.VBox):
    """A labelled field, and a line below it for what is wrong with it, told as soon as it is typed.

    With `choices` it offers some, and takes others all the same.
    """

    sort = ""  # its other classes
    problem: Any = None  # made when something is wrong for the first time
    message = ""  # what is wrong, as the reader sees it; "" if nothing is
    mended: Any = None  # what is called when something else stands there than what was wrong

    def __init__(self, label: str, value: str, tip: str, choices: Collection[str] | None, **looks: Any) -> None:
        self.label = label
        if choices is not None:
            looks["options"] = tuple(choices)
        kind = widgets.Text if choices is None else widgets.Combobox
        self.text = kind(value=value, description=label, tooltip=tip or label, **looks)
        self.text.observe(lambda _: self._changed(), "value")
        super().__init__([self.text], kind=f"field {self.sort}")

    def _changed(self) -> None:
        """What was wrong need not be any more. Its place stays until the next press, lest the pressed button move away."""
        if self.message:
            if self.problem is not None:
                self.problem.value = f'<span style="visibility: hidden">{escape(self.message)}</span>'
            self.message = ""
            self.remove_class("vfiosim-wrong")
            if self.mended:
                self.mended()
        if not self.waits:
            with suppress(BadInput):
                self.read()

    @property
    def waits(self) -> bool:
        """Is what stands there not finished as yet?"""
        return self.unfinished(str(self.text.value).strip())

    def unfinished(self, typed: str) -> bool:
        """Can this become something to use when more is typed? Then nothing is said as yet."""
        return not typed

    def read(self) -> Any:
        """What is in it. Raises BadInput where that cannot be used, and says why beside the field."""
        try:
            found = self.meant(str(self.text.value))
        except ValueError as problem:
            if not str(self.text.value).strip():
                raise self.missing(str(problem)) from None
            raise self.refusal(str(problem)) from None
        self.complain("")
        return found

    def missing(self, message: str) -> BadInput:
        """What to raise where nothing stands in it: it is only marked."""
        self.complain("")
        self.message = message
        self.add_class("vfiosim-wrong")
        problem = BadInput(self.label)
        problem.field, problem.missing = self, message
        return problem

    def meant(self, typed: str) -> Any:
        """What a text stands for. Raises ValueError for one that cannot be used, with the sentence why."""
        return typed

    def complain(self, message: str) -> None:
        """Say what is wrong, or with "" that nothing is."""
        message = "".join(
            one if one.isprintable() else ascii(one)[1:-1] for one in message
        )  # one turns all behind it around
        message = _LONG_WORD.sub(lambda word: f"{word[0][:20]}…{word[0][-9:]}", message)
        half = LONGEST // 2
        self.message = message = message if len(message) <= LONGEST else f"{message[:half]} … {message[-half:]}"
        if self.problem is None:
            if not message:
                return
            self.problem = text("problem")
            self.children = [self.text, self.problem]
        self.problem.value = alert(message)
        (self.add_class if message else self.remove_class)("vfiosim-wrong")

    def refusal(self, message: str) -> BadInput:
        """What to raise, after it was said beside the field."""
        self.complain(message)
        problem = BadInput(self.label)
        problem.field = self
        return problem

    def set(self, value: int | str) -> None:
        """Put a number or a text in."""
        self.text.value = str(value)


class NumberField(LabelledField):
    """A field for an integer, decimal or with 0x. `nothing` is what is said of an empty one."""

    nothing = "a number is missing here"

    def __init__(
        self,
        label: str,
        value: int | str = "",
        *,
        low: int = 0,
        high: int = 2**31 - 1,
        tip: str = "",
        choices: Collection[str] | None = None,
    ) -> None:
        self.low, self.high = low, high
        super().__init__(label, str(value), tip, choices, layout={"width": "auto"})

    def unfinished(self, typed: str) -> bool:
        return typed.lower().lstrip("+-") in ("", "0x")

    def meant(self, typed: str) -> int:
        text = typed.strip()
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"“{text}” is no number; write one like 24 or 0x18" if text else self.nothing)
        number = int(text, 16 if "x" in text.lower() else 10) if len(text) <= LONGEST else self.high + 1
        if not self.low <= number <= self.high:
            raise ValueError(f"{text if len(text) > LONGEST else number} does not fit; from {self.low} to {self.high}")
        return number


class DescriptorField(NumberField):
    """A field for a descriptor that has to be open; `table` tells which are."""

    sort = "fd"

    def __init__(self, label: str, table: Callable[[], Collection[int]], value: int | str = "", tip: str = "") -> None:
        super().__init__(label, value, tip=tip or f"{label}: a number from the descriptor table")
        self._table = table
        self.text.placeholder = "?"

    def unfinished(self, typed: str) -> bool:
        return super().unfinished(typed) or any(str(number).startswith(typed) for number in self._table())

    def meant(self, typed: str) -> int:
        if not typed and (some := self._open()):
            raise ValueError(f"choose a descriptor; open: {some}")
        number = super().meant(typed)
        if number not in self._table():
            raise ValueError(f"{number} is not open; see the table of descriptors")
        return number

    def _open(self) -> str:
        return ", ".join(map(str, sorted(self._table())))

    def number(self) -> int:
        """What stands there, open or not; -1 where that is no number."""
        typed = str(self.text.value).strip()
        return int(typed) if typed.isdecimal() else -1

    def refresh(self) -> None:
        """The table has changed: a message that is no longer true goes away."""
        if self.message:
            try:
                self.read()
            except BadInput:
                return


def struct_fields(struct: type[Struct], **values: int) -> dict[str, NumberField]:
    """One field for each member of a struct of the ABI; each takes what the member can hold."""
    made = {}
    for member in struct.fields():
        bits = 8 * member.size
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if member.signed else (0, (1 << bits) - 1)
        tip = f"{struct.kernel_name}.{member.name}, {bits} bits"
        value = values.get(member.name, 0)
        made[member.name] = NumberField(member.name, value, low=low, high=high, tip=tip)
    return made
