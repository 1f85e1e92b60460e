"""An effect in words: `get file 2.f_ref for vfio_device_file 1 (bound)`."""

from __future__ import annotations

from typing import Any

from ..engine import Cell, KernelOops, KObject, Request
from ..engine.operations import arrow, declared, name_of
from ..uapi import KernelError
from .plain import plain, shown


def describe(request: Request, answer: Any) -> str:
    """What happened, on one line."""
    name = name_of(request)
    if name in ("passed", "skipped"):
        return f"taken out: {describe(request[1], None)}"
    words = declared(request).words
    text = f"{name} {words(_say, answer, *request[1:]) if words else _anything(request[1:], answer)}".rstrip()
    if isinstance(answer, KernelError):
        text += f" → {answer.name}"
    elif isinstance(answer, KernelOops):
        text += " → oops"
    return text


def _say(value: Any) -> str:
    if isinstance(value, Cell):
        return value.path
    return value.oid if isinstance(value, KObject) else shown(plain(value))


def _anything(args: tuple[Any, ...], answer: Any) -> str:
    words = [_say(arg) for arg in args if isinstance(arg, Cell | KObject | int | str | None)]
    return ", ".join(words) + (arrow(_say, answer) if answer is not None else "")
