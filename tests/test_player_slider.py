"""The slider of the player: its segments, its words, and the ways to move it."""

from __future__ import annotations

import re
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.players import at, busy, doors, open_page
from tests.toys import House
from tests.traces import bind
from vfiosim.conformance.evidence import recorded_calls
from vfiosim.trace import Trace
from vfiosim.views import show

pytestmark = pytest.mark.xdist_group("player")


@pytest.fixture
def page(tab: Page) -> Page:
    """One page for all tests here: each opens its own file in it."""
    return tab


def slider(player: Locator) -> Locator:
    return player.get_by_role("slider", name="Step")


def runs(trace: Trace) -> list[tuple[str, int]]:
    """Phases that follow each other, and how many steps each has."""
    return [(phase, len([*steps])) for phase, steps in groupby(step.phase for step in trace)]


def test_steps_of_one_phase_are_one_segment_with_its_whole_name_and_a_width_by_their_number(
    page: Page, tmp_path: Path
) -> None:
    player = open_page(page, tmp_path, show(bind()))
    segments = player.locator(".segment")
    expect(segments).to_have_text([phase for phase, _ in runs(bind())])
    widths = segments.evaluate_all("all => all.map(one => one.offsetWidth)")
    steps = [number for _, number in runs(bind())]
    step = sum(widths) / len(bind())
    assert [round(width / step) for width in widths] == steps


def test_what_is_done_is_filled_up_to_the_step(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind()))
    player.focus()
    for step in range(1, len(bind()) + 1):
        page.keyboard.press("ArrowRight")
        done = player.locator(".segment").evaluate_all(
            "all => all.map(one => parseFloat(one.style.getPropertyValue('--done')) || 0)"
        )
        filled = sum(part * number / 100 for part, (_, number) in zip(done, runs(bind()), strict=True))
        assert round(filled, 6) == step
        expect(player.locator(".segment.current")).to_have_text(bind()[step - 1].phase)


def test_a_word_is_shown_as_a_whole_or_its_beginning_or_not_at_all(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 700, "height": 800})
    player = open_page(page, tmp_path, show(bind()))
    seen = player.locator(".segment").evaluate_all(
        """all => all.map(one => {
            const box = one.getBoundingClientRect(), [words] = one.firstChild.getClientRects();
            if (!words) return getComputedStyle(one, '::after').content.split('/')[0].trim();
            const {left, right, top} = words;
            return top >= box.bottom - 1 ? 'none' : left >= box.left && right <= box.right ? 'whole' : 'cut';
        })"""
    )
    assert (
        {'"val."', '"acq."', "whole"}
        <= {*seen}
        <= {'"val."', '"acq."', '"pub."', '"rel."', '"lock"', '"blo."', "whole", "none"}
    )


def test_it_says_the_step_and_what_it_is_for(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=14))
    expect(slider(player)).to_have_attribute("aria-valuetext", "step 14 of 19, acquire")
    expect(slider(player)).to_have_attribute("aria-valuenow", "14")
    expect(slider(player)).to_have_attribute("aria-valuemax", "19")
    player.focus()
    page.keyboard.press("Home")
    expect(slider(player)).to_have_attribute("aria-valuetext", "before the first of 19 steps")
    player = open_page(page, tmp_path, show(doors(), step=9))
    expect(slider(player)).to_have_attribute(
        "aria-valuetext", re.compile("^step 9 of 10, .*, bob, refused with EBUSY$")
    )


def test_keys_on_it_move_by_steps_and_phases(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind()))
    slider(player).focus()
    begin = [1, *(step.index + 1 for before, step in pairwise(bind()) if step.phase != before.phase)]
    moves = [("ArrowUp", 1), ("ArrowRight", 2), ("ArrowDown", 1), ("ArrowLeft", 0), ("PageUp", 1), ("PageUp", begin[1])]
    for key, step in [*moves, ("PageDown", 1), ("End", len(bind())), ("Home", 0)]:
        page.keyboard.press(key)
        at(player, step)
    expect(slider(player)).to_be_focused()


