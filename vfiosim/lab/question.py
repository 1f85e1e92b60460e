"""Questions as data: what is asked, the experiment that answers, and the misconception behind each wrong answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeAlias

from ..trace import Trace
from ..uapi import Errno

Answer: TypeAlias = Any  # a text; of an order or a set a tuple of keys

NONE = "none of them"  # the answer to a set in which nothing belongs
CHOICE, NUMBER, TYPED, ORDER, SET = KINDS = ("choice", "number", "typed", "order", "set")


@dataclass(frozen=True)
class Misconception:
    """Something that many people believe. `links` are addresses of public discussions in which somebody did."""

    name: str
    truth: str
    links: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"“{self.name}”. {self.truth}"


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment showed: the answer, the steps that prove it and the one that decides, and what was counted.

    `brought` are objects that the picture brings out, with the arrows between them.
    """

    answer: Answer
    trace: Trace
    step: int = -1
    evidence: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()


@dataclass(frozen=True)
class Distractor:
    """A wrong answer.

    * `text`: what it takes for granted, and what is the case instead, as HTML;
    * `misconception`: only one that whoever answers so must have;
    * `refute`: another run, where that refutes it better; `at`: a part of the sentence of the step that does.
    """

    text: str
    misconception: Misconception | None = None
    refute: Callable[[], ExperimentResult] | None = None
    at: str = ""

    def shown(self, finding: ExperimentResult) -> ExperimentResult:
        """The steps that refute it, at the one that does; those of the experiment where it has none of its own.

        Raises ValueError if no step says `at`.
        """
        made = self.refute() if self.refute else finding
        return replace(made, step=step_saying(made.trace, self.at)) if self.at else made


def as_distractor(given: str | Distractor) -> Distractor:
    """A wrong answer, of which only the sentence may be given."""
    return given if isinstance(given, Distractor) else Distractor(given)


