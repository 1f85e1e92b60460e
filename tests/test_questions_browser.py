"""Questions in a real JupyterLab: each control pressed once, and what it does to the page."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.desk import SMALL, Desk, becomes, button, press, settle

LESSON = "from vfiosim.lessons import who_holds_whom as lesson\nfrom vfiosim.lab import present, progress\n"
LESSON += "from vfiosim.lessons import drill, level_track"
# Runs the cell with the bench as Shift+Enter does, which goes on to the next one.
RUN_AND_GO_ON = """async () => {
    const book = window.jupyterapp.shell.currentWidget.content;
    book.activeCellIndex = book.widgets.length - 3;
    await window.jupyterapp.commands.execute('notebook:run-cell-and-select-next');
}"""
TOP = "one => one.getBoundingClientRect().top"
SHOTS = os.environ.get("VFIOSIM_SHOTS", "")  # a folder for pictures to be looked at


@pytest.fixture
def lab(desk: Desk) -> Desk:
    desk.page.set_viewport_size({"width": 1920, "height": 2400 if SHOTS else 1080})
    desk.cell(LESSON)
    return desk


def shoot(place: Locator, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        place.screenshot(path=f"{SHOTS}/{name}.png")


def test_nodes_are_ticked_by_a_click_in_the_picture_and_by_the_list(lab):
    place = lab.widget('lesson.predict("who is alive?")')
    box = place.get_by_role("checkbox", name="iommufd_ctx 1")
    place.locator('.vfiosim-player .title[data-part="iommufd_ctx 1"]').first.click()
    expect(box).to_be_checked()
    place.get_by_role("checkbox", name="file vfio0#1").check()
    expect(place.locator('.vfiosim-player .node[data-oid="file vfio0#1"]')).to_have_attribute("aria-pressed", "true")
    device = place.get_by_role("checkbox", name="iommufd_device 1")
    place.locator('.vfiosim-player .node[data-oid="iommufd_device 1"]').focus()
    lab.page.keyboard.press("Enter")
    expect(device).to_be_checked()
    lab.page.keyboard.press("Enter")
    expect(device).not_to_be_checked()
    shoot(place, "alive-picked")
    button(place, "Hint").click()
    expect(place).to_contain_text("Hint 1 of 2.")
    button(place, "Answer").click()
    expect(place).to_contain_text("3 of 5 are wrong.")
    expect(place.locator(".vfiosim-belief")).to_have_text([re.compile("Seen in ")] * 2)
    expect(place.locator(".vfiosim-player")).to_have_count(2)
    shoot(place, "alive-revealed")
    button(place, "Reset").click()
    expect(box).not_to_be_checked()


def test_a_number_is_predicted_with_the_keyboard_alone(lab):
    place = lab.widget('lesson.predict("fork")')
    place.get_by_label("your prediction").focus()
    lab.page.keyboard.type("one")
    lab.page.keyboard.press("Tab")
    lab.page.keyboard.press("Enter")
    expect(place.get_by_role("alert")).to_have_text("Type a whole number in digits.")
    place.get_by_label("your prediction").fill("1")
    lab.page.keyboard.press("Tab")
    lab.page.keyboard.press("Enter")
    expect(place).to_contain_text("✕ You predicted 1. The simulator says 2.")
    expect(place).to_contain_text("It gets a table of its own, with the same files.")
    shoot(place, "number")
    lab.put("print('gone', 'on')")
    lab.page.keyboard.press("Shift+Enter")
    expect(lab.page.get_by_text("gone on", exact=True)).to_be_visible()
    expect(place).to_contain_text("You predicted 1.")


def test_a_line_is_dragged_to_its_place_or_goes_there_with_alt_and_an_arrow(lab):
    place = lab.widget("lesson.order()")
    rows, said = place.locator(".vfiosim-order-row"), place.locator(".vfiosim-said")
    expect(rows).to_have_count(6)
    words = [row.split(". ", 1)[-1] for row in rows.locator(".vfiosim-line").all_inner_texts()]
    mouse, taken, goal = lab.page.mouse, rows.nth(4).locator(".vfiosim-line"), rows.nth(1)
    box, there = taken.bounding_box(), goal.bounding_box()
    mouse.move(box["x"] + 20, box["y"] + 5)
    mouse.down()
    mouse.move(there["x"] + 120, there["y"] + 3, steps=5)
    expect(goal).to_have_class(re.compile("vfiosim-drop-above"))
    mouse.up()
    expect(said).to_contain_text("is now number 2 of 5")
    expect(rows.nth(1)).to_contain_text(words[4])
    expect(rows.nth(2)).to_contain_text(words[1])
    expect(rows.nth(1).locator(":focus")).to_have_count(1)
    lab.page.keyboard.press("Alt+ArrowUp")
    expect(rows.nth(0)).to_contain_text(words[4])
    expect(rows.nth(0).locator(":focus")).to_have_count(1)
    lab.page.keyboard.press("Alt+ArrowUp")
    expect(said).to_contain_text("is first already")


def test_lines_are_moved_with_the_keyboard_and_the_focus_goes_with_the_line(lab):
    place = lab.widget("lesson.order()")
    rows = place.locator(".vfiosim-order-row")
    expect(rows).to_have_count(6)
    last = rows.nth(4).locator(".vfiosim-line")
    expect(last).to_contain_text("KVM_DEV_VFIO_FILE_DEL, descriptor 3")
    button(rows.nth(4), "Up").focus()
    for _ in range(4):
        lab.page.keyboard.press("Enter")
        settle(lab.page)
    expect(rows.nth(0)).to_contain_text("KVM_DEV_VFIO_FILE_DEL, descriptor 3")
    expect(place.locator(".vfiosim-said")).to_contain_text("is now number 1 of 5")
    button(place, "Check").click()
    expect(place).to_contain_text("The first wrong place is number 3: “KVM_DEV_VFIO_FILE_DEL, descriptor 5”")
    shoot(place, "order")
    button(place, "Solution").click()
    expect(place).to_contain_text("take it off the list while one is open")
    button(rows.nth(0), "Down").click()
    expect(rows.nth(1)).to_contain_text("KVM_DEV_VFIO_FILE_DEL, descriptor 3")
    button(place, "Reset").click()
    expect(last).to_contain_text("KVM_DEV_VFIO_FILE_DEL, descriptor 3")


def test_facts_that_differ_from_the_goal_are_listed(lab):
    place = lab.widget("lesson.exercise()")
    button(place, "Check").click()
    expect(place).to_contain_text("Make a call first: press one of its buttons.")
    shoot(place, "goal")
    for hint in ("Hint", "Deeper hint", "Deeper hint"):
        button(place, hint).click()
    expect(place).to_contain_text("Hint 3 of 3.")
    button(place, "bind").click()
    expect(place.locator(".vfiosim-moves")).to_contain_text("1 call; the shortest known way has 3 calls.")
    expect(button(place, "Solution")).to_be_disabled()
    button(place, "Check").click()
    button(place, "Solution").click()
    expect(place).to_contain_text("the binding and the device object hold its file")
    button(place, "Reset").click()
    expect(place.locator(".vfiosim-moves")).to_contain_text("No call yet")


def test_a_quiz_answers_each_answer_and_counts(lab):
    place = lab.widget("lesson.quiz()")
    first, second, third = (place.locator(".vfiosim-prediction").nth(n) for n in range(3))
    first.get_by_label("your prediction").fill("3")
    button(first, "Answer").click()
    expect(first).to_contain_text("✓ You predicted 3, and so it is.")
    second.get_by_text("It goes, and the message arrives without it").click()
    button(second, "Answer").click()
    expect(second).to_contain_text("the message on its way holds the file.")
    expect(place.locator(".vfiosim-score")).to_contain_text("1 of 3 right, 1 to go.")
    button(third, "Answer").click()
    expect(third.get_by_role("alert")).to_contain_text("Move them first: drag them, or press Up and Down.")
    button(third.locator(".vfiosim-order-row").nth(0), "Down").click()
    button(third, "Answer").click()
    expect(third).to_contain_text("The first wrong place is number")
    shoot(place, "quiz")
    button(place, "Reset all").click()
    expect(place.locator(".vfiosim-score")).to_contain_text("0 of 3 right, 3 to go.")


def test_a_drill_goes_on_to_the_next_seed(lab):
    place = lab.widget('drill("alive", seed=2)')
    expect(place).to_contain_text("Problem 2.")
    button(place, "Answer").click()
    expect(place.get_by_role("alert")).to_contain_text("tick “none of them”")
    place.get_by_role("checkbox", name="none of them").check()
    button(place, "Answer").click()
    expect(place).to_contain_text("are wrong.")
    shoot(place, "drill")
    button(place, "Next problem").click()
    expect(place).to_contain_text("Problem 3.")
    expect(button(place, "Answer")).to_be_enabled()


def test_progress_is_shown_and_forgotten(lab):
    place = lab.widget("progress.show()")
    button(place, "Reset").click()
    quiz = lab.widget("lesson.quiz()")
    quiz.get_by_label("your prediction").fill("3")
    button(quiz.locator(".vfiosim-prediction").first, "Answer").click()
    button(place, "Look again").click()
    expect(place).to_contain_text("02 check: count: 1 try, 1 right")
    button(place, "Reset").click()
    expect(place).to_contain_text("No question has been answered yet.")


def test_in_a_room_the_presenter_reveals_in_big_letters_and_without_code(lab):
    page, place = lab.page, lab.widget('lesson.predict("weak")')
    lab.widget("present()")
    expect(page.locator(".jp-CodeCell .jp-Cell-inputWrapper").first).to_be_hidden()
    expect(button(place, "Answer")).to_have_count(0)
    place.get_by_label("It lives on, because").fill("12")
    place.get_by_label("the pointer is cleared on the way").fill("8")
    becomes(place, SMALL.replace("LIMIT", "22"))
    shoot(place, "room")
    place.get_by_label("the pointer is cleared on the way").blur()
    button(place, "Reveal").click(position={"x": 3, "y": 9})  # JupyterLab has a strip there that hides an output
    expect(place).to_contain_text("8 of 20 in the room had it.")
    expect(place).to_contain_text("You took a pointer for a holder.")
    shoot(place, "room-revealed")
    button(page, "End presenter mode").click()
    expect(button(place, "Answer")).to_be_visible()
    expect(page.locator(".jp-CodeCell .jp-Cell-inputWrapper").first).to_be_visible()


def test_presenter_mode_reaches_benches_and_players_too(lab):
    live = "from vfiosim import Machine\nfrom vfiosim.views import show\nm = Machine()\n"
    live += "m.process('p').open('/dev/iommu')\nshow(m.trace)"
    page, bench = lab.page, lab.widget("from vfiosim.lab import Bench\nbench = Bench()\nbench")
    lab.cell(live)
    lab.widget("present()")
    button(bench, "open device").click()
    expect(bench).to_contain_text("→ 3")
    shoot(page.locator(".jp-Notebook"), "presented")
    small = """page => [...page.querySelectorAll('.vfiosim-lab *, .vfiosim-player *')]
        .filter(e => e.checkVisibility() && !e.closest('svg, .hidden'))
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .filter(e => parseFloat(getComputedStyle(e).fontSize) * e.currentCSSZoom < 22).map(e => e.outerHTML.slice(0, 120))"""
    expect(page.locator(".vfiosim-player .bar button:visible, .vfiosim-player .source:visible")).to_have_count(0)
    becomes(page.locator(".jp-Notebook"), small)
    button(page, "End presenter mode").click()
    expect(page.locator(".vfiosim-player .bar button:visible")).not_to_have_count(0)


def test_a_level_is_played_by_its_buttons_and_its_goal_keeps_the_tick(lab):
    place = lab.widget("level_track.levels()")
    press(place, "1 two files")
    expect(place.locator(".vfiosim-goal svg")).to_be_visible()
    press(place, "open card", "open group", "Check")
    expect(place).to_contain_text("That is the old way to a card")
    press(place, "Undo", "open iommufd", "Check")
    expect(place).to_contain_text("✓ Solved. You needed 2 calls; it takes no fewer.")
    press(place, "All levels")
    expect(place).to_contain_text("1 of 12 levels solved.")
    expect(button(place, "1 two files ✓").locator("xpath=..").locator("svg")).to_contain_text("file vfio0#1")


def test_enter_in_the_field_of_a_question_answers_it(lab):
    place = lab.widget('lesson.predict("fork")')
    field = place.locator("input[type=text]").first
    field.fill("1")
    field.press("Enter")
    expect(place.locator(".vfiosim-verdict")).to_contain_text("✕")


def test_a_bench_whose_cell_was_run_and_left_is_on_the_screen_from_its_first_line(lab):
    page = lab.put("'\\n'.join('here' * 40)", "lesson.holders()", "1", "2")
    page.set_viewport_size({"width": 1280, "height": 720})
    for _ in range(2):  # the second time the next cell lies below all of the bench
        page.evaluate(RUN_AND_GO_ON)
        expect(page.locator(".vfiosim-lab .vfiosim-chip").first).to_be_in_viewport()
    becomes(page.locator(".jp-Cell:has(.vfiosim-lab)").last, TOP, lambda top: 0 <= top < 200)
