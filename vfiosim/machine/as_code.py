"""A machine's life as a Python program that does the same again."""

from __future__ import annotations

import builtins
import inspect
import keyword
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from itertools import chain, count
from typing import Any

from .. import uapi
from ..engine import KernelOops
from ..engine.student_code import names_used
from ..kernel import Unsupported
from ..topology import TOPOLOGIES, Topology
from ..uapi import KernelError, Struct
from .call import Call
from .events import Called, Event, Killed, Patched, Patches
from .history import turns_after
from .machine import Machine
from .system_calls import SYSTEM_CALLS, struct_of

_IMPORTED = "Blocked DeviceSpec KernelError KernelOops Machine PatchError Topology uapi suppress"
_TAKEN = {"m", "step", *_IMPORTED.split(), *dir(builtins)}
# Numbers in fields of structs that have a name: field → the constants that it may be.
_NAMED = {
    "KvmDeviceAttr.group": ("KVM_DEV_VFIO_FILE",),
    "KvmDeviceAttr.attr": ("KVM_DEV_VFIO_FILE_ADD", "KVM_DEV_VFIO_FILE_DEL"),
    "KvmCreateDevice.type": ("KVM_DEV_TYPE_VFIO",),
}
_STEP = """
def step(call, effects):
    for _ in range(effects):
        m.engine.step(call.thread)
    m.forget_ended()
"""


def program_of(machine: Machine) -> str:
    """Everything that was asked of a machine, as a Python program that ends with the same machine, `m`.

    Calls that took turns are moved by hand, as they went. Raises ValueError for a machine without a trace, and for one that was
    given memory or files from outside.
    """
    return "\n".join(Program(machine).lines()) + "\n"


