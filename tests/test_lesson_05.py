"""The lesson about closing: its own solutions are played, and typical wrong answers, through what a reader can press."""

from __future__ import annotations

import html
import re

import pytest

from tests.calls import refused
from tests.cells import cells, code_of
from tests.conftest import ROOT
from tests.lesson_claims import ordered
from vfiosim import uapi
from vfiosim.lab import Exercise, Session
from vfiosim.lessons import closing as lesson
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons.beginnings import bound, opened
from vfiosim.lessons.closing_calls import NIC, other, unbind
from vfiosim.lessons.closing_counts import counts, left_after
from vfiosim.lessons.closing_questions import CHECK
from vfiosim.machine.events import Began

TEXT = "\n".join(cells(ROOT / "notebooks" / "05_closing_in_any_order.ipynb", "markdown"))
ALL = {**lesson.LESSON.questions, **{question.name: question for question in CHECK}}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("who is left?", ("file vfio0#1", "vfio_device_file 1", "iommufd_ctx 1", "kvm 1")),
        ("unbind", "waits"),
        ("BIND meanwhile", "EAGAIN"),
        ("passed on", "lives"),
        ("05 check: the number again", "other"),
        ("05 check: count", "6"),
        ("05 check: a new open", "ENOENT"),
    ],
)
def test_the_answers_are_those_that_the_explanations_give(name, answer):
    assert ALL[name].experiment().answer == answer


def test_questions_and_calls_that_the_lesson_does_not_have_are_named():
    with pytest.raises(ValueError, match="no question 'close'; there are who is left"):
        lesson.predict("close")
    with pytest.raises(ValueError, match="no call 'exit'; there are fork, mmap"):
        lesson.plot("exit")
    with pytest.raises(ValueError, match="mapped nothing of the device"):
        lesson.plot("munmap")


# ---- what the text says


def outcomes() -> list[list[set[str]]]:
    """What is alive after the first, the second and the third close, for each order, as the table shows it."""
    rows = re.findall(r"<tr>(.*?)</tr>", lesson.orders()._repr_html_())[1:]
    told = [re.findall(r"<td.*?>(.*?)</td>", row) for row in rows]
    return [[set() if cell == "nothing" else set(cell.split(", ")) for cell in row] for row in told]


def test_the_table_has_six_orders_in_which_the_first_close_frees_nothing_and_the_last_one_the_rest():
    told, everything = outcomes(), {"device", "iommufd", "VM"}
    assert len(told) == 6
    assert all(first == everything and last == set() for first, _, last in told)
    assert [second for _, second, _ in told].count({"iommufd"}) == 2
    assert [second for _, second, _ in told].count(everything) == 4


def test_the_file_goes_when_device_and_vm_are_closed():
    for order in (("device", "VM"), ("VM", "device"), ("iommufd", "device", "VM")):
        assert "device" in left_after(order[:-1])
        assert "device" not in left_after(order)


@pytest.mark.parametrize("calls", re.findall(r"lesson\.plot\((.*)\)", code_of("05_closing_in_any_order")))
def test_in_the_plot_the_unbind_ends_where_all_lines_meet_at_zero(calls):
    names = re.findall(r'"(.*?)"', calls)
    found = counts(*names)
    assert [line[-1] for line in found.values()] == [0, 0, 0]
    assert all(line[-2] > 0 for line in found.values())
    assert found["vfio0"][names.index("unbind")] - found["vfio0"][names.index("unbind") + 1] == 1
    picture = lesson.plot(*names).data
    assert all(
        f">{word}<" in picture for word in ("bound", *names, *(html.escape(what, quote=False) for what in found))
    )
    assert "references to vfio0: 2, " in picture


def test_pulling_the_card_out_waits_like_an_unbind():
    session = Session(start=bound)
    session.do(Began("admin"))
    outcome = other(session, "admin", "write_file", f"/sys/bus/pci/devices/{NIC}/remove", "1")
    assert outcome.result == "waits"
    assert outcome.sentence == "driver vfio-pci waits until no file of vfio_device vfio0 is open"
    session.close(3)
    assert session.machine.calls[-2].result == 1


def held(session: Session) -> list[str]:
    return sorted(map(str, session.machine.trace.end.references("counted")))


def test_a_bind_that_is_told_eagain_keeps_nothing_and_once_bound_a_reset_is_told_the_same():
    session = Session(start=opened)
    session.do(Began("admin"))
    unbind(session)
    before = held(session)
    assert session.bind(3, iommufd=4).result == "EAGAIN"
    assert held(session) == before
    assert session.machine.trace.end.objects["vfio_device_file 1"].value("access_granted") == 0
    machine, process = lesson.bound_program()
    machine.process("admin").start("write_file", lesson.UNBIND, lesson.NIC)
    assert refused(process.ioctl, 3, uapi.VFIO_DEVICE_RESET) == "EAGAIN"


