"""The lesson about who holds whom: counted references, weak pointers and roots; files against descriptors; `why`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..lab import Bench, Distractor, Exercise, Goal, Ordering, Outcome, Parsons, Session, Task
from ..lab import goal as facts
from ..lab.parsons import InOrder, by_running
from . import misconceptions as M
from .beginnings import bound, bound_program, leading_to, opened
from .lesson import Lesson
from .one_bind import BIND, KVM
from .who_holds_whom_questions import CHECK, QUESTIONS

__all__ = ["bound_program", "exercise", "finish", "holders", "once_answered", "order", "predict", "quiz"]


def holders() -> Bench:
    """A bound device: copy descriptors, close them, and ask who keeps what alive."""
    session = Session()
    bound(session)
    rows = ("open", "descriptor", "why")
    return Bench(Session(start=bound), show=rows, only=BIND, watch=("f_ref",), reserve=session.machine.trace)


# ---- the first task: an iommufd without a descriptor


def without_a_descriptor(session: Session) -> None:
    """The solution: bind while the descriptor is there, then give it back."""
    session.bind(3, iommufd=4)
    session.dup(3)
    session.close(4)


def _closed_too_early(session: Session) -> bool:
    return "iommufd_ctx 1" not in session.machine.trace.end.objects


def _opened_again(session: Session) -> bool:
    return "file vfio0#2" in session.machine.trace.end.objects


def _hints(session: Session) -> tuple[str, ...]:
    """Who has only the number of holders still to bring about is told of that half alone."""
    if "iommufd_device 1" in session.state.objects and not leading_to(session, "iommu#"):
        return (
            "The iommufd is as it should be. Now count who holds the device's file.",
            "Each descriptor is one holder of its file. A second number for the same file makes two.",
            "One call more: dup 3.",
        )
    return (
        "An object needs a holder. It need not be a descriptor.",
        "BIND makes two more holders for the iommufd's file. A dup makes one more for the device's file.",
        "Three calls: bind, dup 3, close 4. The first and the last cannot be swapped.",
    )


LIVE_WITHOUT_A_NUMBER = Task(
    "Two files are open: the device (3) and an iommufd (4). Bring the machine to the goal: the iommufd lives and no descriptor "
    "leads to it, and the device's one open file has exactly two holders.",
    opened,
    Goal(
        facts.alive("iommufd_ctx 1"),
        facts.descriptor("iommu*", "an iommufd", is_open=False),
        facts.value("file vfio0#1", "f_ref", 2),
        facts.opened_once("vfio0"),
    ),
    _hints,
    without_a_descriptor,
    "BIND looks the iommufd up by its descriptor, so that has to be open still. From then on the binding and the device object "
    "hold its file, and descriptor 4 may go. A dup is a second descriptor for the same file, so the device's file counts two.",
    distractors={
        _closed_too_early: "Descriptor 4 was the only holder when it was closed, so the iommufd went too.",
        _opened_again: Distractor(
            "A second open makes a second file; the first has the holders that it had.", M.SECOND_OPEN_IS_FINE
        ),
    },
    drawn=False,
    name="02 task: an iommufd without a descriptor",
)


def exercise() -> Exercise:
    """The first task of the lesson."""
    rows = ("open", "bind", "descriptor", "why")
    return Exercise(LIVE_WITHOUT_A_NUMBER, lambda session: Bench(session, show=rows, only=BIND))


# ---- the second task: calls in an order


def listed(session: Session) -> None:
    """A bound device with two descriptors, which is on the list of a VM's kvm-vfio device."""
    opened(session)
    session.dup(3)
    vm = int(session.create_vm().result)
    kv = int(session.create_kvm_vfio(vm).result)
    session.file_add(kv, 3)
    session.bind(3, iommufd=4)


def _delete(fd: int) -> Callable[[Session], Outcome]:
    """FILE_DEL of the file behind a descriptor."""
    return lambda session: session.file_del(leading_to(session, "kvm-vfio")[0], fd)


FREE_AND_TIDY = Goal(
    facts.gone("file vfio0#1"),
    facts.value("vfio_device vfio0", "open_count", 0),
    facts.descriptor("kvm-vfio*", "a kvm-vfio device"),
    facts.descriptor("iommu*", "an iommufd"),
)

LET_GO = Parsons(
    "A bound device has descriptors 3 and 5 for one file, and the file is on the list of a kvm-vfio device. Put calls into an "
    "order that frees the device. The iommufd and the kvm-vfio device stay open. Not every line is needed.",
    {
        "close 5": "close(5)",
        "del": "KVM_DEV_VFIO_FILE_DEL, descriptor 3",
        "close 3": "close(3)",
    },
    by_running(
        listed,
        {
            "close 5": lambda session: session.close(5),
            "del": _delete(3),
            "close 3": lambda session: session.close(3),
            "close 4": lambda session: session.close(4),
            "del 5": _delete(5),
        },
        FREE_AND_TIDY,
    ),
    "the list counts as a holder, and FILE_DEL finds the file by a descriptor. So take it off the list while one is open. "
    "Whether close(5) comes first, second or third makes no difference.",
    extra={"close 4": "close(4)", "del 5": "KVM_DEV_VFIO_FILE_DEL, descriptor 5"},
    distractors={
        "del EBADF": "FILE_DEL finds the file by descriptor 3, and that is closed already.",
        "del 5 EBADF": "FILE_DEL finds the file by descriptor 5, and that is closed already.",
        "del ENOENT": "A list has a file once, whichever descriptor names it. Descriptors 3 and 5 name the same one.",
        "del 5 ENOENT": "A list has a file once, whichever descriptor names it. Descriptors 3 and 5 name the same one.",
    },
    hints=(
        "Count the holders of the file: two descriptors and one list.",
        "FILE_DEL needs an open descriptor that leads to the file.",
        InOrder("FILE_DEL before close(3); close(5) anywhere; the rest is not needed.", "del", "close 3"),
    ),
    seed=4,
    name="02 order: let go",
    view=tuple(sorted(KVM)),
)

order = partial(Ordering, LET_GO)

LESSON = Lesson(
    "02",
    QUESTIONS,
    CHECK,
    {LIVE_WITHOUT_A_NUMBER.name: "alive without a descriptor", LET_GO.name: "calls in an order"},
    further=("02 who is alive?",),
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
