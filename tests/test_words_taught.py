"""No lesson uses a word before the lesson that teaches it, wherever a reader can see it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import pytest
from IPython.display import HTML

from tests import feedback
from tests.cells import cells, code_of
from tests.conftest import ROOT
from tests.feedback import WrongAnswer, of_drill, of_lessons, problem
from tests.turns import turns
from vfiosim.assets import asset
from vfiosim.lab import Distractor, Exercise, Ordering, Quiz
from vfiosim.lab.style import words
from vfiosim.lab.verdict import misled
from vfiosim.lessons import (
    address_spaces,
    closing,
    groups,
    museum,
    no_dma,
    one_bind,
    order_of_checks,
    races,
    start,
    unwinding,
    vmm,
    vms,
    who_holds_whom,
)
from vfiosim.lessons.tables import Shown
from vfiosim.trace import Trace
from vfiosim.views.player import Player

pytestmark = feedback.TOGETHER

ORDER = (
    "00_start",
    "01_one_bind",
    "02_who_holds_whom",
    "03_order_of_checks",
    "04_unwinding",
    "05_closing_in_any_order",
    "06_groups_and_cdevs",
    "07_kvm",
    "08_no_dma",
    "09_address_spaces",
    "10_races",
    "11_museum",
    "12_a_vmm",
)  # as they are taught
LESSONS = {
    "00_start": start,
    "01_one_bind": one_bind,
    "02_who_holds_whom": who_holds_whom,
    "03_order_of_checks": order_of_checks,
    "04_unwinding": unwinding,
    "05_closing_in_any_order": closing,
    "06_groups_and_cdevs": groups,
    "07_kvm": vms,
    "08_no_dma": no_dma,
    "09_address_spaces": address_spaces,
    "10_races": races,
    "11_museum": museum,
    "12_a_vmm": vmm,
}
NEVER = "never"
TAUGHT = {  # what a reader may see → the lesson that teaches it
    r"\beffects?\b": "10_races",
    r"\b(bring-up|tear-down)s?\b": "12_a_vmm",
    r"\bmisconception \d": NEVER,
    r"\bthread \d": NEVER,  # whose it is can be said in words
    r"(?<![.\w{])[a-z]+:\d+\b": NEVER,  # the number of a call
}


def text_of(lesson: str) -> str:
    return "\n".join(cells(ROOT / "notebooks" / f"{lesson}.ipynb", "markdown"))


def of_rows(rows: Collection[WrongAnswer]) -> Iterator[str]:
    """What is asked, told and shown; several wrong answers of a question are mostly shown the same run."""
    for question in {row.question.name: row.question for row in rows}.values():
        yield from (question.text, question.because, *question.hints, *question.choices.values())
        yield from question.experiment().evidence
    yield from (misled(row.distractor) for row in rows)
    for trace in {id(row.shown.trace): row.shown.trace for row in rows}.values():
        yield from of_player(trace)


def of_player(trace: Trace) -> Iterator[str]:
    """What the player of a trace shows: its sentences, what changes, who runs, what stands in the picture."""
    data = Player(trace).data(live=True)
    for step in data["steps"]:
        yield from (step["sentence"], step["thread"], *step["changes"])
    yield from (text for changes in data["changes"] for text in changes.values())
    yield from (*data["lanes"]["names"], *map(str, data["lanes"]["bars"]))


def of_task(task: Any) -> Iterator[str]:
    hint = task.hint(task.begun()) if callable(task.hint) else task.hint
    yield from (task.text, *([hint] if isinstance(hint, str) else hint), task.explained)
    yield from (misled(distractor) for distractor in task.distractors.values())
    yield from task.missing(task.begun())
    yield from of_player(task.solved().machine.trace)


def of_puzzle(puzzle: Any) -> Iterator[str]:
    yield from (puzzle.text, puzzle.because, *puzzle.hints, *puzzle.lines.values(), *puzzle.extra.values())
    yield from (
        misled(distractor if isinstance(distractor, Distractor) else Distractor(distractor))
        for distractor in puzzle.distractors.values()
    )
    yield from of_player(puzzle.judge(tuple(puzzle.lines)).trace)


@cache
def shown(lesson: str) -> tuple[str, ...]:
    """All that a reader of this lesson can see, as text."""
    texts = [*text_of(lesson).splitlines(), *code_of(lesson).splitlines()]
    texts += of_rows([row for row in of_lessons() if row.question.name.startswith(lesson[:2])])
    for made in re.findall(r"^(?:start|one_bind|lesson)\.(\w+)\(\)$", code_of(lesson), re.MULTILINE):
        widget = getattr(LESSONS[lesson], made)()
        texts += of_task(widget.task) if isinstance(widget, Exercise) else ()
        texts += of_puzzle(widget.puzzle) if isinstance(widget, Ordering) else ()
        texts += (widget._repr_html_(),) if isinstance(widget, HTML | Shown) else ()
        texts += of_player(widget.trace) if isinstance(widget, Player) else ()
        texts += () if isinstance(widget, Quiz | HTML | Shown | Player) else (_in_words(widget),)
    for kind, seed in re.findall(r'drill\("(\w+)", seed=(\d+)\)', code_of(lesson)):
        texts += of_rows([row for row in of_drill(kind) if row.question is problem(kind, int(seed))])
    return tuple(words(text) for text in texts)


def _in_words(thing: Any) -> str:
    return str(thing.in_words() if hasattr(thing, "in_words") else thing)


@pytest.mark.parametrize("word", TAUGHT)
@pytest.mark.parametrize("lesson", turns(LESSONS, days=3))
def test_no_word_is_shown_before_the_lesson_that_teaches_it(lesson, word):
    assert len(shown(lesson)) > 100
    if TAUGHT[word] == NEVER or ORDER.index(lesson) < ORDER.index(TAUGHT[word]):
        assert [text for text in shown(lesson) if re.search(word, text)] == []


def test_the_lesson_that_teaches_a_word_says_what_it_means():
    assert "*effect*" in text_of("10_races")
    assert {"*bring-up*", "*tear-down*"} <= {*re.findall(r"\*[\w-]+\*", text_of("12_a_vmm"))}


def test_the_controls_of_the_player_use_no_word_that_is_taught_later():
    script = asset("player/actions.js").read_text("utf-8")
    names = {*re.findall(r'^ *\["(\w+)", "', script, flags=re.MULTILINE)}  # of actions: nobody sees them
    written = re.findall(r'"([^"]*)"', re.sub(r'^ *\["\w+", "[^"]*",', "", script, flags=re.MULTILINE))
    labels = [label for label in written if label not in names]
    assert "next step" in labels
    assert [label for label in labels if re.search(r"\beffects?\b", label)] == []
