"""A machine's life as a Python program: run, it makes the same machine again."""

import runpy
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.reused_names import MACHINES
from tests.searches import broken, each_puzzle
from vfiosim import DeviceSpec, KernelError, Machine, Topology, replay, uapi
from vfiosim.engine import refuse_if
from vfiosim.explore import explore
from vfiosim.machine import PREFIX, program_of
from vfiosim.puzzles import PUZZLES
from vfiosim.uapi import Errno

NODE, IOMMU = "/dev/vfio/devices/vfio0", "/dev/iommu"
BIND = uapi.VFIO_DEVICE_BIND_IOMMUFD


def run(program):
    """The machine that a program makes which somebody has pasted into a file."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "pasted.py").write_text(program, "utf-8")
        return runpy.run_path(str(Path(folder) / "pasted.py"))["m"]


def same(m):
    again = run(program_of(m))
    assert again.trace == m.trace
    assert (again.kernel, again.topology) == (m.kernel, m.topology)
    return True


def bound(**options):
    m = Machine(**options)
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    return m, p


def test_structs_are_written_with_their_fields_and_requests_with_their_names():
    m, _ = bound()
    assert same(m)
    assert "vmm.ioctl(3, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=4))\n" in program_of(m)
    assert 'vmm.open("/dev/vfio/devices/vfio0")  # 3\n' in program_of(m)


@pytest.mark.parametrize("kernel", ["v6.6", "v5", "v5r"])
def test_the_version_is_written_down(kernel):
    m = Machine("versions", kernel)
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    p.ioctl(dev, m.variant.bind_request, m.variant.layout(iommufd=ctx))
    assert same(m)


def test_devices_of_ones_own_are_written_down():
    m, _ = bound(topology=Topology("mine", (DeviceSpec("card", "0000:09:00.0", 9, can_reset=True),)))
    assert same(m)
    assert 'Topology("mine", (DeviceSpec("card", "0000:09:00.0", 9, can_reset=True),))' in program_of(m)


def test_refusals_memory_time_a_fork_and_the_end_are_written_down():
    m, p = bound()
    with pytest.raises(KernelError):
        p.open("/dev/vfio/1")
    address = p.mmap(4096)
    p.memory.write(address, b"hello")
    p.mprotect(address, 4096, 1)
    m.sleep(250)
    p.fork("class").close(3)  # no name for a variable
    p.capdrop("CAP_SYS_ADMIN")
    p.write(p.eventfd(), b"\1" * 8)
    p.exit()
    m.process("vmm").eventfd()
    assert same(m)
    assert "with suppress(KernelError):\n    vmm.open" in program_of(m)


@pytest.mark.parametrize("name", [name for name in MACHINES if name != "by_an_oops"])
def test_a_process_whose_name_is_used_again_is_written_down(name):
    assert same(MACHINES[name]())


def test_a_process_with_the_name_of_one_that_an_oops_has_killed_is_written_down():
    m = MACHINES["by_an_oops"]()
    again = run(program_of(m))  # with a function of its own, whose lines are numbered otherwise
    assert [str(step) for step in again.trace] == [str(step) for step in m.trace]
    assert again.trace.end == m.trace.end


def test_the_next_process_of_a_name_has_the_same_variable():
    program = program_of(MACHINES["by_exit"]())
    assert program.count('q = m.process("q")\n') == 2
    assert "q.exit()\nq = m" in program


def test_memory_that_a_request_names_is_written_as_its_struct():
    m, p = bound()
    kvm = p.open("/dev/kvm")
    vm = p.ioctl(kvm, uapi.KVM_CREATE_VM)
    made = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
    p.ioctl(vm, uapi.KVM_CREATE_DEVICE, made)
    where = p.memory.map(4, (3).to_bytes(4, "little"))
    attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.KVM_DEV_VFIO_FILE_ADD, addr=where)
    p.ioctl(made.fd, uapi.KVM_SET_DEVICE_ATTR, attr)
    assert same(m)
    assert "group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.KVM_DEV_VFIO_FILE_ADD, addr=address_1" in program_of(m)


def test_calls_that_wait_are_written_down():
    m, p = bound()
    m.process("root").start("write_file", "/sys/bus/pci/drivers/vfio-pci/unbind", "0000:01:00.0")
    m.sleep(11000)
    p.close(3)
    assert same(m)


def test_calls_that_take_turns_are_moved_by_hand():
    m = Machine()
    a, b = m.process("a"), m.process("b")
    dev, ctx = a.open(NODE), a.open(IOMMU)
    binding = a.start("ioctl", dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx), run=False, thread="A")
    opening = b.start("open", "/dev/vfio/1", run=False)
    for turn in range(30):
        (binding if turn % 3 else opening).step()
    assert same(m)


def test_functions_of_ones_own_are_written_down_where_their_text_is_known():
    why = "nobody may"

    async def refuses(errno):
        await refuse_if(True, errno, "mine", why)

    async def mine(df):
        await refuses(Errno.EPERM)

    m = Machine()
    p = m.process("vmm")
    dev, ctx = p.open(NODE), p.open(IOMMU)
    with m.patched(vfio_df_open=mine), pytest.raises(KernelError, match="nobody may"):
        p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    p.ioctl(dev, BIND, uapi.VfioDeviceBindIommufd(iommufd=ctx))
    program = program_of(m)
    assert "with m.patched(vfio_df_open=mine):\n    with suppress(KernelError):\n        vmm.ioctl(3" in program
    again = run(program)
    assert [str(step) for step in again.trace] == [str(step) for step in m.trace]


def test_what_came_from_outside_cannot_be_written_down():
    with pytest.raises(ValueError, match="trace=False"):
        program_of(Machine(trace=False))


# ---- witnesses


@pytest.mark.parametrize("ends", [1, pytest.param(3, marks=pytest.mark.nightly)])
@each_puzzle(days=6)
def test_every_way_a_puzzle_can_go_is_a_program_and_a_line(puzzle, ends):
    without, patches = puzzle.ways[0]
    result = broken(puzzle.name, 0)
    assert result.counterexample is not None
    for witness in [result.counterexample, *list(result.outcomes.values())[:ends]]:
        assert run(witness.code).trace == witness.machine.trace
        if witness.schedule:  # else it tells what never happens
            assert witness.replay.startswith(puzzle.called(without, patches))
            assert replay(witness.replay).machine.trace == witness.machine.trace


def test_the_counterexample_of_a_puzzle_is_told_by_name():
    result = PUZZLES["R1"].explore(["group_lock"])
    assert result.counterexample is not None
    assert result.counterexample.replay == "R1 without group_lock: A20 B18 A1"
    assert "replay('R1 without group_lock: A20 B18 A1')" in str(result)
    assert result.to_json()["counterexample"]["replay"] == result.counterexample.replay


def test_the_counterexample_of_any_exploration_can_be_shared():
    puzzle = PUZZLES["R1"]
    result = explore(puzzle.setup, puzzle.programs(), puzzle.properties, ["group_lock"])
    assert result.counterexample is not None
    text = result.counterexample.replay
    assert text.startswith(PREFIX)
    assert len(text) < 200
    assert replay(text).trace == result.counterexample.machine.trace


def test_a_puzzle_with_functions_that_are_not_its_own_has_no_name():
    async def mine(df):
        await refuse_if(True, Errno.EPERM, "mine", "nobody may")

    result = PUZZLES["R1"].explore(patches={"vfio_df_open": mine})
    witness = next(iter(result.outcomes.values()))
    assert witness.replay.startswith(PREFIX)
    assert replay(witness.replay, {"vfio_df_open": mine}).trace == witness.machine.trace
