"""Searches that several tests look at: each is done once, and who looks at the same one runs in the same process."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import pytest

from tests.turns import away, by_night, turns
from vfiosim.explore import Result
from vfiosim.museum import ROOMS, Room
from vfiosim.puzzles import PUZZLES, Puzzle

# Two functions that mend the room "failed-second-bind" of the museum; one of them alone is half a repair.
ONLY_THE_PUT = '''
async def vfio_device_put_kvm(device):
    """Only who closes the device last gives its VM back."""
    if await load(device.open_count) == 0:
        kvm = await load(device.kvm)
        if kvm is not None:
            await kvm_put_kvm(kvm, device, BOUND_FOR)
            await store(device.kvm, None)
'''
NO_SECOND_GET = '''
async def vfio_df_get_kvm_safe(df):
    """Only the first open of the device takes a VM."""
    async with df.kvm_ref_lock:
        if await load(df.device.open_count) == 0:
            await vfio_device_get_kvm_safe(df.device, await load(df.kvm))
'''


@cache
def protected(name: str) -> Result:
    """A puzzle with its protection, mended where the kernel has none."""
    return PUZZLES[name].explore(patches=PUZZLES[name].fixes)


@cache
def broken(name: str, way: int) -> Result:
    """A puzzle, broken in one of its ways."""
    return PUZZLES[name].explore(*PUZZLES[name].ways[way])


@cache
def vast(name: str, protection: str) -> Result:
    """A puzzle without a protection that leaves too many schedules to see them all."""
    return PUZZLES[name].explore([protection])


def beside(what: str) -> pytest.MarkDecorator:
    """The mark of tests that share searches: pytest-xdist gives them all to one worker."""
    return pytest.mark.xdist_group(what)


def each_puzzle(puzzles: Iterable[Puzzle] = PUZZLES.values(), *, days: int = 1) -> pytest.MarkDecorator:
    """A test of each puzzle, which has its turn within so many days."""
    return pytest.mark.parametrize("puzzle", turns(_searched(puzzles), days))


def each_way(*, again: bool = False) -> pytest.MarkDecorator:
    """A test of each way to break each puzzle; of a search that is done `again`, by day only the first of each sixth puzzle."""
    ways = [(at, puzzle, way) for at, puzzle in enumerate(PUZZLES.values()) for way in range(len(puzzle.ways))]
    params = [
        pytest.param(
            one, way, id=f"{one.name}-{way}", marks=[beside(one.name), *by_night(again and (way or away(at, 6)))]
        )
        for at, one, way in ways
    ]
    return pytest.mark.parametrize(("puzzle", "number"), params)


def each_room(rooms: Iterable[Room] = ROOMS.values(), *, days: int = 1) -> pytest.MarkDecorator:
    """A test of each room of the museum, which has its turn within so many days."""
    return pytest.mark.parametrize("room", turns(_searched(rooms), days))


def _searched(things: Iterable[Puzzle | Room]) -> list[Any]:
    return [pytest.param(one, id=one.name, marks=beside(one.name)) for one in things]


def printed(code: str) -> list[str]:
    """The lines that a program prints."""
    out: Any = io.StringIO()
    with redirect_stdout(out):
        exec(code, {})
    return out.getvalue().splitlines()
