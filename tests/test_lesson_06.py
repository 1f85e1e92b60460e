"""The lesson about groups: its own solutions are played, and typical wrong answers, through what a reader can press."""

from __future__ import annotations

import re

import pytest

from tests.cells import cells
from tests.conftest import ROOT
from tests.lesson_claims import ordered
from vfiosim import uapi
from vfiosim.lab import Exercise, Session, progress
from vfiosim.lab.alive import after
from vfiosim.lessons import groups as lesson
from vfiosim.lessons import misconceptions as M
from vfiosim.lessons.groups_calls import DOORS, owner, pair
from vfiosim.lessons.groups_cases import ORDERS
from vfiosim.lessons.groups_questions import CHECK

TEXT = "\n".join(cells(ROOT / "notebooks" / "06_groups_and_cdevs.ipynb", "markdown"))
ALL = {**lesson.LESSON.questions, **{question.name: question for question in CHECK}}
ANSWERS = {
    "two owners": "EPERM",
    "all orders": ("group, bind", "bind, group", "sibling, group"),
    "in the way": ("none", "vfio"),
    "give it back": "EBUSY",
    "how many?": "1",
    "06 check: one is left": "EBUSY",
    "06 check: a flag": "EPERM",
    "06 check: another kernel": ("container", "iommufd"),
    "06 check: the note": ("nodes", "shared", "driverless"),
}


@pytest.mark.parametrize("name", ALL)
def test_the_answers_are_those_that_the_explanations_give(name):
    assert ALL[name].experiment().answer == ANSWERS[name]


def test_what_is_told_about_the_orders_is_of_the_run_that_is_shown():
    said = lesson.predict("all orders")
    said.choice.none.value = True
    said.commit.click()
    shown = ORDERS["bind, group"].run().done[-1].outcome
    assert f"What this run shows: {shown.call} → EBUSY" in said.message
    assert said.stage.trace[-1].sentence == ORDERS["bind, group"].run().steps[-1].sentence


def test_each_of_several_wrong_ticks_is_told_what_is_wrong_about_it_the_shortest_first():
    said = lesson.predict("all orders")
    said.choice.value = ("group, bind", "both")
    said.commit.click()
    told = [ORDERS[name].because for name in ("bind, group", "sibling, group", "both")]
    assert sorted(told, key=said.message.index) == told == sorted(told, key=len)
    assert f"The steps of “{ORDERS['bind, group'].says}”" in said.message


def test_no_text_beside_a_question_answers_it():
    assert "no driver of the kernel does DMA in it" not in TEXT.partition("## Recap")[0]


def test_the_new_words_are_explained():
    assert {"*iommu group*", "*DMA owner*", "*viable*"} <= set(
        re.findall(r"\*[\w ]+\*", TEXT.partition("## Predict")[2])
    )


# ---- what the text says


def rows(html: str) -> list[list[str]]:
    return [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]


def test_a_group_and_its_nodes_shut_each_other_out_in_both_orders_and_no_open_node_shuts_anything():
    head, *lines = rows(lesson.matrix()._repr_html_())
    cell = {(first, then): said for first, *row in lines for then, said in zip(head[1:], row, strict=True)}
    assert head[1:] == [first for first, *_ in lines] == list(DOORS)
    for device in ("vfio1", "vfio2"):
        assert cell["open group 2", f"bind {device}"] == cell[f"bind {device}", "open group 2"] == "EBUSY"
        assert cell["open group 1", f"bind {device}"] == cell[f"bind {device}", "open group 1"] == "ok"
    assert {cell["open vfio1", then] for then in DOORS} == {cell[first, "open vfio1"] for first in DOORS} == {"ok"}
    assert list(cell.values()).count("EINVAL") == 2


def test_the_table_of_ways_says_who_owns_the_dma_and_where_a_disk_is_met():
    _, container, compat, nodes = (
        [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row[1:]] for row in rows(lesson.ways()._repr_html_())
    )
    assert container[:4] == ["1 × vfio_group 2"] * 4
    assert compat[:4] == nodes[:4] == ["nobody", "1 × iommufd_ctx 1", "2 × iommufd_ctx 1", "nobody"]
    assert container[4] == "EPERM at SET_CONTAINER; GET_STATUS says “not viable”"
    assert compat[4] == "EPERM at GET_DEVICE_FD; GET_STATUS says “viable”"
    assert nodes[4] == "EPERM at BIND"


def test_once_bound_and_not_attached_a_group_can_reach_nothing():
    session = Session(start=pair)
    session.bind(3, iommufd=5)
    assert session.machine.trace.end.objects["iommu_group 2"].value("domain") == "blocking domain"


