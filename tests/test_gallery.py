"""The pages and pictures that are shown to others."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.traces import bind
from vfiosim.cli import main
from vfiosim.gallery import pictures
from vfiosim.museum import ROOMS
from vfiosim.views.film import film

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def test_the_pictures_of_the_readme_are_those_that_the_code_draws_now() -> None:
    for name, text in pictures().items():
        assert (ASSETS / name).read_text("utf-8") == text, f"python -m vfiosim gallery --pictures assets, for {name}"


def test_a_film_shows_each_step_in_its_turn_and_ends_with_the_last_one() -> None:
    trace = bind()
    svg = film(trace, seconds=1)
    assert {step.sentence for step in trace} <= {
        " ".join(part.itertext()).split(" ", 1)[-1].strip() for part in ET.fromstring(svg).iter()
    }
    for name in re.findall(r"@keyframes (film\d+)", svg):
        assert f".{name} {{ animation-name: {name} !important; }}" in svg
    assert f"animation: {len(trace) + 1}.0s step-end infinite" in svg
    assert "<script" not in svg


def test_the_gallery_has_a_page_for_each_room_which_can_be_stepped_through_offline(page: Page, tmp_path: Path) -> None:
    page.context.set_offline(True)
    assert main(["gallery", str(tmp_path)]) == 0
    page.goto((tmp_path / "index.html").as_uri())
    expect(page.locator(".rooms a")).to_have_count(len(ROOMS))
    page.locator(".rooms a").first.click()
    player = page.locator(".vfiosim-player")
    last = player.get_attribute("data-step")
    player.focus()
    page.keyboard.press("ArrowLeft")
    expect(player).to_have_attribute("data-step", str(int(last or 0) - 1))
