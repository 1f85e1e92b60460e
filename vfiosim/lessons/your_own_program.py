"""The lesson about a program of one's own: a VMM in C, in cells; what the kernel refused decides, and what is left behind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..lab import Distractor
from ..lab.program_task import ProgramExercise, ProgramTask
from . import misconceptions as M
from .lesson import Lesson
from .your_own_program_questions import CHECK, QUESTIONS

if TYPE_CHECKING:
    from ..lab.programs import Ran
    from ..run import ProgramRun

__all__ = ["exercise", "finish", "free_it", "mend", "once_answered", "predict", "quiz"]
UNTRUE = "The card reads one page"
BIND, ATTACH, MAP = "VFIO_DEVICE_BIND_IOMMUFD", "VFIO_DEVICE_ATTACH_IOMMUFD_PT", "IOMMU_IOAS_MAP"


def _answers(run: ProgramRun, request: str) -> list[str]:
    """How the requests of this name ended: "" or an errno."""
    return [call.errno for call in run.calls if re.search(rf"\b{request}\b", call.shown)]


def _stopped(run: ProgramRun) -> str:
    """A call that ended the program, in a sentence."""
    refused = [call for call in run.calls if call.errno]
    if run.returncode < 0:
        return f"A signal ended the program (number {-run.returncode})."
    return f"The last refusal is {refused[-1].errno}: {refused[-1].sentence}." if refused else ""


# ---- mend: two mistakes


def _not_reading(ran: Ran) -> str | Distractor:
    """What keeps a run from a card that reads: each of BIND, ATTACH and MAP once, nothing refused, status 0."""
    run = ran.run
    if "" not in _answers(run, BIND) and "EINVAL" in _answers(run, ATTACH):
        return Distractor("ATTACH was refused: before BIND the gate of the card's file is shut.", M.OPEN_IS_ENOUGH)
    if "EINVAL" in _answers(run, BIND):
        return Distractor(
            "Now the program comes to BIND, and the errno is the same. The log shows what BIND was given: argsz is 0.",
            M.ERRNO_IS_A_CAUSE,
        )
    for name, request in (("BIND", BIND), ("ATTACH", ATTACH), ("MAP", MAP)):
        if "" not in _answers(run, request):
            return f"No {name} of this run succeeded, and without it the card reads nothing. {_stopped(run)}"
    return f"The program ended with {run.returncode}. {_stopped(run)}" if run.returncode else ""


MEND = ProgramTask(
    "A colleague writes: “It ends with EINVAL, and I have swapped everything that I can swap.” There are two mistakes in the "
    "program below. Mend both: the card is to read the page, and the program to end with 0. Run it, then press Check.",
    _not_reading,
    (
        "The log tells the first refused call, and in words which check it was. One mistake hides the other.",
        "First the order: what does ATTACH need? Then the struct: what does BIND look at before it looks at anything else?",
        "The line with BIND goes above the line with attach_card; <code>.argsz = sizeof it</code> goes into the struct.",
    ),
    (
        ("{.iommufd = iommu};", '{.argsz = sizeof it, .iommufd = iommu};\n  must(ioctl(card, BIND, &it), "BIND");'),
        ('  attach_card(card, space);\n  must(ioctl(card, BIND, &it), "BIND");', "  attach_card(card, space);"),
    ),
    "BIND opens the gate, so it comes before ATTACH. C fills a field that you do not name with 0: then the kernel reads a struct "
    "of no bytes, and has to refuse it.",
    "20 task: two mistakes",
    "mend",
)


# ---- a failure that is not looked at


def _not_noticed(ran: Ran) -> str | Distractor:
    """What is wrong with a run in which MAP was to fail, or with the same program where it does not."""
    run, unfailed = ran.run, ran.unfailed
    if "ENOMEM" not in _answers(run, MAP):
        why = (
            "Run the cell below with its first line as it is: <code>--fail</code> makes MAP fail."
            if _answers(run, MAP)
            else "The program has ended before it came to MAP."
        )
        return f"In the last run no MAP failed. {why}" + (f" {_stopped(run)}" if run.returncode else "")
    if run.returncode == 0 and UNTRUE in ran.printed:
        return (
            f"MAP failed, and the program says “{UNTRUE}” and ends with 0: whoever started it believes that. Both have to depend "
            "on what ioctl returned."
        )
    if run.returncode == 0:
        return "It says nothing untrue any more. But it ends with 0, and so whoever started it believes that the card reads."
    if UNTRUE in ran.printed:
        return f"MAP failed, and still the program says “{UNTRUE}”. It has to look at what ioctl returned before it says so."
    if unfailed is None:
        return _stopped(run)
    if unfailed.returncode or "" not in _answers(unfailed, MAP):
        return (
            f"Check has run the program once more, with nothing failing: it ended with {unfailed.returncode}. Where MAP succeeds "
            f"it has to end with 0. {_stopped(unfailed)}"
        )
    return ""


FAILS = ProgramTask(
    "The first line of the cell below makes MAP fail, as it does on a machine without free memory. The program says “The card "
    "reads one page”, and ends with 0: both are wrong. Let it say nothing untrue and end with another status when MAP fails, and "
    "only then. Run it, then press Check.",
    _not_noticed,
    (
        "Which line throws an answer of the kernel away?",
        "<code>must</code> ends the program with 1 if its first argument is below 0. The functions in card.h use it.",
        '<code>must(map_page(iommu, space), "MAP");</code>',
    ),
    (("  map_page(iommu, space);", '  must(map_page(iommu, space), "MAP");'),),
    "ioctl returns −1 and the program looks at it. Nothing has to be taken back by hand: exit closes both files, and with them "
    "go the binding and the address space.",
    "20 task: a failure",
    "exercise",
)


# ---- a helper that keeps the card


def _left(ran: Ran) -> str | Distractor:
    """What a run lacks that is to leave nothing behind, with a helper that goes on."""
    run = ran.run
    if not run.goes_on:
        return "When this program ended, no helper went on. The helper has to live; only the card must not be left with it."
    if run.left_behind:
        told = f"{'. '.join(run.left_behind)}."
        if any(sentence.endswith(" open") and "vfio" in sentence for sentence in run.left_behind):
            return Distractor(told, M.BOUND_BY_A_PROGRAM)
        return f"{told} The card itself is free: nothing but the iommufd is left. So one of the two files still goes to the helper."
    if "" not in _answers(run, BIND):
        return f"No BIND of this run succeeded. {_stopped(run)}"
    return f"The program ended with {run.returncode}. {_stopped(run)}" if run.returncode else ""


HELPER = ProgramTask(
    "This VMM starts a helper, which goes on when the VMM has ended (here: a <code>sleep</code>). The log of its run "
    "ends with what is left behind. Keep the helper, and let nothing be left. Run it, then press Check.",
    _left,
    (
        "What does a helper get from the program that starts it?",
        "<code>system</code> forks, and the copy becomes a shell. Which descriptors does the shell still have?",
        "A descriptor that is opened with <code>O_CLOEXEC</code> is closed when its process becomes another program. "
        "<code>man 2 open</code> says so.",
    ),
    (('vfio0", O_RDWR)', 'vfio0", O_RDWR | O_CLOEXEC)'), ('iommu", O_RDWR)', 'iommu", O_RDWR | O_CLOEXEC)')),
    "The helper has no descriptor of the card. With O_CLOEXEC the copy loses both at the moment at which it becomes the shell; "
    "started after the two calls of close it never had them.",
    "20 task: a helper",
    "free_it",
)


def mend() -> ProgramExercise:
    """The first task: two mistakes with one errno."""
    return ProgramExercise(MEND)


def exercise() -> ProgramExercise:
    """The second task: a failure that nobody looks at."""
    return ProgramExercise(FAILS)


def free_it() -> ProgramExercise:
    """The third task: a helper that keeps the card."""
    return ProgramExercise(HELPER)


LESSON = Lesson(
    "20",
    QUESTIONS,
    CHECK,
    {MEND.name: "the first program", FAILS.name: "the second program", HELPER.name: "the third program"},
)
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish
