"""The sandbox, driven through its controls as a reader drives it, without a browser."""

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest

from tests.sandboxes import call, choose
from vfiosim import uapi
from vfiosim.lab import Sandbox
from vfiosim.lab.fields import LabelledField
from vfiosim.lab.press import ClickFilter
from vfiosim.lab.sandbox import Run, Setup
from vfiosim.lab.sandbox.calls import ON_A_FILE, WITHOUT_A_FILE
from vfiosim.lab.sandbox.inputs import bytes_of, memory_of
from vfiosim.machine import PREFIX
from vfiosim.machine.events import Called, Failing, Killed, Mapped, Moved
from vfiosim.machine.system_calls import SYSTEM_CALLS, SystemCall
from vfiosim.topology import DeviceSpec, Topology

NIC = "/sys/bus/pci/devices/0000:01:00.0"


def opened(*names: str, **options: object) -> Sandbox:
    """A sandbox with a small picture, where these buttons were pressed; what is asked here is not about the picture."""
    box = Sandbox(**{"only": ("fds",), **options})  # type: ignore[arg-type]
    for name in names:
        box.shortcuts.buttons[name].click()
    return box


def bound(**options: object) -> Sandbox:
    box = opened("open device", "open iommufd", **options)
    box.call.click()
    return box


def racing() -> Sandbox:
    """Two binds of one file, both moved by hand."""
    box = opened("open device", "open iommufd")
    box.when.value = "by hand"
    box.call.click()
    box.call.click()
    return box


# ---- the first two minutes


def test_three_presses_bind_a_device() -> None:
    box = Sandbox()
    for name in ("open device", "open iommufd"):
        assert name in box.hint.value
        assert "vfiosim-primary" in box.shortcuts.buttons[name]._dom_classes
        box.shortcuts.buttons[name].click()
    box.call.click()
    assert "→ 0" in box.message
    assert "out_devid = 1" in box.message
    assert "Call</b> again: what do you expect?" in box.hint.value
    box.call.click()
    assert "refused" in box.result.value
    assert box.hint.value == ""


def test_the_descriptor_table_shows_every_process() -> None:
    box = opened("open device")
    box.buttons["Fork"].click()
    assert box.table.value.count("vfio0#1") == 2
    box.buttons["Kill"].click()
    assert "has ended" in box.table.value


@pytest.mark.parametrize("words", ["no descriptor", "another number"])
def test_a_choice_that_was_on_its_way_while_a_file_was_opened_is_the_one_that_the_reader_made(words: str) -> None:
    box = opened()
    seen = [label for label, _ in box.form.fd.options]  # the list on the page, which tells the place of a choice in it
    box.shortcuts.buttons["open device"].click()
    box.form.fd.set_state({"index": seen.index(words)})
    assert box.form.fd.label == words


def test_an_opened_iommufd_fills_the_field_that_waited_for_it() -> None:
    box = opened("open device", "open iommufd")
    assert box.form.fd.value == 3
    assert box.form.buffer is not None
    assert box.form.buffer.fields["iommufd"].text.value == "4"
    assert box.form.buffer.fields["argsz"].text.value == "24"


def test_a_field_whose_descriptor_is_closed_says_that_there_is_none_and_takes_the_next_one() -> None:
    box = opened("open device", "open iommufd")
    assert box.form.buffer is not None
    field = box.form.buffer.fields["iommufd"]
    box.shortcuts.fd.value = 4
    box.shortcuts.buttons["close"].click()
    assert (field.text.value, field.text.placeholder) == ("", "none")
    box.call.click()
    assert field.message == "there is no iommufd as yet: make one, or write a number"
    box.shortcuts.buttons["open iommufd"].click()
    assert (field.text.value, field.message) == ("4", "")


# ---- every call


# Of the requests that the form makes as it offers them, on files that are ready for them: what the others are refused with.
REFUSED = {
    "EACCES": {"VFIO_IOMMU_DIRTY_PAGES"},
    "EBUSY": {"IOMMU_DESTROY", "IOMMU_OPTION", "VFIO_GROUP_UNSET_CONTAINER"},
    "EEXIST": {"IOMMU_IOAS_MAP_FILE"},
    "EINVAL": {
        *("IOMMU_HWPT_GET_DIRTY_BITMAP", "IOMMU_HWPT_INVALIDATE", "IOMMU_IOAS_CHANGE_PROCESS"),
        *("VFIO_DEVICE_IOEVENTFD", "VFIO_DEVICE_SET_IRQS"),
    },
    "ENODEV": {"IOMMU_VFIO_IOAS", "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", "VFIO_DEVICE_PCI_HOT_RESET"},
    "ENOENT": {"IOMMU_VDEVICE_ALLOC"},
    "ENOTTY": {
        *("VFIO_DEVICE_FEATURE", "VFIO_DEVICE_GET_GFX_DMABUF", "VFIO_DEVICE_QUERY_GFX_PLANE"),
        *("VFIO_IOMMU_DIRTY_PAGES", "VFIO_IOMMU_DISABLE", "VFIO_IOMMU_ENABLE"),
    },
    "EOPNOTSUPP": {
        *("IOMMU_HWPT_SET_DIRTY_TRACKING", "IOMMU_HW_QUEUE_ALLOC", "IOMMU_TEST_CMD"),
        *("IOMMU_VEVENTQ_ALLOC", "IOMMU_VIOMMU_ALLOC"),
    },
    "EPERM": {"KVM_GET_DEVICE_ATTR"},
}
TAKE_AWAY = ("VFIO_DEVICE_DETACH_IOMMUFD_PT", "VFIO_IOMMU_UNMAP_DMA", "IOMMU_IOAS_UNMAP", "IOMMU_DESTROY")


def asked(box: Sandbox, fd: int, name: str) -> str:
    """Make a request from the form, and see that it is the one that reaches the kernel; the answer is its result."""
    before = len(box.run.done)
    call(box, fd, name)
    assert len(box.run.done) > before, (name, box.message)
    made = box.run.done[-1]
    assert isinstance(made.event, Called)
    assert (made.event.name, *made.event.arguments[:2]) == ("ioctl", fd, uapi.REQUESTS[name].number)
    return made.outcome.result


def test_every_request_is_made_from_the_form_of_its_file_and_most_are_granted_as_the_form_offers_them() -> None:
    box, answers = opened("open device", "open iommufd"), {}
    first = [(3, "VFIO_DEVICE_BIND_IOMMUFD"), (4, "IOMMU_IOAS_ALLOC"), (3, "VFIO_DEVICE_ATTACH_IOMMUFD_PT")]
    second = [(5, "VFIO_GROUP_SET_CONTAINER"), (6, "VFIO_SET_IOMMU"), (7, "KVM_CREATE_VM"), (8, "KVM_CREATE_DEVICE")]
    for fd, name in first:
        answers[name] = [asked(box, fd, name)]
    box.shortcuts.device.index = 1  # the group of a bound device cannot be opened
    for button in ("open group", "open container", "open kvm"):
        box.shortcuts.buttons[button].click()
    for fd, name in second:
        answers[name] = [asked(box, fd, name)]
    for fd in box.run.descriptors("vmm"):
        box.form.fd.value = fd
        offered = [name for name, _ in box.form.what.options if name in uapi.REQUESTS]
        for name in sorted(offered, key=lambda name: name in TAKE_AWAY):
            answers.setdefault(name, []).append(asked(box, fd, name))
    # the file of this one comes from a feature that is not modelled
    assert {*answers} == {*uapi.REQUESTS} - {"VFIO_MIG_GET_PRECOPY_INFO"}
    refused = {name: told for name, told in answers.items() if not any(each.isdecimal() for each in told)}
    assert {errno: {name for name, told in refused.items() if errno in told} for errno in REFUSED} == REFUSED
    assert {*refused} == set().union(*REFUSED.values())


def test_every_system_call_of_the_simulator_has_a_place_in_the_form() -> None:
    offered = {plain.name for plain in (*ON_A_FILE, *WITHOUT_A_FILE)} | {"ioctl"}
    elsewhere = {
        "fork",
        "exit",
        "import_fd",
        "receive_fd",
    }  # buttons of the process; files of the computer are not the sandbox's
    assert {*SYSTEM_CALLS} - elsewhere <= offered


def answer(box: Sandbox, fd: int | str, plain: SystemCall, **fields: int | str) -> str:
    """Make a call that is no ioctl from the form; the answer is its result."""
    before = len(box.run.done)
    call(box, fd, plain.name, **fields)
    (made,) = box.run.done[before:]
    assert isinstance(made.event, Called)
    assert made.event.name == plain.name.removeprefix("p" if plain.name in ("pread", "pwrite") else "")
    return made.outcome.result


