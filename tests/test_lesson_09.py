"""The lesson about address spaces: the way of a DMA, the tasks with right and typical wrong answers, the numbers of the text."""

from __future__ import annotations

import re

import pytest

from tests.calls import Space, refused
from tests.cells import cells, code_of
from tests.conftest import ROOT
from tests.lesson_claims import answered, ordered
from vfiosim import Machine, uapi
from vfiosim.lab import Exercise, Session
from vfiosim.lab.style import words
from vfiosim.lab.trace_pane import TracePane
from vfiosim.lessons import address_spaces as lesson
from vfiosim.lessons.address_spaces_bench import Desk, nothing_bound
from vfiosim.lessons.address_spaces_dma import dma
from vfiosim.lessons.address_spaces_pages import count

STEM = "09_address_spaces"
TEXT = "\n".join(cells(ROOT / "notebooks" / f"{STEM}.ipynb", "markdown"))


# ---- the way of a DMA


def doors(machine: Machine, iova: int = 0x10000) -> tuple[bool, ...]:
    return tuple(door.is_open for door in dma(machine, "nic", iova).doors)


def press(desk: Desk, *names: str) -> None:
    """Press these, "MAP 4" being a number put into the field of the ID and a press."""
    for name in names:
        call, _, number = name.partition(" ")
        if number:
            desk.number.text.value = number
        desk.buttons[call].click()


def test_each_of_the_three_calls_opens_its_own_door_and_its_way_back_shuts_it():
    desk = lesson.desk()
    seen = []
    for name in ("bind", "IOAS_ALLOC", "MAP", "ATTACH", "DETACH", "UNMAP", "ATTACH"):
        press(desk, name)
        seen.append(doors(desk.session.machine))
    no, blocked, all_open, empty = (
        (False,) * 3,
        (True, False, False),
        (True, True, True),
        (True, True, False),
    )
    assert doors(lesson.desk().session.machine) == no
    assert seen == [blocked, blocked, blocked, all_open, blocked, blocked, empty]


def test_the_desk_shows_after_each_call_what_a_read_gets_and_which_id_is_what():
    desk = lesson.desk()
    assert "one of the kernel" in words(desk.doors.value)
    press(desk, "bind", "IOAS_ALLOC", "MAP")
    assert "nothing: only in IOAS 2" in words(desk.doors.value)
    press(desk, "ATTACH")
    told = words(desk.doors.value)
    assert "HWPT 3" in told
    assert "“ping”" in told
    assert "ID 1 iommufd_device 1 · 2 iommufd_ioas 2 · 3 iommufd_hwpt_paging 3 · VmPin 16 KiB" in told


def test_a_call_of_the_desk_without_its_number_says_beside_the_field_what_is_missing():
    desk = lesson.desk()
    press(desk, "bind", "MAP")
    assert desk.message == "Nothing was called; ID: a number is missing here."
    assert desk.number.message == "a number is missing here"
    assert desk.session.calls_made == 1
    press(desk, "IOAS_ALLOC", "HWPT_ALLOC", "MAP")
    assert not desk.dev_id.message  # MAP does not ask for it


def test_the_picture_of_the_emulated_device_is_about_that_device():
    stage = answered(lesson.LESSON.questions["emulated"], "2 0").stage
    assert isinstance(stage, TracePane)
    drawn = {part for node in stage.player.player.graph.nodes for part in node.parts}
    assert {"file vfio4#1", "vfio_device vfio4", "iommufd_access 1"} <= drawn


def test_the_way_of_a_dma_is_told_as_text_too():
    machine, *_ = lesson.sending()
    assert repr(lesson.dma(machine)).splitlines()[-1] == "It gets “ping”."
    assert lesson.dma(machine, "gpu").doors[0].answer == "the kernel's"
    assert lesson.dma(machine, iova=0x50000).doors[2].answer == "nothing"
    with pytest.raises(KeyError):
        lesson.dma(machine, "toaster")


