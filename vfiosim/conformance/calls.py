"""The calls of a recording in terms of a simulated process.

A step becomes a `Prepared` call: which method of the process to use, with what, and how its answer is written down. What
concerns more than one process (fork, exit, kill, join, observe) is in `replay.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..kernel import Unsupported
from .arguments import Arguments
from .ioctls import Ioctl
from .scope import Scope, Step

_MAPPINGS_FROM: Final = 0x5A0000000000  # the n-th mmap of a scenario lies n * 256 MiB further up
_MAPPINGS_APART: Final = 0x10000000
_MAP_FIXED_NOREPLACE: Final = 0x100000
_RLIMITS: Final = {"RLIMIT_MEMLOCK": 8, "RLIMIT_NOFILE": 7, "RLIMIT_AS": 9}

Answer = tuple[int, dict[str, Any]]  # what the call returned, and what else can be seen


def _plain(result: Any) -> Answer:
    return int(result), {}


def _zero(result: Any) -> Answer:
    return 0, {}


def _nothing() -> dict[str, Any]:
    return {}


@dataclass(slots=True)
class Prepared:
    """A call that can be made: a method of the process and its arguments, and how to read the answer."""

    method: str
    args: tuple[Any, ...]
    answer: Callable[[Any], Answer] = _plain
    after_error: Callable[[], dict[str, Any]] = _nothing  # what can be seen although the call failed
    kwargs: dict[str, Any] = field(default_factory=dict)
    on_a_duplicate: bool = False  # the first argument is a descriptor to be duplicated for the call


class Calls:
    """Prepares the calls of one scenario; counts its mappings, whose addresses are fixed."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._mappings = 0

    def prepare(self, step: Step, arguments: Arguments) -> Prepared:
        """The call that a step asks for. Raises Unsupported if there is no such call here."""
        name = step["call"]
        if name == "ioctl":
            return self._ioctl(step, arguments)
        if name in ("mmap", "poke", "store"):
            return self._mmap(step) if name == "mmap" else self._poke(step)
        if name not in _CALLS:
            raise Unsupported(f"the call {name}")
        method, read, answer = _CALLS[name]
        args = tuple(each(self.scope, step) for each in read) + tuple(step.get("caps", ()))
        if name == "prlimit" and "cur" in step:
            args += (self.scope.number(step, "cur"), _hard_limit(self.scope, step))
        if "ptr" in step and name in ("read", "pread", "write", "pwrite"):
            data = (
                _sent(self.scope, step) if name in ("write", "pwrite") else bytes(self.scope.number(step, "count", 4))
            )
            place = arguments.place(data, step["ptr"], step.get("valid", 0))
            return Prepared(f"p{name.removeprefix('p')}", (*(*args, None)[:3], place), _count_alone)
        return Prepared(method, args, answer, on_a_duplicate=method.endswith("msg_fds"))

    def _ioctl(self, step: Step, arguments: Arguments) -> Prepared:
        call = Ioctl(self.scope, arguments, step)
        fd = self.scope.number(step, "fd")
        return Prepared(
            "ioctl", (fd, call.request, call.argument), lambda result: (int(result), call.changes()), call.changes
        )

    def _mmap(self, step: Step) -> Prepared:
        given = {key: self.scope.number(step, key) for key in ("prot", "flags", "fd", "offset") if key in step}
        if "flags" in given:
            given = {"fd": -1, **given, "flags": given["flags"] | _MAP_FIXED_NOREPLACE}
        given["address"] = _MAPPINGS_FROM + self._mappings * _MAPPINGS_APART
        self._mappings += 1
        return Prepared("mmap", (self.scope.number(step, "length"),), kwargs=given)

    def _poke(self, step: Step) -> Prepared:
        data = bytes.fromhex(step["hex"])
        place = self.scope.number(step, "addr")
        return Prepared("memory.write", (place, data, _width(step, len(data))), lambda _: (len(data), {}))


def _width(step: Step, size: int) -> int:
    """How registers of a device are reached: what the kernel copies, byte by byte where it is less than 8."""
    return 1 if step["call"] in ("peek", "poke") and size < 8 else 0


def _width_read(scope: Scope, step: Step) -> int:
    return _width(step, scope.number(step, "count"))


Read = Callable[[Scope, Step], Any]  # an argument, as a step has it


def _number(key: str, default: int | None = None) -> Read:
    return lambda scope, step: scope.number(step, key, default)


def _text(key: str) -> Read:
    return lambda scope, step: scope.text(step[key])


def _resource(scope: Scope, step: Step) -> int:
    named = _RLIMITS.get(step["resource"])
    return scope.number(step, "resource") if named is None else named