def test_every_call_without_a_descriptor_can_be_made() -> None:
    box = opened()
    fields = {
        "write_file": {"path": f"{NIC}/driver/unbind", "data": "0000:01:00.0"},
        "read_file": {"path": f"{NIC}/driver_override"},
        "readlink": {"path": f"{NIC}/iommu_group"},
        "prlimit": {"process": "vmm"},
    }
    answers = {
        plain.name: answer(box, "no descriptor", plain, **fields.get(plain.name, {})) for plain in WITHOUT_A_FILE
    }
    assert answers == {
        "open": "3",
        "eventfd": "4",
        "memfd": "5",
        "socketpair": "(6, 7)",
        "plain": "8",
        "munmap": "0",
        "write_file": "waits",
        "read_file": r"b'vfio-pci\n'",
        "load": "EFAULT",
        "store": "EFAULT",
        "listdir": "('vfio1', 'vfio2', 'vfio3', 'vfio4')",
        "readlink": "/sys/kernel/iommu_groups/1",
        "stat": "0x21b0",
        "rmmod": "waits",
        "setuid": "0",
        "capset": "0",
        "setrlimit": "0",
        "prlimit": "(0, 0)",
        "exec": "0",
    }


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        (
            "open device",
            {
                "dup": "5",
                "read": "EINVAL",
                "pread": "EINVAL",
                "write": "EINVAL",
                "pwrite": "EINVAL",
                "poll": "1",
                "lseek": "ESPIPE",
                "mmap": "EINVAL",
                "sendmsg_fds": "ENOTSOCK",
                "recvmsg_fds": "ENOTSOCK",
                "fdinfo": "vfio-device-syspath: /sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0\n",
            },
        ),
        (
            "eventfd",
            {
                "dup": "5",
                "read": "waits",
                "pread": "ESPIPE",
                "write": "8",  # which the reader who waits takes
                "pwrite": "ESPIPE",
                "poll": "0",
                "lseek": "0",
                "fdinfo": "",
                "mmap": "ENODEV",
                "sendmsg_fds": "ENOTSOCK",
                "recvmsg_fds": "ENOTSOCK",
            },
        ),
        (
            "socketpair",
            {
                "dup": "6",
                "read": "EINVAL",
                "pread": "ESPIPE",
                "write": "EINVAL",
                "pwrite": "ESPIPE",
                "poll": "0",
                "lseek": "ESPIPE",
                "fdinfo": "",
                "mmap": "ENODEV",
                "sendmsg_fds": "1",
                "recvmsg_fds": "waits",
            },
        ),
    ],
)
def test_every_call_on_a_file_can_be_made(name: str, answers: dict[str, str]) -> None:
    box = opened("memfd", name)
    fields = {"sendmsg_fds": {"fds": "3, 4"}}
    calls = [each for each in ON_A_FILE if each.name != "close"]
    assert {each.name: answer(box, 4, each, **fields.get(each.name, {})) for each in calls} == answers


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("close", {}),
        ("dup", {3: "memfd#1", 4: "memfd#1"}),
        ("eventfd", {3: "memfd#1", 4: "eventfd#1"}),
        ("memfd", {3: "memfd#1", 4: "memfd#2"}),
        ("other file", {3: "memfd#1", 4: "file#1"}),
        ("socketpair", {3: "memfd#1", 4: "socket#1", 5: "socket#2"}),
    ],
)
def test_after_a_common_button_the_descriptors_are_those_that_it_speaks_of(name: str, files: dict[int, str]) -> None:
    box = opened("memfd")
    box.shortcuts.buttons[name].click()
    assert "✓" in box.message
    assert {fd: file.label for fd, file in box.run.descriptors("vmm").items()} == files


def test_memory_that_is_mapped_by_a_button_can_be_written() -> None:
    box = opened()
    box.shortcuts.buttons["map memory"].click()
    mapped = box.run.done[-1]
    assert isinstance(mapped.event, Mapped)
    memory = box.run.machine.processes["vmm"].memory
    memory.write(mapped.outcome.number + mapped.event.length - 1, b"x")
    with pytest.raises(OSError, match="EFAULT"):
        memory.write(mapped.outcome.number + mapped.event.length, b"x")


def test_a_part_of_a_device_is_mapped_and_unmapped() -> None:
    box = bound()
    box.shortcuts.fd.value = 3
    box.shortcuts.buttons["mmap fd"].click()
    where, memory = box.run.done[-1].outcome.number, box.run.machine.processes["vmm"].memory
    with pytest.raises(OSError, match="the content of a BAR is not modelled"):
        memory.read(where, 4)
    box.shortcuts.buttons["munmap"].click()
    assert "→ 0" in box.message
    with pytest.raises(OSError, match="EFAULT"):
        memory.read(where, 1)


def test_a_file_is_passed_on_over_a_socket() -> None:
    box = opened("open device", "socketpair")
    box.shortcuts.fd.value, box.shortcuts.socket.value = 3, 4
    box.shortcuts.buttons["send fd"].click()
    box.shortcuts.socket.value = 5
    box.shortcuts.buttons["receive fd"].click()
    assert [file.label for file in box.run.descriptors("vmm").values()].count("vfio0#1") == 2


def test_a_driver_is_unbound_and_bound_again() -> None:
    box = Sandbox()
    box.shortcuts.buttons["unbind driver"].click()
    assert "✓" in box.message
    assert "vfio0" not in {device.label for device in box.run.machine.built.vfio_devices.values()}
    box.shortcuts.buttons["bind driver"].click()
    assert "✓" in box.message
    assert "vfio0#2" in {device.label for device in box.run.machine.built.vfio_devices.values()}


def test_memory_is_mapped_for_a_device_with_two_presses() -> None:
    box = bound()
    call(box, 4, "IOMMU_IOAS_ALLOC")
    assert "→ 0" in call(box, 4, "IOMMU_IOAS_MAP")
    assert "→ 0" in call(box, 3, "VFIO_DEVICE_ATTACH_IOMMUFD_PT")
    assert box.run.machine.processes["vmm"].status()["VmPin"] == 4  # kB: for a device means pinned


