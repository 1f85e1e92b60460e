"""The form that all notebooks have in common: headings, how much there is to read and to run, how much to answer and to do."""

from __future__ import annotations

import re
import statistics
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from tests.cells import cells, code_of
from tests.conftest import ROOT
from tests.glossary import first_uses
from vfiosim.lab.sandbox.ideas import IDEAS
from vfiosim.lab.style import words
from vfiosim.lessons.course import MINUTES, MOSTLY, notebooks
from vfiosim.lessons.lesson import lessons

FULL = ["You will need", "Predict", "Run", "Investigate", "Modify", "Make", "Check yourself", "Recap", "Source lines"]
SHORT = ["Run", "Predict", "Make", "Recap", "Source lines"]  # the page that begins with a press, and takes minutes
FREE = ["Run", "Things to try", "Source lines"]  # the bench that asks nothing
PLAY = ["You will need", "Make", "Design a level", "Recap", "Source lines"]  # levels, each solved with few calls
FURTHER = "Further"  # what is left out of the main way stands in a part of its own, behind the end
LONG = {"01 task: every refusal"}  # a walk took six minutes for it, not three
BY_SECONDS = ("01", "03", "04", "05", "06", "08", "09", "12")  # whose minutes are counted press by press
FORMS = {"00_start": SHORT, "13_levels": PLAY, "90_sandbox": FREE}
INDEX = ROOT / "notebooks" / "index.ipynb"  # of all others
ALL = sorted({*(ROOT / "notebooks").glob("*.ipynb")} - {INDEX})
ENDING = [path for path in ALL if FORMS.get(path.stem) != FREE]
TAUGHT = [path for path in ENDING if FORMS.get(path.stem) != PLAY]
LESSONS = [path for path in ALL if path.stem not in FORMS]
EVERY = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
EACH_TAUGHT = pytest.mark.parametrize("path", TAUGHT, ids=lambda path: path.stem)
EACH_ENDING = pytest.mark.parametrize("path", ENDING, ids=lambda path: path.stem)
LESSON = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)

# What has a button "Check" and says what is missing, by the name of the function that makes it.
CHECKED = ("free_it", "keep_it", "errors", "order", "exercise", "by_hand", "turns", "mend", "share", "probes")


def words_of(path: Path) -> int:
    return sum(len(source.split()) for source in cells(path, "markdown"))


def main_way(path: Path, kind: str) -> list[str]:
    """The cells of one kind, without those of the last part, which is for another day."""
    read = nbformat.read(path, as_version=4).cells
    further = next((at for at, cell in enumerate(read) if cell.source.startswith(f"## {FURTHER}")), len(read))
    return [cell.source for cell in read[:further] if cell.cell_type == kind]


@EVERY
def test_the_headings_of_a_notebook_are_those_of_its_form(path):
    headings = re.findall(r"^## (.*)$", "\n".join(cells(path, "markdown")), re.MULTILINE)
    assert [one for one in headings if one != FURTHER] == FORMS.get(path.stem, FULL)
    assert FURTHER not in headings or headings[-3:] == ["Recap", FURTHER, "Source lines"]


@LESSON
def test_a_lesson_has_12_to_18_cells_of_each_kind_and_900_to_1500_words(path):
    assert 12 <= len(cells(path, "markdown")) <= 18
    assert 12 <= len(cells(path, "code")) <= 18
    assert 900 <= words_of(path) <= 1500


@LESSON
def test_what_answers_a_question_stands_below_the_question(path):
    code = code_of(path.stem)
    for name in re.findall(r'predict\("([^"]+)"\)', code):
        asked = f'predict("{name}")'
        lines = [line for line in code.splitlines() if f'"{name}"' in line.replace(asked, "")]
        assert all(code.index(line) > code.index(asked) for line in lines if "once_answered(" in line), name


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("02_who_holds_whom", 'm.why("iommufd_ctx")'),
        ("08_no_dma", "made.result"),
        ("09_address_spaces", "lesson.sentence("),
        ("10_races", "broken.counterexample"),
    ],
)
def test_what_a_cell_finds_is_kept_back_while_the_question_that_it_answers_is_open(stem, found):
    (cell,) = [source for source in cells(ROOT / "notebooks" / f"{stem}.ipynb", "code") if found in source]
    assert "lesson.once_answered(" in cell.splitlines()[-1]


def test_the_first_page_is_short():
    path = ROOT / "notebooks" / "00_start.ipynb"
    assert words_of(path) <= 400
    assert len([source for source in cells(path, "code") if "finish" not in source]) <= 6  # and its end


@EVERY
def test_code_cells_are_short(path):
    lines = [len(source.splitlines()) for source in cells(path, "code")]
    assert statistics.median(lines) <= 4
    assert max(lines) <= 15


@EACH_TAUGHT
def test_a_notebook_asks_for_three_to_five_predictions_and_has_two_to_four_checked_tasks(path):
    code = "\n".join(main_way(path, "code"))
    assert 3 <= len(re.findall(r"\.predict\(", code)) <= 5
    assert 2 <= len(re.findall(rf"\.({'|'.join(CHECKED)})\(\)", code)) <= 4


def test_the_free_bench_is_there_at_the_first_cell_asks_nothing_and_says_where_the_seven_ideas_are():
    path = ROOT / "notebooks" / "90_sandbox.ipynb"
    code = "\n".join(cells(path, "code"))
    assert "Sandbox()" in cells(path, "code")[0]
    assert not re.search(rf"\.(predict|quiz|finish|{'|'.join(CHECKED)})\(", code)
    assert words_of(path) <= 500
    tries = "\n".join(cells(path, "markdown")).partition("## Things to try")[2]
    assert "**Ideas**" in tries
    assert "seven" in tries
    assert len(IDEAS) == 7


