"""What a student holds: a machine with devices and drivers, and the programs that run on it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from operator import index
from typing import Any, NamedTuple

from .engine import Engine, KernelOops, Phase, Thread, alloc, say
from .invariants import check
from .kernel.boot import boot
from .kernel.fs.file import FilesStruct
from .kernel.kvm.kvm import Kvm
from .kernel.mm import MmStruct
from .kernel.outside import OutsideMemory, OutsideMm, check_outside_memory
from .kernel.task import ALL_CAPABILITIES, Task, UserStruct, begin_task, copy_process, open_standard_files
from .kernel.variants import variant_of
from .process import Call, Process
from .topology import Topology
from .trace import Recorder, Trace
from .why import Why, why

NOFILE = 1024  # descriptors a process may have


class Event(NamedTuple):
    """Something that was asked of a machine from outside: after how many effects, and what."""

    after: int
    what: str
    details: tuple[Any, ...]


class Machine:
    """A computer that has booted: every device is in the hands of its driver, no program runs.

    * `topology`: a Topology, or the name of a built-in one ("small", "lab", "versions");
    * `kernel`: the version whose rules hold: "v7.2", "v6.6", "v5" or "v5r"; `variant` has its switches and assumptions;
    * `trace`: keep every step, so that it can be shown; without it the same calls run several times faster.
    """

    def __init__(self, topology: Topology | str = "small", kernel: str = "v7.2", trace: bool = True) -> None:
        self.variant = variant_of(kernel)
        self.kernel = kernel
        self.topology = Topology.named(topology) if isinstance(topology, str) else topology
        self.engine = Engine(trace=False)
        self.built = self._in_kernel(boot(self.topology.devices, self.topology.iommufd_container, self.variant), "boot")
        self.processes: dict[str, Process] = {}
        self.calls: list[Call] = []  # all of them, oldest first, while traced
        self.pending: list[Call] = []  # those that have not ended
        self.history: list[Event] = []  # what was asked of the machine, while traced
        self._recorder: Recorder | None = None
        if trace:
            self.engine.journal = []
            self._recorder = Recorder(self.engine)

    @property
    def trace(self) -> Trace:
        """Everything since boot, as plain data: `m.trace[-1]`, `m.trace.state(3)`, `m.trace.calls`.

        Raises ValueError for a machine that was made with trace=False.
        """
        if self._recorder is None:
            raise ValueError("this machine keeps no trace; make it with trace=True")
        return Trace.of(self._recorder)

    def check(self) -> list[str]:
        """Every invariant that is broken now, in words; an empty list if all is well."""
        return check(self.engine)

    def why(self, name: str) -> Why:
        """Who keeps an object alive? Every path of references from a root to it, e.g. `m.why("vfio_device vfio0")`.

        The name may be shortened while it is unique. Raises ValueError for an unknown one, with the names that are close.
        """
        return why(self, name)

    def process(
        self, name: str, caps: tuple[str, ...] = ALL_CAPABILITIES, memory: OutsideMemory | None = None
    ) -> Process:
        """A new program with nothing open but descriptors 0, 1 and 2. Raises ValueError if a living one has this name.

        `memory` may be an object that keeps the memory of the process, e.g. that of another program: it has `read(address,
        size)`, `write(address, data)`, `covered(address, size, write)` and `ranges(first, end)`. Such a machine has no branches.
        """
        if memory is not None:
            check_outside_memory(memory)
        return self.new_process(name, None, caps, memory)

    def new_process(
        self,
        name: str,
        parent: Task | None,
        caps: tuple[str, ...] = ALL_CAPABILITIES,
        memory: OutsideMemory | None = None,
    ) -> Process:
        """A process with a descriptor table of its own, and a copy of its parent's memory and rights if it has one."""
        if name in self.processes and self.processes[name].task.alive.value:
            raise ValueError(f"there is a process {name!r} already; give this one another name")
        if parent is not None and parent.mm.value.outside is not None:
            raise ValueError(
                f"the memory of {parent.name!r} is kept outside of the machine, so the process cannot fork"
            )
        if memory is not None:
            self.note("outside", f"the memory of {name!r} is kept outside of the machine")
        self.note("process", name, parent, caps)
        task = self._in_kernel(new_task(name, parent, caps, self.built.root, memory), f"start {name}")
        self.processes[name] = Process(self, name, task)
        return self.processes[name]

    def kvm_live(self) -> int:
        """How many VMs the kernel keeps at this moment, reachable or not."""
        return sum(isinstance(thing, Kvm) for thing in self.engine.objects.values())

    def sleep(self, milliseconds: int) -> None:
        """Let simulated time pass; it moves in no other way."""
        if index(milliseconds) < 0:
            raise ValueError(f"time moves by 0 milliseconds or more, not by {milliseconds}")
        self.note("sleep", milliseconds)
        self.engine.sleep(milliseconds)
        self.finish_calls()

    @contextmanager
    def patched(self, **own: Callable[..., Coroutine[Any, Any, Any]]) -> Iterator[None]:
        """`with m.patched(vfio_df_open=mine):` lets this machine use your version of a kernel function.

        Raises ValueError for a name that no kernel function has.
        """
        with self.engine.patched(**own):
            self.note("patches", dict(self.engine.patches))
            yield
        self.note("patches", dict(self.engine.patches))

    def finish_calls(self) -> None:
        """Let go of the buffers of calls that have ended, and end the processes that an oops has killed."""
        ended = [call for call in self.pending if call.thread.ended]
        self.pending = [call for call in self.pending if not call.thread.ended]
        for call in ended:
            call.finish()
            if isinstance(call.thread.error, KernelOops) and call.process.task.alive.value:
                call.process.start("exit")
        for process in {call.process.name: call.process for call in ended}.values():
            process.end_if_it_can()

    def __repr__(self) -> str:
        programs = (
            ", ".join(name for name, process in self.processes.items() if process.task.alive.value) or "no program"
        )
        return f"<Machine {self.topology.name}, kernel {self.kernel}: {programs}>"

    def note(self, what: str, *details: Any) -> None:
        """Keep in mind what was asked, so that `branch` can ask it again."""
        if self.engine.journal is not None:
            self.history.append(Event(len(self.engine.micro), what, details))

    def branch(self, step: int) -> Machine:
        """A second machine that stands where this one stood after step `step` of its trace.

        Steps are counted as the player shows them: 1 is the first, 0 is before it (after boot), -1 the last.
        Calls that were running there are running in it too, by hand: `twin.pending[0].run()` lets one go on. Both machines
        are independent from then on. Raises IndexError for a step that is not there, ValueError if memory or
        files from outside were given to it before, RuntimeError if the run does not repeat.
        """
        from .branch import branch

        return branch(self, step)

    def _in_kernel(self, code: Coroutine[Any, Any, Any], label: str) -> Any:
        """Run kernel code that belongs to no program."""
        thread: Thread = self.engine.spawn(code, label)
        self.engine.run(thread)
        if thread.error is not None:
            raise thread.error
        return thread.result


async def new_task(
    name: str, parent: Task | None, caps: tuple[str, ...], root: UserStruct, memory: OutsideMemory | None
) -> Task:
    """The kernel's side of a new process."""
    say(Phase.ACQUIRE, f"A new process, {name}, with a descriptor table and memory of its own.")
    if parent is None:
        files = await alloc(FilesStruct, name, NOFILE)
        await open_standard_files(files)
        mm = await (alloc(MmStruct, name) if memory is None else alloc(OutsideMm, name, memory))
        task = await alloc(Task, name, files, mm, caps)
    else:
        task = await copy_process(parent, name)
    await begin_task(task, root, parent)
    return task
