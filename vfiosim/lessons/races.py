"""The lesson about races: two calls at once, a lock taken out, the shortest way into harm, and a real bug to mend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..engine import Micro
from ..explore.model import MachineModel
from ..explore.monitor import Monitor
from ..lab import ByHand, Distractor, HandTask, Judged, Ordering, Parsons, Races, RoomView
from ..lab import room as museum_room
from ..lab.parsons import InOrder
from ..machine import Machine
from ..trace.words import describe
from . import misconceptions as M
from .lesson import Lesson
from .races_check import CHECK
from .races_check import interrupted as interrupted
from .races_check import stop_a as stop_a
from .races_questions import BINDS_VIEW, BOARD_VIEW, QUESTIONS, VM_VIEW
from .races_questions import R1 as R1
from .races_questions import R5 as R5
from .races_questions import SECOND_BIND as SECOND_BIND
from .races_questions import guarded as guarded
from .races_questions import second_bind_fails as second_bind_fails
from .races_questions import shared as shared
from .races_stops import stops as stops


def lab() -> Races:
    """The race lab with a race that nobody has done by hand before: a lock and a check, and each of them is needed."""
    return Races("R2", beliefs={"safe": M.ONE_CALL_AFTER_THE_OTHER}, only=BINDS_VIEW)


# ---- the first task: be the scheduler


LOOKS_AND_TELLS = {  # thread → the effect with which it looks, the one with which it tells
    "A": ("load vfio_group 1.cdev_device_open_cnt ", "store vfio_group 1.opened_file"),
    "B": ("load vfio_group 1.opened_file ", "store vfio_group 1.cdev_device_open_cnt"),
}


def looks_and_tells(machine: Machine) -> list[str]:
    """How far A and B are, in words: has each looked, has it told?"""
    did: dict[str, set[str]] = {"A": set(), "B": set()}
    for micro in (Micro(*entry) for entry in machine.engine.micro):
        thread = micro.thread.prefix
        if thread in did:
            done = describe(micro.request, micro.answer)
            did[thread] |= {mark for mark in LOOKS_AND_TELLS[thread] if done.startswith(mark)}
    return [
        f"{thread} {_how_far(*(mark in did[thread] for mark in marks))}." for thread, marks in LOOKS_AND_TELLS.items()
    ]


def _how_far(looked: bool, told: bool) -> str:
    if told:
        return "has looked and told"
    return "has looked, and not told" if looked else "has not looked yet"


def _somebody_was_seen(machine: Machine) -> bool:
    return any(call.error for call in machine.calls if call.thread.manual)


BREAK_IT = HandTask(
    "The lock is taken out. Let <b>A</b> (it opens the group) and <b>B</b> (it binds a device) go on in such an order that both "
    "get the group. <b>1 effect</b> stops after one access, <b>1 step</b> before the next sentence, <b>to shared</b> before the "
    "next access to what both touch.",
    "R1",
    R1.without,
    looks_and_tells,
    (
        "Each call looks first and tells later. It can be stopped in between.",
        "Let A look at <code>cdev_device_open_cnt</code>, and stop it before it stores <code>opened_file</code>.",
        "A: 1 step, three times. B: to the end. A: to the end.",
    ),
    "A has looked, and nobody was there. While it stands still, B looks and tells. A goes on with what it saw before, which is not "
    "true any more. A check is true only as long as nobody can change what was checked: check, then act, in one step, under one "
    "lock. With the lock B cannot look as long as A has not told.",
    distractors={
        _somebody_was_seen: Distractor(
            "One call had told before the other one looked, and so it was seen. <b>Reset</b>, and let them take turns in "
            "another order.",
            M.ONE_CALL_AFTER_THE_OTHER,
        ),
    },
    view=BOARD_VIEW,
    name="10 task: be the scheduler",
    asked="10 switches",
)

by_hand = partial(ByHand, BREAK_IT)


# ---- the second task: turns in an order

Turn = tuple[str, Callable[[str], bool]]  # a thread, and the effect after which it stops


def _doing(*parts: str) -> Callable[[str], bool]:
    return lambda done: all(part in done for part in parts)


TURNS: dict[str, Turn] = {
    "read": ("A", _doing("load vfio_device_file 1.kvm ")),
    "clear": ("B", _doing("store vfio_device_file 1.kvm = None")),
    "free": ("B", _doing("free kvm 1")),
    "take": ("A", _doing("kvm 1.users_count for vfio_device vfio0")),
    "gate": ("A", _doing("store_release vfio_device_file 1.access_granted")),
}


def in_turns(order: Sequence[str]) -> Judged:
    """Let the calls of R5 go on in this order, without the lock: the first turn that is over already or cannot be is wrong."""
    machine = R5.setup()
    machine.take_out(*R5.without)
    before = len(machine.trace)
    model = MachineModel(machine, R5.programs(), Monitor([]))
    threads = {user.label: user for user in model.threads}
    passed: set[str] = set()
    for place, key in enumerate(order):
        thread = TURNS[key][0]
        why, reason = (
            f"{thread} has done that already, on the way to an earlier line." if key in passed else "",
            "PASSED",
        )
        while not why and key not in passed:
            if threads[thread].upcoming is None or not threads[thread].step():
                why, reason = f"In this order {thread} does not get there; it has gone on to its end.", "MISSED"
                break
            passed |= _just_passed(machine, thread)
            wrong = machine.check()
            if wrong:
                return Judged(None, f"The machine says: {wrong[0]}.", machine.trace[before:])
        if why:
            return Judged(place, why, machine.trace[before:], reason=reason)
    asked = (
        "The VM is freed, and nobody has touched it since. Who does?"
        if "free" in passed
        else "The VM is alive. What frees it?"
    )
    return Judged(len(order), f"Nothing is wrong with the machine so far. {asked}", machine.trace[before:])


def _just_passed(machine: Machine, thread: str) -> set[str]:
    """The turns that end with the last effect."""
    micro = Micro(*machine.engine.micro[-1])
    done = describe(micro.request, micro.answer)
    return {key for key, (who, stop) in TURNS.items() if who == thread and stop(done)}


USE_AFTER_FREE = Parsons(
    "The second race by hand would take many presses. So give the order of the turns only: bring A to use the VM after it was "
    "freed. Not every line is needed. <b>Check</b> lets the calls go on in your order, without <code>kvm_ref_lock</code>, until "
    "something is wrong: lines after that are not run.",
    {
        "read": "A (bind) reads the weak pointer to the VM",
        "clear": "B (close the kvm-vfio file) clears the pointer",
        "free": "B (close the VM) gives up the last reference: the VM is freed",
        "take": "A (bind) takes a reference to what it has read",
    },
    in_turns,
    "A has to read before B clears, or it would find no VM; and it has to take after B has freed, or it would keep the VM alive. "
    "So all of B happens between two neighbouring effects of A. The lock makes those two one step.",
    extra={"gate": "A (bind) opens the gate, and returns"},
    distractors={
        "read": "A reads the pointer before it takes a reference, and once only.",
        "clear": "In B's program the kvm-vfio file is closed first, and the VM after it. So the pointer is cleared "
        "before the VM is freed.",
        "free": "A has taken its reference already. So what B gives up is not the last reference, and the VM is not freed.",
        "take PASSED": "A takes its reference before it opens the gate.",
        "take": "The pointer was cleared before A read it. So A has found no VM, and takes nothing.",
    },
    hints=(
        "A weak pointer keeps nothing alive: what matters is when A looks, and when it takes.",
        "All of B has to happen between two lines of A.",
        InOrder("A reads; B clears; B frees; A takes. The gate is not needed.", "read", "clear", "free", "take"),
    ),
    seed=2,
    name="10 order: use after free",
    view=VM_VIEW,
)

turns = partial(Ordering, USE_AFTER_FREE)


# ---- the third task: a room of the museum


REPAIR = "10 task: the failed second bind"


def mend() -> RoomView:
    """The third task of the lesson: the failed second bind, to be found, mended and proved."""
    return museum_room(
        "failed-second-bind",
        steps=(
            "<b>What the real kernel answered</b> is the recording: watch the number of living VMs, <code>kvm_live</code>.",
            "<b>The shortest way into it</b> shows the steps. Which function gives back too much?",
            "Change the functions: there are two. They are written in Python. <code>await</code> stands before each effect "
            "(<code>load</code>, <code>store</code>, <code>get</code>, <code>put</code>) and before each kernel function: "
            "there another thread may go on. In C you would write nothing in its place.",
            "<b>Prove</b> runs every schedule, and then all hand-written recordings: a repair must not change what was right.",
        ),
        hints=(
            "Walk the shortest way. Its last step gives a VM back. Who had taken it?",
            "Both functions act on <code>device.kvm</code>, a place that all files of a device share. "
            "<code>device.open_count</code> says whether the device is open already: then somebody else's VM is in there.",
            "Begin both functions with <code>if await load(device.open_count) != 0: return</code> (in the first one it is "
            "<code>df.device.open_count</code>). One of the two alone is half a repair: try it, and look at what the proof says.",
        ),
        explained="A BIND of an open device must neither take a VM nor give one back: the place belongs to the first BIND. "
        "Taking has to be mended, too: otherwise the third file's VM is written over that of the first, and nobody gives the first "
        "one back. <code>open_count</code> does not change in between, because BIND holds the lock of the device set.",
        distractors={
            "The close of the device must still give its VM back. With your": "The close of the device gives its VM back by the "
            "same function. Now nothing gives it back any more.",
            "nobody will give that back": "The way out is mended, but a BIND that fails still takes a VM and writes "
            "over the one that was there.",
            "a failed bind through another file gave it away": "A BIND that fails still gives away the VM of the one "
            "that succeeded.",
            "answered in another way now": "Now other calls get another answer than on the real kernel, too.",
        },
        record=REPAIR,
        called="Two files of one device",
        view=VM_VIEW,
    )


FURTHER = ("10 a failed bind", REPAIR)
LESSON = Lesson(
    "10",
    QUESTIONS,
    CHECK,
    {BREAK_IT.name: "be the scheduler", USE_AFTER_FREE.name: "turns in an order", REPAIR: "two files of one device"},
    further=FURTHER,
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
