"""What a sandbox has folded away: a button for each part, and one part at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection

from .. import controls as widgets
from ..style import button

Part = tuple[str, str, widgets.Box]  # the name of its button, what it tells, the part itself


def folds(
    parts: Collection[Part], closable: Collection[widgets.Box], opened: Callable[[widgets.Box], None]
) -> dict[str, widgets.ToggleButton]:
    """The buttons by name. A `closable` part gets a button of its own to close it; `opened` is told of each."""
    made: dict[str, widgets.ToggleButton] = {}

    def fold(part: widgets.Box, shown: bool) -> None:
        widgets.unfold(part, shown)
        for name, _, other in parts:
            made[name].value = made[name].value and (not shown or other is part)
        opened(part)

    def close(name: str) -> widgets.Button:
        closes = button("Close", f"fold “{name}” away")
        closes.add_class("vfiosim-close")
        closes.on_click(lambda _: setattr(made[name], "value", False))
        return closes

    for name, tip, part in parts:
        made[name] = widgets.ToggleButton(value=False, description=name, tooltip=tip, layout={"width": "auto"})
        widgets.unfold(part, False)
        made[name].observe(lambda change, part=part: fold(part, change["new"]), "value")
        if part in closable:
            part.children = (*part.children, close(name))
    return made
