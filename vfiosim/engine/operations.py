"""How an effect is declared: by the function that performs it, with what is known of it beside that, for all who ask.

    @effect(Field, STORED, touches=writes, does=WROTE, value=2, words=stored_words)
    def store(engine: Engine, thread: Thread, target: Field[T], value: T) -> None:

Kernel code awaits `store(target, value)`, which hands the request `(store, target, value)` to the engine.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import update_wrapper
from inspect import CO_VARARGS
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, TypeAlias, TypeVar

from ..uapi import Errno

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Request: TypeAlias = tuple[Any, ...]  # an effect and its arguments: cheap, because there are millions of them


class NotYet:
    """The answer of an effect that has not done what the thread asked for."""


WAIT: Final[Any] = NotYet()  # it cannot happen yet
AGAIN: Final[Any] = NotYet()  # something else came first; now ask once more

# ---- what an effect touches: a place, and whether it looks there, writes, or adds to what others add

Place: TypeAlias = tuple[str, str]
Access: TypeAlias = tuple[Place, int]
Accesses: TypeAlias = tuple[Access, ...]
Touches: TypeAlias = "Callable[[Thread, Request], Accesses]"

LOOK, WRITE, ADD = 0, 1, 2  # ways to touch a place; ADD: others may add before or after, but nobody look or write


def looks(thread: Thread, request: Request) -> Accesses:
    """It looks at the cell that is its first argument."""
    cell = request[1]
    oid = cell.owner.oid
    return (((oid, cell.name), LOOK), ((oid, ""), LOOK))


def writes(thread: Thread, request: Request) -> Accesses:
    """It writes that cell."""
    cell = request[1]
    oid = cell.owner.oid
    return (((oid, cell.name), WRITE), ((oid, ""), LOOK))


def nothing(thread: Thread, request: Request) -> Accesses:
    """It touches nothing that anybody else could see."""
    return ()


# ---- what its thread does, did and has done with the cell that it is about

Verb: TypeAlias = tuple[str, str, str]
READ: Final[Verb] = ("reads", "read", "read")
WROTE: Final[Verb] = ("writes", "wrote", "written")
TOOK: Final[Verb] = ("takes", "took", "taken")
GAVE: Final[Verb] = ("gives back", "gave back", "given back")
TOOK_REFERENCE: Final[Verb] = ("takes a reference at", "took a reference at", "taken a reference at")
GAVE_REFERENCE: Final[Verb] = ("gives back a reference at", "gave back a reference at", "given back a reference at")
FREED: Final[Verb] = ("frees", "freed", "freed")
TOUCHED: Final[Verb] = ("touches", "touched", "touched")

# ---- how a trace tells it, after its name: by how a value is written, the answer, and the arguments

Words: TypeAlias = Callable[..., str]
Say: TypeAlias = Callable[[Any], str]


def arrow(say: Say, answer: Any) -> str:
    """The answer, where there is one."""
    return "" if isinstance(answer, BaseException) else f" → {say(answer)}"


def read_words(say: Say, answer: Any, target: Any, *_: Any) -> str:
    """A cell and what was in it."""
    return say(target) + arrow(say, answer)


def stored_words(say: Say, answer: Any, target: Any, value: Any, *_: Any) -> str:
    """A cell and what is in it now."""
    return f"{say(target)} = {say(value)}"


# ---- what it takes, as far as the engine relies on it, beside classes

Given: TypeAlias = Literal[
    "anything", "a value for the cell", "a slot: a number or a name", "a class of kernel objects"
]
ANYTHING: Final[Given] = "anything"
STORED: Final[Given] = "a value for the cell"
SLOT: Final[Given] = "a slot: a number or a name"
BORN: Final[Given] = "a class of kernel objects"


@dataclass(frozen=True)
class Operation:
    """One kind of effect, as its code declares it.

    * `takes`: what its arguments must be, one after the other; where nothing is said a student's function may not await it;
    * `touches`: which places it looks at or writes, for a search of schedules: `looks`, `writes`, `nothing`, or its own;
    * `does`: the verb for what its thread does, which is "reads" where it only looks;
    * `tries`: it may as well do nothing of that, and then its answer is False;
    * `value`: where the value is that it reads or writes: 0 for its answer, otherwise the number in the request;
    * `needs`: can it happen, given the condition of its place (`condition`)? None if it never waits;
    * `waits`: while it cannot happen, a trace shows its thread as one that waits;
    * `timed`: its last argument is how long it waits, in milliseconds; with 0 it only asks;
    * `orders`: whoever sees it sees what its thread has stored before (Documentation/atomic_t.txt, v7.2): a lock is given back, a
      release store, whatever reads and changes in one step and tells the outcome, leaving the kernel; and where another lock is
      given back on the way: slots of tables, completions, and freed memory, which is nobody's any more;
    * `fails`: with which errnos it may fail on purpose: kmalloc and xa_alloc with ENOMEM, copies with EFAULT, pin_user_pages with
      both (mm/gup.c, v7.2);
    * `words`: how a trace tells it; None for its arguments, one after the other.
    """

    takes: tuple[Any, ...]
    touches: Touches
    does: Verb = TOUCHED
    tries: bool = False
    value: int | None = None
    needs: Callable[[int], bool] | None = None
    waits: bool = False
    timed: bool = False
    orders: bool = False
    fails: tuple[Errno, ...] = ()
    words: Words | None = None


OPERATIONS: dict[Callable[..., Any], Operation] = {}  # by the effect
PERFORM: dict[Callable[..., Any], Callable[..., Any]] = {}  # by the effect, the function that performs it


def effect(
    *takes: Any, touches: Touches, **known: Any
) -> Callable[[Callable[Concatenate[Engine, Thread, P], T]], Callable[P, Awaitable[T]]]:
    """Declare what kernel code awaits, by the function that performs it; see `Operation` for what is known of it.

    The function is given the engine, the thread and the arguments. It does all of it in one step and answers; or it answers `WAIT`
    if it cannot happen yet; or it raises KernelError.
    """

    def declare(perform: Callable[Concatenate[Engine, Thread, P], T]) -> Callable[P, Awaitable[T]]:
        asks: Callable[P, Awaitable[T]] = _asks_for(perform)
        operation(touches, takes, **known)(asks)
        PERFORM[asks] = _unpacking(perform) if _is_variadic(perform) else perform
        return asks

    return declare


def also_asks(
    known: Callable[..., Any],
) -> Callable[[Callable[Q, Generator[Request, Any, T]]], Callable[Q, Awaitable[T]]]:
    """Another way to ask for a known effect: a generator that yields a request for it."""

    def declare(asks: Callable[Q, Generator[Request, Any, T]]) -> Callable[Q, Awaitable[T]]:
        made = types.coroutine(asks)
        OPERATIONS[made] = OPERATIONS[known]
        return made

    return declare


def _is_variadic(perform: Any) -> bool:
    return bool(perform.__code__.co_flags & CO_VARARGS)


def _unpacking(perform: Any) -> Any:
    return lambda engine, thread, first, args, named: perform(engine, thread, first, *args, **named)


def _asks_for(perform: Any) -> Any:
    """The coroutine that yields (itself, its arguments…). Written out, for it is a third quicker than one that has `*arguments`."""
    name, code = perform.__name__, perform.__code__
    names = code.co_varnames[2 : code.co_argcount]
    args, named = code.co_varnames[code.co_argcount :][:2] if _is_variadic(perform) else ("", "")
    takes = ", ".join((*names, f"*{args}", f"**{named}") if args else names)
    gives = ", ".join((name, *names, args, named) if args else (name, *names))
    space: dict[str, Any] = {}
    text = "\n" * (code.co_firstlineno - 1) + f"def {name}({takes}): return (yield ({gives}))"
    exec(compile(text, code.co_filename, "exec"), space)  # a traceback shows where the effect is declared
    asks: Any = update_wrapper(types.coroutine(space[name]), perform)
    space[name], asks.__defaults__ = asks, perform.__defaults__
    del asks.__wrapped__  # it is no other face of that function: it takes other arguments
    return asks


def operation(touches: Touches, takes: tuple[Any, ...] = (), **known: Any) -> Callable[[F], F]:
    """Declare what the engine does by itself where an effect was asked for: by the function that performs it."""
    declaration = Operation(takes, touches, **{"does": READ if touches is looks else TOUCHED, **known})

    def declare(perform: F) -> F:
        OPERATIONS[perform], PERFORM[perform] = declaration, perform
        return perform

    return declare


def declared(request: Request) -> Operation:
    """What is known of the effect that is asked for. Raises KeyError where nothing is declared."""
    return OPERATIONS[request[0]]


def taken_by(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What the arguments of an effect must be where a student's function awaits it; nothing for what it may not await."""
    known = OPERATIONS.get(function)
    return known.takes if known else ()


def name_of(request: Request) -> str:
    """The name of what is asked for, as kernel code writes it: "load", "refuse_if"."""
    return str(request[0].__name__).lstrip("_")
