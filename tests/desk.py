"""One page of JupyterLab for many tests, and what a reader does on it.

To load JupyterLab costs as much as a dozen tests, and a kernel that has imported the lab as much as two. So tests run their
cells one after the other on one page with one kernel. Each begins with an empty notebook, a kernel without variables and widgets,
light colours, and a screen of one size.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import not_ as nothing
from typing import Any

from playwright.sync_api import Error, Locator, Page, expect

from tests.browser import JupyterLab, run_all

HOME = "desk.ipynb"
# What anywidget says on a page that was busy for two seconds. It is no fault of the page: `listen.js` goes on all the same, and
# what a reader has of the widget then is asked in test_slow.py.
SLOW_PAGE = "[anywidget] Failed to initialize model."
SCREEN = (1500, 2200)

# Each of these is JavaScript. `here` is what is open, `kernel` its kernel.
HERE = "const here = window.jupyterapp.shell.currentWidget, kernel = here.sessionContext.session?.kernel;"
SETTLED = f"async () => {{ {HERE} await kernel.requestKernelInfo(); }}"
LEAVE_ALL_BUT = """async home => {
    for (const one of [...window.jupyterapp.shell.widgets('main')].filter(one => one.context?.path !== home)) {
        if (one.sessionContext?.session) await one.sessionContext.shutdown();
        if (one.context) one.context.model.dirty = false;
        one.close();
    }
}"""
OPEN = "async path => { await window.jupyterapp.commands.execute('docmanager:open', { path, factory: 'Notebook' }); }"
THEME = "async theme => { await window.jupyterapp.commands.execute('apputils:change-theme', { theme }); }"
# JupyterLab 4.6 attaches cells in its idle time (`_runOnIdleTime` in packages/notebook/src/widget.ts), and a cell that is deleted
# meanwhile can be detached where it does not hang (jupyterlab#15415 has the same error): so not before that is done.
EMPTY = f"""async () => {{
    await new Promise(idle => requestIdleCallback(() => requestAnimationFrame(idle), {{ timeout: 3000 }}));
    {HERE}
    const cells = here.content.model.sharedModel;
    cells.deleteCellRange(1, cells.cells.length);
}}"""
FORGET = f"async code => {{ {HERE} await kernel.requestExecute({{ code, store_history: false }}).done; }}"
CLEAN = """
from ipywidgets import Widget
from vfiosim.lab.presenter import presenter
presenter.on = False
Widget.close_all()
get_ipython().run_line_magic("reset", "-f")
"""
PUT = f"""sources => {{
    {HERE}
    const cells = here.content.model.sharedModel;
    const made = source => ({{ cell_type: 'code', source, metadata: {{ trusted: true }} }});
    cells.insertCells(cells.cells.length, sources.map(made));
}}"""
RUN = f"""async source => {{
    {HERE}
    const book = here.content, cells = book.model.sharedModel, at = cells.cells.length;
    cells.insertCell(at, {{ cell_type: 'code', source, metadata: {{ trusted: true }} }});
    book.activeCellIndex = at;
    book.widgets[at].node.dataset.cell = book.model.cells.get(at).id;
    await window.jupyterapp.commands.execute('notebook:run-cell');
    const wrong = book.model.cells.get(at).outputs.toJSON().find(one => one.output_type === 'error');
    return [book.model.cells.get(at).id, wrong ? `${{wrong.ename}}: ${{wrong.evalue}}` : null];
}}"""


class Desk:
    """A page of JupyterLab that tests use one after the other. `errors` are the script errors that were seen on it."""

    def __init__(self, page: Page, lab: JupyterLab) -> None:
        self.page, self.lab = page, lab
        self.errors: list[str] = []
        page.on("pageerror", lambda error: None if SLOW_PAGE in str(error) else self.errors.append(told(error)))
        lab.add(HOME, "")
        lab.open(page, HOME)

    def clear(self) -> None:
        """The desk as it was at first, whatever a test has left on it."""
        self.page.set_viewport_size({"width": SCREEN[0], "height": SCREEN[1]})
        self.page.evaluate(LEAVE_ALL_BUT, HOME)
        self.show(HOME)
        self.page.evaluate(EMPTY)
        self.page.evaluate(FORGET, CLEAN)
        self.theme("JupyterLab Light")

    def cell(self, code: str) -> Locator:
        """Run this code in a new cell; what the cell shows. A cell that fails fails the test."""
        name, wrong = self.page.evaluate(RUN, code)
        assert wrong is None, f"a cell failed: {wrong}"
        cell = self.page.locator(f'[data-cell="{name}"]')
        cell.scroll_into_view_if_needed()
        return cell

    def put(self, *cells: str) -> Page:
        """Cells with this code, which have not run, below those that are there."""
        self.page.evaluate(PUT, [*cells])
        return self.page

    def widget(self, code: str) -> Locator:
        """Run this code in a new cell; the widget that it shows."""
        shown = self.cell(code).locator(".vfiosim-lab").first
        expect(shown).to_be_visible()
        return shown

    def show(self, name: str) -> Page:
        """Open a notebook with a kernel of its own."""
        self.page.evaluate(OPEN, name)
        self.lab.wait_for_kernel(self.page, name)
        return self.page

    def run(self, name: str) -> Page:
        """Open a notebook with a kernel of its own, and run all of it."""
        run_all(self.show(name))
        return self.page

    def theme(self, name: str) -> None:
        """Light or dark: "JupyterLab Light", "JupyterLab Dark"."""
        self.page.evaluate(THEME, name)
        light = "false" if name.endswith("Dark") else "true"
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", light)
        # JupyterLab 4.6 covers the page while a theme loads, and takes the cover off 200 ms later (`splash` in its
        # apputils-extension): twice, which is a script error, where the next theme comes before that. No reader is as fast.
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A script error on the page meanwhile is a failure."""
        del self.errors[:]
        yield
        settle(self.page)
        found, self.errors[:] = [*self.errors], []
        assert not found, f"script errors on the page: {found}"


