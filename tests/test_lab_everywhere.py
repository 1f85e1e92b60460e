"""The lab in JupyterLab in Chromium: all its widgets on one page, odd input, quick hands, other views of the same notebook."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Locator, expect

from tests.browser import run_all
from tests.conftest import ROOT
from tests.desk import Desk, becomes, button, cell_of, press, pressed, said, select, settle
from tests.searches import NO_SECOND_GET, ONLY_THE_PUT
from tests.turns import turn

LAB = "from vfiosim.lab import Bench, Races, Sandbox, room\n"
# Without a page all of it is asked in test_lab.py, test_sandbox.py, test_room.py and test_races.py.
IN_TURN = [turn(number, 3) for number in range(3)]
CELLS = ["Sandbox()", "room('failed-second-bind')", "Races('R1')"]
KEPT = len(CELLS) + 1
SHARP = """<script>document.title = "gone"</script>'"&amp;<b>"""


# ---- every control


@IN_TURN[0]
def test_every_button_of_the_bench_does_something_on_the_page(desk: Desk) -> None:
    bench = desk.widget(LAB + "Bench()")
    pressed(
        bench,
        ("open device", "→ 3"),
        ("open iommufd", "→ 4"),
        ("bind", "out_devid = 1"),
        ("open group", "EBUSY"),
        ("GET_INFO", "→ 0"),
        ("create VM", "→ 6"),
        ("create kvm-vfio", "→ 5"),
        ("FILE ADD", "→ 0"),
        ("FILE DEL", "→ 0"),
        ("dup", "→ 7"),
        ("close", "→ 0"),
        ("bind", "ioctl on fd: choose a descriptor"),  # which descriptor is meant now the reader says
    )
    bench.get_by_label("ioctl on fd", exact=True).fill("7")
    pressed(bench, ("bind", "ioctl(7, VFIO_DEVICE_BIND_IOMMUFD)"))
    press(bench, "Show code")
    expect(bench.locator("textarea")).to_have_value(re.compile("VFIO_DEVICE_BIND_IOMMUFD"))
    press(bench, "Hide code")
    expect(bench.locator("textarea")).to_be_hidden()
    press(bench, "Why is it alive?")
    expect(bench.locator(".vfiosim-answer")).to_contain_text("kept alive")
    pressed(bench, ("Undo", "Taken back: ioctl(7"), ("Reset", "as at the beginning"))
    expect(bench.locator(".vfiosim-table")).to_contain_text("none yet")
    expect(button(bench, "Undo")).to_be_disabled()


def test_two_benches_and_their_players_do_not_disturb_each_other(desk: Desk) -> None:
    bench, other = desk.widget(LAB + "Bench()"), desk.widget("Bench()")
    pressed(bench, ("open device", "→ 3"))
    player = bench.locator(".vfiosim-player")
    player.focus()
    desk.page.keyboard.press("End")
    expect(player).to_have_attribute("data-step", "4")
    expect(said(other)).not_to_contain_text("→")
    expect(other.locator(".vfiosim-table")).to_contain_text("none yet")
    ids = desk.page.evaluate("[...document.querySelectorAll('.vfiosim-player [id]')].map(one => one.id)")
    assert len(ids) == len({*ids})


@IN_TURN[2]
def test_a_file_is_sent_and_received_and_a_bad_text_is_not_loaded(desk: Desk) -> None:
    sandbox = desk.widget(LAB + "Sandbox()")
    press(sandbox, "More calls")
    select(sandbox, "more", "Pass files on")
    pressed(
        sandbox,
        ("open iommufd", "→ 3"),
        ("socketpair", "socketpair()"),
        ("send fd", "sendmsg_fds("),
    )
    sandbox.get_by_label("socket", exact=True).select_option(index=1)
    pressed(sandbox, ("receive fd", "recvmsg_fds("))
    expect(sandbox.locator(".vfiosim-table li")).to_have_count(4)
    press(sandbox, "More calls", "Code, save, load")  # the one takes the place of the other
    for text, words in (
        ("no such thing", "That did not work"),
        ("vfiosim1:AAAA", "That did not work"),
        ("", "did not work"),
    ):
        sandbox.get_by_label("saved", exact=True).fill(text)
        press(sandbox, "Load")
        expect(sandbox.locator(".vfiosim-keep [role=alert]")).to_contain_text(words)
        expect(sandbox.locator(".vfiosim-table li")).to_have_count(4)


@IN_TURN[1]
def test_every_button_of_a_room_of_the_museum_does_something_on_the_page(desk: Desk) -> None:
    room = desk.widget(LAB + "room('failed-second-bind')")
    press(room, "What the real kernel answered")
    expect(room).to_contain_text("VFIO_DEVICE_BIND_IOMMUFD")
    press(room, "The shortest way into it")
    expect(room.locator(".vfiosim-player svg.vfiosim-graph")).to_be_visible()
    press(room, "The shortest way into it")
    expect(room.locator(".vfiosim-player")).to_have_count(0)
    press(room, "Hint")
    expect(room).to_contain_text("A call that fails gives back what it took")
    press(room, "Prove")
    expect(room.get_by_role("alert")).to_contain_text("Nothing is changed as yet")
    expect(button(room, "Solution")).to_be_disabled()
    _write(room, "vfio_device_put_kvm", ONLY_THE_PUT)
    _write(room, "vfio_df_get_kvm_safe", NO_SECOND_GET)
    press(room, "Prove")
    expect(room).to_contain_text("✓ Mended.")
    press(room, "Solution")
    expect(room).to_contain_text("+++ b/vfio_device_put_kvm")
    press(room, "Reset")
    expect(room).not_to_contain_text("Mended.")
    expect(room.locator("textarea")).not_to_have_value(re.compile("Only the first open"))


