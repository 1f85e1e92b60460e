"""Runs a program, and answers those of its system calls that are about VFIO, iommufd and KVM from a simulated machine.

No sandbox: the program can do to the host what any program of this user can.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from random import Random
from threading import TIMEOUT_MAX, Timer
from typing import Any, Final

from ..kernel import Unsupported
from ..kernel.fs.file import RESERVED, File
from ..machine import Call, Machine
from ..uapi import KernelError
from .faults import Faults
from .files import HostFiles
from .filter import AUTO, NAME_A_DESCRIPTOR, REDIRECT, abi
from .fuse import OPEN, FileRequest, FileRequests
from .given import ProgramCall
from .launch import launch
from .memory import ProgramMemory
from .notices import Notice
from .outcomes import Give, GoOn, Made, Outcome, Pending, failed
from .programs import HostProcess, HostProcesses, family, killed
from .served import Served
from .traps import Traps
from .tree import Tree

_PATIENCE: Final = 0.05  # seconds for the processes of a program that has ended to be gone
_TICK: Final = 0.1  # seconds between two looks at the clock while a call waits for simulated time to pass


@dataclass
class Supervisor:
    """Runs one program on `machine`. `tell` is given each call as it ends, `warn` each sentence about what went wrong here."""

    machine: Machine
    tell: Callable[[ProgramCall], None] = lambda told: None
    warn: Callable[[str], None] = lambda line: print(f"vfiosim: {line}", file=sys.stderr)
    faults: Faults = field(default_factory=Faults)
    random: Random | None = None
    memory: Callable[[int], ProgramMemory] = ProgramMemory
    way: str = AUTO  # or one of filter.WAYS
    begun: Callable[[Callable[..., None]], None] = lambda end: None  # is given `end` as soon as the program runs
    timeout: float | None = None  # seconds

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
        self.served = Served(self.traps, self.abi, self._caller)
        self.waiting: list[Pending] = []
        self.requests: FileRequests | None = None
        self.timed_out = self.goes_on = False
        self.poll = select.epoll()
        try:
            turns = self.way == AUTO and self.random is not None  # which opens do not take in a namespace
            what = self.abi, self.tree, command, options, self._serve_files
            self.launched = launch(*what, REDIRECT if turns else self.way, self.warn)
            self.listener = self.launched.listener
            with self.launched.told, ExitStack() as limited:
                limit = Timer(TIMEOUT_MAX if self.timeout is None else self.timeout, self._stop)
                limit.start()
                limited.callback(limit.cancel)
                self.begun(self.end)
                status = self._serve(self.launched.child)
                self.launched.must_have_begun()
            return status
        finally:
            self.files.close()
            self.tree.close()
            self.poll.close()

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the program and to all that it has started. Any thread may."""
        child = self.launched.child
        for pid in [*family(child.pid)] if child.returncode is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stop(self) -> None:
        """It has run for too long."""
        self.timed_out = True
        self.end()

    # ---- the loop

    def _serve(self, child: subprocess.Popen[Any]) -> int:
        ended = os.pidfd_open(child.pid)
        for fd in (self.listener.fd, ended, *([] if self.requests is None else [self.requests.fd])):
            self.poll.register(fd, select.EPOLLIN)
        self.poll.register(self.files.inotify, select.EPOLLIN)
        try:
            while not self._round(ended):
                pass
            return child.wait()
        finally:
            if child.poll() is None:
                self.end()
                self._close_files()  # or it waits for an answer, and cannot even be killed
                child.wait()
            os.close(ended)
            self.goes_on = not self.listener.nobody_left(_PATIENCE)
            self.listener.close()
            self._look_at_files()
            self._close_files()
            with suppress(OSError):
                self._let_go([each for each in self.programs.living.values() if each.pid == child.pid])

    def _round(self, ended: int) -> bool:
        """Wait for what comes next, and do it; is the program over?"""
        waits = any(each.made.call.thread.deadline is not None for each in self.waiting)
        asked = any(isinstance(each.notice, FileRequest) for each in self.waiting)
        ready = dict(self.poll.poll(_TICK if waits or asked else None))
        if waits and not ready:
            self.machine.sleep(int(_TICK * 1000))
        if self.waiting or self.programs.closing or self.files.inotify in ready or self._over(ready):
            self._catch_up()
        elif ready.keys() != {self.listener.fd}:
            self._look_at_files()
        if ready.get(self.listener.fd, 0) & select.EPOLLIN:
            self._take_next()
        elif ready.get(self.listener.fd):
            self.poll.unregister(self.listener.fd)
        self._settle()
        while self.requests is not None and self.requests.kept:
            self._look_at_files()
        return ended in ready

    def _catch_up(self, thread: int = 0) -> None:
        """Processes have ended, files have gone: that comes before the next call, which this thread makes."""
        over = self._over(dict(self.poll.poll(0)))
        self._look_at_files()  # who has ended has closed his files before
        self._let_go(over, thread)

    def _over(self, ready: Mapping[int, int]) -> list[HostProcess]:
        return [each for each in self.programs.living.values() if each.end in ready]

    def _let_go(self, over: Sequence[HostProcess], thread: int = 0) -> None:
        """Take away the files that have gone, and these processes; what this thread was about to close is closed."""
        gone = list(self.files.closed())
        for process, number in self.programs.closed(thread, over):
            self.tell(ProgramCall(process.name, f"close({number})", 0))
        for each in over:
            if self.programs.living.get(each.pid) is each:  # and was not taken away meanwhile
                self.poll.unregister(each.end)
                try:
                    self.programs.ended(each)
                except Unsupported as error:
                    self.warn(f"{each.process.name} has ended: {error.sentence}; so what it had stays")
        for file in gone:
            self.traps.nodes.pop(file, None)
            for process, number in self.programs.gone(file, over):
                self.tell(ProgramCall(process.name, f"close({number})", 0))
        if gone or over:
            self.tree.renew()

    def _look_at_files(self) -> None:
        """Answer what is asked about files; whoever is killed while he waits does so no longer."""
        if self.requests is None:
            return
        self._serve_files(self.requests)
        if self.requests.ended:
            self._close_files()
            return
        for each in self.waiting:
            if isinstance(each.notice, FileRequest) and killed(each.notice.thread):
                self.requests.fail(each.notice, errno.EINTR)

    def _close_files(self) -> None:
        """Nobody asks about files any more, or whoever does is told that there is no connection."""
        if self.requests is not None:
            self.requests.close()  # which the poll forgets by itself
            self.requests = None
        self.served.close()

    def _serve_files(self, requests: FileRequests) -> None:
        """Answer all that is asked about files by now, of which the last copies of some are gone."""
        self.requests = self.served.requests = requests
        while (request := requests.next()) is not None:
            try:
                outcome = self.served.comes_to(request)
            except Exception as error:
                self._fail(request, error)
                continue
            if isinstance(outcome, Made):
                self.waiting.append(Pending(request, self.programs.of_thread(request.thread)[0], outcome))
                self._end_those_over()  # before another call may take what was opened for its own
            else:
                requests.answer(request, outcome)
                self.served.answered()

    def _caller(self, thread: int, goes_on: bool = True) -> HostProcess:
        """The process of a thread, when all is done that came before its call; it `goes_on` if it has returned from the last one.

        Raises OSError if it has gone.
        """
        made = self._process(thread)
        self._let_go(self._over(dict(self.poll.poll(0))), thread if goes_on else 0)
        return made

    def _process(self, thread: int) -> HostProcess:
        made, new = self.programs.of_thread(thread)
        self.files.arrived(thread)
        if new:
            self.poll.register(made.end, select.EPOLLIN)
        return made

    def _take_next(self) -> None:
        notice = self.listener.next()
        if notice is None:
            return
        name = self.abi.calls[notice.number]
        if not self.files and name in NAME_A_DESCRIPTOR:  # most calls of most programs, so this has to be quick
            self.listener.resume(notice)
            return
        try:
            self._catch_up(notice.thread)
            made = self._process(notice.thread)
            if not self.listener.waits(notice):
                return
            outcome: Outcome = getattr(self.traps, name)(made, *notice.arguments)
        except Exception as error:
            self._fail(notice, error)
            return
        if isinstance(outcome, Made):
            self.waiting.append(Pending(notice, made, outcome))
        else:
            self._answer(notice, outcome)

    def _start(self, made: HostProcess, name: str, *arguments: Any, at_once: bool = False) -> Call:
        """Begin a call of the machine; `at_once`: it takes no turns with others."""
        self.faults.plan(self.machine, name, arguments)
        return made.process.start(name, *arguments, run=at_once or self.random is None)

    def _settle(self) -> None:
        """Answer the calls that have ended."""
        while self.random is not None and (able := [each for each in self.waiting if each.made.call.state != "done"]):
            moved = [each for each in able if each.made.call.step()]
            if not moved or self.poll.poll(0):
                break
        self._end_those_over()

    def _end_those_over(self) -> None:
        """Answer the calls that have ended; what a request for a file has opened belongs to no other call."""
        over = [each for each in self.waiting if each.made.call.thread.ended]
        if over:
            (self.files.show if self.requests is None else self.served.show)(self.programs.ready)
        for each in sorted(over, key=lambda each: not isinstance(each.notice, FileRequest)):
            self.waiting.remove(each)
            if each.made.call.name != "ioctl":  # no request changes what is in /dev and /sys
                self.tree.renew()
            self._finish(each)

    def _finish(self, each: Pending) -> None:
        made, name = each.made, each.program.process.name
        try:
            result = made.call.value()
            outcome = made.then(result)
            given = self._give_new(each, result)
            outcome = given.get(outcome, outcome)
            number = len(result) if isinstance(result, bytes) else given.get(result, result)
            self.tell(ProgramCall(name, made.shown, number, changed=made.changed()))
        except Exception as error:
            if isinstance(error, KernelError):
                self.tell(ProgramCall(name, made.shown, None, error.name, error.sentence, made.changed()))
            self._fail(each.notice, error)
            return
        self._answer(each.notice, outcome)

    def _give_new(self, each: Pending, result: Any) -> dict[Any, int]:
        """The program gets a real descriptor for each file that was opened; the answer are those that another thread has taken.

        What calls that are still to be answered have opened is theirs to tell.
        """
        notice, files = each.notice, each.program.process.task.files
        given: dict[Any, int] = {}
        if isinstance(notice, FileRequest):
            return given
        alone = not any(other.program is each.program for other in self.waiting)
        for number, file in list(files.fd.slots.items()):
            mine = alone or number == result or number in each.made.numbers()
            if (
                mine
                and number > 2
                and number not in each.program.foreign
                and file != RESERVED
                and file not in self.files
            ):
                fd, close = self._make(file)
                try:
                    real = self.listener.give(notice, fd, bool(files.close_on_exec.slots.get(number)))
                finally:
                    close(fd)
                if real != number:
                    self.programs.bring(each.program, real)
                    each.made.renumber(number, real)
                    given[number] = real
        return given

    def _make(self, file: File) -> tuple[int, Callable[[int], None]]:
        """A descriptor for a real file behind this one, and what closes it."""
        if self.requests is not None:
            return self.served.make(file), self.requests.close_here
        path = self.traps.nodes.get(file, "")
        return self.files.make(file, self.tree.content(path) if path.startswith("/sys/") else b""), os.close

    def _answer(self, notice: Notice | FileRequest, outcome: int | GoOn | Give | bytes) -> None:
        if isinstance(notice, FileRequest):
            if self.requests is not None and isinstance(outcome, bytes) and not self.requests.answer(notice, outcome):
                self.served.nobody_waits(notice)
        elif isinstance(outcome, GoOn):
            self.listener.resume(notice)
        elif isinstance(outcome, Give):
            with suppress(FileNotFoundError):
                self.listener.answer_with(notice, outcome.fd, outcome.close_on_exec)
            os.close(outcome.fd)
        elif isinstance(outcome, int):
            self.listener.answer(notice, outcome)

    def _fail(self, notice: Notice | FileRequest, error: Exception) -> None:
        """The call fails: with the errno that it shall have, or with ENOSYS where it is our own fault, or not modelled."""
        # After ENOSYS all opens of files would succeed, without a request.
        fault = errno.ENXIO if isinstance(notice, FileRequest) and notice.kind == OPEN else errno.ENOSYS
        number, line = failed(
            "a file" if isinstance(notice, FileRequest) else self.abi.calls[notice.number], error, fault
        )
        if line:
            self.warn(line)
        if not isinstance(notice, FileRequest):
            self.listener.answer(notice, error=number)
        elif self.requests is not None:
            self.requests.fail(notice, number)
