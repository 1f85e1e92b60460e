"""Things that fail on purpose: in one call, in every call in turn, and what a failure leaves behind."""

from __future__ import annotations

import itertools
import json
import re
from functools import cache

import pytest

from tests.calls import counts
from tests.good_calls import CALLS
from tests.turns import turns
from vfiosim import KernelError, Machine, replay, uapi
from vfiosim.engine import FUNCTIONS, INJECTED
from vfiosim.explore import Sweep, faultable, sweep
from vfiosim.kernel.callbacks import CALLBACKS
from vfiosim.machine import decode, encode
from vfiosim.puzzles.unwinding import KERNELS_OWN, R25, SLIPS, own
from vfiosim.uapi import Errno

SWEPT = pytest.mark.xdist_group("all failures of all calls")

NODE = "/dev/vfio/devices/vfio0"


@pytest.fixture
def m() -> Machine:
    return Machine()


def failure(call, *arguments) -> KernelError:
    with pytest.raises(KernelError) as caught:
        call(*arguments)
    return caught.value


def bind_argument(iommu: int) -> uapi.VfioDeviceBindIommufd:
    return uapi.VfioDeviceBindIommufd(iommufd=iommu)


# ---- one call


def test_the_next_call_fails_where_it_was_asked_to_and_only_that_one(m, p):
    before = counts(m)
    m.fail_next(1)
    error = failure(p.open, NODE)
    assert (error.name, error.check) == ("ENOMEM", INJECTED)
    assert "xa_alloc fds.fd" in error.sentence
    assert (counts(m), m.check()) == (before, [])
    assert p.open(NODE) == 3


def test_a_number_behind_the_last_point_lets_the_call_succeed(m, p):
    m.fail_next(99)
    assert p.open(NODE) == 3


def test_a_driver_that_refuses_to_open_its_device_may_say_what_it_likes(m, p):
    dev, iommu = p.open(NODE), p.open("/dev/iommu")
    plan = m.fail_next(8, Errno.ENODEV)
    error = failure(p.ioctl, dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, bind_argument(iommu))
    assert error.name == "ENODEV"
    assert plan.met[-1].what == "vfio_pci_open_device()"
    assert error.kernel.startswith("vfio_df_device_first_open")


def test_a_call_that_waits_to_begin_can_be_chosen(m, p):
    first, second = (p.start("open", NODE, run=False) for _ in range(2))
    m.fail_next(1, call=second)
    assert (first.run().result, second.run().error.name) == (3, "ENOMEM")


def test_a_call_that_has_begun_cannot_be_chosen_any_more(m, p):
    call = p.start("open", NODE, run=False)
    call.step()
    with pytest.raises(ValueError, match="has begun"):
        m.fail_next(1, call=call)


def test_what_fails_is_counted_from_one(m):
    with pytest.raises(ValueError, match="there is no -1"):
        m.fail_next(-1)


def test_to_look_for_what_can_fail_changes_no_effect(m, p):
    twin = Machine()
    q = twin.process("vmm")
    twin.fail_next(0)
    assert p.open(NODE) == q.open(NODE)
    assert m.trace == twin.trace


def test_a_branch_fails_where_the_first_machine_did(m, p):
    m.fail_next(3)
    failure(p.open, NODE)
    assert m.branch(-1).trace == m.trace


def test_a_shared_run_fails_where_the_first_one_did(m, p):
    m.fail_next(3, Errno.ENOMEM)
    failure(p.open, NODE)
    assert decode(encode(m), {})[0].trace == m.trace


def test_what_fails_goes_together_with_what_is_taken_out(m, p):
    dev, iommu = p.open(NODE), p.open("/dev/iommu")
    taken_out = m.take_out("vfio_device_set.lock")
    m.fail_next(9)
    assert failure(p.ioctl, dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, bind_argument(iommu)).name == "EFAULT"
    assert taken_out.missing() == []
    assert not [step for step in m.trace.micro if step.text.startswith("acquire vfio_device_set")]


def test_each_callback_is_a_kernel_function():
    assert set(CALLBACKS) <= set(FUNCTIONS)


def test_wherever_a_bind_fails_all_that_it_gives_back_stands_in_steps_of_unwinding():
    ended, number = "EFAULT", 0
    while ended != "0":
        machine, (process, call, *arguments) = CALLS["bind_plain"]()
        number, before = number + 1, len(machine.trace)
        machine.fail_next(number)
        try:
            ended = str(getattr(machine.processes[process], call)(*arguments))
        except KernelError:
            refused, *rest = [*itertools.dropwhile(lambda step: not step.refused, machine.trace[before:])]
            assert refused.changes == ()
            assert {step.phase for step in rest} == {"unwind"}
    assert number == 10


# ---- every failure of every call


@cache
def swept(name: str) -> Sweep:
    made = {}

    def factory() -> Machine:
        machine, made["call"] = CALLS[name]()
        return machine

    return sweep(factory, lambda machine: made["call"])


