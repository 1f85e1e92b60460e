"""What the puzzles around iommufd objects and ownership show beside their proof, and that the search sees all they rest on."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.searches import beside, broken, protected
from vfiosim import Machine, replay, uapi
from vfiosim.explore import explore
from vfiosim.kernel.base import Device
from vfiosim.kernel.iommufd.iommufd_private import IommufdObject
from vfiosim.machine import Call as Running
from vfiosim.puzzles import PUZZLES
from vfiosim.puzzles.iommufd import DEVICE, IOAS, TABLE
from vfiosim.puzzles.lifetimes import UNBIND
from vfiosim.puzzles.ownership import BY_GROUP, BY_NODE, GROUP_FD
from vfiosim.puzzles.programs import CTX, DEV, NODE, Call, ask, bind, make
from vfiosim.uapi import KernelError


def errno_of(machine: Machine, *call: object) -> str:
    with pytest.raises(KernelError) as caught:
        make(machine, call)
    return caught.value.name


def wrong(name: str, way: int = 0) -> list[str]:
    return [witness.what for witness in broken(name, way).violations]


def destroy(number: int) -> tuple[Any, ...]:
    return ask(uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=number))


# ---- R9: opened while the driver leaves


def leaving(**own: Any) -> tuple[Machine, int, Running]:
    """A machine where a program has the device open, by this descriptor, and the driver waits for that."""
    machine = PUZZLES["R9"].setup()
    machine.patch(**own)
    fd = machine.processes["vmm"].open(NODE)
    _, name, *arguments = UNBIND
    unbind = machine.processes["admin"].start(name, *arguments)
    assert unbind.state == "blocked"
    return machine, fd, unbind


def test_if_the_node_stayed_overlapping_opens_would_keep_the_driver_waiting_however_many_there_are():
    machine, fd, unbind = leaving(**PUZZLES["R9"].faulty)
    vmm = machine.processes["vmm"]
    for _ in range(5):
        fd, before = vmm.open(NODE), fd
        vmm.close(before)
        assert unbind.state == "blocked"
    vmm.close(fd)
    assert unbind.value() == 12


def test_the_node_goes_before_the_driver_waits_so_nobody_new_is_waited_for():
    machine, fd, unbind = leaving()
    assert errno_of(machine, "vmm", "open", NODE) == "ENOENT"
    machine.processes["vmm"].close(fd)
    assert unbind.value() == 12


# ---- R12: used while the address space is destroyed


@beside("R12")
def test_a_destroy_that_was_refused_for_a_moment_leaves_a_machine_in_order():
    witness = protected("R12").outcome(A="EBUSY, 0", B="0, ENOENT")
    assert witness is not None
    assert witness.machine.check() == []


def test_a_destroy_of_what_is_attached_is_refused_however_often_it_is_tried():
    machine = PUZZLES["R18"].setup()
    assert [errno_of(machine, *destroy(IOAS)) for _ in range(2)] == ["EBUSY", "EBUSY"]


def test_a_process_that_has_to_wait_for_its_own_end_does_not_stop_the_search():
    puzzle = PUZZLES["R12"]
    attach = uapi.VfioDeviceAttachIommufdPt(argsz=12, pt_id=IOAS)
    programs = {"A": [destroy(IOAS)] * 2, "B": [ask(uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach, DEV)]}
    result = explore(puzzle.setup, programs, [], ["object_is_unused"])
    assert result.complete
    assert any(one.what == "use after free: A#2 touches iommufd_ioas 2.mutex" for one in result.violations)


# ---- R13: two files of one device, two VMs


@beside("R13")
def test_with_a_second_vm_the_first_one_is_counted_for_ever():
    assert any(
        "vfio_device vfio0 holds kvm 1 and points to it no longer: nobody will give that back" in what
        for what in wrong("R13")
    )


# ---- R14: closed while a call uses the device


def held_by_a_call(machine: Machine, number: int) -> Running:
    """A question about a device or an address space, stopped when it has the object."""
    info = uapi.IommuHwInfo(dev_id=number)
    ranges = uapi.IommuIoasIovaRanges(ioas_id=number)
    question = (uapi.IOMMU_IOAS_IOVA_RANGES, ranges) if number == IOAS else (uapi.IOMMU_GET_HW_INFO, info)
    call = machine.processes["vmm"].start("ioctl", CTX, *question, run=False, thread="question")
    while not holds(machine, number, "users") or call.thread.locks:
        call.step()
    return call


def holds(machine: Machine, number: int, count: str) -> bool:
    """Does a running call hold the object with this ID?"""
    found = [
        thing for thing in machine.engine.objects.values() if isinstance(thing, IommufdObject) and thing.id == number
    ]
    return any(reason == "running call" for _, reason in getattr(found[0], count).held)


def test_a_close_waits_for_a_call_that_uses_the_device():
    machine = PUZZLES["R14"].setup()
    question = held_by_a_call(machine, DEVICE)
    close = machine.processes["vmm"].start("close", DEV)
    assert "waits for iommufd_device 1.wait_cnt" in close.waits_for
    question.run()
    assert (question.state, close.value()) == ("done", 0)
    assert machine.check() == []


@pytest.mark.parametrize(("way", "shortest"), [(0, 46), (1, 92)])
def test_a_close_leaves_the_device_behind_because_of_a_new_page_table_alone_too(way, shortest):
    puzzle = PUZZLES["R14"]
    without, faulty = puzzle.ways[way]
    programs = {**puzzle.programs(), "B": puzzle.programs()["B"][1:]}
    assert explore(puzzle.setup, programs, puzzle.properties[:1]).verdict == "safe"
    found = explore(puzzle.setup, programs, puzzle.properties[:1], without, patches=faulty).violations
    assert min(len(one) for one in found if puzzle.happens in one.what) == shortest


def test_after_a_minute_a_close_goes_on_and_the_device_stays_bound():
    machine = PUZZLES["R14"].setup()
    held_by_a_call(machine, DEVICE)
    close = machine.processes["vmm"].start("close", DEV)
    machine.sleep(60_000)
    assert close.value() == 0
    assert "warning: iommufd_device 1 is still in use, so it is left behind" in machine.check()


def test_the_minute_is_found_by_the_search_too_where_time_may_run_out():
    result = PUZZLES["R14"].explore(timeouts=1)
    left = [one for one in result.violations if one.what.startswith("warning: ")]
    assert [(one.what, len(one)) for one in left] == [
        ("warning: iommufd_device 1 is still in use, so it is left behind", 47)
    ]
    assert left[0].what in replay(left[0].replay).machine.check()
    assert "m.sleep(60000)" in left[0].code


def test_after_a_minute_a_destroy_gives_up_too():
    machine = PUZZLES["R14"].setup()
    question = held_by_a_call(machine, IOAS)
    while holds(machine, IOAS, "users"):
        question.step()
    assert holds(machine, IOAS, "wait_cnt")
    taking = machine.processes["vmm"].start("ioctl", *destroy(IOAS)[2:])
    assert taking.state == "blocked"
    machine.sleep(60_000)
    assert isinstance(taking.error, KernelError)
    assert taking.error.name == "EBUSY"


# ---- R15: one group, two ways in


def test_while_the_device_is_open_through_the_group_only_the_same_iommufd_can_have_its_neighbour():
    machine = PUZZLES["R15"].setup()
    vmm = machine.processes["vmm"]
    other = vmm.open("/dev/iommu")
    vmm.close(GROUP_FD)
    assert errno_of(machine, *bind("vmm", BY_NODE, other)) == "EPERM"
    make(machine, bind("vmm", BY_NODE, CTX))
    assert errno_of(machine, "vmm", "open", "/dev/vfio/2") == "EBUSY"
    assert machine.check() == []  # no rule of 7.2 is broken: the rule is the puzzle's own


def test_the_device_itself_cannot_be_bound_once_more_through_its_node():
    machine = PUZZLES["R15"].setup()
    vmm = machine.processes["vmm"]
    node = vmm.open("/dev/vfio/devices/vfio1")
    vmm.close(GROUP_FD)
    assert errno_of(machine, *bind("vmm", node, CTX)) == "EINVAL"
    vmm.close(BY_GROUP)
    make(machine, bind("vmm", node, CTX))


# ---- R16: a kernel driver takes a neighbour


@beside("R16")
@pytest.mark.parametrize("way", [0, 1], ids=PUZZLES["R16"].without)
def test_the_search_sees_two_sides_with_the_dma_at_the_moment_when_they_have_it(way):
    both = [what for what in wrong("R16", way) if "at the same time" in what]
    assert any(not what.startswith("at rest") for what in both)


@beside("R1")
def test_what_is_broken_while_calls_run_is_not_listed_once_more_at_rest():
    assert [what.partition(" is open")[0] for what in wrong("R1")] == ["vfio_group 1"]


# ---- R18: an automatic page table is named while it goes


def table_left_behind() -> Machine:
    """The shortest counterexample, played on to the end of both calls."""
    shortest = broken("R18", 0).counterexample
    assert shortest is not None
    machine = replace(shortest).machine  # one of its own
    for call in list(machine.pending):
        call.run()
    return machine


@beside("R18")
def test_an_address_space_whose_table_is_left_behind_stays_busy_until_the_table_is_destroyed_by_its_id():
    machine = table_left_behind()
    assert errno_of(machine, *destroy(IOAS)) == "EBUSY"
    make(machine, destroy(TABLE), destroy(IOAS))
    assert machine.check() == []


@beside("R18")
def test_what_is_left_behind_goes_with_the_iommufd():
    machine = table_left_behind()
    machine.processes["vmm"].close(DEV)
    machine.processes["vmm"].close(CTX)
    assert not [oid for oid in machine.engine.objects if oid.startswith("iommufd_")]


def attach(table: int, dev: int) -> Call:
    return ask(uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(argsz=12, pt_id=table), dev)


GPU, HDMI, ITS_OWN = 5, 6, 6  # descriptors of two devices of one group, and the ID of the table that one is attached to


def with_a_busy_group(trace: bool = True) -> Machine:
    """The same, and a second group that is attached to a page table of its own, so that it can have no other."""
    machine = PUZZLES["R18"].setup(trace)
    for node in ("vfio1", "vfio2"):
        machine.processes["vmm"].open(f"/dev/vfio/devices/{node}")
    own = ask(uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc(dev_id=ITS_OWN - 1, pt_id=IOAS))
    return make(machine, bind("vmm", GPU), bind("vmm", HDMI), own, attach(ITS_OWN, HDMI))


BITMAP = uapi.IommuHwptGetDirtyBitmap(hwpt_id=TABLE, length=4096, page_size=4096)
NAME_THE_TABLE: dict[str, tuple[Call, int]] = {
    "its written pages": (ask(uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, BITMAP), 65),
    "a table over it": (ask(uapi.IOMMU_HWPT_ALLOC, uapi.IommuHwptAlloc(dev_id=DEVICE, pt_id=TABLE)), 69),
    "forgetting": (ask(uapi.IOMMU_HWPT_INVALIDATE, uapi.IommuHwptInvalidate(hwpt_id=TABLE)), 59),
    "an attach by its ID": (attach(TABLE, GPU), 71),
    "an attach that tries it": (attach(IOAS, GPU), 75),
}


@pytest.mark.parametrize(("call", "shortest"), NAME_THE_TABLE.values(), ids=NAME_THE_TABLE)
def test_every_call_that_holds_the_table_for_a_moment_leaves_it_behind_and_the_repair_covers_them_all(call, shortest):
    puzzle = PUZZLES["R18"]
    setup = with_a_busy_group if call[2] == GPU else puzzle.setup
    search = partial(explore, setup, {**puzzle.programs(), "B": [call]}, puzzle.properties[:1])
    as_it_is, mended = search(), search(patches=puzzle.fixes)
    assert as_it_is.counterexample is not None
    assert puzzle.happens in as_it_is.counterexample.what
    assert len(as_it_is.counterexample) == shortest
    assert (mended.verdict, mended.complete) == ("safe", True)


def test_who_has_the_mutex_of_the_address_space_cannot_be_the_one_to_destroy_the_table():
    half = {"iommufd_put_object": PUZZLES["R18"].fixes["iommufd_put_object"]}
    programs = {**PUZZLES["R18"].programs(), "B": [attach(IOAS, GPU)]}
    found = explore(with_a_busy_group, programs, [], patches=half).violations
    assert any(one.what == "deadlock: B waits for iommufd_ioas 2.mutex, held by itself" for one in found)


# ---- R23: a bus is reset


def test_a_bus_is_in_reset_for_a_while_and_another_thread_can_see_it():
    machine = PUZZLES["R23"].setup()
    owner = machine.processes["owner"]
    reset = owner.start("ioctl", DEV, uapi.VFIO_DEVICE_PCI_HOT_RESET, uapi.VfioPciHotReset(argsz=12), run=False)
    devices = [thing for thing in machine.engine.objects.values() if isinstance(thing, Device)]
    seen = []
    while reset.step():
        seen.append(tuple(device.in_reset.value for device in devices))
    assert (True, True) in seen
    assert seen[0] == seen[-1] == (False, False)
    assert reset.value() == 0


# ---- R8: on the list and off it


@beside("R8")
def test_a_file_that_is_told_its_vm_without_the_lock_may_be_gone_by_then():
    assert PUZZLES["R8"].ways[1][1] == PUZZLES["R8"].faulty
    gone = [
        one
        for one in broken("R8", 1).violations
        if one.what.startswith("use after free: A touches vfio_device_file 1.")
    ]
    assert min(map(len, gone)) == 68


# ---- R20: a device goes while its virtual device is destroyed


@beside("R20")
def test_a_device_that_waits_for_nobody_is_gone_while_its_virtual_device_still_lets_go_of_it():
    assert PUZZLES["R20"].ways[1][1] == PUZZLES["R20"].faulty
    assert "use after free: B touches iommufd_device 3.wait_cnt" in wrong("R20", 1)
