"""The processes of the host that are watched, and the simulated ones that stand for them."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final

from ..kernel.fs.file import RESERVED, File
from ..kernel.fs.read_write import vfs_poll
from ..machine import Machine, Process
from .files import HostFiles, Key, key_of, served
from .memory import ProgramMemory

ELSEWHERE: Final = (
    "elsewhere"  # who has files that no watched process is known to have: a message, a mapping, a quiet child
)
_NOFILE, _MEMLOCK = 7, 8
_PIDFD_GETFD: Final = 438
ENDING: Final = "0 kB"
_libc = ctypes.CDLL(None, use_errno=True)
Identity = tuple[int, ...] | str


@dataclass(frozen=True)
class Closing:
    """A thread closes a number that leads to a file of the machine."""

    thread: int
    program: HostProcess
    number: int
    file: File
    call: object  # in which it does; one call may close many


class HostProcess:
    """A process of the host, and the one of the machine that makes its calls."""

    def __init__(self, machine: Machine, pid: int, name: str, memory: Callable[[int], ProgramMemory]) -> None:
        self.pid = pid
        self.end = os.pidfd_open(pid)
        self.process = machine.process(name, memory=memory(pid))
        self.memory: ProgramMemory = self.process.task.mm.value.outside
        self.foreign: dict[
            int, Identity
        ] = {}  # which files of the host its numbers led to, where they are none of ours
        self.image = image(pid)
        self._take_limits()

    def _take_limits(self) -> None:
        import resource  # not there on every system

        for number, kind, now in (
            (_NOFILE, resource.RLIMIT_NOFILE, self.process.task.files.limit.value),
            (_MEMLOCK, resource.RLIMIT_MEMLOCK, self.process.task.memlock.value),
        ):
            soft, hard = (2**63 - 1 if each < 0 else each for each in resource.prlimit(self.pid, kind))
            if soft != now:
                self.process.setrlimit(number, soft, hard)

    @property
    def table(self) -> dict[int, File]:
        """Its simulated descriptors; while a call runs, one that is reserved is no file."""
        slots: dict[int, Any] = self.process.task.files.fd.slots
        return slots

    def numbers(self) -> set[int]:
        """Its real descriptors."""
        return {int(name) for name in os.listdir(f"/proc/{self.pid}/fd")}

    def key(self, number: int) -> Key | None:
        """What tells the file to which a descriptor really leads from all others; None if it is not open."""
        try:
            return key_of(f"/proc/{self.pid}/fdinfo/{number}")
        except OSError:
            return None

    def identity(self, number: int, key: Key) -> Identity:
        """What tells one file of the host from others; all eventfds have one inode."""
        with suppress(OSError), open(f"/proc/{self.pid}/fdinfo/{number}", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("eventfd-id"):
                    return line
        return key

    def take_over(self, number: int, identity: Identity) -> None:
        """Let a file of the host stand in the machine under the number that it has here. Raises OSError."""
        fd = _fetched(self.end, number)
        try:
            self.process.task.files.fd.give_out_beside(range(number))
            self.process.import_fd(fd)
        finally:
            os.close(fd)
        self.foreign[number] = identity

    def fill(self, number: int, place: int, data: bytes) -> None:
        """Change what is in a real file that it has. Raises OSError."""
        fd = _fetched(self.end, number)  # the very same open file, so its closing is not told of
        try:
            os.pwrite(fd, data, place)
        finally:
            os.close(fd)

    def goes_on(self) -> bool:
        """Is it the program that it was, and not about to end? Then it has closed what it has no longer."""
        with suppress(OSError):
            return image(self.pid) == self.image != ENDING
        return False

    def close(self) -> None:
        """It has ended."""
        os.close(self.end)


class HostProcesses:
    """All watched processes. What a number leads to in the host, it is made to lead to in the machine, when it is asked for."""

    def __init__(self, machine: Machine, files: HostFiles, memory: Callable[[int], ProgramMemory]) -> None:
        self.machine = machine
        self.memory = memory
        self.files = files
        self.living: dict[int, HostProcess] = {}
        self.thread = 0  # the one whose call is looked at
        self.closing: list[Closing] = []
        self._of_thread: dict[int, HostProcess] = {}
        self._elsewhere: Process | None = None
        self._registers_served = False

    def of_thread(self, thread: int) -> tuple[HostProcess, bool]:
        """The process that a thread belongs to, and whether it is new. Raises OSError if it has gone."""
        self.thread = thread
        program = self._of_thread.get(thread)
        if program is not None and (program.pid == thread or os.path.exists(f"/proc/{program.pid}/task/{thread}")):
            return program, False
        facts = status(thread)
        pid = int(facts["Tgid"])
        new = pid not in self.living
        if new:
            self.living[pid] = HostProcess(self.machine, pid, self._name(facts["Name"]), self.memory)
            self.living[pid].memory.registers_served = self._registers_served
        program = self._of_thread[thread] = self.living[pid]
        if new:
            self._adopt(program)
        return program, new

    def _name(self, name: str) -> str:
        taken, number = self.machine.processes, 1
        while (full := name if number == 1 else f"{name}-{number}") in taken:
            number += 1
        return full

    def _adopt(self, program: HostProcess, wanted: File | None = None) -> None:
        """A process may have files of ours, or a certain one, that it got from its parent, in a message or by dup."""
        for number in sorted(program.numbers()) if self.files else ():
            key = program.key(number)
            file = None if key is None else self.files.at(key)
            if file is not None and wanted in (None, file):
                self.bring(program, number)

    def serve_registers(self) -> None:
        """Registers that are served here get mapped: whoever serves them must not touch them, in no process from now on."""
        self._registers_served = True
        for program in self.living.values():
            program.memory.registers_served = True

    def bring(self, program: HostProcess, number: int) -> File | None:
        """Let a simulated descriptor lead to what the real one leads to; the answer is the file, if it is one of the machine."""
        key = program.key(number)
        file = None if key is None else self.files.at(key)
        before = program.table.get(number)
        if file is not None and before is file:
            return file
        if file is not None:
            self._let_go(program, number)
            program.process.start("receive_fd", number, file)
            for other, held in list(program.table.items()):  # it may have been moved here, as dup2 and close do
                if held is file and program.key(other) != key:
                    program.process.start("close", other)
            return file
        identity = None if key is None else program.identity(number, key)
        if identity is None or program.foreign.get(number) != identity or before is None:
            if number > 2:
                self._let_go(program, number)
            if identity is not None and number not in program.table and key and not served(key):
                program.take_over(number, identity)
        return None

    def _let_go(self, program: HostProcess, number: int) -> None:
        """A number leads elsewhere in the host; a file of ours that only it is known to hold is held by others there."""
        file = program.table.get(number)
        if file is None:
            return
        program.foreign.pop(number, None)
        if file in self.files and len(list(self._holding(file))) == 1:
            if self._elsewhere is None:
                self._elsewhere = self.machine.process(ELSEWHERE)
            numbers = self._elsewhere.task.files.fd
            self._elsewhere.start("receive_fd", numbers.lowest_free() if number in numbers.slots else number, file)
        program.process.start("close", number)

    def _holding(self, file: File) -> Iterator[tuple[Process, int]]:
        """Who has a simulated descriptor for a file."""
        elsewhere = [self._elsewhere] if self._elsewhere else []
        for process in [*(each.process for each in self.living.values()), *elsewhere]:
            yield from ((process, number) for number, held in list(process.task.files.fd.slots.items()) if held is file)

    def ready(self, file: File) -> int:
        """What `poll` finds of a file."""
        events: int = self.machine.look(vfs_poll(file, -1))
        return events

    def closes(self, program: HostProcess, number: int, file: File, call: object) -> None:
        """The thread whose call is looked at closes a number, which leads nowhere by now, or to another file."""
        if program.table.get(number) is not file:
            self._let_go(program, number)
            program.process.start("receive_fd", number, file)
        self.closing.append(Closing(self.thread, program, number, file, call))

    def closed(self, thread: int, over: Sequence[HostProcess] = ()) -> Iterator[tuple[Process, int]]:
        """Where descriptors are closed by now, in order; `thread` does something else by now, or is 0, and who is `over` has ended.

        The host tells of the descriptor first, and only then that nobody has the file.
        """
        for each in [*self.closing]:
            known = each.file not in self.files or len(list(self._holding(each.file))) > 1
            if each.thread == thread or each.program in over or known:
                self.closing.remove(each)
                if each.program.table.get(each.number) is each.file:
                    with suppress(OSError):  # it has ended, and holds nothing
                        self._adopt(each.program, each.file)
                    self._let_go(each.program, each.number)
                    yield each.program.process, each.number

    def gone(self, file: File, over: Sequence[HostProcess]) -> Iterator[tuple[Process, int]]:
        """The last copy of a file is gone in the host, so it goes from the machine; where programs have closed it that go on."""
        closers = {each.process for each in self.living.values() if each not in over and each.goes_on()}
        for program in self.living.values():
            for slot, (mapped, length, _) in list(program.process.task.mm.value.files.slots.items()):
                if mapped is file:
                    program.process.start("munmap", int(slot, 16), length)
        for process, number in list(self._holding(file)):
            process.start("close", number)
            if process in closers:
                yield process, number

    def still_open(self) -> Iterator[str]:
        """What others have open when the program has ended, in sentences."""
        for process in self.machine.processes.values():
            files = [each for each in process.task.files.fd.slots.values() if each != RESERVED and each in self.files]
            if process.task.alive.value and files:
                yield f"{process.name}{self._by_now(process)} still has {', '.join(file.label for file in files)} open"

    def _by_now(self, process: Process) -> str:
        """What a process is called meanwhile, if it has become another program since its first call."""
        for pid in (pid for pid, living in self.living.items() if living.process is process):
            with suppress(OSError):
                name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
                return "" if process.name.startswith(name) else f", which is {name} by now,"
        return ""

    def ended(self, program: HostProcess) -> None:
        """A process has ended; what others have of it stays open. Raises Unsupported where its exit is not modelled."""
        self._of_thread = {thread: each for thread, each in self._of_thread.items() if each is not program}
        for number, file in list(program.table.items()):
            if file in self.files:
                self._let_go(program, number)
        del self.living[program.pid]
        program.close()
        program.process.exit()


def status(thread: int) -> dict[str, str]:
    """What is known of a thread, also in the midst of an exec, until whose end most files of /proc wait. Raises OSError."""
    with open(f"/proc/{thread}/status", encoding="utf-8", errors="replace") as lines:
        return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)


def image(thread: int) -> str:
    """How much code its program has, which tells one from another; ENDING while it ends or becomes another one. Raises OSError."""
    return status(thread).get("VmExe", ENDING).strip()


def family(pid: int) -> Iterator[int]:
    """A process, and all that it and its children have started."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                yield from family(int(child))


def killed(thread: int) -> bool:
    """Is a thread about to end, whatever it waits for?"""
    try:
        return bool(int(status(thread)["SigPnd"], 16) >> signal.SIGKILL - 1 & 1)
    except OSError:
        return True


def _fetched(pidfd: int, number: int) -> int:
    """A copy of a descriptor of a process. Raises OSError, also where another thread has put a served file there meanwhile."""
    fd: int = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "the descriptor cannot be fetched")
    if served(key_of(f"/proc/self/fdinfo/{fd}")):
        Thread(target=os.close, args=(fd,)).start()  # closing it asks whoever serves it, and waits
        raise OSError(errno.EBADF, "the descriptor leads elsewhere by now")
    return fd
