"""The widgets of the lab by the rules of WCAG, levels A and AA, as axe-core checks them in JupyterLab, in light and dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

from tests.desk import Desk, button, press, settle
from tests.test_player_access import RULES

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
def lab(jupyterlab_page: Desk) -> dict[str, Locator]:
    """All widgets, each with something said in it."""
    jupyterlab_page.clear()
    jupyterlab_page.cell(IMPORT)
    shown = {name: jupyterlab_page.widget(cell) for name, cell in WIDGETS.items()}
    _fill(shown)
    return shown


def _fill(lab: dict[str, Locator]) -> None:
    """Bring up what is only there after a press: verdicts, complaints, rows, folded parts."""
    press(lab["bench"], "open device", "open iommufd", "bind", "Why is it alive?", "Copy as code")
    press(lab["sandbox"], "open device", "open iommufd", "Call")
    press(lab["sandbox"], "More calls", "Machine", "Code, save, load", "Let it fail", "by hand", "Call")
    expect(lab["sandbox"].locator(".vfiosim-schedule .vfiosim-row")).to_have_count(1)
    lab["races"].get_by_text("yes: in some order").click()
    press(lab["races"], "Commit", "Explore")
    expect(lab["races"]).to_contain_text("✕ You predicted yes")
    press(lab["room"], "What the real kernel answered")
    editor = lab["room"].locator("textarea")
    function = editor.input_value()
    for text, name in ((function + "\n    oops", "Prove"), (function, "Repair"), (function, "Prove")):
        editor.fill(text)
        press(lab["room"], name)
    lab["prediction"].get_by_text("It lives on, because the group points to it").click()
    press(lab["prediction"], "Commit", "Reveal")
    press(lab["goal"], "Check")
    press(lab["parsons"], "Check")


@pytest.fixture(scope="module", params=["JupyterLab Light", "JupyterLab Dark"])
def themed(lab: dict[str, Locator], jupyterlab_page: Desk, request: pytest.FixtureRequest) -> dict[str, Locator]:
    jupyterlab_page.theme(request.param)
    return lab


def broken_rules(place: Locator) -> list[str]:
    place.evaluate("place => place.setAttribute('data-under-test', '')")
    found = Axe().run(place.page, context="[data-under-test]", options=RULES).response["violations"]
    place.evaluate("place => place.removeAttribute('data-under-test')")
    return [f"{one['id']}: {part['html'][:200]} {part['failureSummary']}" for one in found for part in one["nodes"]]


@pytest.mark.parametrize("name", WIDGETS)
def test_no_rule_is_broken(themed: dict[str, Locator], name: str) -> None:
    assert broken_rules(themed[name]) == []


@pytest.mark.parametrize("name", WIDGETS)
def test_letters_have_at_least_18_pixels_and_nothing_sticks_out(lab: dict[str, Locator], name: str) -> None:
    place = lab[name]
    assert place.evaluate(SMALL) == []
    assert place.evaluate("place => place.scrollWidth - place.clientWidth") <= 1


def test_what_a_press_did_is_said_politely_and_what_is_wrong_at_once(lab: dict[str, Locator]) -> None:
    bench = lab["bench"]
    expect(bench.locator(".vfiosim-result [role=status]")).not_to_have_count(0)
    expect(lab["room"].get_by_role("alert")).to_contain_text("Nothing is changed")


def test_the_keyboard_alone_explores_a_race_and_moves_a_thread(lab: dict[str, Locator]) -> None:
    races = lab["races"]
    keyboard = races.page.keyboard
    for name, shown in (("Reset", "Predict first"), ("Schedule it yourself", "You are the scheduler")):
        button(races, name).focus()
        keyboard.press("Enter")
        expect(races).to_contain_text(shown)
        settle(races.page)
    rows = races.locator(".vfiosim-schedule .vfiosim-row")
    button(rows.nth(0), "1 step").focus()
    keyboard.press("Enter")
    expect(races.locator(".vfiosim-sandbox .vfiosim-result")).to_contain_text("under way")
    expect(button(rows.nth(0), "1 step")).to_be_focused()
    keyboard.press("Tab")
    expect(button(rows.nth(0), "to the end")).to_be_focused()
