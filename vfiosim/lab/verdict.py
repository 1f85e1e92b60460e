"""What is said once an answer is known: the answer beside the truth, the misconception by its name, and why it is as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

from .question import NONE, ORDER, Answer, Distractor, ExperimentResult, Misconception, Question, as_distractor

T = TypeVar("T")
Misled: TypeAlias = Mapping[Callable[[T], bool], str | Distractor]  # is a thing wrong in this way? Then what misled
MISLED = "<b>What misled you?</b> "
YOURS, TRUTH = "You predicted", "The simulator says"
EVIDENCE, OTHER_RUN = "What this run shows:", "What the run that answers shows:"
STEPS = "The steps that decide it:"
BELIEF = re.compile(r"You (counted|expected|looked|thought|took)\b")  # so begins what tells a belief that has no name


def named(question: Question, answer: Answer) -> str:
    """An answer as the reader reads it, as HTML in a line."""
    said = question.choices.get
    if isinstance(answer, str):
        return escape(said(answer, answer), quote=False)
    if not answer:
        return NONE
    return escape((" → " if question.kind == ORDER else ", ").join(said(key, key) for key in answer), quote=False)


def judged(
    question: Question,
    predicted: Answer,
    finding: ExperimentResult,
    shown: ExperimentResult | None = None,
    steps: bool = True,
) -> tuple[str, str]:
    """The verdict about a prediction, as HTML: what stands above the `steps`, if any follow, and what is read after them.

    `shown` is the run that they are of, if it is another one.
    """
    right = question.tidy(finding.answer)
    good = predicted == right
    mistakes = [] if good else question.mistakes(predicted, right)
    seen, others = mistakes[:1], mistakes[1:]
    if isinstance(predicted, str) or isinstance(right, str):
        head, table = _in_a_line(question, predicted, right, good), ""
    else:
        head, table = _beside(question, predicted, right, good)
    lines = [head, *(misled(one, False, _choices(question, keys) if others else "") for keys, one in seen)]
    above = "".join(lines)
    if steps:  # in the last line, which is one of letters
        where = f"The steps of “{_choices(question, seen[0][0])}”:" if others else STEPS
        above = f"{above.removesuffix('</p>')} {where}</p>"
    beliefs = dict.fromkeys(one.misconception for _, one in mistakes if one.misconception is not None)
    why = _why(question, finding, shown, (shown or finding) if steps else None)
    return announced([above]), announced(
        [table, _each(question, others), *(f"<p>{called(one)}</p>" for one in beliefs), *why]
    )


def revealed(question: Question, finding: ExperimentResult, votes: str = "") -> str:
    """The answer for a room, with what is to be said about each of the other answers."""
    right = question.tidy(finding.answer)
    lines = [f'<p><span class="good">✓ {TRUTH} <b>{named(question, right)}</b>.</span> {escape(votes)}</p>']
    told: set[Misconception] = set()
    for key, distractor in question.wrong.items():
        made = as_distractor(distractor)
        said = escape(question.choices.get(key.lstrip("+-"), key), quote=False)
        if made.misconception in told:
            made = Distractor(made.text)
        elif made.misconception is not None:
            told.add(made.misconception)
        lines.append(f'<p><span class="refused"><b>✕ {said}</b></span>. {_belief(made)}</p>')
    return announced([*lines, *_why(question, finding), f"<p>{STEPS}</p>"])


def misled(distractor: str | Distractor, named: bool = True, about: str = "") -> str:
    """The paragraph about a wrong answer; "" if there is nothing to say. Where it tells a belief, it asks whether that misled.

    Is a misconception `named` in it? `about`: the choices that it is about, where others were wrong, too.
    """
    made = as_distractor(distractor)
    said = _belief(made) if named else made.text
    which = f"<b>{about}</b>: " if about else ""
    return f"<p>{MISLED if _tells_a_belief(made) else ''}{which}{said}</p>" if said else ""


def _tells_a_belief(distractor: Distractor) -> bool:
    return distractor.misconception is not None or BELIEF.match(distractor.text) is not None


def _each(question: Question, mistakes: Sequence[tuple[Sequence[str], Distractor]]) -> str:
    """What is to be said about further mistakes, each beside the choices that it is about."""
    lines = "".join(f"<li><b>{_choices(question, keys)}</b>: {one.text}</li>" for keys, one in mistakes if one.text)
    return f"<ul>{lines}</ul>" if lines else ""


def _choices(question: Question, keys: Sequence[str]) -> str:
    return escape(", ".join(question.choices.get(key, key).rstrip(".") for key in keys), quote=False)


def misled_by(distractors: Misled[T], thing: T) -> Distractor:
    """The first distractor whose question a thing that has gone wrong answers with yes; one that says nothing if there is none."""
    return as_distractor(next((distractor for fits, distractor in distractors.items() if fits(thing)), ""))


def _belief(distractor: Distractor) -> str:
    parts = [distractor.text]
    if distractor.misconception is not None:
        parts.append(called(distractor.misconception))
    return " ".join(part for part in parts if part)


def called(misconception: Misconception) -> str:
    """A misconception by its name, with the discussions in which others had it; what is the case instead is said beside it."""
    links = ", ".join(
        f'<a href="{escape(link)}" target="_blank" rel="noopener">{escape(_place(link))}</a>'
        for link in misconception.links
    )
    others = f" Seen in {links}." if links else ""
    name = escape(misconception.name, quote=False)
    return f'<span class="vfiosim-belief">Many believe: “{name}”.{others}</span>'


def _place(link: str) -> str:
    """Where a discussion is, in words: "kubevirt (issue 6718)"."""
    _owner, project, _issues, number = urlsplit(link).path.strip("/").split("/")
    return f"{project} (issue {number})"


def announced(lines: Sequence[str]) -> str:
    """Lines that a screen reader announces."""
    return f'<div role="status">{"".join(lines)}</div>'


def _why(
    question: Question,
    finding: ExperimentResult,
    shown: ExperimentResult | None = None,
    seen: ExperimentResult | None = None,
) -> list[str]:
    """Why it is so, and what was counted: in the run that is shown, where it counted anything. What the step says at which `seen`
    stands below is not said twice."""
    lines = [f"<p><b>Because</b> {question.because}</p>"]
    asked_for = question.because.endswith(":")  # the list belongs to that sentence
    told = finding if shown is None or asked_for or not shown.evidence else shown
    sentence = seen.trace[seen.step - (seen.step > 0)].sentence if seen is told and len(seen.trace) else ""
    evidence = [line for line in told.evidence if line not in sentence]
    if evidence:
        head = EVIDENCE if shown is None or told is shown else OTHER_RUN
        items = "".join(f"<li>{escape(line)}</li>" for line in evidence)
        lines.append(f"{'' if asked_for else f'<p>{head}</p>'}<ul>{items}</ul>")
    return lines


def _in_a_line(question: Question, predicted: Answer, right: Answer, good: bool) -> str:
    if good:
        return f'<p><span class="good">✓ {YOURS} <b>{named(question, predicted)}</b>, and so it is.</span></p>'
    return (
        f'<p><span class="refused">✕ {YOURS} <b>{named(question, predicted)}</b>.</span> '
        f'<span class="good">{TRUTH} <b>{named(question, right)}</b>.</span></p>'
    )


def _beside(question: Question, predicted: Sequence[str], right: Sequence[str], good: bool) -> tuple[str, str]:
    """In a line how good it is; in two columns what was predicted, and what is the case."""
    head = '<p class="good"><b>✓ All of it is right.</b></p>' if good else _how_many(question, predicted, right)
    if question.kind == ORDER:
        pairs = [
            (f"{n}. {question.choices.get(mine, mine)}", f"{n}. {question.choices.get(true, true)}", mine == true)
            for n, (mine, true) in enumerate(zip(predicted, right, strict=True), 1)
        ]
    else:
        yes, no = "yes", "no"
        pairs = [
            (
                f"{said.rstrip('.')}: {yes if key in predicted else no}",
                yes if key in right else no,
                (key in predicted) == (key in right),
            )
            for key, said in question.choices.items()
        ]
    rows = "".join(
        f'<tr class="{"good" if same else "refused"}"><td>{"✓" if same else "✕"} {escape(mine, quote=False)}</td>'
        f"<td>{escape(true, quote=False)}</td></tr>"
        for mine, true, same in pairs
    )
    return head, f"<table><thead><tr><th>{YOURS}</th><th>{TRUTH}</th></tr></thead><tbody>{rows}</tbody></table>"


def _how_many(question: Question, predicted: Sequence[str], right: Sequence[str]) -> str:
    if question.kind == ORDER:
        places = [n for n, (mine, true) in enumerate(zip(predicted, right, strict=True), 1) if mine != true]
        told = f"✕ The first wrong place is number {places[0]}; in all, {len(places)} of {len(right)} are wrong."
    else:
        wrong = len(set(predicted) ^ set(right))
        told = f"✕ {wrong} of {len(question.choices)} {'is' if wrong == 1 else 'are'} wrong."
    truth = f'<span class="good">{TRUTH}: <b>{named(question, right)}</b>.</span>'
    return f'<p><span class="refused"><b>{told}</b></span> {truth}</p>'
