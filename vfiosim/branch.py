"""A second machine that has lived through the beginning of another one's life, and can go on differently."""

from __future__ import annotations

from contextlib import suppress

from .engine import Engine, Micro, Thread
from .engine.effects import operation, touched
from .machine import Event, Machine
from .uapi import KernelError


def branch(machine: Machine, step: int) -> Machine:
    """See `Machine.branch`."""
    trace = machine.trace
    number = step + len(trace) + 1 if step < 0 else step
    if not 0 <= number <= len(trace):
        raise IndexError(f"there is no step {step}; the trace has {len(trace)}, and 0 is before the first")
    effects = trace.steps[number - 1].last + 1 if number else 0
    events = [event for event in machine.history if event.after < effects]
    outside = next((event for event in events if event.what == "outside"), None)
    if outside is not None:
        raise ValueError(f"this run cannot be repeated, so it has no branch: {outside.details[0]}")
    twin = Machine(machine.topology, machine.kernel)
    for event in events:
        _repeat_effects(twin, machine.engine, event.after)
        _repeat_event(twin, event)
    _repeat_effects(twin, machine.engine, effects)
    return twin


def _repeat_event(twin: Machine, event: Event) -> None:
    """Ask again what was asked from outside; a call only begins, its effects follow in their recorded order."""
    if event.what == "process":
        name, parent, caps = event.details
        twin.new_process(name, twin.processes[parent.name].task if parent else None, caps)
    elif event.what == "sleep":
        twin.note("sleep", *event.details)
        twin.engine.clock += event.details[0]
    elif event.what == "patches":
        twin.note("patches", *event.details)
        twin.engine.patches = dict(event.details[0])
    elif event.what == "memory":
        name, what, details = event.details
        with suppress(KernelError, TypeError):  # what was refused then is refused now
            getattr(twin.processes[name].memory, what)(*details)
    elif event.what == "dying":
        twin.processes[event.details[0]].dying = True
        twin.note("dying", *event.details)
    elif event.what == "fork":
        parent_name, child = event.details
        twin.note("fork", parent_name, child)
        twin.processes[parent_name].start("fork", twin.processes[child].task, run=False)
    else:
        name, call, arguments = event.details
        fresh = tuple(bytearray(value) if isinstance(value, bytes) else value for value in arguments)
        twin.processes[name].start(call, *fresh, run=False)


def _repeat_effects(twin: Machine, original: Engine, until: int) -> None:
    """Perform effects in the recorded order; each must be the one that was asked for then."""
    engine = twin.engine
    for index in range(len(engine.micro), until):
        recorded = Micro(*original.micro[index])
        thread = _named(engine, recorded.thread.label)
        if thread is not None:
            engine.step(thread)
        if len(engine.micro) != index + 1 or _signature(Micro(*engine.micro[index])) != _signature(recorded):
            raise RuntimeError(f"this run does not repeat: effect {index} was {_signature(recorded)} the first time")
    for call in twin.pending:
        call.finish()
    twin.pending = [call for call in twin.pending if not call.thread.ended]


def _named(engine: Engine, label: str) -> Thread | None:
    return next((thread for thread in engine.threads if thread.label == label), None)


def _signature(micro: Micro) -> tuple[str, str, str]:
    """What has to be the same for two effects to be the same."""
    target = touched(micro.request)
    return micro.thread.label, operation(micro.request), getattr(target, "path", getattr(target, "oid", ""))