def test_it_is_clicked_and_dragged(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind()))
    box = slider(player).bounding_box()
    assert box
    width = box["width"] / len(bind())

    def middle(step: int) -> tuple[float, float]:
        return box["x"] + (step - 0.5) * width, box["y"] + 10

    page.mouse.click(*middle(7))
    at(player, 7)
    page.mouse.move(*middle(3))
    page.mouse.down()
    at(player, 3)
    for step in (5, 12, 18):
        page.mouse.move(*middle(step))
        at(player, step)
    page.mouse.move(box["x"] - 5, box["y"] + 10)
    at(player, 0)
    page.mouse.up()
    page.mouse.move(*middle(9))
    at(player, 0)


def test_each_thread_has_a_row_with_its_steps_and_a_refusal_stands_alone(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(doors()))
    rows = player.locator(".track")
    expect(rows).to_have_count(2)
    expect(player.locator(".names .name > span:first-child")).to_have_text(["ann", "bob"])
    for row, name in zip(rows.all(), ("ann", "bob"), strict=True):
        own = [step for step in doors() if step.thread == name]
        drawn = row.locator(".segment").evaluate_all("all => all.map(one => one.style.width)")
        assert round(sum(float(width.rstrip("%")) for width in drawn) / 100 * len(doors())) == len(own)
    expect(player.locator(".segment.refused")).to_have_text("✕ EBUSY")


def test_where_one_thread_runs_locks_are_shown_on_demand(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=14))
    lock = player.locator(".lock", has_text="holds vfio_device_set vfio0.lock")
    expect(lock).to_be_hidden()
    player.focus()
    page.keyboard.press("l")
    expect(lock).to_be_visible()
    player = open_page(page, tmp_path, show(doors(), step=4))
    expect(player.locator(".lock.waits")).to_be_visible()


# ---- the sentence


# Where the picture stands at each step, and by how much the sentence is higher than the room for it.
EACH_STEP = """async root => {
    for (const _ of '12') await new Promise(requestAnimationFrame);  // so the player has seen how wide it is now
    return Array.from({length: root.vfiosim.run.last + 1}, (_, step) => {
        root.vfiosim.goTo(step);
        const said = root.querySelector('.said');
        return [said.scrollHeight - said.clientHeight, root.querySelector('.stage').getBoundingClientRect().top];
    });
}"""


def test_no_sentence_needs_more_room_than_it_has_and_none_moves_the_picture(page: Page, tmp_path: Path) -> None:
    for trace in (bind(), doors(), busy()):
        player = open_page(page, tmp_path, show(trace))
        for width in (1240, 700):
            page.set_viewport_size({"width": width, "height": 800})
            steps = player.evaluate(EACH_STEP)
            assert len(steps) == len(trace) + 1
            assert [(step, width) for step, (more, _) in enumerate(steps) if more > 1] == []
            assert len({top for _, top in steps}) == 1


# ---- the row of controls


def test_the_row_has_what_is_always_needed_and_tells_step_and_function(page: Page, tmp_path: Path) -> None:
    trace = bind()
    player = open_page(page, tmp_path, show(trace, step=14))
    expect(player.locator(".bar:visible button:visible")).to_have_text(
        ["← Back", "Play", "Next →", "Legend", "Source", "More ▾"]
    )
    expect(player.locator(".at")).to_have_text(f"step 14 of 19: look here · in {trace[13].kernel_function}")
    player.focus()
    page.keyboard.press("Shift+ArrowRight")
    effects = trace[14].last - trace[14].first + 1
    expect(player.locator(".at")).to_have_text(re.compile(f"^step 15 of 19, detail 1 of {effects}"))
    for key, told in (
        ("Home", "before the first"),
        ("n", "step 1 of 19: the first"),
        ("End", "step 19 of 19: the last"),
    ):
        page.keyboard.press(key)
        expect(player.locator(".at")).to_contain_text(told)
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    expect(player.locator(".at")).to_contain_text("step 17 of 19: the last change that stays")


def test_where_nothing_was_done_there_is_nothing_to_step_through(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(House().trace))
    for name in ("← Back", "Play", "Next →"):
        expect(player.get_by_role("button", name=name)).to_be_disabled()


