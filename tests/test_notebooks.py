"""The notebooks: each runs on its own from top to bottom, and nothing of it tells an answer too early.

What becomes of them in a browser is asked in test_notebooks_shown.py: other Pythons need not import what that takes.
"""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.cells import cells
from tests.conftest import ROOT
from tests.executed import EACH, TOGETHER, executed


@TOGETHER
@EACH
def test_a_notebook_runs_from_top_to_bottom_on_its_own(path):
    outputs = [output for cell in executed(path).cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
    assert outputs


@EACH
def test_the_first_cell_says_what_the_reader_will_be_able_to_do_and_how_to_run_cells(path):
    notebook = nbformat.read(path, as_version=4)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert "will be able to" in first.source
    assert 0 < first.source.find("Shift+Enter") < first.source.find("Run All")  # which leads to the end of the page


@EACH
def test_a_notebook_links_only_to_files_that_are_there(path):
    for source in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#:]+)\)", source):
            assert (path.parent / target).is_file()


def test_the_first_press_is_at_most_three_cells_away():
    notebook = nbformat.read(ROOT / "notebooks" / "00_start.ipynb", as_version=4)
    bench = next(number for number, cell in enumerate(notebook.cells) if "first_bind()" in cell.source)
    assert bench < 3


@TOGETHER
@pytest.mark.one_python
@pytest.mark.parametrize(
    ("stem", "answers"),
    [
        ("01_one_bind", ["descriptor 3 of vmm holds file vfio0#1"]),
        ("03_order_of_checks", ["single_open", "tokens_wanted", "a new object, iommufd_device", "image/png"]),
        ("10_races", ["; 2 switches", "bring A to use the VM"]),
        ("11_museum", ["until the machine is restarted", "--mapped at"]),
        ("05_closing_in_any_order", ["alive after the first", "--mapped at", "<svg height"]),
    ],
)
def test_what_answers_a_question_is_shown_by_no_cell_before_it_has_been_answered(stem, answers):
    cells = [cell for cell in executed(ROOT / "notebooks" / f"{stem}.ipynb").cells if cell.cell_type == "code"]
    texts = [
        text for cell in cells for one in cell.outputs for text in [one.get("text"), *one.get("data", {}).values()]
    ]
    outputs = "".join(str(text).partition("<details><summary>Show it now</summary>")[0] for text in texts)  # folded in
    assert outputs.count("It is shown here once you have answered that.") >= 1
    assert [answer for answer in answers if answer in outputs] == []
