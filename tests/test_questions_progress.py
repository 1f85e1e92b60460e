"""What was answered is kept, shown and forgotten, and is never in the way; and the presenter's switch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfiosim import lab
from vfiosim.lab import Finding, Prediction, Progress, Question, Session, Slip, present, presenter
from vfiosim.lab.record import VARIABLE
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import one_bind, races


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    path: Path = tmp_path / "deep" / "progress.json"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@pytest.fixture
def room():
    """Presenter mode, for one test."""
    presenter.on = True
    yield presenter
    presenter.on = False


def question() -> Question:
    choices = {"yes": "it is", "no": "it is not"}
    wrong = {"no": Slip("But it is.", M.OPEN_IS_ENOUGH)}
    return Question("Is it?", lambda: Finding("yes", Session().steps, 0), "so.", choices, wrong, name="it")


# ---- progress


def test_answers_are_kept_across_sessions(file):
    Progress().record("a", True)
    Progress().record("a", False)
    assert Progress().answers == {"a": (2, 1, True)}
    assert json.loads(file.read_text())["version"] == 1


def test_an_answer_to_a_question_with_a_name_is_recorded(file):
    prediction = Prediction(question())
    for value in ("no", "yes"):
        prediction.choice.value = value
        prediction.commit.click()
        prediction.reveal.click()
        prediction.again.click()
    assert lab.progress.answers["it"] == (2, 1, False)


def test_a_second_press_that_was_on_its_way_does_not_count(file):
    prediction = Prediction(question(), quick=True)
    prediction.choice.value = "yes"
    for _ in range(3):
        prediction.commit.click()
        prediction.reveal.click()
    assert lab.progress.answers["it"] == (1, 1, True)


def test_making_and_showing_questions_writes_nothing(file):
    prediction = Prediction(question())
    prediction._repr_mimebundle_()
    lab.progress.show()._repr_mimebundle_()
    assert not file.exists()


def test_the_overview_says_what_was_right_and_where_it_is_kept(file):
    made = Progress()
    made.record("a", True)
    made.record("b", False)
    text = str(made)
    assert text.startswith(f"1 of 2 answered rightly, 1 of them at the first try. Kept in {file}.")
    assert "✕ b: 1 try, 0 right" in text


def test_the_overview_has_a_button_to_look_again_and_one_to_forget(file):
    made = Progress()
    overview = made.show()
    made.record("a<b", True)
    assert "No question has been answered yet." in overview.message
    overview.look.click()
    assert "a<b: 1 try, 1 right" in overview.message
    overview.reset.click()
    assert "No question has been answered yet." in overview.message
    assert Progress().answers == {}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"answers": {"a": {"tries": "x"}}}', '{"answers": 3}', "[" * 100_000]
)
def test_a_damaged_file_is_put_aside_and_said_in_one_sentence(file, content):
    file.parent.mkdir()
    file.write_text(content)
    made = Progress()
    made.record("a", True)
    assert made.answers == {"a": (1, 1, True)}
    aside = file.with_name("progress.json.damaged")
    assert aside.read_text() == content
    assert f"could not be read; it is now {aside}" in made.kept


def test_a_file_that_is_no_text_is_put_aside(file):
    file.parent.mkdir()
    file.write_bytes(b"\xff\xfe\x00")
    assert Progress().answers == {}
    assert file.with_name("progress.json.damaged").exists()


def test_where_nothing_can_be_written_it_goes_on_in_memory_and_says_so(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "a file" / "progress.json"))
    made = Progress()
    made.record("a", True)
    made.record("a", True)
    assert made.answers == {"a": (2, 2, True)}
    assert "kept until the kernel ends only" in made.kept
    made.reset()
    assert made.answers == {}


def test_what_a_full_disk_does_not_take_is_known_until_it_does(file):
    Progress().record("a", True)
    in_the_way = file.with_name(f"{file.name}.{os.getpid()}.new")
    in_the_way.mkdir()
    made = Progress()
    made.record("b", True)
    assert list(made.answers) == ["a", "b"]
    assert list(Progress().answers) == ["a"]
    in_the_way.rmdir()
    made.record("c", True)
    assert list(Progress().answers) == ["a", "b", "c"]
    assert made.kept == f"Kept in {file}."


def test_a_file_that_was_deleted_is_forgotten(file):
    made = Progress()
    made.record("a", True)
    file.unlink()
    assert made.answers == {}


def test_an_empty_variable_means_no_file(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    made = Progress()
    made.record("a", True)
    assert made.path is None
    assert made.answers == {"a": (1, 1, True)}
    assert "there is no file" in made.kept


def test_without_the_variable_it_is_in_the_users_data_directory(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert Progress().path == Path("/somewhere/vfiosim/progress.json")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert Progress().path == Path("/home/ann/.local/share/vfiosim/progress.json")


def test_in_a_browser_kernel_there_is_no_file(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(sys, "platform", "emscripten")
    assert Progress().path is None


def test_two_kernels_that_answer_in_turn_lose_nothing(file):
    program = "from vfiosim.lab import progress; progress.record('b', True)"
    made = Progress()
    made.record("a", True)
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
    made.record("a", True)
    assert made.answers == {"a": (2, 2, True), "b": (1, 1, True)}


def test_an_answer_without_a_name_is_not_kept(file):
    Progress().record("", True)
    assert not file.exists()


# ---- a room


def test_in_a_room_the_presenter_reveals_without_a_prediction(room):
    prediction = Prediction(question())
    assert not prediction.reveal.disabled
    assert prediction.choice.disabled
    prediction.votes.fields["yes"].value = 7
    prediction.votes.fields["no"].value = 3
    prediction.reveal.click()
    assert "The simulator says it is . 7 of 10 in the room had it." in prediction.message
    assert "But it is." in prediction.message
    assert M.OPEN_IS_ENOUGH.name in prediction.message


def test_in_a_room_nothing_is_recorded(room, file):
    Prediction(question()).reveal.click()
    assert not file.exists()


def test_a_solution_is_locked_until_something_was_tried():
    exercise, order, hand, view = one_bind.exercise(), one_bind.order(), races.by_hand(), lab.room("failed-second-bind")
    exercise.bench.buttons["GET_INFO"].click()
    order.order.up[1].click()
    hand.sandbox.schedule.rows[hand.sandbox.run.running()[0]].buttons["1 step"].click()
    for asked in (exercise, order, hand):
        assert asked.help.solution.disabled
        asked.check.click()
        assert not asked.help.solution.disabled
    view.prove.click()
    assert view.solution.disabled, "nothing was changed as yet"
    view.editor.value += "\n    oops"
    view.prove.click()
    assert not view.solution.disabled


def test_a_presenter_may_show_any_solution(room):
    assert not races.by_hand().solution.disabled


def test_without_hands_nothing_is_said_of_them(room):
    prediction = Prediction(question())
    prediction.reveal.click()
    assert "in the room" not in prediction.message


def test_questions_that_are_there_already_follow_the_switch():
    prediction = Prediction(question())
    prediction.choice.value = "no"
    switch = present()
    try:
        assert "On:" in switch.message
        assert "vfiosim-room" in prediction._dom_classes
        assert prediction.choice.value is None
        switch.press.click()
        assert not presenter.on
        assert "vfiosim-room" not in prediction._dom_classes
        assert prediction.reveal.disabled
    finally:
        presenter.on = False


def test_present_false_shows_the_switch_and_leaves_it_off():
    assert "Off:" in present(False).message
    assert not presenter.on
