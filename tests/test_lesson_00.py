"""The first page: its own solutions are played, and a typical wrong answer, through what a reader can press."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests import pictures
from vfiosim.lab import Bench, Exercise
from vfiosim.lab.question import as_distractor
from vfiosim.lab.record import progress
from vfiosim.lab.style import words
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import start
from vfiosim.lessons.start import QUESTIONS
from vfiosim.views.player import Player

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
    key, told = next(iter(QUESTIONS[name].wrong.items()))
    prediction.choice.value = key
    prediction.commit.click()
    assert "✕ You predicted" in prediction.message
    assert words(as_distractor(told).text) in prediction.message
    assert 0 < len(prediction.stage.trace) <= 20


def test_who_is_right_about_the_end_of_the_program_sees_it_too():
    prediction = start.predict("the program ends")
    prediction.choice.value = "free"
    prediction.commit.click()
    assert "Nobody holds file vfio0#1" in " ".join(step.sentence for step in prediction.stage.trace)


def test_who_is_right_is_promised_no_steps_that_do_not_come():
    assert "What this run shows: the gate is shut" in answered("unbound", "EINVAL")
    assert "The steps that decide it" not in answered("unbound", "EINVAL")
    assert "The steps that decide it:" in answered("unbound", "waits")


def test_a_refused_bind_gives_back_what_it_had_taken():
    steps = QUESTIONS["once more"].experiment().trace
    assert [step.phase for step in steps][-2:] == ["unwind", "unwind"]


def test_a_question_that_the_page_does_not_have_is_named():
    with pytest.raises(ValueError, match="no question 'twice'; there are unbound, once more"):
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
    assert "now: it is alive, and something still holds it" in message
    assert M.CLOSING_IS_RELEASING.name in message


def test_which_descriptor_it_is_nobody_fills_in_for_the_reader():
    exercise = start.free_it()
    for before in ((), (4,)):
        for fd in before:
            press(exercise, fd, "close")
        exercise.bench.buttons["close"].click()
        assert exercise.bench.fd.message.startswith("choose a descriptor; open: ")
    assert "✓" not in checked(exercise)


def test_a_copy_keeps_the_card_bound():
    exercise = start.keep_it()
    press(exercise, 3, "dup")
    press(exercise, 3, "close")
    assert "✓ Solved. You needed 2 calls; it takes no fewer." in checked(exercise)


def test_closing_without_a_copy_loses_the_binding_and_that_is_said():
    exercise = start.keep_it()
    press(exercise, 3, "close")
    assert "Descriptor 3 was the only arrow to the file." in checked(exercise)


@pytest.mark.parametrize("make", [start.free_it, start.keep_it])
def test_doing_nothing_solves_neither_task(make):
    assert checked(make()) == "Make a call first: press one of its buttons."


@pytest.mark.parametrize("make", [start.free_it, start.keep_it])
def test_the_hints_go_three_deep_and_the_solution_says_why(make):
    exercise = make()
    for depth in (1, 2, 3):
        exercise.hint.click()
        assert f"Hint {depth} of 3." in exercise.message
    exercise.solution.click()
    assert "close(3) → 0" in exercise.message
    assert "arrow" in exercise.message


# ---- what is seen first


def words_in(player: Player) -> set[str]:
    """The kernel's words in a picture: kinds of boxes, and names of rows."""
    graph = player.graph
    kinds = {part.split()[0] for node in graph.nodes for part in (node.parts[:1] if node.folded else node.parts)}
    return kinds | {row.cell for node in graph.nodes for row in node.rows if node.kind != "fds"}


def test_a_second_bind_waits_for_its_prediction_and_undo_gives_the_first_one_back(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    bench = start.first_bind()
    bind = bench.buttons["bind"]
    bind.click()
    assert bind.disabled
    bench.undo.click()
    assert not bind.disabled
    bind.click()
    assert bind.disabled
    progress.record("00 once more", False)
    assert not bind.disabled


def test_the_first_walk_has_half_the_words_and_no_counter_lies():
    bench = start.first_bind()
    bench.buttons["bind"].click()
    player = bench.trace_pane.player.player
    small = player.small()
    assert len(words_in(small)) <= 22
    assert len(words_in(small)) * 1.8 < len(words_in(player))
    for law in (pictures.miscounted, pictures.crossing, pictures.overlapping, pictures.misplaced):
        assert list(law(small)) == []


def test_the_sentences_of_the_first_walk_name_only_what_its_small_picture_draws():
    bench = start.first_bind()
    bench.buttons["bind"].click()
    player = bench.trace_pane.player.player
    data = player.data()
    drawn = {node.oid for node in player.small().graph.nodes}
    there = {name for state in player.trace.states() for name in state.objects}
    for stop in data["stops"]:
        said = data["brief"]["steps"][stop - 1]["sentence"]
        assert [name for name in there - drawn if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)] == [], said
    assert any("iommufd_ctx 1" in step["sentence"] for step in data["steps"]), "with all boxes it has its own name"


def test_each_stop_of_the_first_walk_moves_something_in_the_small_picture():
    bench = start.first_bind()
    bench.buttons["bind"].click()
    small = bench.trace_pane.player.player.small()
    stops = [0, *small.data()["stops"]]
    assert len(stops) == 9
    for before, after in pairwise(stops):
        assert small.frame(before) != small.frame(after), after


def test_boxes_of_the_small_picture_stay_where_they_are_when_the_call_is_made():
    bench = start.first_bind()
    before = spots(bench)
    bench.static_html()  # for a page without a kernel: a picture of its own
    bench.buttons["bind"].click()
    after = spots(bench)
    assert before == {oid: spot for oid, spot in after.items() if oid in before}


def spots(bench: Bench) -> dict[str, tuple[float, float]]:
    small = bench.trace_pane.player.player.small()
    return {
        node.oid: (small.layout.nodes[node.key].left, small.layout.nodes[node.key].top) for node in small.graph.nodes
    }


def test_every_picture_of_the_page_begins_as_small_as_the_first_one_and_each_of_its_stops_shows_something():
    for exercise, calls in ((start.free_it(), ["close"]), (start.keep_it(), ["dup", "close"])):
        for call in calls:
            press(exercise, 3, call)
            each_stop_shows_something(exercise.bench.trace_pane.player.player)
    for question in QUESTIONS.values():
        found = question.experiment()
        each_stop_shows_something(Player(found.trace, step=found.step, only=question.view, **question.options))


def each_stop_shows_something(player: Player) -> None:
    small, stops = player.small(), [0, *player.data()["stops"]]
    assert len(words_in(small)) < len(words_in(player))
    assert player.step in stops
    for before, after in pairwise(stops):
        ends = (player._frame(step) for step in (before, after))
        assert small.frame(before) != small.frame(after) or small.graph.read(*ends), player.trace[after - 1].sentence
