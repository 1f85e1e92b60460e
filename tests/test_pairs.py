"""Every pair of calls on the kernel as it is, in every schedule: nothing is broken but the listed surprises.

A pair with more schedules than can be seen in a few seconds ends there: nothing was found, and nothing is proved. A change looks
at the smallest machine, a night at all of them.
"""

from __future__ import annotations

import pytest

from tests.fuzz.run import SURPRISES
from tests.pairs import PAIRS, WORLDS
from vfiosim.explore import Result, explore

SECONDS = 3.0  # for a pair
# What may be found besides the surprises of the recorded kernel: a part of what is said of it, and the call that brings it about.
STAYS_ON_PURPOSE: dict[str, str] = {
    "left behind: slot ": "remove",  # hardware that is plugged in: a rescan would find it
    ".vectors is ": "interrupt",  # how many vectors there were, for what a program sees of them (`msi_qmax`)
}


def searched(world: str, one: str, other: str) -> Result:
    """All schedules of two calls, as far as the time goes."""
    machine, calls = WORLDS[world]
    return explore(machine, {"A": [calls[one]], "B": [calls[other]]}, seconds=SECONDS, first=True)


def is_known(what: str, calls: set[str]) -> bool:
    """Is it a listed surprise, or something that stays on purpose?"""
    surprises = [words for listed in SURPRISES.values() for words in listed]
    stays = [said for said, call in STAYS_ON_PURPOSE.items() if call in calls]
    return any(words in what for words in (*surprises, *stays))


def ids(pairs: list[tuple[str, str, str]]) -> list[str]:
    """How tests are named."""
    return [f"{world}: {one} and {other}" for world, one, other in pairs]


QUICK = [pair for pair in PAIRS if pair[0] == "passing"]
LONG = [pair for pair in PAIRS if pair[0] != "passing"]


def test_what_is_sent_and_signalled_is_safe_in_all_schedules() -> None:
    verdicts = {pair: searched(*pair).verdict for pair in QUICK}
    assert set(verdicts.values()) == {"safe"}


@pytest.mark.nightly
@pytest.mark.parametrize(("world", "one", "other"), LONG, ids=ids(LONG))
def test_two_calls_at_once_break_nothing_but_for_the_listed_surprises(world: str, one: str, other: str) -> None:
    result = searched(world, one, other)
    assert "not modelled" not in result.limit
    if result.counterexample is not None:
        assert is_known(result.counterexample.what, {one, other}), f"{one} ‖ {other}: {result.counterexample}"
