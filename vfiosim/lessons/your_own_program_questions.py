"""The questions about a program of one's own: what the kernel reads of a struct, and what an end closes. All by experiments."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ..lab import Distractor, ExperimentResult, Question
from ..lab.question import step_saying
from ..machine import Machine, Process
from ..uapi import Errno, KernelError
from . import misconceptions as M
from .beginnings import DEVICE, IOMMUFD, program

BIND, IOAS_ALLOC, IOAS_MAP = 0x3B76, 0x3B81, 0x3B85
FILES = ("thread *", "fds *", "file vfio*", "file iommu*", "vfio_device_file", "iommufd_device", "iommufd_ctx 1")


def _ask(process: Process, fd: int, request: int, layout: str, *values: int) -> str:
    """How a request ends whose struct is this."""
    return _ending(lambda: process.ioctl(fd, request, bytearray(struct.pack(layout, *values))))


def _ending(call: Callable[[], int]) -> str:
    try:
        return str(call())
    except KernelError as error:
        return error.name


def _bind(process: Process, card: int = 3, iommu: int = 4, argsz: int = 16) -> str:
    return _ask(process, card, BIND, "<IIiI", argsz, 0, iommu, 0)


def _no_size() -> ExperimentResult:
    machine, process = program()
    before = len(machine.trace)
    answer = _bind(process, argsz=0)
    trace = machine.trace[before:]
    return ExperimentResult(answer, trace, step_saying(trace, "Refused"))


def _next_program(machine: Machine) -> ExperimentResult:
    other = machine.process("next")
    card, iommu = other.open(DEVICE), other.open(IOMMUFD)
    before = len(machine.trace)
    answer = _bind(other, card, iommu)
    trace = machine.trace[before:]
    refused = step_saying(trace, "Refused") if answer != "0" else -1
    held = [path.words for path in machine.why("file vfio0#1").paths] if "file vfio0#1" in trace.end.objects else []
    return ExperimentResult(answer, trace, refused, tuple(held))


def _early_exit() -> ExperimentResult:
    machine, process = program()
    _bind(process)
    process.exit()
    return _next_program(machine)


def _with_a_helper() -> ExperimentResult:
    machine, process = program()
    _bind(process)
    process.fork("helper")
    process.close(3)
    process.close(4)
    process.exit()
    return _next_program(machine)


def _of_tomorrow() -> ExperimentResult:
    machine, process = program()
    before = len(machine.trace)
    answers = [_ask(process, 4, IOAS_ALLOC, "<IIII", 16, 0, 0, more) for more in (0, 5)]
    trace = machine.trace[before:]
    return ExperimentResult(" ".join(answers), trace, step_saying(trace, "Refused"))


def _once_more() -> ExperimentResult:
    machine, process = program()
    _ask(process, 4, IOAS_ALLOC, "<III", 12, 0, 0)
    page = process.memory.map(4096)
    machine.fail_next(None, Errno.ENOMEM)
    before = len(machine.trace)
    answers = [_ask(process, 4, IOAS_MAP, "<IIIIQQQ", 40, 7, 1, 0, page, 4096, 0x10000) for _ in range(2)]
    trace = machine.trace[before:]
    return ExperimentResult(answers[1], trace, -1, (f"first {answers[0]}, then {answers[1]}",))


QUESTIONS: dict[str, Question] = {
    "no size": Question(
        "A program forgets one field: <code>struct bind it = {.flags = 0, .iommufd = iommu};</code>. C fills what is not named "
        "with 0, so <code>argsz</code> is 0. Everything else is right. What does BIND say?",
        _no_size,
        "argsz tells the kernel how many bytes of the struct it may read. 0 bytes have no room for an iommufd, so BIND refuses "
        "before it looks at anything else.",
        {
            "0": "0: the request's number says which struct it is",
            "EFAULT": "EFAULT: the struct cannot be read",
            "EINVAL": "EINVAL: the struct is too short",
        },
        {
            "0": "You expected the kernel to know the size from the request. Numbers of VFIO requests tell no size. "
            "Structs grow from version to version, so each program says how long its own is.",
            "EFAULT": "EFAULT is for an address at which there is no memory. This address is good; what stands there is wrong.",
        },
        view=FILES,
        hints=("Ask what the kernel reads first.",),
        name="20 no size",
    ),
    "early exit": Question(
        "The VMM has bound the card. Then a call fails, and <code>exit(1)</code> ends it: neither <code>close</code> has run. "
        "Another program opens the card and an iommufd, and calls BIND. What does it get?",
        _early_exit,
        "the end of a process closes all its descriptors. They were the last holders, so both files are released, as by close.",
        {
            "0": "0: the card is free",
            "EINVAL": "EINVAL: the card is bound still",
            "EBUSY": "EBUSY: the card is in use until the machine restarts",
        },
        {
            "EINVAL": "You expected a binding to outlive its program. It would, if anybody else held the file. Here nobody does.",
            "EBUSY": "You expected a program to have to clean up. The kernel knows every descriptor of a process, and closes them.",
        },
        view=FILES,
        name="20 early exit",
    ),
    "helper": Question(
        "The VMM has bound the card and forks a helper. Then the VMM closes both files, and ends with 0. The helper lives, and "
        "never uses the card. Another program opens the card and an iommufd, and calls BIND. What does it get?",
        _with_a_helper,
        "fork has copied the descriptor table: the helper's descriptors 3 and 4 hold both files. The binding belongs to the "
        "card's file, so it stays as long as the helper.",
        {
            "0": "0: the VMM has closed everything",
            "EINVAL": "EINVAL: the card is bound still",
            "EBADF": "EBADF: the card's file is closed",
        },
        {
            "0": Distractor(
                "The VMM has closed <i>its</i> descriptors. The helper has two more.", M.BOUND_BY_A_PROGRAM
            ),
            "EBADF": "The other program has just opened a file of its own. Its descriptors are good.",
        },
        view=FILES,
        name="20 helper",
    ),
}

CHECK = (
    Question(
        "A program was compiled with the headers of a kernel of tomorrow: its <code>struct ioas</code> has 16 bytes, and Linux "
        "7.2 knows 12. It calls IOAS_ALLOC twice, with <code>size = 16</code>: first the four new bytes are 0, then they are 5. "
        "How do the calls end?",
        _of_tomorrow,
        "new bytes that are 0 ask for nothing new, so an old kernel can do the call. Any other value asks for something that it "
        "cannot do, and must not leave out in silence.",
        {
            "0 0": "0, 0: an old kernel reads its 12 bytes",
            "0 E2BIG": "0, then E2BIG",
            "E2BIG E2BIG": "E2BIG both times: 16 is more than 12",
            "EINVAL EINVAL": "EINVAL both times: the size is wrong",
        },
        {
            "0 0": "You expected the old kernel to leave out what it does not know. Then the program would believe that "
            "the 5 was understood. So the kernel refuses it.",
            "E2BIG E2BIG": "You expected every longer struct to be refused. Then no program with newer headers could run. New "
            "bytes that are 0 ask for nothing, so they are allowed.",
            "EINVAL EINVAL": "EINVAL is for a struct that is too short. This one is longer than needed.",
        },
        view=("thread *", "iommufd_ctx 1", "iommufd_ioas"),
        name="20 check: tomorrow",
    ),
    Question(
        "MAP fails with ENOMEM. The program waits until there is memory again, and calls MAP once more, with the same struct. "
        "What does the second call say?",
        _once_more,
        "a refused call lets go of all that it had taken. The address space is as it was before, so the same place is free.",
        {
            "0": "0: now the page is mapped",
            "EEXIST": "EEXIST: the first call has taken the place",
            "ENOMEM": "ENOMEM: a refusal is remembered",
        },
        {
            "EEXIST": "You expected half a mapping to be left. Then every failure would cost the program a range of addresses.",
            "ENOMEM": "The kernel keeps no list of refusals. Each call is tried as if it were the first.",
        },
        view=("thread *", "iommufd_ctx 1", "iommufd_ioas", "iopt_area*"),
        name="20 check: once more",
    ),
)
