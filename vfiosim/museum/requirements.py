"""What a repair has to leave working: a mended kernel that does nothing any more is not mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from .. import uapi
from ..explore import Result, Witness, explore
from ..machine import Machine
from ..puzzles.programs import Call

AN_ERROR = "an error"


@dataclass(frozen=True)
class Requirement:
    """Calls of one thread, and how a mended kernel answers them.

    * `says`: what must work, in a sentence for somebody who has not begun to mend;
    * `calls`: as in a program of `vfiosim.explore.explore`;
    * `answers`: their answers, `AN_ERROR` for any errno; after "or" others that are as good;
    * `setup`: the machine; None: that of the room;
    * `seen`: is all as it should be afterwards? For what no call tells.
    """

    says: str
    calls: tuple[Call, ...]
    answers: str
    setup: Callable[..., Machine] | None = None
    seen: Callable[[Machine], bool] | None = None

    def lost(self, setup: Callable[..., Machine], patches: Mapping[str, Callable[..., Any]]) -> Lost | None:
        """What no longer works in a kernel with these functions; None if all of it does."""
        result = explore(self.setup or setup, {"A": self.calls}, (), patches=dict(patches))
        why = next(self._wrong(result), None)
        return None if why is None else Lost(self, why, result)

    def _wrong(self, result: Result) -> Iterator[str]:
        if not result.complete:
            yield f"it does not come to an end: {result.limit}"
        for outcome, witness in result.outcomes.items():
            yield from self._answered_wrong(dict(outcome)["A"])
            if self.seen is not None and not self.seen(witness.machine):
                yield "afterwards this is not so, although the calls answer as they should"
        yield from (found.what for found in result.violations)

    def _answered_wrong(self, answers: tuple[str, ...]) -> Iterator[str]:
        """The first call with a wrong answer; of several ways to be right the one counts that is kept to for longest."""
        ways = [wanted.split(", ") for wanted in self.answers.split(" or ")]
        agreed, wanted = max((_agreed(way, answers), way) for way in ways)
        if agreed < len(wanted):
            answer = answers[agreed] if agreed < len(answers) else "nothing"
            yield f"{_called(self.calls[agreed])} answers {answer}, not {wanted[agreed]}"


def _agreed(wanted: Sequence[str], answers: Sequence[str]) -> int:
    """How many of the answers, from the first on, are as wanted."""
    right = (
        answer == one or (one == AN_ERROR and answer in uapi.Errno.__members__)
        for one, answer in zip(wanted, answers, strict=False)  # after an oops there are fewer
    )
    return sum(takewhile(bool, right))


@dataclass(frozen=True)
class Lost:
    """Something that has to work and does not: what, and how it shows."""

    requirement: Requirement
    why: str
    result: Result

    @property
    def witness(self) -> Witness | None:
        """A run that shows it; None where there is none to its end."""
        return self.result.counterexample or next(iter(self.result.outcomes.values()), None)

    def __str__(self) -> str:
        return f"{self.requirement.says} With your function: {self.why}."


def _called(call: Call) -> str:
    name = str(call[1])
    return uapi.request_name(call[3]) if name == "ioctl" else name


def close(fd: int) -> Call:
    """The program "vmm" closes a descriptor."""
    return ("vmm", "close", fd)