def _sent(_: Scope, step: Step) -> bytes:
    return bytes.fromhex(step.get("hex", "00000000"))


def _hard_limit(scope: Scope, step: Step) -> int:
    return scope.number(step, "max", scope.number(step, "cur"))


def _trimmed(data: bytes) -> Answer:
    return len(data), {"data": data.rstrip(b"\0").hex()}


def _bytes(data: bytes) -> Answer:
    return len(data), {"data": data.hex()} if data else {}


def _count_alone(moved: bytes | int) -> Answer:
    """Of memory that is given by its place only how many bytes were moved is recorded."""
    return (moved if isinstance(moved, int) else len(moved)), {}


def _type_and_mode(mode: int) -> Answer:
    return 0, {"type": _TYPES.get(mode & 0o170000, "reg"), "mode": oct(mode & 0o7777)}


def _syspath(text: str) -> Answer:
    """The line of `/proc/self/fdinfo/N` that only a device file has."""
    paths = [line.split()[1] for line in text.splitlines() if line.startswith("vfio-device-syspath:")]
    return 0, {"syspath": paths[0] if paths else None}


_TYPES: Final = {0o020000: "chr", 0o040000: "dir"}
_FD, _PATH, _SOCK, _OFFSET = _number("fd"), _text("path"), _number("sock"), _number("offset", 0)
_PLACE, _LENGTH, _COUNT = _number("addr"), _number("length"), _number("count", 4)
# What recordings call each call: the method, its arguments, and how its answer is written down.
_CALLS: Final[Mapping[str, tuple[str, tuple[Read, ...], Callable[[Any], Answer]]]] = {
    "open": ("open", (_PATH, _number("flags", 2)), _plain),
    "close": ("close", (_FD,), _zero),
    "dup": ("dup", (_FD,), _plain),
    "read": ("read", (_FD, _COUNT), _bytes),
    "pread": ("pread", (_FD, _COUNT, _OFFSET), _bytes),
    "write": ("write", (_FD, _sent), _plain),
    "pwrite": ("pwrite", (_FD, _sent, _OFFSET), _plain),
    "lseek": ("lseek", (_FD, _number("offset"), _number("whence", 0)), _plain),
    "munmap": ("munmap", (_PLACE, _LENGTH), _zero),
    "mprotect": ("mprotect", (_PLACE, _LENGTH, _number("prot")), _zero),
    "peek": ("memory.read", (_PLACE, _number("count"), _width_read), _trimmed),
    "load": ("memory.read", (_PLACE, _number("count"), _width_read), _trimmed),
    "memfd": ("memfd", (_number("size", 0),), _plain),
    "tmpfile": ("tmpfile", (), _plain),
    "eventfd": ("eventfd", (), _plain),
    "pipe": ("pipe", (), lambda pair: (0, {"fds": list(pair)})),
    "socketpair": ("socketpair", (), lambda pair: (0, {"fds": list(pair)})),
    "sendmsg_fd": ("sendmsg_fds", (_SOCK, lambda scope, step: [scope.value(fd) for fd in step["fds"]]), _plain),
    "recvmsg_fd": ("recvmsg_fds", (_SOCK,), lambda fds: (int(fds is not None), {"fds": list(fds or ())})),
    "poll": (
        "poll", (_FD, _number("events", 1), lambda _, step: int(step.get("timeout", 0))),
        lambda got: (1, {"revents": got}) if got else (0, {}),
    ),
    "capdrop": ("capdrop", (), _zero),  # and the names of its capabilities
    "setuid": ("setuid", (_number("uid"),), _zero),
    "prlimit": (
        "prlimit", (lambda _, step: str(step["target"] or ""), _resource),
        lambda got: (0, {"cur": got[0], "max": got[1]}),
    ),  # and the limits that it sets
    "setrlimit": ("setrlimit", (_resource, _number("cur"), _hard_limit), _zero),
    "write_file": ("write_file", (_PATH, lambda scope, step: scope.text(step["data"]).encode()), _plain),
    "read_file": ("read_file", (_PATH,), lambda data: (0, {"text": data.decode("latin1").strip()})),
    "readlink": ("readlink", (_PATH,), lambda target: (0, {"text": target.rpartition("/")[2]})),
    "stat": ("stat", (_PATH,), _type_and_mode),
    "listdir": ("listdir", (_PATH,), lambda names: (len(names), {"names": sorted(names)})),
    "fdinfo": ("fdinfo", (_FD,), _syspath),
    "status": ("status", (), lambda lines: (0, {key: lines[key] for key in ("VmLck", "VmPin")})),
}  # fmt: skip
