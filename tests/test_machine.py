"""Machines and processes: calls that wait, calls that kill, second machines that branch off, students' own functions."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.calls import add, vm
from vfiosim import Blocked, KernelError, KernelOops, Machine, Unsupported, uapi
from vfiosim.engine import refuse_if
from vfiosim.uapi import Errno

BIND = uapi.VFIO_DEVICE_BIND_IOMMUFD


def bind_argument(iommu: int) -> uapi.VfioDeviceBindIommufd:
    return uapi.VfioDeviceBindIommufd(iommufd=iommu)


def step_until_lock(call, lock) -> None:
    while lock.holder is None:
        assert call.step()


@pytest.fixture
def half_bound(m, p):
    """A process whose BIND stands in the middle, under the lock of the device set."""
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    call = p.start("ioctl", dev, BIND, bind_argument(iommu), run=False)
    step_until_lock(call, m.built.vfio_devices["pci0"].dev_set.lock)
    return call


# ---- calls that wait


def test_a_started_call_has_done_nothing_yet(m, p):
    call = p.start("open", "/dev/iommu", run=False)
    assert (call.state, call.result, call.error) == ("ready", None, None)
    assert not any("iommufd_ctx" in oid for oid in m.engine.objects)
    assert call.run().result == 3
    assert any("iommufd_ctx" in oid for oid in m.engine.objects)


def test_a_synchronous_call_that_cannot_go_on_says_what_it_waits_for_and_stays_alive(m, half_bound):
    other = m.process("other")
    dev, iommu = other.open("/dev/vfio/devices/vfio0"), other.open("/dev/iommu")
    with pytest.raises(Blocked, match=r"waits for vfio_device_set vfio0\.lock, held by vmm:3") as caught:
        other.ioctl(dev, BIND, bind_argument(iommu))
    call = caught.value.call
    assert call.state == "blocked"
    assert call.waits_for == "other:3 waits for vfio_device_set vfio0.lock, held by vmm:3"
    half_bound.run()
    assert half_bound.result == 0
    assert isinstance(call.error, KernelError)  # it went on, and found the device taken
    assert call.error.check == "single_open"
    assert m.check() == []


def test_the_second_argument_of_a_waiting_call_is_written_when_it_goes_on(m, half_bound):
    other = m.process("other")
    dev, iommu = other.open("/dev/vfio/devices/vfio1"), other.open("/dev/iommu")
    argument = bind_argument(iommu)
    waiting = other.start("ioctl", dev, BIND, argument, run=False)
    assert argument.out_devid == 0
    waiting.run()
    assert argument.out_devid == 1
    half_bound.run()


def test_closing_the_file_under_a_running_bind_unbinds_only_after_it(m, p, half_bound):
    assert any(oid.startswith("vfio_device_file") for oid in m.engine.objects)
    p.close(3)
    assert m.built.vfio_devices["pci0"].open_count.value == 0
    half_bound.run()
    assert half_bound.result == 0
    assert m.built.vfio_devices["pci0"].open_count.value == 0  # the running call held the file; then it was released
    assert m.check() == []
    assert not any(oid.startswith("vfio_device_file") for oid in m.engine.objects)


# ---- calls that kill


def test_an_oops_kills_the_process_and_leaves_its_locks_held(m, p):
    async def broken(df):
        await refuse_if(False, Errno.EINVAL, "never", "never")
        raise KernelOops("BUG: the driver went wrong")

    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    with m.patched(vfio_df_open=broken), pytest.raises(KernelOops, match="the driver went wrong"):
        p.ioctl(dev, BIND, bind_argument(iommu))
    assert not p.task.alive.value
    assert m.built.vfio_devices["pci0"].dev_set.lock.holder is not None
    assert any("oops" in line for line in m.check())
    other = m.process("other")
    dev, iommu = other.open("/dev/vfio/devices/vfio0"), other.open("/dev/iommu")
    with pytest.raises(Blocked, match=r"vfio_device_set vfio0\.lock"):
        other.ioctl(dev, BIND, bind_argument(iommu))


# ---- branches


def test_a_branch_stands_where_the_trace_stood_and_goes_on_differently(m, p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    p.ioctl(dev, BIND, bind_argument(iommu))
    before = next(step.index for step in m.trace if "is blocked" in step.sentence) - 1
    twin = m.branch(before)
    *done, last = map(str, twin.trace)
    assert done == [str(step) for step in m.trace.steps[: before - 1]]
    assert "is this a file of a group?" in last  # nobody has gone on, so nothing is found yet
    assert "this is no file of a group" in m.trace[before - 1].sentence
    group = twin.processes["vmm"].open("/dev/vfio/1")  # in the other world the group comes first
    assert group == 5
    (call,) = twin.pending
    error = call.run().error
    assert isinstance(error, KernelError)
    assert error.check == "group_is_closed"
    assert m.built.vfio_devices["pci0"].open_count.value == 1  # the first machine is as it was
    assert twin.built.vfio_devices["pci0"].open_count.value == 0
    assert twin.check() == []


def test_a_branch_can_be_taken_at_every_step_and_finished(m, p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    p.ioctl(dev, BIND, bind_argument(iommu))
    child = p.fork("child")
    address = p.memory.map(24, bytes(bind_argument(iommu)), prot=1)
    with pytest.raises(KernelError):
        child.ioctl(dev, BIND, address)
    m.sleep(5)
    p.exit()
    child.close(dev)
    end = m.trace.end
    for step in range(len(m.trace) + 1):
        assert m.branch(step).trace.end == m.trace.state(step - 1)
    twin = m.branch(-1)
    assert twin.trace.end == end
    assert twin.engine.clock == 5


def test_a_branch_repeats_what_a_students_own_function_did(m, p):
    async def mine(device, token):
        await refuse_if(True, Errno.EACCES, "mine", "nobody may")

    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    with m.patched(vfio_pci_core_match_token_uuid=mine), pytest.raises(KernelError, match="nobody may"):
        p.ioctl(dev, BIND, bind_argument(iommu))
    p.ioctl(dev, BIND, bind_argument(iommu))
    assert m.branch(-1).trace.end == m.trace.end


def test_a_branch_beyond_the_trace_is_refused_in_words(m, p):
    p.open("/dev/iommu")
    with pytest.raises(IndexError, match="there is no step 999"):
        m.branch(999)
    for wrong in ("x", None, 1.0):
        with pytest.raises(TypeError, match=f"a step is a whole number, not {wrong!r}"):
            m.branch(wrong)


# ---- students' own functions


def test_a_student_can_mend_the_failed_second_bind(m, p):
    from vfiosim.engine import load, store
    from vfiosim.kernel.kvm.kvm_main import kvm_put_kvm
    from vfiosim.kernel.vfio.vfio_main import BOUND_FOR

    async def mine(device):
        if await load(device.open_count) != 0:  # somebody else's reference
            return
        kvm = await load(device.kvm)
        if kvm is not None:
            await kvm_put_kvm(kvm, device, BOUND_FOR)
            await store(device.kvm, None)

    for patches, findings in ({"vfio_device_put_kvm": mine}, 0), ({}, 1):
        m = Machine("lab")
        p = m.process("vmm")
        _, kv = vm(p)
        dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
        add(p, kv, dev)
        p.ioctl(dev, BIND, bind_argument(iommu))
        second = p.open("/dev/vfio/devices/vfio0")
        with m.patched(**patches), pytest.raises(KernelError):
            p.ioctl(second, BIND, bind_argument(iommu))
        assert len(m.check()) == findings


# ---- the rest of the door


def test_what_is_not_modelled_says_so_and_leaves_nothing_behind(m, p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    p.ioctl(dev, BIND, bind_argument(iommu))
    state = m.trace.end
    with pytest.raises(Unsupported, match="the limit 5 is not modelled"):
        p.setrlimit(5, 1, 1)
    assert m.trace.end.objects == state.objects


def test_an_untraced_machine_gives_the_same_answers_and_keeps_no_trace():
    m = Machine(trace=False)
    p = m.process("vmm")
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    argument = bind_argument(iommu)
    p.ioctl(dev, BIND, argument)
    assert argument.out_devid == 1
    with pytest.raises(ValueError, match="keeps no trace"):
        _ = m.trace
    assert m.check() == []


def test_descriptors_run_out_with_emfile_and_can_be_used_again(p):
    numbers = [p.open("/dev/iommu") for _ in range(1024 - 3)]
    with pytest.raises(KernelError) as caught:
        p.open("/dev/iommu")
    assert caught.value.name == "EMFILE"
    p.close(numbers[5])
    assert p.open("/dev/iommu") == numbers[5]


def test_ids_of_an_iommufd_begin_at_one_and_are_the_lowest_free_ones(p):
    iommu = p.open("/dev/iommu")

    def new() -> int:
        argument = uapi.IommuIoasAlloc()
        p.ioctl(iommu, uapi.IOMMU_IOAS_ALLOC, argument)
        return argument.out_ioas_id

    assert [new(), new(), new()] == [1, 2, 3]
    p.ioctl(iommu, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=2))
    assert new() == 2
    for number, errno in ((0, "ENOENT"), (9, "ENOENT")):
        with pytest.raises(KernelError) as caught:
            p.ioctl(iommu, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=number))
        assert caught.value.name == errno


def test_a_devices_object_cannot_be_destroyed_by_hand(m, p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    argument = bind_argument(iommu)
    p.ioctl(dev, BIND, argument)
    with pytest.raises(KernelError) as caught:
        p.ioctl(iommu, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=argument.out_devid))
    assert caught.value.name == "EBUSY"
    assert m.check() == []


def test_why_names_every_way_and_close_names_for_a_wrong_one(m, p):
    dev, iommu = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
    p.ioctl(dev, BIND, bind_argument(iommu))
    p.close(iommu)
    ways = str(m.why("iommufd_ctx 1"))
    assert "fds vmm --fd 3--> file vfio0#1" in ways
    assert m.why("iommufd_ctx 1").paths[0].words.startswith("descriptor 3 of vmm holds file vfio0#1, which owns ")
    assert "fd 4" not in ways
    with pytest.raises(ValueError, match="do you mean"):
        m.why("iomufd_ctx 1")


def test_memory_can_be_mapped_read_written_and_taken_away(p):
    address = p.mmap(8192)
    p.memory.write(address + 4090, b"0123456789")
    assert p.memory.read(address + 4090, 10) == b"0123456789"
    p.munmap(address + 4096, 4096)
    with pytest.raises(OSError, match="EFAULT"):
        p.memory.read(address + 4090, 10)
    assert p.memory.read(address + 4090, 6) == b"012345"
    with pytest.raises(OSError, match="EEXIST"):
        p.mmap(4096, address=address)


def test_a_call_that_is_refused_before_it_begins_leaves_branches_possible(m, p):
    for wrong in (
        lambda: p.open(5),
        lambda: p.close("x"),
        lambda: p.ioctl("3", 0),
        lambda: p.ioctl(3, "bind", bytearray(24)),
        lambda: p.start("frobnicate"),
        lambda: p.mmap(0),
        lambda: m.sleep("x"),
        lambda: m.sleep(-1),
    ):
        with pytest.raises((TypeError, ValueError, KernelError)):
            wrong()
    p.open("/dev/iommu")
    assert m.branch(-1).trace.end == m.trace.end


def test_a_wrong_kind_of_argument_is_named_in_one_sentence(p):
    with pytest.raises(TypeError, match="close takes a descriptor here, not 'x'"):
        p.close("x")
    with pytest.raises(TypeError, match="open takes a path here, not 5"):
        p.open(5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: p.pread(3, 4, "x"),
        lambda p: p.pwrite(3, b"abcd", 0, 1.5),
        lambda p: p.mmap(4096, address=1.5),
        lambda p: p.mmap(float("nan")),
        lambda p: p.mmap(4096, 3, 3, 0, "x"),
        lambda p: p.munmap(0, 1.5),
        lambda p: p.mprotect(1.5, 4096, 1),
        lambda p: p.memory.write(1.5, b"x"),
        lambda p: p.memory.write(0, [1]),
        lambda p: p.memory.map(4096, {}),
        lambda p: p.sendmsg_fds(3, [1.5]),
        lambda p: p.prlimit("", 8, "x"),
        lambda p: p.capdrop(1.5),
        lambda p: p.start("open", "/dev/iommu", thread=1),
        lambda p: p.fork(7),
        lambda p: p.machine.process(7),
        lambda p: p.machine.process("q", [1]),
        lambda p: p.machine.take_out(None),
    ],
)
def test_an_argument_of_a_wrong_kind_reaches_no_kernel_code_and_no_text(p, wrong):
    p.open("/dev/vfio/devices/vfio0")
    before = p.machine.trace.replay
    with pytest.raises(TypeError, match=r"takes .* here, not|bytes-like"):
        wrong(p)
    assert not p.machine.pending
    assert p.machine.trace.replay == before


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda m: Machine(None), "made of a Topology or the name of one, not of None"),  # type: ignore[arg-type]
        (lambda m: Machine(config=1), "a configuration is a Config"),  # type: ignore[arg-type]
        (lambda m: m.why(None), "asked for by its name"),
        (lambda m: m.expect("x"), "told as an Invariant"),
        (copy.copy, r"m\.branch\(-1\) is a second one"),
        (copy.deepcopy, r"m\.branch\(-1\) is a second one"),
        (pickle.dumps, r"m\.branch\(-1\) is a second one"),
    ],
)
def test_what_cannot_be_done_with_a_machine_is_told_in_one_sentence(m, wrong, told):
    with pytest.raises(TypeError, match=told):
        wrong(m)


def test_a_fault_of_another_machine_s_call_is_planned_there(m, p):
    with pytest.raises(ValueError, match="is a call on another machine"):
        Machine(trace=False).fail_next(1, call=p.start("open", "/dev/iommu", run=False))


def test_calls_of_several_python_threads_are_made_one_after_the_other(m, p):
    def work():
        for _ in range(20):
            p.close(p.open("/dev/iommu"))

    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(work) for _ in range(4)]:
            made.result()
    assert (m.check(), m.pending, len(m.calls)) == ([], [], 160)


def test_a_plain_function_cannot_stand_for_a_kernel_function(m):
    with (
        pytest.raises(TypeError, match="your vfio_df_open must be an `async def`"),
        m.patched(vfio_df_open=lambda df: None),
    ):
        pass


def test_an_error_names_the_kernel_function_that_refused(p):
    first = p.open("/dev/vfio/1")
    with pytest.raises(KernelError) as caught:
        p.open("/dev/vfio/1")
    assert caught.value.kernel == "vfio_group_fops_open (drivers/vfio/group.c, v7.2)"
    assert "drivers/vfio/group.c" in str(caught.value)
    p.close(first)


def test_a_blocked_call_names_the_thread_that_holds_what_it_needs(m, half_bound):
    other = m.process("other")
    dev, iommu = other.open("/dev/vfio/devices/vfio0"), other.open("/dev/iommu")
    call = other.start("ioctl", dev, BIND, bind_argument(iommu))
    assert (call.state, call.holder) == ("blocked", "vmm:3")
    assert repr(call).endswith("blocked>")
    half_bound.run()
    assert (call.state, call.holder) == ("done", "")
