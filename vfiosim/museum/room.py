"""What a room of the museum is: a real bug to find, to mend and to prove mended."""

from __future__ import annotations

import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from ..conformance.check import shown
from ..engine import FUNCTIONS
from ..explore import Result, Witness, explore
from ..explore.model import Programs
from ..machine import Machine
from .compared import Functions, differing, scenario
from .recorded import answer_line, in_words
from .requirements import Lost, Requirement
from .student_source import StudentFunction, function_of_text


@dataclass(frozen=True, kw_only=True)
class Room:
    """One bug of the real kernel.

    * `name`, `title`, `symptom`: what somebody sees who runs into it; `lesson`: what to take from it, in one sentence;
    * `alive`: does the recorded 7.2 have it? Else `faulty` puts it back: kernel functions as they were;
    * `repair`: the functions that mend it; empty where the kernel's own are the repair;
    * `setup`, `calls`, `properties`: as for a puzzle, see `vfiosim.puzzles.Puzzle`;
    * `happens`: a part of the sentence that tells what goes wrong;
    * `must_still_work`: what must work when it is mended;
    * `recordings`: the scenarios of a real kernel that a repair may answer differently; the first shows the bug, if it is alive;
    * `links`: where it was discussed or mended in public, as far as that is known.
    """

    name: str
    title: str
    symptom: str
    lesson: str
    alive: bool
    setup: Callable[..., Machine]
    calls: Programs
    properties: tuple[Any, ...] = ()
    happens: str
    must_still_work: tuple[Requirement, ...]
    repair: Functions = field(default_factory=dict)
    faulty: Functions = field(default_factory=dict)
    recordings: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.repair or self.faulty, f"{self.name} has neither a fault nor a repair"

    @property
    def when(self) -> str:
        """Is it there today?"""
        return "alive in the recorded Linux 7.2" if self.alive else "mended since; here the faulty function is back"

    @property
    def how_proved(self) -> str:
        """What `prove` does, in a sentence."""
        return "every schedule is run, then what must still work, then the recordings. It takes some seconds."

    # ---- the bug

    def explore(self, mine: Functions | None = None, **options: Any) -> Result:
        """Every schedule of the room's programs in the kernel with the bug; `mine` are functions that replace some of it."""
        patches = {**self.faulty, **(mine or {})}
        return explore(self.setup, self.calls, self.properties, patches=patches, **options)

    @cached_property
    def trace(self) -> Witness:
        """The shortest way into the bug, to be shown. Raises ValueError where nothing goes wrong as `happens` says."""
        violations = self.explore().violations
        found = [witness for witness in violations if self.happens in witness.what]
        if not found:
            told = "; ".join(witness.what for witness in violations) or "nothing goes wrong"
            raise ValueError(f"the room {self.name!r} says that {self.happens!r} happens, and this does: {told}")
        return min(found, key=len)

    def recorded(self) -> str:
        """What the real kernel answered, call by call, in the first of the recordings; "" where there is none."""
        return "\n".join(f"{shown(step)}\n      → {answer_line(answer)}" for step, answer in self._first_recording())

    def recorded_in_words(self) -> list[tuple[str, str]]:
        """The same for people: what was asked, and what the kernel answered."""
        steps, answers = zip(*self._first_recording(), strict=True) if self._first_recording() else ((), ())
        return list(in_words(steps, answers))

    def _first_recording(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        if not (self.alive and self.recordings):
            return []
        recorded = scenario(self.recordings[0])
        return list(zip(recorded["steps"], recorded["result"]["steps"], strict=True))

    # ---- the repair

    @property
    def to_mend(self) -> tuple[str, ...]:
        """The names of the kernel functions in which the bug sits."""
        return tuple(self.repair or self.faulty)

    def source(self, name: str = "") -> str:
        """The function with the bug, as text to start from; without a name the first of `to_mend`."""
        name = self._known(name)
        return _source(self._original(name), name)

    def patch(self) -> str:
        """The repair, as the difference between the faulty functions and the mended ones."""
        return "\n".join(line for name in self.to_mend for line in self._difference(name)) + "\n"

    def mended(self, name: str) -> str:
        """The repaired function of this name, as text; one that the repair leaves alone as it is in the kernel."""
        return _source(self.repair.get(name) or FUNCTIONS[name].function, name)

    def _difference(self, name: str) -> Iterator[str]:
        was, mended = self.source(name), self.mended(name)
        lines = difflib.unified_diff(was.splitlines(), mended.splitlines(), f"a/{name}", f"b/{name}", lineterm="")
        return iter(lines)

    def mine(self, text: str) -> StudentFunction:
        """Your version of one of `to_mend`, from its text; every name that the original or the repair can use is there.

        Raises ValueError for text that is no such function, PatchError for what kernel code must not have, each in one sentence.
        """
        originals = {name: self._original(name) for name in self.to_mend}
        return function_of_text(text, originals, [*self._sound().values(), *self.repair.values()])

    def prove(
        self,
        *mine: StudentFunction,
        recordings: bool = True,
        first: bool = False,
        tell: Callable[[str], object] = str,
        **options: Any,
    ) -> Proof:
        """Is the bug gone with these versions in place; without any, with the repair of the museum? And does the rest work?

        `recordings=False` leaves out the comparison with the recorded kernel, which takes seconds. It is left out too where
        something is wrong already, and where the schedules could not all be run, as with a function that does not come to an
        end; so is then what has to work. With `first` the proof stops at the first thing that is wrong. `tell` is called with
        what is done next. The other options are those of `vfiosim.explore.explore`. Raises PatchError where only the recordings
        meet such a function.
        """
        functions: Functions = {own.name: own.function for own in mine} if mine else self.repair or self._sound()
        tell("every schedule")
        result = self.explore(functions, first=first, **options)
        if not result.complete:
            return Proof(self, result, (), None)
        patches = {**self.faulty, **functions}
        all_lost = filter(None, (self._lost(one, patches, tell) for one in self.must_still_work))
        lost = tuple(islice(all_lost, 1 if first else None))
        compared = recordings and not (result.violations or lost)
        return Proof(self, result, lost, tuple(differing(patches, tell)) if compared else None)

    def _lost(self, one: Requirement, patches: Functions, tell: Callable[[str], object]) -> Lost | None:
        tell(f"what must still work, {self.must_still_work.index(one) + 1} of {len(self.must_still_work)}")
        return one.lost(self.setup, patches)

    def _sound(self) -> Functions:
        return {name: FUNCTIONS[name].function for name in self.to_mend}

    def _original(self, name: str) -> Callable[..., Any]:
        return self.faulty.get(name) or FUNCTIONS[name].function

    def _known(self, name: str) -> str:
        if name and name not in self.to_mend:
            raise ValueError(f"the bug is not in {name!r}; it is in {', '.join(self.to_mend)}")
        return name or self.to_mend[0]

    def __str__(self) -> str:
        works = "\n".join(f"- {one.says}" for one in self.must_still_work)
        return (
            f"{self.title} ({self.when})\n{self.symptom}\nIn: {', '.join(self.to_mend)}\nWhen it is mended:\n{works}\n"
            f"Lesson: {self.lesson}"
        )


@dataclass(frozen=True)
class Proof:
    """What was found about a repair: every schedule, what no longer works, and which recorded scenarios are answered otherwise."""

    room: Room
    result: Result
    lost: tuple[Lost, ...]
    changed: tuple[str, ...] | None  # None: not looked at

    @property
    def clean(self) -> bool:
        """Does nothing go wrong in any schedule, all work that has to, and nothing change that did not show the bug?"""
        return self.result.complete and not self.refuted

    @property
    def refuted(self) -> bool:
        """Was something found that goes wrong, that no longer works, or that is answered otherwise?"""
        return bool(self.result.violations or self.lost or self.unasked)

    @property
    def counterexample(self) -> Witness | None:
        """The shortest run that goes wrong, or one in which something does not work; None if nothing was found."""
        shown = (self.result.counterexample, *(lost.witness for lost in self.lost))
        return next(filter(None, shown), None)

    @property
    def unasked(self) -> tuple[str, ...]:
        """The recorded scenarios that a repair should leave alone, and that are answered in another way now."""
        return tuple(name for name in self.changed or () if name not in self.room.recordings)

    def __str__(self) -> str:
        lost, told = [str(lost) for lost in self.lost], str(self.result)
        result = [told.replace("Safe:", "The program of the report is safe:", 1) if lost else told]
        lines = [f"{self.room.title}: {'mended.' if self.clean else 'NOT mended.'}"]
        lines += result + lost if self.result.violations else lost + result  # first what is wrong
        if self.result.complete and not (self.result.violations or lost):
            lines.append("What must still work does, all of it.")
        if self.changed is None:
            lines.append("Not compared with the recorded kernel.")
        elif self.unasked:
            lines.append(f"Recorded scenarios that are answered in another way now: {', '.join(self.unasked)}.")
        else:
            shown = f"but for {', '.join(self.changed)}, which a repair may change" if self.changed else "all of them"
            lines.append(f"The hand-written recordings of the real kernel are answered as before, {shown}.")
        return "\n".join(lines)

    __repr__ = __str__


def _source(function: Callable[..., Any], name: str) -> str:
    """The text of a function without its decorator, under the name of the kernel function."""
    own = inspect.unwrap(function)
    text = textwrap.dedent(inspect.getsource(own))
    return (
        text[text.index("async def") :].rstrip().replace(f"async def {own.__code__.co_name}(", f"async def {name}(", 1)
    )
