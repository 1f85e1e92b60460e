"""The player by the rules of WCAG, levels A and AA, as axe-core checks them: in light and dark, with everything open."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.test_player import DARK, doors, open_page
from tests.test_player_views import ALL
from tests.traces import bind
from vfiosim.views import show

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


def violations(page: Page) -> list[str]:
    found = Axe().run(page, context=".vfiosim-player", options=RULES).response["violations"]
    return [f"{one['id']}: {part['html'][:160]} {part['failureSummary']}" for one in found for part in one["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_rule_is_broken_with_all_views_open(page: Page, tmp_path: Path, theme: str) -> None:
    style = DARK if theme == "dark" else ""
    about = f'data-jp-theme-light="{"false" if theme == "dark" else "true"}"'
    page.emulate_media(reduced_motion="reduce")
    player = open_page(page, tmp_path, show(bind(), step=11, views=ALL), style=style, about=about)
    player.focus()
    page.keyboard.press("m")
    page.keyboard.press("t")
    player.locator('.node[data-oid^="iommufd_group"]').click()
    player.focus()
    page.keyboard.press("w")
    assert violations(page) == []
    page.keyboard.press("?")
    assert violations(page) == []


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
    player = open_page(page, tmp_path, show(bind(), step=11, presenter=True))
    expect(player).to_have_css("background-color", "rgb(17, 17, 17)")
    assert violations(page) == []