class Program:
    """Writes a program, event by event. Names that occur in it are remembered, and imported at the top.

    `calls` are the variables of calls that are moved by hand, by number.
    """

    def __init__(self, machine: Machine) -> None:
        if machine.engine.journal is None:
            raise ValueError("a machine that was made with trace=False does not know what it did")
        self.calls: dict[int | str | None, str] = {}
        self._machine = machine
        self._events = list(turns_after(machine))
        waited = [machine.calls[call] for _, call, turns in self._events if call is not None and turns is not None]
        self._by_hand = any(call.thread.manual for call in waited)  # do calls take turns?
        self._at = 0  # the number of the event that is being written
        self._uses = {"Machine"}
        own = (each for event in self._rest if isinstance(event, Patched) for each in event.functions.values())
        self._taken = {*_TAKEN, *map(_name_of, own)}  # names that mean something in the program
        self._names: dict[str, str] = {}  # of processes
        self._addresses: dict[tuple[str, int], str] = {}  # of places in memory, by process and address
        self._functions: dict[str, Callable[..., Any]] = {}
        self._open: list[Patches] = []  # what was patched before each `with` that is open
        self._patches: Patches = {}

    def lines(self) -> Iterator[str]:
        """The program, line by line."""
        body = list(self._body())
        if "suppress" in self._uses:
            yield "from contextlib import suppress\n"
        ours = sorted(self._uses - {"suppress", "step"}, key=lambda name: (name.islower(), name))
        yield f"from vfiosim import {', '.join(ours)}"
        for name, function in self._functions.items():
            yield from _definition(name, function)
        rules = {rule.name: _home(rule) for rule in self._machine.expected}
        yield from (f"from {place[0]} import {place[1]}" for place in rules.values() if place)
        if "step" in self._uses:
            yield f"\n{_STEP}"
        yield ""
        config = f", config={self._machine.own_config!r}" if self._machine.own_config else ""
        kernel = "" if self._machine.kernel == "v7.2" else f", {self._machine.kernel!r}"
        yield f"m = Machine({_topology(self._machine.topology)}{kernel}{config})"
        for rule, place in rules.items():
            yield f"m.expect({place[1]})" if place else f"# here belongs m.expect(…) with your own invariant {rule}"
        yield from body

    def _body(self) -> Iterator[str]:
        if TOPOLOGIES.get(self._machine.topology.name) != self._machine.topology:
            self._uses |= {"DeviceSpec", "Topology"}
        for number, turn in enumerate(self._events):
            self._at, indent = number, "    " * len(self._open)
            yield from (indent + line for line in turn.event.as_code(self))
            for thread, effects in turn.pairs if self._by_hand else ():
                yield "    " * len(self._open) + self._turn(thread, effects)

    @property
    def _rest(self) -> list[Event]:
        """This event, and those that follow it."""
        return [turn.event for turn in self._events[self._at :]]

    def _turn(self, thread: int | str, effects: int) -> str:
        if thread not in self.calls:
            return f"m.engine.settle()  # {thread} does {effects} effects"
        return f"{self.use('step')}({self.calls[thread]}, {effects})"

    # ---- names

    def use(self, name: str) -> str:
        """A name that the program has to import."""
        self._uses.add(name)
        return name

    def _name(self, wished: str, sort: str, number: int) -> str:
        """A variable that is not used yet: the one that is wished for, or e.g. process_2."""
        others = (f"{sort}_{n}" for n in count(number))
        good = wished.isidentifier() and not keyword.iskeyword(wished)
        found = next(name for name in chain([wished] if good else [], others) if name not in self._taken)
        self._taken.add(found)
        return found

    def process(self, name: str) -> str:
        """The variable of a process."""
        return self._names[name]

    def new_process(self, name: str) -> str:
        """The variable of a process that begins: that of the last one of its name, for that has ended."""
        if name not in self._names:
            self._names[name] = self._name(name, "process", len(self._names) + 1)
        self._addresses = {place: known for place, known in self._addresses.items() if place[0] != name}
        return self._names[name]

    def new_address(self, process: str, found: int | None) -> str:
        """The beginning of a line whose answer is an address, "address_1 = "; "" where that has a variable already, or is none."""
        if found is None or (process, found) in self._addresses:
            return ""
        where = self._addresses[process, found] = self._name("", "address", 1)
        return f"{where} = "

    # ---- functions, memory

    def patched(self, functions: Patches) -> Iterator[str]:
        """From now on these functions take the place of the kernel's; in a `with` where the ones before come back."""
        if self._open and self._open[-1] == functions:
            self._open.pop()
            self._patches = functions
            return
        added = {name: own for name, own in functions.items() if self._patches.get(name) is not own}
        self._functions |= added
        own = ", ".join(f"{name}={_name_of(function)}" for name, function in added.items())
        if any(isinstance(event, Patched) and event.functions == self._patches for event in self._rest[1:]):
            yield f"with m.patched({own}):"
            self._open.append(self._patches)
        else:
            yield f"m.patch({own})"
        self._patches = functions

    def data(self, process: str, data: bytes, address: int | None) -> str:
        """What is put into memory: as the struct that a later request finds there; "" for zeros."""
        if not data.strip(b"\0"):
            return ""
        for event in self._rest:
            if isinstance(event, Called) and (event.process, event.name) == (process, "ioctl"):
                struct = self._struct(process, event.arguments[1], data) if event.arguments[2:] == (address,) else ""
                if struct:
                    return f"bytes({struct})"
        if len(data) == 4:
            return f'({int.from_bytes(data, "little", signed=True)}).to_bytes(4, "little", signed=True)'
        return repr(data)

    def _ends_by_itself(self, number: int) -> bool:
        """Is this the call with which a process ends that was told to, or that an oops has killed, without being asked here?"""
        calls = self._machine.calls
        process = calls[number].process
        if calls[number].name != "exit":
            return False
        killed = [
            other for other, call in enumerate(calls) if call.process is process and isinstance(call.error, KernelOops)
        ]
        if not self._by_hand:
            return process.dying or bool(killed)
        before = self._events[self._at - 1].event
        return before == Killed(process.name) or any(other not in self.calls for other in killed)

    # ---- calls

    def call(self, event: Called) -> Iterator[str]:
        """A system call: as a method, as a call that is started by name, or as one that is moved by hand."""
        _, number, turns = self._events[self._at]
        assert number is not None
        if self._ends_by_itself(number):
            return
        who, name = self._names[event.process], event.name
        shown = [self._argument(event, index) for index in range(len(event.arguments))]
        if name == "open" and event.arguments[1:] == (2,):
            shown.pop()
        thread = [f"thread={_quoted(event.thread)}"] if event.thread else []
        if turns is not None:
            self.calls[number] = self._name(event.thread.lower(), "call", number + 1)
            options = ["run=False"] * self._by_hand + thread
            yield f"{self.calls[number]} = {who}.start({', '.join([_quoted(name), *shown, *options])})"
        elif SYSTEM_CALLS[name].method and not thread:
            yield from self._with_its_end(f"{who}.{name}({', '.join(shown)})", self._machine.calls[number])
        else:
            asked = f"{who}.start({', '.join([_quoted(name), *shown, *thread])}).value()"
            yield from self._with_its_end(asked, self._machine.calls[number])

    def _with_its_end(self, line: str, call: Call) -> Iterator[str]:
        if call.error is None:
            yield line + ("" if call.result in (None, 0) else f"  # {call.result!r}")
            return
        kind = "KernelError" if isinstance(call.error, KernelError) else type(call.error).__name__
        self._uses |= {"suppress", kind}
        yield f"with suppress({kind}):"
        said = call.error.name if isinstance(call.error, KernelError) else str(call.error)
        if isinstance(call.error, Unsupported):
            said = call.error.sentence
        yield f"    {line}  # {said}"

    def _argument(self, event: Called, index: int) -> str:
        value = event.arguments[index]
        if event.name == "ioctl" and index == 1:
            return self._request(value)
        if event.name == "ioctl" and isinstance(value, bytes):
            return self._struct(event.process, event.arguments[1], value) or _bytearray(value)
        return self.value(event.process, value)

    def value(self, process: str, value: Any) -> str:
        """A number, by its variable if it is an address of the process; a text or anything else as it is written."""
        if isinstance(value, int) and not isinstance(value, bool):
            return self._addresses.get((process, value)) or (hex(value) if value > 4096 else str(int(value)))
        return _quoted(value) if isinstance(value, str) else repr(value)

    def _request(self, number: int) -> str:
        for name in (*uapi.request_names(number), "VFIO_DEVICE_BIND_IOMMUFD_V5"):
            if getattr(uapi, name, None) == number:
                return f"{self.use('uapi')}.{name}"
        return hex(number)

    def _struct(self, process: str, request: int, data: bytes) -> str:
        """The struct that these bytes are, with the fields that are not as in a fresh one; "" if they are none."""
        known = struct_of(self._machine.variant, request, len(data))
        if known is None or getattr(uapi, known.__name__, None) is not known:
            return ""
        layout: Any = known
        there, fresh, shown = layout.from_buffer_copy(data), layout(), []
        for name in layout._direct:
            value = getattr(there, name)
            if isinstance(value, Struct) or value == getattr(fresh, name) or not isinstance(value, int):
                continue
            setattr(fresh, name, value)
            constants = _NAMED.get(f"{layout.__name__}.{name}", ())
            named = next((f"uapi.{one}" for one in constants if uapi.CONSTANTS[one] == value), "")
            shown.append(f"{name}={named or self.value(process, value)}")
        if bytes(fresh) != data:
            return ""
        return f"{self.use('uapi')}.{layout.__name__}({', '.join(shown)})"


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isprintable() and not set(text) & {'"', "\\"} else repr(text)