def test_a_dma_reads_no_memory_that_is_mapped_for_writing_only():
    machine = Machine()
    space = Space(machine.process("vmm"))
    space.attach()
    space.map(space.p.mmap(4096), iova=0x10000, flags=uapi.IOMMU_IOAS_MAP_WRITEABLE)
    assert doors(machine) == (True, True, False)
    assert dma(machine).doors[2].answer == "memory to write only"


def test_a_dma_reads_pages_of_a_file_though_their_bytes_are_not_known_here():
    machine = Machine()
    space = Space(machine.process("vmm"))
    space.attach()
    iova = space.map_file(space.p.memfd(4096))
    assert dma(machine, iova=iova).end == "what the pinned pages hold"


# ---- the tasks


def checked(exercise: Exercise, *names: str) -> str:
    press(exercise.bench, *names)
    exercise.check.click()
    return exercise.message


def test_the_card_moves_in_four_calls_and_misses_no_read():
    message = checked(lesson.exercise(), "IOAS_ALLOC", "MAP 4", "ATTACH 4", "DESTROY 2")
    assert "✓ Solved. You needed 4 calls; it takes no fewer." in message


def test_who_detaches_first_is_told_of_the_gap_even_if_all_is_well_in_the_end():
    exercise = lesson.exercise()
    message = checked(exercise, "IOAS_ALLOC", "MAP 4", "DETACH", "ATTACH 4", "DESTROY 2")
    assert "now: it gets nothing after ioctl(3, VFIO_DEVICE_DETACH_IOMMUFD_PT)" in message
    assert "a read fails until the next ATTACH" in message


def test_who_moves_into_an_empty_address_space_is_told_so_and_undo_leads_back():
    exercise = lesson.exercise()
    assert "an address space with nothing at 0x10000" in checked(exercise, "IOAS_ALLOC", "ATTACH 4")
    exercise.bench.undo.click()
    assert "✓ Solved." in checked(exercise, "MAP 4", "ATTACH 4", "DESTROY 2")


def test_who_unmaps_while_the_card_sends_is_told_so():
    assert "You unmapped the packet while the card still reads" in checked(lesson.exercise(), "UNMAP 2")


def test_who_does_not_move_keeps_the_old_address_space_busy():
    exercise = lesson.exercise()
    message = checked(exercise, "DESTROY 2")
    assert "EBUSY" in exercise.bench.message
    assert "wanted: address space 2 is gone; now: it is there still" in message


@pytest.mark.parametrize("keys", [("detach", "destroy 3", "destroy 2"), ("unmap", "detach", "destroy 3", "destroy 2")])
def test_tidying_up_has_several_right_orders(keys):
    assert "✓ Right." in ordered(lesson.order(), *keys)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("destroy 2",), "Page table 3 shows address space 2, and holds it."),
        (("destroy 3",), "A table that you have made stays until you destroy it."),
        (("detach", "destroy 3", "destroy 1"), "The driver holds the object of the device."),
        (("detach", "destroy 3", "destroy 2", "unmap"), "There is no address space 2 any more"),
        (("detach", "destroy 3"), "wanted: address space 2 is gone"),
    ],
)
def test_an_order_that_does_not_fit_is_told_who_holds_whom(keys, told):
    assert told in ordered(lesson.order(), *keys)


def test_the_leftover_table_is_what_pins():
    assert "✓ Solved. You needed 1 call; it takes no fewer." in checked(lesson.free_it(), "DESTROY 3")


def test_who_unmaps_to_unpin_has_lost_the_mapping():
    for names in (["UNMAP 2"], ["UNMAP 2", "IOAS_ALLOC", "MAP"]):  # a mapping in another address space is another one
        message = checked(lesson.free_it(), *names)
        assert "It is not the mapping that pins." in message
        assert "wanted: the packet is mapped in address space 2; now: nothing is mapped there" in message


def test_a_leftover_table_is_told_in_kilobytes_as_the_text_tells_it():
    assert "wanted: VmPin is 0 KiB; now: it is 16 KiB" in checked(lesson.free_it(), "DETACH")
    assert "EBUSY: somebody holds this address space" in checked(lesson.free_it(), "DESTROY 2")


# ---- what the text says


