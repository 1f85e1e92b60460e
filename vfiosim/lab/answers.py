"""Controls to answer with: a choice, a field, an order, a set of things to tick. Each has a `value` and can be `disabled`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import traitlets

from . import controls as widgets
from .listeners import listeners
from .question import CHOICE, NONE, NUMBER, ORDER, SET, Answer, Question
from .style import button, text

RULE = "──"  # what a line begins with that parts those that are used from the others
MOVE_FIRST = "The lines stand as they were given. Move them first: drag them, or press Up and Down."


def control_for(question: Question) -> Any:
    """The control that a question of this kind is answered with."""
    if question.kind == ORDER:
        return Order(question.choices, question.given())
    if question.kind == SET:
        return Ticks(question.choices)
    if question.kind == CHOICE:
        options = [(said, answer) for answer, said in question.choices.items()]
        return widgets.RadioButtons(options=options, value=None, layout={"width": "auto"}, tooltip="Your prediction")
    # The text is sent once, when the reader leaves the field: keystrokes on their way would be overtaken by the next press.
    return widgets.Text(
        description="your prediction",
        placeholder="a number" if question.kind == NUMBER else "an errno's name, or 0",
        continuous_update=False,
        layout={"width": "24em"},
    )


class Order(widgets.VBox):
    """Lines to be put in order: dragged, with Alt and an arrow key, or by a button up and one down.

    `value` are the keys from top to bottom. The rows stay and the lines wander, so the keyboard focus can go with a line.
    """

    value = traitlets.Tuple()
    disabled = traitlets.Bool(False)

    def __init__(self, lines: Mapping[str, str], given: Sequence[str]) -> None:
        self._lines = lines
        self._given = tuple(given)
        self.up: list[widgets.Button] = []
        self.down: list[widgets.Button] = []
        self._shown: list[widgets.HTML] = []
        self.said = text("said")
        rows = [self._row(place) for place in range(len(given))]
        dragging = listeners("ordering.js")
        for one in dragging:
            one.on_msg(lambda _, content, __: self._heard(content))
        super().__init__([*rows, self.said, *dragging], kind="order")
        self.value = self._given

    def _row(self, place: int) -> widgets.Box:
        up, down, shown = button("Up", ""), button("Down", ""), text("line")
        up.on_click(lambda _: self.move(place, -1))
        down.on_click(lambda _: self.move(place, 1))
        self.up.append(up)
        self.down.append(down)
        self._shown.append(shown)
        return widgets.Box([up, down, shown], kind="order-row")

    def move(self, place: int, by: int) -> None:
        """Move the line at a place (from 0) one up (-1) or down (1); at the end of the list it says so and stays."""
        if 0 <= place + by < len(self.value):
            self.put(place, place + by)
        else:
            self._say(f"“{self._lines[self.value[place]]}” is {'first' if by < 0 else 'last'} already.")

    def put(self, place: int, other: int) -> None:
        """Put the line at a place (from 0) to another one; those between them make room."""
        keys = list(self.value)
        key = keys.pop(place)
        keys.insert(other, key)
        self.value = tuple(keys)
        self._say(f"“{self._lines[key]}” is now {self._standing(key)}.")
        (self.up if other < place else self.down)[other].focus()

    def _standing(self, key: str) -> str:
        """Where a line stands among those that are used."""
        border = next(
            (place for place, one in enumerate(self.value) if self._lines[one].startswith(RULE)), len(self.value)
        )
        place = self.value.index(key)
        if place == border:
            return f"below {border} lines"
        return f"number {place + 1} of {border}" if place < border else "not used"

    def _heard(self, content: dict[str, Any]) -> None:
        """A line was dragged on the page, or moved with a key; perhaps over the end."""
        place, other = content.get("move", (0, 0))
        if self.disabled or not 0 <= place < len(self.value):
            return
        if abs(other - place) == 1:
            self.move(place, other - place)
        elif 0 <= other < len(self.value) and other != place:
            self.put(place, other)

    @property
    def untouched(self) -> bool:
        """Do the lines stand as they were given? That is never a right order."""
        return bool(self.value == self._given)

    def clear(self) -> None:
        """The order as it was given."""
        self.value = self._given
        self.said.value = ""

    def _say(self, sentence: str) -> None:
        self.said.value = f'<span role="status">{escape(sentence)}</span>'

    @traitlets.observe("value")
    def _show(self, _change: Any) -> None:
        used = True  # what stands below a rule has no place in the order
        for place, (key, shown) in enumerate(zip(self.value, self._shown, strict=True)):
            line = self._lines[key]
            used = used and not line.startswith(RULE)
            shown.value = f"<b>{place + 1}.</b> {escape(line)}" if used else escape(line)
            self.up[place].tooltip = f"Move number {place + 1} up: {line}"
            self.down[place].tooltip = f"Move number {place + 1} down: {line}"

    @traitlets.observe("disabled")
    def _switch(self, change: Any) -> None:
        for one in [*self.up, *self.down]:
            one.disabled = change["new"]


class Ticks(widgets.VBox):
    """Things to tick. `value` are the keys of those that are ticked; that it is none of them is ticked, too (`none`)."""

    value = traitlets.Tuple()
    disabled = traitlets.Bool(False)

    def __init__(self, lines: Mapping[str, str]) -> None:
        self.boxes = {
            key: widgets.Checkbox(description=line, indent=False, tooltip=line, layout={"width": "auto"})
            for key, line in lines.items()
        }
        self.none = widgets.Checkbox(description=NONE, indent=False, tooltip=NONE, layout={"width": "auto"})
        super().__init__([*self.boxes.values(), self.none], kind="ticks")
        self.none.observe(self._none_of_them, "value")
        for box in self.boxes.values():
            box.observe(lambda _: self._gather(), "value")

    def clear(self) -> None:
        """Nothing is ticked."""
        self.value, self.none.value = (), False

    def _none_of_them(self, change: Any) -> None:
        if change["new"]:
            self.value = ()

    def _gather(self) -> None:
        self.value = tuple(key for key, box in self.boxes.items() if box.value)

    @traitlets.observe("value")
    def _show(self, change: Any) -> None:
        self.none.value = self.none.value and not change["new"]
        for key, box in self.boxes.items():
            box.value = key in change["new"]

    @traitlets.observe("disabled")
    def _switch(self, change: Any) -> None:
        for box in self.children:
            box.disabled = change["new"]


def clear(control: Any) -> None:
    """Forget what a control was answered with."""
    if isinstance(control, Order | Ticks):
        control.clear()
    else:
        control.value = None if isinstance(control, widgets.RadioButtons) else ""


def read(control: Any, question: Question) -> Answer:
    """The answer that a control holds. Raises ValueError, in a sentence for the reader, if there is none."""
    if isinstance(control, Order) and control.untouched:
        raise ValueError(MOVE_FIRST)
    if isinstance(control, Ticks) and not (control.value or control.none.value):
        raise ValueError(f"Tick something first; if you mean none of these, tick “{NONE}”.")
    if isinstance(control, Order | Ticks):
        return question.tidy(tuple(control.value))
    if question.kind == CHOICE:
        if control.value is None:
            raise ValueError("Choose one of the answers first.")
        return str(control.value)
    return question.read(str(control.value))
