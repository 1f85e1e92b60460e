"""What is asked for by a name that there is not."""

from __future__ import annotations

from collections.abc import Collection


class ImpossibleError(ValueError):
    """What was asked for cannot be done as things stand; the message says why. In a notebook it stands there alone."""


class UnknownNameError(ImpossibleError):
    """There is nothing of this name; the message says which names there are."""


def must_be_one_of(names: Collection[str], name: str, what: str) -> None:
    """Raises UnknownNameError where this `name` is none of `names`; `what` they are names of, as in "call"."""
    if name not in names:
        raise UnknownNameError(f"there is no {what} {name!r}; there are {', '.join(names)}")
