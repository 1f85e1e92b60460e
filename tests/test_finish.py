"""The end of a notebook: it says what is open, and when all is answered what the reader can do."""

from __future__ import annotations

import re

import pytest

from vfiosim.lab.record import progress
from vfiosim.lab.style import anchor
from vfiosim.lessons import museum, one_bind, order_of_checks, races, start, who_holds_whom
from vfiosim.lessons.lesson import lessons
from vfiosim.lessons.museum_questions import QUESTIONS


@pytest.fixture(autouse=True)
def nothing_answered() -> None:
    progress.reset()


def test_it_follows_the_answers_and_at_the_end_says_what_the_reader_can_do_and_what_is_next():
    end = start.finish()
    assert "0 of 5 right" in end.message
    assert "Next." not in end.message  # the page ends there, and says it
    for number, name in enumerate(end.end.names):
        assert end.end.called.get(name, name.removeprefix("00 ")) in end.left
        progress.record(name, False)
        assert f"{number} of 5 right" in end.message
        progress.record(name, True)
    assert end.left == []
    assert "All 5 right. You can now follow a call of the kernel" in end.message
    assert "03_order_of_checks" in who_holds_whom.finish().shown.value


def test_it_tells_what_was_answered_wrongly_from_what_was_not_tried_and_how_to_try_again():
    progress.record("00 once more", False)
    progress.record("00 unbound", True)
    assert start.finish().message.startswith(
        "1 of 5 right. Not right yet: once more ; press Reset there and try again. "
        "Not tried yet: the program ends ; set the card free ; keep the card bound ."
    )


@pytest.mark.parametrize(
    ("lesson", "tasks"),
    [
        (
            order_of_checks,
            (order_of_checks.probes, order_of_checks.order, order_of_checks.exercise, order_of_checks.errors),
        ),
        (races, (races.by_hand, races.turns, races.mend)),
    ],
)
def test_what_is_still_open_leads_to_where_it_is_asked(lesson, tasks):
    asked = [
        *map(lesson.predict, lesson.LESSON.questions),
        *lesson.LESSON.quiz().questions,
        *(task() for task in tasks),
    ]
    places = {place for one in asked for place in re.findall(r'<b id="([^"]+)">', one.static_html())}
    assert {anchor(name) for name in lesson.LESSON.exercises} <= places
    progress.record(first := lesson.LESSON.main[0], False)
    assert f'Not right yet: <a href="#{anchor(first)}">' in lesson.finish().shown.value


@pytest.mark.parametrize("lesson", [start, one_bind, who_holds_whom, order_of_checks, races])
def test_it_knows_every_question_and_task_by_the_name_under_which_its_answer_is_kept(lesson):
    end = lesson.finish().end
    assert all(name.startswith(f"{end.lesson} ") for name in end.names)
    assert len({*end.names}) == len(end.names) >= 5


def test_a_question_is_called_what_the_notebook_calls_it_and_the_quiz_comes_last():
    left = museum.finish().left
    assert left[:5] == [*QUESTIONS]
    assert left[-3:] == ["Check yourself 1", "Check yourself 2", "Check yourself 3"]


def test_when_all_answers_are_forgotten_it_says_so():
    end = start.finish()
    progress.record(end.end.names[0], True)
    progress.reset()
    assert "0 of 5 right" in end.message


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)
def test_no_two_exercises_of_a_notebook_are_called_the_same_and_none_by_its_key(lesson):
    left = lesson.finish().left
    assert len({*left}) == len(left)
    assert not [name for name in left if name.startswith(("task: ", "order: ", "level: ", "check: "))]
