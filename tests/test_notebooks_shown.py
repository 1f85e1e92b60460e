"""The notebooks as a reader in a real browser sees them: exported, on paper, as slides, and in JupyterLab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Locator, Page, Request, expect

from tests.cells import cells
from tests.conftest import ROOT
from tests.desk import Desk, becomes, button, cell_of, press, pressed, said
from tests.executed import NOTEBOOKS, TOGETHER, executed
from tests.traces import bind
from tests.turns import turns
from vfiosim.appendix import Answers
from vfiosim.views import show

EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
FIRST, *REST = [pytest.param(path, id=path.name) for path in NOTEBOOKS]
IN_TURN = pytest.mark.parametrize("path", [FIRST, *turns(REST, days=3)])

# ---- exported

BOUND = "The call gives its reference to file vfio0#1 back and returns 0."  # the end of a bind
LAST = {
    "06_groups_and_cdevs": BOUND.replace("vfio0", "vfio2"),
    "08_no_dma": "The call returns 5.",  # of the first player that has steps
    "05_closing_in_any_order": "driver vfio-pci waits until no file of vfio_device vfio0 is open.",
    "11_museum": "The call returns.",  # of an exit
    "20_your_own_program": "The call returns.",
    "10_races": re.compile("took kvm 1 for vfio_device vfio0, but the device has lost it"),
}
BESIDE = {f"{one.stem}.html" for one in NOTEBOOKS} | {one.name for one in (ROOT / "notebooks").glob("*.md")}
PAGES = ["--execute", "--to", "html", "--template", "vfiosim", "--ExecutePreprocessor.store_widget_state=False"]


def page_of(notebook: Any) -> str:
    return str(HTMLExporter(template_name="vfiosim").from_notebook_node(notebook)[0])


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A notebook as a page: the first as `make export` makes it, another one from what it is when it has run."""
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def page(path: Path) -> Path:
        html = folder / f"{path.stem}.html"
        if path == NOTEBOOKS[0]:
            command = [sys.executable, "-m", "nbconvert", *PAGES, f"--output-dir={folder}", str(path)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            assert done.returncode == 0, done.stderr
        else:
            html.write_text(page_of(executed(path)), "utf-8")
        return html

    return page


def test_make_export_leaves_out_the_state_of_widgets_and_what_the_exporter_has_answered():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert f"PAGES        := {' '.join(PAGES)}\n" in makefile
    assert "\tVFIOSIM_PROGRESS= $(RUN) python -m nbconvert $(PAGES)" in makefile
    assert "\tVFIOSIM_PROGRESS= $(RUN) python -m nbconvert $(subst vfiosim,vfiosim-slides,$(PAGES))" in makefile


@TOGETHER
@IN_TURN
def test_an_exported_notebook_is_stepped_through_without_kernel_and_network(path, exported, tab):
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    tab.on("request", note)
    tab.goto(exported(path).as_uri(), wait_until="load")
    tab.remove_listener("request", note)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    links = tab.locator("a[href]").evaluate_all("all => all.map(link => link.getAttribute('href'))")
    assert {link for link in links if ":" not in link and not link.startswith("#")} <= BESIDE
    assert path.stem != "index" or {f"{one.stem}.html" for one in NOTEBOOKS} - {"index.html"} <= {*links}
    if path.stem == "index":
        expect(tab.get_by_role("figure").locator("svg").first).to_be_visible()
    else:
        for folded in tab.get_by_text("Show it now", exact=True).all():
            folded.click()
        step_to_the_end_and_one_back(tab, LAST.get(path.stem, BOUND))
    assert len(re.findall(rb"/Type\s*/Page\b", tab.pdf(format="A4"))) <= 12


def step_to_the_end_and_one_back(page, sentence):
    player = page.locator(".vfiosim-player").filter(has_not_text="No steps yet").first
    expect(player.locator("svg.vfiosim-graph")).to_be_visible()
    player.focus()
    page.keyboard.press("End")
    expect(player.locator(".sentence")).to_have_text(sentence)
    page.keyboard.press("ArrowLeft")
    expect(player.locator(".edge:not(.off)")).not_to_have_count(0)


@TOGETHER
@IN_TURN
def test_an_exported_notebook_tells_nothing_of_who_has_exported_it(path, exported):
    html = exported(path).read_text("utf-8")
    assert [place for place in (str(Path.home()), str(ROOT)) if place in html] == []


def test_on_paper_a_player_shows_its_last_step_and_numbers_the_sentences_of_all(page, tmp_path):
    cell = nbformat.v4.new_code_cell(
        "show(trace)", outputs=[nbformat.v4.new_output("display_data", show(bind(), step=1)._repr_mimebundle_())]
    )
    (tmp_path / "page.html").write_text(page_of(nbformat.v4.new_notebook(cells=[cell])), "utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    player = page.locator(".vfiosim-player")
    expect(player).to_have_attribute("data-step", "1")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(player.locator(".sentence")).to_have_text(BOUND)
    expect(player.locator(".printed li:visible").last).to_have_text(BOUND)
    expect(player.locator("button:not(.chip):visible, [role=slider]:visible")).to_have_count(0)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(player).to_have_attribute("data-step", "1")
    expect(player.locator(".printed")).to_have_count(0)


def test_slides_are_the_same_pages_in_large_letters_where_a_remote_control_steps_and_turns(page, tmp_path):
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n" + "A line.\n\n" * 20) for name in ("One", "Two")]
    shown = nbformat.v4.new_output("display_data", show(bind(), step=-2)._repr_mimebundle_())
    cells.insert(1, nbformat.v4.new_code_cell("show(trace)", outputs=[shown]))
    slides = HTMLExporter(template_name="vfiosim-slides").from_notebook_node(nbformat.v4.new_notebook(cells=cells))[0]
    (tmp_path / "slides.html").write_text(slides, "utf-8")
    page.goto((tmp_path / "slides.html").as_uri())
    expect(page.locator(".jp-Cell-inputWrapper", has_text="show(trace)")).to_be_hidden()
    expect(page.get_by_role("heading", name="One")).to_be_in_viewport()
    player = page.locator(".vfiosim-player.presenter")
    before = int(player.get_attribute("data-step") or 0)
    player.evaluate("player => player.scrollIntoView()")
    page.keyboard.press("PageDown")
    expect(player).to_have_attribute("data-step", str(before + 1))
    page.keyboard.press("PageDown")
    page.wait_for_function(
        "Math.abs([...document.querySelectorAll('.jp-Cell')].at(-1).getBoundingClientRect().top) < 9"
    )


def test_a_page_can_have_the_answers_of_its_lesson_at_the_end():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One BIND")])
    for name, cells_then in (("90_sandbox", 1), ("01_one_bind", 2)):
        Answers().preprocess(notebook, {"metadata": {"name": name}})
        assert len(notebook.cells) == cells_then
    assert "another file" in notebook.cells[-1].source


@TOGETHER
def test_an_exported_lesson_has_every_question_with_its_choices_and_the_task(exported):
    lesson = ROOT / "notebooks" / "01_one_bind.ipynb"
    html = exported(lesson).read_text("utf-8")
    asked = "".join(cells(lesson, "code")).count("one_bind.predict(")
    assert html.count(">Predict.</b>") == asked
    assert "close fails with EBUSY while a device is bound" in html
    assert ">Your task.</b>" in html


# ---- in JupyterLab: whole notebooks


@pytest.fixture(scope="module")
def start(jupyterlab_page: Desk) -> Page:
    jupyterlab_page.clear()
    return jupyterlab_page.run("00_start.ipynb")


@pytest.fixture
def first(start: Page) -> Locator:
    """The first bench as it was at first."""
    start.set_viewport_size({"width": 1280, "height": 720})
    cell = cell_of(start, "start.first_bind()")
    press(cell, "Reset")
    return cell


@pytest.mark.nightly
@EACH
def test_a_notebook_runs_in_jupyterlab_and_has_nothing_to_complain_of(path, jupyterlab_page):
    jupyterlab_page.clear()
    page = jupyterlab_page.run(path.name)
    expect(page.locator(".jp-RenderedText[data-mime-type$=stderr]")).to_have_count(0)
    expect(page.locator(".vfiosim-lab:visible").first).to_be_visible()


def test_the_first_notebook_has_nothing_to_complain_of(start):
    expect(start.locator(".jp-RenderedText[data-mime-type$=stderr]")).to_have_count(0)


def test_in_the_first_notebook_one_press_on_bind_changes_the_picture(first):
    born = first.locator(".vfiosim-player .node:not(.off) title", has_text="iommufd_device 1")
    expect(first.locator(".vfiosim-player svg.vfiosim-graph")).to_be_visible()
    expect(born).to_have_count(0)
    press(first, "bind")
    expect(said(first)).to_contain_text("out_devid = 1")
    expect(first.locator(".vfiosim-player .sentence")).to_have_text("vmm calls ioctl(3, VFIO_DEVICE_BIND_IOMMUFD).")
    first.locator(".vfiosim-player").press("End")
    expect(born).to_have_count(1)


def test_in_the_first_notebook_the_keyboard_alone_makes_a_bind_and_walks_through_it(first):
    keyboard = first.page.keyboard
    button(first, "bind").focus()
    keyboard.press("Enter")
    player, sentence = first.locator(".vfiosim-player"), first.locator(".vfiosim-player .sentence")
    expect(said(first)).to_contain_text("out_devid = 1")
    expect(sentence).to_contain_text("VFIO_DEVICE_BIND_IOMMUFD")
    player.focus()
    for keys, step in (
        ("ArrowRight ArrowRight", 5),
        ("ArrowLeft", 3),
        ("n", 4),
        ("End", 19),
        ("Home", 0),
        ("ArrowRight", 1),
    ):
        for key in keys.split():
            keyboard.press(key)
        expect(player).to_have_attribute("data-step", str(step))
    keyboard.press("End")
    expect(sentence).to_have_text(BOUND)


def test_a_second_bind_waits_for_its_prediction_and_undo_takes_the_first_one_back(first):
    pressed(first, ("bind", "→ 0"))
    expect(button(first, "bind")).to_be_disabled()
    pressed(first, ("Undo", "Taken back"))
    expect(button(first, "bind")).to_be_enabled()


def test_letters_of_the_first_picture_have_at_least_20_pixels_on_a_projector(first):
    first.page.set_viewport_size({"width": 1920, "height": 1080})
    press(first, "bind")
    expect(first.locator(".vfiosim-player .sentence")).to_contain_text("VFIO_DEVICE_BIND_IOMMUFD")
    becomes(
        first.locator(".vfiosim-player svg.vfiosim-graph"),
        """svg => [...svg.querySelectorAll('text:not(.badge)')].filter(text => text.textContent.trim())
            .map(text => parseFloat(getComputedStyle(text).fontSize) * svg.getScreenCTM().a)""",
        lambda sizes: len(sizes) > 10 and min(sizes) >= 20,
    )


# ---- in a browser: cells of a lesson

LESSON = "from vfiosim.lessons import one_bind, who_holds_whom\n"


def test_in_the_lesson_a_device_is_asked_too_early(desk):
    bench = desk.cell(LESSON + "one_bind.bind()")
    expect(bench.locator(".vfiosim-table")).to_contain_text("3 vfio0#1")
    press(bench, "GET_INFO")
    expect(bench.locator(".vfiosim-result")).to_contain_text("EINVAL")
    expect(bench.locator(".vfiosim-player .sentence")).to_contain_text("Refused with EINVAL: the gate is shut")


def test_in_the_lesson_a_bad_iommufd_is_refused_with_ebadf_and_a_word_with_a_message_beside_the_field(desk):
    bench = desk.cell(LESSON + "one_bind.bind()")
    iommufd = bench.get_by_label("iommufd", exact=True)
    iommufd.fill("777")
    press(bench, "bind")
    expect(bench.locator(".vfiosim-result")).to_contain_text("EBADF – 777 is not an open file")
    iommufd.fill("seven")
    press(bench, "bind")
    expect(bench.locator(".vfiosim-problem", has_text="“seven” is no number")).to_be_visible()
    expect(bench.locator(".vfiosim-result")).to_contain_text("Nothing was called")
    iommufd.fill("4")
    press(bench, "bind")
    expect(bench.locator(".vfiosim-problem", has_text="is no number")).to_have_count(0)
    expect(bench.locator(".vfiosim-result")).to_contain_text("out_devid = 1")


def test_in_the_lesson_nothing_is_revealed_before_a_prediction_is_committed(desk):
    gate = desk.cell(LESSON + 'one_bind.predict("close the iommufd first")')
    press(gate, "Answer")
    expect(gate.get_by_role("alert")).to_have_text("Choose one of the answers first.")
    expect(gate.locator(".vfiosim-player")).to_have_count(0)
    gate.locator("label", has_text="close fails with EBUSY").click()
    press(gate, "Answer")
    expect(gate.locator(".vfiosim-verdict")).to_contain_text("You predicted close fails with EBUSY")
    expect(gate.locator(".vfiosim-verdict")).to_contain_text("The simulator says it is as before, with the iommufd")
    expect(gate.locator(".vfiosim-player svg.vfiosim-graph")).to_be_visible()


def test_in_the_lesson_why_is_it_alive_names_the_holders(desk):
    bench = desk.cell(LESSON + "who_holds_whom.holders()")
    bench.get_by_label("object").select_option("file iommu#1")
    press(bench, "Why is it alive?")
    expect(bench.locator(".vfiosim-answer")).to_contain_text("kept alive by 3 references (f_ref)")
    told = bench.locator(".vfiosim-why")
    height = "told => told.getBoundingClientRect().height"
    high = told.evaluate(height)
    bench.get_by_label("object").select_option("file vfio0#1")
    press(bench, "Why is it alive?")
    expect(told.locator("li")).to_have_count(1)
    becomes(told, height, high.__eq__)  # so the picture stays where it is
