"""What a teacher gets: who solved what, from whatever lies in the folder, and the answers of a lesson."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vfiosim.cli import COMMANDS, main
from vfiosim.lab import progress
from vfiosim.lessons import survey
from vfiosim.lessons.lesson import lessons
from vfiosim.lessons.survey import surveys

TASK = "00 task: free"


def saved(path: Path, **answers: tuple[int, int, bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        name.replace("__", " "): dict(zip(("tries", "right", "first"), one, strict=True))
        for name, one in answers.items()
    }
    path.write_text(json.dumps({"version": 1, "answers": kept}), "utf-8")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Ann has solved two exercises of 00; Bob's home has one try; Eve's file was cut off; Joe's is of a later version."""
    saved(tmp_path / "ann.json", **{"00 once more": (1, 1, True), TASK: (3, 1, False), "drill errno": (9, 9, True)})
    saved(tmp_path / "bob" / ".local" / "share" / "vfiosim" / "progress.json", **{TASK: (2, 0, False)})
    (tmp_path / "eve.json").write_text('{"version": 1, "answers": {', "utf-8")
    (tmp_path / "joe").mkdir()
    (tmp_path / "joe" / "progress.json").write_text('{"version": 2}', "utf-8")
    return tmp_path


def test_the_table_counts_solved_exercises_by_lesson_and_goes_on_past_files_that_cannot_be_read(room, capsys) -> None:
    assert main(["grade", str(room)]) == 1
    head, many, ann, bob, eve, joe, *problems = capsys.readouterr().out.splitlines()
    assert (head.split()[:2], many.split()[:2]) == (["student", "00"], ["of", str(len(lessons()[0].exercises))])
    assert len(head) < 110, "it fits on a terminal"
    columns = len(lessons()) + 4
    assert ann.split() == ["ann", "2", *["·"] * (columns - 3), "2", "1"]
    assert [line.split() for line in (bob, eve, joe)] == [[name, *["·"] * columns] for name in ("bob", "eve", "joe")]
    assert [line.partition(":")[0] for line in problems] == ["eve", "joe"]
    assert "is damaged; what can be read of it is counted" in problems[0]
    assert "was written by another version of vfiosim" in problems[1]


def test_the_sheet_has_a_column_for_each_exercise_and_says_at_which_try_it_was_solved(room, capsys) -> None:
    assert main(["grade", str(room), "--csv"]) == 1
    output = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(output.out)))
    assert [(row["student"], row["00 once more"], row[TASK]) for row in rows] == [
        ("ann", "first", "later"),
        ("bob", "", "tried"),
        ("eve", "", ""),
        ("joe", "", ""),
    ]
    assert list(rows[0]) == ["student", *(name for lesson in (*lessons(), *surveys()) for name in lesson.exercises)]
    assert "eve: " in output.err


def test_two_students_of_one_name_are_told_apart(tmp_path, capsys) -> None:
    saved(tmp_path / "ann.json", **{TASK: (1, 1, True)})
    saved(tmp_path / "ann" / "progress.json", **{TASK: (1, 0, False)})
    assert main(["grade", str(tmp_path)]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]} == {"ann.json", "ann/progress.json"}


def test_a_student_whose_folder_is_empty_stands_in_the_table_and_is_told(room, capsys) -> None:
    (room / "zoe").mkdir()
    assert main(["grade", str(room)]) == 1
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[2:7]] == ["ann", "bob", "eve", "joe", "zoe"]
    assert f"zoe: {room / 'zoe'} holds no progress.json." in told


@pytest.mark.parametrize(("name", "says"), [("empty", "holds no file of progress"), ("none", "is no folder")])
def test_a_folder_with_nothing_in_it_is_told(tmp_path, name, says, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["grade", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err


def test_the_answers_of_a_lesson_say_for_each_question_what_is_right_and_what_a_wrong_one_takes_for_granted(
    capsys,
) -> None:
    assert main(["answers", "02"]) == 0
    told = capsys.readouterr().out
    (lesson,) = (lesson for lesson in lessons() if lesson.number == "02")
    assert [line[3:] for line in told.splitlines() if line.startswith("## ")] == [
        name.name[3:] for name in lesson.asked
    ]
    assert "**2**: a fork copies the descriptor table" in told
    assert "* 3: Perhaps you counted descriptor 4, too." in told
    assert "* anything else: Count the tables that lead to the file" in told


def test_answers_of_a_lesson_that_there_is_not_are_refused_with_those_that_there_are(capsys) -> None:
    assert main(["answers", "77"]) == 2
    assert "there is no lesson 77; there are 00, 01, 02" in capsys.readouterr().err


# ---- before and after


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "progress.json"
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(path))
    return path


def test_ten_questions_are_counted_before_and_after_a_course_and_which_ones_are_right_is_not_told(kept, capsys) -> None:
    for when, wrong in (("before", 3), ("after", 1)):
        asked = survey(when)
        for number, (question, control) in enumerate(zip(asked.questions, asked.choices, strict=True)):
            right = question.experiment().answer
            control.value = next(key for key in question.choices if key != right) if number < wrong else right
        asked.hand_in.click()
        assert asked.message.startswith(f"{10 - wrong} of 10 right. Which ones is not told")
    assert main(["grade", str(kept.parent)]) == 0
    head, many, row = capsys.readouterr().out.splitlines()
    assert head.split()[-5:-3] == ["before", "after"]
    assert many.split()[-3:-1] == ["10", "10"]
    assert row.split()[-4:] == ["7", "9", "·", "·"]


def test_a_question_without_an_answer_is_named_and_nothing_is_kept(kept) -> None:
    asked = survey("before")
    asked.choices[0].value = "EINVAL"
    asked.hand_in.click()
    assert "Question 2: Choose one of the answers first." in asked.message
    assert not progress.answers


def test_the_questions_are_asked_before_or_after() -> None:
    with pytest.raises(ValueError, match="before or after the course, not 'now'"):
        survey("now")


# ---- the page for teachers


def test_the_page_for_teachers_has_a_line_for_every_notebook_and_what_it_names_is_there() -> None:
    page = (ROOT / "notebooks" / "teaching.md").read_text("utf-8")
    listed = re.findall(r"^\| (\d\d_\w+) \|", page, re.MULTILINE)
    assert listed == sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert set(re.findall(r"python -m vfiosim (\w+)", page)) <= COMMANDS.keys()
