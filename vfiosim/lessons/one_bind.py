"""The lesson about one BIND: its benches, and its tasks. The questions are in `one_bind_questions`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache, partial

from ..lab import (
    Bench,
    Distractor,
    Exercise,
    ExperimentResult,
    Goal,
    Ordering,
    Parsons,
    Session,
    Task,
)
from ..lab import goal as facts
from ..lab.outcome import Outcome
from ..lab.parsons import InOrder, by_trace
from ..trace import Trace
from . import misconceptions as M
from .beginnings import bound, leading_to, opened
from .beginnings import bound_program as bound_program
from .lesson import Lesson
from .one_bind_questions import CHECK, QUESTIONS

BIND = frozenset(
    {
        "thread *",
        "fds",
        "mm_struct",
        "file vfio*",
        "file iommu*",
        "file group1#*",
        "vfio_device vfio0",
        "vfio_device_set vfio0",
        "vfio_group 1",
        "iommu_group 1",
        "iommufd_device",
        "iommufd_group",
    }
)
NOT_YET = ("vf_token", "in this iommufd", "cdev_opened", "owner_cnt")  # fields that no lesson so far needs
KVM = BIND | {"file kvm*", "kvm"}


def bound_for_a_vm(session: Session) -> None:
    """A device that is bound to an iommufd, and listed by the kvm-vfio device of a VM before that."""
    opened(session)
    vm = int(session.create_vm().result)
    kv = int(session.create_kvm_vfio(vm).result)
    session.file_add(kv, 3)
    session.bind(3, iommufd=4)


def rehearse(rehearsal: Callable[[Session], object]) -> Trace:
    """All steps of a run that nobody sees: what occurs in it has its place in the picture from the start."""
    session = Session()
    rehearsal(session)
    return session.machine.trace


def bind() -> Bench:
    """Open and bind; every field of the struct can be changed."""
    return Bench(
        Session(start=opened), show=("open", "bind", "descriptor"), only=BIND, without=NOT_YET, reserve=rehearse(bound)
    )


def kvm() -> Bench:
    """Everything, with a VM; BIND is made with the right fields, so there are none to see."""
    rows = ("bind", "descriptor", "kvm", "why")
    return Bench(
        Session(start=opened), show=rows, fields=False, only=KVM, without=NOT_YET, reserve=rehearse(bound_for_a_vm)
    )


# ---- the first task: every check refuses once

TO_MEET = {  # each check of BIND that can refuse here, so that none is met in vain → its errno
    "argsz_minimum": "EINVAL",
    "copy_from_user": "EFAULT",
    "flags_known": "EINVAL",
    "iommufd_not_negative": "EINVAL",
    "iommufd_is_open": "EBADF",
    "file_is_iommufd": "EBADFD",
    "group_is_closed": "EBUSY",
    "not_bound_yet": "EINVAL",
}


def _refusals(session: Session) -> list[Outcome]:
    return [done.outcome for done in session.done if "BIND" in done.outcome.call and done.outcome.refused]


def unmet(session: Session) -> list[str]:
    """The checks of BIND that have not refused yet."""
    met = {refused.check for refused in _refusals(session) if refused.check in TO_MEET}
    return [check for check in TO_MEET if check not in met]


def still_to_meet(session: Session) -> list[str]:
    """How many checks have still to refuse, by their errno, and which of those that have refused is not asked for."""
    others = {refused.result: refused.sentence for refused in _refusals(session) if refused.check not in TO_MEET}
    return [
        f"{errno}: {number} more {'check' if number == 1 else 'checks'} to meet"
        + (f" (not the one that says “{others[errno]}”)" if errno in others else "")
        for errno, number in Counter(TO_MEET[check] for check in unmet(session)).items()
    ]


WAYS = {  # to meet a check: what to think of, and what to press
    "argsz_minimum": ("a struct can be too short. Which field tells its length?", "<code>argsz</code>: 8"),
    "copy_from_user": (
        "the kernel copies as many bytes as <code>argsz</code> says. How many has the program there?",
        "<code>argsz</code>: 4096",
    ),
    "flags_known": ("a kernel refuses a flag that it does not know", "<code>flags</code>: 2"),
    "iommufd_not_negative": ("no descriptor has a number below 0", "<code>iommufd</code>: -1"),
    "iommufd_is_open": ("a number that can be a descriptor, and is none now", "<code>iommufd</code>: 777"),
    "file_is_iommufd": ("a descriptor that is open, and leads to a file of another kind", "<code>iommufd</code>: 3"),
    "group_is_closed": (
        "all fields are right here. Somebody uses the group in the old way: which button opens it?",
        "<b>open group</b>, <b>bind</b>, then close the group's descriptor",
    ),
    "not_bound_yet": (
        "all fields are right here. Whoever is bound cannot be bound again: keep it for the end",
        "last of all two right BINDs",
    ),
}


def ways_to_meet(session: Session) -> list[str]:
    """The hints: about what `still_to_meet` names first, then about all of it."""
    left = unmet(session)
    if not left:
        return ["You have met them all: press <b>Check</b>."]
    first, *more = [(f"<b>{TO_MEET[check]}</b>: ", *WAYS[check]) for check in left]
    rest = "; ".join(f"{errno}{way}" for errno, _, way in more)
    again = ". Then put the field right again." if first[2].startswith("<code>") else "."
    told = [f"{first[0]}{first[1]}{'' if first[1].endswith('?') else '.'}", f"{first[0]}{first[2]}{again}"]
    return [*told, f"And the others: {rest}."] if rest else told


def meet_them(session: Session) -> None:
    """The solution: what a field alone can do, then the open group, then a second bind."""
    for fields in ({"argsz": 8}, {"argsz": 4096}, {"flags": 2}, {"iommufd": -1}, {"iommufd": 777}, {"iommufd": 3}):
        session.bind(3, **{"argsz": 24, "iommufd": 4, **fields})
    session.open("/dev/vfio/1")
    session.bind(3, argsz=24, iommufd=4)
    session.close(5)
    session.bind(3, argsz=24, iommufd=4)
    session.bind(3, argsz=24, iommufd=4)


OUT_OF_REACH = ("iommufd_is_open", "file_is_iommufd", "group_is_closed")  # once the file is bound


def _bound_too_early(session: Session) -> bool:
    bound = session.machine.trace.end.objects["vfio_device_file 1"].value("access_granted")
    return bool(bound) and not {*OUT_OF_REACH}.isdisjoint(unmet(session))


EVERY_REFUSAL = Task(
    "BIND has many checks. Meet eight of them, each once and in any order: four that refuse with EINVAL, and one each "
    "with EFAULT, EBADF, EBADFD and EBUSY. What is taken back with <b>Undo</b> does not count; <b>Check</b> tells what is missing.",
    opened,
    still_to_meet,
    ways_to_meet,
    meet_them,
    "The fields are checked first, then the group. Then, under the lock of the device set: is the file bound already, and last of "
    "all the descriptor. A bound file stays bound, so here the second bind is made when all else has been met. "
    "After each refusal everything is as before: what was taken on the way is given back in reverse order.",
    distractors={
        _bound_too_early: "The file is bound now, so some of the eight cannot be met any more: BIND is refused before it looks "
        "up a descriptor, and the group cannot be opened. <b>Undo</b> leads back.",
    },
    name="01 task: every refusal",
)


def errors() -> Exercise:
    """The first task of the lesson."""
    rows = ("open", "bind", "descriptor")
    return Exercise(
        EVERY_REFUSAL, lambda session: Bench(session, show=rows, only=BIND, without=NOT_YET, reserve=rehearse(bound))
    )


# ---- the second task: the steps of a BIND in their order


@cache
def _one_bind() -> ExperimentResult:
    session = Session(start=opened)
    session.bind(3, argsz=24, iommufd=4)
    return ExperimentResult("", session.steps)


STEPS = Parsons(
    "These are steps of a BIND that succeeds. Put them into the order in which the kernel does them. Not every line is needed.",
    {
        "argument": "the argument is copied and looked at",
        "group": "the group is closed to the old way",
        "lock": "the lock of the device set is taken",
        "iommufd": "the binding holds the iommufd's file",
        "device": "the device is opened, open_count becomes 1",
        "object": "the device gets an object in the iommufd",
        "id": "out_devid is written",
        "gate": "the gate opens",
    },
    by_trace(
        _one_bind,
        {
            "argument": "The argument is copied",
            "group": "is blocked",
            "lock": "The lock of the device set: nobody",
            "iommufd": "the binding holds its file",
            "device": "opened for the first time",
            "object": "gets an object in",
            "id": "is written into",
            "gate": "The gate opens",
        },
    ),
    "what can be refused without touching anything comes first. References are taken under the lock, each after what it rests on. "
    "The gate comes last: a call that finds the gate open must find an open device behind it.",
    extra={"unwind": "the group is opened to the old way again"},
    distractors={
        "group": "A blocked group is shut for other programs, too. So the struct is checked first: a call with a wrong "
        "struct must not block the group.",
        "device": "An open device must belong to an iommufd, so the iommufd is held before.",
        "object": "The object stands for an open device, so the device is opened before.",
        "id": "out_devid is the ID of the object, so there is an object before.",
        "gate": "Other calls may use the device as soon as the gate is open, so all the rest is done before.",
        "iommufd": Distractor(
            "Looking the descriptor up takes a reference, and a refused call has to give that back. So it comes "
            "late, behind the checks that take nothing.",
            M.ALL_CHECKS_AT_ONCE,
        ),
        "unwind": "A BIND that succeeds gives nothing back: the group stays blocked as long as the binding lives.",
        "lock": "The group is blocked under a lock of its own, before the lock of the device set.",
    },
    hints=(
        InOrder(
            "What takes nothing comes first, for it may refuse. What lets other calls in comes last.",
            "argument",
            "gate",
        ),
        InOrder(
            "The group has a lock of its own: it is closed before the lock of the device set is taken. Under that lock the "
            "iommufd is held, then the device is opened, then it gets its object.",
            *("group", "lock", "iommufd", "device", "object"),
        ),
        InOrder("The kernel writes out_devid while it can still fail; the gate cannot fail.", "id", "gate"),
    ),
    seed=2,
    name="01 order: the steps of a BIND",
    view=tuple(sorted(BIND)),
)

order = partial(Ordering, STEPS)


# ---- the third task: make the device free


def held_three_times(session: Session) -> None:
    """Two descriptors and the list of a kvm-vfio device keep one bound file."""
    opened(session)
    session.dup(3)
    session.create_vm()
    (vm,) = leading_to(session, "kvm-vm")
    session.create_kvm_vfio(vm)
    (kv,) = leading_to(session, "kvm-vfio")
    session.file_add(kv, 3)
    session.bind(3, iommufd=4)


FREE_AND_THE_REST_OPEN = Goal(
    facts.gone("file vfio0#1"),
    facts.value("vfio_device vfio0", "open_count", 0),
    facts.descriptor("kvm-vm*", "the VM"),
    facts.descriptor("iommu*", "the iommufd"),
)


def free_it(session: Session) -> None:
    """The solution: first off the list, as long as a descriptor can name the file, then the descriptors."""
    (kv,) = leading_to(session, "kvm-vfio")
    session.file_del(kv, 3)
    session.close(3)
    session.close(5)


def _only_the_list_is_left(session: Session) -> bool:
    return not leading_to(session, "vfio0") and "file vfio0#1" in session.machine.trace.end.objects


FREE_THE_DEVICE = Task(
    "The device is bound. Its file has two descriptors, and it is on the list of a kvm-vfio device. "
    "Make the device free again: nobody has it open. The VM and the iommufd stay open.",
    held_three_times,
    FREE_AND_THE_REST_OPEN,
    (
        "A file lives as long as anybody holds it. Ask <i>why is it alive?</i> about <code>file vfio0#1</code> and count.",
        "There are three holders: descriptors 3 and 5, and the list. FILE DEL needs a descriptor to name the file.",
        "FILE DEL with file fd 3; then close 3 and close 5.",
    ),
    free_it,
    "The file is held three times: by descriptors 3 and 5, and by the list. There is no request that unbinds: the binding "
    "ends when the file ends. FILE DEL finds the file through a descriptor, so it comes before the last close. If both are closed "
    "already, only closing the kvm-vfio descriptor is left: it drops the whole list. That is a second way.",
    distractors={
        _only_the_list_is_left: Distractor(
            "You closed both descriptors, and the file still lives: the list of the kvm-vfio device holds it, too.",
            M.ONE_NUMBER_ONE_HOLDER,
        ),
    },
    drawn=False,
    name="01 task: set the device free",
)

exercise = partial(
    Exercise,
    FREE_THE_DEVICE,
    lambda session: Bench(session, show=("descriptor", "kvm", "why"), only=KVM, without=NOT_YET),
)

FURTHER = (FREE_THE_DEVICE.name, "01 close the iommufd first", "01 check: a copy", "01 a device without DMA")
LESSON = Lesson(
    "01",
    QUESTIONS,
    CHECK,
    {EVERY_REFUSAL.name: "eight refusals", STEPS.name: "the steps in their order", FREE_THE_DEVICE.name: "set it free"},
    further=FURTHER,
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
