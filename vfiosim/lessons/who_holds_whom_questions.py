"""The questions of the lesson about who holds whom. Every answer comes out of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..lab import Distractor, ExperimentResult, Question
from ..lab.question import step_saying
from ..machine import Machine, Process
from ..trace import Trace
from . import misconceptions as M
from .beginnings import DEVICE, bound_program, program
from .closing_calls import NIC, UNBIND
from .experiments import call, held, last_change

GROUP = "/dev/vfio/1"
FILE, CTX = "file vfio0#1", "iommufd_ctx 1"
FILES = ("thread *", "fds", "file vfio*", "vfio_device_file")
BOUND = (FILE, "vfio_device_file 1", "file iommu#1", CTX, "iommufd_device 1")


def since(machine: Machine, call: Callable[[], object]) -> Trace:
    """Make a call; the steps of it."""
    before = len(machine.trace)
    call()
    return machine.trace[before:]


def count(trace: Trace, name: str) -> str:
    """How many references a file has at the end."""
    return str(trace.end.objects[name].total("f_ref"))


def _counted(*calls: Callable[[Process], object]) -> ExperimentResult:
    machine, process = program()
    steps = since(machine, lambda: [call(process) for call in calls])
    return ExperimentResult(count(steps, FILE), steps, last_change(steps, f"{FILE}.f_ref"), held(steps, FILE))


def _is_left(machine: Machine, process: Process) -> ExperimentResult:
    """What becomes of the device's file, of which descriptor 3 is closed."""
    steps = since(machine, lambda: process.close(3))
    paths = machine.why(FILE).paths if FILE in steps.end.objects else ()
    step = last_change(steps, f"{FILE}.f_ref")
    return ExperimentResult("lives" if paths else "goes", steps, step, tuple(path.words for path in paths))


def _a_second_open() -> ExperimentResult:
    machine, process = program()
    steps = since(machine, lambda: process.open(DEVICE))
    files = [name for name in steps.end.objects if name.startswith("file vfio0#")]
    lines = tuple(f"{name}: {line}" for name in files for line in held(steps, name))
    return ExperimentResult(f"{len(files)} {count(steps, FILE)}", steps, step_saying(steps, "now leads to"), lines)


def _before_the_closes() -> ExperimentResult:
    machine, _process = bound_program()
    return ExperimentResult("", machine.trace[len(machine.trace) :], 0)


def _after_the_closes() -> ExperimentResult:
    machine, process = bound_program()
    process.dup(3)

    def closes() -> None:
        process.close(4)
        process.close(3)

    steps = since(machine, closes)
    alive = tuple(name for name in BOUND if name in steps.end.objects)
    paths = machine.why(CTX).paths[:1] if CTX in alive else ()
    return ExperimentResult(alive, steps, last_change(steps, f"{FILE}.f_ref"), tuple(path.words for path in paths))


def _the_last_call() -> ExperimentResult:
    machine, process = bound_program()
    process.close(4)
    ways = tuple(path.words for path in machine.why(CTX).paths[:2])
    steps = since(machine, lambda: process.close(3))
    answer = "close" if CTX not in steps.end.objects else "none"
    return ExperimentResult(answer, steps, last_change(steps, CTX), ways)


def _the_driver_first() -> ExperimentResult:
    machine, process = bound_program()
    process.close(4)
    steps = since(machine, lambda: machine.process("admin").start("write_file", UNBIND, NIC))
    return ExperimentResult("waits", steps, len(steps))


def _a_weak_pointer() -> ExperimentResult:
    machine = Machine()
    process = machine.process("vmm")
    group = process.open(GROUP)
    pointed = [link for link in machine.trace.end.references("weak") if link.target == "file group1#1"]
    steps = since(machine, lambda: process.close(group))
    lives = "file group1#1" in steps.end.objects
    left = steps.end.objects["vfio_group 1"].fields["opened_file"]
    evidence = (
        f"before: vfio_group 1.opened_file points to {pointed[0].target}",
        f"after: it {'is empty' if left is None else f'points to {left}'}",
    )
    answer = "lives" if lives else "dangling" if left else "goes"
    return ExperimentResult(answer, steps, last_change(steps, "vfio_group 1.opened_file"), evidence)


def _a_mapping() -> ExperimentResult:
    machine, process = bound_program()
    process.mmap(4096, 3, 3, 0)
    return _is_left(machine, process)


def _a_message() -> ExperimentResult:
    machine, process = program()
    here, _there = process.socketpair()
    process.sendmsg_fds(here, [3])
    return _is_left(machine, process)


def _order_of_the_release() -> ExperimentResult:
    machine, process = bound_program()
    process.close(4)
    steps = since(machine, lambda: process.close(3))
    freed = [change.what for step in steps for change in step.changes if change.new is None and change.old == "alive"]
    wanted = [name for name in freed if name in RELEASED]
    return ExperimentResult(tuple(wanted), steps, last_change(steps, wanted[0]))


FORKED = "child gets the descriptors"
RELEASED = ("iommufd_device 1", CTX, "file iommu#1", "vfio_device_file 1", FILE)

