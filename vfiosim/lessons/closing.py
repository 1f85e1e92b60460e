"""The lesson about closing in any order: a binding ends with the file, and a driver that leaves waits for that."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from ..lab import Bench, Distractor, Exercise, Goal, Ordering, Outcome, Parsons, Session, Task
from ..lab import goal as facts
from ..lab.parsons import InOrder, by_running
from ..machine.events import Began, Forked, Killed
from ..views.alone import Close
from . import misconceptions as M
from .beginnings import bound
from .beginnings import bound_program as bound_program
from .closing_calls import NIC as NIC
from .closing_calls import UNBIND as UNBIND
from .closing_calls import mapped, mmap, munmap, other, passed, unbind
from .closing_counts import orders as orders
from .closing_counts import plot as plot
from .closing_questions import ALL, CHECK, FILE, QUESTIONS
from .lesson import Lesson
from .one_bind import bound_for_a_vm, rehearse
from .tables import Shown

CARD = "vfio_device vfio0"
BIND_MEANWHILE = Shown(
    "<p>Most calls that want a lock wait for it: the program sleeps, and goes on when it is its turn. With a <i>tried lock</i> the "
    "call looks once, and gives up if somebody has the lock. Here this is better. Otherwise BIND would wait for the unbind, the "
    "unbind would wait for this program's file, and neither would end.</p>"
    "<p>Step back through this BIND: it came far, and it gave everything back.</p>"
)


def _close(process: str, fd: int) -> tuple[Callable[[Session], Outcome], str]:
    return lambda session: other(session, process, "close", fd), f"the {process} gives its descriptor {fd} back"


def _kill(process: str) -> tuple[Callable[[Session], Outcome], str]:
    return lambda session: session.do(Killed(process)), f"the {process} ends, with all that it holds"


# ---- benches


def _with_a_helper(session: Session) -> None:
    bound(session)
    session.do(Began("admin"))
    session.do(Forked("vmm", "helper"))


Buttons = dict[str, tuple[Callable[[Session], Outcome], str]]


def _bench(session: Session, more: Buttons, *others: str, **options: Any) -> Bench:
    """A bench with these buttons of other programs, and a picture of what matters here, of the `others`, and of the card alone."""
    shown = (*ALL, *others)
    return Bench(session, show=("descriptor", "why"), more=more, only=shown, keep=(CARD,), atlas=Close(), **options)


def handover() -> Bench:
    """A bound device of which a helper has descriptors, too, and an administrator who wants the card back."""

    def rehearsal(session: Session) -> None:
        _with_a_helper(session)
        unbind(session)

    more: Buttons = {
        "admin: unbind": (unbind, "the administrator takes the driver away from the card"),
        "helper: close(3)": _close("helper", 3),
        "kill helper": _kill("helper"),
    }
    return _bench(Session(start=_with_a_helper), more, reserve=rehearse(rehearsal))


# ---- the first task: cut every path


def held_by_many(session: Session) -> None:
    """A bound device with two descriptors and a mapping, all that once more in a helper, and an unbind that waits."""
    bound(session)
    session.dup(3)
    mmap(session)
    session.do(Forked("vmm", "helper"))
    session.do(Began("admin"))
    unbind(session)


def cut(session: Session) -> None:
    """The solution: what the VMM holds one by one, what the helper holds all at once."""
    session.close(3)
    session.close(5)
    munmap(session)
    session.do(Killed("helper"))


def _only_mappings_are_left(session: Session) -> bool:
    state = session.machine.trace.end
    held = state.objects[FILE].counts["f_ref"] if FILE in state.objects else {}
    return bool(held) and all(holder.startswith("mm_struct") for holder, _ in held)


def _iommufd_closed(session: Session) -> bool:
    return 4 not in session.descriptors()


UNBOUND = facts.Fact(
    "the unbind ends", lambda state: f"it waits for {FILE}, which somebody holds" if CARD in state.objects else ""
)
CUT_THE_PATHS = Task(
    "The administrator's unbind waits. The device's file has descriptors 3 and 5 of the VMM and a mapping; then the VMM forked a "
    "helper. Let the unbind end, with as few calls as you can. The VMM keeps its iommufd: it has other cards to serve.",
    held_by_many,
    Goal(UNBOUND, facts.descriptor("iommu*", "an iommufd")),
    (
        "Ask <i>why is it alive?</i> about <code>file vfio0#1</code>, and count the holders: half of them are the helper's.",
        "A fork copies the memory, too: the helper has the mapping, and no button of this bench unmaps the helper's.",
        "close 3, close 5, munmap, kill helper: four calls, in any order.",
    ),
    cut,
    "The file had six holders, three in each program. The VMM lives on, so each of its three takes a call. The exit of the helper "
    "gives up all three of the helper's at once, the mapping as well. The program that lets go last runs the release handler: that "
    "ends the binding, and then the driver may leave.",
    distractors={
        _iommufd_closed: Distractor(
            "You closed the iommufd, and that does not help: the iommufd does not hold the device, the binding "
            "holds the iommufd. <b>Undo</b> leads back.",
            M.CLOSING_IS_RELEASING,
        ),
        _only_mappings_are_left: Distractor(
            "No descriptor leads to the file any more, and it still lives: the mappings hold it, too.",
            M.ONE_NUMBER_ONE_HOLDER,
        ),
    },
    drawn=False,
    name="05 task: cut the paths",
)


def exercise() -> Exercise:
    """The first task of the lesson."""
    more: Buttons = {
        "munmap": (munmap, "the VMM unmaps the page of the device"),
        "helper: close(3)": _close("helper", 3),
        "helper: close(5)": _close("helper", 5),
        "kill helper": _kill("helper"),
    }
    return Exercise(CUT_THE_PATHS, lambda session: _bench(session, more))


# ---- the second task: a tear-down in its order


def running(session: Session) -> None:
    """A device (3) that is bound (4), on the list (5) of a VM (6), and mapped; and an administrator."""
    bound_for_a_vm(session)
    mmap(session)
    session.do(Began("admin"))


def _closing(fd: int) -> Callable[[Session], Outcome]:
    return lambda session: session.close(fd)


TEAR_DOWN = Parsons(
    "A VMM stops using a card: 3 is the device, bound and mapped; 4 the iommufd, which stays open for other cards; 5 the VM's "
    "kvm-vfio device, which has the device's file on its list. Then the administrator unbinds the driver, without waiting. "
    "Not every line is needed.",
    {
        "del": "KVM_DEV_VFIO_FILE_DEL on 5, descriptor 3",
        "close 5": "close(5), the kvm-vfio device",
        "unmap": "munmap of the device's page",
        "close 3": "close(3), the device",
        "unbind": "admin: unbind the driver",
    },
    by_running(
        running,
        {
            "del": lambda session: session.file_del(5, 3),
            "close 5": _closing(5),
            "unmap": munmap,
            "close 3": _closing(3),
            "unbind": unbind,
            "again": _closing(3),
            "close 4": _closing(4),
        },
        Goal(
            facts.gone(CARD),
            facts.descriptor("kvm-vfio*", "a kvm-vfio device", is_open=False),
            facts.descriptor("iommu*", "an iommufd"),
        ),
    ),
    "a request needs the descriptors that it names, so FILE_DEL comes before close(5) and close(3). The device's file has three "
    "holders: list, mapping, descriptor. They may go in any order; the unbind comes when all three have gone.",
    extra={"again": "close(3), once more to be sure", "close 4": "close(4), the iommufd"},
    distractors={
        "del EBADF": "FILE_DEL is asked of 5 and names 3, and one of these descriptors is closed already. This happened to real "
        "VMMs whose language drops the VM first.",
        "unbind waits": "The unbind waits as long as one holder of the device's file is left.",
        "close 3 EBADF": "3 is closed already. Had another open come between, 3 would be somebody else's file.",
        "again EBADF": "3 is closed already. Had another open come between, 3 would be somebody else's file.",
    },
    hints=(
        "Which calls need descriptors to be open still? Those come first.",
        "The file is held by the list, by a mapping, and by descriptor 3.",
        InOrder(
            "FILE_DEL first, unbind last. One close(3) is enough; the iommufd stays open.", "del", "close 3", "unbind"
        ),
    ),
    seed=2,
    name="05 order: tear-down",
    view=("thread *", *ALL[1:], "file kvm*", "kvm_vfio", "kvm"),
)

order = partial(Ordering, TEAR_DOWN)


# ---- the third task: find the last holder


def hangs(session: Session) -> None:
    """An unbind that waits although no descriptor table and no mapping leads to the card's file; 3 is another card by now."""
    passed(session)
    session.do(Began("admin"))
    unbind(session)
    session.close(3)
    session.open("/dev/vfio/devices/vfio1")


