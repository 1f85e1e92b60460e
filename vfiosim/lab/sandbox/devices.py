"""The devices of a machine, to edit, drawn as the right side of the picture: each is a box that points to the box of its group."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from html import escape

from ...kernel.base import VFIO_DRIVERS
from ...topology import DeviceSpec
from .. import controls as widgets
from ..fields import BadInput, NumberField
from ..press import ClickFilter
from ..style import button, row, text
from .inputs import TextField

DRIVERS = (*sorted(VFIO_DRIVERS, reverse=True), "ahci", "virtio-pci")
PCI = re.compile(r"(?P<slot>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2})\.[0-7]", re.IGNORECASE)


EXAMPLE = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
UUID = re.compile("-".join(f"[0-9a-f]{{{len(part)}}}" for part in EXAMPLE.split("-")), re.IGNORECASE)


class DeviceBox:
    """The fields of one device. `changed` is called when something changes that others see; `remove` with this box."""

    def __init__(
        self, spec: DeviceSpec, clicks: ClickFilter, remove: Callable[[DeviceBox], None], changed: Callable[[], None]
    ) -> None:
        self.name = TextField("name", spec.name)
        self.address = TextField("address", spec.address, tip="a PCI address, or a UUID for mdev", wrong=self._misspelt)
        self.group = NumberField("group", spec.group, low=-2, high=1000, tip="number of its iommu_group")
        self.group.text.continuous_update = False  # the box moves only when the number is whole
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
        self.remove = button("Remove", f"take {spec.name} out of the machine", clicks=clicks)
        self.remove.on_click(lambda _: remove(self))
        self.rare = row("", self.bus, self.dev_set, *self.flags.values(), self.model, self.vfs, self.physfn)
        self.more = widgets.ToggleButton(description="More", tooltip="what else it can have", layout={"width": "auto"})
        self.more.observe(lambda change: widgets.unfold(self.rare, change["new"]), "value")
        widgets.unfold(self.rare, False)
        self.needed = self.name, self.address, self.group, self.driver, self.vfs
        for seen in (*(one.text for one in (*self.needed, self.dev_set, self.physfn)), self.bus, self.flags["noiommu"]):
            seen.observe(lambda _: changed(), "value")
        first = row("", self.name, self.address, self.driver, self.group, self.more, self.remove)
        self.box = widgets.VBox([first, self.rare], kind="device")

    def _misspelt(self, address: str) -> str:
        if self.bus.value == "pci" and not PCI.fullmatch(address):
            return "a PCI address is like 0000:01:00.0"
        return "" if self.bus.value == "pci" or UUID.fullmatch(address) else f"a UUID is like {EXAMPLE}"

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


class GroupBox:
    """An iommu_group: who is in it, what that means, and a button for one more."""

    def __init__(self, number: str, clicks: ClickFilter, add: Callable[[], None]) -> None:
        self.says = text("group-says")
        self.add = button("Add one", f"one more device in the group {number}", clicks=clicks)
        self.add.on_click(lambda _: add())
        self.members = widgets.VBox([], kind="members")
        self.box = widgets.Box([self.members, widgets.Box([self.says, self.add], kind="group")], kind="group-line")

    def show(self, number: str, devices: Sequence[DeviceBox]) -> None:
        """These are in it."""
        self.says.value = f"<b>iommu_group {escape(number)}</b> {describe_group(devices)}"
        boxes = [each.box for each in devices]
        if [*self.members.children] != boxes:
            self.members.children = boxes


def describe_group(devices: Sequence[DeviceBox]) -> str:
    """What it means for a program that these share a group, as HTML."""
    shown = [(value(each.name), value(each.driver), value(each.dev_set)) for each in devices]
    others = [f"{driver} has {name}" for name, driver, _ in shown if driver not in VFIO_DRIVERS]
    sets = {word for _, _, word in shown if word and [other for _, _, other in shown].count(word) > 1}
    if any(each.flags["noiommu"].value for each in devices):
        said = "no IOMMU watches it"
    else:
        said = f"not viable: {', '.join(others)}" if others else "viable"
    together = "".join(f"; {', '.join(name for name, _, its in shown if its == word)} reset together" for word in sets)
    return escape(said + together, quote=False)


def value(field: TextField | NumberField) -> str:
    """What stands in a field, right or wrong."""
    return str(field.text.value).strip()


class Devices(widgets.VBox):
    """All devices of a machine, by their groups. `changed` is called when one is added or removed."""

    def __init__(self, clicks: ClickFilter, changed: Callable[[], None]) -> None:
        self.rows: list[DeviceBox] = []
        self.groups: dict[str, GroupBox] = {}
        self._clicks, self._changed = clicks, changed
        super().__init__([], kind="devices")

    def show(self, devices: Collection[DeviceSpec]) -> None:
        """These are the devices now."""
        self.rows = [self._made(spec) for spec in devices]
        self._arrange()

    def read(self) -> tuple[DeviceSpec, ...]:
        """The devices. Raises BadInput where a field cannot be used, ValueError where devices do not go together."""
        devices = tuple(each.read() for each in self.rows)
        check(devices)
        return devices

    def add(self, group: str = "") -> None:
        """One more device: in this group, or in one of its own."""
        used = [value(each.group) for each in self.rows]
        numbers = [int(one) for one in used if one.isdecimal()]
        members = [each for each in self.rows if value(each.group) == group]
        number = int(group) if group and members else 1 + max(numbers, default=0)
        names = {value(each.name) for each in self.rows}
        name = next(
            name for name in (f"dev{count}" for count in range(len(names), 2 * len(names) + 1)) if name not in names
        )
        self.rows = [*self.rows, self._made(DeviceSpec(name, self._address(members), number))]
        self._follow()

    def _address(self, beside: Collection[DeviceBox]) -> str:
        """A PCI address that is free, of another function of the same slot if there is one."""
        used = {value(each.address).lower() for each in self.rows}
        slots = [found["slot"] for each in beside if (found := PCI.fullmatch(value(each.address)))]
        functions = [f"{slot}.{number}" for slot in slots for number in range(8)]
        buses = [f"0000:{bus:02x}:00.0" for bus in range(16, 256)]
        return next((one for one in [*functions, *buses] if one.lower() not in used), "")

    def _made(self, spec: DeviceSpec) -> DeviceBox:
        return DeviceBox(spec, self._clicks, self._remove, self._follow)

    def _follow(self) -> None:
        """A device was changed. Where the number of a group cannot be used, no box moves."""
        if not any(each.group.message or each.group.waits for each in self.rows):
            self._arrange()
        self._changed()

    def _remove(self, gone: DeviceBox) -> None:
        self.rows = [each for each in self.rows if each is not gone]
        self._follow()

    def _arrange(self) -> None:
        """Each device stands beside the box of its group."""
        inside: dict[str, list[DeviceBox]] = {}
        for each in self.rows:
            inside.setdefault(value(each.group), []).append(each)
        was = self.groups
        self.groups = {
            number: was.get(number) or GroupBox(number, self._clicks, partial(self.add, number)) for number in inside
        }
        for number, devices in inside.items():
            self.groups[number].show(number, devices)
        shown = [each.box for each in self.groups.values()]
        if [*self.children] != shown:  # type: ignore[has-type]
            self.children = shown


def check(devices: Sequence[DeviceSpec]) -> None:
    """Can these be in one machine? Raises ValueError, and says which cannot."""
    for what in ("name", "address"):
        seen: set[str] = set()
        for spec in devices:
            found = getattr(spec, what)
            if found in seen:
                raise ValueError(f"two devices have the {what} {found!r}")
            seen.add(found)
    for spec in devices:
        if spec.driver in VFIO_DRIVERS and spec.bus != (bus := "pci" if spec.driver == "vfio-pci" else "mdev"):
            raise ValueError(f"the driver {spec.driver} of {spec.name!r} is on the bus {bus}, not on {spec.bus}")
        if spec.physfn and spec.physfn not in {other.address for other in devices}:
            raise ValueError(f"there is no device {spec.physfn!r}, the physical function of {spec.name!r}")
        for other in devices:
            if spec.group == other.group >= 0 and spec.noiommu != other.noiommu:
                raise ValueError(f"the group {spec.group} cannot be behind an IOMMU and behind none")