def test_the_boxes_show_owners_drivers_and_doors():
    machine, program = lesson.computer()
    before = str(lesson.groups(machine))
    assert "group 2 DMA owner: nobody gpu · vfio1 driver vfio-pci" in before
    assert "DMA owner: kernel, for ahci" in before
    assert "sata · no node driver ahci /dev/vfio/3: can be opened" in before
    machine.process("admin").write_file("/sys/bus/pci/drivers/ahci/unbind", "0000:03:00.1")
    for device in (3, 4):
        program.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=5))
    after = str(lesson.groups(machine, 2, 3))
    assert "2 × iommufd_ctx 1 gpu · vfio1 · bound" in after
    assert "/dev/vfio/2: EBUSY , 2 of its devices bound" in after
    assert "group 3 DMA owner: nobody" in after
    program.close(3)
    program.close(4)
    group = program.open("/dev/vfio/2")
    assert "/dev/vfio/2: is open" in str(lesson.groups(machine, 2))
    program.close(group)


def test_the_change_that_the_text_proposes_is_refused_as_the_lesson_says():
    machine, program = lesson.computer()
    bind = uapi.VFIO_DEVICE_BIND_IOMMUFD
    program.ioctl(3, bind, uapi.VfioDeviceBindIommufd(iommufd=5))
    assert lesson.answer(program.ioctl, 4, bind, uapi.VfioDeviceBindIommufd(iommufd=6)).startswith("[EPERM]")
    assert "1 × iommufd_ctx 1" in str(lesson.groups(machine, 2))


def test_on_the_bench_each_bind_to_one_iommufd_adds_to_the_count_and_the_last_close_ends_it():
    bench = lesson.owners()
    session = bench.session
    bench.buttons["bind"].click()
    assert owner(session, 2) == ("iommufd_ctx 2", 1)
    bench.bind_fd.text.value = "3"
    bench.buttons["bind"].click()
    assert owner(session, 2) == ("iommufd_ctx 2", 2)
    bench.buttons["close"].click()
    assert owner(session, 2) == ("iommufd_ctx 2", 1)
    bench.buttons["open group 2"].click()
    assert "EBUSY" in bench.message
    bench.fd.text.value = "3"
    bench.buttons["close"].click()
    assert owner(session, 2) == ("", 0)
    bench.buttons["open group 2"].click()
    assert "→ 3" in bench.message


def test_a_table_is_kept_back_until_its_question_is_answered(tmp_path, monkeypatch):
    monkeypatch.setenv("VFIOSIM_PROGRESS", str(tmp_path / "progress.json"))
    kept = lesson.once_answered("all orders", lesson.matrix())
    assert "EBUSY" not in kept.message
    progress.record("06 all orders", False)
    assert "<table" in kept.static_html()
    assert "EBUSY" in kept.message


# ---- the tasks


def press(exercise: Exercise, *names: str) -> str:
    for name in names:
        exercise.bench.buttons[name].click()
    exercise.check.click()
    return exercise.message


def test_what_is_in_the_way_is_removed_in_three_calls():
    done = press(lesson.exercise(), "tool: close(3)", "admin: unbind sata", "bind")
    assert "✓ Solved. You needed 3 calls; it takes no fewer." in done


@pytest.mark.parametrize("asked", [1, 2])
def test_who_lets_the_errno_tell_is_compared_with_who_does_so_too(asked):
    exercise = lesson.exercise()
    assert "who first lets the kernel say what is wrong needs 5 calls" in exercise.moves.value
    done = press(exercise, *["bind"] * (asked - 1), "tool: close(3)", "bind", "admin: unbind sata", "bind")
    assert (
        f"You needed {3 + asked} calls. Who lets every errno tell needs 5, who knows it all beforehand needs 3." in done
    )
    assert "As long as the group's file is open" in done


def test_the_errno_tells_first_of_the_tool_then_of_the_disk():
    exercise = lesson.exercise()
    assert "The tool still has the group's file open" in press(exercise, "bind")
    assert "EBUSY" in exercise.bench.message
    press(exercise, "tool: close(3)", "bind")
    assert (
        "EPERM – iommu_group 3 is not viable: the DMA of device sata, which driver ahci has" in exercise.bench.message
    )
    assert "✓ Solved" in press(exercise, "admin: unbind sata", "admin: sata to vfio-pci", "bind")


def test_who_unbinds_the_own_device_waits_and_is_told_what_is_in_the_way():
    assert M.OWN_DRIVER_IS_ENOUGH.name in press(lesson.exercise(), "tool: close(3)", "admin: unbind usb")