def test_a_message_moves_nothing(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=14))
    place = "root => ['.stage', '.bar', '.scrubber'].map(one => root.querySelector(one).getBoundingClientRect().top)"
    before = player.evaluate(place)
    player.focus()
    page.keyboard.press("w")
    expect(player.get_by_role("alert")).to_contain_text("Choose a node first")
    assert player.evaluate(place) == before


def test_the_source_stands_beside_the_picture_and_names_the_kernels_function_with_a_link(
    page: Page, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 1280, "height": 720})
    trace = bind()
    player = open_page(page, tmp_path, show(trace, step=14))
    player.get_by_role("button", name="Source").click()
    picture, source = (player.locator(one).bounding_box() for one in (".stage", ".function"))
    assert picture
    assert source
    assert picture["x"] + picture["width"] <= source["x"]
    step = trace[13]
    expect(player.locator(".mirrors")).to_have_text(f"{step.kernel_function}, {step.kernel_file}, v7.2")
    link = re.compile(f"^https://git.kernel.org/.*/{re.escape(step.kernel_file)}\\?h=v7.2$")
    expect(player.locator(".mirrors a")).to_have_attribute("href", link)
    expect(player.locator(".known")).to_have_text(f"· {recorded_calls(step)} recorded calls ran through this line")
    player.focus()
    for number in range(15, 20):
        page.keyboard.press("ArrowRight")
        expect(player.locator(".code .current .no")).to_have_text(str(trace[number - 1].line))
        expect(player.locator(".code .current")).to_be_in_viewport()


def test_where_the_source_stands_below_the_picture_the_controls_and_the_running_line_are_on_the_same_screen(
    page: Page, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 1100, "height": 610})  # what JupyterLab leaves of 1280 × 720
    player = open_page(page, tmp_path, show(bind(), step=14))
    player.get_by_role("button", name="Source").click()
    player.focus()
    page.keyboard.press("ArrowRight")
    for part in (".say", ".stage", ".bar.first", ".scrubber", ".code .current"):
        expect(player.locator(part)).to_be_in_viewport(ratio=0.95)


def test_large_letters_come_and_go_with_a_key(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size(
        {"width": 1920, "height": 1080}
    )  # on a small screen the room there is belongs to the picture
    player = open_page(page, tmp_path, show(bind(), step=14))
    player.focus()
    expect(player.locator(".sentence")).to_have_css("font-size", "22px")
    page.keyboard.press("f")
    expect(player.locator(".sentence")).not_to_have_css("font-size", "22px")
    expect(player.get_by_role("button", name="Next →")).to_be_hidden()
    page.keyboard.press("f")
    expect(player.locator(".sentence")).to_have_css("font-size", "22px")


# ---- what words mean


def test_a_phase_and_a_kind_say_what_they_mean_with_a_link_to_the_kernels_file(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=14))
    tip = player.get_by_role("tooltip")
    expect(tip).to_be_hidden()
    player.locator(".chip", has_text="acquire").hover()
    expect(tip).to_have_text(re.compile("^acquire Takes references"))
    player.locator('[data-part="vfio_device_file 1"]').hover()
    expect(tip).to_have_text(re.compile("^vfio_device_file .* file vfio0#1 carries it as its private_data"))
    player.locator('.node[data-oid="iommufd_device 1"] .title').hover()
    expect(tip).to_contain_text("A physical device that is bound to the context")
    link = tip.get_by_role("link", name="drivers/iommu/iommufd/iommufd_private.h")
    link.hover()
    expect(link).to_be_visible()
    player.locator(".sentence").hover()
    expect(tip).to_be_hidden()
    player.locator('[data-part="file vfio0#1"]').hover()
    expect(tip).to_contain_text("#1: number 1 of the files of vfio0.")
    player.locator(".sentence").hover()
    expect(tip).to_be_hidden()
    player.locator('[data-part="file vfio0#1"]').hover()
    page.evaluate(
        "document.dispatchEvent(new Event('scroll'))"
    )  # before it is shown: what it is about may be elsewhere now
    page.wait_for_timeout(400)
    expect(tip).to_be_hidden()
    player.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    player.locator(".chip.again").hover()
    expect(tip).to_have_text("again A call can come back to a phase: lock was there before in this call.")