def _bytearray(data: bytes) -> str:
    return f"bytearray({data!r})" if data.strip(b"\0") else f"bytearray({len(data)})"


def _topology(topology: Topology) -> str:
    return _quoted(topology.name) if TOPOLOGIES.get(topology.name) == topology else _made(topology)


def _made(value: Any) -> str:
    """What makes a dataclass, with those fields that are not as they are by default; what is needed goes without its name."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_made, value))}{',' * (len(value) == 1)})"
    if not is_dataclass(value):
        return _quoted(value) if isinstance(value, str) else repr(value)
    shown = []
    for each in fields(value):
        mine = getattr(value, each.name)
        if each.default is MISSING and each.default_factory is MISSING:
            shown.append(_made(mine))
        elif mine != each.default:
            shown.append(f"{each.name}={_made(mine)}")
    return f"{type(value).__name__}({', '.join(shown)})"


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "function")


def _definition(name: str, function: Callable[..., Any]) -> Iterator[str]:
    """Where a function comes from: an import for one of this package, its text for one of somebody's own."""
    module = getattr(function, "__module__", "")
    if module.startswith("vfiosim."):
        yield f"from {module} import {_name_of(function)}"
        return
    yield ""
    for used, value in names_used(function).items():
        yield from _used(used, value)
    yield textwrap.dedent(inspect.getsource(function)).rstrip()


def _used(name: str, value: Any) -> Iterator[str]:
    """What a student's function means by a name from outside of it."""
    if getattr(builtins, name, None) is value:
        return
    if isinstance(value, int | str | bytes | tuple | None) and not isinstance(value, Enum):
        yield f"{name} = {value!r}"
    elif (where := _home(value)) is not None:
        yield f"from {where[0]} import {where[1]}" + (f" as {name}" if where[1] != name else "")
    else:
        yield from _definition(name, value)


def _home(value: object) -> tuple[str, str] | None:
    """A module of this package that has this, and under which name; None if none has."""
    known = sorted(
        (name for name in sys.modules if name.partition(".")[0] == "vfiosim"), key=lambda name: name.count(".")
    )
    return next(((name, key) for name in known for key, its in vars(sys.modules[name]).items() if its is value), None)
