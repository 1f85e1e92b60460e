"""The questions of the lesson about unwinding. Every answer comes out of a BIND that fails."""

from __future__ import annotations

from copy import copy
from typing import Any

from ..engine import Lock
from ..lab import Distractor, ExperimentResult, Question, Session
from ..lab.question import step_saying
from ..machine import Call, Machine
from ..museum.vfio_rooms import bind_that_forgets_to_unlock
from ..puzzles.programs import bind, listed_for_a_vm
from . import misconceptions as M
from .experiments import last_change
from .one_bind import KVM
from .unwinding_failures import BAD, ON_PURPOSE, TAKEN, Failed, bind_failing, failed, ready
from .unwinding_ladder import JO, NAME, RIGHT, ladder

NOT_READY = 8
JAMMED = "vfio_group 1.cdev_device_open_cnt"
LONGEST = 20  # steps that are shown; those before are known by then
VIEW = tuple(sorted(KVM - {"mm_struct"}))
WAY_BACK = {
    "group blocked": "the group is unblocked",
    "lock of the set": "the lock of the device set is given back",
    "iommufd": "the iommufd is given back",
    "VM": "the VM is given back",
    "ID": "the device leaves the iommufd",
}


def _shown(one: Failed, answer: Any, says: str, *evidence: str) -> ExperimentResult:
    steps = one.trace[-LONGEST:]
    return ExperimentResult(answer, steps, step_saying(steps, says), evidence or (str(one),))


def _what_stays() -> ExperimentResult:
    one = failed(NOT_READY)
    devid = one.trace.end.objects["vfio_device_file 1"].fields["devid"]
    evidence = (
        f"still held: {', '.join(one.left) or 'nothing'}",
        f"the file's row devid has the ID {devid} still: a mere number, which nobody reads until the next BIND has written it anew",
    )
    return _shown(one, str(len(one.left)), "The call returns", *evidence)


def _way_back() -> ExperimentResult:
    one = failed(NOT_READY)
    return _shown(
        one,
        tuple(what for what in one.back if what in WAY_BACK),
        "leaves the iommufd",
        "Its whole way back: " + ", ".join(one.back),
    )


def _three_nights() -> ExperimentResult:
    session = Session(start=lambda session: ready(session, JO["lost block"]))
    for _ in range(3):
        bind_failing(session, NOT_READY)
    group = session.open("/dev/vfio/1")
    count = session.machine.trace.end.objects["vfio_group 1"].fields["cdev_device_open_cnt"]
    evidence = (
        f"{JAMMED} is {count}; no device is bound",
        f"{group.call} → {group.result}: {group.sentence}",
    )
    steps = session.machine.trace[session.done[-2].steps_before : session.done[-1].steps_before]  # of the last BIND
    return ExperimentResult(str(count), steps, last_change(steps, JAMMED), evidence)


def _how_many() -> ExperimentResult:
    all_nine = [failed(number, JO["lost VM"]) for number in ON_PURPOSE]
    leaking = [one for one in all_nine if one.left]
    return _shown(leaking[0], str(len(leaking)), "The iommufd is given back", *map(str, all_nine[1:3]))


def between() -> tuple[Machine, int]:
    """Jo's tidy way out, and another program that comes in between; the machine afterwards, and the step of the refusal."""
    machine = listed_for_a_vm("vmm", "other")
    machine.patch(**JO["tidy"])
    first = _bind(machine, "vmm")
    machine.fail_next(NOT_READY, call=first)
    lock: Any = machine.engine.objects["vfio_device_set vfio0"]
    _go_on_until_given_back(first, lock.lock)
    _bind(machine, "other").run()
    first.run()
    return machine, step_saying(machine.trace, "Refused with EIO")


def _bind(machine: Machine, name: str) -> Call:
    process, call, *arguments = bind(name)
    return machine.processes[process].start(call, *map(copy, arguments), run=False)


def _go_on_until_given_back(call: Call, lock: Lock) -> None:
    while lock.holder is None:
        call.step()
    while lock.holder is not None:
        call.step()


def _tidy() -> ExperimentResult:
    machine, refused = between()
    trace = machine.trace[refused:]
    evidence = (
        f"all failures together leave {sum(len(failed(number, JO['tidy']).left) for number in ON_PURPOSE)} things behind",
        *machine.check(),
    )
    return ExperimentResult(
        "between" if machine.check() else "yes", trace, step_saying(trace, "The VM is given back"), evidence
    )


UNSEEN = {"lost block": "Nothing unblocks the group", "lost VM": "Nothing gives the VM back"}


