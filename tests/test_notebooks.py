"""The notebooks: each runs on its own from top to bottom, and a reader in a real browser sees what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Locator, Page, expect

from tests.browser import JupyterLab, run_all
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NUMBERED = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def cells(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@NUMBERED
def test_a_notebook_runs_from_top_to_bottom_on_its_own(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
    assert outputs


@NUMBERED
def test_the_first_cell_says_what_the_reader_will_be_able_to_do_and_how_to_run_cells(path):
    notebook = nbformat.read(path, as_version=4)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert "will be able to" in first.source
    assert "Shift+Enter" in first.source
    assert "Run All" in first.source


@NUMBERED
def test_a_notebook_links_only_to_files_that_are_there(path):
    for source in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#:]+)\)", source):
            assert (path.parent / target).is_file()


def test_the_first_press_is_at_most_three_cells_away():
    notebook = nbformat.read(ROOT / "notebooks" / "00_start.ipynb", as_version=4)
    bench = next(number for number, cell in enumerate(notebook.cells) if "first_bind()" in cell.source)
    assert bench < 3


# ---- exported

LAST = {"10_races": re.compile("took kvm 1 for vfio_device vfio0, but the device has lost it")}  # of the first player
WITHOUT_STATE = "--ExecutePreprocessor.store_widget_state=False"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the notebooks as pages, made as `make export` makes them."""
    folder = tmp_path_factory.mktemp("pages")
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--execute",
        "--to",
        "html",
        WITHOUT_STATE,
        "--output-dir",
        str(folder),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *map(str, NOTEBOOKS)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_make_export_leaves_the_state_of_widgets_out():
    assert WITHOUT_STATE in (ROOT / "Makefile").read_text("utf-8")


@NUMBERED
def test_an_exported_notebook_is_stepped_through_without_kernel_and_network(path, exported, browser):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((exported / f"{path.stem}.html").as_uri(), wait_until="domcontentloaded")
    player = page.locator(".vfiosim-player").first
    expect(player.locator("svg.vfiosim-graph")).to_be_visible()
    player.focus()
    page.keyboard.press("End")
    expect(player.locator(".sentence")).to_have_text(LAST.get(path.stem, "The call returns 0."))
    page.keyboard.press("ArrowLeft")
    expect(player.locator(".edge:not(.off)")).not_to_have_count(0)
    context.close()


def test_an_exported_lesson_has_every_question_with_its_choices_and_the_task(exported):
    html = (exported / "01_one_bind.html").read_text("utf-8")
    asked = "".join(cells(ROOT / "notebooks" / "01_one_bind.ipynb", "code")).count("one_bind.predict(")
    assert html.count("<b>Predict.</b>") == asked
    assert "close fails with EBUSY while a device is bound" in html
    assert "<b>Your task.</b>" in html


# ---- in a browser


