"""The pictures that a reader of the lessons sees, and the labels in them that lie over something that they do not belong to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from itertools import combinations
from random import Random
from typing import Any

from vfiosim.lab import Bench, Parsons, Question, Sandbox
from vfiosim.lessons import one_bind, races, races_check, races_questions, start, who_holds_whom
from vfiosim.lessons import one_bind_questions as ask_one_bind
from vfiosim.lessons import who_holds_whom_questions as ask_who
from vfiosim.views import Player
from vfiosim.views.curves import Box
from vfiosim.views.dot import LABEL_HEIGHT, LABEL_LETTER
from vfiosim.views.graph import Edge, Frame
from vfiosim.views.labels import traced
from vfiosim.views.layout import Curve

Picture = tuple[str, Player]

BENCHES: dict[str, tuple[Callable[[], Bench], str]] = {
    "00 first bind": (start.first_bind, "bind bind"),
    "00 free": (lambda: start.free_it().bench, "close"),
    "00 keep": (lambda: start.keep_it().bench, "dup close close"),
    "01 gate": (one_bind.gate, "open_device GET-INFO open_iommufd open_group"),
    "01 bind": (one_bind.bind, "bind bind dup close close"),
    "01 close": (one_bind.close, "close close"),
    "01 kvm": (one_bind.kvm, "create_VM create_kvm-vfio FILE_ADD bind FILE_DEL bind"),
    "01 errors": (lambda: one_bind.errors().bench, "open_group bind close bind bind"),
    "01 free": (lambda: one_bind.exercise().bench, "FILE_DEL close close"),
    "02 holders": (who_holds_whom.holders, "dup close open_device close"),
    "02 exercise": (lambda: who_holds_whom.exercise().bench, "bind dup close"),
}
ANY = {
    "open device": 4, "open iommufd": 3, "bind": 4, "open group": 2, "dup": 2, "GET_INFO": 1, "create VM": 2,
    "create kvm-vfio": 2, "FILE ADD": 3, "FILE DEL": 1, "close": 3, "Undo": 3,
}  # fmt: skip


def of_benches() -> Iterator[Picture]:
    """Of every bench of the lessons, at first and after each press."""
    for name, (begin, presses) in BENCHES.items():
        bench = begin()
        yield name, bench.stage.player.player
        for press in presses.split():
            bench.buttons[press.replace("_", " ").replace("-INFO", "_INFO")].click()
            yield f"{name}: {press}", bench.stage.player.player


def of_questions() -> Iterator[Picture]:
    """Of every question: how things stand, what is the case, and what refutes an answer."""
    asked = [ask_one_bind, ask_who, races_questions]
    questions: list[Question] = [*start.QUESTIONS.values(), *races_check.CHECK]
    for lesson in asked:
        questions += [*lesson.QUESTIONS.values(), *getattr(lesson, "CHECK", ())]
    for question in questions:
        finding = question.experiment()
        right = question.tidy(finding.answer)
        slips = [question.slip(answer, right) for answer in question.choices] if question.kind == "choice" else []
        shown = [question.before, lambda finding=finding: finding, *(slip.refute for slip in slips)]
        for number, find in enumerate(shown):
            if find is not None:
                yield f"{question.name} {number}", _player(find().trace, question.view)


def of_tasks() -> Iterator[Picture]:
    """Of the lines to be put in order, and of the races by hand, step by step in turns."""
    puzzles: dict[str, Parsons] = {"01": one_bind.STEPS, "02": who_holds_whom.LET_GO, "10": races.USE_AFTER_FREE}
    for name, puzzle in puzzles.items():
        for number in range(len(puzzle.lines) + 1):
            yield f"{name} order, {number} lines", _player(puzzle.judge([*puzzle.lines][:number]).trace, puzzle.view)
    found = races.R1.explore(without=["group_lock"]).counterexample
    assert found is not None
    yield "10 lab", _player(found.trace, races_questions.GROUP_VIEW)
    lab = races.lab()
    lab.yourself.click()
    assert lab.sandbox is not None
    for name, sandbox in (("10 by yourself", lab.sandbox), ("10 by hand", races.by_hand().sandbox)):
        yield from of_turns(name, sandbox)


def of_turns(name: str, sandbox: Sandbox) -> Iterator[Picture]:
    """Each call goes one step on, in turn."""
    number = 0
    while sandbox.schedule.rows:
        rows = list(sandbox.schedule.rows.values())
        rows[number % len(rows)].buttons["1 step"].click()
        number += 1
        yield f"{name}, turn {number}", sandbox.stage.player.player


@cache
def of_session(seed: int) -> tuple[Picture, ...]:
    """Of a free bench on which anything is done."""
    bench, choose, seen = Bench(), Random(seed), list[Picture]()
    for name in choose.choices([*ANY], [*ANY.values()], k=12):
        bench.device.value = choose.choice([*bench.session.nodes().values()][:3])
        (bench.undo if name == "Undo" else bench.buttons[name]).click()
        seen.append((f"seed {seed}: {name}", bench.stage.player.player))
    return tuple(seen)


def _player(trace: Any, view: Collection[str]) -> Player:
    return Player(trace, only=view) if view else Player(trace)


def covering(pictures: Iterable[Picture]) -> tuple[int, dict[str, str]]:
    """How many pictures there are, and which labels cover what in them: by what is covered, where that is seen first."""
    seen: dict[Any, Player] = {}  # they are kept, so that no two have the same id
    found: dict[str, str] = {}
    for name, player in pictures:
        key = player.graph.nodes, player.graph.edges, id(player.layout)
        if player.layout is not None and key not in seen:
            seen[key] = player
            for step in range(len(player.trace) + 1):
                frame = player.frame(step)
                for said in _covered(player, frame):
                    found.setdefault(f"{len(seen)}: {said}", f"{name}, step {step}")
    return len(seen), found


def _covered(player: Player, frame: Frame) -> Iterator[str]:
    """What is covered at one moment."""
    graph, layout = player.graph, player.layout
    assert layout is not None
    edges = [edge for edge in graph.edges if frame.get(edge.key)]
    names = {node.key: node.oid for node in graph.nodes}
    called = {edge.key: f"{names[edge.holder]} → {names[edge.target]}" for edge in edges}
    labels = [(edge.key, box) for edge in edges for box in _boxes(edge, layout.edges[edge.key], frame)]
    for key, box in labels:
        for node in graph.nodes:
            if frame.get(node.key) and _meet(box, layout.nodes[node.key].box):
                yield f"the label of {called[key]} covers {node.oid}"
        for edge in edges:
            curve = layout.edges[edge.key]
            if edge.key != key and any(_meet(box, (x, y, x, y)) for x, y in traced(curve.points, curve.tip)):
                yield f"the label of {called[key]} covers {called[edge.key]}"
    for (one, box), (other, its) in combinations(labels, 2):
        if one != other and _meet(box, its):
            yield f"the labels of {called[one]} and {called[other]}"


def _boxes(edge: Edge, curve: Curve, frame: Frame) -> Iterator[Box]:
    """The lines of text on an arrow, in bold letters and with a sign: so they are where they are new."""
    top = curve.label[1] - len(edge.labels) * LABEL_HEIGHT / 2
    for number, label in enumerate(edge.labels):
        if text := frame.get(label.key):
            half = (len(text) + 2) * LABEL_LETTER / 2
            line = top + number * LABEL_HEIGHT
            yield curve.label[0] - half, line + 1.5, curve.label[0] + half, line + LABEL_HEIGHT - 1.5


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
