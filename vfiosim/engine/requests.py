"""What each effect takes, as far as the engine relies on it; asked of what a student's function gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import checks, effects, lifetime, sync
from .bounds import told
from .effects import check_storable
from .functions import Wrong
from .kinds import check_kind
from .objects import Cell, Count, Intervals, KObject, Table
from .sync import Completion, Lock

_ANYTHING: Any = object
TAKES: dict[Any, tuple[Any, ...]] = {
    **dict.fromkeys((effects.load, effects.load_acquire, effects.load_count), (Cell,)),
    **dict.fromkeys((effects.store, effects.store_release, effects.exchange), (Cell,)),
    **dict.fromkeys((effects.peek, effects.poke, effects.claim, effects.next_slot, effects.slots_of), (Table,)),
    **dict.fromkeys((effects.first_between, effects.in_order), (Intervals,)),
    **dict.fromkeys(
        (lifetime.get, lifetime.get_unless_zero, lifetime.put, lifetime.put_if_last), (Count, KObject, str)
    ),
    lifetime.hand_over: (Count, tuple, tuple),
    lifetime.alloc: (type,),
    lifetime.free: (KObject,),
    **dict.fromkeys((sync.acquire, sync.try_acquire, sync.release, sync.acquire_shared, sync.release_shared), (Lock,)),
    **dict.fromkeys((sync.complete, sync.wait_for, sync.wait_for_killable), (Completion,)),
    sync.wait_for_timeout: (Completion, int),
    sync.wait_until_zero: (Count, int),
    checks.refuse_if: (_ANYTHING, int, str, str),
    checks.require: (_ANYTHING, int, str, str),
    checks.warn_on: (_ANYTHING, str),
    **dict.fromkeys((checks.copy_from_user, checks.copy_some_from_user), (int, int)),
    checks.copy_to_user: (int, bytes),
    checks.pin_pages: (_ANYTHING, int, int, _ANYTHING),
}
_STORES = (effects.store, effects.store_release, effects.exchange, effects.poke, effects.claim)


def check_effect(function: Any, given: tuple[Any, ...]) -> None:
    """Raises Wrong for arguments of an effect that make no sense, or that could change behind a search's back."""
    name = function.__name__
    for nth, (value, kind) in enumerate(zip(given, TAKES[function], strict=False)):
        if not isinstance(value, kind):
            raise Wrong(f"gives {name} {told(value)} as argument {nth + 1}, which must be {_kind(kind)}")
    if function is lifetime.alloc:
        if not issubclass(given[0], KObject):
            raise Wrong(f"makes {given[0].__name__}, which is no kernel object")
        _refused_by(check_storable, tuple(given[1:]))
    if function in _STORES and len(given) > 1:
        stored = given[1] if function is effects.claim else given[-1]
        _refused_by(check_kind, given[0], stored)
    if function in (effects.peek, effects.poke) and len(given) > 1 and not isinstance(given[1], (int, str)):
        raise Wrong(f"gives {name} {told(given[1])} as argument 2, which must be a slot: a number or a name")


def _refused_by(check: Callable[..., None], *given: Any) -> None:
    try:
        check(*given)
    except TypeError as error:
        raise Wrong(f"is refused: {error}") from None


def _kind(kind: Any) -> str:
    words = {Cell: "a field", Count: "a reference count", KObject: "a kernel object", str: "a text", int: "a number"}
    return words.get(kind) or f"a {kind.__name__.lower()}"
