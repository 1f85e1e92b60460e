"""A notebook that was run and saved in JupyterLab, and what is to be seen of it when it is opened again, or exported."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Page, expect

from tests.browser import TOKEN, JupyterLab, run_all
from tests.conftest import ROOT
from tests.test_player_everywhere import LIVE, TOYS

expect.set_options(timeout=20_000)  # a loaded machine is slow, not wrong
CELLS = [
    TOYS.rstrip().removesuffix("show(house.trace)"),
    "from vfiosim.lab import Bench, Sandbox\nfrom vfiosim.lessons import who_holds_whom",
    LIVE,
    "Bench()",
    "Sandbox()",
    "who_holds_whom.predict('who is alive?')",
]
SHOWN = len(CELLS) - 2  # cells that show a widget
DEAD = ".jp-OutputArea-output :is(button, input, select):visible:not(.vfiosim-player *)"


def end_kernel(lab: JupyterLab, name: str) -> None:
    """End the kernel of this notebook, as after the lesson."""
    with urllib.request.urlopen(f"{lab.url}/api/sessions?token={TOKEN}") as answer:
        ids = [session["id"] for session in json.load(answer) if session["path"] == name]
    for one in ids:
        url = f"{lab.url}/api/sessions/{one}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).close()


def only_stills(page: Page) -> None:
    """Each widget is seen as what is left of it, and as nothing else."""
    expect(page.locator(".vfiosim-kept")).to_have_count(SHOWN)
    expect(page.locator(".vfiosim-kept:visible")).to_have_count(SHOWN)
    expect(page.get_by_text("Error displaying widget").filter(visible=True)).to_have_count(0)
    expect(page.get_by_text("Loading widget").filter(visible=True)).to_have_count(0)
    expect(page.locator(DEAD)).to_have_count(0)


@pytest.fixture(scope="module")
def running(browser: Browser, jupyterlab: JupyterLab) -> Iterator[Page]:
    """The notebook closed.ipynb, which was run on this page, and saved."""
    context = browser.new_context(viewport={"width": 1500, "height": 3000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    jupyterlab.open(page, jupyterlab.add("closed.ipynb", *CELLS))
    run_all(page)
    expect(page.locator(".vfiosim-player:visible").first).to_be_visible()
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    yield page
    context.close()


@pytest.fixture
def again(page: Page, running: Page) -> Page:
    """A page on which it is opened again: as large, so that all its cells are there."""
    page.set_viewport_size({"width": 1500, "height": 3000})
    return page


def test_a_widget_that_lives_is_seen_alone(running: Page) -> None:
    expect(running.locator(".vfiosim-kept")).to_have_count(SHOWN)
    expect(running.locator(".vfiosim-kept:visible")).to_have_count(0)
    expect(running.locator(".vfiosim-kept .vfiosim-player")).to_have_count(0)  # nothing works in what is hidden


def test_opened_again_while_its_kernel_runs_a_notebook_has_its_widgets_back(
    again: Page, jupyterlab: JupyterLab
) -> None:
    jupyterlab.open(again, "closed.ipynb")
    expect(again.locator(".vfiosim-lab .widget-button:visible").first).to_be_visible()
    expect(again.locator(".vfiosim-kept:visible")).to_have_count(0)


def test_opened_again_after_its_kernel_ended_a_trusted_notebook_plays_and_shows_no_error_and_no_dead_button(
    again: Page, jupyterlab: JupyterLab
) -> None:
    end_kernel(jupyterlab, "closed.ipynb")
    jupyterlab.open(again, "closed.ipynb")
    only_stills(again)
    player = again.locator(".vfiosim-kept .vfiosim-player").first
    player.focus()
    again.keyboard.press("Home")
    expect(player).to_have_attribute("data-step", "0")


@pytest.mark.parametrize("stored", [True, False])
def test_an_export_shows_what_is_left_of_widgets_with_or_without_their_stored_state(
    browser: Browser, tmp_path: Path, stored: bool
) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=120, store_widget_state=stored, resources={"metadata": {"path": ROOT}}).execute()
    html, _ = HTMLExporter().from_notebook_node(notebook)
    (tmp_path / "export.html").write_text(html, "utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "export.html").as_uri(), wait_until="domcontentloaded")
    only_stills(page)
    expect(page.locator(".vfiosim-player")).not_to_have_count(0)
    context.close()
