"""The lesson about who holds whom: its own solution is played, and a typical wrong answer, through what a reader can press."""

from __future__ import annotations

import re
import statistics

import nbformat
import pytest

from tests.conftest import ROOT
from vfiosim.lab import Exercise, Prediction, Question
from vfiosim.lab.parsons import BORDER
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import who_holds_whom as lesson
from vfiosim.lessons.beginnings import bound_program
from vfiosim.lessons.who_holds_whom_questions import CHECK, QUESTIONS

pytestmark = pytest.mark.one_python

NOTEBOOK = ROOT / "notebooks" / "02_who_holds_whom.ipynb"
ALL = {**QUESTIONS, **{question.name: question for question in CHECK}}
EACH = pytest.mark.parametrize("name", ALL)


def answered(question: Question, value: object) -> Prediction:
    prediction = Prediction(question)
    prediction.choice.value = value
    prediction.commit.click()
    prediction.reveal.click()
    return prediction


# ---- the questions


@EACH
def test_the_answer_of_the_simulator_is_right(name):
    question = ALL[name]
    prediction = answered(question, question.tidy(question.experiment().answer))
    assert prediction.right is True
    assert "✓" in prediction.message


def test_a_mapping_alone_keeps_the_file():
    machine, process = bound_program()
    process.mmap(4096, 3, 3, 0)
    process.close(3)
    (path,) = machine.why("file vfio0#1").paths
    assert path.links[0].holder == "mm_struct vmm"


def test_a_question_that_the_lesson_does_not_have_is_named():
    with pytest.raises(ValueError, match="no question 'who'; there are fork, a second open"):
        lesson.predict("who")


# ---- the tasks


def press(exercise: Exercise, fd: int, name: str) -> None:
    exercise.bench.fd.text.value = str(fd)
    exercise.bench.buttons[name].click()


def test_the_first_task_is_solved_by_bind_dup_close():
    exercise = lesson.exercise()
    assert not exercise.solved
    exercise.bench.bind_fd.text.value = "3"
    exercise.bench.struct["iommufd"].set(4)
    exercise.bench.buttons["bind"].click()
    press(exercise, 3, "dup")
    press(exercise, 4, "close")
    exercise.check.click()
    assert "✓ Solved. You needed 3 calls; it takes no fewer." in exercise.message


def test_closing_before_the_bind_loses_the_iommufd_and_that_is_said():
    exercise = lesson.exercise()
    press(exercise, 4, "close")
    exercise.check.click()
    assert "wanted: iommufd_ctx 1 is alive; now: it is gone" in exercise.message
    assert "Descriptor 4 was the only holder" in exercise.message


def test_a_second_open_is_no_second_holder():
    exercise = lesson.exercise()
    exercise.bench.buttons["open device"].click()
    exercise.check.click()
    assert "wanted: f_ref of file vfio0#1 is 2; now: it is 1" in exercise.message
    assert M.SECOND_OPEN_IS_FINE.name in exercise.message


def ordered(*keys: str) -> str:
    puzzle = lesson.order()
    rest = [key for key in puzzle.order.value if key not in (*keys, BORDER)]
    puzzle.order.value = (*keys, BORDER, *rest)
    puzzle.check.click()
    return puzzle.message


@pytest.mark.parametrize(
    "keys", [("close 5", "del", "close 3"), ("del", "close 3", "close 5"), ("close 3", "del 5", "close 5")]
)
def test_the_second_task_has_several_right_orders(keys):
    assert "✓ Right." in ordered(*keys)


def test_closing_first_leaves_nothing_to_name_the_file_by():
    message = ordered("close 5", "close 3", "del")
    assert "The first wrong place is number 3" in message
    assert "The kernel says EBADF: 3 is not an open file." in message
    assert "FILE_DEL finds the file by descriptor 3, and that is closed already." in message


def test_an_order_that_frees_too_much_is_told_what_should_have_stayed():
    assert "wanted: a descriptor leads to an iommufd; now: there is none" in ordered(
        "del", "close 3", "close 5", "close 4"
    )


def test_the_quiz_is_answered_rightly_by_the_simulator():
    quiz = lesson.quiz()
    for one in quiz.questions:
        one.choice.value = one.question.experiment().answer
        one.commit.click()
    assert quiz.message == "3 of 3 right."


# ---- the notebook

HEADINGS = "You will need · Predict · Run · Investigate · Modify · Make · Check yourself · Recap · Source lines"


def cells(kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == kind]


def test_the_notebook_has_the_form_of_a_lesson():
    text, code = cells("markdown"), cells("code")
    assert re.findall(r"^## (.*)$", "\n".join(text), re.MULTILINE) == HEADINGS.split(" · ")
    assert 12 <= len(text) <= 18
    assert 12 <= len(code) <= 18
    assert 900 <= sum(len(source.split()) for source in text) <= 1500
    assert statistics.median(len(source.splitlines()) for source in code) <= 4
    assert "Linux 7.2" in "\n".join(text)


def test_the_notebook_asks_for_all_predictions_of_the_lesson():
    asked = re.findall(r'lesson\.predict\("(.*?)"\)', "\n".join(cells("code")))
    assert sorted(asked) == sorted(QUESTIONS)
    assert 3 <= len(asked) <= 5