def test_who_gives_the_disk_to_vfio_pci_while_it_has_its_driver_is_told_what_comes_first():
    exercise = lesson.exercise()
    assert "a driver gets only a device that has none" in press(exercise, "tool: close(3)", "admin: sata to vfio-pci")
    assert "a driver gets only" not in press(exercise, "admin: unbind sata")


def test_the_picture_of_two_programs_has_the_socket_between_them_and_the_message_in_it():
    bench = lesson.share().bench
    bench.buttons["sound: send 5"].click()
    drawn = bench.trace_pane.player.player.graph.nodes
    assert {"socket 1", "socket 2", "message 1"} <= {part for node in drawn for part in node.parts}
    rows = {node.oid: [int(row.cell) for row in node.rows] for node in drawn if node.kind == "fds"}
    assert rows == {"fds vmm": [3, 4, 5], "fds sound": [3, 4, 5]}


@pytest.mark.parametrize("sent", ["sound: send 3", "sound: send 5"])
def test_which_descriptor_a_bind_names_is_left_to_the_reader(sent):
    bench = lesson.share().bench
    assert (bench.bind_fd.read(), bench.struct["iommufd"].read()) == (4, 5)
    for name in (sent, "vmm: receive"):
        bench.buttons[name].click()
    assert 6 in bench.session.descriptors()
    assert (bench.bind_fd.read(), bench.struct["iommufd"].read()) == (4, 5)


def test_after_a_bind_the_picture_shows_the_owner():
    bench = lesson.owners()
    bench.buttons["bind"].click()
    stage = bench.trace_pane
    assert after(stage.trace, stage.step).objects["iommu_group 2"].fields["owner"] == "iommufd_ctx 2"
    assert f"The picture opened at step {stage.step} of {len(stage.trace)}, which changes owner_cnt" in bench.message


def test_a_hint_looks_at_what_was_already_done():
    exercise = lesson.exercise()
    exercise.hint.click()
    assert "Press bind , and read the sentence" in exercise.message
    press(exercise, "bind")
    assert "EBUSY: the group's file is open" in exercise.message
    press(exercise, "admin: unbind usb")
    assert "Take it back: Undo ." in exercise.message
    exercise.bench.undo.click()
    press(exercise, "tool: close(3)")
    assert "Press bind again, and" in exercise.message
    press(exercise, "bind")
    assert "EPERM: somebody else owns the DMA" in exercise.message
    press(exercise, "admin: unbind sata")
    assert "Nothing is in the way any more" in exercise.message


def test_no_table_breaks_a_word():
    assert all("overflow-wrap:normal" in cell for cell in re.findall(r"<t[dh] [^>]*>", lesson.ways()._repr_html_()))


def test_two_programs_share_a_group_when_they_share_its_owner():
    exercise = lesson.share()
    press(exercise, "sound: send 5", "vmm: receive")
    exercise.bench.struct["iommufd"].set(6)
    assert "✓ Solved. You needed 3 calls" in press(exercise, "bind")
    assert owner(exercise.bench.session, 2) == ("iommufd_ctx 1", 2)


def test_who_takes_both_files_and_kills_the_daemon_has_not_shared():
    exercise = lesson.share()
    press(exercise, "sound: send 3", "sound: send 5", "vmm: receive", "vmm: receive", "kill sound")
    exercise.bench.struct["iommufd"].set(7)
    assert "The sound daemon is gone" in press(exercise, "bind")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("bind",), "wanted: open_count of vfio_device vfio1 is 1; now: it is 0"),
        (("kill sound", "bind"), "The sound daemon is gone"),
        (("sound: send 3", "vmm: receive"), "What the VMM needs is not the daemon's device, but the owner of the DMA."),
    ],
)
def test_other_ways_leave_one_program_without_its_device(names, said):
    assert said in press(lesson.share(), *names)


@pytest.mark.parametrize(
    "keys",
    [
        ("close 3", "group", "container", "put", "type", "device"),
        ("container", "close 4", "close 3", "group", "put", "type", "device"),
    ],
)
def test_the_old_way_has_several_right_orders(keys):
    assert "✓ Right." in ordered(lesson.order(), *keys)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("group",), "vfio1 is bound still"),
        (("close 3", "group", "container", "type"), "A container without a group has no kind"),
        (
            ("close 3", "group", "container", "put", "device"),
            "The group gives no device before its container has a kind",
        ),
    ],
)
def test_the_old_way_in_a_wrong_order_is_told_what_is_missing(keys, said):
    assert said in ordered(lesson.order(), *keys)
