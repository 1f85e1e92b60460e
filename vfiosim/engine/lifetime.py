"""Effects on lifetimes: references taken and given back, objects born and freed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from ..uapi import Errno
from .objects import Count, KObject, notice_reads
from .operations import (
    ADD,
    BORN,
    FREED,
    GAVE_REFERENCE,
    LOOK,
    PERFORM,
    TOOK_REFERENCE,
    WRITE,
    Access,
    Accesses,
    Place,
    Request,
    Say,
    effect,
    nothing,
    writes,
)

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

P = ParamSpec("P")
O = TypeVar("O", bound=KObject)  # noqa: E741
Side: TypeAlias = tuple[KObject, str]  # a holder, and its reason


def entry_of(count: Count, holder: KObject, reason: str) -> Place:
    """The place that is one entry of a count."""
    return (count.owner.oid, f"{count.name} of {holder.oid} ({reason})")


def counts(change: int) -> Callable[[Thread, Request], Accesses]:
    """A reference is given back (-1), taken (1), or taken unless there is none (0).

    Whether it was the last one, or whether there is any, is often clear from one other entry, as of a descriptor that leads to
    the file: then only that one is looked at, and whatever the others do to the count may come before or after. This holds
    while no entry is below zero; where one is, or gets there, the whole count is looked at and written.
    """

    def accesses(thread: Thread, request: Request) -> Accesses:
        _, count, holder, reason = request
        oid = count.owner.oid
        whole: Place = (oid, count.name)
        alive: Access = ((oid, ""), LOOK)
        if not change and not count.value:
            return ((whole, LOOK), alive)
        own = (entry_of(count, holder, reason), WRITE if change < 0 else ADD)
        held = count.held
        if (change < 0 and held.get((holder, reason), 0) < 1) or (held and min(held.values()) < 0):
            return ((whole, WRITE), own, alive)
        if change > 0:
            return ((whole, ADD), own, alive)
        for key in held:
            if key != (holder, reason) and key[0].kind != "thread":
                return ((whole, ADD), own, (entry_of(count, *key), LOOK), alive)
        return ((whole, WRITE), own, alive)

    return accesses


def reference_words(say: Say, answer: Any, target: Any, holder: Any, reason: str) -> str:
    """A count, and for whom and why it counts."""
    last = " → that was the last one" if answer is True else ""
    return f"{say(target)} for {say(holder)} ({reason}){last}"


@effect(Count, KObject, str, touches=counts(1), does=TOOK_REFERENCE, words=reference_words)
def get(engine: Engine, thread: Thread, target: Count, holder: KObject, reason: str) -> None:
    """Take a reference: `holder` counts on the owner of `target`, for `reason`."""
    if target.owner.freed:
        engine.use_after_free(thread, target)
    left = target.change((holder, reason), 1)
    if engine.journal is not None:
        engine.journal.append((target, (holder, reason), left - 1, left))


def _unless_zero_words(say: Say, answer: Any, *given: Any) -> str:
    return reference_words(say, None, *given) + ("" if answer else " → no, it was zero already")


@effect(Count, KObject, str, touches=counts(0), does=TOOK_REFERENCE, tries=True, orders=True, words=_unless_zero_words)
def get_unless_zero(engine: Engine, thread: Thread, target: Count, holder: KObject, reason: str) -> bool:
    """Take a reference unless the count is already zero (`refcount_inc_not_zero`); the answer tells."""
    if target.value == 0:
        engine.touch(thread, target)
        return False
    PERFORM[get](engine, thread, target, holder, reason)
    return True


@effect(Count, KObject, str, touches=counts(-1), does=GAVE_REFERENCE, orders=True, words=reference_words)
def put(engine: Engine, thread: Thread, target: Count, holder: KObject, reason: str) -> bool:
    """Give a reference back; the answer is True if it was the last one."""
    if target.owner.freed:
        engine.use_after_free(thread, target)
    left = target.change((holder, reason), -1)
    if engine.journal is not None:
        engine.journal.append((target, (holder, reason), left + 1, left))
    return target.value == 0


def _maybe_last(thread: Thread, request: Request) -> Accesses:
    _, count, holder, reason = request
    return (*writes(thread, request), (entry_of(count, holder, reason), WRITE))


def _if_last_words(say: Say, answer: Any, *given: Any) -> str:
    return reference_words(say, None, *given) + ("" if answer else " → no, there are others")


@effect(Count, KObject, str, touches=_maybe_last, does=GAVE_REFERENCE, tries=True, orders=True, words=_if_last_words)
def put_if_last(engine: Engine, thread: Thread, target: Count, holder: KObject, reason: str) -> bool:
    """Give a reference back only if it is the last one (`refcount_dec_if_one`); the answer tells."""
    if target.value != 1:
        engine.touch(thread, target)
        return False
    PERFORM[put](engine, thread, target, holder, reason)
    return True


def _changes_hands(thread: Thread, request: Request) -> Accesses:
    _, count, giver, taker = request
    return ((entry_of(count, *giver), WRITE), (entry_of(count, *taker), ADD), ((count.owner.oid, ""), LOOK))


def _handed_words(say: Say, answer: Any, target: Any, *sides: Any) -> str:
    giver, taker = (f"{say(holder)} ({reason})" for holder, reason in sides)
    return f"{say(target)} from {giver} to {taker}"


@effect(Count, tuple, tuple, touches=_changes_hands, words=_handed_words)
def hand_over(engine: Engine, thread: Thread, target: Count, giver: Side, taker: Side) -> None:
    """A reference changes hands; the count stays as it is. Each side is a holder and its reason."""
    engine.touch(thread, target)
    for side, by in ((giver, -1), (taker, 1)):
        left = target.change(side, by)
        if engine.journal is not None:
            engine.journal.append((target, side, left - by, left))


def _born_words(say: Say, answer: Any, make: Any, *_: Any) -> str:
    return say(answer) if isinstance(answer, KObject) else str(getattr(make, "kind", "object"))


@effect(BORN, touches=nothing, fails=(Errno.ENOMEM,), words=_born_words)
def alloc(
    engine: Engine, thread: Thread, /, make: Callable[Concatenate[Engine, P], O], *args: P.args, **named: P.kwargs
) -> O:
    """Give birth to an object of class `make`, whose constructor takes the rest."""
    for part in (*args, *named.values()):
        if isinstance(part, (list, dict, set, bytearray)):  # whoever has it could change the object without an effect
            raise TypeError(f"an object is born with what cannot change, not with a {type(part).__name__}")
    made = make(engine, *args, **named)
    engine.objects[made.oid] = made
    if engine.notices:
        notice_reads(made)
    if engine.journal is not None:
        engine.journal.append((made, None, None, "alive"))
    return made


def _frees(thread: Thread, request: Request) -> Accesses:
    return (((request[1].oid, ""), WRITE),)


@effect(KObject, touches=_frees, does=FREED, orders=True)
def free(engine: Engine, thread: Thread, target: KObject) -> None:
    """The object's memory is given back; it must not be touched any more."""
    if target.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, "alive", None))
    engine.objects.forget(target)
    target.freed = not target.stays_readable
    thread.reads.pop(target, None)  # what it read itself before it let go
    if target.freed and not engine.notices:
        notice_reads(target)
