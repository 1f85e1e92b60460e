"""Kernel functions: where each comes from, the patch table through which it is called, and what it says to a student."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from .thread import Thread

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


class Phase(StrEnum):
    """The phases of a call; the same words in captions, colours, tests and text.

    A `RELEASE` of a call that has been refused is shown as `UNWIND`: what gives back need not know why it is called.
    """

    VALIDATE = "validate"
    BLOCK = "block"
    LOCK = "lock"
    ACQUIRE = "acquire"
    PUBLISH = "publish"
    RELEASE = "release"
    UNWIND = "unwind"


class _Running:
    """The thread whose code runs at this moment. There is one interpreter thread, so one is enough."""

    thread: Thread | None = None


running = _Running()


def current() -> Thread:
    """The thread that runs this kernel code (the kernel's `current`). Raises RuntimeError outside kernel code."""
    if running.thread is None:
        raise RuntimeError("current() is for kernel code; no thread is running")
    return running.thread


@dataclass(frozen=True)
class Promise:
    """A sentence of kernel code that tells what a lock, a check or a reference is for, or that rests on it.

    * `without`: what is said in its place where that has been taken out;
    * `rests_on`: the names of protections, and of kernel functions that may have been replaced; for a lock that comes next: none.
    """

    without: str
    rests_on: tuple[str, ...] = ()


PROMISES: dict[str, Promise] = {}  # by the sentence


def say(phase: Phase, sentence: str, *names: object) -> None:
    """Begin a new step: one sentence that a teacher would say about what follows. `{}` stands for each of `names`.

    Costs nothing in a run that nobody watches, and is no effect: no other thread can run here.
    """
    thread = running.thread
    if thread is not None and thread.engine.journal is not None:
        promise = PROMISES.get(sentence)
        if promise is not None and thread.engine.lacks(promise.rests_on):
            sentence = promise.without
        thread.saying = (phase, sentence, names)
        thread.phases.add(phase)


def returning() -> Phase:
    """The phase in which a call that succeeds returns: what gives back, and makes nothing visible, ends in that."""
    phases = current().phases
    return Phase.RELEASE if Phase.RELEASE in phases and Phase.PUBLISH not in phases else Phase.PUBLISH


@dataclass(frozen=True, eq=False)
class KernelFunction:
    """Where a mirrored function comes from: its name, its file in the kernel tree, and the tag that was read."""

    name: str
    file: str
    tag: str
    function: Callable[..., Coroutine[Any, Any, Any]]

    def __str__(self) -> str:
        return f"{self.name} ({self.file}, {self.tag})"


class PatchError(Exception):
    """A function that a student has put in the place of a kernel function is at fault; one sentence tells how, and where.

    `endless`: it did not come to an end. `place` is its code and the instruction in it, where that is known.
    """

    endless = False
    place: tuple[CodeType, int] | None = None


class Wrong(Exception):
    """What a student's function does and must not do; the engine tells of it in a PatchError, with the function and the line."""

    def __init__(self, what: str, endless: bool = False) -> None:
        super().__init__(what)
        self.endless = endless


def _call_own(name: str, own: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Call a function that takes the place of a kernel function."""
    try:
        return own(*args, **named)
    except TypeError as error:
        raise PatchError(f"your {name} cannot be called as the kernel calls it: {error}") from None


def _caller() -> FrameType:
    """The frame that has called a kernel function; a student's function does so through a gate (`gates.py`)."""
    frame = sys._getframe(2)
    while frame.f_globals["__name__"] == f"{__package__}.gates" and frame.f_back is not None:
        frame = frame.f_back
    return frame


FUNCTIONS: dict[str, KernelFunction] = {}
_BY_CODE: dict[Any, KernelFunction] = {}


def kernel(
    file: str, tag: str = "v7.2"
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Mark a coroutine function as the mirror of the kernel function of the same name in `file` at `tag`.

    Every call looks first whether it is to fail in this thread (`Thread.faults`), then whether the running machine has a
    version of its own (`Engine.patches`), or belongs to another kernel (`Engine.version`).
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        entry = KernelFunction(function.__name__, file, tag, function)
        FUNCTIONS[entry.name] = entry
        _BY_CODE[function.__code__] = entry
        call, define = _linked(entry.name)
        define(function)
        functools.update_wrapper(call, function)
        return cast("Callable[P, Coroutine[Any, Any, R]]", call)

    return decorate


def of_version(table: dict[str, Callable[..., Any]], file: str, tag: str) -> Callable[[F], F]:
    """Mark a coroutine function as what the kernel function of the same name is in another version, and put it into its table."""

    def decorate(function: F) -> F:
        _BY_CODE[function.__code__] = KernelFunction(function.__name__, file, tag, function)
        table[function.__name__] = function
        return function

    return decorate


def prototype(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A kernel function that another file defines later, as C's headers declare one: two files may call each other."""
    return _linked(name)[0]


@functools.cache
def _linked(name: str) -> tuple[Callable[..., Coroutine[Any, Any, Any]], Callable[[Any], None]]:
    """What stands for the kernel function of this name wherever it is called, and what tells it the function."""

    def function(*args: Any, **named: Any) -> Any:
        raise RuntimeError(f"the kernel function {name} is called and was never defined")

    def define(definition: Any) -> None:
        nonlocal function
        function = definition

    def call(*args: Any, **named: Any) -> Any:
        thread = running.thread
        if thread is None:
            return function(*args, **named)
        if thread.faults is not None:
            failure = thread.faults.called(thread, name, args, _caller())
            if failure is not None:
                return failure
        if thread.engine.patches:
            own = thread.engine.patches.get(name)
            if own is not None:
                return _call_own(name, own, args, named)
        version: Any = thread.engine.version.get(name, function)
        return version(*args, **named)

    return call, define


def function_of(code: Any) -> KernelFunction | None:
    """The kernel function whose Python code object this is, or None."""
    return _BY_CODE.get(code)
