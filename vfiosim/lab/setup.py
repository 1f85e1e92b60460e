"""A machine before anybody does anything, and a run of another machine as such a setup and what was done then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..kernel.config import RECORDED, Config
from ..kernel.task import ALL_CAPABILITIES
from ..kernel.variants import variant_of
from ..machine import Machine
from ..machine.events import Began, Called, Event, Killed, Moved, TakenOut
from ..machine.history import turns_after
from ..topology import Topology
from .outcome import Done


@dataclass(frozen=True)
class Setup:
    """A machine before anybody does anything; `without` are protections that are taken out of its kernel.

    `config`: how its kernel was built and started; `shared`: the text of a shared run that comes before, which tells all else too.
    """

    topology: Topology
    kernel: str = "v7.2"
    processes: tuple[str, ...] = ("vmm",)
    without: tuple[str, ...] = ()
    config: Config = RECORDED
    shared: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a kernel that there is not, a process without name, or two of one name."""
        variant_of(self.kernel)
        object.__setattr__(self, "config", self.topology.configured(self.config))  # as the machine will say
        if not all(self.processes):
            raise ValueError("a process needs a name")
        if len({*self.processes}) != len(self.processes):
            raise ValueError("two processes cannot have the same name")


@dataclass(frozen=True)
class Episode:
    """A machine on which one was: how it begins, and what was done on it; the first `given` things belong to its beginning."""

    setup: Setup
    start: Callable[[], Machine] | None
    done: tuple[Done, ...]
    given: int


def import_run(machine: Machine) -> tuple[Setup, list[Event]]:
    """The machine at first, and what was done then. Raises ValueError where a thread went on that belongs to no call."""
    setup, events = Setup(machine.topology, machine.kernel, (), (), machine.config), list[Event]()
    killed: set[str] = set()  # they end by themselves
    for turn in turns_after(machine):
        event = turn.event
        if isinstance(event, Began) and not events and event.caps == ALL_CAPABILITIES:
            setup = replace(setup, processes=(*setup.processes, event.process))
        elif isinstance(event, TakenOut) and not events:
            setup = replace(setup, without=event.names)
        elif not isinstance(event, Called):
            events.append(event)
        elif event.name != "exit" or event.process not in killed or turn.turns is not None:
            events.append(replace(event, by_hand=turn.turns is not None))
        if isinstance(event, Killed | Began):
            (killed.add if isinstance(event, Killed) else killed.discard)(event.process)
        for thread, effects in turn.pairs:
            if not isinstance(thread, int):
                raise ValueError(f"{thread} is no call")
            events.append(Moved(thread, "effect", effects))
    return setup, events
