"""The free bench: what its notebook says can be tried comes out as it says, pressed as a reader presses it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.calls import bind, refused
from tests.cells import cells
from tests.conftest import ROOT
from tests.sandboxes import call, choose
from vfiosim import Machine, uapi
from vfiosim.lab import Sandbox
from vfiosim.lab.sandbox.ideas import DONE, IDEAS
from vfiosim.lab.sandbox.presets import PRESETS
from vfiosim.lab.style import words
from vfiosim.views.atlas import titles

TEXT = "\n".join(cells(ROOT / "notebooks" / "90_sandbox.ipynb", "markdown"))
BIND = "VFIO_DEVICE_BIND_IOMMUFD"


def begun(name: str) -> Sandbox:
    assert any(f"<b>{name}" in idea for idea in IDEAS)
    box = Sandbox()
    box.presets.buttons[name].click()
    return box


def labels(widget: Any) -> set[str]:
    """What is written on everything in a widget."""
    inside = [labels(child) for child in getattr(widget, "children", ())]
    return set.union({getattr(widget, "description", "")}, {*getattr(widget, "_options_labels", ())}, *inside)


def test_every_button_that_the_page_or_an_idea_names_is_there():
    page = re.findall(r"\*\*(.*?)\*\*", TEXT.partition("## Things to try")[2].partition("## Source")[0])
    named = {name.rstrip(".") for name in (*page, *re.findall("<b>(.*?)</b>", "".join(IDEAS)))} - {"Begin with"}
    assert len(named) > 15
    assert named - labels(Sandbox()) == set()


def test_one_idea_after_the_other_stands_in_the_bench_and_stays_while_a_machine_is_begun():
    box = Sandbox()
    seen = []
    for _ in range(len(IDEAS) + 1):
        seen.append(words(box.ideas.said.value))
        box.presets.buttons["A VM"].click()
        assert words(box.ideas.said.value) == seen[-1]
        box.ideas.next.click()
    assert len({*seen}) == len(IDEAS) == len(DONE) == 7
    assert seen[0] == seen[-1]


@pytest.mark.parametrize(
    ("number", "machine", "calls"),
    [
        (0, "A card", ((3, BIND, {"iommufd": 4}), (4, "close", {}))),
        (1, "Two functions", ((3, BIND, {"iommufd": 6}), (4, BIND, {"iommufd": 5}))),
        (3, "An mdev", ((3, BIND, {"iommufd": 4}), (4, "IOMMU_GET_HW_INFO", {"dev_id": 1}))),
    ],
)
def test_an_idea_says_that_it_was_tried_when_the_machine_has_shown_it_and_not_before(number, machine, calls):
    box = begun(machine)
    box.ideas.wanted.value = True
    box.ideas.show(number)
    *before, last = calls
    for fd, name, fields in before:
        call(box, fd, name, **fields)
    assert words(box.ideas.said.value).startswith(f"Idea {number + 1} of 7. {machine}")
    fd, name, fields = last
    call(box, fd, name, **fields)
    assert words(box.ideas.said.value).startswith(f"✓ Idea {number + 1} of 7. {words(DONE[number][1])[:20]}")
    box.ideas.next.click()
    assert words(box.ideas.said.value).startswith(f"Idea {number + 2} of 7.")


def test_the_idea_about_the_vm_was_tried_when_both_ways_round_were_seen():
    box = begun("A VM")
    box.ideas.wanted.value = True
    box.ideas.show(2)
    for order in ("add bind", "bind add"):
        assert words(box.ideas.said.value).startswith("Idea 3 of 7.")
        for what in order.split():
            if what == "bind":
                call(box, 3, BIND, iommufd=4)
            else:
                call(box, 5, "KVM_SET_DEVICE_ATTR")
        for _ in range(2 if order == "add bind" else 0):
            box.undo.click()
    assert words(box.ideas.said.value).startswith("✓ Idea 3 of 7.")


def test_the_idea_without_an_iommu_was_tried_when_the_device_came_through_its_group():
    box = begun("No IOMMU")
    box.ideas.wanted.value = True
    box.ideas.show(4)
    for _ in range(3):  # the calls that the bench suggests
        assert words(box.ideas.said.value).startswith("Idea 5 of 7.")
        box.call.click()
    assert words(box.ideas.said.value).startswith("✓ Idea 5 of 7. You have the card")


def test_the_idea_about_the_group_was_tried_when_both_calls_get_through_and_not_while_the_lock_is_there():
    box = begun("A card")
    box.ideas.wanted.value = True
    box.ideas.show(6)
    box.when.value = "by hand"
    box.buttons["open group"].click()
    call(box, 3, BIND, iommufd=4)
    for without in ("", "group_lock"):
        assert words(box.ideas.said.value).startswith("Idea 7 of 7.")
        if without:
            box.machine_pane.without.set(without)
            box.machine_pane.take_out.click()
        for thread, move in (*[("A", "1 step")] * 3, ("B", "to the end"), ("A", "to the end"), ("B", "to the end")):
            for panel in [each for each in box.schedule.rows.values() if each.thread == thread]:
                panel.buttons[move].click()
        assert not box.schedule.rows
    assert words(box.ideas.said.value).startswith("✓ Idea 7 of 7. Both got through")


@pytest.mark.parametrize(
    ("machine", "calls", "next_one"),
    [
        ("A card", ((3, BIND), (4, "close")), "close the card: what goes with it?"),
        ("A card", ((4, "close"),), "close the card: what goes with it?"),
        ("A card", ((3, "close"),), ""),
        ("Two functions", ((4, BIND),), ""),
        ("Two functions", ((3, BIND), (5, "close")), "bind the audio function to iommu#2."),
        ("A VM", ((3, BIND),), "close the VM: who keeps it alive?"),
        ("An mdev", ((4, "close"),), ""),
    ],
)
def test_a_suggestion_is_made_only_while_its_call_can_show_what_it_promises(machine, calls, next_one):
    box = begun(machine)
    for fd, name in calls:
        call(box, fd, name, **({"iommufd": 6 if machine == "Two functions" else 4} if name == BIND else {}))
    assert words(box.hint.value) == f"Try: {next_one}" if next_one else "Try:" not in box.hint.value


def test_what_was_done_through_another_file_is_suggested_no_more():
    box = begun("A card")
    box.buttons["open device"].click()
    call(box, 5, BIND, iommufd=4)
    assert words(box.hint.value) == "Try: close the card: what goes with it?"


def test_while_a_call_is_moved_by_hand_nothing_else_is_suggested():
    box = begun("A card")
    box.when.value = "by hand"
    box.call.click()
    assert box.hint.value == ""


@pytest.mark.parametrize("machine", [preset.name for preset in PRESETS])
def test_whoever_follows_the_suggestions_is_led_through_all_of_them(machine):
    box, tries = begun(machine), next(preset.tries for preset in PRESETS if preset.name == machine)
    for one in tries:
        assert words(box.hint.value) == f"Try: {one.says}"
        box.call.click()
    assert "Try:" not in box.hint.value


def test_the_machines_to_begin_with_stand_in_one_row_with_their_title():
    (group,) = Sandbox().presets.children
    title, *machines = group.children
    assert words(title.value) == "Begin with"
    assert [each.description for each in machines] == [preset.name for preset in PRESETS]


def test_calls_are_offered_in_the_order_of_use_and_a_title_between_them_is_passed_over_both_ways():
    box = begun("A card")
    box.form.fd.value = 4
    what, names = box.form.what, [name for name, _ in box.form.what.options]
    assert names[:6] == [
        "IOMMU_IOAS_ALLOC",
        "IOMMU_IOAS_MAP",
        "IOMMU_HWPT_ALLOC",
        "IOMMU_DESTROY",
        "—— any file ——",
        "close",
    ]
    assert names[-3:] == ["—— test device ——", "IOMMU_TEST_CMD", "any other request"]
    what.index = 3
    what.index = 4
    assert what.label == "close"
    what.index = 4
    assert what.label == "IOMMU_DESTROY"


def test_an_iommufd_whose_descriptor_is_closed_is_held_by_the_binding_and_by_the_object_of_the_device():
    box = begun("A card")
    call(box, 3, BIND, iommufd=4)
    call(box, 4, "close")
    links = box.run.machine.trace.end.references("counted")
    holders = {link.holder for link in links if link.target == "file iommu#1"}
    assert holders == {"vfio_device_file 1", "iommufd_device 1"}


def test_the_second_function_is_refused_for_the_iommufd_of_the_first():
    box = begun("Two functions")
    call(box, 3, BIND, iommufd=5)
    assert "EPERM – iommufd_ctx 1 owns the DMA of iommu_group 1" in call(box, 4, BIND, iommufd=6)


def test_whoever_makes_a_refusal_is_drawn_with_its_name_though_its_box_were_folded():
    box = begun("Two functions")
    call(box, 3, BIND, iommufd=6)
    assert "EPERM – iommufd_ctx 2 owns the DMA of iommu_group 1" in call(box, 4, BIND, iommufd=5)
    (culprit,) = [node for node in box.trace_pane.player.player.graph.nodes if "iommufd_ctx 2" in node.parts]
    assert ("iommufd_ctx 2", "iommufd_ctx", "2") in titles(culprit)


@pytest.mark.parametrize("added_first", [True, False])
def test_a_device_holds_the_vm_only_if_its_file_was_on_the_list_before_the_bind(added_first):
    box = begun("A VM")
    p = box.run.machine.processes["vmm"]
    place = p.memory.map(4, (3).to_bytes(4, "little"))
    attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.KVM_DEV_VFIO_FILE_ADD, addr=place)
    for add in (added_first, not added_first):
        p.ioctl(5, uapi.KVM_SET_DEVICE_ATTR, attr) if add else bind(p, 3, 4)
    links = box.run.machine.trace.end.references("counted")
    assert any(link.holder == "vfio_device vfio0" and link.target == "kvm 1" for link in links) is added_first


def test_the_id_of_an_mdev_is_no_device():
    box = begun("An mdev")
    assert "out_devid = 1" in call(box, 3, BIND, iommufd=4)
    assert "ENOENT – there is no device object 1" in call(box, 4, "IOMMU_GET_HW_INFO", dev_id=1)


def test_a_card_without_iommu_has_no_node_to_bind():
    vmm = begun("No IOMMU").run.machine.processes["vmm"]
    assert refused(vmm.listdir, "/dev/vfio/devices") == "ENOENT"


def test_whatever_fails_in_a_bind_leaves_nothing_behind():
    box = begun("A card")
    before = sorted(map(str, box.run.machine.trace.end.references("counted")))
    box.ideas.wanted.value = box.fails.wanted.value = True
    box.ideas.show(5)
    choose(box, 3, BIND)
    buffer = box.form.buffer
    assert buffer is not None
    buffer.fields["iommufd"].set(4)
    box.fails.look.click()
    (_, first), *_others = [option for option in box.fails.what.options if option[1]]
    box.fails.what.value = first
    box.call.click()
    assert first[1] in box.message
    assert words(box.ideas.said.value).startswith("✓ Idea 6 of 7.")
    assert sorted(map(str, box.run.machine.trace.end.references("counted"))) == before


def both_get_through(effects: int, *without: str) -> bool:
    """Thread A opens the group and stands still after so many effects; B binds; then A goes on."""
    machine = Machine()
    machine.take_out(*without)
    p = machine.process("vmm")
    device, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    opened = p.start("open", "/dev/vfio/1", run=False)
    for _ in range(effects):
        opened.step()
    bound = p.start("ioctl", device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommu))
    opened.run()
    assert opened.state == bound.state == "done"
    return opened.error is None and bound.error is None


def test_the_group_is_opened_and_its_device_is_bound_at_the_same_time_only_without_the_lock_of_the_group():
    assert "Under <b>Machine</b> take out <code>group_lock</code>" in IDEAS[-1]
    assert any(both_get_through(effects, "group_lock") for effects in range(50))
    assert not any(both_get_through(effects) for effects in range(50))


def test_an_emulated_device_cannot_be_bound_in_the_patch_of_2023():
    machine = Machine("lab", kernel="v5")
    p = machine.process("vmm")
    assert "eleven devices" in TEXT
    assert len(machine.topology.devices) == 11
    assert refused(bind, p, p.open("/dev/vfio/devices/vfio8"), p.open("/dev/iommu")) == "EINVAL"
