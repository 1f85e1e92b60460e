"""The calls of a recording in terms of a simulated process.

Each function below turns one step into a `Prepared` call: which method of the process to use, with what, and how
its answer is written down. What concerns more than one process (fork, exit, kill, join, observe) is in `replay.py`.
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
        method = _CALLS.get(name)
        if method is None:
            raise Unsupported(f"the call {name}")
        return method(self, step)

    def _ioctl(self, step: Step, arguments: Arguments) -> Prepared:
        call = Ioctl(self.scope, arguments, step)
        fd = self.scope.number(step, "fd")
        return Prepared(
            "ioctl", (fd, call.request, call.argument), lambda result: (int(result), call.changes()), call.changes
        )

    def _open(self, step: Step) -> Prepared:
        return Prepared("open", (self.scope.text(step["path"]), self.scope.number(step, "flags", 2)))

    def _close(self, step: Step) -> Prepared:
        return Prepared("close", (self.scope.number(step, "fd"),), _zero)

    def _dup(self, step: Step) -> Prepared:
        return Prepared("dup", (self.scope.number(step, "fd"),))

    def _read(self, step: Step) -> Prepared:
        args: tuple[int, ...] = (self.scope.number(step, "fd"), self.scope.number(step, "count", 4))
        if "ptr" in step:
            raise Unsupported("read into a bad address")
        if step["call"] == "pread":
            args += (self.scope.number(step, "offset", 0),)
        return Prepared(step["call"], args, _bytes)

    def _write(self, step: Step) -> Prepared:
        args: tuple[Any, ...] = (self.scope.number(step, "fd"), bytes.fromhex(step.get("hex", "00000000")))
        if "ptr" in step:
            raise Unsupported("write from a bad address")
        if step["call"] == "pwrite":
            args += (self.scope.number(step, "offset", 0),)
        return Prepared(step["call"], args)

    def _lseek(self, step: Step) -> Prepared:
        number = self.scope.number
        return Prepared("lseek", (number(step, "fd"), number(step, "offset"), number(step, "whence", 0)))

    def _mmap(self, step: Step) -> Prepared:
        given = {key: self.scope.number(step, key) for key in ("prot", "flags", "fd", "offset") if key in step}
        length = self.scope.number(step, "length")
        given["address"] = _MAPPINGS_FROM + self._mappings * _MAPPINGS_APART
        self._mappings += 1
        return Prepared("mmap", (length,), kwargs=given)

    def _munmap(self, step: Step) -> Prepared:
        return Prepared("munmap", (self.scope.number(step, "addr"), self.scope.number(step, "length")), _zero)

    def _mprotect(self, step: Step) -> Prepared:
        number = self.scope.number
        return Prepared("mprotect", (number(step, "addr"), number(step, "length"), number(step, "prot")), _zero)

    def _peek(self, step: Step) -> Prepared:
        args = self.scope.number(step, "addr"), self.scope.number(step, "count")
        return Prepared("memory.read", args, lambda data: (len(data), {"data": data.rstrip(b"\0").hex()}))

    def _poke(self, step: Step) -> Prepared:
        data = bytes.fromhex(step["hex"])
        return Prepared("memory.write", (self.scope.number(step, "addr"), data), lambda result: (len(data), {}))

    def _memfd(self, step: Step) -> Prepared:
        return Prepared("memfd", (self.scope.number(step, "size", 0),))

    def _new_file(self, step: Step) -> Prepared:
        return Prepared(step["call"], ())

    def _two_files(self, step: Step) -> Prepared:
        return Prepared(step["call"], (), lambda pair: (0, {"fds": list(pair)}))

    def _sendmsg_fd(self, step: Step) -> Prepared:
        fds = [self.scope.value(item) for item in step["fds"]]
        return Prepared("sendmsg_fds", (self.scope.number(step, "sock"), fds), on_a_duplicate=True)

    def _recvmsg_fd(self, step: Step) -> Prepared:
        sock = self.scope.number(step, "sock")
        return Prepared("recvmsg_fds", (sock,), lambda fds: (1, {"fds": list(fds)}), on_a_duplicate=True)

    def _poll(self, step: Step) -> Prepared:
        events, timeout = self.scope.number(step, "events", 1), int(step.get("timeout", 0))
        return Prepared(
            "poll",
            (self.scope.number(step, "fd"), events, timeout),
            lambda got: (1, {"revents": got}) if got else (0, {}),
        )

    def _capdrop(self, step: Step) -> Prepared:
        return Prepared("capdrop", tuple(step["caps"]), _zero)

    def _setuid(self, step: Step) -> Prepared:
        return Prepared("setuid", (self.scope.number(step, "uid"),), _zero)

    def _setrlimit(self, step: Step) -> Prepared:
        soft = self.scope.number(step, "cur")
        return Prepared("setrlimit", (_RLIMITS[step["resource"]], soft, self.scope.number(step, "max", soft)), _zero)

    def _write_file(self, step: Step) -> Prepared:
        return Prepared("write_file", (self.scope.text(step["path"]), self.scope.text(step["data"]).encode()))

    def _read_file(self, step: Step) -> Prepared:
        path = self.scope.text(step["path"])
        return Prepared("read_file", (path,), lambda data: (0, {"text": data.decode("latin1").strip()}))

    def _readlink(self, step: Step) -> Prepared:
        path = self.scope.text(step["path"])
        return Prepared("readlink", (path,), lambda target: (0, {"text": target.rpartition("/")[2]}))

    def _stat(self, step: Step) -> Prepared:
        return Prepared("stat", (self.scope.text(step["path"]),), _type_and_mode)

    def _listdir(self, step: Step) -> Prepared:
        return Prepared(
            "listdir", (self.scope.text(step["path"]),), lambda names: (len(names), {"names": sorted(names)})
        )

    def _fdinfo(self, step: Step) -> Prepared:
        return Prepared("fdinfo", (self.scope.number(step, "fd"),), _syspath)

    def _status(self, step: Step) -> Prepared:
        return Prepared("status", (), lambda lines: (0, {key: lines[key] for key in ("VmLck", "VmPin")}))


_CALLS: Final[Mapping[str, Callable[[Calls, Step], Prepared]]] = {
    "open": Calls._open, "close": Calls._close, "dup": Calls._dup,
    "read": Calls._read, "pread": Calls._read, "write": Calls._write, "pwrite": Calls._write, "lseek": Calls._lseek,
    "mmap": Calls._mmap, "munmap": Calls._munmap, "mprotect": Calls._mprotect, "peek": Calls._peek, "poke": Calls._poke,
    "memfd": Calls._memfd, "tmpfile": Calls._new_file, "eventfd": Calls._new_file,
    "pipe": Calls._two_files, "socketpair": Calls._two_files,
    "sendmsg_fd": Calls._sendmsg_fd, "recvmsg_fd": Calls._recvmsg_fd, "poll": Calls._poll,
    "capdrop": Calls._capdrop, "setuid": Calls._setuid, "setrlimit": Calls._setrlimit,
    "write_file": Calls._write_file, "read_file": Calls._read_file, "readlink": Calls._readlink,
    "stat": Calls._stat, "listdir": Calls._listdir, "fdinfo": Calls._fdinfo, "status": Calls._status,
}  # fmt: skip
_TYPES: Final = {0o020000: "chr", 0o040000: "dir"}


def _bytes(data: bytes) -> Answer:
    return len(data), {"data": data.hex()} if data else {}


def _type_and_mode(mode: int) -> Answer:
    return 0, {"type": _TYPES.get(mode & 0o170000, "reg"), "mode": oct(mode & 0o7777)}


def _syspath(text: str) -> Answer:
    """The line of `/proc/self/fdinfo/N` that only a device file has."""
    paths = [line.split()[1] for line in text.splitlines() if line.startswith("vfio-device-syspath:")]
    return 0, {"syspath": paths[0] if paths else None}