def test_time_passes_by_a_button() -> None:
    box = Sandbox()
    box.shortcuts.buttons["let time pass"].click()
    assert box.run.machine.engine.clock == 1000


def test_any_other_request_takes_a_number_or_bytes() -> None:
    box = opened("open iommufd")
    choose(box, 3, "any other request")
    box.form.request.set("0x1234")
    box.call.click()
    assert "ENOTTY" in box.message
    box.form.sort.value = "bytes"
    box.form.parts["argument"].set("01 02 03")
    box.call.click()
    assert "ENOTTY" in box.message


def test_a_number_that_is_no_descriptor_can_be_called() -> None:
    box = Sandbox()
    box.form.fd.value = "another number"
    box.call.click()
    assert "EBADF" in box.message


# ---- fields and bytes


def test_fields_and_raw_bytes_show_the_same_buffer() -> None:
    box = opened("open device", "open iommufd")
    buffer = box.form.buffer
    assert buffer is not None
    buffer.fields["flags"].set("0x102")
    assert buffer.raw.text.value.split()[4:8] == ["02", "01", "00", "00"]
    buffer.raw.set("10 00 00 00 00 00 00 00 07 00 00 00")
    assert buffer.fields["argsz"].text.value == "16"
    assert buffer.fields["iommufd"].text.value == "7"
    assert len(buffer.read()) == 12


def test_raw_bytes_that_the_reader_has_written_are_left_alone_when_something_is_opened() -> None:
    written = "18 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    box, untouched = opened("open device"), opened("open device")
    assert box.form.buffer is not None
    assert untouched.form.buffer is not None
    box.form.buffer.raw.set(f"{written} ff")
    for each in (box, untouched):
        each.shortcuts.buttons["open iommufd"].click()
    assert box.form.buffer.raw.text.value == f"{written} ff"
    assert untouched.form.buffer.fields["iommufd"].text.value == "4"


def test_a_wrong_field_is_told_beside_it_and_nothing_is_called() -> None:
    box = opened("open device", "open iommufd")
    assert box.form.buffer is not None
    box.form.buffer.fields["argsz"].set("many")
    box.call.click()
    assert "no number" in box.form.buffer.fields["argsz"].message
    assert "Nothing was called" in box.message
    assert len(box.run.done) == 2


def test_memory_in_brackets_is_made_for_the_call_and_taken_back_with_it() -> None:
    box = opened("open device", "open kvm")
    call(box, 4, "KVM_CREATE_VM")
    call(box, 5, "KVM_CREATE_DEVICE")
    before = len(box.run.done)
    assert "→ 0" in call(box, 6, "KVM_SET_DEVICE_ATTR", addr="[int 3]")
    assert len(box.run.done) == before + 2
    box.undo.click()
    assert len(box.run.done) == before


@pytest.mark.parametrize(
    ("text", "made"), [("[int 3]", b"\3\0\0\0"), ("[zeros 2]", b"\0\0"), ("[01 ff]", b"\1\xff"), ("12", None)]
)
def test_brackets_say_what_is_in_memory(text: str, made: bytes | None) -> None:
    assert memory_of(text) == made


@pytest.mark.parametrize("text", ["[int x]", "[zeros 0]", "[zeros 99999999999]", "[]", "[0]", "[int 5000000000]"])
def test_memory_that_cannot_be_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        memory_of(text)


def test_bytes_are_read_as_people_write_them() -> None:
    assert bytes_of("0x03, 00 ff") == bytes_of("0300ff") == b"\3\0\xff"


# ---- a refused call


def test_a_refused_call_tells_errno_check_line_and_what_it_had_acquired() -> None:
    box = bound()
    box.call.click()
    for part in (
        "EINVAL",
        "not_bound_yet",
        "device_cdev.py",
        "await refuse_if(",
        "Already acquired",
        "vfio_device_set vfio0.lock",
    ):
        assert part in box.message
    assert "All of it was given back" in box.message


def test_a_call_that_is_not_modelled_says_so() -> None:
    box = opened("open kvm")
    call(box, 3, "KVM_CREATE_VM")
    call(box, 4, "KVM_CREATE_VCPU")
    choose(box, 5, "any other request")
    box.form.request.set(0xAE80)  # KVM_RUN
    box.call.click()
    assert "not modelled" in box.message


def test_an_oops_is_told_and_can_be_taken_back() -> None:
    box = opened("open device", "open iommufd", without=("fd_is_open",))
    box.form.fd.value = "another number"
    choose(box, "another number", "dup")
    box.call.click()
    assert "oops" in box.message
    box.undo.click()
    assert box.run.alive() == ["vmm"]


# ---- undo, redo, reset