QUESTIONS: dict[str, Question] = {
    "fork": Question(
        "A program has the device's file open as descriptor 3: <code>file vfio0#1</code> counts 1 reference. The program forks. "
        "What is the count (<code>f_ref</code>) afterwards?",
        partial(_counted, call("fork", "child")),
        "a fork copies the descriptor table, not the files. Both tables lead to one file, and each counts as a holder.",
        wrong={
            "1": "You expected the child to get a file of its own, or none. It gets a table of its own, with the same files.",
            "3": "Perhaps you counted descriptor 4, too. It leads to another file.",
        },
        otherwise="Count the tables that lead to the file: that of the program, and that of the child.",
        view=(*FILES, "file iommu*"),
        about=(f"{FILE}.f_ref",),
        kind="number",
        hints=("Ask who would have to give it back.", "There are two programs now, each with a descriptor table."),
    ),
    "a second open": Question(
        "The program opens <code>/dev/vfio/devices/vfio0</code> once more and gets descriptor 5. How many open files of the device "
        "are there now, and how many references does the first one have?",
        _a_second_open,
        "each open makes a file with a counter of its own. dup, fork and messages add a holder to a file that is there already.",
        {
            "1 2": "one file, and it has 2 references",
            "2 1": "two files, and the first has 1 reference",
            "2 2": "two files, and the first has 2 references",
        },
        {
            "1 2": Distractor(
                "You described what dup does. Each open makes a new file with a count of its own, and descriptor 5 "
                "leads to the new file.",
                M.SECOND_OPEN_IS_FINE,
            ),
            "2 2": Distractor(
                "There are two files, that is right. But descriptor 5 leads to the second file, so the first one "
                "still has one holder."
            ),
        },
        view=FILES,
    ),
    "the last call": Question(
        "The device (3) is bound to the iommufd (4). The program has done <code>close(4)</code>, so no descriptor leads to the "
        "iommufd any more. Which call frees the iommufd?",
        _the_last_call,
        "a path holds the iommufd only as long as <i>each</i> of its arrows is held, not only the first. When the device's file "
        "goes, its release handler ends the binding. It destroys the device object. That cuts a <i>cycle</i>, too: the context "
        "holds the device object, which holds the file, which owns the context; counting alone never frees it. It gives back the "
        "arrows <code>bound to it</code> and <code>bound</code>, which begin in the rows <code>iommufd</code> "
        "and <code>iommufd_device</code> of the picture. Each path goes through one of the two, also those that begin at the "
        "driver, which still holds the device:",
        {
            "close": "close(3), the device",
            "unbind": "only the one that takes the driver vfio-pci away from the device",
            "none": "none: the driver stays, and a path leads from the driver to the iommufd",
        },
        {
            "unbind": Distractor(
                "The driver cannot leave while the device's file is open. It waits for close(3), and that frees the iommufd.",
                refute=_the_driver_first,
            ),
            "none": "You took a path for something that only ends at its root. But each arrow of it can be given back. The "
            "driver still holds the device; when the binding ends, the device holds <code>iommufd_device 1</code> no more.",
        },
        view=(*BOUND, "fds", "driver vfio-pci", "vfio_device vfio0", "thread *"),
        about=(CTX,),
        hints=("What does the kernel do when the last holder of the device's file is gone?",),
    ),
    "weak": Question(
        "While a program has the group's file open, the group remembers which file that is: <code>vfio_group 1.opened_file</code>. "
        "The program closes the file. What happens to the file and to the pointer?",
        _a_weak_pointer,
        "the pointer is a weak one. It is not counted, so it keeps nothing alive. The code that frees the file has to clear "
        "the pointer first, or somebody would follow it later, into memory that belongs to something else by then. Each weak "
        "pointer needs such a rule: who clears it, before the object goes?",
        {
            "goes": "It goes, and the pointer is cleared on the way",
            "lives": "It lives on, because the group points to it",
            "dangling": "It goes, and the pointer still leads to where it was",
        },
        {
            "lives": Distractor(
                "You took a pointer for a holder. The group knows where the file is, but this pointer is not counted. "
                "Nobody holds the file any more, so it goes.",
                M.LOOKING_IS_HOLDING,
            ),
            "dangling": "A pointer to a freed file would be a bug. So the close of the group's file clears the pointer before "
            "the file is freed.",
        },
        view=("thread *", "fds", "file group*", "vfio_group 1"),
        about=("vfio_group 1.opened_file",),
    ),
    "who is alive?": Question(
        "The picture shows a device that is bound to an iommufd. The program does <code>dup(3)</code>, then <code>close(4)</code>, "
        "then <code>close(3)</code>. Which of these objects are alive afterwards? Click on them in the picture, or tick them. A box"
        " with two names is two objects: a click takes both.",
        _after_the_closes,
        "descriptor 5 holds the device's file. The file holds the binding, and the binding holds the iommufd. Nothing has gone.",
        {name: name for name in BOUND},
        {
            f"-{name}": Distractor(
                "close(4) took one holder of the iommufd's file away. The binding still holds this file, and "
                "descriptor 5 keeps the binding.",
                M.CLOSING_IS_RELEASING,
                at="Descriptor 4 leads nowhere",
            )
            for name in BOUND[2:]
        }
        | {
            f"-{name}": Distractor(
                "close(3) took one holder of the device's file away. Descriptor 5 leads to the same file, and holds it.",
                M.ONE_NUMBER_ONE_HOLDER,
            )
            for name in BOUND[:2]
        },
        view=(*BOUND, "fds", "vfio_device vfio0"),
        kind="set",
        before=_before_the_closes,
        hints=("Which descriptors are left?", "Only 5. Follow the arrows from there."),
    ),
    "a mapping": Question(
        "The device is bound. The program maps a part of it into its memory (<code>mmap</code>) and then closes descriptor 3, the "
        "only one. What happens to the device's file?",
        _a_mapping,
        "a mapping holds the file that it maps. That is how a device can stay busy although no descriptor leads to it: look into "
        "<code>/proc/PID/maps</code>, too.",
        {
            "goes": "It goes: no descriptor leads to it",
            "unmapped": "close takes the mapping away, then the file goes",
            "lives": "It lives on, and the device stays bound",
        },
        {
            "goes": Distractor(
                "close(3) took the only descriptor away, but not the only holder: the mapping is one, too.",
                M.ONE_NUMBER_ONE_HOLDER,
            ),
            "unmapped": "close gives back a descriptor. Only munmap, or the end of the program, takes a mapping away.",
        },
        view=("thread *", "fds", FILE, "vfio_device_file", "vfio_device vfio0", "mm_struct vmm"),
    ),
}

