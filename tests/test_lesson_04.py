"""The lesson about unwinding: its numbers are those of the simulator, its solutions pass, and slips are told as what they are."""

from __future__ import annotations

import re

import pytest

from tests.cells import cells
from tests.conftest import ROOT
from tests.lesson_claims import ordered
from vfiosim.explore import faultable, sweep
from vfiosim.lab import RoomView, Session
from vfiosim.lessons import unwinding as lesson
from vfiosim.lessons.unwinding import climbed
from vfiosim.lessons.unwinding_failures import BAD, FAULTS, ON_PURPOSE, TAKEN, bind_failing, failed, ready
from vfiosim.lessons.unwinding_ladder import RIGHT
from vfiosim.lessons.unwinding_questions import QUESTIONS, between

TEXT = "\n".join(cells(ROOT / "notebooks" / "04_unwinding.ipynb", "markdown"))
MET = {  # what the simulator calls what the lesson tells in words
    1: "copy_from_user 4 bytes", 2: "copy_from_user 24 bytes", 3: "vfio_iommufd_physical_bind()", 4: "alloc iommufd_group",
    5: "__iommu_take_dma_ownership()", 6: "alloc iommufd_device", 7: "xa_alloc iommufd_ctx.objects", 8: "vfio_pci_open_device()",
    9: "copy_to_user 4 bytes",
}  # fmt: skip


# ---- what fails


def test_nine_things_can_fail_and_each_is_told_by_its_number():
    assert {point.number: point.what for point in faultable(lesson.machine, lesson.BIND)} == MET
    assert set(ON_PURPOSE) == set(MET)
    assert "In this BIND nine things can fail" in TEXT


@pytest.mark.parametrize("number", FAULTS)
def test_whatever_fails_all_goes_back_in_the_reverse_order(number):
    one = failed(number)
    assert one.outcome.refused
    assert one.wrong == ""
    assert [bar.what for bar in one.bars] == list(TAKEN)[: len(one.bars)]


def test_a_later_failure_has_taken_at_least_as_much_and_the_last_one_everything():
    taken = [len(failed(number).bars) for number in ON_PURPOSE]
    assert taken == sorted(taken)
    assert (taken[0], taken[7], taken[8]) == (0, 9, len(TAKEN))  # "BIND has taken nine things", when the card is asked


def test_after_every_failure_a_bind_succeeds():
    session = Session(start=ready)
    assert all(bind_failing(session, number).refused for number in ON_PURPOSE)
    assert not session.bind(3, iommufd=4).refused


def test_a_number_that_cannot_fail_is_refused():
    with pytest.raises(ValueError, match="10 is not one of the things that can fail; they are 1 to 9"):
        failed(10)


# ---- the pictures


def test_a_lost_line_leaves_a_bar_in_seven_of_nine_pictures_and_in_words():
    drawn = lesson.pyramids(lesson.JO["lost VM"]).data
    assert (drawn.count(">left: 1<"), drawn.count(">left: 0<")) == (7, 2)
    assert "When the card is not ready: EIO, and this is left behind: VM" in drawn


def test_sweep_finds_the_same_leak_and_nothing_in_the_right_kernel_nor_in_the_tidy_one():
    found = sweep(lesson.machine, lesson.BIND, lesson.JO["lost VM"])
    assert "(vfio_device_put_kvm)" in str(found.leaks[0][1])
    assert sweep(lesson.machine, lesson.BIND).leaks == []
    assert sweep(lesson.machine, lesson.BIND, lesson.JO["tidy"]).leaks == []


def test_the_tidy_way_out_gives_away_the_vm_of_whoever_comes_in_between():
    machine, _ = between()
    assert any("took kvm 2 for vfio_device vfio0, but the device has lost it" in wrong for wrong in machine.check())


def test_what_the_picture_still_shows_of_a_failed_bind_is_told_beside_what_is_held():
    assert any("devid has the ID 1 still" in said for said in QUESTIONS["what stays"].experiment().evidence)


# ---- the first task: the gate


def test_eight_of_nine_failures_do_not_show_the_gate_and_the_ninth_leaves_a_closed_device_that_answers():
    shows = [number for number in ON_PURPOSE if failed(number, lesson.JO["gate"]).wrong]
    assert shows == [9]
    exercise = lesson.exercise()
    exercise.bench.buttons["fail 9: telling the ID"].click()
    exercise.check.click()
    assert "✓ Solved. You needed 1 call; it takes no fewer." in exercise.message
    exercise.bench.buttons["GET_INFO"].click()
    assert "→ <b>0</b>" in exercise.bench.result.value


@pytest.mark.parametrize(
    ("button", "said"), [("fail 8: card", "This failure comes before the line"), ("bind", "This BIND has succeeded")]
)
def test_a_press_that_does_not_show_the_gate_is_told_why(button, said):
    exercise = lesson.exercise()
    exercise.bench.buttons[button].click()
    exercise.check.click()
    assert said in exercise.message


