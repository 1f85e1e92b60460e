"""Levels as data: a start, a goal, some moves; the fewest of them are found by a search. And the widget that shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from html import escape
from typing import Any

from ..assets import asset
from ..lab import Bench, Exercise, Goal, Session, Task
from ..lab import controls as widgets
from ..lab.goal import Fact, fact
from ..lab.record import progress
from ..lab.static_fallback import StaticFallback, note
from ..lab.style import anchor, button, row, style, text, words
from ..lab.verdict import Misled
from ..naming import must_be_one_of
from ..views import Player
from ..views.tight import still
from .address_spaces_bench import ONLY
from .fewest import Found, fewest
from .moves import moves, play, split

VIEW = ("fds *", "file vfio*", "file iommu*", "file kvm*", "file group*", "kvm", "iommufd_device")
MORE = {
    "card": ("vfio_device vfio0",),
    "gpu": ("vfio_device vfio1", "vfio_device vfio2", "iommu_group 2"),
    "IOAS_ALLOC": ONLY,
}
BROAD = 400  # pixels
FILE = "levels.json"  # what the search has found, by the name of the level


@dataclass(frozen=True)
class Level:
    """Something to reach with few calls, in words with commas between them.

    * `start` and `moves` are moves of `moves.VERBS`: those that are made before, and the buttons;
    * `goal`: sentences that `lab.goal.fact` knows; all have to be true;
    * `hints`: each deeper than the one before, with " / " between them; `explained` says why the shortest way works;
    * `wrong`: a fact that is true of a machine that went wrong → what misled; `once`: its name in older files of progress.
    """

    name: str
    text: str
    start: str
    goal: str
    moves: str
    hints: str = ""
    explained: str = ""
    wrong: Mapping[str, str] = field(default_factory=dict)
    once: str = ""

    @property
    def kept(self) -> str:
        """The name under which its answer is kept in `progress`."""
        return f"13 level: {self.once or self.name}"

    @property
    def view(self) -> tuple[str, ...]:
        """What its pictures show: the devices and the address spaces that its words name."""
        said = f"{self.start}, {self.moves}"
        return (*VIEW, *(one for word, what in MORE.items() if word in said for one in what))

    @property
    def facts(self) -> Goal:
        """The goal. Raises ValueError for a sentence that tells no fact."""
        return Goal(*map(fact, split(self.goal)))

    @property
    def begin(self) -> Callable[[Session], None]:
        """What is done before. Raises ValueError for words that are no move."""
        return play(*split(self.start))

    def search(self, met: set[str] | None = None, **limits: int) -> Found:
        """The fewest moves, by trying all; into `met` go the facts of the goal that were true at any time.

        Raises ValueError for words that are no move or no fact. `limits` as in `fewest`.
        """
        facts = self.facts

        def reached(session: Session) -> bool:
            open_ = {one.said for one, _ in facts.differing(session.state)}
            if met is not None:
                met.update(one.said for one in facts.facts if one.said not in open_)
            return not open_

        return fewest(self.begin, moves(self.moves), reached, **limits)

    def exercise(self, way: Sequence[str]) -> Exercise:
        """A bench with its moves, and its goal as a picture; `way` is the shortest."""
        wrong: Misled[Session] = {partial(_is_true, fact(said)): why for said, why in self.wrong.items()}
        hints, more = self.hints.split(" / "), moves(self.moves)
        goal, solve, kept = self.facts, play(*way), self.kept
        task = Task(self.text, self.begin, goal, hints, solve, self.explained, wrong, kept)
        made = Exercise(task, lambda session: Bench(session, show=(), more=more, only=self.view))
        made.add_class("vfiosim-level")
        return made

    def thumbnail(self, way: Sequence[str]) -> str:
        """Its goal as a small picture: what its facts speak of."""
        session = Session(start=self.begin)
        play(*way)(session)
        trace = session.machine.trace
        return still(Player(trace[len(trace) :], reserve=trace, only=self.facts.about), 0)


def _broad(picture: str) -> str:
    """The class of a card whose picture needs the room of two, so that its letters can be read."""
    return "broad" if (found := re.search(r' width="(\d+)"', picture)) and int(found[1]) > BROAD else ""


def _is_true(told: Fact, session: Session) -> bool:
    return not told.instead(session.state)


@cache
def known() -> Mapping[str, Mapping[str, Any]]:
    """What the search has found for each level of the course, by its name, and what it was asked."""
    found: Mapping[str, Mapping[str, Any]] = json.loads(asset(FILE).read_text("utf-8"))
    return found


def entry(level: Level) -> dict[str, Any]:
    """What `known` is to say of a level: found by a search through all orders of its moves.

    Raises ValueError where there is no way.
    """
    found = level.search()
    if not found.way:
        raise ValueError(f"the level {level.name!r} has no way to its goal, or nothing is to be done")
    asked = {"start": level.start, "goal": level.goal, "moves": level.moves}
    return {**asked, "way": [*found.way], "situations": found.situations}


class Levels(StaticFallback):
    """An index of levels: how each one's goal looks, and a tick where it was reached. A press opens one.

    `ways` are the shortest ones, by the names of the levels; `first` is the number of the first level.
    """

    looks = "lab ask"

    def __init__(self, levels: Sequence[Level], ways: Mapping[str, Sequence[str]], first: int = 1) -> None:
        self.levels = {level.name: level for level in levels}
        self._numbers = {level.name: number for number, level in enumerate(levels, first)}
        self._ways = ways
        self.exercises: dict[str, Exercise] = {}
        self.at = ""  # the level that is open
        self.head = text("moves")
        self.buttons = {level.name: self._button(level) for level in levels}
        self.pictures = {level.name: level.thumbnail(ways[level.name]) for level in levels}
        cards = [
            widgets.VBox(
                [text("thumbnail", self._drawn(name)), button],
                kind=f"card {_broad(self.pictures[name])}".strip(),
            )
            for name, button in self.buttons.items()
        ]
        self.index = widgets.Box(cards, kind="cards")
        self.all = button("All levels", "back to all goals")
        self.next = button("Next level", "the one that follows")
        self.all.on_click(lambda _: self.choose(""))
        self.next.on_click(lambda _: self.choose(self._following()))
        self._frame = [style(), row("", self.head, self.all, self.next), self.index]
        super().__init__(self._frame)
        progress.watch(self)
        self.choose("")

    def _button(self, level: Level) -> widgets.Button:
        made = button(level.name, level.text)
        made.on_click(lambda _: self.choose(level.name))
        return made

    def _drawn(self, name: str) -> str:
        """Its goal, where links to the level lead as long as it is not open: then its task has an id, which comes before a name."""
        return f'<a name="{anchor(self.levels[name].kept)}"></a>{self.pictures[name]}'

    def _following(self) -> str:
        names = ["", *self.levels]  # also of the index: a press may be on its way while it is opened
        return (names[names.index(self.at) + 1 :] or names[1:])[0]

    def choose(self, name: str) -> None:
        """Show this level, or with "" the index. Raises ValueError for a level that there is not."""
        if name:
            must_be_one_of(self.levels, name, "level")
        if name and name not in self.exercises:
            self.exercises[name] = self.levels[name].exercise(self._ways[name])
            self.children = [*self._frame, *self.exercises.values()]
        self.at = name
        widgets.unfold(self.index, not name)
        for away in (self.all, self.next):
            widgets.unfold(away, bool(name))
        for other, exercise in self.exercises.items():
            widgets.unfold(exercise, other == name)
        self.look()

    def look(self) -> None:
        """Bring the ticks in line with what was solved."""
        answers = progress.answers
        done = {name for name, one in self.levels.items() if one.kept in answers and answers[one.kept].right}
        for name, pressed in self.buttons.items():
            pressed.description = f"{self._numbers[name]} {name}{' ✓' if name in done else ''}"
        count = f"<b>{len(done)} of {len(self.levels)} levels solved.</b>"
        self.head.value = f"<b>Level {self._numbers[self.at]}: {self.at}.</b>" if self.at else f"{count} Press a level."

    @property
    def message(self) -> str:
        """What is shown, in words."""
        return words(self.head.value)

    def static_html(self) -> str:
        """The index as it was when the cell ran."""
        cards = "".join(
            f"<figure>{self._drawn(name)}<figcaption>{escape(made.description)}</figcaption></figure>"
            for name, made in self.buttons.items()
        )
        return f'{style().value}{note(self.head.value)}<div class="vfiosim-lab"><div class="vfiosim-cards">{cards}</div></div>'

    def in_words(self) -> str:
        """The index as text."""
        lines = [f"{made.description}: {self.levels[name].text}" for name, made in self.buttons.items()]
        return "\n".join([self.message, *lines])