def _only_777() -> ExperimentResult:
    unseen = {name: failed(BAD, JO[name]) for name in UNSEEN}
    clean = [name for name, one in unseen.items() if not one.left]
    return _shown(
        unseen["lost VM"],
        clean[0] if len(clean) == 1 else "none",
        "lock of the device set is given back",
        *(f"{UNSEEN[name]}. {one}" for name, one in unseen.items()),
    )


QUESTIONS: dict[str, Question] = {
    "what stays": Question(
        "BIND has taken nine things, from the blocked group to an ID in the iommufd. Then the driver is to switch the card on, and "
        "it is not ready: EIO. When the call has returned −1, how many of the nine does the machine still hold?",
        _what_stays,
        "a call that fails gives back all that it has taken, before it returns. What it does for that is its <i>way out</i>, or "
        "<i>unwinding</i>.",
        wrong={
            "9": "You expected the things to go back when the program closes its device. This program keeps its file "
            "open and tries again. So the failed call itself gives them back, before it returns EIO.",
            "8": "You expected only the last thing to go back. After EIO there is no binding, and none of the nine is needed: "
            "so all go back, the group's count as well.",
            "1": "Perhaps you think of the device's file. Descriptor 3 held it before; the call that returns EIO has not taken it.",
        },
        otherwise="After EIO there is no binding, and nobody needs any of the nine. So the call gives back all of them before it "
        "returns.",
        view=VIEW,
        kind="number",
        hints=("The program still has descriptors 3 and 4. Nothing else is owed to it.",),
    ),
    "way back": Question(
        "The card is not ready. These are five of the nine things. Put them into the order in which the kernel gives them back.",
        _way_back,
        "what was taken last goes back first. Each thing was taken while "
        "all the earlier ones were held, and rests on them:",
        WAY_BACK,
        {
            ", ".join(WAY_BACK): "You gave the order in which they are taken. The way back is the same way backwards.",
            "group blocked": "If the group were free now, its file could be opened while the device still belongs to the iommufd.",
            "lock of the set": "The lock guards the rest: a device, its VM and its iommufd are given back while it is held.",
            "iommufd": "The iommufd was taken before the VM, and before the device came into it. Both go first.",
            "VM": "The VM was taken before the device was opened. So the device leaves the iommufd first.",
        },
        view=VIEW,
        kind="order",
        hints=(
            "Say the order in which BIND takes them. Now read it backwards.",
            "First of all the device leaves the iommufd.",
        ),
        seed=3,
    ),
    "three times": Question(
        "In Jo's first patch one line got lost: nothing unblocks the group on the way out. The card is not ready three times. "
        f"Then Jo gives up. What is <code>{JAMMED}</code> now?",
        _three_nights,
        "each BIND counts the group up, and nobody counts it down. No device is bound, and yet the group's "
        "own file is EBUSY from now on. Such a leak is hard to find: nobody holds anything, only a count is wrong. The sentence "
        "of the kernel is wrong then:",
        wrong={
            "1": "You took the field for a switch, on or off. It is a count: each BIND adds one, and here nobody takes one away.",
            "0": "In the right kernel the group is not blocked any more. In Jo's the line that counts down is missing.",
        },
        otherwise="Each BIND that fails adds one to the count, and nothing takes it away again. There were three.",
        view=("thread *", "fds", "file vfio*", "vfio_device vfio0", "vfio_group 1"),
        about=(JAMMED,),
        kind="number",
    ),
    "how many": Question(
        "In another patch of Jo's that line is back. Now nothing gives the VM back on the way out. Jo lets each of "
        "the nine things fail once. After how many of these nine failures is the VM still held?",
        _how_many,
        "a lost line shows at every failure that comes after the taking, and at no other. The first two come before it:",
        wrong={
            "9": "You counted all failures, also those before BIND has taken the VM: then there is none to give back. "
            "In this run BIND had it: the iommufd goes back, the VM stays.",
            "1": "You thought of one failure only. Each failure that comes after the taking of the VM runs the same "
            "lines: the iommufd goes back, the VM stays.",
            "0": "You expected the close of the file to give the VM back. It gives back what a successful BIND has "
            "taken. This BIND failed: the iommufd goes back, the VM stays.",
        },
        otherwise="Count the pyramids that are high enough to have a bar for the VM.",
        view=VIEW,
        kind="number",
        hints=("Which of the nine pyramids have a VM in them?",),
    ),
    "tidy": Question(
        "Jo's last patch leaves nothing behind, whatever fails. It is only tidier: the lock of the device set goes back as soon as "
        "the device is closed, <i>before</i> the VM and the iommufd. May it go into the kernel?",
        _tidy,
        "something is still held, and what protected it is gone (the plot below: the orange bar). As soon as the "
        "lock is free another BIND runs. It stores its own VM in the device, and the first call, on its way out, "
        "gives that one back:",
        {
            "yes": "yes: everything is given back, so the order does not matter",
            "errno": "no: the program would get another errno",
            "between": "no: another program's BIND can come in between, and loses its VM",
            "twice": "no: something is given back twice if nobody comes in between",
        },
        {
            "yes": Distractor(
                "That is right as long as no other program comes. But another BIND waits for the lock. It gets the "
                "lock before the VM is given back, and then it loses its own VM.",
                M.ANY_ORDER_WILL_DO,
            ),
            "errno": "The errno is settled when the call is refused. The way out cannot change it.",
            "twice": "If no other program comes in between, each thing is given back once. The harm needs a second BIND.",
        },
        view=(*VIEW, "file iommu*", "kvm"),
    ),
    "tested": Question(
        "Jo tests a ladder: ten thousand BINDs with <code>iommufd</code> = 777, which is not open. All say EBADF, and nothing is "
        "left behind. Which line may be missing all the same?",
        _only_777,
        "777 is refused when group and lock are taken, and nothing else. So only the two lines that give "
        "these back have ever run:",
        {
            "lost VM": "the one that gives the VM back",
            "none": "none: ten thousand tries are enough",
            "lost block": "the one that unblocks the group",
        },
        {
            "none": "All ten thousand fail at the same place, so they run the same two lines of the way out. The other "
            "lines never ran.",
            "lost block": "The group is blocked before the descriptor is looked up. So the line that gives it back ran ten "
            "thousand times.",
        },
        view=VIEW,
        name="04 check: tested",
    ),
}


