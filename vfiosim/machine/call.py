"""A system call that somebody has started."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..engine import Cell, Completion, Lock, Thread
from ..engine.thread import _begin
from ..why import why
from .events import Called

if TYPE_CHECKING:
    from .process import Process


USERS = ("fds", "mm_struct")  # the roots that are programs


class Blocked(Exception):
    """A call cannot go on until somebody else does something. It is not lost: `call` goes on when it can."""

    def __init__(self, call: Call) -> None:
        super().__init__(f"{call} cannot go on: {call.waits_for or call.thread.why_blocked()}")
        self.call = call


class Call:
    """A system call that has been started.

    `state` is "ready" (can go on), "blocked", "done" or "oops" (also where a function of your own has failed); `result` what it
    returned, `error` why it failed. Where an event of a history makes it, `asked` is that event, and `passed` its arguments,
    with the buffer that the kernel writes into.
    """

    asked: Called | None = None
    passed: Sequence[Any] = ()

    def __init__(self, process: Process, name: str, shown: str, thread: Thread, argument: int | None) -> None:
        self.process = process
        self.name = name
        self.shown = shown
        self.thread = thread
        self._argument = argument  # where the buffer lies while the call runs

    @property
    def state(self) -> str:
        """Where it stands."""
        return self.thread.state

    @property
    def begun(self) -> bool:
        """Has it done anything yet?"""
        return self.thread.pending is None or self.thread.pending[0] is not _begin

    @property
    def result(self) -> Any:
        """What the call returned; None while it runs or if it failed."""
        return self.thread.result

    @property
    def error(self) -> BaseException | None:
        """Why it failed: a KernelError with the errno, a KernelOops, a PatchError, an OutsideError, or None."""
        return (
            self.thread.error
            if self.thread.outside_error is None or not self.thread.ended
            else self.thread.outside_error
        )

    @property
    def waits_for(self) -> str:
        """What a blocked call waits for, and who holds it; "" if it does not wait."""
        return self.thread.why_blocked() + self._users() if self.state == "blocked" else ""

    def _users(self) -> str:
        """Whoever has the device open for whose last close a blocked call waits, in words."""
        cell = self.thread.waits_for
        if not isinstance(cell, Completion) or cell.owner.kind != "vfio_device":
            return ""
        ways = {path.links[0] for path in why(self.process.machine, cell.owner.oid).paths}
        roots = [(*each.holder.partition(" ")[::2], each.reason) for each in ways]
        users = sorted(f"program {label} does ({reason})" for kind, label, reason in roots if kind in USERS)
        told = f"; {', '.join(users)}" if users else ""
        return f", that is until nobody holds {cell.owner.label}{told}"

    @property
    def holder(self) -> str:
        """The thread that has the lock that a blocked call waits for; "" if it does not wait for a lock."""
        cell = self.thread.waits_for
        return cell.holder.label if isinstance(cell, Lock) and cell.holder is not None else ""

    def is_about(self, cells: Collection[str]) -> bool:
        """Is its next effect about one of these cells, or slots of tables, which are given by their paths?"""
        request = self.process.machine.engine.upcoming(self.thread) or ()
        cell = request[1] if len(request) > 1 else None
        slot = f"[{request[2]}]" if len(request) > 2 else ""
        return isinstance(cell, Cell) and not {cell.path, cell.path + slot}.isdisjoint(cells)

    def step(self) -> bool:
        """Do one effect. False if the call has ended or must wait."""
        machine = self.process.machine
        with machine.turn:
            moved = machine.engine.step(self.thread)
            machine.finish_calls()
        return moved

    def run(self) -> Call:
        """Go on until the call ends or must wait, then let those run that it woke."""
        machine = self.process.machine
        with machine.turn:
            machine.engine.run(self.thread)
            machine.engine.settle()
            machine.finish_calls()
        return self

    def value(self) -> Any:
        """The result; raises what the call failed with, or Blocked."""
        if self.error is not None:
            raise self.error
        if not self.thread.ended:
            raise Blocked(self)
        return self.thread.result

    def finish(self) -> None:
        """Once the call has ended, its buffer is no longer part of the process's memory."""
        if self.thread.ended and self._argument is not None:
            self.process.task.mm.value.forget(self._argument)
            self._argument = None

    def __str__(self) -> str:
        return f"{self.process.name}: {self.shown}"

    def __repr__(self) -> str:
        return f"<Call {self}, {self.state}>"


class Broken(list[str]):
    """What `Machine.check` found: a list of sentences. `refused` is the call that was refused last, and why; "" if none was."""

    def __init__(self, sentences: Iterable[str] = (), refused: str = "") -> None:
        super().__init__(sentences)
        self.refused = refused

    def __repr__(self) -> str:
        head = super().__repr__() if self or not self.refused else "[]  nothing is broken"
        return head + (f"\nrefused last: {self.refused}" if self.refused else "")
