"""What a comparison found, counted and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_SHOWN: Final = 3  # differences of one scenario that are printed
_WIDTH: Final = 100


@dataclass
class Tally:
    """How many scenarios and steps, and how many of them differ or cannot be answered."""

    scenarios: int = 0
    steps: int = 0
    differ: int = 0
    unsupported: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.scenarios += other.scenarios
        self.steps += other.steps
        self.differ += other.differ
        self.unsupported += other.unsupported
        return self

    def __str__(self) -> str:
        return f"{self.scenarios} scenarios, {self.steps} steps, {self.differ} differ, {self.unsupported} unsupported"


@dataclass(frozen=True)
class Mismatch:
    """One answer that is not the recorded one. `step` counts from 0; None is the state after the scenario."""

    scenario: str
    step: int | None
    call: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        where = "afterwards" if self.step is None else f"step {self.step}"
        return f"{self.scenario} {where}: {self.call}\n      expected {_brief(self.expected)}\n      got      {_brief(self.got)}"


@dataclass
class ScenarioReport:
    """What came out of one scenario; `unsupported` names the call that the simulator could not answer."""

    name: str
    tally: Tally
    differences: list[Mismatch] = field(default_factory=list)
    unsupported: str = ""


@dataclass
class FileReport:
    """What came out of the scenarios of one recording."""

    name: str
    scenarios: list[ScenarioReport] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        """The sum over the scenarios."""
        return total(scenario.tally for scenario in self.scenarios)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of several counts."""
    result = Tally()
    for tally in tallies:
        result += tally
    return result


def topics(files: Iterable[FileReport]) -> dict[str, Tally]:
    """The counts by topic: what stands before the first "-" of a scenario's name."""
    result: dict[str, Tally] = {}
    for file in files:
        for scenario in file.scenarios:
            topic = result.setdefault(scenario.name.partition("-")[0], Tally())
            topic += scenario.tally
    return dict(sorted(result.items()))


def unsupported(files: Iterable[FileReport]) -> Counter[str]:
    """What the simulator could not answer, and in how many scenarios it was that which ended the comparison."""
    return Counter(scenario.unsupported for file in files for scenario in file.scenarios if scenario.unsupported)


def in_words(files: list[FileReport], with_topics: bool) -> Iterator[str]:
    """The report as lines of text."""
    for file in files:
        yield f"{file.name}: {file.tally}"
        for scenario in file.scenarios:
            yield from _differences(scenario)
    missing = unsupported(files)
    if missing:
        yield "Not modelled (scenarios that stop there):"
        yield from (f"  {count:5}  {what}" for what, count in missing.most_common())
    if with_topics:
        yield "Topic  scenarios   steps  differ  unsupported"
        for topic, tally in topics(files).items():
            yield f"{topic:5}  {tally.scenarios:9}  {tally.steps:6}  {tally.differ:6}  {tally.unsupported:11}"
    yield f"TOTAL: {total(file.tally for file in files)}"


def as_data(files: list[FileReport]) -> dict[str, Any]:
    """The report as plain data."""
    return {
        **_numbers(total(file.tally for file in files)),
        "files": {file.name: _numbers(file.tally) for file in files},
        "topics": {topic: _numbers(tally) for topic, tally in topics(files).items()},
        "not_modelled": dict(unsupported(files).most_common()),
        "differences": [
            {"file": file.name, **vars(difference)}
            for file in files
            for scenario in file.scenarios
            for difference in scenario.differences
        ],
    }


def _numbers(tally: Tally) -> Mapping[str, int]:
    return vars(tally)


def _differences(scenario: ScenarioReport) -> Iterator[str]:
    yield from (f"  {difference}" for difference in scenario.differences[:_SHOWN])
    more = len(scenario.differences) - _SHOWN
    if more > 0:
        yield f"  {scenario.name}: and {more} more"


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
