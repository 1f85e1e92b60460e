"""A machine and everything that was done to it; it can be taken back, done again, and done on another machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .. import uapi
from ..engine import Ablation, KernelOops
from ..kernel.fs.file import File
from ..machine import Blocked, Call, Machine, Process, decode, encode, program_of
from ..machine.events import Began, Called, Event, Forked, Killed, Mapped, Moved
from ..machine.history import same_effects
from ..naming import ImpossibleError
from ..trace import Trace
from .behind import Behind
from .outcome import Done, Outcome, outcome_of
from .rehearsal import NO_REHEARSAL, Rehearsal, rehearsed
from .setup import Episode, Setup, import_run

PROGRAM = "vmm"  # the one that there is where nobody wants others
WRONG = (ValueError, TypeError, IndexError, OverflowError, RuntimeError, MemoryError, OSError)  # it cannot be done
SAID = {
    Mapped: "the address of the new memory",
    Began: "a new process",
    Forked: "the child shares every open file",
}


class Run:
    """A machine, and what was done to it. `start` makes the machine where a setup cannot say it, e.g. a puzzle's."""

    def __init__(self, setup: Setup, start: Callable[[], Machine] | None = None) -> None:
        self.setup = setup
        self.start = start
        self.done: list[Done] = []
        self.given = 0  # how many of the first things belong to the beginning, and cannot be taken back
        self.past: list[Episode] = []  # the machines before this one
        self.undone: list[Done | Episode] = []
        self.chosen: dict[tuple[str, str], int] = {}  # by process and sort of file, the descriptor for the next calls
        self.machine: Machine
        self.without: Ablation
        self.later: Mapping[str, Sequence[Called]] = {}  # by thread, the calls that come after those under way
        self._rehearsed: tuple[tuple[Event, ...] | None, Rehearsal] = None, NO_REHEARSAL
        self.behind = Behind(self)
        self._fresh()

    # ---- the machine

    def _fresh(self) -> None:
        """A machine on which nothing was done. Raises ValueError for a setup that cannot be."""
        self.machine = self._boot()
        names = self.setup.without
        if names:
            take_out = self.machine.engine.take_out if self.machine.pending else self.machine.take_out
            self.without = take_out(*names)
        else:
            self.without = self.machine.taken_out if self.machine.taken_out.names else Ablation(())
            self.machine.engine.instead = self.without.instead  # it notes which protections the calls come by
        self.done = []

    def _boot(self) -> Machine:
        if self.start is not None:
            return self.start()
        if self.setup.shared:
            return decode(self.setup.shared)[0]
        try:
            machine = Machine(self.setup.topology, self.setup.kernel, config=self.setup.config)
        except (uapi.KernelError, KernelOops, AssertionError) as problem:
            raise ValueError(f"such a machine does not boot: {problem}") from None
        for name in self.setup.processes:
            machine.process(name)
        return machine

    def reset(self) -> None:
        """The machine as it was at the beginning; redo brings everything back."""
        self.undone = []
        self.take_back(self.given)

    def boot(self, setup: Setup, keep: bool = False, given: Iterable[Event | Done] = ()) -> list[str]:
        """Another machine, with what is `given` done; with `keep` instead all is done again, and what cannot be is told.

        With other protections moves by hand are not. Undo leads back. Raises ValueError for a setup that cannot be.
        """
        before, old = self._episode(), (self.machine, self.without, self.done)
        if replace(setup, without=()) != replace(self.setup, without=()):
            self.start = None
        self.setup = setup
        try:
            self._fresh()
        except ValueError:
            self.setup, self.start = before.setup, before.start
            self.machine, self.without, self.done = old
            raise
        self.past.append(before)
        self.undone = []
        moves = setup.without == before.setup.without
        kept = [each for each in before.done if moves or not isinstance(each.event, Moved)]
        again: Sequence[Event | Done] = kept if keep else [*given]
        first = before.given if keep else len(again)
        left_out = self.again(again[:first])
        self.given = len(self.done)
        return left_out + self.again(again[first:])

    def _episode(self) -> Episode:
        return Episode(self.setup, self.start, (*self.done,), self.given)

    def _enter(self, episode: Episode) -> None:
        """Be on a machine again on which one was before."""
        self.setup, self.start, self.given = episode.setup, episode.start, episode.given
        self._fresh()
        for each in episode.done:
            self.perform(each.event)
        self.done = [*episode.done]

    def again(self, things: Iterable[Event | Done]) -> list[str]:
        """Do these things; what cannot be done is left out and told."""
        left_out = []
        for each in things:
            event, more = (each.event, each.more) if isinstance(each, Done) else (each, False)
            try:
                self._do(event, more)
            except WRONG as problem:
                left_out.append(f"{event}: {problem}")
        return left_out

    def _back_to(self, number: int) -> None:
        """Take everything back that was done after the first so many things."""
        old, twin = self.machine, self.behind.take(number)
        if twin is None:
            self._enter(replace(self._episode(), done=(*self.done[:number],)))
        else:
            self.machine, self.without, self.done = twin.machine, twin.without, self.done[:number]
        self.machine.remember(old)

    # ---- to do, to take back

    def do(self, action: Event, more: bool = False) -> Outcome:
        """Do something, whatever the kernel says to it; with `more` it belongs to what is done next.

        Raises ValueError where it cannot be done at all. Then everything is as before it and what belongs to it: a call may have
        got half-way, so the machine is made anew.
        """
        calls, effects = len(self.machine.calls), len(self.machine.engine.micro)
        try:
            outcome = self._do(action, more)
        except WRONG as problem:
            before = self._before_press(len(self.done))
            if (calls, effects, before) != (len(self.machine.calls), len(self.machine.engine.micro), len(self.done)):
                self._back_to(before)
            raise ImpossibleError(str(problem) or type(problem).__name__) from None
        self.undone = []
        return outcome

    def _before_press(self, number: int) -> int:
        """How many things were done before those that belong to the thing of this number."""
        while number and self.done[number - 1].more:
            number -= 1
        return number

    def before_last(self) -> int:
        """How many things were done before the last press."""
        return self._before_press(len(self.done) - 1)

    @property
    def calls_made(self) -> int:
        """How many things were done since the beginning."""
        return len(self.done) - self.given

    @property
    def can_undo(self) -> bool:
        """Is there something to take back?"""
        return bool(self.calls_made or self.past)

    def take_back(self, first: int) -> list[Done]:
        """Take everything back from this number on; that, in its order. Redo does it again."""
        taken = self.done[first:]
        self.undone += taken[::-1]
        self._back_to(first)
        return taken

    def undo(self) -> bool:
        """Take the last thing back, with all that belongs to it, or the machine itself. False if there is nothing to take back."""
        if self.calls_made:
            self.take_back(self.before_last())
        elif self.past:
            self.undone.append(self._episode())
            self._enter(self.past.pop())
        else:
            return False
        return True

    def redo(self) -> Outcome | None:
        """Do again what was taken back last. None if nothing was, or if that was to boot a machine."""
        outcome, more = None, True
        while self.undone and more:
            done = self.undone.pop()
            if isinstance(done, Episode):
                self.past.append(self._episode())
                self._enter(done)
                return None
            outcome, more = self._do(done.event, done.more), done.more
        return outcome

    def save(self) -> str:
        """Everything as a short text, for `load` and for `vfiosim.replay`. Raises ValueError where it cannot be told so."""
        return encode(self.machine)

    def load(self, text: str) -> str:
        """What `save` wrote, or any other shared run, on a fresh machine; in words, what is other than in that run.

        Raises ValueError for another text.

        What the text tells of can be taken back step by step, unless something happened in it that no button here does.
        """
        machine = decode(text)[0]
        setup = Setup(machine.topology, machine.kernel, tuple(machine.processes), (), machine.config, text.strip())
        found: tuple[Setup, list[Event]] = setup, []
        with suppress(ValueError):
            imported = import_run(machine)
            twin = Run(imported[0])
            if not twin.again(imported[1]) and same_effects(twin.machine, machine):
                found = imported
        self.boot(found[0])
        self.again(found[1])
        return machine.differs

    def faultable(self, memory: list[Mapped], call: Callable[[list[int]], Called]) -> list[tuple[int, str, str]]:
        """What can fail in a call that is made next: the how manieth, with which errno, and what it is. Nothing is done.

        `call` makes the call, when it is given the addresses of the `memory` that it needs.
        """
        twin = self.twin(done.event for done in self.done)
        addresses = [twin._do(each).number for each in memory]
        plan = twin.machine.fail_next(0)
        twin._do(replace(call(addresses), by_hand=False, thread=""))
        return [
            (met.number, errno.name, f"{met.what} ({met.line.function})") for met in plan.met for errno in met.errnos
        ]

    def twin(self, actions: Iterable[Event] = ()) -> Run:
        """Another run, in which these things were done."""
        twin = Run(self.setup, self.start)
        twin.again(actions)
        return twin

    # ---- to look at

    def code(self) -> str:
        """Everything that was done, as a Python program. Raises ValueError where it cannot be told so."""
        return program_of(self.machine)

    def descriptors(self, process: str = PROGRAM) -> dict[int, File]:
        """The descriptor table of a process: number → file; without the terminal that it came with."""
        table = self.machine.processes[process].task.files.fd.slots
        found = {number: file for number, file in sorted(table.items()) if isinstance(file, File)}
        return {number: file for number, file in found.items() if not file.label.startswith("terminal")}

    def choose(self, process: str, fd: int) -> File:
        """Calls that need such a file begin with this descriptor from now on; the answer is the file."""
        file: File = self.descriptors(process)[fd]
        self.chosen[process, file.f_op.name] = fd
        return file

    def alive(self) -> list[str]:
        """The processes that have not ended."""
        return [name for name, process in self.machine.processes.items() if process.task.alive.value]

    def running(self) -> list[int]:
        """The numbers of the calls that have not ended."""
        return [number for number, call in enumerate(self.machine.calls) if call in self.machine.pending]

    @property
    def steps(self) -> Trace:
        """The steps of the last thing; or of the race that is being moved by hand, from its beginning on."""
        trace = self.machine.trace
        if self.calls_made <= 0:
            return trace[len(trace) :]
        return trace[self.done[self._race()].steps_before :]

    def _race(self) -> int:
        """The number of the first of the actions that are shown together."""
        first = len(self.done) - 1
        while first > 0 and self.done[first].by_hand and self.done[first - 1].by_hand:
            first -= 1
        return first

    def rehearsal(self) -> Rehearsal:
        """How the race that is moved by hand can go: one call after the other, and in turns. Empty where there is none."""
        by_hand = not self.done or self.done[-1].by_hand
        if not (self.running() or (self.done and by_hand)):
            return NO_REHEARSAL
        first = self._race() if by_hand else len(self.done)
        actions = tuple(done.event for number, done in enumerate(self.done) if number < first or done.begins)
        if self._rehearsed[0] != actions:
            self._rehearsed = actions, rehearsed(lambda: self.twin(actions), self.to_come())
        return self._rehearsed[1]

    def to_come(self) -> dict[str, Sequence[Called]]:
        """By thread, the calls that it has still to begin, where there are any."""
        made = Counter(done.event.thread for done in self.done if isinstance(done.event, Called))
        return {thread: calls[made[thread] :] for thread, calls in self.later.items() if calls[made[thread] :]}

    @property
    def moved(self) -> bool:
        """Was the last thing a move of a call that the reader schedules?"""
        return bool(self.done) and isinstance(self.done[-1].event, Moved)

    def reserve(self) -> tuple[Trace, ...]:
        """For what a picture of the race keeps a place, so that it need not be laid out anew; () where none is moved by hand."""
        return self.rehearsal().traces if not self.done or self.done[-1].by_hand else ()

    def race_began(self) -> int:
        """How many effects there were before the calls that run now began, or before the race that is shown."""
        begun = {done.call: number for number, done in enumerate(self.done) if done.begins}
        first = min([self._race(), *(begun.get(number, 0) for number in self.running())])
        return self.done[first].effects_before if self.done else len(self.machine.engine.micro)

    # ---- how each thing is done

    def _do(self, action: Event, more: bool = False) -> Outcome:
        engine, calls, steps = self.machine.engine, len(self.machine.calls), len(self.machine.trace)
        effects = len(engine.micro)
        outcome = self._outcome(action, self.perform(action))
        outcome = replace(outcome, effects=len(engine.micro) - effects)
        number = action.call if isinstance(action, Moved) else calls if isinstance(action, Called) else -1
        self.done.append(Done(action, outcome, effects, steps, number, more))
        return outcome

    def perform(self, action: Event) -> Any:
        """Do something on the machine; nothing is kept of it here. The answer is what came of it. Raises as its `do`."""
        try:
            return action.do(self.machine)
        except (Blocked, KernelOops) as problem:  # it is done all the same
            return problem

    def _outcome(self, action: Event, came: Any) -> Outcome:
        if isinstance(came, Call):
            return outcome_of(came, str(came) if isinstance(action, Called | Moved) else str(action))
        if isinstance(came, Exception):
            return Outcome.of(str(action), came)
        said = SAID.get(type(action), "")
        if isinstance(action, Killed):
            waits = self.machine.processes[action.process].task.alive.value
            said = "it ends when its running calls have ended" if waits else "all its descriptors are closed"
        shown = came.name if isinstance(came, Process) else hex(came) if isinstance(came, int) else "0"
        return Outcome(str(action), shown, said, number=came)
