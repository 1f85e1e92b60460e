"""Descriptors as buttons: what a press chooses, and what it brings out in the picture."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial

import pytest
from playwright.sync_api import Locator, expect

from tests.benches import press
from tests.desk import Desk
from tests.desk import press as click_on
from tests.turns import turns
from vfiosim.lab import Bench, Sandbox

LAB = "from vfiosim.lab import Bench, Sandbox\n"


DIM = re.compile(r"\bdim\b")


def shown(root: Locator, oid: str) -> Locator:
    return root.locator(f'.vfiosim-player .node[data-oid="{oid}"]')


def bench_with_a_vm() -> Bench:
    bench = Bench()
    press(bench, "open device", "open iommufd", "dup", "create VM", "create kvm-vfio")
    return bench


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("vfio0#1", ["ioctl on fd", "fd", "file fd"]),
        ("iommu#1", ["iommufd", "fd"]),
        ("kvm-vm#1", ["VM fd", "fd"]),
        ("kvm-vfio#1", ["kvm-vfio fd", "fd"]),
    ],
)
def test_a_press_puts_the_descriptor_into_every_field_that_can_be_about_such_a_file(
    file: str, fields: list[str]
) -> None:
    bench = bench_with_a_vm()
    every = [bench.bind_fd, bench.struct["iommufd"], bench.fd, bench.vm, bench.kv, bench.listed]
    for field in every:
        field.set(77)
    number = next(fd for fd, open_file in bench.session.descriptors().items() if open_file.label == file)
    bench.table.press("vmm", number)
    assert {field.label for field in every if field.text.value == str(number)} == {*fields}


def test_a_press_brings_the_file_out_in_the_picture_and_a_second_one_ends_that() -> None:
    bench = Bench()
    press(bench, "open device", "open iommufd")
    bench.table.press("vmm", 4)
    assert bench.trace_pane.player.highlight == ["fds vmm", "file iommu#1"]
    assert bench.table.pressed == ("vmm", 4)
    bench.table.press("vmm", 4)
    assert bench.trace_pane.player.highlight == []
    assert bench.table.pressed is None


def test_the_next_call_is_shown_whole_and_its_descriptor_stays_pressed() -> None:
    bench = Bench()
    press(bench, "open device", "open iommufd")
    bench.table.press("vmm", 3)
    press(bench, "bind")
    assert bench.trace_pane.player.highlight == []
    assert bench.table.pressed == ("vmm", 3)


def test_a_descriptor_that_leads_to_another_file_now_is_no_longer_pressed() -> None:
    bench = Bench()
    press(bench, "open device")
    bench.table.press("vmm", 3)
    press(bench, "close", "open iommufd")
    assert bench.table.label() == ""
    assert bench.table.pressed is None


def test_a_press_on_a_descriptor_that_has_gone_meanwhile_does_nothing() -> None:
    bench = Bench()
    press(bench, "open device", "close")
    bench.table.press("vmm", 3)
    assert bench.table.pressed is None


def test_in_the_sandbox_later_calls_begin_with_the_descriptor_that_was_chosen() -> None:
    box = Sandbox()
    for name in ("open device", "open iommufd", "open iommufd"):
        box.shortcuts.buttons[name].click()
    box.table.press("vmm", 4)
    assert (box.form.fd.value, box.shortcuts.fd.value) == (4, 4)
    box.table.press("vmm", 3)
    assert box.form.buffer is not None
    assert box.form.buffer.fields["iommufd"].text.value == "4"


def test_in_the_sandbox_a_press_chooses_the_program_too() -> None:
    box = Sandbox(processes=("one", "two"))
    box.shortcuts.buttons["open device"].click()
    box.process.value = "two"
    box.shortcuts.buttons["open iommufd"].click()
    box.table.press("one", 3)
    assert (box.process.value, box.form.fd.value) == ("one", 3)


def test_without_anywidget_the_descriptors_are_a_list() -> None:
    program = (
        "import sys; sys.modules['anywidget'] = None\n"
        "from vfiosim.lab import Bench\n"
        "b = Bench(); b.buttons['open device'].click(); b.table.press('vmm', 3); print(b.table.children[0].value)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "<li><b>3</b> → vfio0#1</li>" in done.stdout


@pytest.mark.parametrize("cell", turns(["Bench()", "Sandbox()"], days=2))
def test_on_the_page_a_descriptor_is_pressed_with_mouse_or_keys_and_says_that_it_is(desk: Desk, cell: str) -> None:
    root = desk.widget(LAB + cell)
    click_on(root, "open device", "open iommufd")
    brought = partial(shown, root)
    device, iommufd = (root.get_by_role("button", name=name) for name in ("3 vfio0", "4 iommu"))
    expect(device).to_have_attribute("aria-pressed", "false")
    device.click()
    expect(device).to_have_attribute("aria-pressed", "true")
    expect(brought("file iommu#1")).to_have_class(DIM)
    expect(brought("file vfio0#1")).not_to_have_class(DIM)
    iommufd.focus()
    desk.page.keyboard.press("Enter")
    expect(iommufd).to_have_attribute("aria-pressed", "true")
    expect(device).to_have_attribute("aria-pressed", "false")
    expect(iommufd).to_be_focused()
    expect(brought("file iommu#1")).not_to_have_class(DIM)
    expect(brought("file vfio0#1")).to_have_class(DIM)