def test_undo_and_redo_go_over_calls_and_hand_steps() -> None:
    box = racing()
    rows = list(box.schedule.rows.values())
    rows[0].buttons["1 step"].click()
    rows[0].buttons["1 effect"].click()
    there = box.run.machine.trace
    effects = len(box.run.machine.engine.micro)
    for _ in range(4):
        box.undo.click()
    assert not box.schedule.rows
    for _ in range(4):
        box.redo.click()
    assert box.run.machine.trace == there
    assert len(box.run.machine.engine.micro) == effects
    assert box.redo.disabled


def test_undo_with_nothing_to_take_back_is_disabled() -> None:
    box = opened("open device")
    box.undo.click()
    assert box.undo.disabled
    assert not box.redo.disabled


def test_reset_brings_the_beginning_and_redo_everything_back() -> None:
    box = bound()
    end = box.run.machine.trace
    box.reset.click()
    assert box.run.descriptors("vmm") == {}
    for _ in range(3):
        box.redo.click()
    assert box.run.machine.trace == end


# ---- you are the scheduler


def test_two_calls_are_interleaved_effect_by_effect() -> None:
    box = racing()
    first, second = box.schedule.rows.values()
    first.buttons["1 effect"].click()
    second.buttons["1 effect"].click()
    assert [entry[0].label for entry in box.run.machine.engine.micro[-2:]] == ["A", "B"]


def test_a_waiting_call_tells_for_what_and_who_has_it() -> None:
    box = racing()
    first, second = box.schedule.rows.values()
    while "device_set" not in first.next.value:
        first.buttons["1 step"].click()
    first.buttons["1 effect"].click()
    second.buttons["to the end"].click()
    assert "held by A" in second.next.value
    first.buttons["to the end"].click()
    second.buttons["to the end"].click()
    assert not box.schedule.rows
    assert "EINVAL" in box.message
    assert "→ <b>0</b>" in box.schedule.ended


def test_a_row_tells_what_its_call_does_next() -> None:
    box = racing()
    row = next(iter(box.schedule.rows.values()))
    assert "enter the kernel" in row.next.value
    row.buttons["1 step"].click()
    assert ".py:" in row.next.value


def test_a_name_of_a_thread_cannot_be_taken_twice() -> None:
    box = racing()
    box.thread.value = "A"
    box.call.click()
    assert "give this one another name" in box.message


def test_the_buttons_of_a_row_stay_the_same_while_its_call_runs() -> None:
    box = racing()
    row = next(iter(box.schedule.rows.values()))
    row.buttons["1 effect"].click()
    assert next(iter(box.schedule.rows.values())) is row


def test_a_process_that_is_killed_ends_when_its_call_has() -> None:
    box = racing()
    box.buttons["Kill"].click()
    assert "when its running calls have ended" in box.message
    for row in list(box.schedule.rows.values()):
        row.buttons["to the end"].click()
    assert box.run.alive() == []
    assert box.call.disabled


# ---- faults, protections


def test_what_can_fail_is_listed_and_fails() -> None:
    box = opened("open device", "open iommufd")
    box.fails.wanted.value = True
    box.fails.look.click()
    chosen = next(label for label, _ in box.fails.what.options if "iommufd_device" in label)
    box.fails.what.value = dict(box.fails.what.options)[chosen]
    box.call.click()
    assert "ENOMEM" in box.message
    assert "on purpose" in box.message
    assert box.fails.what.index == 0
    box.call.click()
    assert "→ 0" in box.message


def test_what_was_to_fail_in_a_call_that_cannot_be_made_fails_in_no_other() -> None:
    run = Run(Setup(Topology.named("small")))
    run.do(Failing(1), more=True)
    with pytest.raises(ValueError, match="no living process"):
        run.do(Called("nobody", "close", (3,)))
    assert run.done == []
    assert run.do(Called("vmm", "open", ("/dev/iommu", 2))).result == "3"


def test_a_process_that_waits_for_a_lock_at_its_end_is_told_and_taken_back() -> None:
    run = Run(Setup(Topology.named("small"), processes=("a", "b")))
    run.do(Called("b", "open", ("/dev/vfio/1", 2)))
    run.do(Called("a", "open", ("/dev/vfio/1", 2), by_hand=True))
    while not any(lock.path.endswith("group_lock") for lock in run.machine.calls[1].thread.locks):
        run.do(Moved(1))
    trace = run.machine.trace
    assert run.do(Killed("b")).waits
    run.undo()
    assert run.machine.trace == trace
    assert run.alive() == ["a", "b"]


def test_looking_what_can_fail_does_nothing() -> None:
    box = opened("open device", "open iommufd")
    before = box.run.machine.trace
    box.fails.wanted.value = True
    box.fails.look.click()
    assert box.run.machine.trace == before


def test_a_lock_is_taken_out_and_everything_is_done_again() -> None:
    box = bound()
    assert "group_lock" in box.machine_pane.without.text.options
    box.machine_pane.without.set("group_lock")
    box.machine_pane.take_out.click()
    assert len(box.run.done) == 3
    assert "taken out: acquire vfio_group 1.group_lock" in str([str(one) for one in box.run.machine.trace.micro])
    box.machine_pane.put_back.click()
    assert "taken out" not in str([str(one) for one in box.run.machine.trace.micro])


