"""What the puzzles tell is fit to be read, names what is there, and is the same each time."""

import re
from collections import Counter

import pytest

from tests.searches import beside, broken, each_puzzle, each_way, printed, protected
from vfiosim import replay
from vfiosim.engine import functions
from vfiosim.explore import explore
from vfiosim.explore.model import Programs
from vfiosim.invariants import INVARIANTS
from vfiosim.puzzles import PUZZLES, Puzzle, can_end, groups, lifetimes
from vfiosim.puzzles.words import outcome_words

LATER = (
    "at rest",
    "when every",
    "left behind",
    "waits",
    "deadlock",
    "lock order",
    "given back",
)  # what no check tells then
every = each_puzzle()


@every
def test_a_puzzle_is_called_as_in_the_catalogue(puzzle: Puzzle) -> None:
    assert re.fullmatch(r"R\d+", puzzle.name)


@every
def test_the_title_of_a_puzzle_does_not_give_away_what_happens(puzzle: Puzzle) -> None:
    title, happens = (set(re.findall("[a-z]{4,}", text.lower())) for text in (puzzle.title, puzzle.happens))
    assert len(title & happens) <= 1


def test_no_two_puzzles_have_one_name_or_one_title() -> None:
    everything = [puzzle for room in (groups, lifetimes) for puzzle in room.PUZZLES]
    assert len(PUZZLES) >= len(everything)
    for what in ("name", "title"):
        again = [value for value, n in Counter(getattr(p, what) for p in PUZZLES.values()).items() if n > 1]
        assert again == []


def test_the_puzzles_are_in_the_order_of_the_catalogue() -> None:
    assert list(PUZZLES) == sorted(PUZZLES, key=lambda name: int(name[1:]))


@every
def test_a_story_is_short_and_of_whole_sentences(puzzle: Puzzle) -> None:
    assert 0 < len(puzzle.story) <= 400
    assert re.fullmatch(r"[A-Z].*\.", puzzle.story)
    assert len(puzzle.title.split()) <= 10


@every
def test_the_source_names_a_file_a_function_and_the_tag(puzzle: Puzzle) -> None:
    assert re.search(r"\w+\.[ch]: \w+", puzzle.source)
    assert "v7.2" in puzzle.source


@every
def test_the_functions_that_a_puzzle_replaces_are_kernel_functions(puzzle: Puzzle) -> None:
    assert set(puzzle.faulty) | set(puzzle.fixes) <= set(functions.FUNCTIONS)


@each_puzzle(one for one in PUZZLES.values() if len(one.programs()) > 1)
def test_a_puzzle_of_several_threads_says_of_at_least_one_outcome_that_it_can_happen(puzzle: Puzzle) -> None:
    outcomes = [one for one in puzzle.properties if callable(one)]
    assert outcomes
    assert all(one.__doc__ for one in outcomes)


@beside("R1")
def test_an_outcome_that_never_happens_is_told_in_its_own_words() -> None:
    never = can_end("both have the group", A="3", B="0")
    assert not any(never(dict(outcome)) for outcome in protected("R1").outcomes)
    assert never.__doc__ == "both have the group"


@every
def test_a_puzzle_begins_alike_each_time(puzzle: Puzzle) -> None:
    begun = [puzzle.setup() for _ in range(3)]
    assert begun[0].trace == begun[1].trace == begun[2].trace


@each_way(again=True)
def test_the_counterexample_is_the_same_each_time(puzzle: Puzzle, number: int) -> None:
    first, second = broken(puzzle.name, number), puzzle.explore(*puzzle.ways[number])
    assert first.counterexample is not None
    assert first.counterexample.schedule
    assert [one.schedule for one in first.violations] == [one.schedule for one in second.violations]
    assert [one.what for one in first.violations] == [one.what for one in second.violations]
    assert list(first.outcomes) == list(second.outcomes)


@each_way()
def test_what_happens_happens_on_the_traced_machine_too(puzzle: Puzzle, number: int) -> None:
    happens = puzzle.happens_in(number)
    found = min((one for one in broken(puzzle.name, number).violations if happens in one.what), key=len)
    assert len(found.trace.steps) > 0
    if (
        not found.what.startswith(LATER) and "Nobody did this: " not in found.what
    ):  # what a sweep compares is no invariant
        assert found.what in found.machine.check()
        assert found.what in replay(found.replay).machine.check()
        assert found.what in printed(found.code)


def test_a_protection_that_the_programs_never_meet_cannot_be_taken_out() -> None:
    with pytest.raises(ValueError, match="never use 'domains_rwsem'"):
        PUZZLES["R1"].explore(["domains_rwsem"])


@beside("R9")
def test_what_goes_wrong_only_when_the_processes_end_is_told_too() -> None:
    told = [one.what for one in broken("R9", 0).violations]
    assert any(what.startswith("when every process ends: oops") for what in told), told


def test_how_calls_end_tells_descriptors_from_other_numbers() -> None:
    programs: Programs = {"A": [("vmm", "open", "/dev/iommu")], "B": [("vmm", "close", 3), ("vmm", "close", 3)]}
    ended = (("A", ("3",)), ("B", ("0", "EBADF")))
    assert outcome_words(programs, ended) == "A gets descriptor 3; B gets 0, then is refused: EBADF"


@every
def test_all_invariants_are_looked_at_but_for_a_few_that_are_named(puzzle: Puzzle) -> None:
    result = broken(puzzle.name, 0)
    if len(puzzle.programs()) > 1:
        assert set(result.left_out) == set(puzzle.leaves_out)
    assert len(puzzle.leaves_out) <= 5
    assert all(name in str(result) for name in puzzle.leaves_out)


@beside("R1")
def test_what_was_looked_at_is_told_with_its_names_where_they_are_few() -> None:
    puzzle = PUZZLES["R1"]
    one = explore(puzzle.setup, puzzle.programs(), ["group_counts_bindings"])
    assert "Looked at: 1 invariant after every effect (group_counts_bindings), all when a schedule ends; and" in str(
        one
    )
    assert one.looked_at == ("group_counts_bindings",)
    told = str(protected("R1"))
    assert f"Looked at: all {len(INVARIANTS)} invariants after every effect; and use after free" in told
