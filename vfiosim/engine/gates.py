"""What a student's function is led through while it runs: each call, and each read of an attribute.

`lowering.py` puts these functions into the place of what was written. So such a function reads nothing that can change behind a
search's back, calls nothing but kernel code, and hands nothing to the kernel that is kept from call to call.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import CoroutineType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

from ..uapi import KernelError
from . import sync
from .bounds import (
    BUILTINS,
    METHODS,
    PLAIN,
    add,
    check_method,
    compared,
    count_effect,
    in_words,
    lshift,
    made,
    minus,
    mod,
    mult,
    ordered,
    power,
    shown,
    spend,
    ticking,
    weighed,
)
from .effects import KernelOops
from .functions import FUNCTIONS, Phase, Wrong, current, say
from .kinds import instead_of_store
from .objects import Cell, KObject
from .operations import taken_by
from .requests import check_effect
from .source import PACKAGE
from .sync import Lock, ReadLocked, shared
from .thread import Thread

_OURS = str(PACKAGE / "vfiosim")
_ROOT = __name__.partition(".")[0]
_KERNEL = tuple(f"{_ROOT}.{name}" for name in ("kernel", "uapi", "puzzles", "museum"))
# What `async with` takes beside locks: a function to be called on the way out, with its arguments.
_ON_THE_WAY_OUT = tuple(kind for name in ("cleanup", "on_failure") if (kind := getattr(sync, name, None)))
_ALSO = (current, say, shared, *_ON_THE_WAY_OUT)


def read(thing: Any, name: str) -> Any:
    """`thing.name`"""
    spend()
    value = getattr(thing, name)
    if isinstance(thing, ModuleType):
        return admitted(value, f"{thing.__name__.rpartition('.')[2]}.{name}")
    if isinstance(thing, Thread):
        good = name in ("label", "oid", "process")
    elif isinstance(thing, Cell):
        good = name in ("path", "owner", "name")
    elif isinstance(thing, type):
        good = _is_class(thing)
    elif isinstance(thing, KObject):
        good = name not in ("own_class", "cells", "freed")
    else:
        good = _is_class(type(thing))
    if not good:
        raise Wrong(f"reads {name} of {in_words(thing)}, which is not the kernel's")
    # What hangs on an object outlives the call: where it could be changed, a copy is handed out.
    return made(value.copy()) if isinstance(value, (dict, list, set, bytearray)) else value


def assign(thing: Any, name: str, value: Any) -> None:
    """`thing.name = value`, for a struct that belongs to the call."""
    if not getattr(type(thing), "of_one_call", False):
        owner = thing.kind if isinstance(thing, KObject) else type(thing).__name__.lower()
        raise Wrong(instead_of_store(owner, name, in_words(value)))
    setattr(thing, name, weighed(value))


# ---- calls


def method(thing: Any, name: str, /, *given: Any, **named: Any) -> Any:
    """`thing.name(…)`"""
    kind = thing if isinstance(thing, type) and thing in METHODS else type(thing)
    if kind not in METHODS:
        return call(read(thing, name), *given, **named)
    if name not in METHODS[kind]:
        raise Wrong(f"calls {name} of {in_words(thing)}: it has {', '.join(sorted(METHODS[kind]))} here")
    spend()
    for value in given:
        weighed(value)
    check_method(name, thing, given)
    found = getattr(thing, name)(*given, **_with_key(named))
    return found if name in ("get", "pop", "popitem", "setdefault") else made(found)


def call(function: Any, /, *given: Any, **named: Any) -> Any:
    """`function(…)`"""
    spend()
    bounded = BUILTINS.get(function) if isinstance(function, type) or _is_builtin(function) else None
    if bounded is not None:
        return bounded(*given, **_with_key(named))
    for value in (*given, *named.values()):
        weighed(value)
    if is_students(function):
        return function(*given, **named)
    if given and function in _ON_THE_WAY_OUT:
        return function(partial(call, given[0]), *given[1:], **named)
    _check_callable(function)
    for value in (*given, *named.values()):
        _check_given(function, value)
    if taken_by(function):
        check_effect(function, given)
    elif function is say and list(map(type, given[:2])) != [Phase, str]:
        raise Wrong("calls say with something else than a phase and a sentence: write `say(Phase.LOCK, sentence)`")
    if _is_coroutine(function):
        count_effect()
    return function(*given, **named)


def _with_key(named: dict[str, Any]) -> dict[str, Any]:
    """The function that sorts is led through a gate too."""
    key = named.get("key")
    return named if key is None else {**named, "key": partial(call, key)}


def _is_builtin(function: Any) -> bool:
    return type(function) is type(len)


def _is_coroutine(function: Any) -> bool:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and bool(code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE))


def is_students(function: Any) -> bool:
    """Has it been made by `student_code.py`?"""
    return isinstance(function, FunctionType) and "@call" in function.__globals__


def _check_callable(function: Any) -> None:
    if isinstance(function, partial):
        _check_callable(function.func)
    elif isinstance(function, type) and issubclass(function, KObject):
        raise Wrong(f"makes a kernel object by hand: write `await alloc({function.__name__}, …)`")
    elif not (_is_kernels(function) or _copies_a_struct(function)):
        raise Wrong(f"calls {in_words(function)}, which is no kernel code")


def _copies_a_struct(function: Any) -> bool:
    of_a_struct = getattr(getattr(function, "__self__", None), "of_one_call", False)
    return bool(_is_builtin(function) and of_a_struct and function.__name__ == "from_buffer_copy")


def _is_kernels(function: Any) -> bool:
    """A function or a class that kernel code may use."""
    if isinstance(function, type):
        known = (KernelError, KernelOops, *_ON_THE_WAY_OUT)
        return _is_of_the_kernel(function) or issubclass(function, known)
    if isinstance(function, MethodType):
        return _is_of_the_kernel(function.__func__)
    if not isinstance(function, FunctionType):
        return False
    entry = FUNCTIONS.get(function.__name__)
    mirrored = entry is not None and entry.function is inspect.unwrap(function)
    here = _is_of_the_kernel(function) and function.__code__.co_filename.startswith(_OURS)
    helper = function.__module__.startswith(_KERNEL[:2]) or inspect.iscoroutinefunction(function)
    return bool(taken_by(function)) or function in _ALSO or mirrored or (here and helper)


def _is_of_the_kernel(thing: Any) -> bool:
    """A function or a class of the kernel; files of the computer that this runs on are none of it."""
    return thing.__module__.startswith(_KERNEL) and not thing.__module__.endswith((".outside", ".host"))


def _check_given(function: Any, value: Any) -> None:
    """What is handed to the kernel may be kept there, so it must be nothing that can change behind a search's back."""
    if isinstance(value, (set, frozenset)) or is_students(value):
        raise Wrong(
            f"hands {in_words(value)} to {function.__name__}: the kernel takes fields, objects, numbers and texts"
        )