@dataclass(frozen=True)
class Question:
    """A question with an experiment that answers it.

    * `experiment`: what is done to find the answer, once: it begins with a machine of its own and ends the same each time;
    * `kind`: "choice" of one of `choices`; a "number"; "typed", the name of an errno, or 0 for success; "order", `choices` put into
      an order; "set", those of `choices` for which it is true, e.g. objects that will be alive. "" is "choice" with choices,
      "typed" without;
    * `choices`: answer → what the reader reads; for "set" with `before` the answers are names of objects in that picture;
    * `before`: where things stand when it is asked, to look at and to click on;
    * `wrong`: a wrong answer → the belief behind it, and what is the case instead; `otherwise` for all others. In an order the
      wrong answer is what stands at the first wrong place, or all of it, with commas between; in a set it is "+name" for the
      first that does not belong there, "-name" for the first that is missing;
    * `about`: the cells and objects that the answer is about ("iommu_group 2.owner_cnt"): where the steps change one of them, the
      one that is shown does;
    * `because`: why it is as it is; `view`: which objects the picture shows, all that matter if empty;
    * `options`: further ones of the player; `withheld`: the task that asks for the way which the steps show: they are shown
      once it was tried;
    * `hints`: each deeper than the one before; `name`: under which the answer is kept in `progress`, not at all without one;
    * `seed`: of the order in which things to be ordered are given.
    """

    text: str
    experiment: Callable[[], ExperimentResult]
    because: str
    choices: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str | Distractor] = field(default_factory=dict)
    otherwise: str | Distractor = ""
    view: Collection[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    withheld: str = ""
    kind: str = ""
    before: Callable[[], ExperimentResult] | None = None
    hints: tuple[str, ...] = ()
    name: str = ""
    seed: int = 1
    about: Collection[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "experiment", cache(self.experiment))
        if not self.kind:
            object.__setattr__(self, "kind", CHOICE if self.choices else TYPED)
        if self.kind not in KINDS:
            raise ValueError(f"a question is of the kind {', '.join(KINDS)}, not {self.kind!r}")
        if (self.kind in (CHOICE, ORDER, SET)) != bool(self.choices):
            raise ValueError(f"a question of the kind {self.kind!r} has {'no' if self.choices else 'to have'} choices")

    def given(self) -> list[str]:
        """The answers as they are offered; what has to be ordered comes shuffled."""
        return shuffled(self.choices, self.seed) if self.kind == ORDER else list(self.choices)

    def tidy(self, answer: Answer) -> Answer:
        """The answer as it is compared: a set in the order of its choices."""
        if isinstance(answer, str) or self.kind == ORDER:
            return answer
        return tuple(key for key in self.choices if key in answer)

    def distractor(self, answer: Answer, right: Answer) -> Distractor:
        """What is to be said about a wrong answer; of a set with several mistakes, what is said first."""
        return self.mistakes(answer, right)[0][1]

    def mistakes(self, answer: Answer, right: Answer) -> list[tuple[tuple[str, ...], Distractor]]:
        """What is to be said about each mistake of a wrong answer, the shortest first, and about which choices of a set.

        An order has one: all of it, or its first wrong place.
        """
        told: dict[Distractor, list[str]] = {}
        for key in self.keys(answer, right):
            told.setdefault(as_distractor(self.wrong.get(key, self.otherwise)), []).append(key.lstrip("+-"))
        return sorted(((tuple(keys), one) for one, keys in told.items()), key=lambda each: len(each[1].text))

    def keys(self, answer: Answer, right: Answer) -> list[str]:
        """The keys of `wrong` that stand for a wrong answer."""
        whole = ", ".join(answer) if self.kind == ORDER else ""
        return [whole] if whole in self.wrong else differences(answer, right, self.kind)

    def read(self, typed: str) -> str:
        """A typed answer as it is compared. Raises ValueError, in a sentence for the reader, if it is none."""
        text = typed.strip().upper()
        name = text.removeprefix("-")  # as C returns it
        if name.isascii() and name.isdecimal() and len(name) < 40:
            number = int(name)
            if self.kind == TYPED and number in {*Errno}:
                return Errno(number).name
            if self.kind == TYPED and number:
                raise ValueError(f"There is no errno {number}. Type the name of an errno, or 0 if the call succeeds.")
            if name == text:
                return str(number)
        if self.kind == TYPED and name in Errno.__members__:
            return name
        if not text:
            raise ValueError("Type a prediction first.")
        if self.kind == TYPED and name.isalpha() and name.startswith("E"):
            raise ValueError(f"There is no errno {name}. Is a letter missing, or one too many?")
        # No examples: one might be the answer.
        if self.kind == NUMBER:
            raise ValueError("Type a whole number in digits.")
        raise ValueError("Type the name of an errno: E and more capital letters. Or 0 if the call succeeds.")


def step_saying(trace: Trace, part: str) -> int:
    """The first step (counted from 1) with this in its sentence. Raises ValueError if there is none."""
    for step in trace:
        if part in step.sentence:
            return step.index + 1
    raise ValueError(f"no step of this run says {part!r}")


def errnos(*names: str) -> dict[str, str]:
    """Choices among errnos, each with what it means in general; "0" is success. Raises KeyError for an unknown name."""
    return {name: f"{name}: {Errno[name].sentence}" if name != "0" else "0: it succeeds" for name in names}


def shuffled(keys: Iterable[str], seed: int) -> list[str]:
    """The keys in another order, the same for the same seed, and never the one in which they came if there are two or more."""
    right = list(keys)
    mixed, dice = list(right), random.Random(seed)
    while mixed == right and len(right) > 1:
        dice.shuffle(mixed)
    return mixed


def differences(answer: Answer, right: Answer, kind: str) -> list[str]:
    """That in which a wrong answer differs from the right one, as keys of `Question.wrong`; of a set one for each mistake."""
    if isinstance(answer, str) or isinstance(right, str):
        return [str(answer)]
    if kind == ORDER:
        return [next((mine for mine, true in zip(answer, right, strict=False) if mine != true), "")]
    return [*(f"+{one}" for one in answer if one not in right), *(f"-{one}" for one in right if one not in answer)] or [
        ""
    ]