def test_calls_moved_by_hand_begin_anew_without_the_lock_and_the_schedule_is_replayed_when_asked_for() -> None:
    box = opened("open device", "open iommufd")
    box.when.value = "by hand"
    box.call.click()
    box.run.do(Moved(len(box.run.machine.calls) - 1, times=9))
    effects = len(box.run.machine.engine.micro)
    box.machine_pane.without.set("group_lock")
    box.machine_pane.take_out.click()
    assert box.run.running()
    assert not box.run.moved
    assert "press “Replay my schedule”" in box.message
    box.replay.click()
    assert len(box.run.machine.engine.micro) == effects
    assert box.replay not in box.next_calls.children


def test_a_lock_that_is_out_is_not_told_as_free_and_a_machine_to_begin_with_says_what_it_ends() -> None:
    box = opened("open device", "open iommufd")
    box.when.value = "by hand"
    box.shortcuts.buttons["open group"].click()
    box.form.turn_to(3, "VFIO_DEVICE_BIND_IOMMUFD", {})
    box.call.click()
    box.machine_pane.without.set("group_lock")
    box.machine_pane.take_out.click()
    told = box.schedule.shared.value.partition("group_lock</code>")[2].partition("</tbody>")[0]
    assert "taken out" in told
    assert "free" not in told
    for said in ("calls run at once, not by hand; group_lock is in the kernel again.", ""):
        box.presets.buttons["A card"].click()
        assert box.message.endswith(said)
        assert ("New here" in box.message) == bool(said)


def test_the_form_turns_to_a_new_file_only_where_no_call_is_named_to_try_and_says_so() -> None:
    box = opened()
    box.presets.buttons["A card"].click()
    box.shortcuts.buttons["open group"].click()
    assert (box.form.fd.value, box.form.what.label) == (3, "VFIO_DEVICE_BIND_IOMMUFD")
    assert box.hint.value.startswith("<b>Try:</b>")
    box = opened("open device", "open iommufd", "open group")
    assert box.form.fd.value == 5
    assert "<b>Next</b> is now on <code>5 → group1#1</code>." in box.hint.value
    box.call.click()
    assert "is now on" not in box.hint.value


def test_protections_can_be_chosen_before_any_call_and_what_is_none_is_not_taken_out() -> None:
    pane = Sandbox().machine_pane
    assert {"group_lock", "kvm_ref_lock"} <= {*pane.without.text.options}
    pane.without.set("group_lo")  # more may be typed
    assert pane.without.message == ""
    pane.without.set("group_luck")
    assert "There is no protection “group_luck”. Do you mean “group_lock”" in pane.without.message
    pane.take_out.click()
    assert pane.taken.value == ""
    pane.without.set("banana")
    assert "Choose one from the list" in pane.without.message
    pane.without.set("group_lock")
    assert pane.without.message == ""


def test_what_is_taken_out_is_told_while_the_machine_is_folded_away() -> None:
    box = Sandbox(without=("group_lock",))
    seen = [*box.children]
    for part in seen:  # and what is in them
        seen += getattr(part, "children", ())
    assert "Taken out of the kernel: <b>group_lock</b>" in box.machine_pane.taken.value
    assert box.machine_pane.taken in seen
    assert box.machine_pane.layout.display == "none"


def test_the_last_change_of_a_call_is_shown_first_in_the_sandbox_and_what_refused_it() -> None:
    box = bound(only=())
    assert box.trace_pane.trace[box.trace_pane.step - 1].sentence.startswith("The gate opens: a call")
    assert "The kernel wrote: out_devid = 1" in box.message
    box.call.click()
    assert box.trace_pane.trace.steps[box.trace_pane.step - 1].refused


def test_a_call_that_waits_is_not_told_as_one_that_succeeded_and_shares_nothing_with_itself() -> None:
    box = opened("open device")
    box.shortcuts.buttons["unbind driver"].click()
    assert '<div role="status" class="going">' in box.result.value
    assert "One call is under way" in box.schedule.shared.value
    assert "Keys: v is 1 effect of vmm:" in box.schedule.shared.value


def test_what_is_broken_is_said() -> None:
    box = opened("open device", "open iommufd", without=("group_is_closed", "no_device_bound"))
    box.call.click()
    assert box.broken.value == ""
    box.shortcuts.buttons["open group"].click()
    assert "is open and counts 1 of its devices as bound" in box.broken.value


# ---- the machine


def test_a_topology_and_a_kernel_can_be_chosen() -> None:
    box = Sandbox()
    box.machine_pane.unfold()
    box.machine_pane.topology.value = "lab"
    box.machine_pane.kernel.value = "v5"
    box.machine_pane.boot.click()
    assert box.run.machine.topology.name == "lab"
    box.shortcuts.buttons["open device"].click()
    box.shortcuts.buttons["open iommufd"].click()
    box.call.click()
    assert "→ 0" in box.message


