"""A machine at the beginning of a schedule: who calls what, what must hold on the way, and what must be left at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ctypes import Structure
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..engine import Ablation, Count, Field, KernelOops, Lock, PatchError, Request, Thread
from ..engine.ablation import _dropped
from ..engine.lifetime import hand_over, put, put_if_last
from ..engine.operations import Accesses
from ..engine.sync import acquire, acquire_shared
from ..kernel import Unsupported
from ..machine import Blocked, Call, Machine, Memory
from ..machine.system_calls import SYSTEM_CALLS, check_arguments
from ..trace.plain import plain, shown
from ..uapi import KernelError
from .accesses import can_go, waits_for_a_time
from .monitor import Monitor, Order, orders
from .threads import UserThread, time_is_over

Programs = Mapping[str, Sequence[tuple[Any, ...]]]
Factory = Callable[..., Machine]
AT_REST = "at rest: "  # before what is broken when no call runs any more
_A_CALL = "(process, call, arguments...)"
_PROGRAMS = '{"A": [("vmm", "close", 3)]}'


@dataclass(frozen=True)
class Placed:
    """A call whose structs and buffers have got their place in the memory of its process."""

    process: str
    name: str
    arguments: tuple[Any, ...]

    def start(self, machine: Machine, thread: str) -> Call:
        """Begin the call; nothing happens yet."""
        return machine.processes[self.process].start(self.name, *self.arguments, run=False, thread=thread)


def place(machine: Machine, programs: Programs) -> dict[str, list[Placed]]:
    """Put every struct and buffer of the programs into memory, always at the same address.

    Raises ValueError for a program that names no process of the machine, or a call that is none.
    """
    placed: dict[str, list[Placed]] = {}
    _refuse_nonsense(programs)
    _refuse_exits(programs)
    for thread, calls in programs.items():
        placed[thread] = []
        for call in calls:
            if len(call) < 2 or call[0] not in machine.processes:
                known = ", ".join(map(repr, machine.processes)) or "the machine, which has none"
                raise ValueError(f"a call of a program is {_A_CALL}, with a process of {known}, not {call!r}")
            process, name, *arguments = call
            if name in SYSTEM_CALLS and not SYSTEM_CALLS[name].plain:
                raise ValueError(f"{name} is no call of an exploration; let the factory make it before")
            memory = machine.processes[process].memory
            passed = tuple(_in_memory(memory, argument) if name == "ioctl" else argument for argument in arguments)
            check_arguments(name, passed)
            placed[thread].append(Placed(process, name, passed))
    return placed


def _refuse_nonsense(programs: Any) -> None:
    """Raises ValueError for what are no programs at all."""
    if not isinstance(programs, Mapping) or not programs:
        raise ValueError(
            f"programs are a dict of at least one thread and its calls, such as {_PROGRAMS}, not {programs!r}"
        )
    for thread, calls in programs.items():
        if not isinstance(thread, str) or not thread:
            raise ValueError(f"a thread needs a name, and {thread!r} is none")
        if not isinstance(calls, list | tuple) or not all(isinstance(call, list | tuple) for call in calls):
            raise ValueError(f"the calls of thread {thread} are a list of {_A_CALL}, not {calls!r}")


def _refuse_exits(programs: Programs) -> None:
    """A process that ends takes all its threads with it, so nobody can make calls in it at the same time or later."""
    calls = [(thread, number, call) for thread, calls in programs.items() for number, call in enumerate(calls)]
    for thread, number, call in calls:
        if tuple(call[1:2]) == ("exit",):
            others = [(one, n) for one, n, other in calls if other[0] == call[0] and (one != thread or n > number)]
            if others:
                raise ValueError(
                    f"{call[0]!r} exits in thread {thread}, so it can make no call in thread {others[0][0]} then"
                )


def _in_memory(memory: Memory, argument: Any) -> Any:
    if isinstance(argument, Structure | bytes | bytearray):
        data = bytes(argument)
        return memory.map(len(data), data)
    return argument


def refuse_missing(taken_out: Ablation) -> None:
    """Raises ValueError for what nobody has come by: without it everything is as with it, so nothing would be proved."""
    if missing := taken_out.missing():
        raise ValueError(f"these programs never use {', '.join(missing)}, so it cannot be taken out")


def check_factory(factory: object) -> None:
    """Raises TypeError for what cannot make machines."""
    if isinstance(factory, Machine) or not callable(factory):
        raise TypeError(f"a factory is a function that makes a machine, anew for every run, not {factory!r}")


def check_machine(machine: object) -> Machine:
    """What a factory has made. Raises TypeError if it is no machine."""
    if not isinstance(machine, Machine):
        raise TypeError(f"the factory must give back a Machine, and gives back {machine!r}")
    return machine


class MachineModel:
    """What a search sees of a machine.

    `before` is what is left of such a machine when nothing was called, see `leftovers`; `ending` what is done instead of an
    effect when the programs have made their calls and end. `timeouts` and `pass_time` are those of each `UserThread`.
    """

    def __init__(
        self,
        machine: Machine,
        programs: Programs,
        monitor: Monitor,
        before: dict[str, Any] | None = None,
        ending: Callable[[Thread, Request], Request] | None = None,
        timeouts: int = 0,
        pass_time: Callable[[Thread], None] = time_is_over,
    ) -> None:
        self.machine = machine
        self.engine = machine.engine
        self._monitor = monitor
        self._before, self._ending = before, ending
        self.engine.calls_to_come = True
        self.engine.unmodelled.clear()
        self.engine.notice_all()
        self._calls: dict[str, list[Call]] = {name: [] for name in programs}
        self.threads = [
            UserThread(name, [partial(self._start, name, call) for call in calls], timeouts, pass_time)
            for name, calls in place(machine, programs).items()
        ]

    def _start(self, thread: str, call: Placed) -> Thread:
        made = call.start(self.machine, thread)
        self._calls[thread].append(made)
        return made.thread

    def also(self, request: Request, sure: bool) -> Accesses:
        """The invariants that an effect may break or repair, as places that it writes."""
        return self._monitor.places(request, sure)

    def wrong(self, thread: Thread | None, request: Request) -> list[tuple[str, bool]]:
        """The invariants that the last effect broke, and a reference that it gave back though nobody had taken it."""
        self._monitor.timed = self._monitor.timed or waits_for_a_time(request)
        return self._monitor.broken(self.engine, thread) + [(what, False) for what in given_back_twice(request)]

    def took(self, thread: Thread, request: Request) -> Iterable[Order]:
        """The lock that the last effect took, with each that is held; none where the thread has failed, and has given all back."""
        return orders(thread) if thread.locks and request[0] in (acquire, acquire_shared) else ()

    def outcome(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """How the calls of each thread ended: a result, the name of an errno, "oops", "not modelled", or "waits"."""
        return tuple((name, tuple(map(_ending, calls))) for name, calls in self._calls.items())

    def at_the_end(self) -> Iterator[tuple[str, list[int]]]:
        """Deadlocks; what is wrong at rest; and when every process has ended, who still waits and what is left behind."""
        yield from self._wrong_at_the_end()
        made = {call.thread.label: f"{thread} is {call}" for thread, calls in self._calls.items() for call in calls}
        for label, what in self.engine.unmodelled:
            self._monitor.unmodelled[f"{what} ({made.get(label, label)})"] = None

    def _wrong_at_the_end(self) -> Iterator[tuple[str, list[int]]]:
        self.engine.calls_to_come = self.engine.notices = False
        able = [user for user in self.threads if (request := user.upcoming) is not None and can_go(request)]
        stuck = [number for number, user in enumerate(self.threads) if not user.ended and user not in able]
        for number in stuck:
            self.threads[number].step()  # now it says what it waits for
            self._monitor.timed = self._monitor.timed or waits_for_a_time(self.threads[number].upcoming)
        dead = self._deadlocked(stuck, [user.running for user in able])
        if dead:
            words = "; ".join(self.threads[number].running.why_blocked() for number in dead)  # type: ignore[union-attr]
            yield f"deadlock: {words}", dead
            return
        if able or any(call.state == "oops" for calls in self._calls.values() for call in calls):
            return  # this is no end; or what the dead one held stays held
        if not stuck:
            for what in self.machine.check()[len(self.engine.violations) :]:
                yield f"{AT_REST}{what}", []
        known = len(self.engine.violations)
        self.engine.instead = self._ending
        refused = end_everybody(self.machine)
        wrong = self.engine.violations[known:]
        yield from ((f"when every process ends: {what}", []) for what in wrong + refused)
        if refused or any(what.startswith("oops") for what in wrong):
            return
        for call in self.machine.pending:
            yield f"waits for ever, although every process was told to end: {call.thread.why_blocked()}", []
        if not self.machine.pending and self._before is not None:
            for what in left_behind(self._before, leftovers(self.machine)):
                yield what, []

    def _deadlocked(self, stuck: list[int], able: list[Thread | None]) -> list[int]:
        """The threads that wait for a lock that nobody will ever give back; whoever could go on may still do so."""
        by_thread = {self.threads[number].running: number for number in stuck}
        dead: list[int] = []
        for number in stuck:
            chain: list[int] = []
            at: int | None = number
            while at is not None and at not in chain:
                chain.append(at)
                lock = self.threads[at].running.waits_for  # type: ignore[union-attr]
                if not isinstance(lock, Lock) or lock.holder is None or lock.holder in able:
                    break
                at = by_thread.get(lock.holder)
            else:
                dead += [one for one in chain if one not in dead]
        return dead


def given_back_twice(request: Request) -> list[str]:
    """What is wrong with the reference that an effect has just given back, in words."""
    if request[0] not in (put, put_if_last, hand_over, _dropped):
        return []
    count = request[1]
    holder, reason = request[2] if request[0] is hand_over else request[2:4]
    if count.held.get((holder, reason), 0) >= 0:
        return []
    return [f"given back twice: {holder.oid} gives back {count.path}, which it has not ({reason})"]


def _ending(call: Call) -> str:
    if isinstance(call.error, PatchError):
        return "your function fails"
    if call.state == "oops" or isinstance(call.error, KernelOops):
        return "oops"
    if isinstance(call.error, Unsupported):
        return "not modelled"
    if isinstance(call.error, KernelError):
        return call.error.name
    return shown(plain(call.result)) if call.thread.ended else "waits"


def end_everybody(machine: Machine) -> list[str]:
    """Every process ends, as far as it can, and those go on who waited for it; each wait with a time limit gets its time.

    The answer is who was refused to end, in words: Linux refuses nobody, so a function of somebody's own did.
    """
    for call in machine.pending:
        call.thread.manual = False
    processes = list(machine.processes.values())
    refused = [_try(process.exit) for process in processes if process.task.alive.value]
    machine.engine.settle()
    refused += [_try(machine.finish_calls), *(_try(process.end_if_it_can) for process in processes)]
    deadlines = {call.thread.deadline for call in machine.pending}
    for deadline in sorted(when for when in deadlines if when is not None):
        refused.append(_try(partial(machine.sleep, max(0, deadline - machine.engine.clock))))
    return [what for what in refused if what]


def _try(end: Callable[[], object]) -> str:
    """Let a process end. The answer is with which errno it was refused; of what else went wrong the engine takes note."""
    try:
        with suppress(Blocked, KernelOops, PatchError):
            end()
    except Unsupported:
        pass  # no errno that anybody has made up
    except KernelError as error:
        return f"the end of a process is refused: {error}"
    return ""


def leftovers(machine: Machine) -> dict[str, Any]:
    """What is there: every object, and what counts and numbers in it say."""
    found: dict[str, Any] = {}
    for oid, thing in machine.engine.objects.items():
        found[oid] = "alive"
        for cell in thing.cells():
            if isinstance(cell, Count):
                found[cell.path] = dict(cell.held)
            elif isinstance(cell, Field) and isinstance(cell.value, int):
                found[cell.path] = cell.value
            elif isinstance(cell, Lock) and cell.holder is not None:
                found[cell.path] = cell.holder.label
    return found


def left_behind(before: dict[str, Any], after: dict[str, Any]) -> Iterable[str]:
    """What there is too much of, in words. What is gone (a driver that let go of a device) is nobody's leak."""
    for path, now in after.items():
        was = before.get(path)
        if isinstance(now, dict):
            known = {(holder.oid, reason): n for (holder, reason), n in (was or {}).items()}
            for (holder, reason), n in now.items():
                if path in before and n > known.get((holder.oid, reason), 0):
                    yield f"left behind: {holder.oid} still holds {path} ({reason})"
        elif now == "alive" and was is None:
            yield f"left behind: {path} lives on"
        elif path in before and now != was:
            yield f"left behind: {path} is {now}, and was {was}"
        elif path not in before and isinstance(now, str) and now != "alive":
            yield f"left behind: {path} is held by {now}"
