"""How something that was done to a machine ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from .. import uapi
from ..kernel import Unsupported
from ..kernel.fs.file import File
from ..machine import Blocked, Call
from ..machine.events import Called, Event, Moved
from ..machine.system_calls import REQUESTS_OF, layouts
from .held_resources import held_resources, line_of_refusal

UNDER_WAY = "under way"  # the result of a call that the reader moves, and that has not ended


@dataclass(frozen=True)
class Outcome:
    """How something ended.

    `result` is a number as text, or the name of an errno; `sentence` says more; `check` and `where` are set where a check refused:
    its name, and the line of code as "file:line"; `source` is that line, `had` what the call held at that moment, `back` what it
    gave back on its way out, `left` what it did not. `unknown`: the kernel would answer, the model cannot. `wrote` is what the
    kernel put into the caller's buffer, field by field; `effects` how many were done; `number` what came of it, e.g. a descriptor.
    """

    call: str
    result: str
    sentence: str = ""
    check: str = ""
    where: str = ""
    refused: bool = False
    unknown: bool = False
    source: str = ""
    had: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    wrote: tuple[str, ...] = ()
    effects: int = 0
    number: Any = None
    waits: bool = False

    @classmethod
    def of(cls, call: str, problem: BaseException) -> Self:
        """How a call ended that did not succeed."""
        if isinstance(problem, Unsupported):
            return cls(call, "not modelled", problem.sentence, unknown=True)
        if isinstance(problem, uapi.KernelError):
            return cls(call, problem.name, problem.sentence, problem.check, problem.where or "", refused=True)
        if isinstance(problem, Blocked):
            return cls(call, "waits", problem.call.waits_for, waits=True)
        return cls(call, "oops", str(problem), refused=True)

    @property
    def unanswered(self) -> str:
        """What is to be said where the model has no answer."""
        what = self.sentence.removesuffix(" is not modelled")
        return f"{what}. The real kernel has an answer here; this one has none."

    @property
    def evidence(self) -> str:
        """What a call tells beside its result: why it was refused, or what the kernel wrote."""
        return self.sentence or (f"the kernel wrote {', '.join(self.wrote)}" if self.wrote else "")

    def __str__(self) -> str:
        place = f" (check {self.check}, {self.where})" if self.check else ""
        return f"{self.call} → {self.result}" + (f": {self.evidence}" if self.evidence else "") + place


@dataclass(frozen=True)
class Done:
    """Something that was done, how it ended, and how many effects and steps there were before it.

    `more`: it belongs to what was done next, and is taken back with it.
    """

    event: Event
    outcome: Outcome
    effects_before: int
    steps_before: int
    call: int = -1  # its number among the calls of the machine
    more: bool = False

    @property
    def by_hand(self) -> bool:
        """Is this a part of a race that the reader schedules?"""
        return isinstance(self.event, Moved) or self.begins

    @property
    def begins(self) -> bool:
        """Is this a call, or something that belongs to one, that the reader moves then?"""
        return self.more or (isinstance(self.event, Called) and self.event.by_hand)


def outcome_of(call: Call, shown: str) -> Outcome:
    """How a call has ended, or how it stands."""
    thread = call.thread
    shown = f"{thread.label}: {call.shown}" if thread.manual else shown
    if not thread.ended:
        waits = call.waits_for
        return Outcome(shown, "waits" if waits else UNDER_WAY, waits or "(you are the scheduler)", waits=bool(waits))
    if call.error is None:
        return Outcome(shown, result(call.result), wrote=tuple(changes(call)), number=call.result)
    outcome = Outcome.of(shown, call.error)
    if not isinstance(call.error, uapi.KernelError) or outcome.unknown:
        return outcome
    engine = call.process.machine.engine
    held = held_resources(engine, thread)
    return replace(outcome, source=line_of_refusal(engine, thread), had=held.had, back=held.back, left=held.left)


def result(value: Any) -> str:
    """What a call returned, for people."""
    return str(value) if not isinstance(value, int) or abs(value) < 4096 else hex(value)


def changes(call: Call) -> list[str]:
    """What the kernel wrote into the buffer of a call: fields that are different now, or bytes where there are no fields."""
    before = call.asked.arguments[-1] if call.asked is not None and call.name == "ioctl" else None
    if not isinstance(before, bytes) or bytes(after := call.passed[-1]) == before:
        return []
    layout = _layout(call, len(before))
    if layout is None:
        return [f"bytes = {after.hex(' ')}"]
    old, new = layout.from_buffer_copy(before), layout.from_buffer_copy(bytes(after))
    fields = [field for field in layout.fields() if field.kind == "int" and old.get(field.name) != new.get(field.name)]
    found = [f"{field.name} = {_value(field, new.get(field.name))}" for field in fields]
    size = len(bytes(layout()))
    if bytes(after[size:]) != before[size:]:
        found.append(f"bytes behind the struct = {after[size:].hex(' ')}")
    return found


def _layout(call: Call, size: int) -> type[uapi.Struct] | None:
    """The struct that a request takes from such a file, if so many bytes have room for it."""
    variant, (fd, number) = call.process.machine.variant, call.passed[:2]
    file = call.process.task.files.fd.slots.get(fd)
    kinds = REQUESTS_OF.get(file.f_op.name, ()) if isinstance(file, File) else ()
    return next((layout for layout in layouts(variant, number, kinds) if len(bytes(layout())) <= size), None)


def _value(field: uapi.Member, value: int) -> str:
    return hex(value) if field.size == 8 or "flags" in field.name else str(value)
