"""Is what a student's function gives to an effect what the effect takes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bounds import in_words
from .effects import check_storable
from .functions import Wrong
from .kinds import check_kind
from .objects import Cell, Count, KObject
from .operations import ANYTHING, BORN, SLOT, STORED, taken_by


def check_effect(function: Any, given: tuple[Any, ...]) -> None:
    """Raises Wrong for arguments of an effect that make no sense, or that could change behind a search's back."""
    name = function.__name__
    kinds: dict[Any, Any] = {SLOT: (int, str), BORN: type}
    for nth, (value, kind) in enumerate(zip(given, taken_by(function), strict=False)):
        if kind == STORED:
            _refused_by(check_kind, given[0], value)
        elif kind != ANYTHING and not isinstance(value, kinds.get(kind, kind)):
            raise Wrong(f"gives {name} {in_words(value)} as argument {nth + 1}, which must be {_kind(kind)}")
        elif kind == BORN and not issubclass(value, KObject):
            raise Wrong(f"makes {value.__name__}, which is no kernel object")
        elif kind == BORN:
            _refused_by(check_storable, tuple(given[1:]))


def _refused_by(check: Callable[..., None], *given: Any) -> None:
    try:
        check(*given)
    except TypeError as error:
        raise Wrong(f"is refused: {error}") from None


def _kind(kind: Any) -> str:
    words = {Cell: "a field", Count: "a reference count", KObject: "a kernel object", str: "a text", int: "a number"}
    return words.get(kind) or (kind if isinstance(kind, str) else f"a {kind.__name__.lower()}")