def test_the_plot_refuses_two_calls_one_with_8_pages_mapped_and_one_with_12():
    (calls,) = re.findall(r"^calls = (.*)", code_of(STEM), re.MULTILINE)
    found = count(*re.findall(r'"(\w+)"', calls))
    assert [(one.errno, one.mapped) for one in found if one.errno] == [("ENOMEM", 8), ("ENOMEM", 12)]
    assert all(number in TEXT for number in ("may lock 10 pages", "maps 4 more", "Two calls are refused"))
    assert count("map", "map", "map")[-1].errno == ""


def test_the_refusal_tells_which_limit_how_much_is_used_and_by_what():
    (calls,) = re.findall(r"lesson\.sentence\((.*)\)\)", code_of(STEM))
    told = lesson.sentence(*re.findall(r'"(\w+)"', calls))
    assert told.startswith("ENOMEM: RLIMIT_MEMLOCK lets user 0 lock 40 KiB")
    assert "32 KiB are locked already, for devices and other software, and 16 KiB more" in told


def test_a_call_that_the_plot_does_not_know_is_named():
    with pytest.raises(ValueError, match="no call 'fork'; there are map, unmap, attach"):
        lesson.plot("fork")


def test_two_programs_of_one_user_share_the_limit():
    machine = Machine("lab")
    spaces = [Space(machine.process(name), node) for name, node in (("a", "vfio0"), ("b", "vfio1"))]
    for space in spaces:
        space.p.setrlimit(8, 10 * 4096, 10 * 4096)
        space.p.capdrop("CAP_IPC_LOCK")
        space.attach()
    spaces[0].map(spaces[0].p.mmap(8 * 4096), 8 * 4096)
    assert refused(spaces[1].map, spaces[1].p.mmap(4 * 4096), 4 * 4096) == "ENOMEM"


def test_the_cells_to_change_give_what_their_text_promises():
    machine, process, device, where = lesson.sending()
    assert (device, process.memory.read(where, 4)) == (1, b"ping")
    process.memory.write(where, b"pong")
    assert lesson.dma(machine).end == "“pong”"
    process.close(4)
    assert lesson.dma(machine).arrives


def test_a_table_made_by_hand_pins_for_nobody():
    machine, process, device, _ = lesson.sending()
    table = uapi.IommuHwptAlloc(dev_id=device, pt_id=2)
    process.ioctl(4, uapi.IOMMU_HWPT_ALLOC, table)
    process.ioctl(3, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.VfioDeviceDetachIommufdPt())
    assert (table.out_hwpt_id, process.status()["VmPin"]) == (4, 16)
    assert not lesson.dma(machine).arrives
    assert "16 KiB are pinned: table 4" in TEXT


def test_what_a_question_tells_is_plotted_only_when_it_was_answered(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    kept = lesson.once_answered("no memory", lesson.plot("map", "attach"))
    assert "It is shown here once you have answered that." in kept.message
    assert "<svg" not in kept.static_html()
    kept.anyway.click()
    assert "after attach: 4 pages mapped, 4 pinned" in kept.static_html()


def test_the_calls_that_the_desk_offers_are_all_of_an_address_space():
    named = {name for name in lesson.desk().buttons if name.isupper()}
    wanted = {"IOAS_ALLOC", "MAP", "UNMAP", "ATTACH", "DETACH", "HWPT_ALLOC", "DESTROY"}
    assert named == wanted
    assert all(name in TEXT for name in wanted)
    assert Session(start=nothing_bound).machine.check() == []


def test_a_call_is_shown_where_it_makes_something_not_where_it_gives_back_the_file_that_it_had_borrowed():
    bench = lesson.desk()
    opened_at = {}
    for move in ("bind", "IOAS_ALLOC", "MAP", "ATTACH"):
        bench.buttons[move].click()
        opened_at[move] = bench.session.steps[bench.trace_pane.step - 1].sentence
    assert opened_at["IOAS_ALLOC"].startswith("A new address space takes")
    assert opened_at["MAP"].startswith("The mapping is complete")
    assert not any("gives its reference" in sentence for sentence in opened_at.values())
