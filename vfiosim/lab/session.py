"""What a bench does with a machine: one call after another, each with its outcome, and a way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from .. import uapi
from ..engine import KernelOops
from ..kernel import Unsupported
from ..machine import Blocked, Machine, Process, program_of
from ..topology import Topology
from ..trace import Trace
from .nodes import device_nodes

PROGRAM = "vmm"


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    `result` is a number as text, or the name of an errno; `sentence` says more; `check` and `where` are set where a check
    refused: its name, and the line of code as "file:line". `unknown`: the kernel would answer, the model cannot.
    """

    call: str
    result: str
    sentence: str = ""
    check: str = ""
    where: str = ""
    refused: bool = False
    unknown: bool = False

    @classmethod
    def of(cls, call: str, problem: BaseException) -> Self:
        """How a call ended that did not succeed."""
        if isinstance(problem, Unsupported):
            return cls(call, "not modelled", problem.sentence, unknown=True)
        if isinstance(problem, uapi.KernelError):
            return cls(call, problem.name, problem.sentence, problem.check, problem.where or "", refused=True)
        if isinstance(problem, Blocked):
            return cls(call, "waits", problem.call.waits_for)
        return cls(call, "oops", str(problem), refused=True)

    @property
    def unanswered(self) -> str:
        """What is to be said where the model has no answer."""
        what = self.sentence.removesuffix(" is not modelled")
        return f"{what}. The real kernel has an answer here; this one has none."

    def __str__(self) -> str:
        place = f" (check {self.check}, {self.where})" if self.check else ""
        return f"{self.call} → {self.result}" + (f": {self.sentence}" if self.sentence else "") + place


@dataclass(frozen=True)
class Action:
    """Something that was done: how it ended, the last step of the trace before it, and for a BIND the fields as they were given."""

    outcome: Outcome
    before: int
    fields: str = ""


