"""What was answered is kept, shown and forgotten, and is never in the way; and the presenter's switch."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from vfiosim import lab
from vfiosim.lab import (
    Distractor,
    ExperimentResult,
    Prediction,
    Progress,
    Question,
    Session,
    present,
    presenter,
    record_file,
)
from vfiosim.lab.record import VARIABLE, progress
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import one_bind, races, who_holds_whom


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
    wrong = {"no": Distractor("But it is.", M.OPEN_IS_ENOUGH)}
    return Question("Is it?", lambda: ExperimentResult("yes", Session().steps, 0), "so.", choices, wrong, name="it")


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


# ---- a file that is not as it should be

GOOD = {"tries": 2, "right": 1, "first": False}


def write(file, answers, **more):
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"answers": answers, **more}))
    return file.read_bytes()


def beside(file):
    """What else is there, but for the file that is locked in its place."""
    return sorted(one.name for one in file.parent.iterdir() if one != file and one.suffix != ".lock")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"answers": 3}', b"[" * 100_000, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_put_aside_and_said_in_one_sentence(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    made = Progress()
    made.record("a", True)
    assert made.answers == Progress().answers == {"a": (1, 1, True)}
    aside = file.with_name("progress.json.damaged")
    assert aside.read_bytes() == content
    assert made.kept == f"The file of your progress was damaged: what can be read is kept, all of it is in {aside}."


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("bad", None),
        ("bad", [2, 1, False]),
        ("bad", {"tries": 2, "right": 1}),
        ("bad", {**GOOD, "tries": "2"}),
        ("bad", {**GOOD, "tries": True}),
        ("bad", {**GOOD, "right": 3}),
        ("bad", {**GOOD, "right": -1}),
        ("bad", {**GOOD, "first": 1}),
        ("\ud800", GOOD),
    ],
)
def test_one_bad_entry_costs_no_other(file, name, bad):
    before = write(file, {"a": GOOD, name: bad, "b": GOOD})
    made = Progress()
    assert made.answers == {"a": (2, 1, False), "b": (2, 1, False)}
    assert str(file.with_name("progress.json.damaged")) in made.kept
    made.record("a", True)
    assert Progress().answers == {"a": (3, 2, False), "b": (2, 1, False)}
    assert file.with_name("progress.json.damaged").read_bytes() == before
    assert beside(file) == ["progress.json.damaged"]


def test_each_damage_has_a_copy_of_its_own(file):
    for number, end in enumerate(["", ".2", ".3"]):
        content = write(file, {"bad": number})
        assert Progress().answers == {}
        assert file.with_name(f"progress.json.damaged{end}").read_bytes() == content
    assert len(beside(file)) == 3


@pytest.mark.parametrize("version", [2, "2", None, 1.5])
def test_a_file_of_another_version_is_left_alone_and_that_is_said(file, version):
    before = write(file, {"a": {"form": "unheard of"}}, version=version)
    made = Progress()
    made.record("b", True)
    assert made.answers == {"b": (1, 1, True)}
    assert made.kept == (
        f"Your progress is kept until the kernel ends only: {file} was written by another version of vfiosim, and is left alone."
    )
    made.reset()
    assert file.read_bytes() == before
    assert beside(file) == []


def test_a_link_stays_a_link_and_what_it_leads_to_keeps_its_rights(file):
    real = file.with_name("mine.json")
    write(real, {})
    real.chmod(0o600)
    file.symlink_to(real)
    Progress().record("a", True)
    assert file.is_symlink()
    assert json.loads(real.read_text())["answers"] == {"a": {"tries": 1, "right": 1, "first": True}}
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_link_to_nowhere_leads_to_the_file_then(file):
    file.parent.mkdir()
    file.symlink_to(Path("..") / "later" / "mine.json")
    Progress().record("a", True)
    assert file.is_symlink()
    assert Progress().answers == {"a": (1, 1, True)}


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


def test_what_is_no_file_is_neither_waited_for_nor_replaced(file):
    file.parent.mkdir()
    os.mkfifo(file)
    made = Progress()
    made.record("a", True)
    assert made.answers == {"a": (1, 1, True)}
    assert f"{file} cannot be used (Is no regular file)" in made.kept
    assert file.is_fifo()
    assert [*file.parent.iterdir()] == [file]


@contextmanager
def full_disk(size):
    """No file may become larger than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_full_disk_does_not_take_is_known_until_it_does(file):
    Progress().record("a", True)
    before = file.read_bytes()
    made = Progress()
    with full_disk(len(before)):
        made.record("b", True)
    assert [*made.answers] == ["a", "b"]
    assert "kept until the kernel ends only" in made.kept
    assert file.read_bytes() == before
    assert beside(file) == []
    Progress().record("by another kernel", True)
    made.record("c", True)
    assert [*Progress().answers] == ["a", "by another kernel", "b", "c"]
    assert made.kept == f"Kept in {file}."


