"""Taking protections out, without a second copy of kernel code: the engine skips, for one name, what belongs to it.

A name is that of

* a lock (`kvm_ref_lock`, or `vfio_device_file.kvm_ref_lock`): it is never taken and never given back;
* a check (`group_is_closed`): it never refuses;
* a reference, by its reason (`bound to it`): it is never taken and never given back. One that should change hands is given
  back by its giver, who does not look whether it was the last one: then the object is left behind, with nobody to release it;
* a count (`refcount`, or `vfio_device.refcount`): "take one unless it is zero" takes one in any case;
* the order of a release store (`order of access_granted`): the store becomes visible before what its thread stored earlier.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from .checks import refuse_if
from .effects import load, load_acquire, store, store_release
from .lifetime import counts, get, get_unless_zero, hand_over, put, reference_words
from .objects import Cell, Count, Field, KObject
from .operations import (
    AGAIN,
    GAVE,
    GAVE_REFERENCE,
    PERFORM,
    TOOK,
    TOOK_REFERENCE,
    WROTE,
    Request,
    declared,
    looks,
    nothing,
    operation,
    read_words,
    stored_words,
    writes,
)
from .sync import try_acquire

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

ORDER_OF = "order of "


def names_of(without: object) -> tuple[str, ...]:
    """What is to be taken out, as names. Raises TypeError for a single text, which would be a list of its letters."""
    names: tuple[Any, ...] = (None,)
    if isinstance(without, Iterable) and not isinstance(without, str):
        names = tuple(without)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"what is taken out is a list of names, such as ['group_lock'], not {without!r}")
    return names


class Ablation:
    """What has been taken out of an engine. `met` are the names of protections that its threads have come by."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.met: set[str] = set()
        self._reorders = any(name.startswith(ORDER_OF) for name in self.names)

    def missing(self) -> list[str]:
        """The names that no thread has come by, each with those that sound like it."""
        found = []
        for name in sorted(self.names - self.met):
            close = get_close_matches(name, sorted(self.met), n=3)
            found.append(f"{name!r}" + (f" (there is {', '.join(close)})" if close else ""))
        return found

    def instead(self, thread: Thread, request: Request) -> Request:
        """What is done instead of the effect that a thread asks for; most often just that."""
        operation, does = request[0], declared(request).does
        if does in (TOOK_REFERENCE, GAVE_REFERENCE):
            taken_out = self._reference(request)
        elif operation is hand_over:
            taken_out = self._handed(request)
        elif does in (TOOK, GAVE):
            taken_out = (_passed, request) if self._cell(request[1]) else None
        else:
            named = operation is refuse_if and self._name(request[3])
            taken_out = (_skipped, request, None) if named else None
        if taken_out is not None:
            return taken_out
        return self._in_its_order(thread, request) if self._reorders else request

    def _reference(self, request: Request) -> Request | None:
        operation, target, _holder, reason = request
        if self._name(reason):
            return (_skipped, request, operation is get_unless_zero)
        anyway = operation is get_unless_zero and self._cell(target)
        return (_get_anyway, *request[1:]) if anyway else None

    def _handed(self, request: Request) -> Request | None:
        _, target, giver, taker = request
        from_nobody, to_nobody = self._name(giver[1]), self._name(taker[1])
        if from_nobody and to_nobody:
            return (_skipped, request, None)
        if from_nobody:
            return (get, target, *taker)
        return (_dropped, target, *giver) if to_nobody else None

    def _in_its_order(self, thread: Thread, request: Request) -> Request:
        operation = request[0]
        early = operation is store_release and self._cell(request[1], ORDER_OF)
        early = early and all(target is not request[1] for target, _ in thread.late)  # one cell's stores stay in order
        if thread.late and (thread.overtaken or (declared(request).orders and not early)):
            return (_store_late, *thread.late[0])
        if early:
            return (_store_early, *request[1:])
        if operation is store:
            return (_hold_back, *request[1:])
        if operation in (load, load_acquire):
            for target, value in reversed(thread.late):
                if target is request[1]:
                    return (_load_own, target, value)
        return request

    def _cell(self, cell: Cell, prefix: str = "") -> bool:
        return self._name(f"{prefix}{cell.name}") or self._name(f"{prefix}{cell.owner.kind}.{cell.name}")

    def _name(self, name: str) -> bool:
        self.met.add(name)
        return name in self.names


@operation(touches=nothing)
def _skipped(engine: Engine, thread: Thread, asked: Request, answer: Any) -> Any:
    """Nothing happens; the answer is the one that lets the thread go on."""
    return answer


@operation(touches=nothing)
def _passed(engine: Engine, thread: Thread, asked: Request) -> bool | None:
    """A lock that is not there is neither taken nor given back; but who would have it is known."""
    asks, lock = asked
    if declared(asked).does == TOOK:
        thread.inside.append(lock)
    elif lock in thread.inside:
        thread.inside.remove(lock)
    return True if asks is try_acquire else None


@operation(touches=counts(1), does=TOOK_REFERENCE, words=reference_words)
def _get_anyway(engine: Engine, thread: Thread, target: Count, holder: KObject, reason: str) -> bool:
    PERFORM[get](engine, thread, target, holder, reason)
    return True


@operation(touches=counts(-1), does=GAVE_REFERENCE, words=reference_words)
def _dropped(engine: Engine, thread: Thread, target: Count, holder: KObject, reason: str) -> None:
    """A reference that should have changed hands: its taker does not want it, so it is given back."""
    PERFORM[put](engine, thread, target, holder, reason)


@operation(touches=nothing, words=stored_words)
def _hold_back(engine: Engine, thread: Thread, target: Field[Any], value: Any) -> None:
    """A store that only its own thread can see as yet."""
    thread.late.append((target, value))


@operation(touches=looks, value=0, words=read_words)
def _load_own(engine: Engine, thread: Thread, target: Field[Any], value: Any) -> Any:
    """What a thread reads where it has stored something that nobody else can see as yet."""
    return value


@operation(touches=writes, does=WROTE, value=2, words=stored_words)
def _store_early(engine: Engine, thread: Thread, target: Field[Any], value: Any) -> None:
    PERFORM[store](engine, thread, target, value)
    thread.overtaken = bool(thread.late)


@operation(touches=writes, does=WROTE, value=2, words=stored_words)
def _store_late(engine: Engine, thread: Thread, target: Field[Any], value: Any) -> Any:
    PERFORM[store](engine, thread, target, value)
    del thread.late[0]
    thread.overtaken = thread.overtaken and bool(thread.late)
    return AGAIN
