"""What every lesson promises: the simulator's own answer is right, every answer is foreseen, the notebook asks everything."""

from __future__ import annotations

import re

import pytest

from tests.cells import code_of
from tests.conftest import ROOT
from tests.lesson_claims import answered
from vfiosim.lessons.ends import ENDS
from vfiosim.lessons.lesson import lessons

pytestmark = pytest.mark.one_python

LESSONS = {lesson.number: lesson for lesson in lessons()}
STEMS = {path.stem[:2]: path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
EACH = pytest.mark.parametrize("number", LESSONS)
QUESTION = pytest.mark.parametrize(
    ("number", "question"),
    [
        pytest.param(number, question, id=question.name)
        for number, lesson in LESSONS.items()
        for question in lesson.asked
    ],
)


@QUESTION
def test_the_answer_of_the_simulator_is_right_and_kept_under_the_number_of_its_lesson(number, question):
    assert question.name.startswith(f"{number} ")
    prediction = answered(question, question.tidy(question.experiment().answer))
    assert prediction.right is True
    assert "✓" in prediction.message


@EACH
def test_the_notebook_asks_for_all_predictions_of_its_lesson_and_a_name_that_it_lacks_is_told_which_there_are(number):
    lesson = LESSONS[number]
    assert sorted(re.findall(r'\.predict\("(.*?)"\)', code_of(STEMS[number]))) == sorted(lesson.questions)
    with pytest.raises(ValueError, match=f"no question 'x'; there are {re.escape(next(iter(lesson.questions), ''))}"):
        lesson.predict("x")


@pytest.mark.parametrize("number", [number for number, lesson in LESSONS.items() if lesson.check])
def test_the_quiz_is_answered_rightly_by_the_simulator(number):
    quiz = LESSONS[number].quiz()
    for one in quiz.questions:
        one.choice.value = one.question.tidy(one.question.experiment().answer)
        one.commit.click()
    assert quiz.message == f"{len(quiz.questions)} of {len(quiz.questions)} right."


def test_every_notebook_but_the_free_bench_is_a_lesson_with_an_end():
    assert sorted(LESSONS) == sorted(ENDS) == sorted(STEMS.keys() - {"90"})
