"""The task with two probes: which two mistakes, each made on purpose, tell causes of one errno apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import combinations

from ..lab.answers import Ticks
from ..lab.asking import Asking
from ..lab.record import progress
from ..lab.style import alert, button, row, style, text, words
from .order_of_checks_causes import CAUSES, refused

SUSPECTS = ("flags", "no tokens", "not coherent")
MEANS = {  # what words in a suspect mean that no lesson before this one has
    "no tokens": "A token is a secret of 16 bytes. A few cards want to be told it in BIND; most drivers know no tokens.",
    "not coherent": "Caches are coherent if the processor sees what a device has written into memory, and not an old copy in a "
    "cache. An iommufd takes only devices behind an IOMMU that sees to that.",
}
PROBES = ("group", "closed", "another kind", "read-only")
MANY = 2
NAME = "03 task: two probes"


def told(probes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each suspect what the kernel says to it together with each of these probes."""
    return {one: tuple(refused(one, probe).outcome.result for probe in probes) for one in SUSPECTS}


def alike(probes: Sequence[str]) -> list[tuple[str, str]]:
    """The suspects that these probes do not tell apart."""
    answers = told(probes)
    return [(one, other) for one, other in combinations(SUSPECTS, MANY) if answers[one] == answers[other]]


class Probes(Asking):
    """Ticks for probes, and Check: each is made together with each suspect, and what came back is shown."""

    looks = "lab ask prediction"
    is_task = True

    def __init__(self) -> None:
        suspects = "".join(f"<li>{escape(CAUSES[name].says)}. <i>{MEANS.get(name, '')}</i></li>" for name in SUSPECTS)
        asked = (
            "A BIND is refused with EINVAL. It can be one of three things:"
            f"<ul>{suspects}</ul>"
            "You may bind twice more, each time with one mistake added. Which two mistakes tell you, whichever it is?"
        )
        hints = (
            "A probe cuts the list of checks in two: before it and behind it. Where do the three stand?",
            "One of the three is looked at with the fields, one under the lock before the iommufd, one when the device is opened.",
            "One cut between the first and the second, one between the second and the third: the group, and the iommufd.",
        )
        super().__init__("Your task.", asked, hints, lambda: f"<p><b>Solution.</b></p>{self._why()}", name=NAME)
        self.choice = Ticks({name: f"{CAUSES[name].says}: {refused(name).outcome.result}" for name in PROBES})
        self.choice.children = [*self.choice.boxes.values()]  # none of them is no answer here
        self.problem = text("problem")
        self.check = button("Check", "make both calls for each of the three", primary=True)
        self.again = button("Reset", "forget my choice")
        self.check.on_click(lambda _: self._check())
        self.again.on_click(lambda _: self._reset())
        buttons = row("", self.check, *self.help.buttons, self.again)
        self.children = [style(), self.asked, self.choice, self.problem, buttons, self.help.slot, self.verdict]

    def _choices(self) -> Sequence[str]:
        return [CAUSES[name].says for name in PROBES]

    @property
    def message(self) -> str:
        """The verdict and the help, or what is wrong with the choice, in words."""
        return words(self.problem.value) or super().message

    def _check(self) -> None:
        probes = tuple(self.choice.value)
        self.problem.value = alert("" if len(probes) == MANY else "Tick two of them: you may bind twice.")
        if len(probes) != MANY:
            self.verdict.value = ""
            return
        left = alike(probes)
        self.help.tried()
        progress.record(NAME, not left)
        head = "".join(f'<p class="refused"><b>✕ Not yet.</b> {line}</p>' for line in _not_told(left))
        good = f'<p class="good"><b>✓ Right.</b> Each of the three has answers of its own.</p>{self._why()}{self.help.solved()}'
        self.verdict.value = f'<div role="status">{head or good}{_table(probes)}</div>'

    def _why(self) -> str:
        return (
            "<p><b>Why it works.</b> The group is looked at behind the fields, the iommufd behind the token. So the open group "
            "tells a wrong flag from the other two, and 777 (or another kind of file) tells the token from the computer. That the "
            "struct cannot be written is found out last of all: behind each of the three, so it tells nothing.</p>"
        )

    def _reset(self) -> None:
        self.choice.value = ()
        self.problem.value = self.verdict.value = ""
        self.help.clear()


def _not_told(left: Sequence[tuple[str, str]]) -> Iterator[str]:
    if len(left) == 1:
        one, other = (escape(CAUSES[name].says) for name in left[0])
        yield f"“{one}” and “{other}” give the same two answers."
    elif left:
        yield "All three give the same two answers."


def _table(probes: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">and {escape(CAUSES[probe].says)}</th>' for probe in probes)
    rows = "".join(
        f'<tr><th scope="row">{escape(CAUSES[one].says)}</th>{"".join(f"<td>{answer}</td>" for answer in answers)}</tr>'
        for one, answers in told(probes).items()
    )
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