def test_devices_can_be_added_changed_and_removed() -> None:
    box = Sandbox()
    box.machine_pane.unfold()
    for row in list(box.machine_pane.rows)[1:]:
        row.remove.click()
    box.machine_pane.add.click()
    box.machine_pane.rows[1].group.set(1)
    box.machine_pane.rows[1].name.set("twin")
    box.machine_pane.boot.click()
    assert [(spec.name, spec.group) for spec in box.run.machine.topology.devices] == [("nic", 1), ("twin", 1)]


@pytest.mark.parametrize(
    ("field", "value", "said"), [("name", "gpu", "two devices"), ("group", "x", "see what is said at group")]
)
def test_a_machine_that_cannot_be_is_told_beside_the_editor(field: str, value: str, said: str) -> None:
    box = opened("open device")
    box.machine_pane.unfold()
    getattr(box.machine_pane.rows[0], field).set(value)
    box.machine_pane.boot.click()
    assert said in box.machine_pane.message
    assert len(box.run.done) == 1


def test_a_driver_on_the_wrong_bus_is_refused() -> None:
    box = Sandbox()
    box.machine_pane.unfold()
    box.machine_pane.rows[0].driver.set("mtty")
    box.machine_pane.boot.click()
    assert "bus mdev" in box.machine_pane.message


def test_a_machine_without_devices_opens() -> None:
    box = Sandbox(Topology("none", ()))
    box.shortcuts.buttons["open device"].click()
    assert "nothing to choose" in box.message


def test_what_cannot_be_done_on_another_machine_is_told() -> None:
    box = bound()
    box.machine_pane.unfold()
    box.machine_pane.processes.set("other")
    box.machine_pane.replay.click()
    assert "Left out" in box.message
    assert box.run.alive() == ["other"]


@pytest.mark.parametrize("bad", [{"topology": "huge"}, {"kernel": "v9"}, {"processes": ("a", "a")}])
def test_a_sandbox_that_cannot_be_is_refused_in_one_sentence(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        Sandbox(**bad)  # type: ignore[arg-type]


# ---- code, save, load


def test_the_code_does_the_same_again() -> None:
    box = racing()
    list(box.schedule.rows.values())[1].buttons["1 step"].click()
    next(iter(box.schedule.rows.values())).buttons["to the end"].click()
    box.folds["Code, save, load"].value = True
    room: dict[str, object] = {}
    exec(box.save_pane.code.value, room)
    assert room["m"].trace == box.run.machine.trace  # type: ignore[attr-defined]


def test_what_is_saved_can_be_loaded_and_taken_back_step_by_step() -> None:
    box = racing()
    next(iter(box.schedule.rows.values())).buttons["1 step"].click()
    box.buttons["Fork"].click()
    box.save_pane.save.click()
    other = Sandbox()
    other.save_pane.saved.value = box.save_pane.saved.value
    other.save_pane.load.click()
    assert other.run.machine.trace == box.run.machine.trace
    other.undo.click()
    box.undo.click()
    assert other.run.machine.trace == box.run.machine.trace


def test_what_a_press_sends_to_the_page_holds_no_text_to_share() -> None:
    box = bound()
    data = box.trace_pane.player.data
    assert data["share"] is True
    assert PREFIX not in str(data)
    assert box.run.machine.trace.replay.startswith(PREFIX)


def test_a_file_keeps_a_run(tmp_path: object) -> None:
    box = bound()
    box.save_pane.file.set(f"{tmp_path}/run.txt")
    box.save_pane.to_file.click()
    other = Sandbox()
    other.save_pane.file.set(f"{tmp_path}/run.txt")
    other.save_pane.from_file.click()
    assert other.run.machine.trace == box.run.machine.trace


@pytest.mark.parametrize("text", ["", "hello", f"{PREFIX}nonsense", "{}"])
def test_a_text_that_is_no_run_is_refused_beside_it(text: str) -> None:
    box = bound()
    box.save_pane.saved.value = text
    box.save_pane.load.click()
    assert "did not work" in box.save_pane.message
    assert len(box.run.done) == 3


def test_a_file_that_is_not_there_is_told() -> None:
    box = Sandbox()
    box.save_pane.file.set("/nowhere/at/all")
    box.save_pane.from_file.click()
    assert "No such file" in box.save_pane.message


# ---- what is typed is looked at as it is typed


def fields_of_the_sandbox(box: Sandbox) -> dict[str, LabelledField]:
    """Each field in which a reader writes, by a name of it."""
    box.machine_pane.unfold()
    device, pane, shortcuts = box.machine_pane.rows[0], box.machine_pane, box.shortcuts
    assert box.form.buffer is not None
    return {
        **{name: getattr(device, name) for name in ("name", "address", "group", "driver", "vfs")},
        **{name: getattr(pane, name) for name in ("processes", "without")},
        **{name: getattr(shortcuts, name) for name in ("length", "new", "time")},
        "iommufd": box.form.buffer.fields["iommufd"],
        "raw": box.form.buffer.raw,
    }


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("address", "banana", "a PCI address is like 0000:01:00.0"),
        ("group", "banana", "is no number"),
        ("vfs", "65", "does not fit"),
        ("processes", "a b a", "two have one name"),
        ("without", "banana", "There is no protection"),
        ("length", "banana", "is no number"),
        ("time", "-5", "does not fit"),
        ("new", "vmm", "a living process is called vmm"),
        ("iommufd", "banana", "is no number"),
        ("raw", "banana", "two hexadecimal digits"),
    ],
)
def test_what_cannot_be_used_is_said_beside_the_field_as_it_is_typed_and_goes_when_it_is_right(
    field: str, typed: str, said: str
) -> None:
    found = fields_of_the_sandbox(opened("open device", "open iommufd"))[field]
    before = str(found.text.value)
    found.set(typed)
    assert said in found.message
    found.set(before)
    assert found.message == ""


