"""The sandbox and the race lab in JupyterLab in Chromium: every control pressed once, and what it does seen on the page."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.desk import Desk, button, click, press, pressed, select
from tests.desk import said as result
from tests.turns import turn
from vfiosim import replay
from vfiosim.machine import PREFIX

LAB = "from vfiosim.lab import Races, Sandbox\n"
# Without a page all of it is asked in test_sandbox.py and test_sandbox_machine.py.
IN_TURN = [turn(number, 3) for number in range(3)]


def bind(root: Locator) -> None:
    pressed(root, ("open device", "→ 3"), ("open iommufd", "→ 4"), ("Call", "out_devid = 1"))


@IN_TURN[0]
def test_every_control_of_the_sandbox_does_something_on_the_page(desk: Desk) -> None:
    root = desk.widget(LAB + "Sandbox()")
    expect(root.locator(".vfiosim-hint")).to_contain_text("open device")
    bind(root)
    expect(root.locator(".vfiosim-player, .vfiosim").first).to_be_visible()
    press(root, "Call")
    expect(result(root)).to_contain_text("not_bound_yet")
    expect(result(root)).to_contain_text("All of it was given back")
    press(root, "Undo")
    expect(result(root)).to_contain_text("Taken back")
    press(root, "Redo")
    expect(result(root)).to_contain_text("EINVAL")
    press(root, "More calls")
    select(root, "more", "Group, container, KVM")
    pressed(root, ("open group", "EBUSY"), ("open container", "→ 5"), ("open kvm", "→ 6"))
    _raw_bytes(root)
    _more_calls(root)
    _processes(root)
    _let_it_fail(root)
    press(root, "Reset")
    expect(root.locator(".vfiosim-table")).to_contain_text("nothing yet")


def _raw_bytes(root: Locator) -> None:
    select(root, "on", "3 → vfio0#1")
    select(root, "call", "VFIO_DEVICE_BIND_IOMMUFD")
    raw, player = root.get_by_label("raw bytes", exact=True), root.locator(".vfiosim-player")
    before = player.bounding_box()
    press(root, "More fields")
    expect(raw).to_be_visible()
    assert player.bounding_box() == before  # they stand over the picture, which stays where it is
    raw.fill("10 00 00 00")
    raw.press("Enter")
    expect(root.get_by_label("argsz", exact=True)).to_have_value("16")
    select(root, "call", "any other request")
    root.get_by_label("request", exact=True).fill("0x1234")
    press(root, "Call")
    expect(result(root)).to_contain_text("0x1234")


MORE = {
    "Files": (
        ("dup", "dup("),
        ("close", "close("),
        ("eventfd", "eventfd()"),
        ("memfd", "memfd(4096)"),
        ("other file", "plain('file')"),
    ),
    "Memory": (("map memory", "the address of the new memory"), ("munmap", "munmap("), ("mmap fd", "mmap(")),
    "Pass files on": (("socketpair", "socketpair()"), ("send fd", "sendmsg_fds(")),
    "Drivers": (("unbind driver", "unbind"), ("bind driver", "/bind")),
    "Time": (("let time pass", "1000 ms pass"),),
}


def _more_calls(root: Locator) -> None:
    for group, pairs in MORE.items():
        select(root, "more", group)
        pressed(root, *pairs)
    press(root, "More calls")
    expect(button(root, "let time pass")).to_be_hidden()


def _processes(root: Locator) -> None:
    press(root, "More calls")
    select(root, "more", "Processes")
    press(root, "New process")
    expect(root.locator(".vfiosim-table")).to_contain_text("p2 has open")
    press(root, "Fork")
    expect(root.locator(".vfiosim-table")).to_contain_text("p3 has open")
    press(root, "Kill")
    expect(root.locator(".vfiosim-table")).to_contain_text("p2 has ended")


def _let_it_fail(root: Locator) -> None:
    select(root, "who", "p3")
    press(root, "open iommufd")
    select(root, "call", "IOMMU_IOAS_ALLOC")
    select(root, "more", "By hand, or failing")
    press(root, "Let it fail")
    press(root, "What can fail?")
    expect(result(root)).to_contain_text("can fail in this call")
    root.get_by_label("fails", exact=True).select_option(index=1)
    press(root, "Call")
    expect(result(root)).to_contain_text("on purpose")


@IN_TURN[2]
def test_two_calls_are_scheduled_by_hand(desk: Desk) -> None:
    root = desk.widget(LAB + "Sandbox()")
    pressed(root, ("open device", "→ 3"), ("open iommufd", "→ 4"))
    press(root, "More calls")
    select(root, "more", "By hand, or failing")
    press(root, "by hand")
    press(root, "Call")
    expect(root.get_by_label("thread", exact=True)).to_have_value("B")
    press(root, "Call")
    rows = root.locator(".vfiosim-schedule .vfiosim-row")
    expect(rows).to_have_count(2)
    ahead = rows.nth(0).locator(".vfiosim-next")
    press(rows.nth(0), "1 effect")
    expect(ahead).to_contain_text(".py:")
    for _ in range(30):
        before = ahead.inner_text()
        if "vfio_device_set vfio0.lock" in before:
            break
        press(rows.nth(0), "1 step")
        expect(ahead).not_to_have_text(before, use_inner_text=True)
    press(rows.nth(0), "1 effect")
    expect(ahead).not_to_contain_text("take the lock vfio_device_set")
    press(rows.nth(1), "to the end")
    expect(rows.nth(1)).to_contain_text("held by A")
    expect(button(rows.nth(1), "to the end")).to_be_focused()
    press(rows.nth(0), "to the end")
    expect(result(root)).to_contain_text("→ 0")


@IN_TURN[1]
def test_a_machine_is_edited_and_everything_done_again(desk: Desk) -> None:
    root = desk.widget(LAB + "Sandbox()")
    bind(root)
    press(root, "Machine")
    expect(root.locator(".vfiosim-device")).to_have_count(6)
    press(root, "Add a device")
    expect(root.locator(".vfiosim-device")).to_have_count(7)
    click(root.locator(".vfiosim-device").nth(1).get_by_role("button", name="Remove"))
    expect(root.locator(".vfiosim-device")).to_have_count(6)
    root.locator(".vfiosim-device").nth(0).get_by_label("group", exact=True).fill("many")
    press(root, "Boot this machine")
    expect(root.locator(".vfiosim-device").nth(0)).to_contain_text("is no number")
    root.locator(".vfiosim-device").nth(0).get_by_label("group", exact=True).fill("1")
    press(root, "Boot and do all again")
    expect(result(root)).to_contain_text("The machine has booted")
    expect(root.locator(".vfiosim-table")).to_contain_text("vfio0#1")
    root.get_by_label("take out", exact=True).fill("group_lock")
    press(root, "Take out")
    expect(root.locator(".vfiosim-taken")).to_contain_text("group_lock")
    press(root, "Put all back")
    expect(root.locator(".vfiosim-taken")).to_be_empty()
    select(root, "topology", "lab")
    select(root, "kernel", "Linux 6.6, the first release with BIND")
    expect(root.locator(".vfiosim-device")).to_have_count(11)
    press(root, "Boot this machine")
    expect(root.get_by_label("device", exact=True).first).to_contain_text("pci0")


def test_what_is_typed_and_pressed_is_handled_in_one_thread(desk: Desk) -> None:
    """Also by controls that were made by a press. In two threads a press would go ahead of what was typed before it."""
    root = desk.widget(
        LAB + "import threading\nbox, seen = Sandbox(), set()\n"
        "note = lambda *_: seen.add(threading.current_thread().name)\n"
        "box.folds['Machine'].observe(note, 'value')\n"
        "box.machine_pane.boot.on_click(note)\n"
        "box"
    )
    press(root, "Machine")
    desk.cell("box.machine_pane.rows[0].name.text.observe(note, 'value')")
    root.locator(".vfiosim-device").first.get_by_label("name", exact=True).fill("card")
    press(root, "Boot this machine")
    told = desk.cell("print(*seen, 'it was.')").locator(".jp-OutputArea-output")
    expect(told.last).to_have_text("MainThread it was.")


@IN_TURN[2]
def test_each_preset_is_one_press_and_undo_leads_back(desk: Desk) -> None:
    root = desk.widget(LAB + "Sandbox()")
    picture = root.locator(".vfiosim-player")
    expect(picture.locator('.node[data-oid="vfio_device vfio0"]')).to_be_visible()
    for name, file in (
        ("A card", "vfio0#1"),
        ("Two functions", "vfio1#1"),
        ("A VM", "kvm-vm#1"),
        ("An mdev", "iommu#1"),
        ("No IOMMU", "noiommu-0#1"),
    ):
        press(root, name)
        expect(root.locator(".vfiosim-hint")).to_contain_text("Try:")
        expect(root.get_by_role("button", name=f" {file}")).to_be_visible()
        expect(picture.locator(f'.node[data-oid="file {file}"]')).to_be_visible()
    press(root, "Undo", "Undo")
    expect(root.get_by_role("button", name="6 kvm-vm#1")).to_be_visible()


@IN_TURN[1]
def test_a_device_is_put_into_another_group_and_its_box_goes_there(desk: Desk) -> None:
    root = desk.widget(LAB + "Sandbox()")
    press(root, "Two functions", "Machine")
    lines = root.locator(".vfiosim-group-line")
    expect(lines).to_have_count(1)
    expect(lines.nth(0)).to_contain_text("viable")
    group = root.locator(".vfiosim-device").nth(1).get_by_label("group", exact=True)
    group.fill("7")
    group.press("Enter")
    expect(lines).to_have_count(2)
    expect(lines.nth(1)).to_contain_text("iommu_group 7")
    press(lines.nth(1), "Add one")
    expect(lines.nth(1).locator(".vfiosim-device")).to_have_count(2)
    lines.nth(1).get_by_label("driver", exact=True).nth(1).fill("ahci")
    expect(lines.nth(1)).to_contain_text("not viable: ahci has")
    press(root, "Boot this machine")
    expect(result(root)).to_contain_text("The machine has booted")


@IN_TURN[2]
def test_code_and_saved_text(desk: Desk) -> None:
    root = desk.widget(LAB + "Sandbox()")
    bind(root)
    press(root, "Code, save, load")
    expect(root.get_by_label("Python", exact=True)).to_have_value(re.compile("VFIO_DEVICE_BIND_IOMMUFD"))
    press(root, "Save")
    expect(root.get_by_label("saved", exact=True)).to_have_value(re.compile(PREFIX))
    press(root, "Save to file")
    expect(root.locator(".vfiosim-keep")).to_contain_text("Saved to sandbox.txt")
    press(root, "Reset")
    expect(root.locator(".vfiosim-table")).to_contain_text("nothing yet")
    press(root, "Load from file")
    expect(root.locator(".vfiosim-keep")).to_contain_text("Loaded from sandbox.txt")
    expect(root.locator(".vfiosim-table")).to_contain_text("iommu#1")
    press(root, "Reset")
    expect(root.locator(".vfiosim-table")).to_contain_text("nothing yet")
    press(root, "Load")
    expect(root.locator(".vfiosim-table")).to_contain_text("iommu#1")


@IN_TURN[0]
def test_the_text_to_share_comes_when_it_is_asked_for_and_leads_back_to_the_step(desk: Desk) -> None:
    root = desk.widget(LAB + "Sandbox()")
    bind(root)
    player = root.locator(".vfiosim-player").first
    press(player, "More ▾", "Share")
    shared = player.get_by_role("textbox", name="Text to share")
    expect(shared).to_have_value(re.compile(rf'^replay\("{PREFIX}.*@[0-9]+"\)$'))
    again = replay(shared.input_value().removeprefix('replay("').removesuffix('")'))
    assert again.step
    assert [str(call) for call in again.machine.calls][-1].startswith("vmm: ioctl(3, VFIO_DEVICE_BIND_IOMMUFD")


@turn(0, 2)
def test_an_exploration_can_be_stopped(desk: Desk) -> None:
    desk.cell(
        "from vfiosim.lab import background_job\nbackground_job.SLICE, usual = 0, background_job.SLICE  # now it takes a minute"
    )
    root = desk.widget(LAB + "Races('R12')")
    root.get_by_text("no: whatever the order").click()
    press(root, "Answer", "Explore")
    expect(root).to_contain_text("Exploring")
    press(root, "Stop")
    expect(root).to_contain_text("Not finished")
    expect(button(root, "Stop")).to_be_disabled()
    desk.cell("background_job.SLICE = usual")
