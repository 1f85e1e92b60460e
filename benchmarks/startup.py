"""How long it takes from the command to the first picture that answers, beside a bare JupyterLab with one slider.

Goal: at most 1.15 times. With `--lite`, after `make lite`, the same in a page: from a first visit until the first press is
answered, at most 1.5 times a bare notebook with a button on the same pages; and what that press alone took. `--once` takes one
round in place of three. Needs Chromium. Seconds of a loaded machine mean little: compare those of one run.
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

ROUNDS = 1 if "--once" in sys.argv[1:] else 3
SLIDER = "import ipywidgets\nipywidgets.IntSlider()"
BUTTON = """import ipywidgets
button, told = ipywidgets.Button(description="bind"), ipywidgets.Label()
button.on_click(lambda _: setattr(told, "value", "bound"))
ipywidgets.VBox([button, told])"""
OURS = "from vfiosim.lessons import start\nstart.first_bind()"
SEEN = {SLIDER: ".widget-slider .noUi-handle", OURS: ".vfiosim-player .stage svg .node"}
ANSWERED = {BUTTON: ".widget-label:has-text('bound')", OURS: ".vfiosim-player .stage .node[data-oid='thread vmm']"}


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
        return _seen(page, SEEN[cell], began)


def pages(browser: Browser, cell: str) -> float:
    """Seconds from the first visit of pages that are served on this computer."""
    server = serve.serve(ROOT / "dist" / "lite", 0, "127.0.0.1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    began = time.monotonic()
    page = _page(browser)
    page.goto(f"http://127.0.0.1:{server.server_port}/lab/index.html?path=00_start.ipynb")
    chromium.JupyterLab("", Path()).wait_for_kernel(page, "00_start.ipynb")
    page.evaluate(RUN, cell)
    button = page.get_by_role("button", name="bind", exact=True).last
    button.wait_for()
    pressed = time.monotonic()
    button.click()
    took = _seen(page, ANSWERED[cell], began)
    print(
        f"  {'first picture' if cell == OURS else 'bare'}: {took:.1f} s, of these after the press {took - pressed + began:.1f}"
    )
    server.shutdown()
    return took


def _page(browser: Browser) -> Page:
    """A page of a visitor who was not here before."""
    page = browser.new_context().new_page()
    page.set_default_timeout(1000 * chromium.PATIENCE)
    return page


def _seen(page: Page, what: str, began: float) -> float:
    expect(page.locator(what).first).to_be_visible(timeout=1000 * chromium.PATIENCE)
    took = time.monotonic() - began
    page.context.close()
    return took


def compare(browser: Browser, title: str, way: Callable[[Browser, str], float], bare_cell: str, goal: float) -> None:
    """Both in turn, so that a busy moment meets both."""
    took = [(way(browser, bare_cell), way(browser, OURS)) for _ in range(ROUNDS)]
    bare, ours = (statistics.median(column) for column in zip(*took, strict=True))
    print(f"{title:12} bare {bare:5.1f} s   first picture {ours:5.1f} s   {ours / bare:.2f} times (goal {goal})")


def main() -> None:
    """The laptop, or with --lite the pages."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find_chromium(), args=chromium.chromium_flags())
        if "--lite" in sys.argv[1:]:
            compare(browser, "pages", pages, BUTTON, 1.5)
        else:
            compare(browser, "laptop", laptop, SLIDER, 1.15)
        browser.close()


if __name__ == "__main__":
    main()