# ---- the second task: the ladder


def test_the_ladder_of_the_kernel_is_right():
    assert "✓ Right. Whatever fails, all of it goes back" in ordered(lesson.order(), *RIGHT)


@pytest.mark.parametrize("place", range(len(RIGHT) - 1))
def test_two_rungs_that_changed_places_leave_something_behind_at_that_place(place):
    mixed = [*RIGHT[:place], RIGHT[place + 1], RIGHT[place], *RIGHT[place + 2 :]]
    judged = climbed(mixed)
    assert judged.place == place
    assert re.search("left behind|the kernel crashes", judged.why)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("close", "vm", "lock", "group"), "When the card is not ready, this is left behind: iommufd."),
        ((*RIGHT[:3], "twice", *RIGHT[3:]), "this was there before the call, and is freed: file iommu#1, iommufd_ctx 1"),
        ((*RIGHT, "list"), "this is not as it was: vfio_device_file 1.kvm is None instead of kvm 1"),
        (("close", "vm", "twice", "lock", "group"), "1.iommufd is iommufd_ctx 1 instead of None."),
        (("close", "vm", "twice", "lock", "group"), "the device's file points to no iommufd"),
        (("twice", *RIGHT), "No failure enters above out_close_device, so this line is never done."),
        (RIGHT[:-1], "The end is not reached. When the iommufd is 777, which is not open, this is left behind: group blocked"),
        (("close", "vm", "lock", "iommufd", "group"), "the kernel crashes: it reads file through a null pointer"),
    ],
    ids=["missing", "too many", "what others did", "for another", "for another: why", "never done", "the last one missing", "low"],
)  # fmt: skip
def test_a_slip_of_history_is_told_by_what_it_leaves(order, said):
    assert said in ordered(lesson.order(), *order)


# ---- the third task: a way out to write

IOMMU, MODULE = "on_failure(give_up_iommu, df, ictx)", "on_failure(module_put, driver, device)"


def proved(room: RoomView, *changes: tuple[str, str]) -> str:
    """What is said about the kernel's own function with these changes."""
    text = room.room.mended(room.room.to_mend[0])
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    room.editor.value = text
    room.prove.click()
    return room.message


@pytest.fixture
def writing() -> RoomView:
    return lesson.mend()


def test_the_way_out_of_the_kernel_is_proved(writing):
    assert "✓ Mended." in (said := proved(writing))
    assert "9 failures: nothing is left behind, and all goes back in the reverse order." in said


@pytest.mark.parametrize(
    ("changes", "said", "misled"),
    [
        ([(f"async with {MODULE}:", "if True:")], "this is left behind: driver's module", "stand around all that comes later"),
        ([(f"async with {IOMMU}:", "if True:")], "left behind: iommufd_group, DMA, ID", "the iommufd is not given back"),
        ([(f"async with {one}:", "if True:") for one in (MODULE, IOMMU)], "driver's module, iommufd_group", "neither the module"),
        ([(MODULE, "X"), (IOMMU, MODULE), ("X", IOMMU)], "the kernel crashes: it follows a null pointer", "was not taken yet"),
    ],
    ids=["no module", "no iommufd", "neither", "changed places"],
)  # fmt: skip
def test_a_way_out_with_a_slip_is_told_what_it_leaves_and_what_misled(writing, changes, said, misled):
    message = proved(writing, *changes)
    assert "✕ Not mended." in message
    assert said in message
    assert misled in message


def test_the_way_into_an_earlier_slip_is_told_in_short_with_its_lines_below_and_goes_when_all_is_mended(writing):
    said = proved(writing, (f"async with {IOMMU}:", "if True:"))
    assert re.search(
        r"Where in the code file iommu#1.f_ref counts iommufd_device A1 .*, taken by iommufd_ctx_get .* EIO ", said
    )
    assert writing.children[-1].trace[-1].sentence == "iommufd_device A1 still holds file iommu#1 (its context)."
    proved(writing)
    assert not any(hasattr(child, "witness") for child in writing.children)


def test_a_way_out_in_the_order_of_taking_is_refused_though_it_leaves_nothing(writing):
    text = writing.room.mended(writing.room.to_mend[0])
    inner = re.sub(r"(?s)    async with on_failure\(module_put.*", "", text) + (
        "    await vfio_df_iommufd_bind(df)\n"
        "    async with on_failure(give_up_iommu, df, ictx):\n"
        "        async with on_failure(module_put, driver, device):\n"
        "            await device.ops.open_device(device)\n"
    )
    writing.editor.value = inner
    writing.prove.click()
    assert "When the card is not ready, this is not the reverse order: driver's module, ID" in writing.message
    assert "it has to belong to what was taken first" in writing.message


def test_777_uses_two_rungs_only():
    assert [bar.what for bar in failed(BAD).bars] == ["group blocked", "lock of the set"]
