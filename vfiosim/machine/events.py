"""What was done to a machine, as a list of events. Each can do itself again, and write itself as text and as Python.

A second machine, a shared text, a program and the sandbox are readers of this one list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from ..kernel.task import ALL_CAPABILITIES
from ..uapi import Errno, KernelError
from .system_calls import SYSTEM_CALLS, fresh

if TYPE_CHECKING:
    from .as_code import Program
    from .machine import Machine
    from .process import Call, Process

Patches = Mapping[str, Callable[..., Any]]
ENDLESS = 100_000  # effects of one step; no sentence of the kernel has as many


@dataclass(frozen=True)
class Event:
    """Something that was done to a machine from outside.

    `letter` stands for it in a text; `makes_process`: its first effects are those of a new process; `makes_call`: a call begins.
    """

    letter: ClassVar[str] = ""
    makes_process: ClassVar[bool] = False
    makes_call: ClassVar[bool] = False

    def begin(self, machine: Machine) -> None:
        """Ask for it again, on any machine. A call only begins: its effects are somebody else's to do."""
        self.do(machine)

    def do(self, machine: Machine) -> Any:
        """Do it, and all that follows from it; the answer is what came of it. Raises ValueError where it cannot be done."""
        return self.begin(machine)

    def as_data(self) -> list[Any]:
        """What a text has to tell of it: numbers, texts, bytes, lists. Raises ValueError for what no text can tell."""
        return [getattr(self, each.name) for each in fields(self) if each.init]

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event | None:
        """The event of which a text tells this; None for what another event of the text tells too."""
        return cls(*data)

    def as_code(self, program: Program) -> Iterator[str]:
        """It, as lines of Python."""
        raise NotImplementedError


def living(machine: Machine, name: str) -> Process:
    """A process that has not ended. Raises ValueError if there is none of this name."""
    process = machine.processes.get(name)
    if process is None or not process.task.alive.value:
        raise ValueError(f"there is no living process {name!r}")
    return process


@dataclass(frozen=True)
class Began(Event):
    """A new process."""

    letter = "p"
    makes_process = True
    process: str
    caps: tuple[str, ...] = ALL_CAPABILITIES

    def do(self, machine: Machine) -> Process:
        """Make it."""
        return machine.process(self.process, self.caps)

    def as_data(self) -> list[Any]:
        """Its rights only where they are not all of them."""
        return [self.process] if self.caps == ALL_CAPABILITIES else [self.process, None, self.caps]

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event | None:
        """Older texts tell of a child here too."""
        name, parent, caps = (*data, None, None)[:3]
        return cls(name, ALL_CAPABILITIES if caps is None else caps) if parent is None else None

    def as_code(self, program: Program) -> Iterator[str]:
        """With its rights, where they are not all of them."""
        rights = "" if self.caps == ALL_CAPABILITIES else f", caps={self.caps!r}"
        yield f"{program.new_process(self.process)} = m.process({program.value(self.process, self.process)}{rights})"

    def __str__(self) -> str:
        return f"process {self.process} begins"


@dataclass(frozen=True)
class Forked(Event):
    """A process makes a child."""

    letter = "f"
    makes_process = makes_call = True
    parent: str
    child: str

    def begin(self, machine: Machine) -> None:
        """The child is there; the call that fills it only begins."""
        living(machine, self.parent).begin_fork(self.child, run=False)

    def do(self, machine: Machine) -> Process:
        """The whole call."""
        return living(machine, self.parent).fork(self.child)

    def as_code(self, program: Program) -> Iterator[str]:
        """A call that ends by itself, whoever else moves."""
        child = program.new_process(self.child)
        yield f"{child} = {program.process(self.parent)}.fork({program.value('', self.child)})"

    def __str__(self) -> str:
        return f"{self.parent} forks {self.child}"


@dataclass(frozen=True)
class Killed(Event):
    """A process is told to end; that is over when its running calls have ended."""

    letter = "d"
    process: str

    def begin(self, machine: Machine) -> None:
        """Tell it; the call with which it ends is an event of its own."""
        machine.processes[self.process].told_to_end()

    def do(self, machine: Machine) -> None:
        """Tell it, and let it end if it can."""
        living(machine, self.process).kill()

    def as_code(self, program: Program) -> Iterator[str]:
        """As a program ends."""
        yield f"{program.process(self.process)}.exit()"

    def __str__(self) -> str:
        return f"{self.process} is killed"


