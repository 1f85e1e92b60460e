"""A search in which a student's function takes part runs in a process of its own."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from vfiosim.engine import Engine, load
from vfiosim.explore import explore
from vfiosim.invariants import Invariant
from vfiosim.kernel.vfio.vfio import VfioDeviceFile
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.programs import bind, ready_to_bind


async def looks(df: Any) -> None:
    """A function of a student's own that does nothing wrong."""
    await load(df.access_granted)


def rule(what: Any) -> Invariant:
    """A rule that says what a function says, once the device is bound."""

    def broken(engine: Engine, df: VfioDeviceFile) -> Iterator[str]:
        if df.access_granted.value:
            yield what()

    return Invariant("said", VfioDeviceFile, ("vfio_device_file.access_granted",), lambda _: None, "", False, broken)


def searched(what: Any, patches: Any = None) -> Any:
    patches = {"vfio_df_open": looks} if patches is None else patches
    return explore(partial(ready_to_bind, "p"), {"A": [bind("p")]}, [rule(what)], patches=patches)


def test_only_a_students_function_has_a_process_of_its_own() -> None:
    here = f"in {os.getpid()}"
    alone, ours = searched(lambda: f"in {os.getpid()}"), searched(lambda: f"in {os.getpid()}", {})
    assert here in ours.counterexample.what
    assert here not in alone.counterexample.what
    assert "in " in alone.counterexample.what
    assert alone.outcomes.keys() == ours.outcomes.keys()
    assert len(alone.counterexample.machine.trace) > 0


def test_memory_without_end_ends_that_process_alone_and_is_told_as_a_limit() -> None:
    found = searched(lambda: str(len(b"a" * (1 << 32))))
    assert (found.verdict, found.complete) == ("unfinished", False)
    assert found.limit.startswith(
        "the process in which your function ran was ended: it needed more than 15 minutes, or a gigabyte"
    )


def test_what_a_rule_raises_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        searched(lambda: 1 // 0)


def test_progress_and_stop_are_asked_here() -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(os.getpid())
        return True

    puzzle = PUZZLES["R1"]
    found = explore(puzzle.setup, puzzle.programs(), [], patches={"vfio_df_open": looks}, stop=stop)
    assert (asked, found.schedules, found.limit) == ([os.getpid()], 1, "it was stopped")


def test_ctrl_c_stops_and_what_was_found_until_then_is_in_the_answer() -> None:
    here = os.getpid()

    def pressed_while_it_is_searched() -> None:
        os.kill(here, signal.SIGINT)
        time.sleep(600)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = searched(pressed_while_it_is_searched)
    finally:
        signal.signal(signal.SIGINT, before)
    assert found.limit == "it was stopped"
