"""What a refusal and a wait say: they know what the model knows."""

from __future__ import annotations

import cProfile
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.calls import refused, set_container
from vfiosim import Blocked, KernelError, Machine, kernel, replay, uapi
from vfiosim.engine import PROMISES, Phase, say, store
from vfiosim.explore import explore
from vfiosim.lab import Session
from vfiosim.lessons.beginnings import bound, opened
from vfiosim.lessons.one_bind import bound_for_a_vm
from vfiosim.topology import DeviceSpec, Topology
from vfiosim.trace.found import FOUND

READ_WRITE_FIXED = 7


class Bench:
    """A program with a device bound, attached to an IOAS, and its registers mapped."""

    def __init__(self) -> None:
        self.m = Machine("lab")
        self.p = self.m.process("qemu")
        self.dev, self.iommu = self.p.open("/dev/vfio/devices/vfio0"), self.p.open("/dev/iommu")
        self.p.ioctl(self.dev, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=self.iommu))
        made = uapi.IommuIoasAlloc()
        self.p.ioctl(self.iommu, uapi.IOMMU_IOAS_ALLOC, made)
        self.ioas = made.out_ioas_id
        self.p.ioctl(self.dev, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, uapi.VfioDeviceAttachIommufdPt(pt_id=self.ioas))
        self.registers = self.p.mmap(4096, fd=self.dev)

    def map(self, address: int, length: int, iova: int = 0x10000) -> int:
        wanted = uapi.IommuIoasMap(flags=READ_WRITE_FIXED, ioas_id=self.ioas, user_va=address, length=length, iova=iova)
        return self.p.ioctl(self.iommu, uapi.IOMMU_IOAS_MAP, wanted)


@pytest.fixture
def b() -> Bench:
    return Bench()


def test_whatever_the_kernels_sentences_ask_has_an_answer():
    source = [path.read_text() for path in Path("vfiosim/kernel").rglob("*.py")]
    said = re.findall(r'say\(\s*Phase\.\w+,\s*f?"([^"]*\?[^"]*)"', "".join(source))
    assert len(said) > 8
    assert [one for one in said if not any(question in one for question in FOUND)] == []


@pytest.mark.parametrize("fields", [{}, {"argsz": 8}, {"flags": 4}, {"iommufd": 777}])
def test_a_step_asks_only_where_the_next_one_says_what_was_refused(fields):
    session = Session(start=opened)
    refused = session.bind(3, **{"iommufd": 4, **fields}).refused
    steps = [*session.steps]
    assert bool(refused) == bool(fields)
    assert [(step, then) for step, then in pairwise(steps) if "?" in step.sentence and not then.refused] == []


def test_a_bind_says_whether_it_has_found_a_vm():
    told = [step.sentence for start in (bound, bound_for_a_vm) for step in Session(start=start).machine.trace]
    assert [said for said in told if said.startswith("This file belongs to")] == [
        "This file belongs to no VM, so there is none that the device would have to hold.",
        "This file belongs to a VM: the device holds the VM from now on.",
    ]


def test_registers_of_a_device_in_an_ioas_are_refused_as_what_they_are(b):
    with pytest.raises(
        KernelError, match="registers of a device; they are no memory, so they cannot be pinned"
    ) as told:
        b.map(b.registers, 4096)
    assert told.value.name == "EFAULT"


def test_a_map_onto_another_one_is_told_which(b):
    memory = b.p.memory.map(1 << 16)
    b.map(memory, 8192)
    with pytest.raises(KernelError, match="the I/O addresses 0x10000 to 0x11fff are mapped already"):
        b.map(memory, 4096, 0x11000)


def test_too_much_locked_memory_is_told_with_the_limit_what_is_used_and_what_was_asked_for(b):
    memory = b.p.memory.map(16 << 20)
    b.p.setuid(1000)
    b.map(memory, 4096)
    said = "lets user 1000 lock 8192 KiB of memory; 4 KiB are locked already.* and 9216 KiB more were asked for"
    with pytest.raises(KernelError, match=said):
        b.map(memory, 9 << 20, 1 << 24)


def test_who_waits_for_a_device_is_told_which_program_has_it_and_by_what(b):
    b.p.close(b.dev)
    with pytest.raises(Blocked, match=r"until nobody holds vfio0; program qemu does \(mapped at 0x[0-9a-f]+\)"):
        b.m.process("admin").write_file("/sys/bus/pci/drivers/vfio-pci/unbind", "0000:00:04.0")


# ---- users go with their last process, and with the memory that is charged to them


def test_another_user_leaves_nothing_behind(b):
    b.map(b.p.memory.map(4096), 4096)
    b.p.setuid(1000)
    b.map(b.p.memory.map(4096), 4096, 1 << 20)
    assert "user_struct 1000" in b.m.engine.objects
    b.p.exit()
    assert [oid for oid in b.m.engine.objects if oid.startswith("user_struct")] == ["user_struct 0"]
    assert b.m.check() == []


def two() -> Machine:
    machine = Machine()
    machine.process("a")
    machine.process("b")
    return machine


def test_two_processes_may_become_the_same_user_and_leave_it_at_once():
    result = explore(two, {"A": [("a", "setuid", 1000), ("a", "exit")], "B": [("b", "setuid", 1000)]})
    assert result.complete
    assert [one.what for one in result.violations] == []


def test_the_limits_of_a_process_that_ends_meanwhile_are_told_or_there_is_none_any_more():
    result = explore(two, {"A": [("a", "exit")], "B": [("b", "prlimit", "a", 7)]})
    assert (result.verdict, result.complete) == ("safe", True)
    assert len(result.outcomes) == 2


