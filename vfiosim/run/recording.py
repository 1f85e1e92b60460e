"""A run as a recording, which `python -m vfiosim conformance` and `replay` read: its calls, and how each ended."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Final

from ..conformance.abi import argument_kind, holds_new_fd, is_request, is_struct, returns_fd
from ..conformance.ending import ending, probe
from ..conformance.layouts import StructLayout, layout
from ..conformance.replay import Playback
from ..engine import KernelOops
from ..kernel import Unsupported
from ..kernel.base import syspath
from ..kernel.fs.folders import shown_device
from ..machine import Call, Machine
from ..machine.events import Called
from ..topology import TOPOLOGIES
from ..uapi import KernelError
from .memory import ProgramMemory

_RLIMITS: Final = {7: "RLIMIT_NOFILE", 8: "RLIMIT_MEMLOCK"}
_PAGE: Final = 4096
_MEMORY: Final = ("user_va", "vaddr")  # fields that lead to memory of the program, not to an argument
_DATA_EVENTFD: Final = 1 << 2
Step = dict[str, Any]


class UnsavedError(ValueError):
    """A run cannot be a recording; one sentence says why."""


@dataclass
class Notes:
    """What was read of the memory of programs: when (after so many effects of the machine), where, and what; None: it cannot be."""

    machine: Machine
    read: list[tuple[int, int, bytes | None]] = field(default_factory=list)

    def memory(self, pid: int) -> ProgramMemory:
        """The memory of a process, each reading of which is noted."""
        return _NotedMemory(pid, self)

    def note(self, address: int, data: bytes | None) -> None:
        """Something was read, or could not be."""
        self.read.append((len(self.machine.engine.micro), address, data))

    def of_event(self, number: int) -> list[tuple[int, bytes | None]]:
        """What the kernel read while an event was done; what we read before and after it is none of it."""
        history = self.machine.history
        last = number + 1 == len(history)
        first, end = history[number].after, len(self.machine.engine.micro) if last else history[number + 1].after
        low, high = (bisect_left(self.read, each, key=lambda one: one[0]) for each in (first + 1, end))
        return [(address, data) for _, address, data in self.read[low:high]]

    def at(self, number: int, address: int) -> bytes:
        """What an event read from an address on, as far as it hangs together."""
        parts, data = self.of_event(number), b""
        while more := max((_from(address + len(data), *part) for part in parts), key=len, default=b""):
            data += more
        return data


def _from(place: int, start: int, part: bytes | None) -> bytes:
    return part[place - start :] if part and 0 <= place - start < len(part) else b""


class _NotedMemory(ProgramMemory):
    def __init__(self, pid: int, notes: Notes) -> None:
        super().__init__(pid)
        self._notes = notes

    def read(self, address: int, size: int) -> bytes:
        try:
            data = super().read(address, size)
        except OSError:
            self._notes.note(address, None)
            raise
        self._notes.note(address, data)
        return data


class _Scenario:
    """The steps of a run. Descriptors have names, so that their numbers do not matter; `made` has the call behind a step."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.steps: list[Step] = []
        self.made: list[tuple[Step, Call]] = []
        self._names: dict[str, dict[int, str]] = {}  # of the descriptors of each process
        self._files: dict[str, dict[int, str]] = {}  # and what they lead to
        self._copied: dict[str, set[int]] = {}  # descriptors that a fork has made, and nobody has spoken of as yet
        self._count = 0
        changes = _table_changes(notes.machine)
        calls = iter(notes.machine.calls)
        for number, (_, event) in enumerate(notes.machine.history):
            if isinstance(event, Called):
                call = next(calls)
                self._do(number, event, call)
                self._files.setdefault(event.process, {}).update(changes.get(call.thread.label, {}))

    def _do(self, number: int, event: Called, call: Call) -> None:
        make = getattr(self, f"_{event.name}", None)
        if make is None:
            raise UnsavedError(f"this run cannot be saved: {event.name} has no place in a recording")
        self._names.setdefault(event.process, {})
        if event.name != "receive_fd":
            for fd in self._copied.pop(event.process, set()):
                self._add(event.process, "close", fd=self._fd(event.process, fd))
                del self._names[event.process][fd]
        make(number, event.process, call, *event.arguments)

    def _add(self, process: str, name: str, made: Call | None = None, **more: Any) -> Step:
        step = {"call": name, "proc": process, **more}
        self.steps.append(step)
        if made is not None:
            self.made.append((step, made))
        return step

    def _new(self, process: str, fd: int) -> str:
        self._count += 1
        name = self._names[process][fd] = f"fd{self._count}"
        return name

    def _fd(self, process: str, number: int) -> Any:
        """How a descriptor is written. One that is no file of the machine is taken for an eventfd, and made at once."""
        number = (number + (1 << 31)) % (1 << 32) - (1 << 31)
        if number >= 0 and number not in self._names[process]:
            self._add(process, "eventfd", save=self._new(process, number))
        return f"${self._names[process][number]}" if number >= 0 else number

    # ---- one call each

    def _setrlimit(self, _: int, process: str, call: Call, which: int, soft: int, hard: int) -> None:
        self._add(process, "setrlimit", resource=_RLIMITS[which], cur=soft, max=hard)

    def _open(self, _: int, process: str, call: Call, path: str, flags: int) -> None:
        step = self._add(process, "open", call, path=path, flags=flags)
        if call.error is None:
            step["save"] = self._new(process, int(call.result))

    def _close(self, _: int, process: str, call: Call, fd: int) -> None:
        self._add(process, "close", fd=self._fd(process, fd))
        self._names[process].pop(fd, None)

    def _exit(self, _: int, process: str, call: Call, *_more: Any) -> None:
        self._add(process, "exit")

    def _import_fd(self, _: int, process: str, call: Call, *_file: Any) -> None:
        """A file of the host, whatever it is."""
        self._fd(process, int(call.result))

    def _receive_fd(self, _: int, process: str, call: Call, fd: int, file: Any) -> None:
        name = f"file {file.label}"
        source = next((number for number, held in self._files.get(process, {}).items() if held == name), None)
        if fd in self._copied.get(process, ()):
            self._copied[process].discard(fd)
        elif source is not None and source in self._names[process]:
            copy = f"${self._names[process][source]}"
            self._add(process, "dup", fd=copy, save=self._new(process, fd))
        else:
            self._fork(process, fd, name)

    def _fork(self, process: str, fd: int, file: str) -> None:
        """A process that has just begun has its files from another one, under the same numbers."""
        parent = next((who for who, files in self._files.items() if files.get(fd) == file and who != process), None)
        if parent is None or any(step["proc"] == process and step["call"] != "setrlimit" for step in self.steps):
            raise UnsavedError(f"this run cannot be saved: {file} came to {process} in a message")
        self.steps = [step for step in self.steps if step["proc"] != process]
        self._add(parent, "fork", child=process)
        self._names[process] = dict(self._names[parent])
        self._copied[process] = {*self._names[parent]} - {fd}

    def _read(self, _: int, process: str, call: Call, fd: int, size: int, offset: int | None, *_place: int) -> None:
        name, more = ("read", {}) if offset is None else ("pread", {"offset": offset})
        self._add(process, name, call, fd=self._fd(process, fd), count=size, **more)

    def _lseek(self, _: int, process: str, call: Call, fd: int, offset: int, whence: int) -> None:
        self._add(process, "lseek", call, fd=self._fd(process, fd), offset=offset, whence=whence)

    def _write(self, number: int, process: str, call: Call, fd: int, data: bytes, *place: int) -> None:
        if len(place) > 1:
            data = self.notes.at(number, place[1])[: len(data)]
        more = {"offset": place[0]} if place else {}
        self._add(process, "pwrite" if place else "write", call, fd=self._fd(process, fd), hex=data.hex(), **more)

    def _mmap(
        self, _: int, process: str, call: Call, length: int, prot: int, flags: int, fd: int, offset: int, *_p: Any
    ) -> None:
        self._add(process, "mmap", call, length=length, prot=prot, flags=flags, fd=self._fd(process, fd), offset=offset)

    def _ioctl(self, number: int, process: str, call: Call, fd: int, request: int, argument: int) -> None:
        found = re.match(r"ioctl\(-?\w+, (\w+)", call.shown)
        name: Any = found[1] if found and is_request(found[1]) else request
        step: Step = {"fd": self._fd(process, fd), "request": name}
        kind = argument_kind(name) if is_request(name) else None
        data = self.notes.at(number, argument)
        if kind is None:
            step["arg"] = argument
        elif not data:
            step["ptr"] = "bad" if argument else "null"
        elif any(part is None for _, part in self.notes.of_event(number)):
            step |= {"raw": data.hex(), "ptr": "truncated", "valid": len(data)}
        elif is_struct(kind):
            step |= self._struct(number, process, name, layout(kind), data)
        else:
            text = data.partition(b"\0")[0].decode("latin1")
            step["arg"] = text if kind == "cstr" else self._fd(process, int.from_bytes(data[:4], "little"))
        self._add(process, "ioctl", call, **step)
        if call.error is None and returns_fd("ioctl", name):
            step = self.steps[-1]
            step["save"] = self._new(process, int(call.result))

    def _struct(self, number: int, process: str, name: str, shape: StructLayout, data: bytes) -> Step:
        values = shape.unpack(data[: shape.size].ljust(shape.size, b"\0"))
        room = values.get(shape.size_field or "", shape.size)
        arg = {
            key: value if isinstance(value, int) else f"hex:{value}"
            for key, value in values.items()
            if key == shape.size_field or _is_set(value)
        }
        for key in [*arg]:
            role, value = shape.fields[key].role, arg[key]
            if role == "fd_in":
                arg[key] = self._fd(process, int(value))
            elif role == "ptr":
                arg[key] = self._pointer(number, process, name, key, values)
        if any(holds_new_fd(name, key) for key in shape.fields):
            raise UnsavedError(f"this run cannot be saved: {name} makes a descriptor inside of its struct")
        tail = data[shape.size : room]
        if not tail:
            return {"arg": arg}
        fds = name == "VFIO_DEVICE_PCI_HOT_RESET" or (
            name == "VFIO_DEVICE_SET_IRQS" and values["flags"] & _DATA_EVENTFD
        )
        if not fds:
            return {"arg": arg, "tail": tail.hex()}
        numbers = [int.from_bytes(tail[at : at + 4], "little") for at in range(0, len(tail) // 4 * 4, 4)]
        return {"arg": arg, "tail": {"s32s": [self._fd(process, each) for each in numbers]}}

    def _pointer(self, number: int, process: str, name: str, key: str, values: dict[str, Any]) -> Any:
        """What stands at the address in a field: memory for a mapping, or what was read there."""
        address = values[key]
        if key in _MEMORY:
            length = values.get("length", values.get("size", 0))
            within = address % _PAGE
            save = f"memory{len(self.steps)}"
            self._add(process, "mmap", length=-(-(within + length) // _PAGE) * _PAGE, save=save)
            return f"${save} + {within}"
        data = self.notes.at(number, address)
        if name == "KVM_SET_DEVICE_ATTR" and len(data) >= 4:
            return {"s32": self._fd(process, int.from_bytes(data[:4], "little"))}
        return {"hex": data.hex()} if data else {"hex": "", "ptr": "bad"}


def _is_set(value: int | str) -> bool:
    return bool(value if isinstance(value, int) else value.strip("0"))


def _table_changes(machine: Machine) -> dict[str, dict[int, str]]:
    """By the thread of each call what it has made descriptors lead to, "" to nothing."""
    found: dict[str, dict[int, str]] = {}
    for step in machine.trace:
        for change in step.changes:
            if at := re.fullmatch(r"fds .*\.fd\[(\d+)\]", change.what):
                found.setdefault(step.thread, {})[int(at[1])] = str(change.new or "")
    return found


def document(notes: Notes, title: str) -> dict[str, Any]:
    """The recording of the run of a machine. Raises UnsavedError where it cannot be done again as it was."""
    machine = notes.machine
    if machine.variant.name != "v7.2":
        raise UnsavedError(f"this run cannot be saved: a recording is one of Linux 7.2, not of {machine.variant.name}")
    if TOPOLOGIES.get(machine.topology.name) != machine.topology:
        raise UnsavedError("this run cannot be saved: a recording names a machine, and this one has devices of its own")
    made = _Scenario(notes)
    scenario: dict[str, Any] = {"name": "run", "about": title, "steps": made.steps}
    fresh = Machine(machine.topology)
    devices = _devices(fresh)
    probe0 = probe(fresh.process("probe"), devices)
    playback = Playback(Machine(machine.topology), devices, scenario)
    try:
        results = [playback.step(step) for step in made.steps]
        scenario["result"] = {"steps": results, **ending(playback, devices, probe0)}
    except (Unsupported, KernelError, KernelOops, ValueError) as error:
        raise UnsavedError(f"this run cannot be saved: done again, it stops: {error}") from None
    again_of = {id(step): result.get("errno") for step, result in zip(made.steps, results, strict=True)}
    for step, call in made.made:
        again = again_of[id(step)]
        errno = getattr(call.error, "name", None)
        if again != errno:
            ends = f"{call.shown} ended with {errno or 'success'}, and done again with {again or 'success'}"
            raise UnsavedError(f"this run cannot be saved: {ends}")
    return {
        "kernel": "vfiosim",
        "profile": machine.topology.name,
        "topology": devices,
        "probe0": probe0,
        "scenarios": [scenario],
    }


def _devices(machine: Machine) -> dict[str, dict[str, Any]]:
    """The devices of a fresh machine, as recordings tell of them."""
    found = {}
    for spec in machine.topology.devices:
        device = next(each for each in machine.built.devices.values() if each.address == spec.address)
        driver = device.driver.value.label if device.driver.value is not None else None
        try:
            shown = machine.look(shown_device(device))
        except KernelError:
            shown = None
        vfio = shown.cdev_name if shown is not None else None
        found[spec.name] = {
            "kind": spec.bus, "bdf": spec.address, "sysfs": syspath(device), "vfio": vfio,
            "group": str(spec.group), "driver": driver, "model": spec.model, "group_id": spec.group, "group_name": None,
            "cdev": f"/dev/vfio/devices/{vfio}" in machine.built.devtmpfs.nodes.slots,
        }  # fmt: skip
    return found
