"""Whatever programs do: no invariant breaks but those that the real kernel breaks, nothing leaks, every run repeats."""

from __future__ import annotations

import operator
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import BY_NIGHT
from tests.fuzz.corpus import corpus
from tests.fuzz.run import SURPRISES, file_cycle
from vfiosim import Blocked, KernelError, Machine, uapi
from vfiosim.engine import Count, KernelOops
from vfiosim.machine import Process

pytestmark = pytest.mark.xdist_group("any program")  # Hypothesis reads the whole package for constants

PATHS = [
    *(f"/dev/vfio/devices/vfio{n}" for n in (0, 3, 4, 7, 8)),
    *(f"/dev/vfio/{n}" for n in (1, 3, 4, 11)),
    "/dev/iommu",
    "/dev/kvm",
    "/dev/vfio/vfio",
    "/dev/null",
    "/dev/vfio/devices/vfio99",
]
FDS = st.integers(-1, 14)
IDS = st.integers(0, 7)
MACHINES = {setting.topology.name: setting.topology for setting in corpus().settings}
ADDRESSES = [spec.address for spec in MACHINES["lab"].devices]
PAGES = st.sampled_from([0, 1, 0x1000, 0x2000, 0x10000])
IOVAS = st.sampled_from([0, 0x1000, 0x10000, 0x11000, 0xFEE00000, 1 << 47])
# What the recorded kernel does although it should not, by name.
KNOWN_SURPRISES = [words for all_words in SURPRISES.values() for words in all_words]

steps = st.one_of(
    st.tuples(st.just("open"), st.sampled_from(PATHS)),
    st.tuples(st.just("close"), FDS),
    st.tuples(st.just("dup"), FDS),
    st.tuples(st.just("bind"), FDS, FDS, st.sampled_from([0, 8, 16, 24, 32, 4096]), st.sampled_from([0, 0, 0, 1, 2])),
    st.tuples(st.just("info"), FDS),
    st.tuples(st.just("vm"), FDS),
    st.tuples(st.just("kvdev"), FDS),
    st.tuples(st.just("file"), FDS, st.sampled_from([1, 2]), FDS),
    st.tuples(st.just("ioas"), FDS),
    st.tuples(st.just("destroy"), FDS, st.integers(0, 4)),
    st.tuples(st.just("status"), FDS),
    st.tuples(st.just("attach"), FDS, IDS, st.sampled_from([0, 12, 12, 16]), st.sampled_from([0, 0, 1])),
    st.tuples(st.just("detach"), FDS, st.sampled_from([0, 0, 1])),
    st.tuples(st.just("map"), FDS, IDS, PAGES, IOVAS, st.sampled_from([0, 2, 3, 6, 7])),
    st.tuples(st.just("map_file"), FDS, IDS, FDS, PAGES),
    st.tuples(st.just("unmap"), FDS, IDS, IOVAS, st.sampled_from([0x1000, 0x10000, 2**64 - 1])),
    st.tuples(st.just("copy"), FDS, IDS, IDS, IOVAS),
    st.tuples(st.just("ranges"), FDS, IDS, st.integers(0, 3)),
    st.tuples(st.just("hwpt"), FDS, IDS, IDS, st.sampled_from([0, 0, 1, 2, 4])),
    st.tuples(st.just("plain_ids"), FDS, st.sampled_from(["hw", "fault", "process", "vfio_ioas", "option"]), IDS),
    st.tuples(st.just("group"), FDS, st.sampled_from(["set", "unset", "iommu", "api"]), FDS),
    st.tuples(st.just("device_fd"), FDS, st.sampled_from(ADDRESSES)),
    st.tuples(st.just("type1"), FDS, st.booleans(), IOVAS, PAGES),
    st.tuples(st.just("registers"), FDS, st.integers(0, 9)),
    st.tuples(st.just("reset"), FDS),
    st.tuples(st.just("driver"), st.sampled_from(["bind", "unbind"]), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("mapping"), FDS, st.sampled_from([0, 7 << 40, 0x1000])),
    st.tuples(st.just("unmapping"), st.integers(0, 3)),
    st.tuples(st.just("memfd")),
    st.tuples(st.just("send"), FDS),
    st.tuples(st.just("receive")),
    st.tuples(st.just("exec")),
    st.tuples(st.just("sleep"), st.sampled_from([10, 60_000])),
    st.tuples(st.just("fork")),
    st.tuples(st.just("exit")),
    st.tuples(st.just("switch"), st.integers(0, 3)),
)
# How programs often begin: 3 an iommufd, 4 a device, 5 a second one or a VM; or 3 a container, 4 a group, 5 a device.
NODE, SECOND = PATHS[0], PATHS[1]
BIND = [("open", "/dev/iommu"), ("open", NODE), ("bind", 4, 3, 24, 0)]
BEGINNINGS = [
    [],
    [*BIND, ("ioas", 3), ("attach", 4, 2, 12, 0), ("map", 3, 2, 0x10000, 0x10000, 7)],
    [
        *BIND,
        ("ioas", 3),
        ("ioas", 3),
        ("map", 3, 2, 0x10000, 0, 6),
        ("hwpt", 3, 1, 2, 0),
        ("open", SECOND),
        ("bind", 5, 3, 24, 0),
    ],
    [*BIND, ("open", "/dev/vfio/devices/vfio8"), ("bind", 5, 3, 24, 0), ("ioas", 3), ("attach", 5, 3, 12, 0)],
    [
        ("open", "/dev/iommu"),
        ("open", NODE),
        ("open", "/dev/kvm"),
        ("vm", 5),
        ("kvdev", 6),
        ("file", 7, 1, 4),
        ("bind", 4, 3, 24, 0),
    ],
    [
        *(("open", path) for path in ("/dev/vfio/vfio", "/dev/vfio/1")),
        *(
            ("group", 4, "set", 3),
            ("group", 3, "iommu", 0),
            ("device_fd", 4, ADDRESSES[0]),
            ("type1", 3, True, 0, 0x10000),
        ),
    ],
    [
        ("open", "/dev/iommu"),
        ("open", "/dev/vfio/3"),
        ("ioas", 3),
        ("group", 4, "set", 3),
        ("device_fd", 4, ADDRESSES[3]),
    ],
]
programs = st.builds(operator.add, st.sampled_from(BEGINNINGS), st.lists(steps, max_size=40))