def test_in_the_editor_of_a_room_tab_indents_and_after_escape_leads_on(desk: Desk) -> None:
    room = desk.widget(LAB + "room('failed-second-bind')")
    editor = room.locator("textarea")
    editor.fill("pass")
    editor.press("Home")
    editor.press("Tab")
    expect(editor).to_have_value("    pass")
    editor.press("Escape")
    editor.focus()
    editor.press("Escape")
    editor.press("Tab")
    expect(editor).not_to_be_focused()
    expect(editor).to_have_value("    pass")


def _write(room: Locator, name: str, text: str) -> None:
    room.get_by_label("function", exact=True).select_option(label=name)
    editor = room.locator("textarea")
    expect(editor).to_have_value(re.compile(f"async def {name}"))
    editor.fill(text)


# The words of a place that stand in two lines.
BROKEN_WORDS = r"""root => {
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), broken = [], range = document.createRange();
    while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/\S+/g)) {
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(one => one.top)).size > 1) broken.push(word[0]);
    }
    return broken;
}"""


@IN_TURN[2]
def test_every_button_of_the_race_lab_does_something_on_the_page(desk: Desk) -> None:
    races = desk.widget(LAB + "Races('R1')")
    press(races, "Answer")
    expect(races.get_by_role("alert")).to_contain_text("Choose one of the two answers first")
    expect(button(races, "Explore")).to_be_disabled()
    races.get_by_text("no: whatever the order").click()
    press(races, "Answer")
    races.get_by_text("take out group_lock").click()
    races.get_by_text("no: whatever the order").click()
    press(races, "Answer", "Explore")
    expect(races).to_contain_text("Broken")
    expect(races).to_contain_text("✕ You predicted no")
    desk.page.set_viewport_size({"width": 1280, "height": 720})
    races.evaluate("lab => lab.scrollIntoView({ block: 'start' })")
    for part in (
        button(races, "Explore"),
        button(races, "From the start"),
        button(races, "Next →"),
        races.locator("g.node").last,
    ):
        expect(part).to_be_in_viewport()
    expect(races.get_by_text("yes: in some order")).to_be_hidden()
    press(races, "Story and prediction")
    expect(races.get_by_text("yes: in some order")).to_be_visible()
    desk.page.set_viewport_size({"width": 1000, "height": 720})
    becomes(races.locator(".vfiosim-way-in table.shared"), BROKEN_WORDS)
    expect(button(races, "Stop")).to_be_disabled()
    press(races, "Show 2")
    expect(races).to_contain_text("Shown:")
    expect(races.locator(".vfiosim-player").first).to_be_visible()
    press(races, "Schedule it yourself")
    rows = races.locator(".vfiosim-schedule .vfiosim-row")
    expect(rows).to_have_count(2)
    press(rows.nth(1), "to the end")
    expect(rows).to_have_count(1)
    press(races, "Reset")
    expect(races.locator(".vfiosim-player, .vfiosim-sandbox")).to_have_count(0)
    races.get_by_text("yes: in some order").click()
    press(races, "Answer", "Explore")
    expect(races).to_contain_text("Safe")
    races.get_by_label("puzzle").select_option(index=2)
    expect(races).not_to_contain_text("You predicted yes")
    expect(button(races, "Explore")).to_be_disabled()


# ---- quick hands


@turn(1, 2)
def test_a_click_while_an_exploration_is_under_way_stops_it_or_waits_and_breaks_nothing(desk: Desk) -> None:
    races = desk.widget(LAB + "Races('R2')")
    races.get_by_text("no: whatever the order").click()
    press(races, "Answer")
    button(races, "Explore").click()
    button(races, "Schedule it yourself").click()
    expect(races.locator(".vfiosim-schedule .vfiosim-row")).not_to_have_count(0)
    expect(races).to_contain_text(re.compile("Safe|Broken"))
    button(races, "Reset").dblclick()
    expect(races).to_contain_text("Predict first")


AS_EVERYBODY_HAS_IT = """import os
tests_have = os.environ.pop("VFIOSIM_DOUBLE_CLICK")
bench, sandbox = Bench(), Sandbox()
os.environ["VFIOSIM_DOUBLE_CLICK"] = tests_have
"""


def twice(control: Locator) -> None:
    """Two clicks close together, on a loaded machine too."""
    control.evaluate("one => { one.click(); one.click(); }")
    settle(control.page)


