"""What a student's function uses up: a call has an end, and takes little memory.

Everything is measured in *units*: a round of a loop, a call, a read, an element of a container, a byte. They depend on nothing but
the machine, so the same schedule goes the same way always. Whatever can grow in one step is counted before, or right after where it
can grow by no more than a few times what was counted before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ctypes import sizeof
from enum import Enum
from functools import partial
from types import FunctionType
from typing import Any, Final

from ..uapi import KernelError
from .functions import Wrong, current, running
from .objects import Cell, KObject

BETWEEN: Final = 200_000  # units between two effects; less than a second
AT_ALL: Final = 1_000_000  # units in one call
EFFECTS: Final = 10_000  # in one call; a bind has about a hundred
BITS: Final = 4096  # of a number
_ENDLESS: Final = "runs on and on, and awaits no effect"
_CONTAINERS = (tuple, list, set, frozenset, dict)
_BYTES = (str, bytes, bytearray)
PLAIN = (type(None), bool, int, float, range, *_BYTES)


def spend(units: int = 1) -> bool:
    """Something was done, or is about to be done. True, so that it can stand in a condition."""
    thread = running.thread
    assert thread is not None, "a function of a student's own runs in a thread"
    budget = thread.budget
    budget.since += units
    budget.all += units
    if budget.since > BETWEEN or budget.all > AT_ALL:
        raise Wrong(_ENDLESS, endless=True)
    return True


def count_effect() -> None:
    """An effect, or a kernel function, is about to be awaited."""
    budget = current().budget
    budget.since = 0
    budget.effects += 1
    if budget.effects > EFFECTS:
        raise Wrong(f"has awaited {EFFECTS:,} effects in one call, and does not come to an end", endless=True)


def weighed(value: Any) -> Any:
    """A value whose size, with all that is in it, was counted: so long does it take to compare it, or to look through it."""
    todo = [value]
    while todo:
        one = todo.pop()
        kind = type(one)
        if kind in _BYTES:
            spend(len(one) >> 4)
        elif isinstance(one, _CONTAINERS):
            spend(len(one))
            todo += [*one, *one.values()] if isinstance(one, dict) else one
    return value


def made(value: Any) -> Any:
    """Something that was just made: its memory counts."""
    if isinstance(value, _BYTES):
        spend(len(value))
        return value
    if isinstance(value, int):
        _check_bits(value.bit_length())
    return weighed(value)


def _check_bits(bits: int) -> None:
    if bits > BITS:
        raise Wrong(f"makes a number of more than {BITS:,} bits; the kernel's have 64", endless=True)


def mult(left: Any, right: Any) -> Any:
    """`left * right`"""
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for some, times in ((left, right), (right, left)):
        if isinstance(some, (*_BYTES, list, tuple)) and isinstance(times, int):
            spend(len(some) * max(0, times))
    return made(left * right)


def power(left: Any, right: Any) -> Any:
    """`left ** right`"""
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * max(0, right))
    return left**right


def lshift(left: Any, right: Any) -> Any:
    """`left << right`"""
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + max(0, right))
    return left << right


def mod(left: Any, right: Any) -> Any:
    """`left % right`"""
    if isinstance(left, _BYTES):
        raise Wrong('formats a text by `%`: write f"…"')
    return left % right


def add(left: Any, right: Any) -> Any:
    """`left + right`; always something new, also where `+=` was written."""
    return made(left + right)


def minus(left: Any, right: Any) -> Any:
    """`left - right`"""
    return made(left - right)


def compared(value: Any) -> Any:
    """What is compared with something."""
    if isinstance(value, Cell):
        raise Wrong(f"compares the field {value.path} itself with something: write `await load(…)` for its value")
    return weighed(value)


# ---- what is looked through


def ordered(value: Any) -> Any:
    """What is about to be looked through in its order."""
    if isinstance(value, (set, frozenset)):
        raise Wrong("looks through a set, which has no order: write `sorted(…)`, or a tuple")
    return value


def ticking(values: Iterable[Any]) -> Iterator[Any]:
    """The same, counted."""
    for value in ordered(values):
        spend()
        yield value


def shown(value: Any) -> Any:
    """What is put into a text."""
    weighed(value)
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, _CONTAINERS):
            todo += [*one, *one.values()] if isinstance(one, dict) else ordered(one)
        elif not isinstance(one, (*PLAIN, Enum, KObject, Cell, KernelError)) and not hasattr(one, "of_one_call"):
            raise Wrong(
                f"writes {in_words(one)} into a text: there is room for numbers, texts, bytes and kernel objects"
            )
    return value


# ---- builtins, and methods of what is no kernel object


def _counted(function: Callable[..., Any], some: Any = (), *more: Any, **named: Any) -> Any:
    for one in more:
        weighed(one)
    values = some if isinstance(some, (*_BYTES, range)) else None
    return made(function(ticking(some) if values is None and _is_looked_through(some) else some, *more, **named))


def _is_looked_through(some: Any) -> bool:
    return hasattr(some, "__iter__") and not isinstance(some, (dict, KObject)) and not hasattr(some, "of_one_call")


def _bytes(kind: Any, some: Any = b"", *more: Any) -> Any:
    if isinstance(some, int):
        spend(max(0, some))
        return kind(some)
    return made(kind(ticking(some) if isinstance(some, _CONTAINERS) else some, *more))


def _range(*given: int) -> range:
    found = range(*given)
    try:
        spend(len(found) >> 4)
    except OverflowError:
        spend(BETWEEN)
    return found


def _sum(values: Any, start: int = 0) -> Any:
    total: Any = start
    for value in ticking(values):
        total = add(total, value)
    return total


def _sorted(values: Any, *, key: Any = None, reverse: bool = False) -> Any:
    some = list(values if key is None else ordered(values))
    for value in some:
        weighed(value)
        spend(4)
    return sorted(some, key=key, reverse=reverse)


def _best(function: Any, *values: Any, key: Any = None, **named: Any) -> Any:
    looked = values[0] if len(values) == 1 else values
    some = [weighed(value) for value in (ordered(looked) if key else looked)]
    spend(len(some))
    return function(some, key=key, **named)


def _text(value: Any = "") -> str:
    return str(made(str(shown(value))))


def _plain(function: Any, *values: Any) -> Any:
    for value in values:
        weighed(value)
    return made(function(*map(ordered, values) if function is reversed else values))


def _next(values: Any, *otherwise: Any) -> Any:
    try:
        return next(values, *otherwise)
    except StopIteration:
        raise Wrong("asks for the next one where there is none: write `next(…, None)`") from None


def _zip(*some: Any, strict: bool = False) -> Any:
    return zip(*map(ticking, some), strict=strict)


BUILTINS: dict[Any, Callable[..., Any]] = {
    **{one: partial(_counted, one) for one in (list, tuple, dict, set, frozenset, any, all, enumerate)},
    **{one: partial(_bytes, one) for one in (bytes, bytearray)},
    **{one: partial(_best, one) for one in (min, max)},
    **{one: partial(_plain, one) for one in (abs, bool, divmod, hex, int, isinstance, len, ord, chr, reversed, sizeof)},
    zip: _zip,
    next: _next,
    range: _range,
    sum: _sum,
    sorted: _sorted,
    str: _text,
    repr: lambda value: made(repr(shown(value))),
}
_TEXT = (
    "count decode encode endswith find fromhex hex index isalnum isalpha isdigit isidentifier isspace lower lstrip partition "
    "removeprefix removesuffix rfind rindex rpartition rsplit rstrip split splitlines startswith strip title upper"
)
METHODS: dict[type, frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in {
        str: f"{_TEXT} join ljust rjust zfill replace",
        bytes: f"{_TEXT} join ljust rjust zfill replace",
        bytearray: f"{_TEXT} join ljust rjust zfill replace append extend clear pop insert reverse",
        int: "bit_length bit_count to_bytes from_bytes",
        list: "append clear copy count extend index insert pop remove reverse sort",
        tuple: "count index",
        dict: "clear copy get items keys pop popitem setdefault update values",
        set: "add clear copy discard remove update difference intersection issubset issuperset union isdisjoint",
        frozenset: "difference intersection issubset issuperset union isdisjoint",
        range: "count index",
    }.items()
}
_LOOKS_THROUGH = frozenset((
    "copy", "count", "find", "index", "isdisjoint", "join", "partition", "remove", "replace", "reverse", "sort", "split",
))  # fmt: skip


def check_method(name: str, thing: Any, given: tuple[Any, ...]) -> None:
    """What a method looks through is counted before, and what it makes, where that is more than what goes in."""
    first = given[0] if given else None
    if name in _LOOKS_THROUGH or isinstance(thing, (*_BYTES, tuple)):
        weighed(thing)
    if name in ("extend", "join", "update"):
        ordered(first)
    if name in ("ljust", "rjust", "zfill", "to_bytes") and isinstance(first, int):
        spend(max(0, first))
    elif name == "join" and isinstance(first, (list, tuple)):
        spend(sum(len(one) for one in first if hasattr(one, "__len__")) + len(thing) * len(first))
    elif name == "replace" and len(given) > 1 and isinstance(given[1], _BYTES):
        spend((len(thing) + 1) * len(given[1]))


def in_words(value: Any) -> str:
    """A value in a sentence, without anything that depends on where it lies in memory."""
    plain = isinstance(value, (*PLAIN, KObject, Enum, Cell)) and not isinstance(value, bytes)
    if not plain and isinstance(value, tuple):
        plain = len(value) < 5 and all(isinstance(one, (int, str)) for one in value)
    if plain:
        text = repr(value)
        return text if len(text) < 60 else f"a {type(value).__name__}"
    name = getattr(value, "__name__", "")
    return f"the function {name}" if isinstance(value, FunctionType) else name or f"a {type(value).__name__}"
