"""What a puzzle is: programs that must not disturb each other, the protection that sees to it, and what happens without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..engine import names_of
from ..explore import Result, explore
from ..explore.explorer import Reached
from ..explore.model import Programs
from ..invariants import INVARIANTS
from ..machine import Machine

_FEW = 50  # schedules after which the shortest way is looked for, where there are known to be too many


def can_end(why: str, **results: str) -> Reached:
    """A property: in some schedule the calls of these threads end so, e.g. `can_end("A is first", A="0", B="EBUSY, 0")`.

    `why` says in words what happens then. Without such a property a puzzle could be safe because nothing happens in it.
    """

    def reached(outcome: dict[str, tuple[str, ...]]) -> bool:
        return all(", ".join(outcome[thread]) == wanted for thread, wanted in results.items())

    reached.__doc__ = why
    return reached


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """One hazard, as data.

    * `name`: as in the catalogue ("R5"); `title`: a few words; `story`: who does what, and what could go wrong;
    * `setup`: makes the machine, everything opened; has a parameter `trace`;
    * `calls`, `properties`: programs and properties as `vfiosim.explore.explore` takes them, beside all invariants there are;
    * `leaves_out`: invariants that are looked at only at rest here, because to look after each effect takes too long;
    * `without`: the protections to take out, each alone is enough to break it unless `together`; where there are `fixes`, they
      are taken out of the kernel that is mended;
    * `vast`: protections without which there are too many schedules to see them all, and what goes wrong first then, in how many
      effects; that no way is shorter is proved;
    * `faulty`: where no single effect is the protection: kernel functions as they would be without it;
    * `fixes`: kernel functions to replace where the kernel has no sufficient protection; then it is broken as it is;
    * `happens`: a part of the sentence that tells what goes wrong without the protection; `happens_faulty`: with the `faulty`
      functions, where that is something else;
    * `shortest`: how many effects the shortest way there takes, for each of `ways`;
    * `source`: where the protection is: file, function and tag.
    """

    name: str
    title: str
    story: str
    setup: Callable[..., Machine]
    calls: Programs
    properties: tuple[Any, ...]
    source: str
    happens: str
    shortest: tuple[int, ...]
    without: tuple[str, ...] = ()
    together: bool = False
    vast: dict[str, tuple[str, int]] = field(default_factory=dict)
    happens_faulty: str = ""
    fixes: dict[str, Callable[..., Any]] = field(default_factory=dict)
    faulty: dict[str, Callable[..., Any]] = field(default_factory=dict)
    leaves_out: tuple[str, ...] = ()

    def programs(self) -> Programs:
        """The calls of each thread, made for whoever asks: what the kernel writes back into their structs stays theirs."""
        return deepcopy(self.calls)

    @property
    def looked_at(self) -> list[Any]:
        """What an exploration looks at: every invariant that is not left out, and the properties of this puzzle."""
        names = [one.name for one in INVARIANTS if one.name not in self.leaves_out]
        return names + [one for one in self.properties if one not in names]

    @property
    def protections(self) -> tuple[str, ...]:
        """Everything in it that can be taken out."""
        return (*self.without, *self.vast)

    @property
    def ways(self) -> list[tuple[tuple[str, ...], dict[str, Callable[..., Any]]]]:
        """Each way to break it: what is taken out, and which functions are replaced. First as the kernel is, where it has a fix."""
        taken_out = [self.without] if self.together else [(name,) for name in self.without]
        as_it_is: list[tuple[tuple[str, ...], dict[str, Callable[..., Any]]]] = [((), {})] if self.fixes else []
        faulty = [((), self.faulty)] if self.faulty else []
        return as_it_is + [(names, self.fixes) for names in taken_out if names] + faulty

    @property
    def faults(self) -> dict[str, dict[str, Callable[..., Any]]]:
        """By name, where there are several things that can be faulty; `faulty` is the first of them."""
        return {}

    def happens_in(self, number: int) -> str:
        """What goes wrong in one of `ways`."""
        _, functions = self.ways[number]
        return self.happens_faulty if self.happens_faulty and functions == self.faulty else self.happens

    def explore(
        self, without: Iterable[str] = (), patches: dict[str, Callable[..., Any]] | None = None, **options: Any
    ) -> Result:
        """Every schedule of it, with these protections taken out and these kernel functions replaced.

        `puzzle.explore()` is the kernel as it is, `puzzle.explore(puzzle.without)` without the protection. The rest is as for
        `vfiosim.explore.explore`.
        """
        names = names_of(without)
        if set(names) & set(self.vast):
            options.setdefault("enough", _FEW)
        elif (names, patches or {}) in self.ways:
            options.setdefault("enough", None)  # there are not too many
        from . import PUZZLES  # which are made of this class

        name = (
            self.called(names, patches or {}) if self.name in PUZZLES else ""
        )  # who replays one of your own cannot look it up
        return explore(self.setup, self.programs(), self.looked_at, names, patches=patches, name=name, **options)

    def called(
        self, without: Iterable[str] = (), patches: Mapping[str, Callable[..., Any]] = MappingProxyType({})
    ) -> str:
        """How `vfiosim.replay` knows it so: "R1 without group_lock", "R13 fixed"; "" with functions that are not the puzzle's."""
        known = {"": {}, " fixed": self.fixes, " faulty": self.faulty}
        known |= {f" faulty {name}": functions for name, functions in self.faults.items()}
        words = next((words for words, functions in known.items() if functions == patches), None)
        names = ", ".join(without)
        return "" if words is None else f"{self.name}{words}{' without ' + names if names else ''}"