CHECK = (
    Question(
        "Descriptor 3 leads to a file. The program does <code>dup(3)</code>, then forks, then closes 3. How many references "
        "does the file have?",
        partial(_counted, call("dup", 3), call("fork", "child"), call("close", 3)),
        "two tables with two descriptors each are four holders; one of them was closed.",
        wrong={
            "1": Distractor("The table of the child holds the file, too, and twice: it has both numbers.", at=FORKED),
            "2": Distractor("The fork copies the whole table: both numbers of the child hold the file.", at=FORKED),
            "4": "So many are there before the close. close(3) gives one back.",
        },
        otherwise="dup makes two holders. fork copies the table with both descriptors: four holders. close(3) takes one "
        "of them away.",
        kind="number",
        view=FILES,
        about=(f"{FILE}.f_ref",),
        name="02 check: count",
    ),
    Question(
        "A program sends the device's file over a socket and closes its descriptor before anybody receives the message. "
        "What becomes of the file?",
        _a_message,
        "a message on its way holds the files in it, and the socket holds the message.",
        {
            "lives": "It lives on, and arrives",
            "goes": "It goes, and the message arrives without it",
            "number": "It goes, and the receiver gets a number that leads nowhere",
        },
        {
            "goes": Distractor(
                "close(3) took the last descriptor away, but not the last holder: the message on its way holds the file.",
                M.ONE_NUMBER_ONE_HOLDER,
            ),
            "number": "You expected a message to carry a number. It carries the file itself. close(3) ends only the "
            "sender's number; the receiver gets a new one.",
        },
        view=("thread *", "fds", FILE, "file socket*", "socket", "message", "vfio_device_file"),
        name="02 check: message",
    ),
    Question(
        "Descriptor 4, the iommufd, is closed already. Now <code>close(3)</code> ends the binding. In which order are they freed?",
        _order_of_the_release,
        "the release handler of the device's file runs first: it gives up the device object and ends the binding. Then the "
        "file itself is freed. On the way the iommufd loses its last holder. A file that loses it inside a call is released when "
        "the call is nearly over: so the iommufd comes last.",
        {name: name for name in RELEASED},
        wrong={
            CTX: Distractor(
                "Descriptor 4 was closed first, but that freed nothing: the binding held the iommufd's file until now.",
                M.LAST_IN_FIRST_OUT,
                at="iommufd_ctx 1 is freed",
            ),
            "file iommu#1": Distractor(
                "Before a file is freed its release handler runs. The handler of the iommufd's file frees iommufd_ctx "
                "1; after that the file is freed.",
                at="iommufd_ctx 1 is freed",
            ),
            "vfio_device_file 1": "vfio_device_file 1 goes at the end of the release handler: before that it ends the binding, and "
            "iommufd_device 1 goes.",
            FILE: Distractor(
                "file vfio0#1 loses its last holder first, that is right. But before it is freed its release handler "
                "runs, and that frees other objects.",
            ),
        },
        kind="order",
        view=(*BOUND, "fds", "thread *", "vfio_device vfio0"),
        hints=(
            "The file that is closed runs the handler, so it is freed when the handler has ended.",
            "A file that loses its last holder inside a call waits until the call returns.",
        ),
        name="02 check: order",
        seed=3,
        about=RELEASED,
    ),
)