class Session:
    """A machine with one program, and all that the program did.

    `start` is done first, and again at each reset; it cannot be undone.
    """

    def __init__(
        self, topology: Topology | str = "small", start: Callable[[Session], object] = lambda session: None
    ) -> None:
        self.topology = topology
        self._start = start
        self.actions: list[Action] = []
        self.machine: Machine
        self.process: Process
        self.reset()

    # ---- the way back

    def reset(self) -> None:
        """A fresh machine, with `start` done."""
        self.machine = Machine(self.topology)
        self.process = self.machine.process(PROGRAM)
        self.actions = []
        self._fixed = 0
        self._start(self)
        self._fixed = len(self.actions)

    @property
    def calls_made(self) -> int:
        """How many actions there were since `start`."""
        return len(self.actions) - self._fixed

    @property
    def can_undo(self) -> bool:
        """Is there something to take back?"""
        return self.calls_made > 0

    def undo(self) -> tuple[Action, ...]:
        """Take back the last action that changed something and those after it, or all if none did; these, in their order.

        The machine is a branch of the old one from the step before. A call that changed nothing, such as one that was refused,
        would seem to do nothing when it is taken back alone.
        """
        if not self.can_undo:
            return ()
        first = next((n for n in reversed(range(self._fixed, len(self.actions))) if self.changed(n)), self._fixed)
        taken = tuple(self.actions[first:])
        self.machine = self.machine.branch(taken[0].before + 1)
        del self.actions[first:]
        self.process = self.machine.processes[PROGRAM]
        return taken

    @property
    def idle(self) -> bool:
        """Has nothing that was done since `start` changed anything?"""
        return not any(map(self.changed, range(self._fixed, len(self.actions))))

    def changed(self, number: int) -> bool:
        """Is the machine different after this action from what it was before?"""
        actions, trace = self.actions, self.machine.trace
        last = actions[number + 1].before if number + 1 < len(actions) else len(trace) - 1
        different = any(trace.diff(actions[number].before, last)) if last > actions[number].before else False
        return different or actions[number].outcome.result in ("waits", "oops")

    # ---- to look at

    @property
    def steps(self) -> Trace:
        """The steps of the last action since `start`; none before the first."""
        trace = self.machine.trace
        return trace[self.actions[-1].before + 1 :] if self.calls_made else trace[len(trace) :]

    def descriptors(self) -> dict[int, str]:
        """The descriptor table of the program: number → the file that it leads to; without the terminal it came with."""
        table = self.process.task.files.fd.slots
        labels = {number: getattr(file, "label", str(file)) for number, file in sorted(table.items())}
        return {number: label for number, label in labels.items() if not label.startswith("terminal")}

    def nodes(self) -> dict[str, str]:
        """The device nodes of the machine: what a reader may choose from → path. Devices of VFIO drivers only."""
        return {node.label: node.path for node in device_nodes(self.machine.topology)}

    def group_of(self, path: str) -> str:
        """The path of the group that the device behind this path is in."""
        return next(node.group for node in device_nodes(self.machine.topology) if node.path == path)

    def code(self) -> str:
        """Everything that was done, as a Python program."""
        return program_of(self.machine)

    # ---- what the program can do

    def open(self, path: str) -> Outcome:
        """Open a path."""
        return self._do(f'open("{path}")', lambda p: str(p.open(path)))

    def bind(self, fd: int, **fields: int) -> Outcome:
        """VFIO_DEVICE_BIND_IOMMUFD with these fields of its struct."""
        argument = uapi.VfioDeviceBindIommufd(**fields)
        return self._do(
            f"ioctl({fd}, VFIO_DEVICE_BIND_IOMMUFD)",
            lambda p: str(p.ioctl(fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, argument)),
            lambda: f"the kernel wrote out_devid = {argument.out_devid}",
            repr(argument).partition("(")[2].removesuffix(")"),
        )

    def get_info(self, fd: int) -> Outcome:
        """VFIO_DEVICE_GET_INFO."""
        info = uapi.VfioDeviceInfo()
        return self._do(
            f"ioctl({fd}, VFIO_DEVICE_GET_INFO)",
            lambda p: str(p.ioctl(fd, uapi.VFIO_DEVICE_GET_INFO, info)),
            lambda: f"the device has {info.num_regions} regions and {info.num_irqs} kinds of interrupts",
        )

    def dup(self, fd: int) -> Outcome:
        """A second descriptor for the same open file."""
        return self._do(f"dup({fd})", lambda p: str(p.dup(fd)))

    def close(self, fd: int) -> Outcome:
        """Give a descriptor back."""
        return self._do(f"close({fd})", lambda p: str(p.close(fd)))

    def create_vm(self) -> Outcome:
        """A VM; /dev/kvm is opened for it and closed again."""
        return self._do("KVM_CREATE_VM", _create_vm)

    def create_kvm_vfio(self, vm: int) -> Outcome:
        """The kvm-vfio device of a VM: its list of VFIO files."""
        wanted = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)

        def create(p: Process) -> str:
            p.ioctl(vm, uapi.KVM_CREATE_DEVICE, wanted)
            return str(wanted.fd)

        return self._do(f"ioctl({vm}, KVM_CREATE_DEVICE, kvm-vfio)", create)

    def file_add(self, kv: int, fd: int) -> Outcome:
        """KVM_DEV_VFIO_FILE_ADD: put a file on the list of a kvm-vfio device."""
        return self._attribute("KVM_DEV_VFIO_FILE_ADD", kv, fd)

    def file_del(self, kv: int, fd: int) -> Outcome:
        """KVM_DEV_VFIO_FILE_DEL: take a file off the list."""
        return self._attribute("KVM_DEV_VFIO_FILE_DEL", kv, fd)

    def _attribute(self, name: str, kv: int, fd: int) -> Outcome:

        def call(p: Process) -> str:
            address = p.memory.map(4, fd.to_bytes(4, "little", signed=True))
            attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.CONSTANTS[name], addr=address)
            return str(p.ioctl(kv, uapi.KVM_SET_DEVICE_ATTR, attr))

        return self._do(f"ioctl({kv}, {name} {fd})", call)

    def _do(
        self, shown: str, call: Callable[[Process], str], more: Callable[[], str] = lambda: "", fields: str = ""
    ) -> Outcome:
        """Make a call and remember it, whatever the kernel says. ValueError where the program cannot call at all."""
        before = len(self.machine.trace) - 1
        try:
            result = call(self.process)
            outcome = Outcome(shown, result, more())
        except (uapi.KernelError, Blocked, KernelOops) as error:
            outcome = Outcome.of(shown, error)
        self.actions.append(Action(outcome, before, fields))
        return outcome


def _create_vm(p: Process) -> str:
    kvm = p.open("/dev/kvm")
    vm = p.ioctl(kvm, uapi.KVM_CREATE_VM)
    p.close(kvm)
    return str(vm)
