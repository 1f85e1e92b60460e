"""The capstone: levels with their shortest ways and typical wrong ones, and what its text says of the calls of a VMM."""

from __future__ import annotations

import re

import pytest

from tests.cells import cells, code_of
from tests.conftest import ROOT
from vfiosim.lab import Distractor, Exercise, Session
from vfiosim.lab.style import words
from vfiosim.lessons import vmm as lesson
from vfiosim.lessons.fewest import Sketch, fewest
from vfiosim.lessons.moves import DOWN, UP
from vfiosim.lessons.vmm_questions import guest, with_card

STEM = "12_a_vmm"
TEXT = "\n".join(cells(ROOT / "notebooks" / f"{STEM}.ipynb", "markdown"))
FIRST_WAY = tuple(UP)


def checked(exercise: Exercise, *moves: str) -> str:
    for move in moves:
        exercise.bench.buttons[move].click()
    exercise.check.click()
    return exercise.message


def test_no_text_beside_the_question_what_is_left_answers_it():
    assert "needs no tear-down" not in TEXT


# ---- the levels


def test_a_start_in_a_hurry_is_mended_in_five_moves_and_the_address_space_keeps_its_memory():
    assert "✓ Solved. You needed 5 calls; it takes no fewer." in checked(
        lesson.exercise(), "close card", "open card", "FILE_ADD", "BIND", "ATTACH"
    )


def test_the_list_of_calls_that_stands_above_does_not_solve_the_first_level():
    message = checked(lesson.exercise(), *FIRST_WAY)
    assert "wanted: the card holds the VM; now: it does not know a VM" in message
    assert "bound before its file was on the list" in message


def test_who_puts_the_old_file_on_the_list_before_it_is_closed_is_told_who_holds_the_old_binding():
    message = checked(lesson.exercise(), "FILE_ADD", "close card", "open card", "FILE_ADD", "BIND", "ATTACH")
    assert "list of the VM holds the card's old file" in message


def test_a_start_whose_card_is_not_attached_tells_at_which_door_the_read_stops():
    assert "it stops at attach: Which table is used? none: all is blocked" in checked(
        lesson.exercise(), "close card", "open card", "FILE_ADD", "BIND"
    )


def test_a_move_that_has_no_descriptor_to_work_with_makes_no_call_and_says_so():
    exercise = lesson.exercise()
    for _ in range(2):
        exercise.bench.buttons["close card"].click()
    assert exercise.bench.message == "Nothing was called: the VMM has no descriptor of vfio0."
    assert exercise.bench.session.calls_made == 1


def test_a_card_is_given_back_in_three_moves_and_the_careful_way_is_told_that_there_is_a_shorter_one():
    assert "✓ Solved. You needed 3 calls; it takes no fewer." in checked(
        lesson.free_it(), "FILE_DEL", "close card", "close iommufd"
    )
    careful = ("UNMAP", "DETACH", "DESTROY", "FILE_DEL", "close card", "close iommufd")
    assert "a careful way with six moves" in TEXT
    assert "✓ Solved. You needed 6 calls. It can be done with 3." in checked(lesson.free_it(), *careful)


def test_who_closes_the_card_first_cannot_take_its_file_off_the_list():
    exercise = lesson.free_it()
    message = checked(exercise, "close card", "close iommufd")
    assert "wanted: nobody has the card open; now: file vfio0#1 is alive" in message
    assert "no descriptor is left to take it off" in message


def test_the_list_of_the_broken_start_has_two_iommufds_and_nothing_is_pinned():
    told = lesson.listing()
    assert re.findall(r"fd/(\d) -> /dev/iommu", told) == ["6", "7"]
    assert "VmPin 0 kB" in told
    assert all(done.outcome.refused is False for done in Session(start=lesson.broken).done)


def test_the_broken_start_is_mended_in_two_moves():
    assert "✓ Solved. You needed 2 calls; it takes no fewer." in checked(lesson.mend(), "MAP in 7", "close 6")


def test_who_maps_once_more_where_it_is_mapped_is_asked_what_the_card_is_bound_to():
    assert "EEXIST: the memory is mapped in that iommufd already" in checked(lesson.mend(), "MAP in 6")


def test_who_closes_the_iommufd_of_the_card_can_map_no_more():
    exercise = lesson.mend()
    message = checked(exercise, "close 7")
    assert "nobody can map in it any more" in message
    assert "it stops at map" in message
    exercise.bench.buttons["MAP in 7"].click()
    assert exercise.bench.message == "Nothing was called: 7 is closed already."


# ---- the shortest ways


@pytest.mark.parametrize("level", ["give back", "mend", pytest.param("start", marks=pytest.mark.nightly)])
def test_no_way_through_a_level_is_shorter_than_the_solution_by_a_search_through_all_orders(level):
    task, moves = lesson.LEVELS[level]
    found = fewest(task.start, moves, lambda session: not task.missing(session))
    assert found.way is not None
    assert len(found.way) == task.solved().calls_made
    assert set(moves) == set(lesson.level(level).bench.buttons) - {"Undo", "Reset"}


def test_a_search_that_may_not_go_far_enough_finds_no_way():
    task, moves = lesson.LEVELS["give back"]
    found = fewest(task.start, moves, lambda session: not task.missing(session), most=2)
    assert (found.way, found.all_visited) == (None, False)


