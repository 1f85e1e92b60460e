"""The lab on the screens that it is used on: a laptop's, a projector's, one that is zoomed. Measured in JupyterLab in Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.desk import Desk, becomes, button, press, select, settle

IMPORT = "from vfiosim.lab import Bench, Sandbox, room\nfrom vfiosim.lessons import one_bind, start, who_holds_whom"
FIRST, ALL, CLOSE, VM, SANDBOX, ROOM = (
    "start.first_bind()",
    "Bench()",
    "who_holds_whom.holders()",
    "one_bind.kvm()",
    "Sandbox()",
    "room('failed-second-bind')",
)
PRESSES = {
    FIRST: ("bind",),
    ALL: ("open device", "open iommufd", "bind"),
    CLOSE: ("close",),
    VM: ("create VM", "create kvm-vfio", "FILE ADD", "bind"),
    SANDBOX: ("open device", "open iommufd", "Call"),
}
LAPTOP, PROJECTOR, ZOOMED = (1280, 720), (1920, 1080), (640, 360)
# How far a thing sticks out of the part of the notebook that is to be seen, in pixels.
HIDDEN = """thing => {
    const view = document.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect();
    const { top, bottom } = thing.getBoundingClientRect();
    return Math.max(view.top - top, bottom - view.bottom, 0);
}"""
FROM_ITS_TOP = f"""thing => {{
    thing.closest('.vfiosim-lab').scrollIntoView({{ block: 'start' }});
    return ({HIDDEN})(thing);
}}"""
SCALE = """svg => {
    const [{ width, height }, all] = [svg.getBoundingClientRect(), svg.viewBox.baseVal];
    return Math.min(width / all.width, height / all.height);
}"""
PLACE = "(thing, lab) => thing.getBoundingClientRect().top - lab.getBoundingClientRect().top"
LOUD = """lab => {
    const colour = getComputedStyle(lab).getPropertyValue('--vfiosim-accent').trim();
    const probe = document.body.appendChild(Object.assign(document.createElement('i'), { style: `color: ${colour}` }));
    const loud = getComputedStyle(probe).color;
    probe.remove();
    return [...lab.querySelectorAll('button')].filter(one => one.offsetParent
        && getComputedStyle(one).backgroundColor === loud).map(one => one.textContent.trim());
}"""
# Descriptors that cannot be seen, or pressed, as a whole, where the bench begins at the top of the screen.
COVERED = """row => {
    row.closest('.vfiosim-lab').scrollIntoView({ block: 'start' });
    return [...row.querySelectorAll('.vfiosim-chip')].filter(chip => {
        const { left, right, top, height } = chip.getBoundingClientRect();
        return [left + 2, right - 2].some(x => !chip.contains(document.elementFromPoint(x, top + height / 2)));
    }).map(chip => chip.textContent);
}"""
WIDTH = "one => one.getBoundingClientRect().width"
BELOW = """place => {
    const [controls, shown] = ["controls", "shown"].map(name => place.querySelector(`.vfiosim-${name}`).getBoundingClientRect());
    return controls.bottom <= shown.top && controls.width > 300;
}"""


@pytest.fixture(scope="module")
def lab(jupyterlab_page: Desk) -> dict[str, Locator]:
    """The widgets of these cells."""
    jupyterlab_page.clear()
    jupyterlab_page.cell(IMPORT)
    return {cell: jupyterlab_page.widget(cell) for cell in (*PRESSES, ROOM)}


def on(lab: dict[str, Locator], screen: tuple[int, int], cell: str) -> Locator:
    """The widget of a cell as it was at first, on a screen of this size."""
    place = lab[cell]
    place.page.set_viewport_size({"width": screen[0], "height": screen[1]})
    place.scroll_into_view_if_needed()
    if cell != ROOM:
        press(place, "Reset")
    return place


def all_pressed(place: Locator, cell: str) -> None:
    press(place, *PRESSES[cell])
    expect(place.locator(".vfiosim-result")).to_contain_text("→ 0")
    expect(place.locator(".vfiosim-player .segment").first).to_be_attached()


@pytest.mark.parametrize("cell", PRESSES)
def test_on_a_laptop_the_pressed_button_its_answer_and_the_picture_are_seen_together(
    lab: dict[str, Locator], cell: str
) -> None:
    place = on(lab, LAPTOP, cell)
    all_pressed(place, cell)
    all_seen(place, place.get_by_role("button", name=PRESSES[cell][-1], exact=True).first)


def all_seen(place: Locator, button: Locator) -> None:
    parts = {"button": button, "answer": place.locator(".vfiosim-result [role=status]").last}
    parts |= {name: place.locator(f".vfiosim-player .{name}").first for name in ("sentence", "bar.first", "scrubber")}
    parts["picture"] = place.locator(".vfiosim-player .stage svg")
    for part in parts.values():  # the page scrolls once the words about the call are there
        becomes(part, HIDDEN, lambda hidden: hidden <= 1)
    assert {name: hidden for name, part in parts.items() if (hidden := part.evaluate(HIDDEN)) > 1} == {}, "not together"
    becomes(parts["picture"], SCALE, lambda scale: 16 * scale >= 12)


def test_however_many_descriptors_and_however_tall_the_picture_what_a_step_needs_is_on_the_screen(
    lab: dict[str, Locator],
) -> None:
    place = on(lab, LAPTOP, ALL)
    all_pressed(place, ALL)
    player = place.locator(".vfiosim-player")
    press(place, "open device", "open iommufd", "dup", "dup", "bind")
    assert player.evaluate("player => player.clientHeight") > 460, "all of it fits: this shows nothing"
    for part in (".vfiosim-chip >> nth=-1", ".sentence", ".bar.first", ".scrubber"):
        becomes(place.locator(part).first, FROM_ITS_TOP, lambda hidden: hidden <= 1)
    becomes(place.locator(".vfiosim-row:has(.vfiosim-table)"), COVERED, lambda covered: covered == [])


def test_what_is_rarely_needed_opens_below_the_picture_of_the_sandbox_and_all_of_both_is_on_the_screen(
    lab: dict[str, Locator],
) -> None:
    place = on(lab, LAPTOP, SANDBOX)
    picture = place.locator(".vfiosim-player .stage").first
    before = picture.evaluate(PLACE, place.element_handle())
    for name, part in (("Machine", ".vfiosim-world"), ("Code, save, load", ".vfiosim-keep")):
        press(place, name)
        expect(place.locator(part)).to_be_visible()
        assert picture.evaluate(PLACE, place.element_handle()) == before
        for seen in (place.locator(part), picture):
            becomes(seen, HIDDEN, lambda hidden: hidden <= 1)
    expect(place.locator(".vfiosim-world")).to_be_hidden()
    press(place, "Code, save, load")


def test_the_button_call_stands_in_the_first_line_of_its_row_however_many_fields_the_call_has(
    lab: dict[str, Locator],
) -> None:
    place = on(lab, LAPTOP, SANDBOX)
    press(place, "open iommufd")
    select(place, "call", "IOMMU_IOAS_MAP")
    form, call = place.locator(".vfiosim-form"), place.get_by_role("button", name="Call", exact=True)
    expect(form.get_by_label("iova")).to_be_visible()
    in_first_line = (
        "(call, form) => call.getBoundingClientRect().top - form.getBoundingClientRect().top < call.offsetHeight / 2"
    )
    assert call.evaluate(in_first_line, form.element_handle())


def test_one_button_of_the_sandbox_stands_out_and_a_virtual_machine_is_on_one_screen_in_letters_of_12_pixels(
    lab: dict[str, Locator],
) -> None:
    place = on(lab, LAPTOP, SANDBOX)
    becomes(place, LOUD, ["open device"].__eq__)
    press(place, "A VM", "Call", "Call")
    becomes(place, LOUD, ["Call"].__eq__)
    all_seen(place, place.get_by_role("button", name="Call", exact=True))
    press(place, "Undo", "Undo", "Undo")


@pytest.mark.parametrize("cell", PRESSES)
def test_on_a_projector_the_smallest_letters_of_the_picture_have_20_pixels(lab: dict[str, Locator], cell: str) -> None:
    place = on(lab, PROJECTOR, cell)
    all_pressed(place, cell)
    becomes(place.locator(".vfiosim-player .stage svg"), SCALE, lambda scale: 16 * scale >= 20)


def test_a_picture_has_the_whole_width(lab: dict[str, Locator]) -> None:
    place = on(lab, LAPTOP, ROOM)
    press(place, "The shortest way into it")
    picture = place.locator(".stage")
    expect(picture).to_be_visible()
    whole = place.locator(".vfiosim-player").evaluate(WIDTH)
    becomes(picture, WIDTH, lambda width: width > 0.95 * whole)


@pytest.mark.parametrize("cell", [FIRST, CLOSE])
def test_on_a_laptop_one_screen_has_the_calls_the_answer_the_sentence_the_picture_and_all_controls(
    lab: dict[str, Locator], cell: str
) -> None:
    place = on(lab, LAPTOP, cell)
    all_pressed(place, cell)
    parts = (".vfiosim-table", ".vfiosim-result", ".sentence", ".stage", ".bar.first", ".scrubber")
    for name in parts:  # wherever the page stood after another test
        becomes(place.locator(name).first, FROM_ITS_TOP, lambda hidden: hidden <= 1)
    assert {name for name in parts if place.locator(name).first.evaluate(HIDDEN) > 1} == set(), "not together"
    whole = place.evaluate(WIDTH)
    becomes(place.locator(".vfiosim-player"), WIDTH, lambda width: width > 0.95 * whole)


def test_the_machine_can_be_edited_on_one_screen_of_a_laptop(lab: dict[str, Locator]) -> None:
    place = on(lab, LAPTOP, SANDBOX)
    press(place, "Machine")
    expect(place.locator(".vfiosim-device")).to_have_count(6)
    height = "one => one.getBoundingClientRect().height"
    becomes(place.locator(".vfiosim-world"), height, lambda height: 0 < height < 560)
    expect(place.get_by_label("model", exact=True).first).to_be_hidden()
    press(place.locator(".vfiosim-device").first, "More")
    expect(place.get_by_label("model", exact=True).first).to_be_visible()
    press(place, "Machine")


def test_what_a_button_does_can_be_read_with_the_keyboard_alone(lab: dict[str, Locator]) -> None:
    place = on(lab, LAPTOP, SANDBOX)
    group = place.get_by_text("the way to devices before there was BIND")
    expect(group).to_be_hidden()
    place.locator("summary", has_text="What do the buttons do?").focus()
    place.page.keyboard.press("Enter")
    expect(group).to_be_visible()


@pytest.mark.parametrize("cell", PRESSES)
def test_at_twice_the_size_nothing_sticks_out_and_the_answer_stands_below_its_button(
    lab: dict[str, Locator], cell: str
) -> None:
    place = on(lab, ZOOMED, cell)
    becomes(place, BELOW, bool)
    becomes(place, "place => place.scrollWidth - place.clientWidth", lambda over: over <= 1)


def test_a_click_on_a_folded_box_unfolds_it_and_nothing_else_goes(
    lab: dict[str, Locator], jupyterlab_page: Desk
) -> None:
    place = jupyterlab_page.widget("room('failed-second-bind')")
    press(place, "The shortest way into it")
    folded, boxes = place.locator(".stage .node.folded"), place.locator(".stage .node")
    expect(folded.first).to_be_attached()
    name, number, count = folded.first.get_attribute("data-oid"), folded.count(), boxes.count()
    folded.first.click()
    expect(folded).to_have_count(number - 1)
    expect(boxes).to_have_count(count)
    expect(place.locator(f'.stage .node[data-oid="{name}"] .row').nth(1)).to_be_attached()


# ---- presented to a room

PRESENT = "F8"
CHROME = "#jp-menu-panel, #jp-top-panel, .jp-SideBar, .jp-NotebookPanel-toolbar, #jp-bottom-panel, .lm-DockPanel-tabBar"
# How far sentence and slider stick out of the pane, its height, and how high a letter of the picture is.
ON_STAGE = f"""player => {{
    player.scrollIntoView({{ block: 'end' }});
    const part = name => player.querySelector(name), svg = part('.stage svg');
    return [Math.max(({HIDDEN})(part('.say')), ({HIDDEN})(part('.scrubber'))),
        document.querySelector('.jp-WindowedPanel-outer').clientHeight, 16 * ({SCALE})(svg)];
}}"""
LETTERS = """shown => Math.min(...[...shown.querySelectorAll('*')].filter(one => one.checkVisibility()
    && !one.closest('svg, .hidden, style') && [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .map(one => parseFloat(getComputedStyle(one).fontSize) * one.currentCSSZoom))"""


def present(desk: Desk, on: bool) -> None:
    desk.page.keyboard.press(PRESENT)
    expect(desk.page.locator(".vfiosim-presented")).to_have_count(int(on))
    settle(desk.page)


def test_a_button_presents_on_the_whole_screen_and_the_key_brings_jupyterlab_back(
    lab: dict[str, Locator], jupyterlab_page: Desk
) -> None:
    page = jupyterlab_page.page
    button(page.locator(".jp-NotebookPanel-toolbar"), "Present").click()
    page.wait_for_function("document.fullscreenElement !== null")
    expect(page.locator(CHROME).filter(visible=True)).to_have_count(0)
    expect(button(page, "Leave presenting (Esc)")).to_be_in_viewport(ratio=1)
    page.keyboard.press(PRESENT)
    page.wait_for_function("document.fullscreenElement === null")
    expect(page.locator(".jp-NotebookPanel-toolbar")).to_be_visible()
    expect(page.locator(".vfiosim-presented")).to_have_count(0)
    settle(page)


@pytest.fixture(scope="module")
def stage(lab: dict[str, Locator], jupyterlab_page: Desk) -> Iterator[dict[str, Locator]]:
    """The same, after their calls, presented on a page whose size a test can still change."""
    for cell in PRESSES:
        all_pressed(on(lab, LAPTOP, cell), cell)
    if not lab[ROOM].locator(".vfiosim-player:visible").count():
        press(lab[ROOM], "The shortest way into it")
    jupyterlab_page.page.evaluate("document.documentElement.requestFullscreen = undefined")
    present(jupyterlab_page, True)
    yield lab
    present(jupyterlab_page, False)
    jupyterlab_page.page.evaluate("delete document.documentElement.requestFullscreen")


@pytest.mark.parametrize("cell", [*PRESSES, ROOM])
@pytest.mark.parametrize(
    ("screen", "least"), [(LAPTOP, 14), (PROJECTOR, 20)]
)  # all on one screen, then all on the other
def test_presented_the_sentence_the_picture_and_the_slider_fill_one_screen_in_letters_for_a_room(
    stage: dict[str, Locator], cell: str, screen: tuple[int, int], least: int
) -> None:
    place = stage[cell]
    place.page.set_viewport_size({"width": screen[0], "height": screen[1]})
    player = place.locator(".vfiosim-player").first
    expect(player).to_have_class(re.compile("presenter"))
    # Nothing is hidden, and nothing of JupyterLab stands above or below the notebook.
    becomes(player, ON_STAGE, lambda told: told[:2] == [0, screen[1]] and told[2] >= least)
    becomes(place, LETTERS, lambda smallest: least < smallest < 1000)


def test_presented_prose_and_printed_lines_are_large_and_a_remote_control_needs_no_click(
    stage: dict[str, Locator], jupyterlab_page: Desk
) -> None:
    desk, page = jupyterlab_page, jupyterlab_page.page
    page.set_viewport_size({"width": PROJECTOR[0], "height": PROJECTOR[1]})
    expect(page.locator(CHROME).filter(visible=True)).to_have_count(0)
    becomes(desk.cell("print('a line')").locator(".jp-RenderedText"), LETTERS, lambda smallest: 20 <= smallest < 1000)
    asked = desk.widget("from vfiosim.lessons import who_holds_whom\nwho_holds_whom.predict('weak')")
    page.evaluate("document.activeElement.blur()")
    player = stage[ALL].locator(".vfiosim-player").first
    player.evaluate(ON_STAGE)
    before = int(player.get_attribute("data-step") or 0)
    page.keyboard.press("PageDown")
    expect(player).to_have_attribute("data-step", str(before + 1))
    page.keyboard.press("PageUp")
    expect(player).to_have_attribute("data-step", str(before))
    for shown in (True, False):
        page.keyboard.press("b")
        expect(page.locator(".vfiosim-blank")).to_be_visible(visible=shown)
    asked.evaluate("asked => asked.scrollIntoView({ block: 'center' })")
    page.keyboard.press("r")
    expect(asked).to_contain_text("You took a pointer for a holder.")


def test_after_the_last_step_a_remote_control_goes_on_to_what_comes_next(stage: dict[str, Locator]) -> None:
    page, player = stage[FIRST].page, stage[FIRST].locator(".vfiosim-player").first
    page.set_viewport_size({"width": LAPTOP[0], "height": LAPTOP[1]})
    player.focus()
    page.keyboard.press("End")
    player.evaluate(ON_STAGE)
    box = player.bounding_box()
    assert box is not None
    page.keyboard.press("PageDown")
    becomes(player, "player => player.getBoundingClientRect().top", lambda top: top < box["y"])
