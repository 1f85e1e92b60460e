"""The lesson about one BIND: its benches, and its task. The questions are in `one_bind_questions`."""

from __future__ import annotations

from collections.abc import Callable

from ..lab import Bench, Exercise, Prediction, Session, Task
from ..trace import Trace
from .one_bind_questions import DEVICE, IOMMUFD, QUESTIONS

CORE = frozenset(
    {
        "thread *",
        "fds",
        "file vfio*",
        "file iommu*",
        "vfio_device_file",
        "vfio_device vfio0",
        "iommufd_ctx",
        "iommufd_device",
    }
)
GROUPS = CORE | {"vfio_group 1", "iommu_group 1", "iommufd_group", "file group1#*"}
KVM = CORE | {"file kvm-v*", "kvm", "kvm_device", "kvm_vfio"}


def opened(session: Session) -> None:
    """A device file and an iommufd, both open, nothing bound."""
    session.open(DEVICE)
    session.open(IOMMUFD)


def bound(session: Session) -> None:
    """A device that is bound to an iommufd."""
    opened(session)
    session.bind(3, iommufd=4)


def bound_for_a_vm(session: Session) -> None:
    """A device that is bound to an iommufd, and listed by the kvm-vfio device of a VM before that."""
    opened(session)
    session.create_vm()
    session.create_kvm_vfio(5)
    session.file_add(6, 3)
    session.bind(3, iommufd=4)


def room(rehearsal: Callable[[Session], object]) -> Trace:
    """All steps of a run that nobody sees: what occurs in it has its place in the picture from the start."""
    session = Session()
    rehearsal(session)
    return session.machine.trace


def first_bind() -> Bench:
    """One button: bind."""
    return Bench(Session(start=opened), show=("bind",), fields=False, only=CORE, room=room(bound))


def gate() -> Bench:
    """Open a device and ask it something."""
    return Bench(show=("open", "descriptor"), only=CORE, room=room(bound))


def bind() -> Bench:
    """Open and bind; every field of the struct can be changed."""
    return Bench(Session(start=opened), show=("open", "bind", "descriptor"), only=GROUPS, room=room(bound))


def close() -> Bench:
    """A bound device, to be closed in any order; and who keeps what alive."""
    return Bench(Session(start=bound), show=("descriptor", "why"), only=CORE, room=room(bound))


def kvm() -> Bench:
    """Everything, with a VM."""
    rows = ("bind", "descriptor", "kvm", "why")
    return Bench(Session(start=opened), show=rows, only=KVM, room=room(bound_for_a_vm))


def predict(name: str) -> Prediction:
    """One of the questions of the lesson. Raises ValueError for a name that it does not have."""
    if name not in QUESTIONS:
        raise ValueError(f"there is no question {name!r}; there are {', '.join(QUESTIONS)}")
    return Prediction(QUESTIONS[name])


# ---- the task: make the device free


def held_three_times(session: Session) -> None:
    """Two descriptors and the list of a kvm-vfio device keep one bound file."""
    opened(session)
    session.dup(3)
    session.create_vm()
    (vm,) = _leading_to(session, "kvm-vm")
    session.create_kvm_vfio(vm)
    (kv,) = _leading_to(session, "kvm-vfio")
    session.file_add(kv, 3)
    session.bind(3, iommufd=4)


def still_to_do(session: Session) -> list[str]:
    """What is missing until the device is free, the VM and the iommufd being open still."""
    state = session.machine.trace.end
    left = []
    for thing in state.objects.values():
        if thing.kind == "file" and thing.label.startswith("vfio0"):
            holders = [f"{holder} ({reason})" for holder, reason in thing.counts["f_ref"]]
            left.append(f"{thing.oid} is alive, because it is held by {' and '.join(holders)}")
    if state.objects["vfio_device vfio0"].value("open_count"):
        left.append("vfio_device vfio0 is still open: open_count is not 0")
    left += [f"{what} must stay open" for name, what in KEPT.items() if not _leading_to(session, name)]
    return left


KEPT = {"kvm-vm": "the VM", "iommu": "the iommufd"}


def free_it(session: Session) -> None:
    """The solution: first off the list, as long as a descriptor can name the file, then the descriptors."""
    (kv,) = _leading_to(session, "kvm-vfio")
    session.file_del(kv, 3)
    session.close(3)
    session.close(5)


def _leading_to(session: Session, name: str) -> list[int]:
    return [fd for fd, label in session.descriptors().items() if label.startswith(name)]


FREE_THE_DEVICE = Task(
    "The device is bound. Its file has two descriptors, and it is on the list of a kvm-vfio device. "
    "Make the device free again: nobody has it open. The VM and the iommufd stay open.",
    held_three_times,
    still_to_do,
    "A file lives as long as anybody holds it. Ask <i>why is it alive?</i> about <code>file vfio0#1</code> and count. "
    "FILE DEL needs a descriptor to name the file.",
    free_it,
    "The file is held three times: by descriptors 3 and 5, and by the list. There is no request that unbinds: the binding "
    "ends when the file ends. FILE DEL comes first, because it finds the file through a descriptor. Are both descriptors "
    "closed already, then only closing the kvm-vfio descriptor is left: it drops the whole list. That is a second way.",
)


def exercise() -> Exercise:
    """The task of the lesson."""
    return Exercise(FREE_THE_DEVICE, lambda session: Bench(session, show=("descriptor", "kvm", "why"), only=KVM))
