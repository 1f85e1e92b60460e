"""The bench: buttons that make calls, the descriptor table, how each call ended, and its steps to walk through."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from html import escape
from typing import Any

from ..uapi import VfioDeviceBindIommufd
from ..views import Player
from . import controls as widgets
from .alive import Alive
from .fields import BadInput, DescriptorField, NumberField, struct_fields
from .nodes import OUT_OF_SIGHT, always_shown
from .press import Guard
from .session import PROGRAM, Outcome, Session
from .stage import Stage, opening
from .still import ONLY_LIVE, Still, note
from .style import above, button, row, style, text, told, words
from .table import Line, Table

ROWS = ("open", "descriptor", "bind", "kvm", "why")
FEW = 2  # rows of controls; where there are more, the picture below them is less high


class Bench(Still):
    """A machine with one program; every button is something that the program does.

    * `session`: what has happened up to now; by default a fresh machine;
    * `show`: which rows of controls there are, of `ROWS`; `fields`: can the fields of BIND be changed?
    * everything else is an option of the player, as in `vfiosim.views.show`.

    `listeners` are called after every press, with the bench.
    """

    def __init__(
        self, session: Session | None = None, *, show: Collection[str] = ROWS, fields: bool = True, **options: Any
    ) -> None:
        unknown = {*show} - {*ROWS}
        if unknown:
            raise ValueError(f"there is no row {sorted(unknown)}; there are {', '.join(ROWS)}")
        self.session = session or Session()
        self.listeners: list[Callable[[Bench], None]] = []
        self.guard = Guard(lambda: self._say("A click came while a run was under way; it was ignored.", "wrong"))
        self.buttons: dict[str, widgets.Button] = {}
        self._make_fields(fields)
        self.table = Table(self._choose, lambda: self.stage.bring_out(()))
        self.result = text("vfiosim-result")
        self.code = widgets.Textarea(
            rows=12, layout={"display": "none", "width": "100%"}, tooltip="What was done, as a Python program"
        )
        self.code.add_class("vfiosim-code")
        seen = {"hide": OUT_OF_SIGHT, "keep": always_shown(self.session.machine)}
        self.stage = Stage(self.session.steps, **{**seen, **options})
        self._options = options
        rows = [getattr(self, f"_{name}_row")() for name in ROWS if name in show and name != "why"]
        why = [Alive(self)] if "why" in show else []
        back = self._way_back()
        legend = told(*self.buttons.values(), self.undo, self.reset, self.copy)
        controls = [self.table, *rows, back, self.result, *why, legend, self.code]
        super().__init__([style(), above(controls, [self.stage])])
        self.add_class("vfiosim-lab")
        if len(rows) > FEW:
            self.add_class("vfiosim-many")
        self._refresh({})
        self._say("Ready. The picture shows how things stand now.")

    # ---- the controls

    def _make_fields(self, editable: bool) -> None:
        table = self._open_numbers
        self.device = widgets.Dropdown(options=self.session.nodes(), description="device", tooltip="Which device node")
        self.device.add_class("vfiosim-whole")
        self.bind_fd = DescriptorField("ioctl on fd", table)
        self.struct = struct_fields(VfioDeviceBindIommufd, argsz=24)
        self.fd = DescriptorField("fd", table)
        self.vm = DescriptorField("VM fd", table)
        self.kv = DescriptorField("kvm-vfio fd", table)
        self.listed = DescriptorField("file fd", table, tip="The descriptor to put on the list or take off")
        self._editable = editable

    def _open_numbers(self) -> Collection[int]:
        return self.session.descriptors()

    def _button(
        self, name: str, press: Callable[[], Outcome | None], tip: str, primary: bool = False
    ) -> widgets.Button:
        made = button(name, tip, primary, self.guard)
        made.on_click(lambda _: self._press(press))
        self.buttons[name] = made
        return made

    def _open_row(self) -> widgets.Box:
        session = self.session
        return row(
            "Open",
            self.device,
            self._button("open device", lambda: session.open(self.device.value), "open the node of the chosen device"),
            self._button(
                "open iommufd",
                lambda: session.open("/dev/iommu"),
                "open /dev/iommu: a new iommufd, which keeps the memory map of devices",
            ),
            self._button(
                "open group",
                lambda: session.open(session.group_of(self.device.value)),
                "open the device's old group node: the way to a device before there was BIND",
            ),
        )

    def _bind_row(self) -> widgets.Box:
        bind = self._button(
            "bind", self._bind, "VFIO_DEVICE_BIND_IOMMUFD: put the device into the hands of the iommufd", primary=True
        )
        if not self._editable:
            return row("", bind)
        return row("BIND", self.bind_fd, *self.struct.values(), bind)

    def _descriptor_row(self) -> widgets.Box:
        session, fd = self.session, self.fd
        return row(
            "File",
            fd,
            self._button(
                "GET_INFO", lambda: session.get_info(fd.read()), "VFIO_DEVICE_GET_INFO: ask what the device has"
            ),
            self._button("dup", lambda: session.dup(fd.read()), "a second descriptor for the same open file"),
            self._button("close", lambda: session.close(fd.read()), "give the descriptor back"),
        )

    def _kvm_row(self) -> widgets.Box:
        session = self.session
        return row(
            "KVM",
            self._button("create VM", session.create_vm, "open /dev/kvm and make a virtual machine: KVM_CREATE_VM"),
            self.vm,
            self._button(
                "create kvm-vfio", lambda: session.create_kvm_vfio(self.vm.read()), "the VM's list of VFIO files"
            ),
            self.kv,
            self.listed,
            self._button("FILE ADD", lambda: self._list(session.file_add), "put the file on the list"),
            self._button("FILE DEL", lambda: self._list(session.file_del), "take the file off the list"),
        )

    def _way_back(self) -> widgets.Box:
        self.undo = button("Undo", "take the last call back that changed something, with those after it")
        self.undo.on_click(lambda _: self._press(self._undo))
        self.reset = button("Reset", "a fresh machine")
        self.reset.on_click(lambda _: self._press(self._reset))
        self.copy = button("Copy as code", "everything that was done, as a Python program to copy")
        self.copy.on_click(lambda _: self._show_code())
        return row("", self.undo, self.reset, self.copy)

    # ---- what they do

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

    def _list(self, call: Callable[[int, int], Outcome]) -> Outcome:
        return call(self.kv.read(), self.listed.read())

    def _undo(self) -> None:
        idle = self.session.idle
        taken = self.session.undo()
        if not taken:
            self._say("There is nothing to take back.")
            return
        more = len(taken) - 1
        after = f", and {'the call' if more == 1 else f'the {more} calls'} after it" if more else ""
        why = " Nothing had changed." if idle else " What came after had changed nothing." if more else ""
        self._say(f"Taken back: {taken[0].outcome.call}{after}{f'.{why}' if why else ''}")

    def _reset(self) -> None:
        self.session.reset()
        for field in (self.bind_fd, self.fd, self.vm, self.kv, self.listed):
            field.text.value = ""
        for name, field in self.struct.items():
            field.set(24 if name == "argsz" else 0)
        self._refresh({})
        self._say("Everything is as at the beginning.")

    def _show_code(self) -> None:
        hidden = self.code.layout.display == "none"
        widgets.unfold(self.code, hidden)
        self.copy.description = "Hide code" if hidden else "Copy as code"
        self._write_code()

    def _write_code(self) -> None:
        """The Python is written only while somebody can see it."""
        if self.code.layout.display != "none":
            self.code.value = self.session.code()

    def _press(self, what: Callable[[], Outcome | None]) -> None:
        """Do what a button stands for, and show what came of it. Whatever goes wrong is said in words."""
        before = self.session.descriptors()
        try:
            outcome = what()
        except BadInput as problem:
            self._say(f"Nothing was called; see what is said at {problem}.", "wrong")
            return
        except (ValueError, RuntimeError) as problem:  # a program that has ended calls nothing
            self._say(f"Nothing was called: {problem}. Undo or reset helps.", "wrong")
            return
        self._refresh(before)
        self.stage.bring_out(())
        self.stage.show(self.session.steps, -1 if outcome is None else opening(self.session.steps))
        if outcome is not None:  # last: who can read how the call ended can walk through it
            self._tell(outcome)
        for listener in self.listeners:
            listener(self)

    # ---- what they show

    def still(self) -> str:
        """How things stand, and the steps of the last call; before the first call those of the rehearsal, if there was one."""
        if self.session.calls_made:
            return f"{self.table.value}{note(self.result.value)}{self.stage.still()}"
        rehearsed = self._options.get("room")
        trace = self.session.machine.trace if rehearsed is None else rehearsed
        options = {name: value for name, value in self._options.items() if name != "room"}
        what = note(f"<i>{ONLY_LIVE}</i> What the calls do:")
        return f"{self.table.value}{what}{Player(trace, **options).html()}"

    def in_words(self) -> str:
        """The descriptor table, the line about the last press, and the steps of that call."""
        lines = [words(self.table.value), self.message, self.stage.in_words() if self.session.calls_made else ""]
        return "\n".join(lines).rstrip()

    def _tell(self, outcome: Outcome) -> None:
        if outcome.unknown:
            said = f"<b>not modelled</b>: {escape(outcome.unanswered, quote=False)}"
            self._put(f"? <code>{escape(outcome.call)}</code> → {said}", "unknown")
            return
        more = escape(outcome.sentence, quote=False)
        if outcome.check:
            more += (
                f' <span class="vfiosim-where">check <b>{escape(outcome.check)}</b> at {escape(outcome.where)}</span>'
            )
        sign = "✕" if outcome.refused else "✓"
        line = f"{sign} <code>{escape(outcome.call)}</code> → <b>{escape(outcome.result)}</b> {more}"
        steps, at = len(self.session.steps), opening(self.session.steps)
        if steps > 1:
            where = "begins at step 1" if at == 1 else f"shows step {at}; <b>Home</b> leads to the beginning"
            line += (
                f' <span class="vfiosim-walk">{steps} steps: the picture {where}; <b>End</b> shows the result.</span>'
            )
        self._put(line, "refused" if outcome.refused else "good")

    def _say(self, sentence: str, sort: str = "") -> None:
        self._put(escape(sentence, quote=False), sort)

    def _put(self, line: str, sort: str) -> None:
        self.result.value = f'<span role="status" class="{sort}">{line}</span>'

    @property
    def message(self) -> str:
        """The line about the last press, in words."""
        return words(self.result.value)

    def _refresh(self, before: dict[int, str]) -> None:
        """Bring the table, the fields and the code in line with the session."""
        now = self.session.descriptors()
        chips = tuple((fd, f"file {label}") for fd, label in now.items())
        self.table.show([Line(PROGRAM, "", "File descriptors of the program:", chips, "none yet")])
        for fd, label in now.items():
            if label not in before.values():
                self._fill(fd, label)
        for field in (self.bind_fd, self.fd, self.vm, self.kv, self.listed):
            field.look_again()
        self.undo.disabled = not self.session.can_undo
        self._write_code()

    def _fill(self, fd: int, label: str) -> None:
        """A file is new: the fields that are about such a file get its descriptor."""
        for field in self._about(label):
            field.set(fd)

    def _about(self, label: str) -> list[NumberField]:
        """The fields that are about such a file."""
        if re.match(r"vfio\d", label):
            return [self.bind_fd, self.fd, self.listed]
        if label.startswith("iommu#"):
            return [self.struct["iommufd"]]
        return [field for kind, field in (("kvm-vm", self.vm), ("kvm-vfio", self.kv)) if label.startswith(kind)]

    def _choose(self, _: str, fd: int) -> None:
        """A descriptor is chosen for the next call: every field that can be about its file gets it."""
        label = self.session.descriptors()[fd]
        for field in {*self._about(label), self.fd, *([self.listed] if label.startswith("group") else [])}:
            field.set(fd)
        self.stage.bring_out([f"fds {PROGRAM}", f"file {label}"])
