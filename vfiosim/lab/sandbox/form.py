"""Choose a descriptor, what to ask of it, and with which argument; then Call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape
from typing import Any

from ... import uapi
from ...kernel.base import VFIO_DRIVERS
from ...machine.events import Called, Mapped
from ...machine.system_calls import FD, SystemCall
from .. import controls as widgets
from ..fields import NumberField
from ..run import Run
from ..style import row, text
from .buffer import BufferForm
from .calls import (
    ON_A_FILE,
    OTHER,
    WITHOUT_A_FILE,
    defaults,
    in_groups,
    number_for,
    plain_call,
    requests,
)
from .inputs import BytesField, NumbersField, TextField

NO_FD, OTHER_FD = "no descriptor", "another number"
CONST_ARGUMENT, BUFFER = "a number", "bytes"


class CallForm(widgets.Box):
    """The parts of one call. `parts_of_call` gives what is to be done for it; `run` and `process` tell whose it is."""

    def __init__(self, run: Callable[[], Run], process: Callable[[], str]) -> None:
        self._run, self._process = run, process
        self._quiet = False
        self.fd = widgets.Dropdown(description="on", tooltip="Which descriptor the call is about")
        self.number = NumberField("descriptor", 99, low=-(1 << 31), tip="any number, open or not")
        self.what = widgets.Dropdown(description="call", tooltip="What to ask of it", kind="whole")
        self.request = NumberField("request", "0x3b78", high=(1 << 64) - 1, tip="the number of the request")
        self.sort = widgets.Dropdown(
            options=[CONST_ARGUMENT, BUFFER], description="argument", tooltip="what the argument is"
        )
        self.argument = widgets.Box([], kind="parts")
        self.buffer: BufferForm | None = None
        self.parts: dict[str, Any] = {}
        self.fd.observe(lambda _: self._fd_chosen(), "value")
        self.what.observe(lambda change: self._what_chosen(change["old"]), "value")
        self.sort.observe(lambda _: self._other_argument(), "value")
        self.does = text("does")
        parts = (self.fd, self.number, self.what, self.does, self.request, self.sort, self.argument)
        super().__init__(parts, kind="form")
        self.refresh()

    # ---- what there is to choose from

    def refresh(self, chosen: int | None = None) -> None:
        """The table of descriptors may have changed; `chosen` is the one to turn to, if there is a new one."""
        run, process = self._run(), self._process()
        table = run.descriptors(process) if process in run.alive() else {}
        # The page tells the place of what is chosen in the list that it has: what is in every list has the same place in all, so a
        # choice that is on its way while descriptors come and go means what the reader chose.
        options = [(NO_FD, NO_FD), (OTHER_FD, OTHER_FD), *((f"{fd} → {file.label}", fd) for fd, file in table.items())]
        before = self.fd.value
        was = before if chosen is None else chosen
        values = [value for _, value in options]
        file_was = self._signature
        self._quiet = True
        with self.fd.hold_sync():
            self.fd.options = options
            self.fd.value = was if was in values else next(iter(table), NO_FD)
        self._quiet = False
        moved = chosen == self.fd.value != before and len(table) > 1
        self.turned = f"<b>Next</b> is now on <code>{escape(self.fd.label)}</code>." if moved else ""
        if self._now() != file_was:
            self._fd_chosen()
        elif self.buffer is not None and not self.parts:
            self._fill()

    _signature: Any = None
    turned = ""  # that it has turned to another descriptor of itself, as HTML

    def _now(self) -> Any:
        """What the choice of calls depends on: the file behind the chosen descriptor, and whose it is."""
        file = self._file()
        return (self._process(), self.fd.value, getattr(file, "oid", ""), self._run().machine.kernel)

    def _file(self) -> Any:
        run, process = self._run(), self._process()
        return run.descriptors(process).get(self.fd.value) if process in run.alive() else None

    def _fd_chosen(self) -> None:
        if self._quiet:
            return
        self._signature = self._now()
        widgets.unfold(self.number, self.fd.value == OTHER_FD)
        file = self._file()
        calls: list[tuple[str, Any]]
        if self.fd.value == NO_FD:
            calls = [(plain.name, plain) for plain in WITHOUT_A_FILE]
        else:
            known = requests(self._run(), file) if file is not None else {}
            calls = in_groups(known, ON_A_FILE)
        self._quiet = True
        self.what.options = calls
        self.what.index = 0
        self._quiet = False
        self._what_chosen()

    def _what_chosen(self, before: Any = None) -> None:
        if self._quiet:
            return
        chosen = self.what.value
        if isinstance(chosen, str) and chosen != OTHER:  # a title: on to what stands beyond it, the way the reader goes
            below = self.what.index + 1
            self.what.index = below - 2 if before is self.what.options[below][1] else below
            return
        other = chosen == OTHER
        widgets.unfold(self.request, other)
        widgets.unfold(self.sort, other)
        self.buffer, self.parts = None, {}
        self.does.value = chosen.does if isinstance(chosen, SystemCall) else ""
        if isinstance(chosen, SystemCall):
            self.parts = {each.name: self._part(*each) for each in chosen.arguments if each != FD}
            self.argument.children = [row("", *self.parts.values())] if self.parts else []
        elif other:
            self._other_argument()
        elif isinstance(chosen, uapi.Request):
            self._request_argument(chosen)

    def _request_argument(self, request: uapi.Request) -> None:
        run, process = self._run(), self._process()
        fds = {fd: file.label for fd, file in run.descriptors(process).items()}
        if request.struct is not None:
            self.buffer = BufferForm(request.struct, defaults(run, process, request), fds)
            self.argument.children = [self.buffer]
            return
        if request.argument in ("s32", "int"):
            choices = [str(fd) for fd in fds] if request.argument == "s32" else None
            low, high = (-(1 << 31), (1 << 32) - 1) if request.argument == "s32" else (0, (1 << 64) - 1)
            value = number_for(run, process, request)
            self.parts = {"argument": NumberField("argument", value, low=low, high=high, choices=choices)}
        elif request.argument == "cstr":
            names = [spec.address for spec in run.machine.topology.devices if spec.driver in VFIO_DRIVERS]
            self.parts = {"argument": TextField("name", self._member(names), choices=names)}
        self.argument.children = [row("", *self.parts.values())] if self.parts else []

    def _member(self, names: list[str]) -> str:
        """A device that is in the group behind the chosen descriptor."""
        file = self._file()
        label = str(getattr(file, "label", ""))
        devices = self._run().machine.topology.devices
        inside = [spec.address for spec in devices if label.startswith(f"group{spec.group}#") and spec.address in names]
        return (inside or names or [""])[0]

    def _other_argument(self) -> None:
        if self.what.value != OTHER or self._quiet:
            return
        number = NumberField("argument", 0, high=(1 << 64) - 1)
        part = number if self.sort.value == CONST_ARGUMENT else BytesField("bytes", "00 00 00 00")
        self.parts = {"argument": part}
        self.argument.children = [row("", part)]

    def _part(self, name: str, sort: str, value: Any) -> Any:
        if sort == "number":
            if name == "address":
                mapped = [done.outcome.number for done in self._run().done if isinstance(done.event, Mapped)]
                value = hex(mapped[-1]) if mapped else value
            return NumberField(name, value, low=-(1 << 63), high=(1 << 64) - 1)
        if sort == "bytes":
            return BytesField(name, value)
        return NumbersField(name, value, tip="descriptors, e.g. 3, 4") if sort == "fds" else TextField(name, value)

    def _fill(self) -> None:
        """A descriptor that did not exist when the form was made may be what a field has waited for."""
        request = self.what.value
        if not isinstance(request, uapi.Request) or self.buffer is None:
            return
        run, process = self._run(), self._process()
        fds = {fd: file.label for fd, file in run.descriptors(process).items()}
        self.buffer.follow(defaults(run, process, request), fds)

    def turn_to(self, fd: int, call: str, fields: Mapping[str, int | str]) -> None:
        """Choose this call on a descriptor, with these numbers in its fields, if there is such a descriptor that has it."""
        if fd not in [value for _, value in self.fd.options]:
            return
        before, self.fd.value = self.fd.value, fd
        calls = [name for name, _ in self.what.options]
        if call not in calls:  # the number stands for another file by now
            self.fd.value = before
            return
        self.what.index, self.turned = calls.index(call), ""
        for name, number in fields.items():
            (self.parts if self.buffer is None else self.buffer.fields)[name].set(number)

    # ---- what it makes

    def parts_of_call(self) -> tuple[list[Mapped], Called]:
        """What is to be done: the memory that the argument needs, then the call, without the addresses of that memory.

        Raises BadInput where a field holds something that cannot be used.
        """
        made = self._call()
        memory: list[Mapped] = []
        if self.buffer is not None:
            memory = [Mapped(made.process, len(data), data) for _, data in self.buffer.memory()]
        return memory, made

    def with_addresses(self, call: Called, addresses: list[int]) -> Called:
        """The call with the addresses of the memory that was made for it in its buffer."""
        if not addresses or self.buffer is None:
            return call
        data = bytearray(call.arguments[2])
        for (offset, _), address in zip(self.buffer.memory(), addresses, strict=True):
            data[offset : offset + 8] = address.to_bytes(8, "little")
        return replace(call, arguments=(*call.arguments[:2], bytes(data)))

    def _call(self) -> Called:
        process, chosen = self._process(), self.what.value
        fd = None if self.fd.value == NO_FD else self.number.read() if self.fd.value == OTHER_FD else int(self.fd.value)
        if isinstance(chosen, SystemCall):
            return plain_call(process, chosen, fd, {name: part.read() for name, part in self.parts.items()})
        assert fd is not None
        if chosen == OTHER:
            part = self.parts["argument"]
            return Called(process, "ioctl", (fd, self.request.read(), part.read()))
        if self.buffer is not None:
            return Called(process, "ioctl", (fd, chosen.number, self.buffer.read()))
        if not self.parts:
            return Called(process, "ioctl", (fd, chosen.number))
        value = self.parts["argument"].read()
        if chosen.argument == "int":
            return Called(process, "ioctl", (fd, chosen.number, value))
        data = value.encode() + b"\0" if chosen.argument == "cstr" else (value & 0xFFFFFFFF).to_bytes(4, "little")
        return Called(process, "ioctl", (fd, chosen.number, data))
