"""The questions of the lesson about real bugs. Every answer comes out of a run of the kernel that has them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache

from ..explore import Result, explore
from ..kernel.iommufd.io_pagetable import iopt_map_file_pages
from ..kernel.vfio.vfio_main import vfio_device_fops
from ..lab import Distractor, ExperimentResult, Question
from ..lab.question import step_saying
from ..machine import Machine
from ..museum import ROOMS
from ..museum.iommufd_requirements import map_file
from ..naming import must_be_one_of
from ..puzzles import PUZZLES
from ..puzzles.changed import changed
from ..puzzles.programs import CTX, DEV, KVM_VFIO, VM, Call, bind, make
from ..trace import Trace
from ..uapi import KernelError
from . import misconceptions as M

R13, ITSELF = PUZZLES["R13"], ROOMS["mapped-into-itself"]
MAPPED, HELD, EXITS = "The mapping is complete", "for as long as the mapping lasts", "process vmm exits"
CARD = "vfio_device vfio0"
RING = ("file vfio0#1", "vfio_device_file 1", "file iommu#1", "iommufd_ctx 1")
OUTSIDE = ("iommufd_ioas 3", "iommufd_group 1")  # of no ring
LEFT = (*RING, "iommufd_ioas 2", "iopt_area 1", "iopt_pages 1", CARD, "iommufd_device 1", *OUTSIDE)
VIEW = ("fds vmm", *LEFT, "iopt_area", "iopt_pages")


@changed(iopt_map_file_pages, vfio_device_fops=vfio_device_fops)
def map_no_device() -> None:
    """Map a part of a file that is no VFIO device. EINVAL for length 0, EOVERFLOW, EBADF, EINVAL for a device.

    + is_device = file.f_op is vfio_device_fops
    + await refuse_if(is_device, Errno.EINVAL, "file_is_no_device", f"{file.label} is a device, and no memory")
      pages = await iopt_alloc_file_pages(ictx, file, start, length, bool(prot & IOMMU_WRITE))
    """


def mapped_and_gone(fd: int) -> Machine:
    """The program has mapped this descriptor into its own iommufd, and has ended."""
    machine = make(ITSELF.setup(), map_file(fd))
    machine.processes["vmm"].exit()
    return machine


def since_the_map(machine: Machine) -> Trace:
    """The steps from the MAP_FILE on, to the end of the program."""
    calls = machine.trace.calls
    first = next(call for call in calls if "MAP_FILE" in call.name)
    return machine.trace[first.steps.start :]


def _after_the_end() -> ExperimentResult:
    trace = since_the_map(mapped_and_gone(DEV))
    answer = "EINVAL" if any(step.refused for step in trace) else "ever" if RING[0] in trace.end.objects else "free"
    return ExperimentResult(answer, trace, -1, ("the program has ended, and nobody else has a descriptor of the file",))


def _the_ring() -> ExperimentResult:
    machine = mapped_and_gone(DEV)
    held = {link.holder for path in machine.why(RING[0]).cycles for link in path.links}
    ring = tuple(key for key in LEFT if key in held)
    return ExperimentResult(ring, since_the_map(machine), -1, brought=ring)


def _half_a_repair() -> ExperimentResult:
    machine = ITSELF.setup()
    with machine.patched(iopt_map_file_pages=map_no_device):
        make(machine, map_file(CTX))
        machine.processes["vmm"].exit()
    trace = since_the_map(machine)
    return ExperimentResult("iommufd" if RING[3] in trace.end.objects else "mended", trace, -1)


CALLS: dict[str, Callable[[str], Call]] = {
    "bind": bind,
    "close card": lambda program: (program, "close", DEV),
    "close list": lambda program: (program, "close", KVM_VFIO),
    "close VM": lambda program: (program, "close", VM),
}


def search(A: str, B: str = "") -> Result:
    """All schedules of two programs, each with the card open and listed for a VM of its own; as in "bind, close card".

    Raises ValueError for a call that is none of CALLS, and where there is none at all.
    """
    programs = {}
    for thread, calls in (("A", A), ("B", B)):
        names = [name.strip() for name in calls.split(",") if name.strip()]
        for name in names:
            must_be_one_of(CALLS, name, "call")
        programs[thread] = [CALLS[name](thread) for name in names]
    if not any(programs.values()):
        raise ValueError(
            f'nobody calls anything: A="bind", B="bind, close card", for example; there are {", ".join(CALLS)}'
        )
    return explore(R13.setup, {thread: calls for thread, calls in programs.items() if calls}, R13.properties[:2])


PAIRS = {  # two programs by the name of an answer
    "alone": ("bind", ""),
    "once more": ("bind, bind", ""),
    "one VM": ("close list, bind", "bind"),
    "no VM": ("close list, bind", "close list, bind"),
    "after": ("bind, close list, close card", "bind"),
}


@cache
def _what_it_takes() -> ExperimentResult:
    found = {name: search(*pair) for name, pair in PAIRS.items()}
    loses = tuple(name for name, result in found.items() if result.violations)
    shortest = found["one VM"].counterexample
    assert shortest is not None
    trace = shortest.trace
    return ExperimentResult(
        loses, trace[trace.calls[-1].steps.stop :], -1, (shortest.what,)
    )  # A goes on once B is bound


@cache
def _schedules() -> tuple[int, int, Trace]:
    """Of all ways in which the two BINDs can end, in how many a VM is lost; and the steps of the shortest."""
    result = R13.explore()
    ends = list(result.outcomes.values())
    lost = sum(bool(witness.machine.check()) for witness in ends)
    assert result.counterexample is not None
    trace = result.counterexample.trace
    return lost, len(ends), trace[trace.calls[-1].steps]


def _how_much_luck() -> ExperimentResult:
    lost, ends, trace = _schedules()
    answer = "all" if lost == ends else "some" if lost else "none"
    return ExperimentResult(answer, trace, -1, (f"{lost} of the {ends} ways to end lose a VM",))


QUESTIONS: dict[str, Question] = {
    "itself": Question(
        "A program binds a card. Then it maps <i>the card's own file</i> into an address space of the same iommufd: "
        "<code>IOMMU_IOAS_MAP_FILE</code> with <code>fd = 3</code>. And then it ends, without a close. What about the card?",
        _after_the_end,
        "the address space holds the card's file, for it has mapped it. So the file stays when its last descriptor is closed, "
        "and with the file its binding. But who holds the address space, when the program is gone? See below.",
        {
            "ever": "it stays bound for ever",
            "EINVAL": "the map was refused: a card is no memory",
            "free": "it is free: the end of a program closes everything",
        },
        {
            "EINVAL": Distractor(
                "You expected a check for the kind of file. This kernel has none: the mapping is complete.",
                at=MAPPED,
            ),
            "free": Distractor(
                "All descriptors are closed. But a mapping holds its file, too.", M.BOUND_BY_A_PROGRAM, at=MAPPED
            ),
        },
        view=VIEW,
        hints=("Who holds the card's file when the descriptor is gone?", "And who holds the one who holds it?"),
    ),
    "the ring": Question(
        "A <i>ring</i> is a row of things in which each one is held by the one before, and the first one by the last. "
        "The program is gone, and this is left. What of it is in a ring? Click on them in the picture, or tick them.",
        _the_ring,
        "each of these holds the next: card's file → binding → iommufd's file → iommufd → its address space → card's file. "
        "The card is in a second, longer ring: "
        "its file counts on it, and it holds its place in the iommufd. A counter says that somebody holds, "
        "not whether anybody outside does. So counting never finds a ring. Sockets have the same trouble, and Linux has a small "
        "garbage collector for them; iommufd has none. Where <i>the caller chooses</i> what is held, the kernel has to ask first "
        "what it is.",
        {name: name for name in LEFT},
        {
            "-file vfio0#1": Distractor("The mapping holds this file: here the ring closes.", at=HELD),
            "-vfio_device_file 1": Distractor(
                "The card's file owns it, and is still held when the process exits.", at=EXITS
            ),
            "-file iommu#1": Distractor(
                "The binding holds it. The exit of the process gives back descriptors only.", at=EXITS
            ),
            "-iommufd_ctx 1": Distractor("Its file owns it, and is still held when the process exits.", at=EXITS),
            "-iommufd_ioas 2": Distractor("The iommufd holds it, and it holds every mapping in it.", at=MAPPED),
            "-iopt_area 1": Distractor(
                "The address space owns it. It is the place of the mapping, and holds what it shows.", at=MAPPED
            ),
            "-iopt_pages 1": Distractor("It holds the card's file: here the ring closes.", at=HELD),
            "-vfio_device vfio0": Distractor(
                "The card's file holds it, and it holds its object in the iommufd. No process is in that.", at=EXITS
            ),
            "-iommufd_device 1": Distractor(
                "The card holds it when the process exits, and it holds the iommufd's file.", at=EXITS
            ),
            "+iommufd_ioas 3": Distractor(
                "The iommufd holds it when the process exits. But nothing is mapped in it: it holds nobody.", at=EXITS
            ),
            "+iommufd_group 1": Distractor(
                "iommufd_device 1 holds it when the process exits. But it holds nobody in the ring.", at=EXITS
            ),
        },
        kind="set",
        before=lambda: ExperimentResult("", since_the_map(mapped_and_gone(DEV)), -1),
        view=VIEW,
        hints=(
            "Begin with the card's file: who has mapped it?",
            "Follow the arrows backwards until you are where you began.",
        ),
    ),
    "first patch": Question(
        "A first patch: <code>MAP_FILE</code> refuses the files of VFIO devices. Is the bug mended?",
        _half_a_repair,
        "an iommufd is a file, too. Mapped into itself it makes a shorter ring. The report named one case; the bug is its kind: "
        "any file that leads back to its holder.",
        {
            "mended": "yes: no device can be mapped any more",
            "iommufd": "no: the same can be done with a file of another kind",
            "memory": "no: now a file of memory cannot be mapped either",
        },
        {
            "mended": Distractor(
                "It refuses a card. An iommufd, descriptor 4, can still be mapped into itself: another ring.", at=MAPPED
            ),
            "memory": Distractor("A file of memory is no device: its mapping is not touched.", at=MAPPED),
        },
        view=VIEW,
        hints=("Which other files lead to an iommufd?",),
        name="11 half a repair",
    ),
    "luck": Question(
        "Two programs have opened one card, each for a VM of its own, and both BIND at the same moment. One is refused "
        "with EINVAL. How often does the card forget the VM of the other, which stays counted for ever?",
        _how_much_luck,
        "it needs no bad luck at all. The call that comes second writes its own VM over that of the first, is refused, and clears "
        "the place. The lock of the device set orders the two calls, and both orders are wrong.",
        {
            "none": "never: the lock of the device set keeps them apart",
            "some": "in some schedules, when one stops at the wrong place",
            "all": "in every schedule",
        },
        {
            "none": "The lock makes one call wait for the other. The second one still gives back the VM of the first.",
            "some": "You looked for an unlucky place to stop. A first or B first: both ways leave a count on the VM that "
            "nobody will give back.",
        },
        hints=("Not every bug that two programs meet is a race.",),
    ),
    "what it takes": Question(
        "With which of these programs is a VM lost in some schedule? Put them into the cell above, one after the other.",
        _what_it_takes,
        "it takes a second <i>file</i> of the card and one VM. A refused BIND gives back whatever VM the card has, also if its own "
        "file has none.",
        {name: f"A: {a}" + (f"; B: {b}" if b else ", and no B") for name, (a, b) in PAIRS.items()},
        {
            "+alone": "A BIND that succeeds gives nothing back, so one BIND alone loses no VM.",
            "+once more": "The second BIND of one file is refused early, before it looks for a VM.",
            "-one VM": "A's file forgot its VM when the list was closed. Where A comes second, it is refused, and "
            "gives back B's VM.",
            "+no VM": "Both files have forgotten their VMs, so the card has none to lose.",
            "-after": "The scheduler may let B ask before A has closed the card. It does not in every schedule: here "
            "it is bad luck.",
        },
        kind="set",
        hints=("Read the first line of each result: “Safe”, or “Broken”.",),
    ),
}


# ---- at the end


def _attached_to() -> ExperimentResult:
    room = ROOMS["replace-that-detaches"]
    trace = room.trace.trace
    found = str(trace.end.objects["vfio_device vfio0"].value("iommufd_attached"))
    return ExperimentResult("nothing" if found == "False" else "old", trace, -1, (room.trace.what,))


def _whose_lock() -> ExperimentResult:
    found = ROOMS["last-put-under-the-lock"].trace
    last = found.trace[found.trace.calls[-1].steps.start :]
    return ExperimentResult("itself" if "held by itself" in found.what else "other", last, -1, (found.what,))


def _the_old_token() -> ExperimentResult:
    room = ROOMS["token-of-a-failed-bind"]
    machine = room.setup()
    with suppress(KernelError):
        make(machine, *room.calls["A"])
    trace = machine.trace[machine.trace.calls[-1].steps]
    changed_it = bool(room.explore().violations)
    return ExperimentResult(
        "EACCES" if changed_it else "0", trace, step_saying(trace, "becomes the token"), (room.trace.what,)
    )


CHECK = (
    Question(
        "A card is attached to one address space. ATTACH to another one is refused with EFAULT, for the struct cannot be "
        "written. What is the card attached to now?",
        _attached_to,
        "the reply is written last, and the way out detaches. That is the undo of a first attach, not of a move.",
        {"old": "to the old one", "nothing": "to nothing", "new": "to the new one"},
        {
            "old": Distractor(
                "It does not move back. The way out knows the undo of a first attach: it has detached it.",
                M.FAILED_IS_UNDONE,
            ),
            "new": "It was moved. But then the call was refused, and the way out has detached the card.",
        },
        name="11 check: a refused move",
    ),
    Question(
        "Up to 2023 the last close of a device could hang for ever. It waited for a lock. Who held that lock?",
        _whose_lock,
        "who puts the last reference runs the destructor, with all locks that it holds. Here the destructor wants one of these.",
        {
            "other": "another thread, which waited for this one",
            "dead": "nobody: its holder had ended without giving it back",
            "itself": "the same thread, which called close",
        },
        {
            "other": "You thought of two threads that wait for each other. The last step names one thread only: it "
            "holds what it wants.",
            "dead": "The holder has not ended: it is the thread that waits. It wants a lock that it holds itself.",
        },
        name="11 check: who waits",
    ),
    Question(
        "BIND with a new token is refused: its iommufd is no open file (EBADF). What does a user of a virtual function get now "
        "who comes with the old token?",
        _the_old_token,
        "the check of the token also sets it, before the descriptor is looked at. A check that changes something has to "
        "come last.",
        {"EACCES": "EACCES: the token is another one now", "0": "0: a refused call changes nothing"},
        {
            "0": Distractor(
                "The BIND was refused after its new token had been set, and nobody sets the old one again.",
                M.FAILED_IS_UNDONE,
            )
        },
        name="11 check: the old token",
    ),
)
