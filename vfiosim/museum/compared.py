"""A mended kernel against the recordings of the real one: which scenarios does it answer in another way?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from ..assets import asset
from ..conformance import Recording, check_scenario, load

Functions = Mapping[str, Callable[..., Any]]
Scenario = Mapping[str, Any]
HAND_WRITTEN = (
    "hand-default",
    "hand-noiommu",
    "hand-compat",
    "hand-sriov",
)  # the recordings that a repair must not change


@cache
def _recordings() -> tuple[Recording, ...]:
    return tuple(load(asset(f"records/{name}.json.gz")) for name in HAND_WRITTEN)


def scenario(name: str) -> Scenario:
    """The hand-written scenario of this name."""
    return next(one for recording in _recordings() for one in recording.scenarios if one["name"] == name)


def differing(patches: Functions) -> Iterator[str]:
    """The names of the hand-written recorded scenarios that a kernel with these functions answers in another way.

    A function that is never called changes nothing, so only those scenarios are made again that call one of them.
    """
    for recording, one, called, differs in _known():
        if differs if called.isdisjoint(patches) else _differs(recording, one, patches):
            yield one["name"]


@cache
def _known() -> list[tuple[Recording, Scenario, frozenset[str], bool]]:
    """Each scenario, the kernel functions that it calls, and whether the kernel as it is answers it in another way."""
    found: list[tuple[Recording, Scenario, frozenset[str], bool]] = []
    for recording in _recordings():
        for one in recording.scenarios:
            called: set[str] = set()
            differs = _differs(recording, one, called=called)
            found.append((recording, one, frozenset(called), differs))
    return found


def _differs(
    recording: Recording, one: Scenario, patches: Functions | None = None, called: set[str] | None = None
) -> bool:
    return bool(check_scenario(recording, one, patches, called).differences)
