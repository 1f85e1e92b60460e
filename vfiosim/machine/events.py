"""What was done to a machine, as a list of events. Each can do itself again, and write itself as text and as Python.

A second machine, a shared text, a program and the sandbox are readers of this one list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ..kernel.task import ALL_CAPABILITIES
from ..uapi import Errno, KernelError
from .system_calls import SYSTEM_CALLS, fresh

if TYPE_CHECKING:
    from .as_code import Program
    from .call import Call
    from .machine import Machine
    from .process import Process

Patches = Mapping[str, Callable[..., Any]]
ENDLESS = 100_000  # effects of one step; no sentence of the kernel has as many


EVENTS: dict[str, type[Event]] = {}  # by their letters


@dataclass(frozen=True)
class Event:
    """Something that was done to a machine from outside.

    `letter` stands for it in a text, `words` tell it in a list. `makes` "process": its first effects are those of a new one;
    `makes` "call": a call begins.
    """

    letter: ClassVar[str]
    words: ClassVar[str]
    makes: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, words: str, letter: str = "", makes: tuple[str, ...] = ()) -> None:
        cls.words, cls.letter, cls.makes = words, letter, makes
        if letter:
            EVENTS[letter] = cls

    def begin(self, machine: Machine) -> None:
        """Ask for it again, on any machine. A call only begins: its effects are somebody else's to do."""
        self.do(machine)

    def do(self, machine: Machine) -> Any:
        """Do it, and all that follows from it; the answer is what came of it. Raises ValueError where it cannot be done."""
        raise NotImplementedError

    def as_data(self) -> list[Any]:
        """What a text has to tell of it: numbers, texts, bytes, lists. Raises ValueError for what no text can tell."""
        return [getattr(self, each.name) for each in fields(self) if not each.kw_only]

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event | None:
        """The event of which a text tells this; None for what another event of the text tells too."""
        return cls(*data)

    def as_code(self, program: Program) -> Iterator[str]:
        """It, as lines of Python."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.words.format(**vars(self))


def living(machine: Machine, name: str) -> Process:
    """A process that has not ended. Raises ValueError if there is none of this name."""
    process = machine.processes.get(name)
    if process is None or not process.task.alive.value:
        raise ValueError(f"there is no living process {name!r}")
    return process


@dataclass(frozen=True)
class Began(Event, words="process {process} begins", letter="p", makes=("process",)):
    """A new process."""

    process: str
    caps: tuple[str, ...] = ALL_CAPABILITIES

    def do(self, machine: Machine) -> Process:
        return machine.process(self.process, self.caps)

    def as_data(self) -> list[Any]:
        return [self.process] if self.caps == ALL_CAPABILITIES else [self.process, None, self.caps]

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event | None:
        name, parent, caps = (*data, None, None)[:3]
        return cls(name, ALL_CAPABILITIES if caps is None else caps) if parent is None else None

    def as_code(self, program: Program) -> Iterator[str]:
        rights = "" if self.caps == ALL_CAPABILITIES else f", caps={self.caps!r}"
        yield f"{program.new_process(self.process)} = m.process({program.value(self.process, self.process)}{rights})"


@dataclass(frozen=True)
class Forked(Event, words="{parent} forks {child}", letter="f", makes=("process", "call")):
    """A process makes a child."""

    parent: str
    child: str

    def begin(self, machine: Machine) -> None:
        living(machine, self.parent).begin_fork(self.child, run=False)

    def do(self, machine: Machine) -> Process:
        return living(machine, self.parent).fork(self.child)

    def as_code(self, program: Program) -> Iterator[str]:
        child = program.new_process(self.child)
        yield f"{child} = {program.process(self.parent)}.fork({program.value('', self.child)})"


@dataclass(frozen=True)
class Killed(Event, words="{process} is killed", letter="d"):
    """A process is told to end; that is over when its running calls have ended."""

    process: str

    def begin(self, machine: Machine) -> None:
        machine.processes[self.process].told_to_end()

    def do(self, machine: Machine) -> None:
        living(machine, self.process).kill()

    def as_code(self, program: Program) -> Iterator[str]:
        yield f"{program.process(self.process)}.exit()"


@dataclass(frozen=True)
class Called(Event, words="{process}: {name}", letter="c", makes=("call",)):
    """A system call begins. `thread` is the name of its thread; `by_hand`: nothing happens yet, somebody moves it."""

    process: str
    name: str
    arguments: tuple[Any, ...] = ()
    thread: str = ""
    by_hand: bool = field(default=False, kw_only=True)

    def begin(self, machine: Machine) -> None:
        arguments = fresh(machine.variant, self.name, self.arguments)
        machine.processes[self.process].start(self.name, *arguments, run=False, thread=self.thread)

    def do(self, machine: Machine) -> Call:
        process, arguments = living(machine, self.process), list(self.arguments)
        if self.name == "ioctl" and isinstance(arguments[-1], bytes):
            arguments[-1] = bytearray(arguments[-1])
        call = process.start(self.name, *arguments, run=not self.by_hand, thread=self.thread)
        call.asked, call.passed = self, arguments
        return call

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        if data[1] in SYSTEM_CALLS and not SYSTEM_CALLS[data[1]].plain:
            raise ValueError(f"{data[1]!r} cannot be shared")
        return cls(*data)

    def as_code(self, program: Program) -> Iterator[str]:
        return program.call(self)


@dataclass(frozen=True)
class Moved(Event, words="call {call} moved: {how}"):
    """A running call goes on: "effect", "step" (to the next sentence), "end" (until it ends or must wait), or "touch".

    "touch" is until its next effect is about one of `cells` (paths), or it ends or must wait. `call` is its number among all calls
    of the machine, from 0; `times`: so often, if it goes so far. A machine does not note it: its effects tell.
    """

    call: int
    how: str = "effect"
    times: int = 1
    cells: tuple[str, ...] = ()

    def do(self, machine: Machine) -> Call:
        if not 0 <= self.call < len(machine.calls):
            raise ValueError(f"there is no call number {self.call}")
        call = machine.calls[self.call]
        if call.thread.ended:
            raise ValueError(f"{call} has ended already")
        resume = {"end": call.run, "effect": call.step}.get(self.how, partial(self._resume, call))
        for _ in range(self.times):
            resume()
        return call

    def _resume(self, call: Call) -> None:
        for _ in range(ENDLESS):
            there = call.step() and (
                call.thread.saying is not None if self.how == "step" else call.is_about(self.cells)
            )
            if there or call.state != "ready":
                return


class _OfMemory(Event, words=""):
    def begin(self, machine: Machine) -> None:
        with suppress(KernelError, TypeError):  # what was refused then is refused now
            self.do(machine)


@dataclass(frozen=True)
class Mapped(_OfMemory, words="{process}: {length} bytes of memory", letter="m"):
    """Memory that a program fills, without the kernel being asked. `found` is the address that it got, once it is done."""

    process: str
    length: int
    data: bytes = b""
    prot: int = 3
    address: int | None = None
    found: int | None = field(default=None, compare=False)

    def do(self, machine: Machine) -> int:
        return living(machine, self.process).memory.map(self.length, self.data, self.prot, self.address)

    def as_data(self) -> list[Any]:
        return [self.process, "map", [self.length, self.data, self.prot, self.address]]

    def as_code(self, program: Program) -> Iterator[str]:
        shown = [str(self.length), program.data(self.process, bytes(self.data), self.found)]
        shown += [f"prot={self.prot}"] if self.prot != 3 else []
        shown += [f"address={self.address:#x}"] if self.address is not None else []
        where = program.new_address(self.process, self.found)
        yield f"{where}{program.process(self.process)}.memory.map({', '.join(filter(None, shown))})"


@dataclass(frozen=True)
class MemoryChanged(_OfMemory, words="{process}: memory, {what}", letter="m"):
    """A program changes its memory: "unmap", "protect" or "write", with what the method of `Memory` is given."""

    process: str
    what: str
    arguments: tuple[Any, ...]

    def do(self, machine: Machine) -> None:
        getattr(living(machine, self.process).memory, self.what)(*self.arguments)

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        process, what, arguments = data
        if what == "map":
            return Mapped(process, *arguments)
        if what not in ("unmap", "protect", "write"):
            raise ValueError(f"{what!r} cannot be shared")
        return cls(process, what, arguments)

    def as_code(self, program: Program) -> Iterator[str]:
        shown = ", ".join(program.value(self.process, each) for each in self.arguments)
        yield f"{program.process(self.process)}.memory.{self.what}({shown})"


@dataclass(frozen=True)
class Slept(Event, words="{milliseconds} ms pass", letter="s"):
    """Time passes, in milliseconds. `deadlines`: until when each thread waited then."""

    milliseconds: int
    deadlines: tuple[tuple[int | str, int], ...] = field(default=(), compare=False)

    def begin(self, machine: Machine) -> None:
        for number, deadline in self.deadlines:
            machine.thread(number).deadline = deadline
        machine.pass_time(self.milliseconds)

    def do(self, machine: Machine) -> None:
        machine.sleep(self.milliseconds)

    def as_code(self, program: Program) -> Iterator[str]:
        yield f"m.sleep({self.milliseconds})"


@dataclass(frozen=True)
class Patched(Event, words="functions of somebody's own are put in", letter="a"):
    """From now on these functions, and no others, take the place of kernel functions, by name."""

    functions: Patches

    def do(self, machine: Machine) -> None:
        machine.engine.patches = {}
        machine.patch(**self.functions)

    def as_data(self) -> list[Any]:
        return list(self.functions)

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        return cls({name: patches[name] for name in data})

    def as_code(self, program: Program) -> Iterator[str]:
        return program.patched(self.functions)


@dataclass(frozen=True)
class TakenOut(Event, words="taken out: {names}", letter="o"):
    """Protections are taken out of the kernel; all others are in it."""

    names: tuple[str, ...]

    def do(self, machine: Machine) -> None:
        machine.take_out(*self.names)

    def as_data(self) -> list[Any]:
        return list(self.names)

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        return cls(data)

    def as_code(self, program: Program) -> Iterator[str]:
        yield f"m.take_out({', '.join(program.value('', name) for name in self.names)})"


@dataclass(frozen=True)
class Failing(Event, words="number {number} is to fail", letter="e"):
    """The `number`-th thing in a call, or in the next one, is to fail with `errno`, or with the first one that it can have."""

    number: int | None
    errno: int | None = None
    call: int | None = None

    def do(self, machine: Machine) -> None:
        machine.fail_next(self.number, self.errno, None if self.call is None else machine.calls[self.call])

    def as_code(self, program: Program) -> Iterator[str]:
        errno = [] if self.errno is None else [f"{program.use('uapi')}.Errno.{Errno(self.errno).name}"]
        call = [] if self.call not in program.calls else [f"call={program.calls[self.call]}"]
        yield f"m.fail_next({', '.join([str(self.number), *errno, *call])})"


@dataclass(frozen=True)
class Outside(Event, words="{what}"):
    """Memory or a file from outside of the machine came into it; nothing knows what that does, so it cannot be done again."""

    what: str

    def do(self, machine: Machine) -> None:
        raise ValueError(f"this run cannot be repeated, so it has no branch: {self.what}")

    def as_data(self) -> list[Any]:
        raise ValueError(f"this run cannot be shared: {self.what}")

    def as_code(self, program: Program) -> Iterator[str]:
        raise ValueError(f"this run cannot be written as a program: {self.what}")