class Player:
    """Plays a program on a machine and writes down each answer."""

    def __init__(self, trace: bool, where: str = "lab") -> None:
        self.machine = Machine(MACHINES[where], trace=trace)
        self.alive = [self.machine.process("p0")]
        self.now = 0
        self.mapped: list[tuple[Process, int]] = []
        self.socket: tuple[Process, int, int] | None = None
        self.in_flight = 0
        self.answers: list[object] = []

    def play(self, program) -> None:
        for name, *rest in program:
            if not self.alive:
                self.alive.append(self.machine.process(f"p{len(self.machine.processes)}"))
            self.now %= len(self.alive)
            try:
                self.answers.append(getattr(self, name)(self.alive[self.now], *rest))
            except KernelError as error:
                self.answers.append(error.name)
            except (Blocked, KernelOops) as stuck:
                self.answers.append(str(stuck))
            self.alive = [process for process in self.alive if process.task.alive.value and not process.dying]
            assert self.broken() == []

    def broken(self) -> list[str]:
        return [line for line in self.machine.check() if not any(words in line for words in KNOWN_SURPRISES)]

    def surprised(self) -> bool:
        """Has a surprise been seen that keeps things for ever?"""
        things = self.machine.engine.objects.values()
        return bool(self.machine.check()) or any(file_cycle(thing) for thing in things)

    def open(self, p, path):
        return p.open(path)

    def close(self, p, fd):
        return p.close(fd)

    def dup(self, p, fd):
        return p.dup(fd)

    def bind(self, p, fd, iommufd, argsz, flags):
        argument = uapi.VfioDeviceBindIommufd(argsz=argsz, iommufd=iommufd, flags=flags)
        p.ioctl(fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, argument)
        return argument.out_devid

    def info(self, p, fd):
        argument = uapi.VfioDeviceInfo()
        p.ioctl(fd, uapi.VFIO_DEVICE_GET_INFO, argument)
        return bytes(argument)

    def vm(self, p, fd):
        return p.ioctl(fd, uapi.KVM_CREATE_VM)

    def kvdev(self, p, fd):
        argument = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
        p.ioctl(fd, uapi.KVM_CREATE_DEVICE, argument)
        return argument.fd

    def file(self, p, fd, which, target):
        address = p.memory.map(4, target.to_bytes(4, "little", signed=True))
        return p.ioctl(fd, uapi.KVM_SET_DEVICE_ATTR, uapi.KvmDeviceAttr(group=1, attr=which, addr=address))

    def ioas(self, p, fd):
        argument = uapi.IommuIoasAlloc()
        p.ioctl(fd, uapi.IOMMU_IOAS_ALLOC, argument)
        return argument.out_ioas_id

    def destroy(self, p, fd, number):
        return p.ioctl(fd, uapi.IOMMU_DESTROY, uapi.IommuDestroy(id=number))

    def status(self, p, fd):
        argument = uapi.VfioGroupStatus()
        p.ioctl(fd, uapi.VFIO_GROUP_GET_STATUS, argument)
        return argument.flags

    def fork(self, p):
        self.alive.append(p.fork(f"p{len(self.machine.processes)}"))

    def exit(self, p):
        p.exit()

    def attach(self, p, fd, number, argsz, pasid):
        argument = uapi.VfioDeviceAttachIommufdPt(argsz=argsz, flags=pasid, pt_id=number, pasid=3 * pasid)
        p.ioctl(fd, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument)
        return argument.pt_id

    def detach(self, p, fd, pasid):
        return p.ioctl(
            fd, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, uapi.VfioDeviceDetachIommufdPt(flags=pasid, pasid=3 * pasid)
        )

    def buffer(self, p: Process) -> int:
        address = p.mmap(0x10000)
        self.mapped.append((p, address))
        return address

    def map(self, p, fd, number, length, iova, flags):
        argument = uapi.IommuIoasMap(flags=flags, ioas_id=number, user_va=self.buffer(p), length=length, iova=iova)
        p.ioctl(fd, uapi.IOMMU_IOAS_MAP, argument)
        return argument.iova

    def map_file(self, p, fd, number, file, length):
        argument = uapi.IommuIoasMapFile(flags=6, ioas_id=number, fd=file, start=0, length=length)
        p.ioctl(fd, uapi.IOMMU_IOAS_MAP_FILE, argument)
        return argument.iova

    def unmap(self, p, fd, number, iova, length):
        argument = uapi.IommuIoasUnmap(ioas_id=number, iova=0 if length > 1 << 60 else iova, length=length)
        p.ioctl(fd, uapi.IOMMU_IOAS_UNMAP, argument)
        return argument.length

    def copy(self, p, fd, to, number, iova):
        argument = uapi.IommuIoasCopy(flags=6, dst_ioas_id=to, src_ioas_id=number, length=0x1000, src_iova=iova)
        p.ioctl(fd, uapi.IOMMU_IOAS_COPY, argument)
        return argument.dst_iova

    def ranges(self, p, fd, number, count):
        argument = uapi.IommuIoasIovaRanges(ioas_id=number, num_iovas=count, allowed_iovas=self.buffer(p))
        p.ioctl(fd, uapi.IOMMU_IOAS_IOVA_RANGES, argument)
        return bytes(argument)

    def hwpt(self, p, fd, device, number, flags):
        argument = uapi.IommuHwptAlloc(flags=flags, dev_id=device, pt_id=number)
        p.ioctl(fd, uapi.IOMMU_HWPT_ALLOC, argument)
        return argument.out_hwpt_id

    def plain_ids(self, p, fd, what, number):
        if what == "hw":
            return p.ioctl(fd, uapi.IOMMU_GET_HW_INFO, uapi.IommuHwInfo(dev_id=number))
        if what == "fault":
            return p.ioctl(fd, uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.IommuFaultAlloc())
        if what == "process":
            return p.ioctl(fd, uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.IommuIoasChangeProcess())
        if what == "vfio_ioas":
            return p.ioctl(fd, uapi.IOMMU_VFIO_IOAS, uapi.IommuVfioIoas(ioas_id=number, op=number % 4))
        argument = uapi.IommuOption(
            option_id=number % 2, op=number // 4, object_id=number % 2 * number, val64=number % 3
        )
        return p.ioctl(fd, uapi.IOMMU_OPTION, argument)

    def group(self, p, fd, what, other):
        if what == "set":
            return p.ioctl(fd, uapi.VFIO_GROUP_SET_CONTAINER, bytearray(other.to_bytes(4, "little", signed=True)))
        if what == "unset":
            return p.ioctl(fd, uapi.VFIO_GROUP_UNSET_CONTAINER)
        return p.ioctl(fd, uapi.VFIO_SET_IOMMU if what == "iommu" else uapi.VFIO_GET_API_VERSION, 1 + 2 * (other % 2))

    def device_fd(self, p, fd, address):
        return p.ioctl(fd, uapi.VFIO_GROUP_GET_DEVICE_FD, bytearray(address.encode() + b"\0"))

    def type1(self, p, fd, take, iova, size):
        if take:
            argument = uapi.VfioIommuType1DmaMap(flags=3, vaddr=self.buffer(p), iova=iova, size=size)
            return p.ioctl(fd, uapi.VFIO_IOMMU_MAP_DMA, argument)
        return p.ioctl(fd, uapi.VFIO_IOMMU_UNMAP_DMA, uapi.VfioIommuType1DmaUnmap(iova=iova, size=size))

    def registers(self, p, fd, index):
        argument = uapi.VfioRegionInfo(index=index)
        p.ioctl(fd, uapi.VFIO_DEVICE_GET_REGION_INFO, argument)
        p.ioctl(fd, uapi.VFIO_DEVICE_GET_IRQ_INFO, uapi.VfioIrqInfo(index=index % 5))
        return p.pread(fd, 4, argument.offset)

    def reset(self, p, fd):
        return p.ioctl(fd, uapi.VFIO_DEVICE_RESET)

    def driver(self, p, what, address):
        return p.write_file(f"/sys/bus/pci/drivers/vfio-pci/{what}", address)

    def mapping(self, p, fd, offset):
        self.mapped.append((p, p.mmap(0x1000, fd=fd, offset=offset)))

    def unmapping(self, p, number):
        mine = [address for owner, address in self.mapped if owner is p]
        return p.munmap(mine[number % len(mine)], 0x1000) if mine else None

    def memfd(self, p):
        return p.memfd(0x10000)

    def send(self, p, fd):
        """Into a socket that the process has for this."""
        if self.socket is None or self.socket[0] is not p or not p.task.alive.value:
            self.socket, self.in_flight = (p, *p.socketpair()), 0
        if fd in self.socket[1:]:  # a socket inside itself is left to a collector that the model has not
            return None
        sent = p.sendmsg_fds(self.socket[1], [fd])
        self.in_flight += 1
        return sent

    def receive(self, p):
        if self.socket is None or self.socket[0] is not p or not self.in_flight:
            return None
        self.in_flight -= 1
        return p.recvmsg_fds(self.socket[2])

    def exec(self, p):
        return p.exec()

    def sleep(self, p, milliseconds):
        self.machine.sleep(milliseconds)

    def switch(self, p, number):
        self.now = number