def test_the_same_is_said_to_who_has_only_keys(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=14))
    tip = player.get_by_role("tooltip")
    page.mouse.move(0, 0)
    player.focus()
    page.keyboard.press("Tab")
    expect(tip).to_have_text(re.compile("^acquire "))
    chip = player.locator(".chip", has_text="acquire")
    expect(chip).to_have_attribute("aria-describedby", tip.get_attribute("id") or "none")
    page.keyboard.press("Tab")
    expect(tip).to_contain_text(player.locator(".node:focus").get_attribute("data-oid").split()[0])  # type: ignore[union-attr]
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    at(player, 14)


def test_every_kind_of_object_in_a_busy_picture_and_every_phase_is_explained() -> None:
    data = show(busy(), idle=True, hide=()).data()
    kinds = {name.split()[0] for part in data["parts"].values() if part[0] == "node" for name in part[2]}
    assert kinds | {step["phase"] for step in data["steps"]} == {*data["glossary"]}
    assert all(entry["says"].endswith(".") for entry in data["glossary"].values())


def test_every_row_of_a_busy_picture_is_explained_and_a_pointer_that_rests_on_it_reads_that(
    page: Page, tmp_path: Path
) -> None:
    shown = show(busy(), idle=True, hide=())
    rows = [part for part in shown.data()["parts"].values() if part[0] == "row"]
    fields = shown.data()["fields"]
    assert {f"{part[4].split()[0]}.{part[2]}" for part in rows} == {*fields}
    assert all(says.endswith(".") for says in fields.values())
    player = open_page(page, tmp_path, show(bind(), step=14))
    tip = player.get_by_role("tooltip")
    player.locator(".row", has_text="refcount").first.hover()
    expect(tip).to_have_text(re.compile("^refcount How many use the registered device.*include/linux/vfio.h$"))
    player.locator('[data-oid="vfio_device vfio0"]').click()
    player.get_by_text("What its fields mean").press("Enter")
    expect(player.locator(".fields li").first).to_be_visible()


def test_the_legend_says_what_strokes_kinds_and_fields_mean_with_a_link_to_the_kernels_file(
    page: Page, tmp_path: Path
) -> None:
    player = open_page(page, tmp_path, show(bind(), step=14))
    player.get_by_role("button", name="Legend").click()
    legend = player.get_by_role("region", name="Legend")
    expect(legend).to_be_in_viewport(ratio=0.9)
    player.get_by_role("button", name="Next →").click()  # what it explains stays in use, and in sight
    expect(player).to_have_attribute("data-step", "15")
    below, above = legend.bounding_box(), player.locator(".foot").bounding_box()
    assert below is not None
    assert above is not None
    assert below["y"] >= above["y"]
    expect(legend.locator(".strokes li", has_text="just given back")).to_be_visible()
    legend.get_by_text("What the names of the boxes and their rows mean").click()
    kind = legend.locator(".glossary details", has_text="A device in the hands of a VFIO driver")
    kind.locator("summary").click()
    expect(kind.locator("li", has_text="refcount How many use the registered device")).to_be_visible()
    expect(kind.get_by_role("link", name="include/linux/vfio.h")).to_be_visible()
    page.keyboard.press("Escape")
    expect(legend).to_be_hidden()


def test_in_the_legend_no_two_strokes_look_alike(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=14))
    player.get_by_role("button", name="Legend").click()
    looks = player.locator(".strokes svg:has(.edge)").evaluate_all(
        """all => all.map(one => ['.line', '.tip', '.minus'].flatMap(part => {
            const {stroke, fill, strokeDasharray, strokeWidth, visibility} = getComputedStyle(one.querySelector(part));
            return [stroke, fill, strokeDasharray, strokeWidth, visibility]; }).join())"""
    )
    assert len(looks) == len({*looks}) == 7
