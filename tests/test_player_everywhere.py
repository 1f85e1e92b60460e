"""The player for everybody and everywhere: by keyboard, read aloud, without scripts, exported, in JupyterLab."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.desk import Desk, becomes
from tests.players import CONTRAST, LIVE, TOYS, at, doors, open_page
from tests.traces import bind
from vfiosim.views import show


def test_it_can_be_used_by_keyboard_and_read_aloud(tab: Page, tmp_path: Path) -> None:
    player = open_page(tab, tmp_path, show(doors()))
    player.focus()
    focusable = tab.evaluate(
        """[...document.querySelectorAll('.vfiosim-player, .vfiosim-player button, .vfiosim-player input, .vfiosim-player select')]
            .map(one => [one.tabIndex, one.dataset.lmSuppressShortcuts])"""
    )
    assert len(focusable) > 20
    assert all(entry == [0, "true"] for entry in focusable)
    tab.keyboard.press("ArrowRight")
    expect(player.locator("[aria-live=polite]")).to_contain_text("Open door front.")
    picture = player.get_by_role("group", name="Who holds a reference to whom")
    expect(picture).to_have_accessible_description("Open door front.")


def test_who_wants_less_motion_gets_none(tab: Page, tmp_path: Path) -> None:
    for motion, duration in (("reduce", "0s"), ("no-preference", "0.2s")):
        tab.emulate_media(reduced_motion=motion)  # type: ignore[arg-type]
        node = open_page(tab, tmp_path, show(doors())).locator(".stage .node").first
        assert node.evaluate("one => getComputedStyle(one).transitionDuration") == duration


def test_where_scripts_may_not_run_there_is_a_picture(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    open_page(page, tmp_path, show(doors()), plays=False)
    still = page.locator("img.vfiosim-still")
    expect(still).to_be_visible()
    box = still.bounding_box()
    assert box is not None
    assert box["width"] > 100
    context.close()


CHOOSE = """
import ipywidgets
said = ipywidgets.Label()
view.observe(lambda _: setattr(said, "value", ", ".join(view.picked)), "picked")
view.picked = ["door front"]
view.selecting = True
said
"""
TOLD = """
import ipywidgets
said = ipywidgets.Label()
view.observe(lambda change: setattr(said, "value", f"{said.value} {change['new']}"), "step")
said
"""
LONGER = """
house.run(lose_key(house.person, house.door, 1))
view.update(house.trace)
view.highlight, view.shown = ['door front'], ['graph', 'source']
"""


def test_in_jupyterlab_arrows_move_the_player_and_a_longer_trace_reaches_the_live_one(
    desk: Desk,
) -> None:
    page, still, live = desk.page, *(desk.cell(code).locator(".vfiosim-player") for code in (TOYS, LIVE))
    desk.cell(LONGER)
    still.locator(".sentence").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    at(still, 2)
    at(live, 4)
    expect(live.locator(".sentence")).to_have_text("Key 1 is lost.")
    expect(live.locator(".edge.dim")).not_to_have_count(0)
    expect(live.locator(".code")).to_contain_text("def lose_key")
    expect(page.locator(".jp-RenderedText[data-mime-type$=stderr]")).to_have_count(0)


def test_in_jupyterlab_the_kernel_knows_which_nodes_are_picked(desk: Desk) -> None:
    page, _ = desk.page, desk.cell(TOYS)
    player = desk.cell(LIVE).locator(".vfiosim-player")
    desk.cell("view.step = 3")
    label = desk.cell(CHOOSE).locator(".widget-label")
    door, key = (player.locator(f'.node[data-oid="{oid}"]') for oid in ("door front", "key 1"))
    expect(door.locator(".tick")).to_have_text("✓")
    key.focus()
    page.keyboard.press("Enter")
    expect(key.locator(".tick")).to_have_text("✓")
    expect(key).to_have_attribute("aria-pressed", "true")
    door.click()
    expect(door.locator(".tick")).to_have_count(0)
    expect(label).to_have_text("key 1")


def test_in_jupyterlab_the_counters_are_drawn_when_they_are_opened_and_only_a_rest_is_told_to_the_kernel(
    desk: Desk,
) -> None:
    page, _ = desk.page, desk.cell(TOYS)
    player = desk.cell(LIVE).locator(".vfiosim-player")
    player.focus()
    page.keyboard.press("k")
    expect(player.locator(".drawing svg")).to_be_visible()
    told = desk.cell(TOLD).locator(".widget-label")
    player.evaluate("root => { for (const key of 'RRRLR') root.vfiosim.move(key === 'R' ? 1 : -1); }")
    at(player, 3)
    expect(told).to_have_text("3")


def test_a_notebook_that_was_saved_plays_when_trusted_and_shows_a_picture_when_not(
    desk: Desk,
) -> None:
    bundle = show(doors(), step=2)._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell("show(trace)", outputs=[nbformat.v4.new_output("execute_result", bundle)])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(notebook, desk.lab.folder / "saved_player.ipynb")
    page = desk.show("saved_player.ipynb")
    picture = page.locator("img.vfiosim-still")
    expect(picture).to_be_visible()
    becomes(picture, "one => one.naturalWidth", lambda width: width > 100)
    expect(page.locator(".vfiosim-player")).to_have_count(0)
    page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.get(0).trusted = true")
    player = page.locator(".vfiosim-player")
    expect(player).to_be_visible()
    player.focus()
    page.keyboard.press("ArrowRight")
    at(player, 3)


DARK, LIGHT = ("rgb(30, 30, 30)", "rgb(212, 212, 212)"), ("rgb(255, 255, 255)", "rgb(59, 59, 59)")


@pytest.mark.parametrize(("kind", "colours"), [("dark", DARK), ("light", LIGHT)])
def test_in_vs_code_the_player_has_the_editors_colours_whatever_the_system_wants(
    browser: Browser, tmp_path: Path, kind: str, colours: tuple[str, str]
) -> None:
    (paper, ink), page = colours, browser.new_page(color_scheme="light" if kind == "dark" else "dark")
    theme = f"--vscode-editor-background: {paper}; --vscode-editor-foreground: {ink}"
    content = f'<body class="vscode-{kind}" style="{theme}; background: {paper}">{show(bind(), step=3).html()}'
    (tmp_path / "page.html").write_text(f'<!doctype html><meta charset="utf-8">{content}', "utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    player = page.locator(".vfiosim-player")
    expect(player).to_have_css("background-color", paper)
    expect(player).to_have_css("color", ink)
    found = Axe().run(page, options=CONTRAST).response["violations"]
    assert [node["html"] for one in found for node in one["nodes"]] == []
    page.close()
