"""What every lesson promises: the simulator's own answer is right, every answer is foreseen, the notebook asks everything."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.cells import code_of
from tests.conftest import ROOT
from tests.lesson_claims import answered
from vfiosim.answers import of_lesson
from vfiosim.lessons.ends import ENDS
from vfiosim.lessons.lesson import lessons
from vfiosim.lessons.levels import known
from vfiosim.lessons.levels_data import LEVELS
from vfiosim.trace import State

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
    assert misnumbered(question.experiment().trace.end) == []


def misnumbered(state: State) -> list[str]:
    """What an iommufd knows by another number than that of its name."""
    contexts = [thing for thing in state.objects.values() if thing.kind == "iommufd_ctx"]
    found = [(number, str(one)) for thing in contexts for number, one in thing.tables["objects"].items()]
    ids = [(number, name, name.rpartition(" ")[2].partition("#")[0]) for number, name in found]
    return [name for number, name, told in ids if told.isdigit() and told != f"{number}"]


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_what_a_level_makes_in_an_iommufd_is_named_after_its_id(level):
    assert misnumbered(level.exercise(known()[level.name]["way"]).task.solved().machine.trace.end) == []


def test_the_place_of_an_answer_does_not_tell_that_it_is_right():
    places: dict[str, list[str]] = {}
    for number, lesson in LESSONS.items():
        for question in (one for one in lesson.asked if one.kind == "choice"):
            keys = list(question.choices)
            at = keys.index(question.tidy(question.experiment().answer))
            places.setdefault(number, []).append("first" if not at else "last" if at == len(keys) - 1 else "between")
    told = [(number, *Counter(found).most_common(1)[0]) for number, found in places.items()]
    assert [one for one in told if one[2] > max(2, 0.67 * len(places[one[0]]))] == []
    overall = Counter(place for found in places.values() for place in found)
    assert min(overall.values()) > overall.total() / 5


def test_each_question_asks_something():
    texts = {question.name: question.text for lesson in LESSONS.values() for question in lesson.asked}
    assert [name for name, text in texts.items() if "?" not in text and "Put " not in text] == []


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


@pytest.mark.parametrize(
    ("stem", "asked", "told"),
    [("05_closing_in_any_order", 'predict("unbind")', "handover()"), ("11_museum", "quiz()", "levels()")],
)
def test_what_a_cell_would_give_away_is_asked_before_it(stem, asked, told):
    code = code_of(stem)
    assert code.index(asked) < code.index(told)


def test_answers_for_teachers_are_markdown_without_a_tag_and_a_lesson_of_tasks_alone_says_where_its_solutions_are():
    told = {lesson.number: "\n".join(of_lesson(lesson)) for lesson in lessons() if lesson.number in ("01", "13")}
    assert not re.search(r"</?\w+>", told["01"])
    assert "still shut: `access_granted` is 0" in told["01"]
    assert "The solution of each task is behind its button" in told["13"]
