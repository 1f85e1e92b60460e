"""Every room of the museum: the bug is there, its repair is a repair, and a student can find and prove one."""

import pytest

from tests.test_puzzles_tell import printed
from vfiosim.museum import ROOMS, Room

every = pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS.keys())
alive = pytest.mark.parametrize("room", [room for room in ROOMS.values() if room.alive], ids=lambda room: room.name)


@every
def test_a_room_shows_the_shortest_way_into_its_bug(room: Room) -> None:
    assert room.happens in room.trace.what
    assert len(room.trace.trace) > 0


@every
def test_with_the_repair_no_schedule_goes_wrong_and_the_recordings_are_answered_as_before(room: Room) -> None:
    proof = room.prove()
    assert proof.clean, str(proof)
    assert set(proof.changed or ()) <= set(room.recordings)


@every
def test_the_bug_itself_is_no_repair(room: Room) -> None:
    proof = room.prove(*(room.mine(room.source(name)) for name in room.to_mend), recordings=False)
    assert not proof.clean
    assert "NOT mended" in str(proof)


@every
def test_the_repair_is_a_small_patch(room: Room) -> None:
    changed = [line for line in room.patch().splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert 0 < len(changed) <= 30


@alive
def test_a_bug_that_is_alive_was_recorded(room: Room) -> None:
    assert "→" in room.recorded()


def test_a_recording_is_told_with_the_numbers_that_its_descriptors_had() -> None:
    told = room_of_the_second_bind().recorded_in_words()
    assert told[8] == ("open /dev/vfio/devices/‹pci0›", "descriptor 7 (dev2)")
    assert told[11:14] == [
        ("look at kvm_live: how many VMs are alive", "kvm_live = 1"),
        ("VFIO_DEVICE_BIND_IOMMUFD on 7 (dev2): iommufd = 6 (iommu)", "refused: EINVAL"),
        ("look at kvm_live: how many VMs are alive", "kvm_live = 0"),
    ]


@alive
def test_every_recorded_call_is_told(room: Room) -> None:
    assert len(room.recorded_in_words()) == room.recorded().count("→")


def test_the_recording_of_the_failed_second_bind_counts_the_vms() -> None:
    assert room_of_the_second_bind().recorded().count("kvm_live = 0") == 2


def room_of_the_second_bind() -> Room:
    return ROOMS["failed-second-bind"]


ONLY_THE_PUT = '''
async def vfio_device_put_kvm(device):
    """Only who closes the device last gives its VM back."""
    if await load(device.open_count) == 0:
        kvm = await load(device.kvm)
        if kvm is not None:
            await kvm_put_kvm(kvm, device, BOUND_FOR)
            await store(device.kvm, None)
'''
NO_SECOND_GET = '''
async def vfio_df_get_kvm_safe(df):
    """Only the first open of the device takes a VM."""
    async with df.kvm_ref_lock:
        if await load(df.device.open_count) == 0:
            await vfio_device_get_kvm_safe(df.device, await load(df.kvm))
'''


def test_a_student_mends_it_with_two_functions_of_his_own() -> None:
    room = room_of_the_second_bind()
    proof = room.prove(room.mine(ONLY_THE_PUT), room.mine(NO_SECOND_GET))
    assert proof.clean, str(proof)
    assert "Safe" in str(proof)


def test_half_a_repair_is_found_out_by_the_third_file() -> None:
    room = room_of_the_second_bind()
    assert not room.prove(room.mine(ONLY_THE_PUT), recordings=False).clean


def test_a_repair_that_never_gives_the_vm_back_is_found_out() -> None:
    room = room_of_the_second_bind()
    never = room.mine("async def vfio_device_put_kvm(device):\n    return None\n")
    proof = room.prove(never, room.mine(NO_SECOND_GET), recordings=False)
    assert not proof.clean
    assert "kvm" in proof.result.violations[0].what


def test_a_repair_that_changes_other_answers_is_found_out() -> None:
    room = ROOMS["pasid-zero"]
    refuses_all = "async def vfio_iommufd_physical_pasid_attach_ioas(device, pasid, pt_id):\n"
    refuses_all += "    await refuse_if(True, Errno.ENODEV, 'no', 'never')\n    return 0\n"
    proof = room.prove(room.mine(refuses_all))
    assert not proof.clean
    assert proof.unasked


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("async def vfio_device_put_kvm(device:\n    pass", "line 1 is no Python"),
        ("x = 1", "write one `async def` and nothing else"),
        ("async def another(device):\n    pass", "must keep its name"),
        ("async def vfio_device_put_kvm(device, more):\n    pass", "takes device"),
        ("def vfio_device_put_kvm(device):\n    pass", "write one `async def`"),
    ],
)
def test_text_that_is_no_version_of_the_function_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        room_of_the_second_bind().mine(text)


def test_a_function_that_the_bug_is_not_in_has_no_source_to_mend() -> None:
    with pytest.raises(ValueError, match="the bug is not in 'vfio_df_open'"):
        room_of_the_second_bind().source("vfio_df_open")


@pytest.mark.parametrize("name", ["pasid-zero", "replace-that-detaches", "token-of-a-failed-bind"])
def test_the_code_of_a_room_with_a_rule_of_its_own_prints_what_is_wrong(name: str) -> None:
    trace = ROOMS[name].trace
    assert trace.what in printed(trace.code)