@dataclass(frozen=True)
class Called(Event):
    """A system call begins. `lane` is the name of its thread; `by_hand`: nothing happens yet, somebody moves it."""

    letter = "c"
    makes_call = True
    process: str
    name: str
    arguments: tuple[Any, ...] = ()
    lane: str = ""
    by_hand: bool = field(default=False, kw_only=True)

    def begin(self, machine: Machine) -> None:
        """With a buffer of its own for the kernel to write into."""
        arguments = fresh(machine.variant, self.name, self.arguments)
        machine.processes[self.process].start(self.name, *arguments, run=False, lane=self.lane)

    def do(self, machine: Machine) -> Call:
        """Make the call, whatever comes of it; its `passed` has the buffer that the kernel writes into."""
        process, arguments = living(machine, self.process), list(self.arguments)
        if self.name == "ioctl" and isinstance(arguments[-1], bytes):
            arguments[-1] = bytearray(arguments[-1])
        call = process.start(self.name, *arguments, run=not self.by_hand, lane=self.lane)
        call.asked, call.passed = self, arguments
        return call

    def as_data(self) -> list[Any]:
        """Whether somebody moved it is told by who went when."""
        return super().as_data()[:4]

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        """Raises ValueError for a call that is made of more than a text can tell."""
        if data[1] in SYSTEM_CALLS and not SYSTEM_CALLS[data[1]].plain:
            raise ValueError(f"{data[1]!r} cannot be shared")
        return cls(*data)

    def as_code(self, program: Program) -> Iterator[str]:
        """See `Program.call`."""
        return program.call(self)

    def __str__(self) -> str:
        return f"{self.process}: {self.name}"


@dataclass(frozen=True)
class Moved(Event):
    """A running call goes on: "effect", "step" (to the next sentence) or "end" (until it ends or must wait).

    `call` is its number among all calls of the machine, from 0; `times`: so often, if it goes so far. A machine does not note it:
    its effects tell.
    """

    call: int
    how: str = "effect"
    times: int = 1

    def do(self, machine: Machine) -> Call:
        """Let it go on."""
        if not 0 <= self.call < len(machine.calls):
            raise ValueError(f"there is no call number {self.call}")
        call = machine.calls[self.call]
        if call.thread.ended:
            raise ValueError(f"{call} has ended already")
        for _ in range(self.times):
            if self.how == "end":
                call.run()
            elif self.how == "effect":
                call.step()
            else:
                _to_the_next_sentence(call)
        return call

    def __str__(self) -> str:
        return f"call {self.call} moved: {self.how}"


def _to_the_next_sentence(call: Call) -> None:
    for _ in range(ENDLESS):
        if not call.step() or call.thread.saying is not None:
            return


@dataclass(frozen=True)
class Mapped(Event):
    """Memory that a program fills, without the kernel being asked. `found` is the address that it got, once it is done."""

    letter = "m"
    process: str
    length: int
    data: bytes = b""
    prot: int = 3
    address: int | None = None
    found: int | None = field(default=None, compare=False)

    def begin(self, machine: Machine) -> None:
        """What was refused then is refused now."""
        with suppress(KernelError, TypeError):
            self.do(machine)

    def do(self, machine: Machine) -> int:
        """The answer is the address."""
        return living(machine, self.process).memory.map(self.length, self.data, self.prot, self.address)

    def as_data(self) -> list[Any]:
        """As every change of memory."""
        return [self.process, "map", [self.length, self.data, self.prot, self.address]]

    def as_code(self, program: Program) -> Iterator[str]:
        """The data as the struct that a later request finds there."""
        shown = [str(self.length), program.data(self.process, bytes(self.data), self.found)]
        shown += [f"prot={self.prot}"] if self.prot != 3 else []
        shown += [f"address={self.address:#x}"] if self.address is not None else []
        where = program.new_address(self.process, self.found)
        yield f"{where}{program.process(self.process)}.memory.map({', '.join(filter(None, shown))})"

    def __str__(self) -> str:
        return f"{self.process}: {self.length} bytes of memory"


@dataclass(frozen=True)
class MemoryChanged(Event):
    """A program changes its memory: "unmap", "protect" or "write", with what the method of `Memory` is given."""

    letter = "m"
    process: str
    what: str
    arguments: tuple[Any, ...]

    def begin(self, machine: Machine) -> None:
        """What was refused then is refused now."""
        with suppress(KernelError, TypeError):
            self.do(machine)

    def do(self, machine: Machine) -> None:
        """Change it."""
        getattr(living(machine, self.process).memory, self.what)(*self.arguments)

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        """Raises ValueError for what no program does with its memory."""
        process, what, arguments = data
        if what == "map":
            return Mapped(process, *arguments)
        if what not in ("unmap", "protect", "write"):
            raise ValueError(f"{what!r} cannot be shared")
        return cls(process, what, arguments)

    def as_code(self, program: Program) -> Iterator[str]:
        """As a method of the memory."""
        shown = ", ".join(program.value(self.process, each) for each in self.arguments)
        yield f"{program.process(self.process)}.memory.{self.what}({shown})"

    def __str__(self) -> str:
        return f"{self.process}: memory, {self.what}"


