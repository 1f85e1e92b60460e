"""Functions of a student's own in the place of kernel functions: they must neither hang the machine nor leave it locked.

* Between two effects such a function may run a million instructions (`INSTRUCTIONS`), counted by `sys.settrace`: not by line,
  which does not see `while True: pass` on Python 3.11. In one call it may await ten thousand effects (`EFFECTS`).
* What it awaits is looked at before anybody else sees it.
* Whatever is wrong becomes a `PatchError` that names the function and the line, and ends the call. The process lives on. An oops
  would leave the locks of its thread locked, as in the kernel; here they are given back, each as an effect that the trace
  shows: the mistake is in the exercise and not in the kernel, and the next attempt should find a machine that works.
  References that were taken stay taken, and `machine.check()` tells what happened.

Functions of this package (those of puzzles) are trusted, and cost nothing.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from ctypes import PYFUNCTYPE, c_ulong, py_object, pythonapi
from functools import partial
from threading import get_ident
from types import CodeType, CoroutineType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from . import checks, effects, lifetime, sync
from .awaits import forgotten
from .functions import FUNCTIONS, PatchError, Phase, function_of
from .kinds import check_kind
from .objects import Cell, Count, Intervals, KObject, Table
from .source import LIBRARIES, PACKAGE, Line
from .sync import Completion, Lock

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

INSTRUCTIONS: Final = 1_000_000  # of Python, between two effects; takes less than a second
EFFECTS: Final = 10_000  # in one call; a bind has about a hundred
Place = tuple[CodeType, int]  # a function, and the instruction in it

_OURS = str(PACKAGE / "vfiosim")
_ANYTHING: Any = object
# What each effect takes, as far as the engine relies on it.
_TAKES: dict[Any, tuple[Any, ...]] = {
    **dict.fromkeys((effects._load, effects._load_acquire, effects._load_count), (Cell,)),
    **dict.fromkeys((effects._store, effects._store_release, effects._exchange), (Cell,)),
    **dict.fromkeys((effects._peek, effects._poke, effects._claim, effects._next_slot, effects._slots_of), (Table,)),
    **dict.fromkeys((effects._first_between, effects._in_order), (Intervals,)),
    **dict.fromkeys(
        (lifetime._get, lifetime._get_unless_zero, lifetime._put, lifetime._put_if_last), (Count, KObject, str)
    ),
    lifetime._hand_over: (Count, tuple, tuple),
    lifetime._free: (KObject,),
    **dict.fromkeys(
        (sync._acquire, sync._release, sync._acquire_shared, sync._release_shared, sync._try_acquire), (Lock,)
    ),
    **dict.fromkeys((sync._complete, sync._wait_for, sync._wait_for_killable), (Completion,)),
    sync._wait_for_timeout: (Completion, int),
    sync._wait_until_zero: (Count, int),
    checks._refuse_if: (_ANYTHING, int, str, str),
    checks._warn_on: (_ANYTHING, str),
    **dict.fromkeys((checks._copy_from_user, checks._copy_some_from_user), (int, int)),
    checks._copy_to_user: (int, bytes),
    checks._pin_pages: (_ANYTHING, int, int, _ANYTHING),
}
_STORES = {effects._store, effects._store_release, effects._exchange, effects._poke, effects._claim}


def check_function(name: str, function: Callable[..., Any]) -> None:
    """May this take the place of a kernel function?

    Raises ValueError if no kernel function is named so, TypeError unless it is an `async def`, PatchError if it forgets an await.
    """
    if name not in FUNCTIONS:
        raise ValueError(f"there is no kernel function named {name!r} to replace")
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise TypeError(f"your {name} must be an `async def`, as every kernel function is")
    if is_own(function):
        for number, call in forgotten(inspect.unwrap(function)):
            raise PatchError(f"your {name} forgets an await before {call} (line {number} of it)")


def is_own(function: Callable[..., Any]) -> bool:
    """Does it come from outside of this package?"""
    return not _ours(inspect.unwrap(function).__code__)


def _ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_OURS)


def _theirs(code: CodeType) -> bool:
    return not code.co_filename.startswith((_OURS, *LIBRARIES))


class _TooLong(BaseException):
    """Thrown into a function that runs on and on; not an Exception, so that `except Exception` does not catch it."""


class Guard:
    """Lets the code of a thread go on, and stops what does not come to an end, whatever it catches."""

    def __init__(self, entered: bool = False) -> None:
        self._entered = entered  # has any of their functions been called? Before, no code of theirs can run
        self._left = 0
        self._place: Place | None = None  # where it was stopped
        self._end: Callable[[], object] = bool  # throws what is ordered, and orders no more

    def go_on(self, thread: Thread, send: Callable[[Any], Any], answer: Any) -> Any:
        """The next request. Raises PatchError where there is none, and whatever the code raises."""
        self._left, self._place, request = INSTRUCTIONS, None, None
        before = sys.gettrace()
        if self._entered:
            self._watch()
        try:
            try:
                request = send(answer)
            finally:
                try:
                    if self._place is not None:
                        self._end()  # before any other call, which would throw
                except _TooLong:
                    pass
                sys.settrace(before)
        except (_TooLong, Exception):
            if self._place is None:
                raise
        if self._place is not None:
            raise told_of(thread.engine, self._place, "runs on and on, and awaits no effect", endless=True)
        thread.asked += 1
        if thread.asked > EFFECTS:
            thread.asked = 0
            if (place := _waiting(thread)) is not None:
                said = f"has awaited {EFFECTS:,} effects in one call, and does not come to an end"
                raise told_of(thread.engine, place, said, endless=True)
        if self._entered and (wrong := _nonsense(thread, request)):
            raise wrong
        return request

    def enter(self) -> None:
        """One of their functions is about to be called, by code that goes on at this moment."""
        if not self._entered:
            self._entered = True
            self._watch()

    def _watch(self) -> None:
        if not _is_debugger(sys.gettrace()):
            sys._getframe().f_trace_opcodes = True  # Python 3.12 counts instructions only if this was set before
            sys.settrace(self._called)

    def _called(self, frame: FrameType, event: str, _arg: object) -> Any:
        if _ours(frame.f_code):
            return None
        frame.f_trace = self._count  # Python 3.13 counts instructions only of a frame that has this already
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._count

    def _count(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode":
            self._left -= 1
            if self._left < 0:
                self._place = self._place or (frame.f_code, frame.f_lasti)
                self._stop()
        return self._count

    def _stop(self) -> None:
        """Throw, so that whoever catches it can do no more than go on to the next call or jump.

        Python stops to trace when a function that traces raises, so this alone would be caught once and forgotten. Therefore it
        is thrown by the interpreter, and when it is made another one is ordered, which comes at the next call or jump. That one
        makes Python trace again: now the first instruction of whatever catches it throws. Each round ends one `try` more.
        """
        thread = get_ident()
        try:
            throw = PYFUNCTYPE(None, c_ulong, py_object)(("PyThreadState_SetAsyncExc", pythonapi))
        except AttributeError:  # another Python
            raise _TooLong from None
        second = type("_TooLongAgain", (_TooLong,), {"__init__": lambda _: self._count_from(sys._getframe(1))})
        ordered = staticmethod(partial(throw, thread, second))  # no Python function: it would be thrown in there
        first = type("_TooLongFirst", (_TooLong,), {"__init__": ordered})
        self._end = partial(throw, thread, _TooLong)  # not taken back: Python 3.11 waits for ever then
        throw(thread, first)

    def _count_from(self, frame: FrameType | None) -> None:
        """Count on in this frame and in those around it."""
        while frame is not None and not _ours(frame.f_code):
            frame.f_trace, frame.f_trace_opcodes, frame.f_trace_lines = self._count, True, False
            frame = frame.f_back
        sys.settrace(self._called)


def _is_debugger(tracer: Any) -> bool:
    """Is somebody stepping through code? Then nothing is counted: they can stop it themselves."""
    owner = getattr(tracer, "__self__", tracer)
    return any(word in type(owner).__module__ + getattr(tracer, "__module__", "") for word in ("bdb", "pdb", "pydevd"))


def check_request(request: Any) -> str:
    """What is wrong with a request that did not come from code of this package; "" if nothing is."""
    if type(request) is not tuple or not request or not _is_effect(request[0]):
        return f"awaits {_told(request)}, which is no effect; kernel code awaits load, store, get, put, refuse_if and the like"
    takes = _TAKES.get(request[0], ())
    for nth, (value, kind) in enumerate(zip(request[1:], takes, strict=False)):
        if not isinstance(value, kind):
            return (
                f"gives {effects.operation(request)} {_told(value)} as argument {nth + 1}, which must be {_kind(kind)}"
            )
    if request[0] in _STORES:
        try:
            value = request[-2] if request[0] is effects._claim else request[-1]
            check_kind(request[1], value)
        except TypeError as error:
            return f"is refused: {error}"
    return ""


def _is_effect(value: Any) -> bool:
    """Is it one of the operations of this package?"""
    return isinstance(value, FunctionType) and value.__name__.startswith("_") and _ours(value.__code__)


def _kind(kind: type) -> str:
    return {
        Cell: "a field",
        Count: "a reference count",
        KObject: "a kernel object",
        str: "a text",
        int: "a number",
    }.get(kind, f"a {kind.__name__.lower()}")


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"


# ---- who is to blame, and what becomes of the call


def blame(engine: Engine, thread: Thread, error: BaseException) -> PatchError | None:
    """What a student is told of an exception; None if no function of theirs can be the reason."""
    if isinstance(error, PatchError) or not engine.patches or engine.guard is None:
        return error if isinstance(error, PatchError) else None
    what = f"raises {type(error).__name__}: {error}" if str(error) else f"raises {type(error).__name__}"
    trace, place = error.__traceback__, None
    while trace is not None:
        if _theirs(trace.tb_frame.f_code):
            place = trace.tb_frame.f_code, trace.tb_lasti
        trace = trace.tb_next
    if place is None:
        place = _waiting(thread)
    if place is not None:
        return told_of(engine, place, what)
    names = ", ".join(sorted(engine.patches))
    return PatchError(f"with a function of your own in the place of {names}, the kernel's code {what}")


def told_of(engine: Engine, place: Place, what: str, endless: bool = False) -> PatchError:
    """A PatchError about a line of a function."""
    code, line = place[0], Line(*place)
    instead = [name for name, own in engine.patches.items() if inspect.unwrap(own).__code__ is code]
    name = code.co_name + (f" (for {instead[0]})" if instead and instead[0] != code.co_name else "")
    file = "a notebook cell" if "ipykernel_" in line.file else line.file
    error = PatchError(f"your function {name} {what} (line {line.number} of {file})")
    error.endless, error.place = endless, place
    return error


def _waiting(thread: Thread) -> Place | None:
    """The innermost function of a student's own that waits for the effect that its thread has asked for."""
    found = None
    code: Any = thread.code
    while isinstance(code, CoroutineType) and code.cr_frame is not None:
        if _theirs(code.cr_code):
            found = code.cr_code, code.cr_frame.f_lasti
        code = code.cr_await
    return found