# ---- the questions at the end


def _no_unlock() -> ExperimentResult:
    session = Session(start=lambda session: ready(session, {NAME: bind_that_forgets_to_unlock}))
    session.bind(3, flags=1, iommufd=4)
    steps, state = session.steps, session.machine.trace.end
    blocked = state.objects["vfio_group 1"].fields["cdev_device_open_cnt"]
    locked = state.objects["vfio_device_set vfio0"].locks["lock"]
    session.bind(3, iommufd=4)
    waits = session.machine.pending[0].waits_for.partition(" ")[2].partition(",")[0]
    answer = {(True, True): "both", (True, False): "lock", (False, False): "nothing"}[bool(locked), bool(blocked)]
    returned = step_saying(steps, "The call returns")
    return ExperimentResult(answer, steps[:returned], step_saying(steps, "is blocked"), (f"the next BIND {waits}",))


def _twice() -> ExperimentResult:
    one = failed(NOT_READY, ladder((*RIGHT[:3], "twice", *RIGHT[3:])))
    return _shown(
        one,
        "freed" if "file iommu#1" not in one.trace.end.objects else "held",
        "once more",
        "descriptor 4 still leads to file iommu#1",
        *one.others[:2],
    )


CHECK = (
    Question(
        "July 2025: a new check comes into BIND, behind the lock of the device set. Where it refuses it returns at once. It should "
        "have entered the ladder. What is left behind by such a BIND?",
        _no_unlock,
        "a return in the middle skips the whole ladder. The next BIND waits for the lock, for ever:",
        {"nothing": "nothing", "lock": "the lock is held", "both": "the lock is held, and the group is blocked"},
        {
            "nothing": "You expected a return to give things back by itself. In C each thing needs a line of its own, and "
            "this return leaves all of them out.",
            "lock": "You looked at what was taken last. The group was blocked before the lock was taken, and the return "
            "leaves out its line, too.",
        },
        view=VIEW,
        name="04 check: return",
    ),
    Question(
        "A ladder has the rung of the iommufd twice. The card is not ready. The program still has descriptor 4, which leads to the "
        "iommufd's file. What becomes of this file?",
        _twice,
        "what is given back the second time is the reference of the descriptor. At zero the file is freed, "
        "whoever still knows it:",
        {
            "held": "it stays: descriptor 4 holds it",
            "freed": "it is freed, although descriptor 4 leads to it",
            "kept": "it is held once too often, and stays for ever",
        },
        {
            "held": "You expected the file to know whose reference goes back. It only counts: the second time the number "
            "goes down for descriptor 4, which still leads there.",
            "kept": "A count that is too high comes from a line that is missing. Here a line is there twice, so the count "
            "is too low.",
        },
        view=("thread *", "fds", "file iommu*", "iommufd_ctx"),
        name="04 check: twice",
    ),
)
assert set(WAY_BACK) <= set(TAKEN)
