"""Drills: seeded problems whose answers come from the simulator."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.feedback import SEEDS, problem
from vfiosim import Machine
from vfiosim.explore import explore
from vfiosim.lessons import drill
from vfiosim.lessons.drills import KINDS, Drill

EACH = pytest.mark.parametrize("kind", KINDS)


def right(made: Drill) -> tuple[str, ...]:
    answer = made.question.experiment().answer
    return (answer,) if isinstance(answer, str) else tuple(answer)


@EACH
def test_the_same_seed_gives_the_same_problem_and_others_differ(kind):
    asked = [problem(kind, seed).text for seed in SEEDS]
    assert [KINDS[kind](seed).text for seed in SEEDS[:3]] == asked[:3]
    assert len(set(asked)) > 6


@EACH
@pytest.mark.parametrize("seed", SEEDS)
def test_the_answer_of_the_simulator_is_one_of_those_offered_and_is_not_told_as_a_wrong_one(kind, seed):
    question = problem(kind, seed)
    answer = question.experiment().answer
    assert question.kind == "number" or set([answer] if isinstance(answer, str) else answer) <= set(question.choices)
    assert answer not in question.wrong


@EACH
def test_the_answer_of_the_simulator_is_right(kind):
    made = drill(kind, 3)
    verdict = made.answer(*right(made))
    assert "✓" in verdict
    assert "What misled you?" not in verdict


def test_two_mistakes_of_a_drill_about_order_have_different_errnos():
    for seed in SEEDS:
        assert len(problem("order", seed).choices) == 2


def test_what_two_calls_cannot_do_is_offered_beside_what_they_can():
    for seed in SEEDS:
        question = problem("schedule", seed)
        assert 1 < len(question.experiment().answer) < len(question.choices)


def test_a_way_that_was_not_thought_of_is_shown_step_by_step():
    made = drill("schedule", 0)
    possible = right(made)
    distractor = made.question.distractor(possible[:-1], possible)
    assert distractor.refute is not None
    shown = distractor.refute().trace
    assert {step.thread for step in shown} == {"A", "B"}


def test_sometimes_nothing_is_alive_and_sometimes_everything():
    answers = {len(problem("alive", seed).experiment().answer) for seed in SEEDS}
    assert {0, 5} <= answers


def test_a_drill_is_answered_by_letters_as_it_is_asked_by_letters():
    made = drill("errno", 7)
    letter = next(line.strip()[0] for line in made.ask().splitlines() if "argsz is less than" in line)
    assert "✓" in made.answer(letter)


def test_what_is_no_answer_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="is no answer here; answer with a letter from a to f"):
        drill("errno", 7).answer("z")
    with pytest.raises(ValueError, match="has one answer, not 2"):
        drill("errno", 7).answer("a", "b")
    with pytest.raises(ValueError, match="Type a whole number in digits"):
        drill("refs", 7).answer("many")


def test_an_unknown_drill_and_a_bad_seed_are_named():
    with pytest.raises(ValueError, match="no drill 'quiz'; there are errno, order, refs, alive, schedule"):
        drill("quiz")
    for seed in (-1, 1.5, "7", True):
        with pytest.raises(ValueError, match="a seed is a whole number from 0 on"):
            drill("errno", seed)  # type: ignore[arg-type]


def test_the_next_problem_has_the_next_seed():
    made = drill("refs", 3)
    made.problem.choice.value = "1"
    made.problem.commit.click()
    made.onward.click()
    assert made.seed == 4
    assert made.problem.right is None
    assert made.ask() == drill("refs", 4).ask()
    assert made.next().seed == 5


def test_a_drill_leaves_its_problem_behind_but_not_the_answer():
    bundle = drill("errno", 7)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("errno, seed 7.")
    assert "The simulator says" not in bundle["text/html"]
    assert "out_devid" not in bundle["text/plain"]  # what the kernel writes is none of what it was given


def test_a_drill_can_be_done_in_a_terminal():
    program = "from vfiosim.lessons import drill; d = drill('refs', 2); print(d.ask()); print(d.answer(2))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "✓ You predicted 2" in done.stdout


def test_of_two_threads_that_close_one_descriptor_one_is_refused():
    def machine(trace: bool = True) -> Machine:
        made = Machine(trace=trace)
        made.process("vmm").open("/dev/iommu")
        return made

    result = explore(machine, {"A": [("vmm", "close", 3)], "B": [("vmm", "close", 3)]}, [])
    assert result.complete
    assert result.outcome(A="0", B="EBADF")
    assert result.outcome(A="EBADF", B="0")
    assert len(result.outcomes) == 2
