"""Ten questions for a workshop, to be asked before it and once more after it. `python -m vfiosim grade` has a column for each."""

from __future__ import annotations

from ..lab.survey import Survey
from ..naming import UnknownNameError
from .lesson import Lesson, lessons

TEN = (
    "00 once more",
    "01 another file",
    "01 close the iommufd first",
    "01 a device without DMA",
    "02 check: message",
    "03 check: not permitted",
    "05 unbind",
    "06 two owners",
    "09 mapped",
    "10 check: a held lock",
)
WHEN = ("before", "after")


def survey(when: str) -> Survey:
    """The ten questions, "before" or "after" the course. Raises ValueError for another time."""
    if when not in WHEN:
        raise UnknownNameError(f"the questions are asked {' or '.join(WHEN)} the course, not {when!r}")
    known = {question.name: question for lesson in lessons() for question in lesson.asked}
    return Survey(when, [known[name] for name in TEN])


def surveys() -> list[Lesson]:
    """Both times as what `grade` counts."""
    return [Lesson(when, {}, (), {f"{when} {name}": name for name in TEN}) for when in WHEN]
