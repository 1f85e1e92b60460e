"""What only a real JupyterLab in a real browser can show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import find_chromium, run_all
from tests.conftest import ROOT
from tests.desk import Desk, button

COUNTER = """
import graphviz, ipywidgets, pygraphviz

def picture(edges):
    dot = graphviz.Digraph()
    for n in range(edges):
        dot.edge(f"fd{n}", f"file{n}")
    svg = pygraphviz.AGraph(string=dot.source).draw(format="svg", prog="dot").decode()
    return svg[svg.index("<svg"):]

view = ipywidgets.HTML(picture(1))
view.add_class("stage")
button = ipywidgets.Button(description="open()")
button.on_click(lambda _: setattr(view, "value", picture(2)))
ipywidgets.VBox([button, view])
"""


def test_a_button_redraws_a_graph_in_jupyterlab(desk: Desk) -> None:
    cell = desk.cell(COUNTER)
    edges = cell.locator(".stage svg g.edge")
    expect(edges).to_have_count(1)
    button(cell, "open()").click()
    expect(edges).to_have_count(2)


def test_a_cell_that_fails_fails_the_test(desk: Desk) -> None:
    with pytest.raises(AssertionError, match="a cell failed: ZeroDivisionError"):
        desk.cell("1 / 0")
    with pytest.raises(AssertionError, match="a cell failed: ZeroDivisionError"):
        run_all(desk.put("1 / 0", "print('never')"))


def test_a_refused_call_has_its_details_behind_a_click_and_the_cells_below_do_not_run(desk: Desk) -> None:
    # The kernel skips what is in its queue when a cell fails, not what a slow page sends later: the first cell waits for the last.
    page = desk.put(
        "import time; time.sleep(2); from vfiosim import Machine; p = Machine().process('vmm')", "p.close(99)", "1"
    )
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    summary = page.locator("details.vfiosim-details > summary")
    expect(summary).to_be_visible()
    expect(page.locator(".jp-OutputArea-output").first).to_contain_text("KernelError: [EBADF] 99 is not an open file")
    expect(page.locator("details.vfiosim-details > pre")).to_be_hidden()
    summary.click()
    expect(page.locator("details.vfiosim-details > pre")).to_contain_text("in refuse_if")
    counts = page.evaluate(
        "[...window.jupyterapp.shell.currentWidget.content.model.cells].map(cell => cell.executionCount)"
    )
    assert [count is not None for count in counts] == [False, True, True, False]


def test_a_script_error_fails_the_test_in_which_it_came_and_no_other(desk: Desk) -> None:
    with pytest.raises(AssertionError, match=r"script errors on the page.*oops"), desk.watched():
        desk.page.evaluate("() => new Promise(go => setTimeout(() => { setTimeout(go); throw new Error('oops'); }))")
    assert desk.errors == []


def test_the_next_test_finds_nothing_of_the_last_one(desk: Desk) -> None:
    desk.cell("import ipywidgets\nleft = ipywidgets.Button(description='left over')\nleft")
    desk.theme("JupyterLab Dark")
    desk.clear()
    expect(desk.page.locator(".jp-Cell")).to_have_count(1)
    expect(desk.page.locator("body")).to_have_attribute("data-jp-theme-light", "true")
    count = "from ipywidgets.widgets import widget\nprint('left' in globals(), len(widget._instances))"
    expect(desk.cell(count)).to_contain_text("False 0")


def test_the_shell_without_windows_is_taken_before_a_whole_chromium_and_what_is_asked_for_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert find_chromium() is None
    for name in ("chromium", "chromium-headless-shell"):
        (tmp_path / name).touch(0o755)
        assert find_chromium() == str(tmp_path / name)
    monkeypatch.setenv("CHROMIUM", "chromium")
    assert find_chromium() == str(tmp_path / "chromium")


def run_a_browser_test_without_chromium(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """One that nothing has to be imported for, with what stands in conftest.py."""
    (folder / "test_one.py").write_text("def test_what_needs_a_page(page): ...")
    options = ["-p", "no:cacheprovider", "-p", "tests.conftest", "--rootdir", str(folder)]
    command = [sys.executable, "-m", "pytest", str(folder), *options]
    clean = {name: value for name, value in os.environ.items() if name != "VFIOSIM_REQUIRE_BROWSER"}
    environment = clean | {"CHROMIUM": "/nowhere/chromium"} | settings
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_chromium_one_loud_line_says_what_did_not_run(tmp_path: Path) -> None:
    run = run_a_browser_test_without_chromium(tmp_path)
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("!!! 1 BROWSER TEST NOT RUN.") == 1, run.stdout


def test_without_chromium_a_run_that_requires_it_fails(tmp_path: Path) -> None:
    run = run_a_browser_test_without_chromium(tmp_path, VFIOSIM_REQUIRE_BROWSER="1")
    assert run.returncode == 1, run.stdout
    assert "Chromium was not found" in run.stdout
