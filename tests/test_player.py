"""How the player behaves in a real Chromium, as claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.players import DARK, PAGE, appearance, at, doors, open_page, press
from tests.toys import HOSTILE, Door, House, hold
from tests.traces import bind
from vfiosim.views import compare, show

pytestmark = pytest.mark.xdist_group("player")


@pytest.fixture
def page(tab: Page) -> Page:
    """One page for all tests here: each opens its own file in it."""
    return tab


@pytest.fixture
def player(page: Page, tmp_path: Path) -> Locator:
    """The player of `doors`, with the focus."""
    shown = open_page(page, tmp_path, show(doors()))
    shown.focus()
    return shown


def the_field(player: Locator) -> Locator:
    """The field for the number of a step."""
    press(player, "More ▾")
    return player.get_by_role("spinbutton", name="Go to step")


# ---- moving


def test_arrows_home_and_end_move_by_steps(page: Page, player: Locator) -> None:
    last = len(doors())
    for key, step in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", last), ("ArrowRight", last)):
        page.keyboard.press(key)
        at(player, step)
    page.keyboard.press("Home")
    at(player, 0)
    page.keyboard.press("ArrowLeft")
    at(player, 0)


def test_digits_go_to_a_step_and_so_does_the_field(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind()))
    player.focus()
    page.keyboard.press("1")
    at(player, 1)
    page.keyboard.press("2")
    at(player, 12)
    field = the_field(player)
    field.fill("3")
    field.press("Enter")
    at(player, 3)
    expect(player.locator(".number")).to_have_text(f"/ {len(bind())}")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "A number is missing: write 0 to 19."),
        ("-5", "There is no step -5: write 0 to 19."),
        ("99", "There is no step 99: write 0 to 19."),
    ],
)
def test_a_step_that_is_not_there_gets_a_message_and_the_player_stays(
    page: Page, tmp_path: Path, written: str, message: str
) -> None:
    player = open_page(page, tmp_path, show(bind(), step=2))
    field = the_field(player)
    field.fill(written)
    field.press("Enter")
    expect(player.get_by_role("alert")).to_have_text(message)
    at(player, 2)
    field.fill("3")
    field.press("Enter")
    at(player, 3)
    expect(player.get_by_role("alert")).to_have_count(0)


def test_digits_that_are_no_step_get_a_message_and_the_player_stays(page: Page, player: Locator) -> None:
    page.keyboard.type("99")
    expect(player.get_by_role("alert")).to_have_text(f"There is no step 99: write 0 to {len(doors())}.")
    at(player, 9)


def test_shift_and_arrows_move_by_effects(page: Page, player: Locator) -> None:
    trace = doors()
    for micro in trace.micro[:6]:
        page.keyboard.press("Shift+ArrowRight")
        expect(player.locator(".sentence")).to_have_text(micro.text)
    page.keyboard.press("Shift+ArrowLeft")
    expect(player.locator(".sentence")).to_have_text(trace.micro[4].text)
    page.keyboard.press("i")
    expect(player.locator("li.current")).to_have_text(trace.micro[4].text)
    page.keyboard.press("ArrowRight")
    step = next(step for step in trace if step.last >= 4)
    expect(player.locator(".sentence")).to_have_text(step.sentence)


def test_an_effect_can_be_clicked(page: Page, player: Locator) -> None:
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")  # before what was taken is given back
    page.keyboard.press("i")
    effect = player.locator("li", has_text="refuse_if [nobody_inside] refused")
    effect.click()
    expect(player.locator(".sentence")).to_have_text(re.compile(r"^refuse_if \[nobody_inside\] refused"))


def test_every_move_has_a_button(player: Locator) -> None:
    last = len(doors())
    moves = (("Next →", 1), ("Next →", 2), ("← Back", 1), ("Last", last), ("From the start", 0), ("detail ›", 1))
    for name, step in moves:
        press(player, name)
        at(player, step)


def test_space_plays_and_pauses_and_it_does_not_play_by_itself(page: Page, player: Locator) -> None:
    play = player.get_by_role("button", name="Play", exact=True)
    expect(play).to_be_visible()
    at(player, 0)
    press(player, "More ▾")
    player.get_by_role("combobox", name="Speed").select_option("fast")
    player.focus()
    page.keyboard.press(" ")
    expect(player.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    at(player, 2)
    page.keyboard.press(" ")
    expect(play).to_be_visible()


@pytest.mark.parametrize("name", ["From the start", "← Back", "Next →", "Last", "‹ detail", "detail ›"])
def test_a_move_by_hand_ends_playing(player: Locator, name: str) -> None:
    press(player, "Play")
    press(player, name)
    expect(player.get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_two_players_on_one_page_do_not_disturb_each_other(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, show(doors()), show(doors(), step=4))
    first, second = page.locator(".vfiosim-player").all()
    first.focus()
    page.keyboard.press("ArrowRight")
    at(first, 1)
    at(second, 4)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


# ---- showing


def test_the_script_shows_every_step_just_as_python_draws_it(page: Page, tmp_path: Path) -> None:
    """The rule what is marked as new, gone or changed is written twice; here both must agree."""
    for trace in (doors(), bind()):
        player = show(trace)
        shown = open_page(page, tmp_path, player)
        shown.focus()
        for step in range(len(trace) + 1):
            at(shown, step)
            drawn = page.evaluate("document.querySelector('.stage svg').outerHTML")
            assert appearance(drawn) == appearance(player.svg(step)), f"step {step} of {trace}"
            page.keyboard.press("ArrowRight")
        for _ in range(len(trace)):
            page.keyboard.press("ArrowLeft")
        drawn = page.evaluate("document.querySelector('.stage svg').outerHTML")
        assert appearance(drawn) == appearance(player.svg(0))


def test_a_step_is_told_with_phase_thread_line_function_and_changes(page: Page, player: Locator) -> None:
    trace = doors()
    number = next(step.index for step in trace if step.phase == "publish")
    page.keyboard.press("i")
    page.keyboard.type(str(number + 1))
    expect(player.locator(".chips")).to_have_text("publishann")
    expect(player.locator(".sentence")).to_have_text("The door is open.")
    expect(player.locator(".source")).to_have_text("await store(door.opened, opened + 1)")
    expect(player.locator(".where:visible").first).to_have_text(trace[number].where)
    expect(player.locator(".known:visible").first).to_have_text(re.compile("^not Linux 7.2"))  # a toy is no mirror
    expect(player.locator(".changes li").first).to_have_text("door front.opened: 0 → 1")


def test_a_refusal_looks_different_and_its_sentence_stays_text(page: Page, player: Locator) -> None:
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")  # before what was taken is given back
    expect(player).to_have_class(re.compile("refused"))
    expect(player.locator(".chip.errno")).to_have_text("✕ EBUSY")
    expect(player.locator(".sentence")).to_have_text(f"Refused with EBUSY: {HOSTILE}.")
    assert page.evaluate("window.hacked") is None
    page.keyboard.press("Home")
    expect(player).not_to_have_class(re.compile("refused"))


def test_a_nasty_name_stays_text_in_the_picture(page: Page, tmp_path: Path) -> None:
    house = House()
    hostile = Door(house.engine, HOSTILE)
    house.engine.objects[hostile.oid] = hostile
    house.run(hold(hostile.users, house.person, HOSTILE))
    player = open_page(page, tmp_path, show(house.trace, step=-1))
    expect(player.locator(".row-pointer:not(.off) .name")).to_have_text(re.compile("^<script>.*…$"))
    assert page.evaluate("window.hacked") is None


def test_a_thread_that_waits_is_marked_in_words_and_picture(page: Page, player: Locator) -> None:
    number = next(step.index for step in doors() if step.waits)
    page.keyboard.type(str(number + 1))
    expect(player.locator(".chip.waits")).to_have_text("waits")
    waits, held = (player.locator(f".edge.{sort}:not(.off)") for sort in ("waits", "held"))
    expect(waits).to_have_count(1)
    expect(held).to_have_count(1)
    assert held.get_attribute("data-row") == waits.get_attribute("data-into")  # from the lock to who has it


def test_a_click_on_a_node_brings_out_its_arrows(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=-1))
    node = player.locator('.node[data-oid^="iommufd_group"]')
    node.click()
    dim, clear = (player.locator(f".edge{which}:not(.off)") for which in (".dim", ":not(.dim)"))
    expect(dim).not_to_have_count(0)
    expect(clear).to_have_count(2)
    node.click()
    expect(dim).to_have_count(0)


def test_letters_are_large_enough_for_a_projector(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    player = open_page(page, tmp_path, show(bind(), step=-1))
    scale = page.evaluate("document.querySelector('.stage svg').getScreenCTM().a")
    assert player.locator(".node").count() <= 20
    assert 16 * scale >= 20, f"the letters are {16 * scale:.1f} pixels high"


def test_no_text_sticks_out_of_its_box(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, show(bind(), step=-1))
    out = page.evaluate(
        """[...document.querySelectorAll('.node:not(.off)')].filter(node => {
            const box = node.querySelector('.box').getBBox();
            return [...node.querySelectorAll('text:not(.badge)')].filter(text => text.textContent).some(text => {
                const one = text.getBBox();
                return one.x < box.x || one.x + one.width > box.x + box.width || one.y + one.height > box.y + box.height + 2;
            });
        }).map(node => node.dataset.oid)"""
    )
    assert out == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_arrows_stand_out_from_the_page_in_both_themes(page: Page, tmp_path: Path, theme: str) -> None:
    style = DARK if theme == "dark" else ""
    about = f'data-jp-theme-light="{"false" if theme == "dark" else "true"}"'
    open_page(page, tmp_path, show(bind(), step=-1), style=style, about=about)
    line, paper = page.evaluate(
        """[['.edge.counted .line', 'stroke'], ['.paper', 'fill']]
            .map(([part, name]) => getComputedStyle(document.querySelector('.stage svg ' + part))[name])"""
    )
    assert abs(brightness(line) - brightness(paper)) > 150


def test_what_is_not_brought_out_stays_readable_in_the_dark(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(bind(), step=-1), style=DARK, about='data-jp-theme-light="false"')
    player.evaluate("root => root.vfiosim.highlight(['file iommu#1', 'iommufd_device 1'])")
    dim = player.locator(".node.dim:not(.off)")
    expect(dim).not_to_have_count(0)
    text, box, opacity = dim.first.evaluate(
        """node => [getComputedStyle(node.querySelector('text')).fill, getComputedStyle(node.querySelector('.head')).fill,
            getComputedStyle(node).opacity]"""
    )
    assert opacity == "1"
    assert abs(brightness(box) - brightness(text)) > 120


def test_where_two_runs_have_little_room_their_facts_stand_below_the_picture(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1900, "height": 1000})
    (tmp_path / "two.html").write_text(
        PAGE.format(style="", about="", content=compare(bind(), doors()).html()), "utf-8"
    )
    page.goto((tmp_path / "two.html").as_uri())
    expect(page.locator(".vfiosim-player")).to_have_count(2)
    players = page.locator(".vfiosim-player").all()
    left, right = (player.bounding_box() for player in players)
    assert left
    assert right
    assert left["x"] + left["width"] <= right["x"]
    for player in players:
        player.focus()
        page.keyboard.press("s")
        picture, source = (player.locator(one).bounding_box() for one in (".stage", ".function"))
        assert picture
        assert source
        assert picture["y"] + picture["height"] <= source["y"]


def brightness(colour: str) -> float:
    """From 0 to 255; a mixed colour is told in parts of 1."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
    return sum(numbers) / 3 * (255 if colour.startswith("color(srgb") else 1)
