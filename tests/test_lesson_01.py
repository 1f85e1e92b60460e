"""The lesson about one BIND: its own solutions are played, and typical wrong answers, through what a reader can press."""

from __future__ import annotations

import pytest

from tests.lesson_claims import answered, ordered
from vfiosim.lab import Exercise
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import one_bind as lesson
from vfiosim.lessons.one_bind_questions import CHECK
from vfiosim.views.player import Player

ALL = {**lesson.LESSON.questions, **{question.name: question for question in CHECK}}
EACH = pytest.mark.parametrize("name", ALL)

TYPICAL = {
    "another file": "0",
    "two cards": "1",
    "which error wins?": "EBADF",
    "close the iommufd first": "none",
    "a device without DMA": "EINVAL",
    "01 check: two wrong fields": "EBADF",
    "a copy": "3",
    "01 check: after a refusal": "1",
}


# ---- the questions


@EACH
def test_a_typical_wrong_answer_is_told_what_misled_and_shown_a_run(name):
    prediction = answered(ALL[name], TYPICAL[name])
    assert prediction.right is False
    assert "What misled you?" in prediction.message
    assert 0 < len(prediction.stage.trace) <= 20


@EACH
def test_every_question_has_its_own_name_for_the_progress(name):
    assert ALL[name].name.startswith("01 ")
    assert len({question.name for question in ALL.values()}) == len(ALL)


# ---- the benches


@pytest.mark.parametrize("bench", [lesson.bind, lesson.kvm])
def test_what_no_lesson_so_far_needs_is_not_drawn_and_every_arrow_stays(bench):
    shown = bench()
    shown.buttons["bind"].click()
    player = shown.trace_pane.player.player
    drawn = {row.cell for node in player.graph.nodes for row in node.rows}
    assert drawn.isdisjoint(lesson.NOT_YET)
    assert {"access_granted", "open_count", "users"} < drawn
    whole = Player(player.trace, only=lesson.BIND)
    assert {row.cell for node in whole.graph.nodes for row in node.rows}.issuperset(lesson.NOT_YET)
    last = len(player.trace)
    edges = [{edge.key for edge in one.graph.edges if one.frame(last).get(edge.key)} for one in (player, whole)]
    assert len(edges[0]) >= len(edges[1])


# ---- the first task: every refusal


@pytest.fixture
def errors() -> Exercise:
    return lesson.errors()


def bind(exercise: Exercise, **fields: int) -> None:
    for name, value in {"argsz": 24, "flags": 0, "iommufd": 4, **fields}.items():
        exercise.bench.struct[name].set(value)
    exercise.bench.bind_fd.text.value = "3"
    exercise.bench.buttons["bind"].click()


def checked(exercise: Exercise) -> str:
    exercise.check.click()
    return exercise.message


def test_every_refusal_can_be_met_with_eleven_calls(errors):
    for fields in ({"argsz": 8}, {"argsz": 4096}, {"flags": 2}, {"iommufd": -1}, {"iommufd": 777}, {"iommufd": 3}):
        bind(errors, **fields)
    errors.bench.buttons["open group"].click()
    bind(errors)
    errors.bench.fd.text.value = "5"
    errors.bench.buttons["close"].click()
    bind(errors)
    bind(errors)
    assert "✓ Solved. You needed 11 calls; it takes no fewer." in checked(errors)


def test_what_is_left_to_be_met_is_told(errors):
    bind(errors, iommufd=777)
    message = checked(errors)
    assert "EINVAL: 4 more checks to meet EFAULT: 1 more check to meet" in message
    assert "EBADF:" not in message


def test_a_hint_is_about_what_check_names_first(errors):
    for fields in ({}, {"argsz": 8}, {"flags": 2}, {"iommufd": -1}, {"argsz": 4096}):
        if fields:
            bind(errors, **fields)
        hints = lesson.ways_to_meet(errors.bench.session)
        first = lesson.still_to_meet(errors.bench.session)[0].partition(":")[0]
        assert hints[0].startswith(f"<b>{first}</b>: ")
        assert hints[1].startswith(f"<b>{first}</b>: ")


