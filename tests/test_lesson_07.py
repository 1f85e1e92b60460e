"""The lesson about virtual machines: what the device holds is the sample of its BIND, and its tasks tell who asks too early."""

from __future__ import annotations

import re

import pytest

from tests.cells import code_of
from tests.lesson_claims import ordered
from vfiosim.lab import Exercise
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons import vms as lesson
from vfiosim.lessons.vms_strip import CALLS, LISTS, ODD, VMS, known

STRIPS = [tuple(re.findall('"(.*?)"', calls)) for calls in re.findall(r"lesson\.strip\((.*?)\)", code_of("07_kvm"))]


# ---- who knows which VM


@pytest.mark.parametrize(
    ("calls", "wanted"),
    [
        (("bind", "add 1"), ("VM 1", "", "VM 1", "")),
        (("add 1", "bind", "add 2"), ("VM 1", "VM 2", "VM 2", "VM 1")),
        (("add 1", "add 2", "del 1", "bind"), ("", "VM 2", "", "")),
        (("add 1", "bind", "del 1", "close list 1", "close VM 1"), ("", "", "", "VM 1")),
        (("add 1", "close list 1", "bind"), ("", "", "", "")),
    ],
)
def test_the_device_holds_what_its_file_knew_at_bind_and_nothing_that_came_later(calls, wanted):
    assert known(lesson.done(*calls)) == wanted


def test_every_strip_of_the_notebook_is_made_of_calls_that_succeed_and_the_one_to_be_changed_has_no_odd_end():
    assert len(STRIPS) == 4
    for calls in STRIPS:
        assert not any(done.outcome.refused for done in lesson.done(*calls).done)
    assert not any(is_so(*known(lesson.done(*STRIPS[-1]))) for is_so in ODD.values())


def test_a_strip_has_a_column_for_each_call_and_tells_it_in_words():
    drawn = lesson.strip("bind", "add 1").data
    assert "at first: none, none, none, none; bind: none, none, none, none; add 1: VM 1, none, VM 1, none" in drawn


@pytest.mark.parametrize(
    ("calls", "odd"),
    [
        (("add 1",), "the file points to a VM, and the device holds none"),
        (("add 1", "add 2", "del 1"), "a list has the file, and the file points to no VM"),
        (("add 1", "bind", "close list 1"), "the device holds a VM that no list has and no file points to"),
        (("add 1", "bind"), None),
    ],
)
def test_what_is_odd_at_the_end_of_a_strip_stands_below_it(calls, odd):
    assert re.findall(r"At the end ([^.]*)\.", lesson.strip(*calls).data)[:1] == ([odd] if odd else [])


def test_a_call_that_is_refused_has_its_errno_above_its_column():
    assert "close VM 1\nEBADF: none" in lesson.strip("close VM 1", "close VM 1").data


def test_a_strip_has_no_ground_and_the_ink_of_the_text_around_it():
    drawn = lesson.strip("add 1", "bind").data
    assert "max-width: 100%" in drawn
    assert "stroke: currentColor" in drawn
    assert not re.search("fill: #(ffffff|000000)|stroke: #000000", drawn)


def test_a_call_that_there_is_not_is_told_which_there_are():
    with pytest.raises(ValueError, match="there is no call 'add 3'; there are add 1, add 2"):
        lesson.done("add 3")


def test_the_numbers_of_the_text_are_those_of_the_machine():
    files = {fd: file.label for fd, file in lesson.done().descriptors().items()}
    assert known(lesson.done()) == ("", "", "", "")
    assert files[3].startswith("vfio0")
    assert files[4].startswith("iommu")
    assert [files[LISTS[vm]] for vm in LISTS] == ["kvm-vfio#1", "kvm-vfio#2"]
    assert [files[VMS[vm]] for vm in VMS] == ["kvm-vm#1", "kvm-vm#2"]


def test_the_picture_of_a_press_has_every_descriptor_that_the_program_has():
    bench = lesson.vms()
    for name in ("add 1", "bind", "add 2"):
        bench.buttons[name].click()
        [fds] = [node for node in bench.trace_pane.player.player.graph.nodes if node.kind == "fds"]
        assert [int(row.cell) for row in fds.rows] == [*bench.session.descriptors()]


# ---- a VM that dies


def test_a_bind_that_meets_a_dying_vm_succeeds_without_it_and_one_that_takes_it_anyway_points_to_freed_memory():
    machine, _ = lesson.dying()
    assert "vfio_device vfio0 points to kvm 1, which is gone" not in machine.check()
    careless, _ = lesson.dying(kvm_get_kvm_safe=lesson.get_anyway)
    assert "vfio_device vfio0 points to kvm 1, which is gone" in careless.check()


# ---- the first task


@pytest.mark.parametrize("keys", [("del 1", "add 2", "bind"), ("add 2", "bind", "del 1")])
def test_the_first_task_has_two_right_orders(keys):
    assert "✓ Right." in ordered(lesson.order(), *keys)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("add 2", "del 1", "bind"), "Here the file pointed to VM 2 already."),
        (("bind", "del 1", "add 2"), "BIND asks the file for its VM once."),
        (("del 2", "add 2", "bind"), "The list of VM 2 does not have the file."),
        (("add 2", "bind"), "wanted: file_list of kvm_vfio 1 is ()"),
        (("add 2", "bind", "close VM 1", "del 1", "del 2"), "not needed is number 3: “close the descriptor of VM 1”"),
    ],
)
def test_an_order_that_loses_the_vm_is_told_where(keys, said):
    assert said in ordered(lesson.order(), *keys)


# ---- the second task


def checked(*calls: str) -> Exercise:
    """The second task after these calls, with Check."""
    exercise = lesson.exercise()
    for name in calls:
        CALLS[name](exercise.bench.session)
    exercise.check.click()
    return exercise


def test_the_second_task_is_solved_by_a_new_file():
    exercise = checked("del 1", "close device", "open device", "add 1", "bind")
    assert "✓ Solved. You needed 5 calls; it takes no fewer." in exercise.message


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (("bind",), M.VM_FOLLOWS_THE_LIST.name),
        (("del 1", "add 1"), "You listed the file once more."),
        (("close device",), "the list still holds it"),
        (("close device", "open device", "add 1", "bind"), "No descriptor leads to the bound file any more"),
        (("open device",), "wanted: kvm of vfio_device vfio0 is kvm 1; now: there is none"),
    ],
)
def test_a_repair_that_keeps_the_old_file_is_told_why_it_does_not_help(calls, said):
    assert said in checked(*calls).message
