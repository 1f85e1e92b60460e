"""The lesson about bugs that are in Linux: from a report to a proof; the rooms of the museum as levels."""

from __future__ import annotations

from html import escape

from ..lab import Bench, Distractor, Exercise, Goal, RoomView, Session, Task
from ..lab import goal as facts
from ..lab import room as museum_room
from ..lab.once_answered import OnceAnswered
from ..lab.record import progress
from ..lab.static_fallback import Telling
from ..lab.style import anchor, style, text
from ..lab.trace_pane import TracePane
from ..museum import ROOMS, Room
from ..museum.compared import scenario
from . import misconceptions as M
from .lesson import Lesson
from .museum_hints import DISTRACTORS, HINTS
from .museum_questions import CHECK, ITSELF, QUESTIONS, R13, VIEW, mapped_and_gone, search, since_the_map
from .one_bind import KVM, bound_for_a_vm

__all__ = ["R13", "exercise", "left", "level", "levels", "mend", "recorded", "search", "walk"]

_SHORT = '<td style="white-space: nowrap; padding-right: 1em; vertical-align: top">'
PROBES = {"open": "open the card", "bind": "BIND", "group": "open the file of the card's group"}
NAMES = {name: f"11 level: {name}" for name in ROOMS}
CALLED = {kept: f"Room {number}" for number, kept in enumerate(NAMES.values(), 1)}


def walk() -> TracePane:
    """The steps of the report: the map of a file into its own iommufd, and the end of the program."""
    return TracePane(since_the_map(mapped_and_gone(3)), only=VIEW)


def left() -> str:
    """The ring that holds the card's file when the program is gone, a line for each reference in it."""
    ring = mapped_and_gone(3).why("file vfio0#1").cycles[0]
    told = [(link.holder, "owns" if link.sort == "owns" else link.reason, link.target) for link in ring.links]
    return "\n".join(f"{holder:18} --{reason}-->".ljust(42) + target for holder, reason, target in told)


def recorded() -> str:
    """What the real kernel was asked for the first report, and what another program was told when this one had ended."""
    found = scenario(ITSELF.recordings[0])["result"]["probe"]["pci0"]
    later = [(f"another program: {name}", found[key] or "0") for key, name in PROBES.items()]
    told = [*ITSELF.recorded_in_words(), ("the program ends", "all its descriptors are closed"), *later]
    return "\n".join(f"{asked}\n    → {answered}" for asked, answered in told)


# ---- the reproducer


def _give_away(session: Session) -> None:
    session.open("/dev/vfio/devices/vfio0")
    session.bind(7, iommufd=4)
    session.close(6)
    session.close(5)


def _first_is_closed(session: Session) -> bool:
    return "file vfio0#1" not in session.machine.trace.end.objects


def _bound_again(session: Session) -> bool:
    return bool(session.done) and session.done[-1].outcome.check == "not_bound_yet"


LOSE_THE_VM = Task(
    "The report says: <i>a second BIND is refused, as it should be, and later the VM is gone although the card is in use</i>. "
    "Write the smallest program that shows it: the VM must be gone, and the card still bound through its first file.",
    bound_for_a_vm,
    Goal(facts.gone("kvm 1"), facts.alive("vfio_device_file 1"), facts.opened_once("vfio_device vfio0")),
    (
        "A second file of the card is one <b>open</b> away. Its BIND is refused, whatever you write into the struct.",
        "After the refusal look at <code>kvm 1.users_count</code>: which holder has gone? Who else holds the VM?",
        "open; bind with the new descriptor; then close 5, the VM's list, and 6, the VM: each holds the VM.",
    ),
    _give_away,
    "The card had a reference to the VM for as long as it was bound. The refused BIND has given it back, so the last close of "
    "the program frees the VM. The driver of the card would now go on with memory that is somebody else's.",
    distractors={
        _first_is_closed: Distractor(
            "You closed the card's first file, so its binding has ended. Then the VM may go: that is no bug.",
            M.CLOSING_IS_RELEASING,
        ),
        _bound_again: "That was BIND on the first file once more. It was refused before it touched the VM. A second "
        "file has to ask.",
    },
    drawn=False,
    name="11 task: lose the VM",
)


def exercise() -> Exercise:
    """The first task: the smallest program that shows the bug."""
    return Exercise(LOSE_THE_VM, lambda session: Bench(session, show=("open", "bind", "descriptor"), only=KVM))


# ---- the rooms as levels


def mend() -> RoomView:
    """The second task: the file that is mapped into itself, to be mended and proved."""
    return level("mapped-into-itself")


def level(which: int | str) -> RoomView:
    """A room of the museum, by its number in `levels()`, where it is ticked once it is mended, or by its name.

    Raises ValueError for a room that there is not.
    """
    name = dict(enumerate(ROOMS, 1)).get(which, "") if isinstance(which, int) else which
    record = NAMES.get(name, "")
    distractors = DISTRACTORS.get(name, {})
    return museum_room(
        name, hints=HINTS.get(name, ()), distractors=distractors, record=record, called=CALLED.get(record, "")
    )


class RoomIndex(Telling):
    """All rooms with what somebody saw who ran into them; a tick, and its name, where the reader's repair was proved."""

    def __init__(self) -> None:
        self.shown = text("html")
        super().__init__([style(), self.shown])
        progress.watch(self)
        self.look()

    def look(self) -> None:
        """Bring the ticks in line with what has been proved."""
        known = progress.answers
        done = {name for name, kept in NAMES.items() if kept in known and known[kept].right}
        rows = "".join(_line(number, room, room.name in done) for number, room in enumerate(ROOMS.values(), 1))
        kernels = "“In 7.2”: the bug is in that kernel; “earlier”: it was in one before. <code>lesson.level(2)</code> opens room 2."
        self.shown.value = f"<p><b>{len(done)} of {len(ROOMS)} mended by you.</b> {kernels}</p><table>{rows}</table>"


def _line(number: int, room: Room, done: bool) -> str:
    cells = (
        "✓" if done else "·",
        f'<a name="{anchor(NAMES[room.name])}"></a>{number}{f" <code>{room.name}</code>" if done else ""}',
        "in 7.2" if room.alive else "earlier",
        escape(room.symptom),
    )
    *short, symptom = (f"<td>{cell}</td>" for cell in cells)
    return f"<tr>{''.join(short).replace('<td>', _SHORT)}{symptom}</tr>"


LESSON = Lesson("11", QUESTIONS, CHECK, {LOSE_THE_VM.name: "the third report", **CALLED})
predict, once_answered, quiz, finish = LESSON.predict, LESSON.once_answered, LESSON.quiz, LESSON.finish


def levels() -> OnceAnswered:
    """The index of the rooms; their symptoms answer the questions of the quiz."""
    return OnceAnswered(dict.fromkeys((question.name for question in CHECK), "the quiz"), RoomIndex())
