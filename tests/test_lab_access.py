"""The widgets of the lab by the rules of WCAG, levels A and AA, as axe-core checks them in JupyterLab, in light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.desk import PALE, Desk, button, press, settle
from tests.desk import SMALL as SMALL_ASKED
from tests.players import CONTRAST, RULES, violations

IMPORT = """
import asyncio
from vfiosim.lab import Bench, Races, Sandbox, room
from vfiosim.lessons import drill, races as hazards, who_holds_whom as lesson

def inside(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from inside(child)

def pressed(widget, *names):
    for name in names:
        at = next(one for one in inside(widget) if getattr(one, "description", "") == name)
        assert not at.disabled, name
        if hasattr(at, "click"):
            at.click()
        else:
            at.value = True
    return widget
"""
# Each with what is only there after a press: verdicts, complaints, rows, folded parts. It is pressed before it is shown.
WIDGETS = {
    "bench": 'pressed(Bench(), "open device", "open iommufd", "bind", "Why is it alive?", "Show code")',
    "sandbox": """box = pressed(Sandbox(), "open device", "open iommufd", "Call", "More calls", "Machine", "Code, save, load")
pressed(box, "Let it fail")
box.when.value = "by hand"
pressed(box, "Call")""",
    "races": "Races('R1')",
    "room": """mend = pressed(room('pasid-zero'), "What the real kernel answered")
mend.editor.value += "\\n    return"
pressed(mend, "Prove")
while mend.prove.disabled:
    await asyncio.sleep(0.01)
pressed(mend, "Solution")
mend.editor.value = mend.room.source(mend.which.value)
pressed(mend, "Prove")""",
    "prediction": """asked = lesson.predict("weak")
asked.choice.value = next(value for text, value in asked.choice.options if "because the group points to it" in text)
pressed(asked, "Answer")""",
    "alive": 'lesson.predict("who is alive?")',
    "number": 'lesson.predict("fork")',
    "quiz": "lesson.quiz()",
    "parsons": 'pressed(lesson.order(), "Check")',
    "goal": 'pressed(lesson.exercise(), "Check")',
    "drill": 'drill("errno", 7)',
    "by hand": 'pressed(hazards.by_hand(), "1 step", "Check")',
}
ASKED = {"prediction", "alive", "number", "quiz", "parsons", "goal", "drill"}
SMALL = """place => [...place.querySelectorAll('button, input, select, textarea, label, li, p, td, th, code, pre')]
    .filter(one => !one.closest('.vfiosim-player') && one.offsetParent && (one.textContent.trim() || one.value)
        && !['checkbox', 'radio'].includes(one.type) && parseFloat(getComputedStyle(one).fontSize) < 16)
    .map(one => `${getComputedStyle(one).fontSize} ${one.outerHTML.slice(0, 140)}`)"""


@pytest.fixture(scope="module")
def lab(jupyterlab_page: Desk) -> dict[str, Locator]:
    """All widgets, each with something said in it."""
    jupyterlab_page.clear()
    jupyterlab_page.cell(IMPORT)
    shown = {name: jupyterlab_page.widget(cell) for name, cell in WIDGETS.items()}
    expect(shown["sandbox"].locator(".vfiosim-schedule .vfiosim-row")).to_have_count(1)
    shown["races"].get_by_text("yes: in some order").click()
    press(shown["races"], "Answer", "Explore")
    expect(shown["races"]).to_contain_text("✕ You predicted yes")
    return shown


# What is no matter of colours is the same in the dark.
@pytest.mark.parametrize(("theme", "rules"), [("JupyterLab Light", RULES), ("JupyterLab Dark", CONTRAST)])
def test_no_rule_is_broken_and_no_letter_is_pale(
    lab: dict[str, Locator], jupyterlab_page: Desk, theme: str, rules: dict[str, Any]
) -> None:
    jupyterlab_page.theme(theme)
    for name, place in lab.items():
        place.evaluate("(place, name) => place.setAttribute('data-under-test', name)", name)
    found = Axe().run(jupyterlab_page.page, context="[data-under-test]", options=rules).response
    assert {place.get_attribute("data-under-test") for place in lab.values()} == {*WIDGETS}
    assert len(found["passes"]) > (15 if rules is RULES else 0)
    wrong = [
        (one["id"], part["html"][:200], part["failureSummary"]) for one in found["violations"] for part in one["nodes"]
    ]
    assert wrong == []
    assert {name: pale for name, place in lab.items() if (pale := place.evaluate(PALE))} == {}


@pytest.mark.parametrize("name", WIDGETS)
def test_letters_have_at_least_16_pixels_those_of_questions_exactly_and_nothing_sticks_out(
    lab: dict[str, Locator], name: str
) -> None:
    place = lab[name]
    assert place.evaluate(SMALL) == []
    if name in ASKED:
        assert place.evaluate(SMALL_ASKED.replace("LIMIT", "16")) == []
        assert place.evaluate(SMALL_ASKED.replace("< LIMIT", "> 16")) == []
    assert place.evaluate("place => place.scrollWidth - place.clientWidth") <= 1


def test_what_a_press_did_is_said_politely_and_what_is_wrong_at_once(lab: dict[str, Locator]) -> None:
    bench = lab["bench"]
    expect(bench.locator(".vfiosim-result [role=status]")).not_to_have_count(0)
    expect(lab["room"].get_by_role("alert")).to_contain_text("Nothing is changed")


# A colour that is set without its ground, or the other way round, is seen where page and system differ.
@pytest.mark.parametrize(
    ("ground", "system"),
    [
        ("#fff", "dark"),
        ("#383838", "light"),
        pytest.param("#fff", "light", marks=pytest.mark.nightly),
        pytest.param("#383838", "dark", marks=pytest.mark.nightly),
    ],
)
def test_outside_jupyterlab_letters_stand_out_in_any_page_whatever_the_system_is(
    lab: dict[str, Locator], tab: Page, tmp_path: Path, ground: str, system: Literal["light", "dark"]
) -> None:
    widgets = lab["bench"].page.evaluate(
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
    for name in ("to shared", "to the end"):
        keyboard.press("Tab")
        expect(button(rows.nth(0), name)).to_be_focused()
