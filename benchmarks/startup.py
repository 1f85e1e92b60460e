"""How long it takes from the command to the first picture that answers, beside a bare JupyterLab with one slider.

Goal: at most 1.15 times. With `--lite`, after `make lite`, the same in a page: from the first visit, at most 1.5 times a
bare notebook on the same pages. Needs Chromium. Seconds of a loaded machine mean little: compare those of one run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from deploy.lite import serve  # noqa: E402
from tests import browser as chromium  # noqa: E402
from tests.desk import RUN  # noqa: E402

ROUNDS = 3
BARE = "import ipywidgets\nipywidgets.IntSlider()"
OURS = "from vfiosim.lessons import start\nstart.first_bind()"
SEEN = {BARE: ".widget-slider .noUi-handle", OURS: ".vfiosim-player .stage svg .node"}


def laptop(browser: Browser, cell: str) -> float:
    """Seconds from the start of a JupyterLab."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium.running_jupyterlab(ROOT / "notebooks", Path(folder)) as server,
    ):
        page = _page(browser)
        server.open(page, server.add("timed.ipynb", cell))
        chromium.run_all(page)
        return _seen(page, cell, began)


def pages(browser: Browser, cell: str) -> float:
    """Seconds from the first visit of pages that are served on this computer."""
    server = serve.serve(ROOT / "dist" / "lite", 0, "127.0.0.1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    began = time.monotonic()
    page = _page(browser)
    page.goto(f"http://127.0.0.1:{server.server_port}/lab/index.html?path=00_start.ipynb")
    chromium.JupyterLab("", Path()).wait_for_kernel(page, "00_start.ipynb")
    page.evaluate(RUN, cell)
    took = _seen(page, cell, began)
    server.shutdown()
    return took


def _page(browser: Browser) -> Page:
    """A page of a visitor who was not here before."""
    page = browser.new_context().new_page()
    page.set_default_timeout(1000 * chromium.PATIENCE)
    return page


def _seen(page: Page, cell: str, began: float) -> float:
    expect(page.locator(SEEN[cell]).first).to_be_visible(timeout=1000 * chromium.PATIENCE)
    took = time.monotonic() - began
    page.context.close()
    return took


def compare(browser: Browser, title: str, way: Callable[[Browser, str], float], goal: float) -> None:
    """Both in turn, so that a busy moment meets both."""
    took = [(way(browser, BARE), way(browser, OURS)) for _ in range(ROUNDS)]
    bare, ours = (statistics.median(column) for column in zip(*took, strict=True))
    print(f"{title:12} bare {bare:5.1f} s   first picture {ours:5.1f} s   {ours / bare:.2f} times (goal {goal})")


def main() -> None:
    """The laptop, or with --lite the pages."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find_chromium(), args=chromium.chromium_flags())
        if "--lite" in sys.argv[1:]:
            compare(browser, "pages", pages, 1.5)
        else:
            compare(browser, "laptop", laptop, 1.15)
        browser.close()


if __name__ == "__main__":
    main()
