"""An effect in words: `get file 2.f_ref for vfio_device_file 1 (bound)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine import Cell, KernelOops, KObject, Request
from ..uapi import KernelError
from .plain import plain, shown


def operation_name(request: Request) -> str:
    """The name of the effect that was asked for: "load", "get", "refuse_if"."""
    return str(request[0].__name__).lstrip("_")


def describe(request: Request, answer: Any) -> str:
    """What happened, on one line."""
    name = operation_name(request)
    if name in ("passed", "skipped"):
        return f"taken out: {describe(request[1], None)}"
    text = f"{name} {_WORDS.get(name, _anything)(request[1:], answer)}".rstrip()
    if isinstance(answer, KernelError):
        text += f" → {answer.name}"
    elif isinstance(answer, KernelOops):
        text += " → oops"
    return text


def _say(value: Any) -> str:
    return value.oid if isinstance(value, KObject) else shown(plain(value))


def _arrow(answer: Any) -> str:
    return "" if isinstance(answer, BaseException) else f" → {_say(answer)}"


def _anything(args: tuple[Any, ...], answer: Any) -> str:
    words = [_say(arg) for arg in args if isinstance(arg, Cell | KObject | int | str | None)]
    return ", ".join(words) + (_arrow(answer) if answer is not None else "")


def _load(args: tuple[Any, ...], answer: Any) -> str:
    return _say(args[0]) + _arrow(answer)


def _store(args: tuple[Any, ...], answer: Any) -> str:
    return f"{_say(args[0])} = {_say(args[1])}"


def _exchange(args: tuple[Any, ...], answer: Any) -> str:
    return f"{_store(args, answer)}, was {_say(answer)}"


def _peek(args: tuple[Any, ...], answer: Any) -> str:
    return f"{_say(args[0])}[{args[1]}]{_arrow(answer)}"


def _poke(args: tuple[Any, ...], answer: Any) -> str:
    return f"{_say(args[0])}[{args[1]}] = {_say(args[2])}"


def _try_acquire(args: tuple[Any, ...], answer: Any) -> str:
    return f"{_say(args[0])} → {'taken' if answer else 'no, somebody has it'}"


def _try_cmpxchg(args: tuple[Any, ...], answer: Any) -> str:
    return f"{_say(args[0])} = {_say(args[1])}" + ("" if answer else " → no, it has changed meanwhile")


def _claim(args: tuple[Any, ...], answer: Any) -> str:
    return f"{_say(args[0])}[{'no slot is free' if answer is None else answer}] = {_say(args[1])}"


def _reference(args: tuple[Any, ...], answer: Any) -> str:
    last = " → that was the last one" if answer is True else ""
    return f"{_say(args[0])} for {_say(args[1])} ({args[2]}){last}"


def _get_unless_zero(args: tuple[Any, ...], answer: Any) -> str:
    return _reference(args, None) + ("" if answer else " → no, it was zero already")


def _put_if_last(args: tuple[Any, ...], answer: Any) -> str:
    return _reference(args, None) + ("" if answer else " → no, there are others")


def _hand_over(args: tuple[Any, ...], answer: Any) -> str:
    giver, taker = (f"{_say(holder)} ({reason})" for holder, reason in args[1:])
    return f"{_say(args[0])} from {giver} to {taker}"


def _alloc(args: tuple[Any, ...], answer: Any) -> str:
    return _say(answer) if isinstance(answer, KObject) else str(getattr(args[0], "kind", "object"))


def _refuse_if(args: tuple[Any, ...], answer: Any) -> str:
    condition, _errno, name, *_ = args
    if isinstance(answer, BaseException):
        return f"[{name}] refused"
    return f"[{name}] would refuse" if condition else f"[{name}] passed"


def _copy(args: tuple[Any, ...], answer: Any) -> str:
    size = args[1] if isinstance(args[1], int) else len(args[1])
    return f"{size} bytes at {args[0]:#x}"


def _begin(args: tuple[Any, ...], answer: Any) -> str:
    return "in the kernel"


def _outside(args: tuple[Any, ...], answer: Any) -> str:
    function = getattr(args[0], "func", args[0])
    return f"{getattr(function, '__qualname__', 'something')}, outside of the machine"


_WORDS: dict[str, Callable[[tuple[Any, ...], Any], str]] = {
    "begin": _begin,
    "load": _load,
    "load_acquire": _load,
    "load_count": _load,
    "store": _store,
    "store_release": _store,
    "exchange": _exchange,
    "peek": _peek,
    "poke": _poke,
    "claim": _claim,
    "try_cmpxchg": _try_cmpxchg,
    "try_acquire": _try_acquire,
    "get": _reference,
    "put": _reference,
    "get_unless_zero": _get_unless_zero,
    "get_anyway": _reference,
    "dropped": _reference,
    "hold_back": _store,
    "store_early": _store,
    "store_late": _store,
    "load_own": _load,
    "put_if_last": _put_if_last,
    "hand_over": _hand_over,
    "alloc": _alloc,
    "refuse_if": _refuse_if,
    "copy_from_user": _copy,
    "copy_some_from_user": _copy,
    "copy_to_user": _copy,
    "call_outside": _outside,
}
