"""The capstone: a VMM. Its calls in an order that works, its way back, and a start that went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..lab import Exercise, Outcome, Session, Task
from ..lab.alive import describe
from ..lab.once_answered import OnceAnswered
from ..machine import Machine
from ..naming import must_be_one_of
from ..views.alone import Close
from .address_spaces_bench import Desk
from .address_spaces_dma import dma
from .beginnings import leading_to
from .fewest import fewest
from .lesson import Lesson
from .moves import DOWN, UP, Moves, at, close, opened, play
from .passing_on import HANDED_OVER
from .passing_on import hand_over as hand_over
from .vmm_questions import CARD, CHECK, QUESTIONS, VIEW, VM, guest, with_card

FILE, CTX = "file vfio0#1", "iommufd_ctx 1"
SHOWN = ("fds vmm", "file *", CARD, "kvm", "iommufd_ioas", "iommufd_hwpt_paging")
LISTED = ("fds vmm", "file *", CARD, "kvm")  # what a list of descriptors tells of
KEPT = ("fds vmm", CARD)


def _alive(machine: Machine, name: str) -> bool:
    return name in machine.engine.objects


def _wanted(*facts: tuple[str, bool, str]) -> list[str]:
    """What is wanted and is not so: each fact as it is said, whether it is true, and what is the case instead."""
    return [f"wanted: {said}; now: {instead}" for said, true, instead in facts if not true]


def _desk(session: Session, moves: Moves, blind: bool = False, **options: Any) -> Desk:
    """A bench with these moves; its picture is as low as it can be, for the way of a read stands above it."""
    usual: dict[str, Any] = {"show": (), "only": SHOWN, "atlas": Close()}
    return Desk(session, blind, more=moves, keep=KEPT, watch=(), **usual | options)


def level(name: str) -> Exercise:
    """One of the `LEVELS`, with the moves that it has."""
    task, moves = LEVELS[name]
    found_out = task is MEND  # there the way of a read would be the answer
    only = LISTED if found_out else SHOWN
    return Exercise(task, lambda session: _desk(session, moves, found_out, only=only))


def desk() -> Desk:
    """The VM has the card, and every move is there."""
    return _desk(Session(start=with_card), {**UP, **DOWN}, show=("why",))


def bring_up() -> Desk:
    """A guest runs, and has no card yet: the moves that give it one, and after each how far a read of the card comes."""
    return _desk(Session(start=guest), UP)


def holders(name: str) -> str:
    """Who keeps an object alive while the VM has the card: for each direct holder the shortest way to it."""
    return "\n".join(map(str, describe(Session(start=with_card).machine.why(name))[0]))


def calls(*names: str) -> str:
    """What a VMM gets that makes these moves in this order, all of a start by default, and what becomes of the card.

    Raises ValueError for a move that there is not.
    """
    session, lines = Session(start=guest), list[str]()
    for name in names or UP:
        must_be_one_of(UP, name, "move")
        try:
            one = UP[name][0](session)
            lines.append(f"{one.call:39} → {one.result:6} {one.evidence}".rstrip())
        except ValueError as problem:
            lines.append(f"{name} cannot be made: {problem}")
    wrong = not_started(session)
    return "\n".join([*lines, *(wrong or ["The card reads the guest's memory, and holds the VM."])])


# ---- the first level: start


def not_started(session: Session) -> list[str]:
    """What is still to be done until the guest can use the card."""
    machine = session.machine
    read, vm = dma(machine), machine.engine.objects[CARD].kvm.value  # type: ignore[attr-defined]
    shut = next((door for door in read.doors if not door.is_open), None)
    instead = f"it stops at {shut.call}: {shut.asked} {shut.answer}" if shut else ""
    return _wanted(
        ("a read of the card reaches the guest's memory", read.arrives, instead),
        ("the card holds the VM", vm is not None, "it does not know a VM"),
    )


def _bound_too_early(session: Session) -> bool:
    objects: Any = session.machine.engine.objects
    listed = objects["kvm_vfio 1"].file_list.value
    return bool(listed) and dma(session.machine).doors[0].is_open and objects[CARD].kvm.value is None


def _old_file_is_listed(session: Session) -> bool:
    listed = session.machine.engine.objects["kvm_vfio 1"].file_list.value  # type: ignore[attr-defined]
    return not {*listed} <= {*session.descriptors().values()}


def _two(name: str, call: Callable[[Session, int], Outcome], tip: str) -> Moves:
    """A move for each of two iommufds, descriptors 6 and 7."""
    return {f"{name} {fd}": (lambda session, fd=fd: call(session, fd), f"{tip} {fd}") for fd in (6, 7)}  # type: ignore[misc]


TWO: Moves = {
    **_two("MAP in", lambda session, fd: at(session, fd, "MAP"), "map the guest's memory in the address space of"),
    **_two(
        "UNMAP in", lambda session, fd: at(session, fd, "UNMAP"), "unmap the guest's memory in the address space of"
    ),
    **_two("close", close, "close descriptor"),
    "ATTACH": UP["ATTACH"],
    "DETACH": DOWN["DETACH"],
}


def in_a_hurry(session: Session) -> None:
    """A VMM has made every call of a start but FILE_ADD: the card reads, and does not know the VM."""
    guest(session)
    play(*(name for name in UP if name != "FILE_ADD"))(session)


START = Task(
    "A VMM was in a hurry: it has made every call but FILE_ADD. The card reads the guest's memory, and does not know the VM. Let "
    "the card hold the VM, and let a read at <code>0x10000</code> reach the guest's memory.",
    in_a_hurry,
    not_started,
    (
        "Press FILE_ADD. When does the card ask for its VM?",
        "The card asks at BIND, and never again. When does a binding end? What of the iommufd stays?",
        "close card, open card, FILE_ADD, BIND, ATTACH: the address space has its memory still.",
    ),
    play("close card", "open card", "FILE_ADD", "BIND", "ATTACH"),
    "The end of the card's file ended the binding, and that detached. The iommufd kept the address space with its memory, so "
    "IOAS_ALLOC and MAP need not be done again. FILE_ADD comes before BIND, because BIND looks for the VM once.",
    distractors={
        _old_file_is_listed: "The list of the VM holds the card's old file now, and that holds the old binding; no move takes it "
        "off the list. <b>Undo</b>: the card is closed first.",
        _bound_too_early: "The card was bound before its file was on the list of the VM, and BIND looks for the VM once. This "
        "binding has to end: it ends with the card's file.",
    },
    drawn=False,
    name="12 level: start",
)


exercise = partial(level, "start")


# ---- the second level: give it back


def not_given_back(session: Session) -> list[str]:
    """What the card still keeps, or what was lost on the way."""
    machine = session.machine
    has_list = bool(leading_to(session, "kvm-vfio"))
    return _wanted(
        ("nobody has the card open", not _alive(machine, FILE), f"{FILE} is alive"),
        ("the iommufd is gone", not _alive(machine, CTX), f"{CTX} is alive"),
        ("the VM lives, with its kvm-vfio device", _alive(machine, VM) and has_list, "it does not"),
    )


def _on_the_list(session: Session) -> bool:
    return _alive(session.machine, FILE) and not leading_to(session, "vfio0")


GIVE_BACK = Task(
    "The administrator wants the card for another machine. Give it back while the VM runs on: nobody has the card open, and "
    "the iommufd is gone. The VM keeps its kvm-vfio device: another card may come.",
    with_card,
    not_given_back,
    (
        "Who holds the card's file? Who holds the iommufd?",
        "The end of a file gives back all that it holds. What does not go by itself?",
        "FILE_DEL, close card, close iommufd: the end of the file does the rest.",
    ),
    play("FILE_DEL", "close card", "close iommufd"),
    "The last holder of the card's file ends the binding, and that detaches. The end of the iommufd frees address space and page "
    "table, and unpins. Only the list of the VM is not the card's: it finds the file by its descriptor, so FILE_DEL comes first.",
    distractors={
        _on_the_list: "The list of the VM holds the card's file, and no descriptor is left to take it off. "
        "<b>Undo</b> leads back.",
    },
    drawn=False,
    name="12 level: give back",
)

free_it = partial(level, "give back")


def shortest(level: str) -> OnceAnswered:
    """How few moves a level takes, for those who have tried it. Raises ValueError for a level that there is not."""
    told = searched(level)
    return OnceAnswered({LEVELS[level][0].name: f"level: {level}"}, told)


def searched(level: str) -> str:
    """How few moves a level takes, found by trying all. Raises ValueError for a level that there is not."""
    must_be_one_of(LEVELS, level, "level")
    task, moves = LEVELS[level]
    found = fewest(task.start, moves, lambda session: not task.missing(session))
    way = found.way or ()
    tried = f"A search that tried every order of these buttons visited {found.situations} situations"
    return f"{len(way)} moves: {', '.join(way)}.\n{tried} before it got there; no way is shorter."


# ---- the third level: a start that went wrong


def broken(session: Session) -> None:
    """The VMM has opened two iommufds (6, 7): it has mapped in one, and bound to the other."""
    guest(session)
    play("open card", "open iommufd", "FILE_ADD", "IOAS_ALLOC", "MAP")(session)
    session.open("/dev/iommu")
    session.bind(5, iommufd=7)
    session.ask(7, "IOMMU_IOAS_ALLOC")
    session.ask(5, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pt_id=2)


def listing() -> str:
    """What /proc tells of the VMM of the third level."""
    session = Session(start=broken)
    paths = {"vfio0": "/dev/vfio/devices/vfio0", "iommu": "/dev/iommu"}
    files = {fd: file.label.partition("#")[0] for fd, file in session.descriptors().items()}
    lines = [f"/proc/vmm/fd/{fd} -> {paths.get(label, f'anon_inode:{label}')}" for fd, label in files.items()]
    return "\n".join([*lines, f"/proc/vmm/status: VmPin {session.process.status()['VmPin']} kB"])


def not_mended(session: Session) -> list[str]:
    """What is still wrong."""
    many = len(leading_to(session, "iommu"))
    return [*not_started(session), *_wanted(("one iommufd is open", many == 1, f"{many} are"))]


def _closed_the_right_one(session: Session) -> bool:
    return not opened(session, 7)


def _in_the_other_one(session: Session) -> bool:
    return session.done[-1].outcome.result == "EEXIST"


def _mended(session: Session) -> None:
    for name in ("MAP in 7", "close 6"):
        TWO[name][0](session)


MEND = Task(
    "“Every call returned 0, and the card is dead.” Above is what <code>/proc</code> says. Let the read arrive, and leave one "
    "iommufd open.",
    broken,
    not_mended,
    (
        "Which line of the list would you not expect?",
        "The card is bound to one iommufd. In which of them is the memory mapped?",
        "MAP in 7, then close 6.",
    ),
    _mended,
    "Two parts of the VMM have opened an iommufd each. An ID is known in its own iommufd only: the memory was mapped in address "
    "space 1 of descriptor 6, the card is attached to address space 2 of 7, which is empty. No call had a reason to fail.",
    distractors={
        _closed_the_right_one: "7 is the iommufd of the card. The binding holds it still, but nobody can map in it "
        "any more. <b>Undo</b>.",
        _in_the_other_one: "EEXIST: the memory is mapped in that iommufd already, and yet the card gets nothing. So it reads by "
        "another address space. Which iommufd was it bound to?",
    },
    drawn=False,
    name="12 level: mend",
)

mend = partial(level, "mend")

LEVELS: Mapping[str, tuple[Task, Moves]] = {
    "start": (START, {"close card": DOWN["close card"], **UP}),
    "give back": (GIVE_BACK, DOWN),
    "mend": (MEND, TWO),
}
TASKS = {START.name: "level 1", GIVE_BACK.name: "level 2", MEND.name: "level 3", HANDED_OVER.name: "handed over"}
FURTHER = ("12 check: no descriptor", "12 check: more memory", HANDED_OVER.name)
LESSON = Lesson("12", QUESTIONS, CHECK, TASKS, VIEW, FURTHER)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
