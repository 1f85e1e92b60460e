"""What is known of an effect beside what it does: declared once, at its code, for all who ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar

from ..uapi import Errno

Touches: TypeAlias = Literal["", "look", "write", "nothing"]
O = TypeVar("O", bound=Callable[..., Any])  # noqa: E741


@dataclass(frozen=True)
class Operation:
    """One kind of effect, as its code declares it.

    * `needs`: can it happen, given the condition of its place (`condition`)? None if it never waits;
    * `timed`: its last argument is how long it waits, in milliseconds; with 0 it only asks;
    * `orders`: whoever sees it sees what its thread has stored before (Documentation/atomic_t.txt, v7.2): a lock is given back, a
      release store, whatever reads and changes in one step and tells the outcome, leaving the kernel; and where another lock is
      given back on the way: slots of tables, completions, and freed memory, which is nobody's any more;
    * `fails`: with which errnos it may fail on purpose: kmalloc and xa_alloc with ENOMEM, copies with EFAULT, pin_user_pages with
      both (mm/gup.c, v7.2);
    * `touches`: what it does with the cell that is its first argument, for a search of schedules: looks at it, writes it, or
      nothing that anybody else could see; "" if it is more than that, then `explore/accesses.py` says what.
    """

    needs: Callable[[int], bool] | None = None
    timed: bool = False
    orders: bool = False
    fails: tuple[Errno, ...] = ()
    touches: Touches = ""


PLAIN: Final = Operation()
OPERATIONS: dict[Callable[..., Any], Operation] = {}  # by the function that performs it; those not here are `PLAIN`


def operation(
    needs: Callable[[int], bool] | None = None,
    timed: bool = False,
    orders: bool = False,
    fails: tuple[Errno, ...] = (),
    touches: Touches = "",
) -> Callable[[O], O]:
    """Declare what is known of an effect, see `Operation`."""

    def declare(perform: O) -> O:
        OPERATIONS[perform] = Operation(needs, timed, orders, fails, touches)
        return perform

    return declare


def declared(perform: Callable[..., Any]) -> Operation:
    """What is known of an effect, by the function that performs it (the first part of a request)."""
    return OPERATIONS.get(perform, PLAIN)
