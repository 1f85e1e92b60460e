"""Every system call, declared once: its arguments, what it does, and the kernel code that it runs.

Whoever wants to know something about a call reads it here: a process that makes it, a form that offers it, a program that is
written of a run, an exploration.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from ..engine import load
from ..kernel.af_unix import sys_socketpair, unix_stream_recvmsg, unix_stream_sendmsg
from ..kernel.cred import sys_capset, sys_prlimit64, sys_setrlimit, sys_setuid
from ..kernel.fs.eventfd import do_eventfd
from ..kernel.fs.file import O_RDWR, receive_fd_replace
from ..kernel.fs.host import HostFile
from ..kernel.fs.read_write import sys_lseek, sys_poll, sys_read, sys_write
from ..kernel.fs.shmem import memfd_create
from ..kernel.fs.syscalls import do_sys_openat2, open_plain, proc_fdinfo, sys_close, sys_dup, sys_ioctl
from ..kernel.fs.sysfs import list_directory, mode_of, read_link, read_sysfs_file, sysfs_open, write_sysfs_file
from ..kernel.mmap import MAP_SHARED, access_memory, do_munmap, dup_mmap, ksys_mmap_pgoff
from ..kernel.module import delete_module, module_name
from ..kernel.task import TaskStruct, begin_new_exec, copy_files, do_exit
from ..kernel.variants import Variant
from ..uapi import REQUESTS, Struct

Code = Coroutine[Any, Any, Any]
_BYTES: Final = (bytes, bytearray, str)
# What sorts of arguments there are: in words, and the types that they have in Python.
_SORTS: Final[dict[str, tuple[str, Any]]] = {
    "fd": ("a descriptor", int),
    "number": ("a number", int),
    "path": ("a path", str),
    "name": ("a name", str),
    "bytes": ("bytes", _BYTES),
    "text": ("bytes", _BYTES),
    "fds": ("descriptors", (tuple, list)),
    "names": ("names", (tuple, list)),
    "thing": ("something of the kernel's", object),
}
_OF: Final = {"fds": "fd", "names": "name"}  # of what there are several


def must_be(sort: str, what: str, *values: Any) -> None:
    """Raises TypeError for a value that is not of this sort; `what` takes it."""
    words, kind = _SORTS[sort]
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"{what} takes {words} here, not {value!r}")
        if sort in _OF:
            must_be(_OF[sort], what, *value)


class Argument(NamedTuple):
    """An argument of a call: its name, its sort, and what a form offers in it at first."""

    name: str
    sort: str = "number"
    start: Any = 0


@dataclass(frozen=True)
class SystemCall:
    """A system call.

    * `does`: what it does, in a few words; `arguments`: what it is given;
    * `code` is given the machine that was built, the process, and the arguments, and is the kernel's side;
    * `offset`: it can be told an offset too, as pread and pwrite are;
    * `method`: a process has a method of this name with these arguments; `returns_fd`: it returns a new descriptor;
    * `plain`: it takes only numbers, texts and bytes, so a program that is written down can make it.
    """

    name: str
    does: str
    arguments: tuple[Argument, ...]
    code: Callable[..., Code]
    offset: bool = False
    method: bool = True
    returns_fd: bool = False
    plain: bool = True

    @property
    def on_a_file(self) -> bool:
        """Is it about a descriptor?"""
        return FD in self.arguments

    def check(self, arguments: Sequence[Any]) -> None:
        """Raises TypeError for an argument of a wrong sort."""
        for value, argument in zip(arguments, self.arguments, strict=False):
            must_be(argument.sort, self.name, value)
        if self.name != "ioctl":  # whose last one may be a buffer; what else may be left out is a number
            must_be("number", self.name, *(value for value in arguments[len(self.arguments) :] if value is not None))


def _alone(code: Callable[..., Code]) -> Callable[..., Code]:
    """Kernel code that finds by itself who calls."""
    return lambda _built, _task, *arguments: code(*arguments)


def _on(code: Callable[..., Code]) -> Callable[..., Code]:
    """Kernel code that is told which machine it runs on."""
    return lambda built, _task, *arguments: code(built, *arguments)


def _data(data: bytes | bytearray | str) -> bytes:
    """What a program writes, a text or bytes."""
    return data.encode() if isinstance(data, str) else bytes(data)


async def _fork(parent: TaskStruct, child: TaskStruct) -> None:
    await dup_mmap(await load(parent.mm), await load(child.mm))
    await copy_files(parent, child)


def import_file(host: HostFile) -> Code:
    """What stands for a file of the host in a machine."""
    if host.kind == "eventfd":
        return do_eventfd(host)
    return memfd_create(0, host) if host.kind == "memfd" else open_plain(host.kind)


def _path(start: str = "") -> Argument:
    return Argument("path", "path", start)


def _number(name: str, start: int = 0) -> Argument:
    return Argument(name, "number", start)


FD: Final = Argument("fd", "fd")
_LENGTH: Final = _number("length", 4096)
_ALL: Final = (
    SystemCall("close", "give the descriptor back", (FD,), _alone(sys_close)),
    SystemCall("dup", "a second descriptor for the same open file", (FD,), _alone(sys_dup), returns_fd=True),
    SystemCall("ioctl", "a request", (FD, _number("request")),
               _on(lambda built, fd, request, argument=0:
                   sys_ioctl(fd, request, argument, built.vfio.variant.request_name(request)))),
    SystemCall("read", "read bytes", (FD, _number("size", 8)), _alone(sys_read), offset=True, method=False),
    SystemCall("write", "write bytes", (FD, Argument("data", "bytes", "01 00 00 00 00 00 00 00")),
               _alone(lambda fd, data, *where: sys_write(fd, _data(data), *where)), offset=True, method=False),
    SystemCall("lseek", "where the next read or write begins", (FD, _number("offset"), _number("whence")), _alone(sys_lseek)),
    SystemCall("poll", "which events are there", (FD, _number("events", 1), _number("timeout")), _alone(sys_poll)),
    SystemCall("fdinfo", "what /proc/self/fdinfo tells", (FD,), _alone(proc_fdinfo)),
    SystemCall("mmap", "map a part of the file",
               (_LENGTH, _number("prot", 3), _number("flags", MAP_SHARED), FD, _number("offset")),
               _alone(lambda *given: ksys_mmap_pgoff(*given, *[None] * (len(given) == 5))), method=False),
    SystemCall("sendmsg_fds", "send open files over this socket", (FD, Argument("fds", "fds", "")), _alone(unix_stream_sendmsg)),
    SystemCall("recvmsg_fds", "receive open files from this socket", (FD,), _alone(unix_stream_recvmsg)),
    SystemCall("open", "open a file (flags 2: to read and write)",
               (_path("/dev/vfio/devices/vfio0"), _number("flags", O_RDWR)),
               _on(lambda built, path, flags=O_RDWR: do_sys_openat2(built.devtmpfs, path, flags, partial(sysfs_open, built.buses))),
               returns_fd=True),
    SystemCall("eventfd", "an eventfd", (), _alone(do_eventfd), returns_fd=True),
    SystemCall("memfd", "a memory file", (_number("size", 4096),), _alone(memfd_create), returns_fd=True),
    SystemCall("socketpair", "two connected sockets", (), _alone(sys_socketpair)),
    SystemCall("plain", "a file that VFIO knows nothing of: file, pipe, socket", (Argument("name", "name", "file"),),
               _alone(open_plain), returns_fd=True),
    SystemCall("load", "read memory that is mapped, as an instruction does", (_number("address"), _number("size", 4)),
               _alone(lambda address, size, width=0: access_memory(address, size, None, width)), method=False),
    SystemCall("store", "write memory that is mapped, likewise", (_number("address"), Argument("data", "bytes", "01 00 00 00")),
               _alone(lambda address, data, width=0: access_memory(address, len(_data(data)), _data(data), width)), method=False),
    SystemCall("munmap", "unmap a range", (_number("address"), _LENGTH), _alone(do_munmap), method=False),
    SystemCall("write_file", "write into a file of /sys", (_path(), Argument("data", "text", "")),
               _on(lambda built, path, data: write_sysfs_file(built.buses, path, _data(data)))),
    SystemCall("read_file", "read a file of /sys", (_path(),), _on(lambda built, path: read_sysfs_file(built.buses, path))),
    SystemCall("listdir", "the names in a directory", (_path("/dev/vfio/devices"),),
               _on(lambda built, path: list_directory(built.buses, built.devtmpfs, path))),
    SystemCall("readlink", "where a link leads", (_path(),), _on(lambda built, path: read_link(built.buses, built.devtmpfs, path))),
    SystemCall("stat", "kind and permissions of a file", (_path("/dev/iommu"),),
               _on(lambda built, path: mode_of(built.buses, built.devtmpfs, path))),
    SystemCall("rmmod", "unload a module, a driver for one", (Argument("name", "name", "vfio-pci"),),
               _on(lambda built, name: delete_module(built.buses, module_name(name)))),
    SystemCall("setuid", "become another user", (_number("uid", 1000),), _alone(sys_setuid)),
    SystemCall("capset", "give capabilities away", (Argument("names", "names", "CAP_SYS_RAWIO"),), _alone(sys_capset),
               method=False),
    SystemCall("setrlimit", "set a limit: 7 descriptors, 8 locked memory",
               (_number("resource", 8), _number("soft"), _number("hard")), _alone(sys_setrlimit)),
    SystemCall("prlimit", "the limits of any process: its name, which limit; with a soft and a hard one they are set",
               (Argument("process", "name", ""), _number("resource", 8)),
               lambda built, _, name, *limits: sys_prlimit64(built.root, name, *limits)),
    SystemCall("exec", "run another program", (), lambda _, task: begin_new_exec(task)),
    SystemCall("exit", "end the process", (), lambda _, task: do_exit(task), method=False),
    SystemCall("fork", "a child that shares every open file", (Argument("child", "thing"),),
               lambda _, task, child: _fork(task, child), method=False, plain=False),
    SystemCall("import_fd", "take over a file of the computer that this runs on", (Argument("file", "thing"),),
               _alone(import_file), method=False, plain=False),
    SystemCall("receive_fd", "get an open file that another process has", (_number("number"), Argument("file", "thing")),
               _alone(receive_fd_replace), method=False, plain=False),
)  # fmt: skip
SYSTEM_CALLS: Final = {call.name: call for call in _ALL}

# Whose requests a file answers, by the name of its file operations; its own kind comes first.
REQUESTS_OF: Final[dict[str, tuple[str, ...]]] = {
    "vfio device": ("device",),
    "vfio group": ("group",),
    "vfio container": ("container",),
    "iommufd": ("iommufd", "container"),
    "kvm": ("kvm",),
    "kvm-vm": ("vm",),
    "kvm-device": ("kvm-device",),
}


def check_arguments(name: str, arguments: Sequence[Any]) -> None:
    """Raises ValueError if there is no such call, TypeError for an argument of a wrong sort."""
    if name not in SYSTEM_CALLS:
        raise ValueError(f"there is no call {name!r}; there are {', '.join(SYSTEM_CALLS)}")
    SYSTEM_CALLS[name].check(arguments)


def layouts(variant: Variant, request: int, kinds: Sequence[str] | None = None) -> list[type[Struct]]:
    """The structs that a request of this number takes, from files of these kinds or of any."""
    if request == variant.bind_request and (kinds is None or "device" in kinds):
        return [variant.layout]
    return [
        each.struct
        for each in REQUESTS.values()
        if each.number == request and each.struct and (kinds is None or each.file in kinds)
    ]


def struct_of(variant: Variant, request: int, size: int) -> type[Struct] | None:
    """The struct that a request takes, if it has this size in bytes."""
    return next((layout for layout in layouts(variant, request) if ctypes.sizeof(layout) == size), None)


def fresh(variant: Variant, call: str, arguments: tuple[Any, ...]) -> Iterator[Any]:
    """The arguments of a call, with a buffer of its own for the kernel to write into."""
    for value in arguments:
        if not isinstance(value, bytes):
            yield value
        elif call == "ioctl" and (layout := struct_of(variant, arguments[1], len(value))):
            yield layout.from_buffer_copy(value)
        else:
            yield bytearray(value)
