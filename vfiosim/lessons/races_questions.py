"""The questions of the lesson about races. Every answer comes out of an exploration of all schedules."""

from __future__ import annotations

from functools import cache

from .. import uapi
from ..engine import Lock, Micro
from ..engine.operations import LOOK
from ..explore import Result, Witness
from ..explore.accesses import accesses
from ..lab import Distractor, ExperimentResult, Question
from ..machine import Call, Machine
from ..museum import ROOMS
from ..puzzles import PUZZLES
from ..puzzles.words import outcome_words
from ..trace import Trace
from ..uapi import Errno
from . import misconceptions as M

R1, R5, SECOND_BIND = PUZZLES["R1"], PUZZLES["R5"], ROOMS["failed-second-bind"]
GROUP_VIEW = (
    "thread *",
    "fds",
    "vfio_group 1",
    "file group1#*",
    "file vfio0#*",
    "vfio_device_file",
    "vfio_device vfio0",
)
BOARD_VIEW = GROUP_VIEW[1:]  # beside the code of the threads, or their turns
BINDS_VIEW = (
    *("fds", "file vfio0#*", "file iommu#*", "vfio_device_file", "iommufd_ctx"),
    *("vfio_device vfio0", "vfio_device_set vfio0", "vfio_group 1"),
)
VM_VIEW = ("thread *", "fds", "file vfio0#*", "file kvm-v*", "vfio_device_file", "vfio_device vfio0", "kvm", "kvm_vfio")


def how_they_end(result: Result) -> tuple[str, ...]:
    """Every way in which the calls of R1 can end; no schedule: how many switches it takes is the next question."""
    return tuple(outcome_words(R1.programs(), outcome) for outcome in result.outcomes)


def refused(result: str) -> bool:
    """Is this how a refused call ends?"""
    return result in Errno.__members__


def _overtaken(result: Result) -> Witness | None:
    """A schedule in which who called first is refused."""
    for outcome, witness in result.outcomes.items():
        if refused(dict(outcome)[witness.schedule[0]][0]):
            return witness
    return None


def _who_wins() -> ExperimentResult:
    result = R1.explore()
    losers = [sum(refused(results[0]) for _, results in outcome) for outcome in result.outcomes]
    overtaken = _overtaken(result)
    shown = overtaken or next(iter(result.outcomes.values()))
    answer = "both" if 0 in losers else "none" if 2 in losers else "one" if overtaken else "first"
    return ExperimentResult(answer, shown.trace, _refusal(shown.trace), how_they_end(result))


def worst(result: Result) -> Witness:
    """The shortest way to something that goes wrong. Raises ValueError where nothing does."""
    if result.counterexample is None:
        raise ValueError("nothing goes wrong in any schedule")
    return result.counterexample


def _how_many_switches() -> ExperimentResult:
    found = worst(R1.explore(R1.without))
    return ExperimentResult(str(found.switches), found.trace, -1, (found.what,))


def shared() -> dict[str, dict[str, str]]:
    """What both calls of R1 touch and at least one of them writes: cell → thread → "reads", "writes" or both. Locks left out."""
    touched: dict[str, dict[str, set[str]]] = {}
    for witness in R1.explore().outcomes.values():
        for micro in (Micro(*entry) for entry in witness.machine.engine.micro):
            thread = micro.thread.prefix
            if thread not in ("A", "B") or (len(micro.request) > 1 and isinstance(micro.request[1], Lock)):
                continue
            for (oid, cell), way in accesses(micro.thread, micro.request):
                ways = touched.setdefault(f"{oid}.{cell}", {}).setdefault(thread, set())
                ways.add("reads" if way == LOOK else "writes")
    return {
        cell: {thread: " and ".join(sorted(ways)) for thread, ways in sorted(threads.items())}
        for cell, threads in touched.items()
        if len(threads) > 1 and any("writes" in ways for ways in threads.values())
    }


def guarded() -> tuple[str, ...]:
    """The same in lines."""
    return tuple(
        f"{cell}: {', '.join(f'{thread} {ways}' for thread, ways in threads.items())}"
        for cell, threads in shared().items()
    )


OF_BIND_ALONE = {  # cell → the step in which a BIND that succeeds touches it
    "vfio_device vfio0.open_count": "The device is opened",
    "vfio_device_file 1.access_granted": "The gate opens",
    "iommufd_ctx 1.objects": "The device gets an object",
}


def _bind_first() -> ExperimentResult:
    """A run in which BIND succeeds, and who opens the group is refused."""
    found = R1.explore().outcomes
    return ExperimentResult(
        "", next(witness.trace for outcome, witness in found.items() if refused(dict(outcome)["A"][0]))
    )


def _refusal(trace: Trace) -> int:
    return next((step.index + 1 for step in trace if step.refused), -1)


def _what_they_share() -> ExperimentResult:
    trace = next(iter(R1.explore().outcomes.values())).trace
    return ExperimentResult(tuple(shared()), trace, _refusal(trace), guarded())