def listing() -> str:
    """What /proc tells of the machine of the third task."""
    session = Session(start=hangs)
    lines = []
    for name in ("vmm", "broker"):
        held = session.descriptors(name).items()
        lines += [f"/proc/{name}/fd/{fd} -> {_path(file.label)}" for fd, file in held]
        maps = mapped(session.machine.trace.end, name).values()
        lines.append(f"/proc/{name}/maps: {', '.join(maps) or 'nothing of /dev/vfio'}")
    return "\n".join(lines)


def _path(label: str) -> str:
    kind, _, number = label.partition("#")
    return f"socket:[{number}]" if kind == "socket" else f"/dev/{'vfio/devices/' * bool(re.match('vfio', kind))}{kind}"


def _wrong_card(session: Session) -> bool:
    return "file vfio1#1" not in session.machine.trace.end.objects


def _broker_has_it(session: Session) -> bool:
    return FILE in [f"file {file.label}" for file in session.descriptors("broker").values()]


FIND_THE_LAST = Task(
    "Another unbind of <code>vfio0</code> hangs; the list above is all that <code>/proc</code> tells. Who is the last holder? "
    "Let the unbind end with one call. The VMM keeps its iommufd and its other card, <code>vfio1</code>.",
    hangs,
    Goal(UNBOUND, facts.descriptor("vfio1*", "vfio1"), facts.descriptor("iommu*", "an iommufd")),
    (
        "No descriptor leads to vfio0, and no mapping. What on the list can carry files that no list shows?",
        "A message on its way holds the files in it. Ask <i>why is it alive?</i>: whose socket is the message in?",
        "kill broker: its socket goes, with what nobody has received.",
    ),
    lambda session: session.do(Killed("broker")),
    "The VMM had sent descriptor 3 to the broker, and the broker has not received it. The message holds "
    "the file, the broker's socket holds the message. Receiving it would make one more descriptor to "
    "close: two calls. And 3 leads to another card by now.",
    distractors={
        _wrong_card: Distractor(
            "3 was free, so the other card has it now: you closed vfio1. <b>Undo</b>.", M.NUMBERS_STAY
        ),
        _broker_has_it: "The broker has received the file: a descriptor of the broker holds it now.",
    },
    drawn=False,
    name="05 task: find the last holder",
)


def free_it() -> Exercise:
    """The third task of the lesson."""
    more: Buttons = {
        "broker: recvmsg": (
            lambda session: other(session, "broker", "recvmsg_fds", 6),
            "the broker takes what was sent to it",
        ),
        "broker: close(3)": _close("broker", 3),
        "kill broker": _kill("broker"),
    }
    return Exercise(FIND_THE_LAST, lambda session: _bench(session, more))  # the picture hides the message


LESSON = Lesson(
    "05",
    QUESTIONS,
    CHECK,
    {
        CUT_THE_PATHS.name: "let the unbind end",
        TEAR_DOWN.name: "a tear-down in its order",
        FIND_THE_LAST.name: "the bug hunt",
    },
    ALL,
    (TEAR_DOWN.name, "05 which card?"),
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
