"""Slow machines: a page that is busy for seconds shows its players in the end, and none of them is deaf."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import run_all
from tests.desk import Desk, button, cell_of, said
from tests.executed import EACH, TOGETHER, executed
from tests.players import TOYS
from vfiosim.lab import Bench

SLOW = 6  # times as slow as the machine that tests it

# When a page is opened it makes all of them at once. On a page that was made six times as slow each took up to 2.4 ms; so this many
# take 1.7 s of the two seconds that anywidget gives a player to begin.
MOST = 700

# The page takes four seconds to read the player's program.
LATE = """from vfiosim.views.live_player import LivePlayer
class Late(LivePlayer):
    _esm = "await new Promise((go) => setTimeout(go, 4000));" + LivePlayer._esm
view = Late(house.trace)
view"""


@TOGETHER
@EACH
def test_a_notebook_that_has_run_keeps_no_more_widgets_than_a_slow_page_can_make_in_two_seconds(path):
    assert 0 < executed(path).metadata["widgets_kept"] <= MOST


def test_a_player_that_the_page_took_four_seconds_to_read_hears_what_the_kernel_said_before_and_after(
    desk: Desk,
) -> None:
    desk.cell(TOYS.rstrip().removesuffix("show(house.trace)"))
    player = desk.cell(LATE).locator(".vfiosim-player")
    desk.cell("view.step = 1")
    expect(player).to_have_attribute("data-step", "1")
    desk.cell("view.step = 2")
    expect(player).to_have_attribute("data-step", "2")


@contextmanager
def slow(page: Page) -> Iterator[None]:
    """The page is six times as slow meanwhile."""
    speed = page.context.new_cdp_session(page)
    speed.send("Emulation.setCPUThrottlingRate", {"rate": SLOW})
    yield
    speed.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    speed.detach()


def is_shown_and_follows_its_buttons(bench: Locator) -> None:
    button(bench, "bind").click()
    expect(said(bench)).to_contain_text("out_devid = 1")
    expect(bench.locator(".vfiosim-player .sentence")).to_contain_text("VFIO_DEVICE_BIND_IOMMUFD")


def test_on_a_page_six_times_as_slow_a_player_is_shown_and_follows_its_buttons(desk: Desk) -> None:
    desk.cell("from vfiosim.lessons import start")
    with slow(desk.page):
        is_shown_and_follows_its_buttons(desk.widget("start.first_bind()"))


@pytest.mark.nightly
def test_on_a_page_six_times_as_slow_every_player_of_a_notebook_is_shown_and_follows_its_buttons(desk: Desk) -> None:
    page = desk.show("00_start.ipynb")
    with slow(page):
        run_all(page)
        is_shown_and_follows_its_buttons(cell_of(page, "start.first_bind()"))


# ---- looks that widgets share


def test_what_one_bench_unfolds_or_widens_stays_as_it_was_in_another() -> None:
    one, other = Bench(), Bench()
    one.copy.click()
    one.layout.width = "50%"
    assert (one.code.layout.display, other.code.layout.display) == ("", "none")
    assert (one.layout.width, other.layout.width) == ("50%", None)


def test_a_look_that_many_widgets_have_is_changed_for_none_of_them() -> None:
    undo = Bench().undo
    for look in ("layout.width", "style.button_color"):
        part, name = look.split(".")
        with pytest.raises(AttributeError, match="many widgets have this look"):
            setattr(getattr(undo, part), name, "red")
        assert getattr(getattr(Bench().undo, part), name) != "red"