def test_a_sketch_stands_where_a_session_stands():
    for way in ((), FIRST_WAY[:4], FIRST_WAY):
        sketch, session = Sketch(start=guest), Session(start=guest)
        for name in way:
            UP[name][0](sketch)
            UP[name][0](session)
        assert {one.oid for one in sketch.machine.engine.objects.values()} == {
            one.oid for one in session.machine.engine.objects.values()
        }
    assert Sketch(start=guest).stands() == Sketch(start=guest).stands() != Sketch(start=with_card).stands()


def test_the_shortest_way_is_shown_to_those_who_have_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    kept = lesson.shortest("mend")
    assert "MAP in 7" not in kept.message
    checked(lesson.mend(), "DETACH")
    told = lesson.shortest("mend").message
    assert "2 moves: MAP in 7, close 6." in told
    assert re.search(r"visited \d+ situations before it got there; no way is shorter\.", told)
    with pytest.raises(ValueError, match="no level 'end'; there are start, give back, mend"):
        lesson.shortest("end")


# ---- what the text says


def test_the_bring_up_is_told_with_its_descriptors():
    lines = lesson.calls().splitlines()
    assert len(lines) == 8
    assert re.findall(r"→ (\d)", "\n".join(lines[:2])) == ["5", "6"]
    assert "5 becomes the card, 6 the [iommufd]" in TEXT
    assert lines[-1] == "The card reads the guest's memory, and holds the VM."


def test_the_ids_of_the_bring_up_are_those_of_the_text():
    assert re.findall(r"(?:out_\w+|pt_id) = (\d)", lesson.calls()) == ["1", "2", "3"]
    assert "makes page table 3, and writes 3 into `pt_id`" in TEXT


def test_of_the_two_mistakes_of_the_text_one_has_an_errno():
    (told,) = re.findall(r"^order = (.*)", code_of(STEM), re.MULTILINE)
    way = re.findall(r'"(.*?)"', told)
    assert "holds the VM." in lesson.calls(*way)

    early = [one for one in way if one != "ATTACH"]
    early.insert(early.index("BIND"), "ATTACH")
    assert "→ EINVAL the gate is shut" in lesson.calls(*early)
    without = lesson.calls(*[one for one in way if one != "MAP"])
    assert not re.search(r"→ E", without)
    assert "it stops at map" in without
    assert "BIND cannot be made: the VMM has no descriptor of vfio0" in lesson.calls("BIND")


def test_a_move_that_the_vmm_does_not_know_is_named():
    with pytest.raises(ValueError, match="no move 'fork'; there are open card"):
        lesson.calls("fork")


def test_the_third_path_to_the_vm_is_that_of_the_card():
    head, *paths = lesson.holders("kvm 1").splitlines()
    assert "3 references" in head
    assert ["vfio_device vfio0" in path for path in paths] == [False, False, True]


def test_at_the_desk_a_closed_iommufd_still_serves_the_card_and_nobody_can_map():
    desk = lesson.desk()
    assert set(desk.buttons) >= {*UP, *DOWN}
    desk.buttons["close iommufd"].click()
    assert "“ping”" in words(desk.doors.value)
    desk.buttons["MAP"].click()
    assert desk.message == "Nothing was called: the VMM has no descriptor of iommu."


def test_a_machine_with_two_iommufds_tells_whose_ids_they_are_once_the_read_arrives():
    bench = lesson.mend().bench
    assert (
        words(bench.doors.value) == "The card reads at 0x10000. It gets nothing: the IOMMU stops the read. VmPin 0 KiB"
    )
    bench.buttons["MAP in 7"].click()
    told = words(bench.doors.value)
    assert "iommufd_ctx 1: ID 1 iommufd_ioas 1" in told
    assert "iommufd_ctx 2: ID 1 iommufd_device 1" in told


def test_who_thinks_that_somebody_has_to_unbind_is_told_what_ends_a_binding_and_not_of_another_belief():
    said = lesson.LESSON.questions["killed"].wrong["vm"]
    assert isinstance(said, Distractor)
    assert "its binding gave the VM back" in said.text
    assert said.misconception is None
    assert Session(start=with_card).machine.check() == []


def test_the_seven_moves_of_a_bring_up_give_the_card_the_memory_of_the_guest_in_the_order_of_its_buttons():
    bench = lesson.bring_up()
    for move in [*bench.buttons][: len(UP)]:
        bench.buttons[move].click()
    assert not lesson.not_started(bench.session)


def test_a_vmm_without_rights_has_the_card_from_a_launcher_that_keeps_no_descriptor():
    launcher = [f"launcher: {verb} {word}" for word in ("card", "iommufd") for verb in ("open", "send", "close")]
    vmm = ["VMM: receive", "VMM: receive", "VMM: BIND"]
    assert "✓ Solved. You needed 9 calls" in checked(lesson.hand_over(), *launcher, *vmm)
    kept = [move for move in launcher if "close" not in move]
    message = checked(lesson.hand_over(), *kept, *vmm)
    assert "wanted: the launcher has no descriptor of the card; now: it has one" in message
    assert "still has what it has sent" in message
    assert "EACCES: open looks at user and mode of the node" in words(checked(lesson.hand_over(), "VMM: open card"))


def test_a_receiver_to_which_nothing_was_sent_or_a_launcher_without_a_file_is_told():
    exercise = lesson.hand_over()
    exercise.bench.buttons["launcher: send card"].click()
    assert exercise.bench.message == "Nothing was called: the launcher has no descriptor of the card."
