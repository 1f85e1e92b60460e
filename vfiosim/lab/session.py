"""What a bench does with a machine: one call after another, each with its outcome, its Python, and a way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .. import uapi
from ..engine import KernelOops
from ..kernel import Unsupported
from ..machine import Machine
from ..process import Blocked, Process
from ..topology import Topology
from ..trace import Trace

BIND = "VFIO_DEVICE_BIND_IOMMUFD"
PROGRAM = "vmm"
PREAMBLE = """from contextlib import suppress
from vfiosim import KernelError, Machine, uapi
"""


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

    def __str__(self) -> str:
        place = f" (check {self.check}, {self.where})" if self.check else ""
        return f"{self.call} → {self.result}" + (f": {self.sentence}" if self.sentence else "") + place


@dataclass(frozen=True)
class Action:
    """Something that was done: the Python for it, how it ended, and the last step of the trace before it."""

    code: tuple[str, ...]
    outcome: Outcome
    before: int


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

    def undo(self) -> Action | None:
        """Take the last action back: the machine is a branch of the old one from the step before. None: nothing to undo."""
        if not self.can_undo:
            return None
        action = self.actions[-1]
        self.machine = self.machine.branch(action.before + 1)
        self.actions.pop()
        self.process = self.machine.processes[PROGRAM]
        return action

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
        return {node.label: node.path for node in _nodes(self.machine)}

    def group_of(self, path: str) -> str:
        """The path of the group that the device behind this path is in."""
        return next(node.group for node in _nodes(self.machine) if node.path == path)

    def code(self) -> str:
        """Everything that was done, as a Python program."""
        topology = repr(self.topology) if isinstance(self.topology, str) else f"{self.topology!r}"
        lines = [PREAMBLE, f"m = Machine({topology})", f'p = m.process("{PROGRAM}")']
        if isinstance(self.topology, Topology):
            lines[0] = lines[0].replace("Machine, uapi", "DeviceSpec, Machine, Topology, uapi")
        for action in self.actions:
            lines += action.code
        return "\n".join(lines) + "\n"

    # ---- what the program can do

    def open(self, path: str) -> Outcome:
        """Open a path."""
        return self._do([f'p.open("{path}")'], f'open("{path}")', lambda p: str(p.open(path)))

    def bind(self, fd: int, **fields: int) -> Outcome:
        """VFIO_DEVICE_BIND_IOMMUFD with these fields of its struct."""
        argument = uapi.VfioDeviceBindIommufd(**fields)
        code = [f"bind = uapi.{argument!r}", f"p.ioctl({fd}, uapi.{BIND}, bind)"]
        return self._do(
            code, f"ioctl({fd}, {BIND})", lambda p: str(p.ioctl(fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, argument)),
            lambda: f"the kernel wrote out_devid = {argument.out_devid}",
        )  # fmt: skip

    def get_info(self, fd: int) -> Outcome:
        """VFIO_DEVICE_GET_INFO."""
        info = uapi.VfioDeviceInfo()
        code = [f"p.ioctl({fd}, uapi.VFIO_DEVICE_GET_INFO, uapi.VfioDeviceInfo())"]
        return self._do(
            code, f"ioctl({fd}, VFIO_DEVICE_GET_INFO)", lambda p: str(p.ioctl(fd, uapi.VFIO_DEVICE_GET_INFO, info)),
            lambda: f"the device has {info.num_regions} regions and {info.num_irqs} kinds of interrupts",
        )  # fmt: skip

    def dup(self, fd: int) -> Outcome:
        """A second descriptor for the same open file."""
        return self._do([f"p.dup({fd})"], f"dup({fd})", lambda p: str(p.dup(fd)))

    def close(self, fd: int) -> Outcome:
        """Give a descriptor back."""
        return self._do([f"p.close({fd})"], f"close({fd})", lambda p: str(p.close(fd)))

    def create_vm(self) -> Outcome:
        """A VM; /dev/kvm is opened for it and closed again."""
        code = ['kvm = p.open("/dev/kvm")', "p.ioctl(kvm, uapi.KVM_CREATE_VM)", "p.close(kvm)"]
        return self._do(code, "KVM_CREATE_VM", _create_vm, answers=1)

    def create_kvm_vfio(self, vm: int) -> Outcome:
        """The kvm-vfio device of a VM: its list of VFIO files."""
        wanted = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
        code = [f"wanted = uapi.{wanted!r}", f"p.ioctl({vm}, uapi.KVM_CREATE_DEVICE, wanted)"]

        def create(p: Process) -> str:
            p.ioctl(vm, uapi.KVM_CREATE_DEVICE, wanted)
            return str(wanted.fd)

        return self._do(code, f"ioctl({vm}, KVM_CREATE_DEVICE, kvm-vfio)", create, answer="wanted.fd is {}")

    def file_add(self, kv: int, fd: int) -> Outcome:
        """KVM_DEV_VFIO_FILE_ADD: put a file on the list of a kvm-vfio device."""
        return self._attribute("KVM_DEV_VFIO_FILE_ADD", kv, fd)

    def file_del(self, kv: int, fd: int) -> Outcome:
        """KVM_DEV_VFIO_FILE_DEL: take a file off the list."""
        return self._attribute("KVM_DEV_VFIO_FILE_DEL", kv, fd)

    def _attribute(self, name: str, kv: int, fd: int) -> Outcome:
        where = f"group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.{name}, addr=address"
        code = [
            f'address = p.memory.map(4, ({fd}).to_bytes(4, "little", signed=True))',
            f"p.ioctl({kv}, uapi.KVM_SET_DEVICE_ATTR, uapi.KvmDeviceAttr({where}))",
        ]

        def call(p: Process) -> str:
            address = p.memory.map(4, fd.to_bytes(4, "little", signed=True))
            attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.CONSTANTS[name], addr=address)
            return str(p.ioctl(kv, uapi.KVM_SET_DEVICE_ATTR, attr))

        return self._do(code, f"ioctl({kv}, {name} {fd})", call)

    def _do(
        self,
        code: list[str],
        shown: str,
        call: Callable[[Process], str],
        more: Callable[[], str] = lambda: "",
        *,
        answers: int = -1,
        answer: str = "{}",
    ) -> Outcome:
        """Make a call and remember it, whatever the kernel says. ValueError where the program cannot call at all.

        `answers` is the number of the line of `code` that gives the result, `answer` how it is told there.
        """
        before = len(self.machine.trace) - 1
        try:
            result = call(self.process)
            outcome = Outcome(shown, result, more())
        except Unsupported as error:
            outcome = Outcome(shown, "not modelled", error.sentence, unknown=True)
        except uapi.KernelError as error:
            outcome = Outcome(shown, error.name, error.sentence, error.check, error.where or "", refused=True)
        except Blocked as error:
            outcome = Outcome(shown, "waits", error.call.waits_for)
        except KernelOops as error:
            outcome = Outcome(shown, "oops", str(error), refused=True)
        if outcome.unknown:
            code = [f"# {outcome.sentence}:", *(f"# {line}" for line in code)]
        elif outcome.refused:
            code = [f"with suppress(KernelError):  # {outcome.result}", *(f"    {line}" for line in code)]
        elif outcome.result != "0":
            code[answers] += f"  # {answer.format(outcome.result)}"
        self.actions.append(Action(tuple(code), outcome, before))
        return outcome


@dataclass(frozen=True)
class _Node:
    label: str
    path: str
    group: str


def _nodes(machine: Machine) -> Iterator[_Node]:
    """The nodes of the devices that a VFIO driver has."""
    from ..kernel.base import VFIO_DRIVERS

    number = 0
    for device in machine.topology.devices:
        if device.driver in VFIO_DRIVERS:
            label = f"vfio{number}: {device.name}, {device.model}" if device.model else f"vfio{number}: {device.name}"
            yield _Node(label, f"/dev/vfio/devices/vfio{number}", f"/dev/vfio/{device.group}")
            number += 1


def _create_vm(p: Process) -> str:
    kvm = p.open("/dev/kvm")
    vm = p.ioctl(kvm, uapi.KVM_CREATE_VM)
    p.close(kvm)
    return str(vm)
