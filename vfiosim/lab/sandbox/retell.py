"""A machine's life, told as what can be done in the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...branch import signature, struct_of
from ...machine import Event, Machine
from ...sharing import turns_after
from ...uapi import Errno
from .actions import Action, Began, Called, Killed, Mapped, Moved, Setup, Slept


def retell(machine: Machine) -> tuple[Setup, list[Action]]:
    """The machine at first, and everything that was done. Raises ValueError for what no button of the sandbox does."""
    return _Telling(machine).told()


def told_alike(one: Machine, other: Machine) -> bool:
    """Did the same happen on both?"""
    first, second = one.engine.micro, other.engine.micro
    return len(first) == len(second) and all(signature(a) == signature(b) for a, b in zip(first, second, strict=True))


class _Telling:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._processes: list[str] = []
        self._without: tuple[str, ...] = ()
        self._actions: list[Action] = []
        self._fault: tuple[int, str] = (0, "")
        self._told: set[str] = set()  # processes that were told to end: they end by themselves

    def told(self) -> tuple[Setup, list[Action]]:
        machine = self._machine
        for event, _, turns in turns_after(machine, machine.history, len(machine.engine.micro)):
            self._actions += self._event(event, turns)
            for thread, times in self._pairs(turns):
                if not isinstance(thread, int):
                    raise ValueError(f"{thread} is no call")
                self._actions.append(Moved(thread, "effect", times))
        setup = Setup(machine.topology, machine.kernel, tuple(self._processes), self._without)
        return setup, self._actions

    @staticmethod
    def _pairs(turns: list[Any] | None) -> Iterator[tuple[Any, int]]:
        if turns:
            yield from zip(turns[::2], turns[1::2], strict=True)

    def _event(self, event: Event, turns: list[Any] | None) -> Iterator[Action]:
        details = event.details
        if event.what == "process":
            name, parent, _ = details
            self._told.discard(name)
            if parent is None and not self._actions:
                self._processes.append(name)
            elif parent is None:
                yield Began(name)
        elif event.what == "take_out" and not self._actions:
            self._without = details
        elif event.what == "memory" and details[1] == "map" and details[2][2:] == (3, None):
            yield Mapped(details[0], details[2][0], bytes(details[2][1]))
        elif event.what == "fault" and details[2] is None:
            self._fault = details[0], Errno(details[1]).name if details[1] else ""
        elif event.what == "call":
            yield from self._call(event, turns)
        else:
            yield self._other(event)

    def _other(self, event: Event) -> Action:
        details = event.details
        if event.what == "sleep":
            return Slept(details[0])
        if event.what == "dying":
            self._told.add(details[0])
            return Killed(details[0])
        if event.what == "fork":
            return Began(details[1], details[0])
        raise ValueError(f"{event.what} cannot be done here")

    def _call(self, event: Event, turns: list[Any] | None) -> Iterator[Action]:
        process, name, arguments, lane = event.details
        if name == "exit" and process in self._told and turns is None:
            return
        data = next((value for value in arguments[2:] if name == "ioctl" and isinstance(value, bytes)), None)
        layout = None if data is None else struct_of(self._machine.variant, arguments[1], len(data))
        number, errno = self._fault
        self._fault = 0, ""
        yield Called(
            process, name, tuple(arguments), layout.__name__ if layout else "", lane, turns is not None, number, errno
        )
