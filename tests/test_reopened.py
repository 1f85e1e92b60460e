"""A notebook that was run and saved in JupyterLab, and what is to be seen of it when it is opened again, or exported."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Page, expect

from tests.browser import JupyterLab, run_all
from tests.conftest import ROOT
from tests.desk import Desk
from tests.players import LIVE, TOYS
from tests.turns import turns

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
LINE = "one => getComputedStyle(one, '::before').content"
AGAIN = '"The kernel of this is gone. Choose Run ▸ Run All Above Selected Cell and then run this cell."'


def only_stills(page: Page) -> None:
    """Each widget is seen as what is left of it, and as nothing else."""
    expect(page.locator(".vfiosim-kept")).to_have_count(SHOWN)
    expect(page.locator(".vfiosim-kept:visible")).to_have_count(SHOWN)
    expect(page.get_by_text("Error displaying widget").filter(visible=True)).to_have_count(0)
    expect(page.get_by_text("Loading widget").filter(visible=True)).to_have_count(0)
    expect(page.locator(DEAD)).to_have_count(0)


def said(page: Page) -> list[str]:
    """What stands above what is left of the widgets."""
    return [one.evaluate(LINE) for one in page.locator(".vfiosim-kept").all()]


def widgets_live(page: Page) -> None:
    """Each widget is seen, and nothing of what would be left of it."""
    expect(page.locator(".vfiosim-lab .widget-button:visible").first).to_be_visible()
    expect(page.locator(".vfiosim-kept")).to_have_count(SHOWN)
    expect(page.locator(".vfiosim-kept:visible")).to_have_count(0)


@pytest.fixture(scope="module")
def running(jupyterlab_page: Desk) -> Page:
    """The notebook closed.ipynb, which was run on this page, and saved; its kernel runs when a test begins."""
    jupyterlab_page.clear()
    page = jupyterlab_page.run(jupyterlab_page.lab.add("closed.ipynb", *CELLS))
    page.set_viewport_size({"width": 1500, "height": 3000})  # so that all its cells are there
    expect(page.locator(".vfiosim-player:visible").first).to_be_visible()
    save(page)
    return page


def save(page: Page) -> None:
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")


AS_SOON_AS_DEAD = """shown => {
    const dead = document.querySelectorAll('.jp-OutputArea-child > * > .jupyter-widgets-disconnected');
    return dead.length === shown && [...document.querySelectorAll('.vfiosim-kept')].map(one => one.checkVisibility());
}"""
RESTART = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"


@pytest.mark.parametrize("elsewhere", turns([False, True], days=2))
def test_after_a_restart_of_the_kernel_the_picture_of_each_widget_stays_with_one_line_and_a_cell_that_is_run_again_lives(
    running: Page, jupyterlab: JupyterLab, elsewhere: bool
) -> None:
    assert said(running) == ["none"] * SHOWN
    if elsewhere:
        jupyterlab.restart_kernel("closed.ipynb")
    else:
        running.evaluate(RESTART)
    # A player alone needs no kernel, and plays on.
    kept = running.wait_for_function(AS_SOON_AS_DEAD, arg=SHOWN - 1).json_value()
    assert kept == [False, *[True] * (SHOWN - 1)]
    assert said(running)[1:] == [AGAIN] * (SHOWN - 1)
    expect(running.locator(".vfiosim-kept :is(.vfiosim-still, .vfiosim-player):visible")).not_to_have_count(0)
    expect(running.locator(".jupyter-widgets-disconnected:visible")).to_have_count(0)
    expect(running.locator(DEAD)).to_have_count(0)
    player = running.locator(".vfiosim-player:visible").first
    player.focus()
    running.keyboard.press("Home")
    expect(player).to_have_attribute("data-step", "0")
    run_all(running)
    widgets_live(running)
    save(running)


def test_a_notebook_that_was_run_and_saved_has_its_widgets_while_its_kernel_runs_and_what_is_left_of_them_afterwards(
    running: Page, jupyterlab: JupyterLab
) -> None:
    widgets_live(running)
    expect(running.locator(".vfiosim-kept .vfiosim-player")).to_have_count(0)  # nothing works in what is hidden
    jupyterlab.open(running, "closed.ipynb", "#player=1&step=2")
    widgets_live(running)
    expect(running.locator(".vfiosim-player:focus")).to_have_attribute("data-step", "2")
    jupyterlab.end_kernel("closed.ipynb")
    jupyterlab.open(running, "closed.ipynb", "#player=1&step=3")
    only_stills(running)
    expect(running.locator(".vfiosim-kept .vfiosim-player:focus")).to_have_attribute("data-step", "3")
    player = running.locator(".vfiosim-kept .vfiosim-player").first
    player.focus()
    running.keyboard.press("Home")
    expect(player).to_have_attribute("data-step", "0")


@pytest.fixture(scope="module")
def executed() -> Any:
    """The same notebook, run and with the state of its widgets in it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    return NotebookClient(notebook, timeout=600, resources={"metadata": {"path": ROOT}}).execute()


@pytest.mark.xdist_group("a notebook with the state of its widgets")  # it runs once
@pytest.mark.parametrize("stored", [True, False])
def test_an_export_shows_what_is_left_of_widgets_with_or_without_their_stored_state(
    browser: Browser, tmp_path: Path, executed: Any, stored: bool
) -> None:
    assert executed.metadata.widgets
    if not stored:
        executed = deepcopy(executed)
        del executed.metadata["widgets"]
    html, _ = HTMLExporter().from_notebook_node(executed)
    (tmp_path / "export.html").write_text(html, "utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "export.html").as_uri(), wait_until="domcontentloaded")
    only_stills(page)
    expect(page.locator(".vfiosim-player")).not_to_have_count(0)
    context.close()