def test_a_double_click_counts_once_and_quick_steps_all_count(desk: Desk) -> None:
    bench, sandbox = desk.widget(LAB + AS_EVERYBODY_HAS_IT + "bench"), desk.widget("sandbox")
    for place in (bench, sandbox):
        for number, name in enumerate(("open device", "open iommufd"), 1):
            twice(button(place, name))
            expect(said(place)).to_contain_text(f"→ {number + 2}")
            expect(place.locator(".vfiosim-table li")).to_have_count(number)
    twice(button(sandbox, "Undo"))
    expect(sandbox.locator(".vfiosim-table")).to_contain_text("nothing yet")


# ---- names


@IN_TURN[1]
def test_names_with_tags_quotes_and_a_thousand_letters_stay_text(desk: Desk) -> None:
    sandbox = desk.widget(LAB + "Sandbox()")
    press(sandbox, "Reset", "More calls")
    select(sandbox, "more", "Processes")
    for name in (SHARP, "x" * 1000):
        sandbox.get_by_label("new name", exact=True).fill(name)
        press(sandbox, "New process")
        expect(sandbox.locator(".vfiosim-table")).to_contain_text(f"{name[:80]} has open")
        pressed(sandbox, ("open device", name[:40]))
        expect(sandbox.locator(".vfiosim-player .sentence")).to_contain_text("now leads to file")
        sandbox.locator(".vfiosim-player").press("Home")
        sandbox.locator(".vfiosim-player").press("ArrowRight")
        expect(sandbox.locator(".vfiosim-player .sentence")).to_contain_text(name[:40])
    assert desk.page.title() != "gone"
    assert sandbox.evaluate("one => one.querySelectorAll('script').length") == 0
    becomes(sandbox, "one => one.scrollWidth - one.clientWidth", lambda over: over <= 1)


# ---- the same notebook elsewhere


COMMS = """() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
    .requestCommInfo({target_name: 'jupyter.widget'}).then(reply => Object.keys(reply.content.comms))"""
# So many as before, and others: those of the last run have gone, however long this one took.
OTHERS = f"""async before => {{
    const now = await ({COMMS})();
    return now.length === before.length && now.some(one => !before.includes(one));
}}"""


def test_running_a_notebook_again_closes_what_its_outputs_no_longer_show(desk: Desk) -> None:
    asked = "from vfiosim.lessons import who_holds_whom\nwho_holds_whom.predict('who is alive?')"
    kept = "kept = Bench() if 'kept' not in globals() else kept\nkept"
    page = desk.put(LAB, asked, "Bench()", "bench = Bench()\nbench", "Sandbox()", kept, "kept")
    run_all(page)
    before = page.evaluate(COMMS)
    run_all(page)
    page.wait_for_function(OTHERS, arg=before, polling=500)
    pressed(cell_of(page, "kept = Bench()"), ("open iommufd", "→ 3"))
    expect(cell_of(page, "bench = Bench()").locator(".vfiosim-table")).to_contain_text("none yet")


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook with sandbox, races and room that was run and saved without the state of its widgets."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (LAB, RUN, *CELLS, "box")])
    NotebookClient(notebook, timeout=120, store_widget_state=False, resources={"metadata": {"path": ROOT}}).execute()
    path = tmp_path_factory.mktemp("saved") / "saved.ipynb"
    nbformat.write(notebook, path)
    return path


RUN = "box = Sandbox()\nfor name in ('open device', 'open iommufd'):\n    box.shortcuts.buttons[name].click()\nbox.call.click()"


@pytest.mark.xdist_group("first page of JupyterLab")  # which needs the same notebook
def test_an_exported_notebook_shows_what_was_done_and_plays_with_the_network_off(browser: Browser, saved: Path) -> None:
    html, _ = HTMLExporter().from_filename(str(saved))
    (saved.parent / "saved.html").write_text(html, "utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((saved.parent / "saved.html").as_uri(), wait_until="domcontentloaded")
    expect(page.locator("body")).to_contain_text("Predict: can anything go wrong?")
    expect(page.locator("body")).to_contain_text("async def vfio_device_put_kvm")
    expect(page.locator("body")).to_contain_text("out_devid = 1")
    players = page.locator(".vfiosim-player")
    expect(players).to_have_count(2)  # of the room, and of the sandbox in which something was done
    players.last.focus()
    page.keyboard.press("End")
    expect(players.last.locator(".sentence")).to_have_text(re.compile("back and returns 0[.]$"))
    context.close()


def test_an_untrusted_notebook_shows_a_picture_and_no_dead_buttons(desk: Desk, saved: Path) -> None:
    name = "untrusted.ipynb"
    (desk.lab.folder / name).write_text(saved.read_text("utf-8"), "utf-8")
    page = desk.show(name)
    expect(page.locator(".vfiosim-kept:visible")).to_have_count(KEPT)
    expect(page.locator(".vfiosim-kept")).to_have_count(KEPT)
    expect(page.locator(".jp-Notebook:visible")).to_contain_text("Predict: can anything go wrong?")
    expect(page.locator("img.vfiosim-still").first).to_be_visible()
    expect(page.locator(".jp-OutputArea-output button:visible")).to_have_count(0)
