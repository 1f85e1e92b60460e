"""Only a browser: the notebooks as pages that no server computes for, on a network that has nothing but these pages."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from deploy.lite import serve
from tests.browser import PATIENCE, JupyterLab, chromium_flags, find_chromium
from tests.conftest import ROOT
from tests.desk import HERE, button
from vfiosim.lessons import one_bind

NO_OTHER_HOST = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
MOST = 20_000_000  # bytes on the wire of a first visit

RUN = f"""async wanted => {{
    {HERE}
    const book = here.content;
    const at = book.widgets.findIndex(one => one.model.type === 'code' && one.model.sharedModel.getSource().includes(wanted));
    book.activeCellIndex = at;
    await window.jupyterapp.commands.execute('notebook:run-cell');
    book.widgets[at].node.dataset.ran = wanted;
    const wrong = book.widgets[at].model.outputs.toJSON().find(one => one.output_type === 'error');
    return wrong ? `${{wrong.ename}}: ${{wrong.evalue}}` : null;
}}"""


class Site(NamedTuple):
    """Pages that are being served; `sent` is how many bytes of files went over the wire, one number for each."""

    url: str
    sent: list[int]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    subprocess.run(["make", "--silent", "lite"], cwd=ROOT, check=True)
    sent: list[int] = []

    class Counted(serve.Pages):
        def send_header(self, keyword: str, value: str) -> None:
            sent.extend([int(value)] if keyword == "Content-Length" else [])
            super().send_header(keyword, value)

    server = serve.serve(ROOT / "dist" / "lite", 0, "127.0.0.1", Counted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(f"http://127.0.0.1:{server.server_port}", sent)
    server.shutdown()


@pytest.fixture(scope="module")
def offline(browser: Browser, site: Site) -> Iterator[Page]:
    """A page of a browser that knows no host but these pages'; whoever asks for another one fails the test."""
    alone = browser.browser_type.launch(executable_path=find_chromium(), args=[*chromium_flags(), NO_OTHER_HOST])
    shown = alone.new_page(viewport={"width": 1280, "height": 720})
    shown.set_default_timeout(1000 * PATIENCE)
    asked: list[str] = []
    shown.context.on("request", lambda request: asked.append(request.url))
    yield shown
    alone.close()
    assert [url for url in asked if not url.startswith((site.url, "blob:", "data:"))] == []


def opened(page: Page, site: Site, name: str, *cells: str) -> Locator:
    """What the last of these cells shows, in the notebook of that name, as a first visitor gets it."""
    page.goto(f"{site.url}/lab/index.html?path={name}")
    JupyterLab(site.url, Path()).wait_for_kernel(page, name)
    for cell in cells:
        assert page.evaluate(RUN, cell) is None
    return page.locator(f"[data-ran='{cells[-1]}']")


pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("only a browser")]


def test_00_is_pressed_and_stepped_after_a_first_visit_of_twenty_megabytes(offline: Page, site: Site) -> None:
    cell = opened(offline, site, "00_start.ipynb", "first_bind")
    button(cell, "bind").click()
    player = cell.locator(".vfiosim-player")
    expect(player.locator(".stage .node[data-oid='thread vmm']")).to_be_visible()
    assert sum(site.sent) < MOST
    sentence = player.locator(".sentence").inner_text()
    player.focus()
    offline.keyboard.press("ArrowLeft")
    expect(player.locator(".sentence")).not_to_have_text(sentence)


def test_the_picture_of_01_is_that_of_a_laptop_with_graphviz_and_all_its_arrows(offline: Page, site: Site) -> None:
    bench = one_bind.bind()
    bench.buttons["bind"].click()
    drawn = bench.trace_pane.player.player.svg(whole=False)
    cell = opened(offline, site, "01_one_bind.ipynb", "import drill, one_bind", "one_bind.bind()")
    button(cell, "bind").click()
    there = cell.locator(".stage svg").first
    expect(there.locator(".node:not(.off)")).to_have_count(drawn.count('class="node '))
    expect(there.locator(".edge:not(.off)")).to_have_count(drawn.count('class="edge '))
    led = there.locator(".edge .line").evaluate_all(
        "lines => lines.map(one => one.getAttribute('d').split(/[ MC]+/).length)"
    )
    assert max(led) > 9, "no arrow was led round a box"


def test_in_10_a_race_is_explored_and_broken_without_its_lock(offline: Page, site: Site) -> None:
    lab = opened(offline, site, "10_races.ipynb", "import races as lesson", "lesson.lab()")
    lab.get_by_text("no: whatever the order").click()
    button(lab, "Answer").click()
    lab.get_by_text("take out vfio_device_set.lock").click()
    lab.get_by_text("no: whatever the order").click()
    button(lab, "Answer").click()
    button(lab, "Explore").click()
    expect(lab).to_contain_text("Broken")
    expect(lab.locator(".vfiosim-player .stage svg").first).to_be_visible()
