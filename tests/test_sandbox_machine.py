"""The sandbox's machine: its picture from the start, the presets, and the devices that a reader edits."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.sandboxes import call, choose
from vfiosim.kernel.variants import VARIANTS
from vfiosim.lab import Sandbox
from vfiosim.lab.by_hand import scheduler
from vfiosim.lab.sandbox.presets import PRESETS, Preset
from vfiosim.machine import decode, program_of
from vfiosim.puzzles import PUZZLES
from vfiosim.topology import DeviceSpec, Topology

each_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)


def boxes(box: Sandbox) -> set[str]:
    """The objects in the picture."""
    return {part for node in box.trace_pane.player.player.graph.nodes for part in node.parts}


def spots(box: Sandbox) -> dict[str, tuple[float, float]]:
    player: Any = box.trace_pane.player.player
    return {
        node.oid: (player.layout.nodes[node.key].left, player.layout.nodes[node.key].top) for node in player.graph.nodes
    }


def begun(name: str) -> Sandbox:
    box = Sandbox()
    box.presets.buttons[name].click()
    return box


# ---- the picture


def test_before_the_first_press_the_picture_shows_the_program_and_the_first_device_with_its_group() -> None:
    assert {"fds vmm", "vfio_device vfio0", "vfio_group 1", "iommu_group 1"} <= boxes(Sandbox())


def test_a_device_of_the_group_that_the_kernel_drives_is_in_the_picture_too() -> None:
    devices = DeviceSpec("usb", "0000:03:00.0", 3), DeviceSpec("sata", "0000:03:00.1", 3, driver="ahci")
    assert {"vfio_device vfio0", "device sata", "iommu_group 3"} <= boxes(Sandbox(Topology("mine", devices)))


def test_the_picture_of_a_machine_without_devices_has_the_program() -> None:
    assert boxes(Sandbox(Topology("none", ()))) == {"fds vmm"}


def test_before_the_first_move_the_picture_of_a_race_shows_its_programs_and_its_device() -> None:
    assert {"fds B", "vfio_device vfio0"} <= boxes(scheduler(PUZZLES["R1"]))


@pytest.mark.parametrize("seed", range(4))
def test_all_files_that_programs_have_open_stay_in_the_picture_whatever_a_call_changes(seed: int) -> None:
    box, choice = begun(Random(seed).choice(PRESETS).name), Random(seed)
    presses = {**box.shortcuts.buttons, "Call": box.call, "fork": box.buttons["Fork"]}
    for name in choice.choices([*presses], k=10):
        presses[name].click()
        files = {file.oid for program in box.run.alive() for file in box.run.descriptors(program).values()}
        assert files <= boxes(box), name


# ---- presets


@each_preset
def test_one_press_boots_the_machine_of_a_preset_opens_its_files_and_says_what_can_be_tried(preset: Preset) -> None:
    box = begun(preset.name)
    assert [spec.name for spec in box.run.machine.topology.devices] == [spec.name for spec in preset.devices]
    assert not any(done.outcome.refused for done in box.run.done)
    assert {file.oid for file in box.run.descriptors("vmm").values()} <= boxes(box)
    assert "<b>Try:</b>" in box.hint.value
    assert box.run.machine.check() == []


@each_preset
def test_in_a_preset_the_call_that_is_tried_next_is_the_one_that_is_chosen_and_the_last_one_ends_the_tour(
    preset: Preset,
) -> None:
    box = begun(preset.name)
    for wanted in preset.tries:
        assert wanted.says in box.hint.value
        assert (box.form.fd.value, box.form.what.label) == (wanted.fd, wanted.call)
        before = len(box.run.done)
        box.call.click()
        assert len(box.run.done) > before, box.message
    assert "Try:" not in box.hint.value
    box.undo.click()
    assert preset.tries[-1].says in box.hint.value


def test_what_the_reader_has_chosen_on_the_way_stays_chosen() -> None:
    box = begun("A card")
    box.form.turn_to(4, "close", {})
    box.shortcuts.buttons["open iommufd"].click()
    assert box.form.what.label == "close"


def test_what_is_suggested_for_a_descriptor_of_another_kind_of_file_leaves_the_form_as_it_is() -> None:
    box = begun("A card")
    fd, call = box.form.fd.value, box.form.what.label
    for number in box.run.descriptors("vmm"):
        box.form.turn_to(number, "KVM_CREATE_VM", {})
    assert (box.form.fd.value, box.form.what.label) == (fd, call)


@each_preset
@pytest.mark.parametrize("kernel", VARIANTS)
def test_every_kernel_can_begin_with_every_preset(kernel: str, preset: Preset) -> None:
    box = Sandbox(kernel=kernel)
    box.presets.buttons[preset.name].click()
    assert box.run.machine.kernel == kernel
    assert [done.event for done in box.run.done if not done.outcome.refused] == [*preset.given]


@each_preset
def test_undo_leads_back_to_the_machine_before_a_preset_and_redo_to_the_preset(preset: Preset) -> None:
    box = Sandbox()
    for name in ("open device", "open iommufd"):
        box.shortcuts.buttons[name].click()
    box.presets.buttons[preset.name].click()
    box.shortcuts.buttons["open kvm"].click()
    files = box.table.lines
    box.undo.click()
    box.undo.click()
    assert box.run.machine.topology.name == "small"
    assert [file.label for file in box.run.descriptors("vmm").values()] == ["vfio0#1", "iommu#1"]
    box.redo.click()
    box.redo.click()
    assert box.table.lines == files
    assert box.redo.disabled


def test_reset_leads_to_the_beginning_of_a_preset_and_not_to_an_empty_table() -> None:
    box = begun("A VM")
    files = box.table.lines
    box.shortcuts.buttons["close"].click()
    box.reset.click()
    assert box.table.lines == files
    box.redo.click()
    assert box.table.lines != files


@each_preset
def test_what_a_preset_has_done_is_part_of_the_history_text_and_program(preset: Preset) -> None:
    box = begun(preset.name)
    end = box.run.machine.trace.end.objects
    assert decode(box.run.save())[0].trace.end.objects == end
    names: dict[str, Any] = {}
    exec(program_of(box.run.machine), names)
    assert names["m"].trace.end.objects == end


def test_what_the_preset_of_two_functions_promises_comes_true() -> None:
    box = begun("Two functions")
    assert "→ 0" in call(box, 3, "VFIO_DEVICE_BIND_IOMMUFD", iommufd=5)
    assert "EPERM" in call(box, 4, "VFIO_DEVICE_BIND_IOMMUFD", iommufd=6)
    assert "→ 0" in call(box, 4, "VFIO_DEVICE_BIND_IOMMUFD", iommufd=5)


def test_what_the_preset_of_a_vm_promises_comes_true() -> None:
    box = begun("A VM")
    assert "→ 0" in call(box, 5, "KVM_SET_DEVICE_ATTR")
    assert "→ 0" in call(box, 3, "VFIO_DEVICE_BIND_IOMMUFD")
    for fd in (5, 6):
        choose(box, fd, "close")
        box.call.click()
    assert "vfio_device vfio0" in str(box.run.machine.why("kvm 1"))


def test_what_the_preset_of_an_mdev_promises_comes_true() -> None:
    box = begun("An mdev")
    assert "→ 0" in call(box, 3, "VFIO_DEVICE_BIND_IOMMUFD")
    assert "iommufd_access 1" in boxes(box)
    assert box.run.machine.built.groups[1].owner_cnt.value == 0


def test_what_the_preset_without_an_iommu_promises_comes_true() -> None:
    box = begun("No IOMMU")
    assert "→ 0" in call(box, 3, "VFIO_GROUP_SET_CONTAINER")
    assert "→ 0" in call(box, 4, "VFIO_SET_IOMMU", argument=8)
    assert "→ 5" in call(box, 3, "VFIO_GROUP_GET_DEVICE_FD")


@pytest.mark.parametrize(
    ("name", "fds", "iommufd"),
    [("A card", [3], 4), ("Two functions", [3, 4], 6), ("A VM", [3], 4), ("An mdev", [3], 4)],
)
def test_in_a_preset_a_bind_moves_nothing(name: str, fds: list[int], iommufd: int) -> None:
    box = begun(name)
    before = spots(box)
    for fd in fds:
        assert "→ 0" in call(box, fd, "VFIO_DEVICE_BIND_IOMMUFD", iommufd=iommufd)
        after = spots(box)
        assert {oid: after[oid] for oid in before if oid in after} == {
            oid: before[oid] for oid in before if oid in after
        }
        before = after


# ---- the devices


def edited(*devices: DeviceSpec) -> Sandbox:
    box = Sandbox(Topology("mine", devices)) if devices else Sandbox()
    box.machine_pane.unfold()
    return box


@pytest.mark.parametrize("typed", ["many", "", "-"])
def test_no_box_moves_as_long_as_the_number_of_a_group_cannot_be_used(typed: str) -> None:
    box = edited()
    before = beside(box, "1")
    box.machine_pane.rows[0].group.set(typed)
    assert beside(box, "1") == before
    box.machine_pane.rows[0].group.set(2)
    assert "1" not in box.machine_pane.devices.groups


@pytest.mark.parametrize("typed", ["9" * 5000, '<b>&"' * 1000, "x" * 5000])
def test_what_cannot_be_used_stays_as_it_was_typed_and_a_short_sentence_beside_it_goes_when_it_is_mended(
    typed: str,
) -> None:
    box = edited()
    pane, field = box.machine_pane, box.machine_pane.rows[0].vfs
    field.text.value = typed
    pane.boot.click()
    assert (field.text.value, len(box.run.machine.topology.devices)) == (typed, 6)
    assert 10 < len(field.message) < 120
    assert "<b>" not in field.problem.value
    assert "see what is said at virtual functions" in pane.message
    field.text.value = "0"
    assert (field.message, pane.message) == ("", "")


def beside(box: Sandbox, group: str) -> list[str]:
    """The devices whose boxes stand beside that of a group."""
    members = box.machine_pane.devices.groups[group].members.children
    return [str(each.name.text.value) for each in box.machine_pane.rows if each.box in members]


def test_devices_stand_beside_the_box_of_their_group() -> None:
    box = edited()
    assert {number: beside(box, number) for number in box.machine_pane.devices.groups} == {
        "1": ["nic"], "2": ["gpu", "hdmi"], "3": ["usb", "sata"], "4": ["tty"],
    }  # fmt: skip


def test_a_device_that_is_put_into_another_group_moves_there_and_boots_there() -> None:
    box = edited()
    box.machine_pane.rows[0].group.set(2)
    assert beside(box, "2") == ["nic", "gpu", "hdmi"]
    assert "1" not in box.machine_pane.devices.groups
    box.machine_pane.boot.click()
    assert box.run.machine.built.devices["nic"].iommu_group.value is box.run.machine.built.groups[2]


def test_a_group_says_who_makes_it_unfit_as_soon_as_a_driver_is_changed() -> None:
    box = edited()
    group = box.machine_pane.devices.groups["3"]
    assert "not viable: ahci has sata" in group.says.value
    box.machine_pane.rows[4].driver.set("vfio-pci")
    assert "not viable" not in group.says.value


def test_one_more_function_has_the_slot_and_the_group_of_those_that_are_there() -> None:
    box = edited(DeviceSpec("gpu", "0000:02:00.0", 2))
    box.machine_pane.devices.groups["2"].add.click()
    added = box.machine_pane.rows[1].read()
    assert (added.address, added.group) == ("0000:02:00.1", 2)
    assert beside(box, "2") == ["gpu", added.name]


def test_where_a_slot_is_full_one_more_function_has_a_slot_of_its_own() -> None:
    box = edited(*(DeviceSpec(f"f{number}", f"0000:02:00.{number}", 2) for number in range(8)))
    box.machine_pane.devices.groups["2"].add.click()
    assert not box.machine_pane.rows[8].read().address.startswith("0000:02:00")
    box.machine_pane.boot.click()
    assert len(box.run.machine.built.devices) == 9


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ([DeviceSpec("a", "0000:02:00.0", 2), DeviceSpec("b", "0000:02:00.0", 2)], "two devices have the address"),
        ([DeviceSpec("a", "0000:02:00.0", 2, driver="mtty")], "on the bus mdev, not on pci"),
        ([DeviceSpec("a", "0000:02:00.0", 2, physfn="0000:09:00.0")], "there is no device '0000:09:00.0'"),
        (
            [DeviceSpec("a", "0000:02:00.0", 2), DeviceSpec("b", "0000:02:00.1", 2, noiommu=True)],
            "the group 2 cannot be behind an IOMMU and behind none",
        ),
    ],
)
def test_devices_that_cannot_be_together_are_refused_in_one_sentence_and_nothing_is_lost(
    devices: list[DeviceSpec], said: str
) -> None:
    box = edited()
    box.shortcuts.buttons["open device"].click()
    box.machine_pane.devices.show(devices)
    box.machine_pane.boot.click()
    assert said in box.machine_pane.message
    assert [row.read() for row in box.machine_pane.rows] == devices
    assert box.run.machine.topology.name == "small"
    assert len(box.run.done) == 1


def test_undo_leads_back_to_the_machine_before_it_was_edited_with_all_that_was_done_on_it() -> None:
    box = edited()
    box.shortcuts.buttons["open device"].click()
    box.machine_pane.rows[0].remove.click()
    box.machine_pane.boot.click()
    assert (len(box.run.machine.topology.devices), box.run.done) == (5, [])
    box.undo.click()
    assert len(box.run.machine.topology.devices) == len(box.machine_pane.rows) == 6
    assert [file.label for file in box.run.descriptors("vmm").values()] == ["vfio0#1"]
