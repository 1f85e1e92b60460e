"""What a page shows while its kernel or its server is not there, and two notebooks beside each other on one page."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.browser import PATIENCE, JupyterLab, run_all, running_jupyterlab
from tests.conftest import ROOT
from tests.desk import button, press, said

pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("interrupted")]

BENCH = """
import os
from vfiosim.lab import Bench
print(os.getpid())
bench = Bench()
bench.buttons["open device"].click()
bench"""
PLAYER = "from vfiosim.lessons import one_bind\nfrom vfiosim.views import live\nlive(one_bind.rehearse(one_bind.bound))"
ABOVE = "one => getComputedStyle(one, '::before').content"
CONTROLS = ":is(.widget-button, input, select):visible:not(.vfiosim-player *)"
BESIDE = """async path => {
    window.jupyterapp.shell.mode = 'multiple-document';
    const options = { mode: 'split-right' };
    await window.jupyterapp.commands.execute('docmanager:open', { path, factory: 'Notebook', options });
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """A server of these tests' own: the last one ends it."""
    with running_jupyterlab(ROOT / "notebooks", tmp_path_factory.mktemp("interrupted")) as lab:
        yield lab


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page wide enough for two notebooks."""
    context = browser.new_context(viewport={"width": 1800, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    yield page
    context.close()


def says(place: Locator, words: str) -> None:
    """Wait until these words stand above it."""
    place.page.wait_for_function(
        f"([one, words]) => ({ABOVE})(one).includes(words)", arg=[place.element_handle(), words]
    )


def can_be_pressed(place: Locator) -> int:
    """How many of its controls still answer to a mouse."""
    return place.locator(CONTROLS).evaluate_all(
        "all => all.filter(one => getComputedStyle(one).pointerEvents !== 'none').length"
    )


def plays_on(place: Locator) -> None:
    """Its player needs no kernel."""
    player = place.page.locator(".vfiosim-player:visible").first
    for key, step in (("Home", "0"), ("ArrowRight", "1")):
        player.press(key)
        expect(player).to_have_attribute("data-step", step)


def test_of_two_notebooks_beside_each_other_keys_links_and_presenting_reach_the_one_in_front(
    page: Page, server: JupyterLab
) -> None:
    panes = page.locator(".jp-NotebookPanel")
    for number, name in enumerate(("left.ipynb", "right.ipynb")):
        server.add(name, PLAYER, PLAYER)
        if number:
            page.evaluate(BESIDE, name)
            server.wait_for_kernel(page, name)
        else:
            server.open(page, name)
        run_all(page)
    one, other = (panes.nth(number).locator(".vfiosim-player:visible").first for number in (0, 1))
    for here, there, step in ((one, other, "0"), (other, one, "1")):
        here.press("ArrowRight")
        expect(here).to_have_attribute("data-step", "1")
        expect(there).to_have_attribute("data-step", step)
    for number, step in ((0, "7"), (1, "6")):
        panes.nth(number).locator(".vfiosim-player:visible").first.focus()
        page.evaluate("step => { location.hash = `player=2&step=${step}`; }", step)
        expect(panes.nth(number).locator(".vfiosim-player:focus")).to_have_attribute("data-step", step)
    page.keyboard.press("F8")
    expect(panes.nth(0)).to_be_hidden()
    shown = panes.nth(1).locator(".vfiosim-player:focus")
    page.keyboard.press("PageDown")
    expect(shown).to_have_attribute("data-step", "7")
    page.keyboard.press("F8")
    expect(panes.nth(0)).to_be_visible()
    expect(panes.nth(1)).to_be_visible()


@pytest.fixture
def bench(page: Page, server: JupyterLab) -> Locator:
    """A bench with a device that has been opened."""
    server.open(page, server.add("bench.ipynb", BENCH))
    run_all(page)
    return page.locator(".vfiosim-lab").first


def test_a_press_while_the_kernel_is_frozen_is_told_so_and_done_when_it_goes_on(page: Page, bench: Locator) -> None:
    """As a computer does that sleeps."""
    kernel = int(page.locator(".jp-OutputArea-output pre").first.inner_text())
    os.kill(kernel, signal.SIGSTOP)
    try:
        button(bench, "open iommufd").click()
        says(bench, "The kernel does not answer")
        assert can_be_pressed(bench) == 0
        plays_on(bench)
    finally:
        os.kill(kernel, signal.SIGCONT)
    expect(said(bench)).to_contain_text("→ 4")
    says(bench, "none")
    press(bench, "dup")
    expect(said(bench)).to_contain_text("→ 5")


def test_without_a_way_to_the_server_nothing_can_be_pressed_until_it_is_back(page: Page, server: JupyterLab) -> None:
    lines: list[WebSocketRoute] = []
    there = True

    def connect(line: WebSocketRoute) -> None:
        if there:
            line.connect_to_server()
            lines.append(line)
        else:
            line.close()

    page.route_web_socket("**/channels*", connect)
    server.open(page, server.add("cut.ipynb", BENCH))
    run_all(page)
    bench = page.locator(".vfiosim-lab").first
    there = False
    for line in lines:
        line.close()
    says(bench, "The server is not reached")
    assert can_be_pressed(bench) == 0
    plays_on(bench)
    there = True
    says(bench, "none")
    press(bench, "open iommufd")
    expect(said(bench)).to_contain_text("→ 4")


def test_when_the_server_has_ended_every_bench_says_so_and_players_play_on(bench: Locator, server: JupyterLab) -> None:
    server.end()
    button(bench.page, "Close").click()  # of what JupyterLab itself says
    says(bench, "is")
    assert can_be_pressed(bench) == 0
    plays_on(bench)