def counts(machine) -> dict[str, int]:
    cells = (cell for thing in machine.engine.objects.values() for cell in thing.cells())
    return {cell.path: cell.value for cell in cells if isinstance(cell, Count) and cell.value}


AT_BOOT = {name: counts(Machine(topology)) for name, topology in MACHINES.items()}
LASTING = {path.split(maxsplit=1)[0] for path in AT_BOOT["lab"]}  # kinds of things that come and go with devices
anywhere = st.sampled_from(sorted(MACHINES))
# `.ci/run` also makes forty thousand damaged calls, which ask the same of a machine; by night there are more of both.
NIGHT = 4 if os.environ.get(BY_NIGHT) else 1
slow = settings(max_examples=60 * NIGHT, deadline=None, suppress_health_check=[HealthCheck.too_slow])
long = settings(parent=slow, max_examples=1000)


def keeps_the_invariants_and_leaves_nothing_behind(program, where):
    player = Player(trace=False, where=where)
    player.play(program)
    for process in list(player.alive):
        process.exit()
    player.machine.sleep(60_000)
    assert player.broken() == []
    left = {path: n for path, n in counts(player.machine).items() if n != AT_BOOT[where].get(path)}
    if any(step[0] == "driver" for step in program):
        left = {path: n for path, n in left.items() if path.split(maxsplit=1)[0] not in LASTING}
    assert not left or player.surprised() or player.machine.pending, left


@slow
@given(programs, anywhere)
def test_any_program_keeps_the_invariants_and_leaves_nothing_behind(program, where):
    keeps_the_invariants_and_leaves_nothing_behind(program, where)


@pytest.mark.nightly
@long
@given(programs, anywhere)
def test_any_of_a_thousand_programs_keeps_the_invariants_and_leaves_nothing_behind(program, where):
    keeps_the_invariants_and_leaves_nothing_behind(program, where)


@settings(parent=slow, max_examples=40 * NIGHT)
@given(programs, anywhere)
def test_a_traced_run_answers_as_an_untraced_one(program, where):
    runs = [Player(trace, where) for trace in (True, False)]
    for player in runs:
        player.play(program)
    assert runs[0].answers == runs[1].answers
    assert counts(runs[0].machine) == counts(runs[1].machine)


@settings(parent=slow, max_examples=25 * NIGHT)
@given(programs, anywhere, st.floats(0, 1))
def test_any_run_can_be_repeated_up_to_any_step(program, machine, where):
    player = Player(trace=True, where=machine)
    player.play(program)
    trace = player.machine.trace
    step = round(where * len(trace))
    assert player.machine.branch(step).trace.end.objects == trace.state(step - 1).objects
