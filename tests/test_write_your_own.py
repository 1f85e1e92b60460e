"""The page for those who write their own: each block is run as it stands, and what it makes is what the page promises."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import ROOT
from vfiosim import replay

PAGE = (ROOT / "notebooks" / "write_your_own.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"^## A (\w+)$.*?```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
MADE = ("Question(", "design(", "devices = ", "Puzzle(", "Room(")  # what stands for each of them


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """What each block shows in the end, by its title, and the `puzzle`; all run one after the other, as in a notebook."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown: dict[str, Any] = {}
    for what, block in BLOCKS.items():
        *rest, last = ast.parse(block).body
        exec(compile(ast.Module(rest, []), what, "exec"), names)
        assert isinstance(last, ast.Expr)
        shown[what] = eval(compile(ast.Expression(last.value), what, "eval"), names)
    return {**shown, "puzzle": names["puzzle"]}


def test_the_page_has_a_question_a_level_a_topology_a_puzzle_and_a_room_of_at_most_ten_lines_each():
    assert [*BLOCKS] == ["question", "level", "topology", "puzzle", "room"]
    for block, begins in zip(BLOCKS.values(), MADE, strict=True):
        lines = block[block.index(begins) :].splitlines()
        data = lines[1 : next(number for number, line in enumerate(lines) if line == ")")]
        assert 0 < len(data) <= 10


def test_the_question_is_answered_by_its_experiment(made):
    asked = made["question"]
    asked.choice.value = "1"
    asked.commit.click()
    asked.reveal.click()
    assert asked.right is False
    assert "You thought of dup" in asked.message


def test_the_level_has_a_shortest_way_and_its_wrong_way_is_told(made):
    level = made["level"].exercise
    for move in ("close card", "open iommufd"):
        level.bench.buttons[move].click()
    level.check.click()
    assert "The helper has a descriptor of the same file." in level.message
    level.bench.buttons["kill helper"].click()
    level.check.click()
    assert "✓ Solved. You needed 3 calls; it takes no fewer." in level.message


def test_the_devices_of_the_topology_stand_on_the_bench(made):
    bench = made["topology"]
    assert [name.partition(",")[0] for name in bench.device.options] == ["vfio0: nic", "vfio1: left"]
    bench.buttons["open device"].click()
    assert bench.session.done[0].outcome.result == "3"


def test_the_puzzle_is_safe_and_broken_without_its_lock(made):
    puzzle = made["puzzle"]
    assert puzzle.explore().complete
    assert not puzzle.explore().violations
    broken = puzzle.explore(without=["group_lock"]).violations[0]
    assert puzzle.happens in broken.what
    assert broken.what in str(replay(broken.replay)), "the text that is told needs no name of the puzzle"


def test_the_room_has_a_way_into_its_bug_and_is_mended_by_the_kernels_own_function(made):
    room = made["room"].room
    assert "is open and counts 1 of its devices" in room.trace.what
    assert room.prove(recordings=False).clean


def test_a_room_whose_bug_is_another_one_than_it_says_is_told_what_goes_wrong(made):
    with pytest.raises(
        ValueError, match=r"says that 'a leak' happens, and this does: .*is open and counts 1 of its devices"
    ):
        _ = replace(made["room"].room, happens="a leak").trace