@dataclass(frozen=True)
class Slept(Event):
    """Time passes, in milliseconds. `deadlines`: until when each thread waited then."""

    letter = "s"
    milliseconds: int
    deadlines: tuple[tuple[int | str, int], ...] = field(default=(), compare=False)

    def begin(self, machine: Machine) -> None:
        """Only the clock moves."""
        for number, deadline in self.deadlines:
            machine.thread(number).deadline = deadline
        machine.pass_time(self.milliseconds)

    def do(self, machine: Machine) -> None:
        """Those whose time has come go on."""
        machine.sleep(self.milliseconds)

    def as_code(self, program: Program) -> Iterator[str]:
        """In milliseconds."""
        yield f"m.sleep({self.milliseconds})"

    def __str__(self) -> str:
        return f"{self.milliseconds} ms pass"


@dataclass(frozen=True)
class Patched(Event):
    """From now on these functions, and no others, take the place of kernel functions, by name."""

    letter = "a"
    functions: Patches

    def do(self, machine: Machine) -> None:
        """Put them in."""
        machine.engine.patches = {}
        machine.patch(**self.functions)

    def as_data(self) -> list[Any]:
        """Their names; what they do is nothing that a text could tell."""
        return list(self.functions)

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        """Raises KeyError for a function that was not handed in."""
        return cls({name: patches[name] for name in data})

    def as_code(self, program: Program) -> Iterator[str]:
        """See `Program.patched`."""
        return program.patched(self.functions)

    def __str__(self) -> str:
        return "functions of somebody's own are put in"


@dataclass(frozen=True)
class TakenOut(Event):
    """Protections are taken out of the kernel; all others are in it."""

    letter = "o"
    names: tuple[str, ...]

    def do(self, machine: Machine) -> None:
        """Before a call begins."""
        machine.take_out(*self.names)

    def as_data(self) -> list[Any]:
        """Their names."""
        return list(self.names)

    @classmethod
    def from_data(cls, patches: Patches, *data: Any) -> Event:
        """By their names."""
        return cls(data)

    def as_code(self, program: Program) -> Iterator[str]:
        """By their names."""
        yield f"m.take_out({', '.join(program.value('', name) for name in self.names)})"

    def __str__(self) -> str:
        return f"taken out: {', '.join(self.names)}"


@dataclass(frozen=True)
class Failing(Event):
    """The `number`-th thing in a call, or in the next one, is to fail with `errno`, or with the first one that it can have."""

    letter = "e"
    number: int
    errno: int | None = None
    call: int | None = None

    def do(self, machine: Machine) -> None:
        """Before the call begins."""
        machine.fail_next(self.number, self.errno, None if self.call is None else machine.calls[self.call])

    def as_code(self, program: Program) -> Iterator[str]:
        """With the call, if it is one that is moved by hand."""
        errno = [] if self.errno is None else [f"{program.use('uapi')}.Errno.{Errno(self.errno).name}"]
        call = [] if self.call not in program.calls else [f"call={program.calls[self.call]}"]
        yield f"m.fail_next({', '.join([str(self.number), *errno, *call])})"

    def __str__(self) -> str:
        return f"number {self.number} is to fail"


@dataclass(frozen=True)
class Outside(Event):
    """Memory or a file from outside of the machine came into it; nothing knows what that does, so it cannot be done again."""

    what: str

    def do(self, machine: Machine) -> None:
        """Raises ValueError."""
        raise ValueError(f"this run cannot be repeated, so it has no branch: {self.what}")

    def as_data(self) -> list[Any]:
        """Raises ValueError."""
        raise ValueError(f"this run cannot be shared: {self.what}")

    def as_code(self, program: Program) -> Iterator[str]:
        """Raises ValueError."""
        raise ValueError(f"this run cannot be written as a program: {self.what}")


EVENTS: dict[str, type[Event]] = {
    kind.letter: kind for kind in (Began, Forked, Killed, Called, MemoryChanged, Slept, Patched, TakenOut, Failing)
}
