"""Which machine: a built-in topology or one of your own, a version of the kernel, protections taken out."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from difflib import get_close_matches
from html import escape

from ...kernel.variants import VARIANTS
from ...puzzles import PUZZLES
from ...topology import TOPOLOGIES, Topology
from .. import controls as widgets
from ..fields import BadInput
from ..press import ClickFilter
from ..setup import Setup
from ..style import alert, button, row, status, text, words
from .devices import DeviceBox, Devices
from .inputs import ConfigField, TextField

OWN = "my own"


class MachinePane(widgets.VBox):
    """The editor. `boot(setup, keep)` is called for a new machine; with `keep` everything is done again on it. What came of it, in
    words, is told here too: the line about the last press may be out of sight.

    `boot` raises ValueError for a machine that cannot be; that is then said here.
    """

    def __init__(self, setup: Setup, clicks: ClickFilter, boot: Callable[[Setup, bool], str]) -> None:
        self._setup, self._clicks, self._boot = setup, clicks, boot
        self._quiet = self._unfolded = False
        names = [*TOPOLOGIES, OWN]
        self.topology = widgets.Dropdown(options=names, description="topology", tooltip="Which devices there are")
        self.kernel = widgets.Dropdown(
            options=[(variant.title, name) for name, variant in VARIANTS.items()],
            description="kernel",
            tooltip="Whose rules hold",
        )
        self.processes = TextField(
            "processes",
            tip="the programs that there are at first, with spaces between their names",
            wrong=lambda typed: "two have one name" if len({*typed.split()}) < len(typed.split()) else "",
        )
        self.config = ConfigField(
            "built with",
            tip="switches of this kernel and its IOMMU that are other than recorded, such as VFIO_GROUP=n NESTING=y",
        )
        self.add = button("Add a device", "one more device, in a group of its own", clicks=clicks)
        self.boot = button("Boot this machine", "a fresh machine with these devices", clicks=clicks)
        self.replay = button("Boot and do all again", "the same, then everything that was done", clicks=clicks)
        self.without = TextField(
            "take out",
            tip="the name of a lock, check, reference, count, or “order of …”",
            choices=(),
            wrong=lambda typed: "" if typed in self._known else self._unknown(typed),
        )
        self.config.text.placeholder, self.without.text.placeholder = "e.g. VFIO_GROUP=n", "e.g. group_lock"
        self.take_out = button(
            "Take out",
            "leave this protection out of the kernel, and begin again: calls by hand wait for you",
            clicks=clicks,
        )
        self.put_back = button("Put all back", "the kernel as it is, and begin again", clicks=clicks)
        self.taken = text("taken")
        self.problem = text("problem")
        self.devices = Devices(clicks, self._review)
        self.topology.observe(lambda change: self._chosen(change["new"]), "value")
        self.add.on_click(lambda _: self.devices.add())
        self.boot.on_click(lambda _: self._press(False))
        self.replay.on_click(lambda _: self._press(True))
        self.take_out.on_click(lambda _: self._take_out())
        self.put_back.on_click(lambda _: self._change(()))
        super().__init__(
            [
                row("Machine", self.topology, self.kernel, self.processes, self.config),
                self.devices,
                row("", self.add, self.boot, self.replay, self.without, self.take_out, self.put_back),
                self.problem,
            ],
            kind="world",
        )
        self.show(setup, ())

    @property
    def message(self) -> str:
        """What is wrong with it, in words; "" if nothing is."""
        return words(self.problem.value)

    def show(self, setup: Setup, met: Collection[str]) -> None:
        """Another machine is there; `met` are protections that its calls have come by."""
        self._setup = setup
        self._quiet = True
        self.topology.value = setup.topology.name if TOPOLOGIES.get(setup.topology.name) == setup.topology else OWN
        self._quiet = False
        self.kernel.value = setup.kernel
        self.processes.set(" ".join(setup.processes))
        if self._unfolded and [each.read_or_none() for each in self.rows] != list(setup.topology.devices):
            self.devices.show(setup.topology.devices)
        self.config.set(str(setup.config))
        self.refresh(met)
        self._complain("")

    def unfold(self) -> None:
        """Somebody wants to see it; the fields of the devices are made only then."""
        if not self._unfolded:
            self._unfolded = True
            self.devices.show(self._setup.topology.devices)

    def follow(self, setup: Setup, met: Collection[str]) -> None:
        """Things were done, perhaps on another machine."""
        if setup is self._setup:
            self.refresh(met)
        else:
            self.show(setup, met)

    def refresh(self, met: Collection[str]) -> None:
        """More protections may have been met."""
        self._known = {*met, *(name for puzzle in PUZZLES.values() for name in puzzle.protections)}
        options = tuple(sorted(self._known))
        if self.without.text.options != options:
            self.without.text.options = options
        out = escape(told(self._setup.without))
        strange = escape(told([name for name in self._setup.without if name not in met]))
        unmet = f" No call has needed <b>{strange}</b> yet." if strange else ""
        self.taken.value = f'<span class="wrong">Taken out of the kernel: <b>{out}</b>.</span>{unmet}' if out else ""

    @property
    def rows(self) -> list[DeviceBox]:
        """The devices as they are edited."""
        return self.devices.rows

    def _chosen(self, name: str) -> None:
        if not self._quiet and name != OWN:
            self.devices.show(TOPOLOGIES[name].devices)

    # ---- to boot

    def _press(self, keep: bool) -> None:
        try:
            setup = self.read()
        except BadInput as problem:
            self._complain(f"The machine cannot be booted; {problem.told()}.")
            if problem.field is not None:
                problem.field.mended = lambda: self._complain("")
            return
        except ValueError as problem:
            self._complain(f"The machine cannot be booted: {problem}.")
            return
        self._try(setup, keep)

    def read(self) -> Setup:
        """The machine that the fields describe. Raises BadInput or ValueError."""
        made = Topology("mine", self.devices.read())
        known = (self._setup.topology, *TOPOLOGIES.values())
        topology = next((one for one in known if replace(one, name=made.name) == made), made)
        processes = tuple(self.processes.read().split())
        return Setup(topology, self.kernel.value, processes, self._setup.without, self.config.read())

    def _take_out(self) -> None:
        try:
            name = self.without.read().strip()
        except BadInput:
            return
        self._change(tuple(dict.fromkeys((*self._setup.without, name))))

    def _unknown(self, name: str) -> str:
        like = " or ".join(f"“{one}”" for one in get_close_matches(name, sorted(self._known), 3))
        meant = f"Do you mean {like}?" if like else "Choose one from the list; each call adds those that it uses."
        return f"There is no protection “{name}”. {meant}"

    def _review(self) -> None:
        """A device was changed: say at once what cannot be, as far as all fields can be used."""
        problem = ""
        if any(field.waits for row in self.rows for field in row.needed):
            return
        try:
            self.devices.read()
        except BadInput:
            pass  # it is said beside the field
        except ValueError as why:
            problem = f"The machine cannot be booted: {why}."
        self._complain(problem)

    def _change(self, without: tuple[str, ...]) -> None:
        self._try(replace(self._setup, without=without), True)

    def _try(self, setup: Setup, keep: bool) -> None:
        self._complain("")
        try:
            self.problem.value = status(self._boot(setup, keep))
        except ValueError as problem:
            self._complain(f"That cannot be: {problem}.")

    def _complain(self, message: str) -> None:
        self.problem.value = alert(message)


def told(protections: Collection[str]) -> str:
    """Protections as the picture has them: "lock of vfio_device_set" for vfio_device_set.lock."""
    return ", ".join(re.sub(r"^(\w+)\.(\w+)$", r"\2 of \1", name) for name in protections)
