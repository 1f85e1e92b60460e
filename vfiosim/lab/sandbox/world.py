"""Which machine: a built-in topology or one of your own, a version of the kernel, protections taken out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from html import escape

from ...kernel.base import VFIO_DRIVERS
from ...kernel.variants import VARIANTS
from ...topology import TOPOLOGIES, DeviceSpec, Topology
from .. import controls as widgets
from ..fields import BadInput, NumberField
from ..press import Guard
from ..style import button, row, text, words
from .inputs import TextField
from .setup import Setup

OWN = "my own"
DRIVERS = (*sorted(VFIO_DRIVERS, reverse=True), "ahci", "virtio-pci")


class DeviceRow:
    """The fields of one device."""

    def __init__(self, spec: DeviceSpec, guard: Guard, remove: Callable[[DeviceRow], None]) -> None:
        self.name = TextField("name", spec.name)
        self.address = TextField("address", spec.address, tip="a PCI address, or a UUID for mdev")
        self.group = NumberField("group", spec.group, low=-2, high=1000, tip="number of its iommu_group")
        self.bus = widgets.Dropdown(options=["pci", "mdev"], value=spec.bus, description="bus", tooltip="on which bus")
        self.driver = TextField("driver", spec.driver, tip="a VFIO driver, or any other name", choices=DRIVERS)
        self.model = TextField("model", spec.model)
        self.dev_set = TextField("reset together", spec.dev_set, tip="devices with the same word are reset together")
        self.vfs = NumberField("virtual functions", spec.vfs, high=64, tip="how many it can have")
        self.physfn = TextField(
            "physical function", spec.physfn, tip="for a virtual function: the address of the other one"
        )
        self.flags = {
            name: widgets.Checkbox(value=getattr(spec, name), description=said, indent=False, tooltip=said)
            for name, said in (("can_reset", "can reset"), ("noiommu", "no IOMMU"))
        }
        self.remove = button("Remove", f"take {spec.name} out of the machine", guard=guard)
        self.remove.on_click(lambda _: remove(self))
        self.rare = row("", *self.flags.values(), self.model, self.dev_set, self.vfs, self.physfn)
        self.more = widgets.ToggleButton(description="More", tooltip="what else it can have", layout={"width": "auto"})
        self.more.observe(lambda change: self._unfold(change["new"]), "value")
        self._unfold(False)
        first = row("", self.name, self.address, self.group, self.bus, self.driver, self.more, self.remove)
        self.box = widgets.VBox([first, self.rare])
        self.box.add_class("vfiosim-device")

    def _unfold(self, shown: bool) -> None:
        widgets.unfold(self.rare, shown)

    def read(self) -> DeviceSpec:
        """The device. Raises BadInput where a field holds something that cannot be used."""
        return DeviceSpec(
            self.name.read().strip(),
            self.address.read().strip(),
            self.group.read(),
            bus=self.bus.value,
            driver=self.driver.read().strip(),
            model=str(self.model.text.value),
            dev_set=str(self.dev_set.text.value),
            vfs=self.vfs.read(),
            physfn=str(self.physfn.text.value),
            **{name: box.value for name, box in self.flags.items()},
        )

    def read_or_none(self) -> DeviceSpec | None:
        """The device; None where a field holds something that cannot be used."""
        try:
            return self.read()
        except BadInput:
            return None


class World(widgets.VBox):
    """The editor. `boot(setup, keep)` is called for a new machine; with `keep` everything is done again on it.

    `boot` raises ValueError for a machine that cannot be; that is then said here.
    """

    def __init__(self, setup: Setup, guard: Guard, boot: Callable[[Setup, bool], None]) -> None:
        self._setup, self._guard, self._boot = setup, guard, boot
        self._quiet = self._unfolded = False
        names = [*TOPOLOGIES, OWN]
        self.topology = widgets.Dropdown(options=names, description="topology", tooltip="Which devices there are")
        self.kernel = widgets.Dropdown(
            options=[(variant.title, name) for name, variant in VARIANTS.items()],
            description="kernel",
            tooltip="Whose rules hold",
        )
        self.processes = TextField(
            "processes", tip="the programs that there are at first, with spaces between their names"
        )
        self.container = widgets.Checkbox(
            description="/dev/vfio/vfio is an iommufd", indent=False, tooltip="a kernel option"
        )
        self.add = button("Add a device", "one more device", guard=guard)
        self.boot = button("Boot this machine", "a fresh machine with these devices", guard=guard)
        self.replay = button("Boot and do all again", "the same, then everything that was done", guard=guard)
        self.without = TextField(
            "take out", tip="the name of a lock, check, reference, count, or “order of …”", choices=()
        )
        self.take_out = button(
            "Take out", "leave this protection out of the kernel, and do everything again", guard=guard
        )
        self.put_back = button("Put all back", "the kernel as it is, and do everything again", guard=guard)
        self.taken = text("vfiosim-taken")
        self.problem = text("vfiosim-problem")
        self.rows: list[DeviceRow] = []
        self.devices = widgets.VBox([])
        self.topology.observe(lambda change: self._chosen(change["new"]), "value")
        self.add.on_click(lambda _: self._add())
        self.boot.on_click(lambda _: self._press(False))
        self.replay.on_click(lambda _: self._press(True))
        self.take_out.on_click(lambda _: self._take_out())
        self.put_back.on_click(lambda _: self._change(()))
        super().__init__(
            [
                row("Machine", self.topology, self.kernel, self.processes, self.container),
                self.devices,
                row("", self.add, self.boot, self.replay),
                row("Protections", self.without, self.take_out, self.put_back, self.taken),
                self.problem,
            ]
        )
        self.add_class("vfiosim-world")
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
            self._rows(setup.topology.devices)
        self.container.value = setup.topology.iommufd_container
        self.look_again(met)
        self._complain("")

    def unfold(self) -> None:
        """Somebody wants to see it; the fields of the devices are made only then."""
        if not self._unfolded:
            self._unfolded = True
            self._rows(self._setup.topology.devices)

    def look_again(self, met: Collection[str]) -> None:
        """More protections may have been met."""
        options = tuple(sorted(met))
        if self.without.text.options != options:
            self.without.text.options = options
        out = ", ".join(map(escape, self._setup.without))
        strange = ", ".join(escape(name) for name in self._setup.without if name not in met)
        unmet = f" Nothing that has happened came by <b>{strange}</b>." if strange else ""
        self.taken.value = (
            f'<span class="wrong">Taken out: <b>{out}</b>.</span>{unmet}' if out else "Everything is in its place."
        )

    # ---- devices

    def _rows(self, devices: Collection[DeviceSpec]) -> None:
        self.rows = [DeviceRow(spec, self._guard, self._remove) for spec in devices]
        self.devices.children = [each.box for each in self.rows]

    def _chosen(self, name: str) -> None:
        if not self._quiet and name != OWN:
            self._rows(TOPOLOGIES[name].devices)
            self.container.value = TOPOLOGIES[name].iommufd_container

    def _add(self) -> None:
        used = [each.group.text.value for each in self.rows]
        number = 1 + max((int(value) for value in used if str(value).isdecimal()), default=0)
        spec = DeviceSpec(f"dev{len(self.rows)}", f"0000:{16 + len(self.rows):02x}:00.0", number)
        self.rows = [*self.rows, DeviceRow(spec, self._guard, self._remove)]
        self.devices.children = [each.box for each in self.rows]
        self._complain("")

    def _remove(self, gone: DeviceRow) -> None:
        self.rows = [each for each in self.rows if each is not gone]
        self.devices.children = [each.box for each in self.rows]

    # ---- to boot

    def _press(self, keep: bool) -> None:
        try:
            setup = self.read()
        except BadInput as problem:
            self._complain(f"The machine cannot be booted; see what is said at {problem}.")
            return
        except ValueError as problem:
            self._complain(f"The machine cannot be booted: {problem}.")
            return
        self._try(setup, keep)

    def read(self) -> Setup:
        """The machine that the fields describe. Raises BadInput or ValueError."""
        devices = tuple(each.read() for each in self.rows)
        for what in ("name", "address"):
            seen: set[str] = set()
            for spec in devices:
                value = getattr(spec, what)
                if value in seen:
                    raise ValueError(f"two devices have the {what} {value!r}")
                seen.add(value)
        for spec in devices:
            if spec.driver in ("mtty", "no-dma", "emulated") and spec.bus != "mdev":
                raise ValueError(f"the driver {spec.driver} of {spec.name!r} is on the bus mdev, not on {spec.bus}")
            if spec.driver == "vfio-pci" and spec.bus != "pci":
                raise ValueError(f"the driver vfio-pci of {spec.name!r} is on the bus pci, not on {spec.bus}")
        built_in = next((one for one in TOPOLOGIES.values() if one.devices == devices), None)
        topology = Topology(built_in.name if built_in else "mine", devices, bool(self.container.value))
        if built_in is not None and built_in != topology:
            topology = replace(topology, name="mine")
        return Setup(topology, self.kernel.value, tuple(self.processes.read().split()), self._setup.without)

    def _take_out(self) -> None:
        try:
            name = self.without.read().strip()
        except BadInput:
            return
        self._change(tuple(dict.fromkeys((*self._setup.without, name))))

    def _change(self, without: tuple[str, ...]) -> None:
        self._try(replace(self._setup, without=without), True)

    def _try(self, setup: Setup, keep: bool) -> None:
        self._complain("")
        try:
            self._boot(setup, keep)
        except ValueError as problem:
            self._complain(f"That cannot be: {problem}.")

    def _complain(self, message: str) -> None:
        self.problem.value = f'<span role="alert">{escape(message, quote=False)}</span>' if message else ""
