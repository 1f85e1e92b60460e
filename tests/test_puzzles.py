"""Every puzzle, proved: with the protection no schedule goes wrong, without it the explorer finds what the catalogue tells."""

import pytest

from tests.searches import beside, broken, each_puzzle, each_way, protected, vast
from vfiosim.explore.statistics import SHORTEST
from vfiosim.puzzles import PUZZLES, Puzzle


@each_puzzle()
def test_where_it_is_protected_no_schedule_goes_wrong(puzzle: Puzzle) -> None:
    result = protected(puzzle.name)
    assert result.complete
    assert [witness.what for witness in result.violations] == []


@each_way()
def test_without_its_protection_the_explorer_finds_what_goes_wrong_and_the_shortest_way_there(
    puzzle: Puzzle, number: int
) -> None:
    result = broken(puzzle.name, number)
    assert result.complete
    found = [witness for witness in result.violations if puzzle.happens_in(number) in witness.what]
    assert found, [witness.what for witness in result.violations]
    assert min(map(len, found)) == puzzle.shortest[number]


VAST = [(puzzle, name) for puzzle in PUZZLES.values() for name in puzzle.vast]


@pytest.mark.parametrize(
    ("puzzle", "name"),
    [pytest.param(puzzle, name, id=f"{puzzle.name}-{name}", marks=beside(puzzle.name)) for puzzle, name in VAST],
)
def test_where_there_are_too_many_schedules_the_shortest_way_is_proved_to_be_the_shortest(
    puzzle: Puzzle, name: str
) -> None:
    result = vast(puzzle.name, name)
    assert (result.verdict, result.complete) == ("broken", False)
    assert result.limit == SHORTEST.format(50)
    assert result.counterexample is not None
    assert (result.counterexample.what, len(result.counterexample)) == puzzle.vast[name]


@each_puzzle()
def test_a_puzzle_can_be_broken_in_at_least_one_way(puzzle: Puzzle) -> None:
    assert len(puzzle.shortest) == len(puzzle.ways) > 0
