"""Fixtures that every test may use: a JupyterLab server and a browser page."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import browser as chromium
from tests import turns

# What takes seconds to import is imported by who uses it: every worker begins with this file, and who collects nothing.
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.calls import Space
    from tests.desk import Desk
    from vfiosim import Machine, Process

ROOT = Path(__file__).resolve().parent.parent
BY_NIGHT = "VFIOSIM_TESTS_BY_NIGHT"  # set in the environment of every process that runs with --nightly
NO_BROWSER = "Chromium was not found: install `chromium` or set CHROMIUM=/path/to/it"

os.environ["VFIOSIM_PROGRESS"] = ""  # what tests answer is nobody's progress

# Searches keep hundreds of machines: to look through all of them for garbage, again and again, is a third of the work.
gc.set_threshold(20_000, 20, 100)

# Two processes have a page of JupyterLab each. The tests of these files share the first one, all others the second.
FIRST_PAGE = {"test_browser", "test_lab_access", "test_lab_everywhere", "test_lab_screen", "test_sandbox_browser"}


@pytest.fixture
def m() -> Machine:
    """The machine of most tests."""
    from vfiosim import Machine

    return Machine("lab")


@pytest.fixture
def p(m: Machine) -> Process:
    """A program on it."""
    return m.process("vmm")


@pytest.fixture
def s(p: Process) -> Space:
    """A device, bound to an iommufd that has an address space."""
    from tests.calls import Space

    return Space(p)


@pytest.fixture(autouse=True)
def notebook() -> None:
    """Each test begins as a notebook does: nothing has a place in the picture yet."""
    if pane := sys.modules.get("vfiosim.lab.trace_pane"):
        pane.NOTEBOOK.forget()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run also what is too heavy for every change")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("nightly"):
        os.environ[BY_NIGHT] = "1"  # so that other processes know it, too


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the server or the page, and put everything in the order in which two workers end together.

    What shares something dear (`xdist_group`) comes first, since it goes to one worker as a whole. What needs a browser comes last,
    and with it the rest of its group: Playwright keeps an event loop in its thread, and others want one of their own there.
    """
    for item in items:
        if uses(item, "browser", "jupyterlab", "page"):
            item.add_marker("browser")
        if uses(item, "jupyterlab"):
            page = "first" if item.path.stem in FIRST_PAGE else "second"
            item.add_marker(pytest.mark.xdist_group(f"{page} page of JupyterLab"))
    with_browser = {group_of(item) for item in items if marked(item, "browser")} - {""}

    def place(item: pytest.Item) -> tuple[bool, ...]:
        group, browser = group_of(item), marked(item, "browser")
        return browser or group in with_browser, not group, not uses(item, "jupyterlab"), browser

    items.sort(key=place)
    if not config.getoption("nightly"):
        config.hook.pytest_deselected(items=[item for item in items if marked(item, "nightly")])
        items[:] = [item for item in items if not marked(item, "nightly")]


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: no search for garbage goes through it."""
    gc.freeze()


def uses(item: pytest.Item, *fixtures: str) -> bool:
    return not {*fixtures}.isdisjoint(getattr(item, "fixturenames", ()))


def group_of(item: pytest.Item) -> str:
    mark = item.get_closest_marker("xdist_group")
    return str(mark.args[0]) if mark else ""


def marked(item: pytest.Item, mark: str) -> bool:
    return item.get_closest_marker(mark) is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without Chromium a browser test is skipped, or fails where VFIOSIM_REQUIRE_BROWSER is set."""
    if not marked(item, "browser") or chromium.find_chromium():
        return
    if os.environ.get("VFIOSIM_REQUIRE_BROWSER"):
        pytest.fail(NO_BROWSER, pytrace=False)
    pytest.skip(NO_BROWSER)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line, not to be missed, that the browser tests did not run; and what had its turn, if not all had to run."""
    if not terminalreporter.config.option.nightly:
        day = f"{date.fromordinal(turns.DAY)}"
        terminalreporter.write_line(f"Of what takes turns: those of {day} ({turns.VARIABLE}={day} has them again)")
    if "not one_python" in terminalreporter.config.option.markexpr:
        passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
        ran = {node.partition("[")[2].removesuffix("]") for node in passed if node.endswith(".ipynb]")}
        terminalreporter.write_line(f"Notebooks of today: {', '.join(sorted(ran)) or 'none'}")
    skipped = terminalreporter.stats.get("skipped", [])
    if count := sum(NO_BROWSER in str(report.longrepr) for report in skipped):
        line = f"!!! {count} BROWSER TEST{'S' * (count > 1)} NOT RUN. {NO_BROWSER} !!!"
        terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(autouse=True)
def no_callback_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets writes an exception of a button's callback into a log and goes on; here it fails the test."""
    with caplog.at_level(logging.WARNING):
        yield
    failed = [record for record in caplog.get_records("call") if record.exc_info]
    assert not failed, failed[0].exc_text or failed[0].exc_info


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.JupyterLab]:
    """A JupyterLab server with a copy of the notebooks."""
    with chromium.running_jupyterlab(ROOT / "notebooks", tmp_path_factory.mktemp("jupyterlab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium with an empty profile of its own."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=120_000)  # a loaded machine is slow, not wrong
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium.find_chromium(), args=chromium.chromium_flags())
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page in a fresh context, whose kernels end with it; a script error on it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    shown = context.new_page()
    shown.set_default_timeout(1000 * chromium.PATIENCE)
    errors: list[str] = []
    shown.on("pageerror", lambda error: errors.append(str(error)))
    yield shown
    context.close()
    if "jupyterlab" in request.fixturenames:
        request.getfixturevalue("jupyterlab").leave(shown)
    assert not errors, f"script errors on the page: {errors}"


@pytest.fixture(scope="session")
def one_tab(browser: Browser) -> Iterator[Page]:
    """The page behind `tab`."""
    context = browser.new_context()
    shown = context.new_page()
    shown.set_default_timeout(120_000)
    yield shown
    context.close()


@pytest.fixture(scope="session")
def jupyterlab_page(browser: Browser, jupyterlab: chromium.JupyterLab) -> Iterator[Desk]:
    """The page that the tests of this process share, as the last of them has left it."""
    from tests.desk import Desk

    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(1000 * chromium.PATIENCE)
    yield Desk(page, jupyterlab)
    context.close()


@pytest.fixture
def tab(one_tab: Page) -> Iterator[Page]:
    """One page for all tests that open a file of their own in it: a context for each of them costs more than the test.

    A script error on it fails the test.
    """
    one_tab.set_viewport_size({"width": 1280, "height": 720})
    one_tab.emulate_media(color_scheme="light", reduced_motion="no-preference")
    one_tab.context.set_offline(False)
    errors: list[str] = []

    def note(error: object) -> None:
        errors.append(str(error))

    one_tab.on("pageerror", note)
    yield one_tab
    one_tab.remove_listener("pageerror", note)
    assert not errors, f"script errors on the page: {errors}"


@pytest.fixture
def desk(jupyterlab_page: Desk) -> Desk:
    """The shared page of JupyterLab with nothing on it."""
    jupyterlab_page.clear()
    return jupyterlab_page


@pytest.fixture(autouse=True)
def _no_script_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """A script error on the shared page fails the test in which it came."""
    if "jupyterlab_page" not in request.fixturenames:
        yield
        return
    with request.getfixturevalue("jupyterlab_page").watched():
        yield