def awaited(value: Any) -> Any:
    """`await value`"""
    if not isinstance(value, (CoroutineType, GeneratorType)):
        raise Wrong(
            f"awaits {in_words(value)}, which is no effect; kernel code awaits load, store, get, put, refuse_if and the like"
        )
    if (value.cr_frame if isinstance(value, CoroutineType) else value.gi_frame) is None:
        raise Wrong(f"awaits {value.__name__} a second time: call it again")
    return value


def locked(value: Any) -> Any:
    """`async with value:`"""
    if not isinstance(value, (Lock, ReadLocked, *_ON_THE_WAY_OUT)):
        raise Wrong(f"has `async with` for {in_words(value)}, which is no lock")
    count_effect()
    return value


# ---- what a name from outside may stand for


def admitted(value: Any, name: str) -> Any:
    """Raises Wrong for what a function must not use: what may change between two calls, and what is no kernel code."""
    if isinstance(value, Mapping | list | set | bytearray | KObject) or getattr(type(value), "of_one_call", False):
        raise Wrong(
            f"uses `{name}`, {in_words(value)} that outlives a call: shared state must be a field that the kernel has"
        )
    if type(value) in (tuple, frozenset):
        for one in value:
            admitted(one, name)
        return value
    module = getattr(value, "__name__", "") if isinstance(value, ModuleType) else ""
    good = type(value) in PLAIN or module.partition(".")[0] == _ROOT or value is suppress
    good = good or (isinstance(value, type | FunctionType | type(len)) and value in BUILTINS)
    good = good or (isinstance(value, type) and _is_class(value)) or is_students(value) or _is_kernels(value)
    if not good and (isinstance(value, type | FunctionType) or not _is_class(type(value))):
        raise Wrong(f"uses `{name}`: {_hint(name)}")
    return value


def _is_class(kind: type) -> bool:
    """A class of kernel objects, of structs, of errnos and the like."""
    return _is_of_the_kernel(kind) or kind in (KObject, Phase)


def _hint(name: str) -> str:
    if name in ("print", "input", "open"):
        return "kernel code neither prints nor reads; `say(Phase.LOCK, sentence)` begins a new step of the trace"
    if name in ("getattr", "setattr", "delattr", "hasattr", "vars"):
        return "a field is named by what stands behind the dot"
    if name in ("map", "filter", "iter"):
        return "write a loop, or a comprehension"
    if name == "type":
        return "write `isinstance(thing, kind)`"
    return "kernel code has effects, kernel functions, and some builtins such as len, range, min and isinstance"


GATES: dict[str, Any] = {
    f"@{one.__name__}": one
    for one in (
        spend, compared, made, mult, power, lshift, mod, add, minus, ordered, ticking, shown, read, assign, method, call, awaited,
        locked,
    )
}  # fmt: skip