def test_a_damaged_file_stays_where_it_is_while_the_disk_is_full(file):
    before = write(file, {"a": GOOD, "bad": 1})
    made = Progress()
    with full_disk(len(before) - 1):
        assert made.answers == {"a": (2, 1, False)}
    assert file.read_bytes() == before
    assert beside(file) == []


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


KERNELS = """
import os
from vfiosim.lab import Progress
kernels = []
for number in range(4):
    kernels.append(os.fork())
    if not kernels[-1]:
        for _ in range(30):
            Progress().record("all", True)
            Progress().record(f"kernel {number}", False)
        os._exit(0)
assert [os.waitpid(kernel, 0)[1] for kernel in kernels] == [0] * 4
"""


def test_kernels_that_answer_at_the_same_time_lose_nothing(file):
    subprocess.run([sys.executable, "-c", KERNELS], check=True, env=os.environ)
    assert Progress().answers == {"all": (120, 120, True), **{f"kernel {n}": (30, 0, False) for n in range(4)}}
    assert beside(file) == []


def test_a_program_that_does_not_let_go_of_the_file_is_told_and_the_answer_is_kept(file, monkeypatch):
    monkeypatch.setattr(record_file, "PATIENCE", 0.02)
    made = Progress()
    made.record("a", True)
    with file.with_name("progress.json.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.record("b", True)
        assert "another program does not let go of it" in made.kept
    assert [*made.answers] == ["a", "b"]
    made.record("c", True)
    assert [*Progress().answers] == ["a", "b", "c"]


def test_where_the_system_has_no_locks_answers_are_kept_all_the_same(file, monkeypatch):
    monkeypatch.setattr(record_file, "fcntl", None)
    Progress().record("a", True)
    assert Progress().answers == {"a": (1, 1, True)}
    assert [one.name for one in file.parent.iterdir()] == ["progress.json"]


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
    for (
        number
    ) in hand.sandbox.run.running():  # one after the other, so nothing can go wrong; on the way a look is no try
        hand.sandbox.schedule.rows[number].buttons["to the end"].click()
    for asked in (exercise, order, hand):
        assert asked.help.solution.disabled
        asked.check.click()
        assert not asked.help.solution.disabled
    view.prove.click()
    assert view.solution.disabled, "nothing was changed as yet"
    view.editor.value = view.editor.value.replace("await load", "load")  # told at once, with no search
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


# ---- what a cell has found out, and a question asks


def test_what_a_cell_has_found_out_is_kept_back_until_its_question_is_answered() -> None:
    progress.reset()
    kept = who_holds_whom.once_answered("a mapping", "fds vmm --fd 3--> it")
    assert "once you have answered that" in kept.message
    assert "fds vmm" not in str(kept._repr_mimebundle_())
    progress.record("02 a mapping", False)
    assert kept.message == "fds vmm --fd 3--> it"
    progress.reset()


def test_what_is_kept_back_can_be_looked_at_all_the_same() -> None:
    progress.reset()
    kept = races.once_answered("switches", 39)
    kept.anyway.click()
    assert kept.message == "39"
    kept.anyway.click()
    assert "39" not in kept.message
    progress.reset()
    room = races.once_answered("a failed bind", races.mend())
    assert "vfio_device_put_kvm" not in room.message
    folded = room.static_html().partition("<details><summary>Show it now</summary>")[2]  # on a page without a kernel
    assert "vfiosim-player" in folded
    with pytest.raises(ValueError, match="no question 'many'"):
        races.once_answered("many", 1)