def test_what_makes_a_check_refuse_is_for_the_reader_to_find(errors):
    told = checked(errors)
    bind(errors, argsz=8)
    told += checked(errors)
    assert not [cause for cause in ("argsz", "flag", "descriptor", "kind", "bound already") if cause in told]


@pytest.mark.parametrize("fields", [{"flags": 1}, {"argsz": 4096}, {"iommufd": -1}])
def test_each_way_to_a_refusal_counts(errors, fields):
    bind(errors, **fields)
    errno = "EINVAL" if "iommufd" in fields else "EFAULT"
    assert errno in errors.bench.message
    pane = errors.bench.trace_pane
    at = pane.step
    assert ("EINVAL: 3 more" if errno == "EINVAL" else "EINVAL: 4 more") in checked(errors)
    assert pane.step == at
    assert ("EFAULT" in errors.message) == (errno == "EINVAL")


def test_who_binds_too_early_is_told_what_that_shuts_off_and_undo_leads_back(errors):
    bind(errors)
    bind(errors, iommufd=777)
    assert "EBADF: 1 more check to meet" in checked(errors)
    assert "The file is bound now, so" in errors.message
    errors.bench.undo.click()
    errors.bench.undo.click()
    bind(errors, iommufd=777)
    assert "The file is bound now, so" not in checked(errors)


def test_a_refusal_that_is_taken_back_does_not_count(errors):
    bind(errors, argsz=8)
    bind(errors, flags=2)
    assert "EINVAL: 2 more checks to meet" in checked(errors)
    errors.bench.undo.click()
    assert "EINVAL: 3 more checks to meet" in checked(errors)


# ---- the second task: the steps in order


RIGHT = ("argument", "group", "lock", "iommufd", "device", "object", "id", "gate")


def test_the_steps_of_a_bind_are_in_the_order_of_a_run():
    assert "✓ Right." in ordered(lesson.order(), *RIGHT)


def test_a_gate_that_opens_early_is_told_what_would_be_behind_it():
    message = ordered(lesson.order(), "argument", "group", "lock", "gate", "iommufd", "device", "object", "id")
    assert "The first wrong place is number 4" in message
    assert "Other calls may use the device as soon as the gate is open" in message


def test_a_bind_that_succeeds_unwinds_nothing():
    assert "A BIND that succeeds gives nothing back" in ordered(lesson.order(), *RIGHT, "unwind")


# ---- the third task: set the device free


def test_the_third_task_is_solved_by_the_list_first_and_then_the_numbers():
    exercise = lesson.exercise()
    exercise.bench.listed.text.value = "3"
    exercise.bench.kv.text.value = str(
        next(fd for fd, file in exercise.bench.session.descriptors().items() if "kvm-vfio" in file.label)
    )
    exercise.bench.buttons["FILE DEL"].click()
    for fd in (3, 5):
        exercise.bench.fd.text.value = str(fd)
        exercise.bench.buttons["close"].click()
    assert "✓ Solved. You needed 3 calls" in checked(exercise)


def test_who_closes_both_numbers_first_is_told_that_something_else_holds():
    exercise = lesson.exercise()
    for fd in (3, 5):
        exercise.bench.fd.text.value = str(fd)
        exercise.bench.buttons["close"].click()
    message = checked(exercise)
    assert "something still holds it" in message
    assert M.ONE_NUMBER_ONE_HOLDER.name in message


@pytest.mark.parametrize("make", [lesson.errors, lesson.exercise])
def test_the_hints_go_three_deep_and_the_solution_is_explained(make):
    exercise = make()
    for depth in (1, 2, 3):
        exercise.hint.click()
        assert f"Hint {depth} of 3." in exercise.message
    exercise.solution.click()
    assert "Solution." in exercise.message
    assert exercise.message.count("→") >= 3


# ---- the quiz, and the notebook
