"""What a trace tells, as claims; on a toy kernel, and once on the real one."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from tests.toys import (
    House,
    hold,
    kill,
    lose_key,
    make_key,
    open_door,
    point_at,
    unlock_what_is_not_locked,
    wait_until_left,
)
from vfiosim import Machine, uapi
from vfiosim.engine import Engine
from vfiosim.museum import ROOMS
from vfiosim.puzzles import PUZZLES
from vfiosim.trace import Changed, Recorder, Reference, Trace, snapshot
from vfiosim.uapi import KernelError


@pytest.fixture
def house() -> House:
    return House()


def contended() -> House:
    """Two threads want one door: ann has its lock when bob comes; bob is refused."""
    house = House()
    ann, bob = house.start(open_door(house.door), "ann"), house.start(open_door(house.door), "bob")
    for _ in range(4):
        house.engine.step(ann)
    for thread in (bob, ann, bob):
        house.engine.run(thread)
    return house


def bound() -> Machine:
    machine = Machine()
    vmm = machine.process("vmm")
    device, iommufd = vmm.open("/dev/vfio/devices/vfio0"), vmm.open("/dev/iommu")
    vmm.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
    vmm.close(device)
    return machine


def sentences(trace: Trace) -> list[str]:
    return [step.sentence for step in trace]


# ---- steps


def test_the_steps_of_a_call_are_what_its_code_says(house: House) -> None:
    house.run(make_key(house.person, house.door))
    assert sentences(house.trace) == [
        "person ann wants a key for door front.",
        "A key is made, and holds door front.",
        "The key goes on the ring.",
    ]
    assert [step.phase for step in house.trace] == ["validate", "acquire", "publish"]


def test_a_step_tells_its_line_and_the_kernel_function_that_it_mirrors(house: House) -> None:
    house.run(make_key(house.person, house.door))
    step = house.trace[1]
    assert step.source == "key = await alloc(Key)"
    assert step.where == f"tests/toys.py:{step.line}"
    assert (step.kernel_function, step.kernel_file, step.kernel_tag) == ("make_key", "doors/key.c", "v7.2")


def test_a_step_tells_what_is_different_after_it(house: House) -> None:
    house.run(make_key(house.person, house.door))
    assert house.trace[1].changes == (
        Changed("key 1", None, "alive"),
        Changed("tag 1", None, "alive"),
        Changed("key 1.tag", None, "tag 1"),
        Changed("door front.users", 0, 1),
    )
    assert [str(change) for change in house.trace[2].changes] == [
        "person ann.keys[1]: None → key 1",
        "key 1.held: 0 → 1",
    ]


def test_what_a_step_does_and_undoes_is_no_change(house: House) -> None:
    house.run(open_door(house.door))
    house.run(make_key(house.person, house.door))
    house.run(lose_key(house.person, house.door, 1))
    assert [str(change) for change in house.trace[-1].changes] == [
        "person ann.keys[1]: key 1 → None",
        "key 1.held: 1 → None",
        "door front.users: 1 → 0",
        "tag 1 is freed",
        "key 1 is freed",
    ]


def test_a_refusal_is_a_step_of_its_own_with_its_errno_and_its_reason(house: House) -> None:
    house.run(open_door(house.door))
    house.run(open_door(house.door))
    trace = house.trace
    said, refused, back = trace.steps[-3:]
    assert (said.sentence, said.refused, trace.micro_of(said.index)) == ("Nobody may be inside.", "", ())
    assert refused.sentence == "Refused with EBUSY: somebody is inside."
    assert (refused.refused, refused.phase, refused.changes) == ("EBUSY", "validate", ())
    assert (back.phase, [change.what for change in back.changes]) == ("unwind", ["door front.lock"])
    assert house.trace.calls[-1].ended == "fails with EBUSY"


def test_another_thread_is_another_step_and_the_first_one_goes_on(house: House) -> None:
    ann, bob = (
        house.start(make_key(house.person, house.door), "ann"),
        house.start(point_at(house.door, house.person), "bob"),
    )
    for _ in range(4):
        house.engine.step(ann)
    house.engine.run(bob)
    house.engine.run(ann)
    assert [step.thread for step in house.trace] == ["ann", "ann", "bob", "ann", "ann"]
    assert house.trace[3].sentence == "ann goes on: A key is made, and holds door front."


def test_a_thread_that_must_wait_says_for_what_and_who_has_it() -> None:
    trace = contended().trace
    waits = next(step for step in trace if step.waits)
    assert waits.sentence == "Take the lock of door front. bob waits for door front.lock, held by ann."
    assert (waits.phase, waits.source) == ("lock", "async with door.lock:")
    [waiting] = trace.state(waits.index).waiting()
    assert (waiting.thread, waiting.path, waiting.holders) == ("bob", "door front.lock", ("thread ann",))
    assert trace.end.waiting() == []


def test_a_thread_that_waits_for_a_signal_waits_for_nobody_by_name(house: House) -> None:
    house.run(wait_until_left(house.door))
    assert house.trace[-1].sentence == "Nobody may be left. ann waits for door front.left."


def test_an_oops_is_a_step(house: House) -> None:
    house.run(unlock_what_is_not_locked(house.door))
    assert house.trace[-1].refused == "oops"
    assert house.trace[-1].sentence.startswith("Oops: ann unlocks door front.lock")
    assert house.trace.calls[-1].ended.startswith("oops: ")


def test_calls_tell_their_name_their_steps_and_their_end() -> None:
    trace = contended().trace
    assert [(call.thread, call.name, call.ended) for call in trace.calls] == [
        ("ann", "Open door front.", "returns 0"),
        ("bob", "Open door front.", "fails with EBUSY"),
    ]
    assert {step.thread for step in trace[trace.calls[0].steps]} == {"ann", "bob"}


@pytest.mark.parametrize(
    "text",
    [
        "load door front.opened → 0",
        "alloc key 1",
        "get door front.users for key 1 (opens it)",
        "xa_alloc person ann.keys[1] = key 1",
        "put key 1.held for person ann (key 1) → that was the last one",
        "acquire door front.lock",
        "refuse_if [nobody_inside] passed",
        "refuse_if [nobody_inside] refused → EBUSY",
        "free tag 1",
    ],
)
def test_an_effect_can_be_read(house: House, text: str) -> None:
    house.run(make_key(house.person, house.door))
    house.run(lose_key(house.person, house.door, 1))
    house.run(open_door(house.door))
    house.run(open_door(house.door))
    assert text in [micro.text for micro in house.trace.micro]


# ---- states


def test_the_trace_knows_the_state_after_every_effect_as_it_was() -> None:
    machine = Machine()
    vmm = machine.process("vmm")
    device, iommufd = vmm.open("/dev/vfio/devices/vfio0"), vmm.open("/dev/iommu")
    bind = uapi.VfioDeviceBindIommufd(iommufd=iommufd)
    call = vmm.start("ioctl", device, uapi.VFIO_DEVICE_BIND_IOMMUFD, bind, run=False)
    seen = []
    while call.step():
        seen.append(snapshot(machine.engine).objects)
    trace = machine.trace
    last = trace.micro[-1].index
    assert trace.end.objects == snapshot(machine.engine).objects
    for back, objects in enumerate(reversed(seen), 1):
        assert trace.at_micro(last - back).objects == objects


def test_the_states_of_all_steps_are_those_that_are_asked_for_one_by_one() -> None:
    trace = bound().trace
    for number, state in enumerate(trace.states()):
        assert state == trace.state(number - 1)


def test_asking_often_gives_the_same_trace_as_asking_once(house: House) -> None:
    seldom = Recorder(house.engine)
    thread = house.start(make_key(house.person, house.door), "ann")
    while house.engine.step(thread):
        assert house.trace.end.objects == snapshot(house.engine).objects
    house.run(open_door(house.door))
    assert house.trace == Trace.of(seldom)


def test_all_that_an_engine_did_can_be_asked_for_afterwards(house: House) -> None:
    house.run(make_key(house.person, house.door))
    assert Trace.of(house.engine) == house.trace


def test_a_state_has_cells_counts_with_their_holders_and_pointers(house: House) -> None:
    house.run(make_key(house.person, house.door))
    house.run(point_at(house.door, house.person))
    end = house.trace.end
    assert end.objects["key 1"].counts == {"held": {("person ann", "key 1"): 1}}
    assert end.objects["door front"].fields == {"owner": "person ann", "opened": 0}
    assert list(end.references()) == [
        Reference("counted", "key 1", "door front", "users", "opens it"),
        Reference("weak", "door front", "person ann", "owner", "owner"),
        Reference("counted", "person ann", "key 1", "held", "key 1"),
        Reference("owns", "key 1", "tag 1", "tag", "tag"),
    ]


def test_a_difference_names_births_deaths_references_and_values(house: House) -> None:
    house.run(make_key(house.person, house.door))
    house.run(lose_key(house.person, house.door, 1))
    grown = house.trace.diff(-1, 2)
    assert (grown.born, grown.died, len(grown.gained), grown.lost) == (("key 1", "tag 1"), (), 3, ())
    assert Changed("door front.users", 0, 1) in grown.changed
    gone = house.trace.diff(2, 3)
    assert (gone.born, gone.died, gone.gained, len(gone.lost)) == ((), ("key 1", "tag 1"), (), 3)


def test_an_object_that_came_from_outside_appears_when_something_happens_to_it(house: House) -> None:
    late = type(house.person)(house.engine, "late")
    house.run(hold(house.door.users, late, "looks at it"))
    house.run(kill(late))
    assert [change.what for change in house.trace[0].changes] == ["person late", "door front.users"]
    assert "person late" not in house.trace.end.objects


# ---- the trace as data


def test_a_trace_survives_json() -> None:
    for trace in (bound().trace, contended().trace):
        again = Trace.from_json(json.loads(json.dumps(trace.to_json())))
        assert again == trace
        assert again.end == trace.end


def test_a_part_of_a_trace_is_a_trace() -> None:
    trace = bound().trace
    part = trace[trace.calls[3].steps]
    first = trace.calls[3].steps.start
    assert [step.index for step in part] == list(range(len(part)))
    assert sentences(part) == sentences(trace)[trace.calls[3].steps]
    for number in range(-1, len(part)):
        assert part.state(number) == trace.state(first + number)
    assert Trace.from_json(part.to_json()) == part
    assert sentences(part[2:5]) == sentences(part)[2:5]


def test_an_empty_part_has_the_state_before_it() -> None:
    trace = bound().trace
    assert len(trace[4:4]) == 0
    assert trace[4:4].end == trace.state(3)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda trace: pickle.loads(pickle.dumps(trace))])
def test_a_trace_that_was_copied_or_pickled_tells_the_same_and_can_be_shared(again: Callable[[Trace], Trace]) -> None:
    trace = bound().trace
    same = again(trace)
    assert (same.end, same.replay, same[2:5].replay) == (trace.end, trace.replay, trace.replay)
    assert again(Trace(trace.start, (), ())).replay == ""


def test_what_is_not_there_is_told(house: House) -> None:
    house.run(make_key(house.person, house.door))
    with pytest.raises(IndexError, match="there is no step 3; this trace has 3, counted from 0"):
        house.trace.state(3)
    with pytest.raises(IndexError, match="there is no micro-step 99"):
        house.trace.at_micro(99)
    with pytest.raises(ValueError, match="no gaps"):
        house.trace[::2]
    with pytest.raises(ValueError, match="keeps no journal"):
        Recorder(Engine(trace=False))


def test_braces_in_a_sentence_are_filled_in_order_and_never_fail(house: House) -> None:
    from vfiosim.engine import Phase, load, say

    async def talk() -> None:
        say(Phase.VALIDATE, "{} and {} and {}", house.door, 3)
        await load(house.door.opened)

    house.run(talk())
    assert house.trace[0].sentence == "door front and 3 and {}"


def test_a_use_after_free_is_a_step_of_its_own_that_the_player_finds():
    found = PUZZLES["R5"].explore(["kvm_ref_lock"]).counterexample
    assert found is not None
    step = found.trace[-1]
    assert step.refused == "use after free"
    assert step.sentence == "Use after free: A touches kvm 1.users_count."


def test_what_goes_on_after_a_warning_is_told_apart_from_it():
    trace = ROOMS["backend-switch"].trace.trace
    warned = next(step for step in trace if step.refused == "warning")
    assert warned.sentence.startswith("Warning: vfio_group 4 gives up a use of its container")
    assert warned.first == warned.last


def test_a_broken_invariant_is_the_last_step_of_the_way_to_it():
    found = PUZZLES["R1"].explore(["group_lock"]).counterexample
    assert found is not None
    broken = found.trace[-1]
    assert broken.refused == "broken"
    assert broken.sentence == "vfio_group 1 is open and counts 1 of its devices as bound through a node."
    assert broken.first > broken.last == found.trace.micro[-1].index
    assert found.trace.state(-1 + len(found.trace)) == found.machine.trace.end
    assert Trace.from_json(found.trace.to_json()) == found.trace


@pytest.mark.parametrize("name", ROOMS)
def test_the_way_into_every_bug_of_the_museum_has_a_step_that_says_what_is_wrong(name):
    way = ROOMS[name].trace
    told = [step.sentence.casefold() for step in way.trace if step.refused]
    assert [one for one in told if ROOMS[name].happens.casefold() in one] == [told[-1]]


def test_what_a_step_says_already_is_not_said_again():
    found = PUZZLES["R4"].explore(*PUZZLES["R4"].ways[0]).counterexample
    assert found is not None
    assert [step.refused for step in found.trace if step.refused] == ["oops"]


def test_a_run_in_which_nothing_breaks_has_no_such_step():
    outcome = next(iter(PUZZLES["R1"].explore().outcomes.values()))
    assert "broken" not in {step.refused for step in outcome.trace}


# ---- where it is in the kernel


@pytest.mark.parametrize(
    "wrong", [{"iommufd": 4, "argsz": 8}, {"iommufd": 4, "flags": 2}, {"iommufd": -1}, {"iommufd": 777}]
)
def test_a_refused_step_names_the_kernel_function_that_the_error_names(wrong):
    machine = Machine()
    program = machine.process("vmm")
    device, _ = program.open("/dev/vfio/devices/vfio0"), program.open("/dev/iommu")
    with pytest.raises(KernelError) as refused:
        program.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(**wrong))
    step = next(step for step in machine.trace if step.refused)
    assert refused.value.kernel == f"{step.kernel_function} ({step.kernel_file}, {step.kernel_tag})"


def test_a_step_on_a_line_of_a_helper_names_the_kernel_function_that_runs():
    machine = Machine()
    program = machine.process("vmm")
    device, iommufd = program.open("/dev/vfio/devices/vfio0"), program.open("/dev/iommu")
    program.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
    checks = [step for step in machine.trace if step.function in ("read_bind_argument", "copy_growing", "bind_locked")]
    assert {step.kernel_function for step in checks} == {"vfio_df_ioctl_bind_iommufd"}
