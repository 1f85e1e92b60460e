"""The player in small things that a reader trips over: focus, places that stay, what is cut off, links."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Locator, Page, expect

from tests.players import ALL, at, doors, open_page
from tests.traces import bind
from vfiosim import Machine, uapi
from vfiosim.uapi import KernelError
from vfiosim.views import show
from vfiosim.views.counters import counts_over

pytestmark = pytest.mark.xdist_group("player")


@pytest.fixture
def page(tab: Page) -> Page:
    """One page for all tests here: each opens its own file in it."""
    return tab


@pytest.fixture
def player(page: Page, tmp_path: Path) -> Locator:
    """A player with a call, with the focus."""
    shown = open_page(page, tmp_path, show(bind(), step=2))
    shown.focus()
    return shown


@pytest.mark.parametrize("width", [1110, 1700])
@pytest.mark.parametrize("open_too", ["source", "details"])
def test_no_control_moves_from_step_to_step_whatever_else_is_shown(
    page: Page, tmp_path: Path, width: int, open_too: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    player = open_page(page, tmp_path, show(bind(), step=0, views=("graph", open_too)))
    player.focus()
    page.keyboard.press("m")
    place = """root => [...root.querySelectorAll('.bar button, .group, .tracks')].filter(one => one.getClientRects().length)
        .map(one => one.getBoundingClientRect()).map(({left, top, width}) => [left, top, width].map(Math.round).join())"""
    places = set()
    for _ in range(len(bind()) + 1):
        places.add(str(player.evaluate(place)))
        page.keyboard.press("ArrowRight")
    assert len(places) == 1, places


@pytest.mark.parametrize("keys", [["y", "Escape"], ["s", "focus", "s"]])
def test_keys_work_after_what_had_the_focus_is_hidden(page: Page, player: Locator, keys: list[str]) -> None:
    page.keyboard.press("m")
    for key in keys:
        if key == "focus":
            player.locator(".code").focus()
        else:
            page.keyboard.press(key)
    page.keyboard.press("ArrowRight")
    at(player, 3)


def test_sentence_picture_controls_and_slider_stay_where_they_are_at_every_step(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1500, "height": 1000})
    player = open_page(page, tmp_path, show(doors(), step=0))
    place = """root => ['.tracks', '.chips', '.stage', '.bar.first'].flatMap(name => {
        const {left, top} = root.querySelector(name).getBoundingClientRect(); return [Math.round(left), Math.round(top)]; })"""
    player.focus()
    places = set()
    for _ in range(len(doors()) + 1):
        places.add(str(player.evaluate(place)))
        page.keyboard.press("ArrowRight")
    assert len(places) == 1, places


LINE_IN_SIGHT = """() => {
    const [line, box] = ['.drawing .cursor', '.drawing'].map(one => document.querySelector(one).getBoundingClientRect());
    return box.left <= line.left && line.left <= box.right;
}"""


def test_the_line_in_the_counters_is_in_sight_at_every_step(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1300, "height": 1000})
    trace = bind()
    player = open_page(page, tmp_path, show(trace, step=0, views=ALL))
    player.focus()
    for step in range(len(trace) + 1):
        at(player, step)
        page.wait_for_function(LINE_IN_SIGHT)
        page.keyboard.press("ArrowRight")


def test_counters_are_all_that_a_bind_changes_be_it_in_an_object_that_is_new() -> None:
    counts = {re.sub(r" \d+", "", name) for name in counts_over(bind(), bind().states())}
    assert any(name.endswith(".owner_cnt") for name in counts)
    assert {"iommufd_device.users", "iommufd_group.ref"} <= counts


def test_for_a_room_every_letter_is_large_and_nothing_is_below_the_bars_of_jupyterlab(
    page: Page, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    player = open_page(page, tmp_path, show(bind(), step=-1, presenter=True))
    box = player.bounding_box()
    assert box is not None
    assert box["height"] <= 960
    player.locator('.node[data-oid^="iommufd_group"]').click()
    player.focus()
    page.keyboard.press("w")
    sizes = player.evaluate(
        """root => [...root.querySelectorAll('.follow :not(:has(*)), .say *, .scrubber *')]
            .filter(one => one.textContent.trim() && one.getClientRects().length)
            .map(one => parseFloat(getComputedStyle(one).fontSize))"""
    )
    assert min(sizes) >= 22
    player.focus()
    page.keyboard.press("Escape")
    letters = player.evaluate(
        """root => [...root.querySelectorAll('.stage svg text')]
            .map(one => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a)"""
    )
    assert min(letters) >= 20


def test_the_answer_to_why_breaks_between_words(page: Page, player: Locator) -> None:
    page.add_style_tag(content="pre { word-break: break-all; }")  # as JupyterLab has it for outputs
    player.locator('.node[data-oid^="file"]:not(.off)').first.click()
    player.focus()
    page.keyboard.press("w")
    expect(player.locator(".why")).to_have_css("word-break", "normal")


def test_a_check_over_several_lines_is_shown_as_one(page: Page, tmp_path: Path) -> None:
    machine = Machine()
    program = machine.process("vmm")
    program.open("/dev/vfio/1")
    device, iommufd = program.open("/dev/vfio/devices/vfio0"), program.open("/dev/iommu")
    with pytest.raises(KernelError):
        program.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
    refused = next(step.index + 1 for step in machine.trace if step.refused)
    player = open_page(page, tmp_path, show(machine.trace, step=refused, views=("details",)))
    shown = player.locator("pre.source").inner_text()
    assert shown.startswith("await refuse_if(")
    assert shown.endswith(")")
    assert "group_is_closed" in shown


def test_a_copy_of_an_output_plays_too(page: Page, tmp_path: Path) -> None:
    html = show(bind(), step=2).html()
    open_page(page, tmp_path, show(doors()))
    for number in (1, 2):
        page.evaluate(
            """html => {
                const output = document.body.appendChild(document.createElement('div'));
                output.innerHTML = html;
                const [old, script] = [output.querySelector('script'), document.createElement('script')];
                script.textContent = old.textContent;
                old.replaceWith(script);
            }""",
            html,
        )
        expect(page.locator(".vfiosim-player")).to_have_count(1 + number)
    expect(page.locator("img.vfiosim-still")).to_have_count(0)


# How far from the top of the window, as far as the page can be scrolled.
TOP = """player => Math.min(Math.abs(player.getBoundingClientRect().top),
    document.scrollingElement.scrollHeight - innerHeight - document.scrollingElement.scrollTop)"""


def test_a_link_opens_one_player_of_a_page_and_follows_when_it_changes(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, show(bind(), step=1), show(doors(), step=1))
    first, second = page.locator(".vfiosim-player").all()
    at(second, 1)
    page.evaluate("location.hash = 'step=3'")
    at(first, 3)
    at(second, 1)
    page.evaluate("location.hash = 'player=2&step=4'")
    at(second, 4)
    at(first, 3)
    expect(second).to_be_focused()
    page.wait_for_function(f"({TOP})(document.querySelectorAll('.vfiosim-player')[1]) <= 1")
    page.reload()
    at(page.locator(".vfiosim-player").nth(1), 4)
    at(page.locator(".vfiosim-player").first, 1)
    expect(page.locator(".vfiosim-player").nth(1)).to_be_focused()
    page.wait_for_function(f"({TOP})(document.querySelectorAll('.vfiosim-player')[1]) <= 1")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_in_an_exported_notebook_the_player_is_as_dark_as_the_page_whatever_the_system_is(
    page: Page, tmp_path: Path, theme: str
) -> None:
    output = nbformat.v4.new_output("display_data", show(doors())._repr_mimebundle_())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show(trace)", outputs=[output])])
    html, _ = HTMLExporter(theme=theme).from_notebook_node(notebook)
    (tmp_path / "exported.html").write_text(html, "utf-8")
    page.context.set_offline(True)
    page.goto((tmp_path / "exported.html").as_uri(), wait_until="domcontentloaded")
    player = page.locator(".vfiosim-player")
    expect(player).to_have_count(1)
    for system in ("light", "dark"):
        page.emulate_media(color_scheme=system)
        shown = player.evaluate("one => getComputedStyle(one).backgroundColor")
        assert shown == page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_in_a_frame_that_is_made_as_high_as_its_content_the_content_does_not_get_higher(
    page: Page, tmp_path: Path
) -> None:
    open_page(page, tmp_path, show(doors()))
    html = f"<!doctype html><meta charset=utf-8>{show(bind(), step=11, views=ALL).html()}"
    page.evaluate("html => document.body.append(Object.assign(document.createElement('iframe'), {srcdoc: html}))", html)
    framed = page.frame_locator("iframe").locator(".vfiosim-player")
    expect(framed).to_have_attribute("data-step", "11")
    heights = framed.evaluate(
        """async ({ownerDocument: {defaultView: {frameElement: frame}, documentElement: content}}) => {
            const heights = [];
            frame.style = 'width: 1200px; height: 700px';
            for (let times = 0; times < 8; times++) {
                await new Promise(requestAnimationFrame);
                heights.push(content.offsetHeight);
                frame.style.height = `${content.offsetHeight}px`;
            }
            return heights;
        }"""
    )
    assert len({*heights}) == 1, heights