def button(place: Page | Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def bench_of(page: Page, call: str) -> Locator:
    """The output of the cell that makes this call, on the screen."""
    cell = page.locator(".jp-CodeCell", has_text=call)
    cell.scroll_into_view_if_needed()
    return cell


def person(page: Page) -> None:
    """Wait as long as a person needs between two presses of one button; sooner they are one double click."""
    page.wait_for_timeout(800)


@pytest.fixture
def start(page: Page, jupyterlab: JupyterLab) -> Page:
    jupyterlab.open(page, "00_start.ipynb")
    run_all(page)
    return page


@pytest.fixture
def lesson(page: Page, jupyterlab: JupyterLab) -> Page:
    jupyterlab.open(page, "01_one_bind.ipynb")
    run_all(page)
    return page


def test_in_the_first_notebook_one_press_on_bind_changes_the_picture(start):
    bench = bench_of(start, "start.first_bind()")
    born = bench.locator(".vfiosim-player .node:not(.off) title", has_text="iommufd_device 1")
    expect(bench.locator(".vfiosim-player svg.vfiosim-graph")).to_be_visible()
    expect(born).to_have_count(0)
    button(bench, "bind").click()
    expect(bench.locator(".vfiosim-result")).to_contain_text("out_devid = 1")
    expect(bench.locator(".vfiosim-player .sentence")).to_have_text("vmm calls ioctl(3, VFIO_DEVICE_BIND_IOMMUFD).")
    button(bench, "Last").click()
    expect(born).to_have_count(1)


def test_in_the_first_notebook_the_keyboard_walks_through_a_bind(start):
    bench = bench_of(start, "start.first_bind()")
    button(bench, "bind").click()
    player, sentence = bench.locator(".vfiosim-player"), bench.locator(".vfiosim-player .sentence")
    expect(sentence).to_contain_text("VFIO_DEVICE_BIND_IOMMUFD")
    player.focus()
    for keys, step in (("ArrowRight ArrowRight", 3), ("ArrowLeft", 2), ("End", 18), ("Home", 0), ("ArrowRight", 1)):
        for key in keys.split():
            start.keyboard.press(key)
        expect(player).to_have_attribute("data-step", str(step))
    start.keyboard.press("End")
    expect(sentence).to_have_text("The call returns 0.")


def test_a_second_bind_is_refused_in_words_and_undo_takes_it_back(start):
    bench = bench_of(start, "start.first_bind()")
    button(bench, "bind").click()
    expect(bench.locator(".vfiosim-result")).to_contain_text("→ 0")
    person(start)
    button(bench, "bind").click()
    expect(bench.locator(".vfiosim-result")).to_contain_text("EINVAL this file is bound already")
    button(bench, "Undo").click()
    expect(bench.locator(".vfiosim-result")).to_contain_text("Taken back")


def test_a_bind_can_be_made_with_the_keyboard_alone(start):
    bench = bench_of(start, "start.first_bind()")
    button(bench, "bind").focus()
    start.keyboard.press("Enter")
    expect(bench.locator(".vfiosim-result")).to_contain_text("out_devid = 1")


def test_in_the_lesson_a_device_is_opened_and_asked_too_early(lesson):
    bench = bench_of(lesson, "one_bind.gate()")
    button(bench, "open device").click()
    expect(bench.locator(".vfiosim-table")).to_contain_text("3 → file vfio0#1")
    button(bench, "GET_INFO").click()
    expect(bench.locator(".vfiosim-result")).to_contain_text("EINVAL")
    expect(bench.locator(".vfiosim-player .sentence")).to_contain_text("vmm calls ioctl(3, VFIO_DEVICE_GET_INFO)")


def test_in_the_lesson_a_bad_iommufd_is_refused_with_ebadf_and_a_word_with_a_message_beside_the_field(lesson):
    bench = bench_of(lesson, "one_bind.bind()")
    iommufd = bench.get_by_label("iommufd", exact=True)
    iommufd.fill("777")
    button(bench, "bind").click()
    expect(bench.locator(".vfiosim-result")).to_contain_text("EBADF 777 is not an open file")
    iommufd.fill("seven")
    person(lesson)
    button(bench, "bind").click()
    expect(bench.locator(".vfiosim-problem", has_text="“seven” is no number")).to_be_visible()
    expect(bench.locator(".vfiosim-result")).to_contain_text("Nothing was called")
    iommufd.fill("4")
    person(lesson)
    button(bench, "bind").click()
    expect(bench.locator(".vfiosim-problem", has_text="is no number")).to_have_count(0)
    expect(bench.locator(".vfiosim-result")).to_contain_text("out_devid = 1")


def test_in_the_lesson_nothing_is_revealed_before_a_prediction_is_committed(lesson):
    gate = bench_of(lesson, "close the iommufd first")
    expect(button(gate, "Reveal")).to_be_disabled()
    gate.locator("label", has_text="close fails with EBUSY").click()
    button(gate, "Commit").click()
    expect(gate.locator(".vfiosim-player")).to_have_count(0)
    button(gate, "Reveal").click()
    expect(gate.locator(".vfiosim-verdict")).to_contain_text("You predicted close fails with EBUSY")
    expect(gate.locator(".vfiosim-verdict")).to_contain_text("The simulator says close succeeds, the iommufd lives on")
    expect(gate.locator(".vfiosim-player svg.vfiosim-graph")).to_be_visible()


def test_in_the_lesson_why_is_it_alive_names_the_holders(lesson):
    bench = bench_of(lesson, "one_bind.close()")
    bench.get_by_label("object").select_option("file iommu#1")
    button(bench, "Why is it alive?").click()
    expect(bench.locator(".vfiosim-answer")).to_contain_text("kept alive by 3 holders")


def test_letters_of_the_controls_have_at_least_16_pixels(lesson):
    bench = bench_of(lesson, "one_bind.kvm()")
    small = bench.locator(".vfiosim-lab").first.evaluate(
        """lab => [...lab.querySelectorAll('button, input, select, label, li, code, .widget-html-content')]
            .filter(e => !e.closest('.vfiosim-player') && e.offsetParent && parseFloat(getComputedStyle(e).fontSize) < 16)
            .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert small == []


def test_letters_of_the_first_picture_have_at_least_20_pixels_on_a_projector(start):
    start.set_viewport_size({"width": 1920, "height": 1080})
    bench = bench_of(start, "start.first_bind()")
    button(bench, "bind").click()
    expect(bench.locator(".vfiosim-player .sentence")).to_contain_text("VFIO_DEVICE_BIND_IOMMUFD")
    sizes = bench.locator(".vfiosim-player svg.vfiosim-graph").evaluate(
        """svg => [...svg.querySelectorAll('text:not(.badge)')].filter(text => text.textContent.trim())
            .map(text => parseFloat(getComputedStyle(text).fontSize) * svg.getScreenCTM().a)"""
    )
    assert len(sizes) > 10
    assert min(sizes) >= 20
