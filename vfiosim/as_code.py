"""A machine's life as a Python program that does the same again."""

from __future__ import annotations

import builtins
import inspect
import keyword
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import Any

from . import uapi
from .branch import struct_of
from .engine import KernelOops
from .invariants import Invariant
from .kernel import Unsupported
from .kernel.task import ALL_CAPABILITIES
from .machine import Event, Machine
from .process import Call
from .sharing import turns_after
from .topology import TOPOLOGIES, Topology
from .uapi import Errno, KernelError, Struct

# Calls that a process has as a method with the same arguments; others are started by name.
_METHODS = {"open", "close", "dup", "ioctl", "plain", "eventfd", "memfd", "poll", "socketpair", "recvmsg_fds", "setuid"}
_METHODS |= {"setrlimit", "exec", "write_file", "listdir", "readlink", "stat", "fdinfo", "sendmsg_fds", "rmmod"}
_IMPORTED = (
    "Blocked",
    "DeviceSpec",
    "KernelError",
    "KernelOops",
    "Machine",
    "PatchError",
    "Topology",
    "uapi",
    "suppress",
)
_TAKEN = {"m", "step", *_IMPORTED, *dir(builtins)}
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
    return "\n".join(_Program(machine).lines()) + "\n"


class _Program:
    """Writes a program. Names that occur in it are remembered, and imported at the top."""

    def __init__(self, machine: Machine) -> None:
        if machine.engine.journal is None:
            raise ValueError("a machine that was made with trace=False does not know what it did")
        outside = next((event for event in machine.history if event.what == "outside"), None)
        if outside is not None:
            raise ValueError(f"this run cannot be written as a program: {outside.details[0]}")
        self._machine = machine
        self._uses = {"Machine"}
        own = (
            function for event in machine.history if event.what == "patches" for function in event.details[0].values()
        )
        self._taken = {*_TAKEN, *map(_name_of, own)}  # names that mean something in the program
        self._names: dict[str, str] = {}  # of processes
        self._calls: dict[int | str, str] = {}  # of calls that are moved by hand, by number
        self._addresses: dict[tuple[str, int], str] = {}  # of places in memory, by process and address
        self._functions: dict[str, Callable[..., Any]] = {}
        self._open: list[dict[str, Any]] = []  # what was patched before each `with` that is open
        self._patches: dict[str, Any] = {}
        self._by_hand = False  # do calls take turns?
        self._before: Event | None = None

    def lines(self) -> Iterator[str]:
        """The program, line by line."""
        body = list(self._body())
        if "suppress" in self._uses:
            yield "from contextlib import suppress\n"
        ours = sorted(self._uses - {"suppress", "step"}, key=lambda name: (name.islower(), name))
        yield f"from vfiosim import {', '.join(ours)}"
        for name, function in self._functions.items():
            yield from _definition(name, function)
        rules = {rule.name: _where_it_is(rule) for rule in self._machine.expected}
        yield from (f"from {place[0]} import {place[1]}" for place in rules.values() if place)
        if "step" in self._uses:
            yield f"\n{_STEP}"
        yield ""
        kernel = "" if self._machine.kernel == "v7.2" else f", {self._machine.kernel!r}"
        yield f"m = Machine({_topology(self._machine.topology)}{kernel})"
        for rule, place in rules.items():
            yield f"m.expect({place[1]})" if place else f"# here belongs m.expect(…) with your own invariant {rule}"
        yield from body

    def _body(self) -> Iterator[str]:
        machine = self._machine
        events = list(turns_after(machine, machine.history, len(machine.engine.micro)))
        waited = [machine.calls[call].thread for _, call, turns in events if call is not None and turns is not None]
        by_hand = self._by_hand = any(thread.manual for thread in waited)
        if not isinstance(machine.topology, str) and TOPOLOGIES.get(machine.topology.name) != machine.topology:
            self._uses |= {"DeviceSpec", "Topology"}
        for number, (event, call, turns) in enumerate(events):
            indent = "    " * len(self._open)
            rest = [other for other, _, _ in events[number + 1 :]]
            for line in self._event(event, call, None if turns is None else by_hand, rest):
                yield indent + line
            self._before = event
            if turns and by_hand:
                for thread, effects in zip(turns[::2], turns[1::2], strict=True):
                    yield "    " * len(self._open) + self._turn(thread, int(effects))

    def _turn(self, thread: int | str, effects: int) -> str:
        if thread not in self._calls:
            return f"m.engine.settle()  # {thread} does {effects} effects"
        self._uses.add("step")
        return f"step({self._calls[thread]}, {effects})"

    # ---- events

    def _event(self, event: Event, call: int | None, by_hand: bool | None, rest: list[Event]) -> Iterator[str]:
        if event.what == "process":
            yield from self._process(*event.details)
        elif event.what == "sleep":
            yield f"m.sleep({event.details[0]})"
        elif event.what == "patches":
            yield from self._patched(event.details[0], rest)
        elif event.what == "take_out":
            yield f"m.take_out({', '.join(map(_quoted, event.details))})"
        elif event.what == "fault":
            yield self._fault(*event.details)
        elif event.what == "memory":
            yield from self._memory(event, rest)
        elif event.what == "dying":
            yield f"{self._names[event.details[0]]}.exit()"
        elif event.what == "fork":
            parent, child = event.details
            yield f"{self._names[child]} = {self._names[parent]}.fork({_quoted(child)})"
        elif call is not None and not self._ends_by_itself(call):
            yield from self._call(event, call, by_hand)

    def _fault(self, number: int, errno: int | None, call: int | None) -> str:
        """What is to fail, in the next call or in one that is moved by hand."""
        words = [str(number)]
        if errno is not None:
            self._uses.add("uapi")
            words.append(f"uapi.Errno.{Errno(errno).name}")
        if call is not None and call in self._calls:
            words.append(f"call={self._calls[call]}")
        return f"m.fail_next({', '.join(words)})"

    def _name(self, wished: str, sort: str, number: int) -> str:
        """A variable that is not used yet: the one that is wished for, or e.g. process_2."""
        others = (f"{sort}_{n}" for n in count(number))
        good = wished.isidentifier() and not keyword.iskeyword(wished)
        found = next(name for name in chain([wished] if good else [], others) if name not in self._taken)
        self._taken.add(found)
        return found

    def _process(self, name: str, parent: Any, caps: tuple[str, ...]) -> Iterator[str]:
        if name not in self._names:  # else it is that of one that has ended, and so is its variable
            self._names[name] = self._name(name, "process", len(self._names) + 1)
        self._addresses = {place: known for place, known in self._addresses.items() if place[0] != name}
        if parent is None:
            rights = "" if caps == ALL_CAPABILITIES else f", caps={caps!r}"
            yield f"{self._names[name]} = m.process({_quoted(name)}{rights})"

    def _patched(self, now: dict[str, Any], rest: list[Event]) -> Iterator[str]:
        if self._open and self._open[-1] == now:
            self._open.pop()
            self._patches = now
            return
        added = {name: own for name, own in now.items() if self._patches.get(name) is not own}
        self._functions |= added
        own = ", ".join(f"{name}={_name_of(function)}" for name, function in added.items())
        for_a_while = any(event.what == "patches" and event.details[0] == self._patches for event in rest)
        if for_a_while:
            yield f"with m.patched({own}):"
            self._open.append(self._patches)
        else:
            yield f"m.patch({own})"
        self._patches = now

    def _memory(self, event: Event, rest: list[Event]) -> Iterator[str]:
        process, what, details, *answer = event.details
        memory = f"{self._names[process]}.memory"
        if what != "map":
            yield f"{memory}.{what}({', '.join(self._value(process, item) for item in details)})"
            return
        length, data, prot, address = details
        shown = [str(length), self._data(process, bytes(data), answer[:1], rest)]
        shown += [f"prot={prot}"] if prot != 3 else []
        shown += [f"address={address:#x}"] if address is not None else []
        where = ""
        if answer and not self._addresses.get((process, answer[0])):
            where = self._name("", "address", 1)
            self._addresses[process, answer[0]] = where
        yield (f"{where} = " if where else "") + f"{memory}.map({', '.join(filter(None, shown))})"

    def _data(self, process: str, data: bytes, address: list[int], rest: list[Event]) -> str:
        """What is put into memory: as the struct that a later request finds there."""
        if not data.strip(b"\0"):
            return ""
        for event in rest:
            about = event.details
            if event.what == "call" and about[:2] == (process, "ioctl") and list(about[2][2:]) == address:
                struct = self._struct(process, about[2][1], data)
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
        now = self._before is not None and self._before.what == "dying" and self._before.details[0] == process.name
        return now or any(other not in self._calls for other in killed)

    # ---- calls

    def _call(self, event: Event, number: int, by_hand: bool | None) -> Iterator[str]:
        """`by_hand` is None for a call that went on to its end, alone."""
        process, name, arguments, lane = event.details
        call = self._machine.calls[number]
        who = self._names[process]
        shown = [self._argument(process, name, arguments, index) for index in range(len(arguments))]
        if name == "open" and arguments[1:] == (2,):
            shown.pop()
        if by_hand is not None:
            options = (["run=False"] if by_hand else []) + ([f"lane={_quoted(lane)}"] if lane else [])
            self._calls[number] = self._name(lane.lower(), "call", number + 1)
            yield f"{self._calls[number]} = {who}.start({', '.join([_quoted(name), *shown, *options])})"
        else:
            asked = ", ".join(shown)
            if name not in _METHODS or lane:
                more = f", lane={_quoted(lane)}" if lane else ""
                asked, name = f"{_quoted(name)}{', ' if asked else ''}{asked}{more}", "start"
            yield from self._with_its_end(f"{who}.{name}({asked}){'.value()' if name == 'start' else ''}", call)

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

    def _argument(self, process: str, name: str, arguments: tuple[Any, ...], index: int) -> str:
        value = arguments[index]
        if name == "ioctl" and index == 1:
            return self._request(value)
        if name == "ioctl" and isinstance(value, bytes):
            return self._struct(process, arguments[1], value) or _bytearray(value)
        return self._value(process, value)

    def _value(self, process: str, value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return self._addresses.get((process, value)) or (hex(value) if value > 4096 else str(int(value)))
        return _quoted(value) if isinstance(value, str) else repr(value)

    def _request(self, number: int) -> str:
        for name in (*uapi.request_names(number), "VFIO_DEVICE_BIND_IOMMUFD_V5"):
            if getattr(uapi, name, None) == number:
                self._uses.add("uapi")
                return f"uapi.{name}"
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
            shown.append(f"{name}={named or self._value(process, value)}")
        if bytes(fresh) != data:
            return ""
        self._uses.add("uapi")
        return f"uapi.{layout.__name__}({', '.join(shown)})"


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isprintable() and not set(text) & {'"', "\\"} else repr(text)


def _bytearray(data: bytes) -> str:
    return f"bytearray({data!r})" if data.strip(b"\0") else f"bytearray({len(data)})"


def _topology(topology: Topology) -> str:
    return _quoted(topology.name) if TOPOLOGIES.get(topology.name) == topology else repr(topology)


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "function")


def _where_it_is(rule: Invariant) -> tuple[str, str] | None:
    """The module of an invariant of this package, and its name there; None for one of somebody's own."""
    module = rule.broken.__module__
    names = [name for name, value in vars(sys.modules[module]).items() if value is rule]
    return (module, names[0]) if names and module.startswith("vfiosim.") else None


def _definition(name: str, function: Callable[..., Any]) -> Iterator[str]:
    """Where a function comes from: an import for one of this package, its text for one of somebody's own."""
    module = getattr(function, "__module__", "")
    if module.startswith("vfiosim."):
        yield f"from {module} import {_name_of(function)}"
        return
    yield ""
    try:
        yield textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        yield f"# here belongs your own {_name_of(function)}, which takes the place of {name}"
