"""A second machine that has lived through the beginning of another one's life, and can go on differently."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .engine import Micro, Thread
from .engine.effects import operation, touched
from .kernel.variants import Variant
from .machine import Event, Machine
from .uapi import REQUESTS, KernelError, Struct


def branch(machine: Machine, step: int) -> Machine:
    """See `Machine.branch`."""
    effects = effects_until(machine, step)
    events = [event for event in machine.history if event.after < effects]
    outside = next((event for event in events if event.what == "outside"), None)
    if outside is not None:
        raise ValueError(f"this run cannot be repeated, so it has no branch: {outside.details[0]}")
    twin = Machine(machine.topology, machine.kernel)
    twin.expect(*machine.expected)
    numbers = thread_numbers(machine)
    for event in events:
        _repeat_effects(twin, machine, numbers, event.after)
        repeat_event(twin, event)
    _repeat_effects(twin, machine, numbers, effects)
    twin.engine.notice_waiting()
    return twin


def effects_until(machine: Machine, step: int) -> int:
    """How many effects the first `step` steps of a machine's trace are; IndexError where there is no such step."""
    trace = machine.trace
    number = step + len(trace) + 1 if step < 0 else step
    if not 0 <= number <= len(trace):
        raise IndexError(f"there is no step {step}; the trace has {len(trace)}, and 0 is before the first")
    return trace.steps[number - 1].last + 1 if number else 0


def repeat_event(twin: Machine, event: Event) -> None:
    """Ask again what was asked from outside; a call only begins, its effects follow in their recorded order."""
    if event.what == "process":
        name, parent, caps = event.details
        twin.new_process(name, twin.processes[parent.name].task if parent else None, caps)
    elif event.what == "sleep":
        milliseconds, deadlines = event.details
        for number, deadline in deadlines:
            find_thread(twin, number).deadline = deadline
        twin.note("sleep", milliseconds, deadlines)
        twin.engine.clock += milliseconds
    elif event.what == "patches":
        twin.engine.patches = {}
        twin.patch(**event.details[0])
    elif event.what == "take_out":
        twin.take_out(*event.details)
    elif event.what == "memory":
        name, what, details = event.details[:3]
        with suppress(KernelError, TypeError):  # what was refused then is refused now
            getattr(twin.processes[name].memory, what)(*details)
    elif event.what == "fault":
        number, errno, call_number = event.details
        twin.fail_next(number, errno, None if call_number is None else twin.calls[call_number])
    elif event.what == "dying":
        twin.processes[event.details[0]].dying = True
        twin.note("dying", *event.details)
    elif event.what == "fork":
        parent_name, child = event.details
        twin.note("fork", parent_name, child)
        twin.processes[parent_name].start("fork", twin.processes[child].task, run=False)
    else:
        name, call, arguments, lane = event.details
        twin.processes[name].start(call, *_fresh(twin, call, arguments), run=False, lane=lane)


def _fresh(twin: Machine, call: str, arguments: tuple[Any, ...]) -> Iterator[Any]:
    """The arguments of a call, with a buffer of its own for the kernel to write into."""
    for value in arguments:
        if not isinstance(value, bytes):
            yield value
        elif call == "ioctl" and (layout := struct_of(twin.variant, arguments[1], len(value))):
            yield layout.from_buffer_copy(value)
        else:
            yield bytearray(value)


def struct_of(variant: Variant, request: int, size: int) -> type[Struct] | None:
    """The struct that a request takes, if it has this size in bytes."""
    named = [each.struct for each in REQUESTS.values() if each.number == request and each.struct]
    found = [variant.layout] if request == variant.bind_request else named
    return next((layout for layout in found if ctypes.sizeof(layout) == size), None)


def thread_numbers(machine: Machine) -> dict[Thread, int]:
    """The threads of all calls, numbered as `Machine.number_of` does."""
    return {call.thread: number for number, call in enumerate(machine.calls)}


def find_thread(machine: Machine, number: int | str) -> Thread:
    """The thread that `Machine.number_of` names so, the oldest living one of a label. Raises LookupError if there is none."""
    if isinstance(number, int):
        return machine.calls[number].thread
    found = next((thread for thread in machine.engine.threads if thread.label == number), None)
    if found is None:
        raise LookupError(f"there is no thread {number!r}")
    return found


def _repeat_effects(twin: Machine, original: Machine, numbers: dict[Thread, int], until: int) -> None:
    """Perform effects in the recorded order; each must be the one that was asked for then."""
    done, recorded = twin.engine.micro, original.engine.micro
    while len(done) < until:
        index = len(done)
        thread = recorded[index][0]
        with suppress(LookupError):
            twin.engine.step(find_thread(twin, numbers.get(thread, thread.label)))
        fresh = range(index, max(len(done), index + 1))
        for at in fresh:
            if at >= len(done) or at >= len(recorded) or signature(done[at]) != signature(recorded[at]):
                raise RuntimeError(
                    f"this run does not repeat: effect {at} was {signature(recorded[index])} the first time"
                )
    twin.forget_ended()


def signature(entry: tuple[Any, ...]) -> tuple[str, str, str, str]:
    """What has to be the same for two effects to be the same: thread, operation, what it is about, and how it was refused."""
    micro = Micro(*entry)
    target = touched(micro.request) if len(micro.request) > 1 else None
    place = getattr(target, "path", getattr(target, "oid", ""))
    return micro.thread.label, operation(micro.request), place, getattr(micro.answer, "name", "")
