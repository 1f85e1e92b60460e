"""Effects on lifetimes: references taken and given back, objects born and freed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ..uapi import Errno
from .effects import Asks, Request, effect
from .objects import Count, KObject, notice_reads
from .operations import operation

if TYPE_CHECKING:
    from .engine import Engine
    from .thread import Thread

P = ParamSpec("P")
O = TypeVar("O", bound=KObject)  # noqa: E741


@effect
def get(target: Count, holder: KObject, reason: str) -> Asks[None]:
    """Take a reference: `holder` counts on the owner of `target`, for `reason`."""
    yield (_get, target, holder, reason)


@effect
def get_unless_zero(target: Count, holder: KObject, reason: str) -> Asks[bool]:
    """Take a reference unless the count is already zero (`refcount_inc_not_zero`); the answer tells."""
    answer: bool = yield (_get_unless_zero, target, holder, reason)
    return answer


@effect
def put(target: Count, holder: KObject, reason: str) -> Asks[bool]:
    """Give a reference back; the answer is True if it was the last one."""
    answer: bool = yield (_put, target, holder, reason)
    return answer


def _get(engine: Engine, thread: Thread, request: Request) -> None:
    _, target, holder, reason = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    left = target.change((holder, reason), 1)
    if engine.journal is not None:
        engine.journal.append((target, (holder, reason), left - 1, left))


@operation(orders=True)
def _get_unless_zero(engine: Engine, thread: Thread, request: Request) -> bool:
    target = request[1]
    if target.value == 0:
        if target.owner.freed:
            engine.use_after_free(thread, target)
        return False
    _get(engine, thread, request)
    return True


@operation(orders=True)
def _put(engine: Engine, thread: Thread, request: Request) -> bool:
    _, target, holder, reason = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    left = target.change((holder, reason), -1)
    if engine.journal is not None:
        engine.journal.append((target, (holder, reason), left + 1, left))
    return target.value == 0  # type: ignore[no-any-return]


@effect
def put_if_last(target: Count, holder: KObject, reason: str) -> Asks[bool]:
    """Give a reference back only if it is the last one (`refcount_dec_if_one`); the answer tells."""
    answer: bool = yield (_put_if_last, target, holder, reason)
    return answer


@operation(orders=True)
def _put_if_last(engine: Engine, thread: Thread, request: Request) -> bool:
    target = request[1]
    if target.value == 1:
        return _put(engine, thread, request)
    if target.owner.freed:
        engine.use_after_free(thread, target)
    return False


@effect
def hand_over(target: Count, giver: tuple[KObject, str], taker: tuple[KObject, str]) -> Asks[None]:
    """A reference changes hands; the count stays as it is. Each side is a holder and its reason."""
    yield (_hand_over, target, giver, taker)


def _hand_over(engine: Engine, thread: Thread, request: Request) -> None:
    _, target, giver, taker = request
    if target.owner.freed:
        engine.use_after_free(thread, target)
    for side, by in ((giver, -1), (taker, 1)):
        left = target.change(side, by)
        if engine.journal is not None:
            engine.journal.append((target, side, left - by, left))


@effect
def alloc(make: Callable[Concatenate[Engine, P], O], *args: P.args, **named: P.kwargs) -> Asks[O]:
    """Give birth to an object of class `make`, whose constructor takes the rest."""
    answer: O = yield (_alloc, make, args, named)
    return answer


@effect
def free(target: KObject) -> Asks[None]:
    """The object's memory is given back; it must not be touched any more."""
    yield (_free, target)


@operation(fails=(Errno.ENOMEM,), touches="nothing")
def _alloc(engine: Engine, thread: Thread, request: Request) -> KObject:
    _, make, args, named = request
    for part in (*args, *named.values()):
        if isinstance(part, (list, dict, set, bytearray)):  # whoever has it could change the object without an effect
            raise TypeError(f"an object is born with what cannot change, not with a {type(part).__name__}")
    made: KObject = make(engine, *args, **named)
    engine.objects[made.oid] = made
    if engine.notices:
        notice_reads(made)
    if engine.journal is not None:
        engine.journal.append((made, None, None, "alive"))
    return made


@operation(orders=True)
def _free(engine: Engine, thread: Thread, request: Request) -> None:
    target = request[1]
    if target.freed:
        engine.use_after_free(thread, target)
    if engine.journal is not None:
        engine.journal.append((target, None, "alive", None))
    engine.objects.forget(target)
    target.freed = not target.stays_readable
    thread.reads.pop(target, None)  # what it read itself before it let go
    if target.freed and not engine.notices:
        notice_reads(target)