def told(error: Error) -> str:
    """What went wrong in a script, and where."""
    return f"{error}\n{error.stack}"


# ---- what a reader does


def settle(page: Page) -> None:
    """Wait until the kernel has done all that it was asked for."""
    page.evaluate(SETTLED)


def becomes(place: Locator, read: str, right: Callable[[Any], bool] = nothing) -> None:
    """Wait until what this JavaScript reads of the place is right: a press is done before the page has drawn what came of it."""
    deadline = time.monotonic() + 120
    while not right(told := place.evaluate(read)) and time.monotonic() < deadline:
        place.page.wait_for_timeout(50)
    assert right(told), told


def buttons(place: Page | Locator, name: str) -> Locator:
    """All buttons of this name."""
    return place.get_by_role("button", name=name, exact=True)


def button(place: Page | Locator, name: str) -> Locator:
    """The first button of this name."""
    return buttons(place, name).first


def press(place: Locator, *names: str) -> None:
    """Press these buttons one after the other, as a reader who looks at what came of the last one."""
    for name in names:
        expect(place).not_to_have_class(re.compile("vfiosim-busy"))
        click(button(place, name))


def click(control: Locator) -> None:
    """Click, and wait until the kernel has done what that asks for."""
    control.click()
    settle(control.page)


def said(place: Locator) -> Locator:
    """What a bench or a sandbox says about the last press."""
    return place.locator(".vfiosim-result").first


def pressed(place: Locator, *pairs: tuple[str, str]) -> None:
    """Press each of these buttons, and see what is said then."""
    for name, words in pairs:
        press(place, name)
        expect(said(place)).to_contain_text(words)


def select(place: Locator, label: str, value: str) -> None:
    """Choose from a list."""
    place.get_by_label(label, exact=True).first.select_option(label=value)


def cell_of(page: Page, call: str) -> Locator:
    """The cell of a notebook that makes this call, on the screen."""
    cell = page.locator(".jp-CodeCell", has_text=call).first
    cell.scroll_into_view_if_needed()
    return cell


# ---- what is wrong with what is shown: JavaScript, of a part of the page

SMALL = """ask => [...ask.querySelectorAll('button, input, label, li, p, td, th, code, .widget-html-content')]
    .filter(e => !e.closest('.vfiosim-player') && !e.closest('.vfiosim-lab:not(.vfiosim-ask)') && e.offsetParent
        && e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < LIMIT)
    .map(e => e.outerHTML.slice(0, 120))"""
PALE = """ask => {
    const part = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
    const numbers = text => (text.match(/[0-9.]+/g) || []).map(Number);
    const back = e => {
        for (; e; e = e.parentElement) {
            const colour = numbers(getComputedStyle(e).backgroundColor);
            if (colour[3] !== 0) return colour;
        }
        return [255, 255, 255];
    };
    return [...ask.querySelectorAll('button, label, li, p, td, th, b, code, a, span')]
        .filter(e => !e.closest('.vfiosim-player') && e.offsetParent && e.textContent.trim() && !e.disabled)
        .map(e => [e, light(numbers(getComputedStyle(e).color)), light(back(e))])
        .filter(([e, a, b]) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5)
        .map(([e]) => e.outerHTML.slice(0, 120));
}"""
