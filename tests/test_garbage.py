"""While hundreds of machines are kept Python looks for garbage seldom, and afterwards as often as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial

import pytest

from vfiosim.engine import seldom_collected
from vfiosim.engine.garbage import SELDOM
from vfiosim.explore import explore, sweep
from vfiosim.puzzles.programs import bind, ready_to_bind

OFTEN = (700, 10, 10)  # as Python does it by itself
ready = partial(ready_to_bind, "p")


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    before = gc.get_threshold()
    gc.freeze()  # what other tests have cached is not looked through so often
    gc.set_threshold(*OFTEN)
    yield
    gc.set_threshold(*before)


def test_schedules_and_failures_are_tried_with_few_looks_for_garbage() -> None:
    seen = []

    def stop() -> bool:
        seen.append(gc.get_threshold())
        return True

    explore(ready, {"A": [bind("p")], "B": [bind("p")]}, [], stop=stop)
    sweep(ready, bind("p"), stop=stop)
    assert seen == [SELDOM, SELDOM]
    assert gc.get_threshold() == OFTEN


def test_it_is_as_before_when_something_is_refused_within() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        explore(ready, {})
    assert gc.get_threshold() == OFTEN


def test_of_blocks_that_overlap_the_last_one_brings_back_what_was_before_the_first() -> None:
    first, second = seldom_collected(), seldom_collected()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() == SELDOM
    second.__exit__(None, None, None)
    assert gc.get_threshold() == OFTEN


@pytest.mark.parametrize("rarer", [(0, 10, 10), (50_000, 10, 10)])
def test_what_is_off_or_rarer_already_stays_so(rarer: tuple[int, int, int]) -> None:
    gc.set_threshold(*rarer)
    with seldom_collected():
        assert gc.get_threshold() == rarer
    assert gc.get_threshold() == rarer
