"""Failures on purpose: the n-th thing of a call that can fail does.

What can fail in a call: an allocation and the claim of a number (ENOMEM), a copy from or to user memory (EFAULT), pinning
(EFAULT, ENOMEM), and the functions that a plan names: callbacks of drivers, with what a driver may say. Nothing is added to
the kernel code for that: a failure is put in the place of an effect, or of the call of a callback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..uapi import Errno
from .checks import copy_to_user, pin_pages, refuse_if
from .effects import xa_alloc
from .lifetime import alloc
from .operations import Request, declared, name_of
from .source import Line

if TYPE_CHECKING:
    from .ablation import Ablation
    from .thread import Thread

INJECTED = "injected_fault"  # the name of the check that a failure on purpose looks like


@dataclass(frozen=True)
class Callback:
    """A function that may fail as a whole: with these errnos, and `when` its arguments allow it."""

    errnos: tuple[Errno, ...]
    when: Callable[..., bool] = lambda *args, **named: True


@dataclass(frozen=True)
class Fallible:
    """One thing of a call that can fail: the how manieth, what it is, with which errnos, at which line, before which effect."""

    number: int
    what: str
    errnos: tuple[Errno, ...]
    line: Line
    effect: int


class FaultPlan:
    """What is to fail in one thread: number `number`, counted from 1, with `errno`, or the first it can have.

    `number` None is the first that can fail with `errno`; it has a number as soon as it is met.

    `met` is everything that could have failed up to now; a plan with number 0 only looks. `callbacks` are the functions that
    can fail, by name.
    """

    def __init__(
        self, number: int | None, errno: Errno | None = None, callbacks: Mapping[str, Callback] | None = None
    ) -> None:
        self.number = number
        self.errno = errno
        self.met: list[Fallible] = []
        self._callbacks = callbacks or {}
        self._last: Request | None = (
            None  # what was asked for last: a thread may be asked more than once what comes next
        )

    @property
    def failed(self) -> bool:
        """Has it failed?"""
        return self.number is not None and 0 < self.number <= len(self.met)

    def instead(self, thread: Thread, request: Request) -> Request:
        """What is done instead of the effect that a thread asks for; most often just that."""
        errnos = declared(request).fails
        if not errnos:
            return request
        if request is not self._last:
            self._last = request
            self._meet(thread, _what(request), errnos, thread.cursor.line())
        return (refuse_if, True, *self._failure()) if len(self.met) == self.number else request

    def called(self, thread: Thread, name: str, args: tuple[Any, ...], caller: FrameType) -> Awaitable[None] | None:
        """A kernel function is about to be called: what to await in its place, or None."""
        callback = self._callbacks.get(name)
        if callback is None or not callback.when(*args):
            return None
        self._meet(thread, f"{name}()", callback.errnos, Line(caller.f_code, caller.f_lasti))
        return refuse_if(True, *self._failure()) if len(self.met) == self.number else None

    def _meet(self, thread: Thread, what: str, errnos: tuple[Errno, ...], line: Line) -> None:
        self.met.append(Fallible(len(self.met) + 1, what, errnos, line, len(thread.engine.micro)))
        if self.number is None and self.errno in errnos:
            self.number = len(self.met)

    def _failure(self) -> tuple[Errno, str, str]:
        """Errno, name and sentence of the check that the failure looks like."""
        met = self.met[-1]
        errno = self.errno or met.errnos[0]
        return errno, INJECTED, f"made to fail on purpose: {met.what}"


def _what(request: Request) -> str:
    operation = request[0]
    if operation is alloc:
        return f"alloc {getattr(request[1], 'kind', 'object')}"
    if operation is xa_alloc:
        return f"xa_alloc {request[1].owner.kind}.{request[1].name}"
    if operation is pin_pages:
        return "pin_pages"
    size = len(request[2]) if operation is copy_to_user else request[2]
    return f"{name_of(request)} {size} bytes"


def _in_place(thread: Thread, request: Request) -> Request:
    """The effect that a thread asks for, or its failure where the plan of the thread wants it."""
    return request if thread.faults is None else thread.faults.instead(thread, request)


def chain(without: Ablation | None, fails: bool) -> Callable[[Thread, Request], Request] | None:
    """What is done in the place of an effect: first what is taken out is, then what is to fail does. None: just the effect."""
    if without is None:
        return _in_place if fails else None
    taken_out = without.instead
    return (lambda thread, request: _in_place(thread, taken_out(thread, request))) if fails else taken_out
