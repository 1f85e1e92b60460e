"""Starts a program under the eyes of a supervisor, in one of the two ways."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..uapi import Errno
from .filter import CLOSES, EMPTY, IN_NAMESPACE, NAMESPACE, REDIRECT, Abi, CannotRun, program
from .fuse import FileRequests
from .notices import Notices
from .tree import COVERED, Tree

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
FUSE: Final = "/dev/fuse"


class NoNamespace(CannotRun):
    """Programs get no mount namespace here; one sentence says why."""


@dataclass
class Launched:
    """A program that runs in this way: its calls arrive at `listener`; `told` says if it cannot be run."""

    child: subprocess.Popen[Any]
    listener: Notices
    way: str
    told: socket.socket

    def must_have_begun(self) -> None:
        """It has ended: as itself, or before it was it. Raises OSError where there is no such program."""
        if told := self.told.recv(64):
            number = int(told.split()[1])
            raise OSError(number, os.strerror(number))


def launch(
    abi: Abi,
    tree: Tree,
    command: Sequence[str],
    options: Mapping[str, Any],
    serve: Callable[[FileRequests], None],
    way: str,
    warn: Callable[[str], None],
) -> Launched:
    """Start a program; `serve` answers what is asked about files meanwhile. Raises CannotRun.

    Where it can have no namespace its paths are redirected, of which it is warned if that was not left to us.
    """
    if way != REDIRECT:
        try:
            if not os.path.exists(FUSE):
                raise NoNamespace(f"programs get no /dev and /sys of their own: there is no {FUSE} here")
            covered = " ".join(path for path in COVERED if os.path.dirname(path) not in COVERED)
            mounts = "\n".join([tree.root, covered, *tree.make_room()])
            started = _start(abi, program(abi, IN_NAMESPACE, EMPTY), mounts, command, options)
            return _launched(*started, serve, NAMESPACE)
        except NoNamespace as error:
            if way == NAMESPACE:
                warn(f"{error}; its paths are redirected")
    everything = program(abi, frozenset(abi.calls.values()) - CLOSES)
    return _launched(*_start(abi, everything, "", command, options), serve, REDIRECT)


def _start(
    abi: Abi, code: bytes, mounts: str, command: Sequence[str], options: Mapping[str, Any]
) -> tuple[subprocess.Popen[Any], socket.socket]:
    """A launcher that asks for this filter and these mounts before it becomes the program, and where it tells how that went."""
    here, there = socket.socketpair()
    with there:
        told = [str(there.fileno()), str(abi.seccomp), code.hex(), mounts]
        words = [sys.executable, "-I", "-S", str(_LAUNCHER), *told, *command]
        return subprocess.Popen(words, pass_fds=[there.fileno()], **options), here


def _launched(
    child: subprocess.Popen[Any], here: socket.socket, serve: Callable[[FileRequests], None], way: str
) -> Launched:
    """What it has become. Raises CannotRun, NoNamespace."""
    files = None
    while True:
        while files is not None and here.fileno() not in select.select([here.fileno(), files.fd], [], [])[0]:
            serve(files)
        told, ancillary, _, _ = here.recvmsg(64, socket.CMSG_LEN(4))
        if not ancillary:
            here.close()
            if files is not None:
                files.close()
            child.wait()
            raise _missing(told)
        number = array("i", ancillary[0][2])[0]
        if told == b"listener":
            return Launched(child, Notices(number), way, here)
        if files is None:
            files = FileRequests(number)
        else:
            files.root = number


def _missing(told: bytes) -> CannotRun:
    """What the kernel does not let be, in one sentence."""
    what, _, text = told.decode().partition(" ")
    if not what:
        return CannotRun("programs cannot be run: what was to become the program has ended before")
    number = int(text or 0)
    name = Errno(number).name if number in [each.value for each in Errno] else os.strerror(number)
    if what == "mount":
        return NoNamespace(
            f"programs get no /dev and /sys of their own: this computer lets them have no mount namespace ({name})"
        )
    if number == errno.EINVAL:
        return CannotRun(
            f"programs cannot be run: Linux {os.uname().release} has no seccomp notifications that a signal leaves alone; "
            "5.19 is needed"
        )
    return CannotRun(f"programs cannot be run: this computer lets none of them have a seccomp filter ({name})")
