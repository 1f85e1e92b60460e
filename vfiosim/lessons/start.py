"""The first page: one button, three quick questions, two small tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..lab import (
    Bench,
    Distractor,
    Exercise,
    ExperimentResult,
    Fact,
    Goal,
    Outcome,
    Prediction,
    Question,
    Session,
    Task,
)
from ..lab import controls as widgets
from ..lab import goal as facts
from ..lab.fields import NumberField
from ..lab.presenter import presenter
from ..lab.question import step_saying
from ..lab.record import progress
from ..lab.style import text
from ..trace import State
from ..views.brief import Brief
from . import misconceptions as M
from .beginnings import bound, leading_to, opened
from .closing_calls import mmap
from .lesson import Lesson
from .one_bind import BIND, rehearse

__all__ = ["finish", "first_bind", "free_it", "keep_it", "predict"]


WALK = (
    "vmm calls",
    "The iommufd number is possible",
    "vfio_group 1 is blocked",
    "Descriptor 4 must be an iommufd",
    "The device is opened for the first time",
    "The device gets an object",
    "The gate opens",
    "process vmm exits",
    "Nobody holds file vfio0#1",
    "vfio_device vfio0 leaves",
    "The VM, if there is one, and the iommufd are",
    "vfio_group 1 counts one binding less",
)  # the steps of a walk through a BIND, and through its end; the finer ones are a key away


FIRST_SEEN = {  # of each box the rows that the sentences of the walk are about
    "fds": (),
    "thread vmm": ("iommufd", "result"),
    "file vfio0#*": ("device", "access_granted", "iommufd"),
    "file iommu*": ("objects[1]",),
    "vfio_device vfio0": ("group", "open_count", "iommufd_device"),
    "vfio_group 1": ("cdev_device_open_cnt",),
    "iommufd_device": ("ictx",),
}

WALKED: dict[str, Any] = {"walk": WALK, "brief": Brief(FIRST_SEEN)}  # in all pictures of the page


AGAIN = "once more"  # the question that a second press would answer


class FirstBench(Bench):
    """A bench whose bind can be pressed once, until what a second press does was predicted; in a room at any time."""

    begins = True

    def _bind_row(self) -> widgets.Box:
        made = super()._bind_row()
        self.first = text("does")
        made.children = (*made.children, self.first)
        progress.watch(self)
        presenter.observe(lambda _: self.look(), "on")
        return made

    def look(self) -> None:
        """Bring the button in line with what was pressed and answered."""
        waits = bool(self.session.calls_made) and not presenter.on and f"00 {AGAIN}" not in progress.answers
        self.buttons["bind"].disabled = waits
        self.first.value = (
            "✓ bound: press <b>Next →</b> until it stops. What would a second press do? That is asked below."
            if waits
            else ""
        )

    def _refresh(self, before: dict[int, Any] | None) -> None:
        super()._refresh(before)
        self.look()


def first_bind() -> Bench:
    """One button: bind."""
    session = Session(start=opened)
    return FirstBench(session, show=("bind",), fields=False, only=BIND, reserve=rehearse(bound), **WALKED)


def _refused(start: Callable[[Session], object], call: Callable[[Session], Outcome]) -> ExperimentResult:
    session = Session(start=start)
    outcome = call(session)
    step = next((step.index + 1 for step in session.steps if step.refused), -1)
    return ExperimentResult(outcome.result, session.steps, step, (outcome.evidence,))


def _the_program_ends() -> ExperimentResult:
    session = Session(start=bound)
    before = len(session.machine.trace)
    session.process.exit()
    steps = session.machine.trace[before:]
    state = steps.end
    free = "file vfio0#1" not in state.objects and not state.objects["vfio_device vfio0"].value("open_count")
    return ExperimentResult(
        "free" if free else "bound", steps, step_saying(steps, "Nobody holds file vfio0#1 any more")
    )


QUESTIONS: dict[str, Question] = {
    "unbound": Question(
        "The card's file is open, and not bound yet. The program asks for the card's registers in its own memory "
        "(<code>mmap</code>), to drive the card. What does the kernel say?",
        partial(_refused, opened, mmap),
        "whoever has the registers tells the card where to write. No iommufd limits this card yet: it could overwrite any program, "
        "and the kernel itself. So before a bind everything else is refused. (EPERM "
        "would say that the program has no right to. It has: after a bind the same call works.)",
        {"0": "it gives them", "waits": "nothing: the call waits for the bind", "EINVAL": "it refuses"},
        {
            "0": Distractor(
                "You took the open file for an open device. Until a bind has succeeded the gate of the file is shut, "
                "and the kernel refuses mmap.",
                M.OPEN_IS_ENOUGH,
            ),
            "waits": "You expected calls to wait at a shut gate. They are refused at once; the program may call again after "
            "the bind.",
        },
        view=BIND,
        options=WALKED,
    ),
    AGAIN: Question(
        "The card is bound. Now the program calls bind once more. What does the kernel say?",
        partial(_refused, bound, lambda session: session.bind(3, iommufd=4)),
        "the kernel looks whether the file is bound, refuses, and gives back what the call has taken on its way: the last steps.",
        {
            "EBUSY": "EBUSY: somebody else has the card",
            "EINVAL": "EINVAL: what is asked makes no sense now",
            "0": "0: it works once more",
        },
        {
            "0": Distractor(
                "A second bind would write over what the first one has set up. So the kernel asks whether the file is "
                "bound already, and refuses."
            ),
            "EBUSY": Distractor("EBUSY would mean that somebody else has the card. Here this file itself is bound."),
        },
        view=BIND,
        options=WALKED,
    ),
    "the program ends": Question(
        "The card is bound, and the program ends without closing anything: a crash. What happens to the card?",
        _the_program_ends,
        "when a program ends the kernel gives back all its descriptors. The arrows go, and what nobody holds any more goes too. "
        "(Two boxes hold each other here: the iommufd and the card's object in it. The end of the binding takes one of these "
        "arrows away; 02 has more.)",
        {
            "free": "it is free again",
            "bound": "it stays bound until somebody frees it",
            "closed": "nobody can use it any more, and the iommufd keeps it",
        },
        {
            "bound": Distractor(
                "You expected that only the program can free the card. When a program ends, the kernel closes all its "
                "descriptors: nobody holds its files any more."
            ),
            "closed": "You expected the iommufd to outlive its program. When a program ends, all its descriptors go, and with them "
            "both files: nothing is left that could keep the card.",
        },
        view=BIND,
        options=WALKED,
    ),
}


def predict(name: str) -> Prediction:
    """One of the questions of the page. Raises ValueError for one that it does not have."""
    return Prediction(LESSON.question(name), quick=name != "the program ends", title="Predict.")


# ---- two tasks


def _closed_the_iommufd(session: Session) -> bool:
    return not leading_to(session, "iommu#")


def _three_is_open(state: State) -> str:
    held = [
        thing.oid for thing in state.objects.values() for _, reason in thing.counts.get("f_ref", ()) if reason == "fd 3"
    ]
    return f"it leads to {held[0]}" if held else ""


def _let_go_first(session: Session) -> bool:
    return "file vfio0#1" not in session.machine.trace.end.objects


CARD_IS_FREE = Goal(facts.gone("file vfio0#1"), facts.value("vfio_device vfio0", "open_count", 0))
BOUND_WITHOUT_THREE = Goal(
    Fact("descriptor 3 is closed", _three_is_open), facts.alive("file vfio0#1"), facts.alive("iommufd_device 1")
)


class UnfilledBench(Bench):
    """A bench that fills in no descriptor: which one it is, is the question."""

    def _about(self, label: str) -> list[NumberField]:
        return []


FREE = Task(
    "The card is bound. Set it free with one press on <b>close</b>: which descriptor is it?",
    bound,
    CARD_IS_FREE,
    (
        "The binding belongs to one of the two files.",
        "Follow the arrows in the picture: which of the two files owns the binding?",
        "Descriptor 3, the card's own file.",
    ),
    lambda session: session.close(3),
    "The binding ends with the card's file, and that has one descriptor: 3. Closing 4 would only take one "
    "of three arrows away from the iommufd's file.",
    distractors={
        _closed_the_iommufd: Distractor(
            "That was the iommufd's descriptor. The binding still holds it.", M.CLOSING_IS_RELEASING
        ),
    },
    drawn=False,  # a page for beginners shows one picture at a time
    name="00 task: free",
)

KEEP = Task(
    "The other way round: close descriptor 3, and keep the card bound all the same.",
    bound,
    BOUND_WITHOUT_THREE,
    (
        "A file lives as long as one arrow leads to it.",
        "<b>dup</b> makes a second descriptor for the same file.",
        "<b>dup</b> 3, then <b>close</b> 3.",
    ),
    lambda session: (session.dup(3), session.close(3)),
    "A file lives as long as an arrow leads to it, and a descriptor is one such arrow. A dup is a second one to the same file: "
    "when the first goes, it still holds the file, and the binding lives on.",
    distractors={
        _let_go_first: "Descriptor 3 was the only arrow to the file. The file is gone, and the binding with it.",
    },
    drawn=False,
    name="00 task: keep",
)


def _exercise(task: Task) -> Exercise:
    return Exercise(task, lambda session: UnfilledBench(session, show=("descriptor",), only=BIND, **WALKED))


free_it = partial(_exercise, FREE)  # one close

keep_it = partial(_exercise, KEEP)  # a copy first

LESSON = Lesson("00", QUESTIONS, (), {FREE.name: "set the card free", KEEP.name: "keep the card bound"})
finish = LESSON.finish
