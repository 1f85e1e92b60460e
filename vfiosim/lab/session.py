"""The calls of a lesson: one program on a machine, each call with the name by which lessons tell it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from .. import uapi
from ..kernel.config import Config, Switches
from ..machine import Call, Machine, Process
from ..machine.events import Called, Event, Mapped
from ..topology import Topology
from ..trace import State
from .outcome import Outcome
from .run import PROGRAM, Run
from .setup import Setup


@dataclass(frozen=True)
class LessonCall(Event, words="{shown}"):
    """A call with all that it needs, e.g. memory.

    `argument` is its struct, of which the fields in `given` are told; `answer` is the field in which the kernel answers, if any.
    """

    shown: str
    make: Callable[[Machine], Call]
    argument: uapi.Struct | None = None
    given: Collection[str] = ()
    answer: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """What was given, by the names of the fields."""
        return (
            {name: value for name, value in self.argument.shown().items() if name in self.given}
            if self.argument
            else {}
        )

    def do(self, machine: Machine) -> Call:
        return self.make(machine)


class Session(Run):
    """A machine with one program, and all that the program did. `start` is done first, and cannot be taken back.

    `config`: what is different about how its kernel was built, as for a Machine.
    """

    def __init__(
        self,
        topology: Topology | str = "small",
        start: Callable[[Session], object] = lambda session: None,
        config: Switches = None,
    ) -> None:
        topology = Topology.named(topology) if isinstance(topology, str) else topology
        super().__init__(Setup(topology, processes=(PROGRAM,), config=Config.of(config)))
        start(self)
        self.given = len(self.done)
        # By object, the cells that a task is about: a picture has their rows in any case.
        self.wanted: tuple[tuple[str, str], ...] = ()

    @property
    def process(self) -> Process:
        """The program."""
        return self.machine.processes[PROGRAM]

    @property
    def state(self) -> State:
        """Where the machine stands, as plain data."""
        return self.machine.trace.end

    def _outcome(self, action: Event, came: Any) -> Outcome:
        outcome = super()._outcome(action, came)
        if outcome.waits:
            return replace(outcome, sentence=self.machine.trace[-1].sentence.removesuffix("."))
        written = dict(line.split(" = ") for line in outcome.wrote)
        answer = written.get(getattr(action, "answer", ""))
        return outcome if answer is None else replace(outcome, result=answer, wrote=())

    # ---- what the program can do

    def open(self, path: str) -> Outcome:
        """Open a path."""
        return self._call(f'open("{path}")', "open", path)

    def bind(self, fd: int, **fields: int) -> Outcome:
        """VFIO_DEVICE_BIND_IOMMUFD with these fields of its struct."""
        argument = uapi.VfioDeviceBindIommufd(**fields)
        return self._ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", argument, ("argsz", "flags", "iommufd", "token_uuid_ptr"))

    def get_info(self, fd: int) -> Outcome:
        """VFIO_DEVICE_GET_INFO."""
        return self._ioctl(fd, "VFIO_DEVICE_GET_INFO", uapi.VfioDeviceInfo())

    def dup(self, fd: int) -> Outcome:
        """A second descriptor for the same open file."""
        return self._call(f"dup({fd})", "dup", fd)

    def close(self, fd: int) -> Outcome:
        """Give a descriptor back."""
        return self._call(f"close({fd})", "close", fd)

    def create_vm(self) -> Outcome:
        """A VM; /dev/kvm is opened for it and closed again."""
        return self.do(LessonCall("KVM_CREATE_VM", _create_vm))

    def create_kvm_vfio(self, vm: int) -> Outcome:
        """The kvm-vfio device of a VM: its list of VFIO files."""
        wanted = uapi.KvmCreateDevice(type=uapi.KVM_DEV_TYPE_VFIO)
        made = _called("ioctl", vm, uapi.KVM_CREATE_DEVICE, bytes(wanted))
        return self.do(LessonCall(f"ioctl({vm}, KVM_CREATE_DEVICE, kvm-vfio)", made.do, answer="fd"))

    def file_add(self, kv: int, fd: int) -> Outcome:
        """KVM_DEV_VFIO_FILE_ADD: put a file on the list of a kvm-vfio device."""
        return self._attribute("KVM_DEV_VFIO_FILE_ADD", kv, fd)

    def file_del(self, kv: int, fd: int) -> Outcome:
        """KVM_DEV_VFIO_FILE_DEL: take a file off the list."""
        return self._attribute("KVM_DEV_VFIO_FILE_DEL", kv, fd)

    def _attribute(self, name: str, kv: int, fd: int) -> Outcome:

        def call(machine: Machine) -> Call:
            address = Mapped(PROGRAM, 4, fd.to_bytes(4, "little", signed=True)).do(machine)
            attr = uapi.KvmDeviceAttr(group=uapi.KVM_DEV_VFIO_FILE, attr=uapi.CONSTANTS[name], addr=address)
            return _called("ioctl", kv, uapi.KVM_SET_DEVICE_ATTR, bytes(attr)).do(machine)

        return self.do(LessonCall(f"ioctl({kv}, {name} {fd})", call))

    def ask(self, fd: int, request: str, **fields: int) -> Outcome:
        """A request by its name, with these fields of its struct, e.g. "IOMMU_DESTROY" with id=2."""
        struct = uapi.REQUESTS[request].struct
        assert struct is not None, f"{request} takes no struct"
        return self._ioctl(fd, request, struct(**fields), fields)

    def _ioctl(self, fd: int, request: str, argument: uapi.Struct, given: Collection[str] = ()) -> Outcome:
        made = _called("ioctl", fd, uapi.REQUESTS[request].number, bytes(argument))
        return self.do(LessonCall(f"ioctl({fd}, {request})", made.do, argument, given))

    def _call(self, shown: str, name: str, *arguments: object) -> Outcome:
        return self.do(LessonCall(shown, _called(name, *arguments).do))


def _called(name: str, *arguments: object) -> Called:
    return Called(PROGRAM, name, arguments)


def _create_vm(machine: Machine) -> Call:
    kvm = _called("open", "/dev/kvm").do(machine).value()
    made = _called("ioctl", kvm, uapi.KVM_CREATE_VM).do(machine)
    _called("close", kvm).do(machine)
    return made
