"""Every room of the museum: the bug is there, its repair is a repair, and a student can find and prove one."""

import pytest

from tests.searches import NO_SECOND_GET, ONLY_THE_PUT, beside, each_room, printed
from vfiosim.assets import asset
from vfiosim.conformance import check, load
from vfiosim.engine import kernel
from vfiosim.museum import ROOMS, Room
from vfiosim.museum.compared import HAND_WRITTEN, differing

every = each_room()
in_turn = each_room(days=3)
alive = each_room(room for room in ROOMS.values() if room.alive)


@every
def test_a_room_shows_the_shortest_way_into_its_bug(room: Room) -> None:
    assert room.happens in room.trace.what
    assert len(room.trace.trace) > 0


@in_turn
def test_with_the_repair_no_schedule_goes_wrong_and_the_recordings_are_answered_as_before(room: Room) -> None:
    proof = room.prove()
    assert proof.clean, str(proof)
    assert set(proof.changed or ()) <= set(room.recordings)


@every
def test_the_bug_itself_is_no_repair(room: Room) -> None:
    proof = room.prove(*(room.mine(room.source(name)) for name in room.to_mend), first=True)
    assert proof.refuted
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


@beside("failed-second-bind")
def test_half_a_repair_is_found_out_by_the_third_file() -> None:
    room = room_of_the_second_bind()
    assert room.prove(room.mine(ONLY_THE_PUT), first=True).refuted


@beside("failed-second-bind")
def test_a_repair_that_never_gives_the_vm_back_is_found_out() -> None:
    room = room_of_the_second_bind()
    never = room.mine("async def vfio_device_put_kvm(device):\n    return None\n")
    proof = room.prove(never, room.mine(NO_SECOND_GET))
    assert proof.refuted
    assert "kvm" in proof.result.violations[0].what


@beside("mapped-into-itself")
def test_a_repair_that_refuses_devices_only_still_lets_an_iommufd_be_mapped_into_itself() -> None:
    room = ROOMS["mapped-into-itself"]
    held = "    async with cleanup(fput, file):\n"
    refuses = (
        '        await refuse_if(file.label.startswith("vfio"), Errno.EINVAL, "no_device", "a device is no memory")\n'
    )
    proof = room.prove(room.mine(room.source().replace(held, held + refuses)), first=True)
    assert proof.refuted
    assert "the iommufd must go with its last descriptor." in str(proof)


@beside("pasid-zero")
def test_a_repair_that_changes_nothing_but_answers_in_other_recorded_scenarios_is_found_out() -> None:
    room = ROOMS["pasid-zero"]
    first = "    idev = await load(device.iommufd_device)\n"
    refuses_two = room.source().replace(
        first, "    await refuse_if(pasid in (0, 2), Errno.EINVAL, 'no', 'never')\n" + first
    )
    proof = room.prove(room.mine(refuses_two))
    assert (proof.result.violations, proof.lost, proof.unasked) == ([], (), ("f-pasid-two",))
    assert proof.refuted
    assert "answered in another way now: f-pasid-two." in str(proof)


@beside("failed-second-bind")
def test_what_goes_wrong_already_is_not_compared_with_the_recordings() -> None:
    room = room_of_the_second_bind()
    proof = room.prove(room.mine(ONLY_THE_PUT))
    assert (proof.refuted, proof.changed) == (True, None)
    assert "Not compared with the recorded kernel." in str(proof)


@beside("pasid-zero")
def test_only_what_calls_a_function_is_compared_and_the_others_would_be_answered_alike() -> None:
    name = "vfio_iommufd_physical_pasid_attach_ioas"
    patches = {name: ROOMS["pasid-zero"].repair[name]}
    recordings = [load(asset(f"records/{one}.json.gz")) for one in HAND_WRITTEN]
    reports = [report for one in recordings for report in check(one, patches=patches).scenarios]
    assert list(differing(patches)) == [report.name for report in reports if report.differences]
    assert len(reports) > 200


@beside("pasid-zero")
def test_a_proof_that_is_to_stop_at_the_first_thing_does_so_and_finds_no_less_where_nothing_is_wrong() -> None:
    room = ROOMS["pasid-zero"]
    useless = room.mine(f"async def {room.to_mend[0]}(device, pasid, pt_id):\n    return 0\n")
    all_, one = room.prove(useless), room.prove(useless, first=True)
    assert (all_.refuted, one.refuted) == (True, True)
    assert len(one.lost) + len(one.result.violations) == 1 < len(all_.lost) + len(all_.result.violations)
    assert room.prove(first=True, recordings=False).clean


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


def test_a_kernel_function_of_somebody_s_own_beside_it_is_in_nobody_s_way() -> None:
    @kernel("drivers/test.c")
    async def one_that_stands_in_another() -> None:
        """Do nothing."""

    room = room_of_the_second_bind()
    name = next(iter(room.repair))
    assert room.mine(room.source(name)).name == name


def test_a_function_that_the_bug_is_not_in_has_no_source_to_mend() -> None:
    with pytest.raises(ValueError, match="the bug is not in 'vfio_df_open'"):
        room_of_the_second_bind().source("vfio_df_open")


@pytest.mark.parametrize("name", ["pasid-zero", "replace-that-detaches", "token-of-a-failed-bind"])
def test_the_code_of_a_room_with_a_rule_of_its_own_prints_what_is_wrong(name: str) -> None:
    trace = ROOMS[name].trace
    assert trace.what in printed(trace.code)
