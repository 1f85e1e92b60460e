"""What a student holds: a machine with devices and drivers, and the programs that run on it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from operator import index
from threading import RLock
from typing import Any, NoReturn, ParamSpec

from ..engine import Ablation, Engine, FaultPlan, KernelOops, Thread
from ..invariants import INVARIANTS, Invariant, check
from ..kernel.boot import boot
from ..kernel.callbacks import CALLBACKS
from ..kernel.config import Config, Switches
from ..kernel.kvm.kvm import Kvm
from ..kernel.outside import OutsideMemory, check_outside_memory
from ..kernel.posted import POSTED
from ..kernel.task import ALL_CAPABILITIES, TaskStruct
from ..kernel.variants import variant_of
from ..kernel.vfio.built_without import BUILT_WITHOUT
from ..topology import Topology
from ..trace import Recorder, Trace, same_snapshot
from ..uapi import Errno, KernelError
from ..why import Why, why
from .call import Broken, Call
from .events import Began, Event, Failing, Forked, Outside, Patched, Slept, TakenOut
from .history import Noted, repeat
from .process import Process, new_task
from .sharing import RENAMED, encode_until
from .system_calls import must_be

P = ParamSpec("P")


class Machine:
    """A computer that has booted: every device is in the hands of its driver, no program runs.

    * `topology`: a Topology, or the name of a built-in one ("small", "lab", "versions");
    * `kernel`: the version whose rules hold: "v7.2", "v6.6", "v5" or "v5r"; `variant` has its switches and assumptions;
    * `config`: how that kernel was built and started where it is not as recorded: a Config, or such as "VFIO_GROUP=n";
    * `trace`: keep every step, so that it can be shown; without it the same calls run several times faster.
    """

    def __init__(
        self, topology: Topology | str = "small", kernel: str = "v7.2", trace: bool = True, config: Switches = None
    ) -> None:
        if not isinstance(topology, Topology | str):
            raise TypeError(f"a machine is made of a Topology or the name of one, not of {topology!r}")
        self.turn = RLock()  # calls from several threads of Python are made one after the other
        self.variant = variant_of(kernel)
        self.kernel = kernel
        self.topology = Topology.named(topology) if isinstance(topology, str) else topology
        self.config = self.topology.configured(Config.of(config))
        self.own_config = self.config.other_than(self.topology.configured(Config()))  # what the devices do not tell
        self.engine = Engine(trace=False)
        without = [stubs for switch, stubs in BUILT_WITHOUT.items() if not getattr(self.config, switch)]
        self.engine.version = {name: one for table in (POSTED.get(kernel, {}), *without) for name, one in table.items()}
        self.engine.options = vars(self.config)
        self.built = self._in_kernel(boot(self.topology.devices, self.config, self.variant), "boot")
        self.taken_out = Ablation(())
        self.processes: dict[str, Process] = {}
        self.calls: list[Call] = []  # all of them, oldest first, while traced
        self.pending: list[Call] = []  # those that have not ended
        self._of_thread: dict[Thread, Call] = {}  # the same, by their threads
        self.history: list[Noted] = []  # what was asked of the machine, while traced
        self.differs = ""  # what is other than in the run whose text it was made of
        self.expected: tuple[Invariant, ...] = ()  # beside those that hold on every machine
        self._next_fault: FaultPlan | None = None  # for the call that begins next
        self._recorder: Recorder | None = None
        if trace:
            self.engine.journal = []
            booted = same_snapshot(self.engine, self.topology, self.config, self.kernel)
            self._recorder = Recorder(self.engine, start=booted)

    @property
    def trace(self) -> Trace:
        """Everything since boot, as plain data: `m.trace[-1]`, `m.trace.state(3)`, `m.trace.calls`.

        Raises ValueError for a machine that was made with trace=False.
        """
        if self._recorder is None:
            raise ValueError("this machine keeps no trace; make it with trace=True")
        trace = Trace.of(self._recorder)
        trace.shared_by(partial(encode_until, self, len(self.history), len(self.engine.micro)))
        return trace

    def check(self) -> Broken:
        """Every invariant that is broken now, in words; an empty list if all is well.

        As it is shown it also tells which call was refused last, and why; while the machine keeps a trace.
        """
        refused = next(
            ((call, call.error) for call in reversed(self.calls) if isinstance(call.error, KernelError)), None
        )
        told = f"{refused[0].shown} [{refused[1].name}]: {refused[1].sentence}" if refused else ""
        return Broken(check(self.engine, self.expected), told)

    def expect(self, *rules: Invariant) -> None:
        """From now on `check` looks at these invariants too, such as those that only hold in a puzzle."""
        asked: tuple[Any, ...] = rules
        if wrong := [rule for rule in asked if not isinstance(rule, Invariant)]:
            raise TypeError(f"what holds on a machine is told as an Invariant, not as {wrong[0]!r}")
        self.expected += tuple(rule for rule in rules if rule not in INVARIANTS and rule not in self.expected)

    def why(self, name: str) -> Why:
        """Who keeps an object alive? Every path of references from a root to it, e.g. `m.why("vfio_device vfio0")`.

        The name may be shortened while it is unique; what was freed has its full name. Raises UnknownNameError for an unknown
        one, with the names that are close.
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
        parent: TaskStruct | None,
        caps: tuple[str, ...] = ALL_CAPABILITIES,
        memory: OutsideMemory | None = None,
    ) -> Process:
        """A process with a descriptor table of its own, and a copy of its parent's memory and rights if it has one."""
        must_be("name", "a process", name)
        must_be("names", "a process", tuple(caps))
        if name in self.processes and self.processes[name].task.alive.value:
            raise ValueError(f"there is a process {name!r} already; give this one another name")
        if parent is not None and parent.mm.value.outside is not None:
            raise ValueError(
                f"the memory of {parent.name!r} is kept outside of the machine, so the process cannot fork"
            )
        if memory is not None:
            self.note(Outside, f"the memory of {name!r} is kept outside of the machine")
        if parent is None:
            self.note(Began, name, tuple(caps))
        else:
            self.note(Forked, parent.name, name)
        task = self._in_kernel(new_task(name, parent, tuple(caps), self.built.root, memory), f"start {name}")
        self.processes[name] = Process(self, name, task)
        return self.processes[name]

    def kvm_live(self) -> int:
        """How many VMs the kernel keeps at this moment, reachable or not."""
        return sum(isinstance(thing, Kvm) for thing in self.engine.objects.values())

    def sleep(self, milliseconds: int) -> None:
        """Let simulated time pass; it moves in no other way."""
        if index(milliseconds) < 0:
            raise ValueError(f"time moves by 0 milliseconds or more, not by {milliseconds}")
        with self.turn:
            self.pass_time(milliseconds)
            self.engine.settle()
            self.finish_calls()

    def pass_time(self, milliseconds: int) -> None:
        """As `sleep`, but those whose time is over go on only when they are moved."""
        waiting = [(thread, thread.deadline) for thread in self.engine.threads if thread.deadline is not None]
        self.note(Slept, milliseconds, tuple((self.number_of(thread), deadline) for thread, deadline in waiting))
        self.engine.clock += milliseconds

    @contextmanager
    def patched(self, **own: Callable[..., Coroutine[Any, Any, Any]]) -> Iterator[None]:
        """`with m.patched(vfio_df_open=mine):` lets this machine use your version of a kernel function.

        Raises ValueError for a name that no kernel function has, TypeError unless it is an `async def`, PatchError for what kernel
        code must not have (`vfiosim.engine.grammar`). A call in which it raises something, awaits what is no effect, or does not
        come to an end, ends with a PatchError: one sentence with the function and the line. The process lives on, and the locks of
        the call are given back.
        """
        before = dict(self.engine.patches)
        self.patch(**own)
        try:
            yield
        finally:
            self.engine.patches = before
            self.note(Patched, before)

    def patch(self, **own: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        """As `patched`, from now on and for good."""
        self.engine.patch(**own)
        self.note(Patched, dict(self.engine.patches))

    def fail_next(self, number: int | None, errno: int | None = None, call: Call | None = None) -> FaultPlan:
        """Let one allocation, copy, callback or attach of a call fail: the `number`-th, counted from 1; with 0 nothing does,
        with None the first that can fail with `errno`.

        It is the next call, or `call`, which must not have begun (`run=False`). It fails with `errno`, or with the first one that
        it can have. The answer says in `met`, when the call has ended, what could have failed; `vfiosim.explore.faultable` lists
        that beforehand. Raises ValueError for a number below 0, or a call that has begun.
        """
        if number is not None and index(number) < 0:
            raise ValueError(f"what fails is counted from 1, and 0 is nothing; there is no {number}")
        plan = FaultPlan(number, None if errno is None else Errno(errno), CALLBACKS)
        if call is None:
            self._next_fault = plan
        elif call.process.machine is not self:
            raise ValueError(f"{call} is a call on another machine")
        elif call.begun:
            raise ValueError(f"{call} has begun; what is to fail has to be said before")
        else:
            self.engine.plan_faults(call.thread, plan)
        self.note(Failing, number, errno and int(errno), self.calls.index(call) if call in self.calls else None)
        return plan

    def begin_call(self, call: Call) -> None:
        """A call is about to begin; if something is to fail in it, the thread learns it here."""
        self.pending.append(call)
        self._of_thread[call.thread] = call
        if self.engine.journal is not None:
            self.calls.append(call)
        if self._next_fault is not None:
            self.engine.plan_faults(call.thread, self._next_fault)
            self._next_fault = None

    def take_out(self, *names: str) -> Ablation:
        """Take protections out of the kernel; all others are back in. `engine/ablation.py` says what the names are.

        `met` of the answer are the names of those that calls have come by since, `missing()` those asked for that none came by.
        Raises ValueError while a call is under way: what it has locked with a lock it must unlock.
        """
        if self.pending:
            raise ValueError(f"protections are taken out before a call begins, and {self.pending[0]} has not ended")
        must_be("name", "take_out", *names)
        names = tuple(RENAMED.get(name, name) for name in names)
        self.note(TakenOut, names)
        self.taken_out = self.engine.take_out(*names)
        return self.taken_out

    def finish_calls(self) -> None:
        """Let go of the buffers of calls that have ended, and end the processes that an oops has killed."""
        ended = self.forget_ended()
        for call in ended:
            if isinstance(call.thread.error, KernelOops) and call.process.task.alive.value:
                call.process.start("exit")
        for process in dict.fromkeys(call.process for call in ended):
            process.end_if_it_can()

    def forget_ended(self) -> list[Call]:
        """Let go of the buffers of calls that have ended; the answer is these calls."""
        threads, self.engine.ended = self.engine.ended, []
        ended = [self._of_thread.pop(thread) for thread in threads if thread in self._of_thread]
        for call in ended:
            self.pending.remove(call)
            call.finish()
        return ended

    def __repr__(self) -> str:
        programs = (
            ", ".join(name for name, process in self.processes.items() if process.task.alive.value) or "no program"
        )
        return f"<Machine {self.topology.name}, kernel {self.kernel}: {programs}>"

    def note(self, kind: Callable[P, Event], *what: P.args, **more: P.kwargs) -> None:
        """Keep in mind what was asked, so that it can be asked again."""
        if self.engine.journal is not None:
            self.history.append(Noted(len(self.engine.micro), kind(*what, **more)))

    def number_of(self, thread: Thread) -> int | str:
        """How a thread is named outside of this machine: as the n-th call, or by its label where it is no call."""
        return next((number for number, call in enumerate(self.calls) if call.thread is thread), thread.label)

    def thread(self, number: int | str) -> Thread:
        """The thread that `number_of` names so, the oldest living one of a label. Raises LookupError if there is none."""
        if isinstance(number, int):
            return self.calls[number].thread
        found = next((thread for thread in self.engine.threads if thread.label == number), None)
        if found is None:
            raise LookupError(f"there is no thread {number!r}")
        return found

    def effects_until(self, step: int) -> int:
        """How many effects come before a step, counted as `branch` does.

        Raises IndexError if there is no such step, TypeError for what is no number of one.
        """
        if not isinstance(step, int):
            raise TypeError(f"a step is a whole number, not {step!r}")
        trace = self.trace
        number = step + len(trace) + 1 if step < 0 else step
        if not 0 <= number <= len(trace):
            raise IndexError(f"there is no step {step}; the trace has {len(trace)}, and 0 is before the first")
        return trace.steps[number - 1].last + 1 if number else 0

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Neither `copy` nor `pickle` can do it: calls that have begun are coroutines."""
        raise TypeError(
            "a machine is not copied or pickled: m.branch(-1) is a second one, m.trace.replay a text of its run"
        )

    def remember(self, other: Machine) -> None:
        """What this machine has done before on another one need not be told again for the trace: it is as it was there."""
        if self._recorder is not None and other._recorder is not None:
            self._recorder.adopt(other._recorder)

    def as_at_first(self) -> Machine:
        """A second machine of the same topology and kernel, to which nothing was done."""
        twin = Machine(self.topology, self.kernel, config=self.config)
        twin.expect(*self.expected)
        return twin

    def branch(self, step: int) -> Machine:
        """A second machine that stands where this one stood after step `step` of its trace.

        Steps are counted as the player shows them: 1 is the first, 0 is before it (after boot), -1 the last.
        Calls that were running there are running in it too, by hand: `twin.pending[0].run()` lets one go on. Both machines
        are independent from then on. Raises IndexError for a step that is not there, ValueError if memory or
        files from outside were given to it before, RuntimeError if the run does not repeat.
        """
        effects, twin = self.effects_until(step), self.as_at_first()
        repeat(twin, self, effects)
        twin.remember(self)
        return twin

    def look(self, code: Coroutine[Any, Any, Any]) -> Any:
        """What kernel code answers that only looks round, and leaves everything as it was: no trace tells of it."""
        journal, self.engine.journal = self.engine.journal, None
        try:
            return self._in_kernel(code, "somebody who looks")
        finally:
            self.engine.journal = journal

    def _in_kernel(self, code: Coroutine[Any, Any, Any], label: str) -> Any:
        """Run kernel code that belongs to no program."""
        with self.turn:
            thread: Thread = self.engine.spawn(code, label)
            self.engine.run(thread)
            if thread in self.engine.ended:
                self.engine.ended.remove(thread)  # no call, and so nothing to let go of
        if thread.error is not None:
            raise thread.error
        return thread.result
