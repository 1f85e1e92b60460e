"""Runs a program, and answers those of its system calls that are about VFIO, iommufd and KVM from a simulated machine.

No sandbox: the program can do to the host what any program of this user can.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from ..kernel import Unsupported
from ..kernel.fs.file import RESERVED
from ..machine import Call, Machine
from ..uapi import Errno, KernelError
from .faults import Faults
from .files import HostFiles
from .filter import CannotRun, abi, program
from .memory import ProgramMemory
from .notices import Notice, Notices
from .programs import HostProcess, HostProcesses
from .traps import Give, GoOn, Made, Outcome, Traps
from .tree import Tree

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_TICK: Final = 0.1  # seconds between two looks at the clock while a call waits for simulated time to pass


@dataclass(frozen=True)
class Told:
    """A call that a program has made: by whom, what, how it ended, and what it has changed in its argument."""

    program: str
    shown: str
    result: Any = None
    errno: str = ""
    sentence: str = ""
    changed: str = ""

    def __str__(self) -> str:
        end = f"-1 {self.errno} ({self.sentence})" if self.errno else str(self.result)
        return f"{self.program}: {self.shown} = {end} {self.changed}".rstrip()


@dataclass
class Pending:
    """A call that is under way, and whom it is to be told."""

    notice: Notice
    program: HostProcess
    made: Made


@dataclass
class Supervisor:
    """Runs one program on `machine`. `tell` is given each call as it ends, `warn` each sentence about what went wrong here."""

    machine: Machine
    tell: Callable[[Told], None] = lambda told: None
    warn: Callable[[str], None] = lambda line: print(f"vfiosim: {line}", file=sys.stderr)
    faults: Faults = field(default_factory=Faults)
    random: Random | None = None
    memory: Callable[[int], ProgramMemory] = ProgramMemory

    def run(self, command: Sequence[str], **options: Any) -> int:
        """Run the program to its end; the answer is its exit status, below 0 the signal that killed it.

        `options` are those of subprocess.Popen. Raises CannotRun where this computer cannot do it, OSError where there is no such
        program.
        """
        self.abi = abi()
        self.files = HostFiles()
        self.tree = Tree(self.machine)
        self.programs = HostProcesses(self.machine, self.files, self.memory)
        self.traps = Traps(self.machine, self.programs, self.files, self.tree, self.abi, self._start)
        self.waiting: list[Pending] = []
        self.poll = select.epoll()
        self._seen = self._state()
        try:
            child, listener = self._launch(command, options)
            self.listener = Notices(listener)
            return self._serve(child)
        finally:
            self.files.close()
            self.tree.close()
            self.poll.close()

    def _launch(self, command: Sequence[str], options: Mapping[str, Any]) -> tuple[subprocess.Popen[Any], int]:
        here, there = socket.socketpair()
        code = program(self.abi, self.abi.calls.values())
        words = [
            sys.executable,
            "-I",
            "-S",
            str(_LAUNCHER),
            str(there.fileno()),
            str(self.abi.seccomp),
            code.hex(),
            *command,
        ]
        with here, there:
            child = subprocess.Popen(words, pass_fds=[there.fileno()], **options)
            there.close()
            told, ancillary, _, _ = here.recvmsg(64, socket.CMSG_LEN(4))
            if not ancillary:
                child.wait()
                raise CannotRun(_missing(told))
            numbers = array("i", ancillary[0][2])
            self._program_started = here.dup()
        return child, numbers[0]

    # ---- the loop

    def _serve(self, child: subprocess.Popen[Any]) -> int:
        ended = os.pidfd_open(child.pid)
        self.poll.register(self.listener.fd, select.EPOLLIN)
        self.poll.register(self.files.inotify, 0)
        self.poll.register(ended, select.EPOLLIN)
        watched = False
        try:
            while True:
                waits = any(each.made.call.thread.deadline is not None for each in self.waiting)
                if bool(self.waiting) != watched:  # a call may wait for a close
                    watched = bool(self.waiting)
                    self.poll.modify(self.files.inotify, select.EPOLLIN if watched else 0)
                ready = dict(self.poll.poll(_TICK if waits else None))
                if waits and not ready:
                    self.machine.sleep(int(_TICK * 1000))
                self._catch_up(ready)
                if ready.get(self.listener.fd, 0) & select.EPOLLIN:
                    self._take_next()
                elif ready.get(self.listener.fd):
                    self.poll.unregister(self.listener.fd)
                self._settle()
                if ended in ready:
                    break
            return child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            os.close(ended)
            self.listener.close()
            with suppress(OSError):
                self._catch_up({each.end: 1 for each in self.programs.living.values() if each.pid == child.pid})
            self._told_by_launcher()

    def still_open(self) -> Iterator[str]:
        """What others have open when the program has ended, in sentences."""
        for process in self.machine.processes.values():
            files = [each for each in process.task.files.fd.slots.values() if each != RESERVED and each in self.files]
            if process.task.alive.value and files:
                yield f"{process.name} still has {', '.join(file.label for file in files)} open"

    def _told_by_launcher(self) -> None:
        with self._program_started as end:
            told = end.recv(64)
        if told:
            number = int(told.split()[1])
            raise OSError(number, os.strerror(number))

    def _catch_up(self, ready: Mapping[int, int]) -> None:
        """Processes have ended, files have gone: that comes before the next call."""
        closed = list(self.files.closed())
        over = [each for each in self.programs.living.values() if each.end in ready]
        for each in over:
            self.poll.unregister(each.end)
            self.programs.ended(each)
        for file in closed:
            self.traps.nodes.pop(file, None)
            for process, number in self.programs.gone(file):
                self.tell(Told(process.name, f"close({number})", 0))
        if closed or over:
            self._renew()

    def _take_next(self) -> None:
        notice = self.listener.next()
        if notice is None:
            return
        try:
            made, new = self.programs.of_thread(notice.thread)
            if not self.listener.waits(notice):
                return
            if new:
                self.poll.register(made.end, select.EPOLLIN)
            self._catch_up(dict(self.poll.poll(0)))
            name = self.abi.calls[notice.number]
            outcome: Outcome = getattr(self.traps, name)(made, *notice.arguments)
        except Exception as error:
            self._fail(notice, error)
            return
        if isinstance(outcome, Made):
            self.waiting.append(Pending(notice, made, outcome))
        else:
            self._answer(notice, outcome)

    def _start(self, made: HostProcess, name: str, *arguments: Any) -> Call:
        """Begin a call of the machine."""
        self.faults.plan(self.machine, name, arguments)
        return made.process.start(name, *arguments, run=self.random is None)

    def _settle(self) -> None:
        """Answer the calls that have ended."""
        while self.random is not None and (able := [each for each in self.waiting if each.made.call.state != "done"]):
            moved = [each for each in able if each.made.call.step()]
            if not moved or self.poll.poll(0):
                break
        over = [each for each in self.waiting if each.made.call.thread.ended]
        for each in over:
            self.waiting.remove(each)
            if each.made.call.name != "ioctl":  # no request changes what is in /dev and /sys
                self._renew()
            self._finish(each)

    def _finish(self, each: Pending) -> None:
        call = each.made.call
        try:
            result = call.value()
            outcome = each.made.then(result)
            self._give_new(each)
            number = len(result) if isinstance(result, bytes) else result
            self.tell(Told(each.program.process.name, each.made.shown, number, changed=each.made.changed()))
        except Exception as error:
            if isinstance(error, KernelError):
                made = each.made
                self.tell(Told(each.program.process.name, made.shown, None, error.name, error.sentence, made.changed()))
            self._fail(each.notice, error)
            return
        self._answer(each.notice, outcome)

    def _give_new(self, each: Pending) -> None:
        """The program gets a real descriptor for each file that the call has opened, under the same number."""
        files = each.program.process.task.files
        for number, file in list(files.fd.slots.items()):
            if number > 2 and number not in each.program.foreign and file != RESERVED and file not in self.files:
                path = self.traps.nodes.get(file, "")
                content = self.tree.content(path) if path.startswith("/sys/") else b""
                fd = self.files.make(file, content)
                try:
                    self.listener.give(each.notice, fd, number, bool(files.close_on_exec.slots.get(number)))
                finally:
                    os.close(fd)

    def _answer(self, notice: Notice, outcome: int | GoOn | Give) -> None:
        if isinstance(outcome, GoOn):
            self.listener.go_on(notice)
        elif isinstance(outcome, Give):
            with suppress(FileNotFoundError):
                self.listener.answer_with(notice, outcome.fd, outcome.close_on_exec)
            os.close(outcome.fd)
        else:
            self.listener.answer(notice, outcome)

    def _fail(self, notice: Notice, error: Exception) -> None:
        """The call fails: with the errno that it shall have, or with ENOSYS where it is our own fault, or not modelled."""
        name = self.abi.calls[notice.number]
        if isinstance(error, Unsupported):
            self.warn(f"{name}: {error.sentence}; the program is told ENOSYS")
        elif isinstance(error, OSError) and error.errno:
            self.listener.answer(notice, error=error.errno)
            return
        else:
            self.warn(f"{name} failed: {type(error).__name__}: {error}; the program is told ENOSYS")
        self.listener.answer(notice, error=errno.ENOSYS)

    # ---- what programs see of it

    def _state(self) -> object:
        built = self.machine.built
        drivers = tuple((key, each.driver_link.value) for key, each in built.buses.devices.slots.items())
        return tuple(built.devtmpfs.nodes.slots), drivers

    def _renew(self) -> None:
        """Let /dev and /sys be as the machine has them now."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            self.tree.refresh()


def _missing(told: bytes) -> str:
    """Why the kernel takes no filter, in one sentence."""
    number = int(told.split()[1]) if told else 0
    if number == errno.EINVAL:
        return (
            f"programs cannot be run: Linux {os.uname().release} has no seccomp notifications that a signal leaves alone; "
            "5.19 is needed"
        )
    name = Errno(number).name if number in [each.value for each in Errno] else os.strerror(number)
    return f"programs cannot be run: this computer lets none of them have a seccomp filter ({name})"