def test_a_root_port_takes_what_is_behind_it_and_both_are_found_again():
    m = Machine("lab", trace=False)
    p, port = m.process("p"), "/sys/bus/pci/devices/0000:00:1c.1"
    p.write_file(f"{port}/remove", "1")
    assert refused(p.stat, port) == refused(p.stat, "/sys/bus/pci/devices/0000:02:00.1") == "ENOENT"
    p.write_file("/sys/bus/pci/rescan", "1")
    p.stat(port)
    p.write_file("/sys/bus/pci/devices/0000:02:00.1/remove", "1")
    p.write_file("/sys/bus/pci/devices/0000:02:00.0/remove", "1")
    assert p.stat(port) == 0o40755  # with nothing behind it
    assert m.check() == []


def test_a_mapping_of_a_container_costs_the_same_however_many_there_are():
    def asked(number: int) -> int:
        p = Machine("lab", trace=False).process("p")
        group, container = p.open("/dev/vfio/1"), p.open("/dev/vfio/vfio")
        set_container(p, group, container)
        p.ioctl(container, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU)
        memory = p.memory.map(4096)

        def map_all() -> None:
            for page in range(number):
                wanted = uapi.VfioIommuType1DmaMap(flags=3, vaddr=memory, iova=page << 12, size=4096)
                p.ioctl(container, uapi.VFIO_IOMMU_MAP_DMA, wanted)

        profile = cProfile.Profile()
        profile.runcall(map_all)
        return sum(entry.callcount for entry in profile.getstats())

    assert asked(800) < 4.4 * asked(200)


# ---- what a protection is for is said only where it is there


def test_a_step_without_the_lock_of_the_group_tells_what_is_possible_now():
    steps = replay("R1 without group_lock: A19 B18 A3").trace
    told = [step.sentence for step in steps]
    assert not [step.sentence for step in steps if step.phase == "lock" and "is not taken" in step.sentence]
    assert (
        "The lock of vfio_group 1 is not taken: it looks whether the group is open without waiting for another call."
        in told
    )
    assert not [sentence for sentence in told if "nobody" in sentence]


def test_a_lock_that_a_function_of_ones_own_does_not_take_is_not_told_of():
    async def vfio_group_fops_open(file):
        say(Phase.LOCK, "The lock of {}: nobody else comes in.", file)
        await store(file.private_data, None)

    m = Machine()
    with m.patched(vfio_group_fops_open=vfio_group_fops_open):
        m.process("vmm").open("/dev/vfio/1")
    assert not any("nobody else" in step.sentence for step in m.trace)
    assert any("no lock is taken here" in step.sentence for step in m.trace)


@pytest.mark.parametrize("reference", ["bound to it", "its context"])
def test_a_bind_without_a_reference_does_not_say_that_it_holds(reference):
    def holds(*names: str) -> list[str]:
        m = Machine()
        m.engine.take_out(*names)
        p = m.process("vmm")
        device, iommufd = p.open("/dev/vfio/devices/vfio0"), p.open("/dev/iommu")
        p.ioctl(device, uapi.VFIO_DEVICE_BIND_IOMMUFD, uapi.VfioDeviceBindIommufd(iommufd=iommufd))
        return [step.sentence for step in m.trace if " holds " in step.sentence]

    assert len(holds(reference)) == len(holds()) - 1


def test_each_sentence_that_promises_something_is_one_that_kernel_code_says():
    code = "".join(
        file.read_text() for file in Path(kernel.__file__).parent.rglob("*.py") if file.name != "promises.py"
    )
    assert [sentence for sentence in PROMISES if f'"{sentence}"' not in code] == []


def test_each_sentence_that_says_what_a_lock_is_for_has_another_one_for_a_kernel_without_the_lock():
    code = "".join(
        file.read_text() for file in Path(kernel.__file__).parent.rglob("*.py") if file.name != "promises.py"
    )
    said = re.findall(r'say\(\s*Phase\.LOCK,\s*"([^"]*(?:: n|: it|one .* at a time)[^"]*)"', code)
    assert len(said) > 10
    assert [sentence for sentence in said if sentence not in PROMISES] == []


# ---- what `check` says beside what is broken


def test_where_nothing_is_broken_check_is_an_empty_list_that_tells_the_last_refusal_and_whose_device_is_in_the_way():
    pair = [DeviceSpec("nic", "0000:01:00.0", 26), DeviceSpec("other", "0000:01:00.1", 26, driver="e1000e")]
    m = Machine(Topology("pair", tuple(pair)))
    assert repr(m.check()) == "[]"
    p = m.process("vmm")
    container, group = p.open("/dev/vfio/vfio"), p.open("/dev/vfio/26")
    assert refused(set_container, p, group, container) == "EPERM"
    assert m.check() == []
    told = repr(m.check()).splitlines()
    assert told[0] == "[]  nothing is broken"
    assert re.fullmatch(
        r"refused last: .*VFIO_GROUP_SET_CONTAINER.* \[EPERM\]: .*device other, which driver e1000e has.*", told[1]
    )


def test_what_is_broken_is_shown_as_a_list_and_the_last_refusal_below_it():
    m = replay("R1 without group_lock: A19 B18 A3").machine
    assert repr(m.check()) == repr([*m.check()])
    with pytest.raises(KernelError):
        m.process("late").open("/dev/vfio/1")
    assert repr(m.check()).splitlines()[0] == repr([*m.check()])
    assert "EBUSY" in repr(m.check()).splitlines()[1]
