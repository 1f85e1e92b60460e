"""A room of the museum in the lab: its buttons, as a reader presses them."""

import asyncio
import threading

import pytest

from tests.searches import NO_SECOND_GET, ONLY_THE_PUT
from vfiosim.lab import RoomView, room
from vfiosim.museum import ROOMS


@pytest.fixture
def second_bind() -> RoomView:
    return room("failed-second-bind")


def write(view: RoomView, name: str, text: str) -> None:
    view.which.value = name
    view.editor.value = text


def test_the_recording_and_the_shortest_way_are_shown_at_a_press_and_hidden_at_the_next(second_bind):
    second_bind.recording.click()
    table, raw = second_bind.shown.value.split("<details>")
    assert "<td>VFIO_DEVICE_BIND_IOMMUFD on 7 (dev2): iommufd = 6 (iommu)</td><td><b>refused: EINVAL</b></td>" in table
    assert "ioctl($dev2, VFIO_DEVICE_BIND_IOMMUFD" in raw
    second_bind.way.click()
    shown = len(second_bind.children)
    second_bind.way.click()
    assert len(second_bind.children) == shown - 1


def test_half_a_repair_is_not_mended_and_the_run_that_shows_it_is_on_the_stage(second_bind):
    write(second_bind, "vfio_device_put_kvm", ONLY_THE_PUT)
    second_bind.prove.click()
    assert "✕ Not mended." in second_bind.message
    assert len(second_bind.children[-1].trace) > 0
    assert "✕ Broken: " in second_bind.message
    write(second_bind, "vfio_device_put_kvm", ONLY_THE_PUT.replace("kvm_put_kvm(", "kvm_put_kvn("))
    second_bind.prove.click()
    assert "<code>kvm_put_kvn</code>" in second_bind.problem.value
    assert second_bind.children[-1] is second_bind.help.slot, "no picture of the attempt before"


USELESS = "async def iopt_map_file_pages(ictx, iopt, iova, fd, start, length, prot):\n    return 0\n"
MUST_WORK = "MAP_FILE of a file of memory must still succeed, and UNMAP give its pages back."


def test_what_must_work_is_said_before_anybody_writes_and_what_no_longer_does_afterwards_with_its_run_on_the_stage():
    view = room("mapped-into-itself")
    assert any(MUST_WORK in getattr(child, "value", "") for child in view.children)
    assert MUST_WORK in view.static_html()
    write(view, "iopt_map_file_pages", USELESS)
    view.prove.click()
    assert "✕ Not mended." in view.message
    assert f"{MUST_WORK} With your function: IOMMU_IOAS_UNMAP answers ENOENT, not 0." in view.message
    assert any("unmap" in str(step).lower() for step in view.children[-1].trace.steps)


def test_a_proof_that_is_under_way_ends_with_a_reset(second_bind):
    async def page() -> None:
        before = {*threading.enumerate()}
        second_bind.prove.click()
        await asyncio.sleep(0.1)
        assert "Proving:" in second_bind.message
        (worker,) = {*threading.enumerate()} - before
        second_bind.again.click()
        assert not second_bind.prove.disabled
        worker.join(10)
        assert not worker.is_alive()

    write(second_bind, "vfio_device_put_kvm", ONLY_THE_PUT)
    write(second_bind, "vfio_df_get_kvm_safe", NO_SECOND_GET)
    asyncio.run(page())


def test_nothing_changed_is_said(second_bind):
    second_bind.prove.click()
    assert "Nothing is changed as yet" in second_bind.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("async def vfio_device_put_kvm(device) pass", "is no Python"),
        ("async def vfio_device_put_kvm(device):\n    return 1 / 0", "division by zero"),
    ],
)
def test_a_mistake_is_said_beside_the_button(second_bind, text, says):
    write(second_bind, "vfio_device_put_kvm", text)
    second_bind.prove.click()
    assert says in second_bind.message


ENDLESS = "async def vfio_device_put_kvm(device):\n    while True:\n        pass\n"
NO_END_ELSEWHERE = """
    if await load(df.device.open_count) == 0 and await load(df.kvm) is None and df.oid != "vfio_device_file 1":
        while True:
            pass
"""


def test_a_reader_mends_the_bug_and_sees_it_proved_after_a_function_that_did_not_come_to_an_end(second_bind):
    write(second_bind, "vfio_device_put_kvm", ENDLESS)
    second_bind.prove.click()
    assert "your function vfio_device_put_kvm runs on and on, and awaits no effect (line 2" in second_bind.message
    assert "Not compared with the recorded kernel" in second_bind.message
    write(second_bind, "vfio_device_put_kvm", ONLY_THE_PUT)
    write(second_bind, "vfio_df_get_kvm_safe", NO_SECOND_GET)
    second_bind.prove.click()
    assert "✓ Mended." in second_bind.message
    assert "✓ Safe" in second_bind.message
    assert "(e.g." not in second_bind.message
    assert "The hand-written recordings of the real kernel are answered as before" in second_bind.message
    assert second_bind.proof is not None
    assert second_bind.proof.clean


def test_one_that_comes_to_no_end_only_in_a_recorded_call_is_told_too(second_bind):
    write(second_bind, "vfio_device_put_kvm", ONLY_THE_PUT)
    write(second_bind, "vfio_df_get_kvm_safe", NO_SECOND_GET + NO_END_ELSEWHERE)
    second_bind.prove.click()
    assert "Your function vfio_df_get_kvm_safe runs on and on, and awaits no effect" in second_bind.message
    assert not second_bind.prove.disabled


def test_reset_brings_the_faulty_function_back(second_bind):
    write(second_bind, "vfio_device_put_kvm", "x")
    second_bind.prove.click()
    second_bind.again.click()
    assert second_bind.message == ""
    assert second_bind.editor.value == ROOMS["failed-second-bind"].source("vfio_device_put_kvm")


def test_hint_and_repair_are_given_when_asked_for(second_bind):
    second_bind.hint.click()
    assert "A call that fails gives back what it took" in second_bind.message
    second_bind.solution.click()
    assert "+++ b/vfio_device_put_kvm" in second_bind.message


def test_the_solution_can_be_put_into_the_editor_proved_and_taken_out_again():
    view = room("pasid-zero")
    [name] = view.room.to_mend
    useless = f"async def {name}(device, pasid, pt_id):\n    return 0\n"
    write(view, name, useless)
    view.prove.click()
    assert view.apply not in view.buttons.children
    view.solution.click()
    assert view.apply in view.buttons.children
    view.apply.click()
    assert view.editor.value == view.room.mended(name)
    view.prove.click()
    assert "✓ Mended." in view.message
    assert "You had opened the solution, so this does not count yet." in view.message
    view.apply.click()
    assert view.editor.value == useless


def test_while_a_proof_runs_it_is_said_so(second_bind):
    said = []
    second_bind.verdict.observe(lambda change: said.append(change["new"]), "value")
    write(second_bind, "vfio_device_put_kvm", ONLY_THE_PUT)
    second_bind.prove.click()
    assert any("Proving: every schedule is run" in one for one in said)
    assert "Proving" not in second_bind.message


@pytest.mark.parametrize("name", ROOMS)
def test_every_room_can_be_shown_without_widgets(name):
    view = room(name)
    bundle = view._repr_mimebundle_()
    assert ROOMS[name].title in bundle["text/plain"]
    assert "async def" in bundle["text/html"]


def test_a_room_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match="the museum has no room 'nowhere'; it has failed-second-bind"):
        room("nowhere")
