"""Fixtures that every test may use: a JupyterLab server and a browser page."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import browser as chromium

ROOT = Path(__file__).resolve().parent.parent
NO_BROWSER = "Chromium was not found: install `chromium` or set CHROMIUM=/path/to/it"

os.environ["VFIOSIM_PROGRESS"] = ""  # what tests answer is nobody's progress

# A loaded machine is slow, not wrong.
settings.register_profile("vfiosim", deadline=None)
settings.load_profile("vfiosim")
expect.set_options(timeout=120_000)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the server or the page, and run it last: Playwright keeps an event loop in this thread."""
    for item in items:
        if {"jupyterlab", "page", "browser"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without Chromium a browser test is skipped, or fails where VFIOSIM_REQUIRE_BROWSER is set."""
    if item.get_closest_marker("browser") is None or chromium.find_chromium():
        return
    if os.environ.get("VFIOSIM_REQUIRE_BROWSER"):
        pytest.fail(NO_BROWSER, pytrace=False)
    pytest.skip(NO_BROWSER)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line, not to be missed, that the browser tests did not run."""
    skipped = terminalreporter.stats.get("skipped", [])
    if count := sum(NO_BROWSER in str(report.longrepr) for report in skipped):
        line = f"!!! {count} BROWSER TEST{'S' * (count > 1)} NOT RUN. {NO_BROWSER} !!!"
        terminalreporter.write_line(line, red=True, bold=True)


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.JupyterLab]:
    """A JupyterLab server with a copy of the notebooks."""
    with chromium.running_jupyterlab(ROOT / "notebooks", tmp_path_factory.mktemp("jupyterlab")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium with an empty profile of its own."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium.find_chromium(), args=chromium.chromium_flags())
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page in a fresh context, whose kernels end with it; a script error on it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    shown = context.new_page()
    shown.set_default_timeout(60_000)
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
