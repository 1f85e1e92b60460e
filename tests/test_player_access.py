"""The player by the rules of WCAG, levels A and AA, as axe-core checks them: in light and dark, with everything open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.players import ALL, CONTRAST, DARK, RULES, doors, open_page, violations
from tests.traces import bind
from tests.turns import turns
from vfiosim.views import show

pytestmark = pytest.mark.xdist_group("player")


@pytest.fixture
def page(tab: Page) -> Page:
    """One page for all tests here: each opens its own file in it."""
    return tab


# What is no matter of colours is the same in the dark.
@pytest.mark.parametrize(("theme", "rules"), [("light", RULES), ("dark", CONTRAST)])
def test_no_rule_is_broken_with_all_views_open(page: Page, tmp_path: Path, theme: str, rules: dict[str, Any]) -> None:
    style = DARK if theme == "dark" else ""
    about = f'data-jp-theme-light="{"false" if theme == "dark" else "true"}"'
    page.emulate_media(reduced_motion="reduce")
    player = open_page(page, tmp_path, show(bind(), step=12, views=ALL), style=style, about=about)
    player.focus()
    page.keyboard.press("m")
    page.keyboard.press("t")
    player.locator('.node[data-oid^="iommufd_group"]').click()
    player.focus()
    page.keyboard.press("w")
    assert violations(page, rules=rules) == []
    page.keyboard.press("?")
    assert violations(page, rules=rules) == []


def test_no_rule_is_broken_where_a_call_is_refused_or_waits(page: Page, tmp_path: Path) -> None:
    player = open_page(page, tmp_path, show(doors(), step=4))
    assert violations(page) == []
    player.focus()
    page.keyboard.press("Home")
    page.keyboard.press("d")
    page.keyboard.press("End")
    assert violations(page) == []


def test_no_rule_is_broken_in_a_room_and_in_the_dark_of_the_system(page: Page, tmp_path: Path) -> None:
    page.emulate_media(color_scheme="dark")
    player = open_page(page, tmp_path, show(bind(), step=12, presenter=True))
    expect(player).to_have_css("background-color", "rgb(17, 17, 17)")
    assert violations(page) == []


@pytest.mark.parametrize(
    ("ground", "system"),
    turns([("#fff", "dark"), ("#fff", "light"), ("#383838", "light"), ("#383838", "dark")], days=2),
)
def test_letters_stand_out_in_any_page_whatever_the_system_is(
    page: Page, tmp_path: Path, ground: str, system: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=system)
    player = open_page(page, tmp_path, show(doors(), step=4), style=f"background: {ground}; color: red")
    player.get_by_role("button", name="More").click()
    assert violations(page, rules=CONTRAST) == []
