"""The bench: buttons that make calls, the descriptor table, how each call ended, and its steps to walk through."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from ..trace import Trace
from ..uapi import VfioDeviceBindIommufd
from ..views import Player
from . import controls as widgets
from .alive import Alive
from .fields import BadInput, DescriptorField, NumberField, struct_fields
from .nodes import device_nodes
from .outcome import Outcome
from .run import PROGRAM
from .run_view import RunView
from .session import Session
from .static_fallback import ONLY_LIVE, note
from .style import above, button, legend, row, style
from .table import ProgramLine
from .trace_pane import refused_at

ROWS = ("open", "descriptor", "bind", "kvm", "why")
NO_MORE: Mapping[str, tuple[Callable[[Session], Outcome], str]] = {}
FEW, SOME = 2, 10  # rows and buttons; more of them are slimmer, and what is needed less often stands below the picture


class Bench(RunView):
    """A machine with one program; every button is something that the program does.

    * `session`: what has happened up to now; by default a fresh machine;
    * `show`: which rows of controls there are, of `rows`; `fields`: can the fields of BIND be changed?
    * `suggest`: does a field take the descriptor of a file that has just come? At the beginning all fields are filled in;
    * `watch`: names of cells that the reader is told to look at: where a call changes one of them, the picture stands there;
    * `more`: further buttons, e.g. for what other programs do: name → the call, and a tip;
    * everything else is an option of the player, as in `vfiosim.views.show`.
    """

    brief = True
    rows: Sequence[str] = ROWS  # of controls, by the names of the methods that make them

    def __init__(
        self,
        session: Session | None = None,
        *,
        show: Collection[str] = ROWS,
        fields: bool = True,
        more: Mapping[str, tuple[Callable[[Session], Outcome], str]] = NO_MORE,
        suggest: bool = True,
        watch: Collection[str] = (),
        **options: Any,
    ) -> None:
        unknown = {*show} - {*self.rows}
        if unknown:
            raise ValueError(f"there is no row {sorted(unknown)}; there are {', '.join(self.rows)}")
        self.session = session or Session()
        self._suggest, self._watch = suggest, watch
        self._filled: list[list[tuple[NumberField, str, str]]] = []  # by presses: what each has changed in the fields
        options = {"rows": self.session.wanted} | options
        super().__init__(self.session, options)
        self._options = options
        self._make_fields(fields)
        self.code = widgets.Textarea(
            rows=12,
            layout={"display": "none", "width": "100%"},
            tooltip="What was done, as a Python program",
            kind="code",
        )
        rows = [getattr(self, f"_{name}_row")() for name in self.rows if name in show and name != "why"]
        if more:
            others = ((name, partial(call, self.session), tip) for name, (call, tip) in more.items())
            rows.append(self.row("Also" if rows else "", *others))
        why = [Alive(self)] if "why" in show else []
        calls = [*self.buttons.values()]
        back = self._way_back()  # without a row of its own, which nobody would close
        told = legend(*calls, self.undo, self.reset, self.copy)
        if len(rows) > FEW or len(calls) > SOME:
            self.add_class("vfiosim-many")
        controls = [row("", self.table, *back), *rows, self.result, self.code]
        self._above = above(controls, [*self._shown(), *why, told])
        self.children = [style(), self._above]
        self._ready()

    def _shown(self) -> list[widgets.Widget]:
        """What stands below the controls."""
        return [self.trace_pane]

    def tell_at_picture(self, above: widgets.Widget, below: widgets.Widget) -> None:
        """Let these stand right above and below the picture."""
        shown = self._above.children[-1]
        at = shown.children.index(self.trace_pane)
        shown.children = [*shown.children[:at], above, self.trace_pane, below, *shown.children[at + 1 :]]

    # ---- the controls

    def _make_fields(self, editable: bool) -> None:
        table = self.session.descriptors
        nodes = {node.label: node.path for node in device_nodes(self.session.machine.topology)}
        self.device = widgets.Dropdown(options=nodes, description="device", tooltip="Which device node", kind="whole")
        self.bind_fd = DescriptorField("ioctl on fd", table)
        self.struct = struct_fields(VfioDeviceBindIommufd, argsz=24)
        del self.struct["out_devid"]  # the kernel writes it, and reads nothing there
        self.fd = DescriptorField("fd", table)
        self.vm = DescriptorField("VM fd", table)
        self.kv = DescriptorField("kvm-vfio fd", table)
        self.listed = DescriptorField("file fd", table, tip="The descriptor to put on the list or take off")
        self._descriptors = (self.bind_fd, self.fd, self.vm, self.kv, self.listed)
        self._editable = editable

    def _open_row(self) -> widgets.Box:
        session = self.session
        iommufd = "open /dev/iommu: a new iommufd, which says what memory its devices may reach"
        group = "open the device's old group node: the way to a device before there was BIND"
        return self.row(
            "Open",
            self.device,
            ("open device", lambda: session.open(self.device.value), "open the node of the chosen device"),
            ("open iommufd", lambda: session.open("/dev/iommu"), iommufd),
            ("open group", lambda: session.open(self._group()), group),
        )

    def _bind_row(self) -> widgets.Box:
        tip = "VFIO_DEVICE_BIND_IOMMUFD: put the device into the hands of the iommufd"
        bind = self.button("bind", self._bind, tip, primary=True)
        if not self._editable:
            return self.row("", bind)
        return self.row("BIND", self.bind_fd, *self.struct.values(), bind)

    def _descriptor_row(self) -> widgets.Box:
        session, fd = self.session, self.fd
        return self.row(
            "File",
            fd,
            ("GET_INFO", lambda: session.get_info(fd.read()), "VFIO_DEVICE_GET_INFO: ask what the device has"),
            ("dup", lambda: session.dup(fd.read()), "a second descriptor for the same open file"),
            ("close", lambda: session.close(fd.read()), "give the descriptor back"),
        )

    def _kvm_row(self) -> widgets.Box:
        session, vm, kv, listed = self.session, self.vm, self.kv, self.listed
        return self.row(
            "KVM",
            ("create VM", session.create_vm, "open /dev/kvm and make a virtual machine: KVM_CREATE_VM"),
            vm,
            ("create kvm-vfio", lambda: session.create_kvm_vfio(vm.read()), "the VM's list of VFIO files"),
            kv,
            listed,
            ("FILE ADD", lambda: session.file_add(kv.read(), listed.read()), "put the file on the list"),
            ("FILE DEL", lambda: session.file_del(kv.read(), listed.read()), "take the file off the list"),
        )

    def _way_back(self) -> tuple[widgets.Widget, ...]:
        self.undo = self.button("Undo", self._undo, "take the last press back, a refused call too")
        self.undo.quick = True
        self.reset = self.button("Reset", self._reset, "a fresh machine")
        self.copy = button("Show code", "everything that was done, as a Python program to read and copy")
        self.copy.on_click(lambda _: self._show_code())
        return self.undo, self.reset, self.copy

    # ---- what they do

    def _group(self) -> str:
        nodes = device_nodes(self.session.machine.topology)
        return next(node.group for node in nodes if node.path == self.device.value)

    def _bind(self) -> Outcome:
        number = self.bind_fd.read()
        wrong = []
        values = {}
        for name, field in self.struct.items():
            try:
                values[name] = field.read()
            except BadInput as problem:
                wrong.append(problem)
        if wrong:
            raise wrong[0]
        return self.session.bind(number, **values)

    def _reset(self) -> None:
        self.session.reset()
        for field in self._descriptors:
            field.text.value = ""
        for name, field in self.struct.items():
            field.set(24 if name == "argsz" else 0)
        self._refresh({})
        self._say("Everything is as at the beginning.")

    def _show_code(self) -> None:
        hidden = self.code.layout.display == "none"
        widgets.unfold(self.code, hidden)
        self.copy.description = "Hide code" if hidden else "Show code"
        self._write_code()

    def _write_code(self) -> None:
        """The Python is written only while somebody can see it."""
        if self.code.layout.display != "none":
            self.code.value = self.session.code()

    # ---- what they show

    def _where_it_matters(self, trace: Trace) -> int | None:
        born = {change.what for step in trace for change in step.changes}  # with all that is in it
        return refused_at(trace) or next(
            (
                step.index + 1
                for step in reversed(list(trace))
                for change in step.changes
                if change.what.rpartition(".")[2] in self._watch and change.what.rpartition(".")[0] not in born
            ),
            super()._where_it_matters(trace),
        )

    def static_html(self) -> str:
        """How things stand, and the steps of the last call; before the first call those of the rehearsal, if there was one."""
        if self.session.calls_made:
            return f"{self.table.value}{note(self.result.value)}{self.trace_pane.static_html()}"
        rehearsed = self._options.get("reserve")
        trace = self.session.machine.trace if rehearsed is None else rehearsed
        options = {name: value for name, value in self._options.items() if name != "reserve"}
        what = note(f"<i>{ONLY_LIVE}</i> What the calls do:")
        return f"{self.table.value}{what}{Player(trace, **options).html()}"

    def _refresh(self, before: dict[int, Any] | None) -> None:
        now = self.session.descriptors()
        others = [name for name in self.session.alive() if name != PROGRAM and self.session.descriptors(name)]
        made = self.session.calls_made  # the picture may stand at an earlier step
        none, says = ("nothing", "has open after the last step:") if made else ("none yet", "has open:")
        self.table.show([ProgramLine(name, name, says, self._chips(name), none) for name in (PROGRAM, *others)])
        self._fill(before or {}, now)
        for field in self._descriptors:
            field.refresh()
        self.undo.disabled = not self.session.can_undo
        self._write_code()

    def _fill(self, before: dict[int, Any], now: dict[int, Any]) -> None:
        """What has come is put into the fields about it, what has gone is taken out of them; an undone press undoes no more."""
        made, fields = self.session.calls_made, (*self._descriptors, *self.struct.values())
        undone = [self._filled.pop() for _ in self._filled[made:]]
        for field, old, new in (one for press in undone for one in press):
            if field.text.value == new:  # else the reader has written something there since
                field.set(old)
        if not undone or not before:
            olds = [field.text.value for field in fields]
            self._take_over(before, now)
            came = ((field, old, field.text.value) for field, old in zip(fields, olds, strict=True))
            self._filled += [[]] * (made - 1 - len(self._filled))  # a press may be several calls
            self._filled += [[one for one in came if one[1] != one[2]]] * (made > 0)

    def _take_over(self, before: dict[int, Any], now: dict[int, Any]) -> None:
        for fd, file in now.items():
            if (self._suggest or not before) and file not in before.values():
                for field in self._about(file.label):
                    field.set(fd)
        for field in self._descriptors:
            if field.number() in {*before} - {*now}:  # which other one is meant, only the reader knows
                field.set("")

    def _chips(self, process: str) -> tuple[tuple[int, str], ...]:
        return tuple((fd, file.label) for fd, file in self.session.descriptors(process).items())

    def _about(self, label: str) -> list[NumberField]:
        """The fields that are about such a file: they get the descriptor of a new one."""
        if re.match(r"vfio\d", label):
            return [self.bind_fd, self.fd, self.listed]
        if label.startswith("iommu#"):
            return [self.struct["iommufd"]]
        return [field for kind, field in (("kvm-vm", self.vm), ("kvm-vfio", self.kv)) if label.startswith(kind)]

    def _choose(self, process: str, fd: int) -> None:
        if process == PROGRAM:
            label = self.session.descriptors()[fd].label
            for field in {*self._about(label), self.fd, *([self.listed] if label.startswith("group") else [])}:
                field.set(fd)
        super()._choose(process, fd)