# Exactly these calls of the table leave something behind, each after these failures.
LEFT = {
    "a_second_bind_is_refused_while_the_first_has_a_vm": {"single_open"},
    "a_second_bind_is_refused_and_has_a_vm_of_its_own": {"single_open"},
    "bind_with_a_token": {
        "vfio_iommufd_physical_bind()",
        "alloc iommufd_group",
        "__iommu_take_dma_ownership()",
        "alloc iommufd_device",
        "xa_alloc iommufd_ctx.objects",
        "vfio_pci_open_device()",
        "copy_to_user 4 bytes",
    },
    "replace_an_address_space": {"copy_to_user 4 bytes"},
    "replace_emulated": {"copy_to_user 4 bytes"},
    "attach_a_pasid": {"copy_to_user 4 bytes"},
    "device_info_emulated": {"copy_to_user 16 bytes"},
    "unmap_dma": {"copy_to_user 24 bytes"},
    "unmap_the_middle_of_a_mapping_by_iommufd": {"alloc iopt_area", "copy_to_user 24 bytes"},
    "ioas_map": {"copy_to_user 40 bytes"},
    "ioas_map_for_a_device": {"copy_to_user 40 bytes"},
    "ioas_map_file": {"copy_to_user 40 bytes"},
    "ioas_copy": {"copy_to_user 40 bytes"},
    "ioas_unmap": {"copy_to_user 24 bytes"},
    "set_option": {"copy_to_user 8 bytes"},
    "create_kvm_device": {"copy_to_user 12 bytes"},
}


@SWEPT
@pytest.mark.parametrize("name", [*LEFT, *turns([name for name in CALLS if name not in LEFT], days=3)])
def test_after_every_failure_everything_is_as_before_but_for_what_the_kernel_itself_leaves(name):
    found = swept(name)
    assert found.complete
    assert [str(leak) for point, leak in found.leaks if own(point, leak) is None] == []
    assert {point.what for point, _ in found.leaks} == LEFT.get(name, set())


@SWEPT
def test_each_entry_of_the_table_of_the_kernel_is_met():
    met = {own(point, leak) for name in LEFT for point, leak in swept(name).leaks}
    assert met == set(KERNELS_OWN)


@SWEPT
def test_a_call_can_succeed_in_spite_of_a_failure():
    assert {tried.point.what for tried in swept("a_second_group_into_a_container").points if tried.survived} == {
        "iommu_attach_group()"
    }


@SWEPT
def test_what_a_failed_call_may_change_is_named():
    last = swept("bind_plain").points[-1]
    assert (last.point.what, last.ended, last.leaks) == ("copy_to_user 4 bytes", "EFAULT", ())
    assert [words.partition(":")[0] for words in last.allowed] == ["vfio_device_file 1.devid is 1 instead of 0"]


def test_a_call_that_waits_cannot_be_swept():
    def factory() -> Machine:
        machine = Machine()
        machine.process("vmm").socketpair()
        return machine

    with pytest.raises(ValueError, match="does not end by itself"):
        sweep(factory, ("vmm", "recvmsg_fds", 3))


def test_what_can_fail_is_a_list_with_lines_and_sentences():
    points = faultable(R25.setup, R25.programs()["A"][0])
    last = points[-1]
    assert (last.number, last.errno, last.what, last.function) == (9, "EFAULT", "copy_to_user 4 bytes", "publish_devid")
    assert last.line.startswith("vfiosim/kernel/vfio/device_cdev.py:")
    assert last.sentence == "out_devid = 1 is written into the caller's struct."
    assert [point.errno for point in points if point.number == 8] == ["EIO", "ENODEV"]


# ---- slips


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.function.__name__)
def test_a_slip_in_the_unwinding_of_a_bind_is_named(slip):
    found = R25.sweep(patches=slip.patches)
    assert slip.leaks in {leak.what for _, leak in found.leaks}


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.name)
def test_the_shortest_way_to_a_slip_tells_in_words_who_took_what_nobody_gave_back_and_what_failed_and_replays(slip):
    witness = R25.explore((), slip.patches).counterexample
    assert witness is not None
    assert re.search(
        r", taken by \w+ \(vfiosim/\S+\.py( \(\w+\))?:\d+\)\. Nobody did this: .+\. What failed: .+ with E[A-Z]+ ",
        witness.what,
    )
    assert witness.replay.startswith("R25 faulty")
    assert replay(witness.replay).trace.micro == witness.trace.micro


def test_a_sweep_obeys_its_limits_and_says_which_it_was():
    call = R25.programs()["A"][0]
    assert sweep(R25.setup, call, failures=2).limit == "2 failures are tried, and there are more"
    assert sweep(R25.setup, call, seconds=0).limit == "0 seconds are over, and there are more failures"
    stopped = sweep(R25.setup, call, stop=lambda: True)
    assert (stopped.complete, stopped.limit, len(stopped.points)) == (False, "it was stopped", 1)
    found = R25.explore(schedules=3)
    assert (found.verdict, found.schedules, found.limit) == (
        "unfinished",
        3,
        "3 failures are tried, and there are more",
    )


def test_a_leak_names_the_line_that_acquired_and_where_it_is_given_back_otherwise():
    slip = SLIPS[1]
    leak = next(leak for _, leak in R25.sweep(patches=slip.patches).leaks if leak.what == slip.leaks)
    assert (leak.function, leak.said) == (
        "take_iommufd",
        "Descriptor 4 must be an iommufd; the binding holds its file from now on.",
    )
    assert leak.missing == "put file iommu#1.f_ref for vfio_device_file 1 (bound to it)"
    assert leak.where.endswith("(fput)")


def test_a_sweep_is_text_and_data():
    found = R25.sweep(patches=SLIPS[0].patches)
    assert str(found).splitlines()[0].endswith("s).")
    assert "missing:  vfio_group 1.cdev_device_open_cnt = 0" in str(found)
    data = json.loads(json.dumps(found.to_json()))
    assert data["complete"] is True
    assert data["points"][-1]["leaks"][0]["what"] == SLIPS[0].leaks


def test_a_failure_that_leaves_something_can_be_looked_at_step_by_step():
    witness = R25.explore((), SLIPS[0].patches).counterexample
    assert witness is not None
    assert [step.refused for step in witness.trace if step.refused] == ["ENODEV", "broken"]
    assert len(witness.trace.micro) == len(witness)
    assert witness.replay == "R25 faulty at 3 ENODEV: A58"
