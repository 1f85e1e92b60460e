"""What is known of an effect beside what it does: declared once, at its code, for all who ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from ..uapi import Errno

if TYPE_CHECKING:
    from .thread import Thread

O = TypeVar("O", bound=Callable[..., Any])  # noqa: E741

# ---- what an effect touches: a place, and whether it looks there, writes, or adds to what others add

Place: TypeAlias = tuple[str, str]
Access: TypeAlias = tuple[Place, int]
Accesses: TypeAlias = tuple[Access, ...]

LOOK, WRITE, ADD = 0, 1, 2  # ways to touch a place; ADD: others may add before or after, but nobody look or write


def looks(thread: Thread, request: tuple[Any, ...]) -> Accesses:
    """It looks at the cell that is its first argument."""
    cell = request[1]
    oid = cell.owner.oid
    return (((oid, cell.name), LOOK), ((oid, ""), LOOK))


def writes(thread: Thread, request: tuple[Any, ...]) -> Accesses:
    """It writes that cell."""
    cell = request[1]
    oid = cell.owner.oid
    return (((oid, cell.name), WRITE), ((oid, ""), LOOK))


def nothing(thread: Thread, request: tuple[Any, ...]) -> Accesses:
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


def arrow(say: Callable[[Any], str], answer: Any) -> str:
    """The answer, where there is one."""
    return "" if isinstance(answer, BaseException) else f" → {say(answer)}"


def read_words(say: Callable[[Any], str], answer: Any, target: Any, *_: Any) -> str:
    """A cell and what was in it."""
    return say(target) + arrow(say, answer)


def stored_words(say: Callable[[Any], str], answer: Any, target: Any, value: Any, *_: Any) -> str:
    """A cell and what is in it now."""
    return f"{say(target)} = {say(value)}"


@dataclass(frozen=True)
class Operation:
    """One kind of effect, as its code declares it.

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

    touches: Callable[[Thread, tuple[Any, ...]], Accesses]
    does: Verb = TOUCHED
    tries: bool = False
    value: int | None = None
    needs: Callable[[int], bool] | None = None
    waits: bool = False
    timed: bool = False
    orders: bool = False
    fails: tuple[Errno, ...] = ()
    words: Words | None = None


OPERATIONS: dict[Callable[..., Any], Operation] = {}  # by the function that performs it


def operation(touches: Callable[[Thread, tuple[Any, ...]], Accesses], **known: Any) -> Callable[[O], O]:
    """Declare what is known of an effect, see `Operation`."""
    declaration = Operation(touches, **{"does": READ if touches is looks else TOUCHED, **known})

    def declare(perform: O) -> O:
        OPERATIONS[perform] = declaration
        return perform

    return declare


def declared(request: tuple[Any, ...]) -> Operation:
    """What is known of the effect that is asked for. Raises KeyError where nothing is declared."""
    return OPERATIONS[request[0]]


# ---- what it takes, as far as the engine relies on it, beside classes

Given: TypeAlias = Literal[
    "anything", "a value for the cell", "a slot: a number or a name", "a class of kernel objects"
]
ANYTHING: Final[Given] = "anything"
STORED: Final[Given] = "a value for the cell"
SLOT: Final[Given] = "a slot: a number or a name"
BORN: Final[Given] = "a class of kernel objects"
TAKES: dict[Callable[..., Any], tuple[Any, ...]] = {}  # by the effect that a student's function may await
