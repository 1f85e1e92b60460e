"""The whole course on one page: each notebook with its central picture, what its reader can do then, its minutes, and progress."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape

from ..assets import style_sheet
from ..lab import Session
from ..lab.record import progress
from ..lab.static_fallback import StaticFallback
from ..lab.style import style, text, words
from ..machine.events import Failing
from ..museum import ROOMS
from ..puzzles import PUZZLES
from ..trace import Trace
from ..views import Player
from ..views.tight import still
from .closing import held_by_many
from .ends import ENDS
from .lesson import lessons
from .levels import MORE, VIEW, known
from .levels_data import LEVELS
from .moves import play, split
from .vmm_questions import with_card

__all__ = ["CENTRAL", "Index", "index", "notebooks", "pictures"]

# How many minutes a student needs who does all of the main way; "" where nobody is asked anything.
MINUTES: Mapping[str, str] = {"00": "10", "11": "50", "90": ""}
MOSTLY = "25"
FREE = "ask a question that nobody has asked you"


# ---- the pictures

# Few boxes, so that their letters can be read in a small picture.
CARD = (*VIEW, "vfio_device vfio0")
CALL = ("thread *", "file vfio*", "file iommu*", "vfio_device vfio0")


def _after(moves: str, *view: str, step: str = "") -> Player:
    """How things stand after these moves, or at the step of the last one that says so."""
    session = Session()
    play(*split(moves))(session)
    if step:
        return _step(session.steps, step, view)
    trace = session.machine.trace
    return Player(trace[len(trace) :], step=0, only=view)


def _step(trace: Trace, says: str, view: Sequence[str]) -> Player:
    """The step that says so, or is of this phase, alone: what the sentences of others name is not drawn."""
    at = next(one.index for one in trace if says == one.phase or says in one.sentence)
    return Player(trace[at : at + 1], step=1, only=view)


def _unwinding() -> Player:
    session = Session()
    play("open card", "open iommufd")(session)
    session.do(Failing(4))
    session.bind(3, iommufd=4)
    return _step(session.steps, "unwind", CALL)


def _held() -> Player:
    trace = Session(start=held_by_many).machine.trace
    return Player(trace[len(trace) :], only=(*CARD, "mm_struct*"))


def _race() -> Player:
    found = PUZZLES["R1"].explore(without=["group_lock"]).counterexample
    assert found is not None, "the puzzle R1 is broken without its lock"
    return Player(found.trace[len(found.trace) - 1 :], step=1, only=("file *", "vfio_group 1", "vfio_device vfio0"))


def _room() -> Player:
    trace = ROOMS["mapped-into-itself"].trace.trace
    return Player(trace, step=len(trace), only=("file vfio*", "iopt_pages*"))


def _vmm() -> Player:
    trace = Session(start=with_card).machine.trace
    return Player(trace[len(trace) :], only=("file vfio*", "file kvm-vfio*", "vfio_device vfio0", "kvm"))


def _level() -> Player:
    level = LEVELS[0]
    return _after(f"{level.start}, {', '.join(known()[level.name]['way'])}", *level.view)


BIND = "open card, open iommufd, BIND"
CENTRAL: Mapping[str, Callable[[], Player]] = {
    "00": lambda: _after(BIND, *CARD),
    "01": lambda: _after(BIND, *CALL, step="open_count"),
    "02": lambda: _after(f"{BIND}, dup card, fork helper", "fds *", "file vfio*", "file iommu*", "vfio_device vfio0"),
    "03": lambda: _after(f"open group, {BIND}", "thread *", "file *", "vfio_group 1", step="Refused"),
    "04": _unwinding,
    "05": _held,
    "06": lambda: _after(
        "open iommufd, open gpu, open audio, BIND gpu", "file vfio*", *MORE["gpu"][:2], "vfio_group 2"
    ),
    "07": lambda: _after(
        "create VM, create list, open card, open iommufd, FILE_ADD, BIND",
        *("fds *", "file vfio*", "file kvm*", "kvm", "vfio_device vfio0"),
    ),
    "08": lambda: _after("open tty, open iommufd, BIND tty", *VIEW, "vfio_device vfio4", "iommufd_access"),
    "09": lambda: _after(f"memory, {BIND}, IOAS_ALLOC, MAP, ATTACH", "iommufd_hwpt*", "iommufd_ioas*", "iopt*"),
    "10": _race,
    "11": _room,
    "12": _vmm,
    "13": _level,
    "20": lambda: _after(f"{BIND}, fork helper, close card, close iommufd", "fds *", "file vfio*", "file iommu*"),
    "90": lambda: _after(f"create VM, {BIND}", *CARD),
}


SMALL = 0.8  # of a picture beside others: letters of one are about as large as those of another


def pictures() -> dict[str, str]:
    """The central picture of each notebook, by its number, without its style."""
    return {number: _picture(player()) for number, player in CENTRAL.items()}


def _picture(player: Player) -> str:
    return re.sub("<style>.*?</style>", "", still(player, largest=SMALL), flags=re.DOTALL)


# ---- the page


class Index(StaticFallback):
    """The notebooks as cards; what was done in each is brought up to date with every answer."""

    looks = "lab ask"

    def __init__(self) -> None:
        self.shown = text("html")
        self._pictures = pictures()
        self._style = f"<style>{style_sheet('palette.css')}{style_sheet('graph.css')}</style>"
        self._lessons = {lesson.number: lesson for lesson in lessons()}
        super().__init__([style(), self.shown])
        progress.watch(self)
        self.look()

    @property
    def message(self) -> str:
        """What is said of each notebook, a line each."""
        return "\n".join(words(self._caption(stem)) for stem in notebooks())

    def look(self) -> None:
        """Bring it in line with what was answered."""
        cards = (
            f'<figure><a href="{stem}.ipynb" tabindex="-1">{self._pictures[stem[:2]]}</a>'
            f"<figcaption>{self._caption(stem)}</figcaption></figure>"
            for stem in notebooks()
        )
        self.shown.value = f'{self._style}<div class="vfiosim-cards vfiosim-course">{"".join(cards)}</div>'

    def static_html(self) -> str:
        """The page as it was when the cell ran."""
        return f'{style().value}<div class="vfiosim-lab">{self.shown.value}</div>'

    def in_words(self) -> str:
        """The page as text."""
        return self.message

    def _caption(self, stem: str) -> str:
        number, _, name = stem.partition("_")
        can = ENDS[number][0][0] if number in ENDS else FREE
        minutes = MINUTES.get(number, MOSTLY)
        told = [f"{minutes} minutes" if minutes else "as long as you like", *self._done(number)]
        title = f'<a href="{stem}.ipynb"><b>{number} {name.replace("_", " ")}</b></a>'
        return f"{title} · {' · '.join(told)}<br>Then you can {escape(can.rstrip(';.'))}."

    def _done(self, number: str) -> list[str]:
        if number not in self._lessons:
            return []
        answers, exercises = progress.answers, self._lessons[number].main
        right = sum(name in answers and answers[name].right for name in exercises)
        return [f"✓ all {right} done" if right == len(exercises) else f"{right} of {len(exercises)} done"]


def notebooks() -> list[str]:
    """The names of the files of the course, without their ending, in their order."""
    following = [end[1][0].removesuffix(".ipynb") for end in ENDS.values()]
    return ["00_start", *following]


def index() -> Index:
    """The page of all notebooks."""
    return Index()