def _a_dying_vm() -> ExperimentResult:
    result = R5.explore(R5.without)
    if result.counterexample is None:
        shown = next(iter(result.outcomes.values()))
        return ExperimentResult("errno" if any(map(refused, _results(result))) else "nothing", shown.trace)
    said = [witness.what for witness in result.violations]
    answer = "freed" if any("use after free" in line for line in said) else "leak"
    return ExperimentResult(answer, result.counterexample.trace, -1, (said[0],))


def _results(result: Result) -> list[str]:
    return [one for outcome in result.outcomes for _, results in outcome for one in results]


def second_bind_fails() -> Machine:
    """A device is bound for a VM, and a BIND through its second file has been refused."""
    machine = SECOND_BIND.setup()
    bind = uapi.VfioDeviceBindIommufd(iommufd=6)
    try:
        machine.processes["vmm"].ioctl(7, uapi.VFIO_DEVICE_BIND_IOMMUFD, bind)
    except uapi.KernelError:
        return machine
    raise ValueError("the second BIND is not refused")


def _after_a_failed_bind() -> ExperimentResult:
    before = len(SECOND_BIND.setup().trace)
    machine = second_bind_fails()
    trace = machine.trace[before:]
    held = [holder for holder, _ in trace.end.objects["kvm 1"].counts["users_count"] if holder == "vfio_device vfio0"]
    changed = [step.index + 1 for step in trace if any(change.what == "kvm 1.users_count" for change in step.changes)]
    answer = "lost" if not held else "kept" if not changed else "twice"
    return ExperimentResult(answer, trace, changed[-1] if changed else -1, tuple(machine.check()))


def moved(machine: Machine, *, without: tuple[str, ...] = ()) -> dict[str, Call]:
    """The calls of R1 before their first effect, by thread; protections may be taken out before."""
    if without:
        machine.take_out(*without)
    calls = {}
    for thread, ((process, name, *arguments),) in R1.programs().items():
        calls[thread] = machine.processes[process].start(name, *arguments, run=False, thread=thread)
    return calls


@cache
def who_gets_it() -> tuple[str, ...]:
    """Who gets the group ("A", "B", "both") if A is stopped after 0, 1, 2, … of its effects, for B whole."""
    ends: list[str] = []
    while True:
        calls = moved(machine := R1.setup(trace=False), without=R1.without)
        if not all(calls["A"].step() for _ in ends):
            return (*ends,)
        calls["B"].run()
        calls["A"].run()
        ends.append("both" if machine.check() else "B" if calls["A"].error else "A")


def where_a_may_be_stopped() -> list[int]:
    """After how many effects A has to be stopped, for B whole, so that something goes wrong."""
    return [after for after, who in enumerate(who_gets_it()) if who == "both"]


def _early_and_late() -> ExperimentResult:
    stops = where_a_may_be_stopped()
    told = f"it goes wrong where A is stopped after {', '.join(map(str, stops))} effects"
    return ExperimentResult(str(len(stops)), worst(R1.explore(R1.without)).trace, -1, (told,))


