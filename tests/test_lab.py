"""The widgets of the lab, driven through their buttons and fields as a reader does it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from ipywidgets.widgets import widget as every

from tests import benches
from tests.benches import press
from vfiosim import DeviceSpec, Topology, uapi
from vfiosim.lab import Bench, Sandbox, Session
from vfiosim.lab.bench import ROWS
from vfiosim.lab.run import PROGRAM, Run
from vfiosim.lab.session import LessonCall
from vfiosim.lessons import groups, one_bind, start, vms, who_holds_whom
from vfiosim.lessons.beginnings import opened as opened_for_a_lesson
from vfiosim.machine.events import Called
from vfiosim.views.widget_lifetime import close

SMALL: dict[str, Any] = {"only": ("fds",)}  # most of what is asked here is not about the picture


def opened(**options) -> Bench:
    return benches.opened(**SMALL, **options)


def shown_steps(bench: Bench) -> list[str]:
    return [step["sentence"] for step in bench.trace_pane.player.data["steps"]]


def ledger(session: Run) -> dict[str, object]:
    """Everything that a reader could see of the machine."""
    state = session.machine.trace.end
    return {oid: (thing.fields, thing.counts, thing.tables, thing.locks) for oid, thing in state.objects.items()}


# ---- pressing buttons


@pytest.mark.parametrize("make", [Bench, Sandbox, vms.exercise], ids=["bench", "sandbox", "task"])
def test_what_a_cell_showed_before_is_closed_and_leaves_nothing_that_cannot_tell_its_state(make):
    before = {*every._instances}
    close([make()])
    for name in {*every._instances} - before:
        every._instances[name].get_state()  # as a page asks for it that is opened again


def test_a_bind_is_three_presses_away_from_a_fresh_bench():
    bench = Bench(**SMALL)
    assert press(bench, "open device").startswith('✓ open("/dev/vfio/devices/vfio0") → 3')
    press(bench, "open iommufd")
    assert press(bench, "bind").startswith("✓ ioctl(3, VFIO_DEVICE_BIND_IOMMUFD) → 0 – the kernel wrote out_devid = 1")


def test_after_a_press_bench_and_sandbox_stand_at_the_last_change_and_only_a_guided_walk_at_its_first_step():
    bench, walk, box = benches.opened(), start.first_bind(), Sandbox()
    press(bench, "bind")
    press(walk, "bind")
    for each in (box.buttons["open device"], box.buttons["open iommufd"], box.call):
        each.click()
    assert shown_steps(bench)[0] == "vmm calls ioctl(3, VFIO_DEVICE_BIND_IOMMUFD)."
    assert shown_steps(bench)[bench.trace_pane.step - 1].startswith("The gate opens: a call")
    assert 12 <= bench.trace_pane.step == box.trace_pane.step < len(shown_steps(bench)) <= 20
    assert walk.trace_pane.step == 1


@pytest.mark.parametrize(
    ("bench", "buttons", "cell"),
    [
        (who_holds_whom.holders, {"dup": 3}, "f_ref"),
        (who_holds_whom.holders, {"close": 4}, "f_ref"),
        (groups.owners, {"bind": 4}, "owner_cnt"),
        (groups.owners, {"bind": 4, "close": 4}, "owner_cnt"),
    ],
)
def test_a_bench_beside_a_question_about_a_counter_stands_where_that_changes(bench, buttons, cell):
    made = bench()
    for name, fd in buttons.items():
        (made.bind_fd if name == "bind" else made.fd).set(fd)
        press(made, name)
    changes = made.trace_pane.trace[made.trace_pane.step - 1].changes
    assert cell in [change.what.rpartition(".")[2] for change in changes]
    assert f"which changes {cell}" in made.message


@pytest.mark.parametrize(
    ("bench", "at"),
    [
        (start.first_bind, "begins at step 1; End shows the result."),
        (
            one_bind.bind,
            "opened at step 17 of 19, the last change that stays; Home shows the beginning, End the result.",
        ),
    ],
)
def test_the_line_about_a_call_says_where_the_picture_stands_and_how_the_result_is_seen(bench, at):
    message = press(bench(), "bind")
    assert message.endswith(f"The picture {at}")


def test_the_descriptor_table_is_always_there_and_follows_every_press():
    bench = Bench(**SMALL)
    assert "none yet" in bench.table.value
    press(bench, "open device", "open iommufd", "dup")
    found = re.findall(r"<b>(\d+)</b> → ([^<]+)", bench.table.value)
    assert found == [("3", "vfio0#1"), ("4", "iommu#1"), ("5", "vfio0#1")]
    press(bench, "close")
    assert "<b>3</b>" not in bench.table.value


def test_a_refusal_shows_the_errno_the_sentence_the_check_and_the_line():
    bench = opened()
    press(bench, "open group")
    message = press(bench, "bind")
    assert "→ EBUSY – the group's file is open" in message
    assert re.search(r"Check group_is_closed at vfiosim/kernel/vfio/group\.py:\d+", message)


def test_a_new_file_goes_into_the_fields_that_are_about_such_a_file():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio")
    fields = (bench.bind_fd, bench.struct["iommufd"], bench.listed, bench.vm, bench.kv)
    assert [field.text.value for field in fields] == ["3", "4", "3", "6", "5"]
    assert "→ 0" in press(bench, "FILE ADD")
    assert "EEXIST" in press(bench, "FILE ADD")
    assert "→ 0" in press(bench, "FILE DEL")
    assert "ENOENT" in press(bench, "FILE DEL")


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("argsz", "8", "EINVAL"),
        ("argsz", "0x1000", "EFAULT"),
        ("argsz", "024", "0"),
        ("flags", "2", "EINVAL"),
        ("flags", "1", "EFAULT"),
        ("iommufd", "-1", "EINVAL"),
        ("iommufd", "777", "EBADF"),
        ("iommufd", "3", "EBADFD"),
        ("token_uuid_ptr", "123", "0"),
    ],
)
def test_every_field_of_the_struct_reaches_the_kernel(field, value, answer):
    bench = opened()
    bench.struct[field].text.value = value
    press(bench, "bind")
    assert bench.session.done[-1].outcome.result == answer


def test_what_only_the_kernel_writes_is_no_field_to_fill():
    assert "out_devid" not in opened().struct


def test_get_info_is_refused_before_a_bind_and_answered_after_it():
    bench = opened()
    assert "→ EINVAL" in press(bench, "GET_INFO")
    press(bench, "bind")
    assert re.search(r"num_regions = [1-9]\d*", press(bench, "GET_INFO"))


def test_another_device_can_be_chosen():
    bench = Bench(**SMALL)
    bench.device.value = "/dev/vfio/devices/vfio4"
    press(bench, "open device", "open iommufd")
    assert "out_devid = 1" in press(bench, "bind")
    assert "iommufd_access 1" in bench.session.machine.trace.end.objects


def test_what_every_button_does_can_be_read_without_a_mouse():
    bench = Bench(**SMALL)
    parts = [*bench.children]
    for part in parts:  # and what is in them
        parts += getattr(part, "children", ())
    told = next(part for part in parts if "vfiosim-told" in part._dom_classes)
    assert set(re.findall(r"<li><b>(.*?)</b>: .+?</li>", told.value)) == {
        *bench.buttons,
        "Undo",
        "Reset",
        "Show code",
    }


# ---- bad input


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("argsz", "many", "“many” is no number; write one like 24 or 0x18"),
        ("argsz", "٢٤", "“٢٤” is no number; write one like 24 or 0x18"),
        ("argsz", "\u202ea\0", r"“\u202ea\x00” is no number; write one like 24 or 0x18"),
        ("argsz", "2_4", "“2_4” is no number; write one like 24 or 0x18"),
        ("argsz", "-1", "-1 does not fit; from 0 to 4294967295"),
        ("iommufd", "2147483648", "2147483648 does not fit; from -2147483648 to 2147483647"),
        ("token_uuid_ptr", str(1 << 64), f"{1 << 64} does not fit; from 0 to {(1 << 64) - 1}"),
    ],
)
def test_bad_input_gives_a_message_beside_its_field_and_changes_nothing(field, value, message):
    bench = opened()
    before = ledger(bench.session), bench.session.code(), bench.trace_pane.player.data
    bench.struct[field].text.value = value
    assert press(bench, "bind") == f"Nothing was called; see what is said at {field}."
    assert bench.struct[field].message == message
    assert (ledger(bench.session), bench.session.code(), bench.trace_pane.player.data) == before
    bench.struct[field].set(24)
    assert bench.message == "Nothing was called as yet."


def test_what_is_missing_is_told_in_the_line_about_the_press_and_takes_no_room_of_its_own():
    bench = opened()
    bench.struct["flags"].text.value = ""
    assert press(bench, "bind") == "Nothing was called; flags: a number is missing here."
    assert bench.struct["flags"].problem is None
    bench.struct["flags"].set(0)
    assert bench.message == "Nothing was called as yet."


def test_two_bad_fields_each_have_their_message():
    bench = opened()
    bench.struct["argsz"].text.value = bench.struct["flags"].text.value = "x"
    press(bench, "bind")
    assert bench.struct["argsz"].message
    assert bench.struct["flags"].message


@pytest.mark.parametrize("button", ["GET_INFO", "dup", "close"])
def test_a_closed_descriptor_gives_a_message_beside_its_field_and_changes_nothing(button):
    bench = opened()
    bench.fd.text.value = "9"
    before = ledger(bench.session)
    press(bench, button)
    assert bench.fd.message == "9 is not open; see the table of descriptors"
    assert ledger(bench.session) == before


def test_a_message_goes_away_as_soon_as_the_field_is_changed():
    bench = opened()
    bench.fd.text.value = "9"
    press(bench, "close")
    bench.fd.text.value = "3"
    assert bench.fd.message == ""
    assert "→ 0" in press(bench, "close")


@pytest.mark.parametrize("rows", [(row,) for row in ROWS])
def test_no_button_of_a_fresh_bench_raises(rows):
    bench = Bench(show=rows, **SMALL)
    ready = bench.message
    for name in bench.buttons:
        assert press(bench, name) != ready


def test_a_closed_descriptor_is_not_put_on_the_list():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio")
    bench.listed.text.value = "77"
    assert press(bench, "FILE ADD") == "Nothing was called; see what is said at file fd."
    assert bench.listed.message == "77 is not open; see the table of descriptors"


def test_a_field_keeps_what_stands_in_it_until_that_descriptor_is_closed_and_then_asks_for_another():
    bench = opened()
    fields = (bench.fd, bench.bind_fd, bench.listed, bench.struct["iommufd"])
    press(bench, "dup")
    assert [field.text.value for field in fields] == ["3", "3", "3", "4"]
    press(bench, "close")
    assert [field.text.value for field in fields] == ["", "", "", "4"]
    assert press(bench, "close") == "Nothing was called; fd: choose a descriptor; open: 4, 5."


def test_a_message_goes_away_when_the_descriptor_is_open_again():
    bench = opened()
    press(bench, "close")
    bench.fd.text.value = "3"
    press(bench, "close")
    assert bench.fd.message == "3 is not open; see the table of descriptors"
    press(bench, "open device")
    assert bench.fd.message == ""


def unknown(bench: Bench) -> str:
    """A call whose answer the model does not know."""
    bench._press(lambda: bench.session.open("/dev/kvm"))
    bench._press(lambda: bench.session.do(Called("vmm", "ioctl", (3, uapi.KVM_CREATE_VM, 0))))
    bench._press(lambda: bench.session.do(Called("vmm", "ioctl", (4, uapi.KVM_CREATE_VCPU, 0))))
    bench._press(lambda: bench.session.do(Called("vmm", "ioctl", (5, 0xAE80, 0))))
    return bench.message


def test_what_is_not_modelled_is_no_refusal_of_the_kernel():
    bench = Bench(**SMALL)
    assert "→ not modelled : 0xae80 on a virtual CPU. The real kernel" in unknown(bench)
    assert 'class="unknown"' in bench.result.value
    assert "ENOSYS" not in bench.message
    assert "check" not in bench.message


def test_the_code_says_what_is_not_modelled():
    bench = Bench(**SMALL)
    unknown(bench)
    said = "    vmm.ioctl(5, 0xae80, 0)  # 0xae80 on a virtual CPU is not modelled"
    assert said in bench.session.code().splitlines()


def test_a_program_that_has_ended_is_told_so_in_words():
    bench = opened()
    bench.session.process.exit()
    bench._refresh({})
    assert press(bench, "open device") == "Nothing was called: there is no living process 'vmm'."
    bench.reset.click()
    assert "→ 3" in press(bench, "open device")


def test_a_row_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="no row \\['bond'\\]; there are open, descriptor"):
        Bench(show=("bond",))


# ---- the way back


def test_undo_brings_back_the_machine_from_before_the_call():
    bench = opened()
    before = ledger(bench.session)
    press(bench, "bind")
    bench.undo.click()
    assert bench.message == "Taken back: ioctl(3, VFIO_DEVICE_BIND_IOMMUFD)"
    assert ledger(bench.session) == before
    assert "→ 0" in press(bench, "bind")


def test_undo_takes_exactly_one_press_back_on_a_bench_as_in_a_sandbox_and_tells_a_refused_one():
    bench, box = opened(), Sandbox()
    press(bench, "bind", "bind")
    for each in (box.buttons["open device"], box.buttons["open iommufd"], box.call, box.call):
        each.click()
    for made in (bench, box):
        assert "→ EINVAL" in made.message
        calls = made.run.calls_made
        made.undo.click()
        assert made.message.endswith(", which had been refused")
        assert "iommufd_device 1" in ledger(made.run)
        made.undo.click()
        assert "iommufd_device 1" not in ledger(made.run)
        assert made.run.calls_made == calls - 2


def test_undo_makes_no_call_again_once_nobody_has_pressed_for_a_moment():
    bench, machines = opened(), []

    def dup(machine):
        machines.append(machine)
        return Called(PROGRAM, "dup", (3,)).do(machine)

    async def press_and_wait():
        bench.session.do(LessonCall("dup(3)", dup))
        press(bench, "bind", "bind")
        while len(machines) < 2:
            await asyncio.sleep(0.01)
        bench.undo.click()

    asyncio.run(press_and_wait())
    assert bench.session.machine is machines[-1]
    assert len(machines) == 2
    again = bench.session.twin(done.event for done in bench.session.done)
    assert bench.session.machine.trace == again.machine.trace


def test_undo_changes_no_field_but_those_that_the_press_had_changed():
    bench = Bench(Session(start=opened_for_a_lesson), **SMALL)
    fields = {"ioctl on fd": bench.bind_fd, "fd": bench.fd, "iommufd": bench.struct["iommufd"]}
    press(bench, "dup")
    bench.bind_fd.set(3)
    bench.fd.set(4)
    before = {name: field.text.value for name, field in fields.items()}
    press(bench, "close")
    bench.undo.click()
    assert {name: field.text.value for name, field in fields.items()} == before
    bench.undo.click()
    assert bench.bind_fd.text.value == "3"


def test_undo_works_back_to_the_beginning_and_no_further():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio", "FILE ADD", "bind", "bind", "close")
    while not bench.undo.disabled:
        bench.undo.click()
    assert ledger(bench.session) == ledger(Session())
    bench.undo.click()
    assert bench.message == "There is nothing to take back."


def test_what_a_lesson_has_prepared_cannot_be_undone_and_comes_back_at_reset():
    bench = start.first_bind()
    assert bench.undo.disabled
    press(bench, "bind")
    bench.reset.click()
    assert ledger(bench.session) == ledger(Session(start=opened_for_a_lesson))
    assert "→ 0" in press(bench, "bind")


def test_reset_also_empties_the_fields():
    bench = opened()
    bench.struct["argsz"].text.value = "many"
    press(bench, "bind")
    bench.reset.click()
    assert [field.text.value for field in bench.struct.values()] == ["24", "0", "0", "0"]
    assert (bench.bind_fd.text.value, bench.struct["argsz"].message) == ("", "")


def test_the_code_of_a_session_does_the_same_again():
    bench = opened()
    press(bench, "create VM", "create kvm-vfio", "bind", "FILE ADD", "FILE ADD", "bind", "dup", "GET_INFO", "close")
    bench.copy.click()
    assert bench.code.layout.display == ""
    names: dict[str, object] = {}
    exec(bench.code.value, names)
    assert names["m"].trace.end.objects == bench.session.machine.trace.end.objects  # type: ignore[attr-defined]


def test_the_code_of_a_machine_of_ones_own_runs_too():
    session = Session(Topology("mine", (DeviceSpec("tty", "a-uuid", 4, bus="mdev", driver="mtty"),)))
    session.open("/dev/vfio/devices/vfio0")
    names: dict[str, object] = {}
    exec(session.code(), names)
    assert names["m"].trace.end.objects == session.machine.trace.end.objects  # type: ignore[attr-defined]


def test_what_was_done_on_a_bench_is_done_again_in_a_sandbox():
    bench, box = opened(), Sandbox()
    press(bench, "create VM", "create kvm-vfio", "FILE ADD", "bind", "bind")
    box.run.load(bench.run.save())
    assert box.run.machine.trace.end.objects == bench.run.machine.trace.end.objects
    assert box.run.undo()
    assert box.run.undo()
    assert "iommufd_device 1" not in box.run.machine.trace.end.objects


def test_a_field_has_a_place_for_trouble_only_once_there_was_some():
    bench = opened()
    field = bench.struct["argsz"]
    assert len(field.children) == 1
    field.text.value = "many"
    press(bench, "bind")
    assert field.children[1].value == f'<span role="alert">{field.message}</span>'


def test_a_press_that_runs_through_known_functions_sends_none_of_them_again() -> None:
    bench = one_bind.bind()
    player = bench.trace_pane.player
    press(bench, "bind")
    press(bench, "Undo")
    sent: list[str] = []
    player.observe(lambda change: sent.append(change["name"]))
    press(bench, "bind")
    assert {"data", "lasting", "recent"} & {*sent} == {"data"}
    assert any("async def iommufd_device_bind(" in text for text in player.lasting["texts"].values())
    assert "async def" not in json.dumps(player.data)


def test_a_press_that_runs_through_new_functions_sends_these_only() -> None:
    bench = one_bind.bind()
    player = bench.trace_pane.player
    press(bench, "bind")
    kept = player.lasting
    press(bench, "GET_INFO")
    assert player.lasting is kept
    assert player.recent["texts"]
    assert not player.recent["texts"].keys() & kept["texts"].keys()
    places = {**kept["places"], **player.recent["places"]}
    functions = {**kept["functions"], **player.recent["functions"]}
    assert [functions[places[step["place"]][0]]["name"] for step in player.data["steps"]] == [
        step.function for step in player.player.trace
    ]