def test_the_cells_to_change_say_what_their_text_promises():
    for ends in (lambda process, where: process.munmap(where, 4096), lambda process, _: process.exit()):
        machine, process = lesson.bound_program()
        where = process.mmap(4096, 3, 3, 0)
        process.close(3)
        process.close(4)
        call = machine.process("admin").start("write_file", lesson.UNBIND, lesson.NIC)
        assert call.state == "blocked"
        assert [path.links[0].holder for path in machine.why("file vfio0#1").paths] == ["mm_struct vmm"]
        ends(process, where)
        assert call.state == "done"
        assert str(machine.why("file vfio0#1")) == "Nothing keeps file vfio0#1 alive: it is gone."


def test_the_new_words_are_explained():
    assert {"*unbind*", "*tried lock*"} <= set(re.findall(r"\*[\w ]+\*", TEXT.partition("## Predict")[2]))


# ---- the tasks


def press(exercise: Exercise, *names: str) -> str:
    """Press these, "close 3" being a number put into the field and a press; then Check. The answer is what it says."""
    for name in names:
        what, _, fd = name.partition(" ")
        if what == "close":
            exercise.bench.fd.text.value = fd
        exercise.bench.buttons["close" if what == "close" else name].click()
    exercise.check.click()
    return exercise.message


def test_on_the_bench_the_unbind_waits_for_the_helper():
    bench = lesson.handover()
    bench.fd.text.value = "3"
    bench.buttons["close"].click()
    bench.buttons["admin: unbind"].click()
    assert "→ waits – driver vfio-pci waits until no file of vfio_device vfio0 is open" in bench.message
    assert "helper has open after the last step: 3 → vfio0#1" in bench.in_words()
    bench.buttons["kill helper"].click()
    assert bench.trace_pane.trace[-1].sentence == "The call returns 12."


def test_the_paths_are_cut_in_four_calls():
    message = press(lesson.exercise(), "close 3", "close 5", "munmap", "kill helper")
    assert "✓ Solved. You needed 4 calls; it takes no fewer." in message


def test_who_closes_every_descriptor_of_the_helper_still_has_the_helpers_mapping():
    exercise = lesson.exercise()
    message = press(exercise, "close 3", "close 5", "munmap", "helper: close(3)", "helper: close(5)")
    assert "wanted: the unbind ends; now: it waits for file vfio0#1, which somebody holds" in message
    assert M.ONE_NUMBER_ONE_HOLDER.name in message
    assert "You needed 6 calls. It can be done with 4." in press(exercise, "kill helper")


def test_who_closes_the_iommufd_is_told_that_it_holds_nothing():
    assert M.CLOSING_IS_RELEASING.name in press(lesson.exercise(), "close 4")


@pytest.mark.parametrize(
    "keys",
    [
        ("del", "close 5", "unmap", "close 3", "unbind"),
        ("unmap", "del", "close 3", "close 5", "unbind"),
        ("close 3", "close 5", "unmap", "unbind"),
    ],
)
def test_a_tear_down_has_several_right_orders(keys):
    assert "✓ Right." in ordered(lesson.order(), *keys)


def test_a_tear_down_that_drops_the_vm_first_cannot_take_the_file_off_the_list():
    assert "FILE_DEL is asked of 5 and names 3, and one of these" in ordered(
        lesson.order(), "close 5", "del", "unmap", "close 3"
    )


def test_an_unbind_that_comes_too_early_waits_and_that_is_told():
    message = ordered(lesson.order(), "del", "close 5", "close 3", "unbind", "unmap")
    assert "The first wrong place is number 4" in message
    assert "The unbind waits as long as one holder of the device's file is left." in message


def test_the_list_of_the_bug_hunt_shows_no_holder_of_the_card():
    told = lesson.listing()
    assert "vfio0" not in told
    assert "/proc/vmm/fd/3 -> /dev/vfio/devices/vfio1" in told
    assert "/proc/broker/fd/6 -> socket:[2]" in told


def test_the_picture_of_the_hunt_does_not_show_who_is_hunted():
    drawn = {node.kind for node in lesson.free_it().bench.trace_pane.player.player.graph.nodes}
    assert "fds" in drawn
    assert "message" not in drawn
    assert "socket" not in drawn


def test_the_last_holder_is_a_message_to_the_broker():
    exercise = lesson.free_it()
    paths = exercise.bench.session.machine.why("file vfio0#1").paths
    assert {path.links[-1].holder for path in paths} == {"message 1"}
    assert "✓ Solved. You needed 1 call; it takes no fewer." in press(exercise, "kill broker")


def test_who_closes_3_has_closed_the_other_card():
    message = press(lesson.free_it(), "close 3")
    assert "wanted: a descriptor leads to vfio1; now: there is none" in message
    assert M.NUMBERS_STAY.name in message


def test_who_receives_the_message_has_one_more_descriptor_to_close():
    exercise = lesson.free_it()
    assert "a descriptor of the broker holds it now" in press(exercise, "broker: recvmsg")
    assert "You needed 2 calls. It can be done with 1." in press(exercise, "broker: close(3)")


def test_a_descriptor_of_another_program_can_be_pressed_and_changes_no_field():
    bench = lesson.free_it().bench
    was = bench.fd.text.value
    bench.table.press("broker", 6)
    assert bench.fd.text.value == was
    assert bench.table.label() == "socket#2"