@EACH_ENDING
def test_the_header_says_what_is_new_today_and_the_end_names_the_kernel(path):
    text = cells(path, "markdown")
    budget = re.search(r"New today: (.*?)\.", "\n".join(text[:2]))
    assert budget is not None
    assert 1 <= len(re.findall(r"\*\w[^*]*\*", budget[1])) <= 3
    assert "Linux 7.2: `" in text[-1]
    assert "**What is next.**" in text[-1]


@EACH_ENDING
def test_each_word_that_a_header_names_is_in_the_glossary_and_a_known_one_leads_there(path):
    glossary, header = (ROOT / "notebooks" / "glossary.md").read_text("utf-8"), "\n".join(cells(path, "markdown")[:2])
    told = {one.lower() for one in re.findall(r"(?:^\| |also \*)(.+?)(?: \||\*)", glossary, re.MULTILINE)}
    named = (re.findall(rf"{part}: (.*?)\.(?:\s|$)", header) for part in ("New today", "Known"))
    new, known = (re.findall(r"\*(\w[^*]*)\*", "".join(one)) for one in named)
    assert {word.lower() for word in (*new, *known)} <= told
    assert all(f"[*{word}*](glossary.md)" in header for word in known)


@EVERY
def test_the_first_use_of_a_word_of_the_glossary_leads_there(path):
    text = "\n\n".join(cells(path, "markdown"))
    uses = [*first_uses(text)]
    assert uses
    assert [text[begin - 40 : end + 20] for _, begin, end, leads in uses if not leads] == []


@LESSON
def test_a_lesson_says_how_long_it_takes_and_ends_with_a_quiz(path):
    own = {**MINUTES, "11": MOSTLY}  # the rooms of the museum are told apart
    assert f"about {own.get(path.stem[:2], MOSTLY)} minutes" in cells(path, "markdown")[1]
    assert re.search(r"\.quiz\(\)", "\n".join(cells(path, "code")))


@EACH_ENDING
def test_a_recap_has_three_to_five_lines(path):
    recap = "\n".join(cells(path, "markdown")).partition("## Recap")[2].partition("\n## ")[0]
    assert 3 <= len(re.findall(r"^\* ", recap, re.MULTILINE)) <= 5


def test_the_readme_lists_all_notebooks_in_their_order():
    readme = (ROOT / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\)", readme, re.MULTILINE)
    assert listed == [(path.stem, path.stem) for path in ALL]


@pytest.mark.parametrize(("path", "following"), list(pairwise(ALL)), ids=lambda path: path.stem)
def test_a_notebook_says_what_is_next(path, following):
    assert f"]({following.name})" in cells(path, "markdown")[-1].partition("**What is next.**")[2]


def test_the_index_is_one_cell_and_shows_all_notebooks_in_their_order():
    assert len(cells(INDEX, "code")) == 1
    assert notebooks() == [path.stem for path in ALL]


def test_the_readme_and_the_last_notebook_lead_to_the_index():
    assert "(notebooks/index.ipynb)" in (ROOT / "README.md").read_text("utf-8")
    assert "(index.ipynb)" in cells(ALL[-1], "markdown")[-1]


def test_the_index_and_the_page_for_teachers_tell_the_same_minutes():
    rows = re.findall(
        r"^\| (\d\d)_\w+ \| ([\w ,]+) \|", (ROOT / "notebooks" / "teaching.md").read_text("utf-8"), re.MULTILINE
    )
    told = {number: re.sub(r"\D", "", minutes) for number, minutes in rows}
    assert told == {path.stem[:2]: MINUTES.get(path.stem[:2], MOSTLY) for path in ALL}


@pytest.mark.parametrize("path", ENDING, ids=lambda path: path.stem)
def test_the_minutes_are_those_that_the_page_for_teachers_reckons_with(path):
    lesson = next(one for one in lessons() if one.number == path.stem[:2])
    questions = [one for one in lesson.questions.values() if one.name in lesson.main]
    tasks = [name for name in lesson.tasks if name in lesson.main]
    asked = " ".join(text for one in (*questions, *lesson.check) for text in (one.text, *one.choices.values()))
    pages = len(" ".join([*main_way(path, "markdown"), words(asked)]).split()) / 200
    cells_left = max(0, len(main_way(path, "code")) - len(questions) - min(len(tasks), 4) - 3)
    reckoned = pages + len(questions) + 0.75 * len(lesson.check) + 3 * len(tasks) + cells_left / 2
    reckoned += 3 * len({*tasks} & LONG)
    told, walked = float(MINUTES.get(lesson.number, MOSTLY)), lesson.number in BY_SECONDS
    assert reckoned - 4 <= told <= (1.5 * reckoned if walked else reckoned + 4)


def test_what_a_lesson_leaves_for_another_day_stands_in_its_last_part_and_the_end_counts_it_apart():
    for path in LESSONS:
        lesson = next(one for one in lessons() if one.number == path.stem[:2])
        later = [key for key, one in lesson.questions.items() if one.name in lesson.further]
        asked = re.findall(r'\.predict\("([^"]+)"\)', "\n".join(main_way(path, "code")))
        assert {*asked} == {*lesson.questions} - {*later} or not lesson.further, path.stem
        assert {*lesson.further} <= {*lesson.exercises}
        assert bool(lesson.further) == (main_way(path, "code") != cells(path, "code")), path.stem
