"""The lesson about virtual machines: the device takes the VM of its file once, at BIND, and keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..lab import Bench, Distractor, Exercise, Goal, Judged, Ordering, Parsons, Session, Task
from ..lab import goal as facts
from ..lab.parsons import InOrder, by_running, without_needless
from ..views.alone import Close
from . import misconceptions as M
from .lesson import Lesson
from .vms_questions import CHECK, QUESTIONS, VIEW
from .vms_questions import dying as dying
from .vms_questions import get_anyway as get_anyway
from .vms_strip import CALLS, TIPS, two_vms
from .vms_strip import done as done
from .vms_strip import strip as strip


def vms() -> Bench:
    """A device and two VMs, nothing listed, nothing bound."""
    return _bench(Session(start=two_vms), "add 1", "add 2", "del 1", "del 2", "bind", "close device")


def _bench(session: Session, *names: str) -> Bench:
    reserve = done("add 1", "add 2", "bind").machine.trace
    calls = {name: (CALLS[name], TIPS[name]) for name in names}
    files = (f"file {file.label}" for file in session.descriptors().values())
    keep = ("fds", "vfio_device vfio0", *files)  # from the start: what comes later would make all of it smaller
    return Bench(
        session,
        show=(),
        more=calls,
        only=(*VIEW, "file iommu*"),
        keep=keep,
        unfold=("file vfio0#1", "file vfio0#2"),
        reserve=reserve,
        atlas=Close(),
        watch=("kvm",),
    )


# ---- the first task: calls in an order


def _listed_for_one(session: Session) -> None:
    two_vms(session)
    CALLS["add 1"](session)


FOR_TWO = Goal(
    facts.value("vfio_device vfio0", "kvm", "kvm 2"),
    facts.value("vfio_device vfio0", "open_count", 1),
    facts.value("kvm_vfio 1", "file_list", "()"),
)


def for_two(order: Sequence[str]) -> Judged:
    """Make the calls; where all succeed and the end is not reached, the first one that went wrong is that which lost VM 2."""
    judged = by_running(_listed_for_one, CALLS, FOR_TWO)(order)
    if judged.place != len(order):
        return judged
    for place, name in enumerate(order):
        early = name == "bind" and "add 2" not in order[:place]
        clears = name == "del 1" and "add 2" in order[:place] and "bind" not in order[:place]
        if early or clears:
            return judged._replace(place=place, reason="LOST")
    return judged


LET_IT_BE_TWO = Parsons(
    "By mistake the file is on the list of VM 1. The device is for VM 2. Put calls into an order after which the device is "
    "bound and holds VM 2, and the list of VM 1 is empty. Use only lines that are needed.",
    {
        "del 1": "FILE_DEL from the list of VM 1",
        "add 2": "FILE_ADD to the list of VM 2",
        "bind": "BIND",
    },
    without_needless(for_two),
    "the file has one pointer. The call that writes it last before BIND decides: FILE_ADD writes a VM, FILE_DEL writes none.",
    extra={"del 2": "FILE_DEL from the list of VM 2", "close VM 1": "close the descriptor of VM 1"},
    distractors={
        "bind LOST": "BIND asks the file for its VM once. At that moment the file did not point to VM 2.",
        "del 1 LOST": "FILE_DEL clears the file's pointer, whichever list you name. Here the file pointed to VM 2 already.",
        "del 2 ENOENT": "The list of VM 2 does not have the file.",
        "bind EINVAL": "A file is bound once.",
        "add 2 EEXIST": "The list of VM 2 has the file already.",
    },
    hints=(
        "Follow the file's pointer through your calls. Where does it lead when BIND comes?",
        "FILE_DEL clears the pointer, also where it leads to the other VM.",
        InOrder("FILE_DEL 1, FILE_ADD 2, BIND.", "del 1", "add 2", "bind"),
    ),
    seed=2,
    name="07 order: for VM 2",
    view=VIEW,
)

order = partial(Ordering, LET_IT_BE_TWO)


# ---- the second task: too late


def too_late(session: Session) -> None:
    """A device that was bound before its file came on the list of VM 1."""
    two_vms(session)
    CALLS["bind"](session)
    CALLS["add 1"](session)


def once_more(session: Session) -> None:
    """The solution: end the binding with its file, and begin anew in the right order."""
    for name in ("del 1", "close device", "open device", "add 1", "bind"):
        CALLS[name](session)


def _bound_again(session: Session) -> bool:
    return session.done[-1].outcome.check == "not_bound_yet"


def _still_listed(session: Session) -> bool:
    objects = session.machine.trace.end.objects
    return "file vfio0#1" in objects and not any(
        holder == "fds vmm" for holder, _ in objects["file vfio0#1"].counts["f_ref"]
    )


def _listed_again(session: Session) -> bool:
    added = ["FILE_ADD" in each.outcome.call for each in session.done]
    return sum(added) > 1 and added[-1]


TOO_LATE = Task(
    "This program called BIND first and FILE_ADD afterwards. So its device works, and knows no VM. Repair that while the program "
    "goes on: at the end the device is bound, and holds VM 1.",
    too_late,
    Goal(facts.value("vfio_device vfio0", "kvm", "kvm 1"), facts.value("vfio_device vfio0", "open_count", 1)),
    (
        "BIND takes the VM, and a file is bound once. How does a binding end?",
        "A binding ends with its file. Who holds the file, besides descriptor 3?",
        "del 1, close device, open device, add 1, bind.",
    ),
    once_more,
    "BIND takes its sample once for each file, so the file has to go: off the list, then closed. The next open makes a new file. "
    "Put that on the list first, then call BIND.",
    distractors={
        _bound_again: Distractor(
            "You called BIND for a file that is bound already: a file is bound once, and its VM was looked for "
            "then. First the binding has to end.",
            M.VM_FOLLOWS_THE_LIST,
        ),
        _listed_again: Distractor(
            "You listed the file once more. The file knows VM 1 as before; BIND is over, and the device does not look again.",
            M.VM_FOLLOWS_THE_LIST,
        ),
        _still_listed: "No descriptor leads to the bound file any more, but the list still holds it: so the binding goes on. "
        "What does FILE_DEL need to find the file?",
    },
    name="07 task: too late",
    drawn=False,
)


def exercise() -> Exercise:
    """The second task of the lesson."""
    names = ("add 1", "del 1", "bind", "close device", "open device")
    return Exercise(TOO_LATE, lambda session: _bench(session, *names))


LESSON = Lesson(
    "07",
    QUESTIONS,
    CHECK,
    {LET_IT_BE_TWO.name: "calls in an order, for VM 2", TOO_LATE.name: "the program in a hurry"},
    VIEW,
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
