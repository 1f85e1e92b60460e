"""The widgets of the lab by the rules of WCAG, levels A and AA, as axe-core checks them in JupyterLab, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import JupyterLab, run_all
from tests.players import CONTRAST, RULES, violations
from tests.test_lab_everywhere import button, press, widget

IMPORT = "from vfiosim.lab import Bench, Races, Sandbox, present, room\nfrom vfiosim.lessons import drill, who_holds_whom as lesson"
WIDGETS = {
    "bench": "Bench()",
    "sandbox": "Sandbox()",
    "races": "Races('R1')",
    "room": "room('failed-second-bind')",
    "prediction": 'lesson.predict("weak")',
    "alive": 'lesson.predict("who is alive?")',
    "number": 'lesson.predict("fork")',
    "quiz": "lesson.quiz()",
    "parsons": "lesson.order()",
    "goal": "lesson.exercise()",
    "drill": 'drill("errno", 7)',
}
SMALL = """place => [...place.querySelectorAll('button, input, select, textarea, label, li, p, td, th, code, pre')]
    .filter(one => !one.closest('.vfiosim-player') && one.offsetParent && (one.textContent.trim() || one.value)
        && !['checkbox', 'radio'].includes(one.type) && parseFloat(getComputedStyle(one).fontSize) < 18)
    .map(one => `${getComputedStyle(one).fontSize} ${one.outerHTML.slice(0, 140)}`)"""


@pytest.fixture(scope="module")
def lab(browser: Browser, jupyterlab: JupyterLab) -> Iterator[Page]:
    """All widgets, each with something said in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 1500}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(60_000)
    jupyterlab.open(page, jupyterlab.add("access.ipynb", IMPORT, *WIDGETS.values()))
    run_all(page)
    _fill(page)
    yield page
    context.close()


def _fill(page: Page) -> None:
    """Bring up what is only there after a press: verdicts, complaints, rows, folded parts."""
    for name in ("bench", "sandbox"):
        for press_on in ("open device", "open iommufd", "Call" if name == "sandbox" else "bind"):
            press(widget(page, WIDGETS[name]), press_on)
    press(widget(page, WIDGETS["bench"]), "Why is it alive?")
    press(widget(page, WIDGETS["bench"]), "Copy as code")
    sandbox = widget(page, WIDGETS["sandbox"])
    for name in ("More calls", "Machine", "Code, save, load", "Let it fail", "by hand", "Call"):
        press(sandbox, name)
    expect(sandbox.locator(".vfiosim-schedule .vfiosim-row")).to_have_count(1)
    races = widget(page, WIDGETS["races"])
    races.get_by_text("yes: in some order").click()
    for name in ("Commit", "Explore"):
        press(races, name)
    expect(races).to_contain_text("✕ You predicted yes")
    room = widget(page, WIDGETS["room"])
    press(room, "What the real kernel answered")
    function = room.locator("textarea").input_value()
    for text, name in ((function + "\n    oops", "Prove"), (function, "Repair"), (function, "Prove")):
        room.locator("textarea").fill(text)
        press(room, name)
    weak = widget(page, WIDGETS["prediction"])
    weak.get_by_text("It lives on, because the group points to it").click()
    for name in ("Commit", "Reveal"):
        press(weak, name)
    press(widget(page, WIDGETS["goal"]), "Check")
    press(widget(page, WIDGETS["parsons"]), "Check")


@pytest.fixture(scope="module", params=["JupyterLab Light", "JupyterLab Dark"])
def themed(lab: Page, request: pytest.FixtureRequest) -> Page:
    lab.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", request.param)
    dark = request.param.endswith("Dark")
    expect(lab.locator("body")).to_have_attribute("data-jp-theme-light", "false" if dark else "true")
    return lab


def broken_rules(place: Locator) -> list[str]:
    place.evaluate("place => place.setAttribute('data-under-test', '')")
    found = Axe().run(place.page, context="[data-under-test]", options=RULES).response["violations"]
    place.evaluate("place => place.removeAttribute('data-under-test')")
    return [f"{one['id']}: {part['html'][:200]} {part['failureSummary']}" for one in found for part in one["nodes"]]


@pytest.mark.parametrize("name", WIDGETS)
def test_no_rule_is_broken(themed: Page, name: str) -> None:
    assert broken_rules(widget(themed, WIDGETS[name])) == []


@pytest.mark.parametrize("name", WIDGETS)
def test_letters_have_at_least_18_pixels_and_nothing_sticks_out(lab: Page, name: str) -> None:
    place = widget(lab, WIDGETS[name])
    assert place.evaluate(SMALL) == []
    assert place.evaluate("place => place.scrollWidth - place.clientWidth") <= 1


def test_what_a_press_did_is_said_politely_and_what_is_wrong_at_once(lab: Page) -> None:
    bench = widget(lab, WIDGETS["bench"])
    expect(bench.locator(".vfiosim-result [role=status]")).not_to_have_count(0)
    expect(widget(lab, WIDGETS["room"]).get_by_role("alert")).to_contain_text("Nothing is changed")


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize("ground", ["#fff", "#383838"])
def test_outside_jupyterlab_letters_stand_out_in_any_page_whatever_the_system_is(
    lab: Page, tab: Page, tmp_path: Path, ground: str, system: Literal["light", "dark"]
) -> None:
    widgets = lab.evaluate(
        """() => [...document.querySelectorAll('.vfiosim-lab:not(.vfiosim-lab .vfiosim-lab)')].map(one => {
            const copy = one.cloneNode(true);
            copy.querySelectorAll('.vfiosim-player').forEach(player => player.remove());
            return copy.outerHTML;
        })"""
    )
    assert len(widgets) == len(WIDGETS)
    page = f'<!doctype html><meta charset="utf-8"><body style="background: {ground}">{"".join(widgets)}'
    (tmp_path / "page.html").write_text(page, "utf-8")
    tab.emulate_media(color_scheme=system)
    tab.goto((tmp_path / "page.html").as_uri())
    assert violations(tab, ".vfiosim-lab", CONTRAST) == []


def test_the_keyboard_alone_explores_a_race_and_moves_a_thread(lab: Page) -> None:
    races = widget(lab, WIDGETS["races"])
    for name, shown in (("Reset", "Predict first"), ("Schedule it yourself", "You are the scheduler")):
        lab.wait_for_timeout(600)
        button(races, name).focus()
        lab.keyboard.press("Enter")
        expect(races).to_contain_text(shown)
    rows = races.locator(".vfiosim-schedule .vfiosim-row")
    button(rows.nth(0), "1 step").focus()
    lab.keyboard.press("Enter")
    expect(races.locator(".vfiosim-sandbox .vfiosim-result")).to_contain_text("under way")
    expect(button(rows.nth(0), "1 step")).to_be_focused()
    lab.keyboard.press("Tab")
    expect(button(rows.nth(0), "to the end")).to_be_focused()
