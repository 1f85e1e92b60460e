"""The calls of a puzzle, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..explore.model import Programs
from ..explore.result import Outcome
from ..kernel.variants import V72
from ..uapi import KVM_CREATE_VM, REQUESTS, VFIO_GROUP_GET_DEVICE_FD, Errno, Struct, request_names

GIVE_DESCRIPTORS = (KVM_CREATE_VM, VFIO_GROUP_GET_DEVICE_FD)


def thread_words(thread: str, calls: Sequence[tuple[Any, ...]]) -> tuple[str, list[str]]:
    """A thread and its calls: "A (vmm)", or "A" alone for the program A; then "ioctl(3, VFIO_DEVICE_BIND_IOMMUFD, iommufd=4)"."""
    others = dict.fromkeys(process for process, *_ in calls if process != thread)
    return f"{thread} ({', '.join(others)})" if others else thread, [
        call_words(name, arguments) for _, name, *arguments in calls
    ]


def call_words(name: str, arguments: Sequence[Any]) -> str:
    """A system call with the fields of its struct that are not as in a fresh one."""
    if name != "ioctl":
        return f"{name}({', '.join(map(_shown, arguments))})"
    fd, request, *rest = arguments
    shown = [str(fd), _request(request, rest), *(_shown(each) for each in rest)]
    return f"ioctl({', '.join(filter(None, shown))})"


def outcome_words(programs: Programs, outcome: Outcome) -> str:
    """How the calls ended, for people: "A gets descriptor 3; B is refused: EBUSY"."""
    return "; ".join(_ending(thread, programs[thread], results) for thread, results in outcome)


def _ending(thread: str, calls: Sequence[tuple[Any, ...]], results: Sequence[str]) -> str:
    parts = [_result(call, result) for call, result in zip(calls, results, strict=False)]
    return f"{thread} {', then '.join(parts) or 'has done nothing'}"


def _result(call: tuple[Any, ...], result: str) -> str:
    if result in Errno.__members__:
        return f"is refused: {result}"
    if result == "waits":
        return "waits for ever"
    if not result.lstrip("-").isdecimal():
        return f"ends in: {result}"
    _, name, *arguments = call
    gives = name == "open" or (name == "ioctl" and arguments[1] in GIVE_DESCRIPTORS)
    return f"gets descriptor {result}" if gives else f"gets {result}"


def _request(number: int, rest: list[Any]) -> str:
    """Its name; where two requests share the number, the struct tells which it is."""
    layout = type(rest[0]) if rest else None
    names = [name for name in request_names(number) if REQUESTS[name].struct is layout]
    return names[0] if len(names) == 1 else V72.request_name(number)


def _shown(value: Any) -> str:
    if isinstance(value, Struct):
        return ", ".join(f"{name}={now}" for name, now in _filled(value))
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    return hex(value) if isinstance(value, int) and value > 4096 else repr(value)


def _filled(struct: Struct) -> list[tuple[str, str]]:
    """The fields that are not as in a fresh struct."""
    fresh = type(struct)()
    names = [field.name for field in struct.fields() if field.kind == "int" and "." not in field.name]
    return [(name, _shown(struct.get(name))) for name in names if struct.get(name) != fresh.get(name)]
