"""What can be done in the sandbox, as data: so it can be taken back, done again, and done on another machine."""

from __future__ import annotations

from dataclasses import dataclass

from ... import uapi
from ...kernel.variants import VARIANTS, variant_of
from ...topology import Topology

Argument = int | str | bytes | tuple[int, ...] | tuple[str, ...] | None


@dataclass(frozen=True)
class Setup:
    """A machine before anybody does anything; `without` are protections that are taken out of its kernel.

    `shared`: the text of a shared run that comes before; it tells everything else too.
    """

    topology: Topology
    kernel: str = "v7.2"
    processes: tuple[str, ...] = ("vmm",)
    without: tuple[str, ...] = ()
    shared: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a kernel that there is not, a process without name, or two of one name."""
        variant_of(self.kernel)
        if not all(self.processes):
            raise ValueError("a process needs a name")
        if len({*self.processes}) != len(self.processes):
            raise ValueError("two processes cannot have the same name")


@dataclass(frozen=True)
class Called:
    """A system call; `struct` is the class of the buffer of an ioctl, if it has one.

    `by_hand`: nothing happens yet, the reader moves it; `lane` is then the name of its thread. `fault`: the how manieth thing
    that can fail in it fails, from 1, with `errno`; 0 for none.
    """

    process: str
    name: str
    arguments: tuple[Argument, ...] = ()
    struct: str = ""
    lane: str = ""
    by_hand: bool = False
    fault: int = 0
    errno: str = ""


@dataclass(frozen=True)
class Mapped:
    """Memory that a program fills, without the kernel being asked; `quiet`: it belongs to the call that follows."""

    process: str
    length: int
    data: bytes = b""
    quiet: bool = False


@dataclass(frozen=True)
class Moved:
    """A running call goes on: "effect", "step" (to the next sentence) or "end" (until it ends or must wait).

    `call` is its number among all calls of the machine, from 0; `times`: so often, if it goes so far.
    """

    call: int
    how: str = "effect"
    times: int = 1


@dataclass(frozen=True)
class Began:
    """A new process; with a `parent` it is its child (fork)."""

    process: str
    parent: str = ""


@dataclass(frozen=True)
class Killed:
    """A process is told to end."""

    process: str


@dataclass(frozen=True)
class Slept:
    """Time passes, in milliseconds."""

    milliseconds: int


Action = Called | Mapped | Moved | Began | Killed | Slept


LAYOUTS = (*uapi.STRUCTS.values(), *(variant.layout for variant in VARIANTS.values()))


def struct_named(name: str) -> type[uapi.Struct] | None:
    """A struct of the ABI by the name of its class; None if there is none."""
    return next((layout for layout in LAYOUTS if layout.__name__ == name), None)
