"""Whatever programs do: no invariant breaks but those that the real kernel breaks, nothing leaks, every run repeats."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfiosim import Blocked, KernelError, Machine, uapi
from vfiosim.engine import Count

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
# What a failed second bind does to the VM of the first one, in the recorded kernel too.
KNOWN_SURPRISE = ("failed bind through another file gave it away", "nobody will give that back")

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
    st.tuples(st.just("fork")),
    st.tuples(st.just("exit")),
    st.tuples(st.just("switch"), st.integers(0, 3)),
)
programs = st.lists(steps, max_size=40)


class Player:
    """Plays a program on a machine and writes down each answer."""

    def __init__(self, trace: bool) -> None:
        self.machine = Machine("lab", trace=trace)
        self.alive = [self.machine.process("p0")]
        self.now = 0
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
            except Blocked as blocked:
                self.answers.append(str(blocked))
            surprises = [line for line in self.machine.check() if not any(words in line for words in KNOWN_SURPRISE)]
            assert surprises == []

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
        self.alive.remove(p)
        p.exit()

    def switch(self, p, number):
        self.now = number


def counts(machine) -> dict[str, int]:
    cells = (cell for thing in machine.engine.objects.values() for cell in thing.cells())
    return {cell.path: cell.value for cell in cells if isinstance(cell, Count) and cell.value}


AT_BOOT = counts(Machine("lab"))
slow = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow
@given(programs)
def test_any_program_keeps_the_invariants_and_leaves_nothing_behind(program):
    player = Player(trace=False)
    player.play(program)
    for process in list(player.alive):
        process.exit()
    left = {path: n for path, n in counts(player.machine).items() if n != AT_BOOT.get(path)}
    assert all(path.startswith("kvm ") for path in left), left  # a VM lost by the known surprise is all that may stay
    assert bool(left) == bool(player.machine.check())


@slow
@given(programs)
def test_a_traced_run_answers_as_an_untraced_one(program):
    runs = [Player(trace) for trace in (True, False)]
    for player in runs:
        player.play(program)
    assert runs[0].answers == runs[1].answers
    assert counts(runs[0].machine) == counts(runs[1].machine)


@settings(parent=slow, max_examples=40)
@given(programs, st.floats(0, 1))
def test_any_run_can_be_repeated_up_to_any_step(program, where):
    player = Player(trace=True)
    player.play(program)
    trace = player.machine.trace
    step = round(where * len(trace))
    assert player.machine.branch(step).trace.end.objects == trace.state(step - 1).objects
