"""A machine and everything that was done to it; it can be taken back, done again, and done on another machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ... import uapi
from ...engine import KernelOops, Without
from ...kernel import Unsupported
from ...kernel.fs.file import File
from ...machine import Machine
from ...process import Call, Process
from ...sharing import decode, encode
from ...trace import Trace
from .acquired import hands, line_of_refusal
from .actions import Action, Called, Killed, Mapped, Moved, Setup, Slept
from .retell import retell, told_alike
from .told import Done, Told, by_hand, changes, result, title

WAYS = [(how, order) for how in ("end", "effect") for order in (1, -1)]  # to rehearse a race: forwards and backwards
ENDLESS = 100_000  # effects of one step; no sentence of the kernel has as many


class Run:
    """A machine, and what was done to it. `start` makes the machine where a setup cannot say it, e.g. a puzzle's."""

    def __init__(self, setup: Setup, start: Callable[[], Machine] | None = None) -> None:
        self.setup = setup
        self.start = start
        self.done: list[Done] = []
        self.undone: list[Action] = []
        self.machine: Machine
        self.without: Without
        self._buffers: dict[int, tuple[Called, bytearray]] = {}
        self._rehearsed: tuple[tuple[Action, ...] | None, tuple[Trace, ...]] = None, ()
        self._fresh()

    # ---- the machine

    def _fresh(self) -> None:
        """A machine on which nothing was done. Raises ValueError for a setup that cannot be."""
        self.machine = self._boot()
        names = self.setup.without
        if self.machine.pending:
            self.without = self.machine.engine.take_out(*names)
        elif names:
            self.without = self.machine.take_out(*names)
        if not names:
            self.without = self.machine.taken_out if self.machine.taken_out.names else Without(())
            self.machine.engine.instead = self.without.instead  # it notes which protections the calls come by
        self.done, self._buffers = [], {}

    def _boot(self) -> Machine:
        if self.start is not None:
            return self.start()
        if self.setup.shared:
            return decode(self.setup.shared)[0]
        try:
            machine = Machine(self.setup.topology, self.setup.kernel)
        except (uapi.KernelError, KernelOops, AssertionError) as problem:
            raise ValueError(f"such a machine does not boot: {problem}") from None
        for name in self.setup.processes:
            machine.process(name)
        return machine

    def reset(self) -> None:
        """The machine as it was before anything was done; redo brings everything back."""
        self.undone = [done.action for done in reversed(self.done)]
        self._fresh()

    def boot(self, setup: Setup, keep: bool = False) -> list[str]:
        """Another machine; with `keep` all is done again on it, and what cannot be done there is left out and told.

        Raises ValueError for a setup that cannot be; then everything is as it was.
        """
        actions = [done.action for done in self.done] if keep else []
        before = self.setup, self.start
        if replace(setup, without=()) != replace(self.setup, without=()):
            self.start = None
        self.setup = setup
        old = self.machine, self.without, self.done, self._buffers
        try:
            self._fresh()
        except ValueError:
            self.setup, self.start = before
            self.machine, self.without, self.done, self._buffers = old
            raise
        self.undone = []
        return self._again(actions)

    def _again(self, actions: list[Action]) -> list[str]:
        left_out = []
        for action in actions:
            try:
                self._do(action)
            except (ValueError, IndexError, TypeError, OSError) as problem:
                left_out.append(f"{title(action)}: {problem}")
        return left_out

    # ---- to do, to take back

    def do(self, action: Action) -> Told:
        """Do something, whatever the kernel says to it. Raises ValueError where it cannot be done at all.

        Then everything is as before: a call may have got half-way, so the machine is made anew.
        """
        calls, effects = len(self.machine.calls), len(self.machine.engine.micro)
        try:
            told = self._do(action)
        except (ValueError, TypeError, IndexError, OverflowError, RuntimeError, MemoryError, OSError) as problem:
            if (calls, effects) != (len(self.machine.calls), len(self.machine.engine.micro)):
                actions = [done.action for done in self.done]
                self._fresh()
                self._again(actions)
            raise ValueError(str(problem) or type(problem).__name__) from None
        self.undone = []
        return told

    def undo(self) -> Action | None:
        """Take the last thing back, with the memory that was made for it. None if there is nothing to take back."""
        if not self.done:
            return None
        actions = [done.action for done in self.done]
        last = actions.pop()
        self.undone.append(last)
        while actions and isinstance(actions[-1], Mapped) and actions[-1].quiet:
            self.undone.append(actions.pop())
        self._fresh()
        self._again(actions)
        return last

    def redo(self) -> Told | None:
        """Do again what was taken back last. None if nothing was."""
        told = None
        while self.undone:
            action = self.undone.pop()
            told = self._do(action)
            if not (isinstance(action, Mapped) and action.quiet):
                break
        return told

    def save(self) -> str:
        """Everything as a short text, for `load` and for `vfiosim.replay`. Raises ValueError where it cannot be told so."""
        return encode(self.machine)

    def load(self, text: str) -> None:
        """What `save` wrote, or any other shared run, on a fresh machine. Raises ValueError for another text.

        What the text tells of can be taken back step by step, unless something happened in it that no button here does.
        """
        machine = decode(text)[0]
        actions: list[Action] = []
        setup = Setup(machine.topology, machine.kernel, tuple(machine.processes), shared=text.strip())
        try:
            told, actions = retell(machine)
            twin = Run(told)
            same = not twin._again(actions) and told_alike(twin.machine, machine)
        except ValueError:
            told, same = setup, False
        self.boot(told if same else setup)
        self._again(actions if same else [])

    def faultable(self, memory: list[Mapped], call: Callable[[list[int]], Called]) -> list[tuple[int, str, str]]:
        """What can fail in a call that is made next: the how manieth, with which errno, and what it is. Nothing is done.

        `call` makes the call, when it is given the addresses of the `memory` that it needs.
        """
        twin = Run(self.setup, self.start)
        twin._again([done.action for done in self.done])
        addresses = [twin._do(each).number for each in memory]
        plan = twin.machine.fail_next(0)
        twin._do(replace(call(addresses), by_hand=False, lane="", fault=0))
        return [
            (met.number, errno.name, f"{met.what} ({met.line.function})") for met in plan.met for errno in met.errnos
        ]

    # ---- to look at

    def descriptors(self, process: str) -> dict[int, Any]:
        """The descriptor table of a process: number → file; without the terminal that it came with."""
        table = self.machine.processes[process].task.files.fd.slots
        found = {number: file for number, file in sorted(table.items()) if isinstance(file, File)}
        return {number: file for number, file in found.items() if not file.label.startswith("terminal")}

    def alive(self) -> list[str]:
        """The processes that have not ended."""
        return [name for name, process in self.machine.processes.items() if process.task.alive.value]

    def running(self) -> list[int]:
        """The numbers of the calls that have not ended."""
        return [number for number, call in enumerate(self.machine.calls) if call in self.machine.pending]

    def shown(self) -> Trace:
        """The steps of the last thing; or of the race that is being moved by hand, from its beginning on."""
        trace = self.machine.trace
        if not self.done:
            return trace[len(trace) :]
        return trace[self.done[self._race()].steps_before :]

    def _race(self) -> int:
        """The number of the first of the actions that are shown together."""
        first = len(self.done) - 1
        while first > 0 and by_hand(self.done[first].action) and by_hand(self.done[first - 1].action):
            first -= 1
        return first

    def rehearsal(self) -> tuple[Trace, ...]:
        """How the race that is moved by hand can go: one call after the other, and in turns. () where there is none.

        Whoever draws the race keeps a place for all that comes up there, so that its picture need not be laid out anew.
        """
        first = self._race()
        if not self.done or not by_hand(self.done[-1].action):
            return ()
        actions = tuple(done.action for number, done in enumerate(self.done) if number < first or _begins(done.action))
        if self._rehearsed[0] != actions:
            before = self.done[first].steps_before
            self._rehearsed = actions, tuple(self._played(actions, *way)[before:] for way in WAYS)
        return self._rehearsed[1]

    def _played(self, actions: tuple[Action, ...], how: str, order: int) -> Trace:
        """The machine's trace when all running calls are moved in turns, as far as they go."""
        twin = Run(self.setup, self.start)
        twin._again([*actions])
        running, effects = twin.running(), -1
        while running and len(twin.machine.engine.micro) > effects:
            effects = len(twin.machine.engine.micro)
            twin._again([Moved(number, how) for number in running[::order]])
            running = twin.running()
        return twin.machine.trace

    # ---- how each thing is done

    def _do(self, action: Action) -> Told:
        engine, trace = self.machine.engine, self.machine.trace
        effects, calls, steps = len(engine.micro), len(self.machine.calls), len(trace)
        told = self._told(action)
        done = replace(told, effects=len(engine.micro) - effects)
        number = action.call if isinstance(action, Moved) else calls if isinstance(action, Called) else -1
        self.done.append(Done(action, done, effects, steps, number))
        return done

    def _told(self, action: Action) -> Told:
        machine = self.machine
        if isinstance(action, Called):
            return self._call(action)
        if isinstance(action, Moved):
            return self._move(action)
        if isinstance(action, Mapped):
            where = self._process(action.process).memory.map(action.length, action.data)
            return Told(title(action), hex(where), "the address of the new memory", number=where)
        if isinstance(action, Slept):
            machine.sleep(action.milliseconds)
            return Told(title(action), "0")
        if isinstance(action, Killed):
            self._process(action.process).kill()
            waits = machine.processes[action.process].task.alive.value
            return Told(
                title(action),
                "0",
                "it ends when its running calls have ended" if waits else "all its descriptors are closed",
            )
        if action.parent:
            child = self._process(action.parent).fork(action.process)
            return Told(title(action), child.name, "the child shares every open file")
        return Told(title(action), machine.process(action.process).name, "a new process")

    def _process(self, name: str) -> Process:
        if name not in self.alive():
            raise ValueError(f"there is no living process {name!r}")
        return self.machine.processes[name]

    def _call(self, action: Called) -> Told:
        arguments: list[Any] = list(action.arguments)
        buffer = bytearray()
        if action.name == "ioctl" and len(arguments) > 2 and isinstance(arguments[2], bytes):
            buffer = arguments[2] = bytearray(arguments[2])
        number = len(self.machine.calls)
        self._buffers[number] = (action, buffer)
        if action.fault:
            self.machine.fail_next(action.fault, uapi.Errno[action.errno] if action.errno else None)
        call = self._process(action.process).start(action.name, *arguments, run=not action.by_hand, lane=action.lane)
        return self._ended(number, call)

    def _move(self, action: Moved) -> Told:
        if not 0 <= action.call < len(self.machine.calls):
            raise ValueError(f"there is no call number {action.call}")
        call = self.machine.calls[action.call]
        if call.thread.ended:
            raise ValueError(f"{call} has ended already")
        for _ in range(action.times):
            if action.how == "end":
                call.run()
            elif action.how == "effect":
                call.step()
            else:
                _to_the_next_sentence(call)
        return self._ended(action.call, call)

    def _ended(self, number: int, call: Call) -> Told:
        shown = f"{call.thread.label}: {call.shown}" if call.thread.manual else str(call)
        error = call.error
        engine, thread = self.machine.engine, call.thread
        if not thread.ended:
            waits = call.waits_for
            said = waits or "(move it on; you are the scheduler)"
            return Told(shown, "waits" if waits else "under way", said, waits=bool(waits))
        if isinstance(error, Unsupported):
            return Told(shown, "not modelled", error.sentence, unknown=True)
        if isinstance(error, uapi.KernelError):
            held = hands(engine, thread)
            return Told(
                shown, error.name, error.sentence, error.check, error.where or "", refused=True,
                source=line_of_refusal(engine, thread), had=held.had, back=held.back, kept=held.kept,
            )  # fmt: skip
        if error is not None:
            return Told(shown, "oops", str(error), refused=True)
        action, buffer = self._buffers.get(number, (None, bytearray()))
        wrote = tuple(changes(action, buffer)) if action is not None else ()
        return Told(shown, result(call.result), wrote=wrote, number=call.result)


def _begins(action: Action) -> bool:
    return by_hand(action) and not isinstance(action, Moved)


def _to_the_next_sentence(call: Call) -> None:
    for _ in range(ENDLESS):
        if not call.step() or call.thread.saying is not None:
            return
