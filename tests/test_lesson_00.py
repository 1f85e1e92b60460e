"""The first page: its own solutions are played, and a typical wrong answer, through what a reader can press."""

from __future__ import annotations

import pytest

from vfiosim.lab import Exercise
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import start
from vfiosim.lessons.start import QUESTIONS

pytestmark = pytest.mark.one_python

EACH = pytest.mark.parametrize("name", QUESTIONS)


def answered(name: str, value: str) -> str:
    prediction = start.predict(name)
    prediction.choice.value = value
    prediction.commit.click()
    return prediction.message


def press(exercise: Exercise, fd: int, name: str) -> None:
    exercise.bench.fd.text.value = str(fd)
    exercise.bench.buttons[name].click()


def checked(exercise: Exercise) -> str:
    exercise.check.click()
    return exercise.message


# ---- the questions


def test_one_press_binds():
    bench = start.first_bind()
    bench.buttons["bind"].click()
    assert "out_devid = 1" in bench.message


@EACH
def test_one_press_answers_and_shows_the_steps_to_who_was_wrong(name):
    prediction = start.predict(name)
    prediction.choice.value = next(iter(QUESTIONS[name].wrong))
    prediction.commit.click()
    assert "✕ You predicted" in prediction.message
    assert "What misled you?" in prediction.message
    assert 0 < len(prediction.children[-1].trace) <= 20


def test_who_is_right_is_promised_no_steps_that_do_not_come():
    assert "What this run shows: step 10 of 18: the card is opened (vfio_device vfio0.open_count)" in answered(
        "last", "gate"
    )
    assert "The steps that decide it" not in answered("last", "gate")
    assert "The steps that decide it:" in answered("last", "device")


def test_a_refused_bind_gives_back_what_it_had_taken():
    steps = QUESTIONS["once more"].experiment().trace
    assert [step.phase for step in steps][-2:] == ["unwind", "unwind"]


def test_a_question_that_the_page_does_not_have_is_named():
    with pytest.raises(ValueError, match="no question 'twice'; there are once more, last"):
        start.predict("twice")


# ---- the tasks


def test_the_card_is_free_when_its_own_file_is_closed():
    exercise = start.free_it()
    press(exercise, 3, "close")
    assert "✓ Solved. You needed 1 call; it takes no fewer." in checked(exercise)


def test_closing_the_iommufd_frees_nothing_and_is_called_by_its_name():
    exercise = start.free_it()
    press(exercise, 4, "close")
    message = checked(exercise)
    assert "now: it is alive, held by fds vmm (fd 3)" in message
    assert M.CLOSING_IS_RELEASING.name in message


def test_a_copy_keeps_the_card_bound():
    exercise = start.keep_it()
    press(exercise, 3, "dup")
    press(exercise, 3, "close")
    assert "✓ Solved. You needed 2 calls; it takes no fewer." in checked(exercise)


def test_closing_without_a_copy_loses_the_binding_and_that_is_said():
    exercise = start.keep_it()
    press(exercise, 3, "close")
    assert "Descriptor 3 was the only arrow to the file." in checked(exercise)


def test_doing_nothing_solves_neither_task():
    assert "wanted: file vfio0#1 is gone; now: it is alive" in checked(start.free_it())
    assert "wanted: descriptor 3 is closed; now: it leads to file vfio0#1" in checked(start.keep_it())


@pytest.mark.parametrize("make", [start.free_it, start.keep_it])
def test_the_hints_go_three_deep_and_the_solution_says_why(make):
    exercise = make()
    for depth in (1, 2, 3):
        exercise.hint.click()
        assert f"Hint {depth} of 3." in exercise.message
    exercise.solution.click()
    assert "close(3) → 0" in exercise.message
    assert "arrow" in exercise.message