@pytest.mark.parametrize(
    ("field", "typed"), [("group", ""), ("iommufd", "0x"), ("time", "-"), ("raw", "0"), ("driver", "vfio")]
)
def test_nothing_is_said_of_what_may_become_right_when_more_is_typed(field: str, typed: str) -> None:
    found = fields_of_the_sandbox(opened("open device", "open iommufd"))[field]
    found.set(typed)
    assert found.message == ""


def test_devices_that_do_not_go_together_are_told_as_they_are_edited() -> None:
    box = Sandbox()
    box.machine_pane.unfold()
    box.machine_pane.rows[0].driver.set("mtty")
    assert "bus mdev" in box.machine_pane.message
    box.machine_pane.rows[0].driver.set("vfio-pci")
    assert box.machine_pane.message == ""


# ---- names and clicks


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"', "x" * 1000, "a & b", "class"])
def test_names_stay_text(name: str) -> None:
    box = Sandbox()
    box.shortcuts.new.set(name)
    box.buttons["New process"].click()
    box.shortcuts.buttons["open device"].click()
    assert "<script>" not in box.table.value + box.result.value
    assert "<script>alert" not in box.static_html()
    assert name.strip() in box.run.machine.processes


def test_a_device_may_have_any_name() -> None:
    box = Sandbox(Topology("odd", (DeviceSpec("<script>" + "y" * 1000, "0000:01:00.0", 1, model="<b>"),)))
    box.shortcuts.buttons["open device"].click()
    assert "→ 3" in box.message
    assert "<script>yy" not in box.static_html()


def test_a_double_click_counts_once() -> None:
    clicks, done = ClickFilter(), []
    button = Sandbox().call
    now = datetime.now(UTC)
    for late in (0.0, 0.1, 1.0):
        clicks.press(button, now + timedelta(seconds=late), lambda: done.append(1))
    assert len(done) == 2


def test_a_click_that_was_made_during_a_run_is_ignored_and_told() -> None:
    told: list[int] = []
    clicks = ClickFilter(lambda: told.append(1))
    box = Sandbox()
    now = datetime.now(UTC)
    clicks.press(box.call, now, lambda: None)
    clicks.took = 5.0
    clicks.press(box.undo, now + timedelta(seconds=2), lambda: told.append(2))
    clicks.press(box.undo, now + timedelta(seconds=6), lambda: told.append(3))
    assert told == [1, 3]


def test_a_call_that_cannot_be_made_leaves_everything_as_it_was() -> None:
    run = Run(Setup(Topology.named("small")))
    with pytest.raises(ValueError, match="no living process"):
        run.do(Called("nobody", "close", (3,)))
    assert run.done == []


def test_a_still_picture_and_text_are_left_behind() -> None:
    bundle = bound(only=())._repr_mimebundle_()
    assert "vmm has open after the last step: 3 → vfio0#1 4 → iommu#1" in bundle["text/plain"]
    assert "vmm calls ioctl(3, VFIO_DEVICE_BIND_IOMMUFD)." in bundle["text/plain"]
    assert "<b>4</b> → iommu#1" in bundle["text/html"]
    (picture,) = re.findall(r'<img[^>]* src="data:image/svg\+xml,([^"]+)"', bundle["text/html"])
    assert {" vfio0", " vfio0#1", " iommu#1"} <= {*ET.fromstring(unquote(picture)).itertext()}


def test_every_button_and_field_says_what_it_is_for() -> None:
    box = racing()
    seen = []

    def walk(widget: object) -> None:
        for child in getattr(widget, "children", ()):
            seen.append(child)
            walk(child)

    walk(box)
    buttons = [each for each in seen if type(each).__name__ in ("Button", "FilteredButton", "ToggleButton")]
    assert len(buttons) > 40
    assert all(each.description and each.tooltip for each in buttons)