QUESTIONS: dict[str, Question] = {
    "who wins?": Question(
        "At the same moment program <b>A</b> opens the group's file <code>/dev/vfio/1</code>, and program <b>B</b> binds a "
        "device of that group through the device's own file. Who gets the group?",
        _who_wins,
        "only one of them may have the group, so each call looks under the lock whether the other has been there. The call that "
        "gets the lock first wins; it need not be the one that called first. All ways in which the two calls can end:",
        {
            "first": "the program that calls first",
            "one": "one of them, and the schedule decides which; the other gets EBUSY",
            "both": "now and then both get it",
            "none": "now and then both are refused",
        },
        {
            "first": "The first call does not always win: in the run below A calls first, B overtakes it, and A is refused.",
            "both": "Without the lock that would happen. With it one call looks after the other has told: it sees the "
            "other, and is refused.",
            "none": Distractor(
                "You expected each to see the other. For that both would have to tell before they look. But each "
                "looks first, under the lock: here B has looked, and blocks vfio_group 1.",
                at="is blocked",
            ),
        },
        view=GROUP_VIEW,
        hints=("Each call has many small steps. The scheduler may stop it between any two.",),
    ),
    "switches": Question(
        "<code>group_lock</code> is taken out, and there is an order in which both get the group. The scheduler lets one program "
        "run, then <i>switches</i> to the other, and so on. How many switches does it take at least?",
        _how_many_switches,
        "the call that was stopped has to go on after the other one: there and back are two switches. "
        "Few switches are typical: most races need two or three, at the right place.",
        wrong={
            "0": "Without a switch only one of the two calls runs at all: the group is open, or a device is bound, never both.",
            "1": "With one switch the first call never goes on after the second. If it was stopped before it told, it has not got "
            "the group; if it has told, the second call sees that and is refused.",
        },
        otherwise="Fewer are enough: A stops once, and goes on once. Then the group is open, and a device is bound.",
        kind="number",
        view=GROUP_VIEW,
        hints=("Which step of A has to come after which step of B?", "A looks; B looks and tells; A tells."),
        withheld="10 task: be the scheduler",
    ),
    "shared": Question(
        "A lock does not guard code; it guards data. Which of these does one call write while the other looks at it or writes it, "
        "too? Those are what <code>group_lock</code> has to guard.",
        _what_they_share,
        "A writes <code>opened_file</code>, and B looks at it. B writes <code>cdev_device_open_cnt</code>, and A looks at it. "
        "Everything else belongs to one of the calls alone.",
        {
            "vfio_group 1.opened_file": "vfio_group 1.opened_file",
            "vfio_group 1.cdev_device_open_cnt": "vfio_group 1.cdev_device_open_cnt",
            "vfio_device vfio0.open_count": "vfio_device vfio0.open_count",
            "vfio_device_file 1.access_granted": "vfio_device_file 1.access_granted",
            "iommufd_ctx 1.objects": "iommufd_ctx 1.objects",
        },
        {
            "-vfio_group 1.opened_file": Distractor(
                "You left it out. A writes it when it opens the group, and BIND looks at it: an open group is EBUSY."
            ),
            "-vfio_group 1.cdev_device_open_cnt": Distractor(
                "You left it out. BIND writes it when it blocks the group, and A looks at it before it opens the "
                "group.",
                None,
                _bind_first,
                "is blocked",
            ),
        }
        | {
            f"+{cell}": Distractor(
                f"Only BIND touches {cell}, in the step “{step} …”. Opening the group does not.",
                None,
                _bind_first,
                step,
            )
            for cell, step in OF_BIND_ALONE.items()
        },
        kind="set",
        view=GROUP_VIEW,
        hints=("What must each call know about the other?", "One of them is written by A, another by B."),
    ),
    "how early, how late?": Question(
        "A is stopped once, B runs to its end, and then A goes on to its end. After how many of A's effects must it be stopped, so "
        "that both get the group? Find the first such number and the last one. <b>How many</b> numbers are there, both included?",
        _early_and_late,
        "A has to be stopped after it has looked, and before it tells. Both are single effects, and a few lie between.",
        wrong={
            "1": "You looked for one place. Between looking and telling A has several effects, and it can be stopped after each.",
            "26": "Stop A after 5 of its effects: B tells, then A looks and sees it. And after 24 A has told, so B is refused.",
        },
        otherwise="Begin in the middle, and try one effect less and one more: where does the sentence about both appear, and where "
        "does it go?",
        kind="number",
        view=GROUP_VIEW,
        hints=("With 17 it goes wrong. And with 16?", "The first is 17. Go up from there, until B is refused."),
    ),
    "a dying VM": Question(
        "A device's file knows its VM by a weak pointer. <b>A</b> binds the file: it reads the pointer, then takes a reference to "
        "the VM. <b>B</b> closes the VM: the pointer is cleared, then the VM goes. <code>kvm_ref_lock</code> is taken out. What is "
        "the worst that can happen?",
        _a_dying_vm,
        "what A has read keeps nothing alive: A may use an address at which there is no VM any more. The lock makes reading "
        "and taking one step; clearing waits for it.",
        {
            "nothing": "nothing: A takes a reference, or finds no VM",
            "freed": "A uses the VM after it was freed",
            "errno": "BIND fails with an errno",
            "leak": "the VM is never freed",
        },
        {
            "nothing": Distractor(
                "You expected reading and taking to be one step. They are two, and A uses the VM after it was freed.",
                M.ONE_CALL_AFTER_THE_OTHER,
            ),
            "errno": "You expected a check. BIND has none that could find this: what it has read looks like a VM, and it "
            "uses the VM after it was freed.",
            "leak": "A leak is a reference that nobody gives back. Here it is the other way round: A holds nothing yet, "
            "and uses the VM after it was freed.",
        },
        view=VM_VIEW,
        hints=("A weak pointer keeps nothing alive.", "Let A stop when it has read the pointer. Let B do everything."),
        withheld="10 order: use after free",
    ),
    "a failed bind": Question(
        "A device is bound through its first file, and holds the VM of that file. Then the program tries BIND through a second "
        "file of the same device: EINVAL, of course. What has happened to the reference to the VM?",
        _after_a_failed_bind,
        "the failing BIND gives back the VM that the device remembers. It looks into a place that all files of the device share, "
        "and finds what the first BIND has put there.",
        {
            "kept": "it is still held: a refused call changes nothing",
            "lost": "it is given back, although the first binding is in use",
            "twice": "it is held twice now",
        },
        {
            "kept": Distractor(
                "It should be so. But this call is not refused at once. On its way out it gives the VM back, which "
                "the first binding still uses.",
                M.FAILED_IS_UNDONE,
            ),
            "twice": "You expected the refused call to keep a reference. On its way out it gives the VM back, and more "
            "than it has taken.",
        },
        view=VM_VIEW,
        about=("kvm 1.users_count",),
    ),
}
