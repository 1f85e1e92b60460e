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


def differing(patches: Functions, tell: Callable[[str], object] = str) -> Iterator[str]:
    """The names of the hand-written recorded scenarios that a kernel with these functions answers in another way.

    A function that is never called changes nothing, so only those scenarios are made again that call one of them. `tell` is
    called with what is done next.
    """
    scenarios = [(recording, one) for recording in _recordings() for one in recording.scenarios]
    for number, (recording, one) in enumerate(scenarios):
        tell(f"recording {number + 1} of {len(scenarios)}")
        if number not in _KNOWN:
            called: set[str] = set()
            _KNOWN[number] = _differs(recording, one, called=called), frozenset(called)
        differs, calls = _KNOWN[number]
        if differs if calls.isdisjoint(patches) else _differs(recording, one, patches):
            yield one["name"]


_KNOWN: dict[int, tuple[bool, frozenset[str]]] = {}  # does the kernel as it is answer it in another way; what it calls


def _differs(
    recording: Recording, one: Scenario, patches: Functions | None = None, called: set[str] | None = None
) -> bool:
    return bool(check_scenario(recording, one, patches, called).differences)