def _nonsense(thread: Thread, request: Any) -> PatchError | None:
    """The error of a request that makes no sense; None for one that does, and for one of this package's own code."""
    place = _waiting(thread)
    wrong = check_request(request) if place is not None else ""
    return told_of(thread.engine, place, wrong) if wrong and place is not None else None


def drop(thread: Thread) -> None:
    """Close the code of a thread that nobody moves any more, whatever it does then."""
    with suppress(BaseException):
        guard = Guard(entered=thread.engine.guard is not None)
        guard.go_on(thread, lambda _: thread.code and thread.code.close(), None)


def give_back(engine: Engine, thread: Thread, place: Place | None) -> list[str]:
    """Close the code of a thread that has come to a bad end, and unlock what it held; the names of the locks."""
    drop(thread)
    names = []
    for lock in reversed(thread.locks[:]):
        release = sync._release_shared if lock.readers else sync._release
        start = len(engine.journal) if engine.journal is not None else 0
        release(engine, thread, (release, lock))
        if engine.journal is not None:
            code, offset = place or (thread.begin().cr_code, 0)  # type: ignore[attr-defined]
            said = (Phase.UNWIND, "The function has failed; the simulator gives {} back.", (lock,))
            entry = (thread, (release, lock), None, code, offset, start, len(engine.journal), said)
            engine.micro.append((*entry, function_of(code)))
        names.append(lock.path)
    return names
