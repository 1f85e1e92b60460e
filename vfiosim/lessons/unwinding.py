"""The lesson about unwinding: let everything in a BIND fail, read its way out, put one together, write one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..lab import Bench, Exercise, Goal, Judged, Ordering, Outcome, Parsons, Session, Task
from ..lab import goal as facts
from ..lab.parsons import InOrder
from ..lab.question import step_saying
from ..puzzles.programs import bind
from ..puzzles.unwinding import R25
from .lesson import Lesson
from .unwinding_failures import BAD, ON_PURPOSE, bind_failing, ready
from .unwinding_failures import FAULTS as FAULTS
from .unwinding_failures import failed as failed
from .unwinding_ladder import JO as JO
from .unwinding_ladder import RIGHT, ladder
from .unwinding_picture import pyramid as pyramid
from .unwinding_picture import pyramids as pyramids
from .unwinding_questions import CHECK, NOT_READY, QUESTIONS, VIEW
from .unwinding_writing import TASK
from .unwinding_writing import mend as mend

machine = R25.setup  # as `sweep` wants it: a function that makes the machine, and a call on it
BIND = bind("vmm")


# ---- to press


def _failing(number: int) -> tuple[Callable[[Session], Outcome], str]:
    return lambda session: bind_failing(session, number), FAULTS[number]


CALLED = ("size", "struct", "driver", "group", "DMA", "object", "ID", "card", "telling the ID")  # what fails, in a word
BUTTONS = {
    "bind": (lambda session: session.bind(3, iommufd=4), "a BIND in which nothing fails"),
    **{f"fail {number}: {CALLED[number - 1]}": _failing(number) for number in ON_PURPOSE},
}


def fails() -> Bench:
    """A machine on which any of nine things can be made to fail in a BIND."""
    return _bench(Session(start=ready))


def _bench(session: Session) -> Bench:
    whole = Session(start=ready)
    whole.bind(3, iommufd=4)
    return Bench(session, show=("descriptor",), more=BUTTONS, only=VIEW, reserve=whole.machine.trace)


# ---- the first task: make a slip show


def _nothing_shows(session: Session) -> bool:
    gate = session.machine.trace.end.objects["vfio_device_file 1"].fields["access_granted"]
    return session.done[-1].outcome.refused and not gate


def _bound(session: Session) -> bool:
    return session.machine.trace.end.objects["vfio_device vfio0"].fields["open_count"] == 1


OPEN_GATE = Task(
    "In another patch of Jo's the gate opens one line too early: that line and the line before it have changed places. Make the "
    "mistake show: a BIND fails, the device is closed, and yet the gate of its file is open.",
    partial(ready, patches=JO["gate"]),
    Goal(
        facts.value("vfio_device_file 1", "access_granted", 1),
        facts.value("vfio_device vfio0", "open_count", 0),
    ),
    (
        "A line that is too early does harm only if something fails after it.",
        "Between the place of the line and the end of BIND only one thing can fail.",
        "The last of the nine: <b>fail 9</b>.",
    ),
    lambda session: bind_failing(session, max(FAULTS)),
    "Number 9 is the only failure behind the gate. Eight of nine tests pass, and the ninth leaves a closed device that a program "
    "can use. Press <b>GET_INFO</b>: it answers. That is why everything has to fail once.",
    distractors={
        _bound: "This BIND has succeeded, so the gate is open as it should be. <b>Reset</b>, and let something fail.",
        _nothing_shows: "This failure comes before the line in question, and there the way out is right.",
    },
    name="04 task: make it show",
    drawn=False,
)

exercise = partial(Exercise, OPEN_GATE, _bench)


# ---- the second task: a ladder with its rungs in order


def climbed(order: Sequence[str]) -> Judged:
    """Let a BIND with this ladder fail once at each of its three labels: the first failure with a wrong way out decides."""
    patches = ladder(order)
    pairs = enumerate(zip(order, RIGHT, strict=False))
    place = next((n for n, (mine, right) in pairs if mine != right), min(len(order), len(RIGHT)))
    tried = [failed(number, patches) for number in (BAD, NOT_READY, max(FAULTS))]
    for one in tried:
        if one.wrong:
            why = f"When {FAULTS[one.number]}, {one.wrong}."
            return Judged(place, why, *one.shown)
    steps = tried[-1].trace
    if tuple(order) != RIGHT:
        return Judged(0, "No failure enters above out_close_device, so this line is never done.", steps, 1)
    return Judged(
        None, "Whatever fails, all of it goes back, and nothing else.", steps, step_saying(steps, "closed again")
    )


LADDER = Parsons(
    "Build the way out of BIND. On its way in BIND blocks the group, locks the device set, takes the iommufd, takes the VM, opens "
    "the device, and tells the ID. A failure enters the ladder at a label and does <b>all from there down</b>. "
    "It enters at <code>out_close_device</code> if the ID cannot be told, at <code>out_put_kvm</code> if the "
    "device cannot be opened, at <code>out_unlock</code> if the descriptor leads to no iommufd. Not every line is needed.",
    {
        "close": "out_close_device:  close the device",
        "vm": "out_put_kvm:  give the VM back",
        "iommufd": "give the iommufd back",
        "lock": "out_unlock:  unlock the device set",
        "group": "unblock the group",
    },
    climbed,
    "the rungs are the way in, read backwards, and each label stands before the first thing that the failing call really had.",
    extra={
        "twice": "give the iommufd back, for descriptor 4, too",
        "list": "let the device's file forget its VM",
    },
    distractors={
        "close": "The device was opened last of all. So it is closed first of all, and only where it had been opened.",
        "vm": "The VM was taken just before the device was opened. It goes back just after the close.",
        "iommufd": "It was taken before the VM, so its rung is below. Who enters at <code>out_put_kvm</code> has both.",
        "lock": "The lock was taken second, so it goes back last but one. Who enters here has taken no iommufd yet.",
        "group": "The group was blocked first of all, so it is unblocked last of all.",
        "twice": "Descriptor 4 was there before the call. What a call has not taken, its way out must not give back. What it "
        "<i>has</i> taken goes back with <b>give the iommufd back</b>, and then the device's file points to no iommufd any more.",
        "list": "FILE_ADD has told the file its VM, before this call. What a call has not done, its way out must not undo.",
    },
    hints=(
        "Write the way in on paper, from top to bottom. Read it from bottom to top.",
        "The last two lines are those of a call that had the lock and the blocked group, and nothing else.",
        InOrder(
            "close, VM, iommufd, unlock, unblock. The two lines that are left over undo what others have done.",
            *("close", "vm", "iommufd", "lock", "group"),
        ),
    ),
    seed=5,
    name="04 order: a ladder",
    view=VIEW,
)

order = partial(Ordering, LADDER)

LESSON = Lesson(
    "04",
    QUESTIONS,
    CHECK,
    {OPEN_GATE.name: "make the mistake show", LADDER.name: "put a ladder together", TASK: "write a way out"},
    further=("04 how many", "04 tidy", "04 check: tested"),
)
predict, once_answered = LESSON.predict, LESSON.once_answered
quiz, finish = LESSON.quiz, LESSON.finish
