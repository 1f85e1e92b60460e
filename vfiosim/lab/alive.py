"""“Why is it alive?”: choose an object, read who keeps it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..machine import Machine
from ..trace import Reference
from ..why import Path, Why
from .style import button, row, text

if TYPE_CHECKING:
    from .bench import Bench

KINDS = (
    "file",
    "vfio_device_file",
    "vfio_device",
    "iommufd_ctx",
    "iommufd_device",
    "iommufd_access",
    "iommufd_group",
    "kvm",
)


class Alive(widgets.VBox):  # type: ignore[misc]
    """Asks the machine of a bench who keeps an object alive; the choice follows the bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.choice = widgets.Dropdown(description="object", tooltip="Which object to ask about")
        self.ask = button("Why is it alive?", "every way from a root of the machine to this object")
        self.answer = text("vfiosim-answer")
        self.ask.on_click(lambda _: self._answer())
        super().__init__([row("Why", self.choice, self.ask), self.answer])
        bench.listeners.append(lambda _: self._follow())
        self._follow()

    def _follow(self) -> None:
        """The machine has moved on: other objects, and what was answered may be wrong now."""
        chosen = self.choice.value
        names = candidates(self._bench.session.machine)
        self.choice.options = names
        self.choice.value = chosen if chosen in names else names[0]
        self.answer.value = ""
        self._bench.stage.highlight(())

    def _answer(self) -> None:
        found = self._bench.session.machine.why(self.choice.value)
        lines, names = told(found)
        items = "".join(f"<li>{escape(line)}</li>" for line in lines[1:])
        self.answer.value = f'<div role="status">{escape(lines[0])}<ul>{items}</ul></div>'
        self._bench.stage.highlight(names)


def candidates(machine: Machine) -> list[str]:
    """The objects worth asking about: those of the program first."""
    objects = [thing for thing in machine.trace.end.objects.values() if thing.kind in KINDS]
    ordered = sorted(objects, key=lambda thing: KINDS.index(thing.kind))
    return [thing.oid for thing in ordered if not thing.label.startswith("terminal")]


def told(why: Why) -> tuple[list[str], list[str]]:
    """The answer in lines: for each direct holder the shortest way from a root. And the names of all objects on them."""
    if not why.paths:
        return str(why).splitlines(), [why.name]
    ways: dict[Reference, list[Path]] = {}
    for path in why.paths:
        ways.setdefault(path.links[-1], []).append(path)
    lines = [f"{why.name} is kept alive by {len(ways)} {'holder' if len(ways) == 1 else 'holders'}:"]
    for paths in ways.values():
        longer = f"   (and {len(paths) - 1} longer)" if len(paths) > 1 else ""
        lines.append(f"{paths[0]}{longer}")
    lines += [f"lost reference: {link.holder} is gone, but {link.target} still counts it" for link in why.lost]
    names = {name for paths in ways.values() for link in paths[0].links for name in (link.holder, link.target)}
    return lines, sorted(names)
